"""The non-negative recursion over causes: exact evidence and all its derivatives, vectorized over cases that share a program.

The state of a case is a distribution over its slots in hand: which of its present and uncertain findings (and syndromes) are
explained so far, and unknown context. It starts from the leaks, every cause is one step, and the adjoint recursion from the
likelihoods gives the derivative of the evidence to every number that went in. With a = P(cause absent, absent findings), b =
P(cause present, absent findings) and w the links of the cause,

    phi' = a phi + b T phi,     T = outer over findings of [[1 - w, 0], [w, 1]]

whose columns are those of a Markov kernel: no term is ever subtracted. This is the forward-backward form of the noisy-OR
decomposition of D'Ambrosio (1994) and Takikawa and D'Ambrosio (1999); Heckerman's Quickscore (1989) computes the same sums
with alternating signs. Derivatives by one inward and one outward pass: Darwiche (2003), Kjaerulff and van der Gaag (2000).

This is the readable definition. ``kernel`` compiles the same operations in the same order, and gives the same bits: here and
there only sums, products and exact scalings by powers of two, and sums over a state fold its slower half on its faster one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddx.inference.network import Floats, Ints
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, SUM_OUT, Program

# The largest power of two that a state is scaled up by at once: its inverse is still a normal number.
SMALLEST_SHIFT = -1000


@dataclass(frozen=True, eq=False)
class Block:
    """Numbers of n cases that share a program with V slots, B bit links, E entries in the tables of causes, T in factors."""

    absent: Floats  # (E, n) P(cause absent, its absent findings | context of the entry), on a scale of its own
    present: Floats  # (E, n) the same for the cause present
    link: Floats  # (B, n)
    entry: Floats  # (V, n) P(slot = 1) when it enters: leak, or frequency of the context variable
    leave: Floats  # (2, V, n) weights of the slot being 0, 1 when it is summed out: likelihoods
    factor: Floats  # (T, n) likelihood of a finding for every combination of its parents


@dataclass(frozen=True, eq=False)
class Slopes:
    """P(evidence) = mantissa * 2**exponent of a block, and the derivatives of its logarithm."""

    mantissa: Floats  # (n,)
    exponent: Ints  # (n,)
    present: Floats  # (E, n) to ``Block.present``; 1 for causes that no step absorbs
    marginal: Floats  # (V, n) P(slot = 1 | evidence)
    absent: Floats  # (E, n) likewise; this and the rest are empty unless asked for
    link: Floats  # (B, n)
    entry: Floats  # (V, n)
    factor: Floats  # (T, n)


def solve(program: Program, block: Block, full: bool = False) -> Slopes:
    """Run the forward and the adjoint recursion; ``full``: all derivatives.

    Impossible cases have mantissa 0 and nan elsewhere.
    """
    n = block.absent.shape[1]
    state = np.ones((1, n), dtype=block.absent.dtype)
    exponent = np.zeros(n, dtype=np.intp)
    segments = list(zip(program.segment_first[:-1].tolist(), program.segment_first[1:].tolist(), strict=True))
    checkpoints: list[Floats] = []
    scale = [np.ones(n, dtype=state.dtype)] * len(program.action)
    for first, last in segments:
        checkpoints.append(state)
        for s in range(first, last):
            state = _forward(program, block, s, state)
            if program.action[s] == SUM_OUT:
                shift = np.maximum(np.frexp(_fold(state))[1], SMALLEST_SHIFT).astype(np.intp)
                scale[s] = np.ldexp(scale[s], -shift)
                exponent += shift
                state = state * scale[s]
    mantissa = state[0]

    def empty(like: Floats) -> Floats:
        return np.ones_like(like) if full else like[:0]

    slopes = Slopes(
        mantissa,
        exponent,
        np.ones_like(block.present),
        np.zeros_like(block.entry),
        *(empty(a) for a in (block.absent, block.link, block.entry, block.factor)),
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        adjoint = 1.0 / state
        for (first, last), checkpoint in zip(reversed(segments), reversed(checkpoints), strict=True):
            before = [checkpoint]
            for s in range(first, last - 1):
                before.append(_forward(program, block, s, before[-1]) * scale[s])
            for s in range(last - 1, first - 1, -1):
                base = before[(s if full else int(program.since[s])) - first]
                adjoint = _backward(program, block, s, before[s - first], base, adjoint * scale[s], slopes, full)
    return slopes


def _forward(program: Program, block: Block, s: int, state: Floats) -> Floats:
    """The state after step s, not yet scaled."""
    action, subject = program.action[s], program.subject[s]
    if action == ABSORB:
        rows = program.table[s] + _entries(program, s)
        return np.asarray(block.absent[rows] * state + block.present[rows] * _spread(program, block, s, state.copy()))
    if action == OBSERVE:
        return np.asarray(state * block.factor[program.table[s] + _entries(program, s)])
    if action == INTRODUCE:
        high = _entry(program, block, s)
        return np.stack([state * (1.0 - high), state * high], axis=1).reshape(-1, state.shape[1])
    halves = _halves(state, program.shift[s])
    return np.asarray(
        (halves[:, 0] * block.leave[0, subject] + halves[:, 1] * block.leave[1, subject]).reshape(-1, state.shape[1])
    )


def _backward(
    program: Program, block: Block, s: int, before: Floats, base: Floats, adjoint: Floats, slopes: Slopes, full: bool
) -> Floats:
    """The adjoint before step s; derivatives to the numbers of the step are put into ``slopes``.

    ``base``: the state before the first form of the cause; without ``full``, slopes to ``present`` are those of P(evidence)
    with all earlier forms absent.
    """
    action, subject = program.action[s], program.subject[s]
    if action == ABSORB:
        start, axes = program.table[s], program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
        rows = start + _entries(program, s)
        caused = adjoint.copy()
        for i in range(program.bit_first[s], program.bit_first[s + 1]):
            halves = _halves(caused, program.bit_shift[i])
            w = block.link[program.bit_link[i]]
            halves[:, 0] = halves[:, 0] * (1.0 - w) + halves[:, 1] * w
        slopes.present[start : start + (1 << len(axes))] = _fold_to_table(base * caused, axes)
        present = block.present[rows]
        if full:
            slopes.absent[start : start + (1 << len(axes))] = _fold_to_table(before * adjoint, axes)
            spread = _spread(program, block, s, before.copy())
            for i in range(program.bit_first[s], program.bit_first[s + 1]):
                slopes.link[program.bit_link[i]] = _link_slope(program, block, s, i, before, spread, present, adjoint)
        return np.asarray(block.absent[rows] * adjoint + present * caused)
    if action == OBSERVE:
        start, axes = program.table[s], program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
        if full:
            slopes.factor[start : start + (1 << len(axes))] = _fold_to_table(before * adjoint, axes)
        return np.asarray(adjoint * block.factor[start + _entries(program, s)])
    if action == INTRODUCE:
        halves = adjoint.reshape(-1, 2, adjoint.shape[1])
        high = _entry(program, block, s)
        if full:
            change = before * (halves[:, 1] - halves[:, 0])
            if program.shift[s] >= 0:
                change = _halves(change, program.shift[s])[:, 1].reshape(-1, change.shape[1])
            slopes.entry[subject] = _fold(change)
        return halves[:, 0] * (1.0 - high) + halves[:, 1] * high
    spread = adjoint.reshape(-1, 1 << int(program.shift[s]), adjoint.shape[1])
    after = np.stack([spread * block.leave[0, subject], spread * block.leave[1, subject]], axis=1)
    halves = _halves(before, program.shift[s])
    slopes.marginal[subject] = _fold((halves[:, 1] * after[:, 1]).reshape(-1, adjoint.shape[1]))
    return after.reshape(before.shape)


def _spread(program: Program, block: Block, s: int, state: Floats) -> Floats:
    """T phi, in place."""
    for i in range(program.bit_first[s], program.bit_first[s + 1]):
        halves = _halves(state, program.bit_shift[i])
        w = block.link[program.bit_link[i]]
        halves[:, 1] += halves[:, 0] * w
        halves[:, 0] *= 1.0 - w
    return state


def _link_slope(
    program: Program, block: Block, s: int, i: int, before: Floats, spread: Floats, present: Floats, adjoint: Floats
) -> Floats:
    """<b d T phi / d w, psi>: the bit goes from 0 to 1, after the other links of the cause have had their say.

    T phi has the factor 1 - w where the bit is 0, so dividing undoes this one link; a link of 1 needs the others anew.
    """
    w = block.link[program.bit_link[i]]
    with np.errstate(invalid="ignore", divide="ignore"):
        others = _halves(spread, program.bit_shift[i])[:, 0] * (1.0 / (1.0 - w))
    certain = w == 1.0
    if certain.any():
        again = before.copy()
        for other in range(program.bit_first[s], program.bit_first[s + 1]):
            if other != i:
                halves = _halves(again, program.bit_shift[other])
                v = block.link[program.bit_link[other]]
                halves[:, 1] += halves[:, 0] * v
                halves[:, 0] *= 1.0 - v
        others = np.where(certain, _halves(again, program.bit_shift[i])[:, 0], others)
    psi = _halves(adjoint, program.bit_shift[i])
    b = _halves(np.broadcast_to(present, before.shape), program.bit_shift[i])[:, 0]
    return _fold((b * others * (psi[:, 1] - psi[:, 0])).reshape(-1, before.shape[1]))


def _entry(program: Program, block: Block, s: int) -> Floats:
    """P(slot = 1) (1 or size, n) when it enters; zero where the context variable that it requires is 0."""
    high = block.entry[program.subject[s]][None]
    if program.shift[s] < 0:
        return np.asarray(high)
    parent = (np.arange(1 << program.width[s]) >> program.shift[s]) & 1
    return np.where(parent[:, None] == 1, high, 0.0)


def _entries(program: Program, s: int) -> Ints:
    """Which entry of the step's table belongs to every element of the state: (size,), or (1,) if there is but one."""
    axes = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    if not len(axes):
        return np.zeros(1, dtype=np.intp)
    element = np.arange(1 << program.width[s])
    return np.asarray(sum(((element >> shift) & 1) << j for j, shift in enumerate(axes)), dtype=np.intp)


def _halves(state: Floats, shift: int) -> Any:
    """A view (blocks, 2, 2**shift, n) of a state (size, n) by the value of one slot."""
    return state.reshape(-1, 2, 1 << int(shift), state.shape[1])


def _fold(values: Floats) -> Floats:
    """(size, n) -> (n,), adding halves."""
    while len(values) > 1:
        half = len(values) // 2
        values = values[:half] + values[half:]
    return np.asarray(values[0])


def _fold_to_table(values: Floats, axes: Ints) -> Floats:
    """Sum (size, n) over all slots but those of a table, slowest first: (2**axes, n), the table's order."""
    keep: list[int] = axes.tolist()
    for shift in range(len(values).bit_length() - 2, -1, -1):
        if shift not in keep:
            halves = _halves(values, shift)
            values = (halves[:, 0] + halves[:, 1]).reshape(-1, values.shape[1])
            keep = [k - 1 if k > shift else k for k in keep]
            axes = np.where(axes > shift, axes - 1, axes)
    entry = np.arange(1 << len(axes))
    return np.asarray(
        values[np.asarray(sum((((entry >> j) & 1) << shift for j, shift in enumerate(axes)), np.zeros_like(entry)))]
    )
