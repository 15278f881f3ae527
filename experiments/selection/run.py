"""What it costs that patients of a setting are taken for people at large, although a complaint has brought them.

    python experiments/selection/run.py                       # textbook patients
    python experiments/selection/run.py --cases CASES.csv     # and published cases (with a column final_diagnosis)

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
from scipy.special import logit

import ddx
from ddx.inference.network import Floats
from ddx.network import Evidence, LayeredNetwork, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import GREY, OURS, Cases, Scores, canvas, groups_of_cases, markdown, options_of_cases, publish, run  # noqa: E402

SETTINGS = ("balanced", "primary_care", "emergency", "neurology_clinic")
# Findings that bring a patient: weakness, numbness or tremor of a limb, whatever implies them, and their sides.
COMPLAINTS = (
    *("arm_weakness", "leg_weakness", "proximal_weakness", "distal_weakness", "generalized_weakness", "fatigable_weakness"),
    *("hand_clumsiness", "sensory_disturbance", "tremor_unspecified", "tremulousness", "limb_shaking"),
)
SIDES = ("weakness_side", "weakness_severity", "sensory_side")
STEPS, CLOSE = 100, 1e-9
ALT = "Log score of textbook patients and published cases in four settings, as shipped and among people with a complaint"


def main() -> int:
    return run(options_of_cases(__doc__, HERE), work)


def work(arguments: argparse.Namespace) -> None:
    models = [ddx.load("limb", setting) for setting in SETTINGS]
    groups = groups_of_cases(arguments)
    rows = []
    for model in models:
        wide, chance = widened(model.network, COMPLAINTS, SIDES)
        for kind, frame in groups.items():
            cases = Cases.of(model, frame)
            shipped = model.network.posterior(cases.evidence).marginal
            chosen = among(wide, cases.evidence, COMPLAINTS, SIDES)
            rows += [
                row(kind, model.setting, name, chance, marginal, cases.truth)
                for name, marginal in (("as shipped", shipped), ("among those with a complaint", chosen))
            ]
    result = pd.DataFrame(rows)
    publish(HERE, arguments, models[0], "", result, table(result), draw(result), ALT)


def silent(network: LayeredNetwork, evidence: Evidence, complaints: tuple[str, ...], sides: tuple[str, ...]) -> Evidence:
    """The same cases (N) without any complaint; what one of them states of complaints, and of what implies one, is left out."""
    place = {f: i for i, f in enumerate(network.findings)}
    roots = [place[f] for f in complaints]
    special = set(roots)
    while more := {s for s, g in network.implications.tolist() if g in special} - special:
        special |= more
    columns = np.union1d(evidence.columns, roots).astype(np.intp)
    finding = np.full((len(evidence), len(columns)), np.nan)
    finding[:, np.searchsorted(columns, evidence.columns)] = evidence.finding
    finding[:, np.isin(columns, list(special))] = np.nan
    finding[:, np.isin(columns, roots)] = 0.0
    level = dict(evidence.level)
    for graded in sides:
        level[graded] = np.tile(np.eye(1, 1 + len(network.graded[graded])), (len(evidence), 1))
    return replace(evidence, columns=columns, finding=finding, level=level)


def has_complaint(
    network: LayeredNetwork, evidence: Evidence, complaints: tuple[str, ...], sides: tuple[str, ...]
) -> np.ndarray:
    """Cases (N,) of which a complaint, or what implies one, is stated as present."""
    without = silent(network, evidence, complaints, sides)
    kept = np.searchsorted(without.columns, evidence.columns)
    said = (evidence.finding == 1.0) & (without.finding[:, kept] != 1.0)
    of_sides = [evidence.level[graded][:, 0] == 0.0 for graded in sides if graded in evidence.level]
    return np.asarray(said.any(axis=1) | np.any([np.zeros(len(evidence), dtype=bool), *of_sides], axis=0))


def among(network: LayeredNetwork, evidence: Evidence, complaints: tuple[str, ...], sides: tuple[str, ...]) -> Floats:
    """P(cause | evidence, a complaint) (N, K): what is left of P(cause, evidence) without the part that has no complaint.

    Where one is stated to be present, the evidence itself says it.
    """
    found = network.posterior(evidence)
    marginal = found.marginal.copy()
    rows = np.flatnonzero(~has_complaint(network, evidence, complaints, sides))
    if len(rows):
        without = network.posterior(silent(network, select(evidence, rows), complaints, sides))
        share = np.exp(without.log_evidence - found.log_evidence[rows])[:, None]
        marginal[rows] = (marginal[rows] - share * without.marginal) / (1.0 - share)
    return marginal


def widened(network: LayeredNetwork, complaints: tuple[str, ...], sides: tuple[str, ...]) -> tuple[LayeredNetwork, float]:
    """The network of all people, of whom those with a complaint have the priors of ``network``; and P(complaint) among all.

    One number is added to the log odds of each cause, the same for every age, sex and risk factor.
    """
    nobody = Evidence(
        columns=np.empty(0, dtype=np.intp),
        finding=np.empty((1, 0)),
        level={},
        context=np.full((1, len(network.risk_factors)), np.nan),
        age=np.full(1, -1),
        sex=np.full(1, -1),
    )
    wanted = network.posterior(nobody).marginal[0]
    wide, shift = network, np.zeros(len(wanted))
    for _ in range(STEPS):
        reached = among(wide, nobody, complaints, sides)[0]
        if np.abs(reached / wanted - 1.0).max() < CLOSE:
            break
        shift = shift + logit(wanted) - logit(reached)
        wide = replace(network, log_odds=network.log_odds + shift)
    return wide, 1.0 - float(np.exp(wide.posterior(silent(wide, nobody, complaints, sides)).log_evidence[0]))


def row(kind: str, setting: str, network: str, chance: float, marginal: Floats, truth: np.ndarray) -> dict[str, object]:
    ranks = Scores(marginal, np.zeros(len(truth), dtype=bool), truth).ranks()
    causes = float(marginal.sum(axis=1).mean())
    return {"cases": kind, "setting": setting, "network": network, "complaint": chance, **ranks, "causes": causes}


def table(result: pd.DataFrame) -> str:
    header = ("cases", "setting", "network", "true causes", "top 1", "top 3", "top 5", "log score", "causes a case")
    lines = [
        (
            *(r.cases, r.setting, r.network, str(r.items), f"{r.top_1:.3f}", f"{r.top_3:.3f}", f"{r.top_5:.3f}"),
            *(f"{r.log_score:.3f}", f"{r.causes:.2f}"),
        )
        for r in result.itertuples(index=False)
    ]
    chances = result.drop_duplicates("setting")
    people = ", ".join(f"{r.complaint:.2f} ({r.setting})" for r in chances.itertuples(index=False))
    note = f"P(complaint) among all people of the network: {people}. *Causes a case*: the sum of the posteriors, mean."
    return f"{note}\n\n{markdown(header, lines)}"


def draw(result: pd.DataFrame) -> Figure:
    kinds = list(dict.fromkeys(result["cases"]))
    figure, axes = canvas(len(kinds))
    at = np.arange(len(SETTINGS))
    for axis, kind in zip(axes, kinds, strict=True):
        for i, (name, colour) in enumerate((("as shipped", GREY), ("among those with a complaint", OURS))):
            own = result[(result["cases"] == kind) & (result["network"] == name)].set_index("setting")
            axis.bar(at + 0.4 * i, own.loc[list(SETTINGS), "log_score"], 0.38, color=colour, label=name)
        axis.set_xticks(at + 0.2, [s.replace("_", "\n") for s in SETTINGS])
        axis.set_title(f"{kind}: log score, nats a case", loc="left", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
