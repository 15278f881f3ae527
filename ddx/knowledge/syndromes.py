"""What syndromes bring of a finding, from totals as studies report them; ``ddx.noisy_or`` has the same for whole networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from ddx.errors import Problem
from ddx.knowledge.schema import KnowledgeBase, Parameter, problem_of
from ddx.knowledge.unread import Unread

MIN_FINDINGS = 2  # one finding needs no hidden state behind it


def brought(value: Mapping[str, float], syndromes: Iterable[str], cause: str, finding: str) -> float | None:
    """P(finding | only the cause), were there no direct link; None without a syndrome behind the finding.

    ``value``: parameter id -> number, with the totals ``link:CAUSE:FINDING``, ``link:CAUSE:SYNDROME``,
    ``link:SYNDROME:FINDING`` and the ``leak:`` of each.
    """
    links = _links(value, syndromes, finding)
    absent = 1.0 - value[f"leak:{finding}"]
    for syndrome, v in links.items():
        leak = value[f"leak:{syndrome}"]
        absent *= (1.0 - max(value.get(f"link:{cause}:{syndrome}", leak), leak) * v) / (1.0 - leak * v)
    return 1.0 - absent if links else None


def brought_without_cause(value: Mapping[str, float], syndromes: Iterable[str], finding: str) -> float:
    """P(finding | no cause), were there no leak but that of the syndromes."""
    absent = 1.0
    for syndrome, v in _links(value, syndromes, finding).items():
        absent *= 1.0 - value[f"leak:{syndrome}"] * v
    return 1.0 - absent


def _links(value: Mapping[str, float], syndromes: Iterable[str], finding: str) -> dict[str, float]:
    """Syndrome -> noisy-OR link v = (P(finding | only the syndrome) - leak) / (1 - leak)."""
    leak = value[f"leak:{finding}"]
    totals = {s: value[f"link:{s}:{finding}"] for s in syndromes if f"link:{s}:{finding}" in value}
    return {s: max((total - leak) / (1.0 - leak), 0.0) for s, total in totals.items()}


def syndrome_problems(kb: KnowledgeBase, unread: Unread) -> Iterator[Problem]:
    """A syndrome has causes and findings, and brings no more than what the studies of a finding count in all."""
    links = [p for p in kb.parameters.values() if p.id.startswith("link:")]
    pairs = {(p.id.split(":")[1], p.id.split(":")[2]): p for p in links}
    for syndrome in kb.syndromes.values():
        n_causes = sum(f == syndrome.id for _, f in pairs)
        findings = [f for s, f in pairs if s == syndrome.id]
        few = not n_causes or len(findings) < MIN_FINDINGS
        if few and not unread.count("link", syndrome.id):
            got = f"got {n_causes} causes and {len(findings)} findings of {syndrome.id}"
            yield Problem("syndromes.csv", syndrome.line, "id", f"{got}, expected 1 or more and {MIN_FINDINGS} or more")
        for finding in findings:
            if kb.findings[finding].graded:
                got = f"got the graded finding {finding!r} of the syndrome {syndrome.id}"
                yield problem_of(kb, pairs[syndrome.id, finding], "finding", f"{got}; link its levels to causes")
    needed = [f"leak:{item}" for item in (*kb.findings, *kb.syndromes)]
    if not kb.syndromes or any(leak not in kb.parameters for leak in needed) or unread.count("link") + unread.count("leak"):
        return
    yield from _totals(kb, pairs)


def _totals(kb: KnowledgeBase, pairs: Mapping[tuple[str, str], Parameter]) -> Iterator[Problem]:
    """What syndromes bring alone must not be more than what the studies of a finding count in all.

    A sensitivity may lie below by chance: up to the 95 % quantile of its distribution (on the logit scale) it is let pass.
    """
    value = {p.id: p.value for p in kb.parameters.values()}
    for (cause, finding), parameter in pairs.items():
        if cause in kb.causes and finding in kb.findings and not kb.findings[finding].graded:
            total = brought(value, kb.syndromes, cause, finding)
            if total is not None and total > _upper(parameter):
                yield problem_of(
                    kb,
                    parameter,
                    "value",
                    f"{parameter.id} is {parameter.value:.3g}, but the syndromes of {cause} alone bring {total:.3g}: "
                    "lower what links the cause to the syndrome or the syndrome to the finding, or mend the row",
                )
    for parameter in kb.parameters.values():
        kind, *names = parameter.id.split("@")[0].split(":")
        if kind == "leak" and names[0] in kb.findings and not kb.findings[names[0]].graded:
            least = brought_without_cause(value, kb.syndromes, names[0])
            if least > parameter.value:
                message = f"{parameter.id} is {parameter.value:.3g}, syndromes without a cause alone bring {least:.3g}"
                yield problem_of(kb, parameter, "value", message)


def _upper(parameter: Parameter) -> float:
    """95 % quantile of a Beta, by the normal distribution on the logit scale."""
    size = parameter.first + parameter.second
    p = parameter.first / size
    spread = 1.645 / math.sqrt((size + 1.0) * p * (1.0 - p))
    return 1.0 / (1.0 + math.exp(-(math.log(p / (1.0 - p)) + spread)))
