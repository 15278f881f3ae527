"""Many runs of the recursion with all derivatives: every case once for P(evidence), and once for each of its targets.

In the run of a target the target cannot be absent, so that its value is P(target, evidence). Runs that share a plan go through
it together, as in ``dispatch``; what a run gives depends on its case and its target alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ddx.inference.choice import DOUBLE, Kernel, load_compiled, load_search, meter
from ddx.inference.dispatch import EFFORT, Problem, dense_rows, log_of, parts_of, plan_in_group, take
from ddx.inference.layout import CAUSE, CONTEXT, FINDING, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints
from ddx.inference.recursion import Slopes, solve
from ddx.inference.rows import Rows, Tables

# The target of a run of P(evidence).
NOBODY = -1


class Collected(NamedTuple):
    """Derivatives of log P of n runs with P positive findings: to what the recursion got, and P(slot = 1) of syndromes."""

    mantissa: Floats  # (n,)
    exponent: Ints  # (n,)
    doubles: Floats  # (n,) memory that a run needs; more than the limit: not solved
    absent: Floats  # (n, E) to ``Tables.absent``
    present: Floats  # (n, E) to ``Tables.present``
    absorbed: Booleans  # (n, K)
    link: Floats  # (P, K) to the links of the positive findings
    leak: Floats  # (P,)
    finding_syndrome: Floats  # (P, J)
    syndrome_link: Floats  # (n, J, K)
    syndrome_leak: Floats  # (n, J)
    syndrome: Floats  # (n, J) P(syndrome | evidence)
    context: Floats  # (n, C) to the frequency of an unknown context variable

    @classmethod
    def empty(cls, rows: Rows, tables: Tables, dtype: type) -> Collected:
        """Room for n runs."""
        n, p, e = len(rows.at), len(rows.listed[1]), tables.present.shape[1]
        k, j, c = rows.network.n_causes, rows.network.n_syndromes, rows.network.n_context

        def zeros(*shape: int) -> Floats:
            return np.zeros(shape, dtype)

        return cls(
            zeros(n), np.zeros(n, np.intp), np.zeros(n), np.ones((n, e), dtype), np.ones((n, e), dtype),
            np.zeros((n, k), np.bool_), zeros(p, k), zeros(p), zeros(p, j),
            zeros(n, j, k), zeros(n, j), zeros(n, j), zeros(n, c),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Priors:
    """P(cause absent, present) and d P(present) / d prior for every entry of the tables, of n runs."""

    cause: Ints  # (E,)
    context: Floats  # (n, E or 1, C) observed, or that of the entry
    present: Floats  # (n, E)
    absent: Floats  # (n, E)
    bend: Floats  # (n, E)
    unit: Floats  # (n, E) that the tables are divided by; it may be too small for a float, the next two are not
    inverse: Floats  # (n, E) 1 / unit
    escape: Floats  # (n, E) P(absent findings | the cause) / unit

    @classmethod
    def of(cls, rows: Rows, tables: Tables) -> Priors:
        """Those of runs with the same unknown context."""
        net = rows.network
        prior, effect = np.atleast_2d(rows.take(net.prior, 2)), rows.take(net.context_log_odds, 3)
        entries = np.diff(tables.first)
        cause = np.repeat(np.arange(net.n_causes), entries)
        context = np.nan_to_num(rows.observed)[:, None, :]
        open_here = (rows.depends & rows.unknown[0])[cause]
        if open_here.any():
            place = np.arange(len(cause)) - tables.first[cause]
            # The unknown variables of a cause count through the bits of its entries, in their order.
            bit = np.cumsum(open_here, axis=1) - 1
            context = np.where(open_here, (place[:, None] >> np.maximum(bit, 0)) & 1, context)
        ratio = np.exp((context * effect[..., cause, :]).sum(axis=-1))
        present, absent = prior[:, cause] * ratio, np.broadcast_to(1.0 - prior[:, cause], ratio.shape)
        total = present + absent
        log = rows.log_escape[:, cause].astype(tables.present.dtype)
        escape = np.exp(log)
        alone = (entries == 1)[cause]
        unit = np.where(alone, (absent + present * escape) / total, 1.0)
        certain = (absent == 0.0) & alone
        inverse, share = 1.0 / unit, escape / unit
        if certain.any():
            inverse, share = np.where(certain, np.exp(-log), inverse), np.where(certain, 1.0, share)
        return cls(cause, context, present / total, absent / total, ratio / total**2, unit, inverse, share)


@dataclass(frozen=True, eq=False)
class Runs:
    """T targets of n cases, target by target: rows, tables and results have T n rows."""

    rows: Rows
    tables: Tables
    target: Ints  # (T n,) the cause that is present for certain, or NOBODY
    collected: Collected

    @property
    def log(self) -> Floats:
        """Log P(evidence), or log P(target, evidence), (T n,)."""
        log = log_of(self.collected.mantissa, self.collected.exponent) + self.tables.log_scale + self.rows.log_constant
        # Nothing observed depends on such a target beyond its absent findings: it is a factor of its own.
        row, entry = self.apart
        with np.errstate(divide="ignore"):
            log[row] += np.log(self.tables.present[row, entry])
        return np.asarray(log, dtype=np.float64)

    @property
    def apart(self) -> tuple[Ints, Ints]:
        """The runs whose target no step absorbs, and where the table of the target starts."""
        row = np.flatnonzero(self.target != NOBODY)
        row = row[~self.collected.absorbed[row, self.target[row]]]
        return row, self.tables.first[self.target[row]]

    @cached_property
    def priors(self) -> Priors:
        """The priors behind the tables."""
        return Priors.of(self.rows, self.tables)

    @cached_property
    def slopes(self) -> tuple[Floats, Floats]:
        """Derivatives of ``log`` (T n, E) to the tables of absent and of present causes."""
        absent, present = self.collected.absent.copy(), self.collected.present.copy()
        for k in np.unique(self.target[self.target != NOBODY]):
            absent[self.target == k, self.tables.first[k] : self.tables.first[k + 1]] = 0.0
        row, entry = self.apart
        present[row, entry] = 1.0 / self.tables.present[row, entry]
        return absent, present


def run_all(problem: Problem, at: Ints, targets: Sequence[int], kernel: Kernel, limit: float, dtype: type = np.float64) -> Runs:
    """Cases with the same unknown context; ``targets`` (T,) as in ``Runs``.

    float64 on the kernel that is asked for, anything else on NumPy.
    """
    compiled = load_compiled(kernel) if dtype is np.float64 else None
    rows = problem.rows(np.tile(at, len(targets)), compiled)
    target = np.repeat(targets, len(at))
    tables = _clamped(rows.tables(rows.unknown[0], dtype), target)
    collected = Collected.empty(rows, tables, dtype)
    runs = Runs(rows, tables, target, collected)
    dense = dense_rows(rows)
    order, bounds, of_dense = rows.grouped(dense)
    if compiled is not None:
        compiled.run_adjoint(rows, (order, bounds, of_dense), tables, EFFORT, limit, collected)
        return runs
    for start, stop in pairwise(bounds.tolist()):
        chosen = order[start:stop]
        layout, program, doubles = plan_in_group(rows, int(chosen[0]), tables.first, dense, load_search(kernel))
        collected.doubles[chosen] = doubles
        if doubles > limit:
            continue
        compiled = load_compiled(kernel, 4.0 * DOUBLE * doubles * len(chosen)) if dtype is np.float64 else None
        if compiled is not None:
            left = (order[start:], bounds[bounds >= start] - start, of_dense[bounds[:-1] >= start])
            compiled.run_adjoint(rows, left, tables, EFFORT, limit, collected)
            return runs
        for some in parts_of(chosen, doubles):
            with meter.running():
                slopes = solve(program, rows.block(layout, some, take(tables, some), dtype), True)
                for lane, row in enumerate(some.tolist()):
                    _collect_lane(rows, row, layout, lane, slopes, collected)
    return runs


def _clamped(tables: Tables, target: Ints) -> Tables:
    """Targets cannot be absent."""
    absent = tables.absent.copy()
    for k in np.unique(target[target != NOBODY]):
        absent[target == k, tables.first[k] : tables.first[k + 1]] = 0.0
    return replace(tables, absent=absent)


def _collect_lane(rows: Rows, row: int, layout: Layout, lane: int, slopes: Slopes, collected: Collected) -> None:
    net, at, first = rows.network, rows.at[row], rows.listed[0]
    finding = rows.listed[1][first[row] : first[row + 1]]

    def case(array: Floats, ndim: int) -> Floats:
        return array[at] if array.ndim == ndim else array

    collected.mantissa[row], collected.exponent[row] = slopes.mantissa[lane], slopes.exponent[lane]
    collected.absent[row], collected.present[row] = slopes.absent[:, lane], slopes.present[:, lane]
    weights = Weights(case(net.link, 3), case(net.leak, 2), case(net.syndrome_link, 3), case(net.finding_syndrome, 3))
    lanes = (slopes.marginal, slopes.link, slopes.entry, slopes.factor)
    own = part(collected, row, first[row], first[row + 1])
    collect(layout, finding, rows.findings[row, finding], weights, CaseSlopes(*(array[:, lane] for array in lanes)), own)


class Weights(NamedTuple):
    """Arrays of the network for one case."""

    link: Floats  # (F, K)
    leak: Floats  # (F,)
    syndrome_link: Floats  # (J, K)
    finding_syndrome: Floats  # (F, J)


class CaseSlopes(NamedTuple):
    """``recursion.Slopes`` of one case."""

    marginal: Floats
    link: Floats
    entry: Floats
    factor: Floats


class Part(NamedTuple):
    """What belongs to one run in ``Collected``."""

    absorbed: Booleans  # (K,)
    link: Floats  # (m, K)
    leak: Floats  # (m,)
    finding_syndrome: Floats  # (m, J)
    syndrome_link: Floats  # (J, K)
    syndrome_leak: Floats  # (J,)
    syndrome: Floats  # (J,)
    context: Floats  # (C,)


# This function and the next are written for both worlds, as those of ``layout`` are.
def part(collected: Collected, row: int, first: int, last: int) -> Part:
    """Views of one run, whose positive findings are from ``first`` to ``last``."""
    return Part(
        collected.absorbed[row],
        collected.link[first:last],
        collected.leak[first:last],
        collected.finding_syndrome[first:last],
        collected.syndrome_link[row],
        collected.syndrome_leak[row],
        collected.syndrome[row],
        collected.context[row],
    )


def collect(layout: Layout, finding: Ints, value: Floats, weights: Weights, slopes: CaseSlopes, own: Part) -> None:
    """From derivatives to the numbers of a case's steps to derivatives to parameters, into ``own``.

    ``finding`` (m,), ``value`` (m,): its positive findings. The derivative to the link of a finding that is a table over its
    parents is the table of the others, summed with the derivatives where that parent is on.
    """
    for s in range(len(layout.slot_kind)):
        kind, index = layout.slot_kind[s], layout.slot_index[s]
        if kind == FINDING:
            own.leak[index] = slopes.entry[s]
        elif kind == SYNDROME:
            own.syndrome_leak[index], own.syndrome[index] = slopes.entry[s], slopes.marginal[s]
        elif kind == CONTEXT:
            own.context[index] = slopes.entry[s]
    for a in range(len(layout.cause)):
        k = layout.cause[a]
        own.absorbed[k] = True
        for b in range(layout.bit_first[a], layout.bit_first[a + 1]):
            kind, index = layout.slot_kind[layout.bit_slot[b]], layout.slot_index[layout.bit_slot[b]]
            # A dense plan asks for links that are not there as well.
            if kind == FINDING and weights.link[finding[index], k] > 0.0:
                own.link[index, k] = slopes.link[b]
            elif kind == SYNDROME and weights.syndrome_link[index, k] > 0.0:
                own.syndrome_link[index, k] = slopes.link[b]
    start = 0
    for r in range(len(layout.factor)):
        position = layout.factor[r]
        f = finding[position]
        slots = layout.factor_slot[layout.factor_first[r] : layout.factor_first[r + 1]]
        stop = start + (1 << len(slots))
        slope = (2.0 * value[position] - 1.0) * slopes.factor[start:stop]
        start = stop
        escape, own_bit = np.zeros(len(slots)), False
        for p in range(len(slots)):
            kind, index = layout.slot_kind[slots[p]], layout.slot_index[slots[p]]
            if kind == SYNDROME:
                escape[p] = 1.0 - weights.finding_syndrome[f, index]
            elif kind == CAUSE:
                escape[p] = 1.0 - weights.link[f, index]
            else:
                own_bit = True
        for chosen in range(-1, len(slots)):
            rest = slope
            for p in range(len(slots) - 1, -1, -1):
                half = len(rest) // 2
                rest = rest[half:] * 1.0 if p == chosen else rest[:half] + rest[half:] * escape[p]
            if chosen < 0:
                if not own_bit:
                    own.leak[position] = rest[0]
                continue
            # With a bit of its own the leak has had its say in that bit.
            not_leak = 1.0 if own_bit else 1.0 - weights.leak[f]
            kind, index = layout.slot_kind[slots[chosen]], layout.slot_index[slots[chosen]]
            if kind == SYNDROME and weights.finding_syndrome[f, index] > 0.0:
                own.finding_syndrome[position, index] = not_leak * rest[0]
            elif kind == CAUSE and weights.link[f, index] > 0.0:
                own.link[position, index] = not_leak * rest[0]
