"""Draws of all parameters from their distributions, and what they do to a posterior."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddx.inference import Network, mix, posterior
from ddx.inference.network import Floats
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
    cores = [network.core(part) for network, part in zip(networks, parts, strict=True)]
    size = len(parts[0].case)

    def gather(arrays: Iterable[Floats | None]) -> Floats:
        return np.concatenate([a for a in arrays if a is not None])

    def spread(arrays: Iterable[Floats | None]) -> Floats:
        """An array of each draw, repeated for the parts of the case."""
        return np.repeat(np.stack([a for a in arrays if a is not None]), size, axis=0)

    network = Network(
        prior=gather(c.prior for c in cores),
        link=spread(c.link for c in cores),
        leak=gather(c.leak for c in cores),
        syndrome_link=spread(c.syndrome_link for c in cores),
        syndrome_leak=spread(c.syndrome_leak for c in cores),
        finding_syndrome=spread(c.finding_syndrome for c in cores),
        context_log_odds=spread(c.context_log_odds for c in cores),
        context_prior=gather(c.context_prior for c in cores),
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
