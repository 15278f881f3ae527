"""Exact posteriors of many cases: checks, grouping, chunks; the arithmetic is in ``recursion``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddx.inference.network import Floats, Ints, Network
from ddx.inference.plan import Plan, Step, plan
from ddx.inference.recursion import Chunk, Marginals, solve

# Doubles in the stored states of one chunk: 2 MiB, the second-level cache of current processors.
_CHUNK_DOUBLES = 1 << 18
# Above this many doubles a case, a plan of its own for each set of present findings pays for its making (some milliseconds).
_ALIKE_DOUBLES = 1 << 16
# Doubles of state that take NumPy about ten seconds.
_COMPILED_WORK = 1 << 26

Kernel = Literal["auto", "numpy", "compiled"]


class EvidenceTooLarge(ValueError):
    """A case needs more memory than the budget; ``row`` is its index and ``gib`` what it would take."""

    def __init__(self, row: int, n_findings: int, gib: float, budget: float) -> None:
        self.row, self.n_findings, self.gib, self.budget = row, n_findings, gib, budget
        self.reason = f"{n_findings} present or uncertain findings need {gib:.3g} GiB, the budget is {budget:g} GiB"
        super().__init__(f"case {row}: {self.reason}; leave out findings, say more about the context, or raise memory_gib")

    def of_row(self, row: int) -> EvidenceTooLarge:
        """The same error about another row, for callers whose rows are parts of cases."""
        return EvidenceTooLarge(row, self.n_findings, self.gib, self.budget)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Exact posteriors of N cases.

    Attributes
    ----------
    marginal : (N, K), P(cause = 1 | evidence)
    none : (N,), P(every cause = 0 | evidence)
    log_evidence : (N,), natural logarithm of P(findings | observed context)
    context : (N, C), P(context variable = 1 | evidence); shape (N, 0) for a network without context

    Impossible evidence has log_evidence -inf and nan in the other arrays; ``impossible`` (N,) marks those cases.
    """

    marginal: Floats
    none: Floats
    log_evidence: Floats
    context: Floats

    @property
    def impossible(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Cases (N,) whose evidence has probability zero."""
        return np.isneginf(self.log_evidence)


def posterior(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
) -> Posterior:
    """Exact posterior of every cause, for N cases at once.

    Parameters
    ----------
    network : Network
    evidence : (N, F)
        1 present, 0 absent, nan not observed; a number v in between is virtual evidence with likelihoods v for
        present and 1 - v for absent.
    context : (N, C), optional
        1 present, 0 absent, nan not observed (summed out exactly). Default: nothing observed.
    memory_gib : float
        A case that would need more working memory than this is refused before anything is allocated.
    kernel : "auto", "numpy" or "compiled"
        Two implementations of one recursion, whose results agree to about 1e-14. The compiled one is several times
        faster, but loading it costs a second, and its first use on a machine some ten seconds; "auto" takes it for work
        that would take NumPy longer than that, where numba is installed.

    Raises
    ------
    ImportError
        kernel="compiled" without numba.
    ValueError
        Unknown kernel, shapes that do not fit, values outside [0, 1], context that contradicts ``network.requires``.
    EvidenceTooLarge
        The states of a case would not fit into ``memory_gib``.

    Notes
    -----
    D'Ambrosio (1994), Symbolic probabilistic inference in large BN2O networks; Takikawa and D'Ambrosio (1999),
    Multiplicative factorization of noisy-max. The cost of a case grows as 2**m with its m present or uncertain
    findings; absent and unobserved findings are free. A case whose present findings have a probability below
    1e-260 (given its absent ones) is computed again in the longest floats of the machine; where those are no longer than
    float64 (ARM, Windows), it may come out as impossible.
    """
    findings = _evidence(evidence, network)
    observed = _context(context, network, len(findings))
    result = Posterior(
        np.empty((len(findings), network.n_causes)),
        np.empty(len(findings)),
        np.empty(len(findings)),
        observed.copy(),
    )
    if not len(findings):
        return result
    cases = _Cases(network, findings, observed)
    groups = cases.groups(memory_gib)
    solve_chunk, compiled = _kernel(kernel, sum(len(rows) * chosen.doubles for rows, chosen in groups))
    for group, chosen in groups:
        size = cases.chunk_size(chosen, compiled)
        for rows in np.split(group, range(size, len(group), size)):
            chunk = cases.chunk(rows)
            solved = solve_chunk(chunk, chosen.steps)
            _put(result, rows, solved)
            again = solved.doubtful
            if again.any():
                _put(result, rows[again], solve(chunk.widened(again), chosen.steps))
    result.log_evidence[:] += cases.log_absent_leak
    for array in (result.marginal, result.none, result.context):
        array[result.impossible] = np.nan
    return result


def _kernel(kernel: Kernel, work: int) -> tuple[Callable[[Chunk, tuple[Step, ...]], Marginals], bool]:
    """The implementation of the recursion, and whether it is the compiled one; ``work`` is in doubles of state."""
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel: got {kernel!r}, allowed: {', '.join(get_args(Kernel))}")
    if kernel == "numpy" or (kernel == "auto" and work < _COMPILED_WORK):
        return solve, False
    try:
        # Loaded here: it takes a second, and numba may be missing.
        return import_module("ddx.inference.compiled").solve, True
    except ImportError as error:
        if kernel == "auto":
            return solve, False
        raise ImportError('the compiled kernel needs numba: pip install numba, or use kernel="numpy"') from error


def _put(result: Posterior, rows: Ints, solved: Marginals) -> None:
    # Rounding can exceed 1 by an ulp.
    result.marginal[rows] = np.minimum(solved.cause.T, 1.0)
    result.none[rows] = np.minimum(solved.none, 1.0)
    result.log_evidence[rows] = solved.log_evidence
    for variable, marginal in solved.context.items():
        result.context[rows, variable] = np.minimum(marginal, 1.0)


class _Cases:
    """The network seen from N cases: evidence folded into the causes, rows grouped by the shape of their work."""

    def __init__(self, network: Network, findings: Floats, observed: Floats) -> None:
        self.network, self.findings = network, findings
        self.bits = findings > 0.0
        self.n_bits = self.bits.sum(axis=1)
        absent = (findings == 0.0).astype(np.float64)
        self.log_absent_leak = _log_escape(absent, network.leak[..., None])[:, 0]
        self.log_escape = _log_escape(absent, network.link)
        n_cases, n_context = observed.shape
        with np.errstate(divide="ignore"):
            log_odds = np.log(network.prior) - np.log1p(-network.prior)
        self.log_odds = np.broadcast_to(log_odds, (n_cases, network.n_causes))
        self.unknown = np.isnan(observed)
        if network.context_log_odds is not None and network.context_prior is not None:
            said = np.where(self.unknown, 0.0, observed)
            if network.context_log_odds.ndim == 2:
                effect = said @ network.context_log_odds.T
            else:
                effect = np.einsum("nc,nkc->nk", said, network.context_log_odds)
            self.log_odds = self.log_odds + effect
            prior = np.broadcast_to(network.context_prior, (n_cases, n_context))
            self.context_log_odds = network.context_log_odds
            self.requires = tuple(int(r) for r in network.requires) if network.requires is not None else ()
            self.context_prior = _given_observed_children(prior, observed, self.requires)
        else:
            self.context_log_odds = np.zeros((network.n_causes, 0))
            self.context_prior = np.zeros((n_cases, 0))
            self.requires = ()
        depends = self.context_log_odds != 0.0
        if depends.ndim == 3:
            depends = depends.any(axis=0)
        self.dependencies = tuple(frozenset(np.flatnonzero(row).tolist()) for row in depends)

    def groups(self, memory_gib: float) -> list[tuple[Ints, Plan]]:
        """Row indices that share a plan, and the plan; all memory is checked before any work."""
        groups: list[tuple[Ints, Plan]] = []
        for rows in _groups(np.column_stack([self.unknown, self.n_bits])):
            chosen = self._plan(rows[0], alike=False)
            parts = [(rows, chosen)]
            if chosen.doubles > _ALIKE_DOUBLES:
                same = _groups(np.column_stack([self.bits[rows], self._linked(rows)]))
                parts = [(rows[part], self._plan(rows[part[0]], alike=True)) for part in same]
            groups += parts
        for rows, chosen in groups:
            gib = chosen.doubles * 8 / 2**30
            if gib > memory_gib:
                raise EvidenceTooLarge(int(rows.min()), int(self.n_bits[rows[0]]), gib, memory_gib)
        return groups

    def chunk_size(self, chosen: Plan, compiled: bool) -> int:
        """Rows of one chunk: NumPy keeps the states of all of them at once, the compiled kernel only their inputs."""
        widest = max((len(step.hand) for step in chosen.steps), default=0)
        doubles = self.network.n_causes * (8 + widest) if compiled else chosen.doubles
        return max(1, _CHUNK_DOUBLES // max(1, doubles))

    def _plan(self, row: int, *, alike: bool) -> Plan:
        """A plan for rows with the same unknown context and number of bits.

        Rows that are ``alike``, with the same findings present, share the knowledge which cause touches which bit. Without it
        every cause may touch every bit.
        """
        unknown = frozenset(np.flatnonzero(self.unknown[row]).tolist())
        n_context = self.unknown.shape[1]
        bits = frozenset(range(n_context, n_context + int(self.n_bits[row])))
        touched = [needed & unknown for needed in self.dependencies]
        if alike:
            link = self.network.link if self.network.link.ndim == 2 else self.network.link[row]
            linked = link[np.flatnonzero(self.bits[row])] > 0.0
            own = [frozenset((n_context + np.flatnonzero(linked[:, k])).tolist()) for k in range(len(touched))]
            touched = [context | findings for context, findings in zip(touched, own, strict=True)]
        else:
            touched = [context | bits for context in touched]
        return plan(tuple(touched), unknown | bits, self.requires)

    def _linked(self, rows: Ints) -> NDArray[np.bool_]:
        """Which links exist (n, F * K), where every row has its own."""
        if self.network.link.ndim == 2:
            return np.zeros((len(rows), 0), dtype=np.bool_)
        return (self.network.link[rows] > 0.0).reshape(len(rows), -1)

    def chunk(self, rows: Ints) -> Chunk:
        net = self.network
        m = int(self.n_bits[rows[0]])
        finding = np.nonzero(self.bits[rows])[1].reshape(len(rows), m)
        value = np.take_along_axis(self.findings[rows], finding, axis=1).T
        link = net.link[rows[:, None], finding] if net.link.ndim == 3 else net.link[finding]
        leak = net.leak[rows[:, None], finding] if net.leak.ndim == 2 else net.leak[finding]
        effect = self.context_log_odds
        return Chunk(
            log_odds=np.ascontiguousarray(self.log_odds[rows].T),
            log_escape=np.ascontiguousarray(self.log_escape[rows].T),
            link=np.ascontiguousarray(link.transpose(2, 1, 0)),
            leak=np.ascontiguousarray(leak.T),
            likelihood=np.stack([1.0 - value, value]),
            context_log_odds=np.moveaxis(effect[rows] if effect.ndim == 3 else effect[None], 0, -1),
            context_prior=np.ascontiguousarray(self.context_prior[rows].T),
            requires=self.requires,
        )


def _groups(keys: NDArray[Any]) -> list[Ints]:
    """Row indices of every group of equal rows, in a fixed order."""
    if keys.shape[1] == 0:
        return [np.arange(len(keys))]
    order = np.lexsort(keys.T)
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    return np.split(order, starts[1:])


def _evidence(evidence: ArrayLike, network: Network) -> Floats:
    findings = np.asarray(evidence, dtype=np.float64)
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
    observed = np.array(context, dtype=np.float64)
    if observed.shape != shape:
        raise ValueError(f"context: got shape {observed.shape}, expected (N, C) = {shape}")
    if not (np.isnan(observed) | (observed == 0.0) | (observed == 1.0)).all():
        raise ValueError("context: expected 1 (present), 0 (absent) or nan (not observed)")
    if network.requires is not None:
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


def _given_observed_children(prior: Floats, observed: Floats, requires: tuple[int, ...]) -> Floats:
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


def _log_escape(absent: Floats, link: Floats) -> Floats:
    """Log prod over absent findings of (1 - link): absent (N, F), link (F, K) or (N, F, K) -> (N, K)."""
    certain = link == 1.0
    log_escape = np.log1p(-np.where(certain, 0.0, link))
    rule = "nf,nfk->nk"
    total = absent @ log_escape if link.ndim == 2 else np.einsum(rule, absent, log_escape)
    if certain.any():
        blocked = absent @ certain if link.ndim == 2 else np.einsum(rule, absent, certain)
        total = np.where(blocked > 0.0, -np.inf, total)
    return np.asarray(total)
