"""Draws of all parameters from their distributions, and what they do to a posterior."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ddx.inference import Network, Posterior, mix, posterior
from ddx.inference.network import Floats
from ddx.knowledge import Parameter
from ddx.network import Evidence, revise_network

if TYPE_CHECKING:
    from ddx.diagnosis import Model


# Sets of values in one call of the core; one that moves links or leaks brings its own matrix of some hundred kilobytes.
_BLOCK, _SHARED_BLOCK = 100, 2000


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
        posterior_under(model, evidence, [{name: float(drawn[s]) for name, drawn in values.items()} for s in block])
        for block in np.array_split(np.arange(draws), -(-draws // _BLOCK))
    ]
    return np.concatenate(blocks)


def posterior_under(model: Model, evidence: Evidence, values: Sequence[Mapping[str, float]]) -> Floats:
    """Posteriors of one case under S sets of parameter values (S, K).

    Each set maps ids of parameters to numbers; the others keep their means.
    """
    found = np.empty((len(values), len(model.network.causes)))
    own = np.array([any(p.startswith(("link:", "leak:")) for p in one) for one in values], dtype=np.bool_)
    for rows, size in ((np.flatnonzero(own), _BLOCK), (np.flatnonzero(~own), _SHARED_BLOCK)):
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            found[block] = _solved(model, evidence, [values[i] for i in block]).marginal
    return found


def _solved(model: Model, evidence: Evidence, values: Sequence[Mapping[str, float]]) -> Posterior:
    """The sets of values are the cases of one call of the core."""
    base = model.network
    networks = [revise_network(base, model.knowledge, model.setting, one) for one in values]
    own = base.parts(evidence)
    same = [n.context_prior is base.context_prior and n.share is base.share for n in networks]
    parts = [own if shared else network.parts(evidence) for network, shared in zip(networks, same, strict=True)]
    cores = [network.core(part) for network, part in zip(networks, parts, strict=True)]
    size = len(parts[0].case)

    def gather(arrays: Iterable[Floats]) -> Floats:
        return np.concatenate(list(arrays))

    def spread(arrays: Iterable[Floats]) -> Floats:
        """An array of each set, repeated for the parts of the case; one that all of them share stays one."""
        several = list(arrays)
        if all(array is several[0] for array in several):
            return several[0]
        return np.repeat(np.stack(several), size, axis=0)

    network = Network(
        prior=gather(c.prior for c in cores),
        link=spread(n.link for n in networks),
        leak=gather(c.leak for c in cores),
        syndrome_link=spread(n.syndrome_link for n in networks),
        syndrome_leak=spread(n.syndrome_leak for n in networks),
        finding_syndrome=spread(n.finding_syndrome for n in networks),
        context_log_odds=spread(n.context_log_odds for n in networks),
        context_prior=gather(c.context_prior for c in cores),
        requires=base.requires,
    )
    finding = gather(p.finding for p in parts)
    context = np.repeat(evidence.context, len(finding), axis=0)
    case = np.repeat(np.arange(len(values)), size)
    return mix(posterior(network, finding, context), case, gather(p.log_weight for p in parts))[0]


def posterior_quantiles(model: Model, evidence: Evidence, draws: int, seed: int) -> tuple[Floats, Floats]:
    """5 % and 95 % quantiles of the posterior of every cause (K,), (K,); nan for 0 draws."""
    if draws == 0:
        nothing = np.full(len(model.network.causes), np.nan)
        return nothing, nothing
    low, high = np.quantile(posterior_draws(model, evidence, draws, seed), [0.05, 0.95], axis=0)
    return low, high
