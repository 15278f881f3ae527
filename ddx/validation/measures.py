"""Measures of probabilities against what was true: pure functions on arrays, with bootstrap intervals.

Axes: N cases, K causes, I items (a case and one of its true causes), B bins, R bootstrap resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddx.inference.network import Floats, Ints

Bools = NDArray[np.bool_]

# Numbers in one block of resamples: the weights of all cases, a few hundred megabytes at most.
_BLOCK = 20_000_000


@dataclass(frozen=True)
class Estimate:
    """A measure with its bootstrap interval; nan where there is nothing to measure, or no bootstrap was asked for."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def rank_of_truth(posterior: Floats, truth: Bools) -> Ints:
    """Rank of every cause (N, K) as if it were the item: 1 + the wrong causes whose posterior is not below its own.

    Parameters
    ----------
    posterior (N, K), truth (N, K)

    True causes are no competitors of each other: with two of them both can have rank 1. A wrong cause with the same posterior
    stands above (no luck from the order of columns). Only the entries of true causes mean anything.
    """
    wrong = np.sort(np.where(truth, -np.inf, posterior), axis=1)
    n_causes = posterior.shape[1]
    ranks = np.ones(posterior.shape, dtype=np.intp)
    for row in np.flatnonzero(truth.any(axis=1)):
        here = np.flatnonzero(truth[row])
        ranks[row, here] = 1 + n_causes - np.searchsorted(wrong[row], posterior[row, here], side="left")
    return ranks


def log_scores(posterior: Floats, truth: Bools) -> Floats:
    """-log of the probability given to what was so (N, K), in nats: -y log p - (1 - y) log(1 - p); inf for a certain error."""
    with np.errstate(divide="ignore"):
        return np.asarray(0.0 - np.where(truth, np.log(posterior), np.log1p(-posterior)))


def brier_scores(posterior: Floats, truth: Bools) -> Floats:
    """Squared errors (N, K), (p - y)^2."""
    return np.asarray((posterior - truth) ** 2)


def bin_edges(bins: int) -> Floats:
    """Edges (B + 1,) of bins of equal width over [0, 1]."""
    # Quotients, not multiples of a rounded width: 0.3 is the edge 3 / 10.
    return np.asarray(np.arange(bins + 1) / bins)


def bin_of(posterior: Floats, edges: Floats) -> Ints:
    """Index of the bin of every probability, same shape; bins are [low, high), the last one [low, high]."""
    return np.asarray(np.clip(np.searchsorted(edges, posterior, side="right") - 1, 0, len(edges) - 2))


def residuals(posterior: Floats, truth: Bools, edges: Floats) -> Floats:
    """Sum of p - y in every bin, of each case (N, B), over the causes in (N, K) - or over one probability a case, (N, 1)."""
    n, k = posterior.shape
    cell = (np.arange(n)[:, None] * (len(edges) - 1) + bin_of(posterior, edges)).ravel()
    total = np.bincount(cell, weights=(posterior - truth).ravel(), minlength=n * (len(edges) - 1))
    return np.asarray(total.reshape(n, len(edges) - 1) / k)


def calibration_error(residual: Floats) -> float:
    """Expected calibration error from the residuals of N cases (N, B).

    sum over bins of (share of probabilities in the bin) * |mean probability - observed frequency|
    = sum over bins of |sum of p - y| / number of probabilities (Naeini, Cooper, Hauskrecht 2015).
    """
    return float(np.abs(residual.sum(axis=0)).sum() / len(residual)) if len(residual) else float("nan")


def reliability(posterior: Floats, truth: Bools, edges: Floats) -> dict[str, Floats]:
    """A row per bin (B,): low, high, count, mean (of the probabilities), frequency (of the truth), frequency_low and _high.

    The interval is Wilson's, 95 %. Empty bins have nan.
    """
    p, y = posterior.ravel(), truth.ravel()
    where = bin_of(p, edges)
    count = np.bincount(where, minlength=len(edges) - 1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(where, weights=p, minlength=len(count)) / count
        frequency = np.bincount(where, weights=y.astype(np.float64), minlength=len(count)) / count
        low, high = wilson(frequency, count)
    table = {"low": edges[:-1], "high": edges[1:], "count": count, "mean": mean, "frequency": frequency}
    return table | {"frequency_low": low, "frequency_high": high}


def wilson(frequency: Floats, count: Floats, z: float = 1.959963984540054) -> tuple[Floats, Floats]:
    """Wilson's interval of a proportion (Wilson 1927); z = 1.96 for 95 %."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1.0 + z**2 / count
        centre = (frequency + z**2 / (2.0 * count)) / scale
        half = z / scale * np.sqrt(frequency * (1.0 - frequency) / count + z**2 / (4.0 * count**2))
    # Rounding must not put the ends outside the frequencies 0 and 1.
    return np.where(frequency == 0.0, 0.0, centre - half), np.where(frequency == 1.0, 1.0, centre + half)


def resampled(
    means: Floats, residual: dict[str, Floats], resamples: int, rng: np.random.Generator
) -> tuple[Floats, dict[str, Floats]]:
    """Bootstrap over cases: weighted means, and calibration errors.

    Parameters
    ----------
    means : (N, M) columns to sum
    residual : name -> (N, B), see ``residuals``
    resamples : R
    rng : of the resamples

    Returns
    -------
    Sums of the columns (R, M), and name -> calibration errors (R,).
    """
    n = len(means)
    sums = np.empty((resamples, means.shape[1]))
    # A resample with an infinite loss in it has one; without it (0 times infinity) it has not.
    endless = np.isinf(means)
    finite = np.where(endless, 0.0, means)
    errors = {name: np.empty(resamples) for name in residual}
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, resamples, step):
        block = slice(start, min(start + step, resamples))
        weight = rng.multinomial(n, np.full(n, 1.0 / n), block.stop - block.start).astype(np.float64)
        sums[block] = np.where(weight @ endless > 0.0, np.inf, weight @ finite)
        for name, parts in residual.items():
            errors[name][block] = np.abs(weight @ parts).sum(axis=1) / n
    return sums, errors


def calibration_error_by_chance(posterior: Floats, edges: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Calibration errors (R,) of these very probabilities (N, K) if they were right: truths are drawn from them.

    Consistency resampling (Bröcker and Smith 2007): a calibration error is never 0, and this is what chance alone makes of
    it. Causes of a case are drawn independently; within a case they mostly exclude each other, so that the true scatter is
    a little smaller.
    """
    where = bin_of(posterior, edges).ravel()
    p = posterior.ravel()
    errors = np.empty(resamples)
    for r in range(resamples):
        residual = p - (rng.random(p.shape) < p)
        errors[r] = np.abs(np.bincount(where, weights=residual, minlength=len(edges) - 1)).sum() / len(p)
    return errors


def interval(draws: Floats) -> tuple[float, float]:
    """2.5 % and 97.5 % quantiles of the draws that are numbers; nan without any."""
    usable = draws[~np.isnan(draws)]
    if not len(usable):
        return float("nan"), float("nan")
    low, high = np.quantile(usable, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
