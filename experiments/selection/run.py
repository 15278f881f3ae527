"""What it is worth that patients have as many causes as were counted, beside causes that are independent.

    python experiments/selection/run.py                       # textbook patients, and patients drawn from the readers' forms
    python experiments/selection/run.py --cases CASES.csv     # and published cases (with a column final_diagnosis)

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
from scipy.special import logit

import ddx
from ddx.inference.network import Floats
from ddx.network import Evidence, LayeredNetwork, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from patients import People, draw  # noqa: E402
from shared import (  # noqa: E402
    GREY,
    OTHER,
    OURS,
    Cases,
    Scores,
    canvas,
    groups_of_cases,
    independent,
    markdown,
    options_of_cases,
    publish,
    run,
)

BALANCED = "balanced"
SETTINGS = (BALANCED, "primary_care", "emergency", "neurology_clinic")
SIMULATED = "simulated"
INDEPENDENT, CHOSEN, SHIPPED = NETWORKS = ("independent", "among those with a complaint", "as shipped")
COLOURS = dict(zip(NETWORKS, (GREY, OTHER, OURS), strict=True))
# Visits for weakness of a limb, numbness or tremor, by how many modelled causes are among their diagnoses, in the files of the
# national surveys that priors/limb/README.md describes ("Shares of settings"): how many visits; shares without any, with one,
# with two or more; causes of those with any.
COUNTED = {
    "primary_care": ("364 visits to offices", (0.448, 0.462, 0.091), 237 / 201),
    "emergency": ("2,646 visits to emergency departments", (0.565, 0.353, 0.082), 1395 / 1150),
    "neurology_clinic": ("94 visits to neurologists", (0.287, 0.585, 0.128), 81 / 67),
}
# People whose number of causes is averaged.
PEOPLE = 200_000
# Findings that bring a patient: weakness, numbness or tremor of a limb, whatever implies them, and their sides.
COMPLAINTS = (
    *("arm_weakness", "leg_weakness", "proximal_weakness", "distal_weakness", "generalized_weakness", "fatigable_weakness"),
    *("hand_clumsiness", "sensory_disturbance", "tremor_unspecified", "tremulousness", "limb_shaking"),
)
SIDES = ("weakness_side", "weakness_severity", "sensory_side")
STEPS, CLOSE = 100, 1e-9
ALT = "Log score in four settings with independent causes, among people with a complaint, and as shipped"


def main() -> int:
    parser = options_of_cases(__doc__, HERE)
    parser.add_argument("--patients", type=int, default=2000, help="drawn from the readers' forms; default: 2000")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"whose causes are counted; default: {PEOPLE}")
    parser.add_argument("--seed", type=int, default=0)
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    groups = groups_of_cases(arguments)
    rows, causes = [], []
    for setting in SETTINGS:
        shipped = ddx.load("limb", setting)
        alone = independent(shipped)
        own = dict(groups)
        if setting == BALANCED:
            own[SIMULATED] = draw(alone, arguments.patients, arguments.seed)
        wide, chance = widened(alone.network, COMPLAINTS, SIDES)
        for kind, frame in own.items():
            cases = Cases.of(shipped, frame)
            found = (
                alone.network.posterior(cases.evidence).marginal,
                among(wide, cases.evidence, COMPLAINTS, SIDES),
                shipped.network.posterior(cases.evidence).marginal,
            )
            rows += [row(kind, setting, n, chance, p, cases.truth) for n, p in zip(NETWORKS, found, strict=True)]
        if setting in COUNTED:
            networks = {INDEPENDENT: alone.network, SHIPPED: shipped.network}
            causes.append((setting, *COUNTED[setting]))
            causes += [(setting, n, *number_of_causes(net, arguments.people, arguments.seed)) for n, net in networks.items()]
    result = pd.DataFrame(rows)
    what = f"{arguments.patients} patients drawn from the readers' forms"
    publish(HERE, arguments, shipped, what, result, f"{table(result)}\n\n{table_of_causes(causes)}", draw_figure(result), ALT)


def number_of_causes(network: LayeredNetwork, people: int, seed: int) -> tuple[tuple[float, float, float], float]:
    """Shares of patients without any cause, with one, with more; and the causes of those with any.

    Exact for each of so many people at large, drawn by age, sex and risk factors.
    """
    chance = People.drawn(network, people, np.random.default_rng(seed)).chance
    none = np.exp(np.log1p(-chance).sum(axis=1))
    nobody, one = float(none.mean()), float((none * (chance / (1.0 - chance)).sum(axis=1)).mean())
    more = 1.0 - nobody - one
    come = one + more + network.none_weight * nobody
    return (network.none_weight * nobody / come, one / come, more / come), float(chance.sum(axis=1).mean()) / (one + more)


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
    note = (
        "*Independent*: causes given age, sex and risk factors. *Among those with a complaint*: these causes among people of "
        f"whom those with a complaint have the priors of the setting; P(complaint) among all of them: {people}. *As shipped*: "
        "patients have as many causes as were counted. *Causes a case*: the sum of the posteriors, mean."
    )
    return f"{note}\n\n{markdown(header, lines)}"


def table_of_causes(causes: list[tuple[str, str, tuple[float, ...], float]]) -> str:
    header = ("setting", "", "no cause", "one", "two or more", "causes of a patient with any")
    lines = [(setting, name, *(f"{p:.3f}" for p in shares), f"{mean:.2f}") for setting, name, shares, mean in causes]
    return f"How many causes a patient has:\n\n{markdown(header, lines)}"


def draw_figure(result: pd.DataFrame) -> Figure:
    kinds = list(dict.fromkeys(result["cases"]))
    settings = {kind: list(dict.fromkeys(result.loc[result["cases"] == kind, "setting"])) for kind in kinds}
    kinds.sort(key=lambda kind: -len(settings[kind]))
    figure, axes = canvas(len(kinds))
    axes[0].get_subplotspec().get_gridspec().set_width_ratios([len(settings[kind]) for kind in kinds])
    for axis, kind in zip(axes, kinds, strict=True):
        at = np.arange(len(settings[kind]))
        for i, (name, colour) in enumerate(COLOURS.items()):
            own = result[(result["cases"] == kind) & (result["network"] == name)].set_index("setting")
            axis.bar(at + 0.27 * i, own.loc[settings[kind], "log_score"], 0.25, color=colour, label=name)
        axis.set_xticks(at + 0.27, [s.replace("_", "\n") for s in settings[kind]], fontsize=8)
        axis.set(ylim=(0.0, 1.05 * result["log_score"].max()))
        axis.set_title(kind, loc="left", fontsize=11)
    axes[0].set_ylabel("log score, nats a case")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
