"""The recursion of ``recursion``, compiled: plans as programs of integers, cases spread over the cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numba import config
from numpy.typing import NDArray

from ddx.inference.kernel import ABSORB, INTRODUCE, SUM_OUT, Program, run
from ddx.inference.network import Ints
from ddx.inference.plan import Step
from ddx.inference.recursion import Chunk, Marginals

_THREADS = int(vars(config)["NUMBA_NUM_THREADS"])


@lru_cache(maxsize=256)
def program(
    steps: tuple[Step, ...], depends: tuple[frozenset[int], ...], n_context: int, requires: tuple[int, ...]
) -> tuple[Program, int]:
    """The program of a plan, and the doubles of its store."""
    rows: list[tuple[int, ...]] = []
    contexts: list[tuple[int, int, int]] = []
    bits: list[tuple[int, int]] = []
    firsts: list[tuple[int, int]] = []
    offset = 0
    for step in steps:
        bare = [v for v in step.hand if v < n_context]
        firsts.append((len(contexts), len(bits)))
        action, shift, bare_shift = ABSORB, -1, -1
        if step.action == "absorb":
            for position, v in enumerate(step.hand):
                place = len(step.hand) - 1 - position
                if v >= n_context:
                    bits.append((place, v - n_context))
                elif v in depends[step.index]:
                    contexts.append((place, len(bare) - 1 - bare.index(v), v))
        else:
            action = INTRODUCE if step.action == "introduce" else SUM_OUT
            watched = step.index
            if action == INTRODUCE:
                watched = requires[step.index] if step.index < n_context else -1
            if watched in step.hand:
                shift = len(step.hand) - 1 - step.hand.index(watched)
                bare_shift = len(bare) - 1 - bare.index(watched) if watched in bare else -1
        rows.append((action, step.index, len(step.hand), len(bare), shift, bare_shift, offset))
        offset += 1 << len(step.hand)
    firsts.append((len(contexts), len(bits)))

    def columns(table: list[Any], n: int) -> list[Ints]:
        return list(np.array(table, dtype=np.intp).reshape(-1, n).T.copy())

    context_first, bit_first = columns(firsts, 2)
    lists = [*columns(rows, 7), context_first, *columns(contexts, 3), bit_first, *columns(bits, 2)]
    return Program._make(lists), offset


def solve(chunk: Chunk, steps: tuple[Step, ...]) -> Marginals:
    """What ``recursion.solve`` returns, by the compiled kernel."""
    n_causes, n = chunk.log_escape.shape
    n_context = chunk.n_context
    depends = tuple(frozenset(np.flatnonzero(row.any(axis=-1)).tolist()) for row in chunk.context_log_odds)
    code, doubles = program(steps, depends, n_context, chunk.requires)
    cause, none, log_evidence = np.empty((n, n_causes)), np.empty(n), np.empty(n)
    context = np.full((n, n_context), np.nan)
    effect = np.empty((n, *chunk.context_log_odds.shape[:2]))
    effect[:] = np.moveaxis(chunk.context_log_odds, -1, 0)
    cases = (
        np.ascontiguousarray(chunk.log_odds.T),
        np.ascontiguousarray(chunk.log_escape.T),
        np.ascontiguousarray(chunk.link.transpose(2, 0, 1)),
        np.ascontiguousarray(chunk.leak.T),
        np.ascontiguousarray(chunk.likelihood.transpose(2, 1, 0)),
        effect,
        np.ascontiguousarray(chunk.context_prior.T),
    )
    doubtful = np.empty(n, dtype=np.bool_)
    answers: tuple[NDArray[Any], ...] = (cause, none, log_evidence, context, doubtful)
    if n < 2 * _THREADS:
        run(code, doubles, *cases, *answers)
    else:
        parts = [slice(n * t // _THREADS, n * (t + 1) // _THREADS) for t in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda part: run(code, doubles, *([a[part] for a in cases] + [a[part] for a in answers])), parts))
    unknown = sorted({step.index for step in steps if step.action == "introduce" and step.index < n_context})
    return Marginals(cause.T, none, log_evidence, {v: context[:, v] for v in unknown}, doubtful)
