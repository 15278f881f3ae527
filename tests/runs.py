"""Runs of score_file whose books are checked: rows in = scored + rejected, every reject with its reason and its row."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ddx
from ddx.batch import lines, sources

NUMBERS = ["stroke", "neuropathy", "myopathy", "low_sugar", "anaemia", "none_of_these", "log_evidence"]
REJECTS = ["line", "case_id", "column", "value", "error", "message", "original"]


@dataclass
class Outcome:
    """What a run left: posteriors by case id, rejects, and the bytes of both files; or what it said instead."""

    report: ddx.ScoreReport | None
    posteriors: dict[str, tuple[float, ...]]
    rejects: list[dict[str, str]]
    bytes: tuple[bytes, bytes]
    refusal: str = ""

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(reject["line"], reject["error"]) for reject in self.rejects]


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert {len(row) for row in rows} <= {len(header)}
    return header, rows


def score(folder: Path, model: ddx.Model, data: bytes, name: str = "cases.csv", **options: Any) -> Outcome:
    """Score some bytes, and check everything that is true of every run in strict mode."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target, side = folder / name, folder / "out.csv", folder / "out.rejects.csv"
    source.write_bytes(data)
    try:
        report = ddx.score_file(source, target, model, **options)
    except ddx.UsageError as error:
        refusal = str(error).replace(f"{folder}/", "")
    else:
        refusal = ""
    if refusal:
        assert {path.name for path in folder.iterdir()} == {name}, "a refused file leaves nothing"
        assert "\n" not in refusal
        return Outcome(None, {}, [], (b"", b""), refusal)
    made = {name, "out.csv", "out.csv.meta.json", *(["out.rejects.csv"] if side.exists() else [])}
    assert {path.name for path in folder.iterdir()} == made
    header, rows = read_csv(target)
    assert header == ["case_id", *NUMBERS]
    posteriors = {row[0]: tuple(map(float, row[1:])) for row in rows}
    assert len(posteriors) == len(rows) == report.scored
    rejects: list[dict[str, str]] = []
    if side.exists():
        header, refused = read_csv(side)
        assert header == REJECTS
        rejects = [dict(zip(header, row, strict=True)) for row in refused]
    assert all(reject["error"] and reject["message"] for reject in rejects)
    assert [int(reject["line"]) for reject in rejects] == sorted(int(reject["line"]) for reject in rejects)
    assert report.rows == report.scored + report.rejected
    if not options.get("lenient"):
        assert len({reject["line"] for reject in rejects}) == report.rejected, "a row is rejected once or scored"
        assert all(reject["original"] for reject in rejects)
    meta = json.loads((folder / "out.csv.meta.json").read_text(encoding="utf-8"))
    assert [meta[key] for key in ("rows", "scored", "rejected")] == [report.rows, report.scored, report.rejected]
    return Outcome(report, posteriors, rejects, (target.read_bytes(), side.read_bytes() if side.exists() else b""))


def expected(model: ddx.Model, cells: dict[str, Any]) -> tuple[float, ...] | None:
    """The answer of Model.score for one row; None where it refuses."""
    frame = pd.DataFrame([cells], dtype=object)
    try:
        return tuple(model.score(frame)[NUMBERS].iloc[0])
    except ddx.CaseError:
        return None


def expected_of_table(model: ddx.Model, header: list[str], rows: list[list[str]]) -> dict[str, tuple[float, ...]]:
    """Posteriors of a table, row by row, the ids looked after here."""
    found: dict[str, tuple[float, ...]] = {}
    seen = set()
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        case = cells.pop("case_id").strip()
        if case.lower() in ("", "na", "n/a", "nan", "unknown") or case == "<NA>" or case in seen:
            continue
        seen.add(case)
        answer = expected(model, cells)
        if answer is not None:
            found[case] = answer
    return found


@contextmanager
def chunked(rows: int = 8192, block: int = 1 << 22, longest: int | None = None, *, csv_module: bool = False):
    """Other sizes of blocks and chunks, and the csv module for all of CSV."""
    limit = csv.field_size_limit()  # which CsvRows sets, and knowledge bases have cells as well
    with pytest.MonkeyPatch.context() as patch:
        for module in (lines, sources):
            patch.setattr(module, "ROWS", rows)
            patch.setattr(module, "BLOCK_BYTES", block)
            if longest:
                patch.setattr(module, "MAX_ROW", longest)
        if csv_module:
            patch.setattr(lines.CsvRows, "_is_plain", lambda *_: False)
        try:
            yield
        finally:
            csv.field_size_limit(limit)
