"""Sensitivity on networks of the literature, with pgmpy on their tables as the referee.

Three networks and what is printed about them:

- Fire (Poole, Mackworth and Goebel 1998, Computational Intelligence; tables as in Poole's bnet_t.pl, in the repository
  FredMesnard/cTI). It is no noisy-OR, so pgmpy gives the numbers and the formulas of ``Ratio`` do the rest. Slides on SamIam,
  under Chan and Darwiche 2001 (When do numbers really matter?, UAI), print what is asked of it: with a report and no smoke
  P(tampering) is 0.5, and 0.65 takes a P(tampering) of 0.036 for 0.02, or a P(report | nobody leaves) of 0.005 for 0.01.
- Pregnancy (Darwiche 2009, Modeling and Reasoning with Bayesian Networks, chapters 5 and 16; tables as in the repository
  cedrikkaufmann/bayesnet-framework). The publisher's summary of chapter 16 prints 10.21 % after three negative tests. The level
  of progesterone is a syndrome.
- Asia (Lauritzen and Spiegelhalter 1988; tables as in the MultiBUGS example "Asia"): the textbook network, its posteriors are
  those of the referee. "Tuberculosis or cancer" is a deterministic OR, a syndrome here. Dyspnoea is no noisy-OR of it and
  bronchitis (0.7 and 0.8 would make 0.93; it is 0.9), but one of these two and of a second deterministic OR, of all diseases.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from pgmpy.factors.discrete import TabularCPD
from pgmpy.inference import VariableElimination
from pgmpy.models import DiscreteBayesianNetwork
from scipy.optimize import brentq

import ddx
from ddx import sensitivity
from ddx.knowledge import Cause, Context, Finding, KnowledgeBase, Parameter, Syndrome
from ddx.sensitivity.case import interval_of
from ddx.sensitivity.flips import distance

ENDS = (1e-9, 0.03, 0.5, 0.97, 1.0 - 1e-9)


def pgmpy_network(tables):
    """Boolean nodes from {node: (parents, P(node = 1) for every combination of the parents, the last one the fastest)}."""
    network = DiscreteBayesianNetwork([(parent, node) for node, (parents, _) in tables.items() for parent in parents])
    for node, (parents, p) in tables.items():
        p = np.atleast_1d(np.asarray(p, dtype=float))
        network.add_cpds(TabularCPD(node, 2, [1.0 - p, p], evidence=parents or None, evidence_card=[2] * len(parents) or None))
    return network


def joint_of(tables, target, evidence):
    """P(target = 1, evidence) and P(evidence)."""
    nodes = [target, *evidence]
    table = VariableElimination(pgmpy_network(tables)).query(nodes, show_progress=False)
    at = np.moveaxis(table.values, [table.variables.index(n) for n in nodes], range(len(nodes)))[:, *evidence.values()]
    return float(at[1]), float(at.sum())


def knowledge(values, causes, findings, syndromes, factors=()):
    """A knowledge base of these parameters; one age band, and the sexes make no difference."""
    context = [
        Context("any_age", "", (), "age_band", "", 0, 121, "?"),
        *(Context(sex, "", (), "sex", "", None, None, "?") for sex in ("female", "male")),
        *(Context(x, "", (), "risk_factor", "", None, None, "?") for x in factors),
    ]
    values = {"population:any_age": 1.0, "population:female": 0.5, "population:male": 0.5} | values
    # Uniform distributions, and a factor of 2 of an odds ratio: the tests move parameters, whatever their intervals.
    parameters = [
        Parameter(name, "log_normal", value, np.log(value), 0.35, (), cited=True)
        if name.startswith("or:")
        else Parameter(name, "beta", value, 1.0, 1.0, (), cited=True)
        for name, value in values.items()
    ]

    def by_id(items):
        return MappingProxyType({item.id: item for item in items})

    kb = KnowledgeBase(
        name="textbook",
        version="1",
        title="",
        licence="",
        intended_use="",
        default_setting="general",
        settings=MappingProxyType({"general": "", "balanced": ""}),
        causes=by_id([Cause(c, c, (), "f", "chronic", None, "", "", "routine", 0.5, "") for c in causes]),
        findings=by_id([Finding(f, f, (), "", 0, (), "symptom", "", "", "?", 1.0) for f in findings]),
        context=by_id(context),
        measurements=MappingProxyType({}),
        sources=MappingProxyType({}),
        studies=MappingProxyType({}),
        parameters=by_id(parameters),
        syndromes=by_id([Syndrome(s, s, "") for s in syndromes]),
    )
    return ddx.Model(kb, "general")


def logit(p):
    return np.log(p) - np.log1p(-p)


# --- fire ---------------------------------------------------------------------------------------------------------------

FIRE = {
    "tampering": ([], 0.02),
    "fire": ([], 0.01),
    "alarm": (["tampering", "fire"], [0.0001, 0.99, 0.85, 0.5]),
    "smoke": (["fire"], [0.01, 0.9]),
    "leaving": (["alarm"], [0.001, 0.88]),
    "report": (["leaving"], [0.01, 0.75]),
}
FIRE_EVIDENCE = {"report": 1, "smoke": 0}
FIRE_PARAMETERS = [(node, row) for node, (_, p) in FIRE.items() for row in range(np.size(p))]


def fire_with(node, row, t):
    parents, p = FIRE[node]
    p = np.atleast_1d(np.array(p, dtype=float))
    p[row] = t
    return FIRE | {node: (parents, p)}


def fire_posterior(node, row, t):
    joint, total = joint_of(fire_with(node, row, t), "tampering", FIRE_EVIDENCE)
    return joint / total


def fire_function(node, row):
    """From pgmpy: both probabilities are linear in an entry, so its derivatives are the differences between 1 and 0."""
    joint, total = joint_of(FIRE, "tampering", FIRE_EVIDENCE)
    (joint_0, total_0), (joint_1, total_1) = (joint_of(fire_with(node, row, t), "tampering", FIRE_EVIDENCE) for t in (0.0, 1.0))
    now = float(np.atleast_1d(FIRE[node][1])[row])
    return sensitivity.Ratio.tangent(now, joint / total, (joint_1 - joint_0) / total, (total_1 - total_0) / total), now


@pytest.mark.parametrize(("node", "row", "printed"), [("tampering", 0, "0.036"), ("report", 0, "0.005")])
def test_changes_of_the_fire_network_are_those_that_samiam_printed(node, row, printed):
    ratio, now = fire_function(node, row)
    assert f"{ratio(now):.1f}" == "0.5"
    needed = ratio.reaching(0.65)
    assert f"{needed:.3f}" == printed
    assert fire_posterior(node, row, needed) == pytest.approx(0.65, rel=1e-12)


@pytest.mark.parametrize(("node", "row"), FIRE_PARAMETERS)
def test_functions_of_the_fire_network_are_exact_up_to_the_ends(node, row):
    ratio, now = fire_function(node, row)
    for t in (*ENDS, now):
        assert ratio(t) == pytest.approx(fire_posterior(node, row, t), rel=1e-9)
    for t in (0.2, now):
        h = 1e-4 * min(t, 1.0 - t)
        slope = (fire_posterior(node, row, t + h) - fire_posterior(node, row, t - h)) / (2.0 * h)
        assert ratio.derivative(t) == pytest.approx(slope, rel=1e-6, abs=1e-10)


def test_functions_of_two_targets_meet_where_they_are_equally_probable():
    ratio, _ = fire_function("tampering", 0)
    other = sensitivity.Ratio(ratio.c - ratio.a, ratio.d - ratio.b, ratio.c, ratio.d)  # P(no tampering | evidence)
    assert ratio.meeting(other) == pytest.approx(ratio.reaching(0.5), rel=1e-12)
    assert np.isnan(ratio.meeting(ratio))


# --- pregnancy ----------------------------------------------------------------------------------------------------------

PREGNANCY = {
    "pregnant": ([], 0.87),
    "progesterone": (["pregnant"], [0.01, 0.9]),
    "scan": (["pregnant"], [0.01, 0.9]),
    "urine": (["progesterone"], [0.1, 0.8]),
    "blood": (["progesterone"], [0.1, 0.7]),
}
NEGATIVE = {"scan": 0, "urine": 0, "blood": 0}


@pytest.fixture(scope="module")
def pregnancy():
    values = {
        "prior:pregnant": 0.87,
        "leak:progesterone": 0.01,
        "link:pregnant:progesterone": 0.9,
        "leak:scan": 0.01,
        "link:pregnant:scan": 0.9,
    }
    for test in ("urine", "blood"):
        without, given = PREGNANCY[test][1]
        # A leak counts what the level does without a pregnancy, 0.107 and 0.106; with the level alone it is there too.
        values[f"leak:{test}"] = leak = 0.99 * without + 0.01 * given
        values[f"link:progesterone:{test}"] = 1.0 - (1.0 - leak) * (1.0 - given) / (1.0 - without)
    return knowledge(values, ["pregnant"], list(NEGATIVE), ["progesterone"])


def test_three_negative_tests_leave_the_printed_probability(pregnancy):
    found = pregnancy.diagnose(absent=list(NEGATIVE))
    assert f"{100.0 * found.posterior['pregnant']:.2f}" == "10.21"
    joint, total = joint_of(PREGNANCY, "pregnant", NEGATIVE)
    assert found.posterior["pregnant"] == pytest.approx(joint / total, rel=1e-12)
    assert found.log_evidence == pytest.approx(np.log(total), rel=1e-12)


def test_the_function_of_the_scan_says_what_five_per_cent_take(pregnancy):
    ratio = sensitivity.function(pregnancy, {"absent": list(NEGATIVE)}, "pregnant", "link:pregnant:scan")
    for t in (0.01, 0.2, 0.9, 0.999, 1.0 - 1e-9):
        joint, total = joint_of(PREGNANCY | {"scan": (["pregnant"], [0.01, t])}, "pregnant", NEGATIVE)
        assert ratio(t) == pytest.approx(joint / total, rel=1e-9)
    assert ratio(1e-9) == ratio(0.01)  # not below the leak
    needed = ratio.reaching(0.05)
    joint, total = joint_of(PREGNANCY | {"scan": (["pregnant"], [0.01, needed])}, "pregnant", NEGATIVE)
    assert joint / total == pytest.approx(0.05, rel=1e-12)


@pytest.mark.parametrize(("parameter", "now"), [("link:pregnant:scan", 0.9), ("prior:pregnant", 0.87)])
def test_the_distance_of_one_table_row_is_its_change_in_log_odds_and_bounds_the_posterior(pregnancy, parameter, now):
    """Chan and Darwiche 2002, A distance measure for bounding probabilistic belief change: posterior odds change by less."""
    before = pregnancy.diagnose(absent=list(NEGATIVE)).posterior["pregnant"]
    for t in (0.02, 0.5, 0.95, 1.0 - 1e-6):
        found = distance(pregnancy, parameter, t)
        assert found == pytest.approx(abs(logit(t) - logit(now)), rel=1e-9)
        (after,) = sensitivity.curve(pregnancy, {"absent": list(NEGATIVE)}, "pregnant", parameter, [t])["posterior"]
        assert abs(logit(after) - logit(before)) <= found * (1.0 + 1e-9)


# --- asia ---------------------------------------------------------------------------------------------------------------

DISEASES = ["tub", "lung", "bronc"]
ASIA = {
    "asia": ([], 0.01),
    "smoke": ([], 0.5),
    "tub": (["asia"], [0.01, 0.05]),
    "lung": (["smoke"], [0.01, 0.1]),
    "bronc": (["smoke"], [0.3, 0.6]),
    "either": (["tub", "lung"], [0.0, 1.0, 1.0, 1.0]),
    "xray": (["either"], [0.05, 0.98]),
    "dysp": (["either", "bronc"], [0.1, 0.8, 0.7, 0.9]),
}
FACTOR = {"tub": "asia", "lung": "smoke", "bronc": "smoke"}
# In the form of Model.diagnose; the second is that of the BUGS example: dyspnoea after a visit to Asia, nothing else known.
ASIA_CASES = {
    "all known": {"present": ["xray", "dysp"], "context": {"asia": True, "smoke": True}},
    "visit": {"present": ["dysp"], "context": {"asia": True}},
    "nothing known": {"present": ["xray"], "absent": ["dysp"]},
}


def odds_ratio(cause):
    low, high = ASIA[cause][1]
    return np.exp(logit(high) - logit(low))


def share(cause):
    low, high = ASIA[cause][1]
    p = ASIA[FACTOR[cause]][1]
    return p * high + (1.0 - p) * low


def given_factor(prior, ratio, frequency):
    """P(cause | no factor) and P(cause | factor) of this marginal probability and odds ratio."""

    def both(offset):
        return 1.0 / (1.0 + np.exp(-offset)), 1.0 / (1.0 + np.exp(-offset - np.log(ratio)))

    def gap(offset):
        low, high = both(offset)
        return frequency * high + (1.0 - frequency) * low - prior

    return both(brentq(gap, -50.0, 50.0, xtol=1e-14, rtol=1e-14))


@pytest.fixture(scope="module")
def asia():
    values = {
        **{f"context:{factor}": ASIA[factor][1] for factor in ("asia", "smoke")},
        **{f"prior:{c}": share(c) for c in DISEASES},
        **{f"or:{c}:{FACTOR[c]}": odds_ratio(c) for c in DISEASES},
        "leak:either": 0.0,
        "link:tub:either": 1.0,
        "link:lung:either": 1.0,
        "leak:any": 0.0,
        "link:tub:any": 1.0,
        "link:lung:any": 1.0,
        "link:bronc:any": 1.0,
        "leak:xray": 0.05,
        "link:either:xray": 0.98,
        # P(no dyspnoea) is 0.9, times 2/3 with any disease, 1/2 with tuberculosis or cancer, 1/3 with bronchitis.
        "leak:dysp": 0.1,
        "link:any:dysp": 1.0 - 0.9 * 2.0 / 3.0,
        "link:either:dysp": 1.0 - 0.9 / 2.0,
        "link:bronc:dysp": 0.8,
    }
    return knowledge(values, DISEASES, ["xray", "dysp"], ["either", "any"], ["asia", "smoke"])


def tables_with(parameter, t):
    """The tables of asia when a parameter of ddx is t; a link below what else shows the finding says no less than that."""
    kind, name = parameter.split(":")[:2]
    if parameter == "link:either:xray":
        return ASIA | {"xray": (["either"], [0.05, max(t, 0.05)])}
    if parameter == "leak:xray":
        return ASIA | {"xray": (["either"], [t, max(t, 0.98)])}
    if parameter == "link:bronc:dysp":
        alone = max(t, 0.4)
        return ASIA | {"dysp": (["either", "bronc"], [0.1, alone, 0.7, 1.0 - 0.5 * (1.0 - alone)])}
    if kind == "context":  # priors and odds ratios stay, so the tables of the diseases move with it
        moved = {c: ([name], given_factor(share(c), odds_ratio(c), t)) for c in DISEASES if FACTOR[c] == name}
        return ASIA | moved | {name: ([], t)}
    prior, ratio = (t, odds_ratio(name)) if kind == "prior" else (share(name), t)
    return ASIA | {name: ([FACTOR[name]], given_factor(prior, ratio, ASIA[FACTOR[name]][1]))}


def ask_asia(tables, case):
    """Posteriors of the diseases."""
    evidence = dict.fromkeys(case["present"], 1) | dict.fromkeys(case.get("absent", ()), 0)
    evidence |= {factor: int(value) for factor, value in case.get("context", {}).items()}
    joint = VariableElimination(pgmpy_network(tables)).query(DISEASES, evidence, show_progress=False)
    return {c: float(joint.values.take(1, axis=joint.variables.index(c)).sum()) for c in DISEASES}


ASIA_PARAMETERS = [
    *("link:bronc:dysp", "link:either:xray", "leak:xray", "context:smoke"),
    *("prior:lung", "prior:bronc", "or:tub:asia"),
]


@pytest.mark.parametrize("name", ASIA_CASES)
def test_asia_is_the_network_of_its_tables(asia, name):
    case = ASIA_CASES[name]
    for cause, p in ask_asia(ASIA, case).items():
        assert asia.diagnose(**case).posterior[cause] == pytest.approx(p, rel=1e-10)


@pytest.mark.parametrize("name", ASIA_CASES)
@pytest.mark.parametrize("parameter", ASIA_PARAMETERS)
def test_curves_of_asia_are_those_of_its_tables_up_to_the_ends(asia, name, parameter):
    case = ASIA_CASES[name]
    values = ENDS if not parameter.startswith("or:") else (1e-3, 0.3, 2.0, 40.0, 1e4)
    expected = [ask_asia(tables_with(parameter, t), case) for t in values]
    for target in DISEASES:
        curve = sensitivity.curve(asia, case, target, parameter, values)["posterior"]
        assert curve.tolist() == pytest.approx([e[target] for e in expected], rel=1e-8), target


@pytest.mark.parametrize("name", ASIA_CASES)
def test_functions_of_the_direct_link_of_asia_are_exact_up_to_the_ends(asia, name):
    case = ASIA_CASES[name]
    expected = [ask_asia(tables_with("link:bronc:dysp", t), case) for t in ENDS]
    for target in DISEASES:
        ratio = sensitivity.function(asia, case, target, "link:bronc:dysp")
        assert ratio.start == pytest.approx(0.4, rel=1e-12)  # what comes through "any disease"
        assert ratio(ENDS).tolist() == pytest.approx([e[target] for e in expected], rel=1e-9), target


@pytest.mark.parametrize("now", [0.4 + 1e-9, 0.999, 1.0 - 1e-6])
@pytest.mark.parametrize("name", ASIA_CASES)
def test_functions_from_a_value_near_its_end_are_exact_over_the_whole_range(asia, name, now):
    """Still nearer to 1 the digits that 1 - s has lost in rounding are missing: at 1 - 1e-9 relative errors reach 1e-8."""
    own = asia.knowledge.parameters["link:bronc:dysp"]
    parameters = MappingProxyType({**asia.knowledge.parameters, own.id: replace(own, value=now)})
    model = ddx.Model(replace(asia.knowledge, parameters=parameters), "general")
    expected = [ask_asia(tables_with(own.id, t), ASIA_CASES[name]) for t in ENDS]
    for target in DISEASES:
        ratio = sensitivity.function(model, ASIA_CASES[name], target, own.id)
        assert ratio(ENDS).tolist() == pytest.approx([e[target] for e in expected], rel=1e-10), target


@pytest.mark.parametrize("name", ASIA_CASES)
def test_one_way_of_asia_is_what_its_tables_say(asia, name):
    case, target = ASIA_CASES[name], "lung"
    table = sensitivity.one_way(asia, case, target, ASIA_PARAMETERS)
    for parameter, row in table.iterrows():
        own = asia.knowledge.parameters[parameter]
        for column, end in zip(("at_low", "at_high"), interval_of(own), strict=True):
            assert row[column] == pytest.approx(ask_asia(tables_with(parameter, end), case)[target], rel=1e-8), parameter
        h = 1e-4 * min(own.value, abs(1.0 - own.value))
        up, down = (ask_asia(tables_with(parameter, own.value + s * h), case)[target] for s in (1.0, -1.0))
        assert row["derivative"] == pytest.approx((up - down) / (2.0 * h), rel=1e-5, abs=1e-7), parameter
