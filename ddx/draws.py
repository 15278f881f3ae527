"""Draws of all parameters from their distributions, and what they do to a posterior."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddx.inference import Network, mix, posterior
from ddx.inference.network import Floats
from ddx.inference.recursion import expit
from ddx.knowledge import Parameter
from ddx.network import Evidence, build_network

if TYPE_CHECKING:
    from ddx.diagnosis import Model


# Draws in one call of the core: every draw brings its own link matrix of some hundred kilobytes.
_BLOCK = 100


def draw_parameters(parameters: Iterable[Parameter], draws: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Parameter id -> (S,) draws. A parameter that several cells share is drawn once a draw."""
    values: dict[str, Floats] = {}
    for p in parameters:
        if p.distribution == "beta":
            # The open interval: a Beta with a small shape can round to its ends.
            values[p.id] = np.clip(rng.beta(p.first, p.second, draws), 1e-12, 1.0 - 1e-12)
        else:
            values[p.id] = np.exp(rng.normal(p.first, p.second, draws)) * p.scale
    return values


def posterior_draws(model: Model, evidence: Evidence, draws: int, seed: int) -> Floats:
    """Posteriors of one case under draws of all parameters (S, K)."""
    values = draw_parameters(model.knowledge.parameters.values(), draws, np.random.default_rng(seed))
    blocks = [
        _posterior(model, evidence, [{name: float(drawn[s]) for name, drawn in values.items()} for s in block])
        for block in np.array_split(np.arange(draws), -(-draws // _BLOCK))
    ]
    return np.concatenate(blocks)


def _posterior(model: Model, evidence: Evidence, values: Sequence[Mapping[str, float]]) -> Floats:
    """One case under several sets of parameter values: they are the cases of one call of the core."""
    networks = [build_network(model.knowledge, model.setting, one) for one in values]
    parts = [network.parts(evidence) for network in networks]
    size = len(parts[0].case)

    def stack(arrays: Iterable[Floats]) -> Floats:
        """An array of each network, repeated for the parts of the case."""
        return np.repeat(np.stack(list(arrays)), size, axis=0)

    def gather(arrays: Iterable[Floats]) -> Floats:
        return np.concatenate(list(arrays))

    drawn = list(zip(networks, parts, strict=True))
    network = Network(
        prior=gather(expit(n.log_odds[p.age, p.sex]) for n, p in drawn),
        link=stack(n.link for n in networks),
        leak=gather(n.leak[p.age] for n, p in drawn),
        context_log_odds=stack(n.context_log_odds for n in networks),
        context_prior=gather(n.context_prior[p.age, p.sex] for n, p in drawn),
        requires=networks[0].requires,
    )
    finding = gather(p.finding for p in parts)
    context = np.repeat(evidence.context, len(finding), axis=0)
    case = np.repeat(np.arange(len(values)), size)
    return mix(posterior(network, finding, context), case, gather(p.log_weight for p in parts))[0].marginal


def posterior_quantiles(model: Model, evidence: Evidence, draws: int, seed: int) -> tuple[Floats, Floats]:
    """5 % and 95 % quantiles of the posterior of every cause (K,), (K,); nan for 0 draws."""
    if draws == 0:
        nothing = np.full(len(model.network.causes), np.nan)
        return nothing, nothing
    low, high = np.quantile(posterior_draws(model, evidence, draws, seed), [0.05, 0.95], axis=0)
    return low, high
