"""The forms in which causes come: which share of the patients has each, and how frequent findings are in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ddx.errors import Problem, nearest
from ddx.knowledge.schema import Finding, Form, FormFinding

# By which the shares of a cause may miss 1: they are divided by their sum.
SLACK = 0.02


@dataclass(frozen=True)
class Forms:
    """Of one cause: shares of its forms, which add up to 1, and finding -> its frequency in each of them."""

    share: tuple[float, ...]
    frequency: Mapping[str, tuple[float, ...]]


def forms_of(forms: Iterable[Form], findings: Iterable[FormFinding]) -> dict[str, Forms]:
    """Cause -> its forms, in the order of the files."""
    shares: dict[str, list[float]] = {}
    for form in forms:
        shares.setdefault(form.cause, []).append(form.share)
    rows = list(findings)
    return {
        cause: Forms(
            tuple(share / sum(own) for share in own), {row.finding: row.frequencies for row in rows if row.cause == cause}
        )
        for cause, own in shares.items()
    }


def form_problems(
    forms: Mapping[str, Form],
    rows: Mapping[str, FormFinding],
    causes: Mapping[str, object],
    findings: Mapping[str, Finding],
    syndromes: Iterable[str],
    parameters: Mapping[str, object],
) -> Iterator[Problem]:
    """Ids that do not exist, shares that do not add up to 1, and frequencies of other forms than there are."""
    count: dict[str, list[float]] = {}
    for form in forms.values():
        if form.cause not in causes:
            yield Problem("forms.csv", form.line, "cause", f"unknown cause {form.cause!r}{nearest(form.cause, causes)}")
        if not 0.0 < form.share <= 1.0:
            yield Problem("forms.csv", form.line, "share", f"got {form.share:g}, expected a share above 0, at most 1")
        count.setdefault(form.cause, []).append(form.share)
    known = count.keys() <= causes.keys()  # else a cause may have too few forms because its name is misspelt
    for form in {form.cause: form for form in forms.values()}.values():
        if abs(sum(count[form.cause]) - 1.0) > SLACK:
            total = f"add up to {sum(count[form.cause]):.3g}, expected {1 - SLACK:g} to {1 + SLACK:g}"
            message = f"the shares of the forms of {form.cause} {total}"
            yield Problem("forms.csv", form.line, "share", message)
    said: set[tuple[str, str]] = set()
    for row in rows.values():
        if row.cause not in count:
            message = f"got {row.cause!r}, which has no forms in forms.csv{nearest(row.cause, count)}"
            yield Problem("form_findings.csv", row.line, "cause", message)
        elif known and len(row.frequencies) != len(count[row.cause]):
            message = f"got {len(row.frequencies)} numbers, {row.cause} has {len(count[row.cause])} forms"
            yield Problem("form_findings.csv", row.line, "frequencies", message)
        if row.finding not in findings:
            message = f"unknown finding {row.finding!r}{nearest(row.finding, findings)}"
            yield Problem("form_findings.csv", row.line, "finding", message)
        elif row.cause in count and not _linked(parameters, syndromes, row.cause, row.finding):
            message = (
                f"no study says how frequent {row.finding} is in {row.cause}, and no syndrome brings it: "
                "forms only divide that among them"
            )
            yield Problem("form_findings.csv", row.line, "finding", message)
        if (row.cause, row.finding) in said:
            yield Problem("form_findings.csv", row.line, "finding", f"{row.finding} in {row.cause} stands in an earlier row")
        said.add((row.cause, row.finding))
        for p in row.frequencies:
            if not 0.0 < p < 1.0:
                message = f"got {p:g}, expected a frequency between 0 and 1"
                yield Problem("form_findings.csv", row.line, "frequencies", message)


def _linked(parameters: Mapping[str, object], syndromes: Iterable[str], cause: str, finding: str) -> bool:
    """Whether a cause shows a finding: it was counted, or comes through a syndrome."""
    paths = [[f"link:{cause}:{finding}"], *([f"link:{cause}:{s}", f"link:{s}:{finding}"] for s in syndromes)]
    return any(all(link in parameters for link in path) for path in paths)
