"""kb.toml: what a knowledge base says of itself."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddx.errors import Problem, nearest
from ddx.knowledge.schema import BALANCED, FINDING_KINDS, GENERAL, OF_SETTINGS
from ddx.knowledge.tables import control_characters

SCHEMA_VERSION = 1
_KEYS = {
    "name": str,
    "version": str,
    "schema_version": int,
    "title": str,
    "licence": str,
    "intended_use": str,
    "default_setting": str,
    "settings": dict,
    "measurements": dict,
}
# What can be a number of a setting, and what the number is.
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "causes_per_patient": (lambda x: 1.0 < x < math.inf, "a number above 1: causes of a patient who has any, mean"),
    "background_reported": (
        lambda x: 0.0 < x <= 1.0,
        "a number above 0, at most 1: how often a finding without a modelled cause is reported, over one from a cause",
    ),
    "risk_factors_reported": (
        lambda x: 0.0 < x < 1.0,
        "a number between 0 and 1: how many of the risk factors that are there are stated",
    ),
}
_BY_KIND = frozenset({"background_reported"})  # of which a setting has one for each kind of finding
_OPTIONAL: dict[str, type] = {**dict.fromkeys(OF_SETTINGS, dict), "settings_with_forms": list}
_WORDS = {str: "text", int: "a whole number", dict: "a table", list: "a list"}
# Tables and lists within each other: measurements, one of them, its findings, one of them, and a few that will be refused in
# their place.
_DEPTH = 8
# TOML asks for whole numbers of 64 bits; Python reads longer ones, which fit no float and which it may not even print.
_WHOLE = 2**63


def read_meta(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """The keys of a kb.toml, None where it has problems; these are appended to ``problems``."""
    try:
        meta = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        found = [_problem(path, "", "cannot be read: lists or tables within each other, too deep")]
    except (OSError, ValueError) as error:  # broken TOML and broken UTF-8 are value errors, and so is a number of 5,000 digits
        found = [_problem(path, "", f"cannot be read: {error}")]
    else:
        found = [_problem(path, key, message) for key, message in _unusable(meta)]
        found = found or [_problem(path, key, message) for key, message in _key_problems(meta)]
        found = found or [_problem(path, key, message) for key, message in _setting_problems(meta)]
    problems += found
    return None if found else meta


def _problem(path: Path, key: str, message: str) -> Problem:
    return Problem(path.name, None, key, message)


def _unusable(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values that no key may have, whatever it says. No recursion: a kb.toml may be deeper than Python's stack."""
    stack: list[tuple[str, object, int]] = [("", meta, 0)]
    while stack:
        key, value, depth = stack.pop()
        if isinstance(value, dict | list) and depth > _DEPTH:
            yield key, f"lists or tables within each other, more than {_DEPTH} deep"
        elif isinstance(value, dict):
            yield from ((key, message) for name in value for message in control_characters(name))
            stack += [(f"{key}.{name}" if key else name, item, depth + 1) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            stack += [(f"{key}[{i}]", value[i], depth + 1) for i in reversed(range(len(value)))]
        elif isinstance(value, str):
            yield from ((key, message) for message in control_characters(value))
        elif isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
            yield key, "got a whole number of more than 64 bits"


def _key_problems(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = _KEYS | _OPTIONAL
    yield from ((key, f"unknown key{nearest(key, known)}") for key in meta if key not in known)
    for key, expected in known.items():
        if key not in meta and key in _OPTIONAL:
            continue
        if key not in meta:
            yield key, "key is missing"
        elif type(meta[key]) is not expected:  # True is an int to Python
            yield key, f"got {meta[key]!r}, expected {_WORDS[expected]}"


def _setting_problems(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if meta["schema_version"] != SCHEMA_VERSION:
        yield "schema_version", f"got {meta['schema_version']}, this ddx reads {SCHEMA_VERSION}"
        return
    for reserved in (GENERAL, BALANCED):
        if reserved in meta["settings"]:
            yield f"settings.{reserved}", "is built in and not declared"
    known = [GENERAL, BALANCED, *meta["settings"]]
    if meta["default_setting"] not in known:
        yield "default_setting", f"got {meta['default_setting']!r}, allowed: {', '.join(known)}"
    for key, value in meta["settings"].items():
        if not isinstance(value, str):
            yield f"settings.{key}", f"got {value!r}, expected the population in words"
    for i, value in enumerate(meta.get("settings_with_forms", [])):
        if value not in known:
            why = f"unknown setting {value!r}{nearest(str(value), known)}"
            yield f"settings_with_forms[{i}]", f"{why}; allowed: {', '.join(known)}"
    patients = [setting for setting in known if setting != GENERAL]
    for name in OF_SETTINGS:
        for key, value in meta.get(name, {}).items():
            if key not in patients:
                why = "is all people, not patients" if key == GENERAL else f"unknown setting{nearest(key, patients)}"
                yield f"{name}.{key}", f"{why}; allowed: {', '.join(patients)}"
            elif name not in _BY_KIND:
                yield from _number_problems(name, key, value)
            elif not isinstance(value, dict):
                yield f"{name}.{key}", f"got {value!r}, expected a table: kind of finding = number"
            else:
                for kind, number in value.items():
                    if kind in FINDING_KINDS:
                        yield from _number_problems(name, f"{key}.{kind}", number)
                    else:
                        why = f"unknown kind of finding{nearest(kind, FINDING_KINDS)}; allowed: {', '.join(FINDING_KINDS)}"
                        yield f"{name}.{key}.{kind}", why


def _number_problems(name: str, key: str, value: object) -> Iterator[tuple[str, str]]:
    possible, expected = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not possible(value):
        yield f"{name}.{key}", f"got {value!r}, expected {expected}"
