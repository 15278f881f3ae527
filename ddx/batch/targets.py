"""Files that appear under their names only when they are complete and on the disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from ddx.batch.formats import STREAM, format_of, shown
from ddx.batch.whole import Whole
from ddx.errors import UsageError

_BLOCK = 1 << 20  # bytes that are copied at a time
_SPECIAL = re.compile('[",\r\n]')  # what a cell of CSV has quotes for


def check_target(source: str, target: str, kind: str | None = None, *, only_csv: bool = False) -> None:
    """Refuse, before any work is done, a target that cannot be written; ``source`` is what it must not overwrite.

    ``kind`` : the format that was asked for, where the name does not say it

    Raises
    ------
    UsageError
        The target is the source or a directory, has another format, or no folder that can be written to.
    """
    if target == STREAM:
        return
    if target.endswith((os.sep, os.altsep or os.sep)):
        raise UsageError(f"{target}: is a directory; name a file in it")
    try:
        _check_path(source, Path(target), kind, only_csv)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None


def _check_path(source: str, path: Path, kind: str | None, only_csv: bool) -> None:
    if source != STREAM and path.resolve() == Path(source).resolve():
        raise UsageError(f"{path}: is both input and output; name another output")
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; name a file in it")
    if path.exists() and not path.is_file():  # a device or pipe would be replaced by a file
        raise UsageError(f"{path}: is no regular file; - is standard output")
    part = part_of(str(path.resolve()))
    beside = [
        part,
        *(part.with_suffix(end) for end in (".whole", ".journal", ".lock", ".new")),
        Path(f"{path}.meta.json").resolve(),
    ]
    if source != STREAM and Path(source).resolve() in beside:
        raise UsageError(f"{source}: a run that writes {path} uses this name too; name another output")
    known = format_of(str(path), kind)
    if kind and known and kind != known[0]:
        raise UsageError(
            f"{path}: is a {known[0]} file by its name, not {kind}; leave the output format out or change the name"
        )
    if known is None or (only_csv and known != ("csv", None)):
        formats = "a .csv file" if only_csv else "a .csv, .jsonl or .parquet file (.csv.gz, .csv.zst too)"
        raise UsageError(f"{path}: unknown output format {path.suffix!r}; write to {formats}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the directory {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{path}: cannot be written: permission denied")


class Target:
    """Text or record batches on their way to a file. ``commit`` puts it under its name; a part may stay for a resumed run.

    What is written goes, uncompressed, to ``.NAME.part`` beside the target, which can be cut back to an earlier size; a format
    that has to be written in one piece (Parquet, compressed text) is made from the part meanwhile.
    """

    def __init__(self, target: str, schema: pa.Schema | None = None, kind: str | None = None) -> None:
        self.target, self.schema = target, schema
        known = None if target == STREAM else format_of(target, kind)
        self.kind = kind or (known[0] if known else "csv")
        self.compression = known[1] if known else None
        self.direct = target == STREAM and self.kind != "parquet"  # text that leaves as it is made
        self.part = part_of(target)
        self.stream: IO[bytes] | None = None
        self.whole: Whole | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ready = self.part
        self.prepared = self.committed = False

    def open(self, size: int | None = None, *, made: str | None = None) -> Target:
        """Begin anew, or go on behind the first ``size`` bytes of the part.

        ``made`` : what ``prepare`` said of a complete one, which may have its name already
        """
        if self.target == STREAM:
            if sys.stdout is None:
                raise UsageError("standard output is closed")
            if self.direct:
                self.stream = sys.stdout.buffer
                return self
            # Only whole can it be written: to a file of the system's, which is copied at the end.
            self._folder = tempfile.TemporaryDirectory(prefix="ddx-")
            self.part = Path(self._folder.name, "posteriors.part")
        try:
            if made and not self.part.exists() and Path(self.target).exists() and _look(Path(self.target)) == made:
                self.committed = True
                return self
            if size is None:
                self.stream = open(self.part, "wb")  # noqa: SIM115
            elif not self.part.exists() or self.part.stat().st_size < size:
                raise UsageError(f"{self.target}: the unfinished run has lost {self.part}; start again without --resume")
            else:
                self.stream = open(self.part, "r+b")  # noqa: SIM115
                self.stream.truncate(size)
                self.stream.seek(size)
            if self.kind == "parquet" or self.compression is not None:
                self.ready = self.part.with_suffix(".whole")
                self.whole = Whole(self.part, self.ready, self.schema, self.compression)
                self.whole.grow(size or 0)
        except OSError as error:
            raise UsageError(f"{self.target}: cannot be written: {error.strerror}") from None
        return self

    def write(self, data: bytes) -> None:
        """Append bytes."""
        assert self.stream is not None
        try:
            _write_all(self.stream, data)
            if self.whole:
                self.stream.flush()
                self.whole.grow(self.stream.tell())
        except BrokenPipeError:
            raise UsageError("standard output was closed before everything was written") from None
        except OSError as error:
            raise self._failed(error) from None

    def encoded(self, batch: pa.RecordBatch) -> bytes:
        """The rows of a batch as ``write`` takes them."""
        return _encoded(batch, self.kind) if batch.num_rows else b""

    def header(self) -> None:
        """Begin a table."""
        assert self.schema is not None
        if self.kind == "csv":
            self.write((",".join(self.schema.names) + "\n").encode())

    def sync(self) -> int:
        """Bytes of the part that are on the disk."""
        assert self.stream is not None
        try:
            self.stream.flush()
            if self.target != STREAM:
                os.fsync(self.stream.fileno())
            if not self.direct:
                return self.stream.tell()
        except BrokenPipeError:
            raise UsageError("standard output was closed before everything was written") from None
        except OSError as error:
            raise self._failed(error) from None
        return 0

    def prepare(self) -> str:
        """Put everything on the disk, so that nothing but a name is missing; what tells this file from any other."""
        if self.committed or self.direct:
            if self.direct:
                self.sync()
            return ""
        assert self.stream is not None
        try:
            if not self.prepared:
                size = self.sync()
                self.prepared = True
                self.stream.close()
                if self.whole:
                    self.whole.grow(size, complete=True)
            return _look(self.ready)
        except OSError as error:
            raise self._failed(error) from None

    def commit(self) -> None:
        """Put the file under its name."""
        self.prepare()
        if self.committed or self.direct:
            return
        try:
            if self.target == STREAM:
                with open(self.ready, "rb") as made:
                    while block := made.read(_BLOCK):
                        _write_all(sys.stdout.buffer, block)
                self.committed = True
                return
            named = _behind_link(self.target)
            if named.exists():  # patients' data stay as hidden as they were
                self.ready.chmod(stat.S_IMODE(named.stat().st_mode))
            self.ready.replace(named)
            if self.ready is not self.part:
                self.part.unlink()
            sync_folder(named.parent)
        except BrokenPipeError:
            raise UsageError("standard output was closed before everything was written") from None
        except OSError as error:
            raise self._failed(error) from None
        finally:
            if self._folder:
                self._folder.cleanup()
        self.committed = True

    def close(self, *, keep: bool) -> None:
        """Stop without a file; the part stays only to be resumed."""
        if not self.direct and self.stream is not None and not self.committed:
            if not self.stream.closed:
                with contextlib.suppress(OSError):
                    self.stream.close()
            if self.whole:
                self.whole.stop()
            if not keep:
                self.part.unlink(missing_ok=True)
            if self._folder:
                self._folder.cleanup()

    def _failed(self, error: OSError) -> UsageError:
        return UsageError(f"{shown(self.target, 'output')}: cannot be written: {error.strerror or error}")


def _look(path: Path) -> str:
    """Size and time of a file, which a new name leaves as they are."""
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns}"


def _write_all(stream: IO[bytes], data: bytes) -> None:
    """Without a buffer (``python -u``) standard output may take a part of what it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def part_of(target: str) -> Path:
    """The unfinished file beside a target."""
    path = _behind_link(target)
    return path.with_name(f".{path.name}.part")


def _behind_link(target: str) -> Path:
    """The file itself, where a target is a link to it: the link stays."""
    return Path(target).resolve() if Path(target).is_symlink() else Path(target)


def sync_folder(folder: Path) -> None:
    """Put the names of a folder on the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def _encoded(batch: pa.RecordBatch, kind: str) -> bytes:
    if kind == "parquet":
        data: bytes = batch.serialize().to_pybytes()
        return len(data).to_bytes(8, "little") + data
    if kind == "csv":
        return _csv(batch)
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist())


def _csv(batch: pa.RecordBatch) -> bytes:
    """Rows of CSV. Numbers come from orjson, which writes the shortest digits that read as them in half of Arrow's time."""
    blocks: list[Iterable[bytes]] = []
    for are_numbers, columns in itertools.groupby(batch.columns, key=lambda column: pa.types.is_floating(column.type)):
        if are_numbers:
            blocks.append(map(_numbers, np.column_stack([np.from_dlpack(column) for column in columns])))
        else:
            blocks.append(_csv_texts([column.to_pylist() for column in columns]))
    rows = map((b",".join([b"%b"] * len(blocks)) + b"\n").__mod__, zip(*blocks, strict=True))
    # Piece by piece, the small texts of the rows take the same memory again and again.
    return b"".join(iter(lambda: b"".join(itertools.islice(rows, 256)), b""))


def _numbers(row: NDArray[np.float64]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows of CSV with their ends."""
    columns = [list(map(str, column)) for column in zip(*rows, strict=True)]
    return b"".join(row + b"\n" for row in _csv_texts(columns))


def _csv_texts(columns: Sequence[Sequence[str]]) -> list[bytes]:
    """Rows of CSV without their ends, given by their columns: what RFC 4180 says is quoted, nothing else.

    The csv module looks at every character several times, which takes 30 times as long where cells are long (rows of JSON).
    """
    quoted = [[_quoted(cell) for cell in column] if _SPECIAL.search("".join(column)) else column for column in columns]
    return [",".join(row).encode() for row in zip(*quoted, strict=True)]


def _quoted(cell: str) -> str:
    return '"{}"'.format(cell.replace('"', '""')) if _SPECIAL.search(cell) else cell
