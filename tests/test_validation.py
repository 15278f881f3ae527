"""Simulated cases follow the model, and measures of posteriors are what their formulas say."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

import ddx
from ddx import validation
from ddx.validation import Estimate, measures, simulate

NAN = math.nan

# Four cases, three causes; every number below was computed by hand.
POSTERIORS = pd.DataFrame(
    {
        "stroke": [0.9, 0.2, 0.5, 0.1],
        "neuropathy": [0.3, 0.6, 0.5, 0.1],
        "anaemia": [0.1, 0.7, 0.4, 0.1],
        "none_of_these": [0.0, 0.0, 0.1, 0.7],
        "log_evidence": [-5.0, -6.0, -7.0, -1.0],
    },
    index=["a", "b", "c", "d"],
)
TRUTH = ["stroke", "neuropathy;anaemia", "neuropathy", ""]


@pytest.fixture(scope="module")
def report():
    return validation.report(POSTERIORS, TRUTH, resamples=200)


# report: hand-computed numbers


def test_items_are_pairs_of_a_case_and_a_true_cause(report):
    assert (report.cases, report.items, report.without_cause) == (4, 4, 1)
    # b: the other true cause is no competitor. c: an equal wrong posterior stands above.
    expected = pd.DataFrame(
        {
            "case": ["a", "b", "b", "c"],
            "truth": ["stroke", "neuropathy", "anaemia", "neuropathy"],
            "rank": [1, 1, 1, 2],
            "posterior": [0.9, 0.6, 0.7, 0.5],
            "wrong": ["neuropathy", "stroke", "stroke", "stroke"],
            "wrong_posterior": [0.3, 0.2, 0.2, 0.5],
        }
    )
    pd.testing.assert_frame_equal(report.by_item, expected, check_dtype=False)


def test_top_k_is_the_share_of_items(report):
    assert report.top_1.value == 3 / 4
    assert report.top_3.value == 1.0
    assert report.top_5.value == 1.0


def test_log_score_is_the_cross_entropy_summed_over_causes(report):
    given = [0.9, 0.7, 0.9, 0.8, 0.6, 0.7, 0.5, 0.5, 0.6, 0.9, 0.9, 0.9]
    assert report.log_score.value == pytest.approx(-sum(map(math.log, given)) / 4, rel=1e-14)


def test_brier_score_is_the_squared_error_summed_over_causes(report):
    error = [0.1, 0.3, 0.1, 0.2, 0.4, 0.3, 0.5, 0.5, 0.4, 0.1, 0.1, 0.1]
    assert report.brier.value == pytest.approx(sum(e * e for e in error) / 4, rel=1e-14)


def test_calibration_error_weighs_the_gaps_of_the_bins(report):
    # Bins [0.1, 0.2): four values 0.1, none true; 0.2: 0.2; 0.3: 0.3; 0.4: 0.4; 0.5: 0.5, 0.5, one true; 0.6: true;
    # 0.7: true; 0.9: true.
    gaps = 0.4 + 0.2 + 0.3 + 0.4 + abs(1.0 - 1.0) + 0.4 + 0.3 + 0.1
    assert report.calibration_error.value == pytest.approx(gaps / 12, rel=1e-12)
    # Leading causes: 0.9 true, 0.7 true, 0.5 twice, one of them true, 0.1 three times, all wrong.
    assert report.leading_calibration_error.value == pytest.approx((0.1 + 0.3 + 0.0 + 0.1) / 4, rel=1e-12)


def test_reliability_table_has_a_row_per_bin(report):
    table = report.reliability
    assert table["low"].tolist() == pytest.approx([i / 10 for i in range(10)])
    assert table["high"].tolist() == pytest.approx([i / 10 for i in range(1, 11)])
    assert table["count"].tolist() == [0, 4, 1, 1, 1, 2, 1, 1, 0, 1]
    assert table["mean"].tolist() == pytest.approx([NAN, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, NAN, 0.9], nan_ok=True)
    assert table["frequency"].tolist() == pytest.approx([NAN, 0, 0, 0, 0, 0.5, 1, 1, NAN, 1], nan_ok=True)
    # Wilson, by hand: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z2 = 1.959963984540054**2
    assert table.loc[1, ["frequency_low", "frequency_high"]].tolist() == pytest.approx([0.0, z2 / (4 + z2)])
    half = math.sqrt(z2) * math.sqrt(0.25 / 2 + z2 / 16) / (1 + z2 / 2)
    assert table.loc[5, ["frequency_low", "frequency_high"]].tolist() == pytest.approx([0.5 - half, 0.5 + half])
    assert table.loc[9, ["frequency_low", "frequency_high"]].tolist() == pytest.approx([1 / (1 + z2), 1.0])
    assert report.leading_reliability["count"].tolist() == [0, 1, 0, 0, 0, 1, 0, 1, 0, 1]


def test_per_cause_numbers_add_up_to_the_overall_ones(report):
    table = report.per_cause
    assert table["true"].tolist() == [1, 2, 1]
    assert table["expected"].tolist() == pytest.approx([1.7, 1.5, 1.3])
    assert table["top_1"].tolist() == [1.0, 0.5, 1.0]
    assert table["posterior"].tolist() == pytest.approx([0.9, 0.55, 0.7])
    assert table["log_score"].sum() == pytest.approx(report.log_score.value, rel=1e-14)
    assert table["brier"].sum() == pytest.approx(report.brier.value, rel=1e-14)
    # stroke: 0.9 true, 0.2, 0.5 and 0.1 wrong
    assert table.loc["stroke", "calibration_error"] == pytest.approx((0.1 + 0.2 + 0.5 + 0.1) / 4)
    assert (table["low"] <= table["high"]).all()


def test_overall_is_a_table_of_all_estimates(report):
    names = [f.name for f in dataclasses.fields(report) if isinstance(getattr(report, f.name), Estimate)]
    assert report.overall.index.tolist() == names
    assert len(names) == 9
    assert report.overall.loc["top_1"].tolist() == [report.top_1.value, report.top_1.low, report.top_1.high]


def test_a_report_is_frozen(report):
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.cases = 5


def test_random_numbers_agree_with_the_formulas_written_as_loops():
    rng = np.random.default_rng(3)
    p = rng.random((60, 4)) ** 2
    y = rng.random((60, 4)) < 0.3
    causes = ["w", "x", "y", "z"]
    truth = [";".join(c for c, t in zip(causes, row, strict=True) if t) for row in y]
    found = validation.report(pd.DataFrame(p, columns=causes), truth, bins=7, resamples=0)
    edges = [i / 7 for i in range(8)]
    error = 0.0
    for b in range(7):
        inside = (p >= edges[b]) & ((p < edges[b + 1]) | (b == 6))
        if inside.any():
            error += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    assert found.calibration_error.value == pytest.approx(error, rel=1e-12)
    # log_loss and brier_score_loss of scikit-learn, a column at a time.
    log_loss = [-np.mean(np.where(y[:, k], np.log(p[:, k]), np.log(1 - p[:, k]))) for k in range(4)]
    assert found.per_cause["log_score"].tolist() == pytest.approx(log_loss, rel=1e-12)
    assert found.per_cause["brier"].tolist() == pytest.approx([np.mean((p[:, k] - y[:, k]) ** 2) for k in range(4)])
    ranks = [1 + sum(p[i, j] >= p[i, k] for j in range(4) if not y[i, j]) for i in range(60) for k in range(4) if y[i, k]]
    assert found.by_item["rank"].tolist() == ranks
    assert found.top_3.value == np.mean(np.array(ranks) <= 3)
    assert math.isnan(found.top_1.low)


def test_what_chance_makes_of_a_calibration_error_needs_no_resamples():
    found = validation.report(POSTERIORS, TRUTH, resamples=0).overall
    chance = ["calibration_error_by_chance", "leading_calibration_error_by_chance"]
    assert found.drop(chance)[["low", "high"]].isna().all(axis=None)
    # As many draws, and the same, as beside a bootstrap that has taken nothing from the generator.
    p = POSTERIORS[["stroke", "neuropathy", "anaemia"]].to_numpy()
    rng, errors = np.random.default_rng(0), []
    for _ in range(200):
        gaps = np.zeros(10)
        np.add.at(gaps, (p * 10 + 1e-9).astype(int), p - (rng.random(p.shape) < p))
        errors.append(np.abs(gaps).sum() / 12)
    assert found.loc[chance[0]].tolist() == pytest.approx([np.mean(errors), *np.sort(errors)[[4, 194]]], rel=1e-12)
    assert found.loc[chance[1]].notna().all()


@pytest.mark.parametrize("order", [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"]])
def test_causes_that_lead_together_count_with_the_share_of_them_that_is_true(order):
    posteriors = pd.DataFrame({"a": [0.4, 0.4, 0.8], "b": [0.4, 0.4, 0.1], "c": [0.2, 0.4, 0.1]})[order]
    found = validation.report(posteriors, ["a", "a;c", "a"], resamples=50)
    # 0.4 beside 1/2 and 2/3, 0.8 beside 1.
    assert found.leading_calibration_error.value == pytest.approx((1 / 2 + 2 / 3 - 0.8 + 0.2) / 3, rel=1e-12)
    table = found.leading_reliability.set_index("count")
    assert table.loc[2, ["mean", "frequency"]].tolist() == pytest.approx([0.4, (1 / 2 + 2 / 3) / 2])
    same = pd.DataFrame({"a": [0.4] * 4, "b": [0.4] * 4})[[name for name in order if name != "c"]]
    assert validation.report(same, ["a"] * 4, resamples=0).leading_calibration_error.value == pytest.approx(0.1, rel=1e-12)


def test_chance_draws_all_causes_that_lead_together():
    p, truth = np.array([[0.4, 0.4], [0.3, 0.7]]), np.array([[True, False], [False, False]])
    lead, lead_true, weight = measures.leading(p, truth)
    assert (lead.tolist(), lead_true.tolist(), weight.tolist()) == ([[0.4], [0.7]], [[0.5], [0.0]], [[0.5, 0.5], [0.0, 1.0]])
    edges = measures.bin_edges(10)
    found = measures.calibration_error_by_chance(p[weight > 0], edges, 20, np.random.default_rng(3), weight[weight > 0])
    rng = np.random.default_rng(3)
    for error in found:
        one, other, alone = rng.random(3) < [0.4, 0.4, 0.7]
        assert error == pytest.approx((abs(0.4 - (int(one) + int(other)) / 2) + abs(0.7 - alone)) / 2)
    variance = measures.chance_variance(p[weight > 0], edges, weight[weight > 0])
    assert variance[[4, 7]] == pytest.approx([2 * 0.25 * 0.24 / 4, 0.21 / 4])
    assert variance.sum() == pytest.approx(variance[[4, 7]].sum())


def test_a_cause_may_have_any_name():
    names = dict(zip(["stroke", "neuropathy", "anaemia"], ["all", "leading", "each"], strict=True))
    truth = [";".join(names[part] for part in cell.split(";") if part) for cell in TRUTH]
    found = validation.report(POSTERIORS.rename(columns=names), truth, resamples=50)
    pd.testing.assert_frame_equal(found.overall, validation.report(POSTERIORS, TRUTH, resamples=50).overall)


def test_a_case_with_every_cause_has_no_wrong_one():
    found = validation.report(pd.DataFrame({"x": [0.2], "y": [0.1]}), ["x;y"], resamples=10)
    assert found.by_item["rank"].tolist() == [1, 1]
    assert found.by_item["wrong"].tolist() == ["", ""]
    assert found.by_item["wrong_posterior"].isna().all()


def test_a_certain_error_has_an_infinite_log_score():
    posteriors = pd.DataFrame({"x": [1.0, 1.0, 0.5], "y": [0.0, 0.0, 0.5]})
    found = validation.report(posteriors, ["x", "y", "x"], resamples=50)
    assert found.log_score.value == math.inf
    assert found.log_score.high == math.inf
    right = validation.report(posteriors, ["x", "x", "x"], resamples=50)
    assert right.log_score.value == pytest.approx(2 * math.log(2) / 3)


def test_without_true_causes_there_is_nothing_to_rank():
    found = validation.report(pd.DataFrame({"x": [0.2, 0.1]}), ["", None], resamples=20)
    assert (found.items, found.without_cause) == (0, 2)
    assert math.isnan(found.top_1.value)
    assert math.isnan(found.top_1.low)
    assert found.brier.value == pytest.approx((0.04 + 0.01) / 2)


# report: the bootstrap


def test_the_bootstrap_is_that_of_cases_drawn_with_replacement():
    rng = np.random.default_rng(8)
    means = rng.random((30, 2))
    residual = rng.normal(size=(30, 5))
    sums, (totals,) = measures.resampled(means, [residual], 25, np.random.default_rng(4))
    weights = np.random.default_rng(4).multinomial(30, np.full(30, 1 / 30), 25)
    for r, weight in enumerate(weights):
        drawn = np.repeat(np.arange(30), weight)
        assert sums[r] == pytest.approx(means[drawn].sum(axis=0))
        assert totals[r] == pytest.approx(residual[drawn].sum(axis=0))
        assert np.abs(totals[r]).sum() / 30 == pytest.approx(measures.calibration_error(residual[drawn]))


def test_the_bootstrap_does_not_depend_on_the_size_of_its_blocks(monkeypatch):
    arguments = np.ones((10, 1)), [np.arange(20.0).reshape(10, 2)], 7
    whole = measures.resampled(*arguments, np.random.default_rng(1))[1][0]
    monkeypatch.setattr(measures, "_BLOCK", 20)
    assert measures.resampled(*arguments, np.random.default_rng(1))[1][0].tolist() == whole.tolist()


def test_intervals_enclose_and_depend_on_the_seed_only():
    first, again, other = (validation.report(POSTERIORS, TRUTH, resamples=300, seed=s).overall for s in (7, 7, 8))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    generator = validation.report(POSTERIORS, TRUTH, resamples=300, seed=np.random.default_rng(7)).overall
    pd.testing.assert_frame_equal(first, generator)
    assert (first["low"] <= first["high"]).all()
    assert first.loc["brier", "low"] < first.loc["brier", "value"] < first.loc["brier", "high"]


def test_the_interval_of_a_calibration_error_takes_the_absolute_shift_of_gaps_near_zero():
    residual = np.array([[0.5, 0.1], [0.5, -0.1], [0.5, 0.1], [0.5, 0.1]])
    shifts = np.array([[-0.02, -0.1], [0.0, 0.0], [0.02, 0.05]])
    drawn = 4 * (residual.mean(axis=0) + shifts)
    # Gaps 0.5, far from 0, and 0.05, near it: downwards d = 0.08, 0, 0.07, upwards -0.12, 0, 0.07.
    ends = measures.calibration_interval(residual, drawn, np.zeros(2), np.random.default_rng(0))
    assert ends == pytest.approx((0.55 - 0.08, 0.55 + 0.12))
    ends = measures.calibration_interval(-residual, -drawn, np.zeros(2), np.random.default_rng(0))
    assert ends == pytest.approx((0.55 - 0.08, 0.55 + 0.12))
    # The second gap moves by at least the variance that it has where the posteriors are right, the first one is out of reach.
    moved = shifts[:, 1] + np.sqrt(0.04 - shifts[:, 1].var()) * np.random.default_rng(0).standard_normal((3, 2))[:, 1]
    ends = measures.calibration_interval(residual, drawn, np.array([0.01, 0.04]), np.random.default_rng(0))
    expected = max(0.0, 0.55 - max(shifts[:, 0] + np.abs(moved))), 0.55 - min(shifts[:, 0] + moved)
    assert ends == pytest.approx(expected)
    assert all(map(math.isnan, measures.calibration_interval(residual, drawn[:0], np.zeros(2), np.random.default_rng(0))))


@pytest.mark.parametrize("resamples", [1, 2, 300])
def test_the_interval_of_a_calibration_error_holds_its_estimate(resamples):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        p = rng.random((200, 1))
        truth = ["x" if true else "" for true in rng.random(200) < p[:, 0]]
        found = validation.report(pd.DataFrame(p, columns=["x"]), truth, resamples=resamples)
        for error in (found.calibration_error, found.leading_calibration_error):
            assert 0.0 <= error.low <= error.value <= error.high <= 1.0
        assert (found.per_cause["low"] <= found.per_cause["calibration_error"]).all()
        assert (found.per_cause["calibration_error"] <= found.per_cause["high"]).all()


# Posteriors, and the log odds by which they are off.
@pytest.mark.parametrize(
    ("n", "draw", "off"),
    [
        (200, lambda rng, n: rng.random(n), 0.0),
        (200, lambda rng, n: rng.beta(5, 2, n), 0.0),
        (200, lambda rng, n: rng.beta(0.3, 20, n), 0.0),
        (200, lambda rng, n: rng.random(n), 0.5),
        (500, lambda rng, n: rng.random(n), 1.0),
    ],
)
def test_the_interval_of_a_calibration_error_holds_the_truth_as_often_as_it_says(n, draw, off):
    edges = measures.bin_edges(10)

    def frequency(p):
        return p / (p + (1.0 - p) * math.exp(-off))

    many = draw(np.random.default_rng(1), 1_000_000)
    true = abs(np.bincount(measures.bin_of(many, edges), many - frequency(many))).sum() / len(many) if off else 0.0
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p = draw(rng, n)[:, None]
        residual = measures.residuals(p, rng.random((n, 1)) < frequency(p), edges)
        drawn = measures.resampled(np.ones((n, 1)), [residual], 200, rng)[1][0]
        low, high = measures.calibration_interval(residual, drawn, measures.chance_variance(p, edges), rng)
        held += low <= true <= high
    # 190 of 200 are expected, less three standard errors. Quantiles of resampled errors hold a truth of 0 in none of them.
    assert held >= 181


def test_estimates_print_with_their_interval():
    assert str(Estimate(0.123456, 0.1, 0.2)) == "0.1235 (0.1 to 0.2)"


# report: what is refused


def test_unknown_causes_are_listed_with_their_nearest_neighbours():
    with pytest.raises(ddx.CaseError) as caught:
        validation.report(POSTERIORS, ["strok", "neuropathy; anemia", "x1", ""])
    assert str(caught.value).splitlines() == [
        "line 0, case 'a', truth: unknown cause 'strok'; nearest: stroke",
        "line 1, case 'b', truth: unknown cause 'anemia'; nearest: anaemia",
        "line 2, case 'c', truth: unknown cause 'x1'",
    ]


WORDS = "expected ids of causes separated by ';', or an empty cell"
REMEDY = "leave such cases out, or empty the cell if none of the modelled causes is present"


@pytest.mark.parametrize("word", ["unknown", "NA", "n/a", "nan", " Unknown "])
def test_words_for_unknown_are_no_truth(word):
    # A finding that is unknown was not observed; a truth that is unknown is not the absence of all causes.
    with pytest.raises(ddx.CaseError) as caught:
        validation.report(POSTERIORS, [word, "stroke", ["anaemia", word], f"stroke;{word}"])
    said = f"truth: got {word.strip()!r}, {WORDS}; {REMEDY}"
    assert str(caught.value).splitlines() == [f"line {i}, case {case!r}, {said}" for i, case in ((0, "a"), (2, "c"), (3, "d"))]
    assert {reject.error for reject in caught.value.rejects} == {"not_a_value"}


@pytest.mark.parametrize("cell", ["", " ", ";", None, NAN, np.float32("nan"), pd.NA, pd.NaT, [], [None], ()])
def test_an_empty_truth_is_none_of_the_causes(cell):
    found = validation.report(POSTERIORS, pd.Series(["stroke", cell, "stroke", cell], POSTERIORS.index, dtype=object))
    assert (found.items, found.without_cause) == (2, 2)


def test_a_true_cause_without_a_column_is_one_of_the_knowledge_base(tiny):
    posteriors = tiny.score(pd.DataFrame({"present": ["tremor", "numbness"]}))[["anaemia"]]
    with pytest.raises(ddx.CaseError) as caught:
        validation.report(posteriors, ["stroke", "cva"], model=tiny)
    why = "is a cause of tiny that has no column among the posteriors; add its column, or leave such cases out"
    assert str(caught.value).splitlines() == [f"line 0, truth: 'stroke' {why}", f"line 1, truth: 'cva' {why}"]


def test_aliases_are_understood_with_the_model(tiny):
    posteriors = tiny.score(pd.DataFrame({"present": ["tremor", "numbness"]}))
    named = validation.report(posteriors, ["cva", "polyneuropathy; stroke ;"], model=tiny, resamples=0)
    assert named.by_item["truth"].tolist() == ["stroke", "stroke", "neuropathy"]
    with pytest.raises(ddx.CaseError, match=r"^line 0, truth: unknown cause 'cva'$"):
        validation.report(posteriors, ["cva", ""])
    with pytest.raises(ddx.CaseError, match=r"^line 1, truth: unknown cause 'weak_arm'; weak_arm is a finding$"):
        validation.report(posteriors, ["", "weak_arm"], model=tiny)


def test_true_causes_may_be_lists():
    named = validation.report(POSTERIORS, TRUTH, resamples=0).by_item
    lists = [[part for part in cell.split(";") if part] for cell in TRUTH]
    pd.testing.assert_frame_equal(validation.report(POSTERIORS, lists, resamples=0).by_item, named)


def test_a_file_of_posteriors_can_be_measured_as_it_is():
    frame = POSTERIORS.reset_index(names="case_id")
    found = validation.report(frame, TRUTH, resamples=0)
    assert found.by_item["case"].tolist() == ["a", "b", "b", "c"]
    series = pd.Series(TRUTH, index=list("abcd"))
    assert validation.report(frame, series, resamples=0).top_1.value == 0.75


def test_leading_causes_and_intervals_in_a_file_of_posteriors_are_read_over():
    plain = validation.report(POSTERIORS, TRUTH, resamples=0)
    beside = {"cause_1": "stroke", "posterior_1": 0.9, "stroke_low": 0.99, "stroke_high": 1.0, "anaemia_low": NAN}
    found = validation.report(POSTERIORS.assign(**beside), TRUTH, resamples=0)
    pd.testing.assert_frame_equal(found.overall, plain.overall)
    pd.testing.assert_frame_equal(found.per_cause, plain.per_cause)


def test_with_the_model_a_column_that_is_no_cause_is_refused(tiny):
    posteriors = tiny.score(pd.DataFrame({"tremor": [1]})).assign(strok=0.5)
    with pytest.raises(ddx.UsageError) as caught:
        validation.report(posteriors, ["stroke"], model=tiny)
    assert str(caught.value) == "posteriors: column 'strok' is no cause of tiny; nearest: stroke; take it out"


SEQUENCE = "expected a sequence or a Series with one cell a case"


@pytest.mark.parametrize(
    ("posteriors", "truth", "options", "message"),
    [
        (POSTERIORS, TRUTH[:3], {}, "truth: got 3 cases, the posteriors have 4"),
        (POSTERIORS, "stroke", {}, "truth: got the text 'stroke', expected one text a case"),
        (
            POSTERIORS,
            pd.Series(TRUTH),
            {},
            "truth: its index differs from that of the posteriors; reindex it, or give a list in their order",
        ),
        (POSTERIORS.iloc[:0], [], {}, "posteriors: got 0 cases and 3 causes, expected at least one of each"),
        (POSTERIORS[["none_of_these"]], TRUTH, {}, "posteriors: got 4 cases and 0 causes, expected at least one of each"),
        (
            POSTERIORS.assign(note="x"),
            TRUTH,
            {},
            "posteriors: column 'note' holds no numbers but str; keep the columns of causes only",
        ),
        (
            POSTERIORS.assign(anaemia=[0.1, 1.2, 0.3, 0.4]),
            TRUTH,
            {},
            "posteriors: case 'b', anaemia: got 1.2, expected a probability from 0 to 1",
        ),
        (
            POSTERIORS.assign(stroke=NAN),
            TRUTH,
            {},
            "posteriors: case 'a', stroke: got nan, expected a probability from 0 to 1",
        ),
        (
            POSTERIORS.set_axis(["x", "y", "x", "none_of_these", "log_evidence"], axis=1),
            TRUTH,
            {},
            "posteriors: duplicate column 'x'; keep one",
        ),
        (
            # The sum of many posteriors may be such a number; a posterior is none.
            POSTERIORS.assign(anaemia=[0.1, 1.0000000000000002, 0.3, 0.4]),
            TRUTH,
            {},
            "posteriors: case 'b', anaemia: got 1.0000000000000002, expected a probability from 0 to 1",
        ),
        (POSTERIORS, None, {}, f"truth: got None, {SEQUENCE}"),
        (POSTERIORS, set(TRUTH), {}, f"truth: got a value of type set, {SEQUENCE}"),
        (POSTERIORS, frozenset(TRUTH), {}, f"truth: got a value of type frozenset, {SEQUENCE}"),
        (POSTERIORS, dict.fromkeys(TRUTH, 1), {}, f"truth: got a value of type dict, {SEQUENCE}"),
        (POSTERIORS, pd.DataFrame(np.eye(4)), {}, f"truth: got a value of type DataFrame, {SEQUENCE}"),
        (POSTERIORS, pd.DataFrame({"truth": TRUTH}), {}, f"truth: got a value of type DataFrame, {SEQUENCE}"),
        (POSTERIORS, np.array([TRUTH]), {}, f"truth: got a value of type ndarray, {SEQUENCE}"),
        (
            POSTERIORS.to_numpy(),
            TRUTH,
            {},
            "posteriors: got a value of type ndarray, expected a data frame with a row per case and a column per cause",
        ),
        (
            POSTERIORS.set_axis(pd.MultiIndex.from_product([["p"], POSTERIORS.columns]), axis=1),
            TRUTH,
            {},
            "posteriors: got columns of 2 levels, expected one level with the ids of the causes; flatten them",
        ),
        (
            POSTERIORS.set_axis([0, 1, 2, 3, 4], axis=1),
            TRUTH,
            {},
            "posteriors: got the column 0, expected the id of a cause as text; rename it",
        ),
        (POSTERIORS, TRUTH, {"model": "limb"}, "model: got 'limb', expected a Model; ddx.load('limb') makes one"),
        (POSTERIORS, TRUTH, {"bins": 0}, "bins: got 0, expected 1 or more"),
        (POSTERIORS, TRUTH, {"resamples": -1}, "resamples: got -1, expected 0 or more"),
        (POSTERIORS, TRUTH, {"seed": -1}, "seed: got -1, expected 0 or more"),
        (POSTERIORS, TRUTH, {"seed": None}, "seed: got None, expected a whole number"),
        (POSTERIORS, TRUTH, {"bins": 2.5}, "bins: got 2.5, expected a whole number"),
    ],
)
def test_what_cannot_be_measured_is_refused(posteriors, truth, options, message):
    with pytest.raises(ddx.UsageError) as caught:
        validation.report(posteriors, truth, **options)
    assert str(caught.value) == message


# simulate


@pytest.fixture(scope="module")
def many(tiny):
    return simulate(tiny.in_setting("clinic"), 20_000, seed=11, observed=1.0)


def _has(frame, column, name):
    return frame[column].map(lambda cell: name in cell.split(";"))


def test_a_simulated_case_is_a_row_that_score_reads(tiny):
    frame = simulate(tiny, 12, seed=1)
    assert frame.columns.tolist() == ["case_id", "age", "sex", "context", "present", "absent", "final_diagnosis"]
    assert frame["case_id"].tolist() == [f"simulated_{i:02d}" for i in range(1, 13)]
    assert len(tiny.score(frame)) == 12
    assert simulate(tiny, 0).columns.tolist() == frame.columns.tolist()
    assert len(simulate(tiny, 0)) == 0


def test_the_seed_decides_and_a_generator_will_do(tiny):
    first, again = simulate(tiny, 50, seed=5), simulate(tiny, 50, seed=np.random.default_rng(5))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(simulate(tiny, 50, seed=6))
    assert simulate(tiny, 50).equals(simulate(tiny, 50, seed=0))


def _near(frequency, expected, n):
    """Within four standard errors."""
    assert abs(frequency - expected) <= 4.0 * math.sqrt(expected * (1.0 - expected) / n) + 1e-12


def test_causes_come_with_their_prevalence_in_the_setting(tiny, many):
    net = tiny.in_setting("clinic").network
    for cause, prevalence in zip(net.causes, net.prevalence, strict=True):
        _near(_has(many, "final_diagnosis", cause).mean(), prevalence, len(many))
    assert (many["final_diagnosis"] == "").any()
    assert many["final_diagnosis"].str.contains(";").any()


def test_context_comes_with_its_frequencies_and_requirements(tiny, many):
    net = tiny.in_setting("clinic").network
    assert net.context_prior[4, 0, 0] == pytest.approx(0.3)  # of the clinic's own patients; 0.2 of all people
    diabetes, insulin = _has(many, "context", "diabetes"), _has(many, "context", "insulin")
    old = many["age"] >= 75
    _near(old.mean(), 0.1, len(many))
    _near((many["sex"] == "female").mean(), 0.51, len(many))
    _near(diabetes[old].mean(), net.context_prior[4, 0, 0], old.sum())
    _near(insulin[diabetes].mean(), 0.25, diabetes.sum())
    assert not (insulin & ~diabetes).any()
    # What is absent is said to be absent.
    assert (_has(many, "absent", "diabetes") == ~diabetes).all()
    assert many["age"].between(0, 94).all()
    assert many["age"].max() == 94


def test_findings_follow_the_noisy_or(tiny, many):
    net = tiny.network
    row = net.findings.index("fatigue")
    for truth in ("", "anaemia", "stroke", "neuropathy;anaemia"):
        these = many[(many["final_diagnosis"] == truth) & (many["age"] < 75)]
        missing = 1.0 - net.leak[0, row]
        for cause in filter(None, truth.split(";")):
            missing *= 1.0 - net.link[row, net.causes.index(cause)]
        assert (_has(these, "present", "fatigue") ^ _has(these, "absent", "fatigue")).all()
        _near(_has(these, "present", "fatigue").mean(), 1.0 - missing, len(these))


def test_leaks_depend_on_age(many):
    healthy = many[many["final_diagnosis"] == ""]
    old = healthy["age"] >= 75
    _near(_has(healthy[~old], "present", "absent_ankle_jerks").mean(), 0.1, (~old).sum())
    _near(_has(healthy[old], "present", "absent_ankle_jerks").mean(), 0.3, old.sum())


def test_of_a_graded_finding_one_level_is_said_or_all_are_absent(many):
    gradual, sudden = _has(many, "present", "gradual_onset"), _has(many, "present", "sudden_onset")
    assert not (gradual & sudden).any()
    none = ~gradual & ~sudden
    for level in ("gradual_onset", "sudden_onset"):
        assert (_has(many, "absent", level) == none).all()
    stroke = many["final_diagnosis"] == "stroke"
    # P(sudden | only a stroke) = 0.85 is a link that the leak of 0.01 was taken out of.
    _near(sudden[stroke].mean(), 0.85, stroke.sum())


def test_a_finding_and_what_it_implies_are_not_both_said(many):
    said = [_has(many, "present", f) | _has(many, "absent", f) for f in ("arm_weakness", "hand_weakness")]
    assert (said[0] ^ said[1]).all()
    # Either of them with the same right.
    _near(said[0].mean(), 0.5, len(many))


def test_implications_over_several_steps_are_kept_apart(limb):
    frame = simulate(limb, 200, seed=2, observed=1.0)
    findings = limb.knowledge.findings
    for present, absent in zip(frame["present"], frame["absent"], strict=True):
        said = set(f"{present};{absent}".split(";"))
        for finding in said & set(findings):
            assert not said & set(findings[finding].implies)
            for one, two in itertools.product(findings[finding].implies, repeat=2):
                assert not said & set(findings[one].implies) | (said & set(findings[two].implies))
    # Nothing is left out that could have been said: sensory_disturbance, or something that implies it.
    sensory = {f for f in findings if "sensory_disturbance" in findings[f].implies} | {"sensory_disturbance"}
    for cells in zip(frame["present"], frame["absent"], strict=True):
        assert sensory & set(";".join(cells).split(";"))


def test_observed_is_a_probability_for_all_findings_or_by_kind(tiny):
    frame = simulate(tiny, 4000, seed=3, observed=0.3)
    said = _has(frame, "present", "tremor") | _has(frame, "absent", "tremor")
    _near(said.mean(), 0.3, 4000)
    onset = sum(_has(frame, c, f) for c in ("present", "absent") for f in ("gradual_onset", "sudden_onset")) > 0
    _near(onset.mean(), 0.3, 4000)
    assert (_has(frame, "context", "diabetes") | _has(frame, "absent", "diabetes")).all()
    frame = simulate(tiny, 4000, seed=3, observed={"lab": 0.0, "sign": 1.0, "context": 0.5})
    texts = frame["present"] + ";" + frame["absent"]
    assert not texts.str.contains("low_glucose|raised_ck|low_haemoglobin").any()
    assert texts.str.contains("brisk_reflexes").all()
    _near(texts.str.contains("tremor").mean(), 0.2, 4000)
    _near((_has(frame, "context", "diabetes") | _has(frame, "absent", "diabetes")).mean(), 0.5, 4000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n: got -1, expected 0 or more"),
        ({"n": 20.5}, "n: got 20.5, expected a whole number"),
        ({"n": 1, "seed": np.int64(-1)}, "seed: got -1, expected 0 or more"),
        ({"n": 1, "seed": 20.5}, "seed: got 20.5, expected a whole number"),
        ({"n": 1, "observed": 1.5}, "observed: got 1.5, expected a probability from 0 to 1"),
        ({"n": 2, "observed": None}, "observed: got None, expected a probability from 0 to 1, or one for each kind"),
        ({"n": 2, "observed": "x"}, "observed: got 'x', expected a probability from 0 to 1, or one for each kind"),
        ({"n": 2, "observed": "abc"}, "observed: got 'abc', expected a probability from 0 to 1, or one for each kind"),
        ({"n": 2, "observed": {"lab": "x"}}, "observed: lab: got 'x', expected a probability from 0 to 1"),
        (
            {"n": 2, "observed": {1: 0.5}},
            "observed: unknown kind 1; known: history, symptom, sign, bedside_test, lab, context",
        ),
        ({"n": 1, "observed": NAN}, "observed: got nan, expected a probability from 0 to 1"),
        ({"n": 1, "observed": {"lab": -0.5}}, "observed: lab: got -0.5, expected a probability from 0 to 1"),
        (
            {"n": 1, "observed": {"labs": 0.5}},
            "observed: unknown kind 'labs'; nearest: lab; known: history, symptom, sign, bedside_test, lab, context",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(tiny, arguments, message):
    with pytest.raises(ddx.UsageError) as caught:
        simulate(tiny, **arguments)
    assert str(caught.value) == message


def test_the_name_of_a_knowledge_base_is_no_model():
    message = r"^model: got 'limb', expected a Model; ddx\.load\('limb'\) makes one$"
    with pytest.raises(ddx.UsageError, match=message):
        simulate("limb", 2)
    with pytest.raises(ddx.UsageError, match=message):
        validation.evaluate_file("cases.csv", "limb")


def test_the_column_of_the_truth_has_a_name(tiny):
    with pytest.raises(ddx.UsageError, match=r"^truth: got None, expected the name of a column$"):
        validation.evaluate_file("cases.csv", tiny, truth=None)


@pytest.mark.parametrize("kind", [tuple, np.array, pd.Index, pd.array, lambda t: pd.Series(t, index=POSTERIORS.index)])
def test_a_truth_may_be_any_sequence(kind):
    assert validation.report(POSTERIORS, kind(TRUTH), resamples=0).top_1.value == 0.75


# Parameter recovery: the model scores its own cases, so its posteriors must be right as often as they say.


@pytest.mark.parametrize("setting", ["clinic", "balanced"])
def test_the_model_is_calibrated_on_its_own_cases(tiny, setting):
    model = tiny.in_setting(setting)
    # Bounds of chance at 95 %: with six of the seeds 21 to 32 both settings stay inside, with six one of them does.
    cases = simulate(model, 4000, seed=24, observed=0.6)
    found = validation.report(model.score(cases), cases["final_diagnosis"], seed=1)
    for error, chance in (
        (found.calibration_error, found.calibration_error_by_chance),
        (found.leading_calibration_error, found.leading_calibration_error_by_chance),
    ):
        assert error.value <= chance.high
        assert error.low <= error.value <= error.high
        assert error.value < 0.02
    table = found.reliability.dropna()
    outside = ((table["mean"] < table["frequency_low"]) | (table["mean"] > table["frequency_high"])).sum()
    assert outside <= 1
    # As many cases of every cause as the posteriors add up to.
    spread = np.sqrt((model.score(cases)[list(model.network.causes)] * 0.25).sum().to_numpy() + 1.0) * 4.0
    assert (np.abs(found.per_cause["true"] - found.per_cause["expected"]).to_numpy() <= spread).all()


def test_the_shipped_model_is_calibrated_on_its_own_cases(limb):
    # The limit is a 97.5 % quantile: 3 of 120 seeds lie above it.
    cases = simulate(limb, 1500, seed=23, observed=0.15)
    found = validation.report(limb.score(cases), cases["final_diagnosis"], seed=1, resamples=200)
    assert found.calibration_error.value <= found.calibration_error_by_chance.high
    assert found.leading_calibration_error.value <= found.leading_calibration_error_by_chance.high


def test_a_wrong_model_is_found_out(tiny):
    cases = simulate(tiny.in_setting("balanced"), 3000, seed=23, observed=0.5)
    wrong = validation.report(tiny.in_setting("general").score(cases), cases["final_diagnosis"], seed=1, resamples=200)
    assert wrong.calibration_error.low > wrong.calibration_error_by_chance.high
    right = validation.report(tiny.in_setting("balanced").score(cases), cases["final_diagnosis"], seed=1, resamples=200)
    assert right.log_score.value < wrong.log_score.value
    assert right.brier.value < wrong.brier.value
