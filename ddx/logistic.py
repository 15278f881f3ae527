"""Parameters of causes and context -> the logistic arrays of the network, for many sets of parameter values at once.

    logit P(c_k = 1 | age a, sex g, risk factors x) = b_k + L_ka + log OR_kg + sum_j log OR_kj x_j

The intercept b_k makes the marginal over the reference population of the setting its prevalence there. Where the setting says
how many causes a patient has, this is P(cause) among people at large of whom patients are as they were counted (``admitted``);
elsewhere patients are people at large. L_ka is the log odds ratio of the age band, or follows age within a band that has parts
(``age_effects``). Axes: S sets of values, B of one and a cause, K causes, C risk factors, A ages (bands, parts), 2 sexes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ddx.admission import Admission, admission
from ddx.errors import KnowledgeError, Problem
from ddx.inference import Network
from ddx.inference.exact import checked, log_no_cause
from ddx.inference.network import Floats, Ints
from ddx.inference.rows import expit
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase
from ddx.knowledge.ages import age_limits
from ddx.values import Values

# Share of an age band or sex that a setting has no row for: a case of it still has posteriors.
NOBODY = 1e-12


@dataclass(frozen=True, eq=False)
class ContextArrays:
    """``prior`` (S, A, 2, C): P(risk factor | age, sex); ``share`` (S, A, 2) of the strata among people at large."""

    prior: Floats
    share: Floats


@dataclass(frozen=True, eq=False)
class CauseArrays:
    """Of B pairs of a set of values and a cause."""

    prevalence: Floats  # (B,) of patients of the setting, over the reference population
    log_odds: Floats  # (B, A, 2) without risk factors
    context_log_odds: Floats  # (B, C)


def context_arrays(kb: KnowledgeBase, setting: str, values: Values) -> ContextArrays:
    """Shares of the strata among people at large (``admitted``), and the frequency of every risk factor in them.

    Shares that a set of values moves are moved by as much at large as among patients. The frequency among all people is the
    figure of the cell of age band and sex where there is one, else the log odds of the age band plus the contrast of the sexes.
    Where a setting has a figure of its own for an age band, that shifts the log odds of both sexes by its difference to the
    mean over them; else the setting has the risk factors of all people. Patients, where they are not people at large, have what
    brings causes more often. Parts of a band have its frequencies, and divide its share among them as they do that of all
    people.
    """
    found = _of_patients(kb, setting, values)
    patients = admitted(kb, setting)
    if patients is None:
        return found
    share = found.share * patients.tilt
    return ContextArrays(found.prior, share / share.sum(axis=(1, 2), keepdims=True))


@lru_cache(maxsize=16)
def admitted(kb: KnowledgeBase, setting: str) -> Admission | None:
    """From people at large to patients of a setting, at the means of all parameters; None where patients are people at large.

    A convention of the setting, as its ages and sexes are: parameters move what it makes of them, not the numbers in it.

    Raises
    ------
    KnowledgeError
        A number of causes per patient that the priors of the setting exclude, or for which no people at large were found.
    """
    if setting not in kb.causes_per_patient:
        return None
    values = Values.of(kb, [{}])
    patients, prior = _of_patients(kb, setting, values), _prevalence(kb, setting, values)[0]

    def none_at_large(scale: float, share: Floats) -> Floats:
        own = _cause_arrays(kb, setting, values, ContextArrays(patients.prior, share[None]), None, scale)
        strata = expit(own.log_odds.reshape(len(prior), -1).T)
        nothing, of_context = (np.zeros((0, len(prior))), np.zeros(0)), patients.prior.reshape(len(strata), -1)
        network = Network(
            strata, *nothing, context_log_odds=own.context_log_odds, context_prior=of_context, requires=requirements(kb)
        )
        # The other kernel would have to be loaded first; ``posterior`` would take twice as long.
        found = log_no_cause(checked(network, np.empty((len(strata), 0)), None), "numpy", np.inf)
        return np.exp(found.log_evidence).reshape(patients.share.shape[1:])

    try:
        return admission(prior, patients.share[0], kb.causes_per_patient[setting], none_at_large)
    except ValueError as error:
        raise KnowledgeError(kb.name, [Problem("kb.toml", None, f"causes_per_patient.{setting}", str(error))]) from None


def _of_patients(kb: KnowledgeBase, setting: str, values: Values) -> ContextArrays:
    bands, sexes = [c.id for c in kb.age_bands], [c.id for c in kb.sexes]
    of_sex, among = _shares(values, sexes, ""), _shares(values, sexes, setting)
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
            own = f"{name}@{band}@{setting}"
            if own in values:
                shift = logit(values.columns([own])) - logit((among * prior[:, a, :, x]).sum(axis=1, keepdims=True))
                prior[:, a, :, x] = expit(logit(prior[:, a, :, x]) + shift)
    band_of = _bands(kb)[1]
    of_age = _shares(values, bands, setting)[:, band_of] * within_bands(kb, values)
    share = of_age[:, :, None] * among[:, None, :]
    return ContextArrays(*(np.ascontiguousarray(array) for array in (prior[:, band_of], share)))


def cause_arrays(
    kb: KnowledgeBase, setting: str, values: Values, context: ContextArrays, pairs: tuple[Ints, Ints] | None = None
) -> CauseArrays:
    """Prevalences, log odds and log odds ratios of causes.

    Parameters
    ----------
    context : of the same sets, or of one that all of them share
    pairs : indices of a set and of a cause (B,), (B,); default: every cause of every set, the causes the faster ones
    """
    patients = admitted(kb, setting)
    return _cause_arrays(kb, setting, values, context, pairs, patients.scale if patients else 1.0)


def _cause_arrays(
    kb: KnowledgeBase,
    setting: str,
    values: Values,
    context: ContextArrays,
    pairs: tuple[Ints, Ints] | None,
    scale: float,
) -> CauseArrays:
    """The same; ``scale`` times the prevalence is P(cause) among people at large."""
    n_sets, n_causes = len(values), len(kb.causes)
    if pairs is None:
        pairs = np.repeat(np.arange(n_sets), n_causes), np.tile(np.arange(n_causes), n_sets)
    at, cause = pairs
    effect = {c: log_ratio[at, cause] for c, log_ratio in _log_ratios(kb, values).items()}
    bands, sexes = [effect[c.id] for c in kb.age_bands], [effect[c.id] for c in kb.sexes]
    ages = age_effects(kb, np.stack(bands, axis=-1), within_bands(kb, values)[at])
    stratum = ages[:, :, None] + np.stack(sexes, axis=-1)[:, None, :]
    factors = [effect[c.id] for c in kb.risk_factors]
    context_log_odds = np.stack(factors, axis=-1) if factors else np.zeros((len(at), 0))
    prevalence = _prevalence(kb, setting, values)[at, cause]
    own = at if len(context.share) > 1 else np.zeros_like(at)
    intercept = _intercepts(kb, prevalence * scale, stratum, context_log_odds, context, own, cause)
    return CauseArrays(prevalence, intercept[:, None, None] + stratum, context_log_odds)


def within_bands(kb: KnowledgeBase, values: Values) -> Floats:
    """Share (S, A) of every age in its band, that of all people whatever the setting: 1 for a band without parts."""
    share = values.columns([f"population:{stratum.id}" for stratum in kb.age_strata], missing=1.0)
    first, band = _bands(kb)
    return np.asarray(share / np.add.reduceat(share, first, axis=1)[:, band])


def age_effects(kb: KnowledgeBase, log_ratio: Floats, within: Floats) -> Floats:
    """Log odds ratios (B, A) of all ages from those of the age bands.

    Studies count bands; a cause does not wait for a birthday. In a band that has parts the value follows the mean age of a part
    along a line through the mean age and the value of the band. Its slope is the flatter one of those towards both
    neighbouring bands, and none where the band is above or below both, so that ages rise and fall as the bands do (the monotone
    reconstruction of van Leer 1979, J Comput Phys 32, 101-136); the first and the last band have the slope to their only
    neighbour. Then all parts of the band are shifted by one constant, so that the mean of their odds ratios is the odds ratio
    of the band: it keeps what was counted in it. A band without parts has its own value, and so have the parts of an only band.

    Parameters
    ----------
    log_ratio : (B, number of age bands)
    within : (B, A) from ``within_bands``; the weights of both means. Middles of strata count as the ages of their people
    """
    first, band = _bands(kb)
    own = log_ratio[:, band]
    if len(band) == len(first) or len(first) == 1:
        return np.asarray(own)
    middle = np.mean(age_limits(kb), axis=0)
    mean = np.add.reduceat(within * middle, first, axis=1)
    gradient = np.diff(log_ratio, axis=1) / np.diff(mean, axis=1)
    younger, older = np.hstack([gradient[:, :1], gradient]), np.hstack([gradient, gradient[:, -1:]])
    slope = np.where(younger * older > 0.0, np.sign(younger) * np.minimum(np.abs(younger), np.abs(older)), 0.0)
    rise = slope[:, band] * (middle - mean[:, band])
    level = np.logaddexp.reduceat(rise + np.log(within), first, axis=1)
    return np.asarray(own + rise - level[:, band])


@lru_cache(maxsize=8)
def _bands(kb: KnowledgeBase) -> tuple[Ints, Ints]:
    """Index of the first age of every band, and the band (A,) of every age."""
    band = np.array(kb.band_of_stratum, dtype=np.intp)
    return np.flatnonzero(np.diff(band, prepend=-1)), band


def causes_moved(kb: KnowledgeBase, values: Values) -> NDArray[np.bool_]:
    """(S, K) whose priors differ from those at the means of all parameters."""
    moved = values.moved
    columns = np.flatnonzero(moved.any(axis=0))
    return np.asarray(moved[:, columns].astype(np.float32) @ _governs(kb)[columns] > 0.0)


@lru_cache(maxsize=8)
def _governs(kb: KnowledgeBase) -> NDArray[np.float32]:
    """(P, K) 1 where the prior of a cause depends on a parameter: its own, and the frequencies of its risk factors."""
    used, risk_factors = _used(kb), [c.id for c in kb.risk_factors]
    governs = np.zeros((len(kb.parameters), len(kb.causes)), dtype=np.float32)
    causes = {cause: k for k, cause in enumerate(kb.causes)}
    for i, parameter in enumerate(kb.parameters):
        kind, subject = parameter.partition("@")[0].split(":")[:2]
        if kind == "population":
            governs[i] = 1.0
        elif kind == "context":
            governs[i] = [risk_factors.index(subject) in own for own in used]
        elif kind in ("prior", "or"):
            governs[i, causes[subject]] = 1.0
    return governs


def _log_ratios(kb: KnowledgeBase, values: Values) -> dict[str, Floats]:
    """Context -> log odds ratios (S, K) of all causes, 0 where there is no parameter."""
    ids = {c.id: [f"or:{cause}:{c.id}" for cause in kb.causes] for c in (*kb.age_bands, *kb.sexes, *kb.risk_factors)}
    return {c: np.log(values.columns(names, missing=1.0)) for c, names in ids.items()}


def _prevalence(kb: KnowledgeBase, setting: str, values: Values) -> Floats:
    """Of the setting (S, K); a cause without a figure for it keeps that of the general population."""
    if setting == BALANCED:
        # A single cause is as likely as none, not certain.
        return np.full((len(values), len(kb.causes)), 1.0 / max(2, len(kb.causes)))
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

    sum over combinations of P(stratum) P(x | stratum) expit(b + stratum + log_odds x) = prevalence, solved for all pairs at
    once by Newton steps inside a bracket. ``own`` (B,) : the set of ``context`` that belongs to a pair.
    """
    order = np.argsort(cause, kind="stable")
    offsets, weights, sizes = [], [], []
    for rows in np.split(order, np.flatnonzero(np.diff(cause[order])) + 1):
        offset, weight = combinations(kb, int(cause[rows[0]]), stratum[rows], context_log_odds[rows], context, own[rows])
        offsets.append(offset.ravel())
        weights.append(np.broadcast_to(weight, offset.shape).ravel())
        sizes.append(np.full(len(rows), offset.shape[1]))
    size = np.concatenate(sizes)
    intercept = np.empty(len(cause))
    intercept[order] = _newton(np.concatenate(offsets), np.concatenate(weights), size, prevalence[order])
    return intercept


def _newton(offset: Floats, weight: Floats, size: Ints, prevalence: Floats) -> Floats:
    """Roots b (B,) of sum weight expit(b + offset) = prevalence; ``size`` (B,) terms each, one root after the other (T,)."""
    first, pair = np.cumsum(size) - size, np.repeat(np.arange(len(size)), size)
    target = logit(prevalence)
    low, high = target - np.maximum.reduceat(offset, first), target - np.minimum.reduceat(offset, first)
    # Where the cause is rare everywhere, expit is the exponential function.
    b = np.clip(np.log(prevalence) - np.log(np.add.reduceat(weight * np.exp(offset), first)), low, high)
    moving = np.arange(len(b))
    for _ in range(100):
        p = expit(b[pair] + offset)
        reached = weight * p
        gap = np.add.reduceat(reached, first) - prevalence[moving]
        low[moving], high[moving] = np.where(gap > 0.0, low[moving], b[moving]), np.where(gap > 0.0, b[moving], high[moving])
        newton = b[moving] - gap / np.add.reduceat(reached * (1.0 - p), first)
        inside = (low[moving] <= newton) & (newton <= high[moving])
        step = np.where(inside, newton, 0.5 * (low[moving] + high[moving])) - b[moving]
        b[moving] += step
        # A Newton step squares the error: behind one of 1e-8 nothing is left of it.
        far = ~inside | (np.abs(step) > 1e-8)
        if not far.any():
            break
        if not far.all():
            terms = np.repeat(far, size)
            offset, weight, pair = offset[terms], weight[terms], pair[terms]
            moving, size = moving[far], size[far]
            first = np.cumsum(size) - size
    return np.asarray(b)


def combinations(
    kb: KnowledgeBase, cause: int, stratum: Floats, context_log_odds: Floats, context: ContextArrays, own: Ints
) -> tuple[Floats, Floats]:
    """Log odds offset and probability of every combination of stratum and of the risk factors that matter to one cause.

    Parameters
    ----------
    stratum (B, A, 2), context_log_odds (B, C), own (B,) set of ``context``

    Returns
    -------
    Offsets (B, X) and probabilities (B, X), or (1, X) where all share one context.
    """
    requires, shared = requirements(kb), len(context.share) == 1
    sets = np.zeros(1, dtype=np.intp) if shared else own
    offset, weight = stratum.reshape(len(stratum), -1), context.share[sets].reshape(len(sets), -1)
    prior = context.prior[sets].reshape(*weight.shape, -1)
    on: dict[int, NDArray[np.bool_]] = {}
    repeat = 1
    for x in _used(kb)[cause]:
        p = np.tile(prior[:, :, x], repeat)
        if requires[x] >= 0:
            p = np.where(on[int(requires[x])], p, 0.0)
        offset = np.concatenate([offset, offset + context_log_odds[:, x, None]], axis=1)
        weight = np.concatenate([weight * (1.0 - p), weight * p], axis=1)
        on = {y: np.tile(there, 2) for y, there in on.items()} | {x: np.arange(weight.shape[1]) >= weight.shape[1] // 2}
        repeat *= 2
    return offset, weight


@lru_cache(maxsize=8)
def _used(kb: KnowledgeBase) -> tuple[tuple[int, ...], ...]:
    """For every cause the risk factors that change it and those which they require, these first."""
    risk_factors, requires, found = [c.id for c in kb.risk_factors], requirements(kb), []
    for cause in kb.causes:
        used = {j for j, x in enumerate(risk_factors) if f"or:{cause}:{x}" in kb.parameters}
        used |= {int(requires[j]) for j in used if requires[j] >= 0}
        found.append(tuple(sorted(used, key=lambda j: (requires[j] >= 0, j))))
    return tuple(found)


def requirements(kb: KnowledgeBase) -> Ints:
    """For every risk factor (C,) the index of the one that it requires, -1 for none."""
    risk_factors = [c.id for c in kb.risk_factors]
    return np.array([risk_factors.index(c.requires) if c.requires else -1 for c in kb.risk_factors], dtype=np.intp)


def logit(p: Floats | float) -> Floats:
    """Log odds."""
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)), dtype=np.float64)


def _shares(values: Values, members: list[str], setting: str) -> Floats:
    """Of age bands or of sexes (S, n): those of the setting where it has any, else those of all people."""
    names = [f"population:{x}@{setting}" for x in members]
    if not any(name in values for name in names):
        names = [f"population:{x}" for x in members]
    found = values.columns(names, missing=NOBODY)
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float64)
