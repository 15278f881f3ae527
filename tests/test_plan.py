"""How the work is planned and shared out: programs, frontier, memory, kernels. None of it may change an answer."""

import importlib
import itertools
import re
import subprocess
import sys
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    EXAMPLES,
    Answer,
    Example,
    assert_bits,
    enumerate_posterior,
    largest_error,
    nan,
    quickscore,
    random_context,
    random_evidence,
    random_example,
    some_rows,
)

from ddx.inference import (
    EvidenceTooLarge,
    Network,
    choice,
    dispatch,
    explain_plan,
    gradient,
    layout,
    posterior,
    program,
    recursion,
)
from ddx.inference.exact import checked

KERNELS = ("numpy", "compiled")
NAME, SEARCH = "ddx.inference.compiled", "ddx.inference.kernel_plan"
few = settings(max_examples=60, deadline=None, derandomize=True)


# --- plans of single cases, from the definition of what a plan has to respect ---------------------------------------------


def links_of(example, row, context=()):
    """What ``plan_case`` wants to know about one case, but for ``effort``."""
    n_causes, n_syndromes = len(example.prior), example.n_syndromes
    finding_syndrome = example.finding_syndrome.reshape(len(row), n_syndromes) > 0.0
    parents = (example.link > 0.0).any(axis=1) | finding_syndrome.any(axis=1)
    positive = np.flatnonzero((np.asarray(row) > 0.0) & parents)
    seen = (~np.isnan(row)[:, None] & finding_syndrome).any(axis=0)
    depends = np.ascontiguousarray(example.context_log_odds.reshape(n_causes, example.n_context) != 0.0)
    unknown = np.isnan(np.asarray(context, dtype=float))
    requires = np.array(example.requires or (-1,) * example.n_context, dtype=np.intp)
    table = np.concatenate([[0], np.cumsum(1 << (depends & unknown).sum(axis=1))]).astype(np.intp)
    syndrome_link = np.ascontiguousarray(example.syndrome_link.reshape(n_syndromes, n_causes) > 0.0)
    on = example.link[positive] > 0.0, syndrome_link, finding_syndrome[positive], seen, depends, unknown
    return *on, requires, np.arange(n_causes), table


def plan_arrays(planned):
    """The arrays of a layout and a program by their names."""
    return {f"{type(part).__name__}.{name}": a for part in planned[:2] for name, a in zip(part._fields, part, strict=True)}


def simulate(links, planned):
    """Walk through a program: the slots in hand before every step, fastest last. Fails if a step breaks the rules."""
    link_on, syndrome_on, _, seen, depends, unknown, requires, _, table = links
    lay, prog, _ = planned
    slots = list(zip(lay.slot_kind.tolist(), lay.slot_index.tolist(), strict=True))
    by_slot = {slot: v for v, slot in enumerate(slots)}
    hand, gone, absorbed, observed, hands = [], set(), [], [], []

    def at(shift):
        return hand[len(hand) - 1 - shift]

    def part(first, values, s):
        return values[first[s] : first[s + 1]].tolist()

    for s, (action, subject) in enumerate(zip(prog.action.tolist(), prog.subject.tolist(), strict=True)):
        hands.append(list(hand))
        assert prog.width[s] == len(hand)
        axes, bits = part(prog.axis_first, prog.axis_shift, s), part(prog.bit_first, prog.bit_shift, s)
        if action == program.INTRODUCE:
            kind, index = slots[subject]
            assert subject not in hand
            assert subject not in gone
            needs = requires[index] if kind == layout.CONTEXT else -1
            parent = by_slot[layout.CONTEXT, needs] if needs >= 0 and unknown[needs] else None
            assert (None if prog.shift[s] < 0 else at(prog.shift[s])) == parent
            hand.append(subject)
        elif action == program.SUM_OUT:
            assert at(prog.shift[s]) == subject
            hand.remove(subject)
            gone.add(subject)
        elif action == program.ABSORB:
            k = int(lay.cause[subject])
            absorbed.append(k)
            assert prog.table[s] == table[k]
            assert [slots[at(a)] for a in axes] == [(layout.CONTEXT, x) for x in np.flatnonzero(depends[k] & unknown)]
            sets = [slots[at(b)] for b in bits]
            expected = {(layout.SYNDROME, j) for j in np.flatnonzero(syndrome_on[:, k] & seen)}
            expected |= {(layout.FINDING, b) for b in np.flatnonzero(link_on[:, k])} | {(layout.CAUSE, k)}
            assert len(sets) == len(set(sets))
            assert set(sets) == expected & set(slots)
        else:
            observed.append(subject)
            b = int(lay.factor[subject])
            last = [a for a in range(len(lay.cause)) if link_on[b, lay.cause[a]]]
            assert all(lay.cause[a] in absorbed for a in last)
            assert sorted(at(a) for a in axes) == sorted(
                lay.factor_slot[lay.factor_first[subject] : lay.factor_first[subject + 1]]
            )
    assert hand == []
    assert gone == set(range(len(slots)))
    assert sorted(absorbed) == sorted(lay.cause.tolist())
    assert sorted(observed) == list(range(len(lay.factor)))
    return hands


def check_plan(links, planned):
    """The program does what the layout wants, and its sizes are those of its states."""
    link_on, syndrome_on, finding_syndrome_on, seen, depends, unknown, *_ = links
    lay, prog, doubles = planned
    hands = simulate(links, planned)
    assert set(lay.cause) == set(
        np.flatnonzero(link_on.any(axis=0) | (syndrome_on & seen[:, None]).any(axis=0) | (depends & unknown).any(axis=1))
    )
    held = (lay.slot_kind == layout.CAUSE).any()
    assert {lay.slot_index[v] for v in np.flatnonzero(lay.slot_kind == layout.SYNDROME)} == set(np.flatnonzero(seen))
    bits = {lay.slot_index[v] for v in np.flatnonzero(lay.slot_kind == layout.FINDING)}
    assert bits == (set() if held else set(np.flatnonzero(link_on.any(axis=1))))
    factors = (link_on.any(axis=1) & held) | finding_syndrome_on.any(axis=1)
    np.testing.assert_array_equal(lay.factor, np.flatnonzero(factors))
    sizes = np.array([1 << len(hand) for hand in hands], dtype=np.intp)
    bounds = prog.segment_first
    assert bounds[0] == 0
    assert bounds[-1] == len(sizes)
    segments = [sizes[a:b] for a, b in itertools.pairwise(bounds)]
    np.testing.assert_array_equal(prog.offset, [i for part in segments for i in np.cumsum(part) - part] or np.zeros(0))
    assert prog.size[0] == sum(part[0] for part in segments if len(part))
    assert prog.size[1] == max((part.sum() for part in segments), default=0)
    assert prog.size[2] == max(sizes, default=1)
    assert doubles == prog.size[0] + prog.size[1] + 3 * prog.size[2]


def cases_of(example, seed, n_cases):
    rng = np.random.default_rng(seed)
    evidence = random_evidence(rng, n_cases, len(example.leak))
    return evidence, random_context(rng, n_cases, example.requires or (-1,) * example.n_context)


@st.composite
def link_patterns(draw):
    """What ``plan_case`` wants to know, of any case at all."""
    n_causes, m, n_syndromes, n_context = (draw(st.integers(a, b)) for a, b in ((0, 6), (0, 6), (0, 3), (0, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    share = draw(st.sampled_from([0.1, 0.4, 0.9]))

    def on(*shape):
        return rng.random(shape) < share

    link, finding_syndrome, depends, unknown = on(m, n_causes), on(m, n_syndromes), on(n_causes, n_context), on(n_context)
    seen = finding_syndrome.any(axis=0) | on(n_syndromes)
    requires = np.full(n_context, -1, dtype=np.intp)
    requires[1:] = rng.choice([-1, 0], max(n_context - 1, 0))
    table = np.concatenate([[0], np.cumsum(1 << (depends & unknown).sum(axis=1))]).astype(np.intp)
    return link, on(n_syndromes, n_causes), finding_syndrome, seen, depends, unknown, requires, np.arange(n_causes), table


@pytest.mark.parametrize("name", EXAMPLES)
def test_plans_of_the_examples_are_sound(name):
    example = EXAMPLES[name]
    for row, context in zip(*cases_of(example, 0, 20), strict=True):
        links = links_of(example, row, context)
        check_plan(links, program.plan_case(*links, dispatch.EFFORT))


@few
@given(link_patterns(), st.sampled_from([0.0, 1.0 / 512, 0.5]))
def test_any_plan_is_sound(links, effort):
    check_plan(links, program.plan_case(*links, effort))


@pytest.mark.parametrize("planner", [NAME, SEARCH])
@few
@given(link_patterns(), st.sampled_from([0.0, 1.0 / 512, 0.5]))
def test_interpreted_and_compiled_plans_are_identical(planner, links, effort):
    machine = pytest.importorskip(planner).plan_case(*links, effort)
    interpreted = program.plan_case(*links, effort)
    assert interpreted[2] == machine[2]
    other = plan_arrays(machine)
    for name, array in plan_arrays(interpreted).items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)
        assert other[name].dtype == array.dtype, name


@pytest.mark.parametrize("n_syndromes", [0, 5])
def test_interpreted_and_compiled_plans_of_large_cases_are_identical(n_syndromes):
    compiled = pytest.importorskip("ddx.inference.compiled")
    example = random_example(1, 40, 60, 2, (-1, 0), density=0.08, n_syndromes=n_syndromes, syndrome_density=0.1)
    for row, context in zip(*cases_of(example, 1, 3), strict=True):
        links = links_of(example, row, context)
        effort = 200.0 / program.plan_case(*links, 0.0)[2]  # a few hundred moves at most, for the interpreter's sake
        interpreted, machine = (plan(*links, effort) for plan in (program.plan_case, compiled.plan_case))
        check_plan(links, interpreted)
        assert interpreted[2] == machine[2]
        other = plan_arrays(machine)
        for name, array in plan_arrays(interpreted).items():
            np.testing.assert_array_equal(other[name], array, err_msg=name)


@few
@given(link_patterns())
def test_trying_longer_for_an_order_never_makes_it_worse(links):
    for held in (False, True):
        lay = layout.assemble(*links[:-1], held)
        greedy, short = layout.search(lay, links[-2], 0.0)
        longer, long = layout.search(lay, links[-2], 2.0)
        assert long <= short
        assert sorted(greedy) == sorted(longer) == list(range(len(lay.cause)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_plan_says_is_what_the_program_needs(name):
    example = EXAMPLES[name]
    evidence, context = cases_of(example, 2, 15)
    plans = explain_plan(example.network(), evidence, context)
    assert [p.row for p in plans] == list(range(15))
    for plan, row, observed in zip(plans, evidence, context, strict=True):
        # A parent that is absent, or a child that is present, says all about the other one.
        known = observed.copy()
        for child, parent in enumerate(example.requires):
            if parent >= 0 and known[child] == 1.0:
                known[parent] = 1.0
            if parent >= 0 and known[parent] == 0.0:
                known[child] = 0.0
        links = links_of(example, row, known)
        lay, _, doubles = planned = program.plan_case(*links, dispatch.EFFORT)
        widths = [len(hand) for hand in simulate(links, planned)]
        assert plan.positive == np.count_nonzero(row > 0.0)
        assert plan.causes == len(lay.cause)
        assert plan.width == max(widths, default=0)
        assert plan.states == sum(1 << w for w in widths)
        assert plan.gib == doubles * 8 / 2**30
        assert plan.method == ("causes" if (lay.slot_kind == layout.CAUSE).any() else "findings")


# --- what a plan chooses ---------------------------------------------------------------------------------------------------


def test_few_causes_of_many_findings_are_enumerated():
    example = random_example(3, 4, 12, density=1.0)
    (plan,) = explain_plan(example.network(), np.ones((1, 12)))
    assert (plan.method, plan.positive, plan.causes, plan.width) == ("causes", 12, 4, 4)
    (plan,) = explain_plan(random_example(3, 12, 4, density=1.0).network(), np.ones((1, 4)))
    assert (plan.method, plan.positive, plan.causes, plan.width) == ("findings", 4, 12, 4)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"structural"}))
def test_bits_of_findings_and_enumerated_causes_give_the_same_answers(name, monkeypatch):
    example = EXAMPLES[name]
    evidence, context = cases_of(example, 4, 12)
    for limit in ("DENSE", "DENSE_SEEN"):
        monkeypatch.setattr(dispatch, limit, -1)
    answers = [enumerate_posterior(example, row, x) for row, x in zip(evidence, context, strict=True)]
    for held in (False, True):

        def plan(*links, held=held):
            *links, table, effort = links
            lay = layout.assemble(*links, held)
            prog = program.scan(lay, layout.search(lay, links[-1], effort)[0], table, links[-1])
            assert (lay.slot_kind == layout.CAUSE).any() == (held and links[0].any())
            return lay, prog, float(prog.size[0] + prog.size[1] + 3 * prog.size[2])

        monkeypatch.setattr(dispatch, "plan_case", plan)
        result = posterior(example.network(), evidence, context, kernel="numpy")
        for field in Answer._fields:
            expected = np.array([getattr(a, field) for a in answers])
            np.testing.assert_allclose(getattr(result, field), expected, rtol=1e-12, atol=1e-14, err_msg=field)


def test_causes_that_explain_nothing_of_the_case_take_no_step():
    link = np.zeros((5, 30))
    link[0, :3], link[1, 2:7], link[2, 10:] = 0.5, 0.4, 0.3
    network = Network(np.full(30, 0.1), link, np.full(5, 0.1))
    rows = np.full((5, 5), nan)
    rows[0, 0] = 1.0
    rows[1, :2] = [1.0, 0.5]
    rows[2, :3] = [1.0, 1.0, 0.0]
    rows[3, 3:] = 1.0
    assert [p.causes for p in explain_plan(network, rows)] == [3, 7, 7, 0, 0]
    assert [p.positive for p in explain_plan(network, rows)] == [1, 2, 2, 2, 0]
    assert [p.width for p in explain_plan(network, rows)] == [1, 2, 2, 0, 0]


def test_causes_of_a_syndrome_that_shows_and_of_unknown_context_take_a_step():
    syndrome_link = np.zeros((2, 9))
    syndrome_link[0, :4], syndrome_link[1, 3:6] = 0.5, 0.5
    log_odds = np.zeros((9, 2))
    log_odds[7, 0], log_odds[8, 1] = 1.0, -1.0
    network = Network(
        np.full(9, 0.1), np.zeros((3, 9)), np.full(3, 0.1),
        syndrome_link=syndrome_link, syndrome_leak=[0.1, 0.2], finding_syndrome=[[0.5, 0.0], [0.0, 0.4], [0.3, 0.6]],
        context_log_odds=log_odds, context_prior=[0.3, 0.4],
    )  # fmt: skip
    rows = [[nan, nan, nan], [1.0, nan, nan], [nan, 0.0, nan], [nan, nan, 0.5], [1.0, nan, nan]]
    context = [[1, 0], [0, 0], [1, 1], [0, 1], [nan, 0]]
    assert [p.causes for p in explain_plan(network, rows, context)] == [0, 4, 3, 6, 5]


def test_findings_of_one_syndrome_need_no_bit_of_their_own():
    n = 50
    network = Network(
        np.full(20, 0.05), np.zeros((n, 20)), np.full(n, 0.05),
        syndrome_link=np.full((2, 20), 0.4), syndrome_leak=[0.1, 0.2], finding_syndrome=np.repeat(np.eye(2), n // 2, axis=0),
    )  # fmt: skip
    (plan,) = explain_plan(network, np.ones((1, n)))
    assert (plan.method, plan.positive, plan.causes, plan.width) == ("findings", n, 20, 2)


# --- many findings at once -------------------------------------------------------------------------------------------------


def blocks(example, n_blocks):
    """A network of unrelated copies of an example, its causes and findings shuffled; block of every cause and finding."""
    rng = np.random.default_rng(0)
    causes, findings = (rng.permutation(n_blocks * n) for n in (len(example.prior), len(example.leak)))
    link = np.kron(np.eye(n_blocks), example.link)[np.ix_(findings, causes)]
    return Network(np.tile(example.prior, n_blocks)[causes], link, np.tile(example.leak, n_blocks)[findings]), causes, findings


def of_blocks(example, rows, causes):
    """Answer in 80 digits to the evidence ``rows`` (blocks, findings) on every block."""
    answers = {row.tobytes(): quickscore(example, row) for row in rows}
    answers = [answers[row.tobytes()] for row in rows]
    with mpmath.workdps(100):
        marginal = np.concatenate([a.marginal for a in answers])[causes]
        return Answer(
            marginal, mpmath.fprod(a.none for a in answers), mpmath.fsum(a.log_evidence for a in answers), (), np.zeros(0)
        )


BLOCKS = {  # causes and findings of a block, blocks, method (or None: near a tie), most slots in hand
    "60 findings of 10 causes": (1, 6, 10, "causes", 1),
    "60 findings of 20 causes": (2, 6, 10, None, 6),
    "60 findings of 70 causes": (7, 6, 10, "findings", 6),
    "120 findings of 48 causes": (2, 5, 24, None, 5),
    "120 findings of 150 causes": (5, 4, 30, "findings", 4),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", BLOCKS)
def test_unrelated_findings_are_not_in_hand_together(name, kernel):
    n_causes, n_findings, n_blocks, method, width = BLOCKS[name]
    example = random_example(len(name), n_causes, n_findings, density=1.0, prior=(1e-3, 5e-3), leak=(1e-4, 5e-4))
    network, causes, findings = blocks(example, n_blocks)
    rows = np.ones((n_blocks, n_findings))
    rows[: n_blocks // 2, -1] = 0.002
    row = rows.ravel()[findings][None]
    (plan,) = explain_plan(network, row)
    assert plan.method == (method or plan.method)
    assert (plan.positive, plan.causes) == (n_blocks * n_findings, n_blocks * n_causes)
    assert plan.width <= width
    assert largest_error(posterior(network, row, kernel=kernel), 0, of_blocks(example, rows, causes)) <= 1e-12


SURPRISES = {  # link, leak, and values of the four findings of a block: each of probability 1e-3
    "present": (0.002, 1e-3, [1.0, 1.0, 1.0, 1.0]),
    "uncertain": (0.002, 1.0 - 1e-6, [0.001, 0.002, 0.0005, 0.001]),
    "both": (0.002, [1e-3, 1.0 - 1e-6, 1e-3, 1.0 - 1e-9], [1.0, 0.001, 1.0, 0.001]),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n_causes", [1, 6])
@pytest.mark.parametrize("name", SURPRISES)
def test_the_smallest_float_is_no_limit(name, n_causes, kernel):
    """120 findings whose probability is 1e-3 each: P(evidence) is about 1e-360, in states of a few slots."""
    link, leak, values = SURPRISES[name]
    example = Example(np.full(n_causes, 1e-3), np.full((4, n_causes), link), np.broadcast_to(leak, 4))
    network, causes, findings = blocks(example, 30)
    rows = np.tile(values, (30, 1))
    answer = of_blocks(example, rows, causes)
    assert answer.log_evidence < np.log(1e-308) - 80.0
    assert largest_error(posterior(network, rows.ravel()[findings][None], kernel=kernel), 0, answer) <= 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
def test_600_causes_of_4000_findings(kernel):
    """Too large for any referee; but P(e) = P(e, f) + P(e, not f), and so for every cause."""
    rng = np.random.default_rng(0)
    link = np.zeros((4000, 600))
    np.put_along_axis(link, rng.random((4000, 600)).argpartition(10, axis=1)[:, :10], rng.uniform(0.1, 0.9, (4000, 10)), axis=1)
    network = Network(rng.uniform(0.001, 0.05, 600), link, rng.uniform(0.001, 0.05, 4000))
    evidence = np.full((4, 4000), nan)
    for row in evidence[:2]:
        row[rng.choice(4000, 220, replace=False)] = np.repeat([1.0, 0.0], [20, 200])
    evidence[2:] = evidence[0]
    (more,) = np.flatnonzero(np.isnan(evidence[0]) & (link[:, 0] > 0.0))[:1]
    evidence[2:, more] = [1.0, 0.0]
    result = posterior(network, evidence, kernel=kernel)
    joint = np.exp(result.log_evidence[2:] - result.log_evidence[0])
    np.testing.assert_allclose(joint.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(joint @ result.marginal[2:], result.marginal[0], rtol=1e-11)
    np.testing.assert_allclose(joint @ result.none[2:], result.none[0], rtol=1e-11)
    order = [3, 0, 2, 1]
    assert_bits(posterior(network, evidence[order], kernel=kernel), some_rows(result, order))
    plans = explain_plan(network, evidence)
    assert [p.positive for p in plans] == [20, 20, 21, 20]
    assert max(p.width for p in plans) <= 15


# --- memory ----------------------------------------------------------------------------------------------------------------


def dense(n_causes, n_findings, seed=0):
    rng = np.random.default_rng(seed)
    return Network(
        rng.uniform(0.01, 0.2, n_causes), rng.uniform(0.1, 0.9, (n_findings, n_causes)), rng.uniform(0.01, 0.1, n_findings)
    )


@pytest.fixture
def no_search(monkeypatch):
    """All orders of a dense network are the same: the interpreter need not look for a better one."""
    monkeypatch.setattr(dispatch, "EFFORT", 0.0)


def too_large(row, n_findings, gib, budget):
    return (
        f"case {row}: {n_findings} present or uncertain findings need {gib} GiB, the budget is {budget} GiB; "
        "leave out findings, say more about the context, or raise memory_gib"
    )


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_case_too_large_is_refused_with_its_row_and_size(kernel):
    evidence = np.full((4, 34), nan)
    evidence[1], evidence[2], evidence[3, :3] = 1.0, 0.5, 1.0
    with pytest.raises(EvidenceTooLarge) as error:
        posterior(dense(34, 34), evidence, kernel=kernel)
    assert isinstance(error.value, ValueError)
    assert (error.value.row, error.value.n_findings, error.value.budget) == (1, 34, 4.0)
    assert error.value.rows == (1, 2)
    assert [str(each) for each in error.value.each()] == [too_large(row, 34, f"{error.value.gib:.3g}", "4") for row in (1, 2)]
    # 34 states of 2**34 doubles are stored, or with checkpoints about twice the root of 34, and three are at work.
    assert 8 * 2**34 / 2**30 * 4 <= error.value.gib <= 8 * 2**34 / 2**30 * 37
    assert str(error.value) == too_large(1, 34, f"{error.value.gib:.3g}", "4")
    assert str(error.value.of_row(7)) == too_large(7, 34, f"{error.value.gib:.3g}", "4")


def test_a_refused_case_does_not_load_the_compiler():
    """Only what will be solved is worth machine code; its plan would be, were there one to search for."""
    code = """
import sys, numpy as np
from ddx.inference import EvidenceTooLarge, Network, dispatch, posterior
dispatch.EFFORT = 0.0
rng = np.random.default_rng(0)
network = Network(np.full(34, 0.1), rng.uniform(0.1, 0.9, (34, 34)), np.full(34, 0.1))
try:
    posterior(network, np.ones((1, 34)))
except EvidenceTooLarge as error:
    print(error.rows, "numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(0,) False\n", "")


def test_the_search_for_the_plan_of_a_refused_case_is_work_too(monkeypatch):
    asked = []
    monkeypatch.setattr(dispatch, "load_search", lambda *_: None)
    monkeypatch.setattr(dispatch, "load_compiled", lambda _, expected=0.0: asked.append(expected))
    with pytest.raises(EvidenceTooLarge):
        posterior(dense(12, 12), np.ones((2, 12)), memory_gib=1e-5)
    *_, expected = asked
    # One plan for both, with a move for every 512 doubles: the states that are stored and three at work. It goes over 12
    # findings, 12 causes and the links between them.
    (plan,) = explain_plan(dense(12, 12), np.ones((1, 12)))
    moves = plan.gib * 2**27 / 512
    assert expected == pytest.approx(choice.PLAN + choice.MOVE * moves * (12 + 12 + 12 * 12), rel=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_budget_that_is_no_number_is_one_that_nothing_fits_into(kernel):
    with pytest.raises(EvidenceTooLarge, match="the budget is nan GiB"):
        posterior(dense(3, 3), np.ones((1, 3)), kernel=kernel, memory_gib=nan)


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_allocated_for_a_case_that_is_refused(kernel):
    network, evidence = dense(28, 28), np.ones((2, 28))
    with pytest.raises(EvidenceTooLarge):  # whatever is made once is there now
        posterior(network, evidence, kernel=kernel)
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceTooLarge) as error:
            posterior(network, evidence, kernel=kernel)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.gib > 4.0
    assert peak < 4 << 20


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (14, 14)])
def test_the_budget_that_a_refusal_names_is_enough(shape, kernel):
    network, evidence = dense(*shape), np.ones((1, shape[1]))
    expected = posterior(network, evidence, kernel=kernel)
    with pytest.raises(EvidenceTooLarge) as error:
        posterior(network, evidence, memory_gib=1e-5, kernel=kernel)
    assert str(error.value) == too_large(0, shape[1], f"{error.value.gib:.3g}", "1e-05")
    assert_bits(posterior(network, evidence, memory_gib=error.value.gib, kernel=kernel), expected)
    with pytest.raises(EvidenceTooLarge, match=f"^{re.escape('case 0: ')}"):
        posterior(network, evidence, memory_gib=np.nextafter(error.value.gib, 0.0), kernel=kernel)


def test_the_plan_names_the_memory_that_the_budget_must_hold():
    network, evidence = dense(13, 13), np.ones((1, 13))
    (plan,) = explain_plan(network, evidence)
    with pytest.raises(EvidenceTooLarge) as error:
        posterior(network, evidence, memory_gib=plan.gib / 2)
    assert error.value.gib == plan.gib


def solved_by_machine(prog, block):
    """What ``recursion.solve`` returns, for a block of one case."""
    kernel, kernel_cases = (importlib.import_module(f"ddx.inference.{name}") for name in ("kernel", "kernel_cases"))
    columns = (block.absent, block.present, block.link, block.entry, block.leave, block.factor)
    absent, present, link, entry, leave, factor = (np.ascontiguousarray(a).ravel() for a in columns)
    numbers = kernel.Block(absent, present, link, 1.0 - link, entry, leave, factor)
    slopes = kernel_cases.empty_slopes(numbers, True)
    mantissa, exponent = np.empty(1), np.empty(1, dtype=np.intp)
    kernel.solve(prog, 1, numbers, kernel.room(prog, 1, True), True, mantissa, exponent, slopes)
    filled = (slopes.present, slopes.marginal, slopes.absent, slopes.link, slopes.entry, slopes.factor)
    return recursion.Slopes(mantissa, exponent, *(a[:, None] for a in filled))


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("store", [1, 1 << 10, 1 << 13])
def test_states_that_are_computed_twice_take_less_memory_and_give_the_same_bits(store, monkeypatch):
    pytest.importorskip("numba")
    example = random_example(5, 30, 14, 2, (-1, 0), density=0.6, n_syndromes=2)
    rng = np.random.default_rng(6)
    evidence = np.vstack([np.where(rng.random(14) < 0.7, 1.0, rng.choice([0.0, nan, 0.3], 14)) for _ in range(3)])
    problem = checked(example.network(), evidence, None)
    expected = posterior(example.network(), evidence, kernel="numpy")
    rows = problem.rows(np.arange(3))
    tables = rows.tables(rows.unknown[0])
    everything = [dispatch.plan_of(rows, i, tables.first, None, dispatch.EFFORT) for i in range(3)]
    monkeypatch.setattr(program, "_STORE_ALL", store)
    assert_bits(posterior(example.network(), evidence, kernel="numpy"), expected)
    for i, (lay, full, _) in enumerate(everything):
        _, prog, _ = dispatch.plan_of(rows, i, tables.first, None, dispatch.EFFORT)
        assert len(full.segment_first) == 2 < len(prog.segment_first)
        assert prog.size[2] == full.size[2]
        assert prog.size[:2].sum() < 0.5 * full.size[:2].sum()
        block = rows.block(lay, np.array([i]), dispatch.take(tables, np.array([i])))
        slopes = [recursion.solve(full, block, full=True), *(solved_by_machine(p, block) for p in (full, prog))]
        for other in slopes[1:]:
            for name, mine in vars(slopes[0]).items():
                np.testing.assert_array_equal(getattr(other, name), mine, err_msg=name)


@few
@given(link_patterns(), st.integers(1, 60))
def test_any_plan_with_checkpoints_is_sound(links, store):
    with pytest.MonkeyPatch.context() as patch:
        full = program.plan_case(*links, dispatch.EFFORT)
        patch.setattr(program, "_STORE_ALL", store)
        planned = program.plan_case(*links, dispatch.EFFORT)
        check_plan(links, planned)
        assert planned[2] <= full[2]


# --- who does the work -----------------------------------------------------------------------------------------------------


@pytest.fixture
def worked(monkeypatch):
    """Sets the seconds that Python and NumPy have worked so far, and what is on disk; nothing compiled is there yet."""
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.delitem(sys.modules, SEARCH, raising=False)

    def set_to(seconds, on_disk):
        monkeypatch.setattr(choice.meter, "seconds", seconds)
        monkeypatch.setattr(choice.planning, "seconds", seconds)
        monkeypatch.setattr(choice, "_on_disk", lambda _: on_disk)

    return set_to


def test_the_compiled_kernel_is_loaded_when_asked_for(worked):
    pytest.importorskip("numba")
    worked(1e6, on_disk=True)
    assert choice.load_compiled("numpy", 1e6) is None
    worked(0.0, on_disk=False)
    assert choice.load_compiled("auto") is None
    assert NAME not in sys.modules
    assert choice.load_compiled("compiled").__name__ == NAME
    assert choice.load_compiled("auto").__name__ == NAME  # it is there already


@pytest.mark.parametrize(
    ("load", "module", "loading", "compiling"),
    [
        (choice.load_compiled, NAME, choice.LOADING, choice.COMPILING),
        (choice.load_search, SEARCH, choice.LOADING_SEARCH, choice.COMPILING_SEARCH),
    ],
)
def test_the_interpreter_works_until_loading_has_paid(worked, load, module, loading, compiling):
    pytest.importorskip("numba")
    for seconds, expected, on_disk, loaded in (
        (0.0, loading, True, False),
        (0.0, loading + 0.1, True, True),
        (loading, 0.1, True, True),
        (loading, 0.1, False, False),
        (compiling - 1.0, 0.9, False, False),
        (compiling - 1.0, 1.1, False, True),
    ):
        sys.modules.pop(module, None)
        worked(seconds, on_disk)
        assert (load("auto", expected) is not None) == loaded, (seconds, expected, on_disk)
        assert (module in sys.modules) == loaded


def test_the_search_is_compiled_for_nobody_who_chose_a_kernel(worked):
    worked(1e6, on_disk=True)
    assert choice.load_search("numpy", 1e6) is None
    assert choice.load_search("compiled", 1e6) is None
    assert SEARCH not in sys.modules


def test_plans_with_a_compiled_search_give_the_same_bits(monkeypatch):
    plans = pytest.importorskip(SEARCH)
    example = random_example(3, 12, 30, 2, (-1, 0), density=0.3, n_syndromes=3, syndrome_density=0.2)
    evidence, context = cases_of(example, 12, 4)
    monkeypatch.setattr(dispatch, "load_compiled", lambda *_: None)
    planned = []
    for module in (None, plans):
        monkeypatch.setattr(dispatch, "load_search", lambda *_, module=module: planned.append(module) or module)
        found = posterior(example.network(), evidence, context)
        assert planned[-1] is module
        if module is None:
            interpreted = found
    assert_bits(found, interpreted)


def test_the_work_of_numpy_is_counted(monkeypatch):
    monkeypatch.setattr(choice.meter, "seconds", 0.0)
    monkeypatch.setattr(choice.planning, "seconds", 0.0)
    example = random_example(3, 12, 30, 2, (-1, 0), density=0.3)
    posterior(example.network(), *cases_of(example, 12, 4), kernel="numpy")
    assert choice.meter.seconds > choice.planning.seconds > 0.0


def test_machine_code_is_looked_for_where_numba_puts_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "inference_1").mkdir()
    for function, name in (("kernel_cases.run_groups", "kernel_cases.run_groups-117"), ("layout.search", "layout.search-210")):
        assert not choice._on_disk(function)
        (tmp_path / "inference_1" / f"{name}.py311.nbi").touch()
        assert choice._on_disk(function)


def test_code_is_compiled_where_no_folder_can_be_written_to():
    """Nothing is kept then; every process compiles what pays."""
    pytest.importorskip("numba")
    code = """
from numba.core import caching
for thing in list(vars(caching).values()):
    if hasattr(thing, "_locator_classes"):
        thing._locator_classes = []
from ddx.inference.kernel_plan import search
print(search.stats.cache_path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_without_numba_the_work_is_done_by_numpy(monkeypatch):
    for name in (NAME, SEARCH):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(choice, "_worth", lambda *_: True)
    assert choice.load_compiled("auto", 1e6) is None
    assert choice.load_search("auto", 1e6) is None
    network, evidence = EXAMPLES["sparse"].network(), np.ones((1, 9))
    assert_bits(posterior(network, evidence), posterior(network, evidence, kernel="numpy"))
    message = 'the compiled kernel needs numba: pip install numba, or use kernel="numpy"'
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        posterior(network, evidence, kernel="compiled")


def test_an_unknown_kernel_is_refused():
    message = "kernel: got 'cuda', allowed: auto, numpy, compiled"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        posterior(EXAMPLES["context"].network(), np.full((1, 7), nan), kernel="cuda")


@pytest.fixture
def expected_seconds(monkeypatch):
    """The largest expectation with which a call of ``posterior`` asks for the compiled kernel; it never comes."""
    asked = []
    monkeypatch.setattr(dispatch, "load_search", lambda *_: None)
    monkeypatch.setattr(dispatch, "load_compiled", lambda _, expected=0.0: asked.append(expected))

    def of(network, evidence):
        asked.clear()
        posterior(network, evidence)
        return max(asked)

    return of


def test_the_expected_time_grows_with_different_cases_plans_and_states(expected_seconds):
    few = random_example(7, 3, 10, density=0.5).network()
    cases = np.array(np.meshgrid(*[[0.0, 1.0, nan]] * 4)).reshape(4, -1).T
    cases = np.column_stack([cases, np.full((81, 6), nan)])
    assert expected_seconds(few, cases) == pytest.approx(expected_seconds(few, np.tile(cases, (3, 1))), rel=0.05)
    assert expected_seconds(few, cases[:40]) < 0.8 * expected_seconds(few, cases)
    own = np.full((13, 14), nan)
    own[~np.eye(13, 14, dtype=bool)] = 1.0  # 13 present findings, each time other ones
    assert expected_seconds(dense(3, 14), own) > 12 * choice.PLAN
    small, large = (expected_seconds(dense(14, m), np.ones((1, m))) for m in (10, 13))
    assert large > 4 * small - 3 * choice.PLAN


def test_calls_that_are_or_will_be_at_work_have_the_cores_in_equal_parts():
    cores = dispatch._Share()
    with cores.of(4) as first, cores.of(4) as second, cores.of(4) as third:
        assert (first, second, third) == (4, 2, 1)
    with cores.expect(2), cores.of(4) as first, cores.of(4) as second, cores.of(4) as third:
        assert (first, second, third) == (2, 2, 1)
    with cores.expect(9), cores.of(4) as first:
        assert first == 1
    with cores.of(4) as first:
        assert first == 4


@pytest.mark.parametrize("lanes", [1, 8, 21, 64])
@pytest.mark.parametrize("name", ["dense", "requires", "syndromes_and_links", "syndromes_and_context"])
def test_how_many_cases_the_compiled_kernel_takes_side_by_side_does_not_change_a_bit(name, lanes, monkeypatch):
    compiled = importlib.import_module(NAME) if pytest.importorskip("numba") else None
    example = EXAMPLES[name]
    evidence, context = (np.repeat(a, 3, axis=0) for a in cases_of(example, 8, 10))
    expected = posterior(example.network(), evidence, context, kernel="numpy")
    monkeypatch.setattr(dispatch, "_distinct", lambda problem, *_: (np.arange(len(problem.findings)),) * 2)
    monkeypatch.setattr(compiled, "LANES", lanes)
    assert_bits(posterior(example.network(), evidence, context, kernel="compiled"), expected)


@pytest.mark.parametrize("n_syndromes", [0, 2])
@pytest.mark.parametrize("m", range(1, 10))
def test_cases_that_share_a_plan_have_the_same_bits_side_by_side(m, n_syndromes):
    """With odd and even numbers of links a cause, with and without factors, up to the largest states of several lanes."""
    pytest.importorskip("numba")
    network = random_example(300 + m, 11, m + 2, density=0.8, n_syndromes=n_syndromes).network()
    rng = np.random.default_rng(m)
    evidence = np.hstack([rng.choice([1.0, 0.7, 0.2], (21, m)), rng.choice([0.0, nan], (21, 2))])
    results = [posterior(network, evidence, kernel=kernel) for kernel in ("numpy", "compiled")]
    assert_bits(*results)
    for target in (None, 3):
        assert_bits(*(gradient(network, evidence, target=target, kernel=kernel) for kernel in ("numpy", "compiled")))
