"""True causes of cases, as texts -> a table of booleans."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ddx.cases import Reject
from ddx.cases.values import is_unknown
from ddx.errors import nearest
from ddx.knowledge import KnowledgeBase

UNKNOWN_ID, NOT_A_VALUE = "unknown_id", "not_a_value"


def true_causes(
    cells: Sequence[Hashable],
    causes: Sequence[str],
    kb: KnowledgeBase | None = None,
    *,
    column: str = "truth",
    lines: Sequence[int] | None = None,
    case_ids: Sequence[str] | None = None,
) -> tuple[NDArray[np.bool_], list[Reject]]:
    """Which causes are true (N, K), and a reject for every name that is no cause.

    Parameters
    ----------
    cells : (N,) ids separated by ';', or lists of ids; empty (also None, nan, pd.NA): none of the causes. A word for what is
        not known ('unknown', 'NA', 'n/a', 'nan') is a reject: a finding that was not observed may be left out of a case, the
        truth may not
    causes : (K,) ids, the order of the columns
    kb : its aliases are understood as well
    column, lines, case_ids : for the rejects; lines count from 0 where they are not given
    """
    column_of = {cause: k for k, cause in enumerate(causes)}
    known = dict(column_of)
    if kb is not None:
        known |= {name: column_of[id_] for name, (kind, id_) in kb.names.items() if kind == "cause" and id_ in column_of}
    truth = np.zeros((len(cells), len(causes)), dtype=np.bool_)
    rejects: list[Reject] = []
    for row, cell in enumerate(cells):
        for name in _names(cell):
            if name in known:
                truth[row, known[name]] = True
                continue
            line = row if lines is None else lines[row]
            case = str(line) if case_ids is None else case_ids[row]
            rejects.append(Reject(line, case, column, name, *_offence(name, known, kb)))
    return truth, rejects


def is_null(cell: object) -> bool:
    """No value: None, nan, pd.NA or pd.NaT. A text is one, whatever it says."""
    return not isinstance(cell, str) and getattr(cell, "ndim", 0) == 0 and is_unknown(cell)


def _names(cell: object) -> list[str]:
    """The names in a cell; a null among the ids of a list says nothing, as between ';;' in text."""
    listed = isinstance(cell, (list, tuple, set, frozenset)) or getattr(cell, "ndim", 0) == 1
    items: Iterable[object] = cell if listed else [cell]  # type: ignore[assignment]
    parts = (part.strip() for item in items if not is_null(item) for part in str(item).split(";"))
    return [part for part in parts if part]


def _offence(name: str, known: Iterable[str], kb: KnowledgeBase | None) -> tuple[str, str]:
    """Error code and message for a name that is none of the causes."""
    if is_unknown(name):
        remedy = "leave such cases out, or empty the cell if none of the modelled causes is present"
        return NOT_A_VALUE, f"got {name!r}, expected ids of causes separated by ';', or an empty cell; {remedy}"
    kind = kb.names.get(name, ("", ""))[0] if kb is not None else ""
    if kb is not None and kind == "cause":
        remedy = "add its column, or leave such cases out"
        return UNKNOWN_ID, f"{name!r} is a cause of {kb.name} that has no column among the posteriors; {remedy}"
    hint = f"; {name} is a {kind}" if kind else nearest(name, known)
    return UNKNOWN_ID, f"unknown cause {name!r}{hint}"
