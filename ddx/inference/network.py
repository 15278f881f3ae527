"""The arrays of a layered noisy-OR network, checked once at the edge of the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, init=False)
class Network:
    """Context -> causes -> syndromes -> findings, as arrays.

    Axes: N cases, K causes, F findings, J syndromes, C context variables. An array with a leading N axis gives every case its
    own values; without it all cases share them. A network may lack context, syndromes or both.

    Parameters
    ----------
    prior : (K,) or (N, K)
        P(cause = 1), at context 0 when the network has context variables.
    link : (F, K) or (N, F, K)
        Noisy-OR link w: P(finding | only this cause) = 1 - (1 - leak)(1 - w). Zero means no link.
    leak : (F,) or (N, F)
        P(finding | no cause, no syndrome).
    syndrome_link : (J, K) or (N, J, K), optional
        Noisy-OR link of each unobserved syndrome for each cause.
    syndrome_leak : (J,) or (N, J), optional
        P(syndrome | no cause).
    finding_syndrome : (F, J) or (N, F, J), optional
        Noisy-OR link of each finding for each syndrome:
        P(finding absent | causes, syndromes) = (1 - leak) prod_k (1 - link)^c_k prod_j (1 - finding_syndrome)^s_j.
    context_log_odds : (K, C) or (N, K, C), optional
        log odds ratio of each cause for each boolean context variable:
        logit P(cause | x) = logit prior + sum_j context_log_odds[cause, j] * x_j.
    context_prior : (C,) or (N, C), optional
        P(x_j = 1), given that the variable it requires is 1.
    requires : (C,), optional
        Index of the context variable without which this one is impossible, -1 for none. One level deep.
    none_weight : float in (0, 1]
        What the joint probability is multiplied with where no cause is present, before all is normalized to one: how readily
        those without any cause are among the people that cases come from. 1: causes are independent given the context.
        Below, one of them makes the others rarer among these people than they are at large (Berkson 1946). What is left of a
        probability is known to 1e-16 of what was there: relative errors are up to 1e-15 over the weight.
    cause : (K,), optional
        Causes of which some columns are forms: ascending numbers from 0, columns of one cause side by side. A cause is present
        where at least one of its forms is; prior and context_log_odds, the same in all its columns, are those of the cause.
    share : (K,), optional
        Of the forms among those with the cause: P(form absent) = P(cause absent)**share, and the shares of a cause add up to 1.
    copy : bool
        False: arrays that the caller will not change are kept as they are; otherwise they are copied.

    Raises
    ------
    ValueError
        Wrong shapes, or numbers that are not probabilities; the message names the array and the first offending index.
    """

    prior: Floats
    link: Floats
    leak: Floats
    syndrome_link: Floats
    syndrome_leak: Floats
    finding_syndrome: Floats
    context_log_odds: Floats
    context_prior: Floats
    requires: Ints
    none_weight: float
    cause: Ints
    share: Floats

    def __init__(
        self,
        prior: ArrayLike,
        link: ArrayLike,
        leak: ArrayLike,
        *,
        syndrome_link: ArrayLike | None = None,
        syndrome_leak: ArrayLike | None = None,
        finding_syndrome: ArrayLike | None = None,
        context_log_odds: ArrayLike | None = None,
        context_prior: ArrayLike | None = None,
        requires: ArrayLike | None = None,
        none_weight: float = 1.0,
        cause: ArrayLike | None = None,
        share: ArrayLike | None = None,
        copy: bool = True,
    ) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        def probabilities(name: str, value: ArrayLike, ndim: int) -> None:
            put(name, _probabilities(name, value, (ndim, ndim + 1), copy))

        probabilities("prior", prior, 1)
        probabilities("link", link, 2)
        probabilities("leak", leak, 1)
        n_findings, n_causes = self.link.shape[-2:]
        _expect_axis("prior", self.prior, -1, n_causes, "causes (K) of link")
        _expect_axis("leak", self.leak, -1, n_findings, "findings (F) of link")
        self._put_syndromes(probabilities, syndrome_link, syndrome_leak, finding_syndrome)
        if (context_log_odds is None) != (context_prior is None):
            raise ValueError("context_log_odds and context_prior come together: give both or neither")
        if context_log_odds is None or context_prior is None:
            if requires is not None:
                raise ValueError("requires needs context_log_odds and context_prior")
            context_log_odds, context_prior = np.zeros((n_causes, 0)), np.zeros(0)
        log_odds = _floats(context_log_odds, copy)
        if log_odds.ndim not in (2, 3) or log_odds.shape[-2] != n_causes:
            expected = f"(K, C) or (N, K, C) with K = {n_causes}"
            raise ValueError(f"context_log_odds: got shape {log_odds.shape}, expected {expected}")
        if not np.isfinite(log_odds).all():
            raise ValueError("context_log_odds: every log odds ratio must be finite")
        put("context_log_odds", log_odds)
        probabilities("context_prior", context_prior, 1)
        _expect_axis("context_prior", self.context_prior, -1, log_odds.shape[-1], "context variables (C)")
        put("requires", _check_requires(requires, log_odds.shape[-1]))
        if not 0.0 < none_weight <= 1.0:
            raise ValueError(f"none_weight: got {none_weight}, expected a number above 0, at most 1")
        put("none_weight", float(none_weight))
        self._put_forms(put, cause, share)
        sizes = {a.shape[0] for a, ndim in self._batched() if a.ndim == ndim}
        if len(sizes) > 1:
            raise ValueError(f"arrays with a leading case axis disagree about the number of cases: {sorted(sizes)}")

    def _put_forms(self, put: Callable[[str, object], None], cause: ArrayLike | None, share: ArrayLike | None) -> None:
        if (cause is None) != (share is None):
            raise ValueError("cause and share come together: give both or neither")
        if cause is None or share is None:
            put("cause", np.arange(self.n_causes))
            put("share", np.ones(self.n_causes))
            return
        of, shares = np.array(cause), _probabilities("share", share, (1, 1), copy=True)
        for name, array in (("cause", of), ("share", shares)):
            if array.shape != (self.n_causes,):
                raise ValueError(f"{name}: got shape {array.shape}, expected (K,) with K = {self.n_causes}, the causes of link")
        if self.n_causes and (of.dtype.kind not in "iu" or of[0] != 0 or not np.isin(np.diff(of), (0, 1)).all()):
            raise ValueError(f"cause: got {of.tolist()}, expected whole numbers from 0, each as before or one more")
        of = of.astype(np.intp)
        first = np.searchsorted(of, of)
        total = np.bincount(of, shares)
        if not (shares > 0.0).all() or (abs(total - 1.0) > 1e-9).any():
            raise ValueError(f"share: got {shares.tolist()}, expected shares above 0 that add up to 1 in every cause")
        for name, array in (("prior", self.prior.T), ("context_log_odds", np.moveaxis(self.context_log_odds, -2, 0))):
            if (array != array[first]).any():
                raise ValueError(f"{name}: forms of one cause differ; it belongs to the cause, and share divides it among them")
        put("cause", of)
        put("share", shares)

    def _put_syndromes(
        self,
        put: Callable[[str, ArrayLike, int], None],
        link: ArrayLike | None,
        leak: ArrayLike | None,
        finding: ArrayLike | None,
    ) -> None:
        given = [value is not None for value in (link, leak, finding)]
        if any(given) and not all(given):
            raise ValueError("syndrome_link, syndrome_leak and finding_syndrome come together: give all three or none")
        if link is None or leak is None or finding is None:
            link, leak, finding = np.zeros((0, self.n_causes)), np.zeros(0), np.zeros((self.n_findings, 0))
        put("syndrome_link", link, 2)
        put("syndrome_leak", leak, 1)
        put("finding_syndrome", finding, 2)
        n_syndromes = self.syndrome_link.shape[-2]
        _expect_axis("syndrome_link", self.syndrome_link, -1, self.n_causes, "causes (K) of link")
        _expect_axis("syndrome_leak", self.syndrome_leak, -1, n_syndromes, "syndromes (J) of syndrome_link")
        _expect_axis("finding_syndrome", self.finding_syndrome, -1, n_syndromes, "syndromes (J) of syndrome_link")
        _expect_axis("finding_syndrome", self.finding_syndrome, -2, self.n_findings, "findings (F) of link")

    def _batched(self) -> list[tuple[Floats, int]]:
        return [
            (self.prior, 2),
            (self.link, 3),
            (self.leak, 2),
            (self.syndrome_link, 3),
            (self.syndrome_leak, 2),
            (self.finding_syndrome, 3),
            (self.context_log_odds, 3),
            (self.context_prior, 2),
        ]

    @property
    def n_cases(self) -> int | None:
        """N of the arrays that carry a case axis; None when all cases share every array."""
        return next((a.shape[0] for a, ndim in self._batched() if a.ndim == ndim), None)

    @property
    def n_causes(self) -> int:
        """K."""
        return int(self.link.shape[-1])

    @property
    def n_distinct(self) -> int:
        """Causes, forms of one counted once."""
        return int(self.cause[-1]) + 1 if len(self.cause) else 0

    @property
    def has_forms(self) -> bool:
        """Whether a cause has more than one column."""
        return self.n_distinct < self.n_causes

    @property
    def n_findings(self) -> int:
        """F."""
        return int(self.link.shape[-2])

    @property
    def n_syndromes(self) -> int:
        """J."""
        return int(self.syndrome_link.shape[-2])

    @property
    def n_context(self) -> int:
        """C."""
        return int(self.context_log_odds.shape[-1])


def _floats(value: ArrayLike, copy: bool) -> Floats:
    return np.array(value, dtype=np.float64) if copy else np.asarray(value, dtype=np.float64)


def _probabilities(name: str, value: ArrayLike, ndims: tuple[int, int], copy: bool) -> Floats:
    array = _floats(value, copy)
    if array.ndim not in ndims:
        raise ValueError(f"{name}: got {array.ndim} dimensions, expected {ndims[0]} or {ndims[1]}")
    bad = ~((array >= 0.0) & (array <= 1.0))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}{list(where)}: got {array[where]}, expected a probability in [0, 1]")
    return array


def _expect_axis(name: str, array: Floats, axis: int, size: int, meaning: str) -> None:
    if array.shape[axis] != size:
        raise ValueError(f"{name}: got {array.shape[axis]} entries, expected {size}, one for each of the {meaning}")


def _check_requires(requires: ArrayLike | None, n_context: int) -> Ints:
    if requires is None:
        return np.full(n_context, -1, dtype=np.intp)
    given = np.asarray(requires)
    if given.shape != (n_context,):
        raise ValueError(f"requires: got shape {given.shape}, expected (C,) with C = {n_context}")
    array = given.astype(np.intp)
    for i in np.flatnonzero(array != given)[:1]:  # 0.7 is no 0
        raise ValueError(f"requires[{i}]: got {given[i]}, expected another context index or -1")
    for child, parent in enumerate(array):
        if parent >= n_context or parent < -1 or parent == child:
            raise ValueError(f"requires[{child}]: got {parent}, expected another context index or -1")
        if parent >= 0 and array[parent] >= 0:
            raise ValueError(f"requires[{child}]: variable {parent} itself requires another; only one level is allowed")
    return array
