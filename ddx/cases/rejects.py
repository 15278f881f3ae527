"""What could not be used of the input, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from ddx.errors import DdxError


@dataclass(frozen=True)
class Reject:
    """``line`` counts the lines of a file, header = 1, or the rows of a frame from 0."""

    line: int
    case_id: str
    column: str
    value: str
    error: str
    message: str

    def cells(self) -> tuple[object, ...]:
        """The cells of a row of the reject table."""
        return astuple(self)

    def __str__(self) -> str:
        place = f"case {self.case_id!r}" if self.case_id else f"line {self.line}"
        return f"{place}, {self.column}: {self.message}" if self.column else f"{place}: {self.message}"


REJECT_COLUMNS = tuple(f.name for f in fields(Reject))


class CaseError(DdxError):
    """Evidence that cannot be used; ``rejects`` lists every offence."""

    def __init__(self, rejects: Sequence[Reject]) -> None:
        self.rejects = tuple(rejects)
        shown = [str(r) for r in self.rejects[:20]]
        if len(self.rejects) > 20:
            shown.append(f"and {len(self.rejects) - 20} more")
        super().__init__("\n".join(shown))
