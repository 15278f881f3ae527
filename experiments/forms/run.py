"""What it is worth that causes come in forms, beside findings that are independent given the cause (or tied by syndromes).

    python experiments/forms/run.py                       # textbook patients
    python experiments/forms/run.py --cases CASES.csv     # and published cases (with a column final_diagnosis)

Written are results.csv, figure.png and, below the line "results" of README.md, the table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.forms import has_forms
from ddx.knowledge import BALANCED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from readers import READERS, agreement, of_readers  # noqa: E402
from shared import (  # noqa: E402
    GREY,
    OURS,
    Cases,
    Scores,
    canvas,
    groups_of_cases,
    markdown,
    options_of_cases,
    publish,
    run,
)

SETTINGS = (BALANCED, "primary_care", "emergency", "neurology_clinic")
WITHOUT, FORMS = "without forms", "forms"
SHIPPED = ", as shipped"
ALT = "Share of true causes among the first one, three and five under balanced, with forms and without"


def main() -> int:
    return run(options_of_cases(__doc__, HERE), work)


def work(arguments: argparse.Namespace) -> None:
    rows, groups = [], groups_of_cases(arguments)
    for setting in SETTINGS:
        shipped = ddx.load("limb", setting)
        models = with_and_without(shipped)
        if setting == BALANCED:
            models |= {f"{FORMS} of {r.replace('_', ' ')}": alone(shipped, i) for i, r in enumerate(READERS)}
        for name, model in models.items():
            own = name == (FORMS if has_forms(shipped.knowledge, setting) else WITHOUT)
            for kind, frame in groups.items():
                cases = Cases.of(model, frame)
                rows.append(row(kind, setting, name + (SHIPPED if own else ""), cases.scored(model.network)))
    result = pd.DataFrame(rows)
    kb = shipped.knowledge
    counts = f"{len(kb.forms)} forms of {len({form.cause for form in kb.forms.values()})} causes"
    readers = "Correlation between readers: frequencies over the forms of a cause {:.2f}, shares {:.2f}".format(*agreement())
    publish(HERE, arguments, shipped, "", result, f"{counts}. {readers}.\n\n{table(result)}", draw(result), ALT)


def with_and_without(model: ddx.Model) -> dict[str, ddx.Model]:
    """The setting of a model with the forms of its knowledge base, whether it is shipped with them or not, and without."""
    settings = {WITHOUT: (), FORMS: (model.setting,)}
    return {name: ddx.Model(replace(model.knowledge, settings_with_forms=own), model.setting) for name, own in settings.items()}


def alone(model: ddx.Model, reader: int) -> ddx.Model:
    """The setting with the forms of one reader."""
    return ddx.Model(of_readers(model.knowledge, [reader]), model.setting)


def row(kind: str, setting: str, network: str, scores: Scores) -> dict[str, object]:
    causes = float(scores.posterior.sum(axis=1).mean())
    return {"cases": kind, "setting": setting, "network": network, **scores.ranks(), "causes": causes}


def table(result: pd.DataFrame) -> str:
    header = ("cases", "setting", "network", "true causes", "top 1", "top 3", "top 5", "log score", "causes a case")
    lines = [
        (
            *(r.cases, r.setting, r.network, str(r.items), f"{r.top_1:.3f}", f"{r.top_3:.3f}", f"{r.top_5:.3f}"),
            *(f"{r.log_score:.3f}", f"{r.causes:.2f}"),
        )
        for r in result.sort_values(["cases", "setting"], kind="stable").itertuples(index=False)
    ]
    note = "*Without forms*: syndromes tie findings together. *Causes a case*: the sum of the posteriors, mean."
    return f"{note}\n\n{markdown(header, lines)}"


def draw(result: pd.DataFrame) -> Figure:
    own = result[result["setting"] == SETTINGS[0]]
    kinds = list(dict.fromkeys(own["cases"]))
    figure, axes = canvas(len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        for name, colour in ((WITHOUT, GREY), (FORMS, OURS)):
            hits = own[(own["cases"] == kind) & own["network"].str.removesuffix(SHIPPED).eq(name)]
            axis.plot(np.arange(3), hits[["top_1", "top_3", "top_5"]].iloc[0], "o-", color=colour, label=name, lw=1.2)
        axis.set(xticks=np.arange(3), xticklabels=["top 1", "top 3", "top 5"], ylim=(0.6, 1.0), xlim=(-0.3, 2.3))
        axis.set_title(f"{kind} cases", loc="left", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
