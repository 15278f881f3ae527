"""Settings that say what their records report: findings without a modelled cause, and risk factors that are there."""

from __future__ import annotations

import csv
import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from conftest import Editor
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    SMALL_AGES,
    SMALL_FACTORS,
    SMALL_REQUIRES,
    SMALL_SEXES,
    SmallModel,
    assert_bits,
    layered_evidence,
    small_knowledge,
    sub_network,
)
from test_admission import CASES, assert_answers

import ddx
from ddx import sensitivity, validation
from ddx.draws import posterior_draws, posterior_under
from ddx.knowledge import read_knowledge
from ddx.knowledge.schema import FINDING_KINDS
from ddx.logistic import admitted
from ddx.network import build_network
from ddx.risk_factors import prior_of_unstated

RATIO, STATED = 0.3, 0.6
SILENT = 1.0 - STATED
RATIO_WORDS = (
    "expected a number above 0, at most 1: how often a finding without a modelled cause is reported, over one from a cause"
)
KINDS_WORDS = "allowed: history, symptom, sign, bedside_test, lab"
STATED_WORDS = "expected a number between 0 and 1: how many of the risk factors that are there are stated"


def reporting(kb, setting="clinic", *, background=None, factors=None, causes=None):
    """A knowledge base with the numbers of one setting; ``background``: of symptoms."""

    def table(number):
        return MappingProxyType({} if number is None else {setting: number})

    ratios = None if background is None else {"symptom": background}
    return replace(
        kb, background_reported=table(ratios), risk_factors_reported=table(factors), causes_per_patient=table(causes)
    )


class Reported(SmallModel):
    """The small model with what records report of it, by sums over everything."""

    def __init__(self, setting, kb):
        found = admitted(kb, setting)
        at_large = {}
        if found is not None:
            share = dict(zip(itertools.product(SMALL_AGES, SMALL_SEXES), found.share.ravel(), strict=True))
            at_large = {"none_weight": found.none_weight, "scale": found.scale, "share": share}
        super().__init__(setting, **at_large)
        self.ratio = kb.background_reported.get(setting, {}).get("symptom", 1.0)
        self.stated = kb.risk_factors_reported.get(setting, 0.0)
        self.case = {}

    def answer(self, case):
        self.case = case
        return super().answer(case)

    def worlds(self):
        """Of those whose records say nothing of the risk factors that the case says nothing of."""
        for age, sex, x, c, weight in super().worlds():
            # What requires one of which nothing is said is not spoken of, there or not.
            beside = [f for f in SMALL_FACTORS if f not in SMALL_REQUIRES or self.case.get(SMALL_REQUIRES[f]) == 1]
            silent = [factor for factor in beside if factor not in self.case]
            yield age, sex, x, c, weight * np.prod([1.0 - self.stated * x[factor] for factor in silent])

    def p_present(self, finding, age, causes):
        """A cause shows as much as studies count in its patients; what else there is, is reported as the ratio says."""
        leak = self.value[f"leak:{finding}"]
        absent = 1.0 - self.ratio * self.value.get(f"leak:{finding}@{age}", leak)
        for cause in causes:
            s = self.value.get(f"link:{cause}:{finding}")
            if s is not None:
                absent *= (1.0 - s) / (1.0 - self.ratio * leak)
        return 1.0 - absent

    def p_levels(self, age, causes):
        """P(level <= v) is a product over the reasons; what nobody reports is no reason."""
        at_most = self._reported(lambda v: self.value.get(f"leak:{v}@{age}", self.value[f"leak:{v}"]))
        for cause in causes:
            if f"link:{cause}:severe" in self.value:
                counted = np.cumsum(self._levels(lambda v, c=cause: self.value[f"link:{c}:{v}"]))
                at_most = at_most * counted / self._reported(lambda v: self.value[f"leak:{v}"])
        return np.diff(at_most, prepend=0.0)

    def _reported(self, of):
        """P(level <= v) of what no cause brought."""
        there = np.cumsum(self._levels(of))
        hazard = [1.0 - there[v - 1] / there[v] for v in (1, 2, 3)]
        return np.array([np.prod([1.0 - self.ratio * h for h in hazard[v:]]) for v in range(4)])


# --- the posteriors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causes", [None, 1.04], ids=["independent", "as counted"])
@pytest.mark.parametrize(("background", "factors"), [(RATIO, None), (None, STATED), (RATIO, STATED)])
def test_posteriors_are_those_of_sums_over_everything(background, factors, causes):
    kb = reporting(small_knowledge(), background=background, factors=factors, causes=causes)
    assert_answers(build_network(kb, "clinic"), Reported("clinic", kb), 1e-9)


@settings(max_examples=20, deadline=None)
@given(
    background=st.floats(0.001, 1.0),
    factors=st.floats(0.001, 0.999),
    balanced=st.booleans(),
    case=st.sampled_from(range(len(CASES))),
)
def test_posteriors_are_right_for_any_numbers(background, factors, balanced, case):
    setting = "balanced" if balanced else "clinic"
    kb = reporting(small_knowledge(), setting, background=background, factors=factors)
    net = build_network(kb, setting)
    result, answer = net.posterior(layered_evidence(net, [CASES[case]])), Reported(setting, kb).answer(CASES[case])
    np.testing.assert_allclose(result.marginal[0], answer.marginal, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(result.context[0], answer.context, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(result.log_evidence[0], answer.log_evidence, rtol=1e-9, atol=1e-12)


def test_other_settings_and_bases_without_the_tables_keep_every_bit(tiny):
    plain, stating = tiny.knowledge, reporting(tiny.knowledge, background=RATIO, factors=STATED)
    case = {"present": ["tremor", "numbness"], "absent": ["fatigue"], "sex": "female"}
    for setting in ("general", "balanced"):
        assert_bits(ddx.Model(stating, setting).diagnose(**case).result, ddx.Model(plain, setting).diagnose(**case).result)
    ones = reporting(plain, background=1.0)
    assert_bits(ddx.Model(ones, "clinic").diagnose(**case).result, ddx.Model(plain, "clinic").diagnose(**case).result)
    changed = ddx.Model(stating, "clinic").diagnose(**case).posterior
    assert (changed - ddx.Model(plain, "clinic").diagnose(**case).posterior).abs().max() > 0.01


def test_leaks_of_limb_are_as_reported_and_sensitivities_stay(limb):
    """In a setting without forms, of which tests/test_forms.py has the like."""
    kb = limb.knowledge
    found, plain = (build_network(base, "primary_care").without_syndromes() for base in (kb, reporting(kb)))
    ratio = np.array([kb.background_reported["primary_care"].get(finding.kind, 1.0) for finding in kb.findings.values()])
    assert set(ratio.tolist()) == {0.6, 1.0}
    links = [p.split(":")[1:] for p in kb.parameters if p.startswith("link:")]
    in_syndrome = np.isin(found.findings, [finding for parent, finding in links if parent in kb.syndromes])
    np.testing.assert_allclose(found.leak[:, ~in_syndrome], (plain.leak * ratio)[:, ~in_syndrome], rtol=1e-12)
    assert (found.leak <= plain.leak * (1.0 + 1e-12)).all()
    # P(finding | one cause alone), at an age that has no leak of its own.
    checked = 0
    for f, name in enumerate(found.findings):
        leak, of_ages = kb.means[f"leak:{name}"], plain.leak[:, f]
        if in_syndrome[f] or kb.findings[name].graded or not np.isclose(of_ages, leak, rtol=1e-12).any():
            continue
        at = int(np.isclose(of_ages, leak, rtol=1e-12).argmax())
        shown = 1.0 - (1.0 - found.leak[at, f]) * (1.0 - found.link[f])
        said = [kb.means.get(f"link:{cause}:{name}", found.leak[at, f]) for cause in found.causes]
        np.testing.assert_allclose(shown, said, rtol=1e-9, err_msg=name)
        checked += 1
    assert checked > 150
    np.testing.assert_array_equal(found.context_prior, plain.context_prior)


def test_findings_of_syndromes_have_the_direct_leak_that_is_reported(limb):
    """By scalars: 1 - leak = (1 - direct) prod (1 - l v); the direct part is reported more rarely, and links are beside it."""
    kb = limb.knowledge
    net, means = build_network(kb, "primary_care"), kb.means
    checked = 0
    for name, finding in kb.findings.items():
        ratio = kb.background_reported["primary_care"].get(finding.kind, 1.0)
        leak, f = means[f"leak:{name}"], net.findings.index(name)
        links = {s: means[f"link:{s}:{name}"] for s in kb.syndromes if f"link:{s}:{name}" in means}
        at_all_ages = f"leak:{name}@" not in " ".join(kb.parameters)
        if ratio == 1.0 or not links or not at_all_ages:
            continue
        shown = {s: (total - leak) / (1.0 - leak) for s, total in links.items()}
        without = np.prod([1.0 - means[f"leak:{s}"] * v for s, v in shown.items()])
        direct = ratio * (1.0 - (1.0 - leak) / without)
        np.testing.assert_allclose(net.leak[:, f], direct, rtol=1e-9, err_msg=name)
        for cause in kb.causes:
            q = {s: means.get(f"link:{cause}:{s}", means[f"leak:{s}"]) for s in shown}
            brought = 1.0 - (1.0 - direct) * np.prod([1.0 - q[s] * v for s, v in shown.items()])
            said = means.get(f"link:{cause}:{name}", 0.0)
            link = net.link[f, net.causes.index(cause)]
            assert link == pytest.approx(max((said - brought) / (1.0 - brought), 0.0), rel=1e-9, abs=1e-12), (cause, name)
            checked += said > brought
    assert checked > 20


def test_silence_lowers_a_risk_factor_by_the_odds_that_it_would_have_been_stated():
    prior, nothing = np.array([[0.1, 0.3, 0.5]]), np.full((1, 3), np.nan)
    alone = np.full(3, -1)
    found = prior_of_unstated(prior, nothing, alone, SILENT)
    np.testing.assert_allclose(found / (1.0 - found), SILENT * prior / (1.0 - prior), rtol=1e-15)
    stated = np.array([[1.0, 0.0, np.nan]])
    np.testing.assert_array_equal(prior_of_unstated(prior, stated, alone, SILENT)[0, :2], prior[0, :2])
    assert prior_of_unstated(prior, nothing, alone, 1.0) is prior
    second_requires_first = np.array([-1, 0, -1])
    assert prior_of_unstated(prior, nothing, second_requires_first, SILENT)[0].tolist() == [found[0, 0], 0.3, found[0, 2]]
    beside = prior_of_unstated(prior, np.array([[1.0, np.nan, np.nan]]), second_requires_first, SILENT)
    assert beside[0].tolist() == [0.1, found[0, 1], found[0, 2]]


def test_stated_risk_factors_are_what_they_were(tiny):
    case = {"present": ["tremor"], "age": 30, "sex": "male", "context": {x.id: False for x in tiny.knowledge.risk_factors}}
    found, plain = (ddx.Model(reporting(tiny.knowledge, factors=m), "clinic").diagnose(**case) for m in (STATED, None))
    assert_bits(found.result, plain.result)


@pytest.mark.parametrize(
    "case",
    [
        {"present": ["polyuria"], "age": 70, "sex": "male"},
        {"present": ["sweating"], "absent": ["polyuria"]},
        {"present": ["sweating"], "context": {"insulin_or_sulfonylurea": True}},
        {"present": ["polyuria"], "context": {"diabetes": False}, "sex": "female"},
        {"present": ["sweating"], "context": {"diabetes": True}},
    ],
    ids=["known age", "unknown", "what requires another", "what another requires", "what another requires is there"],
)
def test_pgmpy_agrees_where_silence_is_virtual_evidence(case):
    """Of a part of limb: what the other risk factors say of age and sex counts there as well."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination

    model = ddx.load("limb", "balanced")
    causes = ["diabetic_polyneuropathy", "hypoglycaemia", "stroke"]
    network = model.to_pgmpy(causes, ["sweating", "polyuria"])
    evidence = model.diagnose(**case).evidence
    found = sub_network(model.network, causes).posterior(evidence)
    hard = {"patient": "present"} | {f: state for state in ("present", "absent") for f in case.get(state, ())}
    if evidence.age[0] >= 0:
        hard["age_band"] = model.network.ages[evidence.age[0]]
    if evidence.sex[0] >= 0:
        hard["sex"] = model.network.sexes[evidence.sex[0]]
    silence, states = [[1.0], [model.network.unstated]], ["absent", "present"]
    soft = []
    context, requires = evidence.context[0], model.network.requires
    for factor, value, needed in zip(model.network.risk_factors, context, requires.tolist(), strict=True):
        if np.isnan(value) and needed >= 0 and context[needed] != 1.0:
            continue
        if np.isnan(value):
            soft.append(TabularCPD(factor, 2, silence, state_names={factor: states}))
        else:
            hard[factor] = states[int(value)]
    engine = VariableElimination(network)
    for cause, right in zip(causes, found.marginal[0], strict=True):
        answer = engine.query([cause], hard, virtual_evidence=soft, show_progress=False)
        assert answer.get_value(**{cause: "present"}) == pytest.approx(right, rel=1e-10)


# --- sensitivity, draws, simulation -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clinic(tiny):
    return ddx.Model(reporting(tiny.knowledge, background=RATIO, factors=STATED, causes=1.08), "clinic")


@pytest.mark.parametrize(
    "case",
    [
        {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"},
        {"present": ["tremor"], "uncertain": {"fatigue": 0.7}, "sex": "male"},
    ],
    ids=["known age", "unknown age"],
)
def test_every_parameter_moves_posteriors_as_in_networks_built_anew(clinic, case):
    found = clinic.diagnose(**case)
    moves = [(p.id, 0.8 * p.value) for p in clinic.knowledge.parameters.values()]
    posteriors = posterior_under(clinic, found.evidence, [dict([move]) for move in moves])
    functions = sensitivity.functions.Functions(clinic, found).under(*zip(*moves, strict=True))
    for move, row, exact in zip(moves, posteriors, functions, strict=True):
        anew = build_network(clinic.knowledge, "clinic", dict([move])).posterior(found.evidence).marginal[0]
        np.testing.assert_allclose(row, anew, rtol=1e-10, atol=1e-15, err_msg=str(move))
        np.testing.assert_allclose(exact, anew, rtol=1e-8, atol=1e-14, err_msg=str(move))


def test_draws_of_few_and_of_many_cases_agree(clinic):
    evidence = clinic.diagnose(present=["tremor"], absent=["numbness"], sex="female").evidence
    alone = posterior_draws(clinic, evidence, 25, seed=3)
    rows = pd.DataFrame({"present": ["tremor"] * 41, "absent": ["numbness"] * 41, "sex": ["female"] * 41})
    many = ddx.cases.encode(clinic.knowledge, *ddx.cases.from_frame(clinic.knowledge, rows), list(range(41))).evidence
    np.testing.assert_allclose(posterior_draws(clinic, many, 25, seed=3)[:, 7], alone[:, 0], rtol=1e-10)


def test_simulated_records_state_risk_factors_as_often_as_the_setting_says(clinic):
    cases = validation.simulate(clinic, 100_000, seed=1, observed={"context": 0.25, "symptom": 0.0})
    everything = validation.simulate(clinic, 100_000, seed=2, observed=0.0)
    factor = clinic.knowledge.risk_factors[0].id

    def share(frame, column):
        return frame[column].str.split(";").map(lambda ids: factor in ids).mean()

    there, missing = share(everything, "context"), share(everything, "absent")
    assert there + missing == pytest.approx(1.0)
    # Asked for in a quarter; else stated with probability 0.6 where it is there.
    assert share(cases, "context") == pytest.approx(there * (0.25 + 0.75 * STATED), rel=0.03)
    assert share(cases, "absent") == pytest.approx(missing * 0.25, rel=0.03)


def test_posteriors_of_simulated_records_are_calibrated(clinic):
    """The mean posterior is the share of those who have the cause, and knows what silence says."""
    cases = validation.simulate(clinic, 40_000, seed=5, observed={"symptom": 0.3, "context": 0.2})
    posterior = clinic.score(cases.drop(columns=["final_diagnosis"]))
    truth = cases["final_diagnosis"].str.split(";")
    silent = ~(cases["context"].str.cat(cases["absent"], sep=";")).str.contains(clinic.knowledge.risk_factors[0].id)
    for cause in clinic.network.causes:
        has = truth.map(lambda ids, cause=cause: cause in ids)
        for group in (silent, ~silent):
            spread = np.sqrt(max(has[group].mean(), 1e-3) / group.sum())
            assert abs(posterior[cause].to_numpy()[group].mean() - has[group].mean()) < 4.0 * spread


# --- kb.toml and the command line ---------------------------------------------------------------------------------------------

WRONG = {
    "background_reported": {
        "zzz = 0.5": "zzz: unknown setting; allowed: balanced, clinic",
        "general = 0.5": "general: is all people, not patients; allowed: balanced, clinic",
        "clinic = 0.5": "clinic: got 0.5, expected a table: kind of finding = number",
        "clinic = { symptom = 0 }": f"clinic.symptom: got 0, {RATIO_WORDS}",
        "clinic = { symptom = 1.2 }": f"clinic.symptom: got 1.2, {RATIO_WORDS}",
        "clinic = { sign = true }": f"clinic.sign: got True, {RATIO_WORDS}",
        "clinic = { lab = nan }": f"clinic.lab: got nan, {RATIO_WORDS}",
        "clinic = { history = '0.5' }": f"clinic.history: got '0.5', {RATIO_WORDS}",
        "clinic = { signs = 0.5 }": f"clinic.signs: unknown kind of finding; nearest: sign; {KINDS_WORDS}",
        "clinic = { zzz = 0.5 }": f"clinic.zzz: unknown kind of finding; {KINDS_WORDS}",
    },
    "risk_factors_reported": {
        "general = 0.5": "general: is all people, not patients; allowed: balanced, clinic",
        "clinic = 0": f"clinic: got 0, {STATED_WORDS}",
        "clinic = 1": f"clinic: got 1, {STATED_WORDS}",
        "clinic = -0.5": f"clinic: got -0.5, {STATED_WORDS}",
        "clinic = inf": f"clinic: got inf, {STATED_WORDS}",
        "clinic = [0.5]": f"clinic: got [0.5], {STATED_WORDS}",
    },
}


def problems_with(folder, text):
    kb = folder / "kb.toml"
    kb.write_text(kb.read_text(encoding="utf-8") + text, encoding="utf-8")
    return [str(problem) for problem in read_knowledge(folder)[1]]


@pytest.mark.parametrize(("table", "line"), [(table, line) for table, lines in WRONG.items() for line in lines])
def test_a_wrong_number_is_reported_in_exact_words(table, line, tiny_kb):
    assert problems_with(tiny_kb, f"\n[{table}]\n{line}\n") == [f"kb.toml.{table}.{WRONG[table][line]}"]


def test_complaints_may_be_reported_alike_whatever_brought_them(tiny_kb):
    assert problems_with(tiny_kb, "\n[background_reported]\nclinic = { symptom = 1, lab = 0.5 }\n") == []
    assert ddx.load(tiny_kb, "clinic").knowledge.background_reported == {"clinic": {"symptom": 1.0, "lab": 0.5}}


def test_the_numbers_survive_pickling_and_stay_read_only(limb):
    again = pickle.loads(pickle.dumps(limb.knowledge))
    assert again.background_reported == limb.knowledge.background_reported
    for numbers in (again.background_reported, again.background_reported["balanced"]):
        with pytest.raises(TypeError, match="does not support item assignment"):
            numbers["lab"] = 1.0


@pytest.mark.parametrize("table", WRONG)
def test_what_is_no_table_is_refused(table, edit: Editor):
    edit.text("kb.toml", "schema_version = 1", f"schema_version = 1\n{table} = 0.5")
    assert [str(p) for p in read_knowledge(edit.folder)[1]] == [f"kb.toml.{table}: got 0.5, expected a table"]


def run(*arguments):
    """Standard output of a command that ends well."""
    command = [sys.executable, "-m", "ddx", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_commands_tell_what_a_base_says_of_its_records(tiny_kb, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for file in tiny_kb.iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    before = ddx.load(tiny_kb).knowledge.digest
    assert (
        problems_with(tiny_kb, "\n[background_reported]\nclinic = { symptom = 0.3 }\n\n[risk_factors_reported]\nclinic = 0.6\n")
        == []
    )
    model = ddx.load(tiny_kb, "clinic")
    assert model.knowledge.digest != before
    assert model.knowledge.background_reported == {"clinic": {"symptom": 0.3}}
    assert model.knowledge.risk_factors_reported == {"clinic": 0.6}
    assert model.network.unstated == 0.4
    out = " ".join(run("kb", "coverage", "--kb", tiny_kb).split())
    told = "Findings without a modelled cause reported in clinic, over those from one (kb.toml, held in all analyses)"
    assert f"{told}: symptom 0.3." in out
    assert "Risk factors stated, of those that are there (kb.toml, held in all analyses): clinic 0.6." in out
    factor = model.knowledge.risk_factors[0].id
    assert "in clinic the network has 0.3 times it: so much is reported (kb.toml)" in run(
        "kb", "show", "leak:tremor", "--kb", tiny_kb
    )
    assert "in clinic" not in run("kb", "show", "leak:raised_ck", "--kb", tiny_kb)
    assert "in clinic the network has 0.4 times its odds where nothing is said of it (kb.toml)" in run(
        "kb", "show", f"context:{factor}", "--kb", tiny_kb
    )
    out = run("kb", "diff", old, tiny_kb, "--setting", "clinic")
    assert "background reported, clinic, symptom: not stated -> 0.3" in out
    assert "risk factors reported, clinic: not stated -> 0.6" in out
    document = json.loads(run("kb", "diff", old, tiny_kb, "--setting", "clinic", "--json"))
    assert document["background_reported"] == {"clinic": {"symptom": {"old": None, "new": 0.3}}}
    assert document["risk_factors_reported"] == {"clinic": {"old": None, "new": 0.6}}
    found = json.loads(run("diagnose", "--kb", tiny_kb, "--setting", "clinic", "--present", "tremor", "--json"))
    posterior = model.diagnose(present=["tremor"]).posterior
    assert {cause["id"]: cause["posterior"] for cause in found["causes"]} == posterior[
        [c["id"] for c in found["causes"]]
    ].to_dict()


# --- the counts -------------------------------------------------------------------------------------------------------------

COUNTS = Path(__file__).parents[1] / "experiments" / "reported"


def rows(name):
    with (COUNTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_numbers_of_limb_are_those_counted_in_reports(limb):
    """Anew, line by line, from the files and the knowledge base."""
    kb = limb.knowledge
    people = ddx.Model(kb, "general").network.without_syndromes()
    words = [row["finding"] for row in rows("words.csv")]
    votes = {(row["report"], row["finding"]): (row["reader_1"], row["reader_2"]) for row in rows("mentions.csv")}
    groups = {"symptom": "symptom", "history": "history", "sign": "examination", "bedside_test": "examination", "lab": "lab"}
    counts = {group: np.zeros(6) for group in groups.values()}  # other, leaks, own, links; without a link, their leaks
    stated = there = 0.0
    for report in rows("reports.csv"):
        age = [c.age_from <= float(report["age"]) < c.age_to for c in kb.age_strata].index(True)
        sex = kb.sexes[0].id != f"sex_{report['sex']}"
        stated += len([factor for factor in report["stated"].split(";") if factor])
        for factor in ("diabetes", "hypertension", "smoking", "alcohol_heavy", "atrial_fibrillation"):
            there += people.context_prior[age, int(sex), people.risk_factors.index(factor)]
        for finding in words:
            said, group = votes.get((report["report"], finding), ()), groups[kb.findings[finding].kind]
            counts[group][:2] += said.count("other") / 2, people.leak[age, people.findings.index(finding)]
            s, place = kb.means.get(f"link:{report['cause']}:{finding}", 0.0), people.findings.index(finding)
            if s > max(0.3, 2.5 * kb.means[f"leak:{finding}"]):
                counts[group][2:4] += said.count("own") / 2, s
            if report["cause"] and people.link[place, people.causes.index(report["cause"])] == 0.0:
                counts[group][4:] += (said.count("own") + said.count("other")) / 2, people.leak[age, place]
    reported = {group: (numbers[0], numbers[2]) for group, numbers in counts.items()}
    assert reported == {"symptom": (37.0, 39.0), "history": (18.0, 5.0), "examination": (32.5, 27.0), "lab": (44.0, 17.0)}
    for kind, group in groups.items():
        other, leaks, own, links, without, their_leaks = counts[group]
        share = without / their_leaks if kind == "symptom" else other / leaks
        assert kb.background_reported["balanced"][kind] == round(share / (own / links), 2)
    assert tuple(kb.background_reported["balanced"]) == ("symptom", "history", "sign", "bedside_test", "lab")
    assert set(groups) == set(FINDING_KINDS)
    assert stated == 188.0
    named = [report["named"].split(";") for report in rows("reports.csv") if report["cause"]]
    assert all(report["cause"] == report["named"].split(";")[0] for report in rows("reports.csv"))
    assert kb.causes_per_patient["balanced"] == round(sum(map(len, named)) / len(named), 2)
    assert kb.risk_factors_reported["balanced"] == round(stated / there, 1)


def test_the_table_of_the_page_has_these_counts(limb):
    page = (COUNTS / "README.md").read_text(encoding="utf-8")
    for line in (
        *("complaints of other origin | 37", "complaints of the cause | 39", "history of other origin | 18"),
        *("signs and bedside tests of other origin | 32.5", "laboratory values of the cause | 17", "risk factors | 188"),
    ):
        assert f"| {line} | " in page
    ratios = limb.knowledge.background_reported["balanced"]
    names = {
        "symptom": "complaints without a link",
        "history": "history of other origin",
        "sign": "signs and bedside tests of other origin",
        "lab": "laboratory values of other origin",
    }
    for kind, name in names.items():
        (line,) = (
            line for line in page.splitlines() if line.startswith(f"| {name} | ") and line.endswith("| `background_reported` |")
        )
        assert line.startswith(f"| {name} | {ratios[kind]:.2f} | ")
    (line,) = (line for line in page.splitlines() if line.endswith("| `risk_factors_reported` |"))
    assert line.startswith(f"| risk factors | {limb.knowledge.risk_factors_reported['balanced']:.1f}")


def test_silence_is_a_finding_that_was_not_named():
    """For every form alone, by scalars: a finding that is not stated has 1 - m s where it has an m, any other 1."""
    sys.path.insert(0, str(COUNTS))
    try:
        from silence import heard, hearing
    finally:
        sys.path.remove(str(COUNTS))
    model = ddx.load("limb", "balanced")
    network, named = model.network, {("stroke", "aphasia"): 0.4, ("stroke", "facial_droop"): 0.3, ("raynaud", "hand_pain"): 0.2}
    n, cause = len(network.findings), np.array(network.causes)[network.forms.cause]
    wider = hearing(network, named)
    assert wider.findings[n:] == tuple(f"{finding} named" for finding in network.findings)
    for case, silent in (
        ({"present": ["facial_droop"]}, ("aphasia", "hand_pain")),
        ({"absent": ["aphasia"]}, ("facial_droop", "hand_pain")),
        ({"present": ["fatigue"]}, ("aphasia", "facial_droop", "hand_pain")),
    ):
        own = model.diagnose(**case).evidence
        more = heard(own, n)
        np.testing.assert_array_equal(more.finding[:, : len(own.columns)], own.finding)
        parts = wider.parts(more)
        core = wider.core(parts, more.context[parts.case])
        quiet = (parts.columns >= n) & (parts.finding[0] == 0.0)
        assert (core.leak[:, quiet] == 0.0).all()
        expected = np.ones(len(cause))
        for (patient, finding), m in named.items():
            if finding in silent:
                s = network.link[network.findings.index(finding)]
                expected *= np.where(cause == patient, 1.0 - m * s, 1.0)
        np.testing.assert_allclose(np.prod(1.0 - core.link[quiet], axis=0), expected, rtol=1e-14)
        assert expected.min() < 1.0
