"""Cases that are mixtures: unknown age and sex, and evidence on one level of a graded finding."""

from __future__ import annotations

import numpy as np

from ddx.inference.network import Floats, Ints
from ddx.inference.posterior import Posterior


def mix(parts: Posterior, case: Ints, log_weight: Floats) -> tuple[Posterior, Floats]:
    """Combine M weighted parts into N cases.

    Parameters
    ----------
    parts : posterior of M parts
    case : (M,), the case of every part: 0, ..., N - 1, ascending, none missing
    log_weight : (M,), logarithm of the prior weight of the part within its case, before what ``none_weight`` leaves of it

    Returns
    -------
    The posterior of the N cases, P(e) = sum of weight * P(e | part), and the posterior weight of every part (M,).
    """
    if parts.log_weight is not None:
        log_weight = log_weight + parts.log_weight
    first = first_of(case)
    if len(first) == len(case):
        return _alone(parts, log_weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_joint = log_weight + parts.log_evidence
        peak = np.maximum.reduceat(log_joint, first)
        peak[np.isneginf(peak)] = 0.0
        joint = np.exp(log_joint - peak[case])
        total = np.add.reduceat(joint, first)
        log_evidence = peak + np.log(total)
        weight = joint / total[case]

    def average(values: Floats) -> Floats:
        # An impossible part has weight 0 and nan values: it must not spoil its case. An impossible case stays nan.
        share = weight.reshape(-1, *(1,) * (values.ndim - 1))
        return np.minimum(np.add.reduceat(np.where(share == 0.0, 0.0, share * values), first), 1.0)

    mixed = Posterior(
        average(parts.marginal), average(parts.none), log_evidence, average(parts.context), average(parts.syndrome)
    )
    return mixed, weight


def _alone(parts: Posterior, log_weight: Floats) -> tuple[Posterior, Floats]:
    """The same where every case has one part: its weight is 1, or nan if it is impossible."""
    log_evidence = log_weight + parts.log_evidence
    weight = np.where(np.isfinite(log_evidence), 1.0, np.nan)
    arrays = (parts.marginal, parts.none, parts.context, parts.syndrome)
    marginal, none, context, syndrome = (np.minimum((weight * values.T).T, 1.0) for values in arrays)
    # -0.0 is no logarithm of a sum.
    return Posterior(marginal, none, log_evidence + 0.0, context, syndrome), weight


def first_of(case: Ints) -> Ints:
    """The first part of every case (N,); ``case`` (M,) as for ``mix``."""
    return np.flatnonzero(np.r_[True, np.diff(case) > 0])


def log_total(log_weight: Floats, case: Ints) -> Floats:
    """Logarithm of the sum of the weights of every case (N,); ``log_weight``, ``case`` (M,) as for ``mix``."""
    first = first_of(case)
    if len(first) == len(case):
        return log_weight
    peak = np.maximum.reduceat(log_weight, first)
    return np.asarray(peak + np.log(np.add.reduceat(np.exp(log_weight - peak[case]), first)))
