"""Branch and bound on one case: sums over configurations of causes, between those of subproblems that fit into memory.

Some positive findings of a subproblem stay exact; each of the others is replaced by a product over its parents that is never
smaller, or never larger, than its likelihood (``envelope``): the core solves both problems. A bound that holds for every
configuration of causes, syndromes and context holds for every sum over configurations, so P(c_k = 1, e) and P(c_k = 0, e) lie
between those of the two problems. The subproblems with the widest gaps are refined: split on a cause (fixed parents make the
products tight; Henrion 1991, Search-based methods to bound diagnostic probabilities in very large belief nets), or widened to
keep more findings exactly (Jaakkola and Jordan 1999, section 5), whichever has paid more in this case so far. When as much work
has been spent as an expansion takes, the findings beyond the memory are expanded, which is exact but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from ddx.inference.envelope import Product
from ddx.inference.exact import EvidenceTooLarge
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats, Ints
from ddx.inference.subproblem import ROUNDING, Case, Fixed, Sums, TooImprobable

# Doubles of state of one unit of effort.
_UNIT = 2.0**16
# Findings that a subproblem keeps exactly at first, and by how many more it is widened.
_SIZE, _WIDER = 8, 2
# Times that both sides of the first subproblem are solved, with better products every time; later ones go on from there.
_STEPS = 8
# Subproblems refined in one round.
_ROUND = 64
# Doubles of state of one term of an expansion: beyond the caches, fewer terms save nothing.
_TERM_DOUBLES = 2.0**22
# Step of log t towards its target, and the largest one.
_RATE, _LONGEST = 0.3, 1.0


@dataclass(frozen=True, eq=False)
class Leaves:
    """n subproblems that together are the case, and their bounds."""

    fixed: Fixed  # (n, K) 0 absent, 1 present, -1 open
    size: Ints  # (n,) findings kept exactly, besides those that need no place of their own; -1: not even those
    log_t: Floats  # (n, m) of the upper bounds
    upper: Floats  # (n,) log evidence
    above: Floats  # (n, X) marginals of causes and syndromes in the upper problem
    lower: Floats  # (n,)
    below: Floats  # (n, X)
    split: Ints  # (n,) the cause to split on, -1 for none
    doubles: Floats  # (n,) of state

    def of(self, chosen: Ints | Booleans) -> Leaves:
        """Some of the subproblems."""
        return Leaves(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def with_(self, other: Leaves) -> Leaves:
        """These and others."""
        return Leaves(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def cost(self) -> float:
        """Effort that it takes to bound them once more."""
        return float(2.0 * np.maximum(self.doubles / _UNIT, 1.0).sum())

    def gap(self) -> float:
        """Logarithm of upper over lower evidence of all together, at most 100."""
        with np.errstate(invalid="ignore"):
            return float(np.fmin(np.logaddexp.reduce(self.upper) - np.logaddexp.reduce(self.lower), 100.0))

    def sums(self) -> Sums:
        """Sums over the subproblems."""
        scale = float(self.upper.max())
        scale = 0.0 if np.isneginf(scale) else scale
        is_open, present = self.fixed < 0, self.fixed == 1

        def side(log: Floats, marginal: Floats, outward: float) -> tuple[Floats, Floats, Floats]:
            weight, p = np.exp(log - scale) * (1.0 + outward), marginal[:, : present.shape[1]]
            # What is left of 1 is only known to an absolute error.
            rest = np.clip(1.0 - p + outward, 0.0, 1.0)
            return weight.sum(), weight @ np.where(is_open, p, present), weight @ np.where(is_open, rest, ~present)

        both = zip(side(self.lower, self.below, -ROUNDING), side(self.upper, self.above, ROUNDING), strict=True)
        return Sums(scale, *(np.array(pair) for pair in both))


class Search:
    """Branch and bound on one case."""

    def __init__(self, case: Case, row: int, memory_gib: float) -> None:
        self.case, self.row, self.memory_gib, self.limit = case, row, memory_gib, memory_gib * 2**27
        # Findings of syndromes alone are functions of syndromes that are in the state anyhow.
        self.placeless: Booleans = np.asarray((case.network.link == 0.0).all(axis=1))  # (m,)
        self.most = int((~self.placeless).sum())

    def run(self, effort: float) -> Iterator[Sums]:
        """Better and better sums; which ones does not depend on the effort, only how many."""
        try:
            yield from self._rounds(effort)
        except TooImprobable:
            return

    def _rounds(self, effort: float) -> Iterator[Sums]:
        leaves = self._first()
        spent = leaves.cost() * _STEPS
        yield leaves.sums()
        kept, doubles = self._kept(leaves)
        terms = 2.0 ** (~kept).sum() * max(doubles / _UNIT, 1.0)
        worth, trial = np.inf, 1
        while True:
            if terms <= spent:
                if spent + terms > effort:
                    return
                yield self.case.expanded(kept)
                spent, terms = spent + terms, np.inf
            chosen = self._widest(leaves)
            narrow, divisible = chosen[leaves.size[chosen] < self.most], chosen[leaves.split[chosen] >= 0]
            if len(leaves.size) >= trial:
                # One of them shows whether larger states pay by now.
                worth, trial, narrow = np.inf, 2 * len(leaves.size), narrow[:1]
            widen = len(narrow) > 0 and (worth > 1.0 or not len(divisible))
            chosen = narrow if widen else divisible
            before = leaves.of(chosen)
            if not len(chosen) or spent + before.cost() * (4.0 if widen else 2.0) > effort:
                return
            after = self._widened(before) if widen else self._split(before)
            spent += after.cost()
            if widen:
                # Splits shrink the gap about in proportion to the work; a larger state pays if it does so faster.
                more = np.log(after.cost() / before.cost())
                worth = np.inf if more <= 0.0 else float(np.log(before.gap() / max(after.gap(), ROUNDING)) / more)
                if worth <= 1.0 and len(divisible):
                    after = replace(after, size=before.size)
            leaves = leaves.of(np.setdiff1d(np.arange(len(leaves.size)), chosen)).with_(after)
            yield leaves.sums()

    def _widest(self, leaves: Leaves) -> Ints:
        """Subproblems that are refined next: a quarter of them, those with the widest gaps."""
        upper, lower = (np.exp(log - leaves.upper.max()) for log in (leaves.upper, leaves.lower))
        order = np.argsort(lower - upper, kind="stable")
        useful = (upper - lower > ROUNDING * upper.sum()) & ((leaves.size < self.most) | (leaves.split >= 0))
        widest: Ints = order[useful[order]][: min(_ROUND, -(-len(order) // 4))]
        return widest

    def _first(self) -> Leaves:
        """The whole case: no finding exact, to see which ones matter, then some."""
        m, n_parents = self.case.envelope.effect.shape[0], len(self.case.log_weight)
        nothing, none = np.zeros((1, n_parents)), np.full((1, self.case.network.n_causes), -1, dtype=np.int8)
        number = np.array([-np.inf])
        guess = Leaves(none, np.array([-1]), np.zeros((1, m)), -number, nothing, number, nothing, np.array([-1]), np.zeros(1))
        rough = self._evaluated(guess, _STEPS)
        return self._evaluated(replace(rough, size=np.array([min(_SIZE, self.most)])), _STEPS)

    def _split(self, leaves: Leaves) -> Leaves:
        """Each subproblem without and with the cause to split on."""
        twice = leaves.of(np.repeat(np.arange(len(leaves.size)), 2))
        fixed = twice.fixed.copy()
        fixed[np.arange(len(fixed)), twice.split] = np.tile([0, 1], len(leaves.size))
        return self._evaluated(replace(twice, fixed=fixed))

    def _widened(self, leaves: Leaves) -> Leaves:
        """Each subproblem with more exact findings; of the old and the new bounds, the better ones."""
        new = self._evaluated(replace(leaves, size=np.minimum(leaves.size + _WIDER, self.most)))
        up, down = new.upper < leaves.upper, new.lower > leaves.lower
        return replace(
            new,
            upper=np.where(up, new.upper, leaves.upper),
            above=np.where(up[:, None], new.above, leaves.above),
            lower=np.where(down, new.lower, leaves.lower),
            below=np.where(down[:, None], new.below, leaves.below),
        )

    def _evaluated(self, guess: Leaves, steps: int = 1) -> Leaves:
        """Bounds of subproblems, their products started from those of ``guess``."""
        envelope = self.case.envelope
        offset, effect, is_open = self._parents(guess.fixed)
        rank = self._rank(guess, offset, effect)
        size, log_t, above = guess.size, guess.log_t, guess.above
        rate, last = np.full(offset.shape, _RATE), np.zeros(offset.shape)
        best: tuple[Floats, ...] = ()
        for _ in range(steps):
            product = self._product(True, offset, effect, log_t, above)
            while True:
                exact = rank < size[:, None]
                log, above, doubles = self._solved(product, exact, guess.fixed)
                large = doubles > self.limit
                if not large.any():
                    break
                size = size - large
                self.most = min(self.most, int(size[large].min()))
                if self.most < -1:
                    needed = float(doubles.max()) / 2**27
                    raise EvidenceTooLarge(self.row, len(self.case.value), needed, self.memory_gib)
            step = envelope.tightest(envelope.at(above * is_open)) - log_t
            rate = np.where(step * last < 0.0, 0.5 * rate, rate)
            log_t, last = log_t + np.where(exact, step, np.clip(rate * step, -_LONGEST, _LONGEST)), step
            # The cause that most of what is bounded hangs on; all of it counts a little.
            influence = envelope.total(np.where(exact[..., None], 0.0, np.abs(product.weight)))
            best = _better(best, (log, above, log_t, (above + 1e-9) * influence), -1.0)
        upper, above, log_t, score = best
        score = np.where(guess.fixed < 0, score[:, : guess.fixed.shape[1]], 0.0)
        split = np.where((score > 0.0).any(axis=1), score.argmax(axis=1), -1)
        best, order = (), above
        for _ in range(steps):
            fixed = self._explained(guess.fixed, exact, order)
            offset, effect, _ = self._parents(fixed)
            product = self._product(False, offset, effect, log_t, order)
            best = _better(best, self._solved(product, exact, fixed)[:2], 1.0)
            order = best[1]
        lower, below = best
        return Leaves(guess.fixed, size, log_t, upper, above, lower, below, split, doubles)

    def _parents(self, fixed: Fixed) -> tuple[Floats, Floats, Floats]:
        """What fixed causes contribute (n, m), what the other parents would (n, m, P), which parents these are (n, X)."""
        envelope, pad = self.case.envelope, ((0, 0), (0, self.case.network.n_syndromes))
        is_open = np.pad((fixed < 0).astype(np.float64), pad, constant_values=1.0)
        return (
            envelope.offset_with(np.pad((fixed == 1).astype(np.float64), pad)),
            envelope.effect * envelope.at(is_open.astype(np.float64)),
            is_open,
        )

    def _solved(self, product: Product, exact: Booleans, fixed: Fixed) -> tuple[Floats, Floats, Floats]:
        """Subproblems with these findings (n, m) exact, and a product in place of each of the others."""
        constant = np.where(exact, 0.0, product.constant).sum(axis=1)
        weight = self.case.envelope.total(np.where(exact[..., None], 0.0, product.weight))
        return self.case.rows(np.where(exact, self.case.value, np.nan), fixed, constant, weight).solve(self.limit)

    def _product(self, upper: bool, offset: Floats, effect: Floats, log_t: Floats, marginal: Floats) -> Product:
        """The logarithm of every likelihood is at most (``upper``) or at least this."""
        envelope = self.case.envelope
        concave = (envelope.sign > 0.0) == upper
        marginal = envelope.at(marginal)
        if concave.all():
            part = envelope.above(offset, effect, log_t)
        elif not concave.any():
            part = envelope.below(offset, effect, marginal)
        else:
            above, below = envelope.above(offset, effect, log_t), envelope.below(offset, effect, marginal)
            constant = np.where(concave, above.constant, below.constant)
            part = Product(constant, np.where(concave[:, None], above.weight, below.weight))
        return Product(envelope.sign * part.constant, envelope.sign[:, None] * part.weight)

    def _rank(self, guess: Leaves, offset: Floats, effect: Floats) -> Ints:
        """(n, m) which findings to keep exactly first: those whose bounds are furthest apart, as expected by ``guess``."""
        above = self._product(True, offset, effect, guess.log_t, guess.above)
        below = self._product(False, offset, effect, guess.log_t, guess.below)
        apart = ((above.weight - below.weight) * self.case.envelope.at(guess.above)).sum(axis=-1)
        apart = np.where(self.placeless, -np.inf, above.constant - below.constant + apart)
        rank = np.argsort(np.argsort(-apart, axis=1, kind="stable"), axis=1, kind="stable")
        return np.where(self.placeless, -1, rank)

    def _explained(self, fixed: Fixed, exact: Booleans, marginal: Floats) -> Fixed:
        """One cause of every present finding without leak that is bounded from below: without any, the bound is 0."""
        network, fixed = self.case.network, fixed.copy()
        for r in np.flatnonzero((self.case.value == 1.0) & (network.leak == 0.0)):
            explained = ((fixed == 1) & (network.link[r] > 0.0)).any(axis=1)
            merit = np.where(fixed < 0, (marginal[:, : fixed.shape[1]] + 1e-9) * network.link[r], 0.0)
            rows = np.flatnonzero(~exact[:, r] & ~explained & (merit > 0.0).any(axis=1))
            fixed[rows, merit[rows].argmax(axis=1)] = 1
        return fixed

    def _kept(self, root: Leaves) -> tuple[Booleans, float]:
        """Findings (m,) that an expansion keeps, the least probable ones, as many as fit; the doubles that a term needs."""
        envelope, value = self.case.envelope, self.case.value
        product = self._product(True, envelope.offset[None], envelope.effect[None], root.log_t, root.above)
        expected = product.constant[0] + (product.weight * envelope.at(root.above)).sum(axis=-1)[0]
        # The terms of a finding that is rather absent do not cancel.
        expected = np.where(self.placeless, -np.inf, np.where(envelope.sign > 0.0, expected, 0.0))
        rank = np.argsort(np.argsort(expected, kind="stable"), kind="stable")
        fitting, large, doubles = 0, len(value) + 1, 1.0
        while large - fitting > 1:
            middle = (fitting + large) // 2
            needed = self.case.doubles(rank < middle)
            if needed <= min(self.limit, _TERM_DOUBLES):
                fitting, doubles = middle, needed
            else:
                large = middle
        return rank < fitting, doubles


def _better(old: tuple[Floats, ...], new: tuple[Floats, ...], sign: float) -> tuple[Floats, ...]:
    """Of arrays of n subproblems, those with the larger (sign 1) or smaller (-1) first number; ``old`` may be empty."""
    if not old:
        return new
    better = sign * new[0] > sign * old[0]
    return tuple(np.where(better.reshape(-1, *(1,) * (b.ndim - 1)), b, a) for a, b in zip(old, new, strict=True))
