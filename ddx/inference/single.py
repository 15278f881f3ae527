"""The same network under the assumption that at most one cause is present, as products of matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ddx.inference.choice import Kernel
from ddx.inference.dispatch import Problem, run
from ddx.inference.exact import checked, findings_without_cause, log_no_cause, refuse_forms, refuse_large
from ddx.inference.network import Floats, Network
from ddx.inference.rows import log_escape


@dataclass(frozen=True, eq=False)
class SinglePosterior:
    """Posteriors of N cases that sum to one over the causes and none.

    ``marginal`` (N, K) P(only this cause | evidence); ``none`` (N,); ``log_evidence`` (N,) of the findings, given the observed
    context and that there is at most one cause (exactly one if ``none`` was excluded; ``none`` is then zero). Impossible
    evidence has log_evidence -inf and nan elsewhere.
    """

    marginal: Floats
    none: Floats
    log_evidence: Floats

    @property
    def impossible(self) -> NDArray[np.bool_]:
        """Cases (N,) whose evidence has probability zero."""
        return np.isneginf(self.log_evidence)


def single_cause(
    network: Network,
    evidence: ArrayLike,
    context: ArrayLike | None = None,
    *,
    allow_none: bool = True,
    memory_gib: float = 4.0,
    kernel: Kernel = "auto",
) -> SinglePosterior:
    """Posterior of every cause if exactly one is present, or none.

    P(only k | e) is proportional to P(only k | context) prod_f P(f | only k), all in logarithms: no underflow, however many
    findings are observed. Without syndromes the cost is two products of matrices (N, F) x (F, K).

    Parameters
    ----------
    network, evidence, context, memory_gib, kernel : as for ``posterior``
    allow_none : whether there may be no cause at all; otherwise exactly one is present

    Raises
    ------
    ValueError, EvidenceTooLarge
        As for ``posterior``; the latter only for syndromes or unknown context that do not fit into memory. Causes that
        come in forms are a ValueError.
    """
    refuse_forms(network, "single_cause")
    problem = checked(network, evidence, context)
    log_only, log_none = _log_prior(problem, kernel, memory_gib)
    log_none = log_none + np.log(network.none_weight)
    log_likelihood, without = _log_likelihood(problem, kernel, memory_gib), findings_without_cause(problem, kernel, memory_gib)
    refuse_large(problem, without.doubles, memory_gib)
    log_joint = np.column_stack([log_only + log_likelihood, log_none + without.log_evidence])
    log_prior = np.column_stack([log_only, log_none])
    if not allow_none:
        log_joint[:, -1] = log_prior[:, -1] = -np.inf
    share, log_total = _normalized(log_joint)
    log_allowed = _normalized(log_prior)[1]
    with np.errstate(invalid="ignore"):
        log_evidence = np.where(np.isneginf(log_total), -np.inf, log_total - log_allowed)
    return SinglePosterior(share[:, :-1], share[:, -1], log_evidence)


def _normalized(log: Floats) -> tuple[Floats, Floats]:
    """Shares (N, X) of exp(log) that sum to one, nan where all are zero, and the logarithm of their total (N,)."""
    peak = log.max(axis=1, initial=-np.inf, keepdims=True)
    safe = np.where(np.isneginf(peak), 0.0, peak)
    raw = np.exp(log - safe)
    total = raw.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return raw / total, (safe + np.log(total))[:, 0]


def _log_prior(problem: Problem, kernel: Kernel, memory_gib: float) -> tuple[Floats, Floats]:
    """Log P(only k | context) (N, K) and log P(no cause | context) (N,), unknown context summed out.

    A cause of prior 1 is there in any case: it is the only one, or there is none that could be.
    """
    net, n = problem.network, len(problem.findings)
    certain = np.broadcast_to(net.prior == 1.0, (n, net.n_causes))
    others = Network(
        np.where(net.prior == 1.0, 0.0, net.prior),
        net.link,
        net.leak,
        context_log_odds=net.context_log_odds,
        context_prior=net.context_prior,
        requires=net.requires,
        copy=False,
    )
    solved = log_no_cause(replace(problem, network=others), kernel, memory_gib, only=True)
    refuse_large(problem, np.broadcast_to(solved.doubles, n), memory_gib)
    log_none = np.broadcast_to(solved.log_evidence, n)
    with np.errstate(divide="ignore"):
        log_only = np.log(np.broadcast_to(solved.marginal, (n, net.n_causes))) + log_none[:, None]
    count = certain.sum(axis=1)[:, None]
    log_only = np.where(count == 0, log_only, np.where(certain & (count == 1), log_none[:, None], -np.inf))
    return log_only, np.where(count[:, 0] == 0, log_none, -np.inf)


def _log_likelihood(problem: Problem, kernel: Kernel, memory_gib: float) -> Floats:
    """Log P(findings | only k) (N, K)."""
    net, v = problem.network, problem.findings
    if net.n_syndromes:
        return _log_likelihood_with_syndromes(problem, kernel, memory_gib)
    absent, uncertain = v == 0.0, (v > 0.0) & (v < 1.0)
    leak = net.leak[..., None]
    # P(finding | only k) = leak + (1 - leak) w, a sum of non-negative numbers.
    with np.errstate(divide="ignore"):
        log_present = np.log(leak + (1.0 - leak) * net.link)
    result = log_escape(absent, net.link) + log_escape(absent, leak)
    result = result + _masked(v == 1.0, log_present)
    row, finding = np.nonzero(uncertain)
    if len(row):
        values = v[row, finding][:, None]
        link = net.link[row, finding] if net.link.ndim == 3 else net.link[finding]
        base = (net.leak[row, finding] if net.leak.ndim == 2 else net.leak[finding])[:, None]
        explained, not_explained = base + (1.0 - base) * link, (1.0 - base) * (1.0 - link)
        np.add.at(result, row, np.log(values * explained + (1.0 - values) * not_explained))
    return result


def _masked(mask: NDArray[np.bool_], log: Floats) -> Floats:
    """Sum over f of mask (N, f) times log (F, K) or (N, F, K), in which -inf rules out."""
    ruled_out = np.isneginf(log)
    finite = np.where(ruled_out, 0.0, log)
    chosen = mask.astype(np.float64)
    if log.ndim == 2:
        return np.where(chosen @ ruled_out > 0.0, -np.inf, chosen @ finite)
    total = np.einsum("nf,nfk->nk", chosen, finite)
    return np.where(np.einsum("nf,nfk->nk", chosen, ruled_out.astype(np.float64)) > 0.0, -np.inf, total)


def _log_likelihood_with_syndromes(problem: Problem, kernel: Kernel, memory_gib: float) -> Floats:
    """Under one cause the syndromes are independent causes of their own: one network of J causes for every cause.

    What the cause itself does to findings is a last cause that is certain, and a syndrome's probability is given by its log
    odds: close to 1, one minus a float has lost the digits that the product of (1 - leak) and (1 - link) still has.
    """
    net, v = problem.network, problem.findings
    n = len(v)
    result = np.empty((n, net.n_causes))
    batch = max(array.ndim - dims for array, dims in ((net.syndrome_leak, 1), (net.syndrome_link, 2)))
    shape = (n,) * batch + (net.n_syndromes + 1,)
    links = max(array.ndim for array in (net.finding_syndrome, net.link))
    for k in range(net.n_causes):
        q = net.syndrome_link[..., k]
        present, absent = net.syndrome_leak + (1.0 - net.syndrome_leak) * q, (1.0 - net.syndrome_leak) * (1.0 - q)
        possible = (present > 0.0) & (absent > 0.0)
        prior, log_odds = np.ones(shape), np.zeros((*shape, 1))
        prior[..., :-1] = np.where(possible, 0.5, absent == 0.0)
        log_odds[..., :-1, 0] = np.log(np.where(possible, present, 1.0)) - np.log(np.where(possible, absent, 1.0))
        parts = (net.finding_syndrome, net.link[..., k : k + 1])
        link = np.concatenate([np.broadcast_to(p, ((n,) if links == 3 else ()) + p.shape[-2:]) for p in parts], axis=-1)
        network = Network(prior, link, net.leak, context_log_odds=log_odds, context_prior=np.array([0.5]), copy=False)
        only = Problem(network, v, np.ones((n, 1)), np.full((n, 1), 0.5))
        solved = run(only, kernel, memory_gib * 2**27)
        refuse_large(only, solved.doubles, memory_gib)
        result[:, k] = solved.log_evidence
    return result
