"""One-way sensitivity: every parameter moved over its own interval, all others at their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddx.diagnosis import Diagnosis, Model
from ddx.draws import posterior_under
from ddx.inference.network import Floats
from ddx.sensitivity.case import Case, cause_index, diagnosis_of, each_case, interval_of, parameter_of, relevant, sources_of
from ddx.sensitivity.functions import LinkFunctions

# Step of the central difference relative to a parameter's distance from its nearer end; error of order its square.
_STEP = 1e-4


def one_way(model: Model, case: Case, target: str, parameters: Sequence[str] | None = None, level: float = 0.9) -> pd.DataFrame:
    """What each parameter does to P(target | evidence), widest swing first.

    Parameters
    ----------
    case : a Diagnosis, or a mapping of arguments for ``Model.diagnose``
    target : id of a cause
    parameters : ids; default: all that this case can depend on
    level : coverage of the interval that each parameter is moved over

    Returns
    -------
    A row per parameter: value, low, high (the ends of its interval), derivative (of the posterior at value), at_low, at_high
    (the posterior there), swing (the larger less the smaller of at_low and at_high), cited, sources. Links of findings come
    from their exact functions (``function``), the others from exact posteriors at four values each; their derivative is a
    central difference (relative error about 1e-7).

    Raises
    ------
    UsageError
        Unknown target or parameter.
    """
    found = diagnosis_of(model, case)
    column = cause_index(model, target)
    kb = model.knowledge
    ids = list(parameters) if parameters is not None else relevant(model, found.evidence)
    own = [parameter_of(model, p) for p in ids]
    value = np.array([p.value for p in own])
    low, high = np.array([interval_of(p, level) for p in own]).reshape(-1, 2).T
    functions = LinkFunctions(model, found)
    derivative, at_low, at_high = np.empty(len(ids)), np.empty(len(ids)), np.empty(len(ids))
    rest = []
    for i, p in enumerate(ids):
        ratio = functions.of(p, column)
        if ratio is None:
            rest.append(i)
            continue
        derivative[i], at_low[i], at_high[i] = ratio.derivative(value[i]), ratio(low[i]), ratio(high[i])
    if rest:
        room = np.array([min(p.value, 1.0 - p.value) if p.distribution == "beta" else p.value for p in own])
        step = _STEP * room
        points = [low, high, value - step, value + step]
        moves = [{ids[i]: float(point[i])} for i in rest for point in points]
        solved = posterior_under(model, found.evidence, moves)[:, column].reshape(-1, 4)
        at_low[rest], at_high[rest] = solved[:, 0], solved[:, 1]
        derivative[rest] = (solved[:, 3] - solved[:, 2]) / (2.0 * step[rest])
    table = pd.DataFrame(
        {
            "value": value,
            "low": low,
            "high": high,
            "derivative": derivative,
            "at_low": at_low,
            "at_high": at_high,
            "swing": np.abs(at_high - at_low),
            "cited": [p.cited for p in own],
            "sources": [sources_of(kb, p) for p in own],
        },
        index=pd.Index(ids, name="parameter"),
    )
    return table.sort_values("swing", ascending=False, kind="stable")


def summary(model: Model, cases: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """One-way sensitivity of the leading cause of many cases, a row per parameter, largest mean swing first.

    Parameters
    ----------
    cases : as for ``Model.score``

    Returns
    -------
    Columns mean_swing (over all cases; 0 where a case does not depend on the parameter), worst_swing, worst_case (index of that
    case), flips (cases whose leading cause is another one at an end of the parameter's interval), cited, sources.

    Raises
    ------
    UsageError, CaseError
        As for ``Model.score``.
    """
    rows: list[pd.DataFrame] = []
    for label, evidence in each_case(model, cases):
        found = Diagnosis(model, evidence, model.network.posterior(evidence))
        leading = str(found.posterior.index[0])
        table = one_way(model, found, leading, level=level)
        other = _other_leader(model, found, list(table.index), table[["low", "high"]].to_numpy())
        rows.append(table.assign(case=[label] * len(table), flip=other)[["swing", "case", "flip", "cited", "sources"]])
    columns = ["mean_swing", "worst_swing", "worst_case", "flips", "cited", "sources"]
    if not rows:
        return pd.DataFrame(columns=columns)
    every = pd.concat(rows).reset_index().sort_values("swing", ascending=False, kind="stable")
    grouped = every.groupby("parameter", sort=False)
    result = pd.DataFrame(
        {
            "mean_swing": grouped["swing"].sum() / len(cases),
            "worst_swing": grouped["swing"].first(),
            "worst_case": grouped["case"].first(),
            "flips": grouped["flip"].sum().astype(int),
            "cited": grouped["cited"].first(),
            "sources": grouped["sources"].first(),
        }
    )
    return result.sort_values(["mean_swing", "worst_swing"], ascending=False, kind="stable")


def _other_leader(model: Model, case: Diagnosis, ids: list[str], ends: Floats) -> list[bool]:
    """Whether the leading cause is another one at an end (P, 2) of each parameter's interval."""
    moves = [{p: float(end)} for p, both in zip(ids, ends, strict=True) for end in both]
    now = int(case.result.marginal[0].argmax())
    leader = posterior_under(model, case.evidence, moves).argmax(axis=1)
    return [bool(x) for x in (leader.reshape(-1, 2) != now).any(axis=1)]
