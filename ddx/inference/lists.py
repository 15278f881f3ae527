"""``Rows`` by machine code: lists of stated findings instead of masks, distinct rows by hashing; the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ddx.inference import kernel_rows
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.rows import LOG_BOUND, Groups, Rows, Tables, expit, of_forms, two_parts

Lists = tuple[Ints, Ints]  # bounds (n + 1,) and findings


def shares(network: Network) -> bool:
    """Whether all cases have the same links, which is what lists are for."""
    shared = (network.link, network.syndrome_link, network.finding_syndrome, network.context_log_odds)
    return all(array.ndim == 2 for array in shared)


class ListedRows(Rows):
    """n cases of a network whose links they share."""

    def __init__(self, network: Network, at: Ints, findings: Floats, observed: Floats, context_prior: Floats) -> None:
        self.network, self.at = network, at
        self.findings, self.observed, self.context_prior = findings, observed, context_prior
        self.question = "findings"
        self.unknown: Booleans = np.isnan(observed)
        listed = kernel_rows.listed(findings)
        self._absent: Lists = listed[:2]
        self._present: Lists = listed[2:]
        self.log_escape = self._log_escape(network.link)
        self.log_leak = self._log_no_leak()
        linked: Booleans = np.asarray((network.link > 0.0).any(axis=-1))
        n_syndromes = network.n_syndromes
        self.seen: Booleans = np.zeros((len(at), n_syndromes), dtype=np.bool_)
        self.log_syndrome_escape = np.zeros((len(at), n_syndromes))
        if n_syndromes:
            on = network.finding_syndrome > 0.0
            linked = linked | on.any(axis=-1)
            self.log_syndrome_escape = self._log_escape(network.finding_syndrome)
            for lists in (self._absent, self._present):
                kernel_rows.mark(*lists, on, self.seen)
        self.listed = self._present
        self.log_constant = self.log_leak
        if not linked.all():
            self.listed = kernel_rows.part(*self._present, linked)
            unlinked = kernel_rows.part(*self._present, np.logical_not(linked))
            self.log_constant = np.add(self.log_leak, self.log_from_leak(*_flat(unlinked)))

    @cached_property
    def positive(self) -> Booleans:  # type: ignore[override]
        """(n, F) positive findings with a parent."""
        positive = np.zeros(self.findings.shape, dtype=np.bool_)
        positive[_flat(self.listed)] = True
        return positive

    @property
    def n_positive(self) -> Ints:
        """(n,) positive findings with a parent."""
        return np.diff(self.listed[0])

    def log_all_from_leak(self) -> Floats:
        """Log likelihood (n,) of the findings without causes and syndromes."""
        return self.log_leak + self.log_from_leak(*_flat(self._present))

    def grouped(self, dense: Booleans) -> Groups:
        """``Rows.grouped``."""
        order, bounds = kernel_rows.signatures(*self.listed, self.seen, dense)
        return order, bounds, dense[order[bounds[:-1]]]

    def _log_escape(self, link: Floats) -> Floats:
        """``rows.log_escape`` of shared links (F, X)."""
        columns = np.flatnonzero(np.bincount(self._absent[1], minlength=len(link)))
        place = np.zeros(len(link), dtype=np.intp)
        place[columns] = np.arange(len(columns))
        high, low = _log_parts(link[columns], len(link))
        return kernel_rows.sum_listed(*self._absent, place, high, low)

    def _log_no_leak(self) -> Floats:
        leak = self.network.leak
        if leak.ndim == 1:
            return self._log_escape(leak[:, None])[:, 0]
        row, finding = _flat(self._absent)
        return kernel_rows.sum_values(self._absent[0], *_log_parts(leak[self.at[row], finding], leak.shape[1]))

    @cached_property
    def log_odds(self) -> Floats:
        """(n or 1, K) prior log odds of the causes, observed context included."""
        prior = self.network.prior
        which = np.zeros(len(self.at), dtype=np.intp)
        if prior.ndim == 2:
            first, which = distinct([self.take(prior, 2)])
            prior = prior[self.at[first]]
        with np.errstate(divide="ignore"):
            log_odds = np.atleast_2d(np.log(prior) - np.log1p(-prior))
        effect = self.network.context_log_odds
        if self.network.n_context:
            high, low = two_parts(np.ascontiguousarray(effect.T), float(np.abs(effect).max()), len(effect.T))
            place = np.arange(len(effect.T))
            return log_odds[which] + kernel_rows.sum_listed(*kernel_rows.listed(self.observed)[2:], place, high, low)
        return log_odds[which] if self.network.prior.ndim == 2 else log_odds

    @cached_property
    def _priors_of(self) -> tuple[Floats, Floats, Ints]:
        """P(cause absent), P(cause present) (U, K) of every kind of case, and which kind each is (n,); no context is open."""
        first, which = distinct([self.log_odds])
        if len(self.log_odds) < len(self.at):
            which = np.zeros(len(self.at), dtype=np.intp)
        absent, present = expit(-self.log_odds[first]), expit(self.log_odds[first])
        if self.network.has_forms:
            absent, present = of_forms(absent, present, self.network.share)
        return absent, present, which

    def log_no_cause(self) -> Floats:
        """``Rows.log_no_cause``."""
        absent, _, which = self._priors_of
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(absent).sum(axis=1)[which])

    def tables(self, unknown: Booleans, dtype: type = np.float64) -> Tables:
        """For cases with the same unknown context (C,)."""
        if dtype is not np.float64 or self.question == "only" or (self.depends & unknown).any():
            return super().tables(unknown, dtype)
        absent, present, which = self._priors_of
        if (absent == 0.0).any():
            return super().tables(unknown, dtype)
        scaled, joint, unit = kernel_rows.join(absent, present, which, np.exp(self.log_escape))
        first, log_scale = np.arange(self.network.n_causes + 1), np.log(unit, out=unit).sum(axis=1)
        weight = self._first_of_forms(first, scaled, joint) if self.network.has_forms else joint
        return Tables(first, scaled, joint, log_scale, weight)


def _flat(lists: Lists) -> tuple[Ints, Ints]:
    """Rows and findings of lists, as ``np.nonzero`` gives them."""
    return np.repeat(np.arange(len(lists[0]) - 1), np.diff(lists[0])), lists[1]


def _log_parts(w: Floats, n_findings: int) -> tuple[Floats, Floats]:
    """Two-part logarithms of 1 - w, -inf for 1."""
    certain = w == 1.0
    high, low = two_parts(np.log1p(-np.where(certain, 0.0, w)), 2.0**LOG_BOUND, n_findings)
    return np.where(certain, -np.inf, high), low


def distinct(arrays: Sequence[Floats]) -> tuple[Ints, Ints]:
    """First index of every distinct row of arrays (n, .) side by side, bit for bit, and which of them each row is (n,).

    Rows that hash alike without being alike, which hardly ever happens, count as distinct, all of them.
    """
    hashed = np.zeros(len(arrays[0]), dtype=np.uint64)
    bits = [np.ascontiguousarray(array).view(np.uint64) for array in arrays if array.shape[1]]
    for part in bits:
        kernel_rows.add_hash(part, hashed)
    first, inverse = kernel_rows.match(hashed)
    if len(first) == len(hashed) or not all(kernel_rows.alike(part, first, inverse) for part in bits):
        return np.arange(len(hashed)), np.arange(len(hashed))
    return first, inverse
