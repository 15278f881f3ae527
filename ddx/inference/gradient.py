"""Derivatives of log evidence and of posteriors to every parameter of the network, from one forward and one adjoint pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddx.inference.choice import DOUBLE, Kernel, load_compiled
from ddx.inference.dispatch import DOUBT, EFFORT, Problem, log_of, plan_of
from ddx.inference.exact import EvidenceTooLarge, checked
from ddx.inference.layout import CAUSE, CONTEXT, FINDING, SYNDROME, Layout
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.program import Program
from ddx.inference.recursion import Slopes, solve
from ddx.inference.rows import Rows, Tables, log_escape, noisy_or_table


@dataclass(frozen=True, eq=False)
class Gradient:
    """A value (N,) for every case and its derivatives to the arrays of the network, each with a case axis in front.

    Zero where a link is 0 (no link) and where the value does not depend on the parameter. nan for impossible evidence, for
    everything but the prior of a target that the evidence excludes, and for a link of exactly 1 from a syndrome to an absent
    finding.
    """

    value: Floats  # (N,)
    prior: Floats  # (N, K)
    link: Floats  # (N, F, K)
    leak: Floats  # (N, F)
    syndrome_link: Floats  # (N, J, K)
    syndrome_leak: Floats  # (N, J)
    finding_syndrome: Floats  # (N, F, J)
    context_log_odds: Floats  # (N, K, C)
    context_prior: Floats  # (N, C)


def gradient(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    target: int | None = None,
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
) -> Gradient:
    """Derivatives of log P(evidence), or of one posterior, to all parameters.

    Parameters
    ----------
    network, evidence, context, memory_gib, kernel : as for ``posterior``
    target : index of a cause: differentiate P(cause = 1 | evidence); left out: log P(evidence | observed context)

    Raises
    ------
    IndexError
        ``target`` is not a cause.
    ValueError, EvidenceTooLarge
        As for ``posterior``.

    Notes
    -----
    P(evidence) is linear in every single prior, link and leak, so the adjoint pass yields all partial derivatives at once
    (Darwiche 2003, A differential approach to inference; Kjaerulff and van der Gaag 2000, Making sensitivity analysis
    computationally efficient). A posterior is a ratio of two such functions: d P(c | e) = P(c | e) (d log P(c, e) -
    d log P(e)), the first term from a second run in which the cause is present for certain.
    """
    if target is not None and not 0 <= target < network.n_causes:
        raise IndexError(f"target: got {target}, expected the index of a cause, 0 to {network.n_causes - 1}")
    problem = checked(network, evidence, context)
    n, k, f, j, c = len(problem.findings), network.n_causes, network.n_findings, network.n_syndromes, network.n_context
    shapes = ((n,), (n, k), (n, f, k), (n, f), (n, j, k), (n, j), (n, f, j), (n, k, c), (n, c))
    result = Gradient(*(np.zeros(shape) for shape in shapes))
    compiled = load_compiled(kernel)
    for i in range(n):
        case = SingleCase.of(problem, i, compiled, memory_gib)
        if compiled is None:
            compiled = load_compiled(kernel, 4.0 * DOUBLE * case.doubles)
        with np.errstate(over="ignore"):
            parts = case.derivatives(compiled, target)
        for name, value in parts.items():
            getattr(result, name)[i] = value
    return result


@dataclass(frozen=True, eq=False)
class SingleCase:
    """One case, its plan and its tables."""

    rows: Rows
    tables: Tables
    layout: Layout
    program: Program
    doubles: float

    @classmethod
    def of(cls, problem: Problem, i: int, compiled: Any, memory_gib: float) -> SingleCase:
        """Case ``i`` of a problem; EvidenceTooLarge if it does not fit."""
        rows = problem.rows(np.array([i]))
        tables = rows.tables(rows.unknown[0])
        layout, program, doubles = plan_of(rows, 0, tables.first, compiled, EFFORT)
        if doubles > memory_gib * 2**27:
            raise EvidenceTooLarge(i, int((rows.findings > 0.0).sum()), doubles / 2**27, memory_gib)
        return cls(rows, tables, layout, program, doubles)

    def derivatives(self, compiled: Any, target: int | None) -> dict[str, Floats | float]:
        """By name of the field of ``Gradient``."""
        log_evidence, tables, slopes = self.solved(compiled, None)
        of_evidence = self.chain_rule(tables, slopes, None)
        if log_evidence == -np.inf:
            nothing: dict[str, Floats | float] = {name: np.full_like(a, np.nan) for name, a in of_evidence.items()}
            return nothing | {"value": log_evidence if target is None else np.nan}
        if target is None:
            return of_evidence | {"value": log_evidence}
        log_joint, joint_tables, joint_slopes = self.solved(compiled, target)
        of_joint = self.chain_rule(joint_tables, joint_slopes, target)
        posterior = min(float(np.exp(log_joint - log_evidence)), 1.0)
        parts: dict[str, Floats | float]
        if log_joint == -np.inf:
            # The evidence excludes the target: only its own links and its prior could change that.
            parts = {name: np.zeros_like(a) for name, a in of_evidence.items()}
            for name in ("link", "syndrome_link"):
                np.asarray(parts[name])[:, target] = of_evidence[name][:, target]
            parts["finding_syndrome"] = np.where(np.isnan(of_evidence["finding_syndrome"]), np.nan, 0.0)
        else:
            parts = {name: posterior * (of_joint[name] - derivative) for name, derivative in of_evidence.items()}
        parts["value"] = posterior
        np.asarray(parts["prior"])[target] = _own_prior(self.rows, tables, slopes)[target]
        return parts

    def chain_rule(self, tables: Tables, slopes: Slopes, target: int | None) -> dict[str, Floats]:
        """Derivatives to the arrays of the network of what ``solved`` returned."""
        return _chain_rule(self.rows, self.layout, tables, slopes, target)

    def solved(self, compiled: Any, target: int | None) -> tuple[float, Tables, Slopes]:
        """Log P(evidence), or log P(target = 1, evidence), and what the recursion got and gave."""
        tables = self._clamped(self.tables, target)
        block = self.rows.block(self.layout, np.zeros(1, dtype=np.intp), tables)
        solver = solve if compiled is None else compiled.solve_block
        slopes = solver(self.program, block, True)
        if log_of(slopes.mantissa, slopes.exponent)[0] < DOUBT:
            tables = self._clamped(self.rows.tables(self.rows.unknown[0], np.longdouble), target)
            block = self.rows.block(self.layout, np.zeros(1, dtype=np.intp), tables, np.longdouble)
            slopes = solve(self.program, block, True)
        log = float(log_of(slopes.mantissa, slopes.exponent)[0] + tables.log_scale[0] + self.rows.log_constant[0])
        absorbed = target is None or target in self.layout.cause
        if not absorbed and target is not None:
            # Nothing observed depends on the target beyond its absent findings: it is a factor of its own.
            with np.errstate(divide="ignore"):
                log += float(np.log(tables.present[0, tables.first[target]]))
        return log, tables, slopes

    @staticmethod
    def _clamped(tables: Tables, target: int | None) -> Tables:
        """The target cannot be absent."""
        if target is None:
            return tables
        absent = tables.absent.copy()
        absent[:, tables.first[target] : tables.first[target + 1]] = 0.0
        return replace(tables, absent=absent)


def _chain_rule(rows: Rows, layout: Layout, tables: Tables, slopes: Slopes, target: int | None) -> dict[str, Floats]:
    """From derivatives to the numbers of a block to derivatives to the parameters; ``target`` is present for certain."""
    net = rows.network
    v = rows.findings[0]
    shapes = ((net.link, 3), (net.leak, 2), (net.finding_syndrome, 3))
    link, leak, syndrome = (array[rows.at[0]] if array.ndim == batched else array for array, batched in shapes)
    absent, positive = v == 0.0, rows.positive[0]
    finding = np.flatnonzero(positive)
    result = {
        "link": np.zeros(link.shape),
        "leak": np.zeros(leak.shape),
        "syndrome_link": np.zeros(net.syndrome_link.shape[-2:]),
        "syndrome_leak": np.zeros(net.n_syndromes),
        "finding_syndrome": np.zeros(syndrome.shape),
    }
    result |= _context_slopes(rows, layout, slopes)
    present_cause, result["prior"], result["context_log_odds"], freed = _prior_slopes(rows, tables, slopes, layout, target)
    present_syndrome = np.zeros(net.n_syndromes)
    for s, (kind, index) in enumerate(zip(layout.slot_kind, layout.slot_index, strict=True)):
        if kind == FINDING:
            result["leak"][finding[index]] = slopes.entry[s, 0]
        elif kind == SYNDROME:
            result["syndrome_leak"][index] = slopes.entry[s, 0]
            present_syndrome[index] = slopes.marginal[s, 0]
    cause = np.repeat(layout.cause, np.diff(layout.bit_first))
    for b, slot in enumerate(layout.bit_slot):
        kind, index = layout.slot_kind[slot], layout.slot_index[slot]
        if kind == FINDING:
            result["link"][finding[index], cause[b]] = slopes.link[b, 0]
        elif kind == SYNDROME:
            result["syndrome_link"][index, cause[b]] = slopes.link[b, 0]
    _factor_slopes(layout, slopes, v[finding], finding, link, leak, syndrome, result)

    with np.errstate(divide="ignore", invalid="ignore"):
        lone = (v > 0.0) & ~positive
        result["leak"][lone] = ((2.0 * v - 1.0) / (v * leak + (1.0 - v) * (1.0 - leak)))[lone]
        result["leak"][absent] = -1.0 / (1.0 - leak[absent])
        result["link"][absent] = np.where(link == 0.0, 0.0, -present_cause / (1.0 - link))[absent]
        result["finding_syndrome"][absent] = np.where(
            syndrome == 0.0, 0.0, np.where(syndrome == 1.0, np.nan, -present_syndrome / (1.0 - syndrome))
        )[absent]
    certain = (link == 1.0) & absent[:, None]
    if certain.any():
        # What one certain link rules out, were it a little less certain; two of them rule it out twice.
        once = certain & (certain.sum(axis=0) == 1)
        result["link"] = np.where(certain, np.where(once, -freed, 0.0), result["link"])
    if slopes.mantissa[0] == 0.0:
        return {name: np.full_like(array, np.nan) for name, array in result.items()}
    return result


@dataclass(frozen=True, eq=False)
class Priors:
    """P(cause absent, present) and d P(present) / d prior for every entry of the tables, of one case."""

    cause: Ints  # (E,)
    context: Floats  # (E, C) observed, or that of the entry
    present: Floats  # (E,)
    absent: Floats  # (E,)
    bend: Floats  # (E,)
    unit: Floats  # (E,) that the tables are divided by; it may be too small for a float, the next two are not
    inverse: Floats  # (E,) 1 / unit
    escape: Floats  # (E,) P(absent findings | the cause) / unit

    @classmethod
    def of(cls, rows: Rows, tables: Tables) -> Priors:
        """Those of the first case of ``rows``."""
        net = rows.network
        prior = net.prior[rows.at[0]] if net.prior.ndim == 2 else net.prior
        effect = net.context_log_odds[rows.at[0]] if net.context_log_odds.ndim == 3 else net.context_log_odds
        entries = np.diff(tables.first)
        cause = np.repeat(np.arange(net.n_causes), entries)
        place = np.arange(len(cause)) - tables.first[cause]
        context = np.tile(np.nan_to_num(rows.observed[0]), (len(cause), 1))
        open_here = (rows.depends & rows.unknown[0])[cause]
        # The unknown variables of a cause count through the bits of its entries, in their order.
        bit = np.cumsum(open_here, axis=1) - 1
        context[open_here] = ((place[:, None] >> np.maximum(bit, 0)) & 1)[open_here]
        ratio = np.exp((context * effect[cause]).sum(axis=1))
        present, absent = prior[cause] * ratio, 1.0 - prior[cause]
        total = present + absent
        escape = np.exp(rows.log_escape[0, cause])
        unit = np.where(entries[cause] == 1, (absent + present * escape) / total, 1.0)
        certain = (absent == 0.0) & (entries[cause] == 1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inverse = np.where(certain, np.exp(-rows.log_escape[0, cause]), 1.0 / unit)
            share = np.where(certain, 1.0, escape / unit)
        return cls(cause, context, present / total, absent / total, ratio / total**2, unit, inverse, share)


def _own_prior(rows: Rows, tables: Tables, slopes: Slopes) -> Floats:
    """The derivative of P(cause | e) to the prior of the cause (K,), without dividing by that prior.

    d (A / (A + B)) = (B dA - A dB) / (A + B)**2, with A and B = P(cause = 1 or 0, e).
    """
    p = Priors.of(rows, tables)
    present, absent = slopes.present[:, 0], slopes.absent[:, 0]

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, tables.first[:-1]), dtype=np.float64)

    with np.errstate(over="ignore", invalid="ignore"):
        there, not_there = total(tables.present[0] * present), total(tables.absent[0] * absent)
        return not_there * total(p.bend * p.escape * present) + there * total(p.bend * absent * p.inverse)


def _prior_slopes(
    rows: Rows, tables: Tables, slopes: Slopes, layout: Layout, target: int | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """P(cause | evidence) (K,), derivatives to the priors (K,) and to the log odds ratios (K, C); and, were its certain links
    to absent findings not there, P(cause, evidence) over P(evidence) (K,).
    """
    p, k = Priors.of(rows, tables), rows.network.n_causes
    arrays = (rows.network.link, rows.network.context_log_odds)
    link, effect = (array[rows.at[0]] if array.ndim == 3 else array for array in arrays)
    open_escape = np.exp(log_escape(rows.findings == 0.0, np.where(link == 1.0, 0.0, link))[0])
    slope_absent, slope_present = slopes.absent[:, 0].copy(), slopes.present[:, 0].copy()

    def total(values: Floats) -> Floats:
        sums = np.zeros((k, *values.shape[1:]))
        np.add.at(sums, p.cause, values)
        return sums

    with np.errstate(invalid="ignore", divide="ignore"):
        if target is not None:
            slope_absent[p.cause == target] = 0.0
            if target not in layout.cause:  # a factor of its own, present * escape / unit
                slope_present[tables.first[target]] = 1.0 / tables.present[0, tables.first[target]]
        gain = p.escape * slope_present - slope_absent * p.inverse
        present = np.minimum(total(tables.present[0] * slope_present), 1.0)
        freed = total(p.present * open_escape[p.cause] * slope_present / p.unit)
        to_log_odds = total((gain * p.present * p.absent)[:, None] * p.context)
        to_log_odds[effect == 0.0] = 0.0
        return present, total(gain * p.bend), to_log_odds, freed


def _context_slopes(rows: Rows, layout: Layout, slopes: Slopes) -> dict[str, Floats]:
    """Derivative to the frequencies of context (C,); that of a parent is given its children that were observed absent."""
    net = rows.network
    prior = net.context_prior[rows.at[0]] if net.context_prior.ndim == 2 else net.context_prior
    result = np.zeros(net.n_context)
    for s in np.flatnonzero(layout.slot_kind == CONTEXT):
        x, slope = int(layout.slot_index[s]), slopes.entry[s, 0]
        children = np.flatnonzero((net.requires == x) & (rows.observed[0] == 0.0))
        absent = float(np.prod(1.0 - prior[children]))
        total = 1.0 - prior[x] + prior[x] * absent
        result[x] += slope * absent / total**2
        for child in children:
            others = float(np.prod(1.0 - prior[children[children != child]]))
            result[child] -= slope * prior[x] * (1.0 - prior[x]) * others / total**2
    return {"context_prior": result}


def _factor_slopes(
    layout: Layout, slopes: Slopes, value: Floats, finding: Ints, link: Floats, leak: Floats, syndrome: Floats,
    result: dict[str, Floats],
) -> None:  # fmt: skip
    """Derivatives to the leaks and links of findings that are tables over their parents."""
    start = 0
    for r, position in enumerate(layout.factor):
        f, v = finding[position], value[position]
        slots = layout.factor_slot[layout.factor_first[r] : layout.factor_first[r + 1]]
        kind, index = layout.slot_kind[slots], layout.slot_index[slots]
        weights = np.ones(len(slots))
        weights[kind == SYNDROME] = syndrome[f, index[kind == SYNDROME]]
        weights[kind == CAUSE] = link[f, index[kind == CAUSE]]
        own_bit = (kind == FINDING).any()
        base = 0.0 if own_bit else leak[f]
        slope = (2.0 * v - 1.0) * slopes.factor[start : start + (1 << len(slots)), 0]
        start += 1 << len(slots)
        not_explained = noisy_or_table(np.full((1, 1), base), weights[None])[1][0]
        if not own_bit:
            result["leak"][f] = slope @ noisy_or_table(np.zeros((1, 1)), weights[None])[1][0]
        entry = np.arange(len(slope))
        for p in range(len(slots)):
            on = (entry >> p) & 1 == 1
            derivative = slope[on] @ not_explained[entry[on] ^ (1 << p)]
            if kind[p] == SYNDROME:
                result["finding_syndrome"][f, index[p]] = derivative
            elif kind[p] == CAUSE:
                result["link"][f, index[p]] = derivative
