"""The core against enumeration, against 80-digit arithmetic, and against what must hold for every network."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    EXAMPLES,
    INNER,
    Example,
    assert_bits,
    enumerate_posterior,
    largest_error,
    nan,
    problems,
    quickscore,
    random_context,
    random_evidence,
    random_example,
    some_rows,
    use_kernel,
)

from ddx.inference import Network, Posterior, dispatch, mix, posterior

ARRAYS = ("marginal", "none", "log_evidence", "context", "syndrome")


def assert_same(got, expected, rtol=1e-12, atol=1e-14):
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=rtol, atol=atol, err_msg=name)


def assert_rows(result, answers, rtol=1e-12, atol=1e-14):
    """Posterior of N cases against N answers of one case each."""
    stacked = Posterior(*(np.array([getattr(a, name) for a in answers]) for name in ARRAYS))
    assert_same(result, stacked, rtol, atol)


def cases_of(example, seed, n_cases=40, shares=(0.3, 0.25, 0.25, 0.2)):
    rng = np.random.default_rng(seed)
    evidence = random_evidence(rng, n_cases, len(example.leak), shares)
    return evidence, random_context(rng, n_cases, example.requires or (-1,) * example.n_context)


# --- against enumeration ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["numpy", "compiled"], autouse=True)
def kernel(request):
    """Every test of this module runs on both implementations of the recursion."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        use_kernel(patch, request.param)
        yield request.param


# For tests that name the kernels themselves.
once = pytest.mark.parametrize("kernel", ["numpy"], indirect=True)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_agrees_with_enumeration(name):
    example = EXAMPLES[name]
    evidence, context = cases_of(example, seed=1)
    result = posterior(example.network(), evidence, context)
    assert_rows(result, [enumerate_posterior(example, e, x) for e, x in zip(evidence, context, strict=True)])


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_agrees_with_enumeration_when_every_case_has_a_plan_of_its_own(name, monkeypatch):
    for limit in ("DENSE", "DENSE_SEEN"):
        monkeypatch.setattr(dispatch, limit, -1)
    example = EXAMPLES[name]
    evidence, context = cases_of(example, seed=2)
    result = posterior(example.network(), evidence, context)
    assert_rows(result, [enumerate_posterior(example, e, x) for e, x in zip(evidence, context, strict=True)])


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_enumeration_on_random_networks(seed):
    rng = np.random.default_rng(1000 + seed)
    n_context = int(rng.integers(0, 5))
    requires = [-1] * n_context
    if n_context > 2:
        requires[int(rng.integers(1, n_context))] = 0
    example = random_example(
        seed,
        int(rng.integers(1, 7)),
        int(rng.integers(1, 9)),
        n_context,
        requires,
        density=rng.random(),
        n_syndromes=int(rng.integers(0, 4)),
        syndrome_density=rng.random(),
    )
    evidence, context = cases_of(example, seed, n_cases=15)
    result = posterior(example.network(), evidence, context)
    assert_rows(result, [enumerate_posterior(example, e, x) for e, x in zip(evidence, context, strict=True)])


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([nan] * 7, id="nothing"),
        pytest.param([1.0] * 7, id="all present"),
        pytest.param([0.0] * 7, id="all absent"),
        pytest.param([0.5] * 7, id="all even"),
        pytest.param([1.0, 0.0, nan, 0.3, 0.999, 1e-9, 1.0], id="everything mixed"),
    ],
)
@pytest.mark.parametrize("context", [[nan] * 4, [1, 0, nan, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_agrees_with_enumeration_on_named_rows(row, context):
    example = EXAMPLES["context"]
    assert_rows(posterior(example.network(), [row], [context]), [enumerate_posterior(example, row, context)])


@pytest.mark.parametrize("context", [[nan, nan, 0, nan], [nan, 0, 0, nan], [nan, 0, nan, nan], [nan, 1, 0, nan], [1, 0, 0, 1]])
def test_absent_context_speaks_against_what_it_requires(context):
    example = EXAMPLES["two_need_one"]
    row = [1.0, nan, 0.0, nan, 0.7, nan]
    result = posterior(example.network(), [row], [context])
    assert_rows(result, [enumerate_posterior(example, row, context)])
    assert result.context[0, 0] == (
        context[0] if not np.isnan(context[0]) else 1.0 if context[1] == 1 else result.context[0, 0]
    )


def test_context_that_is_present_or_impossible_completes_what_it_requires():
    network = EXAMPLES["two_need_one"].network()
    row = [[1.0, nan, 0.0, nan, 0.7, nan]]
    assert_same(posterior(network, row, [[nan, 1, nan, nan]]), posterior(network, row, [[1, 1, nan, nan]]), 0.0, 0.0)
    assert_same(posterior(network, row, [[0, nan, nan, nan]]), posterior(network, row, [[0, 0, 0, nan]]), 0.0, 0.0)


BATCHED = ("prior", "leak", "link", "context_prior", "context_log_odds", "syndrome_link", "syndrome_leak", "finding_syndrome")


@pytest.mark.parametrize("batched", [*BATCHED, "all"])
def test_arrays_of_every_case_its_own_agree_with_one_network_a_case(batched):
    examples = [random_example(seed, 5, 6, 3, (-1, 0, -1), n_syndromes=2) for seed in range(12)]
    shared = examples[0].arrays()
    own = {n: np.stack([getattr(e, n) for e in examples]) for n in BATCHED if batched in (n, "all")}
    evidence, context = cases_of(examples[0], seed=3, n_cases=12)
    result = posterior(Network(**(shared | own)), evidence, context)
    single = [replace(examples[0], **{name: array[i] for name, array in own.items()}) for i in range(12)]
    assert_rows(result, [enumerate_posterior(e, *case) for e, *case in zip(single, evidence, context, strict=True)])
    for i, example in enumerate(single):
        assert_bits(posterior(example.network(), evidence[i : i + 1], context[i : i + 1]), some_rows(result, [i]))


# --- against 80 digits -------------------------------------------------------------------------------------------------------


def _row_of_90(rng, example, n_present, kind):
    """Evidence on 90 findings: some present, 30 absent, the rest not observed or (three of them) uncertain."""
    likely = 1.0 - (1.0 - example.leak) * np.prod(1.0 - example.link * example.prior, axis=1)
    order = np.argsort(likely) if kind == "improbable" else rng.permutation(90)
    row = np.full(90, nan)
    row[order[:n_present]] = 1.0
    row[order[n_present : n_present + 30]] = 0.0
    if kind == "uncertain":
        row[order[-3:]] = [0.9, 0.2, 0.999]
    return row


@functools.cache
def _of_90(n_present, kind):
    """(Example, row, Answer in 80 digits)"""
    rare = kind == "improbable"
    example = random_example(
        n_present, 36, 90, density=0.3, prior=(1e-6, 1e-2) if rare else (1e-3, 0.1), leak=(1e-5, 0.01) if rare else (1e-3, 0.1)
    )
    row = _row_of_90(np.random.default_rng(n_present), example, n_present, kind)
    return example, row, quickscore(example, row)


@pytest.mark.parametrize(
    ("n_present", "kind"),
    [*((m, "any") for m in (1, 2, 4, 6, 8, 10, 12, 16)), *((m, "improbable") for m in (3, 7, 11, 14)), (9, "uncertain")],
)
def test_every_digit_counts_at_36_causes_and_90_findings(n_present, kind):
    example, row, answer = _of_90(n_present, kind)
    assert largest_error(posterior(example.network(), row[None]), 0, answer) <= 1e-12
    if kind == "improbable" and n_present >= 7:
        assert answer.log_evidence < np.log(1e-12)


@once
@pytest.mark.parametrize("name", [n for n, e in EXAMPLES.items() if not e.n_context and e.none_weight == 1.0])
def test_the_references_agree_with_each_other(name):
    example = EXAMPLES[name]
    for row in cases_of(example, seed=4, n_cases=5)[0]:
        exact, answer = quickscore(example, row), enumerate_posterior(example, row)
        for got, right in zip(answer, exact, strict=True):
            np.testing.assert_allclose(got, np.array(right, dtype=float), rtol=1e-12, atol=1e-14)


# --- what must hold for every network ---------------------------------------------------------------------------------------

few = settings(max_examples=60, deadline=None, derandomize=True)


@few
@given(problems())
def test_marginals_are_probabilities_and_nothing_else_is_out_of_range(problem):
    example, evidence, context = problem
    result = posterior(example.network(), evidence, context)
    possible = ~result.impossible
    links = example.finding_syndrome.reshape(len(example.leak), example.n_syndromes) > 0.0
    seen = (~np.isnan(evidence)).astype(int) @ links > 0
    np.testing.assert_array_equal(np.isnan(result.syndrome[possible]), ~seen[possible])
    for array in (result.marginal, result.none, result.context, result.syndrome):
        assert np.isnan(array[~possible]).all()
        said = array[possible][~np.isnan(array[possible])]
        assert said.size == array[possible].size or array is result.syndrome
        assert (said >= 0.0).all()
        assert (said <= 1.0).all()
    assert (result.log_evidence <= 1e-12).all()
    # "None" is not more probable than the absence of any one cause, nor less than the union bound allows.
    absent = 1.0 - result.marginal[possible]
    assert (result.none[possible] <= absent.min(axis=1) + 1e-12).all()
    assert (result.none[possible] >= 1.0 - result.marginal[possible].sum(axis=1) - 1e-12).all()


@few
@given(problems(max_cases=2))
def test_any_network_agrees_with_enumeration(problem):
    example, evidence, context = problem
    result = posterior(example.network(), evidence, context)
    for i, row in enumerate(evidence):
        with np.errstate(divide="ignore", invalid="ignore"):
            answer = enumerate_posterior(example, row, context[i])
        if not result.log_evidence[i] < -600.0:  # products of 1e-300 underflow in the enumeration
            for name in ARRAYS:
                np.testing.assert_allclose(getattr(result, name)[i], getattr(answer, name), rtol=1e-9, atol=1e-12)


@few
@given(problems(), st.randoms(use_true_random=False))
def test_order_of_findings_causes_and_syndromes_does_not_matter(problem, random):
    example, evidence, context = problem
    sizes = (len(example.leak), len(example.prior), example.n_syndromes)
    findings, causes, syndromes = ([int(i) for i in random.sample(range(n), n)] for n in sizes)
    result = posterior(example.network(), evidence, context)
    shuffled = replace(
        example,
        prior=example.prior[causes],
        link=example.link[np.ix_(findings, causes)],
        leak=example.leak[findings],
        context_log_odds=example.context_log_odds[causes],
        syndrome_link=example.syndrome_link[np.ix_(syndromes, causes)],
        syndrome_leak=example.syndrome_leak[syndromes],
        finding_syndrome=example.finding_syndrome[np.ix_(findings, syndromes)],
    )
    other = posterior(shuffled.network(), evidence[:, findings], context)
    expected = replace(result, marginal=result.marginal[:, causes], syndrome=result.syndrome[:, syndromes])
    assert_same(other, expected, 1e-10, 1e-12)


@few
@given(problems(), INNER, INNER)
def test_an_unobserved_finding_changes_nothing(problem, leak, link):
    example, evidence, context = problem
    wider = replace(
        example,
        link=np.vstack([example.link, np.full(len(example.prior), link)]),
        leak=np.append(example.leak, leak),
        finding_syndrome=np.vstack([example.finding_syndrome, np.full(example.n_syndromes, link)]),
    )
    unseen = np.column_stack([evidence, np.full(len(evidence), nan)])
    assert_bits(posterior(wider.network(), unseen, context), posterior(example.network(), evidence, context))


@few
@given(problems(INNER), st.data())
def test_even_odds_on_a_finding_say_nothing(problem, data):
    example, evidence, context = problem
    f = data.draw(st.integers(0, len(example.leak) - 1))
    even, unseen = evidence.copy(), evidence.copy()
    even[:, f], unseen[:, f] = 0.5, nan
    said, silent = posterior(example.network(), even, context), posterior(example.network(), unseen, context)
    # A syndrome whose only finding this is is not asked for, unless the finding is observed.
    syndrome = np.where(np.isnan(silent.syndrome), said.syndrome, silent.syndrome)
    assert_same(said, replace(silent, log_evidence=silent.log_evidence + np.log(0.5), syndrome=syndrome), 1e-11, 1e-13)


def test_what_is_masked_is_not_observed():
    example = random_example(5, 4, 3, n_context=2)
    evidence, context = np.array([[1.0, 0.0, 1.0], [0.3, 1.0, 0.0]]), np.array([[1, 0], [0, 1]])
    hidden, unasked = np.array([[0, 0, 1], [1, 0, 0]]) == 1, np.array([[0, 1], [1, 1]]) == 1
    masked = posterior(example.network(), np.ma.array(evidence, mask=hidden), np.ma.array(context, mask=unasked))
    plain = posterior(example.network(), np.where(hidden, nan, evidence), np.where(unasked, nan, context))
    assert_bits(masked, plain)


@few
@given(problems(INNER), INNER)
def test_an_uncertain_finding_is_the_average_of_both_answers(problem, v):
    example, evidence, context = problem
    rows = np.repeat(evidence[:1], 3, axis=0)
    rows[:, 0] = [v, 1.0, 0.0]
    result = posterior(example.network(), rows, np.repeat(context[:1], 3, axis=0))
    joint = np.exp(result.log_evidence[1:]) * [v, 1.0 - v]
    np.testing.assert_allclose(np.exp(result.log_evidence[0]), joint.sum(), rtol=1e-11)
    np.testing.assert_allclose(result.marginal[0], joint @ result.marginal[1:] / joint.sum(), rtol=1e-9, atol=1e-13)


@few
@given(problems())
def test_a_cause_that_nobody_has_changes_nothing(problem):
    example, evidence, context = problem
    wider = replace(
        example,
        prior=np.append(example.prior, 0.0),
        link=np.column_stack([example.link, np.full(len(example.leak), 0.5)]),
        context_log_odds=np.vstack([example.context_log_odds, np.ones((1, example.n_context))]),
        syndrome_link=np.column_stack([example.syndrome_link, np.full(example.n_syndromes, 0.5)]),
    )
    result = posterior(wider.network(), evidence, context)
    assert (result.marginal[~result.impossible, -1] == 0.0).all()
    rest = replace(result, marginal=result.marginal[:, :-1])
    assert_same(rest, posterior(example.network(), evidence, context), 1e-10, 1e-12)


def test_log_odds_too_small_for_normal_floats_are_no_log_odds(kernel):
    results = [
        posterior(
            Network([0.5], [[0.5]], [0.5], context_log_odds=[[tiny]], context_prior=[0.5]), [[1.0]], [[1.0]], kernel=kernel
        )
        for tiny in (0.0, 5e-324, 2e-313)
    ]
    for result in results[1:]:
        assert_bits(result, results[0])


# --- the same bits, whoever else is in the call and however the work is cut ------------------------------------------------

CROWDS = ["sparse", "dense", "requires", "rare_causes", "syndromes_and_links", "syndromes_and_context", "own_arrays"]


def crowd(name, n_cases=40):
    """(a network of some of the cases, evidence, context) of one of the examples, or of a network with arrays of every case."""
    if name != "own_arrays":
        example = EXAMPLES[name]
        return lambda _: example.network(), *cases_of(example, 5, n_cases)
    examples = [random_example(seed, 5, 6, 2, (-1, 0), n_syndromes=2) for seed in range(n_cases)]
    own = {name: np.stack([getattr(e, name) for e in examples]) for name in BATCHED if name != "context_log_odds"}
    shared = {"context_log_odds": examples[0].context_log_odds, "requires": (-1, 0)}

    def network(rows):
        return Network(**shared, **{name: array[rows] for name, array in own.items()})

    return network, *cases_of(examples[0], 5, n_cases)


@few
@given(problems(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_any_choice_of_rows_has_the_same_bits(problem, times, random):
    example, evidence, context = problem
    rows = [int(i) for i in random.sample(range(len(evidence) * times), len(evidence) * times)]
    rows = np.array(rows) % len(evidence)
    result = posterior(example.network(), evidence, context)
    assert_bits(posterior(example.network(), evidence[rows], context[rows]), some_rows(result, rows))


@pytest.mark.parametrize("name", CROWDS)
def test_a_case_has_the_same_bits_in_any_company(name):
    network, evidence, context = crowd(name)
    result = posterior(network(np.arange(40)), evidence, context)
    rng = np.random.default_rng(1)
    choices = [rng.permutation(40), np.arange(39, -1, -1), rng.integers(0, 40, 60), np.arange(0, 40, 7), np.full(20, 3)]
    for rows in (*choices, *([i] for i in range(20))):
        assert_bits(posterior(network(rows), evidence[rows], context[rows]), some_rows(result, rows))


@functools.cache
def test_many_causes_with_unknown_context_have_the_same_bits_alone_and_in_company(kernel):
    rng, n, k = np.random.default_rng(3), 12, 40
    log_odds = np.zeros((k, 2))
    log_odds[:5, 0], log_odds[3:9, 1] = 0.7, -1.1
    prior = rng.uniform(0.001, 0.1, (n, k))
    evidence, context = rng.choice([0.0, 0.0, 1.0, nan], (n, 6)), rng.choice([0.0, 1.0, nan], (n, 2))

    def of(at):
        network = Network(
            prior[at], np.linspace(0.0, 0.9, 6 * k).reshape(6, k), np.full(6, 0.05),
            context_log_odds=log_odds, context_prior=[0.2, 0.3],
        )  # fmt: skip
        return posterior(network, evidence[at], context[at], kernel=kernel)

    together, alone = of(np.arange(n)), [of(np.array([i])) for i in range(n)]
    for name in ("marginal", "none", "log_evidence", "context"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(one, name) for one in alone]))


def _three_times(name, kernel):
    """(network, evidence, context, posterior) of 60 cases, of which 20 are different; ``kernel`` is the one in use."""
    network, evidence, context = crowd(name, 20)
    network, evidence, context = network(np.tile(np.arange(20), 3)), np.vstack([evidence] * 3), np.vstack([context] * 3)
    return network, evidence, context, posterior(network, evidence, context, kernel=kernel)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="nothing"),
        *(pytest.param({"_CHUNK": n}, id=f"chunks of {n}") for n in (1, 7)),
        *(pytest.param({"_CHUNK_DOUBLES": n}, id=f"{n} doubles at once") for n in (1, 300, 1 << 40)),
        pytest.param({"_SIDE_BY_SIDE": 100.0}, id="large cases one after the other"),
        *(pytest.param({"_threads": n}, id=f"{n} threads") for n in (1, 3)),
        pytest.param({"_threads": 2, "_CHUNK": 11, "_CHUNK_DOUBLES": 300, "_SIDE_BY_SIDE": 3000.0}, id="all"),
    ],
)
@pytest.mark.parametrize("name", ["dense", "requires", "syndromes_and_context", "own_arrays"])
def test_how_the_work_is_cut_does_not_change_a_bit(name, change, kernel, monkeypatch):
    network, evidence, context, expected = _three_times(name, kernel)
    for attribute, value in change.items():
        monkeypatch.setattr(dispatch, attribute, (lambda *_, n=value: n) if attribute == "_threads" else value)
    # Equal rows count as different ones here: groups of cases with equal plans.
    monkeypatch.setattr(dispatch, "_distinct", lambda p, *_: (np.arange(len(p.findings)),) * 2)
    assert_bits(posterior(network, evidence, context), expected)


@once
@pytest.mark.parametrize("name", [*EXAMPLES, "own_arrays"])
def test_both_kernels_have_the_same_bits(name):
    network, evidence, context = crowd(name, 60)
    network = network(np.arange(60))
    with np.errstate(invalid="ignore"):
        numpy, compiled = (posterior(network, evidence, context, kernel=k) for k in ("numpy", "compiled"))
    assert_bits(compiled, numpy)


@once
@few
@given(problems())
def test_both_kernels_have_the_same_bits_on_any_network(problem):
    example, evidence, context = problem
    numpy, compiled = (posterior(example.network(), evidence, context, kernel=k) for k in ("numpy", "compiled"))
    assert_bits(compiled, numpy)


# --- zero and one, and far out ------------------------------------------------------------------------------------------------


def test_structural_zeros_and_ones_agree_with_enumeration():
    example = EXAMPLES["structural"]
    evidence, context = cases_of(example, seed=6, n_cases=60)
    result = posterior(example.network(), evidence, context)
    with np.errstate(divide="ignore", invalid="ignore"):
        answers = [enumerate_posterior(example, e, x) for e, x in zip(evidence, context, strict=True)]
    impossible = np.array([a.log_evidence == -np.inf for a in answers])
    np.testing.assert_array_equal(result.impossible, impossible)
    assert 0 < impossible.sum() < 60
    assert_rows(result, answers)
    assert (result.marginal[~impossible, 0] == 0.0).all()


IMPOSSIBLE = [
    pytest.param([0.3], [[0.0]], [0.0], [1.0], id="present without any possible reason"),
    pytest.param([0.3], [[0.5]], [1.0], [0.0], id="absent although the leak is certain"),
    pytest.param([1.0], [[1.0]], [0.1], [0.0], id="absent although a certain cause always shows it"),
    pytest.param([0.0], [[1.0]], [0.0], [1.0], id="its only cause is impossible"),
    pytest.param([0.3], [[1.0], [0.5]], [0.0, 0.0], [0.0, 1.0], id="its only cause is excluded"),
]


@pytest.mark.parametrize(("prior", "link", "leak", "row"), IMPOSSIBLE)
@pytest.mark.parametrize("with_context", [False, True])
def test_impossible_evidence_is_an_outcome_of_its_own_row(prior, link, leak, row, with_context):
    extra = {"context_log_odds": [[1.0]], "context_prior": [0.4]} if with_context else {}
    network = Network(prior, link, leak, **extra)
    unseen = [nan] * len(row)
    result = posterior(network, [unseen, row, unseen])
    np.testing.assert_array_equal(result.impossible, [False, True, False])
    assert result.log_evidence[1] == -np.inf
    assert np.isnan(result.marginal[1]).all()
    assert np.isnan(result.none[1])
    assert np.isnan(result.context[1]).all()
    for i in (0, 2):
        assert_bits(some_rows(result, [i]), posterior(network, [unseen]))


def test_two_thousand_absent_findings_do_not_underflow():
    rng = np.random.default_rng(7)
    prior, link, leak = rng.uniform(0.01, 0.3, 5), rng.uniform(0.5, 0.999, (2000, 5)), rng.uniform(0.5, 0.9, 2000)
    row = np.zeros(2000)
    result = posterior(Network(prior, link, leak), row[None])
    np.testing.assert_allclose(result.log_evidence[0], np.log1p(-leak).sum() + np.log1p(-prior).sum(), rtol=1e-12)
    assert result.none[0] == 1.0
    assert result.marginal[0].max() < 1e-300


def test_hundreds_of_absent_findings_and_a_present_one_keep_every_digit():
    rng = np.random.default_rng(8)
    prior, link, leak = rng.uniform(0.01, 0.3, 6), rng.uniform(0.001, 0.02, (400, 6)), rng.uniform(0.001, 0.9, 400)
    link[:3] = rng.uniform(0.5, 0.9, (3, 6))
    row = np.zeros(400)
    row[:3] = 1.0
    example = Example(prior, link, leak)
    assert largest_error(posterior(example.network(), row[None]), 0, quickscore(example, row)) <= 1e-12


@pytest.mark.parametrize("n", [30, 290, 1200])
def test_the_only_explanation_holds_against_any_number_of_absent_findings(n):
    """P(evidence) = 0.05 * 0.1**n, below the smallest float at last, yet not zero: one cause must be there."""
    link = np.full((n + 1, 2), [0.9, 0.0])
    link[0] = [0.5, 0.0]
    row = np.zeros(n + 1)
    row[0] = 1.0
    result = posterior(Network([0.1, 0.2], link, np.zeros(n + 1)), row[None])
    np.testing.assert_allclose(result.log_evidence[0], np.log(0.1) + np.log(0.5) + n * np.log(0.1), rtol=1e-12)
    np.testing.assert_allclose(result.marginal[0], [1.0, 0.2], rtol=1e-12)
    assert result.none[0] == 0.0


@pytest.mark.parametrize("n", [30, 290, 1200])
def test_a_certain_cause_against_any_number_of_absent_findings(n):
    result = posterior(Network([1.0, 0.2], np.full((n, 2), 0.9), np.full(n, 0.1)), np.zeros((1, n)))
    np.testing.assert_allclose(result.log_evidence[0], np.log(0.8) + n * (np.log(0.1) + np.log(0.9)), rtol=1e-12)
    assert result.marginal[0, 0] == 1.0


def test_very_rare_leaks_do_not_underflow():
    n = 16
    link = np.zeros((n, 2))
    link[0] = 0.5
    result = posterior(Network([0.1, 0.2], link, np.full(n, 1e-30)), np.ones((1, n)))
    explained = 0.1 * 0.8 * 0.5 + 0.9 * 0.2 * 0.5 + 0.02 * 0.75
    np.testing.assert_allclose(result.log_evidence[0], 15 * np.log(1e-30) + np.log(explained), rtol=1e-12)


@pytest.mark.parametrize("v", [5e-324, 1e-310, 1e-300, 1e-100])
def test_the_tiniest_likelihood_is_not_zero(v):
    result = posterior(Network([0.2], [[0.5]], [1.0]), [[v]])
    np.testing.assert_allclose(result.log_evidence[0], np.log(v), rtol=1e-12)
    np.testing.assert_allclose(result.marginal[0], 0.2, rtol=1e-12)


# --- errors ----------------------------------------------------------------------------------------------------------------


NETWORK = {"prior": [0.1, 0.2], "link": [[0.5, 0.0], [0.1, 0.2], [0.0, 0.9]], "leak": [0.1, 0.1, 0.1]}
CONTEXT = {"context_log_odds": np.zeros((2, 3)), "context_prior": [0.1, 0.2, 0.3]}
NETWORK_ERRORS = [
    ({"prior": 0.1}, "prior: got 0 dimensions, expected 1 or 2"),
    ({"link": [0.1, 0.2]}, "link: got 1 dimensions, expected 2 or 3"),
    ({"leak": np.zeros((1, 1, 3))}, "leak: got 3 dimensions, expected 1 or 2"),
    ({"prior": [0.1, 1.5]}, "prior[1]: got 1.5, expected a probability in [0, 1]"),
    ({"prior": [0.1, nan]}, "prior[1]: got nan, expected a probability in [0, 1]"),
    ({"link": [[0.5, 0.0], [-0.1, 0.2], [0.0, 2.0]]}, "link[1, 0]: got -0.1, expected a probability in [0, 1]"),
    ({"leak": [[0.1, 0.1, np.inf]]}, "leak[0, 2]: got inf, expected a probability in [0, 1]"),
    ({"prior": [0.1]}, "prior: got 1 entries, expected 2, one for each of the causes (K) of link"),
    ({"leak": [0.1]}, "leak: got 1 entries, expected 3, one for each of the findings (F) of link"),
    ({"context_prior": [0.1]}, "context_log_odds and context_prior come together: give both or neither"),
    ({"context_log_odds": np.zeros((2, 1))}, "context_log_odds and context_prior come together: give both or neither"),
    ({"requires": [-1]}, "requires needs context_log_odds and context_prior"),
    (CONTEXT | {"context_log_odds": np.zeros(2)}, "context_log_odds: got shape (2,), expected (K, C) or (N, K, C) with K = 2"),
    (
        CONTEXT | {"context_log_odds": np.zeros((3, 3))},
        "context_log_odds: got shape (3, 3), expected (K, C) or (N, K, C) with K = 2",
    ),
    (CONTEXT | {"context_log_odds": np.full((2, 3), np.inf)}, "context_log_odds: every log odds ratio must be finite"),
    (CONTEXT | {"context_prior": [0.1, 0.2, 7]}, "context_prior[2]: got 7.0, expected a probability in [0, 1]"),
    (CONTEXT | {"context_prior": [0.1]}, "context_prior: got 1 entries, expected 3, one for each of the context variables (C)"),
    (CONTEXT | {"requires": [-1]}, "requires: got shape (1,), expected (C,) with C = 3"),
    (CONTEXT | {"requires": [3, -1, -1]}, "requires[0]: got 3, expected another context index or -1"),
    (CONTEXT | {"requires": [-1, 1, -1]}, "requires[1]: got 1, expected another context index or -1"),
    (CONTEXT | {"requires": [-1, -1, -2]}, "requires[2]: got -2, expected another context index or -1"),
    (CONTEXT | {"requires": [-1, 0, 1]}, "requires[2]: variable 1 itself requires another; only one level is allowed"),
    (
        {"prior": np.full((4, 2), 0.1), "leak": np.full((5, 3), 0.1)},
        "arrays with a leading case axis disagree about the number of cases: [4, 5]",
    ),
]


@pytest.mark.parametrize(("change", "message"), NETWORK_ERRORS)
def test_a_wrong_network_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Network(**(NETWORK | change))


EVIDENCE_ERRORS = [
    ([0.0, 1.0, nan], None, "evidence: got shape (3,), expected (N, F) with F = 3"),
    ([[0.0, 1.0]], None, "evidence: got shape (1, 2), expected (N, F) with F = 3"),
    ([[0.0, 1.0, nan], [0.0, 1.1, -1]], None, "evidence[1, 1]: got 1.1, expected nan or a number in [0, 1]"),
    ([[0.0, 1.0, -np.inf]], None, "evidence[0, 2]: got -inf, expected nan or a number in [0, 1]"),
    ([[nan] * 3], [[0, 1]], "context: got shape (1, 2), expected (N, C) = (1, 3)"),
    ([[nan] * 3], [0, 1, 1], "context: got shape (3,), expected (N, C) = (1, 3)"),
    ([[nan] * 3], [[0, 1, 0.5]], "context: expected 1 (present), 0 (absent) or nan (not observed)"),
    (
        [[nan] * 3] * 2,
        [[1, 1, nan], [0, 1, nan]],
        "context[1]: variable 1 is present, variable 0, which it requires, absent",
    ),
]


@pytest.mark.parametrize(("evidence", "context", "message"), EVIDENCE_ERRORS)
def test_wrong_evidence_is_refused(evidence, context, message):
    network = Network(**NETWORK, **CONTEXT, requires=[-1, 0, -1])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        posterior(network, evidence, context)


def test_the_number_of_cases_must_be_that_of_the_network():
    network = Network(np.full((4, 2), 0.1), NETWORK["link"], NETWORK["leak"])
    assert network.n_cases == 4
    with pytest.raises(ValueError, match=f"^{re.escape('evidence: got 3 cases, the network has arrays for 4')}$"):
        posterior(network, np.zeros((3, 3)))


def test_sizes_of_a_network():
    plain, full = Network(**NETWORK), Network(**NETWORK, **CONTEXT)
    assert (plain.n_cases, plain.n_causes, plain.n_findings, plain.n_context, plain.n_syndromes) == (None, 2, 3, 0, 0)
    assert (full.n_causes, full.n_findings, full.n_context, full.n_syndromes) == (2, 3, 3, 0)
    assert (plain.context_log_odds.shape, plain.context_prior.shape, plain.requires.shape) == ((2, 0), (0,), (0,))
    assert (plain.syndrome_link.shape, plain.syndrome_leak.shape, plain.finding_syndrome.shape) == ((0, 2), (0,), (3, 0))
    np.testing.assert_array_equal(full.requires, [-1, -1, -1])
    with pytest.raises(AttributeError):
        plain.prior = np.zeros(2)


# --- kinds of input ----------------------------------------------------------------------------------------------------------


def test_read_only_input_is_neither_needed_writable_nor_written():
    example = EXAMPLES["syndromes_and_context"]
    cases = cases_of(example, seed=10)
    expected = posterior(example.network(), *cases)
    given = {name: np.array(array) for name, array in example.arrays().items()}
    given |= {"evidence": cases[0].copy(), "context": cases[1].copy()}
    before = {name: array.copy() for name, array in given.items()}
    for array in given.values():
        array.flags.writeable = False
    network = Network(**{name: given[name] for name in example.arrays()})
    assert_bits(posterior(network, given["evidence"], given["context"]), expected)
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("name", ["sparse", "requires", "syndromes_and_context"])
@pytest.mark.parametrize("form", ["fortran", "strided", "reversed", "transposed", "read-only"])
def test_how_arrays_lie_in_memory_does_not_change_a_bit(name, form):
    def laid_out(array):
        array = np.array(array)
        if form == "fortran":
            return np.asfortranarray(array)
        if form == "strided":
            wide = np.zeros([2 * n + 1 for n in array.shape], dtype=array.dtype)
            view = wide[(slice(1, None, 2),) * array.ndim]
            view[...] = array
            return view
        if form == "reversed":
            return np.ascontiguousarray(array[::-1])[::-1]
        if form == "transposed":
            return np.ascontiguousarray(array.T).T
        array.flags.writeable = False
        return array

    example = EXAMPLES[name]
    evidence, context = cases_of(example, seed=12, n_cases=50)
    expected = posterior(example.network(), evidence, context)
    network = Network(**{name: laid_out(array) for name, array in example.arrays().items()})
    assert_bits(posterior(network, laid_out(evidence), laid_out(context)), expected)


def test_float32_integers_lists_and_strided_arrays_are_read_as_they_are():
    example = EXAMPLES["sparse"]
    evidence = np.where(np.isnan(cases_of(example, seed=11)[0]), 0.0, np.round(cases_of(example, seed=11)[0]))
    expected = posterior(example.network(), evidence)
    strided = np.zeros((2 * len(evidence), 3 * evidence.shape[1]))[::2, ::3]
    strided[:] = evidence
    typed = [evidence.astype(t) for t in (np.float32, int, bool)]
    for kind in (*typed, evidence.tolist(), strided, np.asfortranarray(evidence)):
        assert_bits(posterior(example.network(), kind), expected)
    single = Network(*(np.float32(a) for a in (example.prior, example.link, example.leak)))
    double = Network(*(np.float64(np.float32(a)) for a in (example.prior, example.link, example.leak)))
    assert posterior(single, evidence).marginal.dtype == np.float64
    assert_bits(posterior(single, evidence), posterior(double, evidence))


@pytest.mark.parametrize("name", ["sparse", "requires", "syndromes_and_links"])
def test_no_cases(name):
    example = EXAMPLES[name]
    result = posterior(example.network(), np.empty((0, len(example.leak))), np.empty((0, example.n_context)))
    assert result.marginal.shape == (0, len(example.prior))
    assert result.none.shape == result.log_evidence.shape == result.impossible.shape == (0,)
    assert result.context.shape == (0, example.n_context)
    assert result.syndrome.shape == (0, example.n_syndromes)


def test_no_findings_leave_the_prior():
    result = posterior(Network([0.1, 0.2], np.zeros((0, 2)), []), np.zeros((2, 0)))
    np.testing.assert_allclose(result.marginal, [[0.1, 0.2]] * 2, rtol=1e-15)
    np.testing.assert_allclose(result.none, 0.72, rtol=1e-15)
    np.testing.assert_array_equal(result.log_evidence, 0.0)


def test_no_causes_leave_the_leaks():
    result = posterior(Network([], np.zeros((3, 0)), [0.1, 0.2, 0.3]), [[1.0, 0.0, nan], [nan, nan, nan], [0.5, 0.0, 0.0]])
    assert result.marginal.shape == (3, 0)
    np.testing.assert_array_equal(result.none, 1.0)
    np.testing.assert_allclose(result.log_evidence, np.log([0.08, 1.0, 0.5 * 0.8 * 0.7]), rtol=1e-14, atol=1e-15)


# --- mixtures ----------------------------------------------------------------------------------------------------------------


def _parts(marginal, none, log_evidence, context, syndrome=None):
    syndrome = np.zeros((len(none), 0)) if syndrome is None else syndrome
    return Posterior(*(np.array(a, dtype=float) for a in (marginal, none, log_evidence, context, syndrome)))


def test_mix_weighs_parts_with_what_the_evidence_says_about_them():
    parts = _parts(
        [[0.1, 0.9], [0.5, 0.3], [0.2, 0.2]],
        [0.05, 0.4, 0.6],
        np.log([0.02, 0.06, 0.5]),
        [[1.0], [0.0], [0.5]],
        [[0.4, nan], [0.8, nan], [nan, 0.3]],
    )
    mixed, weight = mix(parts, np.array([0, 0, 1]), np.log([0.25, 0.75, 1.0]))
    first, second = 0.25 * 0.02 / 0.05, 0.75 * 0.06 / 0.05
    np.testing.assert_allclose(weight, [first, second, 1.0], rtol=1e-14)
    np.testing.assert_allclose(
        mixed.marginal, [[0.1 * first + 0.5 * second, 0.9 * first + 0.3 * second], [0.2, 0.2]], rtol=1e-14
    )
    np.testing.assert_allclose(mixed.none, [0.05 * first + 0.4 * second, 0.6], rtol=1e-14)
    np.testing.assert_allclose(mixed.context, [[first], [0.5]], rtol=1e-14)
    np.testing.assert_allclose(mixed.syndrome, [[0.4 * first + 0.8 * second, nan], [nan, 0.3]], rtol=1e-14)
    np.testing.assert_allclose(mixed.log_evidence, np.log([0.05, 0.5]), rtol=1e-14)


def test_mix_is_not_spoiled_by_an_impossible_part():
    parts = _parts(
        [[nan], [0.3], [nan], [nan]], [nan, 0.7, nan, nan], [-np.inf, -2.0, -np.inf, -np.inf], [[nan], [0.1], [nan], [nan]]
    )
    mixed, weight = mix(parts, np.array([0, 0, 1, 1]), np.log([0.9, 0.1, 0.5, 0.5]))
    np.testing.assert_array_equal(mixed.impossible, [False, True])
    np.testing.assert_allclose(mixed.log_evidence[0], np.log(0.1) - 2.0, rtol=1e-14)
    np.testing.assert_array_equal(mixed.marginal, [[0.3], [nan]])
    np.testing.assert_array_equal(mixed.none, [0.7, nan])
    np.testing.assert_array_equal(mixed.context, [[0.1], [nan]])
    np.testing.assert_array_equal(weight[:2], [0.0, 1.0])


def test_mix_ignores_parts_of_no_weight_and_does_not_underflow():
    parts = _parts([[0.2], [0.4], [0.9]], [0.8, 0.6, 0.1], [-5000.0, -5000.0, -4000.0], np.zeros((3, 0)))
    mixed, weight = mix(parts, np.array([0, 0, 0]), np.array([np.log(0.5), np.log(0.5), -np.inf]))
    np.testing.assert_allclose(weight, [0.5, 0.5, 0.0])
    np.testing.assert_allclose(mixed.marginal, [[0.3]], rtol=1e-12)
    np.testing.assert_allclose(mixed.log_evidence, [-5000.0], rtol=1e-15)


@pytest.mark.parametrize("name", ["dense", "requires", "syndromes_and_links", "syndromes_and_context"])
def test_findings_that_nobody_observes_may_be_left_out_without_changing_a_bit(name):
    example = EXAMPLES[name]
    evidence, context = cases_of(example, seed=11)
    evidence[:, ::3] = nan
    full = example.network()
    seen = ~np.isnan(evidence).all(axis=0)
    part = replace(full, link=full.link[seen], leak=full.leak[seen], finding_syndrome=full.finding_syndrome[seen])
    assert_bits(posterior(part, evidence[:, seen], context), posterior(full, evidence, context))
