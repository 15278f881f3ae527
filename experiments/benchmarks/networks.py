"""Networks and cases of the benchmarks, and the simplest other ways to score them: Quickscore and naive Bayes."""

from __future__ import annotations

import decimal
from collections.abc import Callable

import numpy as np

import ddx
from ddx.inference import Network
from ddx.inference.rows import expit

DIGITS = 80  # of the referee; P(evidence) of 1e-25 takes 25 of them


def random_network(rng: np.random.Generator, causes: int, findings: int, density: float = 0.3) -> Network:
    link = rng.uniform(0.05, 0.9, (findings, causes)) * (rng.random((findings, causes)) < density)
    return Network(rng.uniform(0.001, 0.1, causes), link, rng.uniform(0.001, 0.1, findings))


def random_cases(rng: np.random.Generator, net: Network, n: int, present: int, absent: int) -> np.ndarray:
    order = rng.permuted(np.tile(np.arange(net.n_findings), (n, 1)), axis=1)
    evidence = np.full((n, net.n_findings), np.nan)
    np.put_along_axis(evidence, order[:, :present], 1.0, axis=1)
    np.put_along_axis(evidence, order[:, present : present + absent], 0.0, axis=1)
    return evidence


def panel_cases(rng: np.random.Generator, net: Network, n: int, present: int, absent: int) -> np.ndarray:
    """Cases with the same findings observed, as engines want them that batch over values."""
    panel = rng.permutation(net.n_findings)[: present + absent]
    evidence = np.full((n, net.n_findings), np.nan)
    values = np.tile(np.arange(present + absent) < present, (n, 1))
    evidence[:, panel] = rng.permuted(values, axis=1)
    return evidence


def drawn_cases(rng: np.random.Generator, net: Network, n: int, present: int, absent: int) -> np.ndarray:
    """Cases that the network itself makes, with ten times its priors: about the most probable evidence of its size."""
    rows: list[np.ndarray] = []
    while len(rows) < n:
        cause = rng.random((100, net.n_causes)) < np.minimum(10.0 * net.prior, 0.5)
        log_absent = np.log1p(-net.leak) + cause @ np.log1p(-np.minimum(net.link, 1.0 - 1e-12)).T
        finding = rng.random(log_absent.shape) >= np.exp(log_absent)
        for case in finding[finding.sum(axis=1) >= present]:
            row = np.full(net.n_findings, np.nan)
            row[rng.permutation(np.flatnonzero(case))[:present]] = 1.0
            row[rng.permutation(np.flatnonzero(~case))[:absent]] = 0.0
            rows.append(row)
    return np.array(rows[:n])


def limb_network(*, context: bool, kb: str = "limb") -> Network:
    """The core network of limb for a woman of 50; ``context``: with its risk factors, otherwise none of them present."""
    model = ddx.load(kb)
    net = model.network
    age = next(i for i, stratum in enumerate(model.knowledge.age_strata) if (stratum.age_to or 0) > 50)
    sex = net.sexes.index(next(s for s in net.sexes if "female" in s))
    prior, leak = expit(net.log_odds[age, sex]), net.leak[age]
    if not context:
        return Network(prior, net.link, leak)
    return Network(
        prior,
        net.link,
        leak,
        context_log_odds=net.context_log_odds,
        context_prior=net.context_prior[age, sex],
        requires=net.requires,
    )


def quickscore(net: Network, evidence: np.ndarray, number: Callable[[float], object]) -> tuple[object, list[object]]:
    """P(e) and P(cause, e) of one case by inclusion-exclusion (Heckerman 1989), in any arithmetic."""
    one = number(1.0)
    on, off = np.flatnonzero(evidence == 1.0), np.flatnonzero(evidence == 0.0)
    absent_leak = one
    for f in off:
        absent_leak *= one - number(net.leak[f])
    prior = [number(p) for p in net.prior]
    eta = list(prior)
    for k in range(net.n_causes):
        for f in off[net.link[off, k] > 0.0]:
            eta[k] *= one - number(net.link[f, k])
    links = [[(k, one - number(net.link[f, k])) for k in np.flatnonzero(net.link[f])] for f in on]
    total, joint = number(0.0), [number(0.0)] * net.n_causes

    def visit(position: int, sign: object, escape: list[object]) -> None:
        nonlocal total
        if position == len(on):
            factors = [one - p + e for p, e in zip(prior, escape, strict=True)]
            product = sign
            for factor in factors:
                product *= factor
            total += product
            for k, factor in enumerate(factors):
                joint[k] += product / factor * escape[k]
            return
        visit(position + 1, sign, escape)
        none = list(escape)
        for k, w in links[position]:
            none[k] *= w
        visit(position + 1, -sign * (one - number(net.leak[on[position]])), none)

    visit(0, absent_leak, eta)
    return total, joint


def exact_posteriors(net: Network, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(e) (N,) and the posteriors (N, K) of cases (N, F), as ``decimal.Decimal`` of 80 digits."""
    with decimal.localcontext() as context:
        context.prec = DIGITS
        solved = [quickscore(net, case, decimal.Decimal) for case in cases]
        return np.array([total for total, _ in solved]), np.array([[one / total for one in joint] for total, joint in solved])


def relative_errors(marginal: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Of floats (N, K) against Decimals (N, K); infinite for what is no number."""
    with decimal.localcontext() as context:
        context.prec = DIGITS
        pairs = zip(marginal.flat, exact.flat, strict=True)
        errors = [float(abs(decimal.Decimal(float(x)) - t) / t) if np.isfinite(x) else np.inf for x, t in pairs]
    return np.array(errors).reshape(marginal.shape)


def quickscore_array(net: Network, evidence: np.ndarray) -> np.ndarray:
    """Quickscore in float64 for cases (N, F) with equally many present findings: posteriors (N, K).

    The terms of some cases are an array (cases, subsets, K), built by doubling; blocks of it fit into the cache.
    """
    n, m = len(evidence), int((evidence[0] == 1.0).sum())
    inner = min(m, 10)
    on = np.nonzero(evidence == 1.0)[1].reshape(n, m)
    eta = net.prior * np.exp((evidence == 0.0) @ np.log1p(-net.link))
    rest = 1.0 - net.prior
    result = np.empty((n, net.n_causes))
    size = max(1, 2**16 // (net.n_causes << inner))
    for start in range(0, n, size):
        at = slice(start, start + size)
        keep, sign = 1.0 - net.link[on[at]], net.leak[on[at]] - 1.0
        power = np.ones((len(keep), 1, net.n_causes))
        signs = np.ones((len(keep), 1))
        for f in range(inner):
            power = np.concatenate([power, power * keep[:, f, None]], axis=1)
            signs = np.concatenate([signs, signs * sign[:, f, None]], axis=1)
        total, joint = np.zeros(len(keep)), np.zeros((len(keep), net.n_causes))
        for subset in range(1 << (m - inner)):
            bits = inner + np.flatnonzero((subset >> np.arange(m - inner)) & 1)
            present = power * (eta[at] * keep[:, bits].prod(axis=1))[:, None]
            factor = rest + present
            term = factor.prod(axis=2) * signs * sign[:, bits].prod(axis=1)[:, None]
            total += term.sum(axis=1)
            present /= factor
            joint += (term[:, None] @ present)[:, 0]
        result[at] = joint / total[:, None]
    return result


def naive_bayes(net: Network) -> Callable[[np.ndarray], np.ndarray]:
    """A naive-Bayes classifier over the causes with P(finding | only this cause), as two matrix products and a softmax."""
    p = 1.0 - (1.0 - net.leak[:, None]) * (1.0 - net.link)
    log_present, log_absent, log_prior = np.log(p), np.log1p(-p), np.log(net.prior)

    def score(evidence: np.ndarray) -> np.ndarray:
        present, absent = (evidence == 1.0).astype(np.float64), (evidence == 0.0).astype(np.float64)
        log = present @ log_present + absent @ log_absent + log_prior
        weight = np.exp(log - log.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    return score
