"""Draws of all parameters from their distributions, and what they do to a posterior."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ddx.errors import UsageError, whole
from ddx.inference import EvidenceTooLarge, Network, mix, posterior
from ddx.inference.network import Floats
from ddx.inference.rows import expit
from ddx.knowledge import Parameter
from ddx.logistic import ContextArrays, cause_arrays, causes_moved, context_arrays
from ddx.network import Evidence, LayeredNetwork, Parts, build_networks, select
from ddx.noisy_or import finding_arrays
from ddx.risk_factors import log_stratum_weight, prior_of_unstated
from ddx.values import Values, inside

if TYPE_CHECKING:
    from ddx.diagnosis import Model


# Draws without which there are no 5 % quantiles.
_FEWEST = 20
# Sets of values in one call of the core.
_BLOCK = 500
# Cases up to which the draws are the cases of a call, one case after the other, with the findings that it states alone.
# For more, a network is built for every draw, so many at a time.
_FEW, _NETWORKS = 40, 50


def enough(name: str, draws: int) -> None:
    """Refuse a number of draws whose 5 % and 95 % quantiles would be their smallest and largest; 0 asks for none."""
    whole(name, draws)
    if 0 < draws < _FEWEST:
        raise UsageError(f"{name}: got {draws}, expected 0, or at least {_FEWEST} for 5 % and 95 % quantiles")


def draw_parameters(parameters: Collection[Parameter], draws: int, rng: np.random.Generator) -> Floats:
    """Draws (S, P) of P parameters, one column each. A parameter that several cells share is drawn once a draw."""
    table = np.empty((draws, len(parameters)))
    for i, p in enumerate(parameters):
        if p.distribution == "beta":
            drawn = rng.beta(p.first, p.second, draws)
        else:
            drawn = np.exp(rng.normal(p.first, p.second, draws)) * p.scale
        table[:, i] = inside(p, drawn)
    return table


def posterior_draws(model: Model, evidence: Evidence, draws: int, seed: int) -> Floats:
    """Posteriors of N cases under draws of all parameters (S, N, K), S = 0 included; a draw serves all cases.

    Raises
    ------
    UsageError
        Fewer than 0 draws, or a negative seed.
    EvidenceTooLarge
        As for ``posterior``.
    """
    for name, value in (("draws", draws), ("seed", seed)):
        whole(name, value, 0)
    kb, net = model.knowledge, model.network
    table = draw_parameters(kb.parameters.values(), draws, np.random.default_rng(seed))
    found = np.empty((draws, len(evidence), len(net.causes)))
    if not draws:
        return found
    if len(evidence) > _FEW:
        for block in np.array_split(np.arange(draws), -(-draws // _NETWORKS)):
            for s, drawn in zip(block.tolist(), build_networks(kb, model.setting, Values(kb, table[block])), strict=True):
                found[s] = drawn.posterior(evidence).marginal
        return found
    cases = [select(evidence, np.array([i])) for i in range(len(evidence))]
    for block in np.array_split(np.arange(draws), -(-draws // _BLOCK)):
        sets = Values(kb, table[block])
        priors = _priors(model, sets)
        for i, case in enumerate(cases):
            try:
                found[block, i] = _solved(model, case, sets, priors)
            except EvidenceTooLarge as error:
                raise error.of_row(i) from None
    return found


def posterior_under(model: Model, evidence: Evidence, values: Sequence[Mapping[str, float]]) -> Floats:
    """Posteriors of one case under S sets of parameter values (S, K).

    Each set maps ids of parameters to numbers; the others keep their means. Errors as for ``Values.of``.
    """
    kb, found = model.knowledge, np.empty((len(values), len(model.network.causes)))
    own = np.array([any(p.startswith(("link:", "leak:")) for p in one) for one in values], dtype=np.bool_)
    for rows in (np.flatnonzero(own), np.flatnonzero(~own)):
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            if own[block[0]]:
                sets = Values.of(kb, [values[i] for i in block])
                found[block] = _solved(model, evidence, sets, _priors(model, sets))
            else:
                found[block] = _solved(model, evidence, None, _moved(model, tuple(tuple(values[i].items()) for i in block)))
    return found


@dataclass(frozen=True, eq=False)
class _Priors:
    """Of S sets of values: log odds (S, A, 2, K), log odds ratios (S or 1, K, C); ``context`` None: that of the means."""

    log_odds: Floats
    effect: Floats
    context: ContextArrays | None


@lru_cache(maxsize=16)
def _moved(model: Model, moves: tuple[tuple[tuple[str, float], ...], ...]) -> _Priors:
    """The priors of sets of values; an analysis of many cases asks for the same ones case after case."""
    return _priors(model, Values.of(model.knowledge, [dict(one) for one in moves]))


def _priors(model: Model, values: Values) -> _Priors:
    """Anew for the causes that a set changes."""
    base, kb = model.network, model.knowledge
    context = context_arrays(kb, model.setting, values) if values.kinds_moved & {"context", "population"} else None
    at, cause = np.nonzero(causes_moved(kb, values))
    log_odds, effect = np.tile(base.log_odds, (len(values), 1, 1, 1)), base.context_log_odds[None]
    if len(at):
        shared = ContextArrays(base.context_prior[None], base.share[None])
        new = cause_arrays(kb, model.setting, values, context or shared, (at, cause))
        log_odds[at, :, :, cause] = new.log_odds
        if (new.context_log_odds != base.context_log_odds[cause]).any():
            effect = np.tile(effect, (len(values), 1, 1))
            effect[at, cause] = new.context_log_odds
    return _Priors(log_odds, effect, context)


def _solved(model: Model, evidence: Evidence, values: Values | None, priors: _Priors) -> Floats:
    """The sets of values are the cases of one call of the core; ``values`` None: all links and leaks are at their means."""
    base, kb = model.network, model.knowledge
    parts = base.parts(evidence)
    n, size = len(priors.log_odds), len(parts.case)
    if values is not None:
        own = finding_arrays(kb, model.setting, values, [base.findings[f] for f in parts.columns])
        arrays = {name: np.repeat(array, size, axis=0) for name, array in vars(own).items() if name != "leak"}
        leak = own.leak[:, parts.age].reshape(n * size, -1)
    else:
        core = base.core(parts, evidence.context[parts.case])
        arrays = {name: getattr(core, name) for name in ("link", "syndrome_link", "syndrome_leak", "finding_syndrome")}
        leak = np.tile(core.leak, (n, 1))
    log_weight = np.tile(parts.log_weight, n)
    context_prior = np.tile(base.context_prior[parts.age, parts.sex], (n, 1))
    if priors.context is not None:
        log_weight = (parts.log_weight + _reweighting(base, parts, evidence, priors.context)).ravel()
        context_prior = priors.context.prior[:, parts.age, parts.sex].reshape(n * size, -1)
    effect = priors.effect
    context = np.repeat(evidence.context, len(context_prior), axis=0)
    network = Network(
        prior=base.in_columns(expit(priors.log_odds[:, parts.age, parts.sex]).reshape(n * size, -1), -1),
        leak=leak,
        context_log_odds=base.in_columns(effect[0] if len(effect) == 1 else np.repeat(effect, size, axis=0), -2),
        context_prior=prior_of_unstated(context_prior, context, base.requires, base.unstated),
        requires=base.requires,
        none_weight=base.none_weight,
        **base.of_columns,
        copy=False,
        **arrays,
    )
    finding = np.tile(parts.finding, (n, 1))
    case = np.repeat(np.arange(n), size)
    solved = posterior(network, finding, context)
    return mix(solved, case, log_weight)[0].marginal


def _reweighting(base: LayeredNetwork, parts: Parts, evidence: Evidence, context: ContextArrays) -> Floats:
    """What other frequencies of risk factors add to the log weights of the parts of one case (S, M)."""
    a, s = np.unique(np.stack([parts.age, parts.sex]), axis=1)

    def weights(share: Floats, prior: Floats) -> Floats:
        n = len(share)
        case, observed = np.repeat(np.arange(n), len(a)), np.tile(evidence.context, (n * len(a), 1))
        flat = share[:, a, s].ravel(), prior[:, a, s].reshape(n * len(a), -1)
        return log_stratum_weight(*flat, observed, base.requires, case, base.unstated).reshape(n, -1)

    # Where the observed context is impossible in a stratum, it stays so.
    with np.errstate(invalid="ignore"):
        change = np.nan_to_num(weights(context.share, context.prior) - weights(base.share[None], base.context_prior[None]))
    of_stratum = np.zeros((len(change), *base.share.shape))
    of_stratum[:, a, s] = change
    return np.asarray(of_stratum[:, parts.age, parts.sex])


def posterior_quantiles(model: Model, evidence: Evidence, draws: int, seed: int) -> Floats:
    """5 % and 95 % quantiles of the posterior of every cause (2, N, K); nan for 0 draws.

    Raises
    ------
    UsageError
        As for ``posterior_draws``, and for a number of draws that ``enough`` refuses.
    EvidenceTooLarge
        As for ``posterior``.
    """
    enough("draws", draws)
    if draws == 0:
        return np.full((2, len(evidence), len(model.network.causes)), np.nan)
    return np.asarray(np.quantile(posterior_draws(model, evidence, draws, seed), [0.05, 0.95], axis=0))
