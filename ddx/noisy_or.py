"""Parameters of findings and syndromes -> the noisy-OR arrays of the network.

Studies report totals: the sensitivity s_fk = P(f | only cause k) counts what comes through syndromes, and the frequency of a
finding without any cause counts what comes from a syndrome that is there without a cause. The arrays hold the direct parts:

    syndrome  q_jk = P(j | only k),  r_jk = (q_jk - l_j) / (1 - l_j),  l_j = P(j | no cause)
    finding   v_fj = (P(f | only j) - leak_f) / (1 - leak_f)
    leak      1 - leak_f = (1 - direct leak_f) prod_j (1 - l_j v_fj)
    link      1 - s_fk   = (1 - direct leak_f) (1 - w_fk) prod_j (1 - q_jk v_fj)

A finding that no study counted in a cause has no direct link to it: what its syndromes bring is all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddx.knowledge import KnowledgeBase
from ddx.knowledge.graded import continuation

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FindingArrays:
    """Axes: A age bands, J syndromes, F findings, K causes. A direct part below zero is a conflict between parameters."""

    link: Floats  # (F, K)
    leak: Floats  # (A, F)
    syndrome_link: Floats  # (J, K)
    syndrome_leak: Floats  # (J,)
    finding_syndrome: Floats  # (F, J)

    def usable(self) -> FindingArrays:
        """With 0 for what is below zero: in a parameter draw that means no link. The check refuses it of the means."""
        parts = (self.link, self.leak, self.syndrome_link, self.syndrome_leak, self.finding_syndrome)
        return FindingArrays(*(np.maximum(part, 0.0) for part in parts))


def finding_arrays(kb: KnowledgeBase, value: Mapping[str, float]) -> FindingArrays:
    """The arrays that parameter values make; ``value`` holds every ``link:`` and ``leak:`` parameter of the knowledge base."""
    row = {f: i for i, f in enumerate(kb.findings)}
    place = {s: len(row) + j for j, s in enumerate(kb.syndromes)}  # syndromes stand below the findings
    column = {c: k for k, c in enumerate((*kb.causes, *kb.syndromes))}
    total = np.zeros((len(row) + len(place), len(column)))
    for parameter in kb.parameters:
        if parameter.startswith("link:"):
            _, cause, finding = parameter.split(":")
            total[row[finding] if finding in row else place[finding], column[cause]] = value[parameter]
    base = np.array([value[f"leak:{f}"] for f in kb.findings])
    leak = np.array([[value.get(f"leak:{f}@{b.id}", value[f"leak:{f}"]) for f in kb.findings] for b in kb.age_bands])
    n_findings, n_causes = len(row), len(kb.causes)
    sensitivity, syndrome = total[:n_findings, :n_causes], total[n_findings:, :n_causes]
    for levels in kb.graded.values():
        rows = [row[level] for level in levels]
        base[rows] = continuation(base[rows].tolist())
        for a in range(len(leak)):
            leak[a, rows] = continuation(leak[a, rows].tolist())
        for k in np.flatnonzero(sensitivity[rows].any(axis=0)):
            sensitivity[rows, k] = continuation(sensitivity[rows, k].tolist())
    syndrome_leak = np.array([value[f"leak:{s}"] for s in kb.syndromes])
    syndrome_link = _excess(syndrome, syndrome_leak[:, None])
    finding_syndrome = _excess(total[:n_findings, n_causes:], base[:, None])
    direct_base, direct_leak, through = base, leak, np.ones_like(sensitivity)
    for j in range(len(syndrome_leak)):
        q = syndrome_leak[j] + (1.0 - syndrome_leak[j]) * syndrome_link[j]
        v = finding_syndrome[:, j]
        through = through * (1.0 - v[:, None] * q)
        # 1 - (1 - x) / (1 - y), which is x to the last digit where y is zero.
        direct_base = _excess(direct_base, syndrome_leak[j] * v)
        direct_leak = _excess(direct_leak, syndrome_leak[j] * v)
    known = 1.0 - (1.0 - direct_base[:, None]) * through
    # A finding of no syndrome keeps the short formula: the same number without another rounding.
    known = np.where((finding_syndrome > 0.0).any(axis=1, keepdims=True), known, base[:, None])
    return FindingArrays(_excess(sensitivity, known), direct_leak, syndrome_link, syndrome_leak, finding_syndrome)


def _excess(total: Floats, base: Floats) -> Floats:
    """Noisy-OR link that lifts a probability from base to total; zero where there is no total."""
    return np.where(total > 0.0, (total - base) / (1.0 - base), 0.0)
