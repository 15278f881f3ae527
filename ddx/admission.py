"""Who comes to a setting: people with a cause, and some of those without any.

Causes are independent among people at large, given age, sex and risk factors. Among patients they are not: who has one that
explains the complaint came for it, and needs no second (Berkson 1946, Biometrics Bulletin 2, 47-53). What can be counted is how many
causes a patient has who has any. With P(no cause) weighted down, and the priors scaled before, patients have that many, every
cause its prior and every stratum its share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddx.inference.network import Floats

# Largest relative error of the scale and of the shares.
_CLOSE = 1e-11
_ROUNDS = 50
# Earlier rounds that the next one is extrapolated from.
_MEMORY = 4
# What a round may multiply the scale with, and where the weight is sought: a little above 1, to be stopped nowhere before.
_FACTORS, _WEIGHTS = (0.125, 1.5), (1e-40, 1.5)
_STEPS, _EXACT = 200, 1e-13


@dataclass(frozen=True, eq=False)
class Admission:
    """From people at large to patients.

    none_weight : what P(no cause) is multiplied with
    scale : priors of people at large over those of patients
    share : (A, 2) of the strata among people at large
    """

    none_weight: float
    scale: float
    share: Floats


def admission(
    prior: Floats,
    share: Floats,
    causes_per_patient: float,
    at_large: Callable[[float, Floats], tuple[Floats, Floats]],
) -> Admission:
    """The people at large among whom patients are as they were counted.

    Parameters
    ----------
    prior (K,), share (A, 2), causes_per_patient : of patients; the last is the mean among those who have any
    at_large : (scale, share) of people at large -> P(no cause | stratum), and the mean number of causes there, (A, 2) both

    Raises
    ------
    ValueError
        The priors alone make more causes a patient, or independent causes make fewer; the message says what is possible.

    Notes
    -----
    Each round takes -log P(no cause) to rise as the priors do, which it nearly does, and the rounds are extrapolated (Anderson
    1965, J ACM 12, 547-560).
    """
    total = float(prior.sum())
    none, causes = at_large(1.0, share)
    most = total / (1.0 - float((share * none).sum()))
    bounds = f"above {total:.3g}, which the priors add up to, and at most {most:.3g}, as many as independent causes make"
    if not total < causes_per_patient <= most:
        raise ValueError(f"got {causes_per_patient:g}, expected a number {bounds}")
    none_share = 1.0 - total / causes_per_patient
    # The logarithms of scale and shares, and what a round makes of them.
    given, made = [np.append(0.0, np.log(share.ravel()))], []
    for _ in range(_ROUNDS):
        factor, weight = _weighed(-np.log(none), causes, share, none_share, total)
        coming = share / _part(-np.log(none), factor, weight)
        made.append(np.append(-np.log(coming.sum()), np.log(coming / coming.sum()).ravel()))
        if np.abs(made[-1] - given[-1]).max() < _CLOSE:
            break
        if factor in _FACTORS:
            given, made = [made[-1]], []  # still far away: nothing to extrapolate from
        else:
            given.append(_next(np.array(given), np.array(made)))
        own = np.exp(given[-1][1:]).reshape(share.shape)
        none, causes = at_large(float(np.exp(given[-1][0])), own / own.sum())
    else:
        raise ValueError(f"got {causes_per_patient:g}, too close to the bounds of what is possible; expected a number {bounds}")
    scale, *shares = np.exp(made[-1])
    return Admission(weight, float(scale), np.array(shares).reshape(share.shape))


def _next(given: Floats, made: Floats) -> Floats:
    """Where the differences between ``made`` and ``given`` (R, X) would cancel, were they linear."""
    given, made = given[-_MEMORY:], made[-_MEMORY:]
    gap = made - given
    if len(gap) == 1:
        return np.asarray(made[-1])
    steps = np.diff(gap, axis=0)
    share = np.linalg.lstsq(steps.T, gap[-1], rcond=None)[0]
    return np.asarray(made[-1] - share @ np.diff(made, axis=0))


def _weighed(burden: Floats, causes: Floats, share: Floats, none_share: float, total: float) -> tuple[float, float]:
    """What the scale has to be multiplied with, and the weight of no cause.

    ``burden`` : -log P(no cause | stratum) at large. It and the mean number of ``causes`` are taken to rise by one factor, so
    that patients have ``total`` causes on average, and ``none_share`` of them none.
    """

    def weight_at(factor: float) -> float:
        of_none = share * np.exp(-factor * burden)
        return _root(lambda weight: float((weight * of_none / _part(burden, factor, weight)).sum()), none_share, _WEIGHTS)

    def mean(factor: float) -> float:
        return float((share * factor * causes / _part(burden, factor, weight_at(factor))).sum())

    factor = _root(mean, total, _FACTORS)
    return factor, weight_at(factor)


def _part(burden: Floats, factor: float, weight: float) -> Floats:
    """The part (A, 2) of every stratum that comes: all with a cause, and ``weight`` of the others."""
    return np.asarray(-np.expm1(-factor * burden) + weight * np.exp(-factor * burden))


def _root(rising: Callable[[float], float], level: float, within: tuple[float, float]) -> float:
    """Where a function of a positive number reaches a level, else the nearer end.

    Regula falsi (Illinois) on logarithms; every third step is a bisection, because far from the level such functions are flat.
    """

    def gap(x: float) -> float:
        return rising(float(np.exp(x))) - level

    low, high = (float(x) for x in np.log(within))
    below, above = gap(low), gap(high)
    if below >= 0.0 or above <= 0.0:
        return within[0] if below >= 0.0 else within[1]
    side, last = 0, low
    for step in range(_STEPS):
        middle = 0.5 * (low + high)
        if step % 3 and above > below:
            middle = (low * above - high * below) / (above - below)
        there = gap(middle)
        if there < 0.0:
            above *= 0.5 if side < 0 else 1.0
            low, below, side = middle, there, -1
        else:
            below *= 0.5 if side > 0 else 1.0
            high, above, side = middle, there, 1
        if abs(middle - last) < _EXACT or there == 0.0:
            break
        last = middle
    return float(np.exp(middle))
