"""Derivatives of log evidence and of posteriors: against the definition of the model, differences, and what they must satisfy.

P(evidence) is a polynomial of the parameters (a rational function of priors where context changes them), so its definition can
be evaluated in complex numbers: the imaginary part of f(x + ih) / h is the derivative, to the last digits and without any
difference of near numbers (Squire and Trapp 1998, Using complex variables to estimate derivatives of real functions), at 0 and
1 as well, where finite differences leave the model.
"""

import functools
import importlib.util
import itertools
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import (
    EXAMPLES,
    Example,
    assert_bits,
    nan,
    problems,
    random_context,
    random_evidence,
    random_example,
    some_rows,
)

from ddx.inference import EvidenceTooLarge, Gradient, Network, explain_plan, gradient, posterior

ARRAYS = (
    "prior", "link", "leak", "syndrome_link", "syndrome_leak", "finding_syndrome", "context_log_odds", "context_prior"
)  # fmt: skip
# Where a zero says that there is nothing, and the derivative is zero by definition.
SPARSE = ("link", "syndrome_link", "finding_syndrome", "context_log_odds")


KERNELS = ["numpy"] if importlib.util.find_spec("numba") is None else ["numpy", "compiled"]


@pytest.fixture(params=KERNELS)
def kernel(request):
    return request.param


# --- the definition in complex numbers --------------------------------------------------------------------------------------


def booleans(n):
    return np.array(list(itertools.product([False, True], repeat=n)), dtype=bool).reshape(2**n, n)


def noisy_or(leak, link, parents):
    """P(1), P(0) (A, F) for every row of parents (A, P)."""
    on, off = leak[None], 1.0 - leak[None]
    for there, w in zip(parents.T[:, :, None], link.T, strict=True):
        on, off = np.where(there, on + off * w, on), np.where(there, off * (1.0 - w), off)
    return on, off


class Definition:
    """The sum over everything that is not observed, for one row of findings and of context.

    Three factors, each of its own parameters, over causes (A,), causes and syndromes (A, B), and all of that and findings.
    """

    def __init__(self, network, row, observed):
        self.requires, self.row, self.observed, self.none_weight = network.requires, row, observed, network.none_weight
        self.causes, self.syndromes = booleans(network.n_causes), booleans(network.n_syndromes)
        syndromes = np.tile(self.syndromes, (len(self.causes), 1))
        self.parents = np.hstack([np.repeat(self.causes, len(self.syndromes), axis=0), syndromes])

    def of_causes(self, prior, context_log_odds, context_prior):
        x = booleans(len(self.observed))
        x = x[(np.isnan(self.observed) | (x == self.observed)).all(axis=1)]
        p = context_prior * np.where(self.requires < 0, True, x[:, self.requires]) if len(self.requires) else context_prior
        weight = np.prod(np.where(x, p, 1.0 - p), axis=1)
        on = prior * np.exp(x @ context_log_odds.T)
        off, on = (1.0 - prior) / (1.0 - prior + on), on / (1.0 - prior + on)
        found = weight @ np.prod(np.where(self.causes, on[:, None], off[:, None]), axis=2) / weight.sum()
        found = found * np.where(self.causes.any(axis=1), 1.0, self.none_weight)
        return found / found.sum()

    def of_syndromes(self, syndrome_leak, syndrome_link):
        on, off = noisy_or(syndrome_leak, syndrome_link, self.causes)
        return np.prod(np.where(self.syndromes, on[:, None], off[:, None]), axis=2)

    def of_findings(self, leak, link, finding_syndrome, some=slice(None)):
        on, off = noisy_or(leak[some], np.hstack([link[some], finding_syndrome[some]]), self.parents)
        v = self.row[some]
        return np.where(np.isnan(v), 1.0, v * on + (1.0 - v) * off)

    def answer(self, of_causes, of_syndromes, of_findings):
        """Log P(row | observed context), and P(cause | row, observed context) of every cause: (1 + K,)."""
        joint = of_causes * (of_syndromes * np.prod(of_findings, axis=1).reshape(of_syndromes.shape)).sum(axis=1)
        return np.append(np.log(joint.sum()), joint @ self.causes / joint.sum())


LAYERS = (
    ("prior", "context_log_odds", "context_prior"),
    ("syndrome_leak", "syndrome_link"),
    ("leak", "link", "finding_syndrome"),
)


def exact(network, row, observed=None):
    """What ``gradient`` should give for one row (F,): by name of the field (..., 1 + K), for log evidence and every target."""
    row = np.asarray(row, dtype=float)
    observed = np.full(network.n_context, nan) if observed is None else np.asarray(observed, dtype=float)
    definition = Definition(network, row, observed)
    functions = (definition.of_causes, definition.of_syndromes, definition.of_findings)
    arrays = [{name: getattr(network, name).astype(complex) for name in names} for names in LAYERS]
    factors = [function(**own) for function, own in zip(functions, arrays, strict=True)]
    result = {"value": definition.answer(*factors).real}
    for layer, name in ((layer, name) for layer, names in enumerate(LAYERS) for name in names):
        array = arrays[layer][name]
        slope = np.zeros((*array.shape, 1 + network.n_causes))
        for at in np.ndindex(array.shape):
            if name in SPARSE and array[at] == 0.0:
                continue
            here, changed = array.copy(), list(factors)
            here[at] += 1e-60j  # small beside the smallest parameters (1e-30), too
            own = arrays[layer] | {name: here}
            if layer == 2:  # only one of the findings changes
                changed[2] = factors[2].copy()
                changed[2][:, at[:1]] = definition.of_findings(**own, some=at[:1])
            else:
                changed[layer] = functions[layer](**own)
            slope[at] = definition.answer(*changed).imag / 1e-60
        result[name] = slope
    # Not determined, and documented as such: a syndrome that an absent finding rules out.
    result["finding_syndrome"][(row == 0.0)[:, None] & (network.finding_syndrome == 1.0)] = nan
    # The same where it is impossible that there is no cause, which counts differently.
    of_none = [factors[0][0].real, (factors[1] * np.prod(factors[2], axis=1).reshape(factors[1].shape))[0].sum().real]
    for nothing, of_target in ((of_none[0] == 0.0, False), (of_none[0] * of_none[1] == 0.0, True)):
        if network.none_weight < 1.0 and nothing:
            for name in ("prior", "leak", "syndrome_leak", "context_prior"):
                certain = (getattr(network, name) == 0.0) | (getattr(network, name) == 1.0)
                result[name][certain, slice(None) if of_target else slice(1)] = nan
    return result


def assert_row(got, i, truth, target=None, rtol=1e-10, atol=1e-12):
    """Row i of a Gradient against ``exact``.

    d P(c | e) is P(c | e) times a difference of slopes of logarithms, and cannot be better than 1e-13 of those. Of a target
    with posterior 0 only the own prior must be there; what else is there must be right.
    """
    column = 0 if target is None else 1 + target
    p = 1.0 if target is None else truth["value"][column]
    np.testing.assert_allclose(got.value[i], truth["value"][column], rtol=rtol, atol=atol, err_msg="value")
    for name in ARRAYS:
        slopes, want = getattr(got, name)[i], truth[name][..., column]
        allowed = rtol * np.abs(want) + atol
        if target is not None:
            allowed = allowed + 1e-13 * p * np.abs(truth[name][..., 0])
        if p == 0.0:
            optional = np.isnan(slopes)
            if name == "prior":
                optional[target] = False
            slopes = np.where(optional, want, slopes)
        np.testing.assert_array_equal(np.isnan(slopes), np.isnan(want), err_msg=name)
        wrong = np.argwhere(np.abs(slopes - want) > allowed)
        assert not len(wrong), f"{name}{wrong[0]}: got {slopes[tuple(wrong[0])]}, expected {want[tuple(wrong[0])]}"


def assert_exact(network, evidence, context=None, targets=(None,)):
    """On every kernel."""
    runs = list(itertools.product(targets, KERNELS))
    results = [gradient(network, evidence, context, target=t, kernel=k) for t, k in runs]
    for i, row in enumerate(evidence):
        truth = exact(network, row, None if context is None else context[i])
        for (target, _), got in zip(runs, results, strict=True):
            assert_row(got, i, truth, target)
    return results


def names_of(slopes):
    """Fields of a Gradient other than the value, those without entries left out."""
    return [name for name in ARRAYS if getattr(slopes, name).size]


def cases_of(example, seed, n_cases=2):
    """Rows that mix everything, rows of one kind, and context that fits."""
    rng = np.random.default_rng(seed)
    n_findings = len(example.leak)
    same = [np.full(n_findings, v) for v in (0.0, 1.0)]
    evidence = np.vstack([random_evidence(rng, n_cases, n_findings), *same])
    return evidence, random_context(rng, len(evidence), example.requires or (-1,) * example.n_context)


# Few causes with many findings (enumerated, if all are present), and a mix of all layers.
NETWORKS = {name: example for name, example in EXAMPLES.items() if name != "structural"}
NETWORKS |= {
    "few_causes": random_example(200, 3, 9, density=0.7),
    "few_causes_syndromes_and_context": random_example(201, 2, 8, 2, (-1, 0), density=0.7, n_syndromes=2),
    "all_layers": random_example(202, 4, 6, 3, (-1, 0, 0), density=0.4, n_syndromes=2),
}


def targets_of(name):
    return (None, *{0, len(NETWORKS[name].prior) - 1})


@functools.cache
def truth_of(name):
    example = NETWORKS[name]
    network = example.network()
    return [exact(network, row, x) for row, x in zip(*cases_of(example, seed=3), strict=True)]


@functools.cache
def solved(name, target, kernel):
    example = NETWORKS[name]
    return gradient(example.network(), *cases_of(example, seed=3), target=target, kernel=kernel)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_agrees_with_the_definition(name, kernel):
    for target in targets_of(name):
        for i, truth in enumerate(truth_of(name)):
            assert_row(solved(name, target, kernel), i, truth, target)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_values_are_those_of_posterior(name, kernel):
    example = NETWORKS[name]
    expected = posterior(example.network(), *cases_of(example, seed=3))
    for target in targets_of(name):
        by_posterior = expected.log_evidence if target is None else expected.marginal[:, target]
        np.testing.assert_allclose(solved(name, target, kernel).value, by_posterior, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_both_kernels_give_the_same_bits(name):
    pytest.importorskip("numba")
    for target in targets_of(name):
        assert_bits(solved(name, target, "numpy"), solved(name, target, "compiled"))


# --- against differences of posterior and of another engine -----------------------------------------------------------------


def differences(network, row, observed, width=1e-5):
    """Central differences of log evidence and of every marginal: by name of the array, (..., 1 + K)."""
    n = network.n_causes
    result = {name: np.zeros((*getattr(network, name).shape, 1 + n)) for name in ARRAYS}
    places, changed = [], []
    for name in ARRAYS:
        array = getattr(network, name)
        for at in np.ndindex(array.shape):
            if name in SPARSE and array[at] == 0.0:
                continue
            h = width * min(abs(array[at]), 1.0 - array[at] if name != "context_log_odds" else 1.0)
            for sign in (1.0, -1.0):
                here = array.copy()
                here[at] += sign * h
                places.append((name, at, sign / (2.0 * h)))
                changed.append((name, here))
    # All of them are cases of one network whose every array has a case axis.
    arrays = {name: np.array([a if name == own else getattr(network, name) for own, a in changed]) for name in ARRAYS}
    batched = Network(**arrays, requires=network.requires)
    solved = posterior(batched, np.tile(row, (len(places), 1)), np.tile(observed, (len(places), 1)))
    for (name, at, weight), log_evidence, marginal in zip(places, solved.log_evidence, solved.marginal, strict=True):
        result[name][at] += weight * np.append(log_evidence, marginal)
    return result


@pytest.mark.parametrize("n_context", [0, 3])
@pytest.mark.parametrize("n_syndromes", [0, 2])
def test_agrees_with_differences_of_posterior(n_syndromes, n_context):
    requires = (-1, 0, -1) if n_context else ()
    example = random_example(300, 4, 7, n_context, requires, density=0.5, n_syndromes=n_syndromes)
    network = example.network()
    rng = np.random.default_rng(n_context)
    evidence = random_evidence(rng, 2, 7)
    context = random_context(rng, 2, requires)
    by_differences = [differences(network, row, x) for row, x in zip(evidence, context, strict=True)]
    for kernel, (t, target) in itertools.product(KERNELS, enumerate([None, 0, 1, 2, 3])):
        got = gradient(network, evidence, context, target=target, kernel=kernel)
        for i, name in itertools.product(range(2), ARRAYS):
            # The error of a difference: relative h**2, and rounding of about 1e-15 over h.
            want = by_differences[i][name][..., t]
            np.testing.assert_allclose(getattr(got, name)[i], want, rtol=1e-7, atol=2e-8, err_msg=name)


def test_agrees_with_differences_of_variable_elimination_in_pgmpy():
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

    arrays = {
        "prior": np.array([0.1, 0.25]),
        "link": np.array([[0.6, 0.3], [0.0, 0.5], [0.4, 0.0]]),
        "leak": np.array([0.05, 0.1, 0.02]),
        "syndrome_link": np.array([[0.7, 0.2]]),
        "syndrome_leak": np.array([0.03]),
        "finding_syndrome": np.array([[0.0], [0.45], [0.9]]),
    }
    nodes = DiscreteBayesianNetwork([("c0", "s0"), ("c1", "s0")])
    nodes.add_edges_from((parent, f"f{f}") for f in range(3) for parent in ("c0", "c1", "s0"))
    virtual = [TabularCPD("f2", 2, [[0.3], [0.7]])]

    def ask(arrays):
        """P(c0 = 1 | f0 = 1, f1 = 0, f2 uncertain) from full tables."""
        tables = [TabularCPD(f"c{k}", 2, [[1.0 - p], [p]]) for k, p in enumerate(arrays["prior"])]

        def table(name, leak, parents, links):
            off = (1.0 - leak) * np.prod((1.0 - links) ** booleans(len(parents)), axis=1)
            tables.append(TabularCPD(name, 2, [off, 1.0 - off], parents, [2] * len(parents)))

        table("s0", arrays["syndrome_leak"][0], ["c0", "c1"], arrays["syndrome_link"][0])
        for f in range(3):
            links = np.append(arrays["link"][f], arrays["finding_syndrome"][f])
            table(f"f{f}", arrays["leak"][f], ["c0", "c1", "s0"], links)
        for old in nodes.get_cpds():
            nodes.remove_cpds(old)
        nodes.add_cpds(*tables)
        return (
            VariableElimination(nodes)
            .query(["c0"], {"f0": 1, "f1": 0}, virtual_evidence=virtual, show_progress=False)
            .values[1]
        )

    got = gradient(Network(**arrays), [[1.0, 0.0, 0.7]], target=0, kernel="numpy")
    np.testing.assert_allclose(got.value[0], ask(arrays), rtol=1e-12)
    for name, array in arrays.items():
        for at in zip(*np.nonzero(array), strict=True):
            here, h = array.copy(), 1e-4 * array[at]
            sides = []
            for value in (array[at] + h, array[at] - h):
                here[at] = value
                sides.append(ask(arrays | {name: here}))
            by_difference = (sides[0] - sides[1]) / (2.0 * h)
            np.testing.assert_allclose(getattr(got, name)[0][at], by_difference, rtol=1e-6, atol=1e-9, err_msg=f"{name}{at}")


# --- P(evidence) is linear in every parameter -------------------------------------------------------------------------------


LINEAR = ("prior", "link", "leak", "syndrome_link", "syndrome_leak", "finding_syndrome")


def assert_linear(network, row, name, moves, kernel="numpy"):
    """One parameter moves to another value, however far: P(evidence) and P(cause, evidence) follow their tangents.

    ``moves``: (index in the array, new value) each.
    """
    array = getattr(network, name)
    changed = np.tile(array, (len(moves), *([1] * array.ndim)))
    for i, (at, value) in enumerate(moves):
        changed[i][at] = value
    arrays = {n: np.broadcast_to(getattr(network, n), (len(moves), *getattr(network, n).shape)) for n in ARRAYS}
    moved = posterior(
        Network(**arrays | {name: changed}, requires=network.requires), np.tile(row, (len(moves), 1)), kernel=kernel
    )
    before = posterior(network, [row], kernel=kernel)
    log_slope = getattr(gradient(network, [row], kernel=kernel), name)[0]
    slopes = [getattr(gradient(network, [row], target=k, kernel=kernel), name)[0] for k in range(network.n_causes)]
    for i, (at, value) in enumerate(moves):
        h = value - array[at]
        change = h * log_slope[at]
        grown = np.exp(moved.log_evidence[i] - before.log_evidence[0])
        np.testing.assert_allclose(grown, 1.0 + change, rtol=1e-10, atol=1e-12 * max(1.0, abs(change)), err_msg=f"{at}")
        joint = moved.marginal[i] * grown if grown > 0.0 else np.zeros(network.n_causes)
        expected = before.marginal[0] * (1.0 + change) + h * np.array([slope[at] for slope in slopes])
        np.testing.assert_allclose(joint, expected, rtol=1e-9, atol=1e-11 * max(1.0, abs(change)), err_msg=f"{at}")


@pytest.mark.parametrize("name", LINEAR)
def test_evidence_is_linear_in_every_parameter(name, kernel):
    network = NETWORKS["syndromes_and_links"].network()
    row = np.array([1.0, 0.0, nan, 0.3, 1.0, 0.8, 0.0])
    places = list(zip(*np.nonzero(getattr(network, name)), strict=True))
    assert_linear(network, row, name, list(itertools.product(places, [0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0])), kernel)


INSIDE = st.floats(1e-6, 1.0 - 1e-6)
# Derivatives are as large as 1 / P(e): with numbers below 1e-30 they could leave the range of floats.
ANY = st.one_of(INSIDE, st.sampled_from([0.0, 1e-30, 0.5, 1.0]))


@settings(max_examples=30)
@given(st.data())
def test_evidence_is_linear_in_every_parameter_of_every_network(data):
    example, evidence, _ = data.draw(problems(max_cases=1, probability=INSIDE, weights=(1.0,)))
    network = replace(example, context_log_odds=np.zeros((0, 0)), context_prior=np.zeros(0), requires=()).network()
    name = data.draw(st.sampled_from([n for n in LINEAR if getattr(network, n).any()]))
    at = data.draw(st.sampled_from(list(zip(*np.nonzero(getattr(network, name)), strict=True))))
    assert_linear(network, evidence[0], name, [(at, data.draw(st.floats(0.0, 1.0)))])


@settings(max_examples=15)
@given(st.data())
def test_evidence_is_linear_in_the_frequency_of_unknown_context(data):
    example, evidence, _ = data.draw(problems(max_cases=1, probability=INSIDE, weights=(1.0,)))
    assume(example.n_context)
    x = data.draw(st.integers(0, example.n_context - 1))
    assert_linear(example.network(), evidence[0], "context_prior", [((x,), data.draw(st.floats(0.01, 0.99)))])


@settings(max_examples=40)
@given(problems(ANY, max_cases=2), st.integers(0, 4))
def test_any_network_gives_the_derivatives_of_the_definition(problem, target):
    """Priors, links and leaks of 0, 1 and 1e-30 among them."""
    example, evidence, context = problem
    assume(target < len(example.prior))
    network = example.network()
    expected = posterior(network, evidence, context, kernel="numpy")
    by_target = {t: gradient(network, evidence, context, target=t, kernel="numpy") for t in (None, target)}
    for i, row in enumerate(evidence):
        if expected.impossible[i]:
            for t, got in by_target.items():
                np.testing.assert_array_equal(got.value[i], -np.inf if t is None else nan)
                assert all(np.isnan(getattr(got, name)[i]).all() for name in ARRAYS)
        elif expected.log_evidence[i] > -100.0:
            truth = exact(network, row, context[i])
            largest = max(1.0, *(np.nanmax(np.abs(a), initial=0.0) for a in truth.values()))
            for t, got in by_target.items():
                assert_row(got, i, truth, t, rtol=1e-8, atol=1e-12 * largest)


@settings(max_examples=30)
@given(problems(ANY, max_cases=2), st.integers(0, 4))
def test_any_network_gives_the_same_bits_on_both_kernels(problem, target):
    pytest.importorskip("numba")
    example, evidence, context = problem
    assume(target < len(example.prior))
    for t in (None, target):
        by_kernel = [gradient(example.network(), evidence, context, target=t, kernel=k) for k in ("numpy", "compiled")]
        assert_bits(*by_kernel)


@pytest.mark.parametrize("name", ["all_layers", "more_syndromes_than_findings", "two_need_one"])
def test_the_expected_slope_of_log_evidence_is_zero(name, kernel):
    """Sum over all evidence e of P(e) d log P(e) = d 1 = 0."""
    example = NETWORKS[name]
    network = example.network()
    evidence = booleans(network.n_findings).astype(float)
    context = random_context(np.random.default_rng(7), 1, example.requires or (-1,) * example.n_context)
    got = gradient(network, evidence, np.tile(context, (len(evidence), 1)), kernel=kernel)
    assert np.exp(got.value).sum() == pytest.approx(1.0, rel=1e-12)
    for field in ("prior", "link", "leak", "syndrome_link", "syndrome_leak", "finding_syndrome", "context_log_odds"):
        slopes = getattr(got, field)
        mean = np.tensordot(np.exp(got.value), slopes, axes=1)
        assert not slopes.size or np.abs(slopes).max() > 0.01, field
        np.testing.assert_allclose(mean, 0.0, atol=1e-12 * np.abs(slopes).max(initial=1.0), err_msg=field)


# --- by hand ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v", [1.0, 0.0, 0.7, 1e-6])
def test_one_cause_and_one_finding(v, kernel):
    p, w, leak = 0.02, 0.85, 0.1
    s = leak + (1.0 - leak) * w
    with_cause, without = v * s + (1.0 - v) * (1.0 - s), v * leak + (1.0 - v) * (1.0 - leak)
    # Their derivatives to w and to the leak.
    d_w, d_leak, d_leak_without = (2.0 * v - 1.0) * np.array([1.0 - leak, 1.0 - w, 1.0])
    evidence = p * with_cause + (1.0 - p) * without
    got = gradient(Network([p], [[w]], [leak]), [[v]], kernel=kernel)
    np.testing.assert_allclose(got.value, [np.log(evidence)], rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[(with_cause - without) / evidence]], rtol=1e-13)
    np.testing.assert_allclose(got.link, [[[p * d_w / evidence]]], rtol=1e-13)
    np.testing.assert_allclose(got.leak, [[(p * d_leak + (1.0 - p) * d_leak_without) / evidence]], rtol=1e-13)
    got = gradient(Network([p], [[w]], [leak]), [[v]], target=0, kernel=kernel)
    odds = p * (1.0 - p) / evidence**2
    np.testing.assert_allclose(got.value, [p * with_cause / evidence], rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[with_cause * without / evidence**2]], rtol=1e-13)
    np.testing.assert_allclose(got.link, [[[odds * without * d_w]]], rtol=1e-13)
    to_leak = odds * (without * d_leak - with_cause * d_leak_without)
    np.testing.assert_allclose(got.leak, [[to_leak]], rtol=1e-12, atol=1e-17)


def test_one_cause_one_syndrome_one_finding(kernel):
    p, a, b, w, leak = 0.2, 0.6, 0.05, 0.9, 0.03
    network = Network([p], [[0.0]], [leak], syndrome_link=[[a]], syndrome_leak=[b], finding_syndrome=[[w]])
    syndrome = b + (1.0 - b) * p * a
    finding = leak + (1.0 - leak) * w * syndrome
    got = gradient(network, [[1.0]], kernel=kernel)
    np.testing.assert_allclose(got.value, [np.log(finding)], rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[(1.0 - leak) * w * (1.0 - b) * a / finding]], rtol=1e-13)
    np.testing.assert_allclose(got.syndrome_link, [[[(1.0 - leak) * w * (1.0 - b) * p / finding]]], rtol=1e-13)
    np.testing.assert_allclose(got.syndrome_leak, [[(1.0 - leak) * w * (1.0 - p * a) / finding]], rtol=1e-13)
    np.testing.assert_allclose(got.finding_syndrome, [[[(1.0 - leak) * syndrome / finding]]], rtol=1e-13)
    np.testing.assert_allclose(got.leak, [[(1.0 - w * syndrome) / finding]], rtol=1e-13)
    np.testing.assert_array_equal(got.link, [[[0.0]]])


def test_context_with_nothing_observed(kernel):
    """P(c) = (1 - q) p0 + q p1, logit p1 = logit p0 + b."""
    p, b, q = 0.1, 1.5, 0.3
    p1 = p * np.exp(b) / (1.0 - p + p * np.exp(b))
    bend = np.exp(b) / (1.0 - p + p * np.exp(b)) ** 2  # d p1 / d p
    network = Network([p], [[0.5]], [0.1], context_log_odds=[[b]], context_prior=[q])
    got = gradient(network, [[nan]] * 3, [[nan], [1.0], [0.0]], target=0, kernel=kernel)
    np.testing.assert_allclose(got.value, [(1.0 - q) * p + q * p1, p1, p], rtol=1e-14)
    np.testing.assert_allclose(got.prior[:, 0], [1.0 - q + q * bend, bend, 1.0], rtol=1e-13)
    np.testing.assert_allclose(got.context_log_odds[:, 0, 0], [q * p1 * (1.0 - p1), p1 * (1.0 - p1), 0.0], rtol=1e-13)
    np.testing.assert_allclose(got.context_prior[:, 0], [p1 - p, 0.0, 0.0], rtol=1e-13)
    nothing = gradient(network, [[nan]] * 3, [[nan], [1.0], [0.0]], kernel=kernel)
    for name in ("value", *ARRAYS):
        np.testing.assert_allclose(getattr(nothing, name), 0.0, atol=1e-15)


def test_an_absent_child_informs_on_what_it_requires(kernel):
    """P(parent | child absent) = p (1 - q) / (1 - p q), and only the parent changes the cause."""
    p, q, b, prior = 0.4, 0.7, 2.0, 0.1
    given_child = p * (1.0 - q) / (1.0 - p * q)
    p1 = prior * np.exp(b) / (1.0 - prior + prior * np.exp(b))
    network = Network(
        [prior], [[0.5]], [0.1], context_log_odds=[[b, 0.0]], context_prior=[p, q], requires=[-1, 0]
    )  # fmt: skip
    got = gradient(network, [[nan]] * 2, [[nan, 0.0], [nan, nan]], target=0, kernel=kernel)
    np.testing.assert_allclose(got.value, [prior + given_child * (p1 - prior), prior + p * (p1 - prior)], rtol=1e-14)
    to_parent, to_child = (1.0 - q) / (1.0 - p * q) ** 2, -p * (1.0 - p) / (1.0 - p * q) ** 2
    np.testing.assert_allclose(got.context_prior, np.array([[to_parent, to_child], [1.0, 0.0]]) * (p1 - prior), rtol=1e-13)


@pytest.mark.parametrize("target", [None, 1])
def test_what_is_not_observed_has_no_slope(target, kernel):
    network = random_example(5, 4, 5, density=1.0, n_syndromes=2).network()
    got = gradient(network, [[1.0, nan, 0.0, 0.4, nan]], target=target, kernel=kernel)
    for name in ("leak", "link", "finding_syndrome"):
        slopes = getattr(got, name)[0]
        np.testing.assert_array_equal(slopes[[1, 4]], 0.0)
        assert (slopes[[0, 2, 3]] != 0.0).sum() >= slopes[[0, 2, 3]].size - 3


def test_links_of_zero_have_no_slope(kernel):
    example = random_example(6, 5, 6, 3, density=0.4, n_syndromes=3, syndrome_density=0.5)
    network = example.network()
    got = gradient(network, [[1.0, 0.0, 0.4, 1.0, 0.0, 1.0]], [[1.0, nan, nan]], kernel=kernel)
    for name in SPARSE:
        array, slopes = getattr(network, name), getattr(got, name)[0]
        assert (array == 0.0).any()
        np.testing.assert_array_equal(slopes[array == 0.0], 0.0)
        assert (slopes[array != 0.0] != 0.0).any()


# --- targets apart from the rest --------------------------------------------------------------------------------------------


def test_a_target_that_nothing_observed_depends_on(kernel):
    network = Network([0.3, 0.1], [[0.0, 0.6], [0.7, 0.2]], [0.05, 0.1])
    got = gradient(network, [[1.0, nan], [0.0, nan], [0.4, nan], [nan, nan]], target=0, kernel=kernel)
    np.testing.assert_allclose(got.value, 0.3, rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[1.0, 0.0]] * 4, rtol=1e-13, atol=1e-15)
    for name in ("link", "leak"):
        np.testing.assert_allclose(getattr(got, name), 0.0, atol=1e-15)


@pytest.mark.parametrize("other", [nan, 0.0, 1.0, 0.6])
def test_a_target_linked_only_to_absent_findings(other, kernel):
    p, w = 0.3, np.array([0.4, 0.9])
    escape = np.prod(1.0 - w)
    total = p * escape + 1.0 - p
    network = Network([p, 0.2], [[w[0], 0.1], [w[1], 0.0], [0.0, 0.5]], [0.05, 0.1, 0.02])
    got = gradient(network, [[0.0, 0.0, other]], target=0, kernel=kernel)
    np.testing.assert_allclose(got.value, [p * escape / total], rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[escape / total**2, 0.0]], rtol=1e-13, atol=1e-15)
    to_link = -p * (1.0 - p) * escape / (1.0 - w) / total**2
    np.testing.assert_allclose(got.link, [[[to_link[0], 0.0], [to_link[1], 0.0], [0.0, 0.0]]], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(got.leak, 0.0, atol=1e-15)


def test_a_target_with_context_that_nothing_observed_depends_on():
    example = random_example(8, 3, 4, 3, (-1, 0, -1), density=0.0)
    link = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, 0.6], [0.3, 0.3, 0.3], [0.8, 0.0, 0.0]])
    log_odds = np.array([[1.0, -0.5, 0.0], [0.4, 0.0, 0.7], [0.0, 1.2, -0.3]])
    network = replace(example, link=link, context_log_odds=log_odds).network()
    evidence = np.array([[1.0, 0.3, nan, nan], [1.0, 0.0, nan, 0.0], [nan, 1.0, nan, 0.0]])
    context = np.array([[nan, nan, nan], [nan, 0.0, 1.0], [1.0, nan, nan]])
    for got in assert_exact(network, evidence, context, [0]):
        assert (np.abs(got.context_log_odds[:, 0, 0]) > 1e-3).all()


# --- causes enumerated ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_syndromes", [0, 2])
@pytest.mark.parametrize("n_context", [0, 2])
def test_the_causes_are_enumerated(n_syndromes, n_context):
    example = random_example(31 + n_syndromes, 3, 9, n_context, density=0.8, n_syndromes=n_syndromes)
    evidence = np.ones((3, 9))
    evidence[1, ::3] = 0.35
    evidence[2, [1, 5]] = 0.0, nan
    network = example.network()
    assert [plan.method for plan in explain_plan(network, evidence)] == ["causes"] * 3
    assert_exact(network, evidence, None, [None, 0, 2])


def test_the_causes_are_enumerated_with_certain_links():
    example = random_example(33, 2, 8, density=1.0)
    example.link[0, 0] = example.link[1, 1] = example.link[2, 1] = 1.0
    example.leak[3] = 0.0
    evidence = np.ones((2, 8))
    evidence[1, [0, 4]] = 0.0, 0.7
    network = example.network()
    assert [plan.method for plan in explain_plan(network, evidence)] == ["causes"] * 2
    assert_exact(network, evidence, None, [None, 1])


# --- 0 and 1 ----------------------------------------------------------------------------------------------------------------

ROWS = np.array([[1, 0, nan, 0.3], [0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0], [nan, 0.6, 1, nan], [1, 1, 1, 1]])


def plain():
    return Example(
        prior=np.array([0.1, 0.3, 0.02]),
        link=np.array([[0.5, 0.2, 0.0], [0.4, 0.0, 0.7], [0.0, 0.8, 0.3], [0.6, 0.1, 0.9]]),
        leak=np.array([0.05, 0.1, 0.02, 0.2]),
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_priors_of_zero_and_one(value):
    example = plain()
    example.prior[0] = value
    for got in assert_exact(example.network(), ROWS, None, [None, 1, 2]):
        assert (np.abs(got.prior[[0, 1, 2, 4], 0]) > 1e-4).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_own_prior_of_an_impossible_or_certain_target(value, kernel):
    """D P(c | e) / d P(c) = P(e | c) / P(e | not c) at 0, and its inverse at 1."""
    example = plain()
    example.prior[1] = value
    got = gradient(example.network(), ROWS, target=1, kernel=kernel)
    np.testing.assert_array_equal(got.value, value)
    sides = [posterior(replace(example, prior=np.array([0.1, side, 0.02])).network(), ROWS).log_evidence for side in (0.0, 1.0)]
    np.testing.assert_allclose(got.prior[:, 1], np.exp(sides[1] - sides[0]) ** (1.0 - 2.0 * value), rtol=1e-11)
    # P(c | e) is what the prior says, whatever else changes.
    for name in names_of(got):
        slopes = getattr(got, name).copy()
        if name == "prior":
            slopes[:, 1] = 0.0
        np.testing.assert_allclose(np.nan_to_num(slopes) if value == 0.0 else slopes, 0.0, atol=1e-13)


def test_a_certain_cause_that_much_speaks_against(kernel):
    """P(e | c) is 1e-200 of P(e | not c): nothing in between may overflow."""
    network = Network([1.0, 0.2], [[0.9, 0.2]] * 200, [0.1] * 200)
    evidence = np.zeros((1, 200))
    got = gradient(network, evidence, kernel=kernel)
    np.testing.assert_allclose(got.value, posterior(network, evidence).log_evidence, rtol=1e-13)
    np.testing.assert_allclose(got.prior[0], [-1e200, -1.25], rtol=1e-10)
    np.testing.assert_allclose(got.link[0, :, 0], -10.0, rtol=1e-12)
    np.testing.assert_allclose(gradient(network, evidence, target=0, kernel=kernel).prior[0, 0], 1e200, rtol=1e-10)


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([(0, 0)], id="one"),
        pytest.param([(0, 0), (1, 0)], id="two of one cause"),
        pytest.param([(0, 0), (0, 1)], id="two of one finding"),
        pytest.param([(0, 0), (2, 1)], id="two causes"),
        pytest.param([(0, 0), (1, 0), (3, 0), (1, 2)], id="four"),
    ],
)
def test_links_of_one(links):
    example = plain()
    for at in links:
        example.link[at] = 1.0
    assert_exact(example.network(), ROWS, None, [None, 1, 2])


@pytest.mark.parametrize("linked", [False, True], ids=["only to the absent finding", "to a present one as well"])
@pytest.mark.parametrize("n_links", [1, 2])
def test_a_target_that_the_evidence_excludes(n_links, linked, kernel):
    """Its posterior is 0, and stays 0 whatever changes but the one certain link; the own prior says so."""
    example = plain()
    example.link[:, 0] = [1.0, 1.0 if n_links == 2 else 0.0, 0.6 if linked else 0.0, 0.0]
    network = example.network()
    got = gradient(network, [[0.0, 0.0, 1.0, nan]], target=0, kernel=kernel)
    assert got.value[0] == 0.0
    assert got.prior[0, 0] == 0.0
    truth = exact(network, [0.0, 0.0, 1.0, nan])
    assert (truth["link"][0, 0, 1] < -0.1) == (n_links == 1)
    assert_row(got, 0, truth, 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_leaks_of_zero_and_one(value):
    example = plain()
    example.leak[1] = value
    network = example.network()
    rows = ROWS[(ROWS[:, 1] != 0.0) | (value == 0.0)]
    assert len(rows) >= 4
    assert_exact(network, rows, None, [None, 0, 2])


@functools.cache
def structural():
    """Network, evidence, context, and what to expect of every row: None for impossible ones."""
    network = EXAMPLES["structural"].network()
    rng = np.random.default_rng(0)
    evidence = random_evidence(rng, 30, 4)
    context = random_context(rng, 30, (-1, -1))
    impossible = posterior(network, evidence, context).impossible
    rows = zip(evidence, context, impossible, strict=True)
    return network, evidence, context, [None if zero else exact(network, row, x) for row, x, zero in rows]


@pytest.mark.parametrize("target", [None, 0, 1, 2])
def test_zeros_and_ones_everywhere(target, kernel):
    """Cause 0 is never there, cause 1 always."""
    network, evidence, context, expected = structural()
    got = gradient(network, evidence, context, target=target, kernel=kernel)
    impossible = np.array([truth is None for truth in expected])
    assert 3 < impossible.sum() < 27
    for i in np.flatnonzero(~impossible):
        assert_row(got, i, expected[i], target)
    np.testing.assert_array_equal(got.value[impossible], -np.inf if target is None else nan)
    for name in names_of(got):
        assert np.isnan(getattr(got, name)[impossible]).all()


SYNDROME = {
    "prior": np.array([0.1, 0.02, 0.3]),
    "link": np.array([[0, 0, 0.4], [0, 0, 0], [0.5, 0, 0], [0, 0, 0]]),
    "leak": np.array([0.05, 0.02, 0.1, 0.3]),
    "syndrome_link": np.array([[0.6, 0.2, 0], [0, 0.7, 0.5]]),
    "syndrome_leak": np.array([0.04, 0.1]),
    "finding_syndrome": np.array([[0.8, 0.1], [0.5, 0], [0, 0.9], [0.3, 0.6]]),
}


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("syndrome_link", (0, 0), 1.0),
        ("syndrome_leak", (0,), 0.0),
        ("syndrome_leak", (1,), 1.0),
        ("finding_syndrome", (1, 0), 1.0),
        ("finding_syndrome", (3, 1), 1.0),
        ("leak", (1,), 0.0),
        ("link", (0, 2), 1.0),
        ("prior", (1,), 1.0),
    ],
)
def test_zeros_and_ones_around_syndromes(name, at, value):
    arrays = {n: a.copy() for n, a in SYNDROME.items()}
    arrays[name][at] = value
    assert_exact(Network(**arrays), ROWS, None, [None, 0])


def test_a_certain_link_from_a_syndrome_to_an_absent_finding_is_the_only_slope_not_given(kernel):
    arrays = SYNDROME | {"finding_syndrome": np.array([[0.8, 0.1], [1.0, 0], [0, 0.9], [0.3, 0.6]])}
    got = gradient(Network(**arrays), [[1.0, 0.0, 1.0, nan]], kernel=kernel)
    not_given = np.zeros((4, 2), dtype=bool)
    not_given[1, 0] = True
    np.testing.assert_array_equal(np.isnan(got.finding_syndrome[0]), not_given)
    assert all(np.isfinite(getattr(got, name)).all() for name in ARRAYS if name != "finding_syndrome")


# --- impossible evidence ----------------------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "nobody to explain it": ({"link": [[0.5, 0.0], [0.0, 0.0]], "leak": [0.1, 0.0]}, [nan, 1.0]),
    "nobody to explain it, and another": ({"link": [[0.5, 0.0], [0.0, 0.0]], "leak": [0.1, 0.0]}, [1.0, 1.0]),
    "cause that is never there": ({"prior": [0.0, 0.2], "link": [[0.5, 0.0], [0.3, 0.4]], "leak": [0.0, 0.1]}, [1.0, 1.0]),
    "cause that is ruled out": ({"link": [[0.5, 0.0], [1.0, 0.4]], "leak": [0.0, 0.1]}, [1.0, 0.0]),
    "always there": ({"leak": [0.1, 1.0]}, [nan, 0.0]),
    "always there, and another": ({"leak": [0.1, 1.0]}, [1.0, 0.0]),
    "always there, no link": ({"link": [[0.5, 0.4], [0.0, 0.0]], "leak": [0.1, 1.0]}, [1.0, 0.0]),
    "certain cause ruled out": ({"prior": [1.0, 0.2], "link": [[1.0, 0.0], [0.0, 0.4]]}, [0.0, nan]),
    "certain cause ruled out, and another": ({"prior": [1.0, 0.2], "link": [[1.0, 0.3], [0.3, 0.4]]}, [0.0, 1.0]),
    "certain syndrome ruled out": (
        {"syndrome_link": [[0.3, 0.0]], "syndrome_leak": [1.0], "finding_syndrome": [[1.0], [0.2]]},
        [0.0, 1.0],
    ),
    "syndrome that is never there": (
        {
            "link": [[0.0, 0.0], [0.5, 0.5]],
            "leak": [0.0, 0.2],
            "syndrome_link": [[0.0, 0.0]],
            "syndrome_leak": [0.0],
            "finding_syndrome": [[0.9], [0.0]],
        },
        [1.0, 1.0],
    ),
}


@pytest.mark.parametrize("target", [None, 0, 1])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_evidence_has_no_slopes(name, target, kernel):
    changes, row = IMPOSSIBLE[name]
    network = Network(**({"prior": [0.1, 0.2], "link": [[0.5, 0.3], [0.2, 0.6]], "leak": [0.1, 0.2]} | changes))
    assert posterior(network, [row]).impossible.all()
    got = gradient(network, [[nan, nan], row, [nan, nan]], target=target, kernel=kernel)
    np.testing.assert_array_equal(got.value[1], -np.inf if target is None else nan)
    for field in names_of(got):
        assert np.isnan(getattr(got, field)[1]).all(), field
    if target != 0 or network.prior[0] > 0.0:
        assert_bits(some_rows(got, [0, 2]), gradient(network, [[nan, nan]] * 2, target=target, kernel=kernel))
        assert np.isfinite(got.value[[0, 2]]).all()


# --- values, shapes, company ------------------------------------------------------------------------------------------------


def test_values_and_slopes_of_improbable_evidence(kernel):
    """P(e) is about 1e-605, out of the range of a float, and one cause is linked to all of it."""
    tiny = 1e-200
    network = Network([0.5], [[tiny], [2.0 * tiny], [tiny]], [tiny] * 3)
    got = gradient(network, [[1.0] * 3], kernel=kernel)
    with_cause, without = 2.0 * 3.0 * 2.0, 1.0  # of tiny**3
    np.testing.assert_allclose(got.value, [np.log((with_cause + without) / 2.0) + 3.0 * np.log(tiny)], rtol=1e-14)
    np.testing.assert_allclose(got.prior, [[(with_cause - without) / (with_cause + without) * 2.0]], rtol=1e-13)
    np.testing.assert_allclose(got.link[0, :, 0] * tiny, np.array([6.0, 4.0, 6.0]) / 13.0, rtol=1e-13)


def batched(example, seed, n_cases, names):
    """A network whose arrays of these names differ from case to case; and each case as a network of its own."""
    rng = np.random.default_rng(seed)
    arrays = example.arrays()
    requires = {"requires": arrays.pop("requires")} if "requires" in arrays else {}
    for name in names:
        if name in arrays:
            arrays[name] = arrays[name] * rng.uniform(0.7, 1.05, (n_cases, *arrays[name].shape))
    alone = [
        Network(**{n: a[i] if n in names else a for n, a in arrays.items()}, **requires) for i in range(n_cases)
    ]  # fmt: skip
    return Network(**arrays, **requires), alone


@pytest.mark.parametrize("names", [*((name,) for name in ARRAYS), ARRAYS], ids=lambda names: "+".join(names))
@pytest.mark.parametrize("target", [None, 2])
def test_arrays_with_a_case_axis(names, target, kernel):
    example = NETWORKS["all_layers"]
    network, alone = batched(example, 1, 3, names)
    rng = np.random.default_rng(2)
    evidence = random_evidence(rng, 3, network.n_findings)
    context = random_context(rng, 3, example.requires)
    evidence[2], context[2] = evidence[1], context[1]
    got = gradient(network, evidence, context, target=target, kernel=kernel)
    for i, one in enumerate(alone):
        own = gradient(one, evidence[i : i + 1], context[i : i + 1], target=target, kernel=kernel)
        assert_bits(some_rows(got, [i]), own)
        if names == ARRAYS:
            assert_row(got, i, exact(one, evidence[i], context[i]), target)
    assert got.value[1] != got.value[2]
    solved = posterior(network, evidence, context)
    np.testing.assert_allclose(got.value, solved.log_evidence if target is None else solved.marginal[:, target], rtol=1e-12)


@pytest.mark.parametrize("target", [None, 1])
def test_a_case_does_not_depend_on_its_company(target, kernel):
    example = NETWORKS["all_layers"]
    network = example.network()
    evidence, context = cases_of(example, seed=6, n_cases=5)
    got = gradient(network, evidence, context, target=target, kernel=kernel)
    some = np.array([4, 1, 1, 5])
    assert_bits(gradient(network, evidence[some], context[some], target=target, kernel=kernel), some_rows(got, some))


def test_shapes(kernel):
    network = NETWORKS["all_layers"].network()
    k, f, j, c = network.n_causes, network.n_findings, network.n_syndromes, network.n_context
    for n in (0, 1, 3):
        got = gradient(network, np.full((n, f), 1.0), kernel=kernel)
        assert isinstance(got, Gradient)
        shapes = {name: array.shape for name, array in vars(got).items()}
        assert shapes == {
            "value": (n,), "prior": (n, k), "link": (n, f, k), "leak": (n, f), "syndrome_link": (n, j, k),
            "syndrome_leak": (n, j), "finding_syndrome": (n, f, j), "context_log_odds": (n, k, c), "context_prior": (n, c),
        }  # fmt: skip


def test_layers_that_are_not_there_have_no_slopes(kernel):
    got = gradient(Network([0.1], [[0.5], [0.2]], [0.1, 0.1]), [[1.0, 0.0]], kernel=kernel)
    assert got.syndrome_link.shape == (1, 0, 1)
    assert got.syndrome_leak.shape == (1, 0)
    assert got.finding_syndrome.shape == (1, 2, 0)
    assert got.context_log_odds.shape == (1, 1, 0)
    assert got.context_prior.shape == (1, 0)


def test_a_large_case_asks_for_the_compiled_kernel(monkeypatch):
    asked = []
    monkeypatch.setattr(sys.modules["ddx.inference.adjoint"], "load_compiled", lambda _, expected=0.0: asked.append(expected))
    for m in (4, 12):
        gradient(random_example(9, 14, m, density=1.0).network(), np.ones((1, m)))
    nothing, small, nothing_again, large = asked
    assert nothing == nothing_again == 0.0
    assert 100.0 * small < large


# --- errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [-1, 3, 100])
def test_a_target_that_is_not_a_cause(target):
    message = f"target: got {target}, expected the index of a cause, 0 to 2"
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        gradient(plain().network(), ROWS, target=target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evidence": [[1.0, 0.0]]}, "evidence: got shape (1, 2), expected (N, F) with F = 4"),
        ({"evidence": [1.0, 0.0, nan, 1.0]}, "evidence: got shape (4,), expected (N, F) with F = 4"),
        ({"evidence": [[1.0, 0.0, nan, 1.5]]}, "evidence[0, 3]: got 1.5, expected nan or a number in [0, 1]"),
        ({"context": [[1.0]]}, "context: got shape (1, 1), expected (N, C) = (1, 2)"),
        ({"context": [[1.0, 0.5]]}, "context: expected 1 (present), 0 (absent) or nan (not observed)"),
        ({"context": [[0.0, 1.0]]}, "context[0]: variable 1 is present, variable 0, which it requires, absent"),
        ({"kernel": "fast"}, "kernel: got 'fast', allowed: auto, numpy, compiled"),
    ],
)
def test_input_that_does_not_fit(arguments, message):
    example = replace(plain(), context_log_odds=np.ones((3, 2)), context_prior=np.array([0.2, 0.3]), requires=(-1, 0))
    for function in (gradient, posterior):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            function(example.network(), **({"evidence": [[1.0, 0.0, nan, 1.0]]} | arguments))


def test_cases_do_not_fit_the_arrays():
    prior = np.tile(plain().prior, (2, 1))
    network = Network(prior, plain().link, plain().leak)
    with pytest.raises(ValueError, match=r"^evidence: got 3 cases, the network has arrays for 2$"):
        gradient(network, ROWS[:3])


@pytest.mark.parametrize("target", [None, 0])
def test_a_case_that_is_too_large(target, kernel):
    network = random_example(11, 12, 14, density=1.0).network()
    evidence = np.full((3, 14), nan)
    evidence[0, :3] = evidence[2, :10] = 1.0
    evidence[1, :8], evidence[1, 8:12] = 1.0, 0.6
    need = explain_plan(network, evidence)[1].gib
    budget = 2.0**-14
    assert need > budget
    message = (
        f"case 1: 12 present or uncertain findings need {need:.3g} GiB, the budget is {budget:g} GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )
    with pytest.raises(EvidenceTooLarge, match=f"^{re.escape(message)}$") as error:
        gradient(network, evidence, target=target, memory_gib=budget, kernel=kernel)
    assert (error.value.row, error.value.n_findings, error.value.gib, error.value.budget) == (1, 12, need, budget)
    assert np.isfinite(gradient(network, evidence, target=target, memory_gib=need, kernel=kernel).value).all()
