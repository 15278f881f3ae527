"""Derivatives of log evidence and of posteriors to every parameter of the network, from one forward and one adjoint pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike

from ddx.inference.adjoint import NOBODY, Runs, run_all
from ddx.inference.choice import Kernel, load_compiled
from ddx.inference.dispatch import DOUBT, Problem, log_of, over_cores
from ddx.inference.exact import checked, excluding, refuse_forms, refuse_large
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.rows import Rows, log_escape


@dataclass(frozen=True, eq=False)
class Gradient:
    """A value (N,) for every case and its derivatives to the arrays of the network, each with a case axis in front.

    Zero where a link is 0 (no link) and where the value does not depend on the parameter. nan for impossible evidence, for
    everything but the prior of a target that the evidence excludes, and for a link of exactly 1 from a syndrome to an absent
    finding. With a ``none_weight`` below 1 also for probabilities of exactly 0 or 1 (links aside) where it is impossible that
    there is no cause.
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
        As for ``posterior``; the former for causes that come in forms, too.

    Notes
    -----
    P(evidence) is linear in every single prior, link and leak, so the adjoint pass yields all partial derivatives at once
    (Darwiche 2003, A differential approach to inference; Kjaerulff and van der Gaag 2000, Making sensitivity analysis
    computationally efficient). A posterior is a ratio of two such functions: d P(c | e) = P(c | e) (d log P(c, e) -
    d log P(e)), the first term from a second run in which the cause is present for certain.
    """
    if target is not None:
        check_target(network, target)
    refuse_forms(network, "gradient")
    problem = checked(network, evidence, context)

    def solved(of: Problem, at: int | None) -> Gradient:
        return _independent(of, at, kernel, memory_gib)

    if (weight := network.none_weight) == 1.0:
        return solved(problem, target)
    whole, none = solved(problem, None), solved(excluding(problem), None)
    nothing = replace(problem, findings=np.full_like(problem.findings, np.nan))
    before = solved(excluding(nothing), None) if target is None else None
    result = _weighed(weight, whole, none, before, None if target is None else solved(problem, target))
    for of in (none,) if before is None else (none, before):
        excluded = np.isneginf(of.value)
        if excluded.any():
            for name in ("prior", "leak", "syndrome_leak", "context_prior"):
                p = np.broadcast_to(getattr(network, name), getattr(result, name).shape)
                getattr(result, name)[excluded[:, None] & ((p == 0.0) | (p == 1.0))] = np.nan
    return result


def _weighed(weight: float, whole: Gradient, none: Gradient, before: Gradient | None, target: Gradient | None) -> Gradient:
    """Derivatives where having no cause counts with a weight, from those for independent causes.

    ``whole``, ``none``, ``before``: of log P(e), log P(no cause, e), log P(no cause); ``target``: of P(cause | e).
    """
    with np.errstate(invalid="ignore"):
        lost = (1.0 - weight) * np.exp(none.value - whole.value)
    left = 1.0 - lost
    gone = np.zeros_like(lost) if before is None else (1.0 - weight) * np.exp(before.value)
    value = target.value / left if target is not None else whole.value + np.log(left) - np.log1p(-gone)
    if target is None:
        value = np.where(np.isneginf(whole.value), whole.value, value)
    found = {"value": value}
    for name in (field.name for field in fields(Gradient) if field.name != "value"):
        slope = getattr(whole, name)
        wide = (slice(None), *(None,) * (slope.ndim - 1))
        own = slice(None), slice(slope.shape[1])  # without the finding that excludes causes
        less = np.where(lost[wide] > 0.0, lost[wide] * (getattr(none, name)[own] - slope), 0.0)
        if target is not None:
            found[name] = getattr(target, name) / left[wide] + (target.value / left**2)[wide] * less
        else:
            found[name] = slope - less / left[wide]
        if before is not None:
            change = (gone / (1.0 - gone))[wide] * getattr(before, name)[own]
            found[name] = found[name] + np.where(gone[wide] > 0.0, change, 0.0)
    return Gradient(**found)


def _independent(problem: Problem, target: int | None, kernel: Kernel, memory_gib: float) -> Gradient:
    """The derivatives for independent causes."""
    network = problem.network
    n, k, f, j, c = len(problem.findings), network.n_causes, network.n_findings, network.n_syndromes, network.n_context
    shapes = ((n,), (n, k), (n, f, k), (n, f), (n, j, k), (n, j), (n, f, j), (n, k, c), (n, c))
    result = Gradient(*(np.zeros(shape) for shape in shapes))
    targets = (NOBODY,) if target is None else (NOBODY, target)

    def put(runs: Runs, at: Ints) -> None:
        if target is None:
            log = runs.log
            _expand(runs.rows, Parts.of(runs), log == -np.inf, True, result, at)
            result.value[at] = log
        else:
            _put_posterior(runs, target, result, at)

    each_run(problem, targets, kernel, memory_gib, put)
    return result


def check_target(network: Network, target: int) -> None:
    """IndexError for what is not the index of a cause."""
    if not isinstance(target, int | np.integer) or not 0 <= target < network.n_causes:
        raise IndexError(f"target: got {target}, expected the index of a cause, 0 to {network.n_causes - 1}")


# Doubles of a derivative to all links of the cases that are solved at a time (8 MiB).
_TOGETHER = 1 << 20


def each_run(
    problem: Problem, targets: Sequence[int], kernel: Kernel, memory_gib: float, put: Callable[[Runs, Ints], None]
) -> None:
    """Solve all cases for P(evidence) and for P(target, evidence) of other targets, part by part: put(runs, cases).

    EvidenceTooLarge for the cases that do not fit.
    """
    net = problem.network
    most = max(1, _TOGETHER // (len(targets) * net.n_findings * net.n_causes + 1))

    doubles = np.zeros(len(problem.findings))

    def task(at: Ints, limit: float) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            runs = run_all(problem, at, targets, kernel, limit)
            doubles[at] = runs.collected.doubles[: len(at)]
            put(runs, at)
            log = log_of(runs.collected.mantissa, runs.collected.exponent).reshape(len(targets), len(at))
            for i in np.flatnonzero((log < DOUBT).any(axis=0) & (doubles[at] <= limit)):
                # The longest floats of this machine; on x86 their exponents are sixteen times as large.
                alone = at[i : i + 1]
                put(run_all(problem, alone, targets, kernel, limit, np.longdouble), alone)

    over_cores(problem, np.arange(len(doubles)), load_compiled(kernel), memory_gib * 2**27, most, task, doubles)
    refuse_large(problem, doubles, memory_gib)


@dataclass(frozen=True, eq=False)
class Parts:
    """What the derivatives of log P of n runs are made of; a sum of such parts belongs to the sum of the derivatives."""

    present: Floats  # (n, K) P(cause | evidence)
    freed: Floats  # (n, K) were its certain links to absent findings not there: P(cause, evidence) over P(evidence)
    syndrome: Floats  # (n, J) P(syndrome | evidence)
    link: Floats  # (P, K) derivatives to the links of the positive findings; the rest are derivatives as well
    leak: Floats  # (P,)
    finding_syndrome: Floats  # (P, J)
    prior: Floats  # (n, K)
    syndrome_link: Floats  # (n, J, K)
    syndrome_leak: Floats  # (n, J)
    context_log_odds: Floats  # (n, K, C)
    context_prior: Floats  # (n, C)

    @classmethod
    def of(cls, runs: Runs) -> Parts:
        """Those of all runs."""
        c = runs.collected
        present, freed, prior, effect = _prior_slopes(runs)
        return cls(
            present, freed, c.syndrome, c.link, c.leak, c.finding_syndrome, prior, c.syndrome_link, c.syndrome_leak, effect,
            _context_slopes(runs),
        )  # fmt: skip


def _put_posterior(runs: Runs, target: int, result: Gradient, at: Ints) -> None:
    """Derivatives of P(target | evidence), from the runs without and with the target."""
    n, rows = len(at), runs.rows
    log = runs.log
    evidence, joint = log[:n], log[n:]
    impossible, excluded = evidence == -np.inf, joint == -np.inf
    value = np.where(impossible, np.nan, np.minimum(np.exp(joint - evidence), 1.0))
    of_case = np.repeat(np.arange(n), np.diff(rows.listed[0][: n + 1]))
    every = Parts.of(runs)
    parts = {}
    for field in fields(Parts):
        array = getattr(every, field.name)
        half = len(array) // 2
        case = of_case if field.name in ("link", "leak", "finding_syndrome") else np.arange(n)
        wide = (slice(None), *(None,) * (array.ndim - 1))
        part = value[case][wide] * (array[half:] - array[:half])
        if excluded.any():
            # The evidence excludes the target: only its own links and its prior could change that.
            none = excluded[case]
            part[none] = 0.0
            if field.name in ("present", "freed", "link", "syndrome_link"):
                part[none, ..., target] = array[:half][none, ..., target]
        parts[field.name] = part
    _expand(rows, Parts(**parts), impossible, False, result, at)
    result.value[at] = value
    result.prior[at, target] = np.where(impossible, np.nan, _own_prior(runs, n, target))


def _expand(rows: Rows, parts: Parts, impossible: Booleans, own: bool, result: Gradient, at: Ints) -> None:
    """Derivatives of some cases, the first of ``rows``; ``own``: of log P(evidence), which leaks enter by themselves."""
    net, n = rows.network, len(at)
    v = rows.findings[:n]
    first = rows.listed[0][: n + 1]
    row, finding = np.repeat(np.arange(n), np.diff(first)), rows.listed[1][: first[-1]]
    absent = v == 0.0

    leak = _take(rows, net.leak, 2, n)
    slope = np.zeros_like(v)
    if own:
        alone = (2.0 * v - 1.0) / (v * leak + (1.0 - v) * (1.0 - leak))
        slope = np.where(absent, -1.0 / (1.0 - leak), np.where(v > 0.0, alone, 0.0))
    slope[row, finding] = parts.leak
    result.leak[at] = slope

    syndrome = _take(rows, net.finding_syndrome, 3, n)
    if net.n_syndromes:
        certain = (syndrome == 1.0) & absent[:, :, None]
        wide = _links_of_absent(absent, parts.syndrome, syndrome)
        wide[np.broadcast_to(certain, wide.shape)] = np.nan
        wide[row, finding] = parts.finding_syndrome
        result.finding_syndrome[at] = wide
    result.link[at] = links(rows, parts.present, parts.freed, parts.link, n)
    result.prior[at], result.syndrome_leak[at], result.context_prior[at] = parts.prior, parts.syndrome_leak, parts.context_prior
    result.syndrome_link[at], result.context_log_odds[at] = parts.syndrome_link, parts.context_log_odds
    if impossible.any():
        for array in vars(result).values():
            array[at[impossible]] = np.nan


def links(rows: Rows, present: Floats, freed: Floats, link: Floats, n: int) -> Floats:
    """Derivatives to all links (n, F, K) of the first n of the runs, from their ``Parts``."""
    absent = rows.findings[:n] == 0.0
    weight = _take(rows, rows.network.link, 3, n)
    wide = _links_of_absent(absent, present, weight)
    certain = weight == 1.0
    if certain.any():
        # What one certain link rules out, were it a little less certain; two of them rule it out twice.
        certain = certain & absent[:, :, None]
        once = certain & (certain.sum(axis=1, keepdims=True) == 1)
        wide = np.where(certain, np.where(once, -freed[:, None, :], 0.0), wide)
    first = rows.listed[0][: n + 1]
    wide[np.repeat(np.arange(n), np.diff(first)), rows.listed[1][: first[-1]]] = link
    return wide


def _links_of_absent(absent: Booleans, present: Floats, weight: Floats) -> Floats:
    """- P(parent | evidence) / (1 - link) (n, F, X) of absent findings (n, F), 0 where the link (., F, X) is 0 or 1."""
    per_unit = np.where((weight == 0.0) | (weight == 1.0), 0.0, -1.0 / (1.0 - weight))
    wide: Floats = present[:, None, :] * per_unit
    wide *= absent[:, :, None]
    wide += 0.0  # no -0
    return wide


def _take(rows: Rows, array: Floats, ndim: int, n: int) -> Floats:
    """The part of an array that belongs to the first n runs, with a case axis of length n or 1."""
    return array[rows.at[:n]] if array.ndim == ndim else array[None]


def _own_prior(runs: Runs, n: int, target: int) -> Floats:
    """The derivative of P(target | e) to the prior of the target (n,), without dividing by that prior.

    d (A / (A + B)) = (B dA - A dB) / (A + B)**2, with A and B = P(target = 1 or 0, e).
    """
    p = runs.priors
    own = p.cause == target
    tables, c = runs.tables, runs.collected

    def total(values: Floats) -> Floats:
        return np.asarray(values[:n, own].sum(axis=1), dtype=np.float64)

    there, not_there = total(tables.present * c.present), total(tables.absent * c.absent)
    return not_there * total(p.bend * p.escape * c.present) + there * total(p.bend * c.absent * p.inverse)


def _prior_slopes(runs: Runs) -> tuple[Floats, Floats, Floats, Floats]:
    """``present``, ``freed``, ``prior`` and ``context_log_odds`` of ``Parts``."""
    rows, tables, net = runs.rows, runs.tables, runs.rows.network
    p = runs.priors
    slope_absent, slope_present = runs.slopes
    open_escape = np.exp(rows.log_escape)
    if (net.link == 1.0).any():
        link = rows.take(net.link, 3)
        open_escape = np.exp(log_escape(rows.findings == 0.0, np.where(link == 1.0, 0.0, link)))

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, tables.first[:-1], axis=1), dtype=np.float64)

    gain = p.escape * slope_present - slope_absent * p.inverse
    to_log_odds = total((gain * p.present * p.absent)[:, :, None] * p.context)
    to_log_odds *= rows.take(net.context_log_odds, 3) != 0.0
    return (
        np.minimum(total(tables.present * slope_present), 1.0),
        total(p.present * open_escape[:, p.cause] * slope_present / p.unit),
        total(gain * p.bend),
        to_log_odds,
    )


def _context_slopes(runs: Runs) -> Floats:
    """Derivative to the frequencies of context (n, C); that of a parent is given its children that were observed absent."""
    net, rows, slope = runs.rows.network, runs.rows, runs.collected.context
    prior = np.broadcast_to(rows.take(net.context_prior, 2), rows.observed.shape)
    result = np.zeros(slope.shape)
    for x in np.flatnonzero(slope.any(axis=0)):
        children = np.flatnonzero(net.requires == x)
        not_there = np.where(rows.observed[:, children] == 0.0, 1.0 - prior[:, children], 1.0)
        absent = not_there.prod(axis=1)
        total = 1.0 - prior[:, x] + prior[:, x] * absent
        result[:, x] += slope[:, x] * absent / total**2
        for i, child in enumerate(children):
            others = np.delete(not_there, i, axis=1).prod(axis=1)
            loss = slope[:, x] * prior[:, x] * (1.0 - prior[:, x]) * others / total**2
            result[:, child] -= np.where(rows.observed[:, child] == 0.0, loss, 0.0)
    return result
