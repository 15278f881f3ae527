"""Simulated cases and files of cases in settings that state their causes per patient."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from runs import chunked

import ddx
from ddx import validation
from ddx.validation import simulate

STATED = {"clinic": 1.08, "balanced": 1.2}


@pytest.fixture(scope="module", params=STATED)
def model(request, tiny):
    found = ddx.Model(replace(tiny.knowledge, causes_per_patient=MappingProxyType(STATED)), request.param)
    assert found.network.none_weight < 0.6
    return found


@pytest.fixture(scope="module")
def many(model):
    return simulate(model, 20_000, seed=11, observed=1.0)


def near(frequency, expected, n):
    """Within four standard errors."""
    assert abs(frequency - expected) <= 4.0 * math.sqrt(expected * (1.0 - expected) / n) + 1e-12


# --- simulated patients -----------------------------------------------------------------------------------------------------


def test_patients_have_the_priors_and_the_number_of_causes_of_the_setting(model, many):
    causes = many["final_diagnosis"].map(lambda cell: cell.split(";") if cell else [])
    for cause, prevalence in zip(model.network.causes, model.network.prevalence, strict=True):
        near(causes.map(lambda names, cause=cause: cause in names).mean(), prevalence, len(many))
    number = causes.map(len)[causes.map(len) > 0]
    assert abs(number.mean() - STATED[model.setting]) <= 4.0 * number.std() / math.sqrt(len(number))
    near((causes.map(len) == 0).mean(), 1.0 - model.network.prevalence.sum() / STATED[model.setting], len(many))


def test_patients_have_the_ages_and_sexes_of_the_setting(many):
    for low, high, share in ((0, 18, 0.2), (18, 45, 0.35), (45, 65, 0.25), (65, 75, 0.1), (75, 121, 0.1)):
        near(many["age"].between(low, high, inclusive="left").mean(), share, len(many))
    near((many["sex"] == "female").mean(), 0.51, len(many))


def test_posteriors_of_simulated_patients_are_calibrated(model):
    # The limits are 97.5 % quantiles: of the 12 seeds 21 to 32, one setting stays below with all, the other with 11.
    cases = simulate(model, 4000, seed=24, observed=0.6)
    scores = model.score(cases)
    found = validation.report(scores, cases["final_diagnosis"], seed=1, resamples=200)
    assert found.calibration_error.value <= found.calibration_error_by_chance.high
    assert found.leading_calibration_error.value <= found.leading_calibration_error_by_chance.high
    near((cases["final_diagnosis"] == "").mean(), scores["none_of_these"].mean(), len(cases))
    independent = ddx.Model(replace(model.knowledge, causes_per_patient=MappingProxyType({})), model.setting)
    wrong = validation.report(independent.score(cases), cases["final_diagnosis"], seed=1, resamples=200)
    assert found.log_score.value < wrong.log_score.value


def test_the_seed_decides_how_many_come_and_who(model):
    pd.testing.assert_frame_equal(simulate(model, 50, seed=5), simulate(model, 50, seed=np.random.default_rng(5)))
    assert not simulate(model, 50, seed=5).equals(simulate(model, 50, seed=6))
    for n in (0, 1, 2, 57):
        cases = simulate(model, n, seed=2)
        assert len(cases) == n == cases["case_id"].nunique()
    assert len(model.score(simulate(model, 1))) == 1


# --- files -------------------------------------------------------------------------------------------------------------------


def _json(path):
    return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_file_holds_what_score_says_whatever_the_chunks(model, target, tmp_path):
    cases = simulate(model, 60, seed=4, observed=0.5).drop(columns="final_diagnosis")
    cases.loc[::3, ["age", "sex"]] = None
    cases.loc[1::4, "context"] = ""
    rejected = cases.index[7]
    cases.loc[rejected, "present"] = "no_such_finding"
    cases.to_csv(tmp_path / "cases.csv", index=False)
    expected = model.score(cases.drop(index=rejected))
    ids = cases["case_id"].drop(rejected)
    whole = None
    for rows, block in ((1000, 1 << 22), (1, 64), (7, 1000), (59, 1)):
        with chunked(rows, block):
            summary = ddx.score_file(tmp_path / "cases.csv", tmp_path / target, model)
        assert (summary.scored, summary.rejected) == (59, 1)
        found = (tmp_path / target).read_bytes()
        assert whole in (None, found)
        whole = found
    read = {"csv": pd.read_csv, "jsonl": _json, "parquet": pd.read_parquet}
    table = read[target.partition(".")[2]](tmp_path / target).set_index("case_id")
    assert table.index.tolist() == ids.tolist()
    columns = [*model.network.causes, "none_of_these", "log_evidence"]
    np.testing.assert_allclose(table[columns], expected[columns], rtol=0.0 if target == "out.parquet" else 1e-15)


def test_cases_too_large_among_patients_are_rejected_alone(tmp_path):
    model = ddx.load("limb", "emergency")
    names = [f.id for f in model.knowledge.findings.values() if not f.graded]
    uncertain = pd.DataFrame(0.5, index=["large"], columns=names)
    some = pd.DataFrame({"tremor_unspecified": [1.0, 0.0], "hand_numbness": [None, 1.0]}, index=["first", "last"])
    cases = pd.concat([some.iloc[:1], uncertain, some.iloc[1:]]).rename_axis("case_id")
    cases.reset_index().to_csv(tmp_path / "cases.csv", index=False)
    for rows in (1000, 1):
        with chunked(rows, 1 << 22):
            summary = ddx.score_file(tmp_path / "cases.csv", tmp_path / "out.csv", model)
        assert (summary.scored, summary.rejected) == (2, 1)
        rejects = pd.read_csv(tmp_path / "out.rejects.csv")
        assert set(rejects["case_id"]) == {"large"}
        table = pd.read_csv(tmp_path / "out.csv").set_index("case_id")
        expected = model.score(some)
        np.testing.assert_allclose(table[expected.columns.tolist()], expected, rtol=1e-15)


def test_impossible_cases_among_patients_do_not_disturb_the_others(model):
    """A finding that only one cause shows, and that this cause is excluded by another, certain one."""
    net = model.network
    link, leak, behind = net.link.copy(), net.leak.copy(), net.finding_syndrome.copy()
    own, other = net.findings.index("raised_ck"), net.findings.index("numbness")
    k = net.causes.index("myopathy")
    link[[own, other]], leak[:, [own, other]] = 0.0, 0.0
    link[own, k], link[other, k] = 0.7, 1.0
    behind[[own, other]] = 0.0
    marked = replace(net, link=link, leak=leak, finding_syndrome=behind)
    cases = [{"present": ["raised_ck"], "absent": ["numbness"]}, {"present": ["raised_ck"]}, {"present": ["fatigue"]}]
    frame = pd.DataFrame([{key: ";".join(value) for key, value in case.items()} for case in cases]).fillna("")
    evidence = ddx.cases.encode(model.knowledge, *ddx.cases.from_frame(model.knowledge, frame), [0, 1, 2]).evidence
    found = marked.posterior(evidence)
    assert found.impossible.tolist() == [True, False, False]
    assert np.isneginf(found.log_evidence[0])
    assert np.isnan(found.marginal[0]).all()
    assert np.isnan(found.none[0])
    assert found.marginal[1, k] == pytest.approx(1.0, rel=1e-14)
    assert found.none[1] == 0.0
    alone = marked.posterior(ddx.cases.select(evidence, np.array([2])))
    np.testing.assert_allclose(found.marginal[2], alone.marginal[0], rtol=1e-13)
