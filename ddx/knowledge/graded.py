"""Graded findings: exclusive levels of one thing, of which the highest contributed one is observed (noisy-MAX).

With P(v) the distribution over none, level 1, ..., level L under one cause, each level is a boolean noisy-OR finding with the
probability h(v) = P(v) / P(<= v): "reached v, given not higher". Observing level v then means: higher levels absent, v present,
lower ones not observed. (Continuation ratios; the factorization of noisy-MAX is Diez and Galan 2003, section 3.)
"""

from __future__ import annotations

from collections.abc import Sequence

# Nobody shows a level with certainty: what remains for "none" is at least this.
MIN_NONE = 0.01
# Levels pooled from different studies need not add up; up to this excess they are scaled down, beyond it they are a problem.
MAX_TOTAL = 1.10


def distribution(levels: Sequence[float]) -> tuple[float, ...]:
    """P(none), P(level 1), ..., P(level L) from pooled level probabilities.

    Levels that add up to more than 1 - ``MIN_NONE`` are scaled down to it; the check of a knowledge base refuses more than
    ``MAX_TOTAL``.
    """
    scale = min(1.0, (1.0 - MIN_NONE) / sum(levels))
    scaled = tuple(p * scale for p in levels)
    return (1.0 - sum(scaled), *scaled)


def continuation(levels: Sequence[float]) -> tuple[float, ...]:
    """h(v) = P(v) / P(<= v) of every level, from level probabilities, lowest level first."""
    none, *rest = distribution(levels)
    total, ratios = none, []
    for p in rest:
        total += p
        ratios.append(p / total)
    return tuple(ratios)
