"""Posteriors between certified bounds, for cases whose exact state does not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddx.inference.branching import Search
from ddx.inference.dispatch import run
from ddx.inference.exact import checked, log_no_cause, refuse_forms, refuse_large
from ddx.inference.network import Floats, Network
from ddx.inference.subproblem import ROUNDING, Case

# More than underflow can lose.
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds on the posteriors of N cases.

    Attributes
    ----------
    lower, upper : (N, K), lower <= P(cause = 1 | evidence) <= upper
    none_lower, none_upper : (N,), the same for P(every cause = 0 | evidence)
    log_evidence_lower, log_evidence_upper : (N,), the same for the natural logarithm of P(findings | observed context)

    Evidence that is proven impossible has -inf in both of the latter and nan in the others; ``impossible`` (N,) marks those
    cases. Where log_evidence_lower is -inf and log_evidence_upper is not, nothing says yet that the evidence is possible:
    posteriors are then bounded under the condition that it is, by 0 from below.
    """

    lower: Floats
    upper: Floats
    none_lower: Floats
    none_upper: Floats
    log_evidence_lower: Floats
    log_evidence_upper: Floats

    @property
    def impossible(self) -> NDArray[np.bool_]:
        """Cases (N,) whose evidence has probability zero."""
        return np.isneginf(self.log_evidence_upper)


def bounds(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    memory_gib: float = 4.0,
    effort: float = 1000.0,
    tolerance: float = 1e-3,
) -> Bounds:
    """Lower and upper posterior of every cause, for N cases; both are exact for those that fit into the memory.

    Parameters
    ----------
    network : Network
    evidence : (N, F)
        1 present, 0 absent, nan not observed; a number v in between is virtual evidence with likelihoods v for
        present and 1 - v for absent.
    context : (N, C), optional
        1 present, 0 absent, nan not observed; all not observed when left out.
    memory_gib : float
        Budget for the states of one case, and of one subproblem of a case that does not fit.
    effort : float
        Work on one case that does not fit, in solved subproblems (larger ones, of 65,536 numbers or more, count in
        proportion); the first subproblem, about thirty, is always solved. More effort never gives wider bounds.
    tolerance : float
        Stop when no interval of a cause is wider.

    Raises
    ------
    ValueError
        As for ``posterior``; effort or tolerance negative, or causes that come in forms.
    EvidenceTooLarge
        The unknown context and the syndromes of a case alone would not fit into ``memory_gib``.

    Notes
    -----
    The bounds hold for the network as given, in exact arithmetic: an allowance of 2e-12 (relative, of the evidence and of
    the probability of each cause being present or absent) for rounding is added outward. Results are deterministic, and those
    of a case do not depend on the other cases.
    """
    if not effort >= 0.0 or not tolerance >= 0.0:
        raise ValueError(f"effort and tolerance: got {effort} and {tolerance}, expected numbers that are not negative")
    refuse_forms(network, "bounds")
    problem = checked(network, evidence, context)
    solved = run(problem, "auto", memory_gib * 2**27)
    low, high = solved.marginal * (1.0 - ROUNDING), solved.marginal * (1.0 + ROUNDING) + _TINY
    log_low, log_high = solved.log_evidence - ROUNDING, solved.log_evidence + ROUNDING
    prior = log_no_cause(problem, "auto", memory_gib)
    refuse_large(problem, np.broadcast_to(prior.doubles, len(problem.findings)), memory_gib)
    without = prior.log_evidence
    if network.n_syndromes:
        # Without causes, the syndromes are causes of their own.
        alone = Network(network.syndrome_leak, network.finding_syndrome, network.leak, copy=False)
        part = bounds(alone, problem.findings, memory_gib=memory_gib, effort=effort, tolerance=tolerance)
        none_low, none_high = without + part.log_evidence_lower, without + part.log_evidence_upper
    else:
        none_low = none_high = without + solved.log_leak
    for row in np.flatnonzero(solved.doubles > memory_gib * 2**27):
        low[row], high[row], log_low[row], log_high[row] = 0.0, 1.0, -np.inf, 0.0
        for sums in Search(Case(problem, int(row)), int(row), memory_gib).run(effort):
            # P(no cause, e) is part of P(c_k = 0, e).
            nobody = np.exp(none_low[row] - sums.log_scale) * (1.0 - ROUNDING)
            low[row] = np.fmax(low[row], _ratio(sums.present[0], sums.absent[1]) * (1.0 - ROUNDING))
            most = _ratio(sums.present[1], np.maximum(sums.absent[0], nobody)) * (1.0 + ROUNDING) + _TINY
            high[row] = np.fmin(high[row], most)
            with np.errstate(divide="ignore"):
                log = np.log(sums.evidence) + sums.log_scale
            log_low[row], log_high[row] = max(log_low[row], log[0]), min(log_high[row], log[1])
            if np.isneginf(log[1]) or (high[row] - low[row]).max(initial=0.0) <= tolerance:
                break
    with np.errstate(invalid="ignore"):
        none = [np.exp(none_low - log_high) * (1.0 - ROUNDING), np.exp(none_high - log_low) * (1.0 + ROUNDING)]
    result = Bounds(low, np.minimum(high, 1.0), none[0], np.minimum(none[1], 1.0), log_low, log_high)
    if network.none_weight < 1.0:
        result = _weighed(result, without, network.none_weight)
    for array in (result.lower, result.upper, result.none_lower, result.none_upper):
        array[result.impossible] = np.nan
    return result


def _weighed(independent: Bounds, log_none: Floats, weight: float) -> Bounds:
    """Bounds where having no cause counts with a weight, from those for independent causes; see ``posterior``.

    ``log_none`` (N,): log P(no cause | observed context).
    """
    # What is left of P(evidence), at most and at least: the less, the more probable it is that there is no cause.
    most, least = (1.0 - (1.0 - weight) * np.minimum(none, 1.0) for none in (independent.none_lower, independent.none_upper))
    all_left = np.log1p(-(1.0 - weight) * np.exp(log_none))
    with np.errstate(invalid="ignore"):
        return Bounds(
            independent.lower / most[:, None] * (1.0 - ROUNDING),
            np.minimum(independent.upper / least[:, None] * (1.0 + ROUNDING), 1.0),
            weight * independent.none_lower / most * (1.0 - ROUNDING),
            np.minimum(weight * independent.none_upper / least * (1.0 + ROUNDING), 1.0),
            _moved(independent.log_evidence_lower, np.log(least) - all_left - ROUNDING),
            _moved(independent.log_evidence_upper, np.log(most) - all_left + ROUNDING),
        )


def _moved(log: Floats, by: Floats) -> Floats:
    return np.where(np.isneginf(log), log, log + by)


def _ratio(part: Floats, rest: Floats) -> Floats:
    """Part / (part + rest), 0 where the part is 0."""
    return part / np.where(part > 0.0, part + rest, 1.0)
