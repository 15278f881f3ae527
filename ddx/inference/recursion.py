"""The non-negative recursion over causes: exact marginals of a noisy-OR network, vectorized over cases.

The state of a case is a distribution over the subsets of its present and uncertain findings that are explained so far. It
starts from the leaks, every cause is one step, and an adjoint recursion from the likelihoods gives all marginals. With
a = P(cause absent | absent findings), b = 1 - a and w the links of the cause,

    phi' = a phi + b T phi,     T = outer over findings of [[1 - w, 0], [w, 1]]

which has the columns of a Markov kernel: phi stays a distribution and no term is ever subtracted. This is the forward-backward
form of the noisy-OR decomposition of D'Ambrosio (1994, eq. 4) and Takikawa and D'Ambrosio (1999, section 3); Heckerman's
Quickscore (1989, eq. 11) computes the same sums with alternating signs.

Shapes: n cases of a chunk, m present or uncertain findings, S = 2**m subsets, K causes, and one axis of length 2 for every
unknown context variable in hand. The case axis comes last: (S, 2, ..., 2, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddx.inference.network import Floats
from ddx.inference.plan import Step


@dataclass(frozen=True)
class Chunk:
    """What the recursion needs of n cases that share m and the set of unknown context variables."""

    log_odds: Floats  # (K, n) prior log odds, observed context included
    escape: Floats  # (K, n) P(no observed-absent finding is caused | cause)
    link: Floats  # (K, m, n)
    leak: Floats  # (m, n)
    likelihood: Floats  # (2, m, n) of the finding being absent, present
    context_log_odds: Floats  # (K, C)
    context_prior: Floats  # (C, n)
    requires: tuple[int, ...]  # C


@dataclass(frozen=True)
class Marginals:
    """Joint results of a chunk, already divided by the probability of the evidence."""

    cause: Floats  # (K, n)
    none: Floats  # (n,)
    log_evidence: Floats  # (n,) without the leaks of absent findings
    context: dict[int, Floats]  # unknown variable -> (n,)


def solve(chunk: Chunk, steps: tuple[Step, ...]) -> Marginals:
    """Run the forward and the adjoint recursion.

    A case whose evidence is impossible gets log_evidence -inf and nan everywhere else.
    """
    n_causes, m, n = chunk.link.shape
    start = _outer(1.0 - chunk.leak, chunk.leak)
    target = _outer(chunk.likelihood[0], chunk.likelihood[1])
    log_scale = np.zeros(n)
    state, unexplained = start, np.ones((1, n))
    before: list[Floats] = []
    terms: list[_Terms | Floats] = []
    for step in steps:
        before.append(state)
        if step.action == "absorb":
            cause = _Terms.of(chunk, step)
            terms.append(cause)
            state = cause.forward(state)
            unexplained = unexplained * cause.absent_alone
            log_scale += cause.log_scale
        elif step.action == "introduce":
            weight = _context_weight(chunk, step)
            terms.append(weight)
            state = state[..., None, :] * weight
            unexplained = unexplained[..., None, :] * weight
        else:
            axis = 1 + step.hand.index(step.index)
            state, unexplained = state.sum(axis=axis), unexplained.sum(axis=axis)
            total = state.reshape(-1, n).sum(axis=0)
            total[total == 0.0] = 1.0
            terms.append(total)
            state, unexplained = state / total, unexplained / total
            log_scale += np.log(total)

    evidence = _inner(state, target)
    possible = evidence > 0.0
    scale = np.where(possible, evidence, np.nan)
    cause_marginal = np.empty((n_causes, n))
    context_marginal: dict[int, Floats] = {}
    adjoint = target / scale
    for step, previous, term in zip(reversed(steps), reversed(before), reversed(terms), strict=True):
        if isinstance(term, _Terms):
            cause_marginal[step.index], adjoint = term.backward(previous, adjoint)
        elif step.action == "introduce":
            context_marginal[step.index] = _inner(previous * term[..., 1, :], adjoint[..., 1, :])
            adjoint = (adjoint * term).sum(axis=-2)
        else:
            axis = 1 + step.hand.index(step.index)
            adjoint = np.broadcast_to(np.expand_dims(adjoint / term, axis), previous.shape)
    cause_marginal[:, ~possible] = np.nan
    none = unexplained.reshape(-1, n).sum(axis=0) * _inner(start, target) / scale
    with np.errstate(divide="ignore"):
        log_evidence = np.log(evidence) + log_scale
    return Marginals(cause_marginal, none, log_evidence, context_marginal)


@dataclass(frozen=True)
class _Terms:
    """One cause: its probabilities given the absent findings, over the context in hand, and its links."""

    absent: Floats  # a, shape (1, 2 or 1, ..., n)
    present: Floats  # b
    weight: Floats | None  # P(absent findings | context) relative to its largest value; None when it is 1
    absent_alone: Floats  # (1 - prior) on the same scale
    log_scale: Floats  # (n,)
    links: list[tuple[int, Floats]]  # (bit, w (n,)) of the findings that the cause is linked to

    @classmethod
    def of(cls, chunk: Chunk, step: Step) -> _Terms:
        k, n = step.index, chunk.escape.shape[1]
        log_odds = chunk.log_odds[k].reshape((1,) * (1 + len(step.hand)) + (n,))
        for position, variable in enumerate(step.hand):
            effect = chunk.context_log_odds[k, variable]
            if effect != 0.0:
                shape = [1] * (2 + len(step.hand))
                shape[1 + position] = 2
                log_odds = log_odds + np.array([0.0, effect]).reshape(shape)
        prior, no_prior = expit(log_odds), expit(-log_odds)
        joint = prior * chunk.escape[k]
        total = no_prior + joint
        largest = total.reshape(-1, n).max(axis=0)
        safe = np.where(total > 0.0, total, 1.0)
        unit = np.where(largest > 0.0, largest, 1.0)
        weight = total / unit if total.size > n or not largest.all() else None
        links = [(r, chunk.link[k, r]) for r in range(chunk.link.shape[1]) if chunk.link[k, r].any()]
        return cls(no_prior / safe, joint / safe, weight, (no_prior / unit)[0], np.log(unit), links)

    def forward(self, state: Floats) -> Floats:
        if self.links:
            explained = np.array(state, order="C")
            for bit, w in self.links:
                low, high = _split(explained, bit)
                high += low * w
                low *= 1.0 - w
            state = self.absent * state + self.present * explained
        return state if self.weight is None else state * self.weight

    def backward(self, previous: Floats, adjoint: Floats) -> tuple[Floats, Floats]:
        """P(cause = 1 | evidence) (n,) and the adjoint before this step."""
        if self.weight is None and not self.links:
            return self.present[0], adjoint
        if self.weight is not None:
            adjoint = adjoint * self.weight
        explained = adjoint
        if self.links:
            explained = np.array(adjoint, order="C")
            for bit, w in self.links:
                low, high = _split(explained, bit)
                low *= 1.0 - w
                low += high * w
        caused = self.present * explained
        marginal = _inner(previous, caused)
        return marginal, (self.absent * adjoint + caused if self.links else adjoint)


def _context_weight(chunk: Chunk, step: Step) -> Floats:
    """P(variable = 0, 1 | the variable it requires), shape (1, ..., 2, n), the axis of the variable second to last."""
    p = chunk.context_prior[step.index]
    weight = np.stack([1.0 - p, p])
    parent = chunk.requires[step.index]
    shape = [1] * (1 + len(step.hand)) + list(weight.shape)
    if parent not in step.hand:
        return weight.reshape(shape)
    position = 1 + step.hand.index(parent)
    impossible = np.broadcast_to(np.array([1.0, 0.0])[:, None], weight.shape)
    return np.stack([impossible.reshape(shape), weight.reshape(shape)], axis=position).squeeze(axis=position + 1)


def _outer(low: Floats, high: Floats) -> Floats:
    """Product over findings: (m, n) values for absent and present -> (2**m, n), finding r in bit r."""
    m, n = low.shape
    table = np.ones((1, n))
    for r in range(m):
        table = np.concatenate([table * low[r], table * high[r]])
    return table


def _split(table: Floats, bit: int) -> tuple[Floats, Floats]:
    """Views of the halves where the bit is 0 and 1."""
    pairs = table.reshape(table.shape[0] >> (bit + 1), 2, 1 << bit, *table.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _inner(left: Floats, right: Floats) -> Floats:
    product = left * right
    return np.asarray(product.reshape(-1, product.shape[-1]).sum(axis=0))


def expit(x: Floats) -> Floats:
    """Logistic function without overflow, relative error of a few ulp on both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, e) / (1.0 + e)
