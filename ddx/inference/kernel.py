"""The arithmetic of ``recursion`` as machine code: the same operations in the same order, so the same bits.

Here ``lanes`` cases that share a program go through it together, side by side in every array, so that one instruction of the
processor serves several; a large state is a lane by itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ddx.inference.kernel_base import STEP, U, compile_function, load, store
from ddx.inference.kernel_state import (
    bring_back,
    copy,
    entry,
    fold,
    inner,
    links,
    mix,
    scale,
    sum_out,
    weigh,
)
from ddx.inference.kernel_wide import meet
from ddx.inference.network import Floats, Ints
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, SUM_OUT, Program
from ddx.inference.recursion import SMALLEST_SHIFT


class Block(NamedTuple):
    """``recursion.Block`` as flat arrays, the lane the fastest axis."""

    absent: Floats
    present: Floats
    link: Floats
    escape: Floats  # 1 - link
    entry: Floats
    leave: Floats
    factor: Floats


class Slopes(NamedTuple):
    """Derivatives in ``recursion.Slopes``, likewise."""

    present: Floats
    marginal: Floats
    absent: Floats
    link: Floats
    entry: Floats
    factor: Floats


class Workspace(NamedTuple):
    """Room for the states of one group of lanes."""

    checkpoint: Floats
    store: Floats
    state: Floats
    work: Floats
    other: Floats
    spread: Floats  # this and the next for all derivatives only
    again: Floats
    scale: Floats  # (S * lanes,)


@compile_function
def room(program: Program, lanes: int, full: bool) -> Workspace:
    """Uninitialized."""
    widest = program.size[2] * lanes
    extra = widest if full else 0
    return Workspace(
        np.empty(program.size[0] * lanes),
        np.empty((program.size[1] + 1) * lanes),  # the last state too
        np.empty(widest),
        np.empty(widest),
        np.empty(widest),
        np.empty(extra),
        np.empty(extra),
        np.empty(max(1, len(program.action)) * lanes),
    )


@compile_function
def _forward(program: Program, s: int, lanes: int, block: Block, before: Floats, after: Floats) -> None:
    """The state after step s, not yet scaled."""
    absent, present, link, escape, entry, leave, factor = block
    action, subject, width = program.action[s], program.subject[s], program.width[s]
    size = 1 << width
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    if action == ABSORB:
        links(False, program, s, program.bit_first[s] - 1, lanes, link, escape, before, after)
        mix(size, lanes, shifts, program.table[s], absent, present, before, after, after)
    elif action == OBSERVE:
        weigh(size, lanes, shifts, program.table[s], factor, before, after)
    elif action == INTRODUCE:
        shift, n, first = program.shift[s], U(lanes), U(subject) * U(lanes)
        for i in range(U(size)):
            possible = shift < 0 or (i >> U(shift)) & U(1)
            for lane in range(n):
                high = entry[first + lane] if possible else 0.0
                x, e = before[i * n + lane], U(2) * i * n + lane
                after[e + n] = x * high
                after[e] = x * (1.0 - high)
    else:
        sum_out(size, program.shift[s], lanes, leave, subject, before, after)


@compile_function
def _link_slopes(
    program: Program, s: int, lanes: int, block: Block, before: Floats, adjoint: Floats, space: Workspace, d_link: Floats
) -> None:
    """Derivatives to the links of a cause; see ``recursion``."""
    present, link, escape = block.present, block.link, block.escape
    size = 1 << program.width[s]
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    other, spread, again = space.other, space.spread, space.again
    inverse = np.empty(lanes)
    links(False, program, s, program.bit_first[s] - 1, lanes, link, escape, before, spread)
    for b in range(program.bit_first[s], program.bit_first[s + 1]):
        half, first = 1 << program.bit_shift[b], program.bit_link[b] * lanes
        certain = False
        for lane in range(lanes):
            certain = certain or link[first + lane] == 1.0
        if certain:
            links(False, program, s, b, lanes, link, escape, before, again)
        for lane in range(lanes):
            inverse[lane] = 1.0 / escape[first + lane]
        o, n = U(0), U(lanes)
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                c, e = U(program.table[s] + entry(i, shifts)) * n, U(i) * n
                up = e + U(half) * n
                if lanes > 1 and not certain:
                    for k in range(U(0), n, STEP):
                        others = load(spread, e + k) * load(inverse, k)
                        change = load(adjoint, up + k) - load(adjoint, e + k)
                        store(other, o + k, load(present, c + k) * others * change)
                else:
                    for lane in range(n):
                        left = again[e + lane] if link[first + lane] == 1.0 else spread[e + lane] * inverse[lane]
                        other[o + lane] = present[c + lane] * left * (adjoint[up + lane] - adjoint[e + lane])
                o += n
        fold(other, size // 2, lanes)
        copy(other, 0, d_link, first, lanes)


@compile_function
def _backward(
    program: Program,
    s: int,
    lanes: int,
    block: Block,
    before: Floats,
    base: Floats,
    adjoint: Floats,
    space: Workspace,
    slopes: Slopes,
    full: bool,
) -> None:
    """The adjoint before step s, in place."""
    absent, present, link, escape, entry, leave, factor = block
    work, other = space.work, space.other
    action, subject, width = program.action[s], program.subject[s], program.width[s]
    size = 1 << width
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    table = program.table[s]
    if action == ABSORB:
        links(True, program, s, program.bit_first[s] - 1, lanes, link, escape, adjoint, work)
        if full:
            inner(before, adjoint, other, width, shifts, slopes.absent, table, lanes)
            _link_slopes(program, s, lanes, block, before, adjoint, space, slopes.link)
        if lanes > 1 and size > 1 and len(shifts) == 0:
            meet(size, lanes, table, absent, present, base, 0, work, adjoint, other)
            fold(other, size // 2, lanes)
            copy(other, 0, slopes.present, table * lanes, lanes)
        else:
            inner(base, work, other, width, shifts, slopes.present, table, lanes)
            mix(size, lanes, shifts, table, absent, present, adjoint, work, adjoint)
    elif action == OBSERVE:
        if full:
            inner(before, adjoint, other, width, shifts, slopes.factor, table, lanes)
        weigh(size, lanes, shifts, table, factor, adjoint, adjoint)
    elif action == INTRODUCE:
        shift = program.shift[s]
        if full:
            o = 0
            for i in range(size):
                if shift < 0 or (i >> shift) & 1:
                    for lane in range(lanes):
                        low = 2 * i * lanes + lane
                        other[o] = before[i * lanes + lane] * (adjoint[low + lanes] - adjoint[low])
                        o += 1
            fold(other, o // lanes, lanes)
            copy(other, 0, slopes.entry, subject * lanes, lanes)
        for i in range(size):
            possible = shift < 0 or (i >> shift) & 1
            for lane in range(lanes):
                high = entry[subject * lanes + lane] if possible else 0.0
                low = 2 * i * lanes + lane
                adjoint[i * lanes + lane] = adjoint[low] * (1.0 - high) + adjoint[low + lanes] * high
    else:
        copy(adjoint, 0, work, 0, size // 2 * lanes)
        bring_back(size, program.shift[s], lanes, leave, subject, work, before, adjoint, other)
        fold(other, size // 2, lanes)
        copy(other, 0, slopes.marginal, subject * lanes, lanes)


@compile_function
def solve(
    program: Program, lanes: int, block: Block, space: Workspace, full: bool, mantissa: Floats, exponent: Ints, slopes: Slopes
) -> None:
    """Some cases, one a lane; the last three arguments are filled."""
    checkpoint, store, state = space.checkpoint, space.store, space.state
    n_segments = len(program.segment_first) - 1
    n_steps = len(program.action)
    before = state if n_segments > 1 or n_steps == 0 else store
    for lane in range(lanes):
        before[lane], exponent[lane] = 1.0, 0
    kept = 0
    for segment in range(n_segments):
        for s in range(program.segment_first[segment], program.segment_first[segment + 1]):
            size = lanes << program.width[s]
            if n_segments > 1:
                if s == program.segment_first[segment]:
                    copy(state, 0, checkpoint, kept, size)
                    kept += size
                before, after = space.other, state
                copy(state, 0, before, 0, size)
            else:
                before = store[program.offset[s] * lanes : program.offset[s] * lanes + size]
                after = store[program.offset[s + 1] * lanes :] if s + 1 < n_steps else state
            _forward(program, s, lanes, block, before, after)
            if program.action[s] == SUM_OUT:
                copy(after, 0, space.work, 0, size // 2)
                fold(space.work, size // 2 // lanes, lanes)
                factors = space.scale[s * lanes : (s + 1) * lanes]
                for lane in range(lanes):
                    shift = max(math.frexp(space.work[lane])[1], SMALLEST_SHIFT)
                    factors[lane] = math.ldexp(1.0, -shift)
                    exponent[lane] += shift
                scale(after, size // 2 // lanes, lanes, factors)
    adjoint = state
    copy(state, 0, mantissa, 0, lanes)
    for lane in range(lanes):
        adjoint[lane] = 1.0 / state[lane]
    for segment in range(n_segments - 1, -1, -1):
        start, stop = program.segment_first[segment], program.segment_first[segment + 1]
        if n_segments > 1:
            size = lanes << program.width[start]
            kept -= size
            copy(checkpoint, kept, store, 0, size)
            for s in range(start, stop - 1):
                here, there = program.offset[s] * lanes, program.offset[s + 1] * lanes
                _forward(program, s, lanes, block, store[here : here + (lanes << program.width[s])], store[there:])
                if program.action[s] == SUM_OUT:
                    scale(store[there:], 1 << program.width[s + 1], lanes, space.scale[s * lanes : (s + 1) * lanes])
        for s in range(stop - 1, start - 1, -1):
            size = lanes << program.width[s]
            if program.action[s] == SUM_OUT:
                scale(adjoint, size // 2 // lanes, lanes, space.scale[s * lanes : (s + 1) * lanes])
            before = store[program.offset[s] * lanes : program.offset[s] * lanes + size]
            b = s if full else program.since[s]
            base = store[program.offset[b] * lanes : program.offset[b] * lanes + size]
            _backward(program, s, lanes, block, before, base, adjoint, space, slopes, full)
