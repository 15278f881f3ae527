"""What must hold between the numbers of one study row."""

from __future__ import annotations

from collections.abc import Iterator

from ddx.knowledge.parameters import RATIOS
from ddx.knowledge.schema import Study

# Ratios and incidences (episodes a person-year) lie well inside these ranges; what is outside is a slip, which pooling on the
# logarithm would hide. Ends of intervals may lie further out by ``_FURTHER``, and the lower one at 0.
_RANGE = {"incidence": (1e-12, 1e3)} | dict.fromkeys((*RATIOS, "crude_ratio"), (1e-4, 1e4))
_FURTHER = 1e4


def number_problems(study: Study) -> Iterator[tuple[str, str]]:
    """Column and message of every number that does not fit the quantity of the row, or another number of it."""
    yield from _value_problems(study)
    yield from _interval_problems(study)
    yield from _count_problems(study)


def _value_problems(study: Study) -> Iterator[tuple[str, str]]:
    if study.quantity in _RANGE:
        least, most = _RANGE[study.quantity]
        if study.value <= 0.0:
            yield "value", f"got {study.value:g}, expected a number above 0"
        elif not least <= study.value <= most:
            yield "value", f"got {study.value:g}, expected {study.quantity} between {least:g} and {most:g}"
    elif not 0.0 <= study.value <= 1.0:
        yield "value", f"got {study.value:g}, expected a probability"
    elif study.value in (0.0, 1.0) and not study.denominator:
        yield "value", f"got {study.value:g} without a denominator: certainty needs a count, else a value inside (0, 1)"


def _interval_problems(study: Study) -> Iterator[tuple[str, str]]:
    low, high = study.low, study.high
    if low is None or high is None:
        if low is not high:
            yield "low", "low and high come together"
        elif study.interval:
            yield "interval", f"got {study.interval!r} without low and high"
        return
    ratio = study.quantity in _RANGE
    least, most = _RANGE.get(study.quantity, (0.0, 0.0))
    if low < 0.0 or (high > 1.0 and not ratio):
        bound, limit = ("low", low) if low < 0.0 else ("high", high)
        yield bound, f"got {limit:g}, expected {'0 or more' if ratio else 'a probability'}"
    elif not low <= study.value <= high:
        yield "low", f"got {low:g} to {high:g}, which does not hold the value {study.value:g}"
    elif low == high:
        yield "low", "the interval has no width"
    elif not ratio and (low, high) == (0.0, 1.0):
        yield "low", "got 0 to 1, which every probability is in: narrow the interval, or leave it out"
    elif ratio and (high > most * _FURTHER or 0.0 < low < least / _FURTHER):
        bound, limit = ("high", high) if high > most * _FURTHER else ("low", low)
        expected = f"expected {study.quantity} between {least / _FURTHER:g} and {most * _FURTHER:g}"
        yield bound, f"got {limit:g}, {expected}{' (or 0)' if bound == 'low' else ''}"


def _count_problems(study: Study) -> Iterator[tuple[str, str]]:
    x, n = study.numerator, study.denominator
    if study.counts and n is None:
        yield "counts", f"got {study.counts!r} without a denominator"
    if study.counts == "reported" and x is None:
        yield "numerator", "got an empty cell, counts = reported needs one"
    if x is not None and n is not None and not study.counts:
        yield "counts", "got an empty cell beside a numerator and a denominator, expected reported or derived"
    if n == 0:
        yield "denominator", f"got {n}, expected a number above 0"
    if study.quantity == "incidence":
        if x == 0:
            yield "numerator", "got 0 episodes, which bound a rate and make none: leave it empty and give low and high"
    elif x is not None and n is None:
        yield "denominator", "got an empty cell beside a numerator"
    elif x is not None and n:
        if x > n:
            yield "numerator", f"got {x} of {n}"
        elif abs(x / n - study.value) > 0.005 + 0.5 / n:
            yield "value", f"got {study.value:g}, the counts {x}/{n} make {x / n:.4g}"
