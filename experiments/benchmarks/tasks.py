"""What is built on the posterior: derivatives, draws, single causes, unknown context; memory and start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from memory import peak, problem
from networks import drawn_cases, limb_network, random_cases, random_network
from report import Row, Table, per_case, seconds

from ddx.inference import Network, explain_plan, gradient, posterior, single_cause

_EXAMPLES = Path(__file__).parents[1] / "examples" / "cases.csv"
_SCORE = "`ddx score`, the 41 shipped cases in primary care"


def derivatives(quick: bool) -> Table:
    rng = np.random.default_rng(7)
    net, limb = random_network(rng, 36, 90), limb_network(context=False)
    each = {4: 20} if quick else {4: 200, 8: 200, 12: 20, 16: 3}
    runs = [("36 x 90", net, m, random_cases(rng, net, n, m, 20)) for m, n in each.items()]
    runs += [("limb", limb, m, drawn_cases(rng, limb, 50, m, 20)) for m in (4, 8)]
    runs.append(("36 x 90", net, 8, drawn_cases(rng, net, 1, 8, 20)))
    rows: list[Row] = []
    for name, network, m, cases in runs[:1] if quick else runs:
        actions = _actions(network, cases)
        times = {}
        for key, action in actions.items():
            action()
            times[key] = seconds(action)
        row: Row = {"network": name, "present": m, "cases": len(cases), "posterior": 1e6 * times["posterior"] / len(cases)}
        rows.append(row | {key: times[key] / times["posterior"] for key in ("evidence", "target")})
    note = (
        "Derivatives to all priors, links and leaks over the time of the posteriors of the same cases, compiled. "
        "Limb as in the table of engines."
    )
    columns = {
        "network": "network",
        "present": "present findings",
        "cases": "cases in a call",
        "posterior": "posterior, microseconds a case",
        "evidence": "log evidence / posterior",
        "target": "one posterior / posterior",
    }
    return Table(note, columns, rows)


def _actions(net: Network, cases: np.ndarray) -> dict[str, Callable[[], object]]:
    return {
        "posterior": lambda: posterior(net, cases, kernel="compiled"),
        "evidence": lambda: gradient(net, cases, kernel="compiled"),
        "target": lambda: gradient(net, cases, target=0, kernel="compiled"),
    }


def many(quick: bool) -> Table:
    """Parameter draws of one case, and single-cause posteriors of many."""
    rng = np.random.default_rng(9)
    net, limb = random_network(rng, 36, 90), limb_network(context=False)
    draws = 500 if quick else 10_000
    case = random_cases(rng, net, 1, 8, 20)[0]
    seen = np.flatnonzero(~np.isnan(case))

    def drawn(array: np.ndarray) -> np.ndarray:
        odds = array / (1.0 - array) * np.exp(rng.normal(0.0, 0.3, (draws, *array.shape)))
        return odds / (1.0 + odds)

    network = Network(drawn(net.prior), drawn(net.link[seen]), drawn(net.leak[seen]))
    evidence = np.tile(case[seen], (draws, 1))
    rows: list[Row] = []

    def add(what: str, task: str, n: int, took: float) -> None:
        rows.append({"what": what, "task": task, "n": n, "seconds": took, "rate": n / took})

    took = seconds(lambda: posterior(network, evidence, kernel="compiled"), 5, 6.0)
    add(f"{draws:,} draws of all parameters of one case, 36 x 90, 8 present, 20 absent", "draws", draws, took)
    n = 2_000 if quick else 100_000
    for name, other in (("36 x 90", net), (f"limb, {limb.n_causes} x {limb.n_findings}", limb)):
        cases = random_cases(rng, other, n, 8, 20)
        single_cause(other, cases[:10])
        add(f"`single_cause`, {name}, 8 present, 20 absent", "single", n, seconds(lambda o=other, c=cases: single_cause(o, c)))
    columns = {"what": "task", "n": "cases", "seconds": "seconds", "rate": "cases a second"}
    note = "The draws are the cases of one call: arrays of the network with a leading axis, for the observed findings only."
    return Table(note, columns, rows)


def context(quick: bool) -> Table:
    rng = np.random.default_rng(10)
    net, known_net = limb_network(context=True), limb_network(context=False)
    rows: list[Row] = []
    for m in (8,) if quick else (8, 12):
        cases = drawn_cases(rng, known_net, 20 if quick else 1000, m, 20)
        base = 0.0
        for unknown in (0, 8, net.n_context):
            context = np.zeros((len(cases), net.n_context))
            for row in context:
                row[rng.permutation(net.n_context)[:unknown]] = np.nan
            for child, parent in enumerate(net.requires):
                if parent >= 0:  # what requires an unknown factor is unknown with it
                    context[np.isnan(context[:, parent]), child] = np.nan
            index = np.arange(len(cases))

            def score(at: np.ndarray, cases: np.ndarray = cases, context: np.ndarray = context) -> object:
                at = at.astype(np.intp)
                return posterior(net, cases[at], context[at], kernel="compiled")

            took = per_case(score, index, 0.05 if quick else 0.6)
            base = base or took
            plans = explain_plan(net, cases[:20], context[:20])
            rows.append(
                {
                    "present": m,
                    "unknown": unknown,
                    "time": 1e6 * took,
                    "ratio": took / base,
                    "width": float(np.median([p.width for p in plans])),
                    "states": int(np.median([p.states for p in plans])),
                }
            )
    note = (
        f"Limb, {net.n_causes} causes, {net.n_findings} findings, {net.n_context} risk factors, age and sex known, evidence "
        "drawn from the network with ten times its priors, 20 findings absent, up to 1,000 cases in a call, compiled; risk "
        "factors at random unknown, the others absent. Width and states: medians of `explain_plan` over 20 of the cases."
    )
    columns = {
        "present": "present findings",
        "unknown": "unknown risk factors",
        "time": "microseconds a case",
        "ratio": "over all known",
        "width": "width",
        "states": "states",
    }
    return Table(note, columns, rows)


def memory(quick: bool) -> Table:
    rows: list[Row] = []
    runs = [("batch", 1_000)] if quick else [("batch", 100_000), *(("dense", m) for m in (20, 22, 24))]
    for kind, size in runs:
        net, cases = problem(kind, size)
        plans = explain_plan(net, cases[:1])
        what = (
            f"{size:,} cases, 36 x 90, 4 present"
            if kind == "batch"
            else f"one case, {size} present, all 36 causes linked to all"
        )
        rows.append({"what": what, "added": peak(kind, size), "plan": 1024.0 * plans[0].gib, "input": cases.nbytes / 2**20})
    note = (
        "Peak memory of a process that makes the call minus that of one that only prepares it, compiled, MiB; and what "
        "`explain_plan` says of the states of one case. A call on many cases also holds its results and the tables of a chunk."
    )
    columns = {"what": "call", "added": "added to the peak, MiB", "plan": "explain_plan, MiB", "input": "its evidence, MiB"}
    return Table(note, columns, rows)


def start(quick: bool) -> Table:
    diagnose = ("-m", "ddx", "diagnose", "--present", "ptosis", "--present", "diplopia", "--age", "34")
    score = ("-m", "ddx", "score", str(_EXAMPLES), "--setting", "primary_care", "-q", "-o")
    # The first one, with an empty folder for compiled code, leaves its code there for the second.
    nothing, search = f"{_SCORE}, nothing compiled yet", f"{_SCORE}, the search for an order compiled"
    commands = {
        "`import pandas`": ("-c", "import pandas"),
        "`import ddx`": ("-c", "import ddx"),
        "`import ddx; ddx.load`": ("-c", "import ddx; ddx.load"),
        "`ddx diagnose`, one case": diagnose,
        nothing: score,
        search: score,
        f"{_SCORE}, everything compiled": score,
    }
    runs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 if quick else 7):
        with TemporaryDirectory() as folder:
            empty = os.environ | {"NUMBA_CACHE_DIR": f"{folder}/compiled"}
            for number, (name, arguments) in enumerate(commands.items()):  # in turn, so that noise meets all alike
                output = [f"{folder}/{number}.csv"] if arguments is score else []
                place = empty if name in (nothing, search) else os.environ
                command = [sys.executable, *arguments, *output]
                run = partial(subprocess.run, command, check=True, capture_output=True, env=place)
                runs[name].append(seconds(run, 1))
    medians = {name: float(np.median(times)) for name, times in runs.items()}
    rows: list[Row] = [
        {"what": name, "seconds": took, "ratio": took / medians["`import pandas`"]} for name, took in medians.items()
    ]
    return Table(
        "Medians of 7 whole processes. In so short a file NumPy works until loading the compiled kernel has paid.",
        {"what": "whole process", "seconds": "seconds", "ratio": "time / `import pandas`"},
        rows,
    )
