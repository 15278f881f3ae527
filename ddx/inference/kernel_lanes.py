"""The arithmetic of ``kernel.solve`` for small cases side by side: one function, as ``kernel_small`` is for one case.

The same operations in the same order, so the same bits.
"""

from __future__ import annotations

import math

from ddx.inference.kernel import Block, Slopes, Workspace
from ddx.inference.kernel_base import STEP, U, compile_function, load, store
from ddx.inference.kernel_wide import blend, meet, one_link, sum_lanes, two_links, weigh_lanes
from ddx.inference.network import Floats, Ints
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, Program
from ddx.inference.recursion import SMALLEST_SHIFT


@compile_function
def solve_lanes(
    program: Program, lanes: int, block: Block, space: Workspace, mantissa: Floats, exponent: Ints, slopes: Slopes
) -> None:
    """Cases, one a lane; the last three arguments are filled: of the slopes, ``present`` and ``marginal``.

    For programs of one segment, without unknown context; lanes in full vectors.
    """
    absent, present, link, escape, high_of, leave, factor = block
    action, subject, width, shift, table = program.action, program.subject, program.width, program.shift, program.table
    axis_first, axis_shift, offset = program.axis_first, program.axis_shift, program.offset
    bit_first, bit_shift, bit_link = program.bit_first, program.bit_shift, program.bit_link
    states, adjoint, work, room, scales = space.store, space.state, space.work, space.other, space.scale
    to_present, to_marginal = slopes.present, slopes.marginal
    n, n_steps, slots = U(lanes), len(action), U(len(high_of))
    for lane in range(n):
        states[lane], exponent[lane] = 1.0, 0
    after = 0
    for s in range(n_steps):
        size, at = 1 << width[s], offset[s] * lanes
        after = (offset[s + 1] if s + 1 < n_steps else program.size[1]) * lanes
        p, q = U(at), U(after)
        if action[s] == ABSORB:
            here, b, last = at, bit_first[s], bit_first[s + 1]
            while b < last:
                if b + 1 < last:
                    two_links(
                        False, size, bit_shift[b], bit_shift[b + 1], bit_link[b], bit_link[b + 1], lanes, link, escape,
                        states, here, states, after,
                    )  # fmt: skip
                else:
                    one_link(False, size, bit_shift[b], bit_link[b], lanes, link, escape, states, here, states, after)
                here = after
                b += 2
            blend(size, lanes, table[s], absent, present, states, at, states, here, states, after)
        elif action[s] == OBSERVE:
            weigh_lanes(size, lanes, table[s], axis_shift, axis_first[s], axis_first[s + 1], factor, states, at, states, after)
        elif action[s] == INTRODUCE:
            f = U(subject[s]) * n
            for i in range(U(size)):
                for lane in range(n):
                    x, high = states[p + i * n + lane], high_of[f + lane]
                    states[q + U(2) * i * n + lane] = x * (1.0 - high)
                    states[q + U(2) * i * n + n + lane] = x * high
        else:
            half, o = (U(1) << U(shift[s])) * n, q
            u0, u1 = U(subject[s]) * n, slots + U(subject[s]) * n
            for first in range(p, p + U(size) * n, half + half):
                for i in range(first, first + half, n):
                    for k in range(U(0), n, STEP):
                        low = load(states, i + k) * load(leave, u0 + k)
                        store(states, o + k, low + load(states, i + half + k) * load(leave, u1 + k))
                    o += n
            for i in range(o - q):
                work[i] = states[q + i]
            sum_lanes(work, size // 2, lanes)
            f = U(s) * n
            for lane in range(n):
                power = max(math.frexp(work[lane])[1], SMALLEST_SHIFT)
                scales[f + lane] = math.ldexp(1.0, -power)
                exponent[lane] += power
            for i in range(q, o, n):
                for k in range(U(0), n, STEP):
                    store(states, i + k, load(states, i + k) * load(scales, f + k))
    for lane in range(n):
        mantissa[lane] = states[U(after) + lane]
        adjoint[lane] = 1.0 / mantissa[lane]
    for s in range(n_steps - 1, -1, -1):
        size, at = 1 << width[s], offset[s] * lanes
        p = U(at)
        if action[s] == ABSORB:
            b, last = bit_first[s], bit_first[s + 1]
            if b + 1 < last:
                two_links(
                    True, size, bit_shift[b], bit_shift[b + 1], bit_link[b], bit_link[b + 1], lanes, link, escape,
                    adjoint, 0, work, 0,
                )  # fmt: skip
            elif b < last:
                one_link(True, size, bit_shift[b], bit_link[b], lanes, link, escape, adjoint, 0, work, 0)
            else:
                for i in range(U(size) * n):
                    work[i] = adjoint[i]
            b += 2
            while b < last:
                if b + 1 < last:
                    two_links(
                        True, size, bit_shift[b], bit_shift[b + 1], bit_link[b], bit_link[b + 1], lanes, link, escape,
                        work, 0, work, 0,
                    )  # fmt: skip
                else:
                    one_link(True, size, bit_shift[b], bit_link[b], lanes, link, escape, work, 0, work, 0)
                b += 2
            if size > 1:
                meet(size, lanes, table[s], absent, present, states, at, work, adjoint, room)
                sum_lanes(room, size // 2, lanes)
            else:
                for lane in range(n):
                    room[lane] = states[p + lane] * work[lane]
                blend(size, lanes, table[s], absent, present, adjoint, 0, work, 0, adjoint, 0)
            f = U(table[s]) * n
            for lane in range(n):
                to_present[f + lane] = room[lane]
        elif action[s] == OBSERVE:
            weigh_lanes(size, lanes, table[s], axis_shift, axis_first[s], axis_first[s + 1], factor, adjoint, 0, adjoint, 0)
        elif action[s] == INTRODUCE:
            f = U(subject[s]) * n
            for i in range(U(size)):
                for lane in range(n):
                    low, high = adjoint[U(2) * i * n + lane], adjoint[U(2) * i * n + n + lane]
                    adjoint[i * n + lane] = low * (1.0 - high_of[f + lane]) + high * high_of[f + lane]
        else:
            half, o, f = (U(1) << U(shift[s])) * n, U(0), U(s) * n
            u0, u1 = U(subject[s]) * n, slots + U(subject[s]) * n
            for i in range(U(0), U(size // 2) * n, n):
                for k in range(U(0), n, STEP):
                    store(work, i + k, load(adjoint, i + k) * load(scales, f + k))
            for first in range(U(0), U(size) * n, half + half):
                for i in range(first, first + half, n):
                    for k in range(U(0), n, STEP):
                        value = load(work, o + k)
                        high = value * load(leave, u1 + k)
                        store(adjoint, i + k, value * load(leave, u0 + k))
                        store(adjoint, i + half + k, high)
                        store(room, o + k, load(states, p + i + half + k) * high)
                    o += n
            sum_lanes(room, size // 2, lanes)
            f = U(subject[s]) * n
            for lane in range(n):
                to_marginal[f + lane] = room[lane]
