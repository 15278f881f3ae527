"""Where inclusion-exclusion over the present findings loses its digits, and whether the recursion of ddx does.

    python experiments/quickscore/run.py

Both score the same cases in float64; Quickscore in 80-digit arithmetic says how wrong they are. The networks are random,
drawn from the seed, and one more is that of a knowledge base. Written are results.csv (a row per network, kind of evidence
and number of present findings), figure.png and, below the line "results" of README.md, the tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.inference import Network, posterior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "benchmarks")]

from networks import (  # noqa: E402
    drawn_cases,
    exact_posteriors,
    limb_network,
    quickscore_array,
    random_cases,
    random_network,
    relative_errors,
)
from report import machine  # noqa: E402
from shared import GREY, OTHER, OURS, canvas, markdown, options, publish, run  # noqa: E402

CAUSES, FINDINGS = 36, 90
# Absent findings of a case; the more of them beside present findings at random, the less probable the evidence.
ABSENT = {"probable": 20, "improbable": 60}
# Rounding alone takes a posterior near 1 an ulp above it; what is further out is impossible.
SLACK = 1e-9
BASE = (
    "its causes with their direct links to findings, for a woman of 45 to 54 without risk factors, as at large; "
    "syndromes left out"
)
METHODS = {"quickscore": "Quickscore, float64", "ddx": "ddx"}


def main() -> int:
    parser = options(__doc__, HERE, 3, "of every network, kind of evidence and number of present findings")
    parser.add_argument("--networks", type=int, default=10, help="random networks; default: 10")
    parser.add_argument("--most", type=int, default=16, help="largest number of present findings; default: 16")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb)
    seeds = np.random.SeedSequence(arguments.seed).spawn(arguments.networks + 1)
    rows = []
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        last = i == arguments.networks
        net = limb_network(context=False, kb=arguments.kb) if last else random_network(rng, CAUSES, FINDINGS)
        name = model.knowledge.name if last else f"random {i}"
        # The base has as many cases as the random networks together.
        n = arguments.cases * (arguments.networks if last else 1)
        rows += measure(name, net, rng, range(2, arguments.most + 1, 2), n)
    cases = pd.DataFrame(rows)
    result = summary(cases, ["network", "evidence", "present"])
    cases["group"] = np.where(cases["network"].str.startswith("random "), "random", cases["network"])
    pooled = summary(cases, ["group", "evidence", "present"])
    what = (
        f"{arguments.networks} random networks of {CAUSES} causes x {FINDINGS} findings, {arguments.cases} cases of each, "
        "kind of evidence and number of present findings; as many cases of the base as of these together"
    )
    body = f"{machine(('ddx', 'numpy', 'numba'))}\n\n{tables(pooled)}"
    publish(HERE, arguments, model, what, result, body, draw(cases, pooled), ALT)


def measure(name: str, net: Network, rng: np.random.Generator, present: range, n: int) -> list[dict[str, object]]:
    """A row per case: errors (K,) of both methods, and what is wrong with their answers."""
    rows: list[dict[str, object]] = []
    for evidence in ABSENT:
        for m in present:
            make = drawn_cases if evidence == "probable" else random_cases
            cases = make(rng, net, n, m, ABSENT[evidence])
            total, exact = exact_posteriors(net, cases)
            with np.errstate(divide="ignore", invalid="ignore"):
                answers = {"quickscore": quickscore_array(net, cases), "ddx": posterior(net, cases).marginal}
            errors = {method: relative_errors(marginal, exact) for method, marginal in answers.items()}
            for i in range(n):
                row: dict[str, object] = {"network": name, "evidence": evidence, "present": m, "p_evidence": float(total[i])}
                for method, marginal in answers.items():
                    possible = (marginal[i] >= -SLACK) & (marginal[i] <= 1.0 + SLACK)
                    row[method] = errors[method][i]
                    row[f"{method}_impossible"] = not possible.all()
                    row[f"{method}_wrong_leader"] = int(marginal[i].argmax()) != int(exact[i].argmax())
                rows.append(row)
    return rows


def summary(cases: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row per group of cases: P(evidence), largest and median error of all posteriors, shares of wrong answers."""
    rows = []
    for key, group in cases.groupby(by, sort=False):
        row = dict(zip(by, key, strict=True)) | {
            "cases": len(group),
            "p_evidence_lowest": group["p_evidence"].min(),
            "p_evidence_median": group["p_evidence"].median(),
        }
        for method in METHODS:
            errors = np.concatenate(list(group[method]))
            row |= {
                f"{method}_error_max": errors.max(),
                f"{method}_error_median": np.median(errors),
                f"{method}_impossible": group[f"{method}_impossible"].mean(),
                f"{method}_wrong_leader": group[f"{method}_wrong_leader"].mean(),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def tables(pooled: pd.DataFrame) -> str:
    header = (
        *("evidence", "present", "cases", "P(evidence), median", "Quickscore: largest error", "median", "impossible"),
        *("wrong leader", "ddx: largest error", "median", "impossible", "wrong leader"),
    )
    note = (
        "Relative errors of all posteriors of the cases against 80 digits; an error of 1 says that no digit is right. "
        f"*Probable*: findings that the network makes itself with ten times its priors, {ABSENT['probable']} absent; "
        f"*improbable*: present findings at random, {ABSENT['improbable']} absent. *Impossible*: cases with a posterior "
        f"outside [0, 1] by more than {SLACK:g}. *Wrong leader*: cases whose leading cause is another one than in 80 digits."
    )
    parts = [note]
    for name, rows in pooled.groupby("group", sort=False):
        lines = [
            (
                *(r.evidence, str(r.present), str(r.cases), f"{r.p_evidence_median:.0e}"),
                *(f"{r.quickscore_error_max:.0e}", f"{r.quickscore_error_median:.0e}"),
                *(f"{100 * share:.0f} %" for share in (r.quickscore_impossible, r.quickscore_wrong_leader)),
                *(f"{r.ddx_error_max:.0e}", f"{r.ddx_error_median:.0e}"),
                *(f"{100 * share:.0f} %" for share in (r.ddx_impossible, r.ddx_wrong_leader)),
            )
            for r in rows.itertuples(index=False)
        ]
        title = "Random networks" if name == "random" else f"Knowledge base {name} ({BASE})"
        parts.append(f"{title}:\n\n{markdown(header, lines)}")
    return "\n\n".join(parts)


ALT = "Relative error of the posteriors against the number of present findings: Quickscore loses all digits, ddx none"


def draw(cases: pd.DataFrame, pooled: pd.DataFrame) -> Figure:
    figure, axes = canvas(2, height=4.8)
    for one, evidence in zip(axes, ABSENT, strict=True):
        _panel(one, cases[cases["evidence"] == evidence], pooled[pooled["evidence"] == evidence])
        one.set_title(f"{evidence.capitalize()} evidence", loc="left", fontsize=11)
    axes[0].annotate("100 %: no digit is right", (2.0, 1.0), (0, 4), textcoords="offset points", fontsize=9)
    axes[0].set_ylabel("relative error of the posteriors")
    axes[1].tick_params(labelleft=False)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _panel(one: Axes, cases: pd.DataFrame, pooled: pd.DataFrame) -> None:
    """Lines of the pooled random networks and of the base, behind them a dot for the largest error of every case."""
    random, base = pooled[pooled["group"] == "random"], pooled[pooled["group"] != "random"]
    for (method, label), color, marker in zip(METHODS.items(), (OTHER, OURS), ("s", "o"), strict=True):
        largest, median = f"{method}_error_max", f"{method}_error_median"
        worst = np.array([errors.max() for errors in cases[method]])
        one.plot(cases["present"], worst, ".", color=color, alpha=0.3, ms=5, mew=0)
        one.plot(random["present"], random[largest], color=color, marker=marker, ms=5, label=f"{label}: largest")
        one.plot(random["present"], random[median], "--", color=color, lw=1.3, label=f"{label}: median")
        one.plot(base["present"], base[largest], ":", color=color, lw=1.6, label=f"{label}: largest, {base['group'].iloc[0]}")
    one.axhline(1.0, color=GREY, linewidth=0.8)
    one.set(yscale="log", ylim=(1e-17, 1e4), xlabel="present findings", xticks=list(random["present"]))


if __name__ == "__main__":
    sys.exit(main())
