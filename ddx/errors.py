"""Errors that a user can act on: each says what is wrong, where, what is allowed, and what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real


class DdxError(Exception):
    """Base of every error that ddx raises on purpose."""


class UsageError(DdxError):
    """A request that cannot be carried out: unknown id, contradictory evidence, unusable file."""


@dataclass(frozen=True)
class Problem:
    """One defect of a knowledge base: where, what, got, allowed."""

    file: str
    row: int | None
    column: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{place}.{self.column}: {self.message}" if self.column else f"{place}: {self.message}"


class KnowledgeError(DdxError):
    """A knowledge base with defects; ``problems`` holds all of them."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.name, self.problems = name, tuple(problems)
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        super().__init__("\n".join([f"knowledge base {name}: {count}", *map(str, problems)]))

    def __reduce__(self) -> tuple[type[KnowledgeError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.name, self.problems)


def nearest(unknown: object, known: Iterable[str], n: int = 3) -> str:
    """'; nearest: a, b' for an unknown id, or '' when nothing is near, as to what is no text."""
    if not isinstance(unknown, str) or len(unknown) > 100:  # no slip of the finger, and long texts take long
        return ""
    near = difflib.get_close_matches(unknown.strip().lower().replace(" ", "_").replace("-", "_"), list(known), n=n, cutoff=0.6)
    return f"; nearest: {', '.join(near)}" if near else ""


def cut(text: str, length: int) -> str:
    """The beginning of a long text for people."""
    return text if len(text) <= length else f"{text[:length]}..."


def whole(name: str, number: object, least: int | None = None) -> None:
    """Refuse what is no whole number, or below ``least``; ``name`` : of the argument."""
    if type(number) is bool or not isinstance(number, Integral):
        raise UsageError(f"{name}: got {number!r}, expected a whole number")
    if least is not None and number < least:
        raise UsageError(f"{name}: got {number}, expected {least} or more")


def between(name: str, number: object, high: float = 1.0) -> None:
    """Refuse what is no number above 0 and below ``high``; ``name`` : of the argument."""
    if not isinstance(number, Real) or not 0.0 < float(number) < high:
        got = f"{float(number):g}" if isinstance(number, Real) else repr(number)
        allowed = "above 0" if high == math.inf else f"inside (0, {high:g})"
        raise UsageError(f"{name}: got {got}, expected a number {allowed}")
