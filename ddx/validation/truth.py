"""True causes of cases, as texts -> a table of booleans."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ddx.cases import Reject
from ddx.cases.values import is_unknown, joined
from ddx.errors import nearest
from ddx.knowledge import KnowledgeBase

UNKNOWN_ID = "unknown_id"


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
    cells : (N,) ids separated by ';', or lists of ids; empty (also None, nan, NA): none of the causes
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
        if is_unknown(cell):
            continue
        for name in filter(None, (part.strip() for part in str(joined(cell)).split(";"))):
            if name in known:
                truth[row, known[name]] = True
                continue
            kind = kb.names.get(name, ("", ""))[0] if kb is not None else ""
            hint = f"; {name} is a {kind}" if kind else nearest(name, known)
            line = row if lines is None else lines[row]
            case = str(line) if case_ids is None else case_ids[row]
            rejects.append(Reject(line, case, column, name, UNKNOWN_ID, f"unknown cause {name!r}{hint}"))
    return truth, rejects
