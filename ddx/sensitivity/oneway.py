"""One-way sensitivity: every parameter moved over its own interval, all others at their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddx.cases import select
from ddx.diagnosis import Diagnosis, Model
from ddx.network import Evidence
from ddx.sensitivity.case import (
    Case,
    cause_index,
    check_level,
    chosen,
    diagnosis_of,
    encoded_cases,
    interval_of,
    relevant,
    sources_of,
)
from ddx.sensitivity.functions import Functions

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
    (the posterior there), swing (the larger less the smaller of at_low and at_high), cited, sources. Links of findings, priors
    and odds ratios come from their exact functions (``Functions``), the others from exact posteriors at four values each. The
    derivative to a link is exact, that to another parameter a central difference (against a Richardson step, on a case of limb:
    relative error 1e-8 at the median, 1e-5 for 95 %, 1e-4 for the flattest, of which rounding leaves less).

    Raises
    ------
    UsageError
        Unknown target or parameter, or a level that is not inside (0, 1).
    """
    check_level(level)
    found = diagnosis_of(model, case)
    column = cause_index(model, target)
    kb = model.knowledge
    ids = chosen(model, parameters) if parameters is not None else relevant(model, found.evidence)
    own = [kb.parameters[p] for p in ids]
    value = np.array([p.value for p in own])
    low, high = np.array([interval_of(p, level) for p in own]).reshape(-1, 2).T
    functions = Functions(model, found, [column])
    room = np.array([min(p.value, 1.0 - p.value) if p.distribution == "beta" else p.value for p in own])
    step = _STEP * room
    points = np.stack([low, high, value - step, value + step])
    at_low, at_high, below, above = functions.under(ids * len(points), points.ravel())[:, 0].reshape(points.shape)
    derivative = (above - below) / (2.0 * step)
    for i, p in enumerate(ids):
        if (ratio := functions.of_link(p, 0)) is not None:
            derivative[i] = ratio.derivative(value[i])
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
    return summarize(model, encoded_cases(model, cases), list(cases.index), level)


def summarize(model: Model, evidence: Evidence, labels: Sequence[object], level: float = 0.9) -> pd.DataFrame:
    """The same for encoded cases (M) and their names."""
    kb = model.knowledge
    swings: dict[str, list[tuple[float, object, bool]]] = {}
    for i, label in enumerate(labels):
        case = select(evidence, np.array([i]))
        ids = relevant(model, case)
        functions = Functions(model, Diagnosis(model, case, model.network.posterior(case)))
        values = [end for p in ids for end in interval_of(kb.parameters[p], level)]
        ends = functions.under([p for p in ids for _ in range(2)], values).reshape(len(ids), 2, -1)
        leader = int(functions.case.result.marginal[0].argmax())
        swing = np.abs(ends[:, 1, leader] - ends[:, 0, leader])
        flipped = (ends.argmax(axis=2) != leader).any(axis=1)
        for p, width, flip in zip(ids, swing.tolist(), flipped.tolist(), strict=True):
            swings.setdefault(p, []).append((width, label, flip))
    records = []
    for p, found in swings.items():
        worst = max(found, key=lambda one: one[0])
        records.append(
            {
                "parameter": p,
                "mean_swing": sum(width for width, _, _ in found) / len(labels),
                "worst_swing": worst[0],
                "worst_case": worst[1],
                "flips": sum(flip for _, _, flip in found),
                "cited": kb.parameters[p].cited,
                "sources": sources_of(kb, kb.parameters[p]),
            }
        )
    columns = ["parameter", "mean_swing", "worst_swing", "worst_case", "flips", "cited", "sources"]
    table = pd.DataFrame(records, columns=columns).set_index("parameter")
    return table.sort_values(["mean_swing", "worst_swing"], ascending=False, kind="stable")
