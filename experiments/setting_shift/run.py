"""How far posteriors depend on the setting: cases of every setting, scored in every setting.

    python experiments/setting_shift/run.py

Settings differ in the prevalence of causes and risk factors, in what is reported, and in whether causes come in forms.
Written are results.csv, figure.png and, below the line "results" of README.md, the tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import ddx

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import Cases, canvas, markdown, options, publish, run  # noqa: E402


def main() -> int:
    parser = options(__doc__, HERE, 2000)
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb)
    result = measure(model, arguments.cases, arguments.seed)
    what = f"{arguments.cases} simulated cases a setting"
    publish(HERE, arguments, model, what, result, tables(result), draw(result), ALT)


def measure(model: ddx.Model, n: int, seed: int) -> pd.DataFrame:
    """A row per setting of the cases and setting of the scores; changes are against the setting that they come from."""
    models = [model.in_setting(setting) for setting in model.knowledge.settings]
    rows = []
    for source in models:
        cases = Cases.drawn(source, n, seed)
        scores = [cases.scored(target.network) for target in models]
        own = scores[models.index(source)]
        rows += [
            {"cases_of": source.setting, "scored_in": m.setting, **s.row(own)} for m, s in zip(models, scores, strict=True)
        ]
    return pd.DataFrame(rows)


def tables(result: pd.DataFrame) -> str:
    shown = {
        "Top 1": lambda r: f"{r.top_1:.3f}" + _change(r, r.top_1_change, r.top_1_change_error),
        "Log score, nats a case": lambda r: f"{r.log_score:.3f}" + _change(r, r.log_score_change, r.log_score_change_error),
        "Share of cases with the same leading cause": lambda r: f"{r.same_leader:.3f}",
    }
    settings = list(result["scored_in"].unique())
    parts = ["In brackets the change against the setting that the cases come from, with its standard error over the cases."]
    for title, cell in shown.items():
        rows = [
            (f"{source} ({own['items'].iloc[0] / own['cases'].iloc[0]:.2f})", *(cell(r) for r in own.itertuples(index=False)))
            for source, own in result.groupby("cases_of", sort=False)
        ]
        parts.append(f"{title}:\n\n{markdown(('cases of (true causes a case)', *(f'scored in {s}' for s in settings)), rows)}")
    return "\n\n".join(parts)


def _change(row: Any, change: float, error: float) -> str:
    return "" if row.cases_of == row.scored_in else f" ({change:+.3f} ± {error:.3f})"


ALT = "Heat maps: top 1 and log score lost, cases of every setting scored in every setting"


def draw(result: pd.DataFrame) -> Figure:
    figure, axes = canvas(2, height=4.2)
    settings = list(result["scored_in"].unique())
    names = [s.replace("_", "\n") for s in settings]
    panels = (("top_1", "Top 1", "{:.2f}", "YlGn"), ("log_score_change", "Log score lost, nats a case", "{:.2f}", "OrRd"))
    for one, (measure_, title, form, colours) in zip(axes, panels, strict=True):
        values = result[measure_].to_numpy().reshape(len(settings), -1)
        one.grid(visible=False)
        one.spines[:].set_visible(False)
        one.imshow(values, cmap=colours, vmin=min(0.0, values.min()), vmax=1.25 * values.max())
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                colour = "white" if colours == "OrRd" and value > 0.85 * values.max() else "black"
                one.text(j, i, form.format(value), ha="center", va="center", fontsize=11 if i == j else 10, color=colour)
        one.set_xticks(range(len(settings)), names, fontsize=7)
        one.set_yticks(range(len(settings)), names, fontsize=8)
        one.tick_params(length=0)
        one.set(xlabel="scored in", ylabel="cases of")
        one.set_title(title, loc="left", fontsize=11)
    return figure


if __name__ == "__main__":
    sys.exit(main())
