"""The posterior as a function of one or two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ddx.diagnosis import Diagnosis, Model
from ddx.draws import posterior_under
from ddx.errors import UsageError
from ddx.inference import gradient, mix, posterior
from ddx.inference.network import Floats
from ddx.sensitivity.case import Case, cause_index, diagnosis_of, interval_of, parameter_of


@dataclass(frozen=True)
class Ratio:
    """P(target | evidence) = (a + b t) / (c + d t), t the value of the parameter from ``start`` (below: as at ``start``) to 1.

    The denominator is P(evidence) over its present value, so that it is 1 where the parameter stands now.
    """

    a: float
    b: float
    c: float
    d: float
    start: float = 0.0

    @classmethod
    def tangent(cls, t: float, posterior: float, of_joint: float, of_evidence: float, start: float = 0.0) -> Ratio:
        """The function from what is known at one value t of the parameter.

        ``posterior``: P(target | evidence) there; ``of_joint``, ``of_evidence``: the derivatives of P(target, evidence) and of
        P(evidence) to the parameter, over P(evidence) there. Both probabilities are linear in the parameter (Coupe and van der
        Gaag 2002), so their tangents are they.
        """
        return cls(posterior - of_joint * t, of_joint, 1.0 - of_evidence * t, of_evidence, start)

    def __call__(self, t: ArrayLike) -> Floats:
        """P(target | evidence) at values of the parameter, of any shape."""
        x = np.maximum(np.asarray(t, dtype=np.float64), self.start)
        # Rounding can leave [0, 1] by an ulp.
        return np.clip((self.a + self.b * x) / (self.c + self.d * x), 0.0, 1.0)

    def derivative(self, t: ArrayLike) -> Floats:
        """Its derivative (bc - ad) / (c + dt)**2, 0 below ``start``."""
        x = np.asarray(t, dtype=np.float64)
        slope = (self.b * self.c - self.a * self.d) / (self.c + self.d * np.maximum(x, self.start)) ** 2
        return np.where(x < self.start, 0.0, slope)

    def reaching(self, level: float) -> float:
        """The value at which P(target | evidence) is ``level``, wherever it lies; nan if the level is never or always held."""
        return _root(self.a - level * self.c, self.b - level * self.d)

    def meeting(self, other: Ratio) -> float:
        """The value at which another target of the same evidence and parameter is as probable; nan for parallels."""
        return _root(self.a - other.a, self.b - other.b)


class LinkFunctions:
    """Every cause's posterior as a ratio of linear functions of every link whose parameter enters the network linearly.

    A direct link w = (s - known) / (1 - known) is linear in its sensitivity s, and P(evidence) and P(cause, evidence) are
    linear in w, so one adjoint pass a cause gives all functions (Coupe and van der Gaag 2002, Properties of sensitivity
    analysis of Bayesian belief networks; Kjaerulff and van der Gaag 2000).
    """

    def __init__(self, model: Model, case: Diagnosis) -> None:
        self.network = network = model.network
        self.model = model
        parts = network.parts(case.evidence)
        self._core = network.core(parts)
        self._finding, self._context = parts.finding, case.evidence.context[parts.case]
        solved = posterior(self._core, self._finding, self._context)
        self._weight = mix(solved, parts.case, parts.log_weight)[1]
        self._possible = np.flatnonzero(self._weight > 0.0)
        self._marginal = solved.marginal
        self._of_part = gradient(self._core, self._finding, self._context).link
        self._of_evidence = self._mean(self._of_part)
        self._of_target: dict[int, tuple[float, Floats]] = {}
        self._graded = {level for levels in model.knowledge.graded.values() for level in levels}

    def _mean(self, values: Floats) -> Floats:
        """Average (...) over the parts of the case, each with its posterior weight."""
        return np.tensordot(self._weight[self._possible], values[self._possible], axes=1)

    def of(self, parameter: str, target: int) -> Ratio | None:
        """The function, or None for a parameter that enters the network in another way."""
        kind, *names = parameter.split(":")
        network = self.network
        if kind != "link" or names[0] not in network.causes or names[1] not in network.findings or names[1] in self._graded:
            return None
        k, f = network.causes.index(names[0]), network.findings.index(names[1])
        w, s = float(network.link[f, k]), self.model.knowledge.means[parameter]
        if not 0.0 < w < 1.0:
            return None
        now, of_joint = self._joint(target)
        rate = (1.0 - w) / (1.0 - s)  # dw / ds
        g, h = self._of_evidence[f, k] * rate, of_joint[f, k] * rate
        return Ratio.tangent(s, now, float(h), float(g), s - w / rate)

    def _joint(self, target: int) -> tuple[float, Floats]:
        """P(target | evidence), and the derivatives of P(target, evidence) / P(evidence now) to the links (F, K)."""
        if target not in self._of_target:
            part = gradient(self._core, self._finding, self._context, target=target)
            # P(target, e) of a part over P(e) is its weight times P(target | e): the product rule.
            inner = part.link + self._marginal[:, target, None, None] * self._of_part
            self._of_target[target] = float(self._mean(self._marginal[:, target])), self._mean(inner)
        return self._of_target[target]


def function(model: Model, case: Case, target: str, parameter: str) -> Ratio:
    """The exact function of one link parameter, in closed form.

    Parameters
    ----------
    case : a Diagnosis, or a mapping of arguments for ``Model.diagnose``
    target : id of a cause
    parameter : id such as "link:myasthenia_gravis:ptosis"

    Raises
    ------
    UsageError
        Unknown target or parameter; or the posterior is no ratio of linear functions of this parameter (leaks, priors, odds
        ratios, links of syndromes and of levels: they enter several tables at once) - ``curve`` computes it point by point.
    """
    parameter_of(model, parameter)
    ratio = LinkFunctions(model, diagnosis_of(model, case)).of(parameter, cause_index(model, target))
    if ratio is None:
        raise UsageError(f"{parameter}: the posterior is no ratio of linear functions of it; use sensitivity.curve")
    return ratio


def curve(
    model: Model, case: Case, target: str, parameter: str, values: Sequence[float] | None = None, points: int = 41
) -> pd.DataFrame:
    """P(target | evidence) and the leading cause at values of any parameter, each computed exactly.

    Parameters
    ----------
    values : numbers; default: ``points`` of them, evenly over the central 99 % of the parameter's distribution

    Returns
    -------
    Columns posterior and leading, the value of the parameter as index.

    Raises
    ------
    UsageError
        Unknown target or parameter, or a value that it cannot have.
    """
    own, column = parameter_of(model, parameter), cause_index(model, target)
    chosen = np.linspace(*interval_of(own, 0.99), points) if values is None else np.asarray(values, dtype=np.float64)
    _check_values(parameter, chosen, own.distribution == "beta")
    case = diagnosis_of(model, case)
    marginal = posterior_under(model, case.evidence, [{parameter: float(v)} for v in chosen])
    leading = np.array(model.network.causes)[marginal.argmax(axis=1)]
    return pd.DataFrame({"posterior": marginal[:, column], "leading": leading}, index=pd.Index(chosen, name=parameter))


def surface(
    model: Model,
    case: Case,
    target: str,
    first: str,
    second: str,
    points: int = 21,
    level: float = 0.9,
) -> pd.DataFrame:
    """P(target | evidence) over a grid of two parameters, each over its central interval: two-way sensitivity.

    Returns
    -------
    Values of ``first`` as index, of ``second`` as columns.

    Raises
    ------
    UsageError
        Unknown target or parameter, or the same parameter twice.
    """
    if first == second:
        raise UsageError(f"second: got {second!r} twice, expected another parameter")
    column = cause_index(model, target)
    rows, columns = (np.linspace(*interval_of(parameter_of(model, p), level), points) for p in (first, second))
    evidence = diagnosis_of(model, case).evidence
    grid = [{first: float(x), second: float(y)} for x in rows for y in columns]
    found = posterior_under(model, evidence, grid)[:, column]
    index, header = pd.Index(rows, name=first), pd.Index(columns, name=second)
    return pd.DataFrame(found.reshape(points, points), index=index, columns=header)


def _root(start: float, slope: float) -> float:
    return -start / slope if slope else float("nan")


def _check_values(parameter: str, values: Floats, probability: bool) -> None:
    wrong = ~(values > 0.0) | (values >= 1.0 if probability else ~np.isfinite(values))
    if wrong.any():
        allowed = "inside (0, 1)" if probability else "above 0"
        raise UsageError(f"{parameter}: got {values[wrong][0]:g}, expected a number {allowed}")
