"""Rows of a table -> evidence and rejects."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddx.cases import values
from ddx.cases.columns import CASE_ID, Column, check_useful, column_names, interpret
from ddx.cases.ids import CaseIds
from ddx.cases.rejects import Reject
from ddx.cases.statements import Statements
from ddx.cases.values import BadCell
from ddx.errors import UsageError, nearest
from ddx.knowledge import KnowledgeBase
from ddx.network import Evidence, select

if TYPE_CHECKING:
    import pandas as pd

_HINTS = 100
Cells = Any  # a sequence of hashable values, or an Arrow array


@dataclass(frozen=True, eq=False)
class Encoded:
    """Evidence of the rows that can be scored: ``rows`` (M,) are their positions in the table; ``rejects`` say the rest."""

    evidence: Evidence
    rows: NDArray[np.intp]
    case_ids: list[str]
    rejects: list[Reject]


def encode(
    kb: KnowledgeBase,
    columns: Sequence[Column],
    cells: Sequence[Cells],
    lines: Sequence[int],
    *,
    lenient: bool = False,
    seen: CaseIds | None = None,
) -> Encoded:
    """Evidence of a table given by its columns.

    Parameters
    ----------
    columns, cells : meaning and content of every column, N cells each: Python values, or an Arrow array (which is much faster:
        every distinct cell is looked at once)
    lines : (N,) line of every row, for the rejects; also the case_id where the table has no such column
    lenient : drop an offending cell instead of its row
    seen : case_ids of earlier blocks of the same table, extended by those of this one
    """
    ids = case_ids([c.name for c in columns], cells, lines)
    statements = Statements(kb, lines, ids)
    lost = _check_ids(statements, CaseIds() if seen is None else seen)
    first = ("age", "sex")
    for column, content in sorted(zip(columns, cells, strict=True), key=lambda pair: pair[0].kind not in first):
        _read(statements, column, content)
    # Measurements come last: their thresholds may depend on the sex.
    for column, content in zip(columns, cells, strict=True):
        if column.kind == "measurement":
            _measurements(statements, column, content)
    evidence = statements.evidence()
    keep = ~(lost | statements.rejected) if not lenient else ~lost
    rows = np.flatnonzero(keep)
    return Encoded(select(evidence, rows), rows, [ids[i] for i in rows.tolist()], statements.rejects)


def unknown_columns(kb: KnowledgeBase, columns: Sequence[Column], line: int = 1) -> list[Reject]:
    """A reject for every column that a lenient reading passes over; ``line``: of the header, -1 where there is none."""
    known = column_names(kb)
    unknown = [c.name for c in columns if c.kind == "unknown"]
    # To look for near names takes a millisecond each, and a table may have a million columns.
    hints = {name: nearest(name, known) for name in unknown[:_HINTS]}
    return [
        Reject(line, "", name, "", "unknown_column", f"unknown column {name!r}{hints.get(name, '')}; ignored")
        for name in unknown
    ]


def from_frame(
    kb: KnowledgeBase, frame: pd.DataFrame, lenient: bool | None = None
) -> tuple[tuple[Column, ...], list[Sequence[Hashable]]]:
    """Meaning and content of the columns of a frame of cases; ``lenient`` as for ``interpret``.

    Raises
    ------
    UsageError
        No frame, or what ``interpret`` and ``check_useful`` refuse.
    """
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
        raise UsageError(f"cases: got a {type(frame).__name__}, expected a pandas DataFrame with a row for every case")
    columns = interpret([str(name) for name in frame.columns], kb, lenient)
    check_useful(columns)
    return columns, [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]


def from_mapping(
    kb: KnowledgeBase,
    *,
    present: Sequence[str],
    absent: Sequence[str],
    uncertain: Mapping[str, float],
    measurements: Mapping[str, float],
    age: float | None,
    sex: str | None,
    context: Mapping[str, bool],
) -> Encoded:
    """Evidence of one case from Python values; the rejects say what is wrong with it."""
    statements = Statements(kb, [-1], [""])
    _apply(statements, "age", [age], values.age, statements.put_age)
    _apply(statements, "sex", [sex], _sex_of(statements), statements.put_sex)
    for column, names in (("present", present), ("absent", absent)):
        for name in names:
            _state(statements, np.zeros(1, dtype=np.intp), column, name)
    for name, value in uncertain.items():
        _named(statements, "finding", "uncertain", name, value)
    for name, flag in context.items():
        _named(statements, "context", "context", name, flag)
    for name, value in measurements.items():
        if name in kb.measurements:
            _measurements(statements, Column(name, "measurement", name), [value])
        else:
            message = f"unknown measurement {name!r}; known: {', '.join(kb.measurements)}"
            statements.reject(0, "measurements", name, "unknown_id", message)
    return Encoded(statements.evidence(), np.arange(1), [""], statements.rejects)


def _named(statements: Statements, kind: str, column: str, name: str, value: Any) -> None:
    id_ = _resolve(statements, np.zeros(1, dtype=np.intp), column, name, (kind,))
    if id_ is not None:
        put = statements.put_finding if kind == "finding" else statements.put_context
        _apply(statements, column, [value], partial(_reading_of, name, kind), partial(put, id_))


def _reading_of(name: str, kind: str, cell: Hashable) -> float:
    """``values.reading``, with the name in what it refuses; context knows no numbers in between."""
    try:
        return values.reading(cell)
    except BadCell as error:
        message = str(error) if kind == "finding" else f"got {cell!r}, expected True or False"
        raise BadCell(error.error, f"{name}: {message}") from None


def case_ids(names: Sequence[str], cells: Sequence[Cells], lines: Sequence[int]) -> list[str]:
    """Ids of the rows of a table, "" where one is missing; without a column of ids their lines."""
    for name, column in zip(names, cells, strict=True):
        if name.strip() == CASE_ID:
            values_ = column.to_pylist() if hasattr(column, "to_pylist") else column
            # Most ids need no second look: they do not begin like a word for "unknown".
            return [
                text
                if type(cell) is str and (text := cell.strip())[:1] not in "nNuU<"
                else ""
                if values.is_unknown(cell)
                else str(cell).strip()
                for cell in values_
            ]
    return [str(line) for line in lines]


def _check_ids(statements: Statements, seen: CaseIds) -> NDArray[np.bool_]:
    """Rows whose case_id is missing or was there before: they cannot be scored under their name."""
    repeated = seen.repeated(statements.case_ids)
    if seen.long and repeated.any():
        row = int(np.argmax(repeated))
        raise UsageError(
            f"line {statements.lines[row]}: case {statements.case_ids[row]!r} has rows further up too, before those of other "
            f"cases; sort the table by case_id, to have the rows of a case together"
        )
    empty = np.array([not case_id for case_id in statements.case_ids], dtype=np.bool_)
    for row in np.flatnonzero(empty | repeated).tolist():
        case_id = statements.case_ids[row]
        if not case_id:
            statements.reject(row, CASE_ID, "", "empty_case_id", "case_id is empty; give every case an id")
        else:
            message = f"case_id {case_id!r} stands in an earlier row; give every case its own"
            statements.reject(row, CASE_ID, case_id, "duplicate_case_id", message)
    return empty | repeated


def _read(statements: Statements, column: Column, content: Cells) -> None:
    if column.kind == "age":
        _apply(statements, column.name, content, values.age, statements.put_age)
    elif column.kind == "sex":
        _apply(statements, column.name, content, _sex_of(statements), statements.put_sex)
    elif column.kind in ("finding", "risk_factor"):
        put = statements.put_finding if column.kind == "finding" else statements.put_context
        _apply(statements, column.name, content, values.reading, partial(put, column.id))
    elif column.kind in ("present", "absent", "context"):
        for name, rows in _listed(statements, column.name, content):
            _state(statements, rows, column.kind, name)


def _listed(statements: Statements, column: str, content: Cells) -> list[tuple[str, NDArray[np.intp]]]:
    """Every id of a list column with the rows that name it (once a row is enough)."""
    distinct, code = _distinct(content if hasattr(content, "dictionary_encode") else list(map(values.joined, content)))
    named: dict[str, list[int]] = {}
    for position, cell in enumerate(distinct):
        if values.is_unknown(cell):
            continue
        names = set(filter(None, map(str.strip, str(cell).split(";"))))
        problem = _stated_twice(cell)
        if len(names) > len(statements.kb.names):
            problem = BadCell("too_many_ids", f"got {len(names)} ids, more than the knowledge base has")
        if problem:
            for row in np.flatnonzero(code == position).tolist():
                statements.reject(row, column, cell, problem.error, str(problem))
            continue
        for name in names:
            named.setdefault(name, []).append(position)
    found = []
    for name, positions in sorted(named.items()):  # an order that does not depend on which rows are together
        hit = np.zeros(len(distinct), dtype=np.bool_)
        hit[positions] = True
        found.append((name, np.flatnonzero(hit[code])))
    return found


def _state(statements: Statements, rows: NDArray[np.intp], column: str, name: str) -> None:
    """One id of a list column in some rows."""
    kinds = ("context",) if column == "context" else ("finding", "context")
    id_ = _resolve(statements, rows, column, name, kinds)
    if id_ is None:
        return
    said = np.full(len(statements.lines), np.nan)
    said[rows] = 0.0 if column == "absent" else 1.0
    put = statements.put_finding if id_ in statements.kb.findings else statements.put_context
    put(id_, said, column)


def _sex_of(statements: Statements) -> Callable[[Hashable], float]:
    return lambda cell: statements.sex_index(values.sex(cell))


def _resolve(statements: Statements, rows: NDArray[np.intp], column: str, name: str, kinds: tuple[str, ...]) -> str | None:
    kind, id_ = statements.kb.names.get(str(name), ("", ""))
    if kind in kinds:
        return id_
    known = [n for n, (k, _) in statements.kb.names.items() if k in kinds]
    if levels := statements.kb.graded.get(str(name)):
        hint = f"; {name} is graded: give one of its levels, {', '.join(levels)}"
    elif kind:
        hint = f"; {name} is a {kind}"
    else:
        hint = "; put ; between ids" if "," in str(name) else nearest(str(name), known)
    for row in rows.tolist():
        statements.reject(row, column, name, "unknown_id", f"unknown {kinds[0]} {name!r}{hint}")
    return None


def _measurements(statements: Statements, column: Column, content: Cells) -> None:
    m = statements.kb.measurements[column.id]
    convert = partial(values.measured, unit=m.unit, plausible=m.plausible)
    _apply(statements, column.name, content, convert, partial(statements.put_measurement, m.id))


def _apply(
    statements: Statements,
    column: str,
    content: Cells,
    convert: Callable[[Hashable], float],
    put: Callable[[NDArray[np.float64], str], None],
) -> None:
    """Convert every distinct cell once, report the bad ones, and put the values (nan: says nothing)."""
    distinct, code = _distinct(content)
    value = np.full(len(distinct), np.nan)
    for position, cell in enumerate(distinct):
        try:
            if twice := _stated_twice(cell):
                raise twice
            value[position] = convert(cell)
        except BadCell as error:
            for row in np.flatnonzero(code == position).tolist():
                statements.reject(row, column, cell, error.error, str(error))
    if not np.isnan(value).all():
        put(value[code], column)


def _stated_twice(cell: Hashable) -> BadCell | None:
    return BadCell("contradiction", f"stated twice, as {cell}; keep one statement") if isinstance(cell, values.Twice) else None


def _distinct(content: Cells) -> tuple[list[Hashable], NDArray[np.intp]]:
    """The distinct cells in the order of their first appearance, and which of them every row holds."""
    if hasattr(content, "dictionary_encode"):  # Arrow, without loading it for those who have none
        coded = content.dictionary_encode(null_encoding="encode")
        # Not by np.asarray, for which Arrow loads pandas: a third of a second.
        return coded.dictionary.to_pylist(), np.from_dlpack(coded.indices).astype(np.intp)
    position: dict[Hashable, int] = {}
    cells: list[Hashable] = []
    code = []
    for cell in content:
        # 1, 1.0 and True are equal, and still not the same cell.
        key = cell if type(cell) is str else (type(cell), repr(cell))
        at = position.setdefault(key, len(cells))
        if at == len(cells):
            # Lists and the like inside a frame are no values, but they can be shown.
            cells.append(cell if isinstance(cell, Hashable) else str(cell))
        code.append(at)
    return cells, np.array(code, dtype=np.intp)
