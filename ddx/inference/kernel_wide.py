"""Elementary operations of the compiled kernel on states of several lanes, eight lanes at a time.

They take whole arrays, and places in them: to cut a part out of an array counts its references, which takes longer than the
numbers. Source and target may be the same state.
"""

from __future__ import annotations

from ddx.inference.kernel_base import STEP, U, compile_function, load, store
from ddx.inference.network import Floats, Ints


@compile_function
def one_link(
    transpose: bool, size: int, shift: int, i: int, lanes: int, link: Floats, escape: Floats,
    source: Floats, at: int, target: Floats, to: int,
) -> None:  # fmt: skip
    """One link of a cause."""
    n, s, t = U(lanes), U(at), U(to)
    half, f = (U(1) << U(shift)) * n, U(i) * n
    for block in range(U(0), U(size) * n, half + half):
        for e in range(block, block + half, n):
            for k in range(U(0), n, STEP):
                low, high = load(source, s + e + k), load(source, s + e + half + k)
                w, v = load(link, f + k), load(escape, f + k)
                if transpose:
                    low = low * v + high * w
                else:
                    high = high + low * w
                    low = low * v
                store(target, t + e + k, low)
                store(target, t + e + half + k, high)


@compile_function
def two_links(
    transpose: bool, size: int, shift: int, next_shift: int, i: int, j: int, lanes: int, link: Floats, escape: Floats,
    source: Floats, at: int, target: Floats, to: int,
) -> None:  # fmt: skip
    """Two links of a cause, that with the faster bit first: one pass through the memory instead of two."""
    n, p, q = U(lanes), U(at), U(to)
    x, y, f, g = (U(1) << U(shift)) * n, (U(1) << U(next_shift)) * n, U(i) * n, U(j) * n
    for outer in range(U(0), U(size) * n, y + y):
        for block in range(outer, outer + y, x + x):
            for e in range(block, block + x, n):
                for k in range(U(0), n, STEP):
                    w, v, u, t = load(link, f + k), load(escape, f + k), load(link, g + k), load(escape, g + k)
                    a, b = load(source, p + e + k), load(source, p + e + y + k)
                    c, d = load(source, p + e + x + k), load(source, p + e + x + y + k)
                    if transpose:
                        a, b = a * v + c * w, b * v + d * w
                        a, c = a * t + b * u, c * t + d * u
                    else:
                        c, d = c + a * w, d + b * w
                        a, b = a * v, b * v
                        b, d = b + a * u, d + c * u
                        a, c = a * t, c * t
                    store(target, q + e + k, a)
                    store(target, q + e + y + k, b)
                    store(target, q + e + x + k, c)
                    store(target, q + e + x + y + k, d)


@compile_function
def blend(
    size: int, lanes: int, first: int, absent: Floats, present: Floats, x: Floats, at: int, y: Floats, also_at: int,
    target: Floats, to: int,
) -> None:  # fmt: skip
    """``mix`` for a cause with one entry."""
    n, start = U(lanes), U(first) * U(lanes)
    for i in range(U(0), U(size) * n, n):
        for k in range(U(0), n, STEP):
            a, b = load(absent, start + k), load(present, start + k)
            store(target, U(to) + i + k, a * load(x, U(at) + i + k) + b * load(y, U(also_at) + i + k))


@compile_function
def meet(
    size: int, lanes: int, first: int, absent: Floats, present: Floats, before: Floats, at: int, caused: Floats,
    adjoint: Floats, room: Floats,
) -> None:  # fmt: skip
    """``inner`` of ``before`` and ``caused``, but for the last sum, and ``mix`` of ``adjoint`` and ``caused``, in one pass.

    For a state of two elements or more and a cause with one entry.
    """
    n, half, p = U(lanes), U(size // 2) * U(lanes), U(at)
    start = U(first) * n
    for i in range(U(0), half, n):
        for k in range(U(0), n, STEP):
            e = i + k
            low, high = load(caused, e), load(caused, half + e)
            a, b = load(absent, start + k), load(present, start + k)
            store(room, e, load(before, p + e) * low + load(before, p + half + e) * high)
            store(adjoint, e, a * load(adjoint, e) + b * low)
            store(adjoint, half + e, a * load(adjoint, half + e) + b * high)


@compile_function
def weigh_lanes(
    size: int, lanes: int, first: int, shifts: Ints, start: int, stop: int, factor: Floats,
    source: Floats, at: int, target: Floats, to: int,
) -> None:  # fmt: skip
    """A state times the table of a factor, whose bits are ``shifts[start:stop]``."""
    n = U(lanes)
    for i in range(size):
        c = first
        for j in range(start, stop):
            c += ((i >> shifts[j]) & 1) << (j - start)
        e, f = U(i) * n, U(c) * n
        for k in range(U(0), n, STEP):
            store(target, U(to) + e + k, load(source, U(at) + e + k) * load(factor, f + k))


@compile_function
def sum_out_lanes(
    size: int, shift: int, lanes: int, leave: Floats, subject: int, source: Floats, at: int, target: Floats, to: int
) -> None:
    """Sum over both values of a slot, weighted."""
    n, p, o = U(lanes), U(at), U(to)
    half = (U(1) << U(shift)) * n
    u0, u1 = U(subject) * n, U(len(leave) // 2) + U(subject) * n
    for block in range(p, p + U(size) * n, half + half):
        for i in range(block, block + half, n):
            for k in range(U(0), n, STEP):
                low = load(source, i + k) * load(leave, u0 + k)
                store(target, o + k, low + load(source, i + half + k) * load(leave, u1 + k))
            o += n


@compile_function
def bring_back_lanes(
    size: int, shift: int, lanes: int, leave: Floats, subject: int, after: Floats, before: Floats, at: int, adjoint: Floats,
    room: Floats,
) -> None:  # fmt: skip
    """The transpose of ``sum_out_lanes``, and in ``room`` the products with ``before`` where the slot is 1."""
    n, p, o = U(lanes), U(at), U(0)
    half = (U(1) << U(shift)) * n
    u0, u1 = U(subject) * n, U(len(leave) // 2) + U(subject) * n
    for block in range(U(0), U(size) * n, half + half):
        for i in range(block, block + half, n):
            for k in range(U(0), n, STEP):
                value = load(after, o + k)
                high = value * load(leave, u1 + k)
                store(adjoint, i + k, value * load(leave, u0 + k))
                store(adjoint, i + half + k, high)
                store(room, o + k, load(before, p + i + half + k) * high)
            o += n


@compile_function
def scale_lanes(values: Floats, at: int, size: int, lanes: int, factors: Floats, first: int) -> None:
    """Multiply every lane of a state by its factor, from ``factors[first]`` on."""
    n, f = U(lanes), U(first)
    for i in range(U(at), U(at) + U(size) * n, n):
        for k in range(U(0), n, STEP):
            store(values, i + k, load(values, i + k) * load(factors, f + k))
