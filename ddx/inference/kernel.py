"""The arithmetic of ``compiled``: one case after the other on flat arrays, as machine code.

The same steps in the same order with the same numbers as in ``recursion``; only the layout differs. A state is a flat
array in which the variable introduced last is the fastest bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ddx.inference.network import Floats, Ints
from ddx.inference.recursion import DOUBT

ABSORB, INTRODUCE, SUM_OUT = 0, 1, 2
Function = TypeVar("Function", bound=Callable[..., Any])


def _compile(function: Function) -> Function:
    """Machine code at the first call, kept on disk; without the interpreter's lock."""
    return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))


class Program(NamedTuple):
    """A plan as integer arrays, one entry a step; ``*_first`` and the entry after it bound the step's part of a list."""

    action: Ints
    subject: Ints
    width: Ints  # variables in hand before the step
    bare_width: Ints  # context variables among them
    shift: Ints  # of the variable summed out, or of the parent of the one introduced; -1 for none
    bare_shift: Ints  # the same among the context variables
    offset: Ints  # of the state before the step in the store
    context_first: Ints
    context_shift: Ints
    context_bare_shift: Ints
    context_variable: Ints
    bit_first: Ints
    bit_shift: Ints
    bit_finding: Ints


@_compile
def run(
    code: Program,
    doubles: int,
    log_odds: Floats,
    log_escape: Floats,
    link: Floats,
    leak: Floats,
    likelihood: Floats,
    effect: Floats,
    context_prior: Floats,
    cause: Floats,
    none: Floats,
    log_evidence: Floats,
    context: Floats,
    doubtful: NDArray[np.bool_],
) -> None:
    """Solve some cases: the arrays of ``solve`` with the case axis first; the last five are filled."""
    store = np.empty(doubles)
    for case in range(log_odds.shape[0]):
        _case(
            code,
            store,
            log_odds[case],
            log_escape[case],
            link[case],
            leak[case],
            likelihood[case],
            effect[case],
            context_prior[case],
            cause[case],
            none,
            log_evidence,
            context[case],
            doubtful,
            case,
        )


@_compile
def _softplus(x: float) -> float:
    """Log(1 + exp(x)) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@_compile
def _gather(i: int, shifts: Ints) -> int:
    """The bits of i at some places, as a number."""
    c = 0
    for j in range(shifts.shape[0]):
        c |= ((i >> shifts[j]) & 1) << j
    return c


@_compile
def _terms(
    code: Program,
    step: int,
    log_odds: Floats,
    log_escape: Floats,
    effect: Floats,
    absent: Floats,
    present: Floats,
    weight: Floats,
    alone: Floats,
) -> float:
    """a, b, weight and 1 - prior of a cause for every combination of its context in hand; the log scale of the weight."""
    k = code.subject[step]
    first, last = code.context_first[step], code.context_first[step + 1]
    n = 1 << (last - first)
    largest = -np.inf
    for c in range(n):
        x = log_odds[k]
        for j in range(last - first):
            if (c >> j) & 1:
                x += effect[k, code.context_variable[first + j]]
        alone[c] = -_softplus(x)
        present[c] = log_escape[k] - _softplus(-x)
        high = max(alone[c], present[c])
        total = high if high == -np.inf else high + math.log1p(math.exp(min(alone[c], present[c]) - high))
        weight[c] = total
        largest = max(largest, total)
    unit = 0.0 if largest == -np.inf else largest
    for c in range(n):
        safe = 0.0 if weight[c] == -np.inf else weight[c]
        absent[c] = math.exp(alone[c] - safe)
        present[c] = math.exp(present[c] - safe)
        alone[c] = math.exp(alone[c] - unit)
        weight[c] = math.exp(weight[c] - unit)
    return unit


@_compile
def _case(
    code: Program,
    store: Floats,
    log_odds: Floats,
    log_escape: Floats,
    link: Floats,
    leak: Floats,
    likelihood: Floats,
    effect: Floats,
    context_prior: Floats,
    cause: Floats,
    none: Floats,
    log_evidence: Floats,
    context: Floats,
    doubtful: NDArray[np.bool_],
    case: int,
) -> None:
    """Forward and adjoint recursion of one case; the comments are in ``recursion``."""
    n_steps = code.action.shape[0]
    n_context = context.shape[0]
    widest = 1
    tables = 1
    for s in range(n_steps):
        widest = max(widest, 2 << code.width[s])
        tables = max(tables, 1 << (code.context_first[s + 1] - code.context_first[s]))
    totals = np.empty(n_steps)
    state, work = np.empty(widest), np.empty(widest)
    bare, spare = np.empty(widest), np.empty(widest)
    absent, present, weight, alone = np.empty(tables), np.empty(tables), np.empty(tables), np.empty(tables)
    state[0] = 1.0
    bare[0] = 1.0
    log_scale = 0.0
    log_present = 0.0

    for s in range(n_steps):
        size = 1 << code.width[s]
        bare_size = 1 << code.bare_width[s]
        before = store[code.offset[s] : code.offset[s] + size]
        before[:] = state[:size]
        if code.action[s] == ABSORB:
            log_scale += _terms(code, s, log_odds, log_escape, effect, absent, present, weight, alone)
            first, last = code.context_first[s], code.context_first[s + 1]
            for i in range(bare_size):
                bare[i] *= alone[_gather(i, code.context_bare_shift[first:last])]
            work[:size] = before
            linked = False
            for j in range(code.bit_first[s], code.bit_first[s + 1]):
                w = link[code.subject[s], code.bit_finding[j]]
                if w != 0.0:
                    linked = True
                    half = 1 << code.bit_shift[j]
                    for block in range(0, size, 2 * half):
                        for i in range(block, block + half):
                            work[i + half] += work[i] * w
                            work[i] *= 1.0 - w
            if first == last:
                if linked:
                    for i in range(size):
                        state[i] = (absent[0] * before[i] + present[0] * work[i]) * weight[0]
                elif weight[0] != 1.0:
                    for i in range(size):
                        state[i] *= weight[0]
            else:
                for i in range(size):
                    c = _gather(i, code.context_shift[first:last])
                    mixed = absent[c] * before[i] + present[c] * work[i] if linked else before[i]
                    state[i] = mixed * weight[c]
        elif code.action[s] == INTRODUCE:
            v = code.subject[s]
            shift = code.shift[s]
            p = context_prior[v] if v < n_context else leak[v - n_context]
            for i in range(size - 1, -1, -1):
                high = p if shift < 0 or (i >> shift) & 1 else 0.0
                low = before[i]
                state[2 * i + 1] = low * high
                state[2 * i] = low * (1.0 - high)
            if v < n_context:
                for i in range(bare_size - 1, -1, -1):
                    high = p if shift < 0 or (i >> code.bare_shift[s]) & 1 else 0.0
                    low = bare[i]
                    bare[2 * i + 1] = low * high
                    bare[2 * i] = low * (1.0 - high)
            else:
                u = likelihood[v - n_context]
                both = (1.0 - p) * u[0] + p * u[1]
                for i in range(bare_size):
                    bare[i] *= both
        else:
            v = code.subject[s]
            half = 1 << code.shift[s]
            u0, u1 = 1.0, 1.0
            if v >= n_context:
                u0, u1 = likelihood[v - n_context, 0], likelihood[v - n_context, 1]
            total = 0.0
            o = 0
            for block in range(0, size, 2 * half):
                for i in range(block, block + half):
                    x = before[i] * u0 + before[i + half] * u1
                    state[o] = x
                    total += x
                    o += 1
            if total == 0.0:
                total = 1.0
            for i in range(o):
                state[i] /= total
            if v < n_context:
                half = 1 << code.bare_shift[s]
                o = 0
                for block in range(0, bare_size, 2 * half):
                    for i in range(block, block + half):
                        spare[o] = (bare[i] + bare[i + half]) / total
                        o += 1
                bare[:o] = spare[:o]
            else:
                for i in range(bare_size):
                    bare[i] /= total
            totals[s] = total
            log_present += math.log(total)

    evidence = state[0]
    if not evidence > 0.0:
        log_evidence[case] = -np.inf
        doubtful[case] = True
        none[case] = np.nan
        cause[:] = np.nan
        return
    log_present += math.log(evidence)
    log_evidence[case] = log_present + log_scale
    doubtful[case] = log_present < DOUBT
    none[case] = bare[0] / evidence

    adjoint = state
    adjoint[0] = 1.0 / evidence
    for s in range(n_steps - 1, -1, -1):
        size = 1 << code.width[s]
        before = store[code.offset[s] : code.offset[s] + size]
        if code.action[s] == ABSORB:
            _terms(code, s, log_odds, log_escape, effect, absent, present, weight, alone)
            first, last = code.context_first[s], code.context_first[s + 1]
            if first == last:
                if weight[0] != 1.0:
                    for i in range(size):
                        adjoint[i] *= weight[0]
            else:
                for i in range(size):
                    adjoint[i] *= weight[_gather(i, code.context_shift[first:last])]
            work[:size] = adjoint[:size]
            for j in range(code.bit_first[s], code.bit_first[s + 1]):
                w = link[code.subject[s], code.bit_finding[j]]
                if w != 0.0:
                    half = 1 << code.bit_shift[j]
                    for block in range(0, size, 2 * half):
                        for i in range(block, block + half):
                            work[i] = work[i] * (1.0 - w) + work[i + half] * w
            marginal = 0.0
            if first == last:
                for i in range(size):
                    caused = present[0] * work[i]
                    marginal += before[i] * caused
                    adjoint[i] = absent[0] * adjoint[i] + caused
            else:
                for i in range(size):
                    c = _gather(i, code.context_shift[first:last])
                    caused = present[c] * work[i]
                    marginal += before[i] * caused
                    adjoint[i] = absent[c] * adjoint[i] + caused
            cause[code.subject[s]] = marginal
        elif code.action[s] == INTRODUCE:
            v = code.subject[s]
            shift = code.shift[s]
            p = context_prior[v] if v < n_context else leak[v - n_context]
            marginal = 0.0
            for i in range(size):
                high = p if shift < 0 or (i >> shift) & 1 else 0.0
                marginal += before[i] * high * adjoint[2 * i + 1]
                adjoint[i] = adjoint[2 * i] * (1.0 - high) + adjoint[2 * i + 1] * high
            if v < n_context:
                context[v] = marginal
        else:
            v = code.subject[s]
            half = 1 << code.shift[s]
            u0, u1 = 1.0, 1.0
            if v >= n_context:
                u0, u1 = likelihood[v - n_context, 0], likelihood[v - n_context, 1]
            u0 /= totals[s]
            u1 /= totals[s]
            work[: size // 2] = adjoint[: size // 2]
            o = 0
            for block in range(0, size, 2 * half):
                for i in range(block, block + half):
                    adjoint[i] = work[o] * u0
                    adjoint[i + half] = work[o] * u1
                    o += 1
