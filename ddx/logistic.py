"""Parameters of causes and context -> the logistic arrays of the network, for many sets of parameter values at once.

    logit P(c_k = 1 | age band a, sex g, risk factors x) = b_k + log OR_ka + log OR_kg + sum_j log OR_kj x_j

The intercept b_k makes the marginal over the reference population the prevalence of the setting. Axes: S sets of values, B
pairs of a set and a cause, K causes, C risk factors, A age bands, 2 sexes, T entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddx.inference.network import Floats, Ints
from ddx.inference.rows import expit
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase
from ddx.values import Values


@dataclass(frozen=True, eq=False)
class ContextArrays:
    """``prior`` (S, A, 2, C): P(risk factor | age band, sex); ``share`` (S, A, 2) of the reference population."""

    prior: Floats
    share: Floats


@dataclass(frozen=True, eq=False)
class CauseArrays:
    """Of B pairs of a set of values and a cause."""

    prevalence: Floats  # (B,) in the setting, over the reference population
    log_odds: Floats  # (B, A, 2) without risk factors
    context_log_odds: Floats  # (B, C)


@dataclass(frozen=True, eq=False)
class _Entries:
    """Every combination of stratum and of the risk factors that matter, cause after cause (T in all).

    A cause uses at most U risk factors, those that others require first.
    """

    first: Ints  # (K + 1,)
    stratum: Ints  # (T,) index of age band and sex, the sex the faster one
    on: NDArray[np.bool_]  # (T, U) which of the used risk factors are there
    used: Ints  # (K, U) risk factor, -1 for none
    parent: Ints  # (K, U) which of the used ones this one requires, -1 for none


def context_arrays(kb: KnowledgeBase, values: Values) -> ContextArrays:
    """Shares of the strata, and the frequency of every risk factor in them.

    The frequency is the figure of the cell of age band and sex where there is one, else the log odds of the age band plus the
    contrast of the sexes.
    """
    bands, sexes = [c.id for c in kb.age_bands], [c.id for c in kb.sexes]
    of_band, of_sex = (_normalized(values.columns([f"population:{x}" for x in ids])) for ids in (bands, sexes))
    prior = np.empty((len(values), len(bands), len(sexes), len(kb.risk_factors)))
    for x, factor in enumerate(c.id for c in kb.risk_factors):
        name = f"context:{factor}"
        base = values.columns([f"{name}@{b}" if f"{name}@{b}" in values else name for b in bands])
        contrast = np.zeros((len(values), len(sexes)))
        if all(f"{name}@{s}" in values for s in sexes):
            by_sex = values.columns([f"{name}@{s}" for s in sexes])
            contrast = logit(by_sex) - logit((of_sex * by_sex).sum(axis=1))[:, None]
        prior[..., x] = expit(logit(base)[:, :, None] + contrast[:, None, :])
        for a, band in enumerate(bands):
            for s, sex in enumerate(sexes):
                cell = f"{name}@{'+'.join(sorted((band, sex)))}"
                if cell in values:
                    prior[:, a, s, x] = values.columns([cell])[:, 0]
    return ContextArrays(prior, of_band[:, :, None] * of_sex[:, None, :])


def cause_arrays(
    kb: KnowledgeBase, setting: str, values: Values, context: ContextArrays, pairs: tuple[Ints, Ints] | None = None
) -> CauseArrays:
    """Prevalences, log odds and log odds ratios of causes.

    Parameters
    ----------
    context : of the same sets, or of one that all of them share
    pairs : indices of a set and of a cause (B,), (B,); default: every cause of every set, the causes the faster ones
    """
    n_sets, n_causes = len(values), len(kb.causes)
    if pairs is None:
        pairs = np.repeat(np.arange(n_sets), n_causes), np.tile(np.arange(n_causes), n_sets)
    at, cause = pairs
    effect = {c: log_ratio[at, cause] for c, log_ratio in _log_ratios(kb, values).items()}
    bands, sexes = [effect[c.id] for c in kb.age_bands], [effect[c.id] for c in kb.sexes]
    stratum = np.stack(bands, axis=-1)[:, :, None] + np.stack(sexes, axis=-1)[:, None, :]
    factors = [effect[c.id] for c in kb.risk_factors]
    context_log_odds = np.stack(factors, axis=-1) if factors else np.zeros((len(at), 0))
    prevalence = _prevalence(kb, setting, values)[at, cause]
    own = at if len(context.share) > 1 else np.zeros_like(at)
    intercept = _intercepts(kb, prevalence, stratum, context_log_odds, context, own, cause)
    return CauseArrays(prevalence, intercept[:, None, None] + stratum, context_log_odds)


def causes_moved(kb: KnowledgeBase, values: Values) -> NDArray[np.bool_]:
    """(S, K) whose priors differ from those at the means of all parameters."""
    moved = values.moved
    columns = np.flatnonzero(moved.any(axis=0))
    return np.asarray(moved[:, columns].astype(np.float32) @ _governs(kb)[columns] > 0.0)


@lru_cache(maxsize=8)
def _governs(kb: KnowledgeBase) -> NDArray[np.float32]:
    """(P, K) 1 where the prior of a cause depends on a parameter: its own, and the frequencies of its risk factors."""
    e, risk_factors = _entries(kb), [c.id for c in kb.risk_factors]
    governs = np.zeros((len(kb.parameters), len(kb.causes)), dtype=np.float32)
    causes = {cause: k for k, cause in enumerate(kb.causes)}
    for i, parameter in enumerate(kb.parameters):
        kind, subject = parameter.partition("@")[0].split(":")[:2]
        if kind == "population":
            governs[i] = 1.0
        elif kind == "context":
            governs[i] = (e.used == risk_factors.index(subject)).any(axis=1)
        elif kind in ("prior", "or"):
            governs[i, causes[subject]] = 1.0
    return governs


def _log_ratios(kb: KnowledgeBase, values: Values) -> dict[str, Floats]:
    """Context -> log odds ratios (S, K) of all causes, 0 where there is no parameter."""
    ids = {c: [f"or:{cause}:{c}" for cause in kb.causes] for c in kb.context}
    return {c: np.log(values.columns(names, missing=1.0)) for c, names in ids.items()}


def _prevalence(kb: KnowledgeBase, setting: str, values: Values) -> Floats:
    """Of the setting (S, K); a cause without a figure for it keeps that of the general population."""
    if setting == BALANCED:
        return np.full((len(values), len(kb.causes)), 1.0 / len(kb.causes))
    own = [f"prior:{cause}@{setting}" for cause in kb.causes]
    general = [f"prior:{cause}" for cause in kb.causes]
    if setting == GENERAL:
        return values.columns(general)
    return values.columns([o if o in values else g for o, g in zip(own, general, strict=True)])


def _intercepts(
    kb: KnowledgeBase,
    prevalence: Floats,
    stratum: Floats,
    context_log_odds: Floats,
    context: ContextArrays,
    own: Ints,
    cause: Ints,
) -> Floats:
    """Intercepts (B,) for which the marginal of every cause over the reference population is its prevalence.

    sum over entries of P(stratum) P(x | stratum) expit(b + stratum + log_odds x) = prevalence, solved for all pairs at once by
    Newton steps inside a bracket. ``own`` (B,) : the set of ``context`` that belongs to a pair.
    """
    offset, weight, first = entries_of(kb, stratum, context_log_odds, context, own, cause)
    pair = np.repeat(np.arange(len(cause)), np.diff(np.append(first, len(offset))))
    target = logit(prevalence)
    low, high = target - np.maximum.reduceat(offset, first), target - np.minimum.reduceat(offset, first)
    b = 0.5 * (low + high)
    moving = np.ones(len(b), dtype=np.bool_)
    for _ in range(100):
        p = expit(b[pair] + offset)
        gap = np.add.reduceat(weight * p, first) - prevalence
        low, high = np.where(gap > 0.0, low, b), np.where(gap > 0.0, b, high)
        newton = b - gap / np.add.reduceat(weight * (p * (1.0 - p)), first)
        step = np.where((low <= newton) & (newton <= high), newton, 0.5 * (low + high))
        moving &= np.abs(step - b) > 1e-15 * np.maximum(1.0, np.abs(b))
        if not moving.any():
            break
        b = np.where(moving, step, b)
    return b


def entries_of(
    kb: KnowledgeBase, stratum: Floats, context_log_odds: Floats, context: ContextArrays, own: Ints, cause: Ints
) -> tuple[Floats, Floats, Ints]:
    """Log odds offset and probability of every combination of stratum and of the risk factors that matter.

    Parameters
    ----------
    stratum (B, A, 2), context_log_odds (B, C), own (B,) set of ``context``, cause (B,)

    Returns
    -------
    Offsets and probabilities, pair after pair, and where each pair begins (B,).
    """
    e = _entries(kb)
    size = np.diff(e.first)[cause]
    first = np.cumsum(size) - size
    pair = np.repeat(np.arange(len(cause)), size)
    entry = np.arange(len(pair)) - first[pair] + e.first[cause[pair]]
    offset = stratum.reshape(len(cause), -1)[pair, e.stratum[entry]]
    used = e.used[cause]
    effect = np.where(used >= 0, np.take_along_axis(context_log_odds, np.maximum(used, 0), axis=1), 0.0)
    for u in range(used.shape[1]):
        offset += e.on[entry, u] * effect[pair, u]
    if len(context.share) == 1:
        every, whose = np.arange(len(e.stratum)), np.repeat(np.arange(len(e.used)), np.diff(e.first))
        return offset, _weights(e, context, every, np.zeros_like(every), whose)[entry], first
    return offset, _weights(e, context, entry, own[pair], cause[pair]), first


def _weights(e: _Entries, context: ContextArrays, entry: Ints, own: Ints, cause: Ints) -> Floats:
    """Probabilities (X,) of entries, each with the set of ``context`` and the cause that it belongs to."""
    n_strata, n_factors = context.share[0].size, context.prior.shape[-1]
    cell = own * n_strata + e.stratum[entry]
    weight: Floats = context.share.ravel()[cell]
    prior = context.prior.ravel()
    for u in range(e.used.shape[1]):
        x, parent, on = e.used[cause, u], e.parent[cause, u], e.on[entry, u]
        p = prior[cell * n_factors + np.maximum(x, 0)]
        if (parent >= 0).any():
            p = np.where((parent < 0) | e.on[entry, np.maximum(parent, 0)], p, 0.0)
        weight *= np.where(x < 0, 1.0, np.where(on, p, 1.0 - p))
    return weight


@lru_cache(maxsize=8)
def _entries(kb: KnowledgeBase) -> _Entries:
    risk_factors = [c.id for c in kb.risk_factors]
    requires = requirements(kb)
    lists = []
    for cause in kb.causes:
        used = {j for j, x in enumerate(risk_factors) if f"or:{cause}:{x}" in kb.parameters}
        used |= {int(requires[j]) for j in used if requires[j] >= 0}
        lists.append(sorted(used, key=lambda j: (requires[j] >= 0, j)))
    n_strata, width = len(kb.age_bands) * len(kb.sexes), max(map(len, lists), default=0)
    used_of, parent = np.full((len(lists), width), -1, dtype=np.intp), np.full((len(lists), width), -1, dtype=np.intp)
    stratum, on = [], []
    for k, own in enumerate(lists):
        used_of[k, : len(own)] = own
        parent[k, : len(own)] = [own.index(int(requires[j])) if requires[j] >= 0 else -1 for j in own]
        bits = (np.arange(1 << len(own))[:, None] >> np.arange(width)) & 1 == 1
        stratum.append(np.tile(np.arange(n_strata), len(bits)))
        on.append(np.repeat(bits, n_strata, axis=0))
    first = np.cumsum([0, *(len(s) for s in stratum)])
    return _Entries(first, np.concatenate(stratum), np.concatenate(on), used_of, parent)


def requirements(kb: KnowledgeBase) -> Ints:
    """For every risk factor (C,) the index of the one that it requires, -1 for none."""
    risk_factors = [c.id for c in kb.risk_factors]
    return np.array([risk_factors.index(c.requires) if c.requires else -1 for c in kb.risk_factors], dtype=np.intp)


def logit(p: Floats | float) -> Floats:
    """Log odds."""
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)), dtype=np.float64)


def _normalized(values: Floats) -> Floats:
    return np.asarray(values / values.sum(axis=1, keepdims=True), dtype=np.float64)
