"""What wrong prevalences do: the odds of one cause, or of all causes, multiplied by a factor.

    python experiments/prevalence_shift/run.py

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
from ddx.network import build_networks
from ddx.values import Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import OTHER, OURS, Cases, canvas, markdown, options, publish, run  # noqa: E402

FACTORS = (0.1, 0.2, 0.5, 2.0, 5.0, 10.0)
ALL, ONE = "all causes", "one cause"
ALT = "Curves over the factor, all causes and one cause: log score lost, and share of cases with another leading cause"


def main() -> int:
    parser = options(__doc__, HERE, 2000)
    parser.add_argument("--setting", default="primary_care")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb, arguments.setting)
    result = measure(model, arguments.cases, arguments.seed)
    what = f"{arguments.cases} simulated cases, setting {model.setting}"
    publish(HERE, arguments, model, what, result, table(result), draw(result), ALT)


def shifted(model: ddx.Model, cause: str, factor: float) -> dict[str, float]:
    """The prevalence of a cause in the setting with its odds multiplied."""
    own = f"prior:{cause}@{model.setting}"
    parameter = own if own in model.knowledge.parameters else f"prior:{cause}"
    p = model.knowledge.means[parameter]
    return {parameter: factor * p / (1.0 - p + factor * p)}


def measure(model: ddx.Model, n: int, seed: int) -> pd.DataFrame:
    """A row per arm and factor. ``one cause``: each cause in turn, measured on all cases."""
    cases = Cases.drawn(model, n, seed)
    reference, causes = cases.scored(model.network), list(model.network.causes)
    rows = []
    for factor in FACTORS:
        sets = [{k: v for cause in causes for k, v in shifted(model, cause, factor).items()}]
        sets += [shifted(model, cause, factor) for cause in causes]
        networks = build_networks(model.knowledge, model.setting, Values.of(model.knowledge, sets))
        everything, *single = [cases.scored(network) for network in networks]
        worse = everything.log_scores - reference.log_scores
        rows.append(
            {
                "arm": ALL,
                "factor": factor,
                "log_score_change": worse.mean(),
                "log_score_change_error": worse.std(ddof=1) / np.sqrt(n),
                "other_leader": float((everything.leader != reference.leader).mean()),
                "top_1": everything.hits(1).sum() / cases.truth.sum(),
                "where_true": float((everything.posterior - reference.posterior)[cases.truth].mean()),
            }
        )
        change = np.array([(one.log_scores - reference.log_scores).mean() for one in single])
        rows.append(
            {
                "arm": ONE,
                "factor": factor,
                "log_score_change": change.mean(),
                "log_score_change_error": change.std(ddof=1) / np.sqrt(len(causes)),
                "other_leader": float(np.mean([(one.leader != reference.leader).mean() for one in single])),
                "top_1": float(np.mean([one.hits(1).sum() / cases.truth.sum() for one in single])),
                "where_true": float(
                    np.nanmean(
                        [
                            (one.posterior[has, k] - reference.posterior[has, k]).mean() if has.any() else np.nan
                            for k, one in enumerate(single)
                            for has in [cases.truth[:, k]]
                        ]
                    )
                ),
            }
        )
    return pd.DataFrame(rows).sort_values(["arm", "factor"], ignore_index=True)


def table(result: pd.DataFrame) -> str:
    header = ("odds multiplied", "by", "log score lost, nats a case", "another leading cause", "top 1", "posterior where true")
    rows = [
        (
            str(row["arm"]),
            f"{row['factor']:g}",
            f"{row['log_score_change']:+.4f} ± {row['log_score_change_error']:.4f}",
            f"{row['other_leader']:.3f}",
            f"{row['top_1']:.3f}",
            f"{row['where_true']:+.3f}",
        )
        for row in result.to_dict("records")
    ]
    note = (
        "Against the right prevalences, the same cases. *One cause*: mean over the causes, each moved alone (± standard error "
        "over the causes); *posterior where true*: how it changes in the cases that have the cause."
    )
    return f"{note}\n\n{markdown(header, rows)}"


def draw(result: pd.DataFrame) -> Figure:
    figure, axes = canvas(2, height=3.4)
    panels = (("log_score_change", "Log score lost, nats a case"), ("other_leader", "Cases with another leading cause"))
    for one, (column, title) in zip(axes, panels, strict=True):
        for arm, colour in ((ALL, OTHER), (ONE, OURS)):
            own = result[result["arm"] == arm]
            x, y = np.append(own["factor"], 1.0), np.append(own[column], 0.0)
            order = np.argsort(x)
            one.plot(x[order], y[order], marker="o", color=colour, label=arm)
        one.set_xscale("log")
        one.set_xticks([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        one.minorticks_off()
        one.set_xlabel("Odds of the prevalence multiplied by")
        one.set_title(title, loc="left", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
