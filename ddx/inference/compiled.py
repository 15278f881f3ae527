"""The compiled kernel from Python: arrays in the shapes and layouts that it reads, and its results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

from ddx.inference import kernel, kernel_cases
from ddx.inference.dispatch import Planned, Raw, log_of, take
from ddx.inference.kernel_cases import Arrays, Cases, Results, plan_case
from ddx.inference.layout import Booleans
from ddx.inference.lists import ListedRows, distinct, shares
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.program import Program
from ddx.inference.recursion import Block, Slopes
from ddx.inference.rows import Rows, Tables

THREADS = int(vars(config)["NUMBA_NUM_THREADS"])

__all__ = ["THREADS", "distinct", "lanes_of", "plan_case", "rows_for", "run_each", "run_shared", "solve_block"]


def rows_for(network: Network) -> type[Rows]:
    """The class of rows for the cases of a network."""
    return ListedRows if shares(network) else Rows


def run_shared(rows: Rows, chosen: Ints, tables: Tables, planned: Planned) -> Raw:
    """Cases that share a plan; ``tables`` are those of all rows."""
    cases, results = _cases(rows, chosen, tables), _results(rows, chosen, tables)
    kernel_cases.run_shared(_arrays(rows), cases, *planned, lanes_of(planned[1], len(chosen)), results)
    return _raw(results)


def lanes_of(program: Program, n: int) -> int:
    """How many of n cases are solved side by side: few enough for the caches; a large state fills them alone."""
    widest = int(program.size[2])
    return 1 if n < 8 or widest > 512 else 64 if widest <= 64 else 32


def run_each(rows: Rows, chosen: Ints, tables: Tables, effort: float, limit: float, same: Booleans | None = None) -> Raw:
    """Cases with a plan of their own, which the compiled code makes; ``same`` (n,): the layout is that of the case before."""
    cases, results = _cases(rows, chosen, tables), _results(rows, chosen, tables)
    if same is None:
        same = np.zeros(len(chosen), dtype=np.bool_)
    kernel_cases.run_each(_arrays(rows), cases, same, effort, limit, results)
    return _raw(results)


def _arrays(rows: Rows) -> Arrays:
    net = rows.network

    def lead(array: Floats, ndim: int) -> Floats:
        return np.ascontiguousarray(array if array.ndim == ndim else array[None])

    return Arrays(
        lead(net.link, 3),
        lead(net.leak, 2),
        lead(net.syndrome_link, 3),
        lead(net.syndrome_leak, 2),
        lead(net.finding_syndrome, 3),
        np.ascontiguousarray(rows.depends),
        net.requires,
    )


def _cases(rows: Rows, chosen: Ints, tables: Tables) -> Cases:
    first, finding = rows.lists(chosen)
    row = np.repeat(chosen, np.diff(first))
    part = take(tables, chosen)
    absent, present = part.absent, np.ascontiguousarray(part.present)
    # Nothing that is read-only, as broadcast arrays are: numba would compile everything anew for it.
    absent = np.ascontiguousarray(absent) if absent.shape == present.shape else np.broadcast_to(absent, present.shape).copy()
    return Cases(
        np.ascontiguousarray(rows.at[chosen]),
        first,
        np.ascontiguousarray(finding),
        rows.findings[row, finding],
        np.ascontiguousarray(rows.seen[chosen]),
        np.ascontiguousarray(rows.unknown[chosen[0]]),
        np.ascontiguousarray(rows.context_prior[chosen]),
        np.exp(rows.log_syndrome_escape[chosen]),
        tables.first,
        absent,
        present,
    )


def _results(rows: Rows, chosen: Ints, tables: Tables) -> Results:
    n = len(chosen)

    def nothing(width: int) -> Floats:
        return np.full((n, width), np.nan)

    return Results(
        np.zeros(n),
        np.zeros(n, dtype=np.intp),
        nothing(tables.absent.shape[1]),
        nothing(rows.network.n_context),
        nothing(rows.network.n_syndromes),
        np.zeros(n),
    )


def _raw(results: Any) -> Raw:
    return Raw(log_of(results.mantissa, results.exponent), results.present, results.context, results.syndrome, results.doubles)


def solve_block(program: Program, block: Block, full: bool) -> Slopes:
    """What ``recursion.solve`` returns, for a block of one case."""
    columns = (block.absent, block.present, block.link, block.entry, block.leave, block.factor)
    absent, present, link, entry, leave, factor = (np.ascontiguousarray(a).ravel() for a in columns)
    numbers = kernel.Block(absent, present, link, 1.0 - link, entry, leave, factor)
    slopes = kernel_cases.empty_slopes(numbers, full)
    mantissa, exponent = np.empty(1), np.empty(1, dtype=np.intp)
    kernel.solve(program, 1, numbers, kernel.room(program, 1, full), full, mantissa, exponent, slopes)
    filled = (slopes.present, slopes.marginal, slopes.absent, slopes.link, slopes.entry, slopes.factor)
    return Slopes(mantissa, exponent, *(a[:, None] for a in filled))
