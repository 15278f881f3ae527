"""Sets of parameter values: what a parameter draw, or a what-if question, puts in place of the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddx.errors import UsageError, between, nearest
from ddx.inference.network import Floats, Ints
from ddx.knowledge import KnowledgeBase, Parameter


class Values:
    """S sets of values of all parameters of a knowledge base; ``table`` (S, P) has its parameters as columns."""

    def __init__(self, kb: KnowledgeBase, table: Floats) -> None:
        self.knowledge, self.table, self._place = kb, table, places(kb)

    @classmethod
    def of(cls, kb: KnowledgeBase, sets: Sequence[Mapping[str, float]]) -> Values:
        """Sets that name some parameters; the others have their means. A link or a leak may be 0: there is none.

        Raises
        ------
        UsageError
            An unknown parameter, or a value that it cannot have.
        """
        place = places(kb)
        table = np.tile(_means(kb), (len(sets), 1))
        for s, one in enumerate(sets):
            for name, value in one.items():
                if name not in place:
                    raise UsageError(f"unknown parameter {name!r}{nearest(name, place)}")
                if not (name.startswith(("link:", "leak:")) and value == 0):
                    check_value(name, value)
                table[s, place[name]] = value
        return cls(kb, table)

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, parameter: str) -> bool:
        return parameter in self._place

    @property
    def moved(self) -> NDArray[np.bool_]:
        """(S, P) which values are not the means."""
        return np.asarray(self.table != _means(self.knowledge))

    @property
    def kinds_moved(self) -> set[str]:
        """Kinds of the parameters ("link", "or", ...) that are not at their means in some set."""
        names = list(self._place)
        return {names[i].partition(":")[0] for i in np.flatnonzero(self.moved.any(axis=0))}

    def columns(self, parameters: Sequence[str], missing: float = np.nan) -> Floats:
        """Values (S, n) of some parameters, ``missing`` for those that the knowledge base does not have."""
        return self.at(np.array([self._place.get(p, -1) for p in parameters], dtype=np.intp), missing)

    def at(self, place: Ints, missing: float) -> Floats:
        """Values (S, ...) at columns of the table (...), ``missing`` where that is -1."""
        found: Floats = self.table[:, place]
        if (place < 0).any():
            found[:, place < 0] = missing
        return found


def check_value(parameter: str, value: object) -> None:
    """Refuse what is no value of a parameter: an odds ratio is above 0, everything else a probability inside (0, 1)."""
    between(parameter, value, np.inf if parameter.startswith("or:") else 1.0)


def inside(parameter: Parameter, values: Floats) -> Floats:
    """Values of a parameter, kept off 0 and 1 unless it is an odds ratio.

    A Beta with a small shape can round to its ends, and the log-normal law of an incidence times its window has no end.
    """
    return values if parameter.id.startswith("or:") else np.clip(values, 1e-12, 1.0 - 1e-12)


def spread_of(parameter: Parameter) -> float:
    """Standard deviation on the scale that the parameter was pooled on: log odds of a Beta, logarithm of a log-normal."""
    if parameter.distribution == "log_normal":
        return parameter.second
    p = parameter.value
    # The inverse of the delta method that made the Beta (ddx.knowledge.pooling).
    return float((p * (1.0 - p) * (parameter.first + parameter.second + 1.0)) ** -0.5)


@lru_cache(maxsize=8)
def _means(kb: KnowledgeBase) -> Floats:
    return np.array(list(kb.means.values()), dtype=np.float64)


@lru_cache(maxsize=8)
def places(kb: KnowledgeBase) -> Mapping[str, int]:
    """Parameter id -> column."""
    return {name: i for i, name in enumerate(kb.parameters)}
