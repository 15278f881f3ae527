"""The options that describe one case."""

from __future__ import annotations

from typing import Any

from ddx.errors import UsageError


def case_of(
    present: list[str] | None,
    absent: list[str] | None,
    uncertain: list[str] | None,
    measure: list[str] | None,
    context: list[str] | None,
    age: float | None,
    sex: str | None,
) -> dict[str, Any]:
    """The arguments of ``Model.diagnose``."""
    return {
        "present": present or [],
        "absent": absent or [],
        "uncertain": _pairs("--uncertain", uncertain),
        "measurements": _pairs("--measure", measure),
        "age": age,
        "sex": sex,
        "context": _factors(context or []),
    }


def _factors(given: list[str]) -> dict[str, bool]:
    factors: dict[str, bool] = {}
    for text in given:
        name, present = text.removeprefix("no:"), not text.startswith("no:")
        if factors.setdefault(name, present) != present:
            raise UsageError(f"--context: {name} is both present and absent; keep one")
    return factors


def _pairs(option: str, given: list[str] | None) -> dict[str, float]:
    pairs: dict[str, float] = {}
    for text in given or []:
        name, _, value = text.partition("=")
        try:
            number = float("nan" if "_" in value else value)  # Python reads 5_0 as 50; here it is a slip
        except ValueError:
            number = float("nan")
        if number != number:
            raise UsageError(f"{option}: got {text!r}, expected NAME=NUMBER")
        if pairs.setdefault(name, number) != number:
            raise UsageError(f"{option}: {name} is both {pairs[name]:g} and {number:g}; keep one")
    return pairs
