"""The core against enumeration, against 80-digit arithmetic, and against what must hold for every network."""

import importlib
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    EXAMPLES,
    Example,
    enumerate_posterior,
    nan,
    quickscore,
    random_context,
    random_evidence,
    random_example,
    relative_error,
)

from ddx.inference import EvidenceTooLarge, Network, Posterior, mix, posterior

# The module: ddx.inference.posterior is also the name of the function.
core = importlib.import_module("ddx.inference.posterior")
ARRAYS = ("marginal", "none", "log_evidence", "context")


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
def _kernel(request):
    """Every test of this module runs on both implementations of the recursion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "_COMPILED_WORK", 0 if request.param == "compiled" else 1 << 62)
        yield


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_agrees_with_enumeration(name):
    example = EXAMPLES[name]
    evidence, context = cases_of(example, seed=1)
    result = posterior(example.network(), evidence, context)
    assert_rows(result, [enumerate_posterior(example, e, x) for e, x in zip(evidence, context, strict=True)])


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_agrees_with_enumeration_when_every_case_has_a_plan_of_its_own(name, monkeypatch):
    monkeypatch.setattr(core, "_ALIKE_DOUBLES", 0)
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
    example = random_example(seed, int(rng.integers(1, 7)), int(rng.integers(1, 9)), n_context, requires, density=rng.random())
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


@pytest.mark.parametrize("batched", ["prior", "leak", "link", "context_prior", "context_log_odds", "all"])
def test_arrays_of_every_case_its_own_agree_with_one_network_a_case(batched):
    examples = [random_example(seed, 5, 6, 3, (-1, 0, -1)) for seed in range(12)]
    names = ("prior", "leak", "link", "context_prior", "context_log_odds")
    shared = {name: getattr(examples[0], name) for name in names}
    own = {n: np.stack([getattr(e, n) for e in examples]) for n in names if batched in (n, "all")}
    evidence, context = cases_of(examples[0], seed=3, n_cases=12)
    result = posterior(Network(**(shared | own), requires=(-1, 0, -1)), evidence, context)
    answers = []
    for i in range(12):
        arrays = shared | {name: array[i] for name, array in own.items()}
        example = Example(**arrays, requires=(-1, 0, -1))
        answers.append(enumerate_posterior(example, evidence[i], context[i]))
    assert_rows(result, answers)


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


@pytest.mark.parametrize(
    ("n_present", "kind"),
    [*((m, "any") for m in (1, 2, 4, 6, 8, 10, 12, 16)), *((m, "improbable") for m in (3, 7, 11, 14)), (9, "uncertain")],
)
def test_every_digit_counts_at_36_causes_and_90_findings(n_present, kind):
    rare = kind == "improbable"
    example = random_example(
        n_present, 36, 90, density=0.3, prior=(1e-6, 1e-2) if rare else (1e-3, 0.1), leak=(1e-5, 0.01) if rare else (1e-3, 0.1)
    )
    row = _row_of_90(np.random.default_rng(n_present), example, n_present, kind)
    marginal, none, log_evidence = quickscore(example.prior, example.link, example.leak, row)
    result = posterior(example.network(), row[None])
    assert relative_error(result.marginal[0], marginal) <= 1e-12
    assert relative_error(result.none[0], none) <= 1e-12
    assert relative_error(result.log_evidence[0], log_evidence) <= 1e-12
    if rare and n_present >= 7:
        assert log_evidence < np.log(1e-12)


def test_the_references_agree_with_each_other():
    for name in ("one_cause", "sparse", "dense", "rare_causes"):
        example = EXAMPLES[name]
        for row in cases_of(example, seed=4, n_cases=5)[0]:
            marginal, none, log_evidence = quickscore(example.prior, example.link, example.leak, row)
            answer = enumerate_posterior(example, row)
            assert relative_error(answer.marginal, marginal) <= 1e-12
            assert relative_error(answer.none, none) <= 1e-12
            np.testing.assert_allclose(answer.log_evidence, float(log_evidence), rtol=1e-13, atol=1e-14)


# --- what must hold for every network ---------------------------------------------------------------------------------------

PROBABILITY = st.one_of(st.floats(1e-6, 1.0 - 1e-6), st.sampled_from([0.0, 1e-300, 0.5, 1.0]))
VALUE = st.one_of(st.sampled_from([nan, 0.0, 1.0, 0.5]), st.floats(1e-9, 1.0))
few = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def problems(draw, probability=PROBABILITY, max_cases=4):
    """(Example, evidence (N, F), context (N, C))"""
    n_causes, n_findings, n_context = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    n_cases = draw(st.integers(1, max_cases))

    def array(element, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(element, min_size=size, max_size=size)), dtype=float).reshape(shape)

    requires = (-1, *(draw(st.sampled_from([-1, 0])) for _ in range(n_context - 1))) if n_context else ()
    example = Example(
        prior=array(probability, n_causes),
        link=array(st.one_of(st.just(0.0), probability), n_findings, n_causes),
        leak=array(probability, n_findings),
        context_log_odds=array(st.one_of(st.just(0.0), st.floats(-5.0, 5.0)), n_causes, n_context),
        context_prior=array(st.floats(0.01, 0.99), n_context),
        requires=requires,
    )
    evidence = array(VALUE, n_cases, n_findings)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return example, evidence, random_context(rng, n_cases, requires)


INNER = st.floats(1e-6, 1.0 - 1e-6)


@few
@given(problems())
def test_marginals_are_probabilities_and_nothing_else_is_out_of_range(problem):
    example, evidence, context = problem
    result = posterior(example.network(), evidence, context)
    possible = ~result.impossible
    for array in (result.marginal, result.none, result.context):
        assert np.isnan(array[~possible]).all()
        assert (array[possible] >= 0.0).all()
        assert (array[possible] <= 1.0).all()
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
def test_order_of_rows_findings_and_causes_does_not_matter(problem, random):
    example, evidence, context = problem
    rows, findings, causes = (random.sample(range(n), n) for n in (len(evidence), len(example.leak), len(example.prior)))
    result = posterior(example.network(), evidence, context)
    shuffled = Example(
        prior=example.prior[causes],
        link=example.link[np.ix_(findings, causes)],
        leak=example.leak[findings],
        context_log_odds=example.context_log_odds[causes],
        context_prior=example.context_prior,
        requires=example.requires,
    )
    other = posterior(shuffled.network(), evidence[np.ix_(rows, findings)], context[rows])
    expected = Posterior(
        result.marginal[np.ix_(rows, causes)], result.none[rows], result.log_evidence[rows], result.context[rows]
    )
    assert_same(other, expected, 1e-10, 1e-12)


@few
@given(problems(), INNER, INNER)
def test_an_unobserved_finding_changes_nothing(problem, leak, link):
    example, evidence, context = problem
    wider = Example(
        example.prior,
        np.vstack([example.link, np.full(len(example.prior), link)]),
        np.append(example.leak, leak),
        example.context_log_odds,
        example.context_prior,
        example.requires,
    )
    unseen = np.column_stack([evidence, np.full(len(evidence), nan)])
    assert_same(posterior(wider.network(), unseen, context), posterior(example.network(), evidence, context), 0.0, 0.0)


@few
@given(problems(INNER), st.data())
def test_even_odds_on_a_finding_say_nothing(problem, data):
    example, evidence, context = problem
    f = data.draw(st.integers(0, len(example.leak) - 1))
    even, unseen = evidence.copy(), evidence.copy()
    even[:, f], unseen[:, f] = 0.5, nan
    said, silent = posterior(example.network(), even, context), posterior(example.network(), unseen, context)
    assert_same(said, Posterior(silent.marginal, silent.none, silent.log_evidence + np.log(0.5), silent.context), 1e-11, 1e-13)


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
@given(problems(max_cases=2), st.integers(2, 5))
def test_identical_rows_have_identical_answers(problem, times):
    example, evidence, context = problem
    once = posterior(example.network(), evidence, context)
    again = posterior(example.network(), np.tile(evidence, (times, 1)), np.tile(context, (times, 1)))
    n = len(evidence)
    for i in range(times):
        part = slice(i * n, (i + 1) * n)
        assert_same(Posterior(*(getattr(again, name)[part] for name in ARRAYS)), once, 1e-14, 0.0)


@few
@given(problems())
def test_a_cause_that_nobody_has_changes_nothing(problem):
    example, evidence, context = problem
    wider = Example(
        np.append(example.prior, 0.0),
        np.column_stack([example.link, np.full(len(example.leak), 0.5)]),
        example.leak,
        np.vstack([example.context_log_odds, np.ones((1, example.n_context))]),
        example.context_prior,
        example.requires,
    )
    result = posterior(wider.network(), evidence, context)
    assert (result.marginal[~result.impossible, -1] == 0.0).all()
    rest = Posterior(result.marginal[:, :-1], result.none, result.log_evidence, result.context)
    assert_same(rest, posterior(example.network(), evidence, context), 1e-10, 1e-12)


@pytest.mark.parametrize("doubles", [1, 100, 5000])
@pytest.mark.parametrize("alike", [0, 1 << 16])
def test_chunk_size_does_not_matter(doubles, alike, monkeypatch):
    example = EXAMPLES["requires"]
    evidence, context = cases_of(example, seed=5, n_cases=200)
    expected = posterior(example.network(), evidence, context)
    monkeypatch.setattr(core, "_CHUNK_DOUBLES", doubles)
    monkeypatch.setattr(core, "_ALIKE_DOUBLES", alike)
    assert_same(posterior(example.network(), evidence, context), expected, 1e-13, 1e-15)


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
    assert_same(Posterior(*(getattr(result, a)[:1] for a in ARRAYS)), posterior(network, [unseen]), 1e-14, 0.0)
    assert_same(Posterior(*(getattr(result, a)[2:] for a in ARRAYS)), posterior(network, [unseen]), 1e-14, 0.0)


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
    marginal, none, log_evidence = quickscore(prior, link, leak, row)
    result = posterior(Network(prior, link, leak), row[None])
    assert relative_error(result.marginal[0], marginal) <= 1e-12
    assert relative_error(result.none[0], none) <= 1e-12
    assert relative_error(result.log_evidence[0], log_evidence) <= 1e-12


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


# --- limits and errors -------------------------------------------------------------------------------------------------------


def test_a_case_too_large_is_refused_with_its_row_and_size():
    rng = np.random.default_rng(9)
    network = Network(rng.uniform(0.1, 0.2, 12), rng.uniform(0.1, 0.9, (40, 12)), np.full(40, 0.1))
    evidence = np.full((3, 40), nan)
    evidence[1] = 1.0
    evidence[2] = 0.5
    with pytest.raises(EvidenceTooLarge) as error:
        posterior(network, evidence)
    assert error.value.row == 1
    assert error.value.gib > 4.0
    assert str(error.value) == (
        f"case 1: 40 present or uncertain findings need {error.value.gib:.3g} GiB, the budget is 4 GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )
    assert isinstance(error.value, ValueError)


def test_the_budget_is_the_callers():
    example = random_example(13, 8, 12, density=1.0)
    evidence = np.ones((1, 12))
    with pytest.raises(EvidenceTooLarge, match=re.escape("case 0: 12 present or uncertain findings need ")) as error:
        posterior(example.network(), evidence, memory_gib=1e-4)
    assert "the budget is 0.0001 GiB" in str(error.value)
    result = posterior(example.network(), evidence, memory_gib=error.value.gib)
    assert_rows(result, [enumerate_posterior(example, evidence[0])])


def test_many_findings_fit_where_causes_share_few_of_them():
    """60 present findings, 6 for each of 10 causes: never more than a few are in hand at once."""
    link = np.kron(np.eye(10), np.full((6, 1), 0.6))
    prior, leak = np.full(10, 0.05), np.full(60, 0.02)
    result = posterior(Network(prior, link, leak), np.ones((1, 60)))
    present, absent = 0.05 * (1 - 0.98 * 0.4) ** 6, 0.95 * 0.02**6
    np.testing.assert_allclose(result.marginal[0], present / (present + absent), rtol=1e-12)
    np.testing.assert_allclose(result.log_evidence[0], 10 * np.log(present + absent), rtol=1e-12)


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
    assert (plain.n_cases, plain.n_causes, plain.n_findings, plain.n_context) == (None, 2, 3, 0)
    assert (full.n_causes, full.n_findings, full.n_context) == (2, 3, 3)
    np.testing.assert_array_equal(full.requires, [-1, -1, -1])
    with pytest.raises(AttributeError):
        plain.prior = np.zeros(2)


# --- kinds of input ----------------------------------------------------------------------------------------------------------


def test_read_only_input_is_neither_needed_writable_nor_written():
    example = EXAMPLES["requires"]
    evidence, context = cases_of(example, seed=10)
    expected = posterior(example.network(), evidence, context)
    arrays = [evidence, context, *(a.copy() for a in (example.prior, example.link, example.leak))]
    before = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    network = Network(
        *arrays[2:],
        context_log_odds=example.context_log_odds,
        context_prior=example.context_prior,
        requires=example.requires,
    )
    assert_same(posterior(network, *arrays[:2]), expected, 0.0, 0.0)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_float32_integers_lists_and_strided_arrays_are_read_as_they_are():
    example = EXAMPLES["sparse"]
    evidence = np.where(np.isnan(cases_of(example, seed=11)[0]), 0.0, np.round(cases_of(example, seed=11)[0]))
    expected = posterior(example.network(), evidence)
    strided = np.zeros((2 * len(evidence), 3 * evidence.shape[1]))[::2, ::3]
    strided[:] = evidence
    typed = [evidence.astype(t) for t in (np.float32, int, bool)]
    for kind in (*typed, evidence.tolist(), strided, np.asfortranarray(evidence)):
        assert_same(posterior(example.network(), kind), expected, 1e-14, 1e-15)
    single = Network(*(np.float32(a) for a in (example.prior, example.link, example.leak)))
    double = Network(*(np.float64(np.float32(a)) for a in (example.prior, example.link, example.leak)))
    assert posterior(single, evidence).marginal.dtype == np.float64
    assert_same(posterior(single, evidence), posterior(double, evidence), 0.0, 0.0)


@pytest.mark.parametrize("name", ["sparse", "requires"])
def test_no_cases(name):
    example = EXAMPLES[name]
    result = posterior(example.network(), np.empty((0, len(example.leak))), np.empty((0, example.n_context)))
    assert result.marginal.shape == (0, len(example.prior))
    assert result.none.shape == result.log_evidence.shape == result.impossible.shape == (0,)
    assert result.context.shape == (0, example.n_context)


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


def _parts(marginal, none, log_evidence, context):
    return Posterior(*(np.array(a, dtype=float) for a in (marginal, none, log_evidence, context)))


def test_mix_weighs_parts_with_what_the_evidence_says_about_them():
    parts = _parts([[0.1, 0.9], [0.5, 0.3], [0.2, 0.2]], [0.05, 0.4, 0.6], np.log([0.02, 0.06, 0.5]), [[1.0], [0.0], [0.5]])
    mixed, weight = mix(parts, np.array([0, 0, 1]), np.log([0.25, 0.75, 1.0]))
    first, second = 0.25 * 0.02 / 0.05, 0.75 * 0.06 / 0.05
    np.testing.assert_allclose(weight, [first, second, 1.0], rtol=1e-14)
    np.testing.assert_allclose(
        mixed.marginal, [[0.1 * first + 0.5 * second, 0.9 * first + 0.3 * second], [0.2, 0.2]], rtol=1e-14
    )
    np.testing.assert_allclose(mixed.none, [0.05 * first + 0.4 * second, 0.6], rtol=1e-14)
    np.testing.assert_allclose(mixed.context, [[first], [0.5]], rtol=1e-14)
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


# The choice between the kernels.


def test_both_kernels_give_the_same_answer():
    example = EXAMPLES["requires"]
    evidence, context = cases_of(example, seed=6, n_cases=300)
    numpy, compiled = (posterior(example.network(), evidence, context, kernel=k) for k in ("numpy", "compiled"))
    assert_same(numpy, compiled, 1e-13, 1e-13)


def test_small_work_is_not_worth_compiling_and_large_work_is(monkeypatch):
    monkeypatch.setattr(core, "_COMPILED_WORK", 1000)
    assert core._kernel("auto", 999) == (core.solve, False)
    assert core._kernel("auto", 1000)[1]
    assert core._kernel("numpy", 1000) == (core.solve, False)
    assert core._kernel("compiled", 0)[1]


def test_without_numba_the_work_is_done_by_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ddx.inference.compiled", None)
    assert core._kernel("auto", 1 << 62) == (core.solve, False)
    message = 'the compiled kernel needs numba: pip install numba, or use kernel="numpy"'
    with pytest.raises(ImportError, match=re.escape(message)):
        core._kernel("compiled", 0)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match=re.escape("kernel: got 'cuda', allowed: auto, numpy, compiled")):
        posterior(EXAMPLES["context"].network(), np.full((1, 7), nan), kernel="cuda")
