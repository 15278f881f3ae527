"""What it costs that findings are independent given a cause: causes as mixtures of their forms.

    python experiments/forms/run.py                       # textbook patients
    python experiments/forms/run.py --cases CASES.csv     # and published cases (with a column final_diagnosis)

``forms.csv`` divides the patients of every cause into forms (presentations), ``frequencies.csv`` says how frequent a finding is
in each of them. Written are results.csv, figure.png and, below the line "results" of README.md, the table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit

import ddx
from ddx.inference.network import Floats
from ddx.knowledge import KnowledgeBase
from ddx.knowledge.graded import continuation
from ddx.network import Evidence, without_findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from cause_forms import Forms, read_forms  # noqa: E402
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

SMALLEST, LARGEST = 0.002, 0.995
# What is added to the name of a network in which the causes of a patient are as many as were counted.
COUNTED = ", causes as counted"
ALT = "Share of true causes among the first one, three and five without and with forms: textbook patients, published cases"


def main() -> int:
    return run(options_of_cases(__doc__, HERE), work)


@dataclass(frozen=True, eq=False)
class Links:
    """Of one network: leaks (A, F), and for every cause the shares (V,) and links (V, F) of its forms."""

    leak: Floats
    causes: list[tuple[Floats, Floats]]


def work(arguments: argparse.Namespace) -> None:
    shipped = ddx.load("limb", "balanced")
    model, forms = independent(shipped), read_forms()
    kept = {cause: keep_totals(model.knowledge, cause, own) for cause, own in forms.items()}
    networks = {
        "no forms": links(model, {}),
        "forms, sourced frequencies": links(model, kept),
        "forms, frequencies of the readers": links(model, forms),
    }
    rows = []
    for kind, frame in groups_of_cases(arguments).items():
        cases = Cases.of(model, frame)
        found = {"as shipped": shipped.network.posterior(cases.evidence).marginal}
        found["as shipped, but causes independent"] = model.network.posterior(cases.evidence).marginal
        found |= {name: posterior(model, cases.evidence, own) for name, own in networks.items()}
        for name in ("no forms", "forms, sourced frequencies"):
            found[f"{name}, factors summed out"] = in_the_engine(model, cases.evidence, networks[name])
        for name, own in networks.items():
            found[f"{name}{COUNTED}"] = posterior(shipped, cases.evidence, own)
        for name in ("no forms", "forms, sourced frequencies"):
            found[f"{name}, factors summed out{COUNTED}"] = in_the_engine(shipped, cases.evidence, networks[name])
        rows += [row(kind, name, marginal, cases.truth) for name, marginal in found.items()]
    result = pd.DataFrame(rows)
    counts = f"{sum(len(f.share) for f in forms.values())} forms of {len(forms)} causes"
    publish(HERE, arguments, model, "", result, f"{counts}.\n\n{table(result)}", draw(result), ALT)


def keep_totals(kb: KnowledgeBase, cause: str, forms: Forms) -> Forms:
    """Frequencies whose mean over the forms is that of the knowledge base: their log odds are shifted by one number."""
    frequency = {}
    for finding, own in forms.frequency.items():
        total = kb.means.get(f"link:{cause}:{finding}")
        if total is not None:
            odds, wanted = logit(own.clip(SMALLEST, LARGEST)), min(max(total, SMALLEST), LARGEST)
            shift = brentq(lambda s, odds=odds, wanted=wanted: forms.share @ expit(odds + s) - wanted, -20.0, 20.0)
            frequency[finding] = expit(odds + shift)
    return Forms(forms.share, frequency)


def links(model: ddx.Model, forms: dict[str, Forms]) -> Links:
    """Noisy-OR links of every form, beside the leaks of the studies; and the leaks of the setting."""
    net, kb = model.network.without_syndromes(), model.knowledge
    place = {f: i for i, f in enumerate(net.findings)}
    leak = hazards(kb, {f: kb.means[f"leak:{f}"] for f in net.findings})
    base = np.array([leak[f] for f in net.findings])
    total = 1.0 - (1.0 - base[:, None]) * (1.0 - net.link)
    found = []
    for k, cause in enumerate(net.causes):
        own = forms.get(cause, Forms(np.ones(1), {}))
        sensitivity = np.where(net.link[:, k] > 0.0, total[:, k], 0.0) + np.zeros((len(own.share), 1))
        for v in range(len(own.share)):
            # Levels of a graded finding are known together or not at all.
            own_values = {f: min(float(p[v]), LARGEST) for f, p in own.frequency.items()}
            for levels in kb.graded.values():
                given = {f: own_values.get(f, kb.means.get(f"link:{cause}:{f}", 0.0)) for f in levels}
                own_values |= given if any(f in own_values for f in levels) else {}
            for finding, p in hazards(kb, own_values).items():
                sensitivity[v, place[finding]] = p
        found.append((own.share, np.maximum((sensitivity - base) / (1.0 - base), 0.0)))
    return Links(net.leak, found)


def hazards(kb: KnowledgeBase, frequency: dict[str, float]) -> dict[str, float]:
    """Frequencies with those of levels turned into continuation ratios."""
    found = dict(frequency)
    for levels in kb.graded.values():
        if levels[0] in found and sum(found[f] for f in levels) > 0.0:
            found |= dict(zip(levels, continuation([found[f] for f in levels]), strict=True))
    return found


def posterior(model: ddx.Model, evidence: Evidence, own: Links) -> Floats:
    """(N, K) by the recursion of the core, each step a mixture over the forms of a cause.

    The priors are those that people at large have for age, sex and risk factors of a case; causes count as independent given
    these, and who has none as the model weighs them. A case of unknown age has the leaks of the age at which most people are.
    """
    net = model.network
    prior = replace(net, none_weight=1.0).posterior(without_findings(evidence)).marginal
    most = int(net.share.sum(axis=1).argmax())
    age = np.where(evidence.age < 0, most, evidence.age)
    parts = net.parts(replace(evidence, age=age, sex=np.maximum(evidence.sex, 0)))
    seen = [(share, weights[:, parts.columns]) for share, weights in own.causes]
    joint, total = np.zeros_like(prior), np.zeros((len(prior), 1))
    for n, finding, log_weight in zip(parts.case.tolist(), parts.finding, parts.log_weight, strict=True):
        with_cause, none, some = _one(prior[n], own.leak[age[n]][parts.columns], seen, finding)
        joint[n] += np.exp(log_weight) * with_cause
        total[n] += np.exp(log_weight) * (some + net.none_weight * none)
    return joint / total


def _one(prior: Floats, leak: Floats, causes: list[tuple[Floats, Floats]], finding: Floats) -> tuple[Floats, float, float]:
    """P(cause, evidence) (K,), P(no cause, evidence) and P(some cause, evidence) of a case.

    ``finding`` (O,): 1 present, 0 absent, nan not observed.

    The state says which present findings are explained.
    """
    present, absent = np.flatnonzero(finding == 1.0), np.flatnonzero(finding == 0.0)

    def explain(state: Floats, weights: Floats) -> Floats:
        for i, w in enumerate(weights[present]):
            low, high = state.reshape(-1, 2, 1 << i).swapaxes(0, 1)
            state = np.stack([low * (1.0 - w), high + low * w], axis=1).ravel()
        return np.asarray(state * (1.0 - weights[absent]).prod())

    def back(adjoint: Floats, weights: Floats) -> Floats:
        for i, w in enumerate(weights[present]):
            low, high = adjoint.reshape(-1, 2, 1 << i).swapaxes(0, 1)
            adjoint = np.stack([low * (1.0 - w) + high * w, high], axis=1).ravel()
        return np.asarray(adjoint * (1.0 - weights[absent]).prod())

    states = [explain(np.eye(1, 1 << len(present))[0], leak)]
    for p, (share, weights) in zip(prior, causes, strict=True):
        shown = sum(s * explain(states[-1], w) for s, w in zip(share, weights, strict=True))
        states.append((1.0 - p) * states[-1] + p * shown)
    adjoint = np.eye(1, 1 << len(present), (1 << len(present)) - 1)[0]
    joint = np.empty(len(prior))
    for k in range(len(prior) - 1, -1, -1):
        share, weights = causes[k]
        shown = sum(s * back(adjoint, w) for s, w in zip(share, weights, strict=True))
        joint[k] = prior[k] * (states[k] @ shown)
        adjoint = (1.0 - prior[k]) * adjoint + prior[k] * shown
    none = float(states[0][-1] * (1.0 - prior).prod())
    return joint, none, float(states[-1][-1]) - none


def in_the_engine(model: ddx.Model, evidence: Evidence, own: Links) -> Floats:
    """(N, K) by the engine itself, every form a cause of its own; unknown risk factors are summed out, as in ``score``.

    Form v of a cause with P(cause) = p has 1 - (1 - p)**share: then one of them at least is there with probability p. That the
    cause is there is read from the posteriors of its forms as if these were independent: too low where they exclude each other.
    """
    net = model.network
    group = np.repeat(np.arange(len(net.causes)), [len(share) for share, _ in own.causes])
    share, link = np.concatenate([s for s, _ in own.causes]), np.concatenate([w for _, w in own.causes])
    absent = expit(-net.log_odds)[:, :, group] ** share
    forms = replace(
        net.without_syndromes(),
        causes=tuple(f"{net.causes[k]} {i}" for i, k in enumerate(group.tolist())),
        log_odds=logit(1.0 - absent),
        context_log_odds=net.context_log_odds[group],
        link=np.ascontiguousarray(link.T),
        leak=own.leak,
        syndrome_link=np.zeros((0, len(group))),
    )
    absent = 1.0 - forms.posterior(evidence).marginal
    return np.stack([1.0 - absent[:, group == k].prod(axis=1) for k in range(len(net.causes))], axis=1)


def row(kind: str, network: str, marginal: Floats, truth: np.ndarray) -> dict[str, object]:
    return {"cases": kind, "network": network, **Scores(marginal, np.zeros(len(truth), dtype=bool), truth).ranks()}


def table(result: pd.DataFrame) -> str:
    header = ("cases", "network", "true causes", "top 1", "top 3", "top 5", "log score")
    lines = [
        (r.cases, r.network, str(r.items), f"{r.top_1:.3f}", f"{r.top_3:.3f}", f"{r.top_5:.3f}", f"{r.log_score:.3f}")
        for r in result.itertuples(index=False)
    ]
    note = (
        "*As shipped*: the engine, syndromes and all. *No forms*: without syndromes, causes independent given age, sex and "
        "risk factors. *Sourced frequencies*: the mean over the forms is that of the knowledge base. *Factors summed out*: "
        "unknown risk factors connect causes, as in the engine. *Causes as counted*: who has no cause counts with the weight "
        "of the setting, as shipped."
    )
    return f"{note}\n\n{markdown(header, lines)}"


def draw(result: pd.DataFrame) -> Figure:
    kinds = list(dict.fromkeys(result["cases"]))
    figure, axes = canvas(len(kinds))
    shown = {"no forms": GREY, "forms, sourced frequencies": OURS, "forms, frequencies of the readers": OTHER}
    for axis, kind in zip(axes, kinds, strict=True):
        own = result[result["cases"] == kind].set_index("network")
        for i, (name, colour) in enumerate(shown.items()):
            hits = own.loc[name + COUNTED, ["top_1", "top_3", "top_5"]].to_numpy(dtype=float)
            # Beside each other, so that equal ones are seen.
            axis.plot(np.arange(3) + 0.06 * (i - 1), hits, "o-", color=colour, label=name, lw=1.2, markersize=6)
        axis.set(xticks=np.arange(3), xticklabels=["top 1", "top 3", "top 5"], ylim=(0.6, 1.0), xlim=(-0.3, 2.3))
        axis.set_title(f"{kind} ({int(own['items'].iloc[0])}){COUNTED}", loc="left", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
