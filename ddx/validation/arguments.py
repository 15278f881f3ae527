"""Refuses arguments of another kind than asked for, before they end in an error of Python or in a wrong number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from ddx.errors import UsageError


def check_posteriors(posteriors: object) -> None:
    """Refuse what is no frame with texts as names of its columns."""
    if not isinstance(posteriors, pd.DataFrame):
        expected = "a data frame with a row per case and a column per cause"
        raise UsageError(f"posteriors: got {_shown(posteriors)}, expected {expected}")
    if posteriors.columns.nlevels > 1:
        expected = "one level with the ids of the causes; flatten them"
        raise UsageError(f"posteriors: got columns of {posteriors.columns.nlevels} levels, expected {expected}")
    for name in posteriors.columns:
        if not isinstance(name, str):
            raise UsageError(f"posteriors: got the column {name!r}, expected the id of a cause as text; rename it")


def cells_of(truth: object) -> list[Hashable]:
    """The cells of a sequence, a Series or another array of one dimension, in their order.

    Raises
    ------
    UsageError
        Anything else: a set has no order, of a dict or a frame only the keys would be read.
    """
    if isinstance(truth, (str, bytes)):
        raise UsageError(f"truth: got the text {truth!r}, expected one text a case")
    if not isinstance(truth, Sequence) and getattr(truth, "ndim", 0) != 1:
        raise UsageError(f"truth: got {_shown(truth)}, expected a sequence or a Series with one cell a case")
    return list(truth)  # type: ignore[call-overload, no-any-return]


def _shown(got: object) -> str:
    """A text or None as it is, of anything else the type."""
    return repr(got) if got is None or isinstance(got, str) else f"a value of type {type(got).__name__}"
