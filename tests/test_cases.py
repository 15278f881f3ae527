"""Cases in any form -> evidence: what cells mean, what follows from them, and what is refused in which words."""

from __future__ import annotations

import pickle
from dataclasses import replace
from math import exp, log

import numpy as np
import pandas as pd
import pytest

import ddx
from ddx.cases import CaseError, encode, interpret, select
from ddx.cases.columns import SPECIAL
from ddx.diagnosis import LOG_EVIDENCE, NONE
from ddx.errors import UsageError
from ddx.knowledge.schema import RESERVED

TOKENS = {
    1.0: ["1", "yes", "true", "present", "YES", "True", " present ", "1.0", 1, 1.0, True, np.int64(1), np.bool_(True)],
    0.0: ["0", "no", "false", "absent", "No", "FALSE", "0.0", "-0.0", 0, 0.0, False, np.float64(0.0), np.bool_(False)],
    None: ["", " ", "NA", "na", "N/A", "nan", "NaN", "unknown", "Unknown", None, float("nan"), np.nan, pd.NA],
    0.3: ["0.3", ".3", "3e-1", 0.3, np.float64(0.3)],
}


def stated(dx: ddx.Diagnosis) -> dict[str, float]:
    """Findings that count as evidence, without the levels of graded ones."""
    ids, values = dx.model.network.findings, dx.evidence.finding[0]
    return {ids[f]: float(v) for f, v in zip(dx.evidence.columns, values, strict=True) if not np.isnan(v)}


def same(first: ddx.Diagnosis, second: ddx.Diagnosis) -> bool:
    return first.posterior.equals(second.posterior) and first.log_evidence == second.log_evidence


def joint(dx: ddx.Diagnosis) -> pd.Series:
    """P(cause, evidence)."""
    return dx.posterior * exp(dx.log_evidence)


def score(model: ddx.Model, rows: list[dict] | dict, **options) -> pd.DataFrame:
    return model.score(pd.DataFrame(rows, dtype=object), **options)


def refusals(model: ddx.Model, frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    with pytest.raises(CaseError) as caught:
        model.score(frame)
    return [(r.column, r.value, r.error, r.message) for r in caught.value.rejects]


# What cells mean.


@pytest.mark.parametrize(("value", "cell"), [(value, cell) for value, cells in TOKENS.items() for cell in cells], ids=repr)
def test_every_token_of_a_finding(value, cell, tiny):
    got = score(tiny, {"tremor": [cell, "1"], "age": [50, 50]})
    evidence = {} if value is None else {"present": ["tremor"]} if value == 1 else {"absent": ["tremor"]}
    if value == 0.3:
        evidence = {"uncertain": {"tremor": 0.3}}
    expected = tiny.diagnose(age=50, **evidence)
    np.testing.assert_allclose(got.loc[0, list(expected.posterior.index)].to_numpy(), expected.posterior.to_numpy(), rtol=1e-12)
    assert got.loc[0, "log_evidence"] == pytest.approx(expected.log_evidence, abs=1e-12)


@pytest.mark.parametrize(("value", "cell"), [(v, c) for v in (1.0, 0.0, None) for c in TOKENS[v]], ids=repr)
def test_every_token_of_a_risk_factor(value, cell, tiny):
    got = score(tiny, {"diabetes": [cell], "numbness": ["1"]})
    context = {} if value is None else {"diabetes": bool(value)}
    expected = tiny.diagnose(present=["numbness"], context=context)
    assert got.loc[0, "neuropathy"] == pytest.approx(expected.posterior["neuropathy"], rel=1e-12)


@pytest.mark.parametrize(
    ("cell", "sex"),
    [(c, "female") for c in ("female", "f", "F", "Female", "sex_female", " f ")]
    + [(c, "male") for c in ("male", "m", "M", "MALE", "sex_male")]
    + [(c, None) for c in ("", "unknown", "NA", None, np.nan, pd.NA, pd.NaT)],
    ids=repr,
)
def test_every_token_of_the_sex(cell, sex, tiny):
    got = score(tiny, {"sex": [cell], "fatigue": ["1"]})
    expected = tiny.diagnose(present=["fatigue"], sex=sex)
    assert got.loc[0, "anaemia"] == pytest.approx(expected.posterior["anaemia"], rel=1e-12)


def test_the_sexes_differ_as_their_odds_ratio_says(tiny):
    p = {sex: tiny.diagnose(sex=sex).posterior["anaemia"] for sex in ("female", "male")}
    odds = {sex: x / (1 - x) for sex, x in p.items()}
    assert odds["female"] / odds["male"] == pytest.approx(2.0, rel=1e-9)


def test_the_order_of_the_sexes_in_the_knowledge_base_does_not_matter(edit, tiny):
    female, male = "sex_female,Female sex,female,sex,,,,\n", "sex_male,Male sex,male,sex,,,,\n"
    edit.text("context.csv", female + male, male + female)
    turned = ddx.load(edit.folder)
    for sex in ("female", "male", None):
        expected = tiny.diagnose(present=["fatigue"], sex=sex).posterior
        np.testing.assert_allclose(turned.diagnose(present=["fatigue"], sex=sex).posterior[expected.index], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, 0), (17.99, 0), (18, 1), ("44", 1), (45, 2), (64.9, 2), (65, 3), (75, 4), ("120", 4), (None, -1), ("", -1)],
)
def test_every_age_falls_into_its_band(age, band, tiny):
    assert tiny.diagnose(age=age).evidence.age.tolist() == [band]


def test_unknown_age_and_sex_are_summed_out(tiny):
    known = [tiny.diagnose(present=["tremor"], age=a, sex=s) for a in (5, 20, 50, 70, 80) for s in ("female", "male")]
    weights = np.outer([0.2, 0.35, 0.25, 0.1, 0.1], [0.51, 0.49]).ravel()
    whole = tiny.diagnose(present=["tremor"])
    assert exp(whole.log_evidence) == pytest.approx(
        sum(w * exp(dx.log_evidence) for w, dx in zip(weights, known, strict=True)), rel=1e-12
    )
    parts = sum(w * joint(dx)[whole.posterior.index] for w, dx in zip(weights, known, strict=True))
    np.testing.assert_allclose(joint(whole), parts, rtol=1e-12)


# Wide, list and Python form.


def test_wide_and_list_and_python_form_say_the_same(tiny):
    frame = pd.DataFrame(
        {
            "case_id": ["a", "b"],
            "age": [70, 34],
            "sex": ["f", "m"],
            "present": ["sudden_onset;arm_weakness", "tremor"],
            "absent": ["numbness", ""],
            "context": ["diabetes", None],
        }
    )
    wide = pd.DataFrame(
        {
            "case_id": ["a", "b"],
            "age": [70, 34],
            "sex": ["f", "m"],
            "sudden_onset": [1, None],
            "arm_weakness": ["yes", ""],
            "tremor": [None, True],
            "numbness": ["absent", "unknown"],
            "diabetes": [1, np.nan],
        }
    )
    got = tiny.score(frame)
    pd.testing.assert_frame_equal(got, tiny.score(wide))
    first = tiny.diagnose(
        present=["sudden_onset", "arm_weakness"], absent=["numbness"], age=70, sex="female", context={"diabetes": True}
    )
    second = tiny.diagnose(present=["tremor"], age=34, sex="male")
    for row, dx in enumerate((first, second)):
        assert got.iloc[row][list(dx.posterior.index)].to_list() == pytest.approx(dx.posterior.to_list(), rel=1e-12)
        assert got["none_of_these"].iloc[row] == pytest.approx(dx.none_of_these, rel=1e-12)
        assert got["log_evidence"].iloc[row] == pytest.approx(dx.log_evidence, rel=1e-12)


def test_spaces_empty_parts_and_repetitions_in_lists_are_harmless(tiny):
    neat = score(tiny, {"present": ["tremor;fatigue"], "absent": ["numbness"]})
    untidy = score(tiny, {"present": [" tremor ;; fatigue;tremor; "], "absent": ["numbness;"]})
    pd.testing.assert_frame_equal(neat, untidy)


def test_risk_factors_may_stand_in_the_lists_of_findings(tiny):
    lists = score(tiny, {"present": ["numbness;diabetes"], "absent": ["insulin"]})
    context = score(tiny, {"numbness": [1], "diabetes": [1], "insulin": [0]})
    pd.testing.assert_frame_equal(lists, context)


def test_a_sex_may_stand_in_the_context(tiny):
    expected = tiny.diagnose(present=["fatigue"], sex="female")
    assert same(tiny.diagnose(present=["fatigue"], context={"sex_female": True}), expected)
    assert same(tiny.diagnose(present=["fatigue"], context={"female": True}), expected)
    got = score(tiny, {"present": ["fatigue"], "context": ["sex_female"]})
    assert got.loc[0, "anaemia"] == pytest.approx(expected.posterior["anaemia"], rel=1e-12)


def test_aliases_stand_for_their_ids(tiny):
    expected = tiny.diagnose(
        present=["tremor"], absent=["fatigue"], uncertain={"arm_weakness": 0.4}, context={"diabetes": True}
    )
    alias = tiny.diagnose(
        present=["shaking"], absent=["tiredness"], uncertain={"weak_arm": 0.4}, context={"known_diabetes": True}
    )
    assert same(expected, alias)
    frame = score(tiny, {"shaking": [1], "tiredness": [0], "weak_arm": [0.4], "known_diabetes": [1]})
    assert frame.loc[0, "stroke"] == pytest.approx(expected.posterior["stroke"], rel=1e-12)


def test_columns_that_describe_a_case_are_read_over(tiny):
    plain = score(tiny, {"tremor": [1]})
    described = score(tiny, {"final_diagnosis": ["?"], "tremor": [1], "note": ["maybe"], "citation": ["x"], "url": ["y"]})
    pd.testing.assert_frame_equal(plain, described)


def test_a_case_without_any_statement_keeps_its_prior(tiny):
    dx = tiny.diagnose()
    assert dx.log_evidence == pytest.approx(0.0, abs=1e-12)
    assert dx.posterior["neuropathy"] == pytest.approx(0.02, rel=1e-9)
    got = tiny.score(pd.DataFrame(index=["x", "y"]))
    assert got.index.to_list() == ["x", "y"]
    assert got["neuropathy"].to_list() == pytest.approx([0.02, 0.02], rel=1e-9)


# Uncertain evidence, graded findings, implications, requirements, measurements.


@pytest.mark.parametrize("finding", ["tremor", "gradual_onset", "sudden_onset"])
@pytest.mark.parametrize("v", [0.05, 0.5, 0.8])
def test_an_uncertain_finding_weighs_its_two_states(finding, v, tiny):
    got, nothing = tiny.diagnose(uncertain={finding: v}), tiny.diagnose()
    present, absent = tiny.diagnose(present=[finding]), tiny.diagnose(absent=[finding])
    order = nothing.posterior.index
    expected = v * joint(present)[order] + (1 - v) * joint(absent)[order]
    np.testing.assert_allclose(joint(got)[order], expected, rtol=1e-12)
    np.testing.assert_allclose(joint(present)[order] + joint(absent)[order], joint(nothing)[order], rtol=1e-12)


def test_an_uncertain_value_of_one_half_says_nothing(tiny):
    got, nothing = tiny.diagnose(uncertain={"tremor": 0.5}), tiny.diagnose()
    np.testing.assert_allclose(got.posterior, nothing.posterior[got.posterior.index], rtol=1e-12)


@pytest.mark.parametrize(("value", "same_as"), [(1, {"present": ["tremor"]}), (0, {"absent": ["tremor"]}), (None, {})])
def test_a_certain_uncertain_value_is_a_statement(value, same_as, tiny):
    assert same(tiny.diagnose(uncertain={"tremor": value}), tiny.diagnose(**same_as))


def test_the_levels_of_a_graded_finding_exclude_each_other(tiny):
    order = tiny.network.causes
    none = joint(tiny.diagnose(absent=["gradual_onset", "sudden_onset"]))[list(order)]
    gradual = joint(tiny.diagnose(present=["gradual_onset"]))[list(order)]
    sudden = joint(tiny.diagnose(present=["sudden_onset"]))[list(order)]
    np.testing.assert_allclose(none + gradual + sudden, joint(tiny.diagnose())[list(order)], rtol=1e-12)
    both = tiny.diagnose(present=["sudden_onset"], absent=["gradual_onset"])
    np.testing.assert_allclose(joint(both)[list(order)], sudden, rtol=1e-12)


def test_uncertain_levels_multiply_as_likelihoods(tiny):
    got = tiny.diagnose(uncertain={"gradual_onset": 0.2, "sudden_onset": 0.7})
    order = list(tiny.network.causes)
    none = joint(tiny.diagnose(absent=["gradual_onset", "sudden_onset"]))[order]
    gradual, sudden = (joint(tiny.diagnose(present=[level]))[order] for level in ("gradual_onset", "sudden_onset"))
    np.testing.assert_allclose(joint(got)[order], 0.8 * 0.3 * none + 0.2 * 0.3 * gradual + 0.8 * 0.7 * sudden, rtol=1e-12)


def test_a_present_finding_contains_what_it_implies(tiny):
    alone = tiny.diagnose(present=["hand_weakness"])
    assert same(tiny.diagnose(present=["hand_weakness", "arm_weakness"]), alone)
    unsure = tiny.diagnose(present=["hand_weakness"], uncertain={"arm_weakness": 0.9})
    np.testing.assert_allclose(unsure.posterior, alone.posterior, rtol=1e-13)
    assert unsure.log_evidence == pytest.approx(alone.log_evidence + log(0.9), rel=1e-14)
    assert stated(tiny.diagnose(present=["hand_weakness", "arm_weakness"])) == {"hand_weakness": 1.0}


def test_an_absent_finding_contains_what_implies_it(tiny):
    alone = tiny.diagnose(absent=["arm_weakness"])
    assert same(tiny.diagnose(absent=["hand_weakness", "arm_weakness"]), alone)
    unsure = tiny.diagnose(absent=["arm_weakness"], uncertain={"hand_weakness": 0.2})
    np.testing.assert_allclose(unsure.posterior, alone.posterior, rtol=1e-13)
    assert unsure.log_evidence == pytest.approx(alone.log_evidence + log(0.8), rel=1e-14)


def test_the_other_directions_of_an_implication_are_evidence_of_their_own(tiny):
    dx = tiny.diagnose(present=["arm_weakness"], absent=["hand_weakness"])
    assert stated(dx) == {"arm_weakness": 1.0, "hand_weakness": 0.0}


def test_implications_reach_over_several_steps(edit):
    edit.cell("findings.csv", "arm_weakness", "implies", "fatigue")
    for cause in ("stroke", "neuropathy", "myopathy"):
        edit.cell("studies.csv", f"link_{cause}_fatigue", "value", "0.9")
    model = ddx.load(edit.folder)
    assert stated(model.diagnose(present=["hand_weakness", "fatigue"])) == {"hand_weakness": 1.0}
    assert stated(model.diagnose(absent=["hand_weakness", "fatigue"])) == {"fatigue": 0.0}
    with pytest.raises(CaseError, match="hand_weakness is present but fatigue, which it implies, is absent"):
        model.diagnose(present=["hand_weakness"], absent=["fatigue"])


def test_a_risk_factor_brings_what_it_requires(tiny):
    with_parent = tiny.diagnose(present=["numbness"], context={"insulin": True, "diabetes": True})
    alone = tiny.diagnose(present=["numbness"], context={"insulin": True})
    assert alone.context.to_dict() == {"diabetes": 1.0, "insulin": 1.0}
    np.testing.assert_allclose(alone.posterior, with_parent.posterior, rtol=1e-12)
    assert tiny.diagnose(context={"diabetes": False}).context.to_dict() == {"diabetes": 0.0, "insulin": 0.0}


@pytest.mark.parametrize(
    ("value", "sex", "present"),
    [
        (11.99, "female", 1.0),
        (12.0, "female", 0.0),
        (12.99, "male", 1.0),
        (13.0, "male", 0.0),
        (11.99, None, 1.0),
        (12.5, None, None),
        (13.0, None, 0.0),
        ("12.5", "f", 0.0),
        ("12.5", "m", 1.0),
        (None, "male", None),
        (1.5, "male", 1.0),
        (25.0, "male", 0.0),
    ],
)
def test_a_measurement_with_limits_by_sex(value, sex, present, tiny):
    expected = {} if present is None else {"low_haemoglobin": present}
    assert stated(tiny.diagnose(measurements={"haemoglobin_g_dl": value}, sex=sex)) == expected
    frame = score(tiny, {"haemoglobin_g_dl": [value], "sex": [sex]})
    direct = score(tiny, {"low_haemoglobin": [present], "sex": [sex]})
    pd.testing.assert_frame_equal(frame, direct)


def test_a_sex_among_the_context_selects_the_limit(tiny):
    frame = score(tiny, {"haemoglobin_g_dl": [12.5], "context": ["sex_male"]})
    pd.testing.assert_frame_equal(frame, score(tiny, {"low_haemoglobin": [1], "sex": ["m"]}))


@pytest.mark.parametrize(
    ("measurements", "findings"),
    [
        ({"tsh_mu_l": 4.5}, {"raised_tsh": 1.0, "low_tsh": 0.0}),
        ({"tsh_mu_l": 4.49}, {"raised_tsh": 0.0, "low_tsh": 0.0}),
        ({"tsh_mu_l": 0.4}, {"raised_tsh": 0.0, "low_tsh": 0.0}),
        ({"tsh_mu_l": 0.39}, {"raised_tsh": 0.0, "low_tsh": 1.0}),
        ({"tsh_mu_l": 0.0}, {"raised_tsh": 0.0, "low_tsh": 1.0}),
        ({"glucose_mmol_l": 3.3, "potassium_mmol_l": 3.4}, {"low_glucose": 0.0, "high_glucose": 0.0, "low_potassium": 1.0}),
    ],
    ids=str,
)
def test_measurements_of_the_shipped_base(measurements, findings, limb):
    assert stated(limb.diagnose(measurements=measurements)) == findings


def test_a_measurement_agrees_with_its_finding_or_contradicts_it(tiny):
    assert stated(tiny.diagnose(present=["low_haemoglobin"], measurements={"haemoglobin_g_dl": 8}, sex="f")) == {
        "low_haemoglobin": 1.0
    }
    with pytest.raises(CaseError) as caught:
        tiny.diagnose(absent=["low_haemoglobin"], measurements={"haemoglobin_g_dl": 8}, sex="f")
    assert [r.message for r in caught.value.rejects] == ["low_haemoglobin is both present and absent; keep one statement"]


# Model.score: index, order, types.


def _random_cases(model: ddx.Model, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    graded = {level for levels in model.knowledge.graded.values() for level in levels}
    implied = {
        f for finding in model.knowledge.findings.values() for f in (*finding.implies, *([finding.id] * bool(finding.implies)))
    }
    free = [f for f in model.network.findings if f not in graded | implied]
    frame = pd.DataFrame({"age": rng.integers(0, 100, n), "sex": rng.choice(["f", "m", ""], n)})
    for finding in rng.choice(free, min(5, len(free)), replace=False):
        frame[finding] = rng.choice([1.0, 0.0, np.nan, 0.25], n)
    frame[model.network.risk_factors[0]] = rng.choice([1.0, 0.0, np.nan], n)
    return frame


@pytest.fixture(params=["tiny", "limb"])
def model(request) -> ddx.Model:
    return request.getfixturevalue(request.param)


def test_score_gives_what_diagnose_gives(model):
    frame = _random_cases(model, 20, 1)
    got = model.score(frame)
    factor = model.network.risk_factors[0]
    for i, row in frame.iterrows():
        cells = row.drop(["age", "sex", factor]).dropna()
        dx = model.diagnose(
            uncertain=cells.to_dict(),
            age=row["age"],
            sex=row["sex"],
            context={} if np.isnan(row[factor]) else {factor: bool(row[factor])},
        )
        np.testing.assert_allclose(got.loc[i, dx.posterior.index], dx.posterior, rtol=1e-10)
        assert got.loc[i, "none_of_these"] == pytest.approx(dx.none_of_these, rel=1e-10)
        assert got.loc[i, "log_evidence"] == pytest.approx(dx.log_evidence, rel=1e-10, abs=1e-12)


def test_score_keeps_the_index_and_names_its_columns(tiny):
    frame = _random_cases(tiny, 4, 2)
    frame.index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1), ("a", 1)], names=["site", "number"])
    got = tiny.score(frame)
    pd.testing.assert_index_equal(got.index, frame.index)
    assert list(got.columns) == ["stroke", "neuropathy", "myopathy", "low_sugar", "anaemia", "none_of_these", "log_evidence"]
    assert set(got.dtypes) == {np.dtype(np.float64)}


def test_score_does_not_touch_its_input(tiny):
    frame = _random_cases(tiny, 4, 2)
    before = frame.copy(deep=True)
    tiny.score(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_the_order_of_rows_and_columns_does_not_matter(model):
    frame = _random_cases(model, 30, 3)
    expected = model.score(frame)
    shuffled = frame.sample(frac=1, random_state=0)[list(frame.columns[::-1])]
    pd.testing.assert_frame_equal(model.score(shuffled).loc[frame.index], expected, rtol=1e-12)


def test_a_case_does_not_depend_on_the_others(model):
    frame = _random_cases(model, 6, 4)
    expected = model.score(frame)
    for i in frame.index:
        pd.testing.assert_frame_equal(model.score(frame.loc[[i]]), expected.loc[[i]], rtol=1e-12)


def test_an_unobserved_column_changes_nothing(model):
    frame = _random_cases(model, 5, 5)
    rest = [f for f in model.network.findings if f not in frame]
    wider = pd.concat([frame, pd.DataFrame(np.nan, index=frame.index, columns=rest)], axis=1)
    pd.testing.assert_frame_equal(model.score(wider), model.score(frame), rtol=1e-12)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([True, False, None], dtype=object),
        pd.Series([True, False, pd.NA], dtype="boolean"),
        pd.Series([1, 0, pd.NA], dtype="Int64"),
        pd.Series([1.0, 0.0, np.nan]),
        pd.Series([1.0, 0.0, pd.NA], dtype="Float64"),
        pd.Series(["yes", "no", None]),
        pd.Series(["yes", "no", pd.NA], dtype="string"),
        pd.Series(["yes", "no", None], dtype="category"),
        pd.Series(["present", 0, np.nan], dtype=object),
    ],
    ids=lambda c: f"{c.dtype}",
)
def test_every_type_of_column(column, tiny):
    expected = tiny.score(pd.DataFrame({"tremor": [1.0, 0.0, np.nan]}))
    pd.testing.assert_frame_equal(tiny.score(pd.DataFrame({"tremor": column})), expected)


def test_an_empty_frame_gives_an_empty_frame(tiny):
    got = tiny.score(pd.DataFrame({"tremor": pd.Series([], dtype=float)}))
    assert got.shape == (0, 7)


def test_another_setting_changes_the_prior_and_not_the_model(tiny):
    clinic = tiny.in_setting("clinic")
    assert (tiny.setting, clinic.setting) == ("general", "clinic")
    assert clinic.diagnose().posterior["stroke"] == pytest.approx(0.2, rel=1e-9)
    assert clinic.diagnose().posterior["anaemia"] == pytest.approx(0.05, rel=1e-9)
    balanced = tiny.in_setting("balanced").diagnose().posterior
    assert balanced.to_list() == pytest.approx([0.2] * 5, rel=1e-9)


# Refusals.

READING = "1/yes/true/present, 0/no/false/absent, a number from 0 to 1, or empty"
REFUSED = {
    "word": ({"tremor": "maybe"}, [("tremor", "maybe", "not_a_value", f"got 'maybe', expected {READING}")]),
    "infinite": ({"tremor": "inf"}, [("tremor", "inf", "not_a_value", f"got 'inf', expected {READING}")]),
    "underscore": ({"tremor": "0_1"}, [("tremor", "0_1", "not_a_value", f"got '0_1', expected {READING}")]),
    "above_1": ({"tremor": 1.5}, [("tremor", "1.5", "out_of_range", "got 1.5, expected a number from 0 to 1")]),
    "below_0": ({"tremor": "-0.1"}, [("tremor", "-0.1", "out_of_range", "got -0.1, expected a number from 0 to 1")]),
    "two": ({"tremor": 2}, [("tremor", "2", "out_of_range", "got 2, expected a number from 0 to 1")]),
    "context_word": ({"diabetes": "type 2"}, [("diabetes", "type 2", "not_a_value", f"got 'type 2', expected {READING}")]),
    "context_uncertain": (
        {"diabetes": 0.5},
        [("diabetes", "0.5", "out_of_range", "got 0.5, diabetes is context: expected 1 or 0")],
    ),
    "age_word": ({"age": "old"}, [("age", "old", "not_a_value", "got 'old', expected an age in years, or empty")]),
    "age_high": ({"age": 121}, [("age", "121", "implausible_age", "got 121, expected an age from 0 to 120 years")]),
    "age_low": ({"age": "-1"}, [("age", "-1", "implausible_age", "got -1, expected an age from 0 to 120 years")]),
    "age_underscore": ({"age": "3_4"}, [("age", "3_4", "not_a_value", "got '3_4', expected an age in years, or empty")]),
    "sex": ({"sex": "x"}, [("sex", "x", "not_a_value", "got 'x', expected female, male, or empty")]),
    "sex_number": ({"sex": 1}, [("sex", "1", "not_a_value", "got '1', expected female, male, or empty")]),
    "measurement_word": (
        {"haemoglobin_g_dl": "low"},
        [("haemoglobin_g_dl", "low", "not_a_value", "got 'low', expected a number in g/dl, or empty")],
    ),
    "measurement_unit": (
        {"haemoglobin_g_dl": 130},
        [
            (
                "haemoglobin_g_dl",
                "130",
                "implausible_value",
                "got 130 g/dl, plausible is 1.5 to 25 g/dl; check the unit",
            )
        ],
    ),
    "unknown_finding": (
        {"present": "tremr"},
        [("present", "tremr", "unknown_id", "unknown finding 'tremr'; nearest: tremor")],
    ),
    "unknown_finding_far_from_all": ({"absent": "xyz"}, [("absent", "xyz", "unknown_id", "unknown finding 'xyz'")]),
    "unknown_finding_in_words": (
        {"present": "Arm weakness"},
        [("present", "Arm weakness", "unknown_id", "unknown finding 'Arm weakness'; nearest: arm_weakness, hand_weakness")],
    ),
    "cause_as_finding": (
        {"present": "stroke"},
        [("present", "stroke", "unknown_id", "unknown finding 'stroke'; stroke is a cause")],
    ),
    "measurement_as_finding": (
        {"present": "haemoglobin_g_dl"},
        [
            (
                "present",
                "haemoglobin_g_dl",
                "unknown_id",
                "unknown finding 'haemoglobin_g_dl'; haemoglobin_g_dl is a measurement",
            )
        ],
    ),
    "unknown_context": (
        {"context": "diabetis"},
        [("context", "diabetis", "unknown_id", "unknown context 'diabetis'; nearest: diabetes, known_diabetes")],
    ),
    "finding_as_context": (
        {"context": "tremor"},
        [("context", "tremor", "unknown_id", "unknown context 'tremor'; tremor is a finding")],
    ),
    "age_band_in_a_list": (
        {"present": "age_0_17"},
        [("present", "age_0_17", "not_a_value", "age_0_17 is an age band or a sex; give age and sex instead")],
    ),
    "absent_sex": (
        {"absent": "sex_female"},
        [("absent", "sex_female", "not_a_value", "sex_female is an age band or a sex; give age and sex instead")],
    ),
    "two_sexes": (
        {"sex": "f", "context": "sex_male"},
        [("context", "sex_male", "contradiction", "two different sexes; keep one")],
    ),
    "present_and_absent": (
        {"present": "tremor", "absent": "tremor"},
        [("absent", "tremor", "contradiction", "tremor is both present and absent; keep one statement")],
    ),
    "present_and_absent_by_an_alias": (
        {"tremor": 0, "present": "shaking"},
        [("present", "tremor", "contradiction", "tremor is both present and absent; keep one statement")],
    ),
    "uncertain_and_present": (
        {"tremor": 0.3, "present": "tremor"},
        [("present", "tremor", "contradiction", "tremor is both 0.3 and 1; keep one statement")],
    ),
    "context_present_and_absent": (
        {"diabetes": 0, "context": "diabetes"},
        [("context", "diabetes", "contradiction", "diabetes is both present and absent; keep one statement")],
    ),
    "measurement_against_finding": (
        {"low_haemoglobin": 0, "haemoglobin_g_dl": 8},
        [
            (
                "haemoglobin_g_dl",
                "low_haemoglobin",
                "contradiction",
                "low_haemoglobin is both present and absent; keep one statement",
            )
        ],
    ),
    "two_levels": (
        {"gradual_onset": 1, "sudden_onset": 1},
        [
            (
                "",
                "gradual_onset;sudden_onset",
                "two_levels",
                "gradual_onset and sudden_onset are levels of onset, of which one case has one; keep one",
            )
        ],
    ),
    "against_an_implication": (
        {"hand_weakness": 1, "arm_weakness": 0},
        [("", "hand_weakness", "contradiction", "hand_weakness is present but arm_weakness, which it implies, is absent")],
    ),
    "against_a_requirement": (
        {"insulin": 1, "diabetes": 0},
        [("", "insulin", "contradiction", "insulin is present but diabetes, which it requires, is absent")],
    ),
    "empty_case_id": ({"case_id": ""}, [("case_id", "", "empty_case_id", "case_id is empty; give every case an id")]),
    "several": (
        {"tremor": "maybe", "age": "old", "present": "tremr;fatigu"},
        [
            ("age", "old", "not_a_value", "got 'old', expected an age in years, or empty"),
            ("tremor", "maybe", "not_a_value", f"got 'maybe', expected {READING}"),
            ("present", "fatigu", "unknown_id", "unknown finding 'fatigu'; nearest: fatigue"),
            ("present", "tremr", "unknown_id", "unknown finding 'tremr'; nearest: tremor"),
        ],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_cell_is_refused_in_exact_words(name, tiny):
    row, expected = REFUSED[name]
    assert refusals(tiny, pd.DataFrame([row], dtype=object)) == expected


def test_a_repeated_case_id_is_refused(tiny):
    frame = pd.DataFrame({"case_id": ["a", "b", "a"], "tremor": [1, 1, 1]})
    message = "case_id 'a' stands in an earlier row; give every case its own"
    assert refusals(tiny, frame) == [("case_id", "a", "duplicate_case_id", message)]


def test_every_offence_of_every_row_is_listed(tiny):
    frame = pd.DataFrame({"case_id": ["a", "b", "c"], "tremor": ["maybe", 1, 2], "age": [500, 50, 50]}, dtype=object)
    with pytest.raises(CaseError) as caught:
        tiny.score(frame)
    assert str(caught.value).splitlines() == [
        "line 0, case 'a', age: got 500, expected an age from 0 to 120 years",
        f"line 0, case 'a', tremor: got 'maybe', expected {READING}",
        "line 2, case 'c', tremor: got 2, expected a number from 0 to 1",
    ]
    assert [(r.line, r.case_id) for r in caught.value.rejects] == [(0, "a"), (0, "a"), (2, "c")]


def test_a_long_list_of_offences_is_cut_in_print_only(tiny):
    with pytest.raises(CaseError) as caught:
        tiny.score(pd.DataFrame({"tremor": ["maybe"] * 25}))
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1], len(caught.value.rejects)) == (21, "and 5 more", 25)


COLUMNS = {
    "unknown": (
        ["tremr"],
        "unknown column 'tremr'; nearest: tremor; correct it, take it out, or ignore it (--lenient, lenient=True)",
    ),
    "unknown_far_from_all": (
        ["xyz"],
        "unknown column 'xyz'; correct it, take it out, or ignore it (--lenient, lenient=True)",
    ),
    "special": (
        ["presnt"],
        "unknown column 'presnt'; nearest: present; correct it, take it out, or ignore it (--lenient, lenient=True)",
    ),
    "empty": (["tremor", " "], "column 2 has no name; name it or take it out"),
    "duplicate": (["tremor", "tremor"], "duplicate column 'tremor'; keep one"),
    "duplicate_by_an_alias": (
        ["tremor", "shaking"],
        "duplicate column 'shaking': columns 'tremor' and 'shaking' both mean tremor; keep one",
    ),
    "duplicate_case_id": (["case_id", "case_id"], "duplicate column 'case_id'; keep one"),
    "cause": (["stroke"], "column 'stroke' is a cause, and causes are what is scored; take it out"),
    "cause_by_an_alias": (["cva"], "column 'cva' is a cause, and causes are what is scored; take it out"),
    "age_band": (["age_0_17"], "column 'age_0_17' is an age band or a sex; give the columns age and sex instead"),
    "sex": (["female"], "column 'female' is an age band or a sex; give the columns age and sex instead"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_bad_column_is_refused_in_exact_words(name, tiny):
    header, message = COLUMNS[name]
    with pytest.raises(UsageError) as caught:
        tiny.score(pd.DataFrame([["1"] * len(header)], columns=header))
    assert str(caught.value) == message


DIAGNOSE = {
    "present": ({"present": ["tremr"]}, ("present", "tremr", "unknown_id", "unknown finding 'tremr'; nearest: tremor")),
    "absent": ({"absent": ["tremr"]}, ("absent", "tremr", "unknown_id", "unknown finding 'tremr'; nearest: tremor")),
    "uncertain": (
        {"uncertain": {"tremr": 0.5}},
        ("uncertain", "tremr", "unknown_id", "unknown finding 'tremr'; nearest: tremor"),
    ),
    "uncertain_value": (
        {"uncertain": {"tremor": 1.5}},
        ("uncertain", "1.5", "out_of_range", "tremor: got 1.5, expected a number from 0 to 1"),
    ),
    "context_value": (
        {"context": {"insulin": "maybe"}},
        ("context", "maybe", "not_a_value", "insulin: got 'maybe', expected True or False"),
    ),
    "graded": (
        {"present": ["onset"]},
        (
            "present",
            "onset",
            "unknown_id",
            "unknown finding 'onset'; onset is graded: give one of its levels, gradual_onset, sudden_onset",
        ),
    ),
    "context": (
        {"context": {"insuline": True}},
        ("context", "insuline", "unknown_id", "unknown context 'insuline'; nearest: insulin"),
    ),
    "context_is_a_finding": (
        {"context": {"tremor": True}},
        ("context", "tremor", "unknown_id", "unknown context 'tremor'; tremor is a finding"),
    ),
    "measurement": (
        {"measurements": {"haemoglobin": 12}},
        ("measurements", "haemoglobin", "unknown_id", "unknown measurement 'haemoglobin'; known: haemoglobin_g_dl"),
    ),
    "measurement_value": (
        {"measurements": {"haemoglobin_g_dl": 130}},
        ("haemoglobin_g_dl", "130", "implausible_value", "got 130 g/dl, plausible is 1.5 to 25 g/dl; check the unit"),
    ),
    "age": ({"age": 130}, ("age", "130", "implausible_age", "got 130, expected an age from 0 to 120 years")),
    "sex": ({"sex": "woman"}, ("sex", "woman", "not_a_value", "got 'woman', expected female, male, or empty")),
    "present_and_absent": (
        {"present": ["tremor"], "absent": ["shaking"]},
        ("absent", "tremor", "contradiction", "tremor is both present and absent; keep one statement"),
    ),
    "two_levels": (
        {"present": ["sudden_onset", "gradual_onset"]},
        (
            "",
            "gradual_onset;sudden_onset",
            "two_levels",
            "gradual_onset and sudden_onset are levels of onset, of which one case has one; keep one",
        ),
    ),
}


@pytest.mark.parametrize("name", DIAGNOSE)
def test_diagnose_refuses_in_exact_words(name, tiny):
    arguments, expected = DIAGNOSE[name]
    with pytest.raises(CaseError) as caught:
        tiny.diagnose(**arguments)
    assert [(r.column, r.value, r.error, r.message) for r in caught.value.rejects] == [expected]


def test_the_error_of_one_case_speaks_of_no_line(tiny):
    with pytest.raises(CaseError) as caught:
        tiny.diagnose(present=["tremr"])
    assert str(caught.value) == "present: unknown finding 'tremr'; nearest: tremor"


@pytest.mark.parametrize("name", ["present", "absent"])
def test_a_text_in_place_of_a_list_is_refused(name, tiny):
    with pytest.raises(UsageError) as caught:
        tiny.diagnose(**{name: "tremor"})
    assert str(caught.value) == f"{name}: got the text 'tremor', expected a list of ids, such as ['tremor']"


@pytest.mark.parametrize("name", ["present", "absent"])
@pytest.mark.parametrize("given", [None, 3])
def test_what_holds_no_ids_in_place_of_a_list_is_refused(name, given, tiny):
    with pytest.raises(UsageError) as caught:
        tiny.diagnose(**{name: given})
    assert str(caught.value) == f"{name}: got {given!r}, expected a list of ids; leave it out where nothing is stated"


@pytest.mark.parametrize("name", ["present", "absent"])
def test_a_mapping_in_place_of_a_list_is_refused(name, tiny):
    with pytest.raises(UsageError) as caught:
        tiny.diagnose(**{name: {"tremor": 0.3}})
    assert str(caught.value) == f"{name}: got a mapping, expected a list of ids; values between 0 and 1 go into uncertain"


@pytest.mark.parametrize(("name", "example"), [("uncertain", 0.8), ("measurements", 5.5), ("context", True)])
def test_a_list_in_place_of_a_mapping_is_refused(name, example, tiny):
    with pytest.raises(UsageError) as caught:
        tiny.diagnose(**{name: ["diabetes"]})
    expected = f"{name}: got a list, expected a mapping from ids to values, such as {{'...': {example}}}"
    assert str(caught.value) == expected


LISTS_OF_IDS = {
    "list": ["tremor", "fatigue"],
    "tuple": ("fatigue", "tremor"),
    "set": {"tremor", "fatigue"},
    "array": np.array(["tremor", "fatigue"]),
    "none_among_them": ["tremor", None, "fatigue"],
}


@pytest.mark.parametrize("name", LISTS_OF_IDS)
def test_a_cell_of_a_frame_may_hold_a_list_of_ids(name, tiny):
    lists = {"present": [LISTS_OF_IDS[name], [], None], "absent": [None, ("numbness",), np.array([])]}
    texts = {"present": ["tremor;fatigue", "", ""], "absent": ["", "numbness", ""]}
    pd.testing.assert_frame_equal(tiny.score(pd.DataFrame(lists, dtype=object)), tiny.score(pd.DataFrame(texts)))


@pytest.mark.parametrize("cases", [{"tremor": [1]}, [{"tremor": 1}], pd.Series({"tremor": 1})], ids=["dict", "list", "series"])
def test_what_is_no_frame_is_refused(cases, tiny):
    with pytest.raises(UsageError) as caught:
        tiny.score(cases)
    got = type(cases).__name__
    assert str(caught.value) == f"cases: got a {got}, expected a pandas DataFrame with a row for every case"


# Lenient reading.


def test_lenient_reading_drops_the_cell_and_says_so(tiny):
    frame = pd.DataFrame({"case_id": ["a", "b"], "tremor": ["maybe", 1], "age": [50, 500], "tremr": [1, 1]}, dtype=object)
    with pytest.warns(UserWarning, match="ignored") as caught:
        got = tiny.score(frame, lenient=True)
    assert str(caught[0].message).splitlines() == [
        "3 cells ignored:",
        "tremr: unknown column 'tremr'; nearest: tremor; ignored",
        "line 1, case 'b', age: got 500, expected an age from 0 to 120 years",
        f"line 0, case 'a', tremor: got 'maybe', expected {READING}",
    ]
    expected = tiny.score(pd.DataFrame({"tremor": [np.nan, 1], "age": [50, np.nan]}))
    pd.testing.assert_frame_equal(got, expected)


LENIENT = {
    "contradiction": ({"present": "tremor;fatigue", "absent": "tremor"}, {"fatigue": 1}),
    "contradiction_repeated": ({"present": "tremor;fatigue", "absent": "tremor;shaking"}, {"fatigue": 1}),
    "contradiction_in_three_places": ({"tremor": 1, "fatigue": 1, "absent": "tremor", "present": "shaking"}, {"fatigue": 1}),
    "implication": ({"present": "hand_weakness;fatigue", "absent": "arm_weakness"}, {"fatigue": 1}),
    "requirement": ({"insulin": 1, "diabetes": 0, "fatigue": 1}, {"fatigue": 1}),
    "two_levels": ({"gradual_onset": 1, "sudden_onset": 1, "fatigue": 1}, {"fatigue": 1}),
    "two_sexes": ({"sex": "f", "context": "sex_male", "fatigue": 1}, {"fatigue": 1}),
    "two_sexes_repeated": ({"sex": "f", "context": "sex_male;male", "fatigue": 1}, {"fatigue": 1}),
    "unknown_id": ({"present": "tremr;fatigue"}, {"fatigue": 1}),
}


@pytest.mark.parametrize("name", LENIENT)
def test_lenient_reading_uses_nothing_that_is_contradicted(name, tiny):
    row, usable = LENIENT[name]
    with pytest.warns(UserWarning, match="ignored"):
        got = tiny.score(pd.DataFrame([row], dtype=object), lenient=True)
    pd.testing.assert_frame_equal(got, tiny.score(pd.DataFrame([usable], dtype=object)))


def test_lenient_reading_of_clean_cases_warns_of_nothing(tiny, recwarn):
    tiny.score(pd.DataFrame({"tremor": [1]}), lenient=True)
    assert not recwarn.list


def test_lenient_reading_still_refuses_cases_without_a_name(tiny):
    frame = pd.DataFrame({"case_id": ["a", "a"], "tremor": [1, 0]})
    with pytest.raises(CaseError, match="case_id 'a' stands in an earlier row"):
        tiny.score(frame, lenient=True)


# Evidence that cannot be scored.


@pytest.fixture
def impossible() -> str:
    return "the evidence has probability zero in this knowledge base; look for statements that exclude each other"


@pytest.fixture
def structural(tiny):
    """The tiny model with a finding that nothing brings about."""
    model = ddx.Model(tiny.knowledge, tiny.setting)
    link, leak = tiny.network.link.copy(), tiny.network.leak.copy()
    row = tiny.network.findings.index("tremor")
    link[row], leak[:, row] = 0.0, 0.0
    model.__dict__["network"] = replace(tiny.network, link=link, leak=leak)
    return model


def test_impossible_evidence_is_refused(structural, impossible):
    with pytest.raises(CaseError) as caught:
        structural.diagnose(present=["tremor"])
    assert [(r.error, r.message) for r in caught.value.rejects] == [("impossible_evidence", impossible)]
    with pytest.raises(CaseError) as caught:
        structural.score(pd.DataFrame({"case_id": ["a", "b"], "tremor": [0, 1]}))
    assert [(r.line, r.case_id, r.error, r.message) for r in caught.value.rejects] == [
        (1, "b", "impossible_evidence", impossible)
    ]


def test_too_many_present_findings_are_refused_and_the_other_cases_named(limb):
    graded = {level for levels in limb.knowledge.graded.values() for level in levels}
    implied = {f for finding in limb.knowledge.findings.values() for f in finding.implies}
    many = [f for f in limb.network.findings if f not in graded | implied][:150]
    with pytest.raises(CaseError) as caught:
        limb.score(pd.DataFrame({"case_id": ["a", "b"], "present": ["ptosis", ";".join(many)], "age": 50, "sex": "f"}))
    (reject,) = caught.value.rejects
    assert (reject.case_id, reject.line, reject.error) == ("b", 1, "too_many_findings")
    assert reject.message.startswith("150 present or uncertain findings need ")
    assert reject.message.endswith(" GiB, the budget is 4 GiB; leave out findings")


def test_no_item_of_a_knowledge_base_can_be_named_like_a_column():
    assert set(SPECIAL) | {NONE, LOG_EVIDENCE} == RESERVED


@pytest.mark.parametrize("name", ["posterior", "prior", "context", "syndromes"])
def test_a_changed_series_leaves_the_answer_as_it_was(name, limb):
    answer = limb.in_setting("primary_care").diagnose(present=["rest_tremor", "bradykinesia"])
    before, changed = getattr(answer, name), getattr(answer, name)
    changed.iloc[0] = 7.0
    pd.testing.assert_series_equal(getattr(answer, name), before)


def test_a_model_travels_to_another_process(tiny):
    copy = pickle.loads(pickle.dumps(tiny))
    case = {"present": ["tremor"], "age": 40}
    pd.testing.assert_series_equal(copy.diagnose(**case).posterior, tiny.diagnose(**case).posterior)
    with pytest.raises(TypeError, match="does not support item assignment"):
        copy.knowledge.causes["x"] = None


def test_selected_cases_hold_only_what_they_state(limb):
    columns = interpret(["present", "absent"], limb.knowledge)
    cells = [["tremor_unspecified;sudden_onset", "headache"], ["headache", ""]]
    evidence = encode(limb.knowledge, columns, cells, [1, 2]).evidence
    assert len(evidence.columns) == 2
    assert list(evidence.level) == ["onset"]
    (first, second) = (select(evidence, np.array([row])) for row in (0, 1))
    assert [limb.network.findings[f] for f in second.columns] == ["headache"]
    assert second.level == {}
    assert len(first.columns) == 2
    for one, row in ((first, 0), (second, 1)):
        np.testing.assert_array_equal(limb.network.posterior(one).marginal[0], limb.network.posterior(evidence).marginal[row])
