"""Bounds on the likelihood of one positive finding that are products over its parents, whatever these are.

Let u(x) = v (1 - exp(-x)) + (1 - v) exp(-x) be the likelihood of a finding of value v > 0, with x = x_0 + sum_k y_k c_k over
its parents c (causes and syndromes), y = -log(1 - link), x_0 = -log(1 - leak). With s = 1 for v >= 1/2 and s = -1 otherwise,
G(x) = s log u(x) is concave and does not fall with x. So for every t >= 0, every order of the parents, and every c,

    above: G(x) <= A + sum_k h(y_k) c_k,  A = G(z) - G'(z) t,  z = x_0 + t,  h(y) = G'(z) y for y <= t and G(x_0 + y) - A beyond
    below: G(x) >= G(x_0) + sum_k [G(x_0 + y_1 + ... + y_k) - G(x_0 + y_1 + ... + y_{k-1})] c_k

Above: h is concave and h(0) = 0, so sum_k h(y_k c_k) >= h(sum_k y_k c_k); and A + h(y) >= G(x_0 + y), up to t by the tangent,
beyond by definition. With h(y) = G'(z) y throughout this is the bound of Jaakkola and Jordan (1999, Variational probabilistic
inference and the QMR-DT network, section 4.1), in which a strong parent may count for more than the finding can gain.
Below: diminishing returns. These are the vertices of Edmonds (1970, Submodular functions, matroids and certain polyhedra); the
bound of Jaakkola and Jordan (1999, section 4.2) from Jensen's inequality lies in the polyhedron below them. Djolonga and Krause
(2014, From MAP to marginals) bound other log-submodular models by the same two differentials.

Both are exponentials of sums over the parents: they multiply the weights of causes and syndromes, and need no place in a state.
Axes: n subproblems, m findings, X parents (K causes, then J syndromes), P places for the parents of a finding, strongest first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddx.inference.network import Floats, Ints

# y of a link of 1: exp(-800) is less than the smallest float.
_CERTAIN = 800.0
# Natural logarithm of the most by which all bounds together may multiply the weight of a parent: far from overflow.
_LARGEST = 600.0
# Natural logarithms of t.
_T_MIN, _T_MAX = -12.0, 4.0


@dataclass(frozen=True, eq=False)
class Product:
    """exp(constant + sum over places of weight * parent), for every finding."""

    constant: Floats  # (n, m)
    weight: Floats  # (n, m, P)


class Envelope:
    """The positive findings of one case.

    Parameters
    ----------
    value : (m,), 1 present, in between uncertain
    leak : (m,)
    link : (m, X), of causes and syndromes; every finding has a parent
    """

    def __init__(self, value: Floats, leak: Floats, link: Floats) -> None:
        with np.errstate(divide="ignore"):
            effect = np.minimum(-np.log1p(-link), _CERTAIN)
            self.offset: Floats = np.minimum(-np.log1p(-leak), _CERTAIN)  # (m,) x_0 with all parents absent
        places = int((link > 0.0).sum(axis=1).max(initial=1))
        self.parent: Ints = np.argsort(-effect, axis=1, kind="stable")[:, :places]  # (m, P)
        self.effect: Floats = np.take_along_axis(effect, self.parent, axis=1)  # (m, P), 0 in empty places
        self.value: Floats = value
        self.sign: Floats = np.where(value >= 0.5, 1.0, -1.0)
        self._effect_of_parent = effect
        self._largest = _LARGEST / max(len(value), 1)
        self._order = np.argsort(self.parent, axis=None, kind="stable")
        self._parents, self._first = np.unique(self.parent.ravel()[self._order], return_index=True)

    def at(self, parents: Floats) -> Floats:
        """Numbers of parents (n, X) at the places (n, m, P)."""
        return np.asarray(parents[:, self.parent])

    def total(self, weight: Floats) -> Floats:
        """Sum of weights (n, m, P) for every parent (n, X)."""
        total = np.zeros((len(weight), self._effect_of_parent.shape[1]))
        flat = weight.reshape(len(weight), self.parent.size)[:, self._order]
        total[:, self._parents] = np.add.reduceat(flat, self._first, axis=1)
        return total

    def offset_with(self, present: Floats) -> Floats:
        """x_0 (n, m), given the parents (n, X) that are certainly present."""
        return np.asarray(self.offset + present @ self._effect_of_parent.T)

    def gain(self, x: Floats) -> Floats:
        """G(x), x (n, m) or (n, m, P)."""
        with np.errstate(divide="ignore"):
            return np.asarray(self._spread(self.sign, x) * np.log(self._likelihood(x)))

    def _likelihood(self, x: Floats) -> Floats:
        v, escape = self._spread(self.value, x), np.exp(-x)
        return np.asarray(v * -np.expm1(-x) + (1.0 - v) * escape)

    def _spread(self, of_finding: Floats, x: Floats) -> Floats:
        return of_finding if x.ndim == 2 else of_finding[:, None]

    def above(self, offset: Floats, effect: Floats, log_t: Floats) -> Product:
        """G <= this: offset (n, m) and log_t (n, m), effect (n, m, P) of the parents that are not certain."""
        # A larger x_0 only raises the bound, and keeps all weights within what a float can hold.
        start, t = np.maximum(offset, np.exp(-self._largest)), np.exp(log_t)
        z = start + t
        slope = np.abs(2.0 * self.value - 1.0) * np.exp(-z) / self._likelihood(z)
        constant = self.gain(z) - slope * t
        beyond = self.gain(start[..., None] + effect) - constant[..., None]
        weight = np.where(effect <= t[..., None], slope[..., None] * effect, beyond)
        alone = ~(effect > 0.0).any(axis=-1)
        return Product(np.where(alone, self.gain(offset), constant), np.where(effect > 0.0, weight, 0.0))

    def below(self, offset: Floats, effect: Floats, marginal: Floats) -> Product:
        """G >= this, the most probable parents first: at these marginals (n, m, P) no order has a larger expectation."""
        order = np.argsort(-marginal, axis=-1, kind="stable")
        x = offset[..., None] + np.cumsum(np.take_along_axis(effect, order, axis=-1), axis=-1)
        constant, reached = self.gain(offset), self.gain(x)
        never = np.isneginf(constant)
        before = np.concatenate([np.where(never, 0.0, constant)[..., None], reached[..., :-1]], axis=-1)
        with np.errstate(invalid="ignore"):
            step = np.where(never[..., None], 0.0, np.clip(reached - before, 0.0, self._largest))
        weight = np.empty_like(step)
        np.put_along_axis(weight, order, step, axis=-1)
        return Product(constant, weight)

    def tightest(self, marginal: Floats) -> Floats:
        """Log t (n, m) at which ``above`` has the smallest expectation: where sum_k marginal_k min(y_k / t, 1) = 1.

        ``marginal`` (n, m, P) is zero for parents that are certain. The expectation has the derivative G''(z) (sum - 1) t.
        """
        strong = np.cumsum(marginal, axis=-1)
        part = marginal * self.effect
        weak = part.sum(axis=-1, keepdims=True) - np.cumsum(part, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            over = np.where(self.effect > 0.0, strong + weak / self.effect, 0.0) > 1.0
        place = over.argmax(axis=-1)[..., None]
        rest = np.take_along_axis(weak + part, place, axis=-1)[..., 0]
        room = 1.0 - np.take_along_axis(strong - marginal, place, axis=-1)[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_t = np.log(rest / room)
        return np.clip(np.where(over.any(axis=-1), log_t, _T_MIN), _T_MIN, _T_MAX)
