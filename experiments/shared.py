"""What the experiments share: the options, the measures of a network on cases, and the files written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.cases import CaseError, encode, interpret
from ddx.errors import nearest
from ddx.inference.network import Floats
from ddx.network import Evidence, LayeredNetwork, build_networks
from ddx.validation import measures, simulate
from ddx.validation.simulation import TRUTH
from ddx.validation.truth import true_causes
from ddx.values import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARK = "<!-- results -->"
TEXTBOOK = Path(__file__).parent / "textbook_cases" / "cases.csv"
# A zero that turns out wrong would cost infinitely many nats; one of this size costs 28.
SMALLEST = 1e-12
# Below the one a cause counts as ruled out, above the other as held certain.
RULED_OUT, CERTAIN = 1e-6, 0.999
# Networks that are built at a time.
NETWORKS = 50
OURS, OTHER, THIRD, GREY = "#0b6e4f", "#c1432e", "#c98a1b", "#8a8a8a"


def options(description: str | None, folder: Path, cases: int, each: str = "a setting") -> argparse.ArgumentParser:
    """The options that every one of them has; ``each``: what has that many cases."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", default="limb", help="shipped knowledge base, or the folder of one")
    parser.add_argument("--cases", type=int, default=cases, help=f"simulated cases {each}; default: {cases}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=folder, help="folder of what is written; default: that of this file")
    return parser


def options_of_cases(description: str | None, folder: Path) -> argparse.ArgumentParser:
    """The options of those that ask textbook patients, and published cases where they are given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="CSV file of published cases")
    parser.add_argument("--cause", action="append", help="only the textbook patients of this cause; repeat for more")
    parser.add_argument("--out", type=Path, default=folder, help="folder of what is written; default: that of this file")
    return parser


def groups_of_cases(arguments: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Textbook patients, of the causes that were asked for, and published cases."""
    textbook = pd.read_csv(TEXTBOOK, dtype=str, keep_default_na=False)
    for cause in arguments.cause or ():
        if cause not in set(textbook[TRUTH]):
            raise ddx.UsageError(f"--cause: no patients of {cause!r}{nearest(cause, sorted(set(textbook[TRUTH])))}")
    groups = {"textbook": textbook[textbook[TRUTH].isin(arguments.cause or textbook[TRUTH])]}
    if arguments.cases:
        groups["published"] = pd.read_csv(arguments.cases, dtype=str, keep_default_na=False)
    return groups


def independent(model: ddx.Model) -> ddx.Model:
    """The same knowledge base and setting with independent causes: the setting does not say how many a patient has."""
    return ddx.Model(replace(model.knowledge, causes_per_patient=MappingProxyType({})), model.setting)


@dataclass(frozen=True, eq=False)
class Cases:
    """N cases as evidence, with their true causes (N, K)."""

    evidence: Evidence
    truth: np.ndarray

    @classmethod
    def drawn(cls, model: ddx.Model, n: int, seed: int) -> Cases:
        """Cases of a model with 20 % of the findings and all risk factors observed."""
        return cls.of(model, simulate(model, n, seed))

    @classmethod
    def of(cls, model: ddx.Model, frame: pd.DataFrame) -> Cases:
        """Cases of a frame with a column final_diagnosis; raises CaseError with every cell that cannot be read."""
        columns = interpret([str(c) for c in frame.columns], model.knowledge)
        encoded = encode(model.knowledge, columns, [frame[c].tolist() for c in frame], list(range(len(frame))))
        truth, unknown = true_causes(frame[TRUTH].tolist(), model.network.causes)
        if encoded.rejects or unknown:
            raise CaseError([*encoded.rejects, *unknown])
        return cls(encoded.evidence, truth)

    def scored(self, network: LayeredNetwork) -> Scores:
        """These cases under a network of the same causes and findings."""
        marginal = network.posterior(self.evidence).marginal
        # The engine has no posterior for what it holds impossible; here every cause of such a case has posterior 0.
        return Scores(np.nan_to_num(marginal, nan=0.0), np.isnan(marginal).any(axis=1), self.truth)

    def under(self, model: ddx.Model, values: Values) -> Floats:
        """Posteriors (S, N, K) under S sets of parameter values."""
        found = np.empty((len(values), len(self.evidence), len(model.network.causes)))
        for block in np.array_split(np.arange(len(values)), -(-len(values) // NETWORKS)):
            part = Values(model.knowledge, values.table[block])
            for s, network in zip(block.tolist(), build_networks(model.knowledge, model.setting, part), strict=True):
                found[s] = network.posterior(self.evidence).marginal
        return found


@dataclass(frozen=True, eq=False)
class Scores:
    """Posteriors of N cases (N, K) beside the truth (N, K); ``impossible`` (N,) have posterior 0 everywhere."""

    posterior: Floats
    impossible: np.ndarray
    truth: np.ndarray

    @cached_property
    def log_scores(self) -> Floats:
        """Of every case (N,), in nats, with posteriors kept ``SMALLEST`` away from 0 and 1."""
        bounded = np.clip(self.posterior, SMALLEST, 1.0 - SMALLEST)
        return np.asarray(measures.log_scores(bounded, self.truth).sum(axis=1))

    @property
    def leader(self) -> np.ndarray:
        """Index of the leading cause of every case (N,)."""
        return self.posterior.argmax(axis=1)

    def hits(self, k: int) -> Floats:
        """How many true causes of every case (N,) have rank k or better."""
        return np.asarray((self.truth & (measures.rank_of_truth(self.posterior, self.truth) <= k)).sum(axis=1), dtype=float)

    def ranks(self) -> dict[str, float]:
        """Number of true causes, shares of them among the first one, three and five, and the mean log score."""
        items = int(self.truth.sum())
        hits = {f"top_{k}": self.hits(k).sum() / items for k in (1, 3, 5)}
        return {"items": items, **hits, "log_score": float(self.log_scores.mean())}

    def row(self, reference: Scores) -> dict[str, float]:
        """The measures of a table row; changes against the reference are of the same cases, with standard errors."""
        items = self.truth.sum(axis=1)
        n, total = len(items), int(items.sum())
        worse = self.log_scores - reference.log_scores
        better = self.hits(1) - reference.hits(1)
        change = better.sum() / total
        return {
            "cases": n,
            "items": total,
            "top_1": self.hits(1).sum() / total,
            "top_3": self.hits(3).sum() / total,
            "top_1_change": change,
            "top_1_change_error": float(np.sqrt(((better - change * items) ** 2).sum()) / total),
            "log_score": float(self.log_scores.mean()),
            "log_score_change": float(worse.mean()),
            "log_score_change_error": float(worse.std(ddof=1) / np.sqrt(n)),
            "same_leader": float((~self.impossible & (self.leader == reference.leader)).mean()),
            "ruled_out": float((self.truth & (self.posterior < RULED_OUT)).any(axis=1).mean()),
            "false_certain": float((~self.truth & (self.posterior > CERTAIN)).any(axis=1).mean()),
            "impossible": float(self.impossible.mean()),
        }


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def canvas(columns: int = 1, width: float = 8.0, height: float = 4.2) -> tuple[Figure, np.ndarray]:
    """A figure 800 pixels wide, and its axes from left to right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        one.set_axisbelow(True)
    return figure, axes


def on_log_scale(axis: Axes) -> None:
    """What was drawn on an axis of log scores, a logarithmic one now, with ticks where it lies."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    ticks = [t for t in (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> int:
    """An experiment from its options to its exit code."""
    try:
        work(parser.parse_args())
    except (ddx.DdxError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    return 0


def publish(
    folder: Path,
    arguments: argparse.Namespace,
    model: ddx.Model,
    what: str,
    result: pd.DataFrame,
    body: str,
    figure: Figure,
    alt: str,
) -> None:
    """results.csv, figure.png, and what is below the line in README.md: where it comes from, ``body``, the figure.

    ``what`` : was drawn at random; empty where nothing was.
    """
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    result.to_csv(out / "results.csv", index=False, float_format="%.6g", lineterminator="\n")
    # No date and no version in the file: equal numbers give equal files.
    figure.savefig(out / "figure.png", metadata={"Software": None})
    head = (folder / "README.md").read_text(encoding="utf-8").split(MARK)[0]
    kb = model.knowledge
    drawn = f"; {what}, seed {arguments.seed}" if what else ""
    source = f"Knowledge base {kb.name} {kb.version}, digest {kb.digest[:12]}{drawn}."
    text = f"{source}\n\n{body}\n\n![{alt}](figure.png)"
    (out / "README.md").write_text(f"{head}{MARK}\n\n{text}\n", encoding="utf-8")
    print(text)
