"""How much noise on the parameters the ranking survives, with and without zeros.

    python experiments/parameter_noise/run.py

Normal noise is added to the log odds of every probability and to the logarithm of every ratio of the knowledge base; the same
simulated cases are scored under each noisy copy. Three arms take the same noisy copies and make zeros of what is small, two
put the same noise on a part of the parameters only.
Written are results.csv, figure.png and, below the line "results" of README.md, the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.network import build_network
from ddx.sensitivity.case import spread_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from shared import (  # noqa: E402
    CERTAIN,
    GREY,
    OTHER,
    OURS,
    RULED_OUT,
    THIRD,
    Cases,
    canvas,
    markdown,
    on_log_scale,
    options,
    publish,
    run,
)

SIGMAS = (0.0, 0.25, 0.5, 1.0, 2.0)
SMALL_LINK, SMALL_LEAK, NO_LEAK = 0.05, 0.005, 1e-12
ARMS = (
    "all",
    "all, links < 0.05 zero",
    "all, links < 0.05, leaks < 0.005 zero",
    "all, links and leaks < 0.05 zero",
    "links and leaks only",
    "priors and ratios only",
)
ZEROS = ARMS[1:4]
# Colour, marker and line of the arms that are drawn.
DRAWN = {
    ARMS[0]: (OURS, "o", "-"),
    ARMS[2]: (THIRD, "D", "-"),
    ARMS[3]: (OTHER, "s", "-"),
    ARMS[4]: (OURS, "^", ":"),
    ARMS[5]: (GREY, "v", ":"),
}


def main() -> int:
    parser = options(__doc__, HERE, 1000)
    parser.add_argument("--setting", default="primary_care")
    parser.add_argument("--replicates", type=int, default=8, help="noisy copies for every sigma above 0; default: 8")
    return run(parser, work)


def work(arguments: argparse.Namespace) -> None:
    model = ddx.load(arguments.kb, arguments.setting)
    result = measure(model, arguments.cases, arguments.replicates, arguments.seed)
    what = f"{arguments.cases} simulated cases, {arguments.setting}, {arguments.replicates} noisy copies a sigma"
    own = float(np.median([spread_of(p) for p in model.knowledge.parameters.values()]))
    publish(HERE, arguments, model, what, result, table(result, own), draw(result), ALT)


def measure(model: ddx.Model, n: int, replicates: int, seed: int) -> pd.DataFrame:
    """A row per sigma, arm and noisy copy; changes are against the knowledge base as it is."""
    cases_seed, noise_seed = np.random.SeedSequence(seed).spawn(2)
    cases = Cases.drawn(model, n, int(cases_seed.generate_state(1)[0]))
    reference = cases.scored(model.network)
    rng = np.random.default_rng(noise_seed)
    rows = []
    for sigma in SIGMAS:
        for replicate in range(replicates if sigma else 1):
            values = noisy(model, sigma, rng)
            for arm, chosen in zip(ARMS, arms(values), strict=True):
                scores = cases.scored(build_network(model.knowledge, model.setting, chosen))
                rows.append({"sigma": sigma, "arm": arm, "replicate": replicate, **scores.row(reference)})
    return pd.DataFrame(rows)


def noisy(model: ddx.Model, sigma: float, rng: np.random.Generator) -> dict[str, float]:
    """Every parameter with normal noise on the scale where it is added: log odds, the logarithm of odds ratios."""
    values = model.knowledge.means
    moved = {}
    for (name, value), z in zip(values.items(), rng.standard_normal(len(values)), strict=True):
        factor = float(np.exp(sigma * z))
        # The odds times a factor, written so that sigma 0 gives the value itself.
        moved[name] = value * factor if name.startswith("or:") else value * factor / (1.0 + value * (factor - 1.0))
    return moved


def arms(values: Mapping[str, float]) -> tuple[dict[str, float], ...]:
    """The noisy values by arm: all, three times with zeros for what is small, and those of a part."""
    links = {k: 0.0 if k.startswith("link:") and v < SMALL_LINK else v for k, v in values.items()}
    both, more = (
        {k: NO_LEAK if k.startswith("leak:") and v < small else v for k, v in links.items()}
        for small in (SMALL_LEAK, SMALL_LINK)
    )
    findings = {k: v for k, v in values.items() if k.startswith(("link:", "leak:"))}
    return dict(values), links, both, more, findings, {k: v for k, v in values.items() if k not in findings}


def summary(result: pd.DataFrame) -> pd.DataFrame:
    """Means over the noisy copies, and the standard deviation among them."""
    by = result.groupby(["arm", "sigma"], sort=False)
    measures = ["top_1", "top_3", "log_score", "same_leader", "ruled_out", "false_certain", "impossible"]
    mean, spread = by[measures].mean(), by[measures].std(ddof=1).fillna(0.0).add_suffix("_sd")
    return pd.concat([mean, spread], axis=1).reset_index()


def table(result: pd.DataFrame, own: float) -> str:
    found = summary(result)
    rows = [
        (
            arm,
            f"{r.sigma:g}",
            *(f"{r[m]:.3f} ± {r[f'{m}_sd']:.3f}" for m in ("top_1", "top_3", "log_score", "same_leader")),
            *(f"{100 * share:.1f} %" for share in (r.ruled_out, r.false_certain, r.impossible)),
        )
        for arm in ARMS
        for _, r in found[found["arm"] == arm].iterrows()
    ]
    header = ("noise on", "sigma", "top 1", "top 3", "log score", "same leader", "ruled out", "false", "impossible")
    alone = result[(result["sigma"] == 0.0) & result["arm"].isin(ZEROS)]
    zero = "; ".join(
        f"{r.arm.removeprefix('all, ')}: top 1 {r.top_1_change:+.3f} ± {r.top_1_change_error:.3f}, "
        f"log score {r.log_score_change:+.3f} ± {r.log_score_change_error:.3f}"
        for r in alone.itertuples()
    )
    note = (
        "Means over the noisy copies ± their standard deviation. *Same leader*: cases with the leading cause that they have "
        f"without noise or zeros; *ruled out*: with a true cause below a posterior of {RULED_OUT:g}; *false*: with an absent "
        f"one above {CERTAIN:g}."
    )
    spread = (
        f"The parameters of the knowledge base have distributions of their own: their median sigma on this scale is {own:.2f}."
    )
    zeros = f"Zeros without noise, against none (± standard error over cases): {zero}. {spread}"
    return f"{note}\n\n{markdown(header, rows)}\n\n{zeros}"


ALT = (
    "Top 1 and log score against the sigma of the noise: all parameters, with zeros too, links and leaks only, the others only"
)


def draw(result: pd.DataFrame) -> Figure:
    found = summary(result)
    figure, axes = canvas(2, height=4.8)
    for one, measure_, title in zip(
        axes, ("top_1", "log_score"), ("Top 1", "Log score, nats a case (low is good)"), strict=True
    ):
        for i, (arm, (colour, marker, line)) in enumerate(DRAWN.items()):
            own = found[found["arm"] == arm]
            style = {"color": colour, "marker": marker, "ms": 5, "lw": 1.5, "ls": line, "capsize": 3, "label": arm}
            one.errorbar(own["sigma"] + 0.02 * (i - 1.5), own[measure_], own[f"{measure_}_sd"], **style)
        one.set(xlabel="sigma of the noise on log odds", xticks=SIGMAS)
        one.set_xticklabels(["0", "¼", "½", "1", "2"])
        one.set_title(title, loc="left", fontsize=11)
    axes[0].set_ylim(bottom=0.0)
    on_log_scale(axes[1])
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
