"""Case ids seen so far, 16 bytes each: which of the next ones were there before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class CaseIds:
    """Sorted runs of hashed ids, merged when they grow alike: an id costs 16 bytes, a look-up a binary search a run.

    The two 64-bit hashes of an id are Python's (SipHash) of the text and of the text behind another letter: among 10^9 ids a
    false repetition has probability 1e-21.

    ``long`` : of a table with several rows a case, where a case that comes again has been scored without what it says here
    """

    def __init__(self, *, long: bool = False) -> None:
        self.long = long
        self._runs: list[NDArray[np.uint64]] = []  # (M, 2) each, sorted by the first hash

    def repeated(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which ids (N,) were there before, here or earlier in ``ids``; all of them are remembered. Empty ids count as new."""
        hashed = self._hash(ids)
        order = np.lexsort((hashed[:, 1], hashed[:, 0]))
        ordered = hashed[order]
        # Sorted, look-ups that follow each other end in the same part of a run.
        met = np.r_[False, (ordered[1:] == ordered[:-1]).all(axis=1)] if len(ordered) else np.zeros(0, dtype=np.bool_)
        for run in self._runs:
            met |= _found(run, ordered)
        empty = np.fromiter(map(len, ids), dtype=np.intp, count=len(ids)) == 0
        met &= ~empty[order]
        added = ordered[~(met | empty[order])]
        if len(added):
            self._runs.append(added)
        while len(self._runs) > 1 and len(self._runs[-1]) * 2 >= len(self._runs[-2]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            self._runs.append(merged[np.argsort(merged[:, 0], kind="stable")])
        repeated = np.zeros(len(hashed), dtype=np.bool_)
        repeated[order] = met
        return repeated

    @staticmethod
    def _hash(ids: Sequence[str]) -> NDArray[np.uint64]:
        salted = (ids, map("\0".__add__, ids))
        hashed = [np.fromiter(map(hash, some), dtype=np.int64, count=len(ids)) for some in salted]
        return np.stack(hashed, axis=1).view(np.uint64)


def _found(run: NDArray[np.uint64], hashed: NDArray[np.uint64]) -> NDArray[np.bool_]:
    at = np.searchsorted(run[:, 0], hashed[:, 0])
    found = np.zeros(len(hashed), dtype=np.bool_)
    # Equal first hashes of different ids stand side by side; there is hardly ever more than one.
    open_ = np.flatnonzero(at < len(run))
    while len(open_):
        same = run[at[open_], 0] == hashed[open_, 0]
        open_ = open_[same]
        hit = run[at[open_], 1] == hashed[open_, 1]
        found[open_[hit]] = True
        open_ = open_[~hit]
        at[open_] += 1
        open_ = open_[at[open_] < len(run)]
    return found
