"""The measurements of a kb.toml: their units, what is plausible, and the findings that they turn into."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from ddx.errors import Problem, nearest
from ddx.knowledge import tables as t
from ddx.knowledge.schema import RESERVED, SEXES, Finding, Measurement, Threshold
from ddx.knowledge.unread import Unread


def read_measurements(
    tables: Mapping[str, Any], findings: Mapping[str, Finding], problems: list[Problem], unread: Unread
) -> dict[str, Measurement]:
    """Measurements without a problem; the others are reported, but for findings whose rows could not be read."""
    measurements = {}
    for name, table in tables.items():
        found = [("", f"{name!r}: {message}") for message in _id_problems(name)]
        found += _measurement_problems(table, findings, unread)
        problems += [Problem("kb.toml", None, f"measurements.{name}{key}", message) for key, message in found]
        if not found:
            measurements[name] = Measurement(
                id=name,
                label=table["label"],
                unit=table["unit"],
                loinc=table["loinc"],
                plausible=(float(table["plausible"][0]), float(table["plausible"][1])),
                thresholds=tuple(
                    Threshold(
                        finding=rule["finding"],
                        below=rule.get("below"),
                        at_least=rule.get("at_least"),
                        sex=f"sex_{rule['sex']}" if "sex" in rule else "",
                    )
                    for rule in table["findings"]
                ),
            )
    return measurements


def _id_problems(name: str) -> Iterator[str]:
    try:
        t.identifier(name)
    except ValueError as error:
        yield str(error)
    if name in RESERVED:
        yield "is a column of every table of cases or posteriors"


def _measurement_problems(table: Any, findings: Mapping[str, Finding], unread: Unread) -> Iterator[tuple[str, str]]:
    keys = ("label", "unit", "loinc", "plausible", "findings")
    if not isinstance(table, dict) or set(table) != set(keys):
        got = f"keys {', '.join(sorted(table))}" if isinstance(table, dict) else repr(table)
        yield "", f"got {got}, expected a table with {', '.join(keys)}"
        return
    for key in ("label", "unit", "loinc"):
        if not isinstance(table[key], str):
            yield f".{key}", f"got {table[key]!r}, expected text"
        elif key != "loinc" and not table[key].strip():
            yield f".{key}", f"got {table[key]!r}, expected {'a unit (1 for a number without)' if key == 'unit' else 'text'}"
    plausible = table["plausible"]
    numbers = isinstance(plausible, list) and all(_is_number(limit) for limit in plausible)
    if not numbers or len(plausible) != 2 or not plausible[0] < plausible[1]:
        yield ".plausible", f"got {plausible!r}, expected [low, high]"
        return
    rules = table["findings"]
    if not isinstance(rules, list) or not rules:
        yield ".findings", f"got {rules!r}, expected a list of findings with their limits"
        return
    found = [(i, message) for i, rule in enumerate(rules) for message in _threshold_problems(rule, plausible, findings, unread)]
    found = found or list(_clashes(rules, findings))
    yield from ((f".findings[{i}]", message) for i, message in found)


def _threshold_problems(rule: Any, plausible: list[float], findings: Mapping[str, Finding], unread: Unread) -> Iterator[str]:
    known = {"finding", "below", "at_least", "sex"}
    limits = [rule[k] for k in ("below", "at_least") if k in rule] if isinstance(rule, dict) else []
    if len(limits) != 1 or set(rule) - known or not isinstance(rule.get("finding"), str) or not _is_number(limits[0]):
        yield f"got {rule!r}, expected a finding, below or at_least with a number, and sex if it matters"
        return
    finding = findings.get(rule["finding"])
    if finding is None and rule["finding"] not in unread.ids and not unread.unknown("findings.csv"):
        yield f"unknown finding {rule['finding']!r}{nearest(rule['finding'], findings)}"
    if finding is not None and finding.graded:
        yield f"got {finding.id!r}, a level of {finding.graded}; a measurement makes findings of their own"
    if not plausible[0] <= limits[0] <= plausible[1]:
        yield f"got the limit {limits[0]:g}, outside the plausible {plausible[0]:g} to {plausible[1]:g}"
    if "sex" in rule and f"sex_{rule['sex']}" not in SEXES:
        yield f"got sex {rule['sex']!r}, expected female or male"


def _clashes(rules: list[dict[str, Any]], findings: Mapping[str, Finding]) -> Iterator[tuple[int, str]]:
    """Rules for different findings that one value of one person meets, though no rule holds whenever the other does.

    On one side of the limits (mild and severe) the stricter rule is within the other; a finding that implies another one must
    have the stricter rule.
    """
    for (i, first), (j, second) in combinations(enumerate(rules), 2):
        if first["finding"] == second["finding"] or first.get("sex", second.get("sex")) != second.get("sex", first.get("sex")):
            continue
        if ("below" in first) != ("below" in second):
            below, least = (first, second) if "below" in first else (second, first)
            if least["at_least"] < below["below"]:
                message = f"{below['finding']} below {below['below']:g} and {least['finding']} at_least {least['at_least']:g}"
                yield j, f"{message} are both present in between: move the limits apart"
            continue
        side = "below" if "below" in first else "at_least"
        for k, specific, general in ((i, first, second), (j, second, first)):
            wider = specific[side] > general[side] if side == "below" else specific[side] < general[side]
            if wider and _implies(findings, specific["finding"], general["finding"]):
                message = f"{specific['finding']} ({side} {specific[side]:g}) implies {general['finding']}"
                yield k, f"{message} ({side} {general[side]:g}), which its values need not have: swap the limits"


def _implies(findings: Mapping[str, Finding], specific: str, general: str) -> bool:
    """Directly or through others."""
    reached, stack = set(), [specific]
    while stack:
        finding = stack.pop()
        if finding in findings and finding not in reached:
            reached.add(finding)
            stack += findings[finding].implies
    return general in reached


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
