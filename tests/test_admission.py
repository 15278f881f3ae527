"""Patients of a setting that states its causes per patient: against sums over everything, and what they may not be."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import (
    SMALL_AGES,
    SMALL_CAUSES,
    SMALL_SEXES,
    SMALL_VALUES,
    SmallModel,
    assert_bits,
    layered_evidence,
    small_knowledge,
)

import ddx
from ddx.diagnosis import Model
from ddx.errors import KnowledgeError
from ddx.knowledge import load_knowledge, read_knowledge
from ddx.logistic import admitted
from ddx.network import build_network

STATED = {"clinic": 1.04, "balanced": 1.2}
LIMB_SETTINGS = ("primary_care", "emergency", "neurology_clinic", "balanced")
TOP, MIDDLE = [0, 0, 0, 1], [0, 0, 1, 0]
CASES = [
    {},
    {"fever": 1},
    {"fever": 0, "weakness": 0, "swelling": 0, "pain": [1, 0, 0, 0]},
    {"fever": 1, "weakness": 0, "swelling": 0.3},
    {"fever": 1, "age_band": "old", "sex": "male"},
    {"weakness": 1, "age_band": "young"},
    {"weakness": 1, "sex": "female"},
    {"diabetes": 1},
    {"age_band": "old", "insulin": 1},
    {"weakness": 1, "diabetes": 1, "smoking": 0},
    {"weakness": 1, "insulin": 0},
    {"weakness": 1, "insulin": 0, "diabetes": 1, "sex": "male"},
    {"swelling": 1, "diabetes": 0, "age_band": "adult"},
    {"pain": TOP},
    {"pain": [0, 0.2, 0.5, 0.3], "weakness": 1},
    {"pain": [0.4, 0.4, 0.4, 0.4], "fever": 1},
    {"pain": [1, 0, 1, 0], "fever": 1, "insulin": 0, "age_band": "old"},
    {"fever": 1, "weakness": 1, "swelling": 1, "pain": TOP, "smoking": 1, "insulin": 1, "age_band": "old", "sex": "male"},
]


def stating(kb, **causes_per_patient):
    return replace(kb, causes_per_patient=MappingProxyType(causes_per_patient))


def independent_causes(kb, setting):
    """Mean number of causes of those who have any where causes are independent."""
    net = build_network(stating(kb), setting)
    return net.prevalence.sum() / (1.0 - net.posterior(layered_evidence(net, [{}])).none[0])


def reference(kb, setting, values=None):
    """The same patients by sums over everything; whether they are those of the setting is for its numbers to show."""
    found = admitted(kb, setting)
    share = dict(zip(itertools.product(SMALL_AGES, SMALL_SEXES), found.share.ravel(), strict=True))
    return SmallModel(setting, values, none_weight=found.none_weight, scale=found.scale, share=share)


@pytest.fixture(scope="module", params=STATED)
def setting(request):
    return request.param


@pytest.fixture(scope="module")
def small():
    return stating(small_knowledge(), **STATED)


@pytest.fixture(scope="module")
def limb_kb():
    """Where silence on risk factors says nothing."""
    return replace(load_knowledge("limb"), risk_factors_reported=MappingProxyType({}))


# --- who the patients are -----------------------------------------------------------------------------------------------------


def assert_patients(kb, setting, stated, values=None, rtol=1e-10):
    worlds = list(reference(kb, setting, values).worlds())
    weight = np.array([w for *_, w in worlds]) / sum(w for *_, w in worlds)
    causes = np.array([c for *_, c, _ in worlds])
    plain = SmallModel(setting, values)
    np.testing.assert_allclose(weight @ causes, [plain.prevalence[c] for c in SMALL_CAUSES], rtol=rtol)
    for age, sex, share in plain.strata():
        there = np.array([world[:2] == (age, sex) for world in worlds])
        np.testing.assert_allclose(weight @ there, share, rtol=rtol)
    np.testing.assert_allclose(weight @ causes.sum(axis=1) / (weight @ causes.any(axis=1)), stated, rtol=rtol)


def test_patients_have_the_priors_ages_and_sexes_of_the_setting_and_as_many_causes_as_stated(small, setting):
    assert_patients(small, setting, STATED[setting])


def test_intercepts_of_people_at_large_agree_with_bisection(small, setting):
    net, expected, found = build_network(small, setting), reference(small, setting), admitted(small, setting)
    for k, cause in enumerate(net.causes):
        np.testing.assert_allclose(expected.marginal(cause), net.prevalence[k] * found.scale, rtol=1e-12)
        for (a, age), (s, sex) in itertools.product(enumerate(net.ages), enumerate(net.sexes)):
            p = expected.p_cause(cause, age, sex, dict.fromkeys(("smoking", "insulin", "diabetes"), 0))
            np.testing.assert_allclose(net.log_odds[a, s, k], np.log(p / (1.0 - p)), rtol=1e-11)


def assert_answers(net, expected, rtol):
    result = net.posterior(layered_evidence(net, CASES))
    for row, case in enumerate(CASES):
        answer = expected.answer(case)
        for name in ("marginal", "none", "log_evidence", "context"):
            got, right = getattr(result, name)[row], getattr(answer, name)
            np.testing.assert_allclose(got, right, rtol=rtol, atol=1e-13, err_msg=f"{name} {case}")


def test_every_case_agrees_with_a_sum_over_everything(small, setting):
    net, expected = build_network(small, setting), reference(small, setting)
    assert_answers(net, expected, rtol=1e-11)


OTHERS = [
    {"prior:flu@clinic": 0.3, "prior:flu": 0.05},
    {"or:palsy:old": 9.0, "or:gout:smoking": 0.1},
    {"context:diabetes@old@clinic": 0.6, "context:smoking": 0.4},
    {"population:old": 0.5, "population:female": 0.3, "population:male": 0.7},
    {"population:young": 0.01, "or:flu:young": 4.0, "prior:gout": 0.2, "leak:fever": 0.2, "link:flu:fever": 0.6},
]


@pytest.mark.parametrize("values", OTHERS, ids=lambda values: next(iter(values)))
def test_other_values_of_parameters_leave_who_comes_as_it_is(small, setting, values):
    """The weight and the scale are those at the means; shares at large move by the factor by which those of patients do."""
    found = admitted(small, setting)
    before, after = ({(age, sex): weight for age, sex, weight in SmallModel(setting, own).strata()} for own in ({}, values))
    at_large = dict(zip(itertools.product(SMALL_AGES, SMALL_SEXES), found.share.ravel(), strict=True))
    moved = {stratum: share * after[stratum] / before[stratum] for stratum, share in at_large.items()}
    share = {stratum: x / sum(moved.values()) for stratum, x in moved.items()}
    expected = SmallModel(setting, values, none_weight=found.none_weight, scale=found.scale, share=share)
    net = build_network(small, setting, values)
    assert_answers(net, expected, rtol=1e-10)


@pytest.mark.parametrize("known", [{}, {"sex": "female"}, {"age_band": "old", "insulin": 0}, {"diabetes": 1}])
def test_probabilities_of_all_findings_add_up_to_one(small, setting, known):
    net = build_network(small, setting)
    cases = [
        known | {"fever": f, "weakness": w, "swelling": s, "pain": pain}
        for f, w, s in itertools.product((0, 1), repeat=3)
        for pain in np.eye(4)
    ]
    result = net.posterior(layered_evidence(net, cases))
    probability = np.exp(result.log_evidence)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    before = net.posterior(layered_evidence(net, [known]))
    np.testing.assert_allclose(before.log_evidence, 0.0, atol=1e-13)
    for name in ("marginal", "context"):
        np.testing.assert_allclose(probability @ getattr(result, name), getattr(before, name)[0], rtol=1e-12)
    np.testing.assert_allclose(probability @ result.none, before.none[0], rtol=1e-12)


def test_in_a_stratum_causes_are_independent_but_for_those_without_any(small, setting):
    """Given age, sex and risk factors, the odds of two causes multiply where a third is present, and with none weighed."""
    expected = reference(small, setting)
    for age, sex in itertools.product(SMALL_AGES, SMALL_SEXES):
        known = age, sex, {"smoking": 1, "insulin": 0, "diabetes": 1}
        of = {c: weight for a, s, x, c, weight in expected.worlds() if (a, s, x) == known}
        assert of[1, 1, 1] * of[1, 0, 0] == pytest.approx(of[1, 1, 0] * of[1, 0, 1], rel=1e-12)
        none = of[0, 0, 0] / expected.none_weight
        assert of[1, 1, 0] * none == pytest.approx(of[1, 0, 0] * of[0, 1, 0], rel=1e-12)
    assert expected.none_weight < 0.9


def test_without_the_number_nothing_changes_and_in_general_nothing_either(small, setting):
    evidence = layered_evidence(build_network(small, "general"), CASES)
    plain = small_knowledge()
    assert_bits(build_network(small, "general").posterior(evidence), build_network(plain, "general").posterior(evidence))
    other = stating(plain, **{name: x for name, x in STATED.items() if name != setting})
    assert_bits(build_network(other, setting).posterior(evidence), build_network(plain, setting).posterior(evidence))
    assert admitted(other, setting) is None
    assert build_network(other, setting).none_weight == 1.0


@pytest.mark.parametrize("short", [0.0, 1e-9, 1e-6])
def test_as_many_causes_as_independent_ones_make_weigh_nothing(setting, short):
    plain = small_knowledge()
    kb = stating(plain, **{setting: independent_causes(plain, setting) * (1.0 - short)})
    net, before = build_network(kb, setting), build_network(plain, setting)
    assert net.none_weight == pytest.approx(1.0, abs=30.0 * short + 1e-12)
    np.testing.assert_allclose(net.log_odds, before.log_odds, atol=30.0 * short + 1e-11)
    evidence = layered_evidence(net, CASES)
    np.testing.assert_allclose(net.posterior(evidence).marginal, before.posterior(evidence).marginal, rtol=30.0 * short + 1e-10)


@pytest.mark.parametrize("part", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0 - 1e-6])
def test_any_number_between_the_fewest_and_the_most_is_met(setting, part):
    plain = small_knowledge()
    stated = 1.0 + part * (independent_causes(plain, setting) - 1.0)
    assert_patients(stating(plain, **{setting: stated}), setting, stated)


EXTREME = {
    "frequent": {f"prior:{c}@clinic": p for c, p in zip(SMALL_CAUSES, (0.9, 0.5, 0.97), strict=True)},
    "rare": {f"prior:{c}@clinic": p for c, p in zip(SMALL_CAUSES, (1e-6, 1e-5, 1e-7), strict=True)},
    "one_is_most": {"prior:flu@clinic": 0.99, "prior:palsy@clinic": 1e-4, "prior:gout": 1e-5},
    "ages": {"or:flu:young": 50.0, "or:flu:old": 0.02, "or:palsy:old": 100.0, "or:gout:old": 1e-3},
    "nobody": {"population:young@clinic": 1e-12, "population:adult@clinic": 0.5, "population:old@clinic": 0.5},
    "nearly_everybody": {"population:young@clinic": 1.0 - 2e-9, "population:adult@clinic": 1e-9, "population:old@clinic": 1e-9},
}


@pytest.mark.parametrize("part", [0.03, 0.3, 0.9])
@pytest.mark.parametrize("name", EXTREME)
def test_extreme_priors_and_ages(name, part):
    plain = small_knowledge(EXTREME[name])
    most, total = independent_causes(plain, "clinic"), build_network(plain, "clinic").prevalence.sum()
    stated = max(1.0, total) + part * (most - max(1.0, total))
    kb = stating(plain, clinic=stated)
    net = build_network(kb, "clinic")
    result = net.posterior(layered_evidence(net, [{}, *({"age_band": age} for age in SMALL_AGES)]))
    np.testing.assert_allclose(result.marginal[0], net.prevalence, rtol=1e-8)
    np.testing.assert_allclose(net.prevalence.sum() / (1.0 - result.none[0]), stated, rtol=1e-8)
    assert np.isfinite(result.marginal).all()
    assert 0.0 < net.none_weight <= 1.0


@pytest.mark.parametrize("setting", LIMB_SETTINGS)
def test_patients_of_limb(limb_kb, setting):
    net, plain = build_network(limb_kb, setting), build_network(stating(limb_kb), setting)
    assert 0.0 < net.none_weight < 0.5
    empty = net.posterior(layered_evidence(net, [{}]))
    np.testing.assert_allclose(empty.marginal[0], net.prevalence, rtol=1e-11)
    np.testing.assert_allclose(net.prevalence, plain.prevalence, rtol=0.0)
    stated = limb_kb.causes_per_patient[setting]
    assert net.prevalence.sum() / (1.0 - empty.none[0]) == pytest.approx(stated, rel=1e-11)
    # P(age, sex | patient), from how many of every stratum come.
    strata = [{"age_band": a, "sex": s} for a in net.ages for s in net.sexes]
    of_stratum = net.posterior(layered_evidence(net, strata))
    with_any = 1.0 - of_stratum.none
    at_large = with_any * net.none_weight / (of_stratum.none + with_any * net.none_weight)  # P(any) before the weight
    coming = net.share.ravel() * (at_large + (1.0 - at_large) * net.none_weight)
    np.testing.assert_allclose(coming / coming.sum(), plain.share.ravel(), rtol=1e-9)


@pytest.mark.parametrize("setting", LIMB_SETTINGS)
def test_two_causes_together_are_rarer_than_independent_ones(limb_kb, setting):
    """P(both) from the chain rule over a model in which a finding says for certain that one of them is there."""
    net = build_network(limb_kb, setting)
    first, second = net.causes.index("carpal_tunnel_syndrome"), net.causes.index("essential_tremor")
    pairs = []
    for one in (net, build_network(stating(limb_kb), setting)):
        link, leak, behind = one.link.copy(), one.leak.copy(), one.finding_syndrome.copy()
        link[0], leak[:, 0], behind[0] = 0.0, 0.0, 0.0
        link[0, one.in_columns(np.arange(len(one.causes)) == first, 0)] = 1.0  # whatever its form
        marked = replace(one, link=link, leak=leak, finding_syndrome=behind)
        result = marked.posterior(layered_evidence(marked, [{one.findings[0]: 1}]))
        assert result.marginal[0, first] == pytest.approx(1.0)
        assert np.exp(result.log_evidence[0]) == pytest.approx(one.prevalence[first], rel=1e-9)
        pairs.append(result.marginal[0, second])
    assert pairs[0] < 0.8 * pairs[1]
    assert pairs[0] < net.prevalence[second]


@settings(max_examples=40)
@given(st.data())
def test_people_at_large_are_found_for_any_priors_odds_ratios_and_ages(data):
    """Or said not to be: never others than those that were asked for."""
    draw = data.draw
    values = {}
    for name in SMALL_VALUES:
        if name.startswith("or:"):
            values[name] = float(np.exp(draw(st.floats(-4.0, 4.0))))
        elif name.startswith("prior:"):
            values[name] = draw(st.one_of(st.floats(1e-4, 0.9), st.sampled_from([1e-9, 0.99])))
        elif name.startswith("context:"):
            values[name] = draw(st.floats(0.01, 0.9))
        elif name in ("population:young", "population:adult", "population:old"):
            values[name] = draw(st.one_of(st.floats(0.01, 1.0), st.sampled_from([1e-12, 1e-4])))
    plain, where = small_knowledge(values), draw(st.sampled_from(list(STATED)))
    total, most = build_network(plain, where).prevalence.sum(), independent_causes(plain, where)
    fewest = max(1.0, total)
    assume(most > fewest + 1e-4)
    stated = fewest + draw(st.floats(0.01, 0.99)) * (most - fewest)
    try:
        net = build_network(stating(plain, **{where: stated}), where)
    except KnowledgeError as error:
        assert "no people at large were found" in str(error)  # noqa: PT017
        assert max(values["prior:flu@clinic"], *(abs(np.log(values[f"or:{c}:old"])) / 4.0 for c in SMALL_CAUSES)) > 0.5
        return
    result = net.posterior(layered_evidence(net, [{}]))
    np.testing.assert_allclose(result.marginal[0], net.prevalence, rtol=1e-6)
    np.testing.assert_allclose(total / (1.0 - result.none[0]), stated, rtol=1e-6)


# --- what is refused ------------------------------------------------------------------------------------------------------


def problems_with(folder, table):
    kb = folder / "kb.toml"
    kb.write_text(kb.read_text(encoding="utf-8") + table, encoding="utf-8")
    return [str(p) for p in read_knowledge(folder)[1]]


NUMBER = "expected a number above 1: causes of a patient who has any, mean"
WRONG = {
    "clinics = 1.2": "clinics: unknown setting; nearest: clinic; allowed: balanced, clinic",
    "zzz = 1.2": "zzz: unknown setting; allowed: balanced, clinic",
    "general = 1.2": "general: is all people, not patients; allowed: balanced, clinic",
    "clinic = 1": f"clinic: got 1, {NUMBER}",
    "clinic = 1.0": f"clinic: got 1.0, {NUMBER}",
    "clinic = -1.2": f"clinic: got -1.2, {NUMBER}",
    "clinic = '1.2'": f"clinic: got '1.2', {NUMBER}",
    "clinic = true": f"clinic: got True, {NUMBER}",
    "clinic = nan": f"clinic: got nan, {NUMBER}",
    "clinic = inf": f"clinic: got inf, {NUMBER}",
    "clinic = [1.2]": f"clinic: got [1.2], {NUMBER}",
    "clinic = { mean = 1.2 }": f"clinic: got {{'mean': 1.2}}, {NUMBER}",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_number_is_reported_in_exact_words(line, tiny_kb):
    assert problems_with(tiny_kb, f"\n[causes_per_patient]\n{line}\n") == [f"kb.toml.causes_per_patient.{WRONG[line]}"]


def test_all_wrong_numbers_are_reported(tiny_kb):
    found = problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 0.5\nbalanced = 'two'\n")
    assert found == [
        f"kb.toml.causes_per_patient.clinic: got 0.5, {NUMBER}",
        f"kb.toml.causes_per_patient.balanced: got 'two', {NUMBER}",
    ]


def test_what_is_no_table_is_refused_and_a_near_name_is_unknown(edit):
    edit.text("kb.toml", "schema_version = 1", "schema_version = 1\ncauses_per_patient = 1.2")
    assert [str(p) for p in read_knowledge(edit.folder)[1]] == ["kb.toml.causes_per_patient: got 1.2, expected a table"]
    edit.text("kb.toml", "causes_per_patient = 1.2", "")
    (edit.folder / "kb.toml").write_text((edit.folder / "kb.toml").read_text() + "\n[cause_per_patient]\nclinic = 1.2\n")
    with pytest.raises(KnowledgeError, match=re.escape("kb.toml.cause_per_patient: unknown key; nearest: causes_per_patient")):
        ddx.load(edit.folder)


def test_a_base_without_the_table_has_none_and_one_with_an_empty_table_is_the_same(tiny_kb):
    plain = ddx.load(tiny_kb, "clinic")
    assert plain.knowledge.causes_per_patient == {}
    assert plain.network.none_weight == 1.0
    assert problems_with(tiny_kb, "\n[causes_per_patient]\n") == []
    assert_bits(ddx.load(tiny_kb, "clinic").diagnose(present=["tremor"]).result, plain.diagnose(present=["tremor"]).result)


SUM = "which the priors add up to, and at most"


@pytest.mark.parametrize(
    ("setting", "stated", "bounds"),
    [
        ("clinic", "1.9", f"above 0.552, {SUM} 1.193, as many as independent causes make"),
        ("balanced", "2", f"above 1, {SUM} 1.499, as many as independent causes make"),
    ],
)
def test_numbers_that_the_priors_exclude_are_refused_when_the_network_is_built(tiny_kb, setting, stated, bounds):
    assert problems_with(tiny_kb, f"\n[causes_per_patient]\n{setting} = {stated}\n") == []
    with pytest.raises(KnowledgeError) as error:
        _ = ddx.load(tiny_kb, setting).network
    assert str(error.value) == (
        f"knowledge base tiny: 1 problem\nkb.toml.causes_per_patient.{setting}: got {stated}, expected a number {bounds}"
    )
    assert ddx.load(tiny_kb, "general").diagnose(present=["tremor"]).posterior.notna().all()


def test_a_number_that_rounding_leaves_nothing_of_is_refused(tiny_kb):
    assert problems_with(tiny_kb, "\n[causes_per_patient]\nbalanced = 1.0000000000000002\n") == []
    with pytest.raises(KnowledgeError) as error:
        _ = ddx.load(tiny_kb, "balanced").network
    assert str(error.value.problems[0]) == (
        "kb.toml.causes_per_patient.balanced: got 1: no people at large were found among whom patients have so many, though "
        "there may be some; state another number"
    )


def test_priors_that_alone_make_more_causes_are_said_to(tiny_kb, edit):
    for cause, share in (("stroke", "0.8"), ("neuropathy", "0.7")):
        edit.cell("studies.csv", f"clinic_{cause}", "value", share)
    assert problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 1.3\n") == []
    with pytest.raises(KnowledgeError) as error:
        _ = ddx.load(tiny_kb, "clinic").network
    assert str(error.value.problems[0]) == "kb.toml.causes_per_patient.clinic: got 1.3, expected a number above 1.552, " + (
        f"{SUM} 1.649, as many as independent causes make"
    )
    (tiny_kb / "kb.toml").write_text((tiny_kb / "kb.toml").read_text().replace("clinic = 1.3", "clinic = 1.57"))
    model = ddx.load(tiny_kb, "clinic")
    assert model.diagnose().none_of_these == pytest.approx(1.0 - model.network.prevalence.sum() / 1.57, rel=1e-9)


@pytest.mark.parametrize("setting", LIMB_SETTINGS)
def test_the_bounds_that_are_named_are_kept_by_what_is_written(limb_kb, setting):
    """What was rounded is inside: who takes the number of the message is not refused again."""
    with pytest.raises(KnowledgeError) as error:
        build_network(stating(limb_kb, **{setting: 9.0}), setting)
    low, high = (float(x) for x in re.findall(r"(?:above|at most) (\d+\.?\d*)", str(error.value)))
    total, most = build_network(stating(limb_kb), setting).prevalence.sum(), independent_causes(limb_kb, setting)
    assert 0.0 <= low - total < 0.001 + 1e-12
    assert 0.0 <= most - high < 0.001 + 1e-12
    assert build_network(stating(limb_kb, **{setting: high}), setting).none_weight > 0.98


def test_one_cause_alone_leaves_no_number():
    """Who has it has one: no number above 1 can be."""
    plain = small_knowledge({"prior:palsy@clinic": 1e-12, "prior:gout": 1e-12})
    with pytest.raises(KnowledgeError, match=r"at most 1, as many as independent causes make$"):
        build_network(stating(plain, clinic=1.1), "clinic")


# --- models ------------------------------------------------------------------------------------------------------------------


def test_a_pickled_model_gives_the_same(tiny_kb):
    problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 1.1\n")
    model = ddx.load(tiny_kb, "clinic")
    assert model.network.none_weight < 0.9
    again = pickle.loads(pickle.dumps(model))
    assert again.knowledge.causes_per_patient == {"clinic": 1.1}
    assert again.network.none_weight == model.network.none_weight
    case = {"present": ["tremor"], "absent": ["fatigue"], "age": 70}
    assert_bits(again.diagnose(**case).result, model.diagnose(**case).result)


def test_the_number_is_part_of_the_digest(tiny_kb):
    before = ddx.load(tiny_kb).knowledge.digest
    problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 1.1\n")
    assert ddx.load(tiny_kb).knowledge.digest != before


def test_a_copy_of_limb_with_a_number_too_large(tmp_path, limb_kb):
    folder = tmp_path / "copy"
    shutil.copytree(limb_kb.folder, folder)
    kb = folder / "kb.toml"
    kb.write_text(kb.read_text(encoding="utf-8").replace("emergency = 1.21", "emergency = 1.5"), encoding="utf-8")
    with pytest.raises(KnowledgeError) as error:
        _ = ddx.load(folder, "emergency").network
    assert str(error.value.problems[0]) == (
        f"kb.toml.causes_per_patient.emergency: got 1.5, expected a number above 0.604, {SUM} 1.367, as many as independent "
        "causes make"
    )


def test_the_prior_of_a_diagnosis_is_that_of_the_patients(small, setting):
    model = Model(small, setting)
    found = model.diagnose(present=["fever"], age=70, context={"diabetes": True})
    expected = reference(small, setting).answer({"age_band": "old", "diabetes": 1}).marginal
    np.testing.assert_allclose(found.prior[list(SMALL_CAUSES)], expected, rtol=1e-11)


# --- the command line ----------------------------------------------------------------------------------------------------


def run(*arguments):
    """Exit code, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "ddx", *map(str, arguments)], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.returncode, done.stdout, done.stderr


def test_kb_check_reports_numbers_that_the_priors_exclude_in_all_settings(tiny_kb):
    problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 1.9\nbalanced = 2\n")
    code, out, err = run("kb", "check", tiny_kb)
    assert (code, out) == (2, "")
    why = "as many as independent causes make"
    assert err.splitlines()[1:] == [
        f"kb.toml.causes_per_patient.clinic: got 1.9, expected a number above 0.552, {SUM} 1.193, {why}",
        f"kb.toml.causes_per_patient.balanced: got 2, expected a number above 1, {SUM} 1.499, {why}",
    ]
    code, _, err = run("diagnose", "--kb", tiny_kb, "--setting", "clinic", "--present", "tremor")
    assert code == 2
    assert "kb.toml.causes_per_patient.clinic: got 1.9, expected" in err
    assert "Traceback" not in err
    assert run("kb", "check", "limb")[0] == 0


def test_commands_on_a_base_that_states_its_causes_per_patient(tiny_kb, tmp_path):
    other = shutil.copytree(tiny_kb, tmp_path / "other")
    problems_with(tiny_kb, "\n[causes_per_patient]\nclinic = 1.08\n")
    problems_with(other, "\n[causes_per_patient]\nbalanced = 1.2\nclinic = 1.1\n")
    assert run("kb", "check", tiny_kb)[0] == 0
    base = ("--kb", tiny_kb, "--setting", "clinic")
    code, out, _ = run("diagnose", *base, "--present", "tremor", "--json")
    assert code == 0
    model = ddx.load(tiny_kb, "clinic")
    found = model.diagnose(present=["tremor"])
    for cause in json.loads(out)["causes"]:
        assert cause["posterior"] == found.posterior[cause["id"]]
        assert cause["prior"] == pytest.approx(model.network.prevalence[model.network.causes.index(cause["id"])], rel=1e-12)
    cases = tmp_path / "cases.csv"
    assert run("simulate", *base, "-n", 30, "-o", cases)[0] == 0
    code, out, _ = run("evaluate", *base, cases, "--resamples", 0, "--json")
    assert code == 0
    assert json.loads(out)["overall"]
    code, out, _ = run("sensitivity", *base, "--present", "tremor")
    assert code == 0
    assert "prior:stroke@clinic" in out
    code, out, _ = run("kb", "diff", tiny_kb, other, "--setting", "clinic", "--cases", cases, "--json")
    assert code in (0, 1)
    document = json.loads(out)
    assert document["causes_per_patient"] == {"clinic": {"old": 1.08, "new": 1.1}, "balanced": {"old": None, "new": 1.2}}
    assert document["posteriors"]
    out = run("kb", "diff", tiny_kb, other, "--setting", "clinic", "--cases", cases)[1]
    assert "causes per patient, clinic: 1.08 -> 1.1" in out
    assert "causes per patient, balanced: not stated -> 1.2" in out
