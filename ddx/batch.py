"""A file of cases in, a file of posteriors out, and nothing lost in between."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ddx.cases import CASE_ID, REJECT_COLUMNS, Column, Reject, encode, interpret, unknown_columns
from ddx.diagnosis import LOG_EVIDENCE, NONE, Model
from ddx.errors import UsageError

BLOCK = 2000
STREAM = "-"
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class ScoreReport:
    """What a run did. rows = scored + rejected."""

    knowledge_base: str
    version: str
    digest: str
    setting: str
    input: str
    output: str
    rows: int
    scored: int
    rejected: int
    cells_dropped: int
    lenient: bool
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)


def score_file(
    source: str | Path,
    target: str | Path,
    model: Model,
    *,
    rejects: str | Path | None = None,
    lenient: bool = False,
    encoding: str = "utf-8",
    progress: Progress | None = None,
) -> ScoreReport:
    """Score a CSV file of cases.

    Parameters
    ----------
    source : CSV file, wide or in list form; "-" is standard input
    target : CSV file with case_id, a column per cause, none_of_these and log_evidence; "-" is standard output. Beside a
        file stands ``<target>.meta.json``. Files appear under their names only when they are complete.
    rejects : CSV file of what could not be used (line, case_id, column, value, error, message). Default:
        ``<target stem>.rejects.csv`` beside the target, written when there is something to say
    lenient : drop an offending cell (or an unknown column) instead of rejecting its row
    encoding : of the source
    progress : called with the bytes read so far and the size of the source (None when unknown)

    Raises
    ------
    UsageError
        The source cannot be read as a table of cases, or the target cannot be written. Nothing is written then.
    """
    started = time.perf_counter()
    source, target = str(source), str(target)
    check_encoding(encoding)
    check_target(source, target)
    side = _rejects_path(target, rejects)
    if side:
        check_target(source, side)
        if side == target or (STREAM not in (side, target) and Path(side).resolve() == Path(target).resolve()):
            raise UsageError(f"{_shown(target, 'output')}: is the target of both posteriors and rejects; name two files")
    counts = {"rows": 0, "scored": 0, "rejected": 0, "cells_dropped": 0}
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(CaseReader(source, encoding, progress))
        columns = interpret(reader.header, model.knowledge, lenient)
        output = stack.enter_context(TextWriter(target))
        reject_output = stack.enter_context(TextWriter(side)) if side else None
        output.row([CASE_ID, *model.network.causes, NONE, LOG_EVIDENCE])
        if reject_output:
            reject_output.row(REJECT_COLUMNS)
        seen: set[str] = set()
        unused = unknown_columns(model.knowledge, columns)
        counts["cells_dropped"] = len(unused)
        for lines, rows, ragged in reader.blocks():
            found = _score_block(model, columns, lines, rows, lenient, seen, output, counts)
            for reject in sorted([*unused, *ragged, *found], key=lambda r: r.line):
                if reject_output:
                    reject_output.row(reject.cells())
                else:
                    print(reject, file=sys.stderr)
            unused = []
            counts["rows"] += len(ragged)
            counts["rejected"] += len(ragged)
        if not counts["rows"]:
            raise UsageError(f"{_shown(source)}: has a header but no cases")
        report = ScoreReport(
            knowledge_base=model.knowledge.name,
            version=model.knowledge.version,
            digest=model.knowledge.digest,
            setting=model.setting,
            input=source,
            output=target,
            lenient=lenient,
            seconds=round(time.perf_counter() - started, 3),
            versions=_versions(),
            **counts,
        )
        empty = not (counts["rejected"] or counts["cells_dropped"])
        if reject_output and rejects is None and empty and not Path(side).exists():
            reject_output.discard()
        if target != STREAM:
            meta = stack.enter_context(TextWriter(f"{target}.meta.json"))
            meta.text(json.dumps(asdict(report), indent=2) + "\n")
            meta.commit()
        if reject_output:
            reject_output.commit()
        output.commit()
    return report


def _score_block(
    model: Model,
    columns: Sequence[Column],
    lines: list[int],
    rows: list[list[str]],
    lenient: bool,
    seen: set[str],
    output: TextWriter,
    counts: dict[str, int],
) -> list[Reject]:
    """Score the rows of one block, write them in order, and return what could not be used."""
    if not rows:
        return []
    encoded = encode(model.knowledge, columns, list(zip(*rows, strict=True)), lines, lenient=lenient, seen=seen)
    posterior, failed = model.posterior(encoded, lines)
    table = np.column_stack([posterior.marginal, posterior.none, posterior.log_evidence]).tolist()
    failed_lines = {reject.line for reject in failed}
    scored = 0
    for position, case_id, values in zip(encoded.rows, encoded.case_ids, table, strict=True):
        if lines[int(position)] not in failed_lines:
            output.row([case_id, *map(repr, values)])
            scored += 1
    rejects = [*encoded.rejects, *failed]
    counts["rows"] += len(rows)
    counts["scored"] += scored
    counts["rejected"] += len(rows) - scored
    if lenient:
        lost = {lines[i] for i in set(range(len(rows))) - set(encoded.rows.tolist())} | failed_lines
        counts["cells_dropped"] += sum(reject.line not in lost for reject in rejects)
    return rejects


class CaseReader:
    """Rows of a CSV source in blocks, with their line numbers."""

    def __init__(self, source: str, encoding: str, progress: Progress | None) -> None:
        self.source, self.encoding, self.progress = source, encoding, progress

    def __enter__(self) -> CaseReader:
        self.size: int | None = None
        try:
            if self.source == STREAM:
                self.binary: IO[bytes] = sys.stdin.buffer
            else:
                self.binary = open(self.source, "rb")
                self.size = os.fstat(self.binary.fileno()).st_size
        except FileNotFoundError:
            raise UsageError(f"{self.source}: no such file") from None
        except OSError as error:
            raise UsageError(f"{self.source}: cannot be read: {error.strerror}") from None
        self.read = 0
        self.rows = csv.reader(self._text(), strict=True)
        try:
            self.header = self._next()
        except StopIteration:
            raise UsageError(f"{_shown(self.source)}: is empty; expected a header and one case a row") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.source != STREAM:
            self.binary.close()

    def _text(self) -> Iterator[str]:
        for number, raw in enumerate(self.binary, 1):
            if number == 1:
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UsageError(f"{_shown(self.source)}: is UTF-16, expected UTF-8; save it as UTF-8")
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            self.read += len(raw)
            try:
                yield raw.decode(self.encoding)
            except UnicodeDecodeError as error:
                byte = f"byte 0x{raw[error.start]:02x}"
                raise UsageError(
                    f"{_shown(self.source)}:{number}: {byte} is not {self.encoding}; save the file as UTF-8, "
                    "or name its encoding, such as --encoding cp1252"
                ) from None

    def _next(self) -> list[str]:
        try:
            return next(self.rows)
        except csv.Error as error:
            raise UsageError(f"{_shown(self.source)}:{self.rows.line_num}: not valid CSV: {error}") from None

    def blocks(self) -> Iterator[tuple[list[int], list[list[str]], list[Reject]]]:
        """Line numbers and rows of the width of the header, and rejects for the others; empty lines are no rows."""
        width = len(self.header)
        done = False
        while not done:
            lines: list[int] = []
            rows: list[list[str]] = []
            ragged: list[Reject] = []
            while len(rows) + len(ragged) < BLOCK:
                start = self.rows.line_num + 1
                try:
                    row = self._next()
                except StopIteration:
                    done = True
                    break
                if len(row) == width:
                    lines.append(start)
                    rows.append(row)
                elif row:
                    message = f"got {len(row)} cells, the header has {width}"
                    ragged.append(Reject(start, "", "", ",".join(row), "ragged_row", message))
            yield lines, rows, ragged
            if self.progress:
                self.progress(self.read, self.size)


class TextWriter:
    """A text file that appears under its name only on ``commit``; without it nothing is left behind."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.part = Path(target).with_name(f".{Path(target).name}.{os.getpid()}.part")

    def __enter__(self) -> TextWriter:
        if self.target == STREAM:
            self.stream: IO[str] = sys.stdout
        else:
            self.stream = open(self.part, "w", encoding="utf-8", newline="")
        self.csv = csv.writer(self.stream, lineterminator="\n")
        return self

    def row(self, cells: Sequence[Any]) -> None:
        """Write the cells of one row."""
        try:
            self.csv.writerow(cells)
        except BrokenPipeError:
            raise UsageError("standard output was closed before everything was written") from None

    def text(self, content: str) -> None:
        """Write text as it is."""
        self.stream.write(content)

    def commit(self) -> None:
        """Put the file under its name."""
        if self.target == STREAM:
            try:
                self.stream.flush()
            except BrokenPipeError:
                raise UsageError("standard output was closed before everything was written") from None
        elif not self.stream.closed:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()
            try:
                self.part.replace(self.target)
            except OSError as error:
                self.part.unlink(missing_ok=True)
                raise UsageError(f"{self.target}: cannot be written: {error.strerror}") from None

    def discard(self) -> None:
        """Leave nothing behind."""
        self.stream.close()
        self.part.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        if self.target != STREAM and not self.stream.closed:
            self.discard()


def _rejects_path(target: str, rejects: str | Path | None) -> str:
    if rejects is not None:
        return str(rejects)
    return "" if target == STREAM else str(Path(target).with_suffix("")) + ".rejects.csv"


def check_encoding(encoding: str) -> None:
    """Lines are found before they are decoded: every encoding will do whose line feed is the byte 10."""
    try:
        one_byte = "\n".encode(encoding) == b"\n"
    except LookupError:
        raise UsageError(f"unknown encoding {encoding!r}; common ones are utf-8, cp1252 and latin-1") from None
    if not one_byte:
        raise UsageError(f"encoding {encoding!r} is not supported; save the file as UTF-8")


def check_target(source: str, target: str) -> None:
    """Refuse, before any work is done, a target that cannot be written; ``source`` is what it must not overwrite.

    Raises
    ------
    UsageError
        The target is the source or a directory, has another format, or no folder that can be written to.
    """
    if target == STREAM:
        return
    path = Path(target)
    if source != STREAM and path.resolve() == Path(source).resolve():
        raise UsageError(f"{path}: is both input and output; name another output")
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; name a file in it")
    if path.suffix.lower() not in ("", ".csv", ".txt"):
        raise UsageError(f"{path}: unknown output format {path.suffix!r}; write to a .csv file")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the directory {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UsageError(f"{path}: cannot be written: permission denied")


def _shown(name: str, stream: str = "input") -> str:
    return f"standard {stream}" if name == STREAM else name


def _versions() -> dict[str, str]:
    import pandas

    from ddx import __version__

    return {
        "ddx": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pandas": pandas.__version__,
    }
