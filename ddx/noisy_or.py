"""Parameters of findings and syndromes -> the noisy-OR arrays of the network, for many sets of parameter values at once.

Studies report totals: the sensitivity s_fk = P(f | only cause k) counts what comes through syndromes, and the frequency of a
finding without any cause counts what comes from a syndrome that is there without a cause. The arrays hold the direct parts:

    syndrome  q_jk = P(j | only k),  r_jk = (q_jk - l_j) / (1 - l_j),  l_j = P(j | no cause)
    finding   v_fj = (P(f | only j) - leak_f) / (1 - leak_f)
    leak      1 - leak_f = (1 - direct leak_f) prod_j (1 - l_j v_fj)
    link      1 - s_fk   = (1 - direct leak_f) (1 - w_fk) prod_j (1 - q_jk v_fj)

A finding that no study counted in a cause has no direct link to it: what its syndromes bring is all.

Leaks are of people who were all asked and examined; a patient is described by what is reported, and a finding that no modelled
cause brought is reported more rarely than the others. Where a setting says by how much (``background_reported``, by the kind of
the finding), direct leaks are multiplied with that, in the last two lines too. The sensitivities stay: they were counted in
patients with the cause, as a case is reported.

Where causes come in forms, every form has a column of its own; what hangs together does so through the forms, and there are no
syndromes: all is direct. A finding that no study counted in a cause then has a link for what its syndromes bring,
1 - w_fk = prod_j (1 - q_jk v_fj) / (1 - l_j v_fj), and the whole leak is the direct one.

Axes: S sets of values, A ages (age bands, or their parts, which have the leaks of the band), J syndromes, F findings, K causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ddx.forms import has_forms, in_forms
from ddx.inference.network import Floats, Ints
from ddx.knowledge import KnowledgeBase
from ddx.knowledge.graded import MIN_NONE
from ddx.values import Values, places


@dataclass(frozen=True, eq=False)
class FindingArrays:
    """Of S sets of values.

    A direct part below zero, a conflict between parameters, is 0 here: in a draw that means no link, and the check of a
    knowledge base refuses it of the means.
    """

    link: Floats  # (S, F, K)
    leak: Floats  # (S, A, F)
    syndrome_link: Floats  # (S, J, K)
    syndrome_leak: Floats  # (S, J)
    finding_syndrome: Floats  # (S, F, J)


@dataclass(frozen=True, eq=False)
class _Places:
    """Columns of the parameters in a table of values, -1 where there is none."""

    link: Ints  # (F + J, K + J)
    leak: Ints  # (F,) of all ages
    leak_at_age: Ints  # (A, F)
    syndrome_leak: Ints  # (J,)


def finding_arrays(kb: KnowledgeBase, setting: str, values: Values, findings: Sequence[str] | None = None) -> FindingArrays:
    """The arrays that parameter values make in a setting.

    ``findings`` : those wanted, F of them, with all levels of a graded one; default: all
    """
    place, names = _places(kb), list(kb.findings)
    rows = np.arange(len(names)) if findings is None else np.array([names.index(f) for f in findings], dtype=np.intp)
    own = {names[r]: i for i, r in enumerate(rows.tolist())}
    below = np.concatenate([rows, np.arange(len(names), len(place.link))])  # syndromes stand below the findings
    total = values.at(place.link[below], 0.0)
    base, leak = values.at(place.leak[rows], np.nan), values.at(place.leak_at_age[:, rows], np.nan)
    n_findings, n_causes = len(rows), len(kb.causes)
    sensitivity, of_syndrome = total[:, :n_findings, :n_causes], total[:, n_findings:, :n_causes]
    syndrome_leak = values.at(place.syndrome_leak, np.nan)
    syndrome_link = np.maximum(_excess(of_syndrome, syndrome_leak[:, :, None]), 0.0)
    finding_syndrome = np.maximum(_excess(total[:, :n_findings, n_causes:], base[:, :, None]), 0.0)
    direct_base, direct_leak, through, without = base, leak, np.ones_like(sensitivity), np.ones_like(base)
    for j in range(syndrome_leak.shape[1]):
        alone = syndrome_leak[:, j, None]
        q = alone + (1.0 - alone) * syndrome_link[:, j]
        v = finding_syndrome[:, :, j]
        through = through * (1.0 - v[:, :, None] * q[:, None, :])
        without = without * (1.0 - v * alone)
        # 1 - (1 - x) / (1 - y), which is x to the last digit where y is zero.
        direct_base = np.maximum(_excess(direct_base, alone * v), 0.0)
        direct_leak = np.maximum(_excess(direct_leak, (alone * v)[:, None, :]), 0.0)
    reported = _reported(kb, setting)[rows]
    forms = has_forms(kb, setting)
    if forms:
        brought = (finding_syndrome > 0.0).astype(float) @ (of_syndrome > 0.0) > 0.0
        beside = 1.0 - (1.0 - (reported * base)[:, :, None]) * through / without[:, :, None]
        sensitivity = np.where((sensitivity <= 0.0) & brought, beside, sensitivity)
        sensitivity = in_forms(kb, sensitivity, reported * base, [names[r] for r in rows])
    for levels in kb.graded.values():  # no syndrome shows itself in one
        if levels[0] in own:
            at = [own[level] for level in levels]
            base[:, at] = _continuation(base[:, at], axis=1)
            leak[:, :, at] = _continuation(leak[:, :, at], axis=2)
            direct_leak[:, :, at] = leak[:, :, at]
            sensitivity[:, at] = _continuation(sensitivity[:, at], axis=1)
    background = reported * base
    if forms:
        nothing = sensitivity[:, :0]
        link = _excess(sensitivity, background[:, :, None])
        parts = (link, leak * reported, nothing, nothing[:, :, 0], sensitivity[:, :, :0])
        return FindingArrays(*(np.maximum(part, 0.0) for part in parts))
    known = 1.0 - (1.0 - reported[:, None] * direct_base[:, :, None]) * through
    # A finding of no syndrome keeps the short formula: the same number without another rounding.
    known = np.where((finding_syndrome > 0.0).any(axis=2, keepdims=True), known, background[:, :, None])
    parts = (_excess(sensitivity, known), direct_leak * reported, syndrome_link, syndrome_leak, finding_syndrome)
    return FindingArrays(*(np.maximum(part, 0.0) for part in parts))


def _excess(total: Floats, base: Floats) -> Floats:
    """Noisy-OR link that lifts a probability from base to total; zero where there is no total."""
    return np.where(total > 0.0, (total - base) / (1.0 - base), 0.0)


def _continuation(levels: Floats, axis: int) -> Floats:
    """``ddx.knowledge.graded.continuation`` along an axis; zeros where no level has a probability."""
    parts = [part[..., 0] for part in np.split(np.moveaxis(levels, axis, -1), levels.shape[axis], axis=-1)]
    total = sum(parts[1:], parts[0])
    scale = np.minimum(1.0, (1.0 - MIN_NONE) / np.where(total > 0.0, total, 1.0))
    scaled = [part * scale for part in parts]
    reached = 1.0 - sum(scaled[1:], scaled[0])
    ratios = []
    for part in scaled:
        reached = reached + part
        ratios.append(part / reached)
    return np.stack(ratios, axis=axis)


@lru_cache(maxsize=32)
def _reported(kb: KnowledgeBase, setting: str) -> Floats:
    """(F,) how often the setting's records hold a finding without a modelled cause, over how often one from a cause."""
    ratio = kb.background_reported.get(setting, {})
    return np.array([ratio.get(finding.kind, 1.0) for finding in kb.findings.values()])


@lru_cache(maxsize=8)
def _places(kb: KnowledgeBase) -> _Places:
    place = places(kb)
    below = {name: i for i, name in enumerate([*kb.findings, *kb.syndromes])}
    above = {name: i for i, name in enumerate([*kb.causes, *kb.syndromes])}
    link = np.full((len(below), len(above)), -1, dtype=np.intp)
    for parameter, at in place.items():
        if parameter.startswith("link:"):
            _, cause, finding = parameter.split(":")
            link[below[finding], above[cause]] = at
    leak = np.array([place[f"leak:{f}"] for f in kb.findings], dtype=np.intp)
    in_band = np.array(
        [[place.get(f"leak:{f}@{b.id}", place[f"leak:{f}"]) for f in kb.findings] for b in kb.age_bands], dtype=np.intp
    )
    at_age = in_band[list(kb.band_of_stratum)]
    of_syndrome = np.array([place[f"leak:{s}"] for s in kb.syndromes], dtype=np.intp)
    return _Places(link, leak, at_age, of_syndrome)
