"""Parts of age bands: the rule by hand, engines of others, networks built anew, and what the check of a base says."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from math import exp, log
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from conftest import Editor, write_tiny
from networks import layered_evidence, to_pyagrum

import ddx
from ddx import sensitivity
from ddx.cli.kb import show_coverage, show_item
from ddx.draws import posterior_under
from ddx.knowledge import read_knowledge
from ddx.knowledge.ages import age_limits
from ddx.logistic import age_effects, context_arrays, within_bands
from ddx.network import build_network
from ddx.sensitivity.case import moved, relevant
from ddx.sensitivity.flips import distance
from ddx.validation import parameter_changes, simulate
from ddx.values import Values

S, X = "studies.csv", "context.csv"
# Part -> band, ages, share of all people. The band of three has one whose middle lies near the mean of all.
PARTS = {
    "age_18_29": ("age_18_44", 18, 30, 0.16),
    "age_30_44": ("age_18_44", 30, 45, 0.2),
    "age_45_49": ("age_45_64", 45, 50, 0.07),
    "age_50_54": ("age_45_64", 50, 55, 0.1),
    "age_55_64": ("age_45_64", 55, 65, 0.06),
    "age_75_84": ("age_75_plus", 75, 85, 0.06),
    "age_85_plus": ("age_75_plus", 85, 121, 0.04),
}
# Ages of the strata, as far as people are drawn, with the index of the band and the share in it.
STRATA = [
    (0, 0, 18, 1.0),
    (1, 18, 30, 0.16 / 0.36),
    (1, 30, 45, 0.2 / 0.36),
    (2, 45, 50, 0.07 / 0.23),
    (2, 50, 55, 0.1 / 0.23),
    (2, 55, 65, 0.06 / 0.23),
    (3, 65, 75, 1.0),
    (4, 75, 85, 0.6),
    (4, 85, 95, 0.4),
]
BANDS = ("age_0_17", "age_18_44", "age_45_64", "age_65_74", "age_75_plus")
SETTINGS = ("general", "clinic", "balanced")
RATIOS = {
    ("stroke", "age_0_17"): 0.1,
    ("stroke", "age_18_44"): 0.3,
    ("stroke", "age_65_74"): 2.5,
    ("neuropathy", "age_45_64"): 3.0,
    ("anaemia", "age_18_44"): 0.5,
}


def with_parts(edit: Editor, *left_out: str) -> None:
    for part, (_, low, high, share) in PARTS.items():
        if part not in left_out:
            cells = {"kind": "age_part", "age_from": str(low), "age_to": str(high), "label": f"Age {low} to {high - 1}"}
            edit.copy(X, "age_0_17", id=part, **cells)
            edit.copy(S, "share_0_17", id=f"share_{part}", context=part, value=str(share))


def with_ratios(edit: Editor) -> None:
    for (cause, band), value in RATIOS.items():
        cells = {"cause": cause, "context": band, "value": str(value), "low": "", "high": ""}
        edit.copy(S, "or_stroke_old", id=f"or_{cause}_{band}", **cells)
    edit.copy(S, "leak_fatigue", id="leak_fatigue_young", group="age_18_44", value="0.08")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    edit = Editor(write_tiny(tmp_path_factory.mktemp("parts") / "tiny"))
    with_ratios(edit)
    with_parts(edit)
    return edit.folder


@pytest.fixture(scope="module")
def model(folder):
    return ddx.load(folder, "clinic")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same base without parts."""
    edit = Editor(write_tiny(tmp_path_factory.mktemp("whole") / "tiny"))
    with_ratios(edit)
    return ddx.load(edit.folder, "clinic")


def by_hand(band_values, strata=STRATA):
    """Log odds ratio of every stratum: the flatter line towards a neighbour, then the mean odds ratio of each band kept."""
    means = [sum(w * (lo + hi) / 2 for b, lo, hi, w in strata if b == band) for band in range(len(band_values))]
    raw = []
    for b, lo, hi, _ in strata:
        others = [n for n in (b - 1, b + 1) if 0 <= n < len(band_values)]
        slopes = [(band_values[n] - band_values[b]) / (means[n] - means[b]) for n in others]
        slope = min(slopes, key=abs) if min(slopes) > 0 or max(slopes) < 0 else 0.0
        raw.append(band_values[b] + ((lo + hi) / 2 - means[b]) * slope)
    found = []
    for (b, *_), value in zip(strata, raw, strict=True):
        mean = sum(w * exp(v) for (other, _, _, w), v in zip(strata, raw, strict=True) if other == b)
        found.append(value + band_values[b] - log(mean))
    return np.array(found)


# --- the rule ----------------------------------------------------------------------------------------------------------------


def test_strata_are_the_parts_and_the_bands_without_any(model, whole):
    kb = model.knowledge
    assert tuple(b.id for b in kb.age_bands) == BANDS
    strata = ("age_0_17", *list(PARTS)[:5], "age_65_74", *list(PARTS)[5:])
    assert tuple(s.id for s in kb.age_strata) == model.network.ages == strata
    assert kb.band_of_stratum == tuple(band for band, *_ in STRATA)
    assert age_limits(kb) == ([lo for _, lo, _, _ in STRATA], [hi for _, _, hi, _ in STRATA])
    assert whole.knowledge.age_strata == whole.knowledge.age_bands
    assert whole.knowledge.band_of_stratum == (0, 1, 2, 3, 4)
    assert age_limits(whole.knowledge) == ([0, 18, 45, 65, 75], [18, 45, 65, 75, 95])


def test_a_line_between_bands_by_pencil(model):
    """65 to 74: mean age 70, odds ratio 2.5; 75 and over: 60 % are 80 and 40 % are 90 years old, mean 84, odds ratio 5."""
    net = model.network
    k = net.causes.index("stroke")
    at_80, at_90 = 2.5 * 2.0 ** (10 / 14), 2.5 * 2.0 ** (20 / 14)
    kept = 5.0 / (0.6 * at_80 + 0.4 * at_90)
    expected = np.array([2.5, at_80 * kept, at_90 * kept]) / 2.5
    odds = np.exp(net.log_odds[[6, 7, 8], 0, k] - net.log_odds[6, 0, k])
    np.testing.assert_allclose(odds, expected, rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_priors_follow_age_as_by_hand(model, setting):
    net, value = model.in_setting(setting).network, model.knowledge.means
    for k, cause in enumerate(net.causes):
        expected = by_hand([log(value.get(f"or:{cause}:{band}", 1.0)) for band in BANDS])
        for s in range(2):
            found = net.log_odds[:, s, k]
            np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-11, atol=1e-12, err_msg=cause)


def test_every_band_keeps_its_odds(model):
    kb = model.knowledge
    rng = np.random.default_rng(0)
    ratio = rng.normal(0.0, 3.0, (200, 5))
    within = within_bands(kb, Values.of(kb, [{}]))
    found = np.exp(age_effects(kb, ratio, np.repeat(within, 200, axis=0)))
    for b, band in enumerate(BANDS):
        own = [i for i, (of, *_) in enumerate(STRATA) if of == b]
        np.testing.assert_allclose(within[0, own].sum(), 1.0, rtol=1e-15, err_msg=band)
        np.testing.assert_allclose((found * within)[:, own].sum(axis=1), np.exp(ratio[:, b]), rtol=1e-12, err_msg=band)


def test_bands_that_are_alike_have_parts_that_are_alike(model):
    kb = model.knowledge
    within = within_bands(kb, Values.of(kb, [{}]))
    np.testing.assert_allclose(age_effects(kb, np.full((1, 5), 1.7), within), 1.7, rtol=1e-15)


@pytest.mark.parametrize("divided", [("age_0_17", 0, 8, 18), ("age_75_plus", 75, 80, 121)])
def test_the_first_and_the_last_band_go_on_with_the_line_of_the_last_two(edit, divided):
    band, low, middle, high = divided
    with_ratios(edit)
    for name, lo, hi, share in (("younger", low, middle, "0.04"), ("older", middle, high, "0.12")):
        edit.copy(X, "age_0_17", id=name, kind="age_part", age_from=str(lo), age_to=str(hi))
        edit.copy(S, "share_0_17", id=f"share_{name}", context=name, value=share)
    kb = ddx.load(edit.folder, "general").knowledge
    net, value = build_network(kb, "general"), kb.means
    end = min(high, 95)
    strata = [(b, *ages, 1.0) for b, ages in enumerate([(0, 18), (18, 45), (45, 65), (65, 75), (75, 95)])]
    b = BANDS.index(band)
    strata[b : b + 1] = [(b, low, middle, 0.25), (b, middle, end, 0.75)]
    for k, cause in enumerate(net.causes):
        expected = by_hand([log(value.get(f"or:{cause}:{band}", 1.0)) for band in BANDS], strata)
        np.testing.assert_allclose(net.log_odds[:, 1, k] - net.log_odds[0, 1, k], expected - expected[0], atol=1e-12)


@pytest.mark.parametrize(("start", "end"), [(80, 95), (85, 95), (90, 100), (110, 120), (118, 121)])
def test_the_last_part_ends_where_the_last_band_does_or_ten_years_on(edit, start, end):
    for name, lo, hi in (("younger", 75, start), ("older", start, 121)):
        edit.copy(X, "age_0_17", id=name, kind="age_part", age_from=str(lo), age_to=str(hi))
        edit.copy(S, "share_0_17", id=f"share_{name}", context=name, value="0.05")
    starts, ends = age_limits(ddx.load(edit.folder).knowledge)
    assert starts == [0, 18, 45, 65, 75, start]
    assert ends == [18, 45, 65, 75, start, end]


def test_nobody_is_drawn_older_than_cases_may_be(edit):
    with_parts(edit, "age_75_84", "age_85_plus")
    for part, low, high in (("age_75_114", 75, 115), ("age_115_plus", 115, 121)):
        edit.copy(X, "age_0_17", id=part, kind="age_part", age_from=str(low), age_to=str(high), label=part)
        edit.copy(S, "share_0_17", id=f"share_{part}", context=part, value="0.05")
    found = ddx.load(edit.folder, "clinic")
    assert age_limits(found.knowledge)[1][-1] == 121
    assert simulate(found, 2000)["age"].max() <= 120


def test_parts_of_an_only_band_are_like_it(model):
    kb = model.knowledge
    context = {c.id: c for c in kb.context.values() if c.kind not in ("age_band", "age_part")}
    band, part = kb.context["age_0_17"], kb.context["age_18_29"]
    ages = [
        replace(band, age_to=121.0),
        replace(part, age_from=0.0),
        replace(part, id="age_30_44", age_from=30.0, age_to=121.0),
    ]
    one = replace(kb, context=MappingProxyType({c.id: c for c in ages} | context))
    net = build_network(one, "general")
    assert net.ages == ("age_18_29", "age_30_44")
    np.testing.assert_array_equal(net.log_odds[0], net.log_odds[1])


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_marginal_over_all_strata_is_the_prevalence(model, setting):
    net = model.in_setting(setting).network
    result = net.posterior(layered_evidence(net, [{}]))
    np.testing.assert_allclose(result.marginal[0], net.prevalence, rtol=1e-12)


def test_without_parts_everything_keeps_its_bits(whole):
    kb = whole.knowledge
    values = Values.of(kb, [{}, {"population:age_18_44": 0.4, "or:stroke:age_75_plus": 3.0}])
    assert (within_bands(kb, values) == 1.0).all()
    ratio = np.random.default_rng(1).normal(0.0, 2.0, (7, 5))
    np.testing.assert_array_equal(age_effects(kb, ratio, np.ones((7, 5))), ratio)
    share = values.columns([f"population:{band}" for band in BANDS])
    share = share / share.sum(axis=1, keepdims=True)
    sexes = values.columns(["population:sex_female", "population:sex_male"])
    sexes = sexes / sexes.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(context_arrays(kb, "general", values).share, share[:, :, None] * sexes[:, None, :])


def test_leaks_and_risk_factors_are_those_of_the_band(model, whole):
    net, old = model.network, whole.network
    band = list(model.knowledge.band_of_stratum)
    np.testing.assert_array_equal(net.leak, old.leak[band])
    np.testing.assert_array_equal(net.context_prior, old.context_prior[band])
    for name in ("link", "context_log_odds", "prevalence"):
        np.testing.assert_array_equal(getattr(net, name), getattr(old, name))


def test_the_share_of_a_band_stays_and_its_parts_divide_it(model, whole):
    share = model.network.share
    np.testing.assert_allclose(share.sum(axis=0), whole.network.share.sum(axis=0), rtol=1e-14)
    for b in range(5):
        own = [i for i, (of, *_) in enumerate(STRATA) if of == b]
        np.testing.assert_allclose(share[own].sum(axis=0), whole.network.share[b], rtol=1e-14)
        np.testing.assert_allclose(share[own] / share[own].sum(axis=0), np.array([[STRATA[i][3]] * 2 for i in own]), rtol=1e-14)


def test_a_setting_with_ages_of_its_own_divides_them_alike(edit):
    with_parts(edit)
    for band, value in (("18_44", "0.3"), ("75_plus", "0.7")):
        edit.copy(S, "share_18_44", id=f"clinic_{band}", context=f"age_{band}", setting="clinic", value=value)
    net = ddx.load(edit.folder, "clinic").network
    share = net.share.sum(axis=1)
    expected = [0, 0.3 * 0.16 / 0.36, 0.3 * 0.2 / 0.36, 0, 0, 0, 0, 0.7 * 0.6, 0.7 * 0.4]
    np.testing.assert_allclose(share, expected, atol=1e-11)
    result = net.posterior(layered_evidence(net, [{}]))
    np.testing.assert_allclose(result.marginal[0], net.prevalence, rtol=1e-12)


# --- cases -------------------------------------------------------------------------------------------------------------------

AGES = {
    0: 0,
    17.9: 0,
    18: 1,
    29.9: 1,
    30: 2,
    44: 2,
    45: 3,
    49: 3,
    50: 4,
    55: 5,
    64: 5,
    65: 6,
    74.99: 6,
    75: 7,
    84: 7,
    85: 8,
    120: 8,
}


@pytest.mark.parametrize(("age", "stratum"), AGES.items())
def test_every_age_falls_into_its_stratum(model, age, stratum):
    assert model.diagnose(age=age).evidence.age.tolist() == [stratum]


def test_within_a_band_a_prior_follows_age(model, whole):
    young, old = (model.diagnose(age=age, sex="male").posterior["stroke"] for age in (20, 40))
    alike = [whole.diagnose(age=age, sex="male").posterior["stroke"] for age in (20, 40)]
    assert alike[0] == alike[1]
    assert young < alike[0] < old


def test_unknown_age_is_the_mixture_over_the_strata(model):
    net = model.network
    evidence = {"arm_weakness": 1, "tremor": 0, "fatigue": 0.7, "diabetes": 1}
    strata = list(itertools.product(net.ages, net.sexes))
    parts = net.posterior(layered_evidence(net, [evidence | {"age_band": a, "sex": s} for a, s in strata]))
    j = net.risk_factors.index("diabetes")
    joint = np.exp(parts.log_evidence) * (net.share * net.context_prior[..., j]).ravel()
    mixed = net.posterior(layered_evidence(net, [evidence]))
    np.testing.assert_allclose(mixed.marginal[0], joint @ parts.marginal / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.none[0], joint @ parts.none / joint.sum(), rtol=1e-12)
    total = (net.share * net.context_prior[..., j]).sum()
    np.testing.assert_allclose(mixed.log_evidence[0], np.log(joint.sum() / total), rtol=1e-12)


def test_what_other_cases_know_does_not_change_a_bit(model):
    rows = [{"present": "tremor", "age": 40, "sex": "male"}, {"present": "numbness", "age": 60, "sex": ""}]
    known, both = model.score(pd.DataFrame(rows[:1])), model.score(pd.DataFrame(rows))
    assert known.iloc[0].tolist() == both.iloc[0].tolist()


CASES = (
    {"arm_weakness": 1, "tremor": 0, "age_band": "age_30_44", "sex": "sex_female"},
    {"absent_ankle_jerks": 1, "onset": [0, 1, 0], "age_band": "age_85_plus"},
    {"fatigue": 1, "low_haemoglobin": 1, "diabetes": 1},
    {"numbness": 1, "onset": [0, 0, 1]},
)


@pytest.mark.parametrize("case", CASES)
def test_other_engines_agree(model, case):
    pgmpy = pytest.importorskip("pgmpy.inference")
    pyagrum = pytest.importorskip("pyagrum")
    net, network = model.network, model.to_pgmpy()
    assert tuple(network.get_cpds("age_band").state_names["age_band"]) == net.ages
    hard = {}
    for node, value in case.items():
        states = network.get_cpds(node).state_names[node]
        hard[node] = value if node in ("age_band", "sex") else states[int(np.argmax(value)) if node == "onset" else value]
    found = net.posterior(layered_evidence(net, [case])).marginal[0]
    engine = pgmpy.VariableElimination(network)
    other = [engine.query([c], hard, show_progress=False).values[1] for c in net.causes]
    np.testing.assert_allclose(found, other, rtol=1e-10)
    lazy = pyagrum.LazyPropagation(to_pyagrum(network))
    lazy.setEvidence(hard)
    lazy.makeInference()
    np.testing.assert_allclose(found, [lazy.posterior(c).toarray()[1] for c in net.causes], rtol=1e-10)


def test_cases_are_drawn_at_the_ages_of_the_strata(model):
    frame = simulate(model, 20_000, seed=3)
    ages = frame["age"].astype(float)
    assert (ages.min(), ages.max()) == (0, 94)
    for (_, low, high, _), share in zip(STRATA, model.network.share.sum(axis=1), strict=True):
        counted = ((ages >= low) & (ages < high)).mean()
        assert counted == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)
    k = model.network.causes.index("stroke")
    for stratum, low, high in ((2, 30, 45), (8, 85, 95)):
        own = frame[(ages >= low) & (ages < high)]
        p = model.network.posterior(layered_evidence(model.network, [{"age_band": model.network.ages[stratum]}])).marginal[0, k]
        counted = own["final_diagnosis"].str.split(";").map(lambda names: "stroke" in names).mean()
        assert counted == pytest.approx(p, abs=4 * (p / len(own)) ** 0.5)


# --- sensitivity -------------------------------------------------------------------------------------------------------------

ASKED = {
    "young": {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 35, "sex": "female"},
    "middle": {"present": ["tremor"], "uncertain": {"fatigue": 0.7}, "age": 52, "context": {"diabetes": True}},
    "oldest": {"present": ["fatigue", "absent_ankle_jerks"], "age": 90, "sex": "male"},
    "unknown": {"present": ["hand_weakness", "sudden_onset"], "absent": ["low_glucose"]},
}


def anew(model, evidence, values):
    return build_network(model.knowledge, model.setting, values).posterior(evidence).marginal[0]


@pytest.mark.parametrize("name", ASKED)
def test_posteriors_under_other_values_are_those_of_networks_built_anew(model, name):
    evidence = model.diagnose(**ASKED[name]).evidence
    sets = [{p: moved(own, -0.7)} for p, own in model.knowledge.parameters.items()]
    sets.append({"population:age_18_29": 0.3, "or:stroke:age_65_74": 4.0, "or:stroke:age_18_44": 0.1, "context:diabetes": 0.3})
    for values, row in zip(sets, posterior_under(model, evidence, sets), strict=True):
        np.testing.assert_allclose(row, anew(model, evidence, values), rtol=1e-11, err_msg=str(values))


@pytest.mark.parametrize("name", ASKED)
def test_every_single_parameter_has_its_exact_function(model, name):
    case = model.diagnose(**ASKED[name])
    functions = sensitivity.functions.Functions(model, case)
    moves = []
    for parameter in relevant(model, case.evidence):
        own = model.knowledge.parameters[parameter]
        values = (1e-3, 0.5 * own.value, 1e3) if parameter.startswith("or:") else (1e-6, 0.3, 1.0 - 1e-6)
        moves += [(parameter, value) for value in values]
    for (parameter, value), row in zip(moves, functions.under(*zip(*moves, strict=True)), strict=True):
        expected = anew(model, case.evidence, {parameter: value})
        np.testing.assert_allclose(row, expected, rtol=1e-8, atol=1e-15, err_msg=f"{parameter} {value}")


@pytest.mark.parametrize("name", ASKED)
def test_parameters_left_out_change_nothing(model, name):
    evidence = model.diagnose(**ASKED[name]).evidence
    kept = set(relevant(model, evidence))
    left = [p for p in model.knowledge.parameters.values() if p.id not in kept]
    assert len(left) > 10
    now = model.network.posterior(evidence).marginal[0]
    for own, z in itertools.product(left, (-1.0, 1.0)):
        np.testing.assert_allclose(anew(model, evidence, {own.id: moved(own, z)}), now, rtol=1e-12, err_msg=own.id)


def test_leaks_of_the_band_of_a_case_are_relevant(model):
    found = relevant(model, model.diagnose(present=["fatigue"], absent=["absent_ankle_jerks"], age=35).evidence)
    assert {"leak:fatigue", "leak:fatigue@age_18_44"} <= set(found)
    assert "leak:absent_ankle_jerks@age_75_plus" not in found
    found = relevant(model, model.diagnose(present=["fatigue"], absent=["absent_ankle_jerks"], age=90).evidence)
    assert "leak:absent_ankle_jerks@age_75_plus" in found
    assert "leak:fatigue@age_18_44" not in found


@pytest.mark.parametrize("name", ASKED)
def test_one_way_agrees_with_finite_differences(model, name):
    case = ASKED[name]
    evidence = model.diagnose(**case).evidence
    table = sensitivity.one_way(model, case, "stroke")
    k = model.network.causes.index("stroke")
    now = model.network.posterior(evidence).marginal[0, k]
    for parameter, row in table.iterrows():
        h = 1e-5 * min(row["value"], abs(1.0 - row["value"]))
        up, down = (anew(model, evidence, {parameter: row["value"] + s * h})[k] for s in (1.0, -1.0))
        assert row["derivative"] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-6 * now), parameter
    # Moved by what the neighbouring bands and the shares of the parts say.
    neighbour = "age_0_17" if name == "young" else "age_65_74"
    assert table.loc[f"or:stroke:{neighbour}", "swing"] > 1e-5
    assert table.loc["population:age_85_plus", "swing"] > 0.0


def test_a_neighbouring_band_moves_a_part_and_no_whole_band_but_through_the_intercept(model):
    """Against the first band, which has no parts, nothing but the two bands on the line counts."""
    net = build_network(model.knowledge, "clinic", {"or:stroke:age_65_74": 5.0})
    k = net.causes.index("stroke")
    moved_ = (net.log_odds - model.network.log_odds)[:, 0, k]
    moved_ -= moved_[0]
    value = model.knowledge.means
    bands = [log(value.get(f"or:stroke:{band}", 1.0)) for band in BANDS]
    expected = by_hand([*bands[:3], log(5.0), bands[4]]) - by_hand(bands)
    np.testing.assert_allclose(moved_, expected, atol=1e-12)
    assert (np.abs(expected) > 1e-3).tolist() == [False, False, False, True, True, True, True, True, True]


def test_flips_and_distances_are_those_of_networks_built_anew(model):
    case = model.diagnose(**ASKED["young"])
    table = sensitivity.flips(model, case)
    assert len(table) > 3
    thresholds = {c.id: c.action_threshold for c in model.knowledge.causes.values()}
    for parameter, row in table.iterrows():
        after = pd.Series(anew(model, case.evidence, {parameter: row["needed"]}), index=model.network.causes)
        leading = row["change"] == "leading cause"
        level = after.drop(row["cause"]).max() if leading else thresholds[row["cause"]]
        assert after[row["cause"]] == pytest.approx(level, rel=1e-5), parameter
    assert {"leading cause"} <= set(table["change"])
    own, value = model.network, 4.0
    other = build_network(model.knowledge, "clinic", {"or:neuropathy:age_45_64": value})
    k = own.causes.index("neuropathy")
    ratio = []
    for net_effect in (0.0, own.context_log_odds[k, own.risk_factors.index("diabetes")]):
        before, after = (n.log_odds[..., k] + net_effect for n in (own, other))
        ratio += [np.logaddexp(0, -sign * before) - np.logaddexp(0, -sign * after) for sign in (1.0, -1.0)]
    expected = np.max(ratio) - np.min(ratio)
    assert distance(model, "or:neuropathy:age_45_64", value) == pytest.approx(expected, rel=1e-12)


def test_intervals_of_few_cases_and_of_many_are_the_same(model, monkeypatch):
    frame = pd.DataFrame({"present": ["numbness", "fatigue;tremor"], "age": [35, None], "sex": ["male", "female"]})
    few = sensitivity.intervals(model, frame, draws=100)
    monkeypatch.setattr("ddx.draws._FEW", 1)
    pd.testing.assert_frame_equal(sensitivity.intervals(model, frame, draws=100), few, rtol=1e-9, atol=1e-12)


def test_leaving_a_study_out_is_loading_files_without_it(tmp_path):
    edit = Editor(write_tiny(tmp_path / "tiny"))
    with_ratios(edit)
    with_parts(edit)
    rows = {
        "second_ratio": ("or_stroke_age_65_74", {"value": "6"}),
        "second_share": ("share_age_85_plus", {"value": "0.07"}),
    }
    for id_, (row, cells) in rows.items():
        edit.copy(S, row, id=id_, source="jones_2010", **cells)
    model = ddx.load(edit.folder, "clinic")
    frame = pd.DataFrame({"present": ["numbness;arm_weakness"], "age": [60], "sex": ["male"]}, index=["case"])
    table = sensitivity.leave_one_study_out(model, frame)
    for id_ in rows:
        assert table.loc[id_, "alone"] == 0
        edit.drop(S, id_)
        after = ddx.load(edit.folder, "clinic").score(frame)
        cause = table.loc[id_, "cause"]
        assert after.loc["case", cause] == pytest.approx(table.loc[id_, "after"], rel=1e-10)
        assert table.loc[id_, "before"] == pytest.approx(model.score(frame).loc["case", cause], rel=1e-12)
        row, cells = rows[id_]
        edit.copy(S, row, id=id_, source="jones_2010", **cells)


def test_every_setting_answers(model):
    table = sensitivity.setting_shift(model, ASKED["young"])
    for setting in SETTINGS:
        own = model.in_setting(setting).diagnose(**ASKED["young"]).posterior
        np.testing.assert_allclose(table[setting], own[table.index], rtol=1e-12)


# --- what the check says -----------------------------------------------------------------------------------------------------


def cell(file, row, column, value):
    return lambda edit: edit.cell(file, row, column, value)


def drop(file, *ids):
    return lambda edit: edit.drop(file, *ids)


def copy(file, row, **cells):
    return lambda edit: edit.copy(file, row, **cells)


ONLY = "which only has a population_share: give the whole band"
# name -> (edits of the base with parts, all problems); <id> is the line of that row.
DEFECTS = {
    "gap": (
        [cell(X, "age_30_44", "age_from", "32")],
        ["context.csv:<age_30_44>.age_from: got 32, age_30_44 must start at 30, where age_18_29 ends"],
    ),
    "overlap": (
        [cell(X, "age_55_64", "age_from", "53")],
        ["context.csv:<age_55_64>.age_from: got 53, age_55_64 must start at 55, where age_50_54 ends"],
    ),
    "late_start": (
        [cell(X, "age_18_29", "age_from", "20")],
        ["context.csv:<age_18_29>.age_from: got 20, age_18_29 must start at 18, where age_18_44 starts"],
    ),
    "early_end": (
        [cell(X, "age_85_plus", "age_to", "110")],
        ["context.csv:<age_85_plus>.age_to: got 110, age_85_plus must end at 121, where age_75_plus ends"],
    ),
    "across_two_bands": (
        [cell(X, "age_30_44", "age_to", "50")],
        ["context.csv:<age_30_44>.age_from: got 30 to 50, age_30_44 must lie inside one age band"],
    ),
    "outside_all_bands": (
        [cell(X, "age_85_plus", "age_from", "121"), cell(X, "age_85_plus", "age_to", "130")],
        [
            "context.csv:<age_85_plus>.age_from: got 121 to 130, age_85_plus must lie inside one age band",
            "context.csv:<age_75_84>.kind: age_75_84 is the only part of age_75_plus; give two or more that make up the band, "
            "or none",
        ],
    ),
    "only_one": (
        [drop(X, "age_18_29"), drop(S, "share_age_18_29"), cell(X, "age_30_44", "age_from", "18")],
        [
            "context.csv:<age_30_44>.kind: age_30_44 is the only part of age_18_44; give two or more that make up the band, "
            "or none"
        ],
    ),
    "without_width": (
        [cell(X, "age_50_54", "age_to", "50")],
        ["context.csv:<age_50_54>.age_to: got 50, age_50_54 must end after 50, where it starts"],
    ),
    "ends_swapped": (
        [cell(X, "age_30_44", "age_from", "45"), cell(X, "age_30_44", "age_to", "30")],
        ["context.csv:<age_30_44>.age_to: got 30, age_30_44 must end after 45, where it starts"],
    ),
    "without_start": (
        [cell(X, "age_50_54", "age_from", "")],
        ["context.csv:<age_50_54>.age_from: got an empty cell, age_50_54 needs both ends"],
    ),
    "without_end": (
        [cell(X, "age_85_plus", "age_to", "")],
        ["context.csv:<age_85_plus>.age_to: got an empty cell, age_85_plus needs both ends"],
    ),
    "two_bands_wrong": (
        [cell(X, "age_30_44", "age_from", "32"), cell(X, "age_85_plus", "age_from", "86")],
        [
            "context.csv:<age_30_44>.age_from: got 32, age_30_44 must start at 30, where age_18_29 ends",
            "context.csv:<age_85_plus>.age_from: got 86, age_85_plus must start at 85, where age_75_84 ends",
        ],
    ),
    "requires": (
        [cell(X, "age_30_44", "requires", "diabetes")],
        ["context.csv:<age_30_44>.requires: got 'diabetes'; only a risk factor requires another"],
    ),
    "no_share": ([drop(S, "share_age_30_44")], ["studies.csv.quantity: no population_share for age_30_44"]),
    "share_in_a_setting": (
        [copy(S, "share_age_30_44", id="clinic_30_44", setting="clinic")],
        [
            "studies.csv:<clinic_30_44>.setting: got 'clinic', age_30_44 has the same share of its age band in every setting: "
            "leave it out"
        ],
    ),
    "odds_ratio": (
        [copy(S, "or_stroke_old", id="odd", context="age_30_44")],
        [f"studies.csv:<odd>.context: got 'age_30_44', a part of an age band, {ONLY}"],
    ),
    "context_given_cause": (
        [copy(S, "link_stroke_numbness", id="odd", quantity="context_given_cause", finding="", context="age_85_plus")],
        [f"studies.csv:<odd>.context: got 'age_85_plus', a part of an age band, {ONLY}"],
    ),
    "crude_ratio": (
        [copy(S, "or_neuropathy_diabetes", id="odd", quantity="crude_ratio", context="age_75_plus", group="age_18_29")],
        [f"studies.csv:<odd>.group: got 'age_18_29', a part of an age band, {ONLY}"],
    ),
    "prevalence": (
        [copy(S, "prior_neuropathy", id="odd", group="age_30_44")],
        [f"studies.csv:<odd>.group: got 'age_30_44', a part of an age band, {ONLY}"],
    ),
    "leak": (
        [cell(S, "leak_ankle_old", "group", "age_85_plus")],
        [f"studies.csv:<leak_ankle_old>.group: got 'age_85_plus', a part of an age band, {ONLY}"],
    ),
    "frequency_of_a_risk_factor": (
        [cell(S, "freq_diabetes_old", "group", "age_85_plus;sex_male")],
        [f"studies.csv:<freq_diabetes_old>.group: got 'age_85_plus', a part of an age band, {ONLY}"],
    ),
    "half_years": (
        [cell(X, "age_75_84", "age_to", "84.5"), cell(X, "age_85_plus", "age_from", "84.5")],
        [
            "context.csv:<age_75_84>.age_to: got 84.5, parts of age bands begin and end with whole years",
            "context.csv:<age_85_plus>.age_from: got 84.5, parts of age bands begin and end with whole years",
        ],
    ),
    "frequency_of_a_part": (
        [copy(S, "freq_diabetes", id="odd", context="age_85_plus")],
        [f"studies.csv:<odd>.context: got 'age_85_plus', a part of an age band, {ONLY}"],
    ),
}


def problems_after(edit, *edits):
    with_ratios(edit)
    with_parts(edit)
    for change in edits:
        change(edit)
    return [str(p) for p in read_knowledge(edit.folder)[1]]


@pytest.mark.parametrize("name", DEFECTS)
def test_the_check_says_what_is_wrong_with_parts(edit, name):
    edits, expected = DEFECTS[name]
    found = problems_after(edit, *edits)
    lines = edit.lines()
    assert found == [re.sub(r"<(\w+)>", lambda m: str(lines[m[1]]), line) for line in expected]


def test_parts_may_stand_in_any_order_and_before_the_bands(edit):
    assert problems_after(edit) == []
    before = ddx.load(edit.folder).network
    header, *rows = (edit.folder / X).read_text().splitlines()
    parts = [row for row in rows if ",age_part," in row]
    rest = [row for row in rows if row not in parts]
    (edit.folder / X).write_text("\n".join([header, *reversed(parts), *rest]) + "\n")
    after = ddx.load(edit.folder).network
    assert after.ages == before.ages
    np.testing.assert_allclose(after.log_odds, before.log_odds, rtol=1e-13)


def test_shares_of_parts_count_by_their_ratio_alone(edit):
    assert problems_after(edit) == []
    before = ddx.load(edit.folder).network
    edit.cell(S, "share_age_18_29", "value", "0.4")
    edit.cell(S, "share_age_30_44", "value", "0.5")
    assert [str(p) for p in read_knowledge(edit.folder)[1]] == []
    np.testing.assert_allclose(ddx.load(edit.folder).network.log_odds, before.log_odds, rtol=1e-10)


# --- commands ----------------------------------------------------------------------------------------------------------------


def test_a_part_is_no_column_of_cases(model):
    message = "column 'age_30_44' is an age band or a sex; give the columns age and sex instead"
    with pytest.raises(ddx.UsageError, match=f"^{message}$"):
        model.score(pd.DataFrame({"age_30_44": [1]}))
    ignored = r"^1 cells ignored:\nage_30_44: unknown column 'age_30_44'(; nearest: [^;]*)?; ignored$"
    with pytest.warns(UserWarning, match=ignored):
        model.score(pd.DataFrame({"age_30_44": [1], "sex": "f"}), lenient=True)


def test_kb_show_of_a_band_and_of_a_part(model, capsys):
    def shown(name):
        show_item(model.knowledge, name)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    assert shown("age_18_44")[:2] == ["context     Age 18 to 44 (age_18_44)", "parts       age_18_29, age_30_44"]
    assert shown("age_65_74")[:2] == ["context     Age 65 to 74 (age_65_74)", ""]
    part = shown("age_30_44")
    assert part[:3] == [
        "context     Age 30 to 44 (age_30_44)",
        "part of     age_18_44, whose leaks and risk factors it has; odds ratios rise and fall with age as the bands do",
        "",
    ]
    assert [line.split()[0] for line in part[3:]] == ["parameter", "population:age_30_44"]
    assert shown("population:age_30_44")[0] == "population:age_30_44 = 0.2, Beta(13.7, 54.8)"


def test_kb_coverage_counts_the_shares_of_parts(model, capsys):
    show_coverage(model.knowledge)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["population", "share", "14", "0", "0", "14", "100", "%"] in rows


def test_a_difference_shows_the_shares_of_parts(whole, model):
    changes = parameter_changes(whole.knowledge, model.knowledge)
    assert changes["parameter"].tolist() == [f"population:{part}" for part in PARTS]
    assert set(changes["what"]) == {"added"}


# --- limb --------------------------------------------------------------------------------------------------------------------

WEIGHTS = [5000, 5500, 5500, 5500, 6000, 6000, 6500, 7000, 7000, 7000, 7000, 6500, 6000, 5500, 5000, 4000, 2500, 1500, 1000]


def test_the_parts_of_limb_are_the_european_standard_population(limb):
    kb = limb.knowledge
    assert sum(WEIGHTS) == 100_000
    year = np.repeat(np.array(WEIGHTS) / 5, 5)  # 90 and over in the last five
    ids = ("age_0_17", "age_18_29", "age_30_44", "age_45_54", "age_55_64", "age_65_74", "age_75_84", "age_85_plus")
    assert limb.network.ages == ids
    for stratum in kb.age_strata:
        share = year[int(stratum.age_from) : int(stratum.age_to)].sum() / 100_000
        assert kb.means[f"population:{stratum.id}"] == pytest.approx(share, rel=1e-12)
    for band in kb.age_bands:
        shares = [kb.means[f"population:{part.id}"] for part in kb.parts_of(band)]
        assert sum(shares) == pytest.approx(kb.means[f"population:{band.id}"] if shares else 0.0, rel=1e-12)


@pytest.mark.parametrize("setting", ["general", "emergency", "balanced"])
def test_bands_of_limb_keep_their_odds(limb, setting):
    """Against the first band, which is whole: mean odds of the parts over those of the band, as its odds ratio says."""
    net, value = limb.in_setting(setting).network, limb.knowledge.means
    band = np.array(limb.knowledge.band_of_stratum)
    odds = np.exp(net.log_odds[:, 0])
    for b, c in enumerate(limb.knowledge.age_bands):
        own = np.flatnonzero(band == b)
        share = np.array([value[f"population:{net.ages[i]}"] for i in own])
        mean = share @ odds[own] / share.sum() / odds[0]
        first = limb.knowledge.age_bands[0].id
        expected = [value.get(f"or:{k}:{c.id}", 1.0) / value.get(f"or:{k}:{first}", 1.0) for k in net.causes]
        np.testing.assert_allclose(mean, expected, rtol=1e-10)
