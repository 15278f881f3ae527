"""Bytes of a CSV source -> rows of cells with their lines. Nothing is lost: what is no row becomes a reject with its text.

Arrow parses blocks of whole lines whose quotes, if any, stand around whole cells of one line. Where a quoted cell holds a
quote or a line feed, or bytes are in doubt, the csv module of Python finds the rows; the line it fails on is a reject, and
reading goes on behind it.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from ddx.cases import Reject
from ddx.errors import UsageError

ROWS = 12288  # most rows of a chunk; two that are being solved, and what is around them, stay below a gigabyte
BLOCK_BYTES = 1 << 22
# No case is as long as this; a quote that never closes must not swallow the rest of the file.
MAX_ROW = 1 << 24
_WIDE = 10_000  # columns beyond which Arrow is slower than the csv module
_SHOWN = 1000  # characters of such a line that its reject keeps


class Readable(Protocol):
    """A binary stream."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a source: a column of cells for every name, and the line that every row begins on.

    ``refused`` : what was no row of this table, one reject a row
    ``faults`` : offences of its rows that were found in reading them
    ``texts`` : positions of rows in the chunk -> these rows as the source has them
    """

    names: tuple[str, ...]
    cells: list[Any]
    lines: NDArray[np.int64]
    texts: Callable[[Sequence[int]], list[str]]
    refused: list[Reject] = field(default_factory=list)
    faults: list[Reject] = field(default_factory=list)


def some_of(texts: Sequence[str]) -> Callable[[Sequence[int]], list[str]]:
    """``Chunk.texts`` of rows whose texts are at hand."""
    return lambda positions: [texts[at] for at in positions]


class CsvRows:
    """Header and rows of CSV bytes."""

    def __init__(self, stream: Readable, name: str, encoding: str) -> None:
        self.stream, self.name, self.encoding = stream, name, encoding
        self.utf8 = codecs.lookup(encoding).name == "utf-8"
        self.line = 1  # the next line
        self._rest = b""
        self._ended = False
        self._inside = 0  # lines before this one leave a quoted cell open that is open where they begin
        csv.field_size_limit(MAX_ROW)
        start = self._more()
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{name}: is UTF-16, expected UTF-8; save it as UTF-8")
        if start.startswith(codecs.BOM_UTF8):
            start = start[3:]
        self._rest = start
        with contextlib.closing(self._lines()) as lines:
            self.header = self._header(lines)

    def _header(self, lines: Iterator[bytes]) -> list[str]:
        raws: list[bytes] = []
        first, size = self.line, 0
        for raw in lines:
            raws.append(raw)
            size += len(raw)
            if size > MAX_ROW:
                raise UsageError(f"{self.name}:{first}: longer than {MAX_ROW} bytes; look for a missing line feed or quote")
            try:
                # Behind a quote that is open, a line is looked at alone first: once each.
                row = None if len(raws) > 1 and self._leaves_open(raw) else self._cells(raws)
            except UnicodeDecodeError as error:
                raise UsageError(f"{self.name}:{self.line - 1}: {undecodable(error, self.encoding)}") from None
            except csv.Error as error:
                raise UsageError(f"{self.name}:{first}: not valid CSV: {_said(error)}") from None
            if row:
                return row
            if row is not None:  # an empty line
                raws, first, size = [], self.line, 0
        if raws:
            raise UsageError(f"{self.name}:{first}: not valid CSV: a quote of the header is never closed")
        raise UsageError(f"{self.name}: is empty; expected a header and one case a row")

    def _lines(self) -> Generator[bytes, None, None]:
        """Line after line of the rest; what was not asked for stays there."""
        begin = 0
        try:
            while True:
                end = self._rest.find(b"\n", begin) + 1
                if not end and not self._ended and len(self._rest) - begin <= MAX_ROW:
                    self._rest, begin = self._rest[begin:], 0
                    self._rest = self._more()
                    continue
                raw = self._rest[begin : end or len(self._rest)]
                if not raw:
                    return
                begin += len(raw)
                self.line += 1
                yield raw
        finally:
            self._rest = self._rest[begin:]

    def _more(self) -> bytes:
        """The rest and another block."""
        data = self.stream.read(BLOCK_BYTES)
        self._ended = not data
        return self._rest + data

    def chunks(self) -> Iterator[Chunk]:
        """Rows of the width of the header; empty lines are no rows."""
        names = tuple(self.header)
        while True:
            while b"\n" not in self._rest and not self._ended and len(self._rest) <= MAX_ROW:
                self._rest = self._more()
            if not self._rest:
                return
            if len(self._rest) > MAX_ROW and self._rest.find(b"\n", 0, MAX_ROW) < 0:
                yield self._too_long(names)
                if not self._ended:
                    self._rest = self._more()
                continue
            end = len(self._rest) if self._ended else self._rest.rindex(b"\n") + 1
            block, self._rest = self._rest[:end], self._rest[end:]
            yield from self._plain(names, block) if self._is_plain(block) else self._quoted(names, block)
            if not self._ended:
                self._rest = self._more()

    def _too_long(self, names: tuple[str, ...]) -> Chunk:
        """Pass over a line that is longer than any case."""
        size, shown = 0, self._rest[:_SHOWN].decode(self.encoding, "replace")
        while True:
            raw, feed, rest = self._rest.partition(b"\n")
            size += len(raw) + len(feed)
            self._rest = rest
            if feed or self._ended:
                break
            self._rest = self.stream.read(BLOCK_BYTES)
            self._ended = not self._rest
        message = f"the line has {size} bytes, more than a case can have; look for a missing line feed or quote"
        reject = Reject(self.line, "", "", shown, "line_too_long", message, shown)
        self.line += 1
        return Chunk(names, [[] for _ in names], np.empty(0, dtype=np.int64), some_of([]), [reject])

    def _is_plain(self, block: bytes) -> bool:
        """Whether lines, commas and quotes around cells are all there is, so that Arrow and the csv module agree."""
        if len(self.header) > _WIDE or b"\0" in block or not self.utf8 or block.count(b"\r") != block.count(b"\r\n"):
            return False
        if b'"' in block and not _quotes_whole_cells(block):
            return False
        if codecs.BOM_UTF8 in block:  # Arrow would take one off the first cell of a block
            return False
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def _plain(self, names: tuple[str, ...], block: bytes) -> Iterator[Chunk]:
        starts = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10) + 1
        starts = np.r_[0, starts if block.endswith(b"\n") else np.r_[starts, len(block)]]
        rows = len(starts) - 1
        size = -(-rows // -(-rows // ROWS))  # alike: a chunk costs something however short it is
        for first in range(0, rows, size):
            edges = starts[first : first + size + 1]
            yield self._parsed(names, block[edges[0] : edges[-1]], edges - edges[0])

    def _parsed(self, names: tuple[str, ...], block: bytes, edges: NDArray[np.intp]) -> Chunk:
        n, width = len(edges) - 1, len(names)
        wrong: dict[int, int] = {}

        def note(row: pc.InvalidRow) -> str:
            wrong[row.number - 1] = row.actual_columns
            return "skip"

        keys = [str(i) for i in range(width)]
        table = pc.read_csv(
            pa.BufferReader(block),
            read_options=pc.ReadOptions(use_threads=False, column_names=keys, block_size=len(block) + 1),
            parse_options=pc.ParseOptions(
                quote_char='"' if b'"' in block else False, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        ).combine_chunks()
        kept = np.ones(n, dtype=np.bool_)
        kept[list(wrong)] = False
        cells = [column.chunk(0) if column.num_chunks else pa.array([], pa.string()) for column in table.columns]
        blank = _blank(block, edges)  # a row of empty cells to Arrow, and no row to us
        if blank.any():
            full = pa.array(~blank[kept])
            cells = [cell.filter(full) for cell in cells]
            kept &= ~blank
        rows = np.flatnonzero(kept)

        def texts(positions: Sequence[int]) -> list[str]:
            return [block[edges[row] : edges[row + 1]].decode("utf-8").rstrip("\r\n") for row in rows[positions].tolist()]

        refused = []
        for row, actual in sorted(wrong.items()):
            raw = block[edges[row] : edges[row + 1]].decode("utf-8").rstrip("\r\n")
            if raw:
                refused.append(ragged(self.line + row, raw, actual, width))
        lines = self.line + rows
        self.line += n
        return Chunk(names, cells, lines.astype(np.int64), texts, refused)

    def _quoted(self, names: tuple[str, ...], block: bytes) -> Iterator[Chunk]:
        """The same with quotes; a row that is open at the end of the block waits for the next one."""
        raws = block.splitlines(keepends=True) if b"\r" not in block else _split(block)
        ends = list(itertools.accumulate(map(len, raws)))
        at = 0
        while at < len(raws):
            rows: list[list[str]] = []
            texts: list[str] = []
            lines: list[int] = []
            refused: list[Reject] = []
            while at < len(raws) and len(rows) + len(refused) < ROWS:
                used, row, problem = self._row(raws, ends, at)
                if used == 0:  # open at the end of the block
                    break
                text = b"".join(raws[at : at + used]).decode(self.encoding, "replace").rstrip("\r\n")
                if problem is not None:
                    error, message = problem
                    refused.append(Reject(self.line, "", "", text[:_SHOWN], error, message, text))
                elif len(row) == len(names):
                    rows.append(row)
                    lines.append(self.line)
                    texts.append(text)
                elif row:
                    refused.append(ragged(self.line, text, len(row), len(names)))
                self.line += used
                at += used
            cells = [pa.array(column, pa.string()) for column in (zip(*rows, strict=True) if rows else [()] * len(names))]
            yield Chunk(names, cells, np.array(lines, dtype=np.int64), some_of(texts), refused)
            if at < len(raws) and len(rows) + len(refused) < ROWS:
                self._rest = b"".join(raws[at:]) + self._rest
                return

    def _row(self, raws: list[bytes], ends: list[int], at: int) -> tuple[int, list[str], tuple[str, str] | None]:
        """Lines that the row at ``at`` takes, its cells, and what is wrong with it; 0 lines: it goes on behind the block.

        ``ends`` : bytes of the block up to the end of every line
        """
        try:
            row = self._cells(raws[at : at + 1])
        except UnicodeDecodeError as error:
            return 1, [], ("bad_encoding", undecodable(error, self.encoding))
        except csv.Error as error:
            return 1, [], ("bad_csv", f"not valid CSV: {_said(error)}")
        if row is not None:
            return 1, row, None
        # A quoted cell goes on. Whether a line leaves it open does not depend on where it began: every line is looked at once,
        # or a file with many such quotes would take forever.
        begin = ends[at] - len(raws[at])
        self._inside = max(self._inside, self.line + 1)
        while (last := at + self._inside - self.line) < len(raws):
            if ends[last] - begin > MAX_ROW:
                return 1, [], _OPEN
            try:
                if not self._leaves_open(raws[last]):
                    row = self._cells(raws[at : last + 1])
                    return (last + 1 - at, row, None) if row is not None else (1, [], _OPEN)
            except UnicodeDecodeError:
                return 1, [], _OPEN
            except csv.Error as error:
                return 1, [], ("bad_csv", f"not valid CSV: {_said(error)}")
            self._inside += 1
        return (1, [], _OPEN) if self._ended or ends[-1] + len(self._rest) - begin > MAX_ROW else (0, [], None)

    def _leaves_open(self, raw: bytes) -> bool:
        """Whether a quoted cell that is open where a line begins is open at its end."""
        return '"' not in raw.decode(self.encoding) or self._cells([b'"', raw]) is None

    def _cells(self, raws: list[bytes]) -> list[str] | None:
        """The cells of a row; None where a quoted cell is still open at its end."""
        text = [raw.decode(self.encoding) for raw in raws]
        try:
            return next(csv.reader(text, strict=True), [])
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
            raise


_OPEN = ("bad_csv", "not valid CSV: a quoted cell begins here and is never closed")


def _said(error: csv.Error) -> str:
    alone = "a carriage return without a line feed; end lines with line feeds, and put quotes around cells that hold either"
    return alone if "new-line character" in str(error) else str(error)


def ragged(line: int, text: str, cells: int, width: int) -> Reject:
    """A row that is not as wide as the header."""
    return Reject(line, "", "", text, "ragged_row", f"got {cells} cells, the header has {width}", text)


def undecodable(error: UnicodeDecodeError, encoding: str) -> str:
    """What to do about a byte that is not in the encoding."""
    byte = f"byte 0x{error.object[error.start]:02x}"
    return f"{byte} is not {encoding}; save the file as UTF-8, or name its encoding, such as --encoding cp1252"


def _quotes_whole_cells(block: bytes) -> bool:
    """Whether every quote opens or closes a cell, on the line that it opened on."""
    data = np.frombuffer(b"\n" + block + b"\n", dtype=np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    feeds = np.flatnonzero(data == ord("\n"))
    return bool(
        np.isin(data[opening - 1], _BEFORE).all()
        and np.isin(data[closing + 1], _BEHIND).all()
        and (np.searchsorted(feeds, opening) == np.searchsorted(feeds, closing)).all()
    )


_BEFORE, _BEHIND = np.frombuffer(b",\n", dtype=np.uint8), np.frombuffer(b",\r\n", dtype=np.uint8)


def _blank(block: bytes, edges: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Lines that hold nothing but their end."""
    blank = np.diff(edges) <= 2
    for row in np.flatnonzero(blank).tolist():
        blank[row] = not block[edges[row] : edges[row + 1]].strip(b"\r\n")
    return blank


def _split(block: bytes) -> list[bytes]:
    """Lines that end with a line feed; ``splitlines`` would end them at a carriage return as well."""
    parts = block.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
