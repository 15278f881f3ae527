"""Draws of all parameters from their distributions, and what they do to a posterior."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ddx.inference.network import Floats
from ddx.knowledge import Parameter
from ddx.network import Evidence, build_network

if TYPE_CHECKING:
    from ddx.diagnosis import Model


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
    rows = []
    for s in range(draws):
        one = {name: float(drawn[s]) for name, drawn in values.items()}
        rows.append(build_network(model.knowledge, model.setting, one).posterior(evidence).marginal[0])
    return np.array(rows).reshape(draws, len(model.network.causes))


def posterior_quantiles(model: Model, evidence: Evidence, draws: int, seed: int) -> tuple[Floats, Floats]:
    """5 % and 95 % quantiles of the posterior of every cause (K,), (K,); nan for 0 draws."""
    if draws == 0:
        nothing = np.full(len(model.network.causes), np.nan)
        return nothing, nothing
    low, high = np.quantile(posterior_draws(model, evidence, draws, seed), [0.05, 0.95], axis=0)
    return low, high
