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
from numpy.typing import NDArray

from ddx.inference import layout as _layout
from ddx.inference import program as _program
from ddx.inference.layout import CAUSE, CONTEXT, FINDING, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, SUM_OUT, Program
from ddx.inference.recursion import SMALLEST_SHIFT

Function = TypeVar("Function", bound=Callable[..., Any])
U = np.uint64


def _compile(function: Function, **names: object) -> Function:
    """Machine code at the first call, kept on disk; without the interpreter's lock. ``names`` replace what it calls."""
    if names:
        function = cast(Function, FunctionType(cast(Any, function).__code__, {**cast(Any, function).__globals__, **names}))
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


assemble = _compile(_layout.assemble)
search = _compile(_layout.search)
scan = _compile(_program.scan)
plan_case = _compile(_program.plan_case, assemble=assemble, search=search, scan=scan)


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


@_compile
def room(program: Program, lanes: int, full: bool) -> Workspace:
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


@_compile
def _index(i: int, shifts: Ints) -> int:
    """The entry of a table that belongs to element i of a state."""
    c = 0
    for j in range(shifts.shape[0]):
        c |= ((i >> shifts[j]) & 1) << j
    return c


@_compile
def _fold(values: Floats, size: int, lanes: int) -> None:
    """Sum a state into its first element, adding halves."""
    half = size * lanes // 2
    while half >= lanes:
        for i in range(half):
            values[i] += values[half + i]
        half //= 2


@_compile
def _fold_to_table(values: Floats, width: int, shifts: Ints, target: Floats, start: int, lanes: int) -> None:
    """Sum a state over all slots but those of a table, slowest first; into ``target`` from entry ``start``."""
    left = width
    for shift in range(width - 1, -1, -1):
        kept = False
        for j in range(shifts.shape[0]):
            kept = kept or shifts[j] == shift
        if not kept:
            run = lanes << shift
            o = 0
            for block in range(0, lanes << left, 2 * run):
                for i in range(block, block + run):
                    values[o] = values[i] + values[i + run]
                    o += 1
            left -= 1
    for entry in range(1 << left):
        i = 0
        for j in range(left):
            place = 0
            for other in range(left):
                place += 1 if shifts[other] < shifts[j] else 0
            i |= ((entry >> j) & 1) << place
        for lane in range(lanes):
            target[(start + entry) * lanes + lane] = values[i * lanes + lane]


@_compile
def _copy(source: Floats, start: int, target: Floats, place: int, n: int) -> None:
    for i in range(n):
        target[place + i] = source[start + i]


@_compile
def _push(program: Program, s: int, skip: int, lanes: int, link: Floats, escape: Floats, state: Floats) -> None:
    """T of a step's cause, in place, without the link ``skip``; ``escape`` is 1 - ``link``.

    Indices without a sign, because then the compiler sees that they do not wrap around and puts several into one instruction.
    """
    size, n = U(1) << U(program.width[s]), U(lanes)
    for b in range(program.bit_first[s], program.bit_first[s + 1]):
        if b == skip:
            continue
        half, first = (U(1) << U(program.bit_shift[b])) * n, U(program.bit_link[b]) * n
        if lanes == 1:
            w, v = link[first], escape[first]
            for block in range(U(0), size, half + half):
                for i in range(block, block + half):
                    low = state[i]
                    state[i + half] += low * w
                    state[i] = low * v
        else:
            for block in range(U(0), size * n, half + half):
                for i in range(block, block + half, n):
                    for lane in range(n):
                        low = state[i + lane]
                        state[i + half + lane] += low * link[first + lane]
                        state[i + lane] = low * escape[first + lane]


@_compile
def _pull(program: Program, s: int, lanes: int, link: Floats, escape: Floats, state: Floats) -> None:
    """The transpose of ``_push``."""
    size, n = U(1) << U(program.width[s]), U(lanes)
    for b in range(program.bit_first[s], program.bit_first[s + 1]):
        half, first = (U(1) << U(program.bit_shift[b])) * n, U(program.bit_link[b]) * n
        if lanes == 1:
            w, v = link[first], escape[first]
            for block in range(U(0), size, half + half):
                for i in range(block, block + half):
                    state[i] = state[i] * v + state[i + half] * w
        else:
            for block in range(U(0), size * n, half + half):
                for i in range(block, block + half, n):
                    for lane in range(n):
                        low = state[i + lane] * escape[first + lane]
                        state[i + lane] = low + state[i + half + lane] * link[first + lane]


@_compile
def _mix(size: int, lanes: int, shifts: Ints, first: int, tables: tuple[Floats, Floats], parts: tuple[Floats, Floats]) -> None:
    """a x + b y into x, with a and b from the tables of a cause."""
    absent, present = tables
    x, y = parts
    n, start = U(lanes), U(first) * U(lanes)
    if len(shifts) == 0 and lanes == 1:
        a, b = absent[start], present[start]
        for i in range(U(size)):
            x[i] = a * x[i] + b * y[i]
    elif len(shifts) == 0:
        for i in range(U(0), U(size) * n, n):
            for lane in range(n):
                x[i + lane] = absent[start + lane] * x[i + lane] + present[start + lane] * y[i + lane]
    else:
        for i in range(U(size)):
            c, e = start + U(_index(i, shifts)) * n, i * n
            for lane in range(n):
                x[e + lane] = absent[c + lane] * x[e + lane] + present[c + lane] * y[e + lane]


@_compile
def _forward(program: Program, s: int, lanes: int, block: Block, state: Floats, work: Floats) -> None:
    """The state after step s, in place, not yet scaled."""
    absent, present, link, escape, entry, leave, factor = block
    action, subject, width = program.action[s], program.subject[s], program.width[s]
    size = 1 << width
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    if action == ABSORB:
        _copy(state, 0, work, 0, size * lanes)
        _push(program, s, program.bit_first[s] - 1, lanes, link, escape, work)
        _mix(size, lanes, shifts, program.table[s], (absent, present), (state, work))
    elif action == OBSERVE:
        for i in range(size):
            c = (program.table[s] + _index(i, shifts)) * lanes
            for lane in range(lanes):
                state[i * lanes + lane] *= factor[c + lane]
    elif action == INTRODUCE:
        shift = program.shift[s]
        for i in range(size - 1, -1, -1):
            possible = shift < 0 or (i >> shift) & 1
            for lane in range(lanes):
                high = entry[subject * lanes + lane] if possible else 0.0
                x = state[i * lanes + lane]
                state[(2 * i + 1) * lanes + lane] = x * high
                state[2 * i * lanes + lane] = x * (1.0 - high)
    else:
        half = 1 << program.shift[s]
        u0, u1 = subject * lanes, (len(leave) // 2 // lanes + subject) * lanes
        o = 0
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                for lane in range(lanes):
                    e = i * lanes + lane
                    state[o] = state[e] * leave[u0 + lane] + state[e + half * lanes] * leave[u1 + lane]
                    o += 1


@_compile
def _link_slopes(
    program: Program, s: int, lanes: int, block: Block, before: Floats, adjoint: Floats, space: Workspace, d_link: Floats
) -> None:
    """Derivatives to the links of a cause; see ``recursion``."""
    absent, present, link, escape, entry, leave, factor = block
    size = 1 << program.width[s]
    shifts = program.axis_shift[program.axis_first[s] : program.axis_first[s + 1]]
    other, spread, again = space.other, space.spread, space.again
    _copy(before, 0, spread, 0, size * lanes)
    _push(program, s, program.bit_first[s] - 1, lanes, link, escape, spread)
    for b in range(program.bit_first[s], program.bit_first[s + 1]):
        half, first = 1 << program.bit_shift[b], program.bit_link[b] * lanes
        certain = False
        for lane in range(lanes):
            certain = certain or link[first + lane] == 1.0
        if certain:
            _copy(before, 0, again, 0, size * lanes)
            _push(program, s, b, lanes, link, escape, again)
        o = 0
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                c = (program.table[s] + _index(i, shifts)) * lanes
                for lane in range(lanes):
                    e = i * lanes + lane
                    w = link[first + lane]
                    others = again[e] if w == 1.0 else spread[e] / (1.0 - w)
                    other[o] = present[c + lane] * others * (adjoint[e + half * lanes] - adjoint[e])
                    o += 1
        _fold(other, size // 2, lanes)
        _copy(other, 0, d_link, first, lanes)


@_compile
def _backward(
    program: Program, s: int, lanes: int, block: Block, before: Floats, adjoint: Floats, space: Workspace, slopes: Slopes, full: bool
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
        _pull(program, s, lanes, link, escape, work)
        for i in range(size * lanes):
            other[i] = before[i] * work[i]
        _fold_to_table(other, width, shifts, slopes.present, table, lanes)
        if full:
            for i in range(size * lanes):
                other[i] = before[i] * adjoint[i]
            _fold_to_table(other, width, shifts, slopes.absent, table, lanes)
            _link_slopes(program, s, lanes, block, before, adjoint, space, slopes.link)
        _mix(size, lanes, shifts, table, (absent, present), (adjoint, work))
    elif action == OBSERVE:
        if full:
            for i in range(size * lanes):
                other[i] = before[i] * adjoint[i]
            _fold_to_table(other, width, shifts, slopes.factor, table, lanes)
        for i in range(size):
            c = (table + _index(i, shifts)) * lanes
            for lane in range(lanes):
                adjoint[i * lanes + lane] *= factor[c + lane]
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
        half = 1 << program.shift[s]
        u0, u1 = subject * lanes, (len(leave) // 2 // lanes + subject) * lanes
        _copy(adjoint, 0, work, 0, size // 2 * lanes)
        o = 0
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                for lane in range(lanes):
                    e = i * lanes + lane
                    high = work[o] * leave[u1 + lane]
                    adjoint[e] = work[o] * leave[u0 + lane]
                    adjoint[e + half * lanes] = high
                    other[o] = before[e + half * lanes] * high
                    o += 1
        _fold(other, size // 2, lanes)
        _copy(other, 0, slopes.marginal, subject * lanes, lanes)


@_compile
def _scale(values: Floats, size: int, lanes: int, factors: Floats) -> None:
    for i in range(size):
        for lane in range(lanes):
            values[i * lanes + lane] *= factors[lane]


@_compile
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
            if n_segments == 1:
                _copy(state, 0, store, program.offset[s] * lanes, size)
            _forward(program, s, lanes, block, state, space.work)
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
                _forward(program, s, lanes, block, space.other, space.work)
                if program.action[s] == SUM_OUT:
                    _scale(space.other, after // lanes, lanes, space.scale[s * lanes : (s + 1) * lanes])
                _copy(space.other, 0, store, there, after)
        for s in range(stop - 1, start - 1, -1):
            size = lanes << program.width[s]
            if program.action[s] == SUM_OUT:
                _scale(adjoint, size // 2 // lanes, lanes, space.scale[s * lanes : (s + 1) * lanes])
            before = store[program.offset[s] * lanes : program.offset[s] * lanes + size]
            _backward(program, s, lanes, block, before, adjoint, space, slopes, full)


class Arrays(NamedTuple):
    """The network as the kernel reads it: every array with a case axis of length N, or 1 if all cases share it."""

    link: Floats  # (., F, K)
    leak: Floats  # (., F)
    syndrome_link: Floats  # (., J, K)
    syndrome_leak: Floats  # (., J)
    finding_syndrome: Floats  # (., F, J)
    depends: Booleans  # (K, C)
    requires: Ints  # (C,)


class Cases(NamedTuple):
    """What the kernel reads of n cases."""

    at: Ints  # (n,) their indices in arrays with a case axis
    first: Ints  # (n + 1,) bounds of the positive findings of a case
    finding: Ints
    value: Floats
    seen: Booleans  # (n, J)
    unknown: Booleans  # (C,)
    context_prior: Floats  # (n, C)
    syndrome_escape: Floats  # (n, J)
    table_first: Ints  # (K + 1,)
    absent: Floats  # (n, E)
    present: Floats  # (n, E)


class Results(NamedTuple):
    """What the kernel fills for n cases."""

    mantissa: Floats  # (n,)
    exponent: Ints  # (n,)
    present: Floats  # (n, E) derivative of log evidence to ``Cases.present``
    context: Floats  # (n, C)
    syndrome: Floats  # (n, J)
    doubles: Floats  # (n,) memory that a case needs; more than the limit: not solved


@_compile
def _gather(
    arrays: Arrays,
    cases: Cases,
    row: int,
    layout: Layout,
    lane: int,
    lanes: int,
    block: Block,
) -> None:
    """The numbers of one case into its lane; the same as ``Rows.block``."""
    absent, present, link, escape, entry, leave, factor = block
    at = cases.at[row]
    links = arrays.link[min(at, arrays.link.shape[0] - 1)]
    leaks = arrays.leak[min(at, arrays.leak.shape[0] - 1)]
    syndrome_links = arrays.syndrome_link[min(at, arrays.syndrome_link.shape[0] - 1)]
    syndrome_leaks = arrays.syndrome_leak[min(at, arrays.syndrome_leak.shape[0] - 1)]
    finding_syndromes = arrays.finding_syndrome[min(at, arrays.finding_syndrome.shape[0] - 1)]
    finding = cases.finding[cases.first[row] : cases.first[row + 1]]
    value = cases.value[cases.first[row] : cases.first[row + 1]]
    n_slots = len(layout.slot_kind)
    for e in range(cases.absent.shape[1]):
        absent[e * lanes + lane] = cases.absent[row, e]
        present[e * lanes + lane] = cases.present[row, e]
    for a in range(len(layout.cause)):
        k = layout.cause[a]
        for b in range(layout.bit_first[a], layout.bit_first[a + 1]):
            kind, index = layout.slot_kind[layout.bit_slot[b]], layout.slot_index[layout.bit_slot[b]]
            w = 1.0
            if kind == FINDING:
                w = links[finding[index], k]
            elif kind == SYNDROME:
                w = syndrome_links[index, k]
            link[b * lanes + lane] = w
            escape[b * lanes + lane] = 1.0 - w
    for v in range(n_slots):
        kind, index = layout.slot_kind[v], layout.slot_index[v]
        p, u0, u1 = 0.0, 1.0, 1.0
        if kind == CONTEXT:
            p = cases.context_prior[row, index]
        elif kind == SYNDROME:
            p = syndrome_leaks[index]
            u1 = cases.syndrome_escape[row, index]
        elif kind == FINDING:
            p = leaks[finding[index]]
            u0, u1 = 1.0 - value[index], value[index]
        entry[v * lanes + lane] = p
        leave[v * lanes + lane] = u0
        leave[(n_slots + v) * lanes + lane] = u1
    start = 0
    for r in range(len(layout.factor)):
        position = layout.factor[r]
        parents = layout.factor_first[r + 1] - layout.factor_first[r]
        base = leaks[finding[position]]
        for j in range(parents):
            slot = layout.factor_slot[layout.factor_first[r] + j]
            if layout.slot_kind[slot] == FINDING:
                base = 0.0
                leave[slot * lanes + lane] = 1.0
                leave[(n_slots + slot) * lanes + lane] = 1.0
        table = np.empty((2, 1 << parents))
        table[0, 0], table[1, 0] = base, 1.0 - base
        for j in range(parents):
            slot = layout.factor_slot[layout.factor_first[r] + j]
            kind, index = layout.slot_kind[slot], layout.slot_index[slot]
            w = 1.0
            if kind == SYNDROME:
                w = finding_syndromes[finding[position], index]
            elif kind == CAUSE:
                w = links[finding[position], index]
            for c in range(1 << j):
                table[0, c | 1 << j] = table[0, c] + table[1, c] * w
                table[1, c | 1 << j] = table[1, c] * (1.0 - w)
        v = value[position]
        for c in range(1 << parents):
            factor[(start + c) * lanes + lane] = v * table[0, c] + (1.0 - v) * table[1, c]
        start += 1 << parents


@_compile
def _put(results: Results, row: int, layout: Layout, lane: int, lanes: int, slopes: Slopes) -> None:
    for e in range(results.present.shape[1]):
        results.present[row, e] = slopes.present[e * lanes + lane]
    for v in range(len(layout.slot_kind)):
        if layout.slot_kind[v] == CONTEXT:
            results.context[row, layout.slot_index[v]] = slopes.marginal[v * lanes + lane]
        elif layout.slot_kind[v] == SYNDROME:
            results.syndrome[row, layout.slot_index[v]] = slopes.marginal[v * lanes + lane]


@_compile
def _empty_block(layout: Layout, entries: int, lanes: int) -> Block:
    slots, links, factors = len(layout.slot_kind) * lanes, len(layout.bit_slot) * lanes, 0
    for r in range(len(layout.factor)):
        factors += lanes << (layout.factor_first[r + 1] - layout.factor_first[r])
    entries *= lanes
    return Block(
        np.empty(entries),
        np.empty(entries),
        np.empty(links),
        np.empty(links),
        np.empty(slots),
        np.empty(2 * slots),
        np.empty(factors),
    )


@_compile
def _empty_slopes(block: Block, full: bool) -> Slopes:
    """Causes that no step absorbs keep the slope 1."""
    extra = 1 if full else 0
    return Slopes(
        np.ones(len(block.present)),
        np.zeros(len(block.entry)),
        np.ones(len(block.absent) * extra),
        np.ones(len(block.link) * extra),
        np.ones(len(block.entry) * extra),
        np.ones(len(block.factor) * extra),
    )


@_compile
def run_shared(
    arrays: Arrays, cases: Cases, layout: Layout, program: Program, doubles: float, lanes: int, results: Results
) -> None:
    """Cases that share a layout and a program, ``lanes`` at a time."""
    n = len(cases.at)
    block = _empty_block(layout, cases.absent.shape[1], lanes)
    slopes, space = _empty_slopes(block, False), room(program, lanes, False)
    mantissa, exponent = np.empty(lanes), np.empty(lanes, np.intp)
    for start in range(0, n, lanes):
        for lane in range(lanes):
            _gather(arrays, cases, min(start + lane, n - 1), layout, lane, lanes, block)
        solve(program, lanes, block, space, False, mantissa, exponent, slopes)
        for lane in range(min(lanes, n - start)):
            results.mantissa[start + lane], results.exponent[start + lane] = mantissa[lane], exponent[lane]
            results.doubles[start + lane] = doubles
            _put(results, start + lane, layout, lane, lanes, slopes)


@_compile
def run_each(arrays: Arrays, cases: Cases, effort: float, limit: float, results: Results) -> None:
    """Cases one after the other, each with a program of its own; those that need more than ``limit`` doubles are left."""
    mantissa, exponent = np.empty(1), np.empty(1, np.intp)
    lane, lanes = len(mantissa) - 1, len(mantissa)  # no literals: numba would compile everything anew for them
    n_causes, n_syndromes = arrays.link.shape[2], arrays.syndrome_link.shape[1]
    syndrome_on = np.zeros((n_syndromes, n_causes), np.bool_)
    for row in range(len(cases.at)):
        at = cases.at[row]
        links = arrays.link[min(at, arrays.link.shape[0] - 1)]
        syndrome_links = arrays.syndrome_link[min(at, arrays.syndrome_link.shape[0] - 1)]
        finding_syndromes = arrays.finding_syndrome[min(at, arrays.finding_syndrome.shape[0] - 1)]
        finding = cases.finding[cases.first[row] : cases.first[row + 1]]
        m = len(finding)
        link_on, finding_syndrome_on = np.zeros((m, n_causes), np.bool_), np.zeros((m, n_syndromes), np.bool_)
        for b in range(m):
            for k in range(n_causes):
                link_on[b, k] = links[finding[b], k] > 0.0
            for j in range(n_syndromes):
                finding_syndrome_on[b, j] = finding_syndromes[finding[b], j] > 0.0
        if row == 0 or arrays.syndrome_link.shape[0] > 1:
            for j in range(n_syndromes):
                for k in range(n_causes):
                    syndrome_on[j, k] = syndrome_links[j, k] > 0.0
        layout, program, doubles = plan_case(
            link_on, syndrome_on, finding_syndrome_on, cases.seen[row], arrays.depends, cases.unknown,
            arrays.requires, cases.table_first, effort,
        )  # fmt: skip
        results.doubles[row] = doubles
        if doubles > limit:
            continue
        block = _empty_block(layout, cases.absent.shape[1], lanes)
        slopes = _empty_slopes(block, False)
        _gather(arrays, cases, row, layout, lane, lanes, block)
        solve(program, lanes, block, room(program, lanes, False), False, mantissa, exponent, slopes)
        results.mantissa[row], results.exponent[row] = mantissa[0], exponent[0]
        _put(results, row, layout, lane, lanes, slopes)
