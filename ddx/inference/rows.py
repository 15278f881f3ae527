"""Evidence and network -> the numbers that the recursion needs of every case, and back.

Axes: n cases, K causes, F findings, J syndromes, C context variables, E entries in the tables of all causes. All sums over
findings are exact before their last rounding, so a case gets the same bits in any company.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ddx.inference.layout import CAUSE, CONTEXT, FINDING, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.recursion import Block

# Cases that share a plan: their order, bounds of the groups in it (G + 1,), and which groups are dense (G,).
Groups = tuple[Ints, Ints, Booleans]
# What is asked: P(findings), P(no cause), or the latter with P(only this cause) / P(no cause) as marginals.
Question = Literal["findings", "none", "only"]
# Logarithms of 1 - w are above -37 for every w < 1.
LOG_BOUND = 6
# Terms up to which sums over findings do not depend on how many findings there are.
TERMS = 1024
_TINY = 2.0**-800  # below it a bound is taken as this one


@dataclass(frozen=True, eq=False)
class Tables:
    """P(cause absent or present, absent findings | unknown context), one entry for every combination that matters."""

    first: Ints  # (K + 1,) where the entries of a cause start
    absent: Floats  # (n, E), those of a cause without unknown context divided by their sum
    present: Floats  # (n, E)
    log_scale: Floats  # (n,) what was divided out
    weight: Floats  # (n, E) what the derivative to ``present`` is multiplied with for a marginal: usually ``present``


class Rows:
    """n cases of a network; ``at`` are their indices in its arrays with a case axis."""

    def __init__(self, network: Network, at: Ints, findings: Floats, observed: Floats, context_prior: Floats) -> None:
        self.network, self.at = network, at
        self.findings, self.observed, self.context_prior = findings, observed, context_prior
        absent, positive = findings == 0.0, findings > 0.0
        link, syndrome = self.take(network.link, 3), self.take(network.finding_syndrome, 3)
        leak = self.take(network.leak, 2)
        self.log_escape = log_escape(absent, link)
        self.log_leak = log_escape(absent, leak[..., None])[:, 0]
        linked = (link > 0.0).any(axis=-1)
        n_syndromes = network.n_syndromes
        self.seen: Booleans = np.zeros((len(at), n_syndromes), dtype=np.bool_)
        self.log_syndrome_escape = np.zeros((len(at), n_syndromes))
        if n_syndromes:
            linked = linked | (syndrome > 0.0).any(axis=-1)
            self.log_syndrome_escape = log_escape(absent, syndrome)
            if syndrome.ndim == 2:
                self.seen = (absent | positive).astype(np.float64) @ (syndrome > 0.0) > 0.0
            else:
                self.seen = ((absent | positive)[:, :, None] & (syndrome > 0.0)).any(axis=1)
        self.positive: Booleans = positive
        self.log_constant = self.log_leak
        if not linked.all():
            # A finding without any parent has nothing but its leak to explain it.
            self.positive = positive & linked
            self.log_constant = self.log_leak + self.log_from_leak(*np.nonzero(positive & ~linked))
        self.unknown: Booleans = np.isnan(observed)
        self.question: Question = "findings"

    @property
    def n_positive(self) -> Ints:
        """(n,) positive findings with a parent."""
        return np.asarray(self.positive.sum(axis=1))

    @cached_property
    def listed(self) -> tuple[Ints, Ints]:
        """Positive findings with a parent, one case after the other: bounds (n + 1,), findings."""
        row, finding = np.nonzero(self.positive)
        return np.searchsorted(row, np.arange(len(self.at) + 1)), finding

    def log_all_from_leak(self) -> Floats:
        """Log likelihood (n,) of the findings without causes and syndromes."""
        return self.log_leak + self.log_from_leak(*np.nonzero(self.findings > 0.0))

    def grouped(self, dense: Booleans) -> Groups:
        """Cases with the same plan together: of dense ones (n,) those with equally many positive findings."""
        own = self.positive & ~dense[:, None]
        parts = [dense[:, None], self.seen, own]
        for array in (self.network.link, self.network.finding_syndrome):
            if array.ndim == 3:
                there = own.any(axis=0)
                on = (array[self.at][:, there] > 0.0) & own[:, there, None]
                parts.append(on.reshape(len(own), -1))
        if self.network.syndrome_link.ndim == 3:
            parts.append((self.network.syndrome_link[self.at] > 0.0).reshape(len(own), -1))
        packed = np.packbits(np.concatenate(parts, axis=1), axis=1)
        number = np.where(dense, self.n_positive, 0).astype(np.uint8)
        groups = groups_of(np.concatenate([number[:, None], packed], axis=1))
        return np.concatenate(groups), np.cumsum([0, *map(len, groups)]), dense[[g[0] for g in groups]]

    def ask(self, question: Question) -> None:
        """Put the question whether there is any cause, in place of the findings."""
        self.question = question
        if question != "findings":
            self.log_escape = np.full_like(self.log_escape, -np.inf)

    def take(self, array: Floats, ndim: int) -> Floats:
        """The part of an array that belongs to these cases."""
        return array[self.at] if array.ndim == ndim else array

    def log_from_leak(self, row: Ints, finding: Ints) -> Floats:
        """Log likelihood (n,) of some positive findings (row by row), were their leaks the only reason for them."""
        leak = self.network.leak
        v, p = self.findings[row, finding], leak[finding] if leak.ndim == 1 else leak[self.at[row], finding]
        with np.errstate(divide="ignore"):
            log = np.log(v * p + (1.0 - v) * (1.0 - p))
        # A coarse part whose sums are exact, and a small rest: many logarithms add up with hardly more than one rounding.
        coarse = np.where(np.isneginf(log), log, np.rint(log * 2.0**30) * 2.0**-30)
        fine = np.where(np.isneginf(log), 0.0, log - np.where(np.isneginf(log), 0.0, coarse))
        sums = (np.bincount(row, weights=part, minlength=len(self.at)) for part in (coarse, fine))
        return np.asarray(sum(sums), dtype=np.float64)

    @cached_property
    def depends(self) -> Booleans:
        """(K, C) which context variable changes which cause; the cases of one task agree about that."""
        effect = self.take(self.network.context_log_odds, 3) != 0.0
        return effect if effect.ndim == 2 else np.asarray(effect.any(axis=0))

    @cached_property
    def log_odds(self) -> Floats:
        """(n or 1, K) prior log odds of the causes, observed context included."""
        prior = self.take(self.network.prior, 2)
        with np.errstate(divide="ignore"):
            log_odds = np.atleast_2d(np.log(prior) - np.log1p(-prior))
        if self.network.n_context:
            effect = self.take(self.network.context_log_odds, 3)
            said = np.where(self.unknown, 0.0, self.observed)
            log_odds = log_odds + exact_sum(said, effect.swapaxes(-1, -2), float(np.abs(self.network.context_log_odds).max()))
        return log_odds

    def log_no_cause(self) -> Floats:
        """Log P(no cause | observed context) (n,), where no cause depends on unknown context."""
        with np.errstate(divide="ignore"):
            absent = np.log(expit(-self.log_odds))
        total = (absent * self.network.share if self.network.has_forms else absent).sum(axis=1)
        return np.broadcast_to(total, len(self.at))

    def tables(self, unknown: Booleans, dtype: type = np.float64) -> Tables:
        """For cases with the same unknown context (C,)."""
        open_context = self.depends & unknown
        first = np.concatenate([[0], np.cumsum(1 << open_context.sum(axis=1))]).astype(np.intp)
        cause = np.repeat(np.arange(self.network.n_causes), np.diff(first))
        bits = np.zeros((len(cause), self.network.n_context))
        for k in np.flatnonzero(open_context.any(axis=1)):
            variables = np.flatnonzero(open_context[k])
            entry = np.arange(1 << len(variables))
            bits[first[k] : first[k + 1], variables] = (entry[:, None] >> np.arange(len(variables))) & 1
        absent, present = self._priors(cause, bits)
        free = np.diff(first) == 1
        escape = np.exp(self.log_escape.astype(dtype))
        joint: Floats = present.astype(dtype) * (escape if free.all() else escape[:, cause])
        if free.all():
            scaled, joint, log_scale = _normalized(absent.astype(dtype), joint, self.log_escape)
        else:
            scaled = np.broadcast_to(absent.astype(dtype), joint.shape).copy()
            entry = first[:-1][free]
            alone = _normalized(scaled[:, entry], joint[:, entry], self.log_escape[:, free])
            scaled[:, entry], joint[:, entry], log_scale = alone
        weight = joint
        if self.question == "only":
            with np.errstate(divide="ignore"):
                weight = np.broadcast_to(np.where(free[cause], present / absent, present).astype(dtype), joint.shape)
        if self.network.has_forms:
            weight = self._first_of_forms(first, scaled, weight)
        return Tables(first, scaled, joint, log_scale, weight)

    def _first_of_forms(self, first: Ints, absent: Floats, weight: Floats) -> Floats:
        """Weights (n, E) times P(all earlier forms of the cause absent): of their sum every case is counted once."""
        found, group, before = weight.copy(), self.network.cause, absent[:, :0]
        for k in np.flatnonzero(np.diff(group) == 0).tolist():  # k and k + 1 are forms of one cause
            earlier, own = slice(first[k], first[k + 1]), slice(first[k + 1], first[k + 2])
            before = absent[:, earlier] if k == 0 or group[k - 1] != group[k] else before * absent[:, earlier]
            found[:, own] *= before
        return found

    def _priors(self, cause: Ints, bits: Floats) -> tuple[Floats, Floats]:
        """P(cause absent), P(cause present) (n or 1, E) for every entry; equal rows are computed once."""
        effect = self.network.context_log_odds
        batched = effect.ndim == 3
        rows, inverse = unique_rows(self.log_odds) if not batched else (np.arange(len(self.log_odds)), None)
        log_odds = self.log_odds[rows][:, cause]
        if self.network.n_context:
            effect = effect[self.at][:, cause] if batched else effect[cause]
            log_odds = log_odds + (bits * effect).sum(axis=-1)
        absent, present = expit(-log_odds), expit(log_odds)
        if self.network.has_forms:
            absent, present = of_forms(absent, present, self.network.share[cause])
        return (absent, present) if inverse is None or len(rows) == 1 else (absent[inverse], present[inverse])

    def on(self, i: int) -> tuple[Booleans, Booleans, Booleans, Booleans, Booleans, Booleans, Ints, Ints]:
        """What ``assemble`` needs of case i."""
        net, positive = self.network, np.flatnonzero(self.positive[i])

        def case(array: Floats) -> Floats:
            return array[self.at[i]] if array.ndim == 3 else array

        return (
            case(net.link)[positive] > 0.0,
            case(net.syndrome_link) > 0.0,
            case(net.finding_syndrome)[positive] > 0.0,
            self.seen[i],
            self.depends,
            self.unknown[i],
            net.requires,
            net.cause,
        )

    def positions(self, chosen: Ints) -> tuple[Ints, Floats]:
        """Positive findings (n, m) and their values (n, m) of cases that have equally many."""
        n = len(chosen)
        finding = np.nonzero(self.positive[chosen])[1].reshape(n, -1 if self.positive[chosen[0]].any() else 0)
        return finding, np.take_along_axis(self.findings[chosen], finding, axis=1)

    def block(self, layout: Layout, chosen: Ints, tables: Tables, dtype: type = np.float64) -> Block:
        """The numbers of the chosen cases, which share a layout; ``tables`` has a row for each of them."""
        net, n, at = self.network, len(chosen), self.at[chosen]
        finding, value = self.positions(chosen)
        kind, index = layout.slot_kind, layout.slot_index

        def gather(array: Floats, *axes: Ints) -> Floats:
            """array[..., axes] with a case axis in front, whether the array has one or not."""
            case = (at[:, None],) if array.ndim > len(axes) else ()
            return np.broadcast_to(array[case + axes], (n, axes[-1].shape[-1]))

        def filled(shape: int, fill: float) -> Floats:
            return np.full((n, shape), fill)

        link = filled(len(layout.bit_slot), 1.0)
        cause = np.repeat(layout.cause, np.diff(layout.bit_first))
        bit_kind, bit_index = kind[layout.bit_slot], index[layout.bit_slot]
        here = bit_kind == FINDING
        link[:, here] = gather(net.link, finding[:, bit_index[here]], cause[here])
        here = bit_kind == SYNDROME
        link[:, here] = gather(net.syndrome_link, bit_index[here], cause[here])

        entry, leave = filled(len(kind), 0.0), np.ones((2, n, len(kind)))
        here = kind == CONTEXT
        entry[:, here] = self.context_prior[chosen][:, index[here]]
        here = kind == SYNDROME
        entry[:, here] = gather(net.syndrome_leak, index[here])
        leave[1][:, here] = np.exp(self.log_syndrome_escape[chosen][:, index[here]])
        here = kind == FINDING
        entry[:, here] = gather(net.leak, finding[:, index[here]])
        here = here & ~np.isin(np.arange(len(kind)), layout.factor_slot)
        leave[0][:, here], leave[1][:, here] = 1.0 - value[:, index[here]], value[:, index[here]]

        factors = []
        for r, position in enumerate(layout.factor):
            slots = layout.factor_slot[layout.factor_first[r] : layout.factor_first[r + 1]]
            f = finding[:, position]
            weights = filled(len(slots), 1.0)
            here = kind[slots] == SYNDROME
            weights[:, here] = gather(net.finding_syndrome, f[:, None], index[slots[here]])
            here = kind[slots] == CAUSE
            weights[:, here] = gather(net.link, f[:, None], index[slots[here]])
            own_bit = bool((kind[slots] == FINDING).any())
            leak = filled(1, 0.0) if own_bit else gather(net.leak, f[:, None])
            explained, not_explained = noisy_or_table(leak, weights)
            v = value[:, position, None]
            factors.append(v * explained + (1.0 - v) * not_explained)
        factor = np.concatenate(factors, axis=1) if factors else filled(0, 0.0)

        def wide(array: Floats) -> Floats:
            return np.ascontiguousarray(array.T, dtype=dtype)

        leave_rows: Floats = np.ascontiguousarray(leave.swapaxes(1, 2), dtype=dtype)
        return Block(wide(tables.absent), wide(tables.present), wide(link), wide(entry), leave_rows, wide(factor))


def of_forms(absent: Floats, present: Floats, share: Floats) -> tuple[Floats, Floats]:
    """P(form absent), P(form present) from those of its cause (., X) and the shares of the forms (X,)."""
    with np.errstate(divide="ignore"):
        log_absent = np.where(present < 0.5, np.log1p(-present), np.log(absent)) * share
    return np.exp(log_absent), -np.expm1(log_absent)


def _normalized(absent: Floats, present: Floats, log_escape: Floats) -> tuple[Floats, Floats, Floats]:
    """Both (n, K) divided by their sum, and the sum over causes of its logarithm (n,).

    A cause that cannot be absent has the sum ``log_escape`` whose exponential may be too small for a float.
    """
    unit = absent + present
    certain = (absent == 0.0) & np.ones_like(present, dtype=np.bool_)
    if not certain.any():
        return absent / unit, present / unit, np.ascontiguousarray(np.log(unit)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_unit = np.where(certain, log_escape, np.log(unit))
        return (
            np.where(certain, 0.0, absent / unit),
            np.where(certain, 1.0, present / unit),
            np.ascontiguousarray(log_unit).sum(axis=1),
        )


def noisy_or_table(leak: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """P(finding), P(no finding) (n, 2**p) for every combination of p parents, the first one the fastest bit.

    leak (n, 1), weights (n, p). Both sides are sums and products of non-negative numbers: 1 - P would lose digits.
    """
    explained, not_explained = leak, 1.0 - leak
    for w in weights.T[:, :, None]:
        explained = np.concatenate([explained, explained + not_explained * w], axis=1)
        not_explained = np.concatenate([not_explained, not_explained * (1.0 - w)], axis=1)
    return explained, not_explained


def log_escape(absent: Booleans, link: Floats) -> Floats:
    """Log prod over absent findings of (1 - link): absent (n, F), link (F, X) or (n, F, X) -> (n, X)."""
    columns = np.flatnonzero(absent.any(axis=0))
    n_findings, chosen, part = absent.shape[1], absent[:, columns].astype(np.float64), link[..., columns, :]
    certain = part == 1.0
    total = exact_sum(chosen, np.log1p(-np.where(certain, 0.0, part)), 2.0**LOG_BOUND, n_findings)
    if certain.any():
        blocked = chosen @ certain if link.ndim == 2 else np.einsum("nf,nfx->nx", chosen, certain.astype(np.float64))
        total = np.where(blocked > 0.0, -np.inf, total)
    return total


def exact_sum(mask: Floats, values: Floats, bound: float, terms: int | None = None) -> Floats:
    """Sum over f of mask (n, f) of zeros and ones times values (f, X) or (n, f, X), |values| <= bound: (n, X).

    Rounded once, so the result depends neither on the order of the sum, nor on how a library blocks a product of matrices:
    the values are split into two fixed-point parts whose sums of ``terms`` numbers are exact in float64 (Rump, Ogita and Oishi
    2008, Accurate floating-point summation, use the same splitting). What is left out is below 2**-70 of the bound, or
    below 2**-870: of values that small the unit itself would underflow.
    """
    high, low = two_parts(values, bound, terms or mask.shape[1])
    if values.ndim == 2:
        return np.asarray(mask @ high + mask @ low)
    return np.asarray(np.einsum("nf,nfx->nx", mask, high) + np.einsum("nf,nfx->nx", mask, low))


def two_parts(values: Floats, bound: float, terms: int) -> tuple[Floats, Floats]:
    """Fixed-point parts of values below a bound, such that sums of ``terms`` of each are exact.

    Up to 1,024 terms they are the same parts, so findings that nobody observes may be left out without changing a bit.
    """
    places = int(np.ceil(np.log2(max(terms, TERMS)))) + 1
    unit = 2.0 ** (int(np.ceil(np.log2(max(bound, _TINY)))) + places - 53)
    high = np.rint(values / unit) * unit
    fine = unit * 2.0 ** (places - 53)
    return high, np.rint((values - high) / fine) * fine


def unique_rows(array: Floats) -> tuple[Ints, Ints]:
    """First index of every distinct row of an array (n, X), bit for bit, and which of them each row is (n,)."""
    if len(array) == 1 or (array[0] == array).all():
        return np.zeros(1, dtype=np.intp), np.zeros(len(array), dtype=np.intp)
    rows = np.ascontiguousarray(array)
    packed = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    return first, inverse.ravel()


def groups_of(keys: Any) -> list[Ints]:
    """Row indices of every group of equal rows of an array (n, X), in a fixed order."""
    if keys.shape[1] == 0:
        return [np.arange(len(keys))]
    first, inverse = unique_rows(keys)
    if len(first) == 1:
        return [np.arange(len(keys))]
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def expit(x: Floats) -> Floats:
    """Logistic function without overflow, relative error of a few ulp on both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, e) / (1.0 + e)
