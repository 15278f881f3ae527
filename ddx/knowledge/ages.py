"""Age bands and their parts: what must hold between them, and the ages of the people in one."""

from __future__ import annotations

from collections.abc import Iterator

from ddx.errors import Problem
from ddx.knowledge.schema import AGE_MAX, Context, KnowledgeBase, Study

# Years after the beginning of the last age band at which ages end as far as means and draws go: the band itself is open. A
# last part that begins late is half as long at least.
LAST_BAND = 20.0


def age_limits(kb: KnowledgeBase) -> tuple[list[float], list[float]]:
    """Where the people of every one of ``age_strata`` begin and end, in years."""
    strata = kb.age_strata
    start = [stratum.age_from or 0.0 for stratum in strata]
    oldest = max((kb.age_bands[-1].age_from or 0.0) + LAST_BAND, start[-1] + 0.5 * LAST_BAND)
    return start, [*start[1:], min(strata[-1].age_to or oldest, oldest, AGE_MAX + 1.0)]


def part_problems(study: Study, part: Context) -> Iterator[tuple[str, str]]:
    """Column and message where a study row says of a part of an age band what only a band has."""
    if study.quantity != "population_share":
        column = "context" if study.context == part.id else "group"
        yield column, f"got {part.id!r}, a part of an age band, which only has a population_share: give the whole band"
    elif study.setting:
        yield "setting", f"got {study.setting!r}, {part.id} has the same share of its age band in every setting: leave it out"


def age_parts(kb: KnowledgeBase) -> Iterator[Problem]:
    """Parts of age bands lie inside one, and two or more of them tile it."""

    def problem(part: Context, column: str, message: str) -> Problem:
        return Problem("context.csv", part.line, column, message)

    inside = {part.id for band in kb.age_bands for part in kb.parts_of(band)}
    astray = []
    for part in kb.age_parts:
        start, end = part.age_from, part.age_to
        if start is None or end is None:
            astray.append(part)
            yield problem(part, "age_from" if start is None else "age_to", f"got an empty cell, {part.id} needs both ends")
        elif end <= start:
            astray.append(part)
            yield problem(part, "age_to", f"got {end:g}, {part.id} must end after {start:g}, where it starts")
        elif start % 1.0 or end % 1.0:
            astray.append(part)
            column, edge = ("age_from", start) if start % 1.0 else ("age_to", end)
            yield problem(part, column, f"got {edge:g}, parts of age bands begin and end with whole years")
        elif part.id not in inside:
            astray.append(part)
            yield problem(part, "age_from", f"got {start:g} to {end:g}, {part.id} must lie inside one age band")
    for band in kb.age_bands:
        low, high = band.age_from or 0.0, band.age_to or 0.0
        if any(min(ends) < high and max(ends) > low for ends in ((p.age_from or 0.0, p.age_to or AGE_MAX) for p in astray)):
            continue  # what the others leave open is its place
        parts = [part for part in kb.parts_of(band) if part not in astray]
        if len(parts) == 1:
            message = f"{parts[0].id} is the only part of {band.id}; give two or more that make up the band, or none"
            yield problem(parts[0], "kind", message)
            continue
        edge, before = low, f"{band.id} starts"
        for part in parts:
            if part.age_from != edge:
                message = f"got {part.age_from:g}, {part.id} must start at {edge:g}, where {before}"
                yield problem(part, "age_from", message)
            edge, before = part.age_to or 0.0, f"{part.id} ends"
        if parts and edge != high:
            yield problem(parts[-1], "age_to", f"got {edge:g}, {parts[-1].id} must end at {high:g}, where {band.id} ends")
