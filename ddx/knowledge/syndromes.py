"""What syndromes bring of a finding, from totals as studies report them; ``ddx.noisy_or`` has the same for whole networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


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
