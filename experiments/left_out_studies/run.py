"""Do the intervals of the parameters hold the next study? Every source is left out in turn and predicted from the others.

    python experiments/left_out_studies/run.py

With ``--before FOLDER``, an earlier state of the knowledge base, links that were words or guesses there are compared with what
has been counted since. ``blind.csv`` holds what four readers thought of the links of limb, blind. Written are results.csv,
figure.png and, below the line "results" of README.md, the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import expit, logit

import ddx
from ddx.knowledge import KnowledgeBase, Study, read_knowledge
from ddx.knowledge.pooling import SPREAD, Estimate, log_estimate, logit_estimate, pool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import GREY, OTHER, OURS, canvas, markdown, publish, run  # noqa: E402

# The quantities that make a kind of parameter.
QUANTITIES = {
    "link": ("sensitivity",),
    "leak": ("false_positive_rate", "population_frequency", "specificity"),
    "context": ("context_prevalence",),
    "prior": ("prevalence", "incidence", "share"),
    "or": ("odds_ratio", "relative_risk", "crude_ratio"),
}
LABEL = {
    "link": "finding in a cause (link)",
    "leak": "finding without the causes (leak)",
    "context": "frequency of a risk factor",
    "prior": "prevalence, incidence, share (prior)",
    "or": "odds ratio",
}
LOGARITHMS = ("incidence", *QUANTITIES["or"])
# Half widths of the normal law's central 50 % and 90 %, and half of the 95 % quantile of chi-square with one degree of freedom.
HALF, NINE_TENTHS, LIKELY = 0.6745, 1.645, 1.92
GRID = np.arange(0.01, 3.0, 0.01)
ALT = "Left: standardized errors of left-out studies beside the normal law; right: links as words say them beside counts"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kb", default="limb", help="shipped knowledge base, or the folder of one")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an earlier state of it, to see how good guesses were")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of what is written; default: that of this file")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb)
    groups = {kind: estimates_of(model.knowledge, quantities) for kind, quantities in QUANTITIES.items()}
    result = pd.concat([left_out(kind, found) for kind, found in groups.items()], ignore_index=True)
    words = words_and_counts(model.knowledge)
    losses = f"{loss_text(result)}\n\n{blind_text(model.knowledge, result)}"
    body = f"{spread_table(groups, result)}\n\n{losses}\n\n{words_table(words)}"
    if arguments.before:
        # What is checked today need not have been then.
        before, problems = read_knowledge(arguments.before)
        if before is None:
            raise ddx.KnowledgeError(str(arguments.before), problems)
        body += f"\n\n{before_table(guessed(before, model.knowledge))}"
    publish(HERE, arguments, model, "", result, body, draw(result, words), ALT)


def estimates_of(kb: KnowledgeBase, quantities: tuple[str, ...]) -> dict[tuple[str, ...], list[Estimate]]:
    """Estimates that count one thing, by what they count."""
    found: dict[tuple[str, ...], list[Estimate]] = defaultdict(list)
    for study in kb.studies.values():
        if study.quantity in quantities and counted(study):
            subject = (study.cause, study.finding, study.context, study.setting, *study.group)
            # Ratios of one thing are pooled whatever they are called; frequencies among different people are not.
            found[subject if study.quantity in QUANTITIES["or"] else (study.quantity, *subject)].append(estimate(study))
    return found


def counted(study: Study) -> bool:
    return study.cited and study.quality != "verbal"


def estimate(study: Study) -> Estimate:
    return (log_estimate if study.quantity in LOGARITHMS else logit_estimate)(study), study


def left_out(kind: str, groups: dict[tuple[str, ...], list[Estimate]]) -> pd.DataFrame:
    """A row per study that another source can predict: its estimate, what the others say, and the standardized error."""
    rows = []
    for estimates in groups.values():
        for (y, v), study in estimates:
            others = [e for e in estimates if e[1].source != study.source]
            if others:
                mean, error, tau2, _ = pool(others, SPREAD[kind])
                spread = error + tau2
                z = (y - mean) / np.sqrt(spread + v)
                rows.append((kind, study.id, len(others), y, mean, np.sqrt(error), np.sqrt(spread), z))
    columns = ["kind", "study", "others", "estimate", "predicted", "error", "spread", "standardized"]
    return pd.DataFrame(rows, columns=columns)


def likelihood(spread: float, groups: Iterable[list[Estimate]]) -> float:
    """Restricted log likelihood of one standard deviation between the studies of every group."""
    total = 0.0
    for estimates in groups:
        y, v = (np.array(part) for part in zip(*(e for e, _ in estimates), strict=True))
        w = 1.0 / (v + spread**2)
        mean = (w * y).sum() / w.sum()
        total += 0.5 * (np.log(w).sum() - np.log(w.sum()) - (w * (y - mean) ** 2).sum())
    return total


def likely_spread(groups: Iterable[list[Estimate]]) -> tuple[float, float, float]:
    """Restricted maximum likelihood, and the ends of its 95 % interval."""
    several = [e for e in groups if len({s.source for _, s in e}) > 1]
    values = np.array([likelihood(spread, several) for spread in GRID])
    inside = GRID[values >= values.max() - LIKELY]
    return float(GRID[values.argmax()]), float(inside[0]), float(inside[-1])


def calibration(predicted: np.ndarray, counted: np.ndarray) -> tuple[float, float]:
    """Slope of the log odds of what was counted on those predicted (Cox, Biometrika 1958), and its robust standard error.

    Below 1, predictions are too extreme.
    """
    x, b = np.column_stack([np.ones(len(predicted)), predicted]), np.array([0.0, 1.0])
    for _ in range(50):
        p = expit(x @ b)
        information = (x * (p * (1.0 - p))[:, None]).T @ x
        b = b + np.linalg.solve(information, x.T @ (counted - p))
    inverse = np.linalg.inv(information)
    score = x * (counted - p)[:, None]
    return float(b[1]), float(np.sqrt((inverse @ score.T @ score @ inverse)[1, 1]))


def drawn(found: pd.DataFrame) -> pd.Series:
    """Log odds of the mean frequency in a new population, with a uniform prior for the mean of all populations.

    The logit of a uniform number counts as normal with variance pi^2/3; the mean of a logit-normal variable by MacKay (Neural
    Computation 1992).
    """
    error, between = found["error"] ** 2, found["spread"] ** 2 - found["error"] ** 2
    kept = 1.0 / (1.0 + error / (np.pi**2 / 3.0))
    return kept * found["predicted"] / np.sqrt(1.0 + np.pi * (kept * error + between) / 8.0)


def log_loss(log_odds: pd.Series, counted: pd.Series) -> float:
    """Nats a person, mean over studies."""
    return float((counted * np.logaddexp(0.0, -log_odds) + (1.0 - counted) * np.logaddexp(0.0, log_odds)).mean())


def loss_text(result: pd.DataFrame) -> str:
    links = result[result["kind"] == "link"]
    counted = expit(links["estimate"])
    losses = [log_loss(log_odds, counted) for log_odds in (links["predicted"], drawn(links))]
    return (
        f"Log loss of a left-out sensitivity, nats a person: {losses[0]:.3f} as the others are pooled, {losses[1]:.3f} when "
        "their mean is drawn towards even odds as far as a uniform prior and the spread between populations draw it."
    )


def blind_estimates() -> dict[tuple[str, str], float]:
    """(cause, finding) -> mean log odds of the readers' estimates in blind.csv."""
    frame = pd.read_csv(HERE / "blind.csv", index_col=["cause", "finding"])
    return {(str(cause), str(finding)): float(mean) for (cause, finding), mean in logit(frame).mean(axis=1).items()}


def blind_text(kb: KnowledgeBase, result: pd.DataFrame) -> str:
    """How well readers foresee a left-out sensitivity, beside the other studies."""
    links, estimates = result[result["kind"] == "link"], blind_estimates()
    subjects = [(kb.studies[s].cause, kb.studies[s].finding) for s in links["study"]]
    blind = pd.Series([estimates.get(subject, np.nan) for subject in subjects], index=links.index).dropna()
    if blind.empty:
        return "Nobody wrote down estimates of these links."
    others, counted = links.loc[blind.index, "predicted"], expit(links.loc[blind.index, "estimate"])
    losses = [f"{log_loss(log_odds, counted):.3f}" for log_odds in (others, blind, (others + blind) / 2.0)]
    slope, error = calibration(blind.to_numpy(), counted.to_numpy())
    return (
        f"Of {len(blind)} of them four readers had written down estimates, blind: {losses[0]} from the other studies, "
        f"{losses[1]} from the readers, {losses[2]} from the middle of both; slope of the readers {slope:.2f} ± {error:.2f}."
    )


def spread_table(groups: dict[str, dict[tuple[str, ...], list[Estimate]]], result: pd.DataFrame) -> str:
    header = ("parameter", "two sources", "studies", "spread: most likely", "95 %", "in use", "in 50 %", "in 90 %", "slope")
    rows = []
    for kind, found in groups.items():
        own = result[result["kind"] == kind]
        z = own["standardized"].abs()
        if len(z):
            spread, low, high = likely_spread(found.values())
            several = sum(len({s.source for _, s in e}) > 1 for e in found.values())
            inside = (f"{100 * (z < limit).mean():.0f} %" for limit in (HALF, NINE_TENTHS))
            numbers = (str(several), str(len(z)), f"{spread:.2f}", f"{low:.2f} to {high:.2f}", f"{SPREAD[kind]:g}")
            slope = ""
            if not set(QUANTITIES[kind]) & set(LOGARITHMS):
                slope = "{:.2f} ± {:.2f}".format(*calibration(own["predicted"].to_numpy(), expit(own["estimate"].to_numpy())))
            rows.append((LABEL[kind], *numbers, *inside, slope))
    note = (
        "*Spread*: standard deviation between studies of one thing on the logit scale (logarithms for incidences and ratios), "
        "by restricted maximum likelihood. *In 50 %, in 90 %*: how many of the left-out studies lie within the interval that "
        "the others predict for them (their own error included). *Slope*: of the log odds of the left-out frequency on those "
        "predicted, ± its standard error; below 1 the predictions are too extreme."
    )
    return f"{note}\n\n{markdown(header, rows)}"


def words_and_counts(kb: KnowledgeBase) -> pd.DataFrame:
    """Links that sources put into words and others have counted: logits by words and by counts, and counts standardized."""
    found: dict[tuple[str, str], tuple[list[Estimate], list[Estimate]]] = defaultdict(lambda: ([], []))
    for study in kb.studies.values():
        if study.quantity == "sensitivity" and study.cited:
            found[study.cause, study.finding][counted(study)].append(estimate(study))
    rows = []
    for words, counts in found.values():
        if words and counts:
            # Both are means over populations of the same kind, each as uncertain as its studies and their spread make it.
            mean, error, _, _ = pool(words, SPREAD["link"])
            there, own, _, _ = pool(counts, SPREAD["link"])
            rows.append((mean, there, (there - mean) / np.sqrt(error + own)))
    return pd.DataFrame(rows, columns=["words", "counts", "standardized"])


def words_table(words: pd.DataFrame) -> str:
    z, error = words["standardized"].abs(), words["counts"] - words["words"]
    return (
        f"{len(words)} links have words and counts. From the words alone the pooled count is foreseen with a standard error of "
        f"{np.sqrt((error**2).mean()):.2f} on the logit scale (mean {error.mean():+.2f}); the 50 % interval holds "
        f"{100 * (z < HALF).mean():.0f} %, the 90 % interval {100 * (z < NINE_TENTHS).mean():.0f} %."
    )


def guessed(before: KnowledgeBase, now: KnowledgeBase) -> pd.DataFrame:
    """Links with counts that are new since ``before``: what they were there, counted or not, and what the new rows count."""
    fresh: dict[tuple[str, str], list[Estimate]] = defaultdict(list)
    for study in now.studies.values():
        if study.quantity == "sensitivity" and counted(study) and study.id not in before.studies:
            fresh[study.cause, study.finding].append(estimate(study))
    rows = []
    for (cause, finding), estimates in fresh.items():
        parameter = before.parameters.get(f"link:{cause}:{finding}")
        if parameter is not None:
            basis = any(counted(before.studies[i]) for i in parameter.studies)
            p = parameter.value
            rows.append((basis, np.log(p / (1.0 - p)), float(np.mean([y for (y, _), _ in estimates]))))
    return pd.DataFrame(rows, columns=["counted", "before", "new"])


def before_table(found: pd.DataFrame) -> str:
    rows = []
    for basis, label in ((False, "words or a guess"), (True, "counts")):
        own = found[found["counted"] == basis]
        if len(own) > 2:
            error = own["new"] - own["before"]
            slope = float(np.polyfit(own["before"], own["new"], 1)[0])
            numbers = (f"{np.sqrt((error**2).mean()):.2f}", f"{error.mean():+.2f}", f"{slope:.2f}")
            rows.append((label, str(len(own)), *numbers, f"{own['before'].corr(own['new']):.2f}"))
    header = ("the link rested on", "links", "error of the logit", "mean", "slope", "correlation")
    note = "Links for which rows with counts have come since an earlier state, by what they rested on there."
    return f"{note}\n\n{markdown(header, rows)}"


def draw(result: pd.DataFrame, words: pd.DataFrame) -> Figure:
    figure, axes = canvas(2)
    limits: list[Callable[..., object]] = [axes[1].set_xlim, axes[1].set_ylim]
    edges = np.linspace(-4.0, 4.0, 33)
    z = result.loc[result["kind"] == "link", "standardized"].clip(-4.0, 4.0)
    axes[0].hist(z, bins=edges, density=True, color=OURS, alpha=0.75)
    middle = np.array([(a + b) / 2.0 for a, b in pairwise(edges)])
    axes[0].plot(middle, np.exp(-0.5 * middle**2) / np.sqrt(2.0 * np.pi), color=OTHER)
    axes[0].set(xlabel="error of a left-out study / its standard error", ylabel="density")
    axes[0].set_title("Links: the next study", loc="left", fontsize=11)
    axes[1].plot([0.0, 1.0], [0.0, 1.0], color=GREY, lw=1.0)
    p = expit(words[["words", "counts"]])
    axes[1].scatter(p["words"], p["counts"], s=14, color=OURS, alpha=0.6, linewidths=0.0)
    for limit in limits:
        limit(0.0, 1.0)
    axes[1].set(xlabel="P(finding | cause) from words", ylabel="from counts")
    axes[1].set_title("Links: words and counts", loc="left", fontsize=11)
    return figure


if __name__ == "__main__":
    sys.exit(main())
