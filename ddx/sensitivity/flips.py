"""The smallest change of a parameter after which another cause leads, or an action threshold is crossed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats
from ddx.knowledge import Parameter
from ddx.logistic import ContextArrays, cause_arrays, combinations
from ddx.noisy_or import finding_arrays
from ddx.sensitivity.case import Case, chosen, diagnosis_of, moved, parameter_of, relevant, sources_of
from ddx.sensitivity.functions import Functions
from ddx.values import Values, spread_of

# Standard deviations at which a parameter without a closed form is tried; what it does is then bisected.
_TRIED = (0.25, 0.5, 1.0, 2.0, 4.0)
_BISECTIONS = 24
LEADING, THRESHOLD = "leading cause", "action threshold"


def flips(
    model: Model, case: Case, parameters: Sequence[str] | None = None, limit: float = 4.0, thresholds: bool = True
) -> pd.DataFrame:
    """For every parameter that can do it, the smallest change that matters, smallest first.

    Parameters
    ----------
    case : a Diagnosis, or a mapping of arguments for ``Model.diagnose``
    parameters : ids; default: all that this case can depend on
    limit : how far a parameter may move, in standard deviations of its distribution on the scale it was pooled on (log odds of
        a probability, logarithm of a ratio or rate)
    thresholds : count crossings of the action thresholds of urgent causes as well, not only changes of the leading cause

    Returns
    -------
    A row per parameter: value, needed (its value at the change), deviations (signed, how many standard deviations that is),
    distance (Chan and Darwiche 2005, A distance measure for bounding probabilistic belief change: the logarithm of the largest
    over the smallest ratio of the joint probabilities after and before; nan for a parameter that enters several tables), change
    ("leading cause" or "action threshold"), cause (the new leading one, or the one whose threshold it is), sources. Links of
    findings are solved in closed form. Others are tried at 1/4, 1/2, 1, 2 and 4 standard deviations (up to ``limit``) on both
    sides and bisected, so that two changes between neighbouring points, one undoing the other, are not seen.

    Raises
    ------
    UsageError
        Unknown parameter, or a limit that is not above 0.
    """
    if not 0.0 < limit < np.inf:
        raise UsageError(f"limit: got {limit:g}, expected standard deviations above 0")
    found = diagnosis_of(model, case)
    ids = chosen(model, parameters) if parameters is not None else relevant(model, found.evidence)
    functions = Functions(model, found)
    search = _Search(functions, limit, thresholds)
    rows: dict[str, tuple[float, float, str, str]] = {}
    rest = []
    for name in ids:
        own = parameter_of(model, name)
        if functions.of_link(name, search.leader) is None:
            rest.append(own)
        elif (row := search.closed(own)) is not None:
            rows[name] = row
    rows |= search.bisected(rest)
    kb = model.knowledge
    table = pd.DataFrame(
        [
            {
                "value": kb.parameters[name].value,
                "needed": needed,
                "deviations": z,
                "distance": distance(model, name, needed),
                "change": change,
                "cause": cause,
                "sources": sources_of(kb, kb.parameters[name]),
            }
            for name in ids
            if name in rows
            for z, needed, change, cause in [rows[name]]
        ],
        index=pd.Index([name for name in ids if name in rows], name="parameter"),
        columns=["value", "needed", "deviations", "distance", "change", "cause", "sources"],
    )
    return table.sort_values("deviations", key=np.abs, kind="stable")


class _Search:
    """What counts as a change for one case, and where it happens."""

    def __init__(self, functions: Functions, limit: float, thresholds: bool) -> None:
        self.functions, self.limit = functions, limit
        model = functions.model
        self.causes = model.network.causes
        now = functions.case.result.marginal[0]
        self.leader = int(now.argmax())
        urgent = [c.urgency != "routine" and thresholds for c in model.knowledge.causes.values()]
        at = np.array([c.action_threshold for c in model.knowledge.causes.values()])
        self.threshold = np.where(urgent, at, np.nan)
        self.above = now >= self.threshold

    def closed(self, own: Parameter) -> tuple[float, float, str, str] | None:
        """Nearest root of P(rival, e) = P(leader, e) and of P(cause, e) = threshold P(e), all linear in the parameter."""
        best: tuple[float, float, str, str] | None = None
        leader = self.functions.of_link(own.id, self.leader)
        assert leader is not None
        for k, cause in enumerate(self.causes):
            ratio = self.functions.of_link(own.id, k)
            assert ratio is not None
            roots = [] if k == self.leader else [(ratio.meeting(leader), LEADING)]
            if not np.isnan(self.threshold[k]):
                roots.append((ratio.reaching(float(self.threshold[k])), THRESHOLD))
            for root, change in roots:
                if not max(ratio.start, 0.0) < root < 1.0:  # nan: none
                    continue
                z = float(_logit(root) - _logit(own.value)) / spread_of(own)
                if abs(z) <= self.limit and (best is None or abs(z) < abs(best[0])):
                    best = z, root, change, cause
        return best

    def bisected(self, parameters: list[Parameter]) -> dict[str, tuple[float, float, str, str]]:
        """Nearest change of each parameter that has one at the points tried."""
        points = np.unique(np.r_[[z for z in _TRIED if z < self.limit], self.limit])
        grid = np.r_[-points, points]
        moves = [(p, float(z)) for p in parameters for z in grid]
        changed = self._changed(self._under(moves)).reshape(len(parameters), 2, len(points))
        brackets = []
        for p, sides in zip(parameters, changed, strict=True):
            for sign, side in zip((-1.0, 1.0), sides, strict=True):
                if side.any():
                    first = int(side.argmax())
                    brackets.append((p, sign * (points[first - 1] if first else 0.0), sign * points[first]))
        inner, outer = np.array([b[1] for b in brackets]), np.array([b[2] for b in brackets])
        for _ in range(_BISECTIONS if brackets else 0):
            middle = 0.5 * (inner + outer)
            there = self._changed(self._under([(b[0], float(z)) for b, z in zip(brackets, middle, strict=True)]))
            inner, outer = np.where(there, inner, middle), np.where(there, middle, outer)
        rows: dict[str, tuple[float, float, str, str]] = {}
        marginal = self._under([(b[0], float(z)) for b, z in zip(brackets, outer, strict=True)])
        for (p, _, _), z, posterior in zip(brackets, outer, marginal, strict=True):
            if p.id not in rows or abs(z) < abs(rows[p.id][0]):
                rows[p.id] = float(z), moved(p, float(z)), *self._what(posterior)
        return rows

    def _under(self, moves: list[tuple[Parameter, float]]) -> Floats:
        return self.functions.under([p.id for p, _ in moves], [moved(p, z) for p, z in moves])

    def _changed(self, marginal: Floats) -> Booleans:
        return np.asarray((marginal.argmax(axis=1) != self.leader) | self._crossed(marginal).any(axis=1), dtype=np.bool_)

    def _crossed(self, marginal: Floats) -> Booleans:
        return np.asarray(~np.isnan(self.threshold) & ((marginal >= self.threshold) != self.above), dtype=np.bool_)

    def _what(self, marginal: Floats) -> tuple[str, str]:
        if marginal.argmax() != self.leader:
            return LEADING, self.causes[int(marginal.argmax())]
        return THRESHOLD, self.causes[int(self._crossed(marginal[None])[0].argmax())]


def distance(model: Model, parameter: str, value: float) -> float:
    """Chan-Darwiche distance between the network and the one with another value of a parameter.

    Links of findings, priors and odds ratios enter the tables of one variable each: the extreme ratios are those of its rows.
    nan for the others, and where causes come in forms, of which two at once may matter more than a table says.
    """
    network, kb = model.network, model.knowledge
    kind, subject, *rest = parameter.partition("@")[0].split(":")
    values = Values.of(kb, [{parameter: value}])
    if network.forms is not None:
        return float("nan")
    if kind == "link" and subject in network.causes and rest[0] in network.findings and not kb.findings[rest[0]].graded:
        f, k = network.findings.index(rest[0]), network.causes.index(subject)
        # With other causes or syndromes present, the finding's probability changes by less.
        leak = network.leak[:, f].min()
        before, after = 1.0 - network.link[f, k], 1.0 - finding_arrays(kb, model.setting, values, rest).link[0, 0, k]
        with np.errstate(divide="ignore"):
            absent, present = np.log(after / before), np.log((1.0 - (1.0 - leak) * after) / (1.0 - (1.0 - leak) * before))
        return float(abs(absent) + abs(present))
    if kind not in ("prior", "or"):
        return float("nan")
    pairs = np.zeros(1, dtype=np.intp), np.array([network.causes.index(subject)])
    context = ContextArrays(network.context_prior[None], network.share[None])
    rows = []
    for one in (Values.of(kb, [{}]), values):
        own = cause_arrays(kb, model.setting, one, context, pairs)
        # Log odds in every combination of stratum and of the risk factors that matter.
        rows.append(combinations(kb, int(pairs[1][0]), own.log_odds, own.context_log_odds, context, pairs[0])[0][0])
    ratio = np.concatenate([np.logaddexp(0.0, -sign * rows[0]) - np.logaddexp(0.0, -sign * rows[1]) for sign in (1.0, -1.0)])
    return float(ratio.max() - ratio.min())


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))
