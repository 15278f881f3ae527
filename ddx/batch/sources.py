"""Sources of cases: CSV (also gzip and zstd), JSON Lines and Parquet, read in chunks of bounded size; standard input."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddx.batch.lines import MAX_ROW, ROWS, Chunk, CsvRows, undecodable
from ddx.cases import CASE_ID, Reject
from ddx.errors import UsageError

STREAM = "-"
FORMATS = {".csv": "csv", ".txt": "csv", "": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
LONG = (CASE_ID, "id", "value")


def shown(name: str, stream: str = "input") -> str:
    """How a message names a source or target."""
    return f"standard {stream}" if name == STREAM else name


def format_of(name: str) -> tuple[str, str | None] | None:
    """Format and compression that a file name says; None for one that is not known."""
    path = Path(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    stem = path.with_suffix("") if compression else path
    kind = FORMATS.get(stem.suffix.lower())
    return None if kind is None or (kind == "parquet" and compression) else (kind, compression)


class Source:
    """A table of cases, as a context manager: ``header`` (None where rows name their own columns) and ``chunks``.

    Raises
    ------
    UsageError
        There is no such file, it cannot be read, or it is no table of the format that its name says.
    """

    def __init__(self, name: str, encoding: str = "utf-8", kind: str | None = None) -> None:
        self.name, self.encoding = name, encoding
        known = ("csv", None) if name == STREAM else format_of(name)
        if kind is not None:
            known = (kind, known[1] if known else None)
        # A name that says nothing is read as CSV, as ever.
        self.kind, self.compression = known or ("csv", None)
        self.size: int | None = None
        self.header: list[str] | None = None

    def __enter__(self) -> Source:
        try:
            if self.name == STREAM:
                self.raw: IO[bytes] = sys.stdin.buffer
            else:
                self.raw = open(self.name, "rb")
                self.size = os.fstat(self.raw.fileno()).st_size
        except FileNotFoundError:
            raise UsageError(f"{self.name}: no such file") from None
        except OSError as error:
            raise UsageError(f"{self.name}: cannot be read: {error.strerror}") from None
        self.stream = _Hashed(pa.CompressedInputStream(self.raw, self.compression) if self.compression else self.raw)
        with self._readable():
            if self.kind == "csv":
                self.rows = CsvRows(self.stream, shown(self.name), self.encoding)
                self.header = self.rows.header
            elif self.kind == "parquet":
                self.table = pq.ParquetFile(self.raw if self.name != STREAM else pa.BufferReader(self.raw.read()))
                self.header = list(self.table.schema_arrow.names)
        return self

    def __exit__(self, *_: object) -> None:
        if self.name != STREAM:
            self.raw.close()

    @property
    def long(self) -> bool:
        """Whether a row is one statement (case_id, id, value) and not a case."""
        return self.header is not None and sorted(self.header) == sorted(LONG)

    def digest(self) -> str:
        """What tells the part of the source that was read so far from any other."""
        if self.kind == "parquet":
            # Not read from front to back: size and time stand for the content.
            status = os.fstat(self.raw.fileno()) if self.name != STREAM else None
            return "" if status is None else f"{status.st_size} bytes, {status.st_mtime_ns}"
        return str(self.stream.hash.hexdigest())

    def position(self) -> int:
        """Bytes of the source read so far, for a progress bar."""
        return 0 if self.name == STREAM or self.raw.closed else self.raw.tell()

    def chunks(self) -> Iterator[Chunk]:
        """Rows in chunks of bounded size, in order. A long table comes out as one with a column for every id."""
        chunks = {"csv": self._csv, "jsonl": self._jsonl, "parquet": self._parquet}[self.kind]()
        yield from _cases_of_long(chunks) if self.long else chunks

    def _csv(self) -> Iterator[Chunk]:
        with self._readable():
            yield from self.rows.chunks()

    def _parquet(self) -> Iterator[Chunk]:
        done = 0
        with self._readable():
            for batch in self.table.iter_batches(batch_size=ROWS):
                yield arrow_chunk(batch, done + 1)
                done += batch.num_rows

    def _jsonl(self) -> Iterator[Chunk]:
        line = 0
        with self._readable():
            while True:
                raws = list(itertools.islice(iter(lambda: self.stream.readline(MAX_ROW), b""), ROWS))
                if not raws:
                    return
                yield self._objects(raws, line)
                line += len(raws)

    def _objects(self, raws: Sequence[bytes], line: int) -> Chunk:
        objects: list[dict[str, Any]] = []
        texts: list[str] = []
        lines: list[int] = []
        refused: list[Reject] = []
        for number, raw in enumerate(raws, line + 1):
            text = raw.decode("utf-8", "replace").strip().removeprefix("\ufeff")
            if not text:
                continue
            try:
                value = json.loads(raw.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                problem = ("bad_encoding", undecodable(error, "utf-8"))
            except (ValueError, RecursionError) as error:
                problem = ("bad_json", f"not valid JSON: {error}")
            else:
                if isinstance(value, dict):
                    objects.append(value)
                    texts.append(text)
                    lines.append(number)
                    continue
                problem = ("bad_json", "expected an object with a name for every cell")
            refused.append(Reject(number, "", "", text[:1000], *problem, text[:1000]))
        names = tuple(dict.fromkeys(name for o in objects for name in o))
        cells = [[_json_cell(o.get(name)) for o in objects] for name in names]
        return Chunk(names, cells, np.array(lines, dtype=np.int64), texts.__getitem__, refused)

    def _readable(self) -> _Readable:
        return _Readable(self)


class _Hashed:
    """A stream that remembers what was read of it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.hash = hashlib.blake2b(digest_size=16)

    def read(self, size: int = -1) -> bytes:
        data = bytes(self.stream.read(size))
        self.hash.update(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        data = bytes(self.stream.readline(size))
        self.hash.update(data)
        return data


class _Readable:
    """Turns what a library says of a broken file into one line."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pa.ArrowException, OSError)) and not isinstance(error, UsageError):
            what = f"{self.source.kind}{f', {self.source.compression}' if self.source.compression else ''}"
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"{shown(self.source.name)}: cannot be read as {what}: {first}") from None


def arrow_chunk(batch: pa.RecordBatch, first: int) -> Chunk:
    """Typed rows: numbers, booleans, text and lists of ids. ``first`` : number of the first row."""
    cells = [_plain(column) for column in batch.columns]
    lines = np.arange(first, first + batch.num_rows, dtype=np.int64)
    return Chunk(tuple(batch.schema.names), cells, lines, _RowText(batch))


class _RowText:
    """A row of a typed table as a JSON object."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __call__(self, row: int) -> str:
        return json.dumps(self.batch.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)


def _plain(column: pa.Array) -> pa.Array:
    """Lists of ids as text with ';' between; everything else as it is."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        texts = column.cast(pa.list_(pa.string()))
        if texts.flatten().null_count:
            # A null among ids says nothing, as between ';;' in text; Arrow would make the whole list null.
            texts = pa.array([row and [id_ for id_ in row if id_ is not None] for row in texts.to_pylist()], texts.type)
        return pc.binary_join(texts, ";")
    return column


def _json_cell(value: Any) -> Any:
    return ";".join(map(str, value)) if isinstance(value, list) else value


def _cases_of_long(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """A table of statements (case_id, id, value), the rows of a case together -> cases."""
    held: list[tuple[str, str, Any, int, str]] = []
    for chunk in chunks:
        columns = dict(zip(chunk.names, chunk.cells, strict=True))
        values = [c.to_pylist() if isinstance(c, pa.Array) else c for c in (columns[name] for name in LONG)]
        rows = zip(*values, chunk.lines.tolist(), range(len(chunk.lines)), strict=True)
        held += [(_text(case), _text(id_), value, line, chunk.text(at)) for case, id_, value, line, at in rows]
        # The last case may go on in the next chunk.
        last = held[-1][0] if held else ""
        end = next((i for i in range(len(held) - 1, -1, -1) if held[i][0] != last), -1) + 1
        yield _wide(held[:end], chunk.refused)
        held = held[end:]
    yield _wide(held, [])


def _wide(rows: Sequence[tuple[str, str, Any, int, str]], refused: Sequence[Reject]) -> Chunk:
    cases: list[tuple[str, dict[str, Any], int, list[str]]] = []
    twice: list[Reject] = []
    for case, id_, value, line, text in rows:
        if not cases or cases[-1][0] != case:
            cases.append((case, {}, line, []))
        _, cells, _, texts = cases[-1]
        texts.append(text)
        if id_ in cells and cells[id_] != value:
            message = f"{id_} is stated twice, as {cells[id_]} and as {value}; keep one statement"
            twice.append(Reject(line, case, id_, str(value), "contradiction", message, text))
        else:
            cells[id_] = value
    bad = {reject.case_id for reject in twice}
    good = [case for case in cases if case[0] not in bad]
    names = tuple(dict.fromkeys(name for _, cells, _, _ in good for name in cells))
    columns = [[case for case, _, _, _ in good], *([cells.get(name) for _, cells, _, _ in good] for name in names)]
    first = list({reject.case_id: reject for reject in reversed(twice)}.values())  # one a case: a case is a row here
    lines = np.array([line for _, _, line, _ in good], dtype=np.int64)
    return Chunk((CASE_ID, *names), columns, lines, lambda row: "\n".join(good[row][3]), [*refused, *first])


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
