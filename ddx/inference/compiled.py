"""The compiled kernel from Python: arrays in the shapes and layouts that it reads, and its results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

from ddx.inference import kernel_adjoint, kernel_cases
from ddx.inference.adjoint import Collected
from ddx.inference.dispatch import Raw, log_of
from ddx.inference.kernel_cases import Results, plan_case
from ddx.inference.kernel_gather import Arrays, Cases
from ddx.inference.lists import ListedRows, distinct, shares
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.rows import Groups, Rows, Tables

THREADS = int(vars(config)["NUMBA_NUM_THREADS"])
LANES = 64  # most cases that are solved side by side

__all__ = ["THREADS", "distinct", "plan_case", "rows_for", "run_adjoint", "run_groups"]


def rows_for(network: Network) -> type[Rows]:
    """The class of rows for the cases of a network."""
    return ListedRows if shares(network) else Rows


def run_groups(rows: Rows, groups: Groups, tables: Tables, effort: float, limit: float) -> Raw:
    """Cases in groups that share a plan, which the compiled code makes; nothing of cases that are in no group."""
    order, bounds, dense = groups
    cases, results = _cases(rows, order, tables), _results(rows, tables)
    kernel_cases.run_groups(_arrays(rows), cases, bounds, dense, LANES, effort, limit, results)
    return _raw(results)


def run_adjoint(rows: Rows, groups: Groups, tables: Tables, effort: float, limit: float, collected: Collected) -> None:
    """The same with all derivatives, into rows of ``collected``."""
    order, bounds, dense = groups
    cases = _cases(rows, order, tables)
    kernel_adjoint.run_adjoint(_arrays(rows), cases, bounds, dense, LANES, effort, limit, collected)


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
        net.cause,
    )


def _cases(rows: Rows, order: Ints, tables: Tables) -> Cases:
    first, finding = rows.listed
    row = np.repeat(np.arange(len(rows.at)), np.diff(first))
    absent, present = tables.absent, np.ascontiguousarray(tables.present)
    # Nothing that is read-only, as broadcast arrays are: numba would compile everything anew for it.
    absent = np.ascontiguousarray(absent) if absent.shape == present.shape else np.broadcast_to(absent, present.shape).copy()
    return Cases(
        order,
        np.ascontiguousarray(rows.at),
        first,
        np.ascontiguousarray(finding),
        rows.findings[row, finding],
        np.ascontiguousarray(rows.seen),
        rows.unknown[0].copy(),
        np.ascontiguousarray(rows.context_prior),
        np.exp(rows.log_syndrome_escape),
        tables.first,
        absent,
        present,
    )


def _results(rows: Rows, tables: Tables) -> Results:
    n = len(rows.at)

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
