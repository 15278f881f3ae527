"""The experiment that leaves studies out knows a spread that it was told, and standardizes errors as written."""

from __future__ import annotations

import runpy
from math import log, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import ddx
from ddx.knowledge import Study
from ddx.knowledge.pooling import SPREAD

MODULE = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "left_out_studies" / "run.py"))
S = "studies.csv"


def row(x, n, source):
    return Study(f"{source}_{x}_{n}", "sensitivity", x / n, source, "cohort", numerator=x, denominator=n, counts="reported")


def groups(rows):
    """As the experiment groups them: all these count one thing."""
    return {("one",): [MODULE["estimate"](r) for r in rows]}


def test_a_known_spread_between_studies_is_found_again_and_standardizes_their_errors():
    rng = np.random.default_rng(5)
    found = {}
    for link in range(400):
        centre = rng.normal(0.0, 1.0)
        p = expit(centre + rng.normal(0.0, SPREAD["link"], 3))
        rows = [row(int(x), 200, f"source{i}") for i, x in enumerate(rng.binomial(200, p))]
        found[link,] = [MODULE["estimate"](r) for r in rows]
    spread, low, high = MODULE["likely_spread"](found.values())
    assert spread == pytest.approx(SPREAD["link"], abs=0.04)
    assert low < SPREAD["link"] < high
    z = MODULE["left_out"]("link", found)["standardized"]
    assert len(z) == 1200
    # A little more than 1 and a little less than 90 %: what two studies say of their own spread goes into the interval.
    assert 1.0 < z.std() < 1.12
    assert 0.86 < (z.abs() < MODULE["NINE_TENTHS"]).mean() < 0.9


def test_one_study_predicts_the_other_by_hand():
    # 30 of 40 predicts with variance 1/30 + 1/10 + 2 tau0^2; 10 of 20 has its own 1/10 + 1/10.
    found = MODULE["left_out"]("link", groups([row(30, 40, "a"), row(10, 20, "b")])).set_index("study")
    second = found.loc["b_10_20"]
    assert second["predicted"] == pytest.approx(log(3))
    assert second["spread"] == pytest.approx(sqrt(1 / 30 + 1 / 10 + 2 * 0.36))
    assert second["standardized"] == pytest.approx(-log(3) / sqrt(1 / 30 + 1 / 10 + 2 * 0.36 + 0.2))
    assert found.loc["a_30_40", "predicted"] == pytest.approx(0.0)


def test_predictions_that_are_too_extreme_have_a_slope_below_one():
    rng = np.random.default_rng(3)
    truth = rng.normal(0.0, 1.5, 4000)
    counted = rng.binomial(50, expit(truth)) / 50
    slope, error = MODULE["calibration"](truth, counted)
    assert slope == pytest.approx(1.0, abs=3 * error)
    # Twice as far from even odds: half the slope.
    assert MODULE["calibration"](2.0 * truth, counted) == pytest.approx((slope / 2.0, error / 2.0))
    p = expit(truth)
    assert error == pytest.approx(1.0 / sqrt(50 * (p * (1.0 - p) * truth**2).sum()), rel=0.05)


def test_drawn_towards_even_odds_predictions_lose_less():
    """One study of a link predicts the next population; the links are uniform and their populations differ as in limb."""
    rng = np.random.default_rng(8)
    found = {}
    for link in range(2000):
        centre = np.log(1.0 / rng.uniform() - 1.0)
        p = expit(centre + rng.normal(0.0, SPREAD["link"], 2))
        rows = [row(int(x), 100, f"source{i}") for i, x in enumerate(rng.binomial(100, p))]
        found[link,] = [MODULE["estimate"](r) for r in rows]
    result = MODULE["left_out"]("link", found)
    counted, nearer = expit(result["estimate"]), MODULE["drawn"](result)
    assert MODULE["log_loss"](nearer, counted) < MODULE["log_loss"](result["predicted"], counted) - 0.002
    assert MODULE["calibration"](nearer.to_numpy(), counted.to_numpy())[0] == pytest.approx(1.0, abs=0.03)
    assert MODULE["log_loss"](pd.Series([0.0, log(3)]), pd.Series([0.3, 1.0])) == pytest.approx((log(2) + log(4 / 3)) / 2)


def test_studies_of_one_source_do_not_predict_each_other():
    assert MODULE["left_out"]("link", groups([row(30, 40, "a"), row(10, 20, "a")])).empty


def test_links_that_were_words_before_they_were_counted(edit):
    edit.cell(S, "link_stroke_arm_weakness", "quality", "verbal")
    before = ddx.load(edit.folder).knowledge
    edit.copy(S, "link_stroke_arm_weakness", id="new_words", quality="cohort", value="0.6")
    edit.copy(S, "link_neuropathy_numbness", id="new_count", value="0.7")
    now = ddx.load(edit.folder).knowledge
    found = MODULE["guessed"](before, now).set_index("counted")
    assert found.index.tolist() == [False, True]
    assert expit(found.loc[False, "before"]) == pytest.approx(before.parameters["link:stroke:arm_weakness"].value)
    assert expit(found.loc[False, "new"]) == pytest.approx(0.6)
    assert expit(found.loc[True, "new"]) == pytest.approx(0.7)


def test_few_links_make_no_line_of_the_table_and_more_their_error():
    few = pd.DataFrame({"counted": [True] * 2, "before": [0.0, 1.0], "new": [0.5, 1.0]})
    assert "counts |" not in MODULE["before_table"](few)
    more = pd.DataFrame({"counted": [False] * 3, "before": [-1.0, 0.0, 1.0], "new": [-1.5, 0.0, 1.5]})
    assert MODULE["before_table"](more).endswith("| words or a guess | 3 | 0.41 | +0.00 | 1.50 | 1.00 |")


def test_readers_are_held_against_left_out_counts():
    kb = ddx.load("limb").knowledge
    estimates = MODULE["blind_estimates"]()
    readers = pd.read_csv(MODULE["HERE"] / "blind.csv", index_col=["cause", "finding"])
    assert readers.gt(0.0).all(axis=None)
    assert readers.lt(1.0).all(axis=None)
    some = [s for s in kb.studies.values() if s.cause == "stroke" and s.finding in ("facial_droop", "aphasia", "neglect")]
    blind = np.array([np.log(p := readers.loc[(s.cause, s.finding)]) - np.log1p(-p) for s in some]).mean(axis=1)
    assert [estimates[s.cause, s.finding] for s in some] == pytest.approx(blind)
    own = {"kind": "link", "study": [s.id for s in some], "estimate": blind + 0.5, "predicted": blind - 1.0}
    # A study that no reader thought of is not counted.
    result = pd.concat([pd.DataFrame(own), pd.DataFrame({**own, "study": some[0].id, "kind": "leak"})])
    counted = expit(blind + 0.5)

    def loss(x):
        return -(counted * np.log(expit(x)) + (1 - counted) * np.log(expit(-x))).mean()

    others, readers_, both = (f"{loss(x):.3f}" for x in (blind - 1.0, blind, blind - 0.5))
    text = MODULE["blind_text"](kb, result)
    assert text.startswith(
        f"Of {len(some)} of them four readers had written down estimates, blind: {others} from the other studies, "
    )
    assert f"{readers_} from the readers, {both} from the middle of both" in text
    assert MODULE["blind_text"](kb, result.iloc[:0]) == "Nobody wrote down estimates of these links."
