"""The experiment with people chosen for a complaint: against the sum over what complaints there may be."""

from __future__ import annotations

import itertools
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ddx.cases import encode, interpret

MODULE = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "selection" / "run.py"))
COMPLAINTS, SIDES = ("arm_weakness", "sensory_disturbance", "tremor_unspecified"), ("weakness_side",)


def evidence(model, rows):
    frame = pd.DataFrame([{"age": 50, "sex": "female", **row} for row in rows]).astype(object)
    columns = interpret(list(frame.columns), model.knowledge)
    found = encode(model.knowledge, columns, [frame[name].tolist() for name in frame], list(range(len(frame))))
    assert not found.rejects
    return found.evidence


def test_what_is_left_is_the_sum_over_all_complaints(limb):
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
    found = limb.network.posterior(evidence(limb, patterns))
    weight = np.exp(found.log_evidence)
    expected = weight @ found.marginal / weight.sum()
    one = evidence(limb, [said])
    assert MODULE["among"](limb.network, one, COMPLAINTS, SIDES)[0] == pytest.approx(expected, rel=1e-9)


def test_where_a_complaint_is_stated_nothing_is_taken_away(limb):
    some = [{"hand_weakness": 1}, {"unilateral_weakness": 1}, {"foot_numbness": 1}, {"ptosis": 1}, {"arm_weakness": 0}]
    cases = evidence(limb, some)
    assert MODULE["has_complaint"](limb.network, cases, COMPLAINTS, SIDES).tolist() == [True, True, True, False, False]
    plain, found = limb.network.posterior(cases).marginal, MODULE["among"](limb.network, cases, COMPLAINTS, SIDES)
    assert (found == plain).all(axis=1).tolist() == [True, True, True, False, False]
    alone = [MODULE["among"](limb.network, evidence(limb, [row]), COMPLAINTS, SIDES)[0] for row in some[3:]]
    assert found[3:] == pytest.approx(np.stack(alone), rel=1e-12)


def test_people_with_a_complaint_have_the_priors_of_the_setting(limb):
    network = limb.network
    wide, chance = MODULE["widened"](network, COMPLAINTS, SIDES)
    nobody = replace(evidence(limb, [{"ptosis": None}]), age=np.full(1, -1), sex=np.full(1, -1))
    prior = network.posterior(nobody).marginal[0]
    assert MODULE["among"](wide, nobody, COMPLAINTS, SIDES)[0] == pytest.approx(prior, rel=1e-8)
    assert 0.0 < chance < 1.0
    assert (wide.posterior(nobody).marginal[0] < prior).all()
