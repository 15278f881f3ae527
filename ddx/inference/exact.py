"""Input checked, and the exact answer to it: what ``posterior``, ``gradient``, ``single`` and ``bounds`` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ddx.inference.choice import Kernel
from ddx.inference.dispatch import Problem, Solved, run
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.rows import Question


class EvidenceTooLarge(ValueError):
    """Cases need more memory than the budget.

    ``row`` is the index of the first, ``n_findings`` its present or uncertain findings, ``gib`` what it would take and
    ``reason`` the words for that. ``rows``: the indices of all of them, ascending; ``others``: an error for each but the first.
    """

    def __init__(self, row: int, n_findings: int, gib: float, budget: float, others: Sequence[EvidenceTooLarge] = ()) -> None:
        self.row, self.n_findings, self.gib, self.budget, self.others = row, n_findings, gib, budget, tuple(others)
        self.reason = f"{n_findings} present or uncertain findings need {gib:.3g} GiB, the budget is {budget:g} GiB"
        super().__init__(f"case {row}: {self.reason}; leave out findings, say more about the context, or raise memory_gib")

    def __reduce__(self) -> tuple[type[EvidenceTooLarge], tuple[object, ...]]:
        return EvidenceTooLarge, (self.row, self.n_findings, self.gib, self.budget, self.others)

    @property
    def rows(self) -> tuple[int, ...]:
        """Indices of all cases that are too large, ascending."""
        return tuple(error.row for error in self.each())

    def each(self) -> list[EvidenceTooLarge]:
        """An error for every case that is too large, this one first."""
        return [self, *self.others]

    def of_row(self, row: int) -> EvidenceTooLarge:
        """The same error about another row, for callers whose rows are parts of cases."""
        return EvidenceTooLarge(row, self.n_findings, self.gib, self.budget)


def joined(errors: Sequence[EvidenceTooLarge]) -> EvidenceTooLarge | None:
    """One error for cases in ascending order, None where there are none; of the parts of a case the first counts."""
    of_row = {error.row: error for error in reversed(errors)}
    if not of_row:
        return None
    first, *others = (of_row[row] for row in sorted(of_row))
    return EvidenceTooLarge(first.row, first.n_findings, first.gib, first.budget, others)


def refuse_forms(network: Network, what: str) -> None:
    """Refuse a network whose causes come in forms."""
    if network.has_forms:
        raise ValueError(f"{what}: got causes that come in forms, for which there are only exact posteriors")


def checked(network: Network, evidence: ArrayLike, context: ArrayLike | None) -> Problem:
    """Input in the form that the core works on, or a ValueError that says what is wrong with it."""
    findings = _evidence(evidence, network)
    observed = _context(context, network, len(findings))
    prior = np.broadcast_to(network.context_prior, observed.shape)
    return Problem(network, findings, observed, _given_observed_children(prior, observed, network.requires))


def excluding(problem: Problem) -> Problem:
    """The same cases without any cause: one more finding, which every cause brings for certain, is absent."""
    net, n = problem.network, len(problem.findings)

    def longer(array: Floats, axis: int, value: float) -> Floats:
        shape = list(array.shape)
        shape[axis] = 1
        return np.concatenate([array, np.full(shape, value)], axis=axis)

    network = Network(
        net.prior,
        longer(net.link, -2, 1.0),
        longer(net.leak, -1, 0.0),
        syndrome_link=net.syndrome_link,
        syndrome_leak=net.syndrome_leak,
        finding_syndrome=longer(net.finding_syndrome, -2, 0.0),
        context_log_odds=net.context_log_odds,
        context_prior=net.context_prior,
        requires=net.requires,
        copy=False,
    )
    return replace(problem, network=network, findings=np.hstack([problem.findings, np.zeros((n, 1))]))


def too_large(problem: Problem, doubles: Floats, memory_gib: float) -> EvidenceTooLarge | None:
    """The error for all cases beyond the budget, None where all are within it."""
    large = np.flatnonzero(~(doubles <= memory_gib * 2**27)).tolist()  # nan is no budget that anything fits into
    errors = []
    for row in large:
        n_findings = int((problem.findings[row] > 0.0).sum())
        errors.append(EvidenceTooLarge(row, n_findings, float(doubles[row]) / 2**27, memory_gib))
    return joined(errors)


def refuse_large(problem: Problem, doubles: Floats, memory_gib: float) -> None:
    """Raise EvidenceTooLarge for the cases beyond the budget."""
    error = too_large(problem, doubles, memory_gib)
    if error is not None:
        raise error


@dataclass(frozen=True, eq=False)
class Without:
    """What N cases would be without any cause."""

    log_prior: Floats  # (N,) log P(no cause | observed context)
    log_joint: Floats  # (N,) log P(no cause, findings | observed context)
    context: Floats | None  # (N, C) P(context variable | no cause); None: no cause depends on what is unknown
    syndrome: Floats  # (N, J) P(syndrome | no cause, findings)
    doubles: Floats  # (N,) of state that this needs; nothing of cases for which it is above the budget


def without_causes(problem: Problem, solved: Solved, kernel: Kernel, memory_gib: float) -> Without:
    """The causes left out: P(no cause, findings | context) is P(no cause | context) P(findings | no cause)."""
    # Cases that are equal in everything are equal in part.
    problem = replace(problem, alike=solved.alike)
    no_cause, context, doubles = solved.log_no_cause, None, np.zeros(len(problem.findings))
    if np.isnan(no_cause).any():
        prior = log_no_cause(problem, kernel, memory_gib)
        no_cause, doubles = prior.log_evidence, np.maximum(doubles, prior.doubles)
        context = all_context(problem, prior)
    log_findings, syndrome = solved.log_leak, solved.syndrome
    if problem.network.n_syndromes:
        alone = findings_without_cause(problem, kernel, memory_gib)
        log_findings, syndrome, doubles = alone.log_evidence, alone.marginal, np.maximum(doubles, alone.doubles)
    return Without(no_cause, no_cause + log_findings, context, syndrome, doubles)


def findings_without_cause(problem: Problem, kernel: Kernel, memory_gib: float) -> Solved:
    """Log P(findings | no cause) as ``log_evidence`` (N,), where the syndromes are independent causes of their own."""
    net = problem.network
    if net.n_syndromes:
        alone = Network(net.syndrome_leak, net.finding_syndrome, net.leak, copy=False)
    else:
        alone = Network(np.zeros(1), np.zeros((net.n_findings, 1)), net.leak)
    no_context = np.zeros((len(problem.findings), 0))
    return run(Problem(alone, problem.findings, no_context, no_context, alike=problem.alike), kernel, memory_gib * 2**27)


def log_no_cause(problem: Problem, kernel: Kernel, memory_gib: float, *, only: bool = False) -> Solved:
    """Log P(no cause | observed context) as ``log_evidence`` (N or 1,); ``only``: P(only k) / P(no cause) as ``marginal``."""
    net, n = problem.network, len(problem.findings)
    first = np.searchsorted(net.cause, np.arange(net.n_distinct))  # no form of a cause is there: the cause is not
    alone = Network(
        net.prior[..., first],
        np.zeros((0, net.n_distinct)),
        np.zeros(0),
        context_log_odds=net.context_log_odds[..., first, :],
        context_prior=net.context_prior,
        requires=net.requires,
        copy=False,
    )
    different = net.n_context > 0 or net.prior.ndim == 2
    m = n if different else min(n, 1)
    nothing = np.zeros((m, 0))
    question: Question = "only" if only else "none"
    prior = Problem(alone, nothing, problem.observed[:m], problem.context_prior[:m], question, problem.alike)
    return run(prior, kernel, memory_gib * 2**27)


def all_context(problem: Problem, solved: Solved) -> Floats:
    """P(context variable | evidence) (N, C): as observed, as solved, or for a variable that no cause depends on, its prior."""
    context = np.where(np.isnan(problem.observed), solved.context, problem.observed)
    for children in (False, True):
        for x in np.flatnonzero((problem.network.requires >= 0) == children):
            open_rows = np.isnan(context[:, x])
            parent = problem.network.requires[x]
            given = context[open_rows, parent] if children else 1.0
            context[open_rows, x] = problem.context_prior[open_rows, x] * given
    return context


def _unmasked(array: ArrayLike) -> Floats:
    """What is masked or pandas.NA is not observed; NumPy would take the number behind the mask, and does not know NA."""
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.MaskedArray(array, dtype=np.float64).filled(np.nan)
    try:
        return np.asarray(array, dtype=np.float64)
    except TypeError:
        to_numpy: Any = getattr(array, "to_numpy", None)
        if to_numpy is None:
            raise
        return np.asarray(to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _evidence(evidence: ArrayLike, network: Network) -> Floats:
    findings = _unmasked(evidence)
    if findings.ndim != 2 or findings.shape[1] != network.n_findings:
        raise ValueError(f"evidence: got shape {findings.shape}, expected (N, F) with F = {network.n_findings}")
    if network.n_cases is not None and network.n_cases != len(findings):
        raise ValueError(f"evidence: got {len(findings)} cases, the network has arrays for {network.n_cases}")
    _check_unit("evidence", findings)
    return findings


def _context(context: ArrayLike | None, network: Network, n_cases: int) -> Floats:
    """Observed context (N, C), completed by what ``requires`` implies."""
    shape = (n_cases, network.n_context)
    if context is None:
        return np.full(shape, np.nan)
    observed = np.array(_unmasked(context))
    if observed.shape != shape:
        raise ValueError(f"context: got shape {observed.shape}, expected (N, C) = {shape}")
    if not (np.isnan(observed) | (observed == 0.0) | (observed == 1.0)).all():
        raise ValueError("context: expected 1 (present), 0 (absent) or nan (not observed)")
    for child, parent in enumerate(network.requires):
        if parent >= 0:
            clash = np.flatnonzero((observed[:, child] == 1.0) & (observed[:, parent] == 0.0))
            if clash.size:
                what = f"variable {child} is present, variable {int(parent)}, which it requires, absent"
                raise ValueError(f"context[{int(clash[0])}]: {what}")
            observed[observed[:, child] == 1.0, parent] = 1.0
            observed[observed[:, parent] == 0.0, child] = 0.0
    return observed


def _check_unit(name: str, array: Floats) -> None:
    bad = (array < 0.0) | (array > 1.0)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}[{row}, {column}]: got {array[row, column]}, expected nan or a number in [0, 1]")


def _given_observed_children(prior: Floats, observed: Floats, requires: Ints) -> Floats:
    """P(parent | children observed absent): the only direction in which observed context informs unknown context."""
    updated = prior.copy()
    for child, parent in enumerate(requires):
        if parent >= 0:
            rows = (observed[:, child] == 0.0) & np.isnan(observed[:, parent])
            present = updated[rows, parent] * (1.0 - prior[rows, child])
            total = present + 1.0 - updated[rows, parent]
            if (total == 0.0).any():
                row = int(np.flatnonzero(rows)[total == 0.0][0])
                raise ValueError(f"context[{row}]: variable {child} is absent, which has probability zero")
            updated[rows, parent] = present / total
    return updated
