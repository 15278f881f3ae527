"""Rows of cases -> rows of posteriors and rejects: the one function behind files, streams and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddx.batch.lines import Chunk
from ddx.cases import (
    CASE_ID,
    CaseIds,
    Column,
    Encoded,
    Reject,
    case_ids,
    check_separator,
    check_useful,
    encode,
    interpret,
    select,
    unknown_columns,
)
from ddx.diagnosis import LOG_EVIDENCE, NONE, Model, check_model
from ddx.errors import UsageError, whole
from ddx.inference.choice import load_compiled

LOW, HIGH = "_low", "_high"
MOST_OFFENCES = 20  # of a rejected row that are listed: each repeats the whole row


@dataclass(frozen=True)
class Form:
    """What a row of the output holds.

    top : so many columns cause_1, posterior_1, ... of the leading causes, behind the case_id
    long : a row for every case and cause (case_id, cause, posterior) instead of a column for every cause
    intervals : parameter draws for the 5 % and 95 % quantiles of every posterior, columns CAUSE_low and CAUSE_high; 20 or
        more, or 0 for none
    """

    top: int = 0
    long: bool = False
    intervals: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "intervals", "seed"):
            whole(name, getattr(self, name), 0)
        if self.long and self.top:
            raise UsageError(f"top: got {self.top}, but the long form has a row for every cause and no columns of leading ones")
        if self.intervals:
            from ddx.draws import enough

            enough("intervals", self.intervals)

    def schema(self, causes: Sequence[str]) -> pa.Schema:
        """Names and types of the columns."""
        number = pa.float64()
        bounds = ("low", "high") if self.intervals else ()
        if self.long:
            return pa.schema([(CASE_ID, pa.string()), ("cause", pa.string()), *((n, number) for n in ("posterior", *bounds))])
        fields = [(CASE_ID, pa.string())]
        for rank in range(1, min(self.top, len(causes)) + 1):
            fields += [(f"cause_{rank}", pa.string()), (f"posterior_{rank}", number)]
        fields += [(name, number) for name in (*causes, NONE, LOG_EVIDENCE)]
        if self.intervals:
            fields += [(f"{cause}{end}", number) for cause in causes for end in (LOW, HIGH)]
        return pa.schema(fields)


def _first(rejects: list[Reject]) -> list[Reject]:
    """The first offences of every row, and one that says how many more there are."""
    of: dict[int, list[Reject]] = {}
    for reject in rejects:
        of.setdefault(reject.line, []).append(reject)
    listed = []
    for line, found in of.items():
        listed += found[:MOST_OFFENCES]
        if len(found) > MOST_OFFENCES:
            message = f"and {len(found) - MOST_OFFENCES} more of this row"
            listed.append(Reject(line, found[0].case_id, "", "", "more_offences", message))
    return listed


@dataclass(frozen=True, eq=False)
class Scored:
    """Output of a chunk: ``table`` for the M cases that have posteriors, ``rejects`` by line, and how many rows and cells.

    ``at`` : (M,) positions of the cases among the lines of the chunk
    """

    table: pa.RecordBatch
    at: NDArray[np.intp]
    rejects: list[Reject]
    rows: int
    cells_dropped: int

    @property
    def scored(self) -> int:
        """M."""
        return len(self.at)


@dataclass(frozen=True, eq=False)
class Read:
    """A chunk whose cells have been read: its evidence (None without rows), and how many rows it had."""

    chunk: Chunk
    rows: int
    encoded: Encoded | None


class Scorer:
    """A model and the form of the output; pickles, so that other processes can have it.

    ``lenient`` None: as False, where the user has no choice.
    """

    def __init__(self, model: Model, *, lenient: bool | None = False, form: Form | None = None) -> None:
        check_model(model)
        self.model, self.lenient, self.form = model, bool(lenient), form or Form()
        self._asked = lenient
        self.schema = self.form.schema(list(model.knowledge.causes))
        self._columns: dict[tuple[str, ...], tuple[Column, ...]] = {}
        self._checked: tuple[str, ...] | None = None  # the header whose unknown columns have been reported

    def check(self, header: Sequence[str]) -> list[Reject]:
        """Refuse a header that cannot be read; rejects for the columns that a lenient reading passes over.

        Raises
        ------
        UsageError
            Unknown, empty or duplicated names, or none that says anything about a case.
        """
        self._checked = tuple(header)
        check_separator(self._checked)
        columns = self._interpreted(self._checked)
        check_useful(columns)
        return unknown_columns(self.model.knowledge, columns)

    def _interpreted(self, names: tuple[str, ...]) -> tuple[Column, ...]:
        if names not in self._columns:
            self._columns = {names: interpret(names, self.model.knowledge, self._asked)}
        return self._columns[names]

    def score(self, chunk: Chunk, seen: CaseIds | None = None) -> Scored:
        """Posteriors of the rows of a chunk in their order, and everything that could not be used.

        ``seen`` : the case ids of earlier chunks, extended by those of this one
        """
        return self.solve(self.read(chunk, seen))

    def read(self, chunk: Chunk, seen: CaseIds | None = None) -> Read:
        """The first half of ``score``, which has to go through the chunks in their order."""
        rows = len(chunk.lines) + len(chunk.refused)
        lines = chunk.lines.tolist()
        if not lines:
            return Read(chunk, rows, None)
        columns, cells, offences = self._known(chunk)
        offences += chunk.faults
        found = encode(self.model.knowledge, columns, cells, lines, lenient=self.lenient, seen=seen)
        if offences:
            bad = set() if self.lenient else {reject.line for reject in offences}
            kept = np.array([at for at, row in enumerate(found.rows.tolist()) if lines[row] not in bad], dtype=np.intp)
            ids = [found.case_ids[at] for at in kept.tolist()]
            found = Encoded(select(found.evidence, kept), found.rows[kept], ids, [*offences, *found.rejects])
        return Read(chunk, rows, found)

    def solve(self, read: Read) -> Scored:
        """The second half of ``score``, the long one; chunks do not depend on each other here."""
        chunk, encoded = read.chunk, read.encoded
        if encoded is None:
            return Scored(self._empty(), np.empty(0, dtype=np.intp), sorted(chunk.refused, key=_line), read.rows, 0)
        lines = chunk.lines.tolist()
        load_compiled("auto", _CASE * len(lines))
        posterior, failed = self.model.posterior(encoded, lines)
        scored, good, ids = encoded.rows, np.arange(len(encoded.rows)), encoded.case_ids
        numbers = np.column_stack([posterior.marginal, posterior.none, posterior.log_evidence])
        if failed:
            failed_lines = {reject.line for reject in failed}
            good = np.flatnonzero([lines[row] not in failed_lines for row in scored.tolist()])
            scored, numbers, ids = scored[good], numbers[good], [ids[at] for at in good.tolist()]
        table = self._table(ids, numbers, self._quantiles(encoded, good))
        found = [*encoded.rejects, *failed]
        if found:
            at = {line: row for row, line in enumerate(lines)}
            bad = sorted({at[reject.line] for reject in found})
            texts = dict(zip(bad, chunk.texts(bad), strict=True))
            found = [reject.from_row(texts[at[reject.line]]) for reject in (found if self.lenient else _first(found))]
        dropped = 0
        if self.lenient:
            kept = {lines[row] for row in scored.tolist()}
            dropped = sum(reject.line in kept for reject in found)
        return Scored(table, scored, sorted([*chunk.refused, *found], key=_line), read.rows, dropped)

    def _known(self, chunk: Chunk) -> tuple[tuple[Column, ...], list[Any], list[Reject]]:
        """The columns that can be read, and a reject for every cell in one that cannot, where rows name their own columns.

        These are unknown columns, and second columns for one thing; what is said of a row does not depend on the others.
        """
        try:
            columns = self._interpreted(chunk.names)
            if chunk.names == self._checked or all(column.kind != "unknown" for column in columns):
                return columns, chunk.cells, []
        except UsageError:
            pass
        ids = case_ids(chunk.names, chunk.cells, chunk.lines.tolist())
        offences: list[Reject] = []
        taken: list[Column] = []
        cells: list[list[Any]] = []
        owner: dict[tuple[str, str], dict[int, str]] = {}
        for name, cell in zip(chunk.names, chunk.cells, strict=True):
            values = _values(cell)
            given = [row for row, value in enumerate(values) if value is not None]
            if not given and name.strip() != CASE_ID:
                continue
            try:
                (column,) = interpret([name], self.model.knowledge, self._asked)
                message = f"unknown column {name!r}; ignored"
            except UsageError as error:
                column, message = Column(name, "unknown", name), str(error)
            offending = dict.fromkeys(given, ("unknown_column", message)) if column.kind == "unknown" else {}
            if column.kind not in ("unknown", "annotation"):
                first = owner.setdefault((column.kind, column.id), {})
                for row in given:
                    if first.setdefault(row, name) != name:
                        message = f"{first[row]!r} and {name!r} both mean {column.id}; keep one"
                        offending[row] = ("duplicate_column", message)
            for row, (error_, message) in offending.items():
                offences.append(Reject(int(chunk.lines[row]), ids[row], name, str(values[row]), error_, message))
                values[row] = None
            if column.kind != "unknown":
                taken.append(column)
                cells.append(values)
        return tuple(taken), cells, offences

    def _empty(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=self.schema)

    def _quantiles(self, encoded: Encoded, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """5 % and 95 % quantiles (2, M, K) under parameter draws, a block of cases at a time."""
        draws = self.form.intervals
        if not draws:
            return None
        from ddx.draws import posterior_quantiles

        causes = len(self.model.network.causes)
        found, size = np.empty((2, len(rows), causes)), max(1, _DRAWN // (draws * causes))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            found[:, part] = posterior_quantiles(self.model, select(encoded.evidence, rows[part]), draws, self.form.seed)
        return found

    def _table(self, ids: list[str], numbers: NDArray[np.float64], bounds: NDArray[np.float64] | None) -> pa.RecordBatch:
        causes = self.model.network.causes
        marginal = numbers[:, : len(causes)]
        columns: list[Any]
        if self.form.long:
            n = len(ids)
            columns = [_strings([i for i in ids for _ in causes]), _strings(list(causes) * n)]
            columns += [_doubles(values.ravel()) for values in (marginal, *(() if bounds is None else bounds))]
        else:
            columns = [_strings(ids)]
            if self.form.top:
                # Equal posteriors in the order of the knowledge base.
                leading = np.argsort(-marginal, axis=1, kind="stable")[:, : self.form.top]
                names = np.array(causes, dtype=np.object_)
                for rank in range(leading.shape[1]):
                    columns.append(_strings(names[leading[:, rank]].tolist()))
                    columns.append(_doubles(np.take_along_axis(marginal, leading[:, rank, None], axis=1)[:, 0]))
            columns += [_doubles(column) for column in numbers.T]
            if bounds is not None:
                columns += [_doubles(end[:, k]) for k in range(len(causes)) for end in bounds]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


# Seconds that NumPy needs for a case of limb. The core learns what a chunk costs when a good part of that is spent.
_CASE = 2e-4
# Posteriors under parameter draws that are held at a time (draws times cases times causes): 128 MiB.
_DRAWN = 1 << 24
# Bytes of text that a column of Arrow can hold.
_TEXT = 2**31 - 1


# Both without pa.array, which loads pandas: a third of a second.
def _doubles(values: NDArray[np.float64]) -> pa.Array:
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _strings(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)])
    if offsets[-1] > _TEXT:
        raise UsageError(f"{len(values)} texts have {offsets[-1]} bytes together, expected {_TEXT} at most; shorten the ids")
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(encoded)))


def _line(reject: Reject) -> int:
    return reject.line


def _values(cells: Any) -> list[Any]:
    return list(cells.to_pylist() if isinstance(cells, pa.Array) else cells)
