"""Answers for people: tables on standard output, a progress bar on standard error."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ddx.diagnosis import NONE
from ddx.errors import UsageError

if TYPE_CHECKING:
    from ddx.batch import Progress
    from ddx.diagnosis import Diagnosis

SHOWN_CASES = 14
WIDTH = 120


def console() -> Console:
    """Standard output; a fixed width where it is no terminal, so that a file reads the same everywhere."""
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    width = None if sys.stdout.isatty() else WIDTH
    # Case ids and citations are text, not markup.
    return Console(width=width, markup=False, emoji=False, highlight=False)


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A bar on standard error when that is a terminal, nothing otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} rows/s")
    columns = (BarColumn(), DownloadColumn(), rate, TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("score", total=None, rows=0, speed=0.0)

        def show(read: int, size: int | None, rows: int) -> None:
            bar.update(task, completed=read, total=size, rows=rows, speed=rows / max(time.monotonic() - started, 1e-9))

        yield show


def leading_causes(path: str, causes: Sequence[str], scored: int) -> None:
    """The two leading causes of the first cases of a file of posteriors."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("case", "leading cause", "", "second", ""):
        table.add_column(name, no_wrap=bool(name), justify="left" if name else "right")
    table.add_column("none", justify="right")
    with open(path, encoding="utf-8", newline="") as file:
        csv.field_size_limit(1 << 30)  # case ids may be long
        rows = csv.reader(file)
        header = next(rows)
        for row in itertools.islice(rows, SHOWN_CASES):
            cells = dict(zip(header, row, strict=True))
            none = float(cells[NONE])
            values = {cause: float(cells[cause]) for cause in causes}
            first = sorted(values, key=values.__getitem__, reverse=True)[:2]
            shown = [cell for cause in first for cell in (cause, _p(values[cause]))]
            table.add_row(_shown_id(row[0]), *shown, *[""] * (4 - len(shown)), _p(none))
    out = console()
    out.print(table)
    if scored > SHOWN_CASES:
        out.print(f"and {scored - SHOWN_CASES} more cases in {path}")


def diagnosis_table(diagnosis: Diagnosis, top: int, draws: int, seed: int) -> None:
    """The most probable causes, and how well the case is explained."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cause", "ICD-10", "urgency"):
        table.add_column(name)
    for name in ("prior", "posterior", *(["5 %", "95 %"] if draws else [])):
        table.add_column(name, justify="right")
    for row in diagnosis.rows(draws, seed)[:top]:
        numbers = ("prior", "posterior", *(("low", "high") if draws else ()))
        table.add_row(row["label"], row["code"], row["urgency"], *(_p(row[name]) for name in numbers))
    out = console()
    out.print(table)
    kb = diagnosis.model.knowledge
    out.print(
        f"\nnone of these {_p(diagnosis.none_of_these)}, log evidence {round(diagnosis.log_evidence, 2) + 0.0:.2f}",
        highlight=False,
    )
    out.print(f"{kb.name} {kb.version}, setting {diagnosis.model.setting}. {kb.intended_use}")


def diagnosis_json(diagnosis: Diagnosis, draws: int, seed: int) -> None:
    """Everything about the case as one JSON object."""
    kb = diagnosis.model.knowledge
    shown = ("label", "code", "urgency", "prior", "posterior", *(("low", "high") if draws else ()))
    document = {
        "knowledge_base": {"name": kb.name, "version": kb.version, "digest": kb.digest},
        "setting": diagnosis.model.setting,
        "causes": [{"id": row["cause"]} | {name: row[name] for name in shown} for row in diagnosis.rows(draws, seed)],
        "none_of_these": diagnosis.none_of_these,
        "log_evidence": diagnosis.log_evidence,
        "context": diagnosis.context.to_dict(),
        "syndromes": diagnosis.syndromes.dropna().to_dict(),
    }
    print(json.dumps(document, indent=2))


def write_file(content: bytes, target: str) -> None:
    """A file that appears under its name when it is complete and on the disk; - is standard output."""
    from ddx.batch import Target

    file = Target(target, kind="csv").open()  # the kind of table does not matter to bytes
    try:
        file.write(content)
        file.commit()
    except BaseException:
        file.close(keep=False)
        raise


def _shown_id(case: str) -> str:
    """What a terminal can show of a case id."""
    return "".join(c if c.isprintable() else "\ufffd" for c in case[:WIDTH])


def _p(value: float) -> str:
    """A probability with two figures that matter, also near 0 and 1."""
    if value < 0.0005:
        return f"{value:.0e}" if value > 0.0 else "0"
    if value > 0.9995:
        return "1.000"
    return f"{value:.3f}"
