"""What must hold between findings that imply each other."""

from __future__ import annotations

from collections.abc import Iterator

from ddx.errors import Problem, nearest
from ddx.knowledge.schema import KnowledgeBase, problem_of
from ddx.knowledge.syndromes import brought
from ddx.knowledge.unread import Unread

SLACK = 0.02  # by which a finding may be more frequent than what it implies: the rows of both are pooled apart


def implications(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    """Implied findings exist, are no levels, and do not imply each other in a circle."""
    for finding in kb.findings.values():
        for implied in finding.implies:
            message = ""
            if implied not in kb.findings:
                if implied not in unread.ids and not unread.unknown("findings.csv"):
                    message = f"unknown finding {implied!r}{nearest(implied, kb.findings)}"
            elif graded := kb.findings[implied].graded:
                message = f"got {implied!r}, a level of {graded}, of which a case has one: take it out"
            if message:
                yield Problem("findings.csv", finding.line, "implies", message)
    done: set[str] = set()
    for start in kb.findings:
        cycle = _cycle(kb, start, [], done)
        if cycle:
            yield Problem("findings.csv", kb.findings[cycle[0]].line, "implies", f"cyclic implication: {' => '.join(cycle)}")
            return


def _cycle(kb: KnowledgeBase, finding: str, path: list[str], done: set[str]) -> list[str] | None:
    if finding in path:
        return [*path[path.index(finding) :], finding]
    if finding in done or finding not in kb.findings:
        return None
    for implied in kb.findings[finding].implies:
        cycle = _cycle(kb, implied, [*path, finding], done)
        if cycle:
            return cycle
    done.add(finding)
    return None


def implied_frequencies(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    """P(g) >= P(f), only a cause or none being present, where the finding f implies g."""
    value = {p.id: p.value for p in kb.parameters.values()}
    if any(f"leak:{item}" not in value for item in (*kb.findings, *kb.syndromes)) or any(implications(kb, unread)):
        return
    if unread.count("link") + unread.count("leak") or "findings.csv" in unread.partial:
        return
    for finding, implied in ((f.id, g) for f in kb.findings.values() for g in f.implies):
        for cause in kb.causes:
            total = value.get(f"link:{cause}:{implied}") or brought(value, kb.syndromes, cause, implied)
            yield from _exceeds(kb, f"link:{cause}:{finding}", implied, total or value[f"leak:{implied}"])
        for at in ("", *(f"@{band.id}" for band in kb.age_bands)):
            own, general = f"leak:{finding}{at}", f"leak:{implied}{at}"
            if own in value or general in value:  # else both are those of all ages
                total = value.get(general, value[f"leak:{implied}"])
                yield from _exceeds(kb, own if own in value else f"leak:{finding}", implied, total)


def _exceeds(kb: KnowledgeBase, name: str, implied: str, total: float) -> Iterator[Problem]:
    parameter = kb.parameters.get(name)
    if parameter is not None and parameter.value > total + SLACK:
        message = f"{name} is {parameter.value:.3g}, {implied}, which it implies, only {total:.3g}"
        yield problem_of(kb, parameter, "value", f"{message}: raise that one or lower this one")
