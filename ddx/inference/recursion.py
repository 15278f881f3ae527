"""The non-negative recursion over causes: exact marginals of a noisy-OR network, vectorized over cases.

The state of a case is a distribution over the subsets of its present and uncertain findings that are explained so far. It
starts from the leaks, every cause is one step, and an adjoint recursion from the likelihoods gives all marginals. With
a = P(cause absent | absent findings), b = 1 - a and w the links of the cause,

    phi' = a phi + b T phi,     T = outer over findings of [[1 - w, 0], [w, 1]]

whose columns are those of a Markov kernel: no term is ever subtracted. This is the forward-backward form of the noisy-OR
decomposition of D'Ambrosio (1994) and Takikawa and D'Ambrosio (1999); Heckerman's Quickscore (1989) computes the same sums
with alternating signs.

The bit of a finding enters with the first cause that is linked to it and is summed out, weighted with the likelihood of the
observation, after the last; an unknown context variable lives from the first to the last cause whose prior it changes.

Shapes: n cases of a chunk, m present or uncertain findings, K causes, C context variables. Variables are numbered 0 to C - 1
(context) and C to C + m - 1 (bits). A state has one axis of length 2 for every variable in hand, and the case axis last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddx.inference.network import Floats
from ddx.inference.plan import Step

# Logarithm of the probability of the present findings (given the absent ones) below which a case is doubtful: 1e-260.
DOUBT = -600.0


@dataclass(frozen=True)
class Chunk:
    """What the recursion needs of n cases that share a plan."""

    log_odds: Floats  # (K, n) prior log odds, observed context included
    log_escape: Floats  # (K, n) log P(no observed-absent finding is caused | cause)
    link: Floats  # (K, m, n)
    leak: Floats  # (m, n)
    likelihood: Floats  # (2, m, n) of the finding being absent, present
    context_log_odds: Floats  # (K, C, n or 1)
    context_prior: Floats  # (C, n)
    requires: tuple[int, ...]  # C

    def widened(self, cases: NDArray[np.bool_]) -> Chunk:
        """Some cases, in the longest floats of this machine (on x86 their exponents are sixteen times as large)."""

        def wide(array: Floats) -> Floats:
            chosen: Any = array[..., cases] if array.shape[-1] == len(cases) else array
            return np.asarray(chosen, dtype=np.longdouble)

        return Chunk(
            wide(self.log_odds),
            wide(self.log_escape),
            wide(self.link),
            wide(self.leak),
            wide(self.likelihood),
            wide(self.context_log_odds),
            wide(self.context_prior),
            self.requires,
        )

    @property
    def n_context(self) -> int:
        """C."""
        return int(self.context_log_odds.shape[1])

    def entry(self, variable: int, hand: tuple[int, ...]) -> Floats:
        """Weights (..., 2, n) with which a variable becomes the last axis: leak of a finding, frequency of context."""
        if variable >= self.n_context:
            p = self.leak[variable - self.n_context]
            return _aligned(np.stack([1.0 - p, p]), len(hand))
        p = self.context_prior[variable]
        weight = np.stack([1.0 - p, p])
        parent = self.requires[variable]
        if parent not in hand:
            return _aligned(weight, len(hand))
        position = hand.index(parent)
        impossible = np.broadcast_to(np.array([[1.0], [0.0]]), weight.shape)
        both = np.stack([_aligned(impossible, len(hand) - 1), _aligned(weight, len(hand) - 1)])
        return np.moveaxis(both, 0, position)

    def exit(self, variable: int) -> Floats | None:
        """Weights (2, n) with which a variable is summed out: likelihood of a finding; None for context."""
        return self.likelihood[:, variable - self.n_context] if variable >= self.n_context else None


@dataclass(frozen=True)
class Marginals:
    """Results of a chunk, already divided by the probability of the evidence."""

    cause: Floats  # (K, n)
    none: Floats  # (n,)
    log_evidence: Floats  # (n,) without the leaks of absent findings
    context: dict[int, Floats]  # unknown variable -> (n,)
    doubtful: NDArray[np.bool_]  # (n,) evidence so improbable that states may have vanished below the smallest float


def solve(chunk: Chunk, steps: tuple[Step, ...]) -> Marginals:
    """Run the forward and the adjoint recursion.

    A case whose evidence is impossible gets log_evidence -inf and nan everywhere else.
    """
    n_causes, n = chunk.log_escape.shape
    state = np.ones(n, dtype=chunk.leak.dtype)
    # The part of the state in which every cause so far is absent; the bits are axes of length 1 in it.
    bare = np.ones_like(state)
    log_scale = np.zeros_like(state)
    log_present = np.zeros_like(state)
    before: list[Floats] = []
    terms: list[_Cause | Floats] = []
    for step in steps:
        before.append(state)
        if step.action == "absorb":
            cause = _Cause.of(chunk, step)
            terms.append(cause)
            state, bare = cause.forward(state), bare * cause.absent_alone
            log_scale += cause.log_scale
        elif step.action == "introduce":
            weight = chunk.entry(step.index, step.hand)
            terms.append(weight)
            state = state[..., None, :] * weight
            likelihood = chunk.exit(step.index)
            alone = weight if likelihood is None else (weight * likelihood).sum(axis=-2, keepdims=True)
            bare = bare[..., None, :] * alone
        else:
            axis = step.hand.index(step.index)
            exit_weight = chunk.exit(step.index)
            if exit_weight is not None:
                state = state * _on_axis(exit_weight, axis, len(step.hand))
            state, bare = state.sum(axis=axis), bare.sum(axis=axis)
            total = state.reshape(-1, n).sum(axis=0)
            total[total == 0.0] = 1.0
            state, bare = state / total, bare / total
            log_present += np.log(total)
            with np.errstate(over="ignore"):
                terms.append(1.0 / total if exit_weight is None else exit_weight / total)

    # Everything is summed out: the state is the probability of the evidence, relative to the scale.
    possible = state > 0.0
    scale = np.where(possible, state, np.nan)
    cause_marginal = np.empty((n_causes, n))
    context_marginal: dict[int, Floats] = {}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        adjoint = 1.0 / scale
        for step, previous, term in zip(reversed(steps), reversed(before), reversed(terms), strict=True):
            if isinstance(term, _Cause):
                cause_marginal[step.index], adjoint = term.backward(previous, adjoint)
            elif step.action == "introduce":
                if step.index < chunk.n_context:
                    context_marginal[step.index] = _inner(previous * term[..., 1, :], adjoint[..., 1, :])
                adjoint = (adjoint * term).sum(axis=-2)
            else:
                axis = step.hand.index(step.index)
                weight = term if term.ndim == 1 else _on_axis(term, axis, len(step.hand))
                adjoint = np.broadcast_to(np.expand_dims(adjoint, axis) * weight, previous.shape)
        cause_marginal[:, ~possible] = np.nan
        log_present += np.log(state)
        return Marginals(cause_marginal, bare / scale, log_present + log_scale, context_marginal, log_present < DOUBT)


@dataclass(frozen=True)
class _Cause:
    """One cause: its probabilities given the absent findings, over the context in hand, and its links."""

    absent: Floats  # a, one axis for each variable in hand (length 2 where it matters, else 1), then n
    present: Floats  # b
    weight: Floats | None  # P(absent findings | context) relative to its largest value; None when it is 1
    absent_alone: Floats  # (1 - prior) on the same scale
    log_scale: Floats  # (n,)
    links: list[tuple[int, Floats]]  # (axis of a bit in hand, w (n,)) of the findings that the cause is linked to

    @classmethod
    def of(cls, chunk: Chunk, step: Step) -> _Cause:
        k, n = step.index, chunk.log_escape.shape[1]
        log_odds = chunk.log_odds[k].reshape((1,) * len(step.hand) + (n,))
        links = []
        for axis, variable in enumerate(step.hand):
            if variable >= chunk.n_context:
                w = chunk.link[k, variable - chunk.n_context]
                if w.any():
                    links.append((axis, w))
            elif chunk.context_log_odds[k, variable].any():
                effect = chunk.context_log_odds[k, variable]
                effect = np.stack([np.zeros_like(effect), effect])
                log_odds = log_odds + _on_axis(effect, axis, len(step.hand))
        # Logarithms: the absent findings can make a cause improbable beyond the range of a double.
        log_absent = -np.logaddexp(0.0, log_odds)
        log_present = chunk.log_escape[k] - np.logaddexp(0.0, -log_odds)
        log_total = np.logaddexp(log_absent, log_present)
        largest = log_total.reshape(-1, n).max(axis=0)
        impossible = np.isneginf(largest)
        unit = np.where(impossible, 0.0, largest)
        safe = np.where(np.isneginf(log_total), 0.0, log_total)
        weight = np.exp(log_total - unit) if log_total.size > n or impossible.any() else None
        absent, present = np.exp(log_absent - safe), np.exp(log_present - safe)
        return cls(absent, present, weight, np.exp(log_absent - unit), unit, links)

    def forward(self, state: Floats) -> Floats:
        if self.links:
            explained = state.copy()
            for axis, w in self.links:
                low, high = _halves(explained, axis)
                high += low * w
                low *= 1.0 - w
            state = self.absent * state + self.present * explained
        return state if self.weight is None else state * self.weight

    def backward(self, previous: Floats, adjoint: Floats) -> tuple[Floats, Floats]:
        """P(cause = 1 | evidence) (n,) and the adjoint before this step."""
        if self.weight is None and not self.links:
            # Nothing observed depends on the cause beyond its absent findings.
            return self.present.reshape(-1), adjoint
        if self.weight is not None:
            adjoint = adjoint * self.weight
        explained = adjoint
        if self.links:
            explained = adjoint.copy()
            for axis, w in self.links:
                low, high = _halves(explained, axis)
                low *= 1.0 - w
                low += high * w
        caused = self.present * explained
        marginal = _inner(previous, caused)
        return marginal, (self.absent * adjoint + caused if self.links else adjoint)


def _aligned(weight: Floats, n_axes: int) -> Floats:
    """(2, n) -> (1, ..., 1, 2, n) with that many axes of length 1 before."""
    return weight.reshape((1,) * n_axes + weight.shape)


def _on_axis(weight: Floats, axis: int, n_axes: int) -> Floats:
    """(2, n) -> n_axes axes of which one has length 2, then n."""
    shape = [1] * n_axes + [weight.shape[1]]
    shape[axis] = 2
    return weight.reshape(shape)


def _halves(table: Floats, axis: int) -> tuple[Floats, Floats]:
    """Views of the parts where the variable of an axis is 0 and 1."""
    swapped = table.swapaxes(0, axis)
    return swapped[0], swapped[1]


def _inner(left: Floats, right: Floats) -> Floats:
    product = left * right
    return np.asarray(product.reshape(-1, product.shape[-1]).sum(axis=0))


def expit(x: Floats) -> Floats:
    """Logistic function without overflow, relative error of a few ulp on both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, e) / (1.0 + e)
