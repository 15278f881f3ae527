"""At most one cause: against enumeration, far out, and at zero and one."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from networks import EXAMPLES, random_context, random_evidence, random_example

from ddx.inference import Network, posterior, single_cause

nan = np.nan


def enumerate_single(example, row, observed, allow_none):
    """P(only k | e) for every k, and P(none | e), from the definition; log evidence given at most one cause."""
    n_causes, n_syndromes, n_context = len(example.prior), len(example.syndrome_leak), example.n_context
    joint, allowed = np.zeros(n_causes + 1), np.zeros(n_causes + 1)
    for x in itertools.product([0.0, 1.0], repeat=n_context):
        x = np.array(x)
        if np.any(~np.isnan(observed) & (observed != x)):
            continue
        weight = 1.0
        for j, p in enumerate(example.context_prior):
            parent = example.requires[j] if example.requires else -1
            possible = p if parent < 0 or x[parent] == 1.0 else 0.0
            weight *= possible if x[j] == 1.0 else 1.0 - possible
        odds = example.prior * (np.exp(example.context_log_odds @ x) if n_context else 1.0)
        prior = odds / (1.0 - example.prior + odds)
        for k in range(n_causes + allow_none):
            cause = np.arange(n_causes) == k
            p_cause = weight * np.prod(np.where(cause, prior, 1.0 - prior))
            allowed[k] += p_cause
            q = 1.0 - (1.0 - example.syndrome_leak) * np.prod(np.where(cause, 1.0 - example.syndrome_link, 1.0), axis=1)
            for s in itertools.product([False, True], repeat=n_syndromes):
                s = np.array(s, dtype=bool)
                absent = (1.0 - example.leak) * np.prod(np.where(cause, 1.0 - example.link, 1.0), axis=1)
                absent = absent * np.prod(np.where(s, 1.0 - example.finding_syndrome, 1.0), axis=1)
                likelihood = np.where(np.isnan(row), 1.0, row * (1.0 - absent) + (1.0 - row) * absent)
                joint[k] += p_cause * np.prod(np.where(s, q, 1.0 - q)) * np.prod(likelihood)
    return joint / joint.sum(), np.log(joint.sum() / allowed.sum())


@pytest.mark.parametrize("allow_none", [True, False])
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_agrees_with_enumeration(name, allow_none):
    example = EXAMPLES[name]
    rng = np.random.default_rng(1)
    evidence = random_evidence(rng, 8, len(example.leak))
    context = random_context(rng, 8, example.requires or (-1,) * example.n_context)
    got = single_cause(example.network(), evidence, context, allow_none=allow_none)
    for i in range(8):
        share, log_evidence = enumerate_single(example, evidence[i], context[i], allow_none)
        np.testing.assert_allclose(got.marginal[i], share[:-1], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(got.none[i], share[-1], rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(got.log_evidence[i], log_evidence, rtol=1e-10, atol=1e-12)


def test_posteriors_sum_to_one():
    example = EXAMPLES["context"]
    evidence = random_evidence(np.random.default_rng(2), 30, len(example.leak))
    got = single_cause(example.network(), evidence)
    np.testing.assert_allclose(got.marginal.sum(axis=1) + got.none, 1.0, rtol=1e-14)


def test_five_thousand_findings_do_not_underflow():
    rng = np.random.default_rng(3)
    network = Network(np.full(3, 0.1), rng.uniform(0.1, 0.9, (5000, 3)), rng.uniform(0.01, 0.1, 5000))
    row = (rng.random(5000) < 0.3).astype(float)
    got = single_cause(network, row[None])
    present = network.leak[:, None] + (1.0 - network.leak[:, None]) * network.link
    log = np.where(row[:, None] == 1.0, np.log(present), np.log1p(-present)).sum(axis=0)
    np.testing.assert_allclose(np.log(got.marginal[0, 1] / got.marginal[0].max()), log[1] - log.max(), rtol=1e-9, atol=1e-9)
    assert got.log_evidence[0] < -1000.0


def test_rare_causes_hardly_coexist():
    example = random_example(4, 4, 6, prior=(1e-9, 2e-9))
    evidence = random_evidence(np.random.default_rng(4), 10, 6)
    together, alone = posterior(example.network(), evidence), single_cause(example.network(), evidence)
    np.testing.assert_allclose(alone.marginal, together.marginal, rtol=1e-6)


def test_arrays_of_every_case_its_own():
    examples = [random_example(seed, 4, 5) for seed in range(6)]
    evidence = random_evidence(np.random.default_rng(5), 6, 5)
    own = Network(*(np.stack([getattr(e, name) for e in examples]) for name in ("prior", "link", "leak")))
    got = single_cause(own, evidence)
    for i, example in enumerate(examples):
        one = single_cause(example.network(), evidence[i : i + 1])
        np.testing.assert_allclose(got.marginal[i], one.marginal[0], rtol=1e-12)


def test_a_cause_that_is_always_there_leaves_no_room_for_another():
    example = random_example(6, 3, 4)
    evidence = [[1.0, 0.0, nan, 1.0]]
    certain = replace(example, prior=np.array([0.1, 1.0, 0.2]))
    got = single_cause(certain.network(), evidence)
    assert got.marginal[0].tolist() == [0.0, 1.0, 0.0]
    assert got.none[0] == 0.0
    two = single_cause(replace(example, prior=np.array([0.1, 1.0, 1.0])).network(), evidence)
    assert two.impossible.tolist() == [True]
    assert np.isnan(two.marginal).all()


def test_impossible_evidence_is_an_outcome_of_its_own_row():
    network = Network([0.3, 0.4], [[0.5, 0.0], [0.0, 0.5]], [0.0, 0.0])
    got = single_cause(network, [[1.0, 1.0], [1.0, nan]])
    assert got.impossible.tolist() == [True, False]
    assert np.isnan(got.marginal[0]).all()
    assert got.marginal[1].tolist() == [1.0, 0.0]
