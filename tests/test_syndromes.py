"""Unobserved syndromes between causes and findings: against enumeration, 80 digits, and what a syndrome must mean."""

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

from ddx.inference import EvidenceTooLarge, Network, posterior

few = settings(max_examples=40, deadline=None, derandomize=True)
ARRAYS = ("marginal", "none", "log_evidence", "context", "syndrome")


@pytest.fixture(scope="module", params=["numpy", "compiled"], autouse=True)
def kernel(request):
    """Every test of this module runs on both implementations of the recursion."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        use_kernel(patch, request.param)
        yield request.param


# --- what is refused -------------------------------------------------------------------------------------------------------

PLAIN = {"prior": [0.1, 0.2], "link": [[0.5, 0.0], [0.1, 0.2], [0.0, 0.9]], "leak": [0.1, 0.1, 0.1]}
SYNDROMES = {
    "syndrome_link": [[0.5, 0.4], [0.0, 0.3], [0.2, 0.0], [0.6, 0.6]],
    "syndrome_leak": [0.1, 0.0, 0.2, 0.3],
    "finding_syndrome": np.full((3, 4), 0.5),
}
ALL_THREE = "syndrome_link, syndrome_leak and finding_syndrome come together: give all three or none"
DISAGREE = "arrays with a leading case axis disagree about the number of cases: "
ERRORS = [
    ({"syndrome_link": [0.1, 0.2]}, "syndrome_link: got 1 dimensions, expected 2 or 3"),
    ({"syndrome_leak": 0.1}, "syndrome_leak: got 0 dimensions, expected 1 or 2"),
    ({"finding_syndrome": np.zeros((1, 1, 3, 4))}, "finding_syndrome: got 4 dimensions, expected 2 or 3"),
    ({"syndrome_link": np.full((4, 2), 1.5)}, "syndrome_link[0, 0]: got 1.5, expected a probability in [0, 1]"),
    ({"syndrome_leak": [0.1, nan, 0.0, -1.0]}, "syndrome_leak[1]: got nan, expected a probability in [0, 1]"),
    (
        {"finding_syndrome": [[0.1] * 4, [0.2, 0.3, 0.4, -0.5], [2.0] * 4]},
        "finding_syndrome[1, 3]: got -0.5, expected a probability in [0, 1]",
    ),
    ({"syndrome_link": np.zeros((4, 3))}, "syndrome_link: got 3 entries, expected 2, one for each of the causes (K) of link"),
    (
        {"syndrome_link": np.zeros((2, 2))},
        "syndrome_leak: got 4 entries, expected 2, one for each of the syndromes (J) of syndrome_link",
    ),
    (
        {"syndrome_leak": [0.1]},
        "syndrome_leak: got 1 entries, expected 4, one for each of the syndromes (J) of syndrome_link",
    ),
    (
        {"finding_syndrome": np.zeros((3, 3))},
        "finding_syndrome: got 3 entries, expected 4, one for each of the syndromes (J) of syndrome_link",
    ),
    (
        {"finding_syndrome": np.zeros((4, 4))},
        "finding_syndrome: got 4 entries, expected 3, one for each of the findings (F) of link",
    ),
    ({"syndrome_link": np.zeros((5, 4, 2)), "finding_syndrome": np.zeros((6, 3, 4))}, DISAGREE + "[5, 6]"),
    ({"syndrome_leak": np.zeros((2, 4)), "leak": np.zeros((3, 3))}, DISAGREE + "[2, 3]"),
    *(({name: None}, ALL_THREE) for name in SYNDROMES),
    *(({name: None for name in SYNDROMES if name != kept}, ALL_THREE) for kept in SYNDROMES),
]


@pytest.mark.parametrize(("change", "message"), ERRORS)
def test_wrong_syndromes_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Network(**(PLAIN | SYNDROMES | change))


def test_sizes_of_a_network_with_syndromes():
    network = Network(**PLAIN, **SYNDROMES)
    assert (network.n_cases, network.n_causes, network.n_findings, network.n_syndromes, network.n_context) == (None, 2, 3, 4, 0)
    own = Network(**PLAIN, **(SYNDROMES | {"syndrome_leak": np.full((7, 4), 0.1)}))
    assert (own.n_cases, own.n_syndromes) == (7, 4)
    with pytest.raises(ValueError, match=f"^{re.escape('evidence: got 3 cases, the network has arrays for 7')}$"):
        posterior(own, np.zeros((3, 3)))
    with pytest.raises(AttributeError):
        network.syndrome_leak = np.zeros(4)


def test_too_large_a_case_is_refused_and_fits_into_what_the_message_says():
    rng = np.random.default_rng(0)

    def links(*shape):
        return rng.uniform(0.1, 0.9, shape)

    network = Network(
        np.full(10, 0.1), links(12, 10), np.full(12, 0.1),
        syndrome_link=links(3, 10), syndrome_leak=np.full(3, 0.1), finding_syndrome=links(12, 3),
    )  # fmt: skip
    evidence = np.array([[nan] * 12, [1.0] * 6 + [0.5] * 2 + [0.0] * 4])
    with pytest.raises(EvidenceTooLarge) as error:
        posterior(network, evidence, memory_gib=1e-6)
    assert str(error.value) == (
        f"case 1: 8 present or uncertain findings need {error.value.gib:.3g} GiB, the budget is 1e-06 GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )
    result = posterior(network, evidence, memory_gib=error.value.gib)
    assert_bits(result, posterior(network, evidence))


# --- against enumeration and 80 digits -------------------------------------------------------------------------------------


def assert_enumerated(example, evidence, context, result, rtol, atol):
    for i, row in enumerate(evidence):
        with np.errstate(divide="ignore", invalid="ignore"):
            answer = enumerate_posterior(example, row, context[i])
        for name in ARRAYS:
            got, right = getattr(result, name)[i], getattr(answer, name)
            np.testing.assert_allclose(got, right, rtol=rtol, atol=atol, err_msg=f"{name}[{i}]")


@few
@given(problems(INNER, max_cases=2, syndromes=(1, 3)))
def test_any_network_with_syndromes_agrees_with_enumeration(problem):
    example, evidence, context = problem
    result = posterior(example.network(), evidence, context)
    assert_enumerated(example, evidence, context, result, 1e-10, 1e-13)


@few
@given(problems(st.sampled_from([0.0, 1.0, 0.25]), max_cases=2, syndromes=(1, 3)))
def test_structural_zeros_and_ones_agree_with_enumeration(problem):
    example, evidence, context = problem
    result = posterior(example.network(), evidence, context)
    assert_enumerated(example, evidence, context, result, 1e-10, 1e-13)


@pytest.mark.parametrize("seed", range(8))
def test_sparse_and_dense_networks_agree_with_enumeration(seed):
    rng = np.random.default_rng(seed)
    requires = (-1, 0) if seed % 2 else ()
    example = random_example(
        seed, 5, 9, len(requires), requires, density=rng.choice([0.0, 0.2, 0.8]), n_syndromes=4, syndrome_density=rng.random()
    )
    evidence = np.vstack([np.ones(9), np.zeros(9), np.full(9, 0.5), random_evidence(rng, 12, 9)])
    context = random_context(rng, len(evidence), requires)
    assert_enumerated(example, evidence, context, posterior(example.network(), evidence, context), 1e-12, 1e-14)


RARE = {"prior": (1e-6, 1e-2), "leak": (1e-6, 1e-2)}
SIZES = {  # causes, findings, how to make them; present, absent, uncertain
    "few syndromes": (20, 40, {"n_syndromes": 2, "density": 0.2}, (6, 15, 2)),
    "syndromes only": (20, 40, {"n_syndromes": 3, "density": 0.0}, (7, 20, 0)),
    "improbable": (20, 40, {"n_syndromes": 3, "density": 0.1, **RARE}, (7, 15, 0)),
    "improbable, syndromes only": (20, 40, {"n_syndromes": 3, "density": 0.0, **RARE}, (8, 15, 0)),
    "many syndromes": (8, 10, {"n_syndromes": 6, "density": 0.2, "syndrome_density": 0.3}, (4, 3, 1)),
    "absent only": (10, 200, {"n_syndromes": 3, "density": 0.1}, (0, 200, 0)),
}
_EXACT = {}


@pytest.mark.parametrize("name", SIZES)
def test_every_digit_counts(name):
    n_causes, n_findings, options, counts = SIZES[name]
    example = random_example(len(name), n_causes, n_findings, **options)
    rng = np.random.default_rng(1)
    row, order = np.full(n_findings, nan), rng.permutation(n_findings)
    present, absent, uncertain = np.split(order[: sum(counts)], np.cumsum(counts)[:2])
    row[present], row[absent], row[uncertain] = 1.0, 0.0, rng.uniform(0.1, 0.9, len(uncertain))
    if name not in _EXACT:
        _EXACT[name] = quickscore(example, row)
    assert largest_error(posterior(example.network(), row[None]), 0, _EXACT[name]) <= 1e-12
    if name.startswith("improbable"):
        assert _EXACT[name].log_evidence < np.log(1e-9)


# --- what a syndrome means -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", [0.0, 0.02])
def test_a_finding_explained_only_by_one_syndrome(leak):
    """P(s) = 1 - (1 - 0.05)(1 - 0.8)^c; P(f) = 1 - (1 - leak)(1 - 0.6)^s."""
    network = Network(
        [0.1], [[0.0]], [leak], syndrome_link=[[0.8]], syndrome_leak=[0.05], finding_syndrome=[[0.6]]
    )  # fmt: skip
    with_cause, without = 1.0 - 0.95 * 0.2, 0.05
    f_with, f_without = 1.0 - (1.0 - leak) * 0.4, leak
    syndrome = 0.1 * with_cause + 0.9 * without
    f = syndrome * f_with + (1.0 - syndrome) * f_without
    f_and_cause = 0.1 * (with_cause * f_with + (1.0 - with_cause) * f_without)
    result = posterior(network, [[1.0], [0.0], [nan], [0.3]])
    close = {"rtol": 1e-14, "atol": 1e-15}
    mixed = 0.3 * f + 0.7 * (1.0 - f)
    np.testing.assert_allclose(result.log_evidence, np.log([f, 1.0 - f, 1.0, mixed]), **close)
    cause = [f_and_cause / f, (0.1 - f_and_cause) / (1.0 - f), 0.1, (0.3 * f_and_cause + 0.7 * (0.1 - f_and_cause)) / mixed]
    np.testing.assert_allclose(result.marginal[:, 0], cause, **close)
    np.testing.assert_allclose(result.none, 1.0 - np.array(cause), **close)
    both = syndrome * f_with
    shown = [both / f, (syndrome - both) / (1.0 - f), nan, (0.3 * both + 0.7 * (syndrome - both)) / mixed]
    np.testing.assert_allclose(result.syndrome[:, 0], shown, **close)


def test_many_findings_of_a_syndrome_prove_the_syndrome_and_no_more():
    """However many there are, the cause is as probable as given the syndrome itself."""
    n = 40
    network = Network(
        [0.01, 0.3], np.zeros((n, 2)), np.full(n, 0.01),
        syndrome_link=[[0.7, 0.1]], syndrome_leak=[0.02], finding_syndrome=np.full((n, 1), 0.9),
    )  # fmt: skip
    result = posterior(network, np.ones((1, n)))
    neither, first, second, both = 0.02, 1 - 0.98 * 0.3, 1 - 0.98 * 0.9, 1 - 0.98 * 0.3 * 0.9
    syndrome = 0.99 * 0.7 * neither + 0.01 * 0.7 * first + 0.99 * 0.3 * second + 0.003 * both
    np.testing.assert_allclose(result.syndrome[0, 0], 1.0, rtol=1e-15)
    np.testing.assert_allclose(result.marginal[0, 0], (0.01 * 0.7 * first + 0.003 * both) / syndrome, rtol=1e-13)
    np.testing.assert_allclose(result.none[0], 0.99 * 0.7 * neither / syndrome, rtol=1e-13)
    np.testing.assert_allclose(result.log_evidence[0], np.log(syndrome) + n * np.log(1 - 0.99 * 0.1), rtol=1e-13)


def test_only_absent_findings():
    """One cause, one syndrome, n absent findings: what is left is (1 - 0.3)^n of the cases with the syndrome."""
    n = 25
    network = Network(
        [0.2], np.full((n, 1), 0.1), np.full(n, 0.05),
        syndrome_link=[[0.6]], syndrome_leak=[0.1], finding_syndrome=np.full((n, 1), 0.3),
    )  # fmt: skip
    result = posterior(network, np.zeros((1, n)))
    there = 0.2 * 0.9**n * np.array([0.9 * 0.4, 1 - 0.9 * 0.4]) * [1.0, 0.7**n]
    not_there = 0.8 * np.array([0.9, 0.1]) * [1.0, 0.7**n]
    total = there.sum() + not_there.sum()
    np.testing.assert_allclose(result.marginal[0, 0], there.sum() / total, rtol=1e-13)
    np.testing.assert_allclose(result.none[0], not_there.sum() / total, rtol=1e-13)
    np.testing.assert_allclose(result.syndrome[0, 0], (there + not_there)[1] / total, rtol=1e-13)
    np.testing.assert_allclose(result.log_evidence[0], np.log(total) + n * np.log(0.95), rtol=1e-13)


@few
@given(problems(INNER, max_cases=1, syndromes=(1, 3)), st.data())
def test_a_finding_that_is_the_syndrome_shows_its_probability(problem, data):
    """P(s | e) = P(s, e) / P(e), where a further finding with leak 0 and a certain link says whether s is there."""
    example, evidence, context = problem
    j = data.draw(st.integers(0, example.n_syndromes - 1))
    wider = replace(
        example,
        link=np.vstack([example.link, np.zeros(len(example.prior))]),
        leak=np.append(example.leak, 0.0),
        finding_syndrome=np.vstack([example.finding_syndrome, np.eye(example.n_syndromes)[j]]),
    )
    rows = np.column_stack([np.repeat(evidence, 3, axis=0), [1.0, 0.0, 0.5]])
    result = posterior(wider.network(), rows, np.repeat(context, 3, axis=0))
    there, absent, both = np.exp(result.log_evidence)
    np.testing.assert_allclose(result.syndrome[:2, j], [1.0, 0.0], rtol=1e-14)
    np.testing.assert_allclose(there + absent, 2.0 * both, rtol=1e-12)
    np.testing.assert_allclose(result.syndrome[2, j], there / (there + absent), rtol=1e-10)
    known = posterior(example.network(), evidence, context).syndrome[0, j]
    if not np.isnan(known):
        np.testing.assert_allclose(known, there / (there + absent), rtol=1e-10)


@few
@given(problems(INNER, syndromes=(1, 2)), INNER)
def test_uncertain_evidence_is_the_average_of_both_answers(problem, v):
    example, evidence, context = problem
    rows = np.repeat(evidence[:1], 3, axis=0)
    rows[:, 0] = [v, 1.0, 0.0]
    result = posterior(example.network(), rows, np.repeat(context[:1], 3, axis=0))
    joint = np.exp(result.log_evidence[1:]) * [v, 1.0 - v]
    np.testing.assert_allclose(np.exp(result.log_evidence[0]), joint.sum(), rtol=1e-11)
    np.testing.assert_allclose(result.syndrome[0], joint @ result.syndrome[1:] / joint.sum(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(result.marginal[0], joint @ result.marginal[1:] / joint.sum(), rtol=1e-9, atol=1e-13)


IMPOSSIBLE = {
    "present, and nothing causes its only syndrome": {"syndrome_link": [[0.0]]},
    "present, and the only cause of its syndrome is impossible": {"prior": [0.0]},
    "present and absent of a syndrome that always shows": {"finding_syndrome": [[0.5], [1.0]], "row": [1.0, 0.0]},
    "absent of a certain syndrome that always shows": {
        "syndrome_leak": [1.0], "finding_syndrome": [[0.5], [1.0]], "row": [nan, 0.0]
    },
    "absent of a certain cause by way of a syndrome": {
        "prior": [1.0], "syndrome_link": [[1.0]], "finding_syndrome": [[1.0], [0.2]], "row": [0.0, nan]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_evidence_is_an_outcome_of_its_own_row(name):
    arrays = {
        "prior": [0.3], "link": [[0.0], [0.0]], "leak": [0.0, 0.1],
        "syndrome_link": [[0.6]], "syndrome_leak": [0.0], "finding_syndrome": [[0.7], [0.4]],
    }  # fmt: skip
    row = IMPOSSIBLE[name].get("row", [1.0, nan])
    network = Network(**(arrays | {k: v for k, v in IMPOSSIBLE[name].items() if k != "row"}))
    unseen = [nan, 0.5]
    result = posterior(network, [unseen, row, unseen])
    np.testing.assert_array_equal(result.impossible, [False, True, False])
    assert result.log_evidence[1] == -np.inf
    for array in (result.marginal, result.none, result.syndrome):
        assert np.isnan(array[1]).all()
    for i in (0, 2):
        assert_bits(some_rows(result, [i]), posterior(network, [unseen]))


# --- networks that are the same ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["sparse", "dense", "requires"])
def test_no_syndromes_are_the_network_without_them(name, own):
    example = EXAMPLES[name]
    rng = np.random.default_rng(3)
    evidence = random_evidence(rng, 30, len(example.leak))
    context = random_context(rng, 30, example.requires) if example.n_context else None
    lead = (30,) if own else ()
    empty = Network(
        **example.arrays(),
        syndrome_link=np.zeros((*lead, 0, len(example.prior))),
        syndrome_leak=np.zeros((*lead, 0)),
        finding_syndrome=np.zeros((*lead, len(example.leak), 0)),
    )
    assert empty.n_syndromes == 0
    result = posterior(empty, evidence, context)
    assert result.syndrome.shape == (30, 0)
    assert_bits(result, posterior(example.network(), evidence, context))


@few
@given(problems(syndromes=(1, 3), weights=(1.0,)), st.data())
def test_a_syndrome_of_no_observed_finding_changes_nothing(problem, data):
    example, evidence, context = problem
    j = data.draw(st.integers(0, example.n_syndromes - 1))
    evidence = evidence.copy()
    evidence[:, example.finding_syndrome[:, j] > 0.0] = nan
    others = np.delete(np.arange(example.n_syndromes), j)
    without = replace(
        example,
        syndrome_link=example.syndrome_link[others],
        syndrome_leak=example.syndrome_leak[others],
        finding_syndrome=example.finding_syndrome[:, others],
    )
    result = posterior(example.network(), evidence, context)
    assert np.isnan(result.syndrome[:, j]).all()
    expected = posterior(without.network(), evidence, context)
    np.testing.assert_allclose(result.none, expected.none, rtol=1e-13)
    assert_bits(replace(result, none=expected.none, syndrome=result.syndrome[:, others]), expected)


@pytest.mark.parametrize("through", [(0, 1, 2, 3, 4), (1, 3)])
@pytest.mark.parametrize("name", ["sparse", "requires"])
def test_a_syndrome_with_a_certain_link_from_one_cause_and_no_leak_is_that_cause(name, through):
    """Some causes show their findings through a syndrome of their own, the others directly."""
    example, through = EXAMPLES[name], np.array(through)
    rng = np.random.default_rng(4)
    evidence = random_evidence(rng, 40, len(example.leak))
    context = random_context(rng, 40, example.requires or ())
    direct = example.link.copy()
    direct[:, through] = 0.0
    layered = replace(
        example,
        link=direct,
        syndrome_link=np.eye(len(example.prior))[through],
        syndrome_leak=np.zeros(len(through)),
        finding_syndrome=example.link[:, through],
    )
    result, expected = (posterior(e.network(), evidence, context) for e in (layered, example))
    for array in ("marginal", "none", "log_evidence", "context"):
        np.testing.assert_allclose(getattr(result, array), getattr(expected, array), rtol=1e-12, atol=1e-14)
    seen = ~np.isnan(result.syndrome)
    np.testing.assert_array_equal(seen, (~np.isnan(evidence)).astype(int) @ (example.link[:, through] > 0.0) > 0)
    np.testing.assert_allclose(result.syndrome[seen], expected.marginal[:, through][seen], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["sparse", "dense", "rare_causes", "context"])
def test_a_finding_with_a_certain_link_from_its_own_syndrome_is_that_syndrome(name):
    """The noisy-OR of every finding moves up into a syndrome: nothing changes."""
    example = EXAMPLES[name]
    n = len(example.leak)
    rng = np.random.default_rng(5)
    evidence = random_evidence(rng, 40, n)
    context = random_context(rng, 40, (-1,) * example.n_context)
    layered = Example(
        example.prior, np.zeros_like(example.link), np.zeros(n), example.context_log_odds, example.context_prior,
        syndrome_link=example.link, syndrome_leak=example.leak, finding_syndrome=np.eye(n),
    )  # fmt: skip
    result, expected = (posterior(e.network(), evidence, context) for e in (layered, example))
    for array in ("marginal", "none", "log_evidence", "context"):
        np.testing.assert_allclose(getattr(result, array), getattr(expected, array), rtol=1e-12, atol=1e-14)
    certain = (evidence == 0.0) | (evidence == 1.0)
    np.testing.assert_allclose(result.syndrome[certain], evidence[certain], rtol=1e-15)


OWN = ("syndrome_link", "syndrome_leak", "finding_syndrome")


@pytest.mark.parametrize("batched", [*OWN, "all"])
def test_arrays_of_every_case_its_own_are_one_network_a_case(batched):
    """Not even the pattern of zeros is the same."""
    examples = [random_example(seed, 5, 7, n_syndromes=3, density=0.3) for seed in range(25)]
    own = {name: np.stack([getattr(e, name) for e in examples]) for name in OWN if batched in (name, "all")}
    evidence = random_evidence(np.random.default_rng(6), 25, 7)
    network = Network(**(examples[0].arrays() | own))
    assert network.n_cases == 25
    result = posterior(network, evidence)
    for i in range(25):
        single = replace(examples[0], **{name: array[i] for name, array in own.items()})
        assert_bits(some_rows(result, [i]), posterior(single.network(), evidence[i : i + 1]))
