"""Single-cause mode against enumeration of "exactly one cause, or none", exact logarithms, and the full model."""

import itertools
import re
import tracemalloc
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import EXAMPLES, Example, nan, problems, random_context, random_evidence, random_example

from ddx.inference import EvidenceTooLarge, Network, SinglePosterior, posterior, single_cause


@pytest.fixture(params=["numpy", "compiled"])
def kernel(request):
    if request.param == "compiled":
        pytest.importorskip("numba")
    return request.param


# --- brute force ------------------------------------------------------------------------------------------------------------


def noisy_or(leak, *links):
    """P(1), P(0): sums and products of non-negative numbers, which lose no digits."""
    on, off = leak, 1.0 - leak
    for w in links:
        on, off = on + off * w, off * (1.0 - w)
    return on, off


def contexts(example, observed):
    """Every context (C,) that agrees with what was observed, and its probability."""
    for x in itertools.product((0, 1), repeat=example.n_context):
        if any(not np.isnan(said) and said != value for said, value in zip(observed, x, strict=True)):
            continue
        weight = 1.0
        for j, p in enumerate(example.context_prior):
            parent = example.requires[j] if example.requires else -1
            on = p if parent < 0 or x[parent] else 0.0
            weight *= on if x[j] else 1.0 - on
        yield np.array(x, dtype=float), weight


def allowed(n_causes, allow_none):
    """The configurations of causes, each with the index of its only cause; that of none is the last."""
    one = [(k, tuple(int(i == k) for i in range(n_causes))) for k in range(n_causes)]
    return [*one, (n_causes, (0,) * n_causes)] if allow_none else one


def brute_force(example, row, observed=None, *, allow_none=True):
    """P(only k | e) (K + 1,), none last, and log P(e | observed context, the causes are as allowed)."""
    observed = np.full(example.n_context, nan) if observed is None else observed
    n_causes, n_syndromes = len(example.prior), example.n_syndromes
    prior, joint = np.zeros(n_causes + 1), np.zeros(n_causes + 1)
    for x, weight in contexts(example, observed):
        ratio = np.exp(example.context_log_odds @ x) if example.n_context else np.ones(n_causes)
        total = 1.0 - example.prior + example.prior * ratio
        on, off = example.prior * ratio / total, (1.0 - example.prior) / total
        for k, causes in allowed(n_causes, allow_none):
            prior[k] += weight * np.prod(np.where(causes, on, off)) * (1.0 if any(causes) else example.none_weight)
    for k, causes in allowed(n_causes, allow_none):
        likelihood = 0.0
        for syndromes in itertools.product((0, 1), repeat=n_syndromes):
            p = 1.0
            for j, there in enumerate(syndromes):
                links = [example.syndrome_link[j, i] for i in range(n_causes) if causes[i]]
                p *= noisy_or(example.syndrome_leak[j], *links)[1 - there]
            for f, v in enumerate(row):
                if not np.isnan(v):
                    links = [example.link[f, i] for i in range(n_causes) if causes[i]]
                    links += [example.finding_syndrome[f, j] for j in range(n_syndromes) if syndromes[j]]
                    present, absent = noisy_or(example.leak[f], *links)
                    p *= v * present + (1.0 - v) * absent
            likelihood += p
        joint[k] = prior[k] * likelihood
    return joint / joint.sum(), np.log(joint.sum()) - np.log(prior.sum())


def assert_rows(result, answers, rtol=1e-11, atol=1e-14):
    for i, (share, log_evidence) in enumerate(answers):
        np.testing.assert_allclose(np.append(result.marginal[i], result.none[i]), share, rtol=rtol, atol=atol)
        np.testing.assert_allclose(result.log_evidence[i], log_evidence, rtol=rtol, atol=1e-13)


def assert_sums_to_one(result):
    np.testing.assert_allclose(result.marginal.sum(axis=1) + result.none, 1.0, rtol=1e-14)


def cases_of(example, seed, n_cases=4):
    rng = np.random.default_rng(seed)
    same = [np.full(len(example.leak), v) for v in (nan, 0.0, 1.0, 0.3)]
    evidence = np.vstack([random_evidence(rng, n_cases, len(example.leak)), *same])
    return evidence, random_context(rng, len(evidence), example.requires or (-1,) * example.n_context)


NETWORKS = {name: example for name, example in EXAMPLES.items() if name != "structural"}


@pytest.mark.parametrize("allow_none", [True, False])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_agrees_with_brute_force(name, allow_none, kernel):
    example = NETWORKS[name]
    evidence, context = cases_of(example, seed=1)
    result = single_cause(example.network(), evidence, context, allow_none=allow_none, kernel=kernel)
    assert_rows(result, [brute_force(example, *case, allow_none=allow_none) for case in zip(evidence, context, strict=True)])
    assert_sums_to_one(result)
    if not allow_none:
        np.testing.assert_array_equal(result.none, 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_brute_force_on_random_networks(seed):
    rng = np.random.default_rng(400 + seed)
    requires = ((), (-1, 0), (-1, -1, 1), (-1, 0, 0, -1))[seed % 4]
    sizes = rng.integers(1, 6, 2)
    example = random_example(seed, *sizes, len(requires), requires, density=rng.random(), n_syndromes=seed % 3)
    evidence, context = cases_of(example, seed, n_cases=6)
    for allow_none in (True, False):
        result = single_cause(example.network(), evidence, context, allow_none=allow_none)
        cases = zip(evidence, context, strict=True)
        assert_rows(result, [brute_force(example, *case, allow_none=allow_none) for case in cases])


@settings(max_examples=60)
@given(problems(st.floats(1e-6, 1.0 - 1e-6), max_cases=2), st.booleans())
def test_agrees_with_brute_force_on_any_network(problem, allow_none):
    example, evidence, context = problem
    result = single_cause(example.network(), evidence, context, allow_none=allow_none, kernel="numpy")
    cases = zip(evidence, context, strict=True)
    assert_rows(result, [brute_force(example, *case, allow_none=allow_none) for case in cases], rtol=1e-10)
    assert_sums_to_one(result)


@settings(max_examples=60)
@given(problems(max_cases=2), st.booleans())
def test_zeros_and_ones_anywhere(problem, allow_none):
    """Priors, links and leaks of 0, 1 and 1e-300 among them: the sum is one, or the evidence impossible."""
    example, evidence, context = problem
    result = single_cause(example.network(), evidence, context, allow_none=allow_none, kernel="numpy")
    for i, case in enumerate(zip(evidence, context, strict=True)):
        with np.errstate(divide="ignore", invalid="ignore"):
            share, log_evidence = brute_force(example, *case, allow_none=allow_none)
        got = np.append(result.marginal[i], result.none[i])
        if np.isfinite(log_evidence) and log_evidence > -500.0:
            np.testing.assert_allclose(got, share, rtol=1e-9, atol=1e-14)
            np.testing.assert_allclose(result.log_evidence[i], log_evidence, rtol=1e-10, atol=1e-13)
        elif result.impossible[i]:
            assert np.isnan(got).all()
        else:  # too improbable for the plain products of brute force
            assert result.log_evidence[i] < -400.0
            assert got.sum() == pytest.approx(1.0, rel=1e-13)


def test_by_hand(kernel):
    network = Network([0.1, 0.2], [[0.5, 0.0]], [0.1])
    # P(only) over P(none): 1/9 and 1/4; P(present): 0.55, 0.1, 0.1.
    joint = np.array([0.55 / 9.0, 0.1 / 4.0, 0.1])
    result = single_cause(network, [[1.0]], kernel=kernel)
    assert isinstance(result, SinglePosterior)
    np.testing.assert_allclose([*result.marginal[0], result.none[0]], joint / joint.sum(), rtol=1e-14)
    np.testing.assert_allclose(result.log_evidence, [np.log(joint.sum() / (1.0 / 9.0 + 1.0 / 4.0 + 1.0))], rtol=1e-13)
    result = single_cause(network, [[1.0]], allow_none=False, kernel=kernel)
    np.testing.assert_allclose(result.marginal[0], joint[:2] / joint[:2].sum(), rtol=1e-14)
    assert result.none[0] == 0.0
    np.testing.assert_allclose(result.log_evidence, [np.log(joint[:2].sum() / (1.0 / 9.0 + 1.0 / 4.0))], rtol=1e-13)


@pytest.mark.parametrize("n_syndromes", [0, 2])
def test_nothing_observed_gives_the_prior(n_syndromes, kernel):
    example = random_example(1, 4, 5, n_syndromes=n_syndromes)
    odds = example.prior / (1.0 - example.prior)
    result = single_cause(example.network(), np.full((1, 5), nan), kernel=kernel)
    np.testing.assert_allclose(result.marginal[0], odds / (1.0 + odds.sum()), rtol=1e-13)
    np.testing.assert_allclose(result.log_evidence, 0.0, atol=1e-15)


# --- shapes, axes, order ----------------------------------------------------------------------------------------------------

ARRAYS = (
    "prior", "link", "leak", "syndrome_link", "syndrome_leak", "finding_syndrome", "context_log_odds", "context_prior"
)  # fmt: skip


@pytest.mark.parametrize("names", [*((name,) for name in ARRAYS), ARRAYS], ids=lambda names: "+".join(names))
def test_arrays_with_a_case_axis(names, kernel):
    example = random_example(2, 4, 6, 3, (-1, 0, -1), n_syndromes=2)
    rng = np.random.default_rng(0)
    evidence = np.repeat(random_evidence(rng, 3, 6), 2, axis=0)  # equal rows with different numbers
    context = np.repeat(random_context(rng, 3, example.requires), 2, axis=0)
    arrays = {name: getattr(example, name) * rng.uniform(0.7, 1.05, (6, *getattr(example, name).shape)) for name in names}
    result = single_cause(Network(**example.arrays() | arrays), evidence, context, kernel=kernel)
    alone = [replace(example, **{name: array[i] for name, array in arrays.items()}) for i in range(6)]
    cases = zip(alone, evidence, context, strict=True)
    assert_rows(result, [brute_force(*case) for case in cases])
    assert (result.log_evidence[::2] != result.log_evidence[1::2]).any() or (result.none[::2] != result.none[1::2]).any()


@pytest.mark.parametrize("names", [("prior",), ("link",), ("leak",), ("prior", "link", "leak")], ids=lambda n: "+".join(n))
def test_arrays_with_a_case_axis_without_syndromes_and_context(names, kernel):
    example = random_example(3, 5, 7)
    rng = np.random.default_rng(1)
    evidence = np.repeat(random_evidence(rng, 3, 7), 2, axis=0)
    arrays = {name: getattr(example, name) * rng.uniform(0.7, 1.05, (6, *getattr(example, name).shape)) for name in names}
    arrays.get("link", np.ones((1, 1, 1)))[0, 0, 0] = 1.0
    result = single_cause(Network(**example.arrays() | arrays), evidence, kernel=kernel)
    alone = [replace(example, **{name: array[i] for name, array in arrays.items()}) for i in range(6)]
    assert_rows(result, [brute_force(one, row) for one, row in zip(alone, evidence, strict=True)])


@pytest.mark.parametrize("name", ["dense", "context", "syndromes_and_context"])
def test_order_and_company_do_not_matter(name, kernel):
    example = NETWORKS[name]
    network = example.network()
    evidence, context = cases_of(example, seed=2, n_cases=20)
    result = single_cause(network, evidence, context, kernel=kernel)
    rows = np.random.default_rng(0).permutation(len(evidence))
    causes = np.random.default_rng(1).permutation(network.n_causes)
    arrays = example.arrays()
    arrays |= {n: arrays[n][..., causes] for n in ("prior", "link", "syndrome_link") if n in arrays}
    arrays |= {n: arrays[n][causes] for n in ("context_log_odds",) if n in arrays}
    other = single_cause(Network(**arrays), evidence[rows], context[rows], kernel=kernel)
    np.testing.assert_allclose(other.marginal, result.marginal[rows][:, causes], rtol=1e-12)
    np.testing.assert_allclose(other.none, result.none[rows], rtol=1e-12)
    np.testing.assert_allclose(other.log_evidence, result.log_evidence[rows], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_both_kernels_agree(name):
    pytest.importorskip("numba")
    example = NETWORKS[name]
    evidence, context = cases_of(example, seed=3, n_cases=8)
    by_kernel = [single_cause(example.network(), evidence, context, kernel=k) for k in ("numpy", "compiled", "auto")]
    for other in by_kernel[1:]:
        for field in ("marginal", "none", "log_evidence"):
            np.testing.assert_allclose(getattr(other, field), getattr(by_kernel[0], field), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["dense", "context", "syndromes_and_context"])
def test_shapes(name):
    network = NETWORKS[name].network()
    for n in (0, 1, 3):
        result = single_cause(network, np.ones((n, network.n_findings)))
        assert result.marginal.shape == (n, network.n_causes)
        assert result.none.shape == result.log_evidence.shape == result.impossible.shape == (n,)


@pytest.mark.parametrize(("v", "near"), [(1e-13, 0.0), (1.0 - 1e-13, 1.0), (0.5, nan)])
def test_uncertain_evidence_reaches_from_absent_to_present(v, near, kernel):
    """Likelihoods of v and 1 - v; with 1/2 the finding says nothing but the factor 1/2."""
    for n_syndromes in (0, 2):
        network = random_example(4, 4, 3, n_syndromes=n_syndromes).network()
        got, limit = (single_cause(network, [[1.0, value, 0.0]], kernel=kernel) for value in (v, near))
        np.testing.assert_allclose(got.marginal, limit.marginal, rtol=1e-10)
        np.testing.assert_allclose(got.none, limit.none, rtol=1e-10)
        factor = np.log(0.5) if v == 0.5 else 0.0
        np.testing.assert_allclose(got.log_evidence, limit.log_evidence + factor, rtol=1e-10)


# --- the limit of the full model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sparse", "dense", "context", "two_need_one", "syndromes_and_links", "syndromes_and_context"])
def test_tiny_priors_leave_no_room_for_two_causes(name, kernel):
    """With priors of 1e-12 two causes are next to nothing beside one, however well they explain the findings together."""
    example = NETWORKS[name]
    example = replace(example, prior=example.prior * 1e-12 / example.prior.max(), leak=np.maximum(example.leak, 0.05))
    network = example.network()
    evidence, context = cases_of(example, seed=4, n_cases=10)
    single = single_cause(network, evidence, context, kernel=kernel)
    full = posterior(network, evidence, context)
    assert full.marginal.max() < 1e-4
    np.testing.assert_allclose(single.marginal, full.marginal, rtol=1e-3)
    np.testing.assert_allclose(single.none, full.none, rtol=1e-9)
    np.testing.assert_allclose(single.log_evidence, full.log_evidence, rtol=1e-9, atol=1e-9)


def test_one_cause_is_the_full_model(kernel):
    for seed, n_syndromes in ((5, 0), (6, 2)):
        example = random_example(seed, 1, 6, 2, (-1, 0), density=0.8, n_syndromes=n_syndromes)
        evidence, context = cases_of(example, seed=5, n_cases=10)
        single, full = (f(example.network(), evidence, context, kernel=kernel) for f in (single_cause, posterior))
        np.testing.assert_allclose(single.marginal, full.marginal, rtol=1e-12)
        np.testing.assert_allclose(single.none, full.none, rtol=1e-12)
        np.testing.assert_allclose(single.log_evidence, full.log_evidence, rtol=1e-12, atol=1e-14)


# --- many findings ----------------------------------------------------------------------------------------------------------


def exact_logs(example, row):
    """Shares (K + 1,) and log evidence of a network without syndromes and context, in 50 digits."""
    with mpmath.workdps(50):
        number = np.frompyfunc(mpmath.mpf, 1, 1)
        seen = ~np.isnan(row)
        prior, link, leak, v = map(number, (example.prior, example.link[seen], example.leak[seen], row[seen]))
        link, leak, v = np.column_stack([link, 0 * leak]), leak[:, None], v[:, None]
        absent = (1 - leak) * (1 - link)
        odds = np.append(prior / (1 - prior), mpmath.mpf(1))
        joint = odds * np.prod(v * (1 - absent) + (1 - v) * absent, axis=0)
        share = joint / joint.sum()
        return share.astype(float), float(mpmath.log(joint.sum() / odds.sum()))


@pytest.mark.parametrize("batched", [False, True], ids=["shared", "with a case axis"])
def test_five_thousand_findings_do_not_underflow(batched, kernel):
    """P(e | cause) is below 1e-2000; the causes differ by parts in a thousand of each link, so several stay in the game."""
    rng = np.random.default_rng(0)
    n_findings, n_causes = 5000, 4
    base = rng.uniform(0.2, 0.6, n_findings)
    link = np.clip(base[:, None] + rng.normal(0.0, 0.003, (n_findings, n_causes)), 0.01, 0.99)
    example = Example(prior=rng.uniform(0.01, 0.1, n_causes), link=link, leak=rng.uniform(0.01, 0.1, n_findings))
    evidence = np.where(rng.random((3, n_findings)) < 0.5, 1.0, 0.0)
    evidence[1, ::7], evidence[2, ::5] = nan, rng.random(1000)
    network = Network(example.prior, np.tile(link, (3, 1, 1)), example.leak) if batched else example.network()
    result = single_cause(network, evidence, kernel=kernel)
    assert (result.log_evidence < -3000.0).all()
    assert ((result.marginal > 1e-6).sum(axis=1) >= 2).all()
    for i, row in enumerate(evidence):
        share, log_evidence = exact_logs(example, row)
        # The error of a share is that of its logarithm: 1e-16 of thousands.
        np.testing.assert_allclose(np.append(result.marginal[i], result.none[i]), share, rtol=1e-10)
        np.testing.assert_allclose(result.log_evidence[i], log_evidence, rtol=1e-14)
    assert_sums_to_one(result)


def test_many_findings_of_syndromes_do_not_underflow(kernel):
    """Two syndromes, each with its own findings of probability 1e-3 and less: P(e) is far below 1e-308."""
    n = 400 if kernel == "compiled" else 130  # NumPy plans a case in Python
    finding_syndrome = np.zeros((2 * n, 2))
    finding_syndrome[:n, 0] = finding_syndrome[n:, 1] = 1e-3
    syndrome_link, syndrome_leak, leak = np.array([[0.7, 0.0], [0.2, 0.9]]), np.array([0.1, 0.05]), 1e-3
    network = Network(
        [0.2, 0.1], np.zeros((2 * n, 2)), np.full(2 * n, leak),
        syndrome_link=syndrome_link, syndrome_leak=syndrome_leak, finding_syndrome=finding_syndrome,
    )  # fmt: skip
    result = single_cause(network, np.ones((1, 2 * n)), kernel=kernel)
    off, on = n * np.log(leak), n * np.log(leak + (1.0 - leak) * 1e-3)
    logs = np.log([0.2 / 0.8, 0.1 / 0.9, 1.0])
    prior = logs.copy()
    for k, link in enumerate([*syndrome_link.T, np.zeros(2)]):
        for p in syndrome_leak + (1.0 - syndrome_leak) * link:
            logs[k] += np.logaddexp(np.log(p) + on, np.log1p(-p) + off)
    total = np.logaddexp.reduce(logs)
    assert total < -1500.0
    np.testing.assert_allclose([*result.marginal[0], result.none[0]], np.exp(logs - total), rtol=1e-10)
    np.testing.assert_allclose(result.log_evidence, [total - np.logaddexp.reduce(prior)], rtol=1e-13)


def test_many_causes(kernel):
    """P(no cause) itself is far below 1e-308, and drops out."""
    rng = np.random.default_rng(0)
    example = Example(prior=rng.uniform(0.9, 0.99, 2000), link=rng.uniform(0.0, 0.9, (3, 2000)), leak=np.array([0.1, 0.2, 0.3]))
    row = np.array([1.0, 0.0, 0.4])
    result = single_cause(example.network(), [row], kernel=kernel)
    share, log_evidence = exact_logs(example, row)
    np.testing.assert_allclose(np.append(result.marginal[0], result.none[0]), share, rtol=1e-11)
    np.testing.assert_allclose(result.log_evidence, [log_evidence], rtol=1e-11)


def test_many_syndromes_cost_no_more_than_their_present_findings(kernel):
    """Eighteen syndromes with one finding each, two of them present: 2**18 states would be far beyond the budget."""
    n, w = 18, 0.5
    syndrome_leak, syndrome_link = 0.1, np.array([0.3, 0.6])
    network = Network(
        [0.1, 0.2], np.zeros((n, 2)), np.full(n, 0.1),
        syndrome_link=np.tile(syndrome_link, (n, 1)), syndrome_leak=np.full(n, syndrome_leak), finding_syndrome=w * np.eye(n),
    )  # fmt: skip
    evidence = np.zeros((1, n))
    evidence[0, -2:] = 1.0
    single_cause(network, evidence, kernel=kernel)  # what is loaded for the first time does not count
    tracemalloc.start()
    result = single_cause(network, evidence, memory_gib=1e-6, kernel=kernel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    absent = 0.9 * (1.0 - w * (syndrome_leak + (1.0 - syndrome_leak) * np.append(syndrome_link, 0.0)))
    joint = np.array([0.1 / 0.9, 0.2 / 0.8, 1.0]) * absent ** (n - 2) * (1.0 - absent) ** 2
    np.testing.assert_allclose([*result.marginal[0], result.none[0]], joint / joint.sum(), rtol=1e-12)
    assert peak < 8 * 2**n


# --- 0 and 1 ----------------------------------------------------------------------------------------------------------------


def plain():
    return Example(
        prior=np.array([0.1, 0.3, 0.02]),
        link=np.array([[0.5, 0.2, 0.0], [0.4, 0.0, 0.7], [0.0, 0.8, 0.3], [0.6, 0.1, 0.9]]),
        leak=np.array([0.05, 0.1, 0.02, 0.2]),
    )


ROWS = np.array([[1, 0, nan, 0.3], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [nan, 0.6, 1, nan], [nan] * 4])


@pytest.mark.parametrize("allow_none", [True, False])
def test_a_cause_that_is_never_there(allow_none, kernel):
    example = plain()
    example.prior[1] = 0.0
    result = single_cause(example.network(), ROWS, allow_none=allow_none, kernel=kernel)
    np.testing.assert_array_equal(result.marginal[:, 1], 0.0)
    assert_rows(result, [brute_force(example, row, allow_none=allow_none) for row in ROWS])


def test_no_cause_is_ever_there(kernel):
    example = replace(plain(), prior=np.zeros(3))
    result = single_cause(example.network(), ROWS, kernel=kernel)
    np.testing.assert_array_equal(result.marginal, 0.0)
    np.testing.assert_array_equal(result.none, 1.0)
    assert_rows(result, [brute_force(example, row) for row in ROWS])
    assert_impossible(single_cause(example.network(), ROWS, allow_none=False, kernel=kernel))


@pytest.mark.parametrize("allow_none", [True, False])
def test_one_certain_cause_is_the_only_one(allow_none, kernel):
    example = plain()
    example.prior[1] = 1.0
    result = single_cause(example.network(), ROWS, allow_none=allow_none, kernel=kernel)
    np.testing.assert_array_equal(result.marginal, [[0.0, 1.0, 0.0]] * len(ROWS))
    np.testing.assert_array_equal(result.none, 0.0)
    assert_rows(result, [brute_force(example, row, allow_none=allow_none) for row in ROWS])


@pytest.mark.parametrize("observed", [[nan, nan], [1.0, 0.0], [0.0, nan]])
def test_one_certain_cause_whatever_the_context(observed, kernel):
    example = replace(
        plain(), context_log_odds=np.array([[1.0, 0.0], [2.0, -1.0], [0.0, 0.7]]), context_prior=np.array([0.3, 0.6])
    )
    example.prior[1] = 1.0
    context = np.tile(observed, (len(ROWS), 1))
    result = single_cause(example.network(), ROWS, context, kernel=kernel)
    np.testing.assert_array_equal(result.marginal, [[0.0, 1.0, 0.0]] * len(ROWS))
    assert_rows(result, [brute_force(example, *case) for case in zip(ROWS, context, strict=True)])


def assert_impossible(result, rows=slice(None)):
    np.testing.assert_array_equal(result.log_evidence[rows], -np.inf)
    assert result.impossible[rows].all()
    assert np.isnan(result.marginal[rows]).all()
    assert np.isnan(result.none[rows]).all()


@pytest.mark.parametrize("allow_none", [True, False])
def test_two_certain_causes_are_one_too_many(allow_none, kernel):
    example = plain()
    example.prior[[0, 2]] = 1.0
    assert_impossible(single_cause(example.network(), ROWS, allow_none=allow_none, kernel=kernel))


def test_certain_causes_of_some_cases(kernel):
    example = plain()
    prior = np.tile(example.prior, (4, 1))
    prior[1, 0] = prior[2, 0] = prior[2, 2] = 1.0
    prior[3] = 0.0
    evidence = np.tile([1.0, 0.0, nan, 0.3], (4, 1))
    result = single_cause(Network(prior, example.link, example.leak), evidence, kernel=kernel)
    assert_impossible(result, [2])
    for i in (0, 1, 3):
        share, log_evidence = brute_force(replace(example, prior=prior[i]), evidence[i])
        np.testing.assert_allclose([*result.marginal[i], result.none[i]], share, rtol=1e-12)
        np.testing.assert_allclose(result.log_evidence[i], log_evidence, rtol=1e-12)
    np.testing.assert_array_equal(result.impossible, [False, False, True, False])


def test_a_leak_of_zero_leaves_what_is_linked(kernel):
    example = plain()
    example.leak[:] = 0.0
    evidence = np.array([[1, nan, nan, nan], [nan, 1, 1, nan], [0, 0, 0, 0], [1, 1, 1, nan]])
    result = single_cause(example.network(), evidence, kernel=kernel)
    odds = example.prior / (1.0 - example.prior)
    first = odds * example.link[0]
    np.testing.assert_allclose(result.marginal[0], first / first.sum(), rtol=1e-13)
    # Only cause 2 is linked to findings 1 and 2, and none to 0, 1 and 2: two would have to be there.
    np.testing.assert_array_equal(result.marginal[1], [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(result.none[:2], 0.0)
    assert_rows(result, [brute_force(example, row) for row in evidence[:3]])
    assert_impossible(result, [3])
    np.testing.assert_array_equal(result.impossible, [False, False, False, True])
    assert not posterior(example.network(), evidence).impossible.any()


def test_a_leak_of_one_says_nothing_when_present_and_cannot_be_absent(kernel):
    example = plain()
    example.leak[0] = 1.0
    network = example.network()
    result = single_cause(network, [[1.0, 0.0, 1.0, nan], [nan, 0.0, 1.0, nan], [0.0, 0.0, 1.0, nan]], kernel=kernel)
    np.testing.assert_allclose(result.marginal[0], result.marginal[1], rtol=1e-14)
    np.testing.assert_allclose(result.log_evidence[0], result.log_evidence[1], rtol=1e-14)
    assert_impossible(result, [2])
    np.testing.assert_array_equal(result.impossible, [False, False, True])
    # Uncertain: the likelihood of absent counts for nothing.
    uncertain = single_cause(network, [[0.3, 0.0, 1.0, nan]], kernel=kernel)
    np.testing.assert_allclose(uncertain.log_evidence, result.log_evidence[1] + np.log(0.3), rtol=1e-13)


def test_a_link_of_one_rules_out_when_absent(kernel):
    example = plain()
    example.link[0, 0] = example.link[1, 2] = 1.0
    result = single_cause(example.network(), ROWS, kernel=kernel)
    assert_rows(result, [brute_force(example, row) for row in ROWS])
    np.testing.assert_array_equal(result.marginal[:, 0] == 0.0, ROWS[:, 0] == 0.0)
    np.testing.assert_array_equal(result.marginal[:, 2] == 0.0, ROWS[:, 1] == 0.0)


def test_the_evidence_rules_every_cause_out(kernel):
    """Without a cause the finding is absent for sure; with either it would be present for sure."""
    example = Example(prior=np.array([0.1, 0.2]), link=np.array([[1.0, 1.0]]), leak=np.array([0.0]))
    result = single_cause(example.network(), [[0.0], [1.0]], kernel=kernel)
    np.testing.assert_array_equal(result.none, [1.0, 0.0])
    result = single_cause(example.network(), [[0.0], [1.0]], allow_none=False, kernel=kernel)
    assert_impossible(result, [0])
    np.testing.assert_allclose(result.marginal[1].sum(), 1.0, rtol=1e-14)
    np.testing.assert_allclose(result.log_evidence[1], 0.0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("syndrome_link", (0, 0), 1.0),
        ("syndrome_leak", (0,), 0.0),
        ("syndrome_leak", (1,), 1.0),
        ("finding_syndrome", (1, 0), 1.0),
        ("leak", (1,), 0.0),
        ("prior", (1,), 1.0),
        ("prior", (1,), 0.0),
    ],
)
def test_zeros_and_ones_around_syndromes(name, at, value, kernel):
    example = Example(
        prior=np.array([0.1, 0.02, 0.3]),
        link=np.array([[0, 0, 0.4], [0, 0, 0], [0.5, 0, 0], [0, 0, 0]]),
        leak=np.array([0.05, 0.02, 0.1, 0.3]),
        syndrome_link=np.array([[0.6, 0.2, 0], [0, 0.7, 0.5]]),
        syndrome_leak=np.array([0.04, 0.1]),
        finding_syndrome=np.array([[0.8, 0.1], [0.5, 0], [0, 0.9], [0.3, 0.6]]),
    )
    getattr(example, name)[at] = value
    for allow_none in (True, False):
        result = single_cause(example.network(), ROWS, allow_none=allow_none, kernel=kernel)
        assert_rows(result, [brute_force(example, row, allow_none=allow_none) for row in ROWS])


def test_impossible_with_syndromes(kernel):
    """The finding needs the syndrome, and the syndrome cause 0."""
    example = Example(
        prior=np.array([0.1, 0.2]),
        link=np.zeros((2, 2)),
        leak=np.array([0.0, 0.1]),
        syndrome_link=np.array([[0.7, 0.0]]),
        syndrome_leak=np.array([0.0]),
        finding_syndrome=np.array([[0.9], [1.0]]),
    )
    result = single_cause(example.network(), [[1.0, nan], [1.0, 0.0], [nan, 0.0]], kernel=kernel)
    np.testing.assert_array_equal(result.marginal[0], [1.0, 0.0])
    assert result.none[0] == 0.0
    assert_impossible(result, [1])
    np.testing.assert_array_equal(result.impossible, [False, True, False])
    np.testing.assert_allclose([*result.marginal[2], result.none[2]], brute_force(example, [nan, 0.0])[0], rtol=1e-13)


# --- errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evidence": [[1.0, 0.0]]}, "evidence: got shape (1, 2), expected (N, F) with F = 4"),
        ({"evidence": [1.0, 0.0, nan, 1.0]}, "evidence: got shape (4,), expected (N, F) with F = 4"),
        ({"evidence": [[1.0, 0.0, nan, -0.5]]}, "evidence[0, 3]: got -0.5, expected nan or a number in [0, 1]"),
        ({"context": [[1.0]]}, "context: got shape (1, 1), expected (N, C) = (1, 2)"),
        ({"context": [[1.0, 0.5]]}, "context: expected 1 (present), 0 (absent) or nan (not observed)"),
        ({"context": [[0.0, 1.0]]}, "context[0]: variable 1 is present, variable 0, which it requires, absent"),
        ({"kernel": "fast"}, "kernel: got 'fast', allowed: auto, numpy, compiled"),
    ],
)
def test_input_that_does_not_fit(arguments, message):
    example = replace(plain(), context_log_odds=np.ones((3, 2)), context_prior=np.array([0.2, 0.3]), requires=(-1, 0))
    for allow_none in (True, False):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            single_cause(example.network(), **({"evidence": [[1.0, 0.0, nan, 1.0]]} | arguments), allow_none=allow_none)


def test_cases_do_not_fit_the_arrays():
    network = Network(np.tile(plain().prior, (2, 1)), plain().link, plain().leak)
    with pytest.raises(ValueError, match=r"^evidence: got 3 cases, the network has arrays for 2$"):
        single_cause(network, ROWS[:3])


def test_a_case_that_is_too_large(kernel):
    """Ten syndromes with ten present findings of all of them; without syndromes nothing is too large."""
    example = random_example(7, 3, 10, density=0.0, n_syndromes=10, syndrome_density=1.0)
    evidence = np.full((3, 10), nan)
    evidence[0, 0] = 1.0
    evidence[1] = 1.0
    evidence[1, 4] = 0.5
    budget = 2.0**-17
    with pytest.raises(EvidenceTooLarge) as error:
        single_cause(example.network(), evidence, memory_gib=budget, kernel=kernel)
    found = error.value
    assert (found.row, found.n_findings, found.budget) == (1, 10, budget)
    assert found.gib > budget
    assert str(found) == (
        f"case 1: 10 present or uncertain findings need {found.gib:.3g} GiB, the budget is {budget:g} GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )
    assert np.isfinite(single_cause(example.network(), evidence, memory_gib=found.gib, kernel=kernel).log_evidence).all()
    without = replace(example, syndrome_link=np.zeros((0, 0)), syndrome_leak=np.zeros(0), finding_syndrome=np.zeros((0, 0)))
    assert np.isfinite(single_cause(without.network(), evidence, memory_gib=budget, kernel=kernel).log_evidence).all()


def test_unknown_context_that_is_too_large(kernel):
    """Every cause depends on all of twelve unknown variables."""
    rng = np.random.default_rng(0)
    network = Network(
        [0.1, 0.2], [[0.5, 0.2]], [0.1], context_log_odds=rng.normal(size=(2, 12)), context_prior=rng.uniform(0.1, 0.9, 12)
    )  # fmt: skip
    context = np.full((2, 12), nan)
    context[0] = 1.0
    budget = 2.0**-15
    with pytest.raises(EvidenceTooLarge) as error:
        single_cause(network, [[nan], [nan]], context, memory_gib=budget, kernel=kernel)
    assert (error.value.row, error.value.n_findings, error.value.budget) == (1, 0, budget)
    assert str(error.value) == (
        f"case 1: 0 present or uncertain findings need {error.value.gib:.3g} GiB, the budget is {budget:g} GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )
    context[1, 2:] = 0.0
    assert np.isfinite(single_cause(network, [[nan], [nan]], context, memory_gib=budget, kernel=kernel).log_evidence).all()
