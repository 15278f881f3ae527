"""The arithmetic of ``kernel.solve`` for small cases side by side: one function, as ``kernel_small`` is for one case.

The same operations in the same order, so the same bits.
"""

from __future__ import annotations

import math

from ddx.inference.kernel import Block, Slopes, Workspace
from ddx.inference.kernel_base import U, compile_function
from ddx.inference.kernel_state import copy, fold
from ddx.inference.kernel_wide import (
    blend,
    bring_back_lanes,
    meet,
    one_link,
    scale_lanes,
    sum_out_lanes,
    two_links,
    weigh_lanes,
)
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
    axis_first, axis_shift, offset, since = program.axis_first, program.axis_shift, program.offset, program.since
    bit_first, bit_shift, bit_link = program.bit_first, program.bit_shift, program.bit_link
    states, adjoint, work, room, scales = space.store, space.state, space.work, space.other, space.scale
    to_present, to_marginal = slopes.present, slopes.marginal
    n, n_steps = U(lanes), len(action)
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
            sum_out_lanes(size, shift[s], lanes, leave, subject[s], states, at, states, after)
            half = size // 2
            copy(states, after, work, 0, half * lanes)
            fold(work, half, lanes)
            f = U(s) * n
            for lane in range(n):
                power = max(math.frexp(work[lane])[1], SMALLEST_SHIFT)
                scales[f + lane] = math.ldexp(1.0, -power)
                exponent[lane] += power
            scale_lanes(states, after, half, lanes, scales, s * lanes)
    for lane in range(n):
        mantissa[lane] = states[U(after) + lane]
        adjoint[lane] = 1.0 / mantissa[lane]
    for s in range(n_steps - 1, -1, -1):
        size, at, base = 1 << width[s], offset[s] * lanes, offset[since[s]] * lanes
        p = U(at)
        if action[s] == ABSORB:
            copy(adjoint, 0, work, 0, size * lanes)
            b, last = bit_first[s], bit_first[s + 1]
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
                meet(size, lanes, table[s], absent, present, states, base, work, adjoint, room)
                fold(room, size // 2, lanes)
            else:
                for lane in range(n):
                    room[lane] = states[U(base) + lane] * work[lane]
                blend(size, lanes, table[s], absent, present, adjoint, 0, work, 0, adjoint, 0)
            copy(room, 0, to_present, table[s] * lanes, lanes)
        elif action[s] == OBSERVE:
            weigh_lanes(size, lanes, table[s], axis_shift, axis_first[s], axis_first[s + 1], factor, adjoint, 0, adjoint, 0)
        elif action[s] == INTRODUCE:
            f = U(subject[s]) * n
            for i in range(U(size)):
                for lane in range(n):
                    low, high = adjoint[U(2) * i * n + lane], adjoint[U(2) * i * n + n + lane]
                    adjoint[i * n + lane] = low * (1.0 - high_of[f + lane]) + high * high_of[f + lane]
        else:
            half = size // 2
            copy(adjoint, 0, work, 0, half * lanes)
            scale_lanes(work, 0, half, lanes, scales, s * lanes)
            bring_back_lanes(size, shift[s], lanes, leave, subject[s], work, states, at, adjoint, room)
            fold(room, half, lanes)
            copy(room, 0, to_marginal, subject[s] * lanes, lanes)
