"""The core on its own: error, cost against present findings, the naive-Bayes floor, batch size."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from networks import (
    drawn_cases,
    exact_posteriors,
    naive_bayes,
    quickscore_array,
    random_cases,
    random_network,
    relative_errors,
)
from report import Row, Table, per_case, seconds

from ddx.inference import Network, posterior

Score = Callable[[np.ndarray], object]


def compiled(net: Network) -> Score:
    return lambda cases: posterior(net, cases, kernel="compiled")


def plain(net: Network) -> Score:
    return lambda cases: posterior(net, cases, kernel="numpy")


def error(quick: bool) -> Table:
    """Largest relative error of any posterior of some cases against 80 digits."""
    rng = np.random.default_rng(1)
    net = random_network(rng, 36, 90)
    rows: list[Row] = []
    for m in (4, 8) if quick else (4, 6, 8, 10, 12, 14, 16):
        each = 1 if quick or m > 14 else 3
        for kind in ("drawn", "improbable"):
            cases = drawn_cases(rng, net, each, m, 20) if kind == "drawn" else random_cases(rng, net, each, m, 60)
            total, exact = exact_posteriors(net, cases)
            rows.append(
                {
                    "present": m,
                    "kind": kind,
                    "evidence": float(f"{min(total):.3e}"),
                    "quickscore": float(relative_errors(quickscore_array(net, cases), exact).max()),
                    "ddx": float(relative_errors(posterior(net, cases).marginal, exact).max()),
                }
            )
    note = (
        "Largest relative error of any posterior of 3 cases (1 at 16), 36 x 90, against Quickscore in 80-digit arithmetic. "
        "Drawn: evidence that the network makes itself, 20 findings absent; improbable: present findings at random, 60 absent. "
        "An error of 1 says that no digit is right."
    )
    columns = {
        "present": "present findings",
        "kind": "evidence",
        "evidence": "lowest P(evidence)",
        "quickscore": "Quickscore, float64",
        "ddx": "ddx",
    }
    return Table(note, columns, rows)


def cost(quick: bool) -> Table:
    rng = np.random.default_rng(3)
    net = random_network(rng, 36, 90)
    rows: list[Row] = []
    for m in (2, 6) if quick else range(2, 21, 2):
        cases = random_cases(rng, net, 400 if quick else 20_000 if m <= 8 else 2_000, m, 20)
        target = 0.05 if quick else 0.3
        scores = {"numpy": plain(net), "compiled": compiled(net), "naive": naive_bayes(net)}
        scores["quickscore"] = lambda some: quickscore_array(net, some)
        times = {name: 1e6 * per_case(score, cases, target) for name, score in scores.items()}
        rows.append({"present": m, **times, "ratio": times["quickscore"] / times["compiled"]})
    note = (
        "Microseconds a case, 36 x 90, 20 findings absent, batches of up to 20,000 cases. Quickscore is the array program of "
        "`networks.py`; its answers are wrong where the error above says so."
    )
    columns = {
        "present": "present findings",
        "numpy": "ddx, NumPy",
        "compiled": "ddx, compiled",
        "quickscore": "Quickscore, float64",
        "naive": "naive-Bayes product",
        "ratio": "Quickscore / ddx compiled",
    }
    return Table(note, columns, rows)


def _pair(exact: Score, floor: Score, cases: np.ndarray) -> list[float]:
    """Seconds of both, one right after the other, each the median of three runs in a row.

    After a product of matrices the threads of BLAS keep the cores busy for a while: without the pause ddx would share them.
    """
    time.sleep(0.2)
    return [seconds(partial(score, cases), 3) for score in (exact, floor)]


def naive(quick: bool) -> Table:
    """Both on the same evidence."""
    rng = np.random.default_rng(4)
    net = random_network(rng, 36, 90)
    floor, exact = naive_bayes(net), compiled(net)
    rows: list[Row] = []
    for m in (2, 4) if quick else (2, 3, 4, 5, 6, 7, 8):
        cases = random_cases(rng, net, 500 if quick else 20_000, m, 20)
        exact(cases)
        floor(cases)
        pairs = [_pair(exact, floor, cases) for _ in range(3 if quick else 7)]
        ours, theirs = np.median(pairs, axis=0) / len(cases) * 1e6
        ratio = float(np.median([a / b for a, b in pairs]))
        rows.append({"present": m, "ddx": float(ours), "naive": float(theirs), "ratio": ratio})
    note = (
        "Microseconds a case on the same arrays, 36 x 90, 20 findings absent, 20,000 cases. Naive Bayes is "
        "present @ log P + absent @ log(1 - P) and a softmax, masks included. Each is the median of three runs in a row, "
        "the ratio the median over 7 pairs of them; before a pair is a pause, until the threads of the last product sleep."
    )
    columns = {
        "present": "present findings",
        "ddx": "ddx, compiled",
        "naive": "naive-Bayes product",
        "ratio": "ddx / naive Bayes",
    }
    return Table(note, columns, rows)


def batch(quick: bool) -> Table:
    rng = np.random.default_rng(5)
    net = random_network(rng, 36, 90)
    sizes = (1, 100, 1_000) if quick else (1, 10, 100, 1_000, 10_000, 100_000)
    cases = random_cases(rng, net, max(sizes), 4, 20)
    scores = {"numpy": plain(net), "compiled": compiled(net), "naive": naive_bayes(net)}
    rows: list[Row] = []
    for n in sizes:
        some = cases[:n]
        row: Row = {"batch": n}
        for name, score in scores.items():
            score(some[:100])
            row[name] = n / seconds(lambda score=score, some=some: score(some), 5 if n >= 10_000 else 25)
        rows.append(row)
    columns = {"batch": "cases in a call", "numpy": "ddx, NumPy", "compiled": "ddx, compiled", "naive": "naive-Bayes product"}
    return Table(
        "Cases a second, 36 x 90, 4 findings present and 20 absent, against the number of cases in a call.", columns, rows
    )
