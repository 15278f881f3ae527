"""P(evidence) and P(cause, evidence) of one case as linear functions: of every single link, and of the prior of every cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ddx.inference.adjoint import NOBODY, Runs
from ddx.inference.choice import Kernel
from ddx.inference.dispatch import Problem
from ddx.inference.exact import checked, excluding, refuse_forms
from ddx.inference.gradient import Parts, check_target, each_run, links
from ddx.inference.network import Floats, Ints, Network


@dataclass(frozen=True, eq=False)
class Linear:
    """Of N cases, everything over P(evidence) as it is now. Axis T: P(evidence), then P(target, evidence) of every target.

    With a ``none_weight`` below 1 these are the probabilities that it leaves, not divided by all that it leaves: posteriors
    are the ratios all the same.
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

    Parameters and errors as for ``gradient``, but several targets; a case of impossible evidence has nan everywhere.

    Notes
    -----
    Coupe and van der Gaag (2002), Properties of sensitivity analysis of Bayesian belief networks: a posterior is a ratio of two
    functions that are linear in every parameter of a single table.
    """
    for target in targets:
        check_target(network, target)
    refuse_forms(network, "linear")
    problem = checked(network, evidence, context)
    found, log = _independent(problem, targets, memory_gib, kernel)
    if network.none_weight == 1.0:
        return found
    alone, log_alone = _independent(excluding(problem), (), memory_gib, kernel)
    with np.errstate(invalid="ignore"):
        lost = (1.0 - network.none_weight) * np.exp(log_alone - log)
    return _weighed(found, alone, lost)


def _weighed(found: Linear, alone: Linear, lost: Floats) -> Linear:
    """The functions where having no cause counts less: P(evidence) without ``lost`` (N,) of it, a share of P(no cause, e).

    ``alone``: the functions of that part. Links do nothing there, and no target is in it.
    """
    left = 1.0 - lost
    now = found.now / left[:, None]
    now[:, 0] = np.where(np.isnan(left), np.nan, 1.0)
    priors = []
    for own, part, less, rest in zip(found.priors, alone.priors, lost, left, strict=True):
        absent, present = own.absent / rest, own.present / rest
        if less > 0.0:
            absent[0] -= less / rest * part.absent[0]
        priors.append(PriorWeights(own.first, own.context, absent, present))
    return Linear(np.minimum(now, 1.0), found.link / left[:, None, None, None], tuple(priors))


def _independent(problem: Problem, targets: Sequence[int], memory_gib: float, kernel: Kernel) -> tuple[Linear, Floats]:
    """The functions for independent causes, and log P(evidence) (N,)."""
    network = problem.network
    n, t = len(problem.findings), 1 + len(targets)
    now, log_evidence = np.full((n, t), np.nan), np.full(n, -np.inf)
    link = np.full((n, t, network.n_findings, network.n_causes), np.nan)
    priors: list[PriorWeights | None] = [None] * n

    def put(runs: Runs, at: Ints) -> None:
        log = runs.log.reshape(t, len(at))
        log_evidence[at] = log[0]
        now[at] = np.where(np.isneginf(log[0]), np.nan, np.minimum(np.exp(log - log[0]), 1.0)).T
        link[at] = _link_slopes(runs, now[at], targets)
        for i, weights in zip(at.tolist(), _prior_weights(runs, now[at]), strict=True):
            priors[i] = weights

    each_run(problem, (NOBODY, *targets), kernel, memory_gib, put)
    return Linear(now, link, tuple(weights for weights in priors if weights is not None)), log_evidence


def _link_slopes(runs: Runs, now: Floats, targets: Sequence[int]) -> Floats:
    """Derivatives (n, T, F, K) to the links."""
    n, t = now.shape
    parts = Parts.of(runs)
    wide = links(runs.rows, parts.present, parts.freed, parts.link, n * t).reshape(t, n, *runs.rows.network.link.shape[-2:])
    slopes = now[:, :, None, None] * wide.swapaxes(0, 1)
    for i, j in np.argwhere(now[:, 1:] == 0.0):
        # The evidence excludes the target: only its own links could change that.
        own = slopes[i, 0, :, targets[j]]
        slopes[i, 1 + j] = 0.0
        slopes[i, 1 + j, :, targets[j]] = own
    slopes[np.isnan(now)] = np.nan
    return slopes


def _prior_weights(runs: Runs, now: Floats) -> list[PriorWeights]:
    """Slopes to the normalized tables -> weights of the probabilities in them."""
    n, t = now.shape
    p = runs.priors
    slope_absent, slope_present = runs.slopes
    entries = len(p.cause)

    def weights(slope: Floats) -> Floats:
        by_case = np.asarray(slope, dtype=np.float64).reshape(t, n, entries).swapaxes(0, 1)
        return np.where(now[:, :, None] == 0.0, 0.0, now[:, :, None] * by_case)

    absent, present = weights(slope_absent * p.inverse), weights(slope_present * p.escape)
    context = np.broadcast_to(p.context, (n * t, entries, p.context.shape[-1]))
    return [PriorWeights(runs.tables.first, context[i], absent[i], present[i]) for i in range(n)]
