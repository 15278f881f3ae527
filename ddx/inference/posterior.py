"""Posteriors of many cases: exact, or between certified bounds where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddx.inference.bounds import Bounds, bounds
from ddx.inference.choice import Kernel, load_compiled
from ddx.inference.dispatch import EFFORT, Problem, Solved, plan_of, run
from ddx.inference.exact import EvidenceTooLarge, Without, all_context, checked, refuse_large, too_large, without_causes
from ddx.inference.layout import CAUSE, Booleans
from ddx.inference.network import Floats, Network
from ddx.inference.program import HOPELESS

Method = Literal["exact", "auto", "bounds"]
_ARRAYS = ("marginal", "none", "log_evidence", "context", "syndrome")


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posteriors of N cases.

    Attributes
    ----------
    marginal : (N, K), P(cause = 1 | evidence)
    none : (N,), P(every cause = 0 | evidence)
    log_evidence : (N,), natural logarithm of P(findings | observed context)
    context : (N, C), P(context variable = 1 | evidence); shape (N, 0) for a network without context
    syndrome : (N, J), P(syndrome = 1 | evidence), nan for a syndrome none of whose findings was observed
    bounds : what is certain about cases that were not solved exactly; None if all were
    log_weight : (N,), natural logarithm of what ``none_weight`` leaves of the people of this observed context, whom cases of
        unknown context are mixed from; None where it leaves all of them

    Every number in an array is exact. A case that was only bounded has nan in all of them: ``exact`` (N,) tells, and ``lower``
    and ``upper`` (N, K) enclose its posteriors. Impossible evidence has log_evidence -inf and nan in the other arrays;
    ``impossible`` (N,) marks those cases.
    """

    marginal: Floats
    none: Floats
    log_evidence: Floats
    context: Floats
    syndrome: Floats
    bounds: Bounds | None = None
    log_weight: Floats | None = None

    @classmethod
    def concatenate(cls, pieces: Sequence[Posterior]) -> Posterior:
        """The cases of several exact posteriors, one after the other; itself where there is but one."""
        if len(pieces) == 1:
            return pieces[0]
        arrays = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in _ARRAYS)
        marginal, none, log_evidence, context, syndrome = arrays
        return cls(marginal, none, log_evidence, context, syndrome)

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Cases (N,) that were solved exactly, the impossible ones included."""
        return ~np.isnan(self.log_evidence)

    @property
    def lower(self) -> Floats:
        """(N, K) not above P(cause = 1 | evidence); the marginal itself where that is exact."""
        return self.marginal if self.bounds is None else np.where(self.exact[:, None], self.marginal, self.bounds.lower)

    @property
    def upper(self) -> Floats:
        """(N, K) not below P(cause = 1 | evidence); the marginal itself where that is exact."""
        return self.marginal if self.bounds is None else np.where(self.exact[:, None], self.marginal, self.bounds.upper)

    @property
    def impossible(self) -> NDArray[np.bool_]:
        """Cases (N,) whose evidence has probability zero."""
        return np.isneginf(self.log_evidence)


@dataclass(frozen=True)
class PlanOfCase:
    """How a case is computed: ``method`` "findings" (a bit for every finding) or "causes" (the linked causes are enumerated).

    ``positive``: present and uncertain findings; ``causes``: those absorbed in a step of their own; ``width``: the most
    variables in hand at once; ``states``: the sum of the sizes of all states, which the time grows with; ``gib``: memory.
    """

    row: int
    method: str
    positive: int
    causes: int
    width: int
    states: int
    gib: float


def posterior(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    method: Method = "exact",
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
    effort: float = 1000.0,
    tolerance: float = 1e-3,
) -> Posterior:
    """Posterior of every cause, for N cases at once: exact unless another method is asked for.

    Parameters
    ----------
    network : Network
    evidence : (N, F)
        1 present, 0 absent, nan (masked, pandas.NA) not observed; a number v in between is virtual evidence with likelihoods v
        for present and 1 - v for absent.
    context : (N, C), optional
        1 present, 0 absent, nan not observed; all not observed when left out.
    method : "exact", "auto" or "bounds"
        What happens to a case that does not fit into memory. "exact" refuses it; "auto" and "bounds" enclose its posteriors
        between certified bounds and leave its other numbers nan. "bounds" tells the bounds of all cases (``bounds``), those of
        the exact ones being as close as rounding allows. There are no bounds where causes come in forms: "auto" is "exact".
    memory_gib : float
        Budget for the states of one case; what needs more is refused before any of it is allocated. The error names all such
        cases; it is raised when the others are solved.
    kernel : "auto", "numpy" or "compiled"
        Two implementations of one recursion, with the same results bit for bit. The compiled one is many times faster,
        but loading it costs a second, and its first use on a machine a minute; "auto" takes it for work that would
        take NumPy longer than that, where numba is installed.
    effort, tolerance : float
        How long to work on bounds, and when they are close enough; see ``bounds``.

    Raises
    ------
    ImportError
        kernel="compiled" without numba.
    ValueError
        Unknown method or kernel, shapes that do not fit, values outside [0, 1], context that contradicts ``network.requires``;
        "bounds" of causes that come in forms.
    EvidenceTooLarge
        The states of some cases would not fit into ``memory_gib``, and the method gives no bounds instead.

    Notes
    -----
    D'Ambrosio (1994), Symbolic probabilistic inference in large BN2O networks; Takikawa and D'Ambrosio (1999),
    Multiplicative factorization of noisy-max. The cost of a case grows as 2**width with the variables that are in hand
    at once, at most its present or uncertain findings, syndromes and unknown context; ``explain_plan`` tells. Absent and
    unobserved findings are free. The results of a case do not depend on the other cases of a call, not even in the last
    bit. A case whose present findings have a probability below 1e-260 (given its absent ones) is computed again in the
    longest floats of the machine; where those are no longer than float64 (ARM, Windows), it may come out as impossible.
    """
    if method not in get_args(Method):
        raise ValueError(f"method: got {method!r}, allowed: {', '.join(get_args(Method))}")
    if method == "exact" or (method == "auto" and network.has_forms):
        result, error = fitting(network, evidence, context, memory_gib=memory_gib, kernel=kernel)
        if error is not None:
            raise error
        return result
    problem = checked(network, evidence, context)
    solved = run(problem, kernel, memory_gib * 2**27)
    large = ~(solved.doubles <= memory_gib * 2**27)
    certain = None
    if method == "bounds" or large.any():
        certain = bounds(network, evidence, context, memory_gib=memory_gib, effort=effort, tolerance=tolerance)
        # Bounds can prove evidence impossible without solving it.
        solved.log_evidence[large & certain.impossible] = -np.inf
    result, doubles = _completed(problem, solved, large, kernel, memory_gib)
    refuse_large(problem, doubles, memory_gib)
    return replace(result, bounds=certain)


def fitting(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
) -> tuple[Posterior, EvidenceTooLarge | None]:
    """The exact posterior of N cases, nan for those that do not fit into memory, and the error that names these.

    Parameters and other errors as for ``posterior``. A large case among many costs no more than its plan.
    """
    problem = checked(network, evidence, context)
    solved = run(problem, kernel, memory_gib * 2**27)
    large = ~(solved.doubles <= memory_gib * 2**27)
    result, doubles = _completed(problem, solved, large, kernel, memory_gib)
    error = too_large(problem, np.where(large, solved.doubles, doubles), memory_gib)
    if error is not None:
        for name in _ARRAYS:
            getattr(result, name)[list(error.rows)] = np.nan
    return result, error


def _completed(
    problem: Problem, solved: Solved, large: Booleans, kernel: Kernel, memory_gib: float
) -> tuple[Posterior, Floats]:
    """The posterior, nan for the ``large`` cases (N,), and the doubles (N,) that P(none) of the others needs."""
    problem = problem.without(large)
    without = without_causes(problem, solved, kernel, memory_gib)
    with np.errstate(invalid="ignore"):
        none = np.minimum(np.exp(without.log_joint - solved.log_evidence), 1.0)
    result = Posterior(solved.marginal, none, solved.log_evidence, all_context(problem, solved), solved.syndrome)
    if problem.network.none_weight < 1.0:
        result = _weighed(result, without, problem.network.none_weight)
    for array in (result.marginal, result.none, result.context, result.syndrome):
        array[result.impossible | large] = np.nan
    return result, without.doubles


def _weighed(independent: Posterior, without: Without, weight: float) -> Posterior:
    """The posterior where having no cause counts with a weight, from that of independent causes, which it uses up.

    P(x, e) loses (1 - weight) P(x, e, no cause), for every x; then all is normalized again.
    """
    lost = (1.0 - weight) * independent.none
    left = (1.0 - independent.none) + weight * independent.none
    n_0 = np.exp(without.log_prior)
    log_weight = np.log((1.0 - n_0) + weight * n_0)

    def rest(values: Floats, of_none: Floats) -> Floats:
        gone = np.where(lost[:, None] > 0.0, lost[:, None] * of_none, 0.0)  # what has no probability has no posterior
        share = np.clip((values - gone) / left[:, None], 0.0, 1.0)
        return np.where(values == of_none, values, share)  # what is observed stays exactly that

    with np.errstate(invalid="ignore"):
        log_evidence = independent.log_evidence + (np.log(left) - log_weight)
    marginal = independent.marginal
    marginal /= left[:, None]
    np.minimum(marginal, 1.0, out=marginal)
    return Posterior(
        marginal,
        weight * independent.none / left,
        np.where(independent.impossible, -np.inf, log_evidence),
        independent.context if without.context is None else rest(independent.context, without.context),
        rest(independent.syndrome, without.syndrome),
        log_weight=log_weight,
    )


def explain_plan(network: Network, evidence: ArrayLike, context: ArrayLike | None = None) -> list[PlanOfCase]:
    """What ``posterior`` would do for every case, and what that costs; nothing is computed.

    Parameters and errors as for ``posterior``. Small cases without syndromes and unknown context are computed side by side
    with a common plan instead.
    """
    problem = checked(network, evidence, context)
    compiled = load_compiled("auto")
    plans = []
    for row in range(len(problem.findings)):
        rows = problem.rows(np.array([row]))
        first = np.concatenate([[0], np.cumsum(1 << (rows.depends & rows.unknown[0]).sum(axis=1))])
        layout, program, doubles = plan_of(rows, 0, first, compiled, EFFORT)
        if len(program.width):
            width, states = int(program.width.max()), int((1 << program.width).sum())
        else:
            width, states = 0, int(min(doubles, 2.0**62)) if doubles > HOPELESS else 0
        method = "causes" if (layout.slot_kind == CAUSE).any() else "findings"
        positive = int((rows.findings > 0.0).sum())
        plans.append(PlanOfCase(row, method, positive, len(layout.cause), width, states, doubles / 2**27))
    return plans
