"""Sensitivity against networks built anew, pgmpy, brute force over worlds, and knowledge bases whose files lack the rows."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from conftest import Editor, write_tiny
from networks import sub_network
from scipy import stats

import ddx
from ddx import sensitivity
from ddx.draws import posterior_under
from ddx.knowledge.parameters import collect
from ddx.network import LayeredNetwork, build_network, build_networks
from ddx.sensitivity.case import interval_of, moved, relevant
from ddx.sensitivity.flips import distance
from ddx.sensitivity.studies import pooled_without
from ddx.values import Values, spread_of

CASES = {
    "known": {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"},
    "context": {"present": ["tremor"], "uncertain": {"fatigue": 0.7}, "age": 30, "sex": "male", "context": {"diabetes": True}},
    "mixture": {"present": ["hand_weakness", "sudden_onset"], "absent": ["raised_ck", "low_glucose"]},
}


def rebuilt(model, parameter, value):
    """The model whose knowledge base has another number for a parameter."""
    known = model.knowledge.parameters
    changed = MappingProxyType(known | {parameter: replace(known[parameter], value=value)})
    return ddx.Model(replace(model.knowledge, parameters=changed), model.setting)


def posterior_at(model, case, target, parameter, value):
    return rebuilt(model, parameter, value).diagnose(**case).posterior[target]


@pytest.fixture(scope="module")
def clinic(tiny):
    return tiny.in_setting("clinic")


def test_networks_built_together_are_those_built_alone(tiny, limb):
    for model, step in ((tiny, 1), (limb.in_setting("primary_care"), 331)):
        sets = [{name: 0.9 * model.knowledge.means[name]} for name in list(model.knowledge.parameters)[::step]]
        together = build_networks(model.knowledge, model.setting, Values.of(model.knowledge, sets))
        for values, network in zip(sets, together, strict=True):
            for field, array in vars(build_network(model.knowledge, model.setting, values)).items():
                assert np.array_equal(np.asarray(array), np.asarray(getattr(network, field))), (values, field)


SEVERAL = {"context:diabetes": 0.3, "or:stroke:diabetes": 4.0, "link:stroke:numbness": 0.9, "prior:stroke@clinic": 0.1}


@pytest.mark.parametrize("name", CASES)
def test_posteriors_under_other_values_are_those_of_networks_built_anew(clinic, name):
    evidence = clinic.diagnose(**CASES[name]).evidence
    sets = [{p: moved(own, -0.7)} for p, own in clinic.knowledge.parameters.items()] + [SEVERAL, {}]
    found = posterior_under(clinic, evidence, sets)
    for values, row in zip(sets, found, strict=True):
        anew = build_network(clinic.knowledge, "clinic", values).posterior(evidence).marginal[0]
        np.testing.assert_allclose(row, anew, rtol=1e-11, err_msg=str(values))


@pytest.mark.parametrize("name", CASES)
def test_every_single_parameter_has_its_exact_function(clinic, name):
    """Closed forms of links, priors and odds ratios, for all causes at once, up to the ends."""
    case = clinic.diagnose(**CASES[name])
    functions = sensitivity.functions.Functions(clinic, case)
    moves = []
    for parameter in relevant(clinic, case.evidence):
        own = clinic.knowledge.parameters[parameter]
        ratio = parameter.startswith("or:")
        values = (1e-6, 0.5 * own.value, 1e6) if ratio else (1e-9, 0.3, 1.0 - 1e-9)
        moves += [(parameter, value) for value in values]
    found = functions.under(*zip(*moves, strict=True))
    for (parameter, value), row in zip(moves, found, strict=True):
        anew = build_network(clinic.knowledge, "clinic", {parameter: value}).posterior(case.evidence).marginal[0]
        np.testing.assert_allclose(row, anew, rtol=1e-8, atol=1e-15, err_msg=f"{parameter} {value}")


@pytest.mark.parametrize("name", CASES)
def test_functions_of_links_are_exact_up_to_the_ends(clinic, name):
    case, checked = CASES[name], 0
    for parameter in relevant(clinic, clinic.diagnose(**case).evidence):
        if not parameter.startswith("link:") or "onset" in parameter:
            continue
        for target in clinic.network.causes:
            ratio = sensitivity.function(clinic, case, target, parameter)
            for t in (1e-9, 0.03, 0.4, 0.9, 1.0 - 1e-9):
                expected = posterior_at(clinic, case, target, parameter, t)
                assert ratio(t) == pytest.approx(expected, rel=1e-10, abs=1e-15), (parameter, target, t)
                checked += 1
        assert ratio.c + ratio.d * clinic.knowledge.means[parameter] == pytest.approx(1.0, abs=1e-12)
    assert checked > 100


def test_functions_in_limb_with_syndromes_agree_with_networks_built_anew(limb):
    model = limb.in_setting("emergency")
    case = {"present": ["ptosis", "diplopia"], "absent": ["neck_pain"], "age": 34, "sex": "female"}
    found = 0
    for parameter in relevant(model, model.diagnose(**case).evidence):
        if parameter.startswith("link:") and ":diplopia" in parameter:
            try:
                ratio = sensitivity.function(model, case, "myasthenia_gravis", parameter)
            except ddx.UsageError:
                continue
            found += 1
            for t in (0.01, 0.5, 0.97):
                (expected,) = sensitivity.curve(model, case, "myasthenia_gravis", parameter, [t])["posterior"]
                assert ratio(t) == pytest.approx(expected, rel=1e-10)
    assert found >= 3


def test_the_derivative_of_a_function_is_its_slope_and_zero_below_its_start():
    ratio = sensitivity.Ratio(0.1, 0.5, 0.8, 0.4, start=0.05)
    h = 1e-6
    assert ratio.derivative(0.3) == pytest.approx((ratio(0.3 + h) - ratio(0.3 - h)) / (2 * h), rel=1e-8)
    assert ratio.derivative(0.01) == 0.0
    assert ratio(0.01) == ratio(0.05)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("leak:fatigue", "leak:fatigue: the posterior is no ratio of linear functions of it; use sensitivity.curve"),
        ("link:stroke:sudden_onset", "link:stroke:sudden_onset: the posterior is no ratio of linear functions of it; "),
        ("link:stroke:numbnes", "unknown parameter 'link:stroke:numbnes'; nearest: link:stroke:numbness, "),
    ],
)
def test_function_refuses(clinic, parameter, message):
    with pytest.raises(ddx.UsageError) as error:
        sensitivity.function(clinic, CASES["known"], "stroke", parameter)
    assert str(error.value).startswith(message)


def test_an_unknown_target_is_an_error(clinic):
    with pytest.raises(ddx.UsageError, match=r"^target: unknown cause 'strok'; nearest: stroke"):
        sensitivity.one_way(clinic, CASES["known"], "strok")


@pytest.mark.parametrize("name", CASES)
def test_one_way_is_what_models_with_these_parameters_say(clinic, name):
    case, target = CASES[name], "stroke"
    table = sensitivity.one_way(clinic, case, target)
    assert table["swing"].is_monotonic_decreasing
    now = clinic.diagnose(**case).posterior[target]
    for parameter, row in table.iterrows():
        low, high = interval_of(clinic.knowledge.parameters[parameter])
        assert (row["low"], row["high"]) == (low, high)
        for end, column in ((low, "at_low"), (high, "at_high")):
            assert row[column] == pytest.approx(posterior_at(clinic, case, target, parameter, end), rel=1e-9), parameter
        h = 1e-5 * min(row["value"], abs(1.0 - row["value"]))
        up, down = (posterior_at(clinic, case, target, parameter, row["value"] + s * h) for s in (1.0, -1.0))
        assert row["derivative"] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-6 * now), parameter


@pytest.mark.parametrize("name", CASES)
def test_parameters_left_out_change_nothing(clinic, name):
    evidence = clinic.diagnose(**CASES[name]).evidence
    kept = set(relevant(clinic, evidence))
    left = [p for p in clinic.knowledge.parameters.values() if p.id not in kept]
    assert len(left) > 10
    own = {p for p in clinic.knowledge.parameters if p.startswith("context:") and p.endswith("@clinic")}
    assert len(own) == 2
    assert own <= kept
    assert not own & set(relevant(clinic.in_setting("general"), evidence))
    moves = [{p.id: moved(p, z)} for p in left for z in (-1.0, 1.0)]
    now = clinic.network.posterior(evidence).marginal[0]
    assert np.allclose(posterior_under(clinic, evidence, moves), now, rtol=1e-12, atol=0.0)


def test_pgmpy_draws_the_same_curve(clinic):
    from pgmpy.inference import VariableElimination

    causes, findings = ["stroke", "neuropathy"], ["numbness", "arm_weakness"]
    case = {"present": ["numbness"], "absent": ["arm_weakness"], "age": 50, "sex": "male", "context": {"diabetes": False}}
    case["context"]["insulin"] = False
    for t in (1e-6, 0.2, 0.999):
        network = rebuilt(clinic, "link:stroke:numbness", t).to_pgmpy(causes, findings)
        evidence = {"numbness": 1, "arm_weakness": 0, "age_band": "age_45_64", "sex": "sex_male", "diabetes": 0, "insulin": 0}
        known = {name: value for name, value in evidence.items() if name in network.nodes()}
        names = {name: network.get_cpds(name).state_names[name] for name in known}
        known = {name: value if value in names[name] else names[name][value] for name, value in known.items()}
        answer = VariableElimination(network).query(["stroke"], evidence=known)
        small = sub_network(clinic.network, causes)
        ratio = _function_of_part(clinic, small, case, t)
        assert float(answer.values[1]) == pytest.approx(ratio, rel=1e-9)


def _function_of_part(model, network, case, t):
    """The closed form in the network that pgmpy has: two causes, two findings."""
    part = _Part(model, network)
    ratio = sensitivity.functions.Functions(part, part.diagnosis(case)).of_link("link:stroke:numbness", 0)
    return float(ratio(t))


class _Part:
    """A model whose network has some of the causes only."""

    def __init__(self, model, network: LayeredNetwork) -> None:
        self.knowledge, self.setting, self.network = model.knowledge, model.setting, network
        self.whole = model

    def diagnosis(self, case):
        evidence = self.whole.diagnose(**case).evidence
        return ddx.Diagnosis(self, evidence, self.network.posterior(evidence))


@pytest.mark.parametrize("name", CASES)
def test_flips_happen_where_they_are_said_to(clinic, name):
    case = CASES[name]
    table = sensitivity.flips(clinic, case, limit=8.0)
    assert not table.empty
    assert table["deviations"].abs().is_monotonic_increasing
    now = clinic.diagnose(**case).posterior
    threshold = {c.id: c.action_threshold for c in clinic.knowledge.causes.values() if c.urgency != "routine"}
    for parameter, row in table.iterrows():
        own = clinic.knowledge.parameters[parameter]
        before, after = (
            rebuilt(clinic, parameter, moved(own, row["deviations"] * s)).diagnose(**case).posterior for s in (0.999, 1.001)
        )
        assert moved(own, row["deviations"]) == pytest.approx(row["needed"], rel=1e-9)
        if row["change"] == "leading cause":
            assert before.index[0] == now.index[0]
            assert after.index[0] == row["cause"]
        else:
            at = threshold[row["cause"]]
            assert (before[row["cause"]] >= at) == (now[row["cause"]] >= at)
            assert (after[row["cause"]] >= at) != (now[row["cause"]] >= at)


def test_flips_without_thresholds_change_the_leading_cause(clinic):
    table = sensitivity.flips(clinic, CASES["known"], thresholds=False)
    assert set(table["change"]) == {"leading cause"}


def _worlds(network, cause_order, findings):
    """Joint probability of causes and findings in every world of a stratum and of the risk factors."""
    joint = []
    for age, sex in itertools.product(range(len(network.ages)), range(len(network.sexes))):
        for context in itertools.product((0, 1), repeat=len(network.risk_factors)):
            if context[1] and not context[0]:
                continue
            p_context = network.share[age, sex]
            for x, value in enumerate(context):
                p = network.context_prior[age, sex, x]
                p_context *= (p if value else 1 - p) if x == 0 or context[0] else 1.0
            log_odds = network.log_odds[age, sex] + network.context_log_odds @ np.array(context, dtype=float)
            for causes in itertools.product((0, 1), repeat=len(cause_order)):
                z = np.array(causes, dtype=float)
                p_causes = np.prod(np.where(z == 1, 1 / (1 + np.exp(-log_odds)), 1 / (1 + np.exp(log_odds))))
                for seen in itertools.product((0, 1), repeat=len(findings)):
                    p = p_context * p_causes
                    for f, value in zip(findings, seen, strict=True):
                        off = (1 - network.leak[age, f]) * np.prod(1 - network.link[f] * z)
                        p *= 1 - off if value else off
                    joint.append(p)
    return np.array(joint)


@pytest.mark.parametrize("parameter", ["link:stroke:numbness", "prior:stroke@clinic", "or:stroke:diabetes"])
def test_the_distance_is_that_of_chan_and_darwiche(clinic, parameter):
    findings = [clinic.network.findings.index(f) for f in ("numbness", "fatigue")]
    value = moved(clinic.knowledge.parameters[parameter], 1.5)
    before = _worlds(clinic.network, clinic.network.causes, findings)
    other = build_network(clinic.knowledge, "clinic", {parameter: value})
    after = _worlds(other, clinic.network.causes, findings)
    assert before.sum() == pytest.approx(1.0)
    assert after.sum() == pytest.approx(1.0)
    ratio = np.log(after / before)
    assert distance(clinic, parameter, value) == pytest.approx(ratio.max() - ratio.min(), rel=1e-9)


def test_a_parameter_of_several_tables_has_no_distance(clinic):
    assert np.isnan(distance(clinic, "leak:fatigue", 0.2))


def test_standard_deviations_are_those_that_were_pooled(clinic):
    beta = clinic.knowledge.parameters["link:stroke:numbness"]
    drawn = stats.beta(beta.first, beta.second)
    # The delta method is exact to first order: near for a concentrated Beta.
    assert spread_of(beta) == pytest.approx(drawn.std() / (drawn.mean() * (1 - drawn.mean())), rel=1e-12)
    assert interval_of(beta) == pytest.approx(drawn.ppf([0.05, 0.95]), rel=1e-9)
    ratio = clinic.knowledge.parameters["or:stroke:age_75_plus"]
    assert moved(ratio, 1.0) == pytest.approx(ratio.value * np.exp(ratio.second))


def test_a_surface_holds_the_curves_of_both_parameters(clinic):
    first, second = "link:stroke:numbness", "prior:neuropathy@clinic"
    grid = sensitivity.surface(clinic, CASES["known"], "stroke", first, second, points=3)
    assert grid.shape == (3, 3)
    assert (grid.index.name, grid.columns.name) == (first, second)
    for x, row in grid.iterrows():
        for y, value in row.items():
            expected = rebuilt(rebuilt(clinic, first, x), second, y).diagnose(**CASES["known"]).posterior["stroke"]
            assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, float("nan")])
def test_values_that_a_probability_cannot_have_are_refused(clinic, value):
    with pytest.raises(ddx.UsageError) as error:
        sensitivity.curve(clinic, CASES["known"], "stroke", "leak:fatigue", [0.5, value])
    assert str(error.value) == f"leak:fatigue: got {value:g}, expected a number inside (0, 1)"


def frame(*cases):
    columns = {"present": [], "absent": [], "age": [], "sex": []}
    for case in cases:
        columns["present"].append(";".join(case.get("present", [])))
        columns["absent"].append(";".join(case.get("absent", [])))
        columns["age"].append(case.get("age"))
        columns["sex"].append(case.get("sex"))
    return pd.DataFrame(columns, index=[f"case {i}" for i in range(len(cases))])


TWO = frame(CASES["known"], {"present": ["fatigue", "tremor"], "age": 30, "sex": "male"})


def test_intervals_of_a_prior_are_those_of_its_distribution(tmp_path):
    """Without findings, risk factors and strata that matter, the posterior is the prior: its draws have a known law."""
    folder = write_tiny(tmp_path / "plain")
    edit = Editor(folder)
    edit.drop("studies.csv", "or_neuropathy_diabetes", "or_anaemia_female")
    model = ddx.load(folder, "general")
    table = sensitivity.intervals(model, pd.DataFrame({"age": [50], "sex": ["male"]}), draws=4000, seed=1)
    for cause in ("neuropathy", "anaemia"):
        own = model.knowledge.parameters[f"prior:{cause}"]
        law, row = stats.beta(own.first, own.second), table.loc[(0, cause)]
        assert row["posterior"] == pytest.approx(own.value, rel=1e-9)
        assert row["mean"] == pytest.approx(law.mean(), abs=4 * law.std() / np.sqrt(4000))
        assert row["low"] == pytest.approx(law.ppf(0.05), abs=5 * row["error_low"])
        assert row["high"] == pytest.approx(law.ppf(0.95), abs=5 * row["error_high"])


def test_intervals_of_a_finding_agree_with_numerical_integration(tmp_path):
    """P(anaemia | low haemoglobin present) of three Beta parameters, integrated over a grid of their quantiles."""
    folder = write_tiny(tmp_path / "plain")
    Editor(folder).drop("studies.csv", "or_anaemia_female")
    model = ddx.load(folder, "general")
    table = sensitivity.intervals(
        model, pd.DataFrame({"present": ["low_haemoglobin"], "age": [50], "sex": ["male"]}), draws=4000, seed=2
    )
    known = model.knowledge.parameters
    names = ("prior:anaemia", "link:anaemia:low_haemoglobin", "leak:low_haemoglobin")
    middle = (np.arange(80) + 0.5) / 80
    prior, link, leak = np.meshgrid(*(stats.beta(known[n].first, known[n].second).ppf(middle) for n in names), indexing="ij")
    positive = np.maximum(link, leak)
    exact = prior * positive / (prior * positive + (1 - prior) * leak)
    row = table.loc[(0, "anaemia")]
    assert row["mean"] == pytest.approx(exact.mean(), abs=5 * exact.std() / np.sqrt(4000))
    assert row["low"] == pytest.approx(np.quantile(exact, 0.05), abs=5 * row["error_low"] + 1e-3)


def test_intervals_of_few_cases_and_of_many_are_the_same(clinic, monkeypatch):
    """Draws as the cases of a call, or a network for every draw."""
    few = sensitivity.intervals(clinic, TWO, draws=120)
    monkeypatch.setattr("ddx.draws._FEW", 1)
    pd.testing.assert_frame_equal(sensitivity.intervals(clinic, TWO, draws=120), few, rtol=1e-9, atol=1e-12)


def test_intervals_repeat_with_their_seed_and_need_draws(clinic):
    same = [sensitivity.intervals(clinic, TWO, draws=100, seed=s) for s in (3, 3, 4)]
    pd.testing.assert_frame_equal(same[0], same[1])
    assert not same[0]["low"].equals(same[2]["low"])
    with pytest.raises(ddx.UsageError, match=r"^draws: got 50, expected at least 100"):
        sensitivity.intervals(clinic, TWO, draws=50)


def test_one_draw_serves_all_cases(clinic):
    together = sensitivity.intervals(clinic, TWO, draws=100, seed=5)
    alone = sensitivity.intervals(clinic, TWO.iloc[1:], draws=100, seed=5)
    pd.testing.assert_frame_equal(together.loc[["case 1"]], alone)


def test_sobol_finds_the_only_parameter_that_matters(tmp_path):
    folder = write_tiny(tmp_path / "plain")
    Editor(folder).drop("studies.csv", "or_anaemia_female")
    model = ddx.load(folder, "general")
    names = ["prior:anaemia", "prior:stroke"]
    table = sensitivity.sobol(model, {"age": 50, "sex": "male"}, "anaemia", names, n=4096, seed=0)
    assert list(table.index) == names
    assert table.loc["prior:anaemia", ["first", "total"]].tolist() == pytest.approx([1.0, 1.0], abs=0.02)
    assert table.loc["prior:stroke", ["first", "total"]].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    with pytest.raises(ddx.UsageError, match=r"^n: got 100, expected a power of two$"):
        sensitivity.sobol(model, {"age": 50, "sex": "male"}, "anaemia", names, n=100)


def test_leaving_a_study_out_is_loading_files_without_it(tmp_path):
    folder = write_tiny(tmp_path / "tiny")
    edit = Editor(folder)
    edit.copy("studies.csv", "link_stroke_numbness", id="second", value="0.8", source="jones_2010", quality="case_series")
    model = ddx.load(folder, "clinic")
    by_source = sensitivity.leave_one_source_out(model, TWO)
    by_study = sensitivity.leave_one_study_out(model, TWO)
    assert by_source["change"].is_monotonic_decreasing
    edit.drop("studies.csv", "second")
    without = ddx.load(folder, "clinic").score(TWO)
    gap = (without - model.score(TWO)).drop(columns=["none_of_these", "log_evidence"])
    row = by_study.loc["second"]
    assert row["change"] == pytest.approx(gap.abs().to_numpy().max(), rel=1e-9)
    assert gap.abs().stack().idxmax() == (row["case"], row["cause"])
    assert (row["parameters"], row["alone"]) == (1, 0)
    assert row["after"] == pytest.approx(without.loc[row["case"], row["cause"]], rel=1e-9)
    # The frequency of low haemoglobin is the other row of this source; no case speaks of it.
    assert by_source.loc["jones_2010", "change"] == pytest.approx(row["change"], rel=1e-12)


def test_a_parameter_that_one_study_carries_alone_keeps_its_value(clinic):
    changes, alone = pooled_without(clinic.knowledge, ["link_stroke_numbness"])
    assert (changes, alone) == ({}, ["link:stroke:numbness"])


def test_what_depends_on_a_left_out_study_is_pooled_again_too(limb):
    """Leaks beside causes and ratios beside risk factors: as if all the other rows had been read."""
    kb = limb.knowledge
    kinds = {(s.quantity, s.finding in kb.findings): s.source for s in kb.studies.values()}
    dependent = 0
    for source in sorted(set(kinds.values())):
        gone = {s.id for s in kb.studies.values() if s.source == source}
        kept = [s for s in kb.studies.values() if s.id not in gone]
        again = collect(kept, kb.causes, kb.syndromes, kb.findings, kb.context, [], kb.parameters)
        changes, alone = pooled_without(kb, gone)
        assert changes == {name: p.value for name, p in again.items() if p.value != kb.parameters[name].value}
        assert set(alone) == {name for name, p in kb.parameters.items() if gone.issuperset(p.studies)}
        dependent += any(gone.isdisjoint(kb.parameters[name].studies) for name in changes)
    assert dependent > 2


def test_settings_and_prevalences(clinic):
    case = CASES["known"]
    by_setting = sensitivity.setting_shift(clinic, case)
    for setting in clinic.knowledge.settings:
        expected = clinic.in_setting(setting).diagnose(**case).posterior
        pd.testing.assert_series_equal(by_setting[setting], expected[by_setting.index], check_names=False)
    shifted = sensitivity.prevalence_shift(clinic, case, "stroke", [1.0, 3.0])
    p = clinic.knowledge.means["prior:stroke@clinic"]
    expected = posterior_at(clinic, case, "neuropathy", "prior:stroke@clinic", 3 * p / (1 - p + 3 * p))
    assert shifted.loc["neuropathy", 3.0] == pytest.approx(expected, rel=1e-12)
    assert shifted.loc["stroke", 1.0] == pytest.approx(clinic.diagnose(**case).posterior["stroke"], rel=1e-12)
    with pytest.raises(ddx.UsageError, match=r"^factors: got 0, expected numbers above 0$"):
        sensitivity.prevalence_shift(clinic, case, "stroke", [0.0])
    with pytest.raises(ddx.UsageError, match=r"^setting 'balanced': every cause is equally likely there"):
        sensitivity.prevalence_shift(clinic.in_setting("balanced"), case, "stroke")


def test_a_summary_adds_up_the_cases(clinic):
    table = sensitivity.summary(clinic, TWO)
    swings = []
    for case in (CASES["known"], {"present": ["fatigue", "tremor"], "age": 30, "sex": "male"}):
        found = clinic.diagnose(**case)
        swings.append(sensitivity.one_way(clinic, found, found.posterior.index[0])["swing"])
    both = pd.concat(swings, axis=1).fillna(0.0)
    pd.testing.assert_series_equal(table["mean_swing"], both.mean(axis=1)[table.index], check_names=False)
    pd.testing.assert_series_equal(table["worst_swing"], both.max(axis=1)[table.index], check_names=False)
    assert table["flips"].between(0, 2).all()


def test_a_diagnosis_of_another_model_is_solved_again(clinic, tiny):
    found = tiny.diagnose(**CASES["known"])
    pd.testing.assert_frame_equal(
        sensitivity.one_way(clinic, found, "stroke"), sensitivity.one_way(clinic, CASES["known"], "stroke")
    )


# --- ends ----------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(edit):
    """A model whose prior of stroke, an incidence times a window, reaches 1 within three standard deviations."""
    edit.cell("studies.csv", "prior_stroke", "value", "3")
    for column in ("numerator", "denominator"):
        edit.cell("studies.csv", "prior_stroke", column, "")
    edit.cell("studies.csv", "prior_stroke", "low", "0.05")
    edit.cell("studies.csv", "prior_stroke", "high", "180")
    return ddx.load(edit.folder, "general")


def test_a_prior_that_an_incidence_puts_above_one_stays_a_probability(wide):
    case = {"present": ["tremor"], "age": 50, "sex": "female"}
    prior = wide.knowledge.parameters["prior:stroke"]
    assert np.exp(prior.first + 3.0 * prior.second) * prior.scale > 1.0
    table = wide.diagnose(**case).table(draws=2000, seed=1)
    assert table[["low", "high"]].notna().all(axis=None)
    one_way = sensitivity.one_way(wide, case, "stroke", level=0.9999)
    assert one_way.notna().all(axis=None)
    assert one_way.loc["prior:stroke", "high"] == 1.0 - 1e-12
    assert one_way.loc["prior:stroke", "at_high"] > 0.999
    assert sensitivity.flips(wide, case) is not None
    factors = sensitivity.prevalence_shift(wide, case, "stroke", [1.0, 1e20])
    assert factors.notna().all(axis=None)


MEANINGLESS = {
    "prior:stroke: got 1.5, expected a number inside (0, 1)": lambda m: sensitivity.curve(
        m, {}, "stroke", "prior:stroke", values=[1.5]
    ),
    "level: got 90, expected a number inside (0, 1)": lambda m: sensitivity.one_way(m, {}, "stroke", level=90),
    "level: got 95, expected a number inside (0, 1)": lambda m: sensitivity.intervals(m, TWO, level=95),
    "draws: got -1, expected 0 or more": lambda m: m.diagnose().table(draws=-1),
    "draws: got 20.5, expected a whole number": lambda m: m.diagnose().table(draws=20.5),
    "draws: got 200.5, expected a whole number": lambda m: sensitivity.intervals(m, pd.DataFrame({"age": [40]}), draws=200.5),
    "intervals: got '20', expected a whole number": lambda m: ddx.score_file("a.csv", "b.csv", m, intervals="20"),
    "top: got True, expected a whole number": lambda m: ddx.score_file("a.csv", "b.csv", m, top=True),
    "draws: got 19, expected 0, or at least 20 for 5 % and 95 % quantiles": lambda m: m.diagnose().table(draws=19),
    "intervals: got 1, expected 0, or at least 20 for 5 % and 95 % quantiles": lambda m: ddx.score_file(
        "a.csv", "b.csv", m, intervals=1
    ),
    "seed: got -1, expected 0 or more": lambda m: m.diagnose().table(seed=-1),
    "parameters: got the text 'leak:tremor', expected a list of ids, such as ['leak:tremor']": lambda m: sensitivity.flips(
        m, {}, "leak:tremor"
    ),
    "parameters: got none, expected ids of parameters that vary": lambda m: sensitivity.sobol(m, {}, "stroke", []),
    "limit: got nan, expected standard deviations above 0": lambda m: sensitivity.flips(m, {}, limit=np.nan),
    "limit: got -1, expected standard deviations above 0": lambda m: sensitivity.flips(m, {}, limit=-1),
    "case: got a str, expected a Diagnosis or the arguments of Model.diagnose by name": lambda m: sensitivity.one_way(
        m, "tremor", "stroke"
    ),
    "case: unknown argument 'presnt'; nearest: present; known: present, absent, uncertain, measurements, age, sex, context": (
        lambda m: sensitivity.one_way(m, {"presnt": ["tremor"]}, "stroke")
    ),
    "cases: got a dict, expected a pandas DataFrame with a row for every case": lambda m: sensitivity.intervals(m, {}),
    "factors: got none, expected numbers above 0": lambda m: sensitivity.prevalence_shift(m, {}, "stroke", []),
    "factors: got inf, expected numbers above 0": lambda m: sensitivity.prevalence_shift(m, {}, "stroke", [np.inf]),
}


def test_a_parameter_that_is_asked_for_twice_has_one_row(clinic):
    case, twice = {"present": ["tremor"]}, ["leak:tremor", "leak:tremor", "link:stroke:tremor"]
    assert sensitivity.one_way(clinic, case, "stroke", twice).index.is_unique
    assert sensitivity.flips(clinic, case, twice, limit=50.0).index.is_unique
    assert sorted(sensitivity.sobol(clinic, case, "stroke", twice, n=16).index) == ["leak:tremor", "link:stroke:tremor"]


@pytest.mark.parametrize("message", MEANINGLESS)
def test_numbers_that_mean_nothing_are_refused_in_words(clinic, message):
    with pytest.raises(ddx.UsageError, match=f"^{re.escape(message)}$"):
        MEANINGLESS[message](clinic)


def test_a_case_too_large_is_a_case_error():
    model = ddx.load("limb", "general")
    names = [f.id for f in model.knowledge.findings.values() if not f.graded][:130]
    frame = pd.DataFrame({"present": [";".join(names), "tremor_unspecified"]})
    message = r"^line 0: \d+ present or uncertain findings need .* GiB, the budget is 4 GiB; leave out findings$"
    for analysis in (sensitivity.intervals, sensitivity.leave_one_source_out):
        with pytest.raises(ddx.CaseError, match=message):
            analysis(model, frame)
