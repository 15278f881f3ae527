"""The arithmetic of ``kernel.solve`` for one case with small states: one function, because at a handful of numbers a step the
calls and the loops over lanes take longer than the numbers. The same operations in the same order, so the same bits.
"""

from __future__ import annotations

import math

from ddx.inference.kernel import Block, Slopes, Workspace
from ddx.inference.kernel_base import compile_function
from ddx.inference.network import Floats
from ddx.inference.program import ABSORB, INTRODUCE, OBSERVE, Program
from ddx.inference.recursion import SMALLEST_SHIFT


@compile_function
def _sum(values: Floats, size: int) -> float:
    """Sum of a state, adding halves; ``values`` is used up."""
    half = size // 2
    while half >= 1:
        for i in range(half):
            values[i] += values[half + i]
        half //= 2
    return float(values[0])


@compile_function
def solve_small(program: Program, block: Block, space: Workspace, slopes: Slopes) -> tuple[float, int]:
    """Mantissa and exponent of P(evidence); ``slopes.present`` and ``slopes.marginal`` are filled.

    For programs of one segment, without unknown context.
    """
    absent, present, link, leave, factor = block.absent, block.present, block.link, block.leave, block.factor
    high_of, slots = block.entry, len(block.entry)
    action, subject, width, shift, table = program.action, program.subject, program.width, program.shift, program.table
    axis_first, axis_shift, offset, since = program.axis_first, program.axis_shift, program.offset, program.since
    bit_first, bit_shift, bit_link = program.bit_first, program.bit_shift, program.bit_link
    state, store, work, scales = space.state, space.store, space.work, space.scale
    exponent = 0
    state[0] = 1.0
    for s in range(len(action)):
        size, before = 1 << width[s], offset[s]
        for i in range(size):
            store[before + i] = state[i]
        if action[s] == ABSORB:
            for b in range(bit_first[s], bit_first[s + 1]):
                half, w = 1 << bit_shift[b], link[bit_link[b]]
                v = 1.0 - w
                for start in range(0, size, 2 * half):
                    for i in range(start, start + half):
                        low = state[i]
                        state[i + half] += low * w
                        state[i] = low * v
            a, p = absent[table[s]], present[table[s]]
            for i in range(size):
                state[i] = a * store[before + i] + p * state[i]
        elif action[s] == OBSERVE:
            for i in range(size):
                c = table[s]
                for j in range(axis_first[s], axis_first[s + 1]):
                    c += ((i >> axis_shift[j]) & 1) << (j - axis_first[s])
                state[i] *= factor[c]
        elif action[s] == INTRODUCE:
            high = high_of[subject[s]]
            for i in range(size):
                state[2 * i] = store[before + i] * (1.0 - high)
                state[2 * i + 1] = store[before + i] * high
        else:
            half, o, u0, u1 = 1 << shift[s], 0, leave[subject[s]], leave[slots + subject[s]]
            for start in range(0, size, 2 * half):
                for i in range(start, start + half):
                    state[o] = state[i] * u0 + state[i + half] * u1
                    o += 1
            for i in range(o):
                work[i] = state[i]
            power = max(math.frexp(_sum(work, o))[1], SMALLEST_SHIFT)
            scales[s] = math.ldexp(1.0, -power)
            exponent += power
            for i in range(o):
                state[i] *= scales[s]
    mantissa = state[0]
    adjoint = state
    adjoint[0] = 1.0 / mantissa
    for s in range(len(action) - 1, -1, -1):
        size, before, base = 1 << width[s], offset[s], offset[since[s]]
        if action[s] == ABSORB:
            for i in range(size):
                work[i] = adjoint[i]
            for b in range(bit_first[s], bit_first[s + 1]):
                half, w = 1 << bit_shift[b], link[bit_link[b]]
                v = 1.0 - w
                for start in range(0, size, 2 * half):
                    for i in range(start, start + half):
                        work[i] = work[i] * v + work[i + half] * w
            a, p = absent[table[s]], present[table[s]]
            for i in range(size):
                adjoint[i] = a * adjoint[i] + p * work[i]
                work[i] *= store[base + i]
            slopes.present[table[s]] = _sum(work, size)
        elif action[s] == OBSERVE:
            for i in range(size):
                c = table[s]
                for j in range(axis_first[s], axis_first[s + 1]):
                    c += ((i >> axis_shift[j]) & 1) << (j - axis_first[s])
                adjoint[i] *= factor[c]
        elif action[s] == INTRODUCE:
            high = high_of[subject[s]]
            for i in range(size):
                adjoint[i] = adjoint[2 * i] * (1.0 - high) + adjoint[2 * i + 1] * high
        else:
            half, o, u0, u1 = 1 << shift[s], 0, leave[subject[s]], leave[slots + subject[s]]
            for i in range(size // 2):
                work[i] = adjoint[i] * scales[s]
            for start in range(0, size, 2 * half):
                for i in range(start, start + half):
                    adjoint[i] = work[o] * u0
                    adjoint[i + half] = work[o] * u1
                    work[o] = store[before + i + half] * adjoint[i + half]
                    o += 1
            slopes.marginal[subject[s]] = _sum(work, size // 2)
    return mantissa, exponent
