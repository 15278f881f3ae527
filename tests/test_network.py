"""From a knowledge base to arrays and from evidence to posteriors: against sums over everything, in plain Python."""

import itertools
import pickle
import re
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from conftest import Editor, write_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    SMALL_AGES,
    SMALL_CAUSES,
    SMALL_FACTORS,
    SMALL_LEVELS,
    SMALL_SEXES,
    SmallModel,
    assert_bits,
    layered_evidence,
    small_knowledge,
    sub_network,
)

import ddx
from ddx import network
from ddx.cases import encode, from_frame
from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.inference import EvidenceTooLarge
from ddx.knowledge.graded import MIN_NONE, continuation, distribution
from ddx.logistic import admitted
from ddx.network import build_network, without_findings
from ddx.validation import simulate

SETTINGS = ("general", "clinic", "balanced")
LIMB_SETTINGS = ("general", "primary_care", "emergency", "neurology_clinic", "balanced")
ARRAYS = ("marginal", "none", "log_evidence", "context")


@pytest.fixture(scope="module")
def limb():
    return ddx.load("limb").knowledge


@pytest.fixture(scope="module")
def small():
    return build_network(small_knowledge(), "general")


def assert_answer(result, answer, row=0, rtol=1e-11):
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(result, name)[row], getattr(answer, name), rtol=rtol, atol=1e-14, err_msg=name)


# --- intercepts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", LIMB_SETTINGS)
def test_without_evidence_every_cause_has_the_prevalence_of_the_setting(limb, setting):
    net = replace(build_network(limb, setting), unstated=1.0)  # that nothing is said of risk factors says nothing
    result = net.posterior(layered_evidence(net, [{}]))
    np.testing.assert_allclose(result.marginal[0], net.prevalence, rtol=1e-12)
    np.testing.assert_allclose(result.log_evidence, 0.0, atol=1e-12)


def test_a_pickled_network_gives_the_same(limb):
    net = build_network(limb, "balanced")
    case = layered_evidence(net, [{"ptosis": 1, "weakness_side": np.array([0.0, 1.0, 0.0])}])
    assert_bits(pickle.loads(pickle.dumps(net)).posterior(case), net.posterior(case))


@pytest.mark.parametrize("setting", LIMB_SETTINGS)
def test_the_prevalence_is_the_parameter_of_the_knowledge_base(limb, setting):
    net = build_network(limb, setting)
    for cause, prevalence in zip(net.causes, net.prevalence, strict=True):
        parameter = limb.parameters.get(f"prior:{cause}@{setting}", limb.parameters[f"prior:{cause}"])
        assert prevalence == (1.0 / len(net.causes) if setting == "balanced" else parameter.value)


@pytest.mark.parametrize("cause", ["carpal_tunnel_syndrome", "hypoglycaemia", "stroke", "essential_tremor"])
@pytest.mark.parametrize("setting", ["general", "emergency"])
def test_the_prevalence_by_explicit_sum_over_strata_and_risk_factors(limb, cause, setting):
    net = build_network(limb, setting)
    k = net.causes.index(cause)
    used = sorted(set(np.flatnonzero(net.context_log_odds[k])) | {int(r) for r in net.requires if r >= 0})
    total = 0.0
    for a, s in itertools.product(range(len(net.ages)), range(2)):
        for bits in itertools.product((0, 1), repeat=len(used)):
            x = dict(zip(used, bits, strict=True))
            weight = net.share[a, s]
            for j in used:
                p = net.context_prior[a, s, j] if net.requires[j] < 0 or x[int(net.requires[j])] else 0.0
                weight *= p if x[j] else 1.0 - p
            log_odds = net.log_odds[a, s, k] + sum(net.context_log_odds[k, j] for j in used if x[j])
            total += weight / (1.0 + np.exp(-log_odds))
    patients = admitted(limb, setting)
    np.testing.assert_allclose(total, net.prevalence[k] * (patients.scale if patients else 1.0), rtol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_intercepts_agree_with_bisection(setting):
    net, reference = build_network(small_knowledge(), setting), SmallModel(setting)
    for k, cause in enumerate(net.causes):
        np.testing.assert_allclose(reference.marginal(cause), net.prevalence[k], rtol=1e-12)
        for (a, age), (s, sex) in itertools.product(enumerate(net.ages), enumerate(net.sexes)):
            p = reference.p_cause(cause, age, sex, dict.fromkeys(SMALL_FACTORS, 0))
            np.testing.assert_allclose(net.log_odds[a, s, k], np.log(p / (1.0 - p)), rtol=1e-11)


@pytest.mark.parametrize("prevalence", [1e-9, 1e-4, 0.5, 0.97])
@pytest.mark.parametrize("ratio", [1e-3, 1.0, 500.0])
def test_extreme_prevalences_and_odds_ratios_are_met(prevalence, ratio):
    values = {"prior:flu": prevalence, "or:flu:smoking": ratio, "or:flu:old": 1.0 / ratio, "or:flu:diabetes": ratio}
    net = build_network(small_knowledge(values), "general")
    np.testing.assert_allclose(net.posterior(layered_evidence(net, [{}])).marginal[0, 0], prevalence, rtol=1e-12)


# --- whole cases against plain sums -------------------------------------------------------------------------------------------

LOWEST, MIDDLE, TOP, NO_PAIN = [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]
CASES = [
    {},
    {"fever": 1},
    {"fever": 1, "weakness": 0, "swelling": 0.3},
    {"fever": 1, "age_band": "old", "sex": "male"},
    {"weakness": 1, "age_band": "young"},
    {"weakness": 1, "sex": "female"},
    {"weakness": 1, "diabetes": 1, "smoking": 0},
    {"weakness": 1, "insulin": 1},
    {"weakness": 1, "insulin": 0},
    {"weakness": 1, "insulin": 0, "diabetes": 1, "sex": "male"},
    {"swelling": 1, "diabetes": 0, "age_band": "adult"},
    {"pain": TOP},
    {"pain": MIDDLE},
    {"pain": LOWEST},
    {"pain": NO_PAIN},
    {"pain": TOP, "age_band": "old", "sex": "female", "weakness": 1},
    {"pain": MIDDLE, "fever": 0.9, "diabetes": 1},
    {"pain": [0, 0.2, 0.5, 0.3], "weakness": 1},
    {"pain": [1, 1, 1, 0], "swelling": 1},
    {"pain": [0, 1, 1, 1], "swelling": 0},
    {"pain": [0.5, 0.5, 0.5, 0.2], "age_band": "old"},
    {"pain": [0.4, 0.4, 0.4, 0.4], "fever": 1},
    {"pain": [1, 0, 1, 0], "fever": 1, "insulin": 0, "age_band": "old"},
    {"fever": 1, "weakness": 1, "swelling": 1, "pain": TOP, "smoking": 1, "insulin": 1, "age_band": "old", "sex": "male"},
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_case_agrees_with_a_sum_over_everything(setting):
    net, reference = build_network(small_knowledge(), setting), SmallModel(setting)
    result = net.posterior(layered_evidence(net, CASES))
    for row, case in enumerate(CASES):
        assert_answer(result, reference.answer(case), row)


@pytest.mark.parametrize("case", CASES)
def test_a_case_does_not_depend_on_its_company(small, case):
    together = small.posterior(layered_evidence(small, [*CASES, case]))
    alone = small.posterior(layered_evidence(small, [case]))
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(together, name)[-1], getattr(alone, name)[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "case",
    [
        {"weakness": 1, "insulin": 0, "smoking": 0},
        {"weakness": 1, "insulin": 1, "smoking": 0},
        {"weakness": 1, "insulin": 1, "smoking": 1},
        {"weakness": 1, "insulin": 0, "smoking": 1, "diabetes": 1},
        {"weakness": 1, "insulin": 0, "smoking": 0, "diabetes": 0},
        {"weakness": 1, "insulin": 0, "smoking": 0, "sex": "female"},
    ],
)
def test_two_risk_factors_that_require_the_same_one(case):
    requires = {"insulin": "diabetes", "smoking": "diabetes"}
    values = {"context:diabetes": 0.3, "context:smoking@young": 0.6}
    net = build_network(small_knowledge(values, requires), "general")
    result = net.posterior(layered_evidence(net, [case]))
    assert_answer(result, SmallModel("general", values, requires).answer(case))


@pytest.mark.parametrize(("age", "sex"), [(None, None), ("old", None), (None, "male"), ("young", "female")])
@pytest.mark.parametrize("context", [{}, {"diabetes": 1}, {"insulin": 0}])
def test_log_evidence_is_the_probability_of_the_findings_given_the_context(small, age, sex, context):
    known = context | ({"age_band": age} if age else {}) | ({"sex": sex} if sex else {})
    cases = [
        known | {"fever": f, "weakness": w, "swelling": s, "pain": pain}
        for f, w, s in itertools.product((0, 1), repeat=3)
        for pain in np.eye(4)
    ]
    result = small.posterior(layered_evidence(small, cases))
    probability = np.exp(result.log_evidence)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    before = small.posterior(layered_evidence(small, [known]))
    np.testing.assert_allclose(before.log_evidence, 0.0, atol=1e-13)
    np.testing.assert_allclose(probability @ result.marginal, before.marginal[0], rtol=1e-12)
    np.testing.assert_allclose(probability @ result.none, before.none[0], rtol=1e-12)


# --- unknown age and sex ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [{}, {"sex": "female"}, {"age_band": "old"}])
@pytest.mark.parametrize("context", [{}, {"diabetes": 1, "smoking": 0}, {"insulin": 0}])
def test_unknown_age_and_sex_average_over_the_strata(small, known, context):
    evidence = {"weakness": 1, "swelling": 0, "pain": MIDDLE} | context
    strata = [
        (a, s) for a, s in itertools.product(SMALL_AGES, SMALL_SEXES)
        if known.get("age_band", a) == a and known.get("sex", s) == s
    ]  # fmt: skip
    parts = small.posterior(layered_evidence(small, [evidence | {"age_band": a, "sex": s} for a, s in strata]))
    reference = SmallModel("general")
    prior = np.array([
        small.share[SMALL_AGES.index(a), SMALL_SEXES.index(s)]
        * sum(p for x, p in reference.contexts(a, s) if all(x[factor] == v for factor, v in context.items()))
        for a, s in strata
    ])  # fmt: skip
    joint = prior * np.exp(parts.log_evidence)
    mixed = small.posterior(layered_evidence(small, [evidence | known]))
    np.testing.assert_allclose(mixed.marginal[0], joint @ parts.marginal / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.none[0], joint @ parts.none / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.context[0], joint @ parts.context / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.log_evidence[0], np.log(joint.sum() / prior.sum()), rtol=1e-12)


def test_unknown_age_and_sex_average_over_the_strata_of_limb(limb):
    net = build_network(limb, "primary_care")
    evidence = {"hand_numbness": 1, "tremor_unspecified": 0, "absent_ankle_jerk": 0.7, "onset": [0, 1, 0, 0]}
    strata = list(itertools.product(net.ages, net.sexes))
    parts = net.posterior(layered_evidence(net, [evidence | {"age_band": a, "sex": s} for a, s in strata]))
    # Patients have the ages and sexes of the setting, as people at large would where causes are independent.
    share = build_network(replace(limb, causes_per_patient=MappingProxyType({})), "primary_care").share
    joint = share.ravel() * np.exp(parts.log_evidence)
    mixed = net.posterior(layered_evidence(net, [evidence]))
    np.testing.assert_allclose(mixed.marginal[0], joint @ parts.marginal / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.context[0], joint @ parts.context / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(mixed.log_evidence[0], np.log(joint.sum()), rtol=1e-12)


@pytest.mark.parametrize("strata", [1, 7, 25, 1000])
def test_how_many_strata_are_solved_at_a_time_does_not_change_a_bit(limb, strata, monkeypatch):
    net = build_network(limb, "primary_care")
    some = [
        {"hand_numbness": 1},
        {"tremor_unspecified": 0.3, "onset": [0, 1, 0, 0]},
        {"fever": 0, "sex": "sex_male"},
        {"age_band": "age_30_44"},
    ]
    evidence = layered_evidence(net, [row | known for row in some for known in ({}, {"sex": "sex_female"}, {"diabetes": 1})])
    expected = net.posterior(evidence)
    monkeypatch.setattr(network, "_PARTS", strata)
    assert_bits(net.posterior(evidence), expected)


# --- graded findings ----------------------------------------------------------------------------------------------------------


def level_likelihood(present=(), absent=(), uncertain=()):
    """What statements about levels say, by definition: present is this level, absent any other, uncertain v against 1 - v."""
    likelihood = np.ones(4)
    for i, level in enumerate(SMALL_LEVELS, 1):
        this = np.arange(4) == i
        if level in present:
            likelihood *= this
        if level in absent:
            likelihood *= ~this
        if level in dict(uncertain):
            likelihood *= np.where(this, dict(uncertain)[level], 1.0 - dict(uncertain)[level])
    return likelihood


STATEMENTS = [
    {"present": ["severe"]},
    {"present": ["medium"]},
    {"present": ["mild"]},
    {"absent": ["severe"]},
    {"absent": ["medium"]},
    {"absent": ["mild"]},
    {"absent": ["mild", "severe"]},
    {"absent": ["mild", "medium", "severe"]},
    {"uncertain": {"severe": 0.9}},
    {"uncertain": {"medium": 0.2}},
    {"uncertain": {"mild": 0.75}},
    {"uncertain": {"mild": 0.3, "severe": 0.6}},
    {"uncertain": {"mild": 0.3, "medium": 0.5, "severe": 0.6}},
    {"present": ["medium"], "absent": ["severe"]},
    {"present": ["medium"], "absent": ["mild", "severe"]},
    {"present": ["mild"], "uncertain": {"severe": 0.4}},
    {"absent": ["mild"], "uncertain": {"severe": 0.4}},
]


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("rest", [{}, {"fever": 1, "weakness": 0}])
def test_statements_about_levels_are_those_of_a_noisy_max(statement, rest):
    model = Model(small_knowledge(), "clinic")
    present = [*statement.get("present", []), *(f for f, v in rest.items() if v)]
    absent = [*statement.get("absent", []), *(f for f, v in rest.items() if not v)]
    dx = model.diagnose(
        present=present, absent=absent, uncertain=statement.get("uncertain"), age=70, context={"diabetes": True}
    )
    case = rest | {"pain": level_likelihood(**statement), "age_band": "old", "diabetes": 1}
    assert_answer(dx.result, SmallModel("clinic").answer(case))


def test_the_levels_of_one_cause_are_the_levels_of_its_studies():
    """With one cause certain, the others impossible and nothing else known, every level has the probability of its studies."""
    net = sub_network(build_network(small_knowledge(), "general"), ["palsy"])
    certain = replace(net, log_odds=np.full_like(net.log_odds, 40.0))
    result = certain.posterior(layered_evidence(certain, [{"pain": p, "age_band": "young"} for p in np.eye(4)]))
    np.testing.assert_allclose(np.exp(result.log_evidence), [0.05, 0.2, 0.25, 0.5], rtol=1e-12)


def test_a_sensitivity_is_what_one_cause_shows():
    net = sub_network(build_network(small_knowledge(), "general"), ["palsy"])
    certain = replace(net, log_odds=np.full_like(net.log_odds, 40.0))
    result = certain.posterior(layered_evidence(certain, [{"weakness": 1, "age_band": "young"}]))
    np.testing.assert_allclose(np.exp(result.log_evidence), 0.9, rtol=1e-12)


def test_contradictory_levels_are_an_error(small):
    message = "a likelihood over levels is zero everywhere: contradictory statements about a graded finding"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small.posterior(layered_evidence(small, [{"pain": [0, 0, 0, 0]}]))


@pytest.mark.parametrize("levels", [(0.3,), (0.1, 0.2), (0.4, 0.3, 0.05), (0.05, 0.05, 0.05, 0.8), (1e-6, 0.5, 1e-6)])
def test_continuation_ratios_give_the_levels_back(levels):
    ratios = continuation(levels)
    assert len(ratios) == len(levels)
    # P(v) = h(v) * prod of (1 - h(u)) over the higher levels u
    higher = np.append(np.cumprod(1.0 - np.array(ratios[:0:-1]))[::-1], 1.0)
    np.testing.assert_allclose(np.array(ratios) * higher, levels, rtol=1e-12)
    np.testing.assert_allclose(distribution(levels), [1.0 - sum(levels), *levels], rtol=1e-14)


def test_levels_that_add_up_to_too_much_are_scaled_down():
    np.testing.assert_allclose(distribution((0.6, 0.45)), [MIN_NONE, 0.99 * 0.6 / 1.05, 0.99 * 0.45 / 1.05], rtol=1e-12)
    np.testing.assert_allclose(distribution((0.6, 0.39)), [MIN_NONE, 0.6, 0.39], rtol=1e-12)
    np.testing.assert_allclose(continuation((0.5, 0.5)), [0.495 / 0.505, 0.495], rtol=1e-12)


# --- leaks, links, values -----------------------------------------------------------------------------------------------------


def test_leaks_follow_the_age(small):
    column = {f: i for i, f in enumerate(small.findings)}
    np.testing.assert_array_equal(small.leak[:, column["weakness"]], [0.03, 0.03, 0.12])
    np.testing.assert_array_equal(small.leak[:, column["fever"]], 0.01)
    young, old = [0.85, 0.1, 0.04, 0.01], [0.73, 0.2, 0.04, 0.03]
    for levels, row in ((young, 0), (young, 1), (old, 2)):
        ratios = [levels[v] / sum(levels[: v + 1]) for v in (1, 2, 3)]
        np.testing.assert_allclose(small.leak[row, [column[level] for level in SMALL_LEVELS]], ratios, rtol=1e-12)


@pytest.mark.parametrize(("age", "weak", "severe"), [("young", 0.03, 0.01), ("adult", 0.03, 0.01), ("old", 0.12, 0.03)])
def test_without_any_cause_the_leak_of_the_age_is_what_shows(small, age, weak, severe):
    nobody = replace(small, log_odds=np.full_like(small.log_odds, -80.0))
    result = nobody.posterior(layered_evidence(nobody, [{"weakness": 1, "age_band": age}, {"pain": TOP, "age_band": age}]))
    np.testing.assert_allclose(np.exp(result.log_evidence), [weak, severe], rtol=1e-12)


def test_links_do_not_depend_on_the_age(small):
    column = {f: i for i, f in enumerate(small.findings)}
    link = small.link[column["weakness"]]
    np.testing.assert_allclose(link, [(0.3 - 0.03) / 0.97, (0.9 - 0.03) / 0.97, 0.0], rtol=1e-14)
    assert small.link.shape == (len(small.findings), len(small.causes))
    assert small.link[column["swelling"], SMALL_CAUSES.index("flu")] == 0.0


def test_values_take_the_place_of_parameters():
    values = {
        "prior:flu": 0.2,
        "or:palsy:diabetes": 1.5,
        "link:gout:fever": 0.6,
        "leak:weakness@old": 0.2,
        "context:smoking": 0.4,
    }
    replaced = build_network(small_knowledge(), "general", values)
    written = build_network(small_knowledge(values), "general")
    reference = SmallModel("general", values)
    result = replaced.posterior(layered_evidence(replaced, CASES))
    for name in ("prevalence", "log_odds", "context_log_odds", "context_prior", "share", "link", "leak"):
        np.testing.assert_array_equal(getattr(replaced, name), getattr(written, name), err_msg=name)
    for row, case in enumerate(CASES):
        assert_answer(result, reference.answer(case), row)


def test_no_values_and_empty_values_are_the_same(small):
    again = build_network(small_knowledge(), "general", {})
    np.testing.assert_array_equal(again.link, small.link)
    np.testing.assert_array_equal(again.log_odds, small.log_odds)


def test_a_draw_below_the_leak_is_no_link():
    net = build_network(small_knowledge(), "general", {"link:gout:fever": 0.005})
    assert net.link[net.findings.index("fever"), net.causes.index("gout")] == 0.0


def test_shares_of_the_population_add_up_to_one():
    net = build_network(small_knowledge({"population:old": 0.5}), "general")
    np.testing.assert_allclose(net.share, np.outer([0.3, 0.45, 0.5], [0.52, 0.48]) / 1.25, rtol=1e-14)


def mixture(*parts):
    """Posteriors of cases that are one of several things: weight and answer of each."""
    weights = [w * np.exp(answer.log_evidence) for w, answer in parts]
    found = sum(w * answer.posterior for w, (_, answer) in zip(weights, parts, strict=True)) / sum(weights)
    return found, np.log(sum(weights))


def test_an_uncertain_finding_and_what_it_implies_do_not_count_twice(tiny):
    """hand_weakness => arm_weakness: present, it says all; absent, the arm is weak without it."""
    known = {"present": ["fatigue"], "age": 60}
    hand = tiny.diagnose(**known | {"present": ["fatigue", "hand_weakness"]})
    arm_alone = tiny.diagnose(**known | {"present": ["fatigue", "arm_weakness"]}, absent=["hand_weakness"])
    unsure_arm = tiny.diagnose(**known, absent=["hand_weakness"], uncertain={"arm_weakness": 0.7})
    cases = {
        "general present": (
            {**known, "present": ["fatigue", "arm_weakness"], "uncertain": {"hand_weakness": 0.6}},
            [(0.6, hand), (0.4, arm_alone)],
        ),
        "both uncertain": (
            {**known, "uncertain": {"hand_weakness": 0.6, "arm_weakness": 0.7}},
            [(0.6 * 0.7, hand), (0.4, unsure_arm)],
        ),
        "specific absent": (
            {**known, "absent": ["hand_weakness"], "uncertain": {"arm_weakness": 0.7}},
            [(0.7, arm_alone), (0.3, tiny.diagnose(**known, absent=["arm_weakness"]))],
        ),
    }
    for name, (case, parts) in cases.items():
        answer = tiny.diagnose(**case)
        expected, log_evidence = mixture(*parts)
        np.testing.assert_allclose(answer.posterior[expected.index], expected, rtol=1e-12, err_msg=name)
        assert answer.log_evidence == pytest.approx(log_evidence, abs=1e-12), name


def test_a_level_and_what_it_implies_do_not_count_twice(edit):
    """sudden_onset => fatigue => numbness: the referee says what each of them may be, with certainty."""
    edit.cell("findings.csv", "sudden_onset", "implies", "fatigue")
    edit.cell("findings.csv", "fatigue", "implies", "numbness")
    for cause in ("stroke", "neuropathy", "myopathy", "low_sugar", "anaemia"):
        edit.cell("studies.csv", f"link_{cause}_fatigue", "value", "0.9")
    for cause in ("stroke", "neuropathy", "anaemia"):
        edit.cell("studies.csv", f"link_{cause}_numbness", "value", "0.95")
    for cause in ("myopathy", "low_sugar"):
        edit.copy("studies.csv", "link_stroke_numbness", id=f"link_{cause}_numbness", cause=cause, value="0.95")
    edit.cell("studies.csv", "leak_numbness", "value", "0.2")
    model = ddx.load(edit.folder)
    levels = {"none": ("", 0.0), "gradual": ("gradual_onset", 0.0), "sudden": ("sudden_onset", 1.0)}
    for sudden, gradual, fatigue, numbness in itertools.product(
        (0.7, 0.0, 1.0), (0.4, None), (0.3, 0.0, 1.0), (0.6, 0.0, None)
    ):
        values = {"sudden_onset": sudden, "gradual_onset": gradual, "fatigue": fatigue, "numbness": numbness}
        said = {name: v for name, v in values.items() if v is not None}
        parts = []
        for (level, reached), tired, numb in itertools.product(levels.values(), (1.0, 0.0), (1.0, 0.0)):
            so = {"sudden_onset": reached, "gradual_onset": float(level == "gradual_onset"), "fatigue": tired, "numbness": numb}
            weight = np.prod([v if so[name] else 1.0 - v for name, v in said.items()])
            unsaid, broken = numbness is None and numb, tired > numb and numbness is not None
            if unsaid or broken or weight == 0.0 or reached > tired:
                continue
            present = [f for f in ("fatigue", "numbness") if f in said and so[f]]
            absent = [f for f in ("fatigue", "numbness") if f in said and not so[f]]
            onset = {"present": [level]} if level else {"absent": ["gradual_onset", "sudden_onset"]}
            case = {"present": [*present, *onset.get("present", [])], "absent": [*absent, *onset.get("absent", [])]}
            parts.append((weight, model.diagnose(**case, age=50, sex="male")))
        uncertain = {name: v for name, v in said.items() if 0.0 < v < 1.0}
        present, absent = ([f for f, v in said.items() if v == end] for end in (1.0, 0.0))
        if not parts:
            with pytest.raises(ddx.CaseError):
                model.diagnose(present, absent, uncertain, age=50, sex="male")
            continue
        answer = model.diagnose(present, absent, uncertain, age=50, sex="male")
        expected, log_evidence = mixture(*parts)
        np.testing.assert_allclose(answer.posterior[expected.index], expected, rtol=1e-12, err_msg=str(said))
        assert answer.log_evidence == pytest.approx(log_evidence, abs=1e-12), said


CHAINS = (
    "wrist_drop",
    "hand_weakness",
    "arm_weakness",
    "hand_numbness",
    "arm_numbness",
    "sensory_disturbance",
    "nocturnal_paraesthesia",
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(CHAINS), st.sampled_from([0.0, 1.0, 0.2, 0.5, 0.9]), min_size=2, max_size=5))
def test_uncertain_findings_are_the_mixture_over_what_they_may_be(values):
    """The referee says every uncertain finding to be present or absent; what contradicts an implication has no part in it."""
    model = limb_in_general()
    case = {"age": 50, "sex": "male"}

    def diagnosis(present, absent, uncertain=None):
        return model.diagnose(present=list(present), absent=list(absent), uncertain=uncertain or {}, **case)

    parts = []
    for bits in itertools.product((1, 0), repeat=len(values)):
        said = dict(zip(values, bits, strict=True))
        weight = np.prod([v if said[f] else 1.0 - v for f, v in values.items()])
        broken = any(said.get(s, 0) > said.get(g, 1) for s, g in model.knowledge.implications)
        if weight > 0.0 and not broken:
            parts.append((weight, diagnosis([f for f in said if said[f]], [f for f in said if not said[f]])))
    present, absent = ([f for f, v in values.items() if v == end] for end in (1.0, 0.0))
    unsure = {f: v for f, v in values.items() if 0.0 < v < 1.0}
    if not parts:
        with pytest.raises(ddx.CaseError):
            diagnosis(present, absent, unsure)
        return
    answer = diagnosis(present, absent, unsure)
    expected, log_evidence = mixture(*parts)
    np.testing.assert_allclose(answer.posterior[expected.index], expected, rtol=1e-10)
    assert answer.log_evidence == pytest.approx(log_evidence, abs=1e-10)


@lru_cache
def limb_in_general():
    return ddx.load("limb", "general")


def test_splitting_leaves_the_evidence_as_it_was(tiny):
    case = tiny.diagnose(present=["hand_weakness"], uncertain={"arm_weakness": 0.7, "numbness": 0.2})
    before = case.evidence.finding.copy()
    tiny.network.posterior(case.evidence)
    np.testing.assert_array_equal(case.evidence.finding, before)
    assert 0.7 in before


def test_certainty_is_the_limit_of_uncertainty(tiny):
    sure = tiny.diagnose(present=["arm_weakness", "hand_weakness"]).posterior
    nearly = tiny.diagnose(present=["arm_weakness"], uncertain={"hand_weakness": 1.0 - 1e-13}).posterior
    np.testing.assert_allclose(nearly[sure.index], sure, rtol=1e-11)


def test_frames_files_and_single_cases_split_alike(tiny):
    frame = pd.DataFrame({"hand_weakness": [0.6, 1.0, None], "arm_weakness": [1.0, 1.0, 0.3], "numbness": [0.5, 0.0, 1.0]})
    scored = tiny.score(frame)
    for row, case in frame.iterrows():
        said = {name: float(v) for name, v in case.items() if v is not None and v == v}
        one = tiny.diagnose(
            present=[n for n, v in said.items() if v == 1.0],
            absent=[n for n, v in said.items() if v == 0.0],
            uncertain={n: v for n, v in said.items() if 0.0 < v < 1.0},
        )
        assert scored.loc[row, one.posterior.index].tolist() == one.posterior.tolist()


def test_too_many_uncertain_findings_that_imply_each_other_are_refused():
    model = ddx.load("limb", "general")
    names = [special for special, general in model.knowledge.implications if general == "sensory_disturbance"]
    assert len(names) > 11
    with pytest.raises(ddx.CaseError) as caught:
        model.diagnose(present=["sensory_disturbance"], uncertain=dict.fromkeys(names[:11], 0.5))
    # Some of them imply others: all of them are one too many.
    assert str(caught.value).startswith("11 uncertain findings imply or exclude stated ones (")
    assert str(caught.value).endswith("expected 10 at most; give some of them as present or absent, or not at all")
    few = model.diagnose(present=["sensory_disturbance"], uncertain=dict.fromkeys(names[:4], 0.5), age=50, sex="male")
    assert few.posterior.between(0.0, 1.0).all()


def test_what_nothing_splits_is_not_counted():
    model = ddx.load("limb", "general")
    names = [special for special, general in model.knowledge.implications if general == "sensory_disturbance"][:11]
    unsure = model.diagnose(absent=["sensory_disturbance"], uncertain=dict.fromkeys(names, 0.5), age=50, sex="male")
    sure = model.diagnose(absent=["sensory_disturbance"], age=50, sex="male")
    assert unsure.posterior.tolist() == pytest.approx(sure.posterior.tolist(), rel=1e-12)
    assert unsure.log_evidence == pytest.approx(sure.log_evidence + 11 * np.log(0.5), rel=1e-12)


def test_other_rows_leave_the_bits_of_a_split_case_alone():
    model = ddx.load("limb", "general")
    special = [s for s, general in model.knowledge.implications if general == "sensory_disturbance"]
    assert len(special) >= 8  # NumPy adds up as many in another order when there is but one row
    everything = {"age": 50, "sex": "female", **dict.fromkeys(special, 0.0)}
    rng = np.random.default_rng(0)
    for _ in range(12):
        chosen = ["sensory_disturbance", *rng.choice(special, 4, replace=False)]
        row = {"age": 50, "sex": "female", **dict(zip(chosen, rng.uniform(0.05, 0.95, 5), strict=True))}
        alone = model.score(pd.DataFrame([row]))
        beside = model.score(pd.DataFrame([row, everything]))
        assert alone.iloc[0].tolist() == beside.iloc[0].tolist()


@pytest.fixture
def solved(monkeypatch):
    """How many parts of cases every call of the core got."""
    sizes: list[int] = []
    network_fitting = network.fitting

    def counted(core, finding, context):
        sizes.append(len(finding))
        return network_fitting(core, finding, context)

    monkeypatch.setattr("ddx.network.fitting", counted)
    return sizes


def test_few_parts_are_solved_at_a_time(solved):
    model = ddx.load("limb", "general")
    special = [s for s, general in model.knowledge.implications if general == "sensory_disturbance"][:6]
    frame = pd.DataFrame([{"sensory_disturbance": 0.5, **dict.fromkeys(special, 0.5)}] * 40)
    whole = model.score(frame)
    solved.clear()
    assert model.score(frame).equals(whole)
    assert len(solved) > 1
    assert max(solved) <= 16384


def test_cases_too_large_cost_no_call_of_the_core(solved, monkeypatch):
    """Every piece is solved once, however many cases do not fit; the others keep their bits."""
    monkeypatch.setattr(network, "_PARTS", 3)
    model = ddx.load("limb", "general")
    levels = {level for group in model.network.graded.values() for level in group}
    implied = {f for finding in model.knowledge.findings.values() for f in finding.implies}
    many = [f for f in model.network.findings if f not in levels | implied][:60]
    large, small = dict.fromkeys(many, 1.0), [{"fever": 1.0}, {"ptosis": 1.0}, {"fever": 0.0}, {"rest_tremor": 1.0}]
    rows = [large, small[0], large, small[1], small[2], large, small[3]]
    case = {"age": 50, "sex": "female"}
    columns, cells = from_frame(model.knowledge, pd.DataFrame([row | case for row in rows]))
    encoded = encode(model.knowledge, columns, cells, list(range(7)))
    found, failed = model.posterior(encoded, list(range(7)))
    assert solved == [3, 3, 1]
    assert [(reject.line, reject.error) for reject in failed] == [(row, "too_many_findings") for row in (0, 2, 5)]
    assert len({reject.message for reject in failed}) == 1
    assert np.isnan(found.log_evidence).tolist() == [True, False, True, False, False, True, False]
    assert np.isnan(found.marginal[[0, 2, 5]]).all()
    alone = model.score(pd.DataFrame([row | case for row in small]))
    np.testing.assert_array_equal(found.marginal[[1, 3, 4, 6]], alone[list(model.network.causes)].to_numpy())
    with pytest.raises(EvidenceTooLarge, match=r"^case 0: 60 present or uncertain findings need ") as error:
        model.network.posterior(encoded.evidence)
    assert error.value.rows == (0, 2, 5)


def test_what_only_other_rows_state_does_not_cut_the_cases(solved):
    model = ddx.load("limb", "general")
    general = {g for _, g in model.knowledge.implications}
    special = [s for s, _ in model.knowledge.implications if s not in general][:12]
    rows = [{"age": 50, "sex": "female", **dict.fromkeys(special, 0.5)}] * 40
    rows.append({"age": 50, "sex": "female", **dict.fromkeys(general, 0.0)})
    model.score(pd.DataFrame(rows))
    assert solved == [41]


CLINIC = {"age_18_44": 0.2, "age_45_64": 0.5, "age_75_plus": 0.3}
YEARS = {"age_0_17": 10, "age_18_44": 30, "age_45_64": 50, "age_65_74": 70, "age_75_plus": 80}


def with_patients(edit, **shares):
    """The knowledge base whose clinic has patients of its own."""
    for name, share in shares.items():
        row = "share_female" if name.startswith("sex") else "share_18_44"
        edit.copy("studies.csv", row, id=f"clinic_{name}", context=name, setting="clinic", value=str(share))
    return ddx.load(edit.folder, "clinic")


def test_the_share_of_a_setting_is_the_mean_over_its_own_patients(edit):
    before = ddx.load(edit.folder, "clinic")
    model = with_patients(edit, **CLINIC, sex_female=0.7, sex_male=0.3)
    sexes = {"female": 0.7, "male": 0.3}
    for cause, share in (("stroke", 0.2), ("neuropathy", 0.3)):
        mean = sum(
            a * s * model.diagnose(age=YEARS[band], sex=sex).posterior[cause]
            for band, a in CLINIC.items()
            for sex, s in sexes.items()
        )
        assert mean == pytest.approx(share, rel=1e-10)
        assert model.diagnose().posterior[cause] == pytest.approx(share, rel=1e-10)
    # The others keep the population of the whole base, to the last bit.
    for setting in ("general", "balanced"):
        there, now = before.in_setting(setting).network, model.in_setting(setting).network
        assert there.share.tobytes() == now.share.tobytes()
        assert there.log_odds.tobytes() == now.log_odds.tobytes()


def test_a_setting_may_say_how_old_its_patients_are_and_not_their_sex(edit):
    model = with_patients(edit, **CLINIC)
    np.testing.assert_allclose(model.network.share.sum(axis=0), [0.51, 0.49], rtol=1e-12)
    np.testing.assert_allclose(model.network.share.sum(axis=1), [0.0, 0.2, 0.5, 0.0, 0.3], atol=1e-11)


def test_a_case_whom_its_setting_does_not_expect_has_posteriors(edit):
    model = with_patients(edit, **CLINIC)
    found = [model.diagnose(present=["numbness"], age=10, **of).posterior for of in ({}, {"sex": "female"}, {"sex": "male"})]
    both = np.array([one[found[0].index].to_numpy() for one in found])
    assert ((both > 0.0) & (both < 1.0)).all()
    assert (both[0] <= both[1:].max(axis=0) + 1e-12).all()
    assert (both[0] >= both[1:].min(axis=0) - 1e-12).all()


def test_without_an_age_a_case_is_one_of_the_patients_of_its_setting(edit):
    model = with_patients(edit, age_75_plus=0.999)
    unknown, old = model.diagnose(present=["numbness"]), model.diagnose(present=["numbness"], age=80)
    np.testing.assert_allclose(unknown.posterior[old.posterior.index], old.posterior, rtol=1e-9)
    ages = simulate(model, 200, 1)["age"].astype(float)
    assert (ages >= 75).all()


def test_a_knowledge_base_needs_no_risk_factors(tmp_path):
    answers = []
    for name, gone in (("idle", ()), ("none", ("diabetes", "insulin"))):
        edit = Editor(write_tiny(tmp_path / name))
        edit.drop("studies.csv", "or_stroke_diabetes", "or_neuropathy_diabetes", "or_low_sugar_insulin")
        if gone:
            edit.drop("context.csv", *gone)
            edit.drop("studies.csv", "freq_diabetes", "freq_diabetes_old", "freq_insulin")
            edit.drop("studies.csv", "freq_diabetes_age_18_44", "freq_diabetes_age_75_plus")
        model = ddx.load(tmp_path / name)
        assert len(model.network.risk_factors) == 2 - len(gone)
        answers.append(model.diagnose(present=["numbness"], absent=["tremor"], age=80).posterior)
    np.testing.assert_allclose(answers[1][answers[0].index], answers[0], rtol=1e-12)


def test_a_knowledge_base_may_have_one_cause(edit):
    """As a teacher of Bayes' theorem has it: balanced is half and half."""
    kb = ddx.load(edit.folder).knowledge
    kept = {p.split(":")[2] for p in kb.parameters if p.startswith("link:neuropathy:")}
    gone = [f for f in kb.findings if f not in kept]
    rows = [s.id for s in kb.studies.values() if s.cause not in ("", "neuropathy") or s.finding in gone]
    edit.drop("studies.csv", *rows)
    edit.drop("findings.csv", *gone)
    edit.drop("causes.csv", *(c for c in kb.causes if c != "neuropathy"))
    edit.drop("sources.csv", *({"expert_estimate", "jones_2010"} - {kb.studies[s].source for s in kb.studies if s not in rows}))
    toml = (edit.folder / "kb.toml").read_text()
    (edit.folder / "kb.toml").write_text(toml[: toml.index("[measurements")] + "[measurements]\n")
    model = ddx.load(edit.folder, "balanced")
    assert model.diagnose().posterior.tolist() == pytest.approx([0.5], rel=1e-12)
    shown = model.diagnose(present=["absent_ankle_jerks"], age=50)
    assert shown.posterior.tolist()[0] + shown.none_of_these == pytest.approx(1.0, rel=1e-12)


def test_an_unknown_setting_names_the_known_ones():
    message = "unknown setting 'clinics'; nearest: clinic; known: general, clinic, balanced"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        build_network(small_knowledge(), "clinics")


@pytest.mark.parametrize("strata", [10, 1000])
def test_a_case_too_large_is_named_by_its_own_row(limb, strata, monkeypatch):
    """Unknown age and sex split a case into strata; the error counts cases all the same."""
    monkeypatch.setattr(network, "_PARTS", strata)
    net = build_network(limb, "general")
    levels = {level for group in net.graded.values() for level in group}
    large = dict.fromkeys([f for f in net.findings if f not in levels][:60], 1)
    with pytest.raises(EvidenceTooLarge, match=r"^case 2: 60 present or uncertain findings need ") as error:
        net.posterior(layered_evidence(net, [{}, {"fever": 1}, large]))
    assert error.value.row == 2


# --- odds and ends ------------------------------------------------------------------------------------------------------------


def test_no_cases_of_a_knowledge_base(small):
    result = small.posterior(layered_evidence(small, []))
    assert result.marginal.shape == (0, 3)
    assert result.context.shape == (0, 3)
    assert result.none.shape == result.log_evidence.shape == (0,)


def test_without_findings_leaves_age_sex_and_context(small):
    case = {"fever": 1, "pain": TOP, "insulin": 1, "age_band": "old", "sex": "male"}
    evidence = without_findings(layered_evidence(small, [case]))
    context_only = layered_evidence(small, [{"insulin": 1, "age_band": "old", "sex": "male"}])
    for name in ("columns", "finding", "level", "context", "age", "sex"):
        np.testing.assert_array_equal(getattr(evidence, name), getattr(context_only, name))
    assert evidence.level == {}


def test_impossible_evidence_spoils_neither_other_strata_nor_other_cases(small):
    """Nobody but the old can be weak here: age follows from the finding."""
    column = small.findings.index("weakness")
    leak, link = small.leak.copy(), small.link.copy()
    leak[:2, column], link[column] = 0.0, 0.0
    net = replace(small, leak=leak, link=link)
    cases = [{"weakness": 1}, {"weakness": 1, "age_band": "old"}, {"weakness": 1, "age_band": "young"}, {"fever": 1}]
    result = net.posterior(layered_evidence(net, cases))
    np.testing.assert_array_equal(result.impossible, [False, False, True, False])
    np.testing.assert_allclose(result.marginal[0], result.marginal[1], rtol=1e-13)
    np.testing.assert_allclose(np.exp(result.log_evidence[:2]), [0.25 * 0.12, 0.12], rtol=1e-12)
    assert np.isnan(result.marginal[2]).all()
    np.testing.assert_allclose(result.marginal[3], net.posterior(layered_evidence(net, cases[3:])).marginal[0], rtol=1e-14)


def test_findings_of_limb_are_as_frequent_as_they_were_counted():
    """In the general population, causes and context summed out; what syndromes bring may be a little more."""
    model = ddx.load("limb", "general")
    kb = model.knowledge
    banded = {p.partition("@")[0] for p in kb.parameters if "@" in p}
    counted = {}
    for finding in kb.findings:
        rows = [kb.studies[s] for s in kb.parameters[f"leak:{finding}"].studies]
        if f"leak:{finding}" not in banded and [r.quantity for r in rows] == ["population_frequency"]:
            counted[finding] = rows[0].value
    assert len(counted) > 10
    found = np.array([np.exp(model.diagnose(present=[f]).log_evidence) / value for f, value in counted.items()])
    assert np.abs(found - 1.0).max() < 0.1
    assert np.median(np.abs(found - 1.0)) < 0.005
