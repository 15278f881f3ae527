"""``ddx kb show`` and ``ddx kb coverage``."""

from __future__ import annotations

from collections import Counter, defaultdict

from rich.console import Console
from rich.table import Table

from ddx.cli.show import console
from ddx.errors import UsageError, nearest
from ddx.knowledge import EXPERT, VERBAL, KnowledgeBase, Parameter
from ddx.knowledge.syndromes import brought

_KINDS = {
    "prior": "prior",
    "or": "odds ratio",
    "link": "link",
    "leak": "leak",
    "context": "context frequency",
    "population": "population share",
}

# What a parameter rests on.
_BASES = ("numbers", "words", "estimates")


def show_item(kb: KnowledgeBase, name: str) -> None:
    """A cause, syndrome, finding (graded or not), context or measurement with its parameters; a parameter with its studies."""
    out = console()
    if name in kb.parameters:
        _studies(out, kb, kb.parameters[name])
        return
    if name in kb.syndromes:
        syndrome = kb.syndromes[name]
        _fields(out, {"syndrome": f"{syndrome.label} ({name})", "": syndrome.description})
        _parameters(out, kb, name)
        return
    if name in kb.graded:
        _fields(out, {"graded": name, "levels": ", ".join(kb.graded[name])})
        _parameters(out, kb, *kb.graded[name])
        return
    kind, id_ = kb.names.get(name, ("", ""))
    if not kind:
        known = [*kb.names, *kb.syndromes, *kb.graded, *kb.parameters]
        raise UsageError(f"nothing is called {name!r} in {kb.name}{nearest(name, known)}")
    if kind == "measurement":
        m = kb.measurements[id_]
        _fields(
            out,
            {
                "measurement": m.label,
                "unit": m.unit,
                "LOINC": m.loinc,
                "plausible": f"{m.plausible[0]:g} to {m.plausible[1]:g}",
            },
        )
        for rule in m.thresholds:
            limit = f"below {rule.below:g}" if rule.below is not None else f"at least {rule.at_least:g}"
            out.print(f"{rule.finding}: {limit}{' for ' + rule.sex.removeprefix('sex_') if rule.sex else ''}")
        return
    if kind == "cause":
        cause = kb.causes[id_]
        _fields(
            out,
            {
                "cause": f"{cause.label} ({id_})",
                "codes": " ".join(filter(None, [f"ICD-10 {cause.icd10}" if cause.icd10 else "", cause.mondo])),
                "family": cause.family,
                "course": cause.course + (f", active for {cause.window_days:g} days" if cause.window_days else ""),
                "urgency": f"{cause.urgency}, act above {cause.action_threshold:g}",
                "": cause.description,
            },
        )
        for form in kb.forms.values():
            if form.cause == id_:
                out.print(f"form {form.id}, {form.share:.3g} of the patients: {form.description}", soft_wrap=True)
    elif kind == "finding":
        finding = kb.findings[id_]
        graded = f"level {finding.level} of {finding.graded}" if finding.graded else ""
        _fields(
            out,
            {
                "finding": f"{finding.label} ({id_})",
                "codes": " ".join(filter(None, [finding.hpo, f"LOINC {finding.loinc}" if finding.loinc else ""])),
                "kind": ", ".join(filter(None, [finding.kind, graded])),
                "implies": ", ".join(finding.implies),
                "question": finding.question,
            },
        )
    else:
        context = kb.context[id_]
        band = next((b.id for b in kb.age_bands if context in kb.parts_of(b)), "")
        shared = "whose leaks and risk factors it has; odds ratios rise and fall with age as the bands do"
        _fields(
            out,
            {
                "context": f"{context.label} ({id_})",
                "requires": context.requires,
                "parts": ", ".join(part.id for part in kb.parts_of(context)) if context in kb.age_bands else "",
                "part of": f"{band}, {shared}" if band else "",
                "question": context.question,
            },
        )
    _parameters(out, kb, id_)


def show_coverage(kb: KnowledgeBase, estimates: bool = False) -> None:
    """Parameters with a cited study, by kind and by cause; with ``estimates`` every parameter without one, and why."""
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    by_cause: dict[str, Counter[str]] = defaultdict(Counter)
    for parameter in kb.parameters.values():
        kind, *rest = parameter.id.split("@")[0].split(":")
        basis = _basis(kb, parameter)
        by_kind[_kind(parameter)][basis] += 1
        if kind in ("prior", "or", "link") and rest[0] in kb.causes:
            by_cause[rest[0]][basis] += 1
    out = console()
    out.print(_coverage_table("kind", by_kind, total=True))
    out.print()
    out.print(_coverage_table("cause", dict(sorted(by_cause.items(), key=lambda item: _share(item[1])))))
    rows = Counter(s.source == EXPERT for s in kb.studies.values())
    used = {s for p in kb.parameters.values() for s in p.studies}
    estimated = sum(kb.studies[s].source == EXPERT for s in used)
    superseded = f" ({rows[True] - estimated} more are superseded)" if rows[True] > estimated else ""
    cited = len(kb.sources.keys() - {EXPERT})
    out.print(f"\n{rows[False]} study rows from {cited} sources, {estimated} expert estimates in use{superseded}.")
    out.print("numbers: pooled from published numbers. words: the sources give the frequency in words, or only bound it.")
    out.print("An expert estimate is a number without a source; it has a wide interval and gives way to the first study.")
    if kb.forms:
        where = ", ".join(kb.settings_with_forms) or "no setting"
        out.print(
            f"{len(kb.forms)} forms of causes, estimates that only divide what studies count (forms.csv), in use in: {where}."
        )
    for title, numbers in (
        ("Causes per patient who has any", kb.causes_per_patient),
        *(
            (f"Findings without a modelled cause reported in {setting}, over those from one", numbers)
            for setting, numbers in kb.background_reported.items()
        ),
        ("Risk factors stated, of those that are there", kb.risk_factors_reported),
    ):
        if numbers:
            stated = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
            out.print(f"{title} (kb.toml, held in all analyses): {stated}.")
    reasons: dict[str, list[Parameter]] = defaultdict(list)
    for parameter in kb.parameters.values():
        if not parameter.cited:
            reasons[_reason(kb, parameter)[0]].append(parameter)
    if reasons:
        out.print()
        out.print(_reasons_table(reasons))
    if not estimates:
        if reasons:
            out.print("\n--estimates lists them.")
        return
    for reason, members in _by_size(reasons):
        out.print(f"\n{reason}:")
        for parameter in members:
            remark = _reason(kb, parameter)[1]
            out.print(f"  {parameter.id} {parameter.value:.3g}{f'  ({remark})' if remark else ''}", soft_wrap=True)


def _basis(kb: KnowledgeBase, parameter: Parameter) -> str:
    if not parameter.cited:
        return "estimates"
    return "words" if kb.studies[parameter.studies[0]].quality == VERBAL else "numbers"


def _reason(kb: KnowledgeBase, parameter: Parameter) -> tuple[str, str]:
    """Why a number is an estimate, from its note: the part before the first colon, and the remark behind it."""
    reason, _, remark = kb.studies[parameter.studies[0]].note.partition(":")
    return reason.strip() or "no reason given", remark.strip()


def _kind(parameter: Parameter) -> str:
    kind = _KINDS[parameter.id.split(":")[0]]
    where = {"prior": "prior in a setting", "leak": "leak in an age band"}
    return where.get(kind, kind) if "@" in parameter.id else kind


def _by_size(reasons: dict[str, list[Parameter]]) -> list[tuple[str, list[Parameter]]]:
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))


def _reasons_table(reasons: dict[str, list[Parameter]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("why an expert estimate", overflow="fold")
    table.add_column("parameters", justify="right")
    for reason, members in _by_size(reasons):
        table.add_row(reason, str(len(members)))
    return table


def _coverage_table(title: str, counts: dict[str, Counter[str]], total: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    for name in (*_BASES, "all", "cited"):
        table.add_column(name, justify="right")
    rows = dict(counts)
    if total:
        rows["all parameters"] = sum(counts.values(), Counter())
    for name, count in rows.items():
        table.add_row(name, *(str(count[basis]) for basis in _BASES), str(count.total()), f"{100.0 * _share(count):.0f} %")
    return table


def _share(count: Counter[str]) -> float:
    return (count.total() - count["estimates"]) / max(1, count.total())


def _fields(out: Console, fields: dict[str, str]) -> None:
    for name, value in fields.items():
        if value:
            out.print(f"{name:<12}{value}")
    out.print()


def _parameters(out: Console, kb: KnowledgeBase, *ids: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("parameter", "value", "distribution", "sources"):
        table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for parameter in kb.parameters.values():
        if set(ids).intersection(parameter.id.replace("@", ":").replace("+", ":").split(":")):
            sources = ", ".join(dict.fromkeys(kb.studies[s].source for s in parameter.studies))
            table.add_row(parameter.id, f"{parameter.value:.3g}", _distribution(parameter), sources)
    out.print(table)


def _studies(out: Console, kb: KnowledgeBase, parameter: Parameter) -> None:
    out.print(f"{parameter.id} = {parameter.value:.4g}, {_distribution(parameter)}")
    kind, *rest = parameter.id.split(":")
    if kind == "link" and rest[0] in kb.causes:
        through = brought(kb.means, kb.syndromes, *rest) or 0.0
        if through > parameter.value:
            out.print(
                f"without forms the network has {through:.4g}, beside the leak of the studies: so much the syndromes of "
                f"{rest[0]} bring, within chance of the studies"
            )
    said = rest[0].partition("@")[0]
    if kind == "leak" and said in kb.findings:
        for setting, ratios in kb.background_reported.items():
            if ratio := ratios.get(kb.findings[said].kind):
                part = "it" if setting in kb.settings_with_forms or not kb.syndromes else "its direct part"
                out.print(f"in {setting} the network has {ratio:g} times {part}: so much is reported (kb.toml)")
    if kind == "context":
        for setting, share in kb.risk_factors_reported.items():
            out.print(f"in {setting} the network has {1.0 - share:.3g} times its odds where nothing is said of it (kb.toml)")
    out.print("pooled from:" if len(parameter.studies) > 1 else "from:")
    for study, made in zip((kb.studies[s] for s in parameter.studies), parameter.estimates, strict=True):
        source = kb.sources[study.source]
        counts = (
            f" ({study.numerator}/{study.denominator}{', derived' if study.counts == 'derived' else ''})"
            if study.numerator is not None and study.denominator
            else ""
        )
        interval = f" [{study.low:g}, {study.high:g}]" if study.low is not None and study.high is not None else ""
        where = " ".join(
            filter(
                None,
                [
                    f"doi:{source.doi}" if source.doi else "",
                    f"PMID {source.pmid}" if source.pmid else "",
                    source.url if not source.doi else "",
                ],
            )
        )
        # Rates times their window, ratios without what risk factors bring, complements: the reader should see what they become.
        makes = f", makes {made:.4g}" if abs(made - study.value) > 0.005 * study.value else ""
        out.print(f"  {study.id}: {study.quantity} {study.value:g}{counts}{interval}, {study.quality}{makes}")
        for line in (study.population, source.citation, where, study.note):
            if line:
                out.print(f"      {line}", soft_wrap=True)


def _distribution(parameter: Parameter) -> str:
    if parameter.distribution == "beta":
        return f"Beta({parameter.first:.3g}, {parameter.second:.3g})"
    scale = f" x {parameter.scale:.3g} years" if parameter.scale != 1.0 else ""
    return f"log-normal({parameter.first:.3g}, {parameter.second:.3g}){scale}"
