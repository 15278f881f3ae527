"""P(evidence) and P(cause, evidence) of one case as linear functions: of every single link, and of the prior of every cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddx.inference.choice import DOUBLE, Kernel, load_compiled
from ddx.inference.exact import checked
from ddx.inference.gradient import Priors, SingleCase
from ddx.inference.network import Floats, Ints, Network


@dataclass(frozen=True, eq=False)
class Linear:
    """Of N cases, everything over P(evidence) as it is now. Axis T: P(evidence), then P(target, evidence) of every target.

    ``link`` (N, T, F, K): derivatives to the links; d(posterior) follows by the quotient rule.
    """

    now: Floats  # (N, T)
    link: Floats
    priors: tuple[PriorWeights, ...]  # one for every case


@dataclass(frozen=True, eq=False)
class PriorWeights:
    """For every cause k: P(evidence) = sum over its entries e of absent[e] P(k = 0 | x_e) + present[e] P(k = 1 | x_e).

    An entry is a combination x of the unknown context variables that change the cause (E entries of all causes).
    """

    first: Ints  # (K + 1,) where the entries of a cause begin
    context: Floats  # (E, C) of the entry: observed, or one of its combinations
    absent: Floats  # (T, E)
    present: Floats  # (T, E)

    def under(self, cause: Ints, log_odds: Floats, effect: Floats) -> Floats:
        """P(evidence) and P(target, evidence) (B, T) when one cause has another prior.

        Parameters
        ----------
        cause (B,), log_odds (B,) of that cause without context, effect (B, C) log odds ratios of the context
        """
        size = np.diff(self.first)[cause]
        first = np.cumsum(size) - size
        of = np.repeat(np.arange(len(cause)), size)
        entry = np.arange(len(of)) - first[of] + self.first[cause[of]]
        z = log_odds[of] + (self.context[entry] * effect[of]).sum(axis=1)
        small = np.exp(-np.abs(z))
        high, low = 1.0 / (1.0 + small), small / (1.0 + small)
        present, absent = np.where(z >= 0.0, high, low), np.where(z >= 0.0, low, high)
        terms = self.absent[:, entry] * absent + self.present[:, entry] * present
        return np.add.reduceat(terms, first, axis=1).T


def linear(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    targets: Sequence[int],
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
) -> Linear:
    """The linear functions of N cases, from one forward and one adjoint pass for P(evidence) and one for every target.

    Parameters and errors as for ``gradient``; a case of impossible evidence has nan everywhere.

    Notes
    -----
    Coupe and van der Gaag (2002), Properties of sensitivity analysis of Bayesian belief networks: a posterior is a ratio of two
    functions that are linear in every parameter of a single table.
    """
    problem = checked(network, evidence, context)
    n, t = len(problem.findings), 1 + len(targets)
    now = np.full((n, t), np.nan)
    link = np.full((n, t, network.n_findings, network.n_causes), np.nan)
    priors = []
    compiled = load_compiled(kernel)
    for i in range(n):
        case = SingleCase.of(problem, i, compiled, memory_gib)
        if compiled is None:
            compiled = load_compiled(kernel, 2.0 * t * DOUBLE * case.doubles)
        passes = _Passes(case, compiled, targets)
        now[i], link[i] = passes.now, passes.link
        priors.append(passes.priors)
    return Linear(now, link, tuple(priors))


class _Passes:
    """All passes of one case."""

    def __init__(self, case: SingleCase, compiled: Any, targets: Sequence[int]) -> None:
        self.case, self.targets = case, [None, *targets]
        with np.errstate(over="ignore"):
            self.solved = [case.solved(compiled, target) for target in self.targets]

    @cached_property
    def now(self) -> Floats:
        """P(evidence) and P(target, evidence) (T,) over P(evidence)."""
        log = np.array([log for log, _, _ in self.solved])
        with np.errstate(invalid="ignore"):
            return np.where(np.isneginf(log[0]), np.nan, np.minimum(np.exp(log - log[0]), 1.0))

    @cached_property
    def link(self) -> Floats:
        """Their derivatives (T, F, K) to the links."""
        found = []
        for target, now, (_, tables, slopes) in zip(self.targets, self.now, self.solved, strict=True):
            if now > 0.0:
                found.append(now * self.case.chain_rule(tables, slopes, target)["link"])
                continue
            # The evidence excludes the target: only its own links could change that.
            excluded = np.full_like(found[0], now) if found else np.full(self.case.rows.network.link.shape[-2:], np.nan)
            if found and target is not None:
                excluded[:, target] = found[0][:, target]
            found.append(excluded)
        return np.stack(found)

    @cached_property
    def priors(self) -> PriorWeights:
        """Slopes to the normalized tables -> weights of the probabilities in them."""
        rows, tables = self.case.rows, self.case.tables
        p = Priors.of(rows, tables)
        absent, present = [], []
        for target, now, (_, _, slopes) in zip(self.targets, self.now, self.solved, strict=True):
            if now == 0.0:
                absent.append(np.zeros(len(p.cause)))
                present.append(np.zeros(len(p.cause)))
                continue
            not_there, there = slopes.absent[:, 0] * p.inverse, slopes.present[:, 0] * p.escape
            if target is not None:
                own = p.cause == target
                if target not in self.case.layout.cause:
                    # Nothing observed depends on it beyond its absent findings: P(target, e) / P(e) is its own entry.
                    there = np.where(own, p.escape / tables.present[0], there)
                not_there = np.where(own, 0.0, not_there)
            absent.append(now * not_there)
            present.append(now * there)
        return PriorWeights(tables.first, p.context, np.stack(absent), np.stack(present))
