"""What the leak does: the same simulated cases, scored with the odds of every leak multiplied.

    python experiments/leak/run.py

A leak is the probability that a finding (or a syndrome) is present without any modelled cause. The frequency of a finding in a
cause that studies count stays: where it was 0.3 with a leak of 0.1 it is 0.3 without one, and the link makes up the difference.
Written are results.csv, figure.png and, below the line "results" of README.md, the table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.network import build_network
from ddx.validation import report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import (  # noqa: E402
    CERTAIN,
    GREY,
    OTHER,
    OURS,
    RULED_OUT,
    Cases,
    Scores,
    canvas,
    markdown,
    on_log_scale,
    options,
    publish,
    run,
)

FACTORS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
NO_LEAK = 1e-12


def main() -> int:
    parser = options(__doc__, HERE, 3000)
    parser.add_argument("--setting", action="append", help="repeat for more; default: primary_care and emergency")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    settings = arguments.setting or ["primary_care", "emergency"]
    models = [ddx.load(arguments.kb, setting) for setting in settings]
    result = pd.concat([measure(model, arguments.cases, arguments.seed) for model in models], ignore_index=True)
    what = f"{arguments.cases} simulated cases a setting"
    publish(HERE, arguments, models[0], what, result, table(result), draw(result), ALT)


def measure(model: ddx.Model, n: int, seed: int) -> pd.DataFrame:
    """A row per factor; changes are against factor 1."""
    cases = Cases.drawn(model, n, seed)
    reference = cases.scored(model.network)
    rows = []
    for factor in FACTORS:
        scores = (
            cases.scored(build_network(model.knowledge, model.setting, leaks(model, factor))) if factor != 1.0 else reference
        )
        rows.append({"setting": model.setting, "factor": factor, **scores.row(reference), **calibration(model, scores, seed)})
    return pd.DataFrame(rows)


def leaks(model: ddx.Model, factor: float) -> dict[str, float]:
    """Every leak with its odds multiplied, which keeps it below 1; ``NO_LEAK`` for factor 0."""
    values = {name: value for name, value in model.knowledge.means.items() if name.startswith("leak:")}
    return {name: factor * p / (1.0 - p + factor * p) if factor else NO_LEAK for name, p in values.items()}


def calibration(model: ddx.Model, scores: Scores, seed: int) -> dict[str, float]:
    """Of the leading cause of each case: mean posterior, how often it is true, calibration error and its size by chance."""
    posterior = pd.DataFrame(scores.posterior, columns=list(model.network.causes))
    names = np.array(model.network.causes, dtype=object)
    found = report(posterior, [";".join(names[row]) for row in scores.truth], resamples=200, seed=seed)
    rows, leader = np.arange(len(scores.posterior)), scores.leader
    return {
        "leading_posterior": float(scores.posterior[rows, leader].mean()),
        "leading_true": float(scores.truth[rows, leader].mean()),
        "leading_calibration_error": found.leading_calibration_error.value,
        "by_chance": found.leading_calibration_error_by_chance.high,
    }


def table(result: pd.DataFrame) -> str:
    header = (
        *("setting", "leaks times", "top 1", "change", "top 3", "log score", "change", "ruled out", "false", "impossible"),
        *("leading posterior", "true", "calibration"),
    )
    rows = [
        (
            *(r.setting, f"{r.factor:g}", f"{r.top_1:.3f}", f"{r.top_1_change:+.3f} ± {r.top_1_change_error:.3f}"),
            *(f"{r.top_3:.3f}", f"{r.log_score:.3f}", f"{r.log_score_change:+.3f} ± {r.log_score_change_error:.3f}"),
            *(f"{100 * share:.1f} %" for share in (r.ruled_out, r.false_certain, r.impossible)),
            *(f"{r.leading_posterior:.3f}", f"{r.leading_true:.3f}", f"{r.leading_calibration_error:.3f}; {r.by_chance:.3f}"),
        )
        for r in result.itertuples(index=False)
    ]
    note = (
        "Changes are against leaks as they are, with standard errors over the cases. *Ruled out*: cases in which a true cause "
        f"has a posterior below {RULED_OUT:g}; *false*: in which a cause that is absent has one above {CERTAIN:g}. *Leading "
        "posterior*: mean posterior of the cause that leads, beside how often it is *true*. *Calibration*: expected "
        "calibration error of the leading cause, beside its 97.5 % quantile were the posteriors right."
    )
    return f"{note}\n\n{markdown(header, rows)}"


ALT = "Top 1, log score, and posterior of the leading cause beside how often it is true, against the factor of the leaks"


def draw(result: pd.DataFrame) -> Figure:
    figure, axes = canvas(3)
    at = np.arange(len(FACTORS))
    own = result[result["setting"] == result["setting"].iloc[0]]
    for setting, line in zip(result["setting"].unique(), ("-", "--", ":", "-."), strict=False):
        rows = result[result["setting"] == setting]
        axes[0].plot(at, rows["top_1"], line, color=OURS, marker="o", ms=5, label=setting)
        axes[1].plot(at, rows["log_score"], line, color=OURS, marker="o", ms=5, label=setting)
    axes[2].plot(at, own["leading_posterior"], color=OTHER, marker="s", ms=5, label="its posterior, mean")
    axes[2].plot(at, own["leading_true"], color=GREY, marker="o", ms=5, label="how often it is true")
    axes[2].set_ylim(0.0, 1.15)
    axes[0].set_ylim(bottom=0.0)
    on_log_scale(axes[1])
    titles = ("Top 1", "Log score (low is good)", f"Leading cause, {own['setting'].iloc[0]}")
    for one, title in zip(axes, titles, strict=True):
        one.set(xlabel="odds of the leaks times", xticks=at)
        one.set_xticklabels([f"{f:g}" for f in FACTORS])
        one.set_title(title, loc="left", fontsize=11)
        if one is not axes[1]:
            one.legend(frameon=False, fontsize=9, loc="lower left" if one is axes[0] else "upper left")
    return figure


if __name__ == "__main__":
    sys.exit(main())
