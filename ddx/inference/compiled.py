"""The compiled kernel from Python: arrays in the shapes and layouts that it reads, and its results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddx.inference import kernel
from ddx.inference.dispatch import Raw, log_of
from ddx.inference.kernel import Arrays, Cases, Results, plan_case
from ddx.inference.layout import Layout
from ddx.inference.network import Floats, Ints
from ddx.inference.program import Program
from ddx.inference.rows import Rows, Tables

# Cases side by side in small states; large states fill the first-level cache by themselves.
_MOST_LANES, _LANE_DOUBLES = 32, 1 << 11

__all__ = ["lanes_of", "plan_case", "run_each", "run_shared"]


def run_shared(rows: Rows, chosen: Ints, tables: Tables, planned: tuple[Layout, Program, float]) -> Raw:
    """Cases that share a plan; ``tables`` are those of all rows."""
    cases, results = _cases(rows, chosen, tables), _results(rows, chosen, tables)
    kernel.run_shared(_arrays(rows), cases, *planned, lanes_of(planned[1]), results)
    return _raw(results)


def lanes_of(program: Program) -> int:
    """How many cases that share a program are solved side by side."""
    return max(1, min(_MOST_LANES, _LANE_DOUBLES // int(program.size[2])))


def run_each(rows: Rows, chosen: Ints, tables: Tables, effort: float, limit: float) -> Raw:
    """Cases with a plan of their own, which the compiled code makes."""
    cases, results = _cases(rows, chosen, tables), _results(rows, chosen, tables)
    kernel.run_each(_arrays(rows), cases, effort, limit, results)
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
    positive = rows.positive[chosen]
    row, finding = np.nonzero(positive)
    first = np.zeros(len(chosen) + 1, dtype=np.intp)
    np.cumsum(positive.sum(axis=1), out=first[1:])
    return Cases(
        np.ascontiguousarray(rows.at[chosen]),
        first,
        np.ascontiguousarray(finding),
        rows.findings[chosen[row], finding],
        np.ascontiguousarray(rows.seen[chosen]),
        np.ascontiguousarray(rows.unknown[chosen[0]]),
        np.ascontiguousarray(rows.context_prior[chosen]),
        np.exp(rows.log_syndrome_escape[chosen]),
        tables.first,
        tables.absent[chosen],
        tables.present[chosen],
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
    return Raw(
        log_of(results.mantissa, results.exponent), results.present, results.context, results.syndrome, results.doubles
    )
