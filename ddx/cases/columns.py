"""The columns of a table of cases: what each one means, checked before any row is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ddx.errors import UsageError, cut, nearest
from ddx.knowledge import KnowledgeBase

CASE_ID = "case_id"
LISTS = ("present", "absent", "context")
# Columns that describe a case without being evidence; they are ignored.
ANNOTATIONS = ("final_diagnosis", "citation", "url", "note")
SPECIAL = (CASE_ID, "age", "sex", *LISTS, *ANNOTATIONS)


@dataclass(frozen=True)
class Column:
    """``kind``: case_id, age, sex, present, absent, context, annotation, unknown, finding, risk_factor or measurement."""

    name: str
    kind: str
    id: str


def interpret(header: Sequence[str], kb: KnowledgeBase, lenient: bool | None = None) -> tuple[Column, ...]:
    """The meaning of every column.

    ``lenient`` keeps unknown columns, as kind "unknown", to be ignored; None: the caller has no lenient reading to offer.

    Raises
    ------
    UsageError
        Empty, duplicated or unknown column names.
    """
    columns: list[Column] = []
    owner: dict[tuple[str, str], str] = {}
    for position, raw in enumerate(header, 1):
        name = str(raw).strip()
        if not name:
            raise UsageError(f"column {position} has no name; name it or take it out")
        column = _meaning(name, kb, lenient)
        key = (column.kind, column.id)
        if key in owner and column.kind not in ("annotation", "unknown"):
            earlier = owner[key]
            detail = "" if earlier == name else f": columns {earlier!r} and {name!r} both mean {column.id}"
            raise UsageError(f"duplicate column {name!r}{detail}; keep one")
        owner[key] = name
        columns.append(column)
    return tuple(columns)


def check_separator(header: Sequence[str]) -> None:
    """Refuse a table whose cells are separated by something else than commas.

    Raises
    ------
    UsageError
        There is one column, and its name holds another separator.
    """
    separator = next((s for s in (";", "\t", "|") if s in header[0]), "") if len(header) == 1 else ""
    if separator:
        raise UsageError(f"the header is one column, with {separator!r} in its name; write the table with commas between cells")


def check_useful(columns: Sequence[Column]) -> None:
    """Refuse a table of which a lenient reading would understand nothing.

    Raises
    ------
    UsageError
        There are unknown columns, and no other says anything about a case.
    """
    kinds = {column.kind for column in columns}
    if "unknown" in kinds and kinds <= {"unknown", "annotation", "case_id"}:
        names = ", ".join(repr(column.name) for column in columns if column.kind == "unknown")
        raise UsageError(
            f"no column says anything about a case: {cut(names, 200)} unknown; see the README for the columns of cases"
        )


def column_names(kb: KnowledgeBase) -> list[str]:
    """Names that a column can have, in the order in which they are suggested."""
    ids = {*kb.findings, *kb.measurements, *(factor.id for factor in kb.risk_factors)}
    return [*SPECIAL, *(name for name, (_, id_) in kb.names.items() if id_ in ids)]


def _meaning(name: str, kb: KnowledgeBase, lenient: bool | None) -> Column:
    if name in ANNOTATIONS:
        return Column(name, "annotation", name)
    if name in SPECIAL:
        return Column(name, name, name)
    kind, id_ = kb.names.get(name, ("", ""))
    if kind == "context":
        if kb.context[id_].kind == "risk_factor":
            return Column(name, "risk_factor", id_)
        if not lenient:
            raise UsageError(f"column {name!r} is an age band or a sex; give the columns age and sex instead")
    if kind in ("finding", "measurement"):
        return Column(name, kind, id_)
    if lenient:
        return Column(name, "unknown", name)
    if kind == "cause":
        raise UsageError(f"column {name!r} is a cause, and causes are what is scored; take it out")
    hint = nearest(name, column_names(kb))
    todo = "correct it or take it out" if lenient is None else "correct it, take it out, or ignore it (--lenient, lenient=True)"
    raise UsageError(f"unknown column {name!r}{hint}; {todo}")
