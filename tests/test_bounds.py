"""Bounds must contain the exact answer, tighten with effort, and be told apart from it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import EXAMPLES, enumerate_posterior, random_context, random_evidence, random_example

from ddx.inference import EvidenceTooLarge, Network, bounds, posterior

nan = np.nan
# So little memory that most findings of the networks below have to be bounded.
LITTLE = 3e-6


def assert_contains(got, exact):
    possible = ~exact.impossible
    assert not got.impossible[possible].any()
    for low, high, value in (
        (got.lower, got.upper, exact.marginal),
        (got.none_lower, got.none_upper, exact.none),
        (got.log_evidence_lower, got.log_evidence_upper, exact.log_evidence),
    ):
        assert (low[possible] <= value[possible]).all()
        assert (high[possible] >= value[possible]).all()


def widths(got):
    return (got.upper - got.lower).max(axis=1)


@pytest.mark.parametrize("n_syndromes", [0, 2])
@pytest.mark.parametrize("n_context", [0, 2])
def test_the_exact_answer_is_inside_and_more_effort_is_never_wider(n_syndromes, n_context):
    example = random_example(5, 7, 12, n_context, (-1,) * n_context, n_syndromes=n_syndromes)
    rng = np.random.default_rng(1)
    evidence = random_evidence(rng, 4, 12, (0.6, 0.2, 0.1, 0.1))
    context = random_context(rng, 4, (-1,) * n_context)
    exact = posterior(example.network(), evidence, context)
    before = np.full(4, np.inf)
    for effort in (0.0, 20.0, 400.0):
        got = bounds(example.network(), evidence, context, memory_gib=LITTLE, effort=effort, tolerance=0.0)
        assert_contains(got, exact)
        assert (widths(got) <= before + 1e-12).all()
        before = widths(got)
    assert (before < 0.5).all()


def test_bounds_close_on_the_answer():
    example = random_example(8, 8, 14, density=0.6)
    evidence = np.ones((1, 14))
    exact = posterior(example.network(), evidence)
    got = bounds(example.network(), evidence, memory_gib=LITTLE, effort=5000.0, tolerance=1e-6)
    assert widths(got)[0] <= 1e-6
    np.testing.assert_allclose(got.lower, exact.marginal, atol=1e-6)


@pytest.mark.parametrize("weight", [0.3, 0.01])
@pytest.mark.parametrize("n_context", [0, 2])
def test_bounds_of_a_weighed_network_hold_its_answer_and_close_on_it(weight, n_context):
    example = replace(random_example(8, 8, 14, n_context, (-1,) * n_context, density=0.6), none_weight=weight)
    rng = np.random.default_rng(1)
    evidence = np.vstack([np.ones(14), random_evidence(rng, 4, 14, (0.5, 0.3, 0.1, 0.1)), np.zeros(14)])
    context = random_context(rng, len(evidence), (-1,) * n_context)
    exact = posterior(example.network(), evidence, context)
    for row in (0, 1, 5):  # the answer itself from sums over everything
        answer = enumerate_posterior(example, evidence[row], context[row])
        np.testing.assert_allclose(exact.none[row], answer.none, rtol=1e-10)
    before = np.full(len(evidence), np.inf)
    for effort in (0.0, 20.0, 400.0, 20000.0):
        got = bounds(example.network(), evidence, context, memory_gib=LITTLE, effort=effort, tolerance=1e-6)
        assert_contains(got, exact)
        assert (widths(got) <= before + 1e-12).all()
        before = widths(got)
    # The tolerance is that of causes which are independent: what is left of P(evidence) divides it.
    close = 2e-6 / weight
    assert before.max() <= close
    np.testing.assert_allclose(got.lower, exact.marginal, atol=close)
    np.testing.assert_allclose(got.none_upper, exact.none, atol=close)


@pytest.mark.parametrize("method", ["auto", "bounds"])
@pytest.mark.parametrize("weight", [0.3, 0.01])
def test_bounds_of_a_weighed_network_as_a_method(method, weight):
    network, evidence = problem()
    network = Network(network.prior, network.link, network.leak, none_weight=weight)
    exact = posterior(network, evidence)
    assert exact.none[2] < posterior(problem()[0], evidence).none[2]
    got = posterior(network, evidence, method=method, memory_gib=2e-5, effort=100.0)
    assert got.bounds is not None
    assert got.exact.tolist() == [True, False, True]
    assert_contains(got.bounds, exact)
    assert (got.lower[1] <= exact.marginal[1]).all()
    assert (exact.marginal[1] <= got.upper[1]).all()
    for name in ("marginal", "none", "log_evidence"):
        assert np.isnan(getattr(got, name)[~got.exact]).all()
        np.testing.assert_array_equal(getattr(got, name)[got.exact], getattr(exact, name)[got.exact])


def test_bounds_of_a_weighed_network_on_impossible_evidence():
    network = Network([0.3], [[0.0], [0.5]], [0.0, 0.1], none_weight=0.01)
    got = bounds(network, [[1.0, 1.0], [nan, 1.0]])
    assert got.impossible.tolist() == [True, False]
    assert np.isnan(got.lower[0]).all()
    assert got.log_evidence_upper[0] == -np.inf


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 30.0]), st.sampled_from([1.0, 0.3, 0.01]))
def test_any_network_is_contained(seed, effort, weight):
    rng = np.random.default_rng(seed)
    example = random_example(seed, int(rng.integers(2, 7)), int(rng.integers(6, 12)), n_syndromes=int(rng.integers(0, 3)))
    leak = example.leak.copy()
    leak[rng.random(len(leak)) < 0.2] = 0.0
    link = example.link.copy()
    link[rng.random(link.shape) < 0.05] = 1.0
    network = Network(
        example.prior,
        link,
        leak,
        syndrome_link=example.syndrome_link,
        syndrome_leak=example.syndrome_leak,
        finding_syndrome=example.finding_syndrome,
        none_weight=weight,
    )
    evidence = random_evidence(rng, 2, len(leak), (0.6, 0.2, 0.1, 0.1))
    assert_contains(bounds(network, evidence, memory_gib=1e-5, effort=effort, tolerance=0.0), posterior(network, evidence))


def test_what_fits_is_as_close_as_rounding_allows():
    example = EXAMPLES["sparse"]
    evidence = random_evidence(np.random.default_rng(2), 6, len(example.leak))
    got, exact = bounds(example.network(), evidence), posterior(example.network(), evidence)
    assert_contains(got, exact)
    assert (widths(got) <= 1e-11).all()
    answer = enumerate_posterior(example, evidence[0])
    assert (got.lower[0] <= answer.marginal).all()
    assert (answer.marginal <= got.upper[0]).all()


def test_impossible_evidence_is_reported_as_such():
    got = bounds(Network([0.3], [[0.0], [0.5]], [0.0, 0.1]), [[1.0, 1.0], [nan, 1.0]])
    assert got.impossible.tolist() == [True, False]
    assert np.isnan(got.lower[0]).all()
    assert got.log_evidence_upper[0] == -np.inf


def test_another_row_changes_nothing():
    example = random_example(5, 7, 12)
    evidence = random_evidence(np.random.default_rng(3), 3, 12, (0.7, 0.2, 0.1, 0.0))
    both = bounds(example.network(), evidence, memory_gib=LITTLE, effort=30.0)
    for i in range(3):
        alone = bounds(example.network(), evidence[i : i + 1], memory_gib=LITTLE, effort=30.0)
        np.testing.assert_array_equal(alone.lower[0], both.lower[i])
        np.testing.assert_array_equal(alone.upper[0], both.upper[i])


def test_forty_dense_findings_say_something():
    rng = np.random.default_rng(4)
    network = Network(rng.uniform(0.01, 0.1, 30), rng.uniform(0.05, 0.9, (40, 30)), rng.uniform(0.001, 0.05, 40))
    got = bounds(network, np.ones((1, 40)), memory_gib=1e-3, effort=60.0)
    assert np.isfinite(got.log_evidence_lower[0])
    assert got.log_evidence_lower[0] <= got.log_evidence_upper[0] < 0.0
    assert (got.lower <= got.upper).all()
    assert (got.upper - got.lower).min() < 0.9


# --- as a method of ``posterior`` --------------------------------------------------------------------------------------------


def problem():
    rng = np.random.default_rng(0)
    network = Network(rng.uniform(0.01, 0.2, 12), rng.uniform(0.1, 0.9, (16, 12)), rng.uniform(0.01, 0.1, 16))
    evidence = np.full((3, 16), nan)
    evidence[0, :3] = 1.0
    evidence[1] = 1.0
    evidence[2, :4] = 0.0
    return network, evidence


def test_auto_answers_exactly_what_fits_and_says_what_does_not():
    network, evidence = problem()
    exact = posterior(network, evidence)
    got = posterior(network, evidence, method="auto", memory_gib=2e-5, effort=100.0)
    assert got.exact.tolist() == [True, False, True]
    for name in ("marginal", "none", "log_evidence"):
        array = getattr(got, name)
        assert np.isnan(array[1]).all()
        np.testing.assert_array_equal(array[[0, 2]], getattr(exact, name)[[0, 2]])
    assert (got.lower[1] <= exact.marginal[1]).all()
    assert (exact.marginal[1] <= got.upper[1]).all()
    assert (got.lower[1] < got.upper[1]).any()
    np.testing.assert_array_equal(got.lower[[0, 2]], got.marginal[[0, 2]])
    np.testing.assert_array_equal(got.upper[[0, 2]], got.marginal[[0, 2]])


def test_exact_refuses_what_auto_bounds():
    network, evidence = problem()
    with pytest.raises(EvidenceTooLarge, match=re.escape("case 1: 16 present or uncertain findings need ")):
        posterior(network, evidence, memory_gib=2e-5)


def test_without_a_large_case_auto_is_exact():
    network, evidence = problem()
    got, exact = posterior(network, evidence, method="auto"), posterior(network, evidence)
    assert got.bounds is None
    assert got.exact.all()
    np.testing.assert_array_equal(got.marginal, exact.marginal)
    assert posterior(network, evidence, method="bounds").bounds is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, e: posterior(n, e, method="fast"), "method: got 'fast', allowed: exact, auto, bounds"),
        (
            lambda n, e: bounds(n, e, effort=-1.0),
            "effort and tolerance: got -1.0 and 0.001, expected numbers that are not negative",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(*problem())
