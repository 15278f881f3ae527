"""The experiment with selection: people with a complaint, the number of causes, and patients drawn from forms."""

from __future__ import annotations

import itertools
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ddx
from ddx.cases import encode, interpret

FOLDER = Path(__file__).parents[1] / "experiments" / "selection"
MODULE = runpy.run_path(str(FOLDER / "run.py"))
PATIENTS = runpy.run_path(str(FOLDER / "patients.py"), run_name="patients_of_forms")
COMPLAINTS, SIDES = ("arm_weakness", "sensory_disturbance", "tremor_unspecified"), ("weakness_side",)


@pytest.fixture(scope="module")
def alone(limb):
    return MODULE["independent"](limb)


def evidence(model, rows):
    frame = pd.DataFrame([{"age": 50, "sex": "female", **row} for row in rows]).astype(object)
    columns = interpret(list(frame.columns), model.knowledge)
    found = encode(model.knowledge, columns, [frame[name].tolist() for name in frame], list(range(len(frame))))
    assert not found.rejects
    return found.evidence


def test_what_is_left_is_the_sum_over_all_complaints(alone):
    said = {"ptosis": 1, "dysphagia": 0, "neck_pain": 1}
    patterns = []
    for a, s, t in itertools.product((0, 1), repeat=3):
        for side in (
            {"unilateral_weakness": 1},
            {"bilateral_weakness": 1},
            {"unilateral_weakness": 0, "bilateral_weakness": 0},
        ):
            named = dict(zip(COMPLAINTS, (a, s, t), strict=True))
            if any(named.values()) or 1 in side.values():
                patterns.append({**said, **named, **side})
    found = alone.network.posterior(evidence(alone, patterns))
    weight = np.exp(found.log_evidence)
    expected = weight @ found.marginal / weight.sum()
    one = evidence(alone, [said])
    assert MODULE["among"](alone.network, one, COMPLAINTS, SIDES)[0] == pytest.approx(expected, rel=1e-9)


def test_where_a_complaint_is_stated_nothing_is_taken_away(alone):
    some = [{"hand_weakness": 1}, {"unilateral_weakness": 1}, {"foot_numbness": 1}, {"ptosis": 1}, {"arm_weakness": 0}]
    cases = evidence(alone, some)
    assert MODULE["has_complaint"](alone.network, cases, COMPLAINTS, SIDES).tolist() == [True, True, True, False, False]
    plain, found = alone.network.posterior(cases).marginal, MODULE["among"](alone.network, cases, COMPLAINTS, SIDES)
    assert (found == plain).all(axis=1).tolist() == [True, True, True, False, False]
    alone = [MODULE["among"](alone.network, evidence(alone, [row]), COMPLAINTS, SIDES)[0] for row in some[3:]]
    assert found[3:] == pytest.approx(np.stack(alone), rel=1e-12)


def test_people_with_a_complaint_have_the_priors_of_the_setting(alone):
    network = alone.network
    wide, chance = MODULE["widened"](network, COMPLAINTS, SIDES)
    nobody = replace(evidence(alone, [{"ptosis": None}]), age=np.full(1, -1), sex=np.full(1, -1))
    prior = network.posterior(nobody).marginal[0]
    assert MODULE["among"](wide, nobody, COMPLAINTS, SIDES)[0] == pytest.approx(prior, rel=1e-8)
    assert 0.0 < chance < 1.0
    assert (wide.posterior(nobody).marginal[0] < prior).all()


@pytest.mark.parametrize("setting", ["primary_care", "emergency", "neurology_clinic"])
def test_the_number_of_causes_is_that_of_the_networks(limb, setting):
    shipped = ddx.Model(limb.knowledge, setting)
    for model in (shipped, MODULE["independent"](shipped)):
        shares, mean = MODULE["number_of_causes"](model.network, 50_000, 0)
        nobody = replace(evidence(model, [{"ptosis": None}]), age=np.full(1, -1), sex=np.full(1, -1))
        found = model.network.posterior(nobody)
        assert sum(shares) == pytest.approx(1.0, abs=1e-12)
        assert shares[0] == pytest.approx(found.none[0], abs=3e-3)
        assert mean == pytest.approx(found.marginal.sum() / (1.0 - found.none[0]), rel=3e-3)
        assert shares[1] + 2.0 * shares[2] <= mean * (1.0 - shares[0]) + 1e-12
    assert mean > limb.knowledge.causes_per_patient[setting]


def test_what_was_counted_is_what_the_knowledge_base_says(limb):
    for setting, (_, shares, mean) in MODULE["COUNTED"].items():
        assert round(mean, 2) == limb.knowledge.causes_per_patient[setting]
        assert sum(shares) == pytest.approx(1.0, abs=2e-3)


def test_patients_of_forms_can_be_scored_and_are_drawn_anew_from_the_seed(limb, alone):
    drawn = PATIENTS["draw"](alone, 300, 1, 5000)
    assert drawn.equals(PATIENTS["draw"](alone, 300, 1, 5000))
    cases = MODULE["Cases"].of(limb, drawn)
    assert (cases.truth.sum(axis=1) == 1).all()
    assert np.isfinite(limb.network.posterior(cases.evidence).marginal).all()
    general = dict.fromkeys(limb.network.findings, frozenset()) | {
        s: {g for t, g in limb.knowledge.implications if t == s} for s, _ in limb.knowledge.implications
    }
    words = pd.read_csv(PATIENTS["VOCABULARY"])
    words = set(words.loc[words["kind"] == "finding", "id"])
    levels = {level: graded for graded, own in limb.knowledge.graded.items() for level in own}
    most = np.max(list(PATIENTS["lengths"]()), axis=0)
    for present, absent in zip(drawn["present"].str.split(";"), drawn["absent"].str.split(";"), strict=True):
        absent = list(filter(None, absent))
        assert 1 <= len(present) <= most[0]
        assert len(absent) <= most[1]
        assert {*present, *absent} <= words
        assert not set(absent) & {*present, *levels, *(g for f in present for g in general[f])}
        assert len([f for f in present if f in levels]) == len({levels[f] for f in present if f in levels})


def test_findings_are_as_frequent_as_in_the_forms(alone):
    rng = np.random.default_rng(2)
    reports = PATIENTS["Reports"].of(alone.knowledge)
    cause = alone.network.causes.index("stroke")
    share, table = reports.forms[cause]
    assert share.sum() == pytest.approx(1.0)
    n = 4000
    drawn = np.array([reports.patient(cause, 4, rng)[0] for _ in range(n)]).mean(axis=0)
    implied = reports.implies.any(axis=0)
    graded = np.isin(np.arange(len(drawn)), np.concatenate(reports.graded))
    expected = share @ np.where(np.isnan(table), np.where(graded, 0.0, reports.leak[4]), table)
    error = np.sqrt(expected * (1.0 - expected) / n)
    assert (np.abs(drawn - expected) < 4.5 * error + 1e-3)[~implied].all()
    assert (drawn > expected - 4.5 * error - 1e-3)[implied & ~graded].all()
