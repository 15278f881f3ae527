"""Elementary operations of the compiled kernel on flat states; the lane is the fastest axis."""

from __future__ import annotations

import numpy as np

from ddx.inference.kernel_base import STEP, U, compile_function, load, store
from ddx.inference.kernel_wide import (
    blend,
    bring_back_lanes,
    one_link,
    scale_lanes,
    sum_out_lanes,
    two_links,
    weigh_lanes,
)
from ddx.inference.network import Floats, Ints
from ddx.inference.program import Program

# Logarithm of the doubles that a part of a large state has: 32 KiB.
TILE = 12


@compile_function
def entries(shifts: Ints, low: Ints) -> None:
    """The entry of a step's table for the first elements of a state; those of its other elements add what ``entry`` says."""
    for i in range(len(low)):
        c = 0
        for j in range(shifts.shape[0]):
            c |= ((i >> shifts[j]) & 1) << j
        low[i] = c


@compile_function
def entry(i: int, shifts: Ints) -> int:
    """The entry of a table for element i of a state; ``entries`` adds the rest to that of a multiple of its length."""
    c = 0
    for j in range(shifts.shape[0]):
        c |= ((i >> shifts[j]) & 1) << j
    return c


@compile_function
def fold(values: Floats, size: int, lanes: int) -> None:
    """Sum a state into its first element, adding halves."""
    half, n = U(size) * U(lanes) // U(2), U(lanes)
    while half >= n:
        for i in range(half):
            values[i] += values[half + i]
        half //= U(2)


@compile_function
def fold_to_table(values: Floats, width: int, shifts: Ints, target: Floats, start: int, lanes: int) -> None:
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
        copy(values, i * lanes, target, (start + entry) * lanes, lanes)


@compile_function
def inner(x: Floats, y: Floats, room: Floats, width: int, shifts: Ints, target: Floats, start: int, lanes: int) -> None:
    """Products of two states, summed by ``fold_to_table``."""
    size = U(lanes) << U(width)
    if len(shifts) == 0 and width > 0:
        half = size // U(2)
        for i in range(half):
            room[i] = x[i] * y[i] + x[i + half] * y[i + half]
        fold(room, 1 << (width - 1), lanes)
        copy(room, 0, target, start * lanes, lanes)
    else:
        for i in range(size):
            room[i] = x[i] * y[i]
        fold_to_table(room, width, shifts, target, start, lanes)


@compile_function
def copy(source: Floats, start: int, target: Floats, place: int, n: int) -> None:
    """``n`` doubles from one place to another."""
    s, t = U(start), U(place)
    for i in range(U(n)):
        target[t + i] = source[s + i]


@compile_function
def apply(transpose: bool, size: int, shift: int, w: float, v: float, state: Floats, start: int) -> None:
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
def apply_tiled(
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
                    apply(transpose, 1 << TILE, program.bit_shift[b], link[i], escape[i], state, starts[c])
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
def links(
    transpose: bool,
    program: Program,
    s: int,
    skip: int,
    lanes: int,
    link: Floats,
    escape: Floats,
    source: Floats,
    target: Floats,
) -> None:
    """T of the cause of step s, or its transpose, without the link ``skip``; ``escape`` is 1 - ``link``."""
    width = program.width[s]
    first, last = program.bit_first[s], program.bit_first[s + 1]
    if lanes == 1 or last == first or (last == first + 1 and skip == first):
        copy(source, 0, target, 0, lanes << width)
    if lanes == 1 and width > TILE:
        start = first
        while start < last:
            stop = start
            slow = 0
            while stop < last and slow < 5:
                slow += 1 if program.bit_shift[stop] >= TILE else 0
                stop += 1
            apply_tiled(transpose, program, start, stop, skip, width, link, escape, target)
            start = stop
        return
    size, here, b = 1 << width, source, first
    while b < last:
        i, shift = program.bit_link[b], program.bit_shift[b]
        b += 1
        if b - 1 == skip:
            continue
        if lanes == 1:
            apply(transpose, size, shift, link[i], escape[i], target, 0)
        elif b < last and b != skip:
            two_links(
                transpose, size, shift, program.bit_shift[b], i, program.bit_link[b], lanes, link, escape, here, 0,
                target, 0,
            )  # fmt: skip
            b += 1
        else:
            one_link(transpose, size, shift, i, lanes, link, escape, here, 0, target, 0)
        here = target


@compile_function
def mix(
    size: int, lanes: int, shifts: Ints, first: int, absent: Floats, present: Floats, x: Floats, y: Floats, target: Floats
) -> None:
    """A x + b y, with a and b from the tables of a cause."""
    n, start = U(lanes), U(first) * U(lanes)
    if len(shifts) == 0 and lanes == 1:
        a, b = absent[start], present[start]
        for i in range(U(size)):
            target[i] = a * x[i] + b * y[i]
    elif len(shifts) == 0:
        blend(size, lanes, first, absent, present, x, 0, y, 0, target, 0)
    else:
        low = np.empty(min(size, 256), np.intp)
        entries(shifts, low)
        for block in range(0, size, len(low)):
            base = entry(block, shifts)
            for i in range(U(len(low))):
                c, e = start + U(base | low[i]) * n, (U(block) + i) * n
                if lanes == 1:
                    target[e] = absent[c] * x[e] + present[c] * y[e]
                else:
                    for k in range(U(0), n, STEP):
                        a, b = load(absent, c + k), load(present, c + k)
                        store(target, e + k, a * load(x, e + k) + b * load(y, e + k))


@compile_function
def weigh(size: int, lanes: int, shifts: Ints, first: int, factor: Floats, source: Floats, target: Floats) -> None:
    """A state times the table of a factor."""
    if lanes > 1:
        weigh_lanes(size, lanes, first, shifts, 0, len(shifts), factor, source, 0, target, 0)
        return
    start, low = U(first), np.empty(min(size, 256), np.intp)
    entries(shifts, low)
    for block in range(0, size, len(low)):
        base = entry(block, shifts)
        for i in range(U(len(low))):
            target[U(block) + i] = source[U(block) + i] * factor[start + U(base | low[i])]


@compile_function
def sum_out(size: int, shift: int, lanes: int, leave: Floats, subject: int, source: Floats, target: Floats) -> None:
    """Sum over both values of a slot, weighted."""
    if lanes > 1:
        sum_out_lanes(size, shift, lanes, leave, subject, source, 0, target, 0)
        return
    half, o = U(1) << U(shift), U(0)
    a, b = leave[subject], leave[len(leave) // 2 + subject]
    for block in range(U(0), U(size), half + half):
        for i in range(half):
            target[o + i] = source[block + i] * a + source[block + half + i] * b
        o += half


@compile_function
def bring_back(
    size: int, shift: int, lanes: int, leave: Floats, subject: int, after: Floats, before: Floats, adjoint: Floats, room: Floats
) -> None:
    """The transpose of ``sum_out``, and in ``room`` the products with ``before`` where the slot is 1."""
    if lanes > 1:
        bring_back_lanes(size, shift, lanes, leave, subject, after, before, 0, adjoint, room)
        return
    half, o = U(1) << U(shift), U(0)
    a, b = leave[subject], leave[len(leave) // 2 + subject]
    for block in range(U(0), U(size), half + half):
        for i in range(half):
            adjoint[block + i] = after[o + i] * a
            adjoint[block + half + i] = after[o + i] * b
        for i in range(half):
            room[o + i] = before[block + half + i] * adjoint[block + half + i]
        o += half


@compile_function
def scale(values: Floats, size: int, lanes: int, factors: Floats) -> None:
    """Multiply every lane of a state by its factor."""
    if lanes > 1:
        scale_lanes(values, 0, size, lanes, factors, 0)
        return
    factor = factors[0]
    for i in range(U(size)):
        values[i] *= factor
