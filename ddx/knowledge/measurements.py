"""The measurements of a kb.toml: their units, what is plausible, and the findings that they turn into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ddx.errors import Problem, nearest
from ddx.knowledge import tables as t
from ddx.knowledge.schema import RESERVED, SEXES, Finding, Measurement, Threshold


def read_measurements(
    tables: Mapping[str, Any], findings: Mapping[str, Finding] | None, problems: list[Problem]
) -> dict[str, Measurement]:
    """Measurements without a problem; the others are reported. ``findings`` None: nobody knows them."""
    measurements = {}
    for name, table in tables.items():
        found = [("", f"{name!r}: {message}") for message in _id_problems(name)]
        found += _measurement_problems(table, findings)
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


def _measurement_problems(table: Any, findings: Mapping[str, Finding] | None) -> Iterator[tuple[str, str]]:
    keys = ("label", "unit", "loinc", "plausible", "findings")
    if not isinstance(table, dict) or set(table) != set(keys):
        got = f"keys {', '.join(sorted(table))}" if isinstance(table, dict) else repr(table)
        yield "", f"got {got}, expected a table with {', '.join(keys)}"
        return
    for key in ("label", "unit", "loinc"):
        if not isinstance(table[key], str):
            yield f".{key}", f"got {table[key]!r}, expected text"
    plausible = table["plausible"]
    numbers = isinstance(plausible, list) and all(_is_number(limit) for limit in plausible)
    if not numbers or len(plausible) != 2 or not plausible[0] < plausible[1]:
        yield ".plausible", f"got {plausible!r}, expected [low, high]"
        return
    rules = table["findings"]
    if not isinstance(rules, list) or not rules:
        yield ".findings", f"got {rules!r}, expected a list of findings with their limits"
        return
    for i, rule in enumerate(rules):
        for message in _threshold_problems(rule, plausible, findings):
            yield f".findings[{i}]", message


def _threshold_problems(rule: Any, plausible: list[float], findings: Mapping[str, Finding] | None) -> Iterator[str]:
    known = {"finding", "below", "at_least", "sex"}
    limits = [rule[k] for k in ("below", "at_least") if k in rule] if isinstance(rule, dict) else []
    if len(limits) != 1 or set(rule) - known or not isinstance(rule.get("finding"), str) or not _is_number(limits[0]):
        yield f"got {rule!r}, expected a finding, below or at_least with a number, and sex if it matters"
        return
    if findings is not None and rule["finding"] not in findings:
        yield f"unknown finding {rule['finding']!r}{nearest(rule['finding'], findings)}"
    if not plausible[0] <= limits[0] <= plausible[1]:
        yield f"got the limit {limits[0]:g}, outside the plausible {plausible[0]:g} to {plausible[1]:g}"
    if "sex" in rule and f"sex_{rule['sex']}" not in SEXES:
        yield f"got sex {rule['sex']!r}, expected female or male"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
