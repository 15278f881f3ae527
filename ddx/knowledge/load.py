"""Files -> KnowledgeBase. One pass over all files; every problem is reported, none is repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from ddx.errors import KnowledgeError, Problem, UsageError, nearest
from ddx.knowledge import tables as t
from ddx.knowledge.ages import part_problems
from ddx.knowledge.check import check
from ddx.knowledge.forms import form_problems
from ddx.knowledge.measurements import read_measurements
from ddx.knowledge.meta import read_meta
from ddx.knowledge.numbers import number_problems
from ddx.knowledge.parameters import QUANTITIES, collect
from ddx.knowledge.pooling import INTERVALS, QUALITIES
from ddx.knowledge.schema import (
    BALANCED,
    FINDING_KINDS,
    GENERAL,
    OF_SETTINGS,
    Cause,
    Context,
    Finding,
    Form,
    FormFinding,
    KnowledgeBase,
    Source,
    Study,
    Syndrome,
)
from ddx.knowledge.unread import Unread

FILES = ("kb.toml", "causes.csv", "syndromes.csv", "findings.csv", "context.csv", "studies.csv", "sources.csv")
FORM_FILES = ("forms.csv", "form_findings.csv")  # both or neither

# Tables that a knowledge base has rows of.
_NOUNS = {
    "causes.csv": "causes",
    "findings.csv": "findings",
    "context.csv": "context values",
    "studies.csv": "study rows",
    "sources.csv": "sources",
}

Item = TypeVar("Item", Cause, Syndrome, Finding, Context, Source, Study, Form, FormFinding)

_CAUSES: dict[str, t.Convert] = {
    "id": t.identifier,
    "label": t.required,
    "aliases": t.names,
    "family": t.identifier,
    "course": t.choice("chronic", "acute"),
    "window_days": t.optional(t.number),
    "icd10": t.text,
    "mondo": t.text,
    "urgency": t.choice("emergency", "urgent", "routine"),
    "action_threshold": t.number,
    "description": t.text,
}
_SYNDROMES: dict[str, t.Convert] = {"id": t.identifier, "label": t.required, "description": t.required}
_FINDINGS: dict[str, t.Convert] = {
    "id": t.identifier,
    "label": t.required,
    "aliases": t.names,
    "graded": t.text,
    "level": t.optional(t.count),
    "implies": t.names,
    "kind": t.choice(*FINDING_KINDS),
    "hpo": t.text,
    "loinc": t.text,
    "question": t.required,
    "cost": t.number,
}
_CONTEXT: dict[str, t.Convert] = {
    "id": t.identifier,
    "label": t.required,
    "aliases": t.names,
    "kind": t.choice("age_band", "age_part", "sex", "risk_factor"),
    "requires": t.text,
    "age_from": t.optional(t.number),
    "age_to": t.optional(t.number),
    "question": t.text,
}
_FORMS: dict[str, t.Convert] = {"id": t.identifier, "cause": t.identifier, "share": t.number, "description": t.required}
_FORM_FINDINGS: dict[str, t.Convert] = {
    "id": t.identifier,
    "cause": t.identifier,
    "finding": t.identifier,
    "frequencies": t.numbers,
}
_SOURCES: dict[str, t.Convert] = {
    "id": t.identifier,
    "citation": t.required,
    "doi": t.text,
    "pmid": t.text,
    "url": t.text,
    "year": t.optional(t.count),
    "design": t.text,
}
_STUDIES: dict[str, t.Convert] = {
    "id": t.identifier,
    "quantity": t.choice(*QUANTITIES),
    "cause": t.text,
    "finding": t.text,
    "context": t.text,
    "group": t.names,
    "setting": t.text,
    "value": t.number,
    "low": t.optional(t.number),
    "high": t.optional(t.number),
    "interval": t.choice(*INTERVALS),
    "numerator": t.optional(t.count),
    "denominator": t.optional(t.count),
    "counts": t.choice("", "reported", "derived"),
    "population": t.text,
    "source": t.identifier,
    "quality": t.choice(*QUALITIES),
    "note": t.text,
}


def shipped() -> dict[str, Path]:
    """Name -> folder of the knowledge bases that come with ddx, from a wheel or from a checkout."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "priors", package.parent / "priors"):
        if root.is_dir():
            return {p.name: p for p in sorted(root.iterdir()) if (p / "kb.toml").is_file()}
    return {}


def locate(name: str | Path) -> Path:
    """The folder of a shipped knowledge base, or of one given by its path.

    Raises
    ------
    UsageError
        Neither a shipped name nor a folder with a kb.toml, or both.
    """
    available = shipped()
    folder = Path(name)
    if str(name) in available:
        own = available[str(name)]
        if isinstance(name, str) and (folder / "kb.toml").is_file() and not folder.samefile(own):
            raise UsageError(f"{name!r} is a shipped knowledge base and a folder here; write ./{name} for the folder")
        return own
    if (folder / "kb.toml").is_file():
        return folder
    hint = nearest(str(name), available) or f"; shipped: {', '.join(available) or 'none'}"
    raise UsageError(f"knowledge base {str(name)!r}: neither a shipped name nor a folder with a kb.toml{hint}")


def load_knowledge(name: str | Path) -> KnowledgeBase:
    """Load and check a knowledge base.

    Raises
    ------
    UsageError
        No such knowledge base.
    KnowledgeError
        Its files have problems; the error lists all of them.
    """
    knowledge, problems = read_knowledge(locate(name))
    if problems or knowledge is None:
        raise KnowledgeError(str(name), problems)
    return knowledge


def read_knowledge(folder: Path) -> tuple[KnowledgeBase | None, list[Problem]]:
    """The knowledge base in a folder, None when kb.toml cannot be used, and all problems of its files."""
    problems: list[Problem] = []
    meta = read_meta(folder / "kb.toml", problems)
    unread = Unread()
    causes = _items(folder / "causes.csv", _CAUSES, Cause, problems, unread)
    syndromes: dict[str, Syndrome] = {}
    if (folder / "syndromes.csv").is_file():
        syndromes = _items(folder / "syndromes.csv", _SYNDROMES, Syndrome, problems, unread)
    findings = _items(folder / "findings.csv", _FINDINGS, _finding, problems, unread)
    context = _items(folder / "context.csv", _CONTEXT, Context, problems, unread)
    sources = _items(folder / "sources.csv", _SOURCES, Source, problems, unread)
    studies = _items(folder / "studies.csv", _STUDIES, Study, problems, unread)
    forms: dict[str, Form] = {}
    form_findings: dict[str, FormFinding] = {}
    if any((folder / name).is_file() for name in FORM_FILES):
        forms = _items(folder / "forms.csv", _FORMS, Form, problems, unread)
        form_findings = _items(folder / "form_findings.csv", _FORM_FINDINGS, FormFinding, problems, unread)
    if meta is None:
        return None, problems
    settings = {GENERAL: "General population", **meta["settings"], BALANCED: "Every cause equally likely, 1 / K each"}
    usable = _resolved(studies, causes, syndromes, findings, context, sources, settings, problems, unread)
    measurements = read_measurements(meta["measurements"], findings, problems, unread)
    found: list[Problem] = []
    parameters = collect(usable, causes, syndromes, findings, context, found, unread=unread)
    knowledge = KnowledgeBase(
        name=meta["name"],
        version=meta["version"],
        title=meta["title"],
        licence=meta["licence"],
        intended_use=meta["intended_use"],
        default_setting=meta["default_setting"],
        settings=MappingProxyType(settings),
        causes=MappingProxyType(causes),
        findings=MappingProxyType(findings),
        context=MappingProxyType(context),
        measurements=MappingProxyType(measurements),
        sources=MappingProxyType(sources),
        studies=MappingProxyType(studies),
        parameters=MappingProxyType(parameters),
        syndromes=MappingProxyType(syndromes),
        forms=MappingProxyType(forms),
        form_findings=MappingProxyType(form_findings),
        settings_with_forms=tuple(meta.get("settings_with_forms", ())),
        **{name: _numbers(meta.get(name, {})) for name in OF_SETTINGS},
        digest=digest(folder),
        folder=str(folder),
    )
    if not unread.files:  # what a table does not say that cannot be read is no problem of the others
        problems += [*found, *check(knowledge, unread)]
        if not unread.partial:
            problems += form_problems(forms, form_findings, causes, findings, syndromes, parameters)
    return knowledge, problems


def _numbers(stated: Mapping[str, Any]) -> MappingProxyType[str, Any]:
    """A table of kb.toml by setting, read-only, with the numbers as floats."""
    return MappingProxyType({s: _numbers(x) if isinstance(x, dict) else float(x) for s, x in stated.items()})


def digest(folder: Path) -> str:
    """SHA-256 over the files of a knowledge base: names and contents, line ends normalized."""
    total = hashlib.sha256()
    for name in (*FILES, *(name for name in FORM_FILES if (folder / name).is_file())):
        path = folder / name
        content = path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b""
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _finding(**cells: Any) -> Finding:
    cells["level"] = cells["level"] or 0
    return Finding(**cells)


def _items(
    path: Path, columns: dict[str, t.Convert], build: Callable[..., Item], problems: list[Problem], unread: Unread
) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for line, row in t.read_table(path, columns, problems, unread):
        item = build(line=line, **row)
        if item.id not in items:
            items[item.id] = item
            continue
        problems.append(Problem(path.name, line, "id", f"got {item.id!r}, which an earlier row has too"))
        unread.partial.add(path.name)
        unread.nameless.add(path.name)  # one of the two is meant to have another id
        if isinstance(item, Study):
            unread.add_study(item)
    if not items and path.name in _NOUNS and path.name not in unread.files | unread.partial:
        problems.append(Problem(path.name, None, "", f"no {_NOUNS[path.name]}"))
        unread.files.add(path.name)
    return items


def _resolved(
    studies: Mapping[str, Study],
    causes: Mapping[str, Cause],
    syndromes: Mapping[str, Syndrome],
    findings: Mapping[str, Finding],
    context: Mapping[str, Context],
    sources: Mapping[str, Source],
    settings: Mapping[str, str],
    problems: list[Problem],
    unread: Unread,
) -> list[Study]:
    """Study rows whose ids exist and whose numbers fit their quantity; the others are reported.

    An id whose own row, or whose table, could not be read is not reported again; a row that names it cannot be used either.
    A syndrome is a finding of causes and a cause of findings.
    """
    usable = []
    parents, children = {**causes, **syndromes}, {**findings, **syndromes}
    groups = {c.id: c for c in context.values() if c.kind != "risk_factor"}
    parts = {c.id: c for c in context.values() if c.kind == "age_part"}
    clinics = {s: label for s, label in settings.items() if s not in (GENERAL, BALANCED)}
    tables = {name: {f"{name}s.csv", "syndromes.csv"} for name in ("cause", "finding")}
    tables |= {"context": {"context.csv"}, "source": {"sources.csv"}}
    for study in studies.values():
        found: list[tuple[str, str]] = []
        waiting = False
        places: Iterable[tuple[str, Iterable[str], Mapping[str, object], set[str]]] = (
            ("cause", [study.cause], parents if study.quantity == "sensitivity" else causes, tables["cause"]),
            ("finding", [study.finding], children, tables["finding"]),
            ("context", [study.context], context, tables["context"]),
            ("group", study.group, groups, tables["context"]),
            ("setting", [study.setting], clinics, set()),
            ("source", [study.source], sources, tables["source"]),
        )
        for column, got, known, files in places:
            strange = [g for g in got if g and g not in known]
            if not strange:
                continue
            lost = strange if unread.unknown(*files) else [g for g in strange if g in unread.ids]
            waiting |= column != "source" and bool(lost)
            found += [(column, f"unknown {column} {g!r}{nearest(g, known)}") for g in strange if g not in lost]
        needed, allowed = QUANTITIES[study.quantity]
        for column in ("cause", "finding", "context", "group", "setting"):
            filled = bool(getattr(study, column))
            if column in needed and not filled:
                found.append((column, f"got an empty cell, {study.quantity} needs a {column}"))
            elif filled and column not in needed | allowed:
                found.append((column, f"got a {column}, {study.quantity} takes none"))
        if study.cause in syndromes and study.finding in syndromes:
            found.append(("finding", f"got the syndrome {study.finding!r}, but {study.cause} is one itself"))
        if study.finding in syndromes and study.group:
            found.append(("group", f"got {';'.join(study.group)!r}, the frequency of a syndrome depends on nothing"))
        for named in (study.context, *study.group):
            if named in parts:
                found += part_problems(study, parts[named])
        found += number_problems(study)
        problems += [Problem("studies.csv", study.line, column, message) for column, message in found]
        if found or waiting:
            unread.add_study(study)
        else:
            usable.append(study)
    return usable
