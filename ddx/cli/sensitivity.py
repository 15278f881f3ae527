"""``ddx sensitivity``: which parameters matter, of one case or over a file of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddx.batch import STREAM, check_target
from ddx.cli.show import console, write_file
from ddx.cli.validation import table
from ddx.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ddx.diagnosis import Model


def show_case(
    model: Model,
    case: Mapping[str, Any],
    target: str | None,
    level: float,
    top: int,
    flips: bool,
    output: str | None,
    plot: str | None,
) -> None:
    """One-way sensitivity of a case, and what would change its leading cause."""
    from ddx import sensitivity
    from ddx.sensitivity.case import cause_index

    if output is not None:
        check_target(STREAM, output, only_csv=True)
    if flips and output == STREAM:
        raise UsageError("--flips is shown on standard output, where --output - writes its table; name a file for that")
    if plot is not None:
        _check_plot(plot)
    diagnosis = model.diagnose(**case)
    watched = str(diagnosis.posterior.index[0])
    if target is not None:
        watched = model.network.causes[cause_index(model, target)]
    found = sensitivity.one_way(model, diagnosis, watched, level=level)
    if output is not None:
        write_file(_csv(found), output)
    if plot is not None:
        _draw(found, float(diagnosis.posterior[watched]), top, f"P({watched})", plot)
    if output != STREAM:
        kb, out = model.knowledge, console()
        out.print(f"P({watched}) = {_g(diagnosis.posterior[watched])}. {kb.name} {kb.version}, setting {model.setting}.\n")
        rows = [
            [
                str(name),
                _g(row["value"]),
                f"{_g(row['low'])} to {_g(row['high'])}",
                f"{_g(row['at_low'])} to {_g(row['at_high'])}",
                _g(row["swing"]),
                _sources(row["sources"]),
            ]
            for name, row in zip(found.index, found.head(top).to_dict("records"), strict=False)
        ]
        interval = f"{100 * level:g} % interval"
        out.print(table(["parameter", "value", interval, "posterior there", "swing", "sources"], rows, ["sources"]))
    if flips:
        _flips(sensitivity.flips(model, diagnosis).head(top))


def _flips(changes: pd.DataFrame) -> None:
    from ddx.sensitivity import LEADING

    out = console()
    out.print()
    if changes.empty:
        out.print("No parameter alone changes the leading cause or crosses a threshold within 4 standard deviations.")
        return
    rows = [
        [
            str(name),
            _g(row["value"]),
            _g(row["needed"]),
            f"{row['deviations']:+.2f}",
            f"{row['cause']} {'leads' if row['change'] == LEADING else 'crosses its threshold'}",
        ]
        for name, row in zip(changes.index, changes.to_dict("records"), strict=True)
    ]
    out.print(table(["parameter", "value", "needed", "deviations", "then"], rows, ["then"]))


def show_file(model: Model, cases: str, level: float, top: int, output: str | None, encoding: str) -> int:
    """The summary of a file of cases; how many rows were rejected."""
    from ddx.sensitivity.files import summarize_file

    if output is not None:
        check_target(cases, output, only_csv=True)
    found = summarize_file(cases, model, level=level, encoding=encoding)
    if output is not None:
        write_file(_csv(found.table), output)
    if output != STREAM:
        rows = [
            [
                str(name),
                *(_g(row[column]) for column in ("mean_swing", "worst_swing")),
                *(str(row[column]) for column in ("worst_case", "flips")),
                _sources(row["sources"]),
            ]
            for name, row in zip(found.table.index, found.table.head(top).to_dict("records"), strict=False)
        ]
        header = ["parameter", "mean swing", "worst swing", "in case", "flips", "sources"]
        console().print(table(header, rows, ["in case", "sources"]))
    for reject in found.rejects:
        print(reject, file=sys.stderr)
    print(f"{found.scored} cases, {found.rejected} rejected", file=sys.stderr)
    return found.rejected


def _csv(found: pd.DataFrame) -> bytes:
    return found.to_csv(lineterminator="\n").encode()


def _check_plot(target: str) -> None:
    """Refuse a picture that cannot be made before any work is done."""
    from importlib.util import find_spec

    path = Path(target)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{target}: unknown picture format {path.suffix!r}; write to a .png, .svg or .pdf file")
    if not path.parent.is_dir():
        raise UsageError(f"{target}: the directory {path.parent} does not exist; make it first")
    if find_spec("matplotlib") is None:
        raise UsageError('--plot: pictures need matplotlib: pip install "ddx[plots]"')


def _draw(found: pd.DataFrame, posterior: float, top: int, title: str, target: str) -> None:
    """A tornado diagram that appears under its name when it is complete."""
    from ddx.plots import tornado

    picture = io.BytesIO()
    tornado(found, posterior, top, title).savefig(picture, format=Path(target).suffix[1:])
    write_file(picture.getvalue(), target)


def _sources(sources: str) -> str:
    first, *others = sources.split(";")
    return f"{first} and {len(others)} more" if others else first


def _g(value: float) -> str:
    return f"{value:.3g}"
