"""From study rows to parameters: every rule against formulas written down here a second time, and against worked numbers."""

from __future__ import annotations

from math import exp, isclose, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ddx
from ddx.knowledge import Study, load_knowledge
from ddx.knowledge.parameters import collect
from ddx.knowledge.pooling import (
    exposure_ratio_estimate,
    group_ratio_estimate,
    log_estimate,
    pool_probability,
    pool_rate,
    pool_ratio,
)

S = "studies.csv"
TAU_LINK, TAU_LEAK, TAU_RATIO, TAU_PRIOR = 0.6, 0.55, 0.3, 0.75
SIZE = {
    "meta_analysis": 200,
    "systematic_review": 100,
    "cohort": 50,
    "case_series": 20,
    "guideline": 20,
    "textbook": 20,
    "expert_estimate": 4,
}
RATIO_SD = {
    "meta_analysis": 0.15,
    "systematic_review": 0.2,
    "cohort": 0.3,
    "case_series": 0.5,
    "guideline": 0.4,
    "textbook": 0.4,
    "expert_estimate": 0.7,
}


def study(value, quantity="sensitivity", source="smith_2020", quality="cohort", **cells) -> Study:
    return Study(id=cells.pop("id", f"s{value}"), quantity=quantity, value=value, source=source, quality=quality, **cells)


def counted(x, n, counts="reported", **cells) -> Study:
    return study(x / n, numerator=x, denominator=n, counts=counts, id=f"s{x}_{n}", **cells)


def expert(value, low, high, **cells) -> Study:
    return study(value, source="expert_estimate", quality="expert_estimate", low=low, high=high, **cells)


def bare(p, quality="cohort"):
    """Variance of a bare frequency: of a study of so many persons, at most that of a bare ratio."""
    return min(1 / (SIZE[quality] * p * (1 - p)), RATIO_SD[quality] ** 2)


def logit(p):
    return log(p / (1 - p))


def expit(x):
    return 1 / (1 + exp(-x))


def pooled(y, v, tau0) -> tuple[float, float]:
    """Mean and predictive variance of cited estimates: DerSimonian-Laird averaged with tau0**2, which weighs as two studies."""
    k = len(y)
    w = [1 / a for a in v]
    fixed = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
    heterogeneity = sum(a * (b - fixed) ** 2 for a, b in zip(w, y, strict=True))
    if k == 1:
        tau2 = tau0**2
    else:
        moment = (heterogeneity - (k - 1)) / (sum(w) - sum(a**2 for a in w) / sum(w))
        tau2 = (2 * tau0**2 + (k - 1) * max(0, moment)) / (2 + (k - 1))
    w = [1 / (a + tau2) for a in v]
    return sum(a * b for a, b in zip(w, y, strict=True)) / sum(w), 1 / sum(w) + tau2


def assert_beta(parameter, mean, variance):
    """Mean, and variance on the logit scale carried over by the delta method: var p = (p (1 - p))**2 var logit p.

    A Beta of fewer than two pseudo-observations would be U-shaped, and one with a shape below that of Jeffreys' prior sits
    at its end: that is the most that it spreads.
    """
    p = expit(mean)
    assert parameter.distribution == "beta"
    assert parameter.value == pytest.approx(p, rel=1e-12)
    a, b = parameter.first, parameter.second
    assert a / (a + b) == pytest.approx(p, rel=1e-12)
    widest = p * (1 - p) / (max(2, 0.5 / min(p, 1 - p)) + 1)
    assert a * b / ((a + b) ** 2 * (a + b + 1)) == pytest.approx(min((p * (1 - p)) ** 2 * variance, widest), rel=1e-9)


# study row -> (logit, its variance), worked out by hand from the rule of each kind of row
PROBABILITIES = {
    "counts": (counted(30, 40), (log(30 / 10), 1 / 30 + 1 / 10)),
    "counts_of_zero": (counted(0, 25), (log(0.5 / 25.5), 1 / 0.5 + 1 / 25.5)),
    "counts_of_all": (counted(12, 12), (log(12.5 / 0.5), 1 / 12.5 + 1 / 0.5)),
    "counts_beat_the_interval": (counted(30, 40, low=0.6, high=0.9), (log(3), 1 / 30 + 1 / 10)),
    "derived_counts": (counted(30, 40, counts="derived"), (log(3), 1 / (20 * 0.75 * 0.25))),
    "unlabelled_counts": (counted(30, 40, counts=""), (log(3), 1 / (20 * 0.75 * 0.25))),
    "size_without_counts": (study(0.75, denominator=40), (log(3), 1 / (20 * 0.75 * 0.25))),
    "derived_zero": (study(0.0, denominator=24, numerator=0, counts="derived"), (log(0.02 / 0.98), 1 / (12 * 0.02 * 0.98))),
    "derived_all": (study(1.0, denominator=24, numerator=24, counts="derived"), (log(0.98 / 0.02), 1 / (12 * 0.02 * 0.98))),
    "interval": (study(0.75, low=0.6, high=0.86), (log(3), ((logit(0.86) - logit(0.6)) / (2 * 1.96)) ** 2)),
    "interval_95": (study(0.75, low=0.6, high=0.86, interval="95"), (log(3), ((logit(0.86) - logit(0.6)) / 3.92) ** 2)),
    "interval_99": (study(0.75, low=0.6, high=0.86, interval="99"), (log(3), ((logit(0.86) - logit(0.6)) / (2 * 2.576)) ** 2)),
    "interval_90": (study(0.75, low=0.6, high=0.86, interval="90"), (log(3), ((logit(0.86) - logit(0.6)) / (2 * 1.645)) ** 2)),
    "range": (study(0.75, low=0.6, high=0.86, interval="range"), (log(3), ((logit(0.86) - logit(0.6)) / (2 * 1.645)) ** 2)),
    "interval_beats_derived_counts": (
        counted(30, 40, counts="derived", low=0.6, high=0.86),
        (log(3), ((logit(0.86) - logit(0.6)) / 3.92) ** 2),
    ),
    "interval_from_zero": (study(0.2, low=0.0, high=0.5), (log(0.25), ((logit(0.5) - logit(0.01)) / 3.92) ** 2)),
    "interval_to_one": (study(0.8, low=0.5, high=1.0), (log(4), ((logit(0.99) - logit(0.5)) / 3.92) ** 2)),
    **{
        f"bare_{quality}": (study(0.2, quality=quality), (log(0.25), bare(0.2, quality)))
        for quality in SIZE
        if quality != "expert_estimate"
    },
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_one_study_of_a_probability(name):
    row, (y, v) = PROBABILITIES[name]
    parameter = pool_probability("p", [row])
    assert_beta(parameter, y, v + 2 * TAU_LINK**2)
    assert (parameter.studies, parameter.cited, parameter.scale) == ((row.id,), True, 1.0)


def test_one_study_worked_by_hand():
    # 30 of 40: logit 1.0986, variance 0.13333 + 0.36 of the mean and 0.36 of a new population, together 0.85333;
    # p (1 - p) = 0.1875; size = 1 / (0.1875 * 0.85333) - 1 = 5.25.
    parameter = pool_probability("p", [counted(30, 40)])
    assert parameter.value == pytest.approx(0.75)
    assert parameter.first + parameter.second == pytest.approx(5.25, abs=1e-4)
    assert parameter.first == pytest.approx(3.9375, abs=1e-4)


@pytest.mark.parametrize("p", [2e-5, 0.01, 0.5, 0.99])
def test_a_bare_frequency_is_never_less_certain_than_a_bare_ratio(p):
    """A registry that prints 2 in 100,000 has not counted fifty persons."""
    parameter = pool_probability("p", [study(p)])
    assert 1 / ((parameter.first + parameter.second + 1) * p * (1 - p)) <= 0.3**2 + 2 * TAU_LINK**2 + 1e-9


def test_two_studies_worked_by_hand():
    # 10/20: y = 0, v = 0.2. 16/20: y = 1.38629, v = 0.3125. Weights 5 and 3.2, centre 0.54099.
    # Q = 5 * 0.29267 + 3.2 * 0.71454 = 3.74989; denominator 8.2 - 35.24 / 8.2 = 3.90244; moment estimate 0.70465.
    # tau2 = (2 * 0.36 + 0.70465) / 3 = 0.47488. Weights 1.48174 and 1.27003, mean 0.63982, variance 0.36340 + 0.47488.
    # p = 0.65471, p (1 - p) = 0.22606, size = 1 / (0.22606 * 0.83829) - 1 = 4.2769.
    parameter = pool_probability("p", [counted(10, 20), counted(16, 20)])
    assert parameter.value == pytest.approx(0.65471, abs=1e-5)
    assert parameter.first + parameter.second == pytest.approx(4.2769, abs=5e-4)


SEVERAL = {
    "one": [counted(30, 40)],
    "two_alike": [counted(30, 40), counted(61, 80)],
    "two_apart": [counted(30, 40), counted(5, 80)],
    "five": [counted(30, 40), counted(25, 40), study(0.4, denominator=30), study(0.5, low=0.3, high=0.7), study(0.6)],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_studies_of_a_probability(name):
    rows = SEVERAL[name]
    table = {row.id: estimate for row, estimate in PROBABILITIES.values()}
    table["s61_80"] = (log(61 / 19), 1 / 61 + 1 / 19)
    table["s5_80"] = (log(5 / 75), 1 / 5 + 1 / 75)
    table["s25_40"] = (log(25 / 15), 1 / 25 + 1 / 15)
    table["s0.4"] = (log(0.4 / 0.6), 1 / (15 * 0.4 * 0.6))
    table["s0.5"] = (0.0, ((logit(0.7) - logit(0.3)) / 3.92) ** 2)
    table["s0.6"] = (log(0.6 / 0.4), bare(0.6))
    table["s30_40"] = (log(3), 1 / 30 + 1 / 10)
    y, v = zip(*(table[row.id] for row in rows), strict=True)
    parameter = pool_probability("p", rows)
    assert_beta(parameter, *pooled(y, v, TAU_LINK))
    assert parameter.studies == tuple(row.id for row in rows)


def test_agreeing_studies_still_keep_some_variance_between_them():
    y, v = log(3), 1 / 30 + 1 / 10
    # No heterogeneity: tau2 = 2 * 0.36 / (k + 1).
    for k in (2, 5):
        parameter = pool_probability("p", [counted(30, 40)] * k)
        tau2 = 0.72 / (k + 1)
        assert_beta(parameter, y, (v + tau2) / k + tau2)


def test_a_specificity_is_the_complement_of_a_false_positive_rate():
    direct, inverse = counted(6, 40), counted(34, 40)
    only_inverse = pool_probability("p", [], [inverse])
    assert_beta(only_inverse, log(6 / 34), 1 / 6 + 1 / 34 + 2 * TAU_LINK**2)
    both = pool_probability("p", [direct], [inverse])
    twice = pool_probability("p", [direct, direct])
    assert both.value == pytest.approx(twice.value, rel=1e-14)
    assert both.first == pytest.approx(twice.first, rel=1e-12)
    assert both.studies == ("s6_40", "s34_40")


def test_expert_estimates_do_not_count_where_a_study_exists():
    rows = [expert(0.2, 0.1, 0.3), counted(30, 40), expert(0.5, 0.3, 0.7)]
    parameter = pool_probability("p", rows)
    assert parameter == pool_probability("p", [rows[1]])
    assert (parameter.studies, parameter.cited) == (("s30_40",), True)


def test_an_expert_estimate_alone_keeps_its_own_interval():
    parameter = pool_probability("p", [expert(0.2, 0.05, 0.5)])
    variance = ((logit(0.5) - logit(0.05)) / 3.92) ** 2
    assert_beta(parameter, log(0.25), variance)
    assert parameter.cited is False


def test_two_expert_estimates_are_averaged_and_make_nothing_more_certain():
    rows = [expert(0.2, 0.05, 0.5), expert(0.3, 0.1, 0.6)]
    variances = [((logit(r.high) - logit(r.low)) / 3.92) ** 2 for r in rows]
    weights = [1 / v for v in variances]
    mean = sum(w * logit(r.value) for w, r in zip(weights, rows, strict=True)) / sum(weights)
    assert_beta(pool_probability("p", rows), mean, sum(variances) / 2)


def words(value, low, high, **cells) -> Study:
    return study(value, quality="verbal", low=low, high=high, interval="range", **cells)


def test_words_that_repeat_each_other_make_nothing_more_certain():
    """The second row holds the estimate that the first has made."""
    row = words(0.5, 0.3, 0.79)
    one = pool_probability("p", [row])
    assert_beta(one, 0.0, ((logit(0.79) - logit(0.3)) / 3.29) ** 2 + 2 * TAU_LINK**2)
    ratio = words(3.0, 1.5, 6.0, quantity="odds_ratio")
    apart = pool_ratio("or", [(log_estimate(ratio), ratio)])
    for k in (2, 4, 10):
        more = pool_probability("p", [row] * k)
        assert (more.value, more.first, more.second) == pytest.approx((one.value, one.first, one.second), rel=1e-12)
        assert pool_ratio("or", [(log_estimate(ratio), ratio)] * k).second == pytest.approx(apart.second, rel=1e-12)


@pytest.mark.parametrize(
    "rows",
    [
        [words(0.5, 0.3, 0.79), words(0.6, 0.05, 0.79)],
        [words(0.5, 0.3, 0.79), words(0.02, 0.01, 0.04), words(0.9, 0.8, 0.99)],
    ],
    ids=["alike", "apart"],
)
def test_words_are_pooled_as_fully_dependent(rows):
    """The mean is that of independent studies; its standard deviation is the weighted mean of theirs."""
    y = [logit(r.value) for r in rows]
    v = [((logit(r.high) - logit(r.low)) / 3.29) ** 2 for r in rows]
    mean, _ = pooled(y, v, TAU_LINK)
    w = [1 / a for a in v]
    fixed = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
    heterogeneity = sum(a * (b - fixed) ** 2 for a, b in zip(w, y, strict=True))
    moment = max(0, (heterogeneity - len(y) + 1) / (sum(w) - sum(a**2 for a in w) / sum(w)))
    tau2 = (2 * TAU_LINK**2 + (len(y) - 1) * moment) / (len(y) + 1)
    w = [1 / (a + tau2) for a in v]
    tau2 = max(tau2, TAU_LINK**2)
    deviation = sum(a * sqrt(b + tau2) for a, b in zip(w, v, strict=True)) / sum(w)
    assert_beta(pool_probability("p", rows), mean, deviation**2 + tau2)


def test_words_worked_by_hand():
    # 0.3 to 0.79: (1.32493 + 0.84730) / 3.29 = 0.66025 on the logit scale. Logits 0 and 0.84730 with equal
    # weights: mean 0.42365, Q = 2 * 0.17948 / 0.43593 = 0.82342, below 1. Spread: 0.43593 + 2 * 0.36 = 1.15593.
    # p = 0.60436, p (1 - p) = 0.23911, size = 1 / (0.23911 * 1.15593) - 1 = 2.61801.
    parameter = pool_probability("p", [words(0.5, 0.3, 0.79), words(0.7, 0.3, 0.79)])
    assert parameter.value == pytest.approx(0.60436, abs=1e-5)
    assert parameter.first + parameter.second == pytest.approx(2.6180, abs=5e-4)


def test_words_beside_a_count_count_no_more():
    rows = [words(0.5, 0.3, 0.79), words(0.6, 0.3, 0.79), counted(30, 40)]
    assert pool_probability("p", rows) == pool_probability("p", [rows[2]])


def test_a_very_uncertain_probability_stays_unimodal():
    parameter = pool_probability("p", [expert(0.5, 0.001, 0.999)])
    assert (parameter.first, parameter.second) == pytest.approx((1.0, 1.0))


# study row -> (log of the value, variance)
LOGS = {
    "interval": (study(2.0, "odds_ratio", low=1.0, high=4.0), (log(2), (log(4) / 3.92) ** 2)),
    "interval_99": (study(2.0, "odds_ratio", low=1.0, high=4.0, interval="99"), (log(2), (log(4) / (2 * 2.576)) ** 2)),
    "range": (study(2.0, "relative_risk", low=1.0, high=4.0, interval="range"), (log(2), (log(4) / (2 * 1.645)) ** 2)),
    "interval_from_zero": (study(2.0, "odds_ratio", low=0.0, high=4.0), (log(2), (log(40) / 3.92) ** 2)),
    **{
        f"bare_{quality}": (study(3.0, "odds_ratio", quality=quality), (log(3), sd**2))
        for quality, sd in RATIO_SD.items()
        if quality != "expert_estimate"
    },
}


@pytest.mark.parametrize("name", LOGS)
def test_one_study_of_a_ratio(name):
    row, (y, v) = LOGS[name]
    assert log_estimate(row) == pytest.approx((y, v), rel=1e-12)
    parameter = pool_ratio("or", [(log_estimate(row), row)])
    assert parameter.distribution == "log_normal"
    assert parameter.value == pytest.approx(row.value, rel=1e-12)
    assert (parameter.first, parameter.second) == pytest.approx((y, sqrt(v + 2 * TAU_RATIO**2)), rel=1e-12)


def test_several_ratios():
    rows = [LOGS[name][0] for name in ("interval", "range", "bare_cohort", "bare_textbook")]
    y, v = zip(*(LOGS[name][1] for name in ("interval", "range", "bare_cohort", "bare_textbook")), strict=True)
    parameter = pool_ratio("or", [(log_estimate(row), row) for row in rows])
    mean, variance = pooled(y, v, TAU_RATIO)
    assert (parameter.value, parameter.first, parameter.second) == pytest.approx((exp(mean), mean, sqrt(variance)), rel=1e-12)


@pytest.mark.parametrize(
    ("row", "y", "v"),
    [
        (study(0.002, "incidence", numerator=200), log(0.002), 1 / 200),
        (study(0.002, "incidence", numerator=200, denominator=100_000), log(0.002), 1 / 200),
        (study(0.002, "incidence", low=0.001, high=0.004), log(0.002), (log(4) / 3.92) ** 2),
        (study(0.002, "incidence"), log(0.002), 0.3**2),
        (study(0.002, "incidence", quality="textbook"), log(0.002), 0.4**2),
    ],
    ids=["episodes", "episodes_and_person_years", "interval", "bare", "textbook"],
)
def test_an_incidence_times_the_window(row, y, v):
    years = 30 / 365.25
    parameter = pool_rate("prior", [row], years)
    assert parameter.value == pytest.approx(0.002 * years, rel=1e-12)
    assert (parameter.first, parameter.second) == pytest.approx((y, sqrt(v + 2 * TAU_PRIOR**2)), rel=1e-12)
    assert parameter.scale == years


def test_the_exposure_of_patients_against_that_of_the_population():
    row = study(0.5, "context_given_cause", denominator=100)
    y, v = exposure_ratio_estimate(row, 0.2)
    assert (y, v) == pytest.approx((log(0.5 / 0.5) - log(0.2 / 0.8), 1 / (50 * 0.25)), rel=1e-12)


def test_a_group_against_a_reference():
    prevalence = counted(20, 100, quantity="prevalence")
    assert group_ratio_estimate(prevalence, 0.1) == pytest.approx((log(0.25) - log(1 / 9), 1 / 20 + 1 / 80), rel=1e-12)
    incidence = study(0.004, "incidence", numerator=50)
    assert group_ratio_estimate(incidence, 0.001) == pytest.approx((log(4), 1 / 50), rel=1e-12)


# From the files of a knowledge base: which rows make which parameter.


def parameters(edit):
    return load_knowledge(edit.folder).parameters


def test_priors_of_the_tiny_base(edit):
    p = parameters(edit)
    assert p["prior:stroke"].value == pytest.approx(0.002 * 30 / 365.25, rel=1e-12)
    assert p["prior:low_sugar"].value == pytest.approx(0.01 / 365.25, rel=1e-12)
    assert p["prior:neuropathy"].value == pytest.approx(0.02, rel=1e-12)
    assert p["prior:anaemia"].value == pytest.approx(0.05, rel=1e-12)
    assert p["prior:stroke@clinic"].value == pytest.approx(0.2, rel=1e-12)
    assert "prior:anaemia@clinic" not in p


def test_a_ratio_of_the_second_sex_is_turned_round(edit):
    assert parameters(edit)["or:anaemia:sex_female"].value == pytest.approx(2.0, rel=1e-12)
    edit.cell(S, "or_anaemia_female", "context", "sex_male")
    edit.cell(S, "or_anaemia_female", "value", "0.5")
    p = parameters(edit)
    assert p["or:anaemia:sex_female"].value == pytest.approx(2.0, rel=1e-12)
    assert "or:anaemia:sex_male" not in p


def test_ratios_of_both_sexes_are_pooled_into_one(edit):
    edit.copy(S, "or_anaemia_female", id="or_anaemia_male", context="sex_male", value="0.25")
    mean, variance = pooled([log(2), log(4)], [0.09, 0.09], TAU_RATIO)
    p = parameters(edit)["or:anaemia:sex_female"]
    assert (p.first, p.second) == pytest.approx((mean, sqrt(variance)), rel=1e-12)
    assert p.studies == ("or_anaemia_female", "or_anaemia_male")


def test_context_given_cause_makes_a_ratio(edit):
    edit.cell(S, "or_stroke_diabetes", "quantity", "context_given_cause")
    edit.cell(S, "or_stroke_diabetes", "value", "0.3")
    p = parameters(edit)["or:stroke:diabetes"]
    assert p.value == pytest.approx((0.3 / 0.7) / (0.08 / 0.92), rel=1e-9)
    assert p.second == pytest.approx(sqrt(bare(0.3) + 2 * TAU_RATIO**2), rel=1e-9)


@pytest.mark.parametrize(("sex", "value"), [("sex_female", "0.68"), ("sex_male", "0.32")])
def test_the_share_of_a_sex_among_patients_makes_a_ratio(edit, sex, value):
    edit.cell(S, "or_anaemia_female", "quantity", "context_given_cause")
    edit.cell(S, "or_anaemia_female", "context", sex)
    edit.cell(S, "or_anaemia_female", "value", value)
    # The population shares 0.51 and 0.49 are complements, so both directions say the same.
    assert parameters(edit)["or:anaemia:sex_female"].value == pytest.approx((0.68 / 0.32) / (0.51 / 0.49), rel=1e-9)


def test_rates_of_all_age_bands_make_ratios_against_their_mean(edit):
    rates = {"age_0_17": 0.01, "age_18_44": 0.03, "age_45_64": 0.05, "age_65_74": 0.08, "age_75_plus": 0.12}
    for band, rate in rates.items():
        edit.copy(S, "prior_anaemia", id=f"anaemia_{band}", group=band, value=str(rate), denominator="", counts="")
    p = parameters(edit)
    reference = 0.2 * 0.01 + 0.35 * 0.03 + 0.25 * 0.05 + 0.1 * 0.08 + 0.1 * 0.12
    for band, rate in rates.items():
        assert p[f"or:anaemia:{band}"].first == pytest.approx(logit(rate) - logit(reference), rel=1e-9)
        assert p[f"or:anaemia:{band}"].second == pytest.approx(sqrt(bare(rate) + 2 * TAU_RATIO**2), rel=1e-9)
    assert p["prior:anaemia"].studies == ("prior_anaemia",)


def test_rates_of_both_sexes_from_one_source_make_one_ratio(edit):
    edit.copy(S, "prior_low_sugar", id="sugar_f", group="sex_female", value="0.03", low="", high="", numerator="60")
    edit.copy(S, "prior_low_sugar", id="sugar_m", group="sex_male", value="0.01", low="", high="", numerator="25")
    p = parameters(edit)["or:low_sugar:sex_female"]
    assert p.first == pytest.approx(log(3), rel=1e-12)
    assert p.second == pytest.approx(sqrt(1 / 60 + 1 / 25 + 2 * TAU_RATIO**2), rel=1e-12)


def brought(by_band, ratio):
    """What a risk factor of these frequencies brings to every band."""
    return {band: 1.0 + p * (ratio - 1.0) for band, p in by_band.items()}


def test_a_crude_ratio_loses_what_the_risk_factors_bring(edit):
    """Twice the stroke with diabetes, which 20 % of the oldest have and 8 % of the others."""
    edit.cell(S, "or_stroke_old", "quantity", "crude_ratio")
    edit.cell(S, "or_stroke_old", "group", "age_18_44")
    p = parameters(edit)["or:stroke:age_75_plus"]
    raised = brought({"old": 0.2, "young": 0.08}, 2.0)
    assert p.first == pytest.approx(log(5 * raised["young"] / raised["old"]), rel=1e-12)
    assert p.second == pytest.approx(sqrt((log(6.25 / 4) / (2 * 1.96)) ** 2 + 2 * TAU_RATIO**2), rel=1e-9)
    assert p.estimates == pytest.approx([p.value], rel=1e-12)


@pytest.mark.parametrize(("context", "group", "value"), [("sex_female", "sex_male", 1.5), ("sex_male", "sex_female", 1 / 1.5)])
def test_a_crude_ratio_of_the_sexes(edit, context, group, value):
    edit.copy(S, "freq_diabetes", id="freq_diabetes_women", value="0.06", group="sex_female")
    edit.copy(S, "freq_diabetes", id="freq_diabetes_men", value="0.1", group="sex_male")
    cells = {"context": context, "group": group, "value": repr(value), "low": "", "high": ""}
    edit.copy(S, "or_stroke_old", id="or_stroke_sex", quantity="crude_ratio", **cells)
    raised = brought({"women": 0.06, "men": 0.1}, 2.0)
    found = parameters(edit)["or:stroke:sex_female"]
    assert found.first == pytest.approx(log(1.5 * raised["men"] / raised["women"]), rel=1e-12)


def test_what_a_risk_factor_brings_comes_with_those_that_require_it(edit):
    """Insulin is asked of people with diabetes; both raise the risk of neuropathy."""
    frequency = parameters(edit)["context:insulin"].value
    edit.copy(S, "or_neuropathy_diabetes", id="or_neuropathy_insulin", context="insulin", value="3", low="", high="")
    cells = {"cause": "neuropathy", "quantity": "crude_ratio", "group": "age_45_64"}
    edit.copy(S, "or_stroke_old", id="or_neuropathy_old", **cells)
    raised = brought({"old": 0.2, "middle": 0.08}, 5.0 * (1.0 + frequency * 2.0))
    found = parameters(edit)["or:neuropathy:age_75_plus"]
    assert found.first == pytest.approx(log(5 * raised["middle"] / raised["old"]), rel=1e-12)


def test_rates_of_age_bands_and_shares_of_sexes_lose_it_too(edit):
    rates = {"age_0_17": 0.001, "age_18_44": 0.003, "age_45_64": 0.005, "age_65_74": 0.008, "age_75_plus": 0.012}
    for band, rate in rates.items():
        cells = {"group": band, "value": str(rate), "numerator": "", "denominator": "", "counts": ""}
        edit.copy(S, "prior_neuropathy", id=f"neuropathy_{band}", **cells)
    edit.copy(S, "freq_diabetes", id="freq_diabetes_women", value="0.06", group="sex_female")
    edit.copy(S, "freq_diabetes", id="freq_diabetes_men", value="0.1", group="sex_male")
    cells = {"quantity": "context_given_cause", "context": "sex_female", "value": "0.6", "low": "", "high": ""}
    edit.copy(S, "or_neuropathy_diabetes", id="neuropathy_women", **cells)
    p = parameters(edit)
    share = dict(zip(rates, (0.2, 0.35, 0.25, 0.1, 0.1), strict=True))
    reference = sum(share[b] * rate for b, rate in rates.items())
    raised = brought({b: 0.2 if b == "age_75_plus" else 0.08 for b in rates}, 5.0)
    mean = sum(share[b] * raised[b] for b in rates)
    for band, rate in rates.items():
        expected = logit(rate) - logit(reference) - log(raised[band] / mean)
        assert p[f"or:neuropathy:{band}"].first == pytest.approx(expected, rel=1e-9)
    of_sexes = brought({"women": 0.06, "men": 0.1}, 5.0)
    expected = logit(0.6) - logit(0.51) - log(of_sexes["women"] / of_sexes["men"])
    assert p["or:neuropathy:sex_female"].first == pytest.approx(expected, rel=1e-9)


def test_a_crude_ratio_is_that_of_the_network(edit):
    """The referee: a rare cause is so many times as frequent in the band, all risk factors summed out."""
    edit.cell(S, "or_stroke_old", "quantity", "crude_ratio")
    edit.cell(S, "or_stroke_old", "group", "age_18_44")
    model = ddx.load(edit.folder, "general")
    ages = {band: model.diagnose(age=age, sex="female").posterior["stroke"] for band, age in (("old", 80), ("young", 30))}
    assert ages["old"] / ages["young"] == pytest.approx(5.0, rel=2e-3)
    edit.cell(S, "or_stroke_old", "quantity", "odds_ratio")
    edit.cell(S, "or_stroke_old", "group", "")
    model = ddx.load(edit.folder, "general")
    ages = {band: model.diagnose(age=age, sex="female").posterior["stroke"] for band, age in (("old", 80), ("young", 30))}
    assert ages["old"] / ages["young"] == pytest.approx(5.0 * 1.2 / 1.08, rel=2e-3)


def test_leaks_pool_rates_and_specificities_and_keep_age_bands_apart(edit):
    edit.copy(S, "leak_tremor", id="leak_tremor_2", quantity="specificity", value="0.95")
    edit.copy(S, "leak_tremor", id="leak_tremor_3", value="0.04")
    edit.copy(S, "leak_tremor", id="leak_tremor_old", quantity="specificity", value="0.9", group="age_75_plus")
    p = parameters(edit)
    y = [logit(0.03), logit(0.04), logit(0.05)]
    v = [bare(a) for a in (0.03, 0.04, 0.05)]
    assert_beta(p["leak:tremor"], *pooled(y, v, TAU_LEAK))
    made = dict(zip(p["leak:tremor"].studies, p["leak:tremor"].estimates, strict=True))
    assert made == pytest.approx({"leak_tremor": 0.03, "leak_tremor_2": 0.05, "leak_tremor_3": 0.04}, rel=1e-12)
    assert p["leak:tremor@age_75_plus"].value == pytest.approx(0.1, rel=1e-12)


def frequency(model, finding, **of_whom):
    """The referee: P(finding) in the general population, causes and context summed out."""
    return np.exp(model.diagnose(present=[finding], **of_whom).log_evidence)


@pytest.mark.parametrize(
    ("finding", "counted"), [("tremor", 0.06), ("numbness", 0.12), ("raised_ck", 0.002), ("arm_weakness", 0.1)]
)
def test_a_population_frequency_is_that_of_the_network(edit, finding, counted):
    edit.cell(S, f"leak_{finding}", "quantity", "population_frequency")
    edit.cell(S, f"leak_{finding}", "value", repr(counted))
    model = ddx.load(edit.folder, "general")
    assert frequency(model, finding) == pytest.approx(counted, rel=2e-3)
    assert model.knowledge.parameters[f"leak:{finding}"].value < counted


def test_a_population_frequency_of_an_age_band_is_that_of_the_network(edit):
    """Of the oldest, more have a neuropathy, because more have diabetes, and because of their age."""
    edit.copy(S, "or_stroke_old", id="or_neuropathy_old", cause="neuropathy")
    edit.copy(S, "leak_numbness", id="leak_numbness_old", quantity="population_frequency", value="0.3", group="age_75_plus")
    model = ddx.load(edit.folder, "general")
    assert frequency(model, "numbness", age=80) == pytest.approx(0.3, rel=0.02)
    edit.cell(S, "leak_numbness_old", "quantity", "false_positive_rate")
    assert frequency(ddx.load(edit.folder, "general"), "numbness", age=80) > 0.33


def test_what_is_left_of_a_population_frequency_is_less_certain(edit):
    edit.cell(S, "leak_tremor", "quantity", "population_frequency")
    found = {}
    for counted in (0.06, 0.0601):
        edit.cell(S, "leak_tremor", "value", repr(counted))
        found[counted] = parameters(edit)["leak:tremor"]
    left = found[0.06]
    growth = (logit(found[0.0601].value) - logit(left.value)) / (logit(0.0601) - logit(0.06))
    assert growth > 1.1
    _, expected = pooled([logit(left.value)], [growth**2 * bare(0.06)], TAU_LEAK)
    on_the_logit_scale = 1.0 / ((left.first + left.second + 1.0) * left.value * (1.0 - left.value))
    assert on_the_logit_scale == pytest.approx(expected, rel=1e-3)


def test_the_first_study_of_a_link_replaces_the_expert_estimate(edit):
    assert parameters(edit)["link:stroke:tremor"].cited is False
    edit.copy(S, "link_stroke_numbness", id="link_stroke_tremor_2", finding="tremor", value="0.1")
    p = parameters(edit)["link:stroke:tremor"]
    assert (p.value, p.cited, p.studies) == (pytest.approx(0.1, rel=1e-12), True, ("link_stroke_tremor_2",))


# Properties.

shares = st.floats(0.02, 0.98)
sizes = st.integers(5, 500)
rows_of_counts = st.lists(st.tuples(shares, sizes), min_size=1, max_size=6).map(
    lambda pairs: [counted(min(max(1, round(p * n)), n - 1), n) for p, n in pairs]
)


@given(shares, sizes, st.integers(1, 8))
def test_more_studies_that_agree_narrow_the_distribution(share, size, k):
    row = counted(min(max(1, round(share * size)), size - 1), size)
    fewer, more = pool_probability("p", [row] * k), pool_probability("p", [row] * (k + 1))
    assert isclose(more.value, fewer.value, rel_tol=1e-9)
    assert more.first + more.second >= fewer.first + fewer.second
    ratio = study(2.0, "odds_ratio", low=1.0, high=1.0 + size)
    estimate = (log_estimate(ratio), ratio)
    assert pool_ratio("or", [estimate] * (k + 1)).second < pool_ratio("or", [estimate] * k).second


@given(shares, sizes, st.integers(2, 20))
def test_a_larger_study_narrows_the_distribution(share, size, factor):
    x = min(max(1, round(share * size)), size - 1)
    small, large = pool_probability("p", [counted(x, size)]), pool_probability("p", [counted(factor * x, factor * size)])
    assert isclose(small.value, large.value, rel_tol=1e-9)
    assert large.first + large.second >= small.first + small.second


@given(rows_of_counts)
def test_the_pooled_value_lies_among_the_studies(rows):
    values = [row.value for row in rows]
    assert min(values) - 1e-12 <= pool_probability("p", rows).value <= max(values) + 1e-12


@given(rows_of_counts, st.randoms(use_true_random=False))
def test_the_order_of_the_studies_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = pool_probability("p", rows), pool_probability("p", shuffled)
    assert isclose(first.value, second.value, rel_tol=1e-9)
    assert isclose(first.first, second.first, rel_tol=1e-6)


@given(rows_of_counts)
def test_the_complement_of_every_study_is_the_complement_of_the_parameter(rows):
    direct, complement = pool_probability("p", rows), pool_probability("p", [], rows)
    assert isclose(direct.value, 1 - complement.value, rel_tol=1e-9)
    assert isclose(direct.first, complement.second, rel_tol=1e-6)


@given(st.lists(st.tuples(st.floats(0.1, 10.0), st.floats(1.1, 5.0)), min_size=1, max_size=6))
def test_inverse_ratios_make_the_inverse_parameter(pairs):
    def pool(invert):
        rows = []
        for value, spread in pairs:
            value = 1 / value if invert else value
            rows.append(study(value, "odds_ratio", low=value / spread, high=value * spread))
        return pool_ratio("or", [(log_estimate(row), row) for row in rows])

    straight, inverse = pool(False), pool(True)
    assert isclose(straight.value * inverse.value, 1.0, rel_tol=1e-9)
    assert isclose(straight.second, inverse.second, rel_tol=1e-6)


@given(rows_of_counts)
def test_every_pooled_parameter_is_a_proper_distribution(rows):
    parameter = pool_probability("p", rows)
    assert 0.0 < parameter.value < 1.0
    assert parameter.first > 0.0
    assert parameter.second > 0.0
    assert parameter.first + parameter.second >= 2.0 - 1e-12


def test_the_rows_of_a_cause_or_a_finding_make_what_all_rows_make():
    """Studies are left out without pooling everything again; what others depend on is then known."""
    kb = load_knowledge("limb")
    population = [s for s in kb.studies.values() if s.quantity in ("context_prevalence", "population_share")]
    own = {f"leak:{s.finding}": s.finding for s in kb.studies.values() if s.quantity == "population_frequency"}
    parts = [[s for s in kb.studies.values() if s.finding == finding and not s.cause] for finding in own.values()]
    parts += [[s for s in kb.studies.values() if s.cause == cause] for cause in list(kb.causes)[::7]]
    for rows in parts:
        found = collect(population + rows, kb.causes, kb.syndromes, kb.findings, kb.context, [], kb.parameters)
        assert found == {name: kb.parameters[name] for name in found}
        assert len(found) > len(population) / 10
