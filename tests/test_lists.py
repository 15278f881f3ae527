"""Rows by machine code have the same bits as rows by NumPy."""

import numpy as np
import pytest
from networks import EXAMPLES
from test_inference import cases_of

from ddx.inference.exact import checked
from ddx.inference.network import Network
from ddx.inference.rows import Rows

pytest.importorskip("numba")
from ddx.inference import kernel_rows, lists


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_lists_and_masks_give_the_same_bits(name, batched):
    network = EXAMPLES[name].network()
    evidence, context = cases_of(EXAMPLES[name], seed=4)
    if batched:
        rng = np.random.default_rng(5)
        rows = rng.integers(0, 3, len(evidence))
        network = Network(
            (network.prior * np.array([1.0, 0.5, 0.25])[:, None])[rows], network.link,
            (network.leak * np.array([1.0, 0.5, 0.25])[:, None])[rows], syndrome_link=network.syndrome_link,
            syndrome_leak=network.syndrome_leak, finding_syndrome=network.finding_syndrome,
            context_log_odds=network.context_log_odds, context_prior=network.context_prior, requires=network.requires,
        )  # fmt: skip
    problem, at = checked(network, evidence, context), np.arange(len(evidence))
    given = (network, at, problem.findings, problem.observed, problem.context_prior)
    by_lists, by_masks = lists.ListedRows(*given), Rows(*given)
    names = "log_escape log_leak seen log_syndrome_escape positive n_positive log_constant unknown depends log_odds listed"
    for each in names.split():
        mine, other = getattr(by_lists, each), getattr(by_masks, each)
        for x, y in zip(mine, other, strict=True) if isinstance(mine, tuple) else [(mine, other)]:
            np.testing.assert_array_equal(x, y, err_msg=each)
    np.testing.assert_array_equal(by_lists.log_all_from_leak(), by_masks.log_all_from_leak())
    np.testing.assert_array_equal(by_lists.log_no_cause(), by_masks.log_no_cause())
    for row in range(4):
        mine, other = (rows.tables(problem.observed[row] != problem.observed[row]) for rows in (by_lists, by_masks))
        for each in ("first", "absent", "present", "log_scale", "weight"):
            np.testing.assert_array_equal(getattr(mine, each), getattr(other, each), err_msg=each)


def test_groups_hold_the_cases_with_equal_plans_in_their_order():
    network = EXAMPLES["syndromes_and_links"].network()
    evidence, context = (np.repeat(a, 2, axis=0) for a in cases_of(EXAMPLES["syndromes_and_links"], seed=6))
    problem, n = checked(network, evidence, context), len(evidence)
    given = (network, np.arange(n), problem.findings, problem.observed, problem.context_prior)
    by_masks = Rows(*given)
    for dense in (np.zeros(n, bool), np.ones(n, bool), np.arange(n) % 3 > 0):
        found = [rows.grouped(dense) for rows in (lists.ListedRows(*given), by_masks)]
        mine, other = (
            sorted((bool(d), *group.tolist()) for group, d in zip(np.split(order, bounds[1:-1]), of_dense, strict=True))
            for order, bounds, of_dense in found
        )
        assert mine == other
        assert sorted(i for group in mine for i in group[1:]) == list(range(n))
        keys = set()
        for d, *group in mine:
            assert group == sorted(group)
            findings = by_masks.n_positive if d else by_masks.positive
            (key,) = {(d, findings[i].tobytes(), by_masks.seen[i].tobytes()) for i in group}
            assert d == dense[group[0]]
            assert key not in keys
            keys.add(key)


def test_distinct_rows_are_told_apart_bit_for_bit():
    a = np.array([[1.0, np.nan], [0.0, 2.0], [1.0, np.nan], [-0.0, 2.0], [0.0, 2.0]])
    first, inverse = lists.distinct([a, np.zeros((5, 0))])
    assert (first.tolist(), inverse.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])
    first, inverse = lists.distinct([a, np.array([[0.0], [0.0], [1.0], [0.0], [0.0]])])
    assert (first.tolist(), inverse.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3, 1])


def test_rows_that_hash_alike_without_being_alike_count_as_distinct(monkeypatch):
    monkeypatch.setattr(kernel_rows, "add_hash", lambda *_: None)
    first, inverse = lists.distinct([np.array([[1.0], [2.0], [1.0]])])
    assert (first.tolist(), inverse.tolist()) == ([0, 1, 2], [0, 1, 2])
