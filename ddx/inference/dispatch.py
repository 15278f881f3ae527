"""Who solves which case: rows in groups that share a program, on the NumPy or the compiled kernel, over the cores.

Every choice that could change a bit of a result depends on the case alone: its layout and program. Grouping, chunks, threads
and the kernel only decide how fast the same numbers appear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddx.inference.choice import DOUBLE, MOVE, PLAN, SMALL_DOUBLE, Kernel, load_compiled, load_search, meter, planning
from ddx.inference.layout import CONTEXT, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.program import Program, plan_case
from ddx.inference.recursion import solve
from ddx.inference.rows import Question, Rows, Tables, groups_of

# First of every set of equal cases, and which of them each case is (N,).
Alike = tuple[Ints, Ints]
# The layout and program of a case, and the doubles that it needs at once.
Planned = tuple[Layout, Program, float]

# Positive findings up to which cases without syndromes and unknown context share a program in which every cause touches every
# finding: side by side in the registers, that is faster than to plan for each and to skip what is not linked. The same for
# positive findings and seen syndromes.
DENSE = 8
DENSE_SEEN = 7
# Moves of the search for an order, for every double of state.
EFFORT = 1.0 / 512
MOST_MOVES = 20000  # as ``layout.search`` has it
# Doubles of state up to which cases may be solved at the same time on several cores (256 MiB each).
_SIDE_BY_SIDE = 2.0**25
# Cases of one task (a chunk of a file is one); doubles of state that NumPy holds at once (2 MiB, the second-level cache of
# current processors).
_CHUNK = 12288
_CHUNK_DOUBLES = 1 << 18
# Natural logarithm of P(positive findings | absent ones) below which a case is computed again with longer exponents: 1e-260.
DOUBT = -600.0
_LOG_2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class Solved:
    """Of n cases; those that need more than the budget have ``doubles`` above it and nothing else."""

    log_evidence: Floats  # (n,)
    marginal: Floats  # (n, K)
    context: Floats  # (n, C)
    syndrome: Floats  # (n, J), nan for a syndrome without observed finding
    log_leak: Floats  # (n,) log P(findings | no cause), nan if there are syndromes
    log_no_cause: Floats  # (n,) log P(no cause | observed context), nan if a cause depends on unknown context
    doubles: Floats  # (n,) of state at once
    alike: Alike  # cases that were computed once

    @classmethod
    def empty(cls, n: int, network: Network, alike: Alike) -> Solved:
        """Room for n cases."""
        shapes = ((n,), (n, network.n_distinct), (n, network.n_context), (n, network.n_syndromes), (n,), (n,), (n,))
        evidence, marginal, context, syndrome, leak, no_cause, doubles = (np.full(shape, np.nan) for shape in shapes)
        return cls(evidence, marginal, context, syndrome, leak, no_cause, doubles, alike)

    def spread(self) -> None:
        """Give every case what the first of its kind has."""
        first, inverse = self.alike
        if len(first) < len(inverse):
            for name, array in vars(self).items():
                if name != "alike":
                    array[:] = array[first[inverse]]


@dataclass(frozen=True, eq=False)
class Problem:
    """Checked input: findings (N, F), observed context (N, C), frequencies of unknown context (N, C)."""

    network: Network
    findings: Floats
    observed: Floats
    context_prior: Floats
    question: Question = "findings"
    alike: Alike | None = None  # cases that are known to be equal

    def without(self, cases: NDArray[np.bool_]) -> Problem:
        """The same, in which some cases (N,) have no findings."""
        return replace(self, findings=np.where(cases[:, None], np.nan, self.findings)) if cases.any() else self

    def rows(self, at: Ints, compiled: Any = None) -> Rows:
        """Some of the cases; with the compiled kernel, where it can, by machine code."""
        kind = Rows if compiled is None else compiled.rows_for(self.network)
        part = span(at)
        rows: Rows = kind(self.network, at, self.findings[part], self.observed[part], self.context_prior[part])
        rows.ask(self.question)
        return rows


def run(problem: Problem, kernel: Kernel, limit: float) -> Solved:
    """Solve N cases, equal ones once; a case that needs more than ``limit`` doubles at once is left out."""
    n = len(problem.findings)
    compiled = load_compiled(kernel)
    alike = problem.alike
    if alike is None or len(alike[1]) != n:
        alike = _distinct(problem, compiled)
    result = Solved.empty(n, problem.network, alike)

    def task(at: Ints, limit: float) -> None:
        _solve_group(problem.rows(at, compiled), compiled, kernel, limit, result)

    over_cores(problem, alike[0], compiled, limit, _CHUNK, task, result.doubles)
    result.spread()
    return result


def over_cores(
    problem: Problem, cases: Ints, compiled: Any, limit: float, most: int, task: Callable[[Ints, float], None], doubles: Floats
) -> None:
    """task(some cases, their limit) for cases with the same unknown context, ``most`` at a time, on all cores.

    It puts into ``doubles`` (N,) what a case needs. Cases that need more than what the cores can have side by side have their
    turn alone; those that need more than ``limit`` are left.
    """
    shared = min(limit, _SIDE_BY_SIDE)
    with cores.of(_threads(compiled)) as threads:
        size = max(1, min(most, -(-len(cases) // threads)))
        chunks = [cases[start : start + size] for start in range(0, len(cases), size)]
        groups = [chunk[g] for chunk in chunks for g in groups_of(_open_context(problem, chunk))]
        if len(groups) > 1 and threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(task, groups, [shared] * len(groups)))
        else:
            for at in groups:
                task(at, shared)
        for i in cases[(doubles[cases] > shared) & (doubles[cases] <= limit)]:
            task(np.array([i]), limit)


def _open_context(problem: Problem, at: Ints) -> Any:
    """(n, bits) equal for cases whose causes depend on the same unknown context in the same way."""
    unknown, effect = np.isnan(problem.observed[at]), problem.network.context_log_odds
    return unknown if effect.ndim == 2 else np.concatenate([unknown, (effect[at] != 0.0).reshape(len(at), -1)], axis=1)


class _Share:
    """Calls that are at work at the same time have the cores in equal parts."""

    def __init__(self) -> None:
        self._lock, self._calls, self._expected = threading.Lock(), 0, 0

    @contextmanager
    def expect(self, calls: int) -> Iterator[None]:
        """So many calls will be at work at the same time for a while."""
        with self._lock:
            self._expected += calls
        try:
            yield
        finally:
            with self._lock:
                self._expected -= calls

    @contextmanager
    def of(self, threads: int) -> Iterator[int]:
        """The threads of one call."""
        with self._lock:
            self._calls += 1
            share = max(1, threads // max(self._calls, self._expected))
        try:
            yield share
        finally:
            with self._lock:
                self._calls -= 1


cores = _Share()


def _threads(compiled: Any) -> int:
    return 1 if compiled is None else int(compiled.THREADS)


def _distinct(problem: Problem, compiled: Any = None) -> Alike:
    """First of every set of equal cases, and which of them each case is (N,)."""
    n, net = len(problem.findings), problem.network
    if n < 2 or any(a.ndim == 3 for a in (net.link, net.syndrome_link, net.finding_syndrome, net.context_log_odds)):
        return np.arange(n), np.arange(n)
    own = [a for a in (net.prior, net.leak, net.syndrome_leak) if a.ndim == 2]
    keys = [problem.findings, problem.observed, problem.context_prior, *own]
    if compiled is not None:
        found: Alike = compiled.distinct(keys)
        return found
    # A random projection tells rows apart; equal ones are then compared in full.
    rng = np.random.default_rng(0)
    mark = np.zeros(n)
    for key in keys:
        if key.shape[1]:
            said = np.where(np.isnan(key), -1.0, key)
            mark += said @ rng.random(key.shape[1])
    _, first, inverse = np.unique(mark, return_index=True, return_inverse=True)
    if len(first) == n or not all(np.array_equal(key[first[inverse]], key, equal_nan=True) for key in keys):
        return np.arange(n), np.arange(n)
    return first, inverse


def _solve_group(rows: Rows, compiled: Any, kernel: Kernel, limit: float, result: Solved) -> None:
    """Cases with the same unknown context."""
    open_context = (rows.depends & rows.unknown[0]).any()
    if rows.question == "none" and not open_context:
        result.log_evidence[rows.at], result.doubles[rows.at] = rows.log_no_cause(), 0.0
        return
    tables = rows.tables(rows.unknown[0])
    if not open_context:
        result.log_no_cause[rows.at] = rows.log_no_cause()
    if not rows.network.n_syndromes:
        result.log_leak[rows.at] = rows.log_all_from_leak()
    dense = dense_rows(rows)
    groups = order, bounds, of_dense = rows.grouped(dense)
    if compiled is None:
        planner = load_search(kernel)
        states = rows.network.n_causes * float((1 << (rows.n_positive + rows.seen.sum(axis=1))[dense]).sum())
        expected = SMALL_DOUBLE * states + np.count_nonzero(~of_dense) * PLAN
        if not dense.all():
            few = [plan_of(rows, i, tables.first, planner, 0.0) for i in order[bounds[:-1]][~of_dense][:3].tolist()]
            # Of a case that will be refused there is nothing but its plan.
            solved = sum(doubles for *_, doubles in few if doubles <= limit) / len(few)
            alike = rows.network.n_distinct / rows.network.n_causes
            searched = sum(min(doubles * EFFORT, MOST_MOVES) * _size(layout, alike) for layout, _, doubles in few) / len(few)
            search = np.count_nonzero(~of_dense) * MOVE * searched
            planner = load_search(kernel, search)
            expected += np.count_nonzero(~dense) * DOUBLE * solved + (search if planner is None else 0.0)
        compiled = load_compiled(kernel, expected)
    if compiled is not None:
        raw = compiled.run_groups(rows, groups, tables, EFFORT, limit)
        result.doubles[rows.at] = raw.doubles
        fits = np.flatnonzero(raw.doubles <= limit)
        _put(rows, fits, tables, raw.of(fits), result, dense)
        return
    for start, stop in pairwise(bounds.tolist()):
        chosen = order[start:stop]
        planned = plan_in_group(rows, int(chosen[0]), tables.first, dense, planner)
        result.doubles[rows.at[chosen]] = planned[2]
        for part in parts_of(chosen, planned[2]) if planned[2] <= limit else ():
            with meter.running():
                raw = run_numpy(rows, part, take(tables, part), planned)
            _put(rows, part, tables, raw, result, dense)


def dense_rows(rows: Rows) -> Booleans:
    """Which cases (n,) follow a dense plan."""
    n_seen = rows.seen.sum(axis=1)
    few = rows.n_positive + n_seen <= np.where(n_seen > 0, DENSE_SEEN, DENSE)
    return np.asarray(few & (not (rows.depends & rows.unknown[0]).any()))


def plan_of(rows: Rows, i: int, first: Ints, planner: Any, effort: float) -> Planned:
    """Layout and program of a case of its own, and the doubles that it needs; by the plans of a compiled module, if any."""
    plan = plan_case if planner is None else planner.plan_case
    with meter.running(), planning.running():
        layout, program, doubles = plan(*rows.on(i), first, effort)
    return layout, program, float(doubles)


def _size(layout: Layout, alike: float) -> float:
    """What a move of the search for an order goes over, which takes all forms of a cause as one (``alike``: causes a form)."""
    return len(layout.slot_kind) + len(layout.factor_slot) + alike * (len(layout.cause) + len(layout.touch_slot))


def plan_in_group(rows: Rows, i: int, first: Ints, dense: Booleans, planner: Any = None) -> Planned:
    """The plan that a case shares with its group."""
    if not dense[i]:
        return plan_of(rows, i, first, planner, EFFORT)
    _, syndrome_on, _, seen, *_ = rows.on(i)
    return _dense(int(rows.n_positive[i]), rows.network.cause.tobytes(), seen.tobytes(), syndrome_on.tobytes())


@lru_cache(maxsize=256)
def _dense(m: int, cause: bytes, seen: bytes, syndrome_on: bytes) -> Planned:
    """The plan for m positive findings to which every cause and every syndrome seen (J,) may link; no context matters."""
    syndromes, of_cause = np.frombuffer(seen, dtype=np.bool_), np.frombuffer(cause, dtype=np.intp)
    n_causes = len(of_cause)
    layout, program, doubles = plan_case(
        np.ones((m, n_causes), dtype=np.bool_),
        np.frombuffer(syndrome_on, dtype=np.bool_).reshape(len(syndromes), n_causes),
        np.tile(syndromes, (m, 1)),
        syndromes,
        np.zeros((n_causes, 0), dtype=np.bool_),
        np.zeros(0, dtype=np.bool_),
        np.zeros(0, dtype=np.intp),
        of_cause,
        np.arange(n_causes + 1),
        EFFORT,
    )
    return layout, program, float(doubles)


def parts_of(chosen: Ints, doubles: float) -> list[Ints]:
    """Cases that share a plan, so many at a time as NumPy's states fit into the cache."""
    size = max(1, int(_CHUNK_DOUBLES // doubles))
    return np.split(chosen, range(size, len(chosen), size))


def take(tables: Tables, chosen: Ints) -> Tables:
    """The tables of some cases."""
    arrays, part = (tables.absent, tables.present, tables.log_scale, tables.weight), span(chosen)
    return Tables(tables.first, *(array[part] for array in arrays))


def span(chosen: Ints) -> slice | Ints:
    """Neighbours as a slice, which needs no copies."""
    return slice(int(chosen[0]), int(chosen[-1]) + 1) if len(chosen) and (np.diff(chosen) == 1).all() else chosen


@dataclass(frozen=True, eq=False)
class Raw:
    """What a kernel returns for n cases."""

    log_mantissa: Floats  # (n,)
    slope: Floats  # (n, E) of log evidence to ``Tables.present``
    context: Floats  # (n, C) nan where the context variable has no slot
    syndrome: Floats  # (n, J) likewise
    doubles: Floats  # (n,)

    def of(self, chosen: Ints) -> Raw:
        """Some of the cases."""
        arrays, part = (self.log_mantissa, self.slope, self.context, self.syndrome, self.doubles), span(chosen)
        return Raw(*(array[part] for array in arrays))


def run_numpy(rows: Rows, chosen: Ints, tables: Tables, planned: Planned, dtype: type = np.float64) -> Raw:
    """The NumPy kernel for cases that share a plan; ``tables`` are those of the chosen cases."""
    layout, program, doubles = planned
    slopes = solve(program, rows.block(layout, chosen, tables, dtype))
    context = np.full((len(chosen), rows.network.n_context), np.nan)
    syndrome = np.full((len(chosen), rows.network.n_syndromes), np.nan)
    for v, (kind, index) in enumerate(zip(layout.slot_kind, layout.slot_index, strict=True)):
        if kind == CONTEXT:
            context[:, index] = slopes.marginal[v]
        elif kind == SYNDROME:
            syndrome[:, index] = slopes.marginal[v]
    log_mantissa = log_of(slopes.mantissa, slopes.exponent)
    return Raw(log_mantissa, slopes.present.T, context, syndrome, np.full(len(chosen), doubles))


def log_of(mantissa: Floats, exponent: Ints) -> Floats:
    """Natural logarithm of mantissa * 2**exponent."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(mantissa) + exponent * _LOG_2, dtype=np.float64)


def _put(rows: Rows, chosen: Ints, tables: Tables, raw: Raw, result: Solved, dense: Booleans) -> None:
    """Combine what a kernel returned with what was folded in before."""
    at, part = span(rows.at[chosen]), take(tables, chosen)
    result.doubles[at] = raw.doubles
    with np.errstate(invalid="ignore", over="ignore"):
        joint = part.weight * raw.slope
        if joint.shape[1] > rows.network.n_distinct:
            joint = np.add.reduceat(joint, first_of_causes(rows.network, part.first), axis=1)
        # Rounding can exceed 1 by an ulp.
        result.marginal[at] = joint if rows.question == "only" else np.minimum(joint, 1.0)
        result.context[at] = np.minimum(raw.context, 1.0)
        result.syndrome[at] = np.minimum(raw.syndrome, 1.0)
    result.log_evidence[at] = raw.log_mantissa + part.log_scale + rows.log_constant[chosen]
    for i in np.flatnonzero(raw.log_mantissa < DOUBT):
        row = int(chosen[i])
        _solve_widely(rows, row, result, plan_in_group(rows, row, tables.first, dense))


def first_of_causes(network: Network, first: Ints) -> Ints:
    """Where the entries of every cause (n_distinct,) start, those of all its forms, from where those of a form do (K + 1,)."""
    return first[np.searchsorted(network.cause, np.arange(network.n_distinct))]


def _solve_widely(rows: Rows, i: int, result: Solved, planned: Planned) -> None:
    """One case in the longest floats of this machine (on x86 their exponents are sixteen times as large)."""
    at = rows.at[i : i + 1]
    alone = Rows(rows.network, at, rows.findings[i : i + 1], rows.observed[i : i + 1], rows.context_prior[i : i + 1])
    alone.ask(rows.question)
    alone.log_escape = rows.log_escape[i : i + 1]
    tables = alone.tables(alone.unknown[0], np.longdouble)
    raw = run_numpy(alone, np.zeros(1, dtype=np.intp), tables, planned, np.longdouble)
    with np.errstate(invalid="ignore"):
        joint = np.add.reduceat(tables.weight * raw.slope, first_of_causes(rows.network, tables.first), axis=1)
        result.marginal[at] = np.minimum(joint, 1.0)
        result.context[at] = np.minimum(raw.context, 1.0)
        result.syndrome[at] = np.minimum(raw.syndrome, 1.0)
    result.log_evidence[at] = raw.log_mantissa + np.asarray(tables.log_scale, dtype=np.float64) + alone.log_constant
