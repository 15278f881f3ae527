"""What a case says of risk factors, and what it does not say.

A risk factor that is there may be left out of a record: ``unstated`` is P(not stated | there) over P(not stated | not there),
1 where records leave out either as readily. The silence then is weak evidence against it.

Axes: M strata that cases may belong to, N cases, C risk factors.
"""

from __future__ import annotations

import numpy as np

from ddx.inference import log_total
from ddx.inference.network import Floats, Ints


def log_stratum_weight(share: Floats, prior: Floats, observed: Floats, requires: Ints, case: Ints, unstated: float) -> Floats:
    """Log P(stratum | what is stated of risk factors) (M,).

    Parameters
    ----------
    share : (M,) of the reference population
    prior : (M, C) frequencies of the risk factors in the stratum, given what they require
    observed : (M, C) 1, 0 or nan: not stated
    requires : (C,) the risk factor that one requires, -1 for none
    case : (M,) ascending; the weights of a case add up to 1
    """
    with np.errstate(divide="ignore"):
        log_weight = np.log(share) + _log_context(observed, prior, requires, unstated)
    return np.asarray(log_weight - log_total(log_weight, case)[case])


def _log_context(observed: Floats, prior: Floats, requires: Ints, unstated: float) -> Floats:
    """Log P(what is stated | stratum) (M,): a risk factor together with those that require it."""
    total = np.zeros(len(observed))
    own = np.where(observed == 1.0, prior, np.where(observed == 0.0, 1.0 - prior, 1.0))
    with np.errstate(divide="ignore"):
        for j in np.flatnonzero(requires < 0):
            children, x = np.flatnonzero(requires == j), observed[:, j]
            # Of those in whom it is stated, what requires it would have been stated as often.
            silent = np.isnan(observed[:, children]) & (x == 1.0)[:, None]
            of_children = np.where(silent, 1.0 - prior[:, children] * (1.0 - unstated), own[:, children])
            present = prior[:, j] * of_children.prod(axis=1)
            absent = np.where((observed[:, children] == 1.0).any(axis=1), 0.0, 1.0 - prior[:, j])
            total += np.log(np.where(x == 1.0, present, np.where(x == 0.0, absent, present * unstated + absent)))
    return total


def prior_of_unstated(prior: Floats, observed: Floats, requires: Ints, unstated: float) -> Floats:
    """Frequencies of risk factors (N, C) given what they require, lower where nothing is said of them; as above, by Bayes.

    Nothing is said of what requires an unstated one either way: only beside one that is stated is silence on it evidence.
    """
    if unstated == 1.0:
        return prior
    beside = np.where(requires < 0, 1.0, observed[:, requires])
    silent = np.isnan(observed) & (beside == 1.0)
    return np.where(silent, prior * unstated / (1.0 - prior + prior * unstated), prior)
