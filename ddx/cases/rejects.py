"""What could not be used of the input, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ddx.errors import DdxError, cut

_SHOWN = 1000  # characters of a message for people; a cell may have millions


@dataclass(frozen=True)
class Reject:
    """``line`` counts the lines of a file, header = 1, or the rows of a frame from 0; -1 for a case that stands alone.

    ``original`` : the row as the source has it, where it comes from a file
    """

    line: int
    case_id: str
    column: str
    value: str
    error: str
    message: str
    original: str = ""

    def from_row(self, original: str) -> Reject:
        """The same with the row that it is from."""
        return Reject(self.line, self.case_id, self.column, self.value, self.error, self.message, original)

    def cells(self) -> tuple[object, ...]:
        """The cells of a row of the reject table."""
        return self.line, self.case_id, self.column, self.value, self.error, self.message, self.original

    def __str__(self) -> str:
        line = f"line {self.line}" if self.line >= 0 else ""
        case = f"case {self.case_id!r}" if self.case_id and self.case_id != str(self.line) else ""
        column = self.column if self.column.isprintable() else repr(self.column)
        place = ", ".join(filter(None, [line, case, column]))
        message = cut(self.message, _SHOWN)
        return f"{place}: {message}" if place else message


REJECT_COLUMNS = tuple(f.name for f in fields(Reject))


class CaseError(DdxError):
    """Evidence that cannot be used; ``rejects`` lists every offence."""

    def __init__(self, rejects: Sequence[Reject]) -> None:
        self.rejects = tuple(rejects)
        shown = [str(r) for r in self.rejects[:20]]
        if len(self.rejects) > 20:
            shown.append(f"and {len(self.rejects) - 20} more")
        super().__init__("\n".join(shown))

    def __reduce__(self) -> tuple[type[CaseError], tuple[tuple[Reject, ...]]]:
        return type(self), (self.rejects,)
