"""How wide the credible intervals of leading causes are, and how much narrower if one kind of parameters were known exactly.

    python experiments/credible_intervals/run.py

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
from ddx.draws import draw_parameters
from ddx.values import Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import GREY, OURS, Cases, canvas, markdown, options, publish, run  # noqa: E402

# Row -> kinds of parameters that stay at their means.
ARMS: dict[str, tuple[str, ...]] = {
    "all uncertain": (),
    "priors known": ("prior",),
    "links known": ("link",),
    "leaks known": ("leak",),
    "odds ratios and risk factors known": ("or", "context", "population"),
    "priors and links known": ("prior", "link"),
}
ALT = (
    "Bars: mean width of the 90 % interval of the leading cause, with all parameters uncertain and with one kind of them known"
)


def main() -> int:
    parser = options(__doc__, HERE, 200)
    parser.add_argument("--draws", type=int, default=400, help="parameter draws; default: 400")
    parser.add_argument("--setting", default="primary_care")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb, arguments.setting)
    result = measure(model, arguments.cases, arguments.draws, arguments.seed)
    what = f"{arguments.cases} simulated cases, setting {model.setting}, {arguments.draws} draws"
    publish(HERE, arguments, model, what, result, table(result), draw(result), ALT)


def measure(model: ddx.Model, n: int, draws: int, seed: int) -> pd.DataFrame:
    """A row per arm; the draws of the parameters that stay uncertain are the same in every arm."""
    cases = Cases.drawn(model, n, seed)
    now = model.network.posterior(cases.evidence).marginal
    leader, row = now.argmax(axis=1), np.arange(n)
    drawn = draw_parameters(model.knowledge.parameters.values(), draws, np.random.default_rng(seed))
    means = model.knowledge.means
    value, kinds = np.array(list(means.values())), [name.split(":")[0] for name in means]
    rows = []
    for arm, known in ARMS.items():
        table = np.where([kind in known for kind in kinds], value, drawn)
        marginal = cases.under(model, Values(model.knowledge, table))
        posterior, same = marginal[:, row, leader], marginal.argmax(axis=2) == leader
        low, high = np.quantile(posterior, [0.05, 0.95], axis=0)
        width = high - low
        rows.append(
            {
                "arm": arm,
                "cases": n,
                "width": width.mean(),
                "width_error": width.std(ddof=1) / np.sqrt(n),
                "width_median": np.median(width),
                "wider_than_half": (width > 0.5).mean(),
                "same_leader": same.mean(),
            }
        )
    return pd.DataFrame(rows)


def table(result: pd.DataFrame) -> str:
    header = ("parameters", "mean width", "median width", "wider than 0.5", "same leading cause")
    rows = [
        (
            str(row["arm"]),
            f"{row['width']:.3f} ± {row['width_error']:.3f}",
            f"{row['width_median']:.3f}",
            f"{row['wider_than_half']:.2f}",
            f"{row['same_leader']:.3f}",
        )
        for row in result.to_dict("records")
    ]
    note = (
        "*Width* of the 90 % interval of the posterior of the cause that leads at the means of the parameters, over the cases "
        "(± standard error). *Same leading cause*: share of draws and cases in which it leads."
    )
    return f"{note}\n\n{markdown(header, rows)}"


def draw(result: pd.DataFrame) -> Figure:
    figure, (axes,) = canvas(height=3.2)
    axes.grid(visible=False)
    y = np.arange(len(result))
    colours = [GREY if i == 0 else OURS for i in y]
    axes.barh(y, result["width"], xerr=result["width_error"], color=colours, height=0.65, ecolor="black", capsize=3)
    for i, (width, error) in enumerate(zip(result["width"], result["width_error"], strict=True)):
        axes.text(width + error + 0.006, i, f"{width:.2f}", va="center", fontsize=9)
    axes.set_yticks(y, result["arm"], fontsize=9)
    axes.set_ylim(len(result) - 0.5, -0.5)
    axes.set_xlim(0.0, 1.15 * float((result["width"] + result["width_error"]).max()))
    axes.set_xlabel("Mean width of the 90 % credible interval of the leading cause")
    return figure


if __name__ == "__main__":
    sys.exit(main())
