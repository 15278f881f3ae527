"""Statements of a case that are sums of products over findings: what they are split into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddx.inference.network import Floats


def split_findings(finding: Floats, implications: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Uncertain findings (N, O) beside a stated one that they imply, or that implies them: each makes two cases of one.

    ``finding`` (N, O) as in ``Evidence``; ``implications``: columns of a finding and of what it implies. An absent finding that
    is implied, and a present one that implies, leave nothing uncertain.
    """
    unsure = np.asarray((finding > 0.0) & (finding < 1.0))
    some = np.flatnonzero(unsure.any(axis=0)).tolist()
    split, certain = np.zeros_like(unsure), np.zeros_like(unsure)
    for specific, general in implications:
        for own, other, decisive in ((specific, general, 0.0), (general, specific, 1.0)):
            if own in some:
                split[:, own] |= ~np.isnan(finding[:, other])
                certain[:, own] |= finding[:, other] == decisive
    return np.asarray(unsure & split & ~certain)


def pieces_of(likelihood: Floats) -> list[tuple[float, list[float]]]:
    """(weight, values of the level columns) whose weighted sum is a likelihood over none, level 1, ..., level L.

    "Level v" is: v present, all above absent. "At most v" is: all above absent. A likelihood with one value up to level v
    starts with the second kind.
    """
    if not likelihood.any():
        raise ValueError("a likelihood over levels is zero everywhere: contradictory statements about a graded finding")
    n_levels = len(likelihood) - 1
    flat = 0
    while flat < n_levels and likelihood[flat + 1] == likelihood[0]:
        flat += 1
    pieces = []
    if likelihood[0] > 0.0:
        pieces.append((float(likelihood[0]), [np.nan] * flat + [0.0] * (n_levels - flat)))
    pieces += [
        (float(likelihood[v]), [np.nan] * (v - 1) + [1.0] + [0.0] * (n_levels - v))
        for v in range(flat + 1, n_levels + 1)
        if likelihood[v] > 0.0
    ]
    return pieces
