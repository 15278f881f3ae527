"""Who comes to a setting: people with a cause, and some of those without any.

Causes are independent among people at large, given age, sex and risk factors. Among patients they are not: who has one that
explains the complaint came for it, and needs no second (Berkson 1946, Biometrics Bulletin 2, 47-53). What can be counted is how
many causes a patient has who has any. With P(no cause) weighted down, and the priors scaled before, patients have that many,
every cause its prior and every stratum its share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddx.inference.network import Floats

# Largest relative error of the scale and of the shares: sought, and put up with where so many rounds came no nearer.
_CLOSE, _GOOD, _STUCK = 1e-14, 1e-7, 6
# Rounds, and how many without gain end the extrapolation; then half a step where a whole one went too far.
_ROUNDS, _PLAIN = 400, 3
# Earlier rounds that the next one is extrapolated from.
_MEMORY = 4


@dataclass(frozen=True, eq=False)
class Admission:
    """From people at large to patients.

    none_weight : what P(no cause) is multiplied with
    scale : priors of people at large over those of patients
    share : (A, 2) of the strata among people at large
    tilt : (A, 2) that over the share among patients
    """

    none_weight: float
    scale: float
    share: Floats
    tilt: Floats


def admission(
    prior: Floats,
    share: Floats,
    causes_per_patient: float,
    none_at_large: Callable[[float, Floats], Floats],
) -> Admission:
    """The people at large among whom patients are as they were counted.

    Parameters
    ----------
    prior (K,), share (A, 2), causes_per_patient : of patients; the last is the mean among those who have any
    none_at_large : (scale, share) of people at large -> P(no cause | stratum), (A, 2) as share

    Raises
    ------
    ValueError
        The priors alone make more causes a patient, or independent causes make fewer; or no people at large were found, as the
        number is so near to 1 that rounding leaves nothing of the difference, or priors near 1 differ much between strata.

    Notes
    -----
    Of people at large a part comes: those with any cause, and as many without that the mean is right. Patients have their
    priors where that part is the scale. Over the scale, it falls from ``causes_per_patient`` (at 0) nearly in a straight line,
    and where that line comes to 1 is the next scale. Rounds are extrapolated (Anderson 1965, J ACM 12, 547-560) as long as that
    brings them nearer; without, they come nearer by a factor.
    """
    total = float(prior.sum())
    none = none_at_large(1.0, share)
    most = total / (1.0 - float((share * none).sum()))
    if not total < causes_per_patient <= most:
        low, high = _rounded(total, math.ceil), _rounded(most, math.floor)
        bounds = f"above {low}, which the priors add up to, and at most {high}, as many as independent causes make"
        raise ValueError(f"got {causes_per_patient:g}, expected a number {bounds}")
    # Odds of no cause among patients.
    none_odds = (causes_per_patient - total) / total
    # The logarithms of scale and shares, and what a round makes of them.
    at = np.append(0.0, np.log(share.ravel()))
    given: list[Floats] = []
    made: list[Floats] = []
    best, nearest, stuck, plain = Admission(1.0, 1.0, share, np.ones_like(share)), math.inf, 0, False
    for _ in range(_ROUNDS):
        own = np.exp(at[1:]).reshape(share.shape)
        with_any, without = float((own * (1.0 - none)).sum()), float((own * none).sum())
        part = with_any * (1.0 + none_odds) / math.exp(at[0])
        if not 0.0 < part < causes_per_patient:  # rounding has left nothing of the difference
            break
        weight = none_odds * with_any / without
        coming = share / ((1.0 - none) + weight * none)
        log_share = np.log(coming / coming.sum()).ravel()
        off = max(abs(math.log(part)), float(np.abs(log_share - at[1:]).max()))
        if farther := off >= nearest:
            given, made, stuck = [], [], stuck + 1
        else:
            best, nearest, stuck = Admission(min(weight, 1.0), math.exp(at[0]), own, own / share), off, 0
        if nearest < _CLOSE or (nearest < _GOOD and stuck == _STUCK):
            break
        step = np.append(math.log((causes_per_patient - 1.0) / (causes_per_patient - part)), log_share - at[1:])
        plain = plain or stuck == _PLAIN
        if plain:
            at = at + step * (0.5 if farther else 1.0)
        else:
            given, made = [*given, at], [*made, at + step]
            at = _next(np.array(given), np.array(made))
        at = np.append(min(at[0], 0.0), at[1:] - np.log(np.exp(at[1:]).sum()))
        none = none_at_large(math.exp(at[0]), np.exp(at[1:]).reshape(share.shape))
    if nearest > _GOOD:
        why = "no people at large were found among whom patients have so many, though there may be some; state another number"
        raise ValueError(f"got {causes_per_patient:g}: {why}")
    return best


def _rounded(number: float, to: Callable[[float], int]) -> str:
    """To three decimals, up or down: a bound that is kept when what is written is."""
    return f"{to(number * 1000.0) / 1000.0:g}"


def _next(given: Floats, made: Floats) -> Floats:
    """Where the differences between ``made`` and ``given`` (R, X) would cancel, were they linear."""
    given, made = given[-_MEMORY:], made[-_MEMORY:]
    gap = made - given
    if len(gap) == 1:
        return np.asarray(made[-1])
    steps = np.diff(gap, axis=0)
    share = np.linalg.lstsq(steps.T, gap[-1], rcond=None)[0]
    return np.asarray(made[-1] - share @ np.diff(made, axis=0))
