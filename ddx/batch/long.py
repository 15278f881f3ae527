"""The long form, a row for every statement about a case, as a table of cases; tables of rows that name their own columns."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ddx.batch.lines import Chunk, some_of
from ddx.cases import CASE_ID, Reject, both

LONG = (CASE_ID, "id", "value")
MOST_CELLS = 1 << 22  # of a chunk whose rows name their own columns
_NAMED = re.compile(rf'"\s*{CASE_ID}\s*"\s*:\s*("(?:[^"\\]|\\.)*"|[^",}}\s]+)')


def names_of(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """All names, in an order that does not depend on which rows are together."""
    return tuple(sorted({name for row in rows for name in row}))


def parts_of(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Rows from ... to ...: together while the names they have in common are many, for the others cost cells."""
    start, names = 0, set[str]()
    for end, row in enumerate(rows):
        more = len(names | row.keys()) if len(row.keys() - names) else len(names)
        if end > start and more * (end - start + 1) > MOST_CELLS:
            yield start, end
            start, names = end, set()
        names |= row.keys()
    yield start, len(rows)


@dataclass
class _Case:
    """Statements about one case, on lines that follow one another; ``faults``: lines among them that cannot be read."""

    id: str
    line: int
    cells: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    faults: list[Reject] = field(default_factory=list)

    def state(self, id_: str, value: Any, text: str) -> None:
        """Add a statement; a second one about the same thing agrees with the first or contradicts it."""
        id_ = f"id {id_}" if id_ == CASE_ID else id_  # no statement about a case
        self.cells[id_] = both(self.cells[id_], value) if id_ in self.cells else value
        self.texts.append(text)

    def fail(self, reject: Reject) -> None:
        """Add a line that cannot be read: what it says of the case nobody knows."""
        message = f"line {reject.line}: {reject.message}"
        self.faults.append(replace(reject, line=self.line, case_id=self.id, message=message))
        self.texts.append(reject.original)


def cases_of_long(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """A table of statements (case_id, id, value), the rows of a case together -> cases.

    A line that cannot be read is a fault of the case whose id it begins with, if that is the case before or behind it, and of
    the case that goes on behind it; else it is a reject of its own.
    """
    case: _Case | None = None
    loose: list[tuple[str | None, Reject]] = []  # lines that cannot be read, behind those of the case
    for chunk in chunks:
        done: list[_Case] = []
        refused: list[Reject] = []
        for id_, said, line, text in _rows(chunk):
            if isinstance(said, Reject):
                loose.append((id_, said))
                continue
            before = case
            if case is None or case.id != id_:
                case = _Case(id_, line, {CASE_ID: id_})
                done += [before] if before else []
            refused += _assigned(loose, before, case)
            loose = []
            name, value = said
            case.state(name, value, text)
        yield from _wide(done, refused)
    refused = _assigned(loose, case, None)
    yield from _wide([case] if case else [], refused)


def _assigned(loose: Sequence[tuple[str | None, Reject]], before: _Case | None, behind: _Case | None) -> list[Reject]:
    """Give lines that cannot be read to the cases around them; those that are of neither are returned."""
    left = []
    for name, reject in loose:
        if before and (before is behind or before.id == name):
            before.fail(reject)
        elif behind and behind.id == name:
            behind.fail(reject)
        else:
            left.append(reject)
    return left


def _rows(chunk: Chunk) -> list[tuple[Any, Any, int, str]]:
    """Case, id and value, line and text of every statement; a reject in place of id and value where there are none.

    The case of a reject is None where its line does not tell.
    """
    columns = {name.strip(): cell for name, cell in zip(chunk.names, chunk.cells, strict=True)}
    nothing = [None] * len(chunk.lines)
    cells = [c.to_pylist() if isinstance(c, pa.Array) else c for c in (columns.get(name, nothing) for name in LONG)]
    texts = chunk.texts(range(len(chunk.lines)))
    rows: list[tuple[Any, Any, int, str]] = [
        (_text(case), (_text(id_), value), line, text)
        for case, id_, value, line, text in zip(*cells, chunk.lines.tolist(), texts, strict=True)
    ]
    if not chunk.refused:
        return rows
    at = [name.strip() for name in chunk.names].index(CASE_ID) if CASE_ID in columns else 0
    rows += [(_case_of(reject.original, at), reject, reject.line, reject.original) for reject in chunk.refused]
    return sorted(rows, key=lambda row: row[2])


def _case_of(text: str, at: int) -> str | None:
    """The case_id in a line that cannot be read, of an object or the cell at its place, as it would be in one that can."""
    if named := _NAMED.search(text):
        with contextlib.suppress(ValueError):
            return _text(json.loads(named[1], strict=False))
    try:
        cells = next(csv.reader([text]), [])
    except csv.Error:
        cells = text.split(",")
    return _text(cells[at]) if at < len(cells) else None


def _wide(cases: Sequence[_Case], refused: list[Reject]) -> Iterator[Chunk]:
    for start, end in parts_of([case.cells for case in cases]):
        part = cases[start:end]
        names = names_of([case.cells for case in part])
        columns = [[case.cells.get(name) for case in part] for name in names]
        lines = np.array([case.line for case in part], dtype=np.int64)
        faults = [reject for case in part for reject in case.faults]
        yield Chunk(names, columns, lines, some_of(["\n".join(case.texts) for case in part]), refused, faults)
        refused = []


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
