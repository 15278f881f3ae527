"""What a sound knowledge base must satisfy beyond well-formed rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter

from ddx.errors import Problem
from ddx.knowledge.ages import age_parts
from ddx.knowledge.graded import MAX_TOTAL, continuation
from ddx.knowledge.implications import implications, implied_frequencies
from ddx.knowledge.schema import AGE_MAX, EXPERT, RESERVED, SEXES, KnowledgeBase, Study, problem_of
from ddx.knowledge.syndromes import syndrome_problems
from ddx.knowledge.unread import Unread

MIN_LINKS = 5
# How far the shares of the age bands or the sexes may be from 1 together: printed numbers are rounded.
_SHARES = 0.02
# Form of the name of a graded finding, and what the output adds to the ids of causes, or numbers.
_GRADED = r"[a-z][a-z0-9_]*"
_COLUMNS = r".*_(low|high)|(cause|posterior)_\d+"
_CODES = {
    ("causes.csv", "icd10"): (r"[A-Z]\d[0-9A-Z](\.\d{1,2})?", "an ICD-10 code such as I63 or G62.9"),
    ("causes.csv", "mondo"): (r"MONDO:\d{7}", "MONDO: and 7 digits, such as MONDO:0005098"),
    ("findings.csv", "hpo"): (r"HP:\d{7}", "HP: and 7 digits, such as HP:0001337"),
    ("findings.csv", "loinc"): (r"\d{1,5}-\d", "a LOINC code such as 718-7"),
}


def check(kb: KnowledgeBase, unread: Unread) -> list[Problem]:
    """All problems of what could be read of a knowledge base, but for those that follow from what could not."""
    rules = (
        _names(kb),
        _forms(kb),
        _studies(kb),
        _codes(kb),
        _causes(kb),
        _findings(kb, unread),
        implications(kb, unread),
        _context(kb, unread),
        () if "context.csv" in unread.partial else age_parts(kb),
        _priors(kb, unread),
        _links(kb, unread),
        _leaks(kb, unread),
        syndrome_problems(kb, unread),
        _graded(kb, unread),
        implied_frequencies(kb, unread),
        _sources(kb, unread),
    )
    return [problem for rule in rules for problem in rule]


def _names(kb: KnowledgeBase) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    tables = (
        ("causes.csv", kb.causes),
        ("syndromes.csv", kb.syndromes),
        ("findings.csv", kb.findings),
        ("context.csv", kb.context),
        ("forms.csv", kb.forms),
    )
    # Ids first: where an alias is the id of another row, the alias is to be mended, wherever it stands.
    for column in ("id", "aliases"):
        for file, items in tables:
            for item in items.values():
                for name in (item.id,) if column == "id" else getattr(item, "aliases", ()):
                    if name in RESERVED:
                        message = f"got {name!r}, which is a column of every table of cases or posteriors"
                        yield Problem(file, item.line, column, message)
                    if name in owner:
                        got = f"got {name!r}" if column == "id" else f"got the alias {name!r}"
                        yield Problem(file, item.line, column, f"{got}, which is {owner[name]}")
                    else:
                        owner[name] = f"{'the id' if column == 'id' else 'an alias'} of {file}:{item.line}"
    for name in kb.measurements:
        if name in owner:
            yield Problem("kb.toml", None, f"measurements.{name}", f"is also {owner[name]}")
    for graded, levels in kb.graded.items():
        line = kb.findings[levels[0]].line
        if not re.fullmatch(_GRADED, graded):
            yield Problem("findings.csv", line, "graded", f"got {graded!r}, expected a snake_case name")
        elif graded in owner or graded in kb.measurements or graded in RESERVED:
            other = owner.get(graded, "a measurement" if graded in kb.measurements else "a column of every table of cases")
            yield Problem("findings.csv", line, "graded", f"got {graded!r}, which is {other}")
    for cause in kb.causes.values():
        if re.fullmatch(_COLUMNS, cause.id):
            message = f"got {cause.id!r}, which is a column of tables of posteriors (intervals, leading causes)"
            yield Problem("causes.csv", cause.line, "id", message)


def _forms(kb: KnowledgeBase) -> Iterator[Problem]:
    if kb.settings_with_forms and not kb.forms:
        message = f"names {', '.join(kb.settings_with_forms)}, and forms.csv has no forms: add them, or take the settings out"
        yield Problem("kb.toml", None, "settings_with_forms", message)


def _studies(kb: KnowledgeBase) -> Iterator[Problem]:
    """A row that stands twice would count as two studies."""
    first: dict[tuple[object, ...], str] = {}
    said = attrgetter(*(field.name for field in fields(Study) if field.name not in ("id", "note", "line")))
    for study in kb.studies.values():
        other = first.setdefault(said(study), study.id)
        if other != study.id:
            yield Problem(
                "studies.csv", study.line, "id", f"{study.id} is {other} again, but for the note: keep one of the two"
            )


def _codes(kb: KnowledgeBase) -> Iterator[Problem]:
    for (file, column), (pattern, words) in _CODES.items():
        for item in (kb.causes if file == "causes.csv" else kb.findings).values():
            code = getattr(item, column)
            if code and not re.fullmatch(pattern, code, re.ASCII):
                yield Problem(file, item.line, column, f"got {code!r}, expected {words}")


def _causes(kb: KnowledgeBase) -> Iterator[Problem]:
    for cause in kb.causes.values():
        if (cause.course == "acute") != (cause.window_days is not None):
            got = "no window" if cause.window_days is None else f"a window of {cause.window_days:g} days"
            yield Problem(
                "causes.csv",
                cause.line,
                "window_days",
                f"got {got} for {'an' if cause.course == 'acute' else 'a'} {cause.course} cause; "
                "acute causes have one, chronic ones none",
            )
        elif cause.window_days is not None and cause.window_days <= 0.0:
            yield Problem("causes.csv", cause.line, "window_days", f"got {cause.window_days:g}, expected days above 0")
        if not 0.0 < cause.action_threshold < 1.0:
            yield Problem(
                "causes.csv",
                cause.line,
                "action_threshold",
                f"got {cause.action_threshold:g}, expected a probability in (0, 1)",
            )


def _findings(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    for finding in kb.findings.values():
        if bool(finding.graded) != (finding.level > 0):
            yield Problem("findings.csv", finding.line, "level", "graded and level come together: a level from 1 upward")
        if finding.cost < 0.0:
            yield Problem("findings.csv", finding.line, "cost", f"got {finding.cost:g}, expected 0 or more")
    for graded, levels in kb.graded.items() if "findings.csv" not in unread.partial else ():
        ranks = [kb.findings[f].level for f in levels]
        if ranks != list(range(1, len(ranks) + 1)):
            line = kb.findings[levels[0]].line
            yield Problem(
                "findings.csv", line, "level", f"{graded} has the levels {ranks}, expected 1 to {len(ranks)}, each once"
            )


def _context(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    yield from _population(kb, unread)
    for variable in (*kb.age_bands, *kb.age_parts, *kb.sexes):
        if variable.requires:
            yield Problem(
                "context.csv", variable.line, "requires", f"got {variable.requires!r}; only a risk factor requires another"
            )
    for factor in kb.risk_factors:
        needed = kb.context.get(factor.requires)
        known = factor.requires not in unread.ids and not unread.unknown("context.csv")
        if factor.requires and ((needed is None and known) or (needed and (needed.kind != "risk_factor" or needed.requires))):
            yield Problem(
                "context.csv",
                factor.line,
                "requires",
                f"got {factor.requires!r}, expected a risk factor that requires none itself",
            )
        if f"context:{factor.id}" not in kb.parameters and not unread.count("context", factor.id):
            message = f"no context_prevalence for {factor.id} among all people: add a row with this context, whose group and"
            yield Problem("studies.csv", None, "quantity", f"{message} setting are empty")


def _population(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    """Age bands follow each other, there are two sexes, and their shares make up everybody."""
    if "context.csv" in unread.partial:
        return
    edge = 0.0
    for band in kb.age_bands:
        if band.age_from != edge or band.age_to is None or band.age_to <= edge:
            yield Problem(
                "context.csv",
                band.line,
                "age_from",
                f"{band.id} must start at {edge:g}, where the band before ends, and end later",
            )
            return
        edge = band.age_to
    if not kb.age_bands:
        yield Problem("context.csv", None, "kind", "no age bands")
    elif edge <= AGE_MAX:
        message = f"got {edge:g}, the last age band must end above {AGE_MAX:g}"
        yield Problem("context.csv", kb.age_bands[-1].line, "age_to", message)
    if len(kb.sexes) != 2:
        yield Problem("context.csv", None, "kind", f"got {len(kb.sexes)} sexes, expected 2")
    for sex in kb.sexes:
        if sex.id not in SEXES:
            yield Problem("context.csv", sex.line, "id", f"got the sex {sex.id!r}, expected {' and '.join(SEXES)}")
    for variable in (*kb.age_bands, *kb.age_parts, *kb.sexes):
        if f"population:{variable.id}" not in kb.parameters and not unread.count("population", variable.id):
            yield Problem("studies.csv", None, "quantity", f"no population_share for {variable.id}")
    for where in ("", *(f"@{setting}" for setting in kb.settings)):
        for kind, members in (("age bands", kb.age_bands), ("sexes", kb.sexes)):
            names = [f"population:{m.id}{where}" for m in members]
            shares = [kb.parameters[name].value for name in names if name in kb.parameters]
            complete = len(shares) == len(names) or where  # a setting need not have everybody
            lost = any(unread.count("population", m.id) for m in members)
            if shares and complete and not lost and abs(sum(shares) - 1.0) > _SHARES:
                message = f"population_share of the {kind}{where.replace('@', ' of ')} adds up to {sum(shares):.3g}, expected 1"
                yield Problem("studies.csv", None, "value", message)


def _priors(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    for cause in kb.causes.values():
        parameter = kb.parameters.get(f"prior:{cause.id}")
        if parameter is None and unread.count("prior", cause.id):
            continue
        if parameter is None:
            expected = "incidence" if cause.course == "acute" else "prevalence"
            yield Problem("studies.csv", None, "quantity", f"no {expected} for {cause.id}")
        elif not 0.0 < parameter.value < 1.0:
            yield problem_of(
                kb, parameter, "value", f"{parameter.id} is {parameter.value:.3g}, expected a probability in (0, 1)"
            )


def _links(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    per_cause: dict[str, int] = defaultdict(int)
    linked = set()
    for parameter in kb.parameters.values():
        if parameter.id.startswith("link:"):
            _, cause, finding = parameter.id.split(":")
            per_cause[cause] += 1
            linked.add(finding)
            leak = kb.parameters.get(f"leak:{finding}")
            graded = finding in kb.findings and kb.findings[finding].graded
            lost = unread.count("link", cause, finding) + unread.count("leak", finding)
            if leak and not graded and not lost and parameter.value <= leak.value:
                yield problem_of(
                    kb,
                    parameter,
                    "value",
                    f"{parameter.id} is {parameter.value:.3g}, not above the leak {leak.value:.3g} of {finding}: "
                    "a noisy-OR cause cannot lower a finding; drop the row, or mend the leak",
                )
    for owner in kb.causes.values():
        if per_cause[owner.id] + unread.count("link", owner.id) < MIN_LINKS:
            message = f"{owner.id} is linked to {per_cause[owner.id]} findings, expected {MIN_LINKS} or more"
            yield Problem("causes.csv", owner.line, "id", message)
    for item in kb.findings.values():
        if item.id not in linked and not unread.count("link", item.id):
            yield Problem("findings.csv", item.line, "id", f"{item.id} is linked to no cause")


def _leaks(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    for file, items in (("findings.csv", kb.findings), ("syndromes.csv", kb.syndromes)):
        for item in items.values():
            if f"leak:{item.id}" not in kb.parameters and not unread.count("leak", item.id):
                message = f"{item.id} has no leak: studies.csv needs a row without a group: false_positive_rate, specificity or"
                yield Problem(file, item.line, "id", f"{message} population_frequency")


def _graded(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    for graded, levels in kb.graded.items():
        leak: tuple[float, ...] | None = None
        for owner in ("leak", *(f"link:{c}" for c in kb.causes)):
            parameters = [kb.parameters.get(f"{owner}:{level}") for level in levels]
            given = [p for p in parameters if p is not None]
            kind, *of = owner.split(":")
            if not given or any(unread.count(kind, *of, level) for level in levels):
                continue
            if len(given) < len(levels):
                missing = ", ".join(level for level, p in zip(levels, parameters, strict=True) if p is None)
                yield problem_of(kb, given[0], "finding", f"{owner}: {graded} needs all its levels; missing: {missing}")
                continue
            total = sum(p.value for p in given)
            if total > MAX_TOTAL:
                yield problem_of(
                    kb,
                    given[0],
                    "value",
                    f"{owner}: the levels of {graded} add up to {total:.3g}, expected at most {MAX_TOTAL:g}",
                )
                continue
            for band in kb.age_bands if owner == "leak" else ():
                banded = [kb.parameters.get(f"leak:{level}@{band.id}") for level in levels]
                total = sum((b or p).value for b, p in zip(banded, given, strict=True))
                if any(banded) and total > MAX_TOTAL:
                    message = f"leak: the levels of {graded} add up to {total:.3g} at {band.id}, expected at most {MAX_TOTAL:g}"
                    yield problem_of(kb, next(b for b in banded if b), "value", message)
            hazard = continuation([p.value for p in given])
            if owner == "leak":
                leak = hazard
            elif leak is not None:
                for level, own, base in zip(levels, hazard, leak, strict=True):
                    if own <= base:
                        yield problem_of(
                            kb,
                            given[0],
                            "value",
                            f"{owner}:{level}: {own:.3g} of those not above this level reach it, not more than the "
                            f"{base:.3g} without any cause; a noisy-MAX cause cannot lower a level",
                        )


def _sources(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    for study in kb.studies.values():
        if (study.source == EXPERT) != (study.quality == EXPERT):
            yield Problem("studies.csv", study.line, "quality", f"source and quality must both be {EXPERT} or neither")
        if study.source == EXPERT and study.low is None:
            yield Problem("studies.csv", study.line, "low", "an expert estimate needs an interval")
    used = {study.source for study in kb.studies.values()}.union(*unread.rows)
    for source in kb.sources.values():
        if source.id not in used:
            yield Problem("sources.csv", source.line, "id", f"{source.id} is used by no study")
    first: dict[tuple[str, str], str] = {}
    for source in kb.sources.values():
        for column, code in (("doi", source.doi.lower()), ("pmid", source.pmid)):
            if code and (other := first.setdefault((column, code), source.id)) != source.id:
                yield Problem("sources.csv", source.line, column, f"got {code!r}, which {other} has too: keep one of the two")
