"""What of a knowledge base could not be read or used: what is missing because of it is no problem of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ddx.knowledge.schema import Study

# quantity of a study row -> kind of the parameter that is missing without it; the others are missed by nobody
_GIVES = {
    "prevalence": "prior",
    "incidence": "prior",
    "sensitivity": "link",
    "false_positive_rate": "leak",
    "specificity": "leak",
    "population_frequency": "leak",
    "context_prevalence": "context",
    "population_share": "population",
} | dict.fromkeys(("share", "odds_ratio", "relative_risk", "crude_ratio", "context_given_cause"), "")


@dataclass
class Unread:
    """Filled while the files are read, asked by the checks.

    ``files`` : tables that are none, or have no rows. ``partial`` : tables of which some rows could not be read; ``nameless`` :
    those of which not even the ids of these rows are known. ``ids`` : of such rows. ``rows`` : the words of study rows that
    could not be read or used, the empty one among them.
    """

    files: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)
    nameless: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    rows: list[frozenset[str]] = field(default_factory=list)
    _of_word: dict[str, list[frozenset[str]]] = field(default_factory=lambda: defaultdict(list))

    def add_cells(self, cells: Iterable[str]) -> None:
        """A study row that could not be read; which cell belongs to which column need not be known."""
        words = frozenset(part.strip() for cell in cells for part in cell.split(";")) | {""}
        self.rows.append(words)
        for word in words:
            self._of_word[word].append(words)

    def add_study(self, study: Study) -> None:
        """A study row that could not be used."""
        self.add_cells((study.quantity, study.cause, study.finding, study.context))

    def unknown(self, *files: str) -> bool:
        """Whether ids of these tables may exist that nobody has read."""
        return not (self.files | self.nameless).isdisjoint(files)

    def count(self, kind: str, *names: str) -> int:
        """Study rows among ``rows`` that may give a parameter of this kind with all these names in its id."""
        candidates = min((self._of_word.get(name, []) for name in names or ("",)), key=len)
        return sum(kind in _kinds(words) and words.issuperset(names) for words in candidates)


def _kinds(words: frozenset[str]) -> set[str]:
    return {_GIVES[word] for word in words if word in _GIVES} or set(_GIVES.values())
