"""P(evidence) and P(cause, evidence) as linear functions, against posteriors of networks with the other numbers in them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ddx.inference import Network, linear, posterior

CAUSES, FINDINGS, CONTEXT = 6, 8, 3
nan = np.nan
CONTEXTS = np.array([[1, nan, 0], [nan, nan, nan], [0, 1, 1]])
FINDING = np.array(
    [
        [1, 0, nan, 1, 0.3, nan, 0, 1],
        [nan, 1, 0, nan, nan, nan, nan, 0],
        [nan, nan, 1, nan, nan, nan, 1, nan],
    ]
)


def arrays(seed, syndromes=2):
    rng = np.random.default_rng(seed)

    def sparse(*shape):
        return np.where(rng.random(shape) < 0.5, rng.random(shape), 0.0)

    return {
        "prior": rng.random(CAUSES) * 0.3,
        "link": sparse(FINDINGS, CAUSES),
        "leak": rng.random(FINDINGS) * 0.2,
        "context_log_odds": rng.normal(size=(CAUSES, CONTEXT)) * (rng.random((CAUSES, CONTEXT)) < 0.5),
        "context_prior": np.array([0.3, 0.2, 0.4]),
        "syndrome_link": sparse(syndromes, CAUSES),
        "syndrome_leak": rng.random(syndromes) * 0.1,
        "finding_syndrome": sparse(FINDINGS, syndromes),
        "none_weight": (1.0, 0.3, 0.02)[seed % 3],
    }


def assert_ratios(found, expected, row):
    np.testing.assert_allclose(found[1:] / found[0], expected.marginal[row], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
@pytest.mark.parametrize("seed", range(3))
def test_other_priors_of_one_cause(seed, kernel):
    own = arrays(seed)
    now = posterior(Network(**own), FINDING, CONTEXTS)
    functions = linear(Network(**own), FINDING, CONTEXTS, targets=range(CAUSES), kernel=kernel)
    np.testing.assert_allclose(functions.now[:, 1:], now.marginal, rtol=1e-12)
    rng = np.random.default_rng(seed + 100)
    for k in range(CAUSES):
        effect = np.where(own["context_log_odds"][k] != 0.0, rng.normal(size=CONTEXT), 0.0)
        for p in (1e-9, 0.1, 0.9, 1.0 - 1e-9):
            prior, log_odds = own["prior"].copy(), own["context_log_odds"].copy()
            prior[k], log_odds[k] = p, effect
            after = posterior(Network(**own | {"prior": prior, "context_log_odds": log_odds}), FINDING, CONTEXTS)
            for row, weights in enumerate(functions.priors):
                found = weights.under(np.array([k]), np.array([np.log(p) - np.log1p(-p)]), effect[None])[0]
                assert_ratios(found, after, row)
                joint = [p.log_evidence[row] + (0.0 if p.log_weight is None else p.log_weight[row]) for p in (now, after)]
                assert np.log(found[0]) + joint[0] == pytest.approx(joint[1], rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_other_values_of_one_link(seed):
    own = arrays(seed)
    functions = linear(Network(**own), FINDING, CONTEXTS, targets=range(CAUSES))
    for f, k in zip(*np.nonzero(own["link"]), strict=True):
        for w in (1e-9, 0.5, 1.0 - 1e-9):
            link = own["link"].copy()
            link[f, k] = w
            after = posterior(Network(**own | {"link": link}), FINDING, CONTEXTS)
            for row in range(len(FINDING)):
                found = functions.now[row] + functions.link[row, :, f, k] * (w - own["link"][f, k])
                assert_ratios(found, after, row)


def test_a_cause_that_the_evidence_excludes():
    """A certain link to an absent finding: the posterior is 0 whatever the prior, and grows with the link's decrease."""
    link = np.array([[1.0, 0.4], [0.5, 0.6]])
    own = {"prior": np.array([0.2, 0.1]), "leak": np.array([0.1, 0.05])}
    functions = linear(Network(link=link, **own), [[0.0, 1.0]], targets=[0, 1])
    assert functions.now[0, 1] == 0.0
    found = functions.priors[0].under(np.array([0]), np.array([2.0]), np.zeros((1, 0)))[0]
    after = posterior(Network(link=link, prior=np.array([1.0 / (1.0 + np.exp(-2.0)), 0.1]), leak=own["leak"]), [[0.0, 1.0]])
    assert_ratios(found, after, 0)
    link = np.array([[0.7, 0.4], [0.5, 0.6]])
    moved = functions.now[0] + functions.link[0, :, 0, 0] * (0.7 - 1.0)
    assert_ratios(moved, posterior(Network(link=link, **own), [[0.0, 1.0]]), 0)


def test_a_target_that_nothing_observed_touches():
    own = {"prior": np.array([0.2, 0.1, 0.3]), "leak": np.array([0.1, 0.05])}
    network = Network(link=np.array([[0.7, 0.0, 0.0], [0.0, 0.6, 0.2]]), **own)
    functions = linear(network, [[1.0, 0.0]], targets=range(3))
    np.testing.assert_allclose(functions.now[0, 1:], posterior(network, [[1.0, 0.0]]).marginal[0], rtol=1e-12)
    found = functions.priors[0].under(np.array([2]), np.array([0.0]), np.zeros((1, 0)))[0]
    after = posterior(Network(link=network.link, prior=np.array([0.2, 0.1, 0.5]), leak=own["leak"]), [[1.0, 0.0]])
    assert_ratios(found, after, 0)


@pytest.mark.parametrize("target", [-1, -2, CAUSES, 0.5])
def test_a_target_that_is_not_a_cause(target):
    message = f"target: got {target}, expected the index of a cause, 0 to {CAUSES - 1}"
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        linear(Network(**arrays(0)), FINDING, CONTEXTS, targets=[0, target])


def test_impossible_evidence_has_no_functions():
    network = Network(prior=np.array([0.2]), link=np.array([[0.5]]), leak=np.array([0.0]))
    network = Network(prior=np.array([0.0]), link=network.link, leak=network.leak)
    functions = linear(network, [[1.0]], targets=[0])
    assert np.isnan(functions.now).all()
    assert np.isnan(functions.link).all()
