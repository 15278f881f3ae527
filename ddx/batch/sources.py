"""Sources of cases: CSV (also gzip and zstd), JSON Lines and Parquet, read in chunks of bounded size; standard input."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddx.batch.formats import STREAM, check_begin, format_of, shown
from ddx.batch.lines import BLOCK_BYTES, MAX_ROW, ROWS, Chunk, CsvRows, some_of
from ddx.batch.long import LONG, cases_of_long, names_of, parts_of
from ddx.cases import CASE_ID, LISTS, Reject
from ddx.errors import UsageError


class Source:
    """A table of cases, as a context manager: ``header`` (None where rows name their own columns) and ``chunks``.

    ``lists`` : columns whose cells may be lists of ids, where the format has lists

    Raises
    ------
    UsageError
        There is no such file, it cannot be read, or it is no table of the format that its name says.
    """

    def __init__(self, name: str, encoding: str = "utf-8", kind: str | None = None, lists: Sequence[str] = LISTS) -> None:
        self.name, self.encoding, self.lists = name, encoding, lists
        known = ("csv", None) if name == STREAM else format_of(name, kind)
        if kind is not None:
            if known and known[0] != kind and Path(name).suffix.lower() not in ("", ".txt"):
                raise UsageError(
                    f"{name}: is a {known[0]} file by its name, not {kind}; leave the input format out or change the name"
                )
            known = (kind, known[1] if known else None)
        # A name that says nothing is read as CSV, as ever.
        self.kind, self.compression = known or ("csv", None)
        if self.kind != "csv" and codecs.lookup(encoding).name != "utf-8":
            raise UsageError(f"{shown(name)}: encoding {encoding!r} is for CSV, and this is read as {self.kind}; leave it out")
        self.size: int | None = None
        self.regular = False  # neither standard input nor a pipe
        self.header: list[str] | None = None
        self.long = False  # a row is one statement (case_id, id, value) and not a case

    def __enter__(self) -> Source:
        try:
            if self.name == STREAM:
                if sys.stdin is None:
                    raise UsageError("standard input is closed")
                self.raw: IO[bytes] = sys.stdin.buffer
            else:
                self.raw = open(self.name, "rb")
                status = os.fstat(self.raw.fileno())
                self.regular = stat.S_ISREG(status.st_mode)
                self.size = status.st_size if self.regular else None
        except FileNotFoundError:
            raise UsageError(f"{self.name}: no such file") from None
        except OSError as error:
            raise UsageError(f"{self.name}: cannot be read: {error.strerror}") from None
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        self.stream = _Hashed(pa.CompressedInputStream(self.raw, self.compression) if self.compression else self.raw)
        self._check_begin()
        with _Readable(self):
            if self.kind == "csv":
                self.rows = CsvRows(self.stream, shown(self.name), self.encoding)
                self.header = self.rows.header
            elif self.kind == "parquet":
                self.table = pq.ParquetFile(
                    self.raw if self.regular else pa.BufferReader(self.raw.read()), page_checksum_verification=True
                )
                self.header = list(self.table.schema_arrow.names)
                self._check_ids(self.table.schema_arrow)
            else:
                self.lines = io.BufferedReader(_Raw(self.stream), BLOCK_BYTES)
                # The first line that can be read tells the form of all.
                begin = io.BytesIO(self.lines.peek().removeprefix(b"\xef\xbb\xbf"))
                found = (_object(line) for line in begin if line.strip())
                first = next((names for names, problem in found if not problem), {})
            # Rows of JSON Lines name their own columns; the first one tells what they are.
            names = list(first) if self.header is None else self.header
            self.long = sorted(name.strip() for name in names) == sorted(LONG)

    def _check_begin(self) -> None:
        """Refuse a file whose first bytes say that it is another kind of file than its name does."""
        if self.compression or self.kind == "parquet" or not hasattr(self.raw, "peek"):
            return
        with _Readable(self):
            check_begin(self.raw.peek(8), self.name, self.kind)

    def _check_ids(self, schema: pa.Schema) -> None:
        for column in schema:
            if column.name.strip() == CASE_ID and pa.types.is_nested(column.type):
                raise UsageError(f"{shown(self.name)}: {CASE_ID} holds {column.type}, expected text or whole numbers")

    def __exit__(self, *_: object) -> None:
        if self.regular:  # a pipe may still be read by a thread that waits for it
            self.raw.close()

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """What is wrong with the table is said with its name."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{shown(self.name)}: {error}") from None

    def digest(self) -> str:
        """What tells the part of the source that was read so far from any other."""
        if self.kind == "parquet":  # not read from front to back
            return self._whole_digest
        return str(self.stream.hash.hexdigest())

    @cached_property
    def _whole_digest(self) -> str:
        if not self.regular:
            return ""
        with open(self.name, "rb") as file:
            return hashlib.file_digest(file, _digest).hexdigest()

    def position(self) -> int:
        """Bytes of the source read so far, for a progress bar."""
        return 0 if not self.regular or self.raw.closed else self.raw.tell()

    def chunks(self) -> Iterator[Chunk]:
        """Rows in chunks of bounded size, in order. A long table comes out as one with a column for every id."""
        chunks = {"csv": self._csv, "jsonl": self._jsonl, "parquet": self._parquet}[self.kind]()
        yield from cases_of_long(chunks) if self.long else chunks
        if self.size is not None and self.kind != "parquet" and not self.compression and self.raw.tell() < self.size:
            had = f"had {self.size} bytes when it was opened and ends at {self.raw.tell()}"
            raise UsageError(f"{self.name}: {had}; something has cut it off meanwhile, start again")

    def _csv(self) -> Iterator[Chunk]:
        with _Readable(self):
            yield from self.rows.chunks()

    def _parquet(self) -> Iterator[Chunk]:
        done = 0
        with _Readable(self):
            for batch in self.table.iter_batches(batch_size=ROWS):
                yield arrow_chunk(batch, done + 1, self.lists)
                done += batch.num_rows

    def _jsonl(self) -> Iterator[Chunk]:
        line = 1
        with _Readable(self):
            while True:
                raws: list[bytes] = []
                size = 0
                while len(raws) < ROWS and size < BLOCK_BYTES and (raw := self.lines.readline(MAX_ROW + 1)):
                    raws.append(raw)
                    size += len(raw)
                    # Of a line that is longer than any case the rest is passed over.
                    while len(raw) > MAX_ROW and not raw.endswith(b"\n"):
                        raw = self.lines.readline(MAX_ROW + 1) or b"\n"
                if not raws:
                    return
                yield from self._objects(raws, line)
                line += len(raws)

    def _objects(self, raws: Sequence[bytes], line: int) -> Iterator[Chunk]:
        objects: list[dict[str, Any]] = []
        texts: list[str] = []
        lines: list[int] = []
        refused: list[Reject] = []
        for number, raw in enumerate(raws, line):
            text = raw.decode("utf-8", "replace").removeprefix("\ufeff").strip(" \t\r\n")
            if not text and len(raw) <= MAX_ROW:
                continue
            value, problem = _object(raw)
            if self.long and not problem and sorted(value) != sorted(LONG):
                problem = (
                    "bad_json",
                    f"expected the names {', '.join(LONG)}, as in the first line; got {', '.join(value) or 'none'}",
                )
            if problem:
                shown = text[:1000]
                original = (shown or "a line of blanks") if problem[0] == "line_too_long" else text
                refused.append(Reject(number, "", "", shown, *problem, original))
                continue
            # As in a table without the column, the line names a case that names itself nowhere.
            objects.append({CASE_ID: str(number), **value})
            texts.append(text)
            lines.append(number)
        for start, end in parts_of(objects):
            part = objects[start:end]
            names = names_of(part)
            cells = [[_json_cell(o.get(name), name in self.lists) for o in part] for name in names]
            yield Chunk(names, cells, np.array(lines[start:end], dtype=np.int64), some_of(texts[start:end]), refused)
            refused = []


_digest = partial(hashlib.blake2b, digest_size=16)


class _Hashed:
    """A stream that remembers what was read of it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.hash = _digest()

    def read(self, size: int = -1) -> bytes:
        data = bytes(self.stream.read(size))
        self.hash.update(data)
        return data


class _Raw(io.RawIOBase):
    """What ``io.BufferedReader`` needs to find lines in any stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


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


def arrow_chunk(batch: pa.RecordBatch, first: int, lists: Sequence[str] = LISTS) -> Chunk:
    """Typed rows: numbers, booleans, text and lists of ids. ``first`` : number of the first row."""
    cells = [_plain(column, name.strip() in lists) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    lines = np.arange(first, first + batch.num_rows, dtype=np.int64)
    return Chunk(tuple(batch.schema.names), cells, lines, partial(_row_texts, batch))


def _row_texts(batch: pa.RecordBatch, rows: Sequence[int]) -> list[str]:
    """Rows of a typed table as JSON objects."""
    if not len(rows):
        return []
    form = ", ".join(_json(name).replace("%", "%%") + ": %s" for name in batch.schema.names)
    at = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.array(rows, dtype=np.int64))])
    cells = zip(*(_json_cells(column, at) for column in batch.columns), strict=True)
    return list(map(f"{{{form}}}".__mod__, cells))


def _json_cells(column: pa.Array, at: pa.Array) -> list[str]:
    """Cells as JSON, in one call, which takes a fifth of one for each: the character between them is one that JSON escapes."""
    try:
        cells = _objects_of(column.take(at))
    except pa.ArrowNotImplementedError:  # of a type that only slices are made of, such as string_view
        cells = [cell for row in at.to_pylist() for cell in _objects_of(column.slice(row, 1))]
    kind = column.type
    if pa.types.is_nested(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return list(map(_json, cells))
    return _json_list(cells)[1:-1].split(_CONTROL)


_CONTROL = "\x1f"
_json = json.JSONEncoder(default=str, ensure_ascii=False).encode
_json_list = json.JSONEncoder(default=str, ensure_ascii=False, separators=(_CONTROL, ": ")).encode


def _plain(column: pa.Array, listed: bool) -> pa.Array:
    """Text, numbers and booleans as they are; lists of ids as text with ';' between; what is no value of a cell as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode(), listed)
    if pa.types.is_null(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return column.cast(pa.string())  # which says so where bytes are no text
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column.validate(full=True)  # Arrow takes the word of the file that it is UTF-8
        return column
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return column.cast(pa.decimal128(kind.precision, kind.scale))  # Arrow finds no distinct values of these
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return column
    lists = pa.types.is_list(kind) and pa.types.is_string(kind.value_type)
    if listed and lists and not column.flatten().null_count:
        return pc.binary_join(column, ";")
    return pa.array([None if cell is None else _text_cell(cell, listed) for cell in _objects_of(column)], pa.string())


def _objects_of(column: pa.Array) -> list[Any]:
    """Python values; text where Python has no such value (a date behind the year 9999)."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        if len(column) > 1:  # what one cell cannot be says nothing of the others
            return [value for row in range(len(column)) for value in _objects_of(column.slice(row, 1))]
        return list(column.cast(pa.string()).to_pylist())


def _object(raw: bytes) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """The object of a line of JSON; or the error and message of its reject."""
    if len(raw) > MAX_ROW:
        return {}, ("line_too_long", f"the line has more than {MAX_ROW} bytes, more than a case can have")
    try:
        value = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
        # "\ud800" is half of a character: nothing that could be written.
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        return {}, ("bad_encoding", f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8")
    except UnicodeEncodeError:
        return {}, ("bad_json", "not valid JSON: half of a surrogate pair")
    except json.JSONDecodeError as error:
        return {}, ("bad_json", f"not valid JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return {}, ("bad_json", "not valid JSON: nested too deeply")
    except ValueError as error:
        what = "a number has too many digits" if "int_max_str_digits" in str(error) else str(error)
        return {}, ("bad_json", f"not valid JSON: {what}")
    if not isinstance(value, dict):
        return {}, ("bad_json", "expected an object with a name for every cell")
    if isinstance(value.get(CASE_ID), (list, dict)):
        return {}, ("bad_json", f"{CASE_ID} is no text and no number")
    return value, None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that stands in it twice says two things."""
    found = {name.strip(): value for name, value in pairs}
    if len(found) < len(pairs):
        names = [name.strip() for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return found


def _json_cell(value: Any, listed: bool) -> Any:
    """Text and numbers as they are."""
    return _text_cell(value, listed) if isinstance(value, (list, dict, bool)) else value


def _text_cell(value: Any, listed: bool = False) -> str:
    """Lists of ids with ';' between; what is no value of a cell as it would stand in JSON, for its reject."""
    if isinstance(value, list) and listed:
        # A null among ids says nothing, as between ';;' in text.
        return ";".join(_text_cell(item) for item in value if item is not None)
    if isinstance(value, (list, dict, bool, type(None))):
        return _json(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
