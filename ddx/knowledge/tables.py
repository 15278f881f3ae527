"""CSV tables with a declared column for everything: one pass reads a file and collects every problem in it."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ddx.errors import Problem, nearest
from ddx.knowledge.unread import Unread

Convert = Callable[[str], Any]

STUDIES = "studies.csv"
# More than there are people; whole numbers of any length fit no float.
MOST = 10**12

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_WHOLE = re.compile(r"[+-]?[0-9]+")
# White space among them breaks lines at worst; the others end texts (NUL) or command terminals (ESC).
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def text(cell: str) -> str:
    """Anything."""
    return cell


def required(cell: str) -> str:
    """Anything but nothing."""
    if not cell:
        raise ValueError("got an empty cell, expected text")
    return cell


def identifier(cell: str) -> str:
    """snake_case, starting with a letter."""
    if not _IDENTIFIER.fullmatch(cell):
        raise ValueError(f"got {cell!r}, expected a snake_case id")
    return cell


def names(cell: str) -> tuple[str, ...]:
    """Ids separated by ';'."""
    return tuple(identifier(part.strip()) for part in cell.split(";") if part.strip())


def number(cell: str) -> float:
    """A finite number, in the digits 0 to 9."""
    try:
        if "_" in cell or not cell.isascii():
            raise ValueError
        value = float(cell)
    except ValueError:
        raise ValueError(f"got {cell!r}, expected a number") from None
    if not math.isfinite(value):
        raise ValueError(f"got {cell!r}, expected a finite number")
    return value


def count(cell: str) -> int:
    """A whole number from 0 to ``MOST``, in the digits 0 to 9."""
    if not _WHOLE.fullmatch(cell):
        raise ValueError(f"got {cell!r}, expected a whole number")
    digits = cell.lstrip("+-0")
    if len(digits) > len(str(MOST)) or int(digits or 0) > MOST:
        raise ValueError(f"got a number of {len(digits)} digits, expected at most {MOST}")
    if digits and cell.startswith("-"):
        raise ValueError(f"got {cell!r}, expected 0 or more")
    return int(digits or 0)


def numbers(cell: str) -> tuple[float, ...]:
    """Numbers separated by semicolons."""
    return tuple(number(part.strip()) for part in cell.split(";"))


def optional(convert: Convert) -> Convert:
    """None for an empty cell."""
    return lambda cell: convert(cell) if cell else None


def choice(*allowed: str) -> Convert:
    """One of the words."""

    def convert(cell: str) -> str:
        if cell not in allowed:
            raise ValueError(f"got {cell!r}, allowed: {', '.join(a or '(empty)' for a in allowed)}")
        return cell

    return convert


def control_characters(content: str) -> Iterator[str]:
    """A message where a text has control characters that are no white space."""
    if found := _CONTROL.search(content):
        yield f"got the control character {found[0]!r} in a text"


def read_table(
    path: Path, columns: dict[str, Convert], problems: list[Problem], unread: Unread
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and converted cells of every row without a problem.

    Problems are appended to ``problems``, and what could not be read is noted in ``unread``. The header must hold exactly
    ``columns``, in any order.
    """
    file = path.name
    unread.files.add(file)
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem(file, None, "", "file is missing"))
        return
    except OSError as error:
        problems.append(Problem(file, None, "", f"cannot be read: {error.strerror}"))
        return
    except UnicodeDecodeError as error:
        problems.append(Problem(file, None, "", f"not UTF-8: byte {error.start}"))
        return
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, [])
        if not header:
            problems.append(Problem(file, None, "", f"got an empty file, expected the columns {', '.join(columns)}"))
            return
        if not _header_fits(file, header, columns, problems):
            return
        line = reader.line_num + 1
        suspect = _CONTROL.search(content) is not None
        for cells in reader:
            if cells:
                yield from _row(file, line, header, cells, columns, suspect, problems, unread)
            line = reader.line_num + 1
        unread.files.remove(file)
    except csv.Error as error:
        problems.append(Problem(file, reader.line_num, "", f"not valid CSV: {error}"))


def _header_fits(file: str, header: Sequence[str], columns: dict[str, Convert], problems: list[Problem]) -> bool:
    found = len(problems)
    for column in header:
        if column not in columns:
            problems.append(Problem(file, 1, column, f"unknown column{nearest(column, columns)}"))
        elif header.count(column) > 1 and not any(p.column == column and p.file == file for p in problems):
            problems.append(Problem(file, 1, column, "column stands twice"))
    problems += [Problem(file, 1, column, "column is missing") for column in columns if column not in header]
    return len(problems) == found


def _row(
    file: str,
    line: int,
    header: Sequence[str],
    cells: Sequence[str],
    columns: dict[str, Convert],
    suspect: bool,
    problems: list[Problem],
    unread: Unread,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The row if it can be used; ``suspect``: its file has control characters somewhere."""
    row: dict[str, Any] = {}
    if len(cells) != len(header):
        problems.append(Problem(file, line, "", f"got {len(cells)} cells, expected {len(header)}"))
    for column, cell in zip(header, cells, strict=True) if len(cells) == len(header) else ():
        try:
            for message in control_characters(cell) if suspect else ():
                raise ValueError(message)
            row[column] = columns[column](cell.strip())
        except ValueError as error:
            problems.append(Problem(file, line, column, str(error)))
    if len(row) == len(header):
        yield line, row
        return
    unread.partial.add(file)
    place = header.index("id")
    name = cells[place].strip() if place < len(cells) else ""
    unread.ids.add(name)
    if not _IDENTIFIER.fullmatch(name):
        unread.nameless.add(file)
    if file == STUDIES:
        unread.add_cells(cells)
