"""Sensitivity where a setting states its causes per patient: who comes is a convention, which no other value moves."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from conftest import Editor, write_tiny

import ddx
from ddx import sensitivity
from ddx.draws import draw_parameters, posterior_draws, posterior_under
from ddx.network import build_network
from ddx.sensitivity.case import interval_of, moved, relevant
from ddx.sensitivity.functions import Functions

STATED = 1.08
CASES = {
    "known": {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"},
    "context": {"present": ["tremor"], "uncertain": {"fatigue": 0.7}, "age": 30, "sex": "male", "context": {"diabetes": True}},
    "mixture": {"present": ["hand_weakness", "sudden_onset"], "absent": ["raised_ck", "low_glucose"]},
    "empty": {},
}
LIMB_CASE = {"present": ["ptosis", "diplopia"], "absent": ["neck_pain"], "sex": "female"}


@pytest.fixture(scope="module")
def clinic(tiny):
    model = ddx.Model(replace(tiny.knowledge, causes_per_patient=MappingProxyType({"clinic": STATED})), "clinic")
    assert model.network.none_weight < 0.6
    return model


@pytest.fixture(scope="module", params=["tiny", "limb"])
def some(request, clinic, limb):
    """A model, a case, and parameters of all kinds."""
    if request.param == "tiny":
        return clinic, CASES["mixture"], list(clinic.knowledge.parameters)
    model = limb.in_setting("primary_care")
    ids = relevant(model, model.diagnose(**LIMB_CASE).evidence)
    kinds = {}
    for name in ids:
        kinds.setdefault((name.split(":")[0], name.count(":"), name.count("@")), []).append(name)
    return model, LIMB_CASE, [name for names in kinds.values() for name in names[:: -(-len(names) // 4)]]


def under(model, case, values):
    """Posteriors of a network built anew; ``values`` of parameters."""
    return build_network(model.knowledge, model.setting, values).posterior(model.diagnose(**case).evidence).marginal[0]


def test_every_parameter_moves_posteriors_as_in_networks_built_anew(some):
    model, case, ids = some
    assert {p.split(":")[0] for p in ids} == {"link", "leak", "prior", "or", "context", "population"}
    found = model.diagnose(**case)
    moves = [(p, moved(model.knowledge.parameters[p], z)) for p in ids for z in (-1.5, 0.7)]
    posteriors = posterior_under(model, found.evidence, [dict([move]) for move in moves])
    functions = Functions(model, found).under(*zip(*moves, strict=True))
    for move, row, exact in zip(moves, posteriors, functions, strict=True):
        anew = under(model, case, dict([move]))
        np.testing.assert_allclose(row, anew, rtol=1e-10, atol=1e-15, err_msg=str(move))
        np.testing.assert_allclose(exact, anew, rtol=1e-8, atol=1e-14, err_msg=str(move))


@pytest.mark.parametrize("name", CASES)
def test_exact_functions_reach_the_ends(clinic, name):
    case = clinic.diagnose(**CASES[name])
    moves = []
    for parameter in relevant(clinic, case.evidence):
        own = clinic.knowledge.parameters[parameter]
        ends = (1e-6, 0.5 * own.value, 1e6) if parameter.startswith("or:") else (1e-9, 0.3, 1.0 - 1e-9)
        moves += [(parameter, end) for end in ends]
    found = Functions(clinic, case).under(*zip(*moves, strict=True))
    for move, row in zip(moves, found, strict=True):
        np.testing.assert_allclose(row, under(clinic, CASES[name], dict([move])), rtol=1e-8, atol=1e-14, err_msg=str(move))


@pytest.mark.parametrize("name", ["known", "mixture"])
def test_functions_of_links_and_their_curves(clinic, name):
    case, checked = CASES[name], 0
    for parameter in relevant(clinic, clinic.diagnose(**case).evidence):
        if not parameter.startswith("link:") or "onset" in parameter:
            continue
        for target in ("stroke", "anaemia"):
            ratio = sensitivity.function(clinic, case, target, parameter)
            points = [0.03, 0.4, 0.9]
            curve = sensitivity.curve(clinic, case, target, parameter, points)
            column = clinic.network.causes.index(target)
            for t in points:
                row = under(clinic, case, {parameter: t})
                assert ratio(t) == pytest.approx(row[column], rel=1e-10, abs=1e-15)
                assert curve.loc[t, "posterior"] == pytest.approx(row[column], rel=1e-10, abs=1e-15)
                assert curve.loc[t, "leading"] == clinic.network.causes[row.argmax()]
                checked += 1
    assert checked > 20


def test_one_way_and_its_derivatives(some):
    model, case, ids = some
    target = model.diagnose(**case).posterior.index[0]
    column = model.network.causes.index(target)
    table = sensitivity.one_way(model, case, target, ids)
    assert sorted(table.index) == sorted(ids)
    for parameter, row in table.iterrows():
        for end, name in zip(interval_of(model.knowledge.parameters[parameter]), ("at_low", "at_high"), strict=True):
            assert row[name] == pytest.approx(under(model, case, {parameter: end})[column], rel=1e-9), parameter
        h = 1e-5 * min(row["value"], abs(1.0 - row["value"]))
        up, down = (under(model, case, {parameter: row["value"] + s * h})[column] for s in (1.0, -1.0))
        assert row["derivative"] == pytest.approx((up - down) / (2.0 * h), rel=1e-3, abs=1e-6), parameter


@pytest.mark.parametrize("name", CASES)
def test_flips_happen_where_they_are_said_to(clinic, name):
    case, causes = CASES[name], clinic.network.causes
    table = sensitivity.flips(clinic, case, limit=8.0)
    assert not table.empty
    now = clinic.diagnose(**case).posterior
    threshold = {c.id: c.action_threshold for c in clinic.knowledge.causes.values()}
    for parameter, row in table.iterrows():
        own = clinic.knowledge.parameters[parameter]
        before, after = (
            pd.Series(under(clinic, case, {parameter: moved(own, row["deviations"] * s)}), causes) for s in (0.999, 1.001)
        )
        if row["change"] == "leading cause":
            assert before.idxmax() == now.index[0]
            assert after.idxmax() == row["cause"]
        else:
            at = threshold[row["cause"]]
            assert (before[row["cause"]] >= at) == (now[row["cause"]] >= at) != (after[row["cause"]] >= at)


def test_parameters_that_are_not_relevant_change_nothing(clinic):
    for case in CASES.values():
        evidence = clinic.diagnose(**case).evidence
        left = set(clinic.knowledge.parameters) - set(relevant(clinic, evidence))
        moves = [{p: moved(clinic.knowledge.parameters[p], 1.0)} for p in left]
        now = clinic.network.posterior(evidence).marginal[0]
        np.testing.assert_allclose(posterior_under(clinic, evidence, moves), np.tile(now, (len(moves), 1)), rtol=1e-12)
        anew = [under(clinic, case, one) for one in moves]
        np.testing.assert_allclose(anew, np.tile(now, (len(moves), 1)), rtol=1e-11)


FRAME = pd.DataFrame(
    {"present": ["arm_weakness;numbness", "fatigue;tremor", ""], "absent": ["tremor", "", ""], "age": [70, 30, None]},
    index=["a", "b", "c"],
)


@pytest.mark.parametrize("few", [40, 1])
def test_draws_are_networks_built_anew(clinic, few, monkeypatch):
    monkeypatch.setattr("ddx.draws._FEW", few)
    evidence = [clinic.diagnose(**case).evidence for case in CASES.values()]
    parameters = clinic.knowledge.parameters
    table = draw_parameters(parameters.values(), 20, np.random.default_rng(3))
    for own, case in zip(evidence, CASES.values(), strict=True):
        found = posterior_draws(clinic, own, 20, 3)[:, 0]
        for row, drawn in zip(found, table, strict=True):
            np.testing.assert_allclose(row, under(clinic, case, dict(zip(parameters, drawn, strict=True))), rtol=1e-9)


def test_intervals_hold_the_posterior_and_those_of_few_and_of_many_cases_are_the_same(clinic, monkeypatch):
    few = sensitivity.intervals(clinic, FRAME, draws=120)
    assert (few["low"] <= few["high"]).all()
    assert ((few["low"] <= few["posterior"]) & (few["posterior"] <= few["high"])).all()
    monkeypatch.setattr("ddx.draws._FEW", 1)
    pd.testing.assert_frame_equal(sensitivity.intervals(clinic, FRAME, draws=120), few, rtol=1e-9, atol=1e-12)


def test_leaving_a_study_out_moves_its_parameters_and_not_who_comes(tmp_path):
    folder = write_tiny(tmp_path / "tiny")
    edit = Editor(folder)
    edit.cell("studies.csv", "leak_low_haemoglobin", "source", "smith_2020")
    edit.copy("studies.csv", "link_stroke_numbness", id="second", value="0.8", source="jones_2010", quality="case_series")
    edit.copy("studies.csv", "clinic_stroke", id="share_again", value="0.1", source="jones_2010")
    kb = (folder / "kb.toml").read_text()
    (folder / "kb.toml").write_text(kb + f"\n[causes_per_patient]\nclinic = {STATED}\n")
    model = ddx.load(folder, "clinic")
    table = sensitivity.leave_one_source_out(model, FRAME)
    edit.drop("studies.csv", "second", "share_again")
    edit.drop("sources.csv", "jones_2010")
    without = ddx.load(folder, "clinic").knowledge.means
    values = {name: without[name] for name in ("link:stroke:numbness", "prior:stroke@clinic")}
    assert all(values[name] != model.knowledge.means[name] for name in values)
    gaps = []
    for row in FRAME.itertuples():
        case = {
            "present": [x for x in row.present.split(";") if x],
            "absent": [x for x in row.absent.split(";") if x],
            "age": None if np.isnan(row.age) else row.age,
        }
        gaps.append(np.abs(under(model, case, values) - under(model, case, {})).max())
    assert table.loc["jones_2010", "change"] == pytest.approx(max(gaps), rel=1e-9)


# --- how nearly patients of other parameters are as they were counted -------------------------------------------------------


@pytest.mark.parametrize("z", [-1.0, 1.0])
def test_with_another_prior_patients_have_nearly_that_prior(some, z):
    """The part that comes changes with the prior, and so do all priors: relatively, by no more than this one was moved."""
    model, _, _ = some
    priors = [p for p in model.knowledge.parameters if p.startswith("prior:") and p.endswith(f"@{model.setting}")]
    for name in priors[:6]:
        own = model.knowledge.parameters[name]
        value = moved(own, z)
        net = build_network(model.knowledge, model.setting, {name: value})
        patients = net.posterior(model.diagnose().evidence).marginal[0]
        ratio = patients / net.prevalence
        assert net.prevalence[net.causes.index(name[6:].partition("@")[0])] == value
        # All by the same factor: one scale for all priors of people at large.
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert abs(ratio[0] - 1.0) <= abs(value - own.value) + 1e-12, name


def test_other_odds_ratios_and_frequencies_leave_priors_nearly_as_they_are(some):
    model, _, ids = some
    moves = [{p: moved(model.knowledge.parameters[p], 1.0)} for p in ids if p.startswith(("or:", "context:", "population:"))]
    found = posterior_under(model, model.diagnose().evidence, moves)
    np.testing.assert_allclose(found, np.tile(model.network.prevalence, (len(moves), 1)), rtol=0.01)
