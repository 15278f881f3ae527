"""``ddx simulate`` and ``ddx evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ddx.cases import REJECT_COLUMNS
from ddx.cli.show import console
from ddx.errors import UsageError

if TYPE_CHECKING:
    from ddx.diagnosis import Model
    from ddx.validation import Evaluation, Report

_NAMES = {
    "top_1": "truth ranks first",
    "top_3": "truth among the first 3",
    "top_5": "truth among the first 5",
    "log_score": "log score",
    "brier": "Brier score",
    "calibration_error": "calibration error, all posteriors",
    "calibration_error_by_chance": "... by chance alone",
    "leading_calibration_error": "calibration error, leading cause",
    "leading_calibration_error_by_chance": "... by chance alone",
}


def fractions(given: Sequence[str]) -> float | dict[str, float]:
    """``--observed``: one number for all findings, or KIND=NUMBER for some kinds."""
    from ddx.validation.simulation import OBSERVED

    if not given:
        return OBSERVED
    values: dict[str, float] = {}
    for text in given:
        kind, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise UsageError(f"--observed: got {text!r}, expected a number, or KIND=NUMBER")
        if values.setdefault(kind, value) != value:
            raise UsageError(f"--observed: {kind or 'all kinds'} got both {values[kind]:g} and {value:g}; keep one")
    if "" in values and len(values) > 1:
        raise UsageError("--observed: got a number for all kinds and numbers for single ones; give one or the other")
    return values.get("", values)


def evaluation_tables(found: Evaluation, model: Model) -> None:
    """The measures, then those of every cause that is true somewhere, then the reliability table."""
    report = found.report
    out = console()
    kb = model.knowledge
    without = f", {report.without_cause} without any" if report.without_cause else ""
    out.print(f"{report.cases} cases, {report.items} true causes{without}. {kb.name} {kb.version}, setting {model.setting}.\n")
    measured = report.overall.loc[list(_NAMES)].to_numpy().tolist()
    rows = [[title, *map(_number, row)] for title, row in zip(_NAMES.values(), measured, strict=True)]
    out.print(table(["measure", "value", "2.5 %", "97.5 %"], rows, ["..."]))
    out.print()
    causes = report.per_cause[report.per_cause["true"] > 0].sort_values("true", ascending=False, kind="stable")
    columns = ["expected", "top_1", "top_3", "top_5", "posterior", "log_score", "brier", "calibration_error"]
    numbers = causes[columns].to_numpy().tolist()
    rows = [
        [cause, str(true), *map(_number, row)]
        for cause, true, row in zip(causes.index.tolist(), causes["true"].tolist(), numbers, strict=True)
    ]
    titles = ["true", "expected", "first", "first 3", "first 5", "posterior", "log score", "Brier", "calibration"]
    out.print(table(["cause", *titles], rows))
    out.print()
    rows = [_bin(row) for row in report.reliability[report.reliability["count"] > 0].to_dict("records")]
    out.print(table(["posterior", "count", "mean", "true", "2.5 %", "97.5 %"], rows))


def evaluation_json(found: Evaluation, model: Model) -> None:
    """All measures and the rejects as one JSON object; what is not a finite number is null."""
    report, kb = found.report, model.knowledge
    document: dict[str, Any] = {
        "knowledge_base": {"name": kb.name, "version": kb.version, "digest": kb.digest},
        "setting": model.setting,
        "rows": found.rows,
        "scored": found.scored,
        "rejected": found.rejected,
        "cells_dropped": found.cells_dropped,
        # Without the original rows.
        "rejects": [dict(zip(REJECT_COLUMNS[:-1], reject.cells()[:-1], strict=True)) for reject in found.rejects],
        **_document(report),
    }
    print(json.dumps(finite(document), indent=2, allow_nan=False))


def _document(report: Report) -> dict[str, Any]:
    return {
        "items": report.items,
        "without_cause": report.without_cause,
        "overall": report.overall.to_dict("index"),
        "per_cause": report.per_cause.to_dict("index"),
        "reliability": report.reliability.to_dict("records"),
        "leading_reliability": report.leading_reliability.to_dict("records"),
        "by_item": report.by_item.to_dict("records"),
    }


def finite(value: Any) -> Any:
    """Plain Python values for JSON; nan and infinities become None."""
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> Table:
    """A table whose first column, and those named in ``left``, are texts, the others numbers; in a narrow place texts fold."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(header):
        text = position == 0 or name in left
        made.add_column(name, no_wrap=not text, overflow="fold", justify="left" if text else "right")
    for row in rows:
        made.add_row(*row)
    return made


def _bin(row: Mapping[Any, Any]) -> list[str]:
    numbers = (row[name] for name in ("mean", "frequency", "frequency_low", "frequency_high"))
    return [f"{row['low']:.2g} to {row['high']:.2g}", str(row["count"]), *map(_number, numbers)]


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0.0 else f"{value:.0e}"
