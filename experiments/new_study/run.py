"""Which single new study would narrow the posteriors of simulated cases most, and how far many of them would.

    python experiments/new_study/run.py

Written are results.csv, figure.png and, below the line "results" of README.md, the tables.
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
from ddx.cases import select
from ddx.diagnosis import Diagnosis
from ddx.draws import draw_parameters
from ddx.knowledge import Parameter
from ddx.sensitivity.case import sources_of
from ddx.values import Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import GREY, OURS, Cases, canvas, markdown, options, publish, run  # noqa: E402

# What a study brings: persons counted, or the standard error of a logarithm that so many give.
PERSONS, EPISODES, RATIO_ERROR = 200, 50, 0.3
# How many of the best studies are done together; and one study that counts every cause among the patients of the setting.
STEPS = (0, 1, 3, 10, 30)
CASE_MIX = "case mix"
SHOWN = 15
LABEL = {CASE_MIX: f"one study of the case mix of the setting ({PERSONS} patients)"}
ALT = (
    "Bars: share of the variance of the leading causes' posteriors that each study would remove; line: mean width of their "
    "90 % intervals when more and more of the studies are done"
)


def main() -> int:
    parser = options(__doc__, HERE, 120)
    parser.add_argument("--draws", type=int, default=200, help="parameter draws an outcome; default: 200")
    parser.add_argument("--outcomes", type=int, default=8, help="outcomes of the studies that are averaged; default: 8")
    parser.add_argument("--setting", default="primary_care")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb, arguments.setting)
    cases = Cases.drawn(model, arguments.cases, arguments.seed)
    values = values_of_studies(model, cases)
    widths = narrowed(model, cases, list(values.index), arguments.draws, arguments.outcomes, arguments.seed)
    what = (
        f"{arguments.cases} simulated cases, setting {model.setting}, {arguments.draws} draws for each of {arguments.outcomes} "
        "outcomes"
    )
    result = values.reset_index()
    publish(HERE, arguments, model, what, result, tables(values, widths), draw(values, widths), ALT)


def removed(parameter: Parameter) -> float:
    """Share of a parameter's variance that a study in the reader's own population removes on average.

    Beta(a, b) and n persons: n / (a + b + n), exact for the variance of the probability. Logarithms: V / (V + error**2).
    """
    if parameter.distribution == "beta":
        return PERSONS / (parameter.first + parameter.second + PERSONS)
    error = EPISODES**-0.5 if parameter.id.startswith("prior:") else RATIO_ERROR
    return parameter.second**2 / (parameter.second**2 + error**2)


def values_of_studies(model: ddx.Model, cases: Cases) -> pd.DataFrame:
    """A row per parameter, the most valuable study first.

    To first order the variance of a posterior is the sum of (derivative x standard deviation)**2 over the parameters, and a
    study removes its share of one of the terms (Oakley 2009, Decision-theoretic sensitivity analysis for complex computer
    models, has the exact theory).
    """
    kb, n = model.knowledge, len(cases.evidence)
    leader = model.network.posterior(cases.evidence).marginal.argmax(axis=1)
    variance: dict[str, np.ndarray] = {}
    for i in range(n):
        evidence = select(cases.evidence, np.array([i]))
        case = Diagnosis(model, evidence, model.network.posterior(evidence))
        table = ddx.sensitivity.one_way(model, case, model.network.causes[leader[i]])
        for name, derivative in table["derivative"].items():
            own = kb.parameters[str(name)]
            if own.distribution == "beta":
                deviation = (own.value * (1.0 - own.value) / (own.first + own.second + 1.0)) ** 0.5
            else:
                deviation = own.value * own.second
            variance.setdefault(str(name), np.zeros(n))[i] = (derivative * deviation) ** 2
    # The population's shares are a convention; nobody studies them.
    names = [name for name in variance if not name.startswith("population:")]
    terms = np.array([variance[name] for name in names])
    share = terms / np.maximum(sum(variance.values()), 1e-300)
    gain = np.array([removed(kb.parameters[name]) for name in names])
    table = pd.DataFrame(
        {
            "value": share.mean(axis=1) * gain,
            "share_of_variance": share.mean(axis=1),
            "removed": gain,
            "cases_that_gain": (share * gain[:, None] > 0.05).sum(axis=1),
            "mean": [kb.parameters[name].value for name in names],
            "cited": [kb.parameters[name].cited for name in names],
            "sources": [sources_of(kb, kb.parameters[name]) for name in names],
        },
        index=pd.Index(names, name="parameter"),
    )
    return table.sort_values("value", ascending=False, kind="stable")


def narrowed(model: ddx.Model, cases: Cases, best: list[str], draws: int, outcomes: int, seed: int) -> pd.DataFrame:
    """Mean width of the 90 % interval of the leading cause when the first so many of the studies are done.

    An outcome: the truth from today's distributions, the studies from the truth, the distributions updated by what they found.
    """
    kb, row = model.knowledge, np.arange(len(cases.evidence))
    leader = model.network.posterior(cases.evidence).marginal.argmax(axis=1)
    records = []
    sets = {str(count): best[:count] for count in STEPS}
    sets[CASE_MIX] = [p for p in kb.parameters if p.startswith("prior:") and p.endswith(f"@{model.setting}")]
    for label, studied in sets.items():
        widths, same = [], []
        for outcome in range(outcomes):
            rng = np.random.default_rng([seed, outcome])
            truth = dict(zip(kb.parameters, draw_parameters(kb.parameters.values(), 1, rng)[0].tolist(), strict=True))
            known = kb.parameters | {name: updated(kb.parameters[name], truth[name], rng) for name in studied}
            marginal = cases.under(model, Values(kb, draw_parameters(known.values(), draws, rng)))
            low, high = np.quantile(marginal[:, row, leader], [0.05, 0.95], axis=0)
            widths.append(high - low)
            same.append((marginal.argmax(axis=2) == leader).mean())
        width = np.array(widths)
        error = width.mean(axis=1).std(ddof=1) / np.sqrt(outcomes) if outcomes > 1 else float("nan")
        records.append({"studies": label, "width": width.mean(), "error": error, "same_leader": float(np.mean(same))})
    return pd.DataFrame(records)


def updated(parameter: Parameter, truth: float, rng: np.random.Generator) -> Parameter:
    """The parameter after a study in the population with this true value."""
    if parameter.distribution == "beta":
        x = int(rng.binomial(PERSONS, truth))
        return replace(parameter, first=parameter.first + x, second=parameter.second + PERSONS - x)
    error = EPISODES**-0.5 if parameter.id.startswith("prior:") else RATIO_ERROR
    seen = np.log(truth / parameter.scale) + rng.normal(0.0, error)
    weight = removed(parameter)
    mean = (1.0 - weight) * parameter.first + weight * seen
    return replace(parameter, first=float(mean), second=parameter.second * (1.0 - weight) ** 0.5)


def tables(values: pd.DataFrame, widths: pd.DataFrame) -> str:
    header = ("a new study of", "variance removed", "of this parameter", "cases that gain", "today")
    rows = [
        (
            f"`{name}`",
            f"{100 * row['value']:.1f} %",
            f"{100 * row['removed']:.0f} %",
            str(row["cases_that_gain"]),
            "studies" if row["cited"] else "estimate",
        )
        for name, row in values.head(SHOWN).iterrows()
    ]
    done = [
        (
            LABEL.get(row["studies"], str(row["studies"])),
            f"{row['width']:.3f} ± {row['error']:.3f}",
            f"{row['same_leader']:.3f}",
        )
        for row in widths.to_dict("records")
    ]
    note = (
        f"A study counts {PERSONS} persons of the reader's own population ({EPISODES} episodes for an incidence, a standard "
        f"error of {RATIO_ERROR} of a log odds ratio). *Variance removed*: of the posterior of the leading cause, mean over "
        "the cases, to first order; *of this parameter*: of its own variance. *Cases that gain*: more than 5 % of their "
        "variance."
    )
    second = markdown(("best studies done", "mean width of the 90 % interval", "same leading cause"), done)
    check = "By Monte Carlo, the best studies done together (± standard error over outcomes):"
    return f"{note}\n\n{markdown(header, rows)}\n\n{check}\n\n{second}"


def draw(values: pd.DataFrame, widths: pd.DataFrame) -> Figure:
    figure, (left, right) = canvas(2, height=4.4)
    shown = values.head(SHOWN)
    y = np.arange(len(shown))
    left.grid(visible=False)
    left.barh(y, 100 * shown["value"], color=[OURS if c else GREY for c in shown["cited"]], height=0.7)
    left.set_yticks(y, [str(name) for name in shown.index], fontsize=7)
    left.set_ylim(len(shown) - 0.5, -0.5)
    left.set_xlabel("Variance that one study removes, %\n(grey: an expert estimate today)", fontsize=8)
    steps, mix = widths[widths["studies"] != CASE_MIX], widths[widths["studies"] == CASE_MIX]
    right.errorbar(range(len(steps)), steps["width"], yerr=steps["error"], color=OURS, marker="o", capsize=3)
    right.axhline(float(mix["width"].iloc[0]), color=GREY, linestyle="--")
    right.text(0.0, 0.97 * float(mix["width"].iloc[0]), "one study of the case mix", color=GREY, fontsize=8, va="top")
    right.set_xticks(range(len(steps)), list(steps["studies"]))
    right.set_ylim(0.0, 1.15 * float(widths["width"].max()))
    right.set_xlabel("Best studies done", fontsize=8)
    right.set_ylabel("Mean width of the 90 % interval", fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main())
