"""Which parameters decide the posterior of a cause in patients who have it, and whether studies stand behind them.

    python experiments/dominant_parameters/run.py

Patients are drawn with every cause equally likely and scored in a setting; every parameter is moved over its own 90 % interval.
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
from ddx import sensitivity
from ddx.cases import select
from ddx.diagnosis import Diagnosis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import Cases, canvas, markdown, options, publish, run  # noqa: E402

KINDS = ("prior", "link", "leak", "or", "context")
NAMES = {"prior": "prior", "link": "link", "leak": "leak", "or": "odds ratio", "context": "frequency of a risk factor"}
COLOURS = {"prior": "#0072B2", "link": "#009E73", "leak": "#E69F00", "or": "#CC79A7", "context": "#999999"}
ALT = "Bars of all causes: shares of the squared swings that come from priors, links, leaks, odds ratios and risk factors"
# Cases drawn for one case of every cause; of 49 equally likely ones each is then there many times.
DRAWN = 40
# Present findings of a patient, at most: with 23, which took seven diseases at once, a table takes a quarter of an hour.
MOST = 15


def main() -> int:
    parser = options(__doc__, HERE, 2)
    parser.add_argument("--setting", default="primary_care")
    parser.add_argument("--cause", action="append", help="repeat for more; default: all")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb, arguments.setting)
    result = measure(model, arguments.cases, arguments.seed, arguments.cause or list(model.network.causes))
    what = f"{arguments.cases} simulated cases a cause, setting {model.setting}"
    publish(HERE, arguments, model, what, result, table(result), draw(result), ALT)


def measure(model: ddx.Model, n: int, seed: int, causes: list[str]) -> pd.DataFrame:
    """A row per cause."""
    drawn = Cases.drawn(model.in_setting("balanced"), DRAWN * n * len(model.network.causes), seed)
    few = (drawn.evidence.finding == 1.0).sum(axis=1) <= MOST
    rows = []
    for cause in causes:
        with_it = np.flatnonzero(few & drawn.truth[:, model.network.causes.index(cause)])[:n]
        if len(with_it) < n:
            raise ddx.UsageError(f"{cause}: only {len(with_it)} of {len(drawn.truth)} simulated cases have it, {n} wanted")
        tables = []
        for i in with_it:
            evidence = select(drawn.evidence, np.array([i]))
            case = Diagnosis(model, evidence, model.network.posterior(evidence))
            tables.append(sensitivity.one_way(model, case, cause).assign(posterior=case.posterior[cause]))
        rows.append({"cause": cause, "cases": n, **_shares(tables)})
    return pd.DataFrame(rows).sort_values("estimates", ascending=False, kind="stable")


def _shares(tables: list[pd.DataFrame]) -> dict[str, object]:
    every = pd.concat(tables).reset_index()
    square = every["swing"] ** 2
    kind = every["parameter"].str.split(":").str[0]
    total = square.sum()
    summed = square.groupby(every["parameter"], sort=False).sum().sort_values(ascending=False, kind="stable")
    first = str(summed.index[0])
    of_first = every[every["parameter"] == first].iloc[0]
    return {
        "posterior": np.mean([t["posterior"].iloc[0] for t in tables]),
        **{k: float(square[kind == k].sum() / total) for k in KINDS},
        "estimates": float(square[~every["cited"]].sum() / total),
        "first": first,
        "share_of_first": float(summed.iloc[0] / total),
        "sources_of_first": of_first["sources"],
    }


def table(result: pd.DataFrame) -> str:
    header = ("cause", "posterior", *(NAMES[k] for k in KINDS), "expert estimates", "largest", "its share")
    rows = [
        (
            str(row["cause"]),
            f"{row['posterior']:.3f}",
            *(f"{row[k]:.2f}" for k in KINDS),
            f"{row['estimates']:.2f}",
            f"`{row['first']}`",
            f"{row['share_of_first']:.2f}",
        )
        for row in result.to_dict("records")
    ]
    mean = result[[*KINDS, "estimates"]].mean()
    rows.append(("**mean**", "", *(f"{mean[k]:.2f}" for k in KINDS), f"{mean['estimates']:.2f}", "", ""))
    note = (
        "*Posterior*: mean over the cases of a cause. *Shares* of the summed squares of the swings. *Expert estimates*: share "
        "of parameters without a cited study. A new study of the largest parameter would narrow the posterior most."
    )
    return f"{note}\n\n{markdown(header, rows)}"


def draw(result: pd.DataFrame) -> Figure:
    figure, (axes,) = canvas(height=1.4 + 0.19 * len(result))
    axes.grid(visible=False)
    y = np.arange(len(result))
    left = np.zeros(len(result))
    for kind in KINDS:
        axes.barh(y, result[kind], left=left, color=COLOURS[kind], label=NAMES[kind], height=0.8)
        left += result[kind].to_numpy()
    axes.plot(result["estimates"], y, "|", color="black", markersize=9, markeredgewidth=2, label="share of expert estimates")
    axes.set_yticks(y, result["cause"].str.replace("_", " "), fontsize=8)
    axes.set_ylim(len(result) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("Share of the squared swings of the posterior")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
