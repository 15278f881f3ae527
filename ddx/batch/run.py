"""A file of cases in, a file of posteriors out: bounded memory, nothing lost, restartable, the same bytes every time."""

from __future__ import annotations

import codecs
import contextlib
import json
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from ddx import __version__
from ddx.batch.ahead import read_ahead
from ddx.batch.formats import STREAM, format_of, shown
from ddx.batch.journal import Journal
from ddx.batch.lines import Chunk
from ddx.batch.scoring import Form, Read, Scored, Scorer
from ddx.batch.sources import Source
from ddx.batch.targets import Target, check_target, csv_rows
from ddx.cases import REJECT_COLUMNS, CaseIds, Reject, case_ids
from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.inference.dispatch import cores

# Seconds between two points that a killed run can be taken up from.
CHECKPOINT = 2.0
_SOLVERS = 2  # chunks that are solved at a time: while the kernel works on one, NumPy prepares the other

Progress = Callable[[int, int | None, int], None]


@dataclass(frozen=True)
class ScoreReport:
    """What a run did. rows = scored + rejected.

    ``resumed`` : rows that an earlier run had done
    ``input_digest`` : BLAKE2b, 16 bytes, of the input (without its compression); empty where Parquet came through a pipe
    """

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
    encoding: str
    top: int
    long: bool
    intervals: int
    seed: int
    input_digest: str
    seconds: float
    resumed: int = 0
    versions: dict[str, str] = field(default_factory=dict)


@dataclass
class Counts:
    """Rows and cells so far."""

    rows: int = 0
    scored: int = 0
    rejected: int = 0
    cells_dropped: int = 0

    def add(self, done: Scored) -> None:
        """Count a chunk."""
        self.rows += done.rows
        self.scored += done.scored
        self.rejected += done.rows - done.scored
        self.cells_dropped += done.cells_dropped


def score_file(
    source: str | Path,
    target: str | Path,
    model: Model,
    *,
    rejects: str | Path | None = None,
    lenient: bool = False,
    encoding: str = "utf-8",
    input_format: str | None = None,
    output_format: str | None = None,
    top: int = 0,
    long: bool = False,
    intervals: int = 0,
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> ScoreReport:
    """Score a file of cases.

    Parameters
    ----------
    source : CSV (.csv, .csv.gz, .csv.zst), JSON Lines (.jsonl, .ndjson, compressed too) or Parquet file; wide, in list
        form, or long (columns case_id, id, value: a row for every statement, those of a case together); "-" is standard input
    target : file of the same formats with case_id, a column per cause, none_of_these and log_evidence; "-" is standard
        output. Beside a file stands ``<target>.meta.json``. Files appear under their names only when they are complete
    rejects : CSV file of what could not be used (line, case_id, column, value, error, message, original). Default:
        ``<target stem>.rejects.csv`` beside the target, written when there is something to say
    lenient : drop an offending cell (or an unknown column) instead of rejecting its row
    encoding : of a CSV source
    input_format, output_format : "csv", "jsonl" or "parquet", where the name does not say it
    top : so many columns cause_1, posterior_1, ... of the leading causes
    long : a row for every case and cause
    intervals : parameter draws (20 or more) for columns CAUSE_low and CAUSE_high (5 % and 95 % quantiles); 0: none
    seed : of the draws
    resume : go on where a run with the same arguments was killed or failed; the result has the same bytes
    progress : called with the bytes read so far, the size of the source (None when unknown) and the rows done

    Raises
    ------
    UsageError
        The source cannot be read as a table of cases, or the target cannot be written. No file appears then.
    """
    started = time.perf_counter()
    source, target = str(source), str(target)
    check_encoding(encoding)
    for name, kind in (("input_format", input_format), ("output_format", output_format)):
        if kind not in (None, "csv", "jsonl", "parquet"):
            raise UsageError(f"{name}: got {kind!r}, expected csv, jsonl or parquet")
    check_target(source, target, output_format)
    side = _rejects_path(target, rejects)
    if side:
        check_target(source, side, only_csv=True)
        meta = Path(f"{target}.meta.json")
        if target != STREAM and meta.exists() and not meta.is_file():
            raise UsageError(f"{meta}: is no regular file; name another output")
        if side == target or (STREAM not in (side, target) and Path(side).resolve() == Path(target).resolve()):
            raise UsageError(f"{shown(target, 'output')}: is the target of both posteriors and rejects; name two files")
    if resume and STREAM in (source, target, side):
        raise UsageError("--resume needs files for input, output and rejects; a stream cannot be taken up again")
    scorer = Scorer(model, lenient=lenient, form=Form(top, long, intervals, seed))
    settings = {
        "source": str(Path(source).resolve()) if source != STREAM else STREAM,
        "knowledge base": f"{model.knowledge.name} {model.knowledge.digest}",
        "setting": model.setting,
        "lenient": lenient,
        "encoding": codecs.lookup(encoding).name,
        **asdict(scorer.form),
        "input format": input_format,
        "output format": output_format,
        "rejects": side if side in ("", STREAM) else str(Path(side).resolve()),
        "ddx": __version__,
    }
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(Source(source, encoding, input_format))
        with reader.blamed():
            unused = scorer.check(reader.header) if reader.header is not None and not reader.long else []
        journal = Journal(source, target, settings)
        stack.enter_context(journal.locked(target, side or STREAM))
        point = journal.read() if resume else None
        output = Target(target, scorer.schema, output_format)
        reject_output = Target(side, kind="csv") if side else None
        run = _Run(scorer, reader, output, reject_output, journal, progress)
        try:
            run.begin(point, unused)
            run.chunks(point)
            report = run.finish(started, rejects is None, source, target)
        except BaseException as error:
            run.stop()
            # What the run got done is not lost, whoever stopped it.
            if journal.exists() and isinstance(error, UsageError) and isinstance(error.__context__, OSError):
                raise UsageError(f"{error}; what is done is kept, go on with --resume") from None
            if journal.exists() and isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt("what is done is kept, go on with --resume") from None
            raise
    return report


class _Run:
    """One run: sources and targets that are open, and what has been done."""

    def __init__(
        self,
        scorer: Scorer,
        reader: Source,
        output: Target,
        rejects: Target | None,
        journal: Journal,
        progress: Progress | None,
    ) -> None:
        self.scorer, self.reader, self.output, self.rejects = scorer, reader, output, rejects
        self.journal, self.progress = journal, progress
        self.meta: Target | None = None
        self.counts = Counts()
        self.done = 0  # chunks
        self.digest = ""  # of the source up to there
        self.resumable = False
        self.last = 0.0
        self.resumed = 0

    def begin(self, point: dict[str, Any] | None, unused: list[Reject]) -> None:
        """Open the targets, behind what an earlier run left of them."""
        if point is None:
            self.journal.remove()  # before the part that it speaks of goes
            self.output.open()
            if self.rejects:
                self.rejects.open().write(csv_rows([REJECT_COLUMNS]))
            self._reject(unused)
            self.counts.cells_dropped = len(unused)
        else:
            self.resumable = True
            self.counts = Counts(**point["counts"])
            self.resumed, self.done, self.digest = self.counts.rows, point["chunks"], point["input"]
            self.output.open(point["output"], made=point["made"].get("output"))
            needless = point["complete"] and not (self.counts.rejected or self.counts.cells_dropped)
            if self.rejects and needless and not self.rejects.part.exists():
                self.rejects = None  # the earlier run had already done without
            if self.rejects:
                self.rejects.open(point["rejects"], made=point["made"].get("rejects"))

    def chunks(self, point: dict[str, Any] | None) -> None:
        """Score chunk after chunk: read by one thread, solved by others, written by this one in the order of the source."""
        self.scorer.model.network  # noqa: B018 - made once, before threads ask for it
        waiting: deque[tuple[str, Future[tuple[Scored, bytes]]]] = deque()
        self.last = time.monotonic()
        ahead = read_ahead(self.reader, partial(self._read, point))
        with cores.expect(_SOLVERS), ahead as chunks, ThreadPoolExecutor(_SOLVERS) as pool:
            try:
                for read, digest in chunks:
                    waiting.append((digest, pool.submit(self._solve, read)))
                    if len(waiting) > _SOLVERS:
                        self._write(*waiting.popleft())
                while waiting:
                    self._write(*waiting.popleft())
            finally:
                for _, later in waiting:
                    later.cancel()

    def _read(self, point: dict[str, Any] | None, chunks: Iterator[Chunk]) -> Iterator[tuple[Read, str]]:
        """Chunks with their evidence and a digest of the source up to each; what an earlier run did only adds its ids."""
        seen, number, skip = CaseIds(long=self.reader.long), 0, point["chunks"] if point else 0
        for number, chunk in enumerate(chunks, 1):
            digest = self.reader.digest()
            if number > skip and not (point and point["complete"]):
                with self.reader.blamed():
                    read = self.scorer.read(chunk, seen)
                yield read, digest
                continue
            seen.repeated(case_ids(chunk.names, chunk.cells, chunk.lines.tolist()))
            if number > skip or (number == skip and digest != (point or {})["input"]):
                name = shown(self.reader.name)
                raise UsageError(f"{name}: is not what the run began with; start again without --resume")
        if number < skip:
            raise UsageError(f"{shown(self.reader.name)}: is shorter than when the run began; start again without --resume")

    def _solve(self, read: Read) -> tuple[Scored, bytes]:
        scored = self.scorer.solve(read)
        return scored, self.output.encoded(scored.table)

    def _write(self, digest: str, solved: Future[tuple[Scored, bytes]]) -> None:
        scored, data = solved.result()
        self.done += 1
        self.digest = digest
        if scored.rows and not self.counts.rows:  # not before, or a source without cases would leave a header
            self.output.header()
        self.output.write(data)
        self._reject(scored.rejects)
        self.counts.add(scored)
        if self.progress:
            self.progress(self.reader.position(), self.reader.size, self.counts.rows)
        if self.journal.path and time.monotonic() - self.last >= CHECKPOINT:
            self.checkpoint(complete=False)
            self.resumable = True
            self.last = time.monotonic()

    def checkpoint(self, *, complete: bool) -> None:
        """Everything so far is on the disk, and the journal says how much that is.

        Of a ``complete`` run it also says what the files look like that have only to get their names.
        """
        files = {"output": self.output, **({"rejects": self.rejects} if self.rejects else {})}
        sizes = {"rejects": 0, **{name: file.sync() for name, file in files.items()}}
        made = {name: file.prepare() for name, file in files.items()} if complete else {}
        done = {"chunks": self.done, "input": self.digest, "counts": asdict(self.counts)}
        self.journal.write({**done, "complete": complete, "made": made, **sizes})

    def _reject(self, rejects: list[Reject]) -> None:
        if self.rejects:
            self.rejects.write(csv_rows(reject.cells() for reject in rejects))
            return
        for reject in rejects:
            print(reject, file=sys.stderr)

    def finish(self, started: float, optional: bool, source: str, target: str) -> ScoreReport:
        """Put everything under its name; the table of posteriors last."""
        counts, kb = self.counts, self.scorer.model.knowledge
        if not counts.rows:
            header = "has no cases" if self.reader.header is None else "has a header but no cases"
            raise UsageError(f"{shown(source)}: {header}")
        report = ScoreReport(
            knowledge_base=kb.name,
            version=kb.version,
            digest=kb.digest,
            setting=self.scorer.model.setting,
            input=source,
            output=target,
            lenient=self.scorer.lenient,
            encoding=self.reader.encoding,
            **asdict(self.scorer.form),
            input_digest=self.digest,
            seconds=round(time.perf_counter() - started, 3),
            resumed=self.resumed,
            versions=_versions(),
            **asdict(counts),
        )
        if self.journal.path and not (self.output.committed or (self.rejects and self.rejects.committed)):
            self.checkpoint(complete=True)
        targets = [self.output]
        if target != STREAM:
            self.meta = Target(f"{target}.meta.json", kind="csv").open()
            self.meta.write((json.dumps(asdict(report), indent=2) + "\n").encode())
            targets.insert(0, self.meta)
        clean = not (counts.rejected or counts.cells_dropped)
        # An old file of rejects must not seem to be one of these.
        needless = self.rejects and optional and clean and not Path(self.rejects.target).exists()
        if self.rejects and not needless:
            targets.insert(0, self.rejects)
        for each in targets:
            each.prepare()
        for each in targets:
            each.commit()
        if self.rejects and needless:
            self.rejects.close(keep=False)
        self.journal.remove()
        return report

    def stop(self) -> None:
        """Keep what a resumed run can go on with, and nothing else."""
        keep = self.resumable and self.journal.exists()
        if not keep and self.output.stream:
            self.journal.remove()
        for target, needed in ((self.output, keep), (self.rejects, keep), (self.meta, False)):
            if target:
                target.close(keep=needed)


def _rejects_path(target: str, rejects: str | Path | None) -> str:
    if rejects is not None:
        return str(rejects)
    if target == STREAM:
        return ""
    path = Path(target)
    known = format_of(target)
    stem = path.with_suffix("").with_suffix("") if known and known[1] else path.with_suffix("")
    return f"{stem}.rejects.csv"


def check_encoding(encoding: str) -> None:
    """Lines are found before they are decoded: every encoding will do whose line feed is the byte 10."""
    try:
        one_byte = "\n".encode(encoding) == b"\n" and b"\n".decode(encoding, "replace") == "\n"
        # These two make halves of surrogate pairs, which cannot be written.
        one_byte = one_byte and codecs.lookup(encoding).name not in ("utf-7", "raw-unicode-escape")
    except (LookupError, ValueError):
        raise UsageError(f"unknown encoding {encoding!r}; common ones are utf-8, cp1252 and latin-1") from None
    if not one_byte:
        raise UsageError(f"encoding {encoding!r} is not supported; save the file as UTF-8")


def _versions() -> dict[str, str]:
    """Of what the numbers and the text of a result come from."""
    packages = {module.__name__: str(module.__version__) for module in (np, pa, orjson)}
    return {"ddx": __version__, "python": platform.python_version(), **packages}
