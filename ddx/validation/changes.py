"""What differs between two knowledge bases: parameters, and the posteriors of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ddx.batch import Source, check_encoding
from ddx.cases import CASE_ID, Reject, encode, from_frame
from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.knowledge import KnowledgeBase, Parameter
from ddx.values import spread_of

# Two networks that differ elsewhere give the same posterior up to rounding: that is no move.
_ROUNDING = 1e-12
MOVED, ADDED, REMOVED, SPREAD = "moved", "added", "removed", "spread"


def parameter_changes(old: KnowledgeBase, new: KnowledgeBase) -> pd.DataFrame:
    """Parameters that were moved, added or removed, or are more or less certain than they were.

    Returns
    -------
    A row per parameter: parameter, what (moved, added, removed, spread), old, new (nan where it is missing), change (new minus
    old, on the scale that the new one was pooled on: log odds of a Beta, logarithm of a log-normal), old_spread and new_spread
    (standard deviations, each on its own such scale). Moved ones first, the largest change on top; then, in the order of the
    files, added ones, removed ones, and those that have the same value with another spread. What differs by rounding, as sums
    in another order of the rows do, is the same.
    """
    rows: list[tuple[str, str, float, float, float, float, float]] = []
    for name, parameter in new.parameters.items():
        value, spread = parameter.value, spread_of(parameter)
        if name not in old.parameters:
            rows.append((name, ADDED, math.nan, value, math.nan, math.nan, spread))
            continue
        before, was = old.parameters[name].value, spread_of(old.parameters[name])
        if not math.isclose(before, value, rel_tol=_ROUNDING):
            change = _scaled(parameter, value) - _scaled(parameter, before)
            rows.append((name, MOVED, before, value, change, was, spread))
        elif not math.isclose(was, spread, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            rows.append((name, SPREAD, value, value, 0.0, was, spread))
    gone = [p for name, p in old.parameters.items() if name not in new.parameters]
    rows += [(p.id, REMOVED, p.value, math.nan, math.nan, spread_of(p), math.nan) for p in gone]
    rows.sort(key=lambda row: ((MOVED, ADDED, REMOVED, SPREAD).index(row[1]), -abs(row[4]) if row[1] == MOVED else 0.0))
    columns = ["parameter", "what", "old", "new", "change", "old_spread", "new_spread"]
    return pd.DataFrame(rows, columns=columns)


def posterior_changes(
    old: Model, new: Model, cases: pd.DataFrame, lines: Sequence[int] | None = None
) -> tuple[pd.DataFrame, list[Reject]]:
    """Posteriors of cases that differ between two models, over the causes that both have.

    Parameters
    ----------
    cases : frame that ``Model.score`` reads; its column case_id, or else its index, names the cases
    lines : (N,) for the rejects; rows count from 0 where they are not given

    Returns
    -------
    A row per case and cause that moved: case, cause, old, new, change (new minus old), the largest change on top; and the
    rejects of cases that one of the two models cannot score, which are left out.

    Raises
    ------
    UsageError
        Columns that one of the two knowledge bases does not know; it says which.
    """
    names = [str(name) for name in cases.get(CASE_ID, cases.index)]
    lines = list(range(len(cases))) if lines is None else list(lines)
    (first, lost_first), (second, lost_second) = (_scores(model, cases, lines) for model in (old, new))
    rejects = list(dict.fromkeys([*lost_first, *lost_second]))
    causes = [cause for cause in old.network.causes if cause in new.network.causes]
    keep = first[causes].notna().all(axis=1) & second[causes].notna().all(axis=1)
    before, after = (frame.loc[keep, causes].to_numpy() for frame in (first, second))
    change = after - before
    row, column = np.nonzero(np.abs(change) > _ROUNDING * np.maximum(before, after))
    order = np.argsort(-np.abs(change[row, column]), kind="stable")
    row, column = row[order], column[order]
    kept = np.array(names, dtype=object)[keep.to_numpy()]
    moved = pd.DataFrame(
        {
            "case": kept[row],
            "cause": np.array(causes, dtype=object)[column],
            "old": before[row, column],
            "new": after[row, column],
            "change": change[row, column],
        }
    )
    return moved, rejects


def read_cases(source: str | Path, encoding: str = "utf-8") -> tuple[pd.DataFrame, list[int], list[Reject]]:
    """Cells of a file of cases, the line of every row, and rejects for rows that are no rows of the table.

    Cases with a line that cannot be read (long form) are left out, as ``score_file`` does: without it they are other cases.

    Raises
    ------
    UsageError
        The file cannot be read as a table.
    """
    check_encoding(encoding)
    lines: list[int] = []
    frames: list[pd.DataFrame] = []
    rejects: list[Reject] = []
    with Source(str(source), encoding) as reader:
        for chunk in reader.chunks():
            rejects += [*chunk.refused, *chunk.faults]
            cells = [c.to_pylist() if hasattr(c, "to_pylist") else c for c in chunk.cells]
            columns = {name.strip(): cell for name, cell in zip(chunk.names, cells, strict=True)}
            whole = ~np.isin(chunk.lines, [fault.line for fault in chunk.faults])
            lines += chunk.lines[whole].tolist()
            frames.append(pd.DataFrame(columns, dtype=object)[whole])
        header = [name.strip() for name in reader.header or ()]
    return pd.concat(frames or [pd.DataFrame(columns=header, dtype=object)], ignore_index=True), lines, rejects


def _scores(model: Model, cases: pd.DataFrame, lines: list[int]) -> tuple[pd.DataFrame, list[Reject]]:
    """Posteriors of all cases, nan for those that the model cannot score, and why."""
    kb = model.knowledge
    try:
        columns, cells = from_frame(kb, cases)
    except UsageError as error:
        raise UsageError(f"{kb.folder or kb.name}: {error}") from None
    encoded = encode(kb, columns, cells, lines)
    posterior, failed = model.posterior(encoded, lines)
    frame = model.frame(posterior, pd.Index(encoded.rows)).reindex(range(len(cases)))
    return frame, [*encoded.rejects, *failed]


def _scaled(parameter: Parameter, value: float) -> float:
    """A value on the scale of ``spread_of``: logarithm of a log-normal, log odds of a Beta."""
    return math.log(value) if parameter.distribution == "log_normal" else math.log(value) - math.log1p(-value)
