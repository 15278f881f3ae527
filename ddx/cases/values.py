"""What a cell can say."""

from __future__ import annotations

import math
from collections.abc import Hashable

from ddx.knowledge.schema import AGE_MAX

UNKNOWN = frozenset({"", "na", "n/a", "nan", "unknown"})
PRESENT = frozenset({"1", "yes", "true", "present"})
ABSENT = frozenset({"0", "no", "false", "absent"})
_SEX = {"female": "sex_female", "f": "sex_female", "male": "sex_male", "m": "sex_male"}

NAN = math.nan


class BadCell(ValueError):
    """A cell that cannot be read: ``error`` is the short code of the reject table, the text says what to do."""

    def __init__(self, error: str, message: str) -> None:
        self.error = error
        super().__init__(message)


class Twice(str):
    """A cell that was stated twice, and differently; the text shows both."""

    __slots__ = ()


def is_unknown(cell: Hashable) -> bool:
    """Empty, NA, nan, None, NaT or 'unknown' in any case."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return True
    text = str(cell)
    return text.strip().lower() in UNKNOWN or text == "<NA>" or (text == "NaT" and not isinstance(cell, str))


def joined(cell: object) -> object:
    """A list of ids (a tuple, set or array of them) as the text that holds them, separated by ';'; any other cell as it is."""
    if not isinstance(cell, (list, tuple, set, frozenset)) and getattr(cell, "ndim", 0) != 1:
        return cell
    return ";".join(str(name) for name in cell if not is_unknown(name))  # type: ignore[attr-defined]


def reading(cell: Hashable) -> float:
    """1 present, 0 absent, nan unknown, or a probability of virtual evidence.

    Raises
    ------
    BadCell
        Anything else.
    """
    if is_unknown(cell):
        return NAN
    word = str(cell).strip().lower()
    if word in PRESENT:
        return 1.0
    if word in ABSENT:
        return 0.0
    value = _number(str(cell).strip(), "1/yes/true/present, 0/no/false/absent, a number from 0 to 1, or empty")
    if not 0.0 <= value <= 1.0:
        raise BadCell("out_of_range", f"got {str(cell).strip()}, expected a number from 0 to 1")
    return value


def both(cell: Hashable, other: Hashable) -> Hashable:
    """The cell that two statements about one id make: an unknown one says nothing, and 1 and yes say the same."""
    if is_unknown(other) or cell == other:
        return cell
    if is_unknown(cell):
        return other
    for words in (PRESENT, ABSENT):
        if {str(cell).strip().lower(), str(other).strip().lower()} <= words:
            return cell
    return Twice(f"{cell} and {other}")


def age(cell: Hashable) -> float:
    """Years, nan when unknown."""
    if is_unknown(cell):
        return NAN
    value = _number(str(cell).strip(), "an age in years, or empty")
    if not 0.0 <= value <= AGE_MAX:
        raise BadCell("implausible_age", f"got {value:g}, expected an age from 0 to {AGE_MAX:g} years")
    return value


def sex(cell: Hashable) -> str | None:
    """Id of the sex, None when unknown."""
    if is_unknown(cell):
        return None
    word = str(cell).strip().lower().removeprefix("sex_")
    if word not in _SEX:
        raise BadCell("not_a_value", f"got {str(cell).strip()!r}, expected female, male, or empty")
    return _SEX[word]


def measured(cell: Hashable, unit: str, plausible: tuple[float, float]) -> float:
    """A measurement in its unit, nan when unknown."""
    if is_unknown(cell):
        return NAN
    value = _number(str(cell).strip(), f"a number in {unit}, or empty")
    low, high = plausible
    if not low <= value <= high:
        raise BadCell("implausible_value", f"got {value:g} {unit}, plausible is {low:g} to {high:g} {unit}; check the unit")
    return value


def _number(text: str, expected: str) -> float:
    # float() takes underscores, as in Python source; in a table they are a slip.
    try:
        value = NAN if "_" in text else float(text)
    except ValueError:
        value = NAN
    if not math.isfinite(value):
        raise BadCell("not_a_value", f"got {text!r}, expected {expected}")
    return value
