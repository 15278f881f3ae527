"""The posterior as a function of one or two parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ddx.diagnosis import Diagnosis, Model
from ddx.draws import posterior_under
from ddx.errors import UsageError, whole
from ddx.inference import linear, mix, posterior
from ddx.inference.network import Floats, Ints
from ddx.logistic import ContextArrays, cause_arrays
from ddx.sensitivity.case import Case, cause_index, diagnosis_of, interval_of, parameter_of
from ddx.values import Values, check_value

# Sets of values that are turned into priors at a time.
_BLOCK = 256


@dataclass(frozen=True)
class Ratio:
    """P(target | evidence) = (a + b t) / (c + d t), t the value of the parameter from ``start`` (below: as at ``start``) to 1.

    The denominator is P(evidence) over its present value, so that it is 1 where the parameter stands now. A parameter is a
    probability: outside [0, 1] there is no value, and no level is reached.
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
        """P(target | evidence) at values of the parameter, of any shape; nan outside [0, 1]."""
        x = np.maximum(_possible(t), self.start)
        # Rounding can leave [0, 1] by an ulp.
        return np.clip((self.a + self.b * x) / (self.c + self.d * x), 0.0, 1.0)

    def derivative(self, t: ArrayLike) -> Floats:
        """Its derivative (bc - ad) / (c + dt)**2, 0 below ``start``; nan outside [0, 1]."""
        x = _possible(t)
        slope = (self.b * self.c - self.a * self.d) / (self.c + self.d * np.maximum(x, self.start)) ** 2
        return np.where(x < self.start, 0.0, slope)

    def reaching(self, level: float) -> float:
        """The value at which P(target | evidence) is ``level``; nan if none between ``start`` and 1 does it, or all."""
        return self._root(self.a - level * self.c, self.b - level * self.d)

    def meeting(self, other: Ratio) -> float:
        """The value at which another target of the same evidence and parameter is as probable; nan for none."""
        return self._root(self.a - other.a, self.b - other.b)

    def _root(self, at_zero: float, slope: float) -> float:
        root = -at_zero / slope if slope else float("nan")
        return root if max(self.start, 0.0) <= root <= 1.0 else float("nan")


class Functions:
    """The posteriors of a case as exact functions of every single parameter.

    A direct link w = (s - known) / (1 - known) is linear in its sensitivity s, and P(evidence) and P(cause, evidence) are
    linear in w and in the prior of every single cause, so one adjoint pass for the evidence and one a target give all these
    functions (Coupe and van der Gaag 2002, Properties of sensitivity analysis of Bayesian belief networks; Kjaerulff and van
    der Gaag 2000). A prior or an odds ratio moves the priors of one cause in all strata, through its intercept. Leaks, links
    of syndromes and of levels, risk factors and the population move several tables at once: a posterior is computed for each
    value. So it is for all parameters where causes come in forms, among which a link is divided.

    ``targets`` : indices of the causes that are asked for, T of them; default: all
    """

    def __init__(self, model: Model, case: Diagnosis, targets: Sequence[int] | None = None) -> None:
        self.network = network = model.network
        self.model, self.case = model, case
        self.targets = list(range(len(network.causes))) if targets is None else list(targets)
        self._parts = parts = network.parts(case.evidence)
        context = case.evidence.context[parts.case]
        self._exact = network.forms is None
        if not self._exact:
            return
        core, finding = network.core(parts, context), parts.finding
        self._weight = mix(posterior(core, finding, context), parts.case, parts.log_weight)[1]
        self._possible = np.flatnonzero(self._weight > 0.0)
        self._linear = linear(core, finding, context, targets=self.targets)
        self._now, self._link = self._mean(self._linear.now), self._mean(self._linear.link)
        self._row = np.full(len(network.findings), -1, dtype=np.intp)
        self._row[parts.columns] = np.arange(len(parts.columns))

    def _mean(self, values: Floats) -> Floats:
        """Average (...) over the parts of the case, each with its posterior weight."""
        return np.tensordot(self._weight[self._possible], values[self._possible], axes=1)

    def of_link(self, parameter: str, target: int) -> Ratio | None:
        """The posterior of a target (an index of ``targets``) in closed form, None for a parameter that is no direct link."""
        if (place := self._direct.get(parameter)) is None:
            return None
        f, k, s, rate, start = place
        g, h = (float(of) * rate for of in self._slopes(f, k)[[0, 1 + target]])
        return Ratio.tangent(s, float(self._now[1 + target]), h, g, start)

    @cached_property
    def _direct(self) -> dict[str, tuple[int, int, float, float, float]]:
        """Parameters that are direct links: finding, cause, sensitivity s, dw / ds, and the s below which there is no link."""
        network, means = self.network, self.model.knowledge.means
        found: dict[str, tuple[int, int, float, float, float]] = {}
        if not self._exact:
            return found
        graded = {level for levels in self.model.knowledge.graded.values() for level in levels}
        for f, k in zip(*np.nonzero((network.link > 0.0) & (network.link < 1.0)), strict=True):
            name = f"link:{network.causes[k]}:{network.findings[f]}"
            if name in means and network.findings[f] not in graded:
                w, s = float(network.link[f, k]), means[name]
                rate = (1.0 - w) / (1.0 - s)
                found[name] = int(f), int(k), s, rate, s - w / rate
        return found

    def _slopes(self, f: int, k: int) -> Floats:
        """Derivatives of P(evidence) and P(targets, evidence) (1 + T,) to a link."""
        row = self._row[f]
        return self._link[:, row, k] if row >= 0 else np.zeros(len(self._now))

    def under(self, parameters: Sequence[str], values: ArrayLike) -> Floats:
        """Posteriors (S, T) when one parameter has another value: S parameters and their values."""
        found, at = np.empty((len(parameters), len(self.targets))), np.asarray(values, dtype=np.float64).tolist()
        chosen: dict[str, list[int]] = {"link": [], "prior": [], "rest": []}
        for i, name in enumerate(parameters):
            kind = name.partition(":")[0]
            of = "prior" if kind in ("prior", "or") and self._exact else "link" if name in self._direct else "rest"
            chosen[of].append(i)
        for i in chosen["link"]:
            found[i] = self._under_link(parameters[i], at[i])
        if own := chosen["prior"]:
            moves = tuple((parameters[i], at[i]) for i in own)
            found[own] = self._under_priors(*_priors_under(self.model, moves))
        if own := chosen["rest"]:
            sets = [{parameters[i]: at[i]} for i in own]
            found[own] = posterior_under(self.model, self.case.evidence, sets)[:, self.targets]
        return found

    def _under_link(self, parameter: str, value: float) -> Floats:
        f, k, s, rate, start = self._direct[parameter]
        there = self._now + self._slopes(f, k) * rate * (max(value, start) - s)
        return np.asarray(np.clip(there[1:] / there[0], 0.0, 1.0))

    def _under_priors(self, cause: Ints, log_odds: Floats, effect: Floats) -> Floats:
        """Posteriors (S, T) with other priors of one cause: cause (S,), log_odds (S, A, 2), effect (S, C)."""
        parts, total = self._parts, np.zeros((len(cause), len(self._now)))
        for m in self._possible.tolist():
            own = log_odds[:, parts.age[m], parts.sex[m]]
            total += self._weight[m] * self._linear.priors[m].under(cause, own, effect)
        return np.clip(total[:, 1:] / total[:, :1], 0.0, 1.0)


@lru_cache(maxsize=64)
def _priors_under(model: Model, moves: tuple[tuple[str, float], ...]) -> tuple[Ints, Floats, Floats]:
    """Cause (S,), log odds (S, A, 2), log odds ratios of its risk factors (S, C) when one of its parameters has another value.

    The ends of all intervals serve case after case.
    """
    network, kb = model.network, model.knowledge
    context = ContextArrays(network.context_prior[None], network.share[None])
    causes = {cause: k for k, cause in enumerate(network.causes)}
    cause = np.array([causes[name.partition("@")[0].split(":")[1]] for name, _ in moves], dtype=np.intp)
    log_odds, effect = [], []
    for start in range(0, len(moves), _BLOCK):
        values = Values.of(kb, [{name: value} for name, value in moves[start : start + _BLOCK]])
        pairs = np.arange(len(values)), cause[start : start + _BLOCK]
        own = cause_arrays(kb, model.setting, values, context, pairs)
        log_odds.append(own.log_odds)
        effect.append(own.context_log_odds)
    return cause, np.concatenate(log_odds), np.concatenate(effect)


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
        ratios, links of syndromes and of levels: they enter several tables at once; links below what leak and syndromes bring)
        - ``curve`` computes it point by point.
    """
    parameter_of(model, parameter)
    ratio = Functions(model, diagnosis_of(model, case), [cause_index(model, target)]).of_link(parameter, 0)
    if ratio is None:
        why = "the posterior is no ratio of linear functions of it"
        if _idle(model, parameter):
            why = "leak and syndromes bring the finding as often without it, so that it does nothing until it is above that"
        raise UsageError(f"{parameter}: {why}; use sensitivity.curve")
    return ratio


def _idle(model: Model, parameter: str) -> bool:
    """Whether this is a direct link of a finding without levels that leaves its cause nothing to do."""
    network, kb, (kind, *ids) = model.network, model.knowledge, parameter.split(":")
    if kind != "link" or ids[0] not in network.causes or ids[1] not in network.findings or kb.findings[ids[1]].graded:
        return False
    if network.forms is not None:
        return False
    return bool(network.link[network.findings.index(ids[1]), network.causes.index(ids[0])] == 0.0)


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
        Unknown target or parameter, a value that it cannot have, or fewer than 1 points.
    """
    own, column = parameter_of(model, parameter), cause_index(model, target)
    whole("points", points, 1)
    given = np.linspace(*interval_of(own, 0.99), points).tolist() if values is None else list(values)
    for value in given:
        check_value(parameter, value)
    chosen = np.array(given, dtype=np.float64)
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
        Unknown target or parameter, the same parameter twice, fewer than 1 points, or a level that is not inside (0, 1).
    """
    whole("points", points, 1)
    if first == second:
        raise UsageError(f"second: got {second!r} twice, expected another parameter")
    column = cause_index(model, target)
    rows, columns = (np.linspace(*interval_of(parameter_of(model, p), level), points) for p in (first, second))
    evidence = diagnosis_of(model, case).evidence
    grid = [{first: float(x), second: float(y)} for x in rows for y in columns]
    found = posterior_under(model, evidence, grid)[:, column]
    index, header = pd.Index(rows, name=first), pd.Index(columns, name=second)
    return pd.DataFrame(found.reshape(points, points), index=index, columns=header)


def _possible(t: ArrayLike) -> Floats:
    """Values of a probability, nan for those outside [0, 1]."""
    x = np.asarray(t, dtype=np.float64)
    return np.where((x >= 0.0) & (x <= 1.0), x, np.nan)
