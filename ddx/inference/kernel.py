"""The arithmetic of ``recursion`` as machine code: the same operations in the same order, so the same bits.

Here ``lanes`` cases that share a program go through it together, side by side in every array, so that one instruction of the
processor serves several; a large state is a lane by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

from ddx.inference.network import Floats, Ints
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, SUM_OUT, Program
from ddx.inference.recursion import SMALLEST_SHIFT

Function = TypeVar("Function", bound=Callable[..., Any])
U = np.uint64
# Logarithm of the doubles that a part of a large state has: 32 KiB.
TILE = 12


def compile_function(function: Function, **names: object) -> Function:
    """Machine code at the first call, kept on disk; without the interpreter's lock. ``names`` replace what it calls."""
    if names:
        function = cast(Function, FunctionType(cast(Any, function).__code__, {**cast(Any, function).__globals__, **names}))
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


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
        np.empty(program.size[1] * lanes),
        np.empty(widest),
        np.empty(widest),
        np.empty(widest),
        np.empty(extra),
        np.empty(extra),
        np.empty(max(1, len(program.action)) * lanes),
    )


@compile_function
def _entries(shifts: Ints, low: Ints) -> None:
    """The entry of a step's table for the first elements of a state; see ``_entry``."""
    for i in range(len(low)):
        c = 0
        for j in range(shifts.shape[0]):
            c |= ((i >> shifts[j]) & 1) << j
        low[i] = c


@compile_function
def _entry(i: int, shifts: Ints) -> int:
    """The entry of a table that belongs to element i of a state: of a multiple of len(low), to which ``low`` adds the rest."""
    c = 0
    for j in range(shifts.shape[0]):
        c |= ((i >> shifts[j]) & 1) << j
    return c


@compile_function
def _fold(values: Floats, size: int, lanes: int) -> None:
    """Sum a state into its first element, adding halves."""
    half, n = U(size) * U(lanes) // U(2), U(lanes)
    while half >= n:
        for i in range(half):
            values[i] += values[half + i]
        half //= U(2)


@compile_function
def _fold_to_table(values: Floats, width: int, shifts: Ints, target: Floats, start: int, lanes: int) -> None:
    """Sum a state over all slots but those of a table, slowest first; into ``target`` from entry ``start``."""
    left = width
    for shift in range(width - 1, -1, -1):
        kept = False
        for j in range(shifts.shape[0]):
            kept = kept or shifts[j] == shift
        if not kept:
            run, size = U(lanes) << U(shift), U(lanes) << U(left)
            o = U(0)
            for block in range(U(0), size, run + run):
                for i in range(run):
                    values[o + i] = values[block + i] + values[block + run + i]
                o += run
            left -= 1
    for entry in range(1 << left):
        i = 0
        for j in range(left):
            place = 0
            for other in range(left):
                place += 1 if shifts[other] < shifts[j] else 0
            i |= ((entry >> j) & 1) << place
        _copy(values, i * lanes, target, (start + entry) * lanes, lanes)


@compile_function
def _inner(x: Floats, y: Floats, room: Floats, width: int, shifts: Ints, target: Floats, start: int, lanes: int) -> None:
    """Products of two states, summed by ``_fold_to_table``."""
    size = U(lanes) << U(width)
    if len(shifts) == 0 and width > 0:
        half = size // U(2)
        for i in range(half):
            room[i] = x[i] * y[i] + x[i + half] * y[i + half]
        _fold(room, 1 << (width - 1), lanes)
        _copy(room, 0, target, start * lanes, lanes)
    else:
        for i in range(size):
            room[i] = x[i] * y[i]
        _fold_to_table(room, width, shifts, target, start, lanes)


@compile_function
def _copy(source: Floats, start: int, target: Floats, place: int, n: int) -> None:
    s, t = U(start), U(place)
    for i in range(U(n)):
        target[t + i] = source[s + i]


@compile_function
def _apply(transpose: bool, size: int, shift: int, w: float, v: float, state: Floats, start: int) -> None:
    """One link (v = 1 - w) on a part of a single state, in place: (low, high) to (v low, high + w low), or the transpose.

    Indices without a sign, because then the compiler sees that they do not wrap around and puts several into one instruction.
    """
    half, first = U(1) << U(shift), U(start)
    for block in range(first, first + U(size), half + half):
        if transpose:
            for i in range(block, block + half):
                state[i] = state[i] * v + state[i + half] * w
        else:
            for i in range(block, block + half):
                low = state[i]
                state[i + half] += low * w
                state[i] = low * v


@compile_function
def _apply_tiled(
    transpose: bool, program: Program, first: int, last: int, skip: int, width: int, link: Floats, escape: Floats, state: Floats
) -> None:
    """The links of some bits (fastest first) on a large state: part by part, each small enough for the cache.

    A part holds 2**TILE neighbours, for every combination of the slow bits.
    """
    low = first
    while low < last and program.bit_shift[low] < TILE:
        low += 1
    mask = 0
    for b in range(low, last):
        mask |= 1 << (program.bit_shift[b] - TILE)
    starts = np.empty(1 << (last - low), np.intp)
    for base in range(1 << (width - TILE)):
        if base & mask:
            continue
        for c in range(len(starts)):
            place = base
            for b in range(low, last):
                place |= ((c >> (b - low)) & 1) << (program.bit_shift[b] - TILE)
            starts[c] = place << TILE
            for b in range(first, low):
                if b != skip:
                    i = program.bit_link[b]
                    _apply(transpose, 1 << TILE, program.bit_shift[b], link[i], escape[i], state, starts[c])
        for b in range(low, last):
            if b != skip:
                i = program.bit_link[b]
                w, v = link[i], escape[i]
                for c in range(len(starts)):
                    if (c >> (b - low)) & 1 == 0:
                        x, y = U(starts[c]), U(starts[c | 1 << (b - low)])
                        if transpose:
                            for j in range(U(1 << TILE)):
                                state[x + j] = state[x + j] * v + state[y + j] * w
                        else:
                            for j in range(U(1 << TILE)):
                                value = state[x + j]
                                state[y + j] += value * w
                                state[x + j] = value * v


@compile_function
def _links(
    transpose: bool, program: Program, s: int, skip: int, lanes: int, link: Floats, escape: Floats, state: Floats
) -> None:
    """T of the cause of step s, or its transpose, in place, without the link ``skip``; ``escape`` is 1 - ``link``."""
    width, n = program.width[s], U(lanes)
    first, last = program.bit_first[s], program.bit_first[s + 1]
    if lanes == 1 and width > TILE:
        start = first
        while start < last:
            stop = start
            slow = 0
            while stop < last and slow < 5:
                slow += 1 if program.bit_shift[stop] >= TILE else 0
                stop += 1
            _apply_tiled(transpose, program, start, stop, skip, width, link, escape, state)
            start = stop
        return
    for b in range(first, last):
        i = program.bit_link[b]
        if b == skip:
            continue
        if lanes == 1:
            _apply(transpose, 1 << width, program.bit_shift[b], link[i], escape[i], state, 0)
            continue
        half, f = (U(1) << U(program.bit_shift[b])) * n, U(i) * n
        for block in range(U(0), (U(1) << U(width)) * n, half + half):
            for e in range(block, block + half, n):
                if transpose:
                    for lane in range(n):
                        low = state[e + lane] * escape[f + lane]
                        state[e + lane] = low + state[e + half + lane] * link[f + lane]
                else:
                    for lane in range(n):
                        low = state[e + lane]
                        state[e + half + lane] += low * link[f + lane]
                        state[e + lane] = low * escape[f + lane]


@compile_function
def _mix(
    size: int, lanes: int, shifts: Ints, first: int, absent: Floats, present: Floats, x: Floats, y: Floats, target: Floats
) -> None:
    """A x + b y, with a and b from the tables of a cause."""
    n, start = U(lanes), U(first) * U(lanes)
    if len(shifts) == 0 and lanes == 1:
        a, b = absent[start], present[start]
        for i in range(U(size)):
            target[i] = a * x[i] + b * y[i]
    elif len(shifts) == 0:
        for i in range(U(0), U(size) * n, n):
            for lane in range(n):
                target[i + lane] = absent[start + lane] * x[i + lane] + present[start + lane] * y[i + lane]
    else:
        low = np.empty(min(size, 256), np.intp)
        _entries(shifts, low)
        for block in range(0, size, len(low)):
            base = _entry(block, shifts)
            for i in range(U(len(low))):
                c, e = start + U(base | low[i]) * n, (U(block) + i) * n
                for lane in range(n):
                    target[e + lane] = absent[c + lane] * x[e + lane] + present[c + lane] * y[e + lane]


@compile_function
def _weigh(size: int, lanes: int, shifts: Ints, first: int, factor: Floats, state: Floats) -> None:
    """Multiply a state by the table of a factor."""
    n, start = U(lanes), U(first) * U(lanes)
    low = np.empty(min(size, 256), np.intp)
    _entries(shifts, low)
    for block in range(0, size, len(low)):
        base = _entry(block, shifts)
        for i in range(U(len(low))):
            c, e = start + U(base | low[i]) * n, (U(block) + i) * n
            for lane in range(n):
                state[e + lane] *= factor[c + lane]


@compile_function
def _sum_out(size: int, shift: int, lanes: int, leave: Floats, subject: int, state: Floats) -> None:
    """Sum over both values of a slot, weighted, in place."""
    n = U(lanes)
    half = (U(1) << U(shift)) * n
    u0, u1 = U(subject) * n, U(len(leave) // 2) + U(subject) * n
    o = U(0)
    if lanes == 1:
        a, b = leave[u0], leave[u1]
        for block in range(U(0), U(size), half + half):
            for i in range(half):
                state[o + i] = state[block + i] * a + state[block + half + i] * b
            o += half
    else:
        for block in range(U(0), U(size) * n, half + half):
            for i in range(U(0), half, n):
                for lane in range(n):
                    low = state[block + i + lane] * leave[u0 + lane]
                    state[o + i + lane] = low + state[block + half + i + lane] * leave[u1 + lane]
            o += half


@compile_function
def _bring_back(
    size: int, shift: int, lanes: int, leave: Floats, subject: int, after: Floats, before: Floats, adjoint: Floats, room: Floats
) -> None:
    """The transpose of ``_sum_out``, and in ``room`` the products with ``before`` where the slot is 1."""
    n = U(lanes)
    half = (U(1) << U(shift)) * n
    u0, u1 = U(subject) * n, U(len(leave) // 2) + U(subject) * n
    o = U(0)
    for block in range(U(0), U(size) * n, half + half):
        if lanes == 1:
            a, b = leave[u0], leave[u1]
            for i in range(half):
                adjoint[block + i] = after[o + i] * a
                adjoint[block + half + i] = after[o + i] * b
        else:
            for i in range(U(0), half, n):
                for lane in range(n):
                    adjoint[block + i + lane] = after[o + i + lane] * leave[u0 + lane]
                    adjoint[block + half + i + lane] = after[o + i + lane] * leave[u1 + lane]
        for i in range(half):
            room[o + i] = before[block + half + i] * adjoint[block + half + i]
        o += half


@compile_function
def _forward(program: Program, s: int, lanes: int, block: Block, before: Floats, state: Floats) -> None:
    """The state after step s, not yet scaled; ``before`` is what is in ``state`` at first."""
    absent, present, link, escape, entry, leave, factor = block
    action, subject, width = program.action[s], program.subject[s], program.width[s]
    size = 1 << width
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    if action == ABSORB:
        _links(False, program, s, program.bit_first[s] - 1, lanes, link, escape, state)
        _mix(size, lanes, shifts, program.table[s], absent, present, before, state, state)
    elif action == OBSERVE:
        _weigh(size, lanes, shifts, program.table[s], factor, state)
    elif action == INTRODUCE:
        shift, n, first = program.shift[s], U(lanes), U(subject) * U(lanes)
        for i in range(U(size)):
            possible = shift < 0 or (i >> U(shift)) & U(1)
            for lane in range(n):
                high = entry[first + lane] if possible else 0.0
                x, e = before[i * n + lane], U(2) * i * n + lane
                state[e + n] = x * high
                state[e] = x * (1.0 - high)
    else:
        _sum_out(size, program.shift[s], lanes, leave, subject, state)


@compile_function
def _link_slopes(
    program: Program, s: int, lanes: int, block: Block, before: Floats, adjoint: Floats, space: Workspace, d_link: Floats
) -> None:
    """Derivatives to the links of a cause; see ``recursion``."""
    present, link, escape = block.present, block.link, block.escape
    size = 1 << program.width[s]
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    other, spread, again = space.other, space.spread, space.again
    _copy(before, 0, spread, 0, size * lanes)
    _links(False, program, s, program.bit_first[s] - 1, lanes, link, escape, spread)
    for b in range(program.bit_first[s], program.bit_first[s + 1]):
        half, first = 1 << program.bit_shift[b], program.bit_link[b] * lanes
        certain = False
        for lane in range(lanes):
            certain = certain or link[first + lane] == 1.0
        if certain:
            _copy(before, 0, again, 0, size * lanes)
            _links(False, program, s, b, lanes, link, escape, again)
        o = 0
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                c = (program.table[s] + _entry(i, shifts)) * lanes
                for lane in range(lanes):
                    e = i * lanes + lane
                    w = link[first + lane]
                    others = again[e] if w == 1.0 else spread[e] / (1.0 - w)
                    other[o] = present[c + lane] * others * (adjoint[e + half * lanes] - adjoint[e])
                    o += 1
        _fold(other, size // 2, lanes)
        _copy(other, 0, d_link, first, lanes)


@compile_function
def _backward(
    program: Program,
    s: int,
    lanes: int,
    block: Block,
    before: Floats,
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
        _copy(adjoint, 0, work, 0, size * lanes)
        _links(True, program, s, program.bit_first[s] - 1, lanes, link, escape, work)
        _inner(before, work, other, width, shifts, slopes.present, table, lanes)
        if full:
            _inner(before, adjoint, other, width, shifts, slopes.absent, table, lanes)
            _link_slopes(program, s, lanes, block, before, adjoint, space, slopes.link)
        _mix(size, lanes, shifts, table, absent, present, adjoint, work, adjoint)
    elif action == OBSERVE:
        if full:
            _inner(before, adjoint, other, width, shifts, slopes.factor, table, lanes)
        _weigh(size, lanes, shifts, table, factor, adjoint)
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
            _fold(other, o // lanes, lanes)
            _copy(other, 0, slopes.entry, subject * lanes, lanes)
        for i in range(size):
            possible = shift < 0 or (i >> shift) & 1
            for lane in range(lanes):
                high = entry[subject * lanes + lane] if possible else 0.0
                low = 2 * i * lanes + lane
                adjoint[i * lanes + lane] = adjoint[low] * (1.0 - high) + adjoint[low + lanes] * high
    else:
        _copy(adjoint, 0, work, 0, size // 2 * lanes)
        _bring_back(size, program.shift[s], lanes, leave, subject, work, before, adjoint, other)
        _fold(other, size // 2, lanes)
        _copy(other, 0, slopes.marginal, subject * lanes, lanes)


@compile_function
def _scale(values: Floats, size: int, lanes: int, factors: Floats) -> None:
    n = U(lanes)
    if lanes == 1:
        factor = factors[0]
        for i in range(U(size)):
            values[i] *= factor
    else:
        for i in range(U(0), U(size) * n, n):
            for lane in range(n):
                values[i + lane] *= factors[lane]


@compile_function
def solve(
    program: Program, lanes: int, block: Block, space: Workspace, full: bool, mantissa: Floats, exponent: Ints, slopes: Slopes
) -> None:
    """Some cases, one a lane; the last three arguments are filled."""
    checkpoint, store, state = space.checkpoint, space.store, space.state
    n_segments = len(program.segment_first) - 1
    for lane in range(lanes):
        state[lane], exponent[lane] = 1.0, 0
    kept = 0
    for segment in range(n_segments):
        for s in range(program.segment_first[segment], program.segment_first[segment + 1]):
            size = lanes << program.width[s]
            if s == program.segment_first[segment]:
                _copy(state, 0, checkpoint, kept, size)
                kept += size
            before = space.other
            if n_segments == 1:
                before = store[program.offset[s] * lanes : program.offset[s] * lanes + size]
            _copy(state, 0, before, 0, size)
            _forward(program, s, lanes, block, before, state)
            if program.action[s] == SUM_OUT:
                _copy(state, 0, space.work, 0, size // 2)
                _fold(space.work, size // 2 // lanes, lanes)
                factors = space.scale[s * lanes : (s + 1) * lanes]
                for lane in range(lanes):
                    shift = max(math.frexp(space.work[lane])[1], SMALLEST_SHIFT)
                    factors[lane] = math.ldexp(1.0, -shift)
                    exponent[lane] += shift
                _scale(state, size // 2 // lanes, lanes, factors)
    adjoint = state
    _copy(state, 0, mantissa, 0, lanes)
    for lane in range(lanes):
        adjoint[lane] = 1.0 / state[lane]
    for segment in range(n_segments - 1, -1, -1):
        start, stop = program.segment_first[segment], program.segment_first[segment + 1]
        if n_segments > 1:
            size = lanes << program.width[start]
            kept -= size
            _copy(checkpoint, kept, store, 0, size)
            for s in range(start, stop - 1):
                here, there = program.offset[s] * lanes, program.offset[s + 1] * lanes
                size, after = lanes << program.width[s], lanes << program.width[s + 1]
                _copy(store, here, space.other, 0, size)
                _forward(program, s, lanes, block, store[here : here + size], space.other)
                if program.action[s] == SUM_OUT:
                    _scale(space.other, after // lanes, lanes, space.scale[s * lanes : (s + 1) * lanes])
                _copy(space.other, 0, store, there, after)
        for s in range(stop - 1, start - 1, -1):
            size = lanes << program.width[s]
            if program.action[s] == SUM_OUT:
                _scale(adjoint, size // 2 // lanes, lanes, space.scale[s * lanes : (s + 1) * lanes])
            before = store[program.offset[s] * lanes : program.offset[s] * lanes + size]
            _backward(program, s, lanes, block, before, adjoint, space, slopes, full)
