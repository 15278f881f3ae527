"""Against other engines, and the network that is too large for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from core import compiled
from networks import drawn_cases, limb_network, panel_cases, random_cases, random_network
from peers import Answer, ask, spare_gib
from report import Row, Table, seconds, show

from ddx.inference import Network, explain_plan, posterior


@dataclass(frozen=True)
class Size:
    """A network, its cases, how many of them the other engines get, and how long they may take."""

    name: str
    net: Network
    cases: np.ndarray
    panel: np.ndarray
    few: int
    timeout: float


def sizes(quick: bool) -> list[Size]:
    rng = np.random.default_rng(2)
    n = 200 if quick else 20_000
    result = []
    for causes, findings, absent, few, width in ((7, 24, 10, 20, 500), (20, 60, 15, 3, 20), (36, 90, 20, 1, 20)):
        net = random_network(rng, causes, findings)
        cases, panel = (make(rng, net, size, 4, absent) for make, size in ((random_cases, n), (panel_cases, width)))
        result.append(Size(f"{causes} x {findings}", net, cases, panel, few, 60.0))
    net = limb_network(context=False)
    panel = panel_cases(rng, net, 20, 4, 20)
    result.append(Size(f"limb, {net.n_causes} x {net.n_findings}", net, drawn_cases(rng, net, n, 4, 20), panel, 1, 60.0))
    return result[:1] if quick else result


def peers(quick: bool, nbn: str) -> Table:
    rows: list[Row] = []
    gib = spare_gib()
    for size in sizes(quick):
        net, some = size.net, size.cases[: size.few]
        score = compiled(net)
        score(some)
        ours = seconds(lambda score=score, size=size: score(size.cases), budget=8.0) / len(size.cases)
        panel = seconds(lambda score=score, size=size: score(size.panel)) / len(size.panel)
        row: Row = {"network": size.name, "present": f"4, {int((some[0] == 0.0).sum())}", "ddx": 1e6 * ours, "difference": 0.0}
        for engine in ("pgmpy", "pyagrum"):
            answer = ask(engine, net.prior, net.link, net.leak, some, size.timeout, sys.executable)
            row[engine] = _ratio(answer, ours)
            row[f"{engine}_least"] = (answer.seconds or (size.timeout if answer.why.startswith(">") else 0.0)) / ours
            if answer.marginal is not None:
                off = np.abs(answer.marginal - posterior(net, some).marginal).max()
                row["difference"] = max(row["difference"], float(off))
        answer = ask("nbn", net.prior, net.link, net.leak, size.panel, min(size.timeout, 30.0), nbn)
        row["nbn"] = _ratio(answer, panel)
        row["nbn_difference"] = (
            "" if answer.marginal is None else float(np.abs(answer.marginal - posterior(net, size.panel).marginal).max())
        )
        if row["difference"] == 0.0:
            row["difference"] = ""
        rows.append(row)
    note = (
        "Time a case of each engine over that of ddx (compiled, 20,000 distinct cases in one call, its microseconds in the "
        "third column); the engine's own seconds in brackets. pgmpy (`VariableElimination`, a query for every cause) and "
        "pyAgrum (`LazyPropagation` on `addNoisyORNet`) get the first of the same cases one after the other: 20 at 7 x 24, 3 "
        "at 20 x 60, 1 otherwise. nbn (`TensorVariableElimination`, PyTorch, CPU, float32) batches only over cases with the "
        "same findings observed: it and ddx get a batch of such cases, 500 at 7 x 24, 20 otherwise. Each engine has a "
        f"process of its own, {gib:.0f} GiB, and 60 s (nbn: 30 s), the model included. Only the observed findings are given "
        "to them; for pgmpy and nbn, findings of more than 16 causes become chains of ORs. Difference: the largest of any "
        "posterior. Limb: its causes and findings for one age and one sex, none of the risk factors present, the levels of "
        "graded findings as findings."
    )
    columns = {
        "network": "network",
        "present": "present, absent",
        "ddx": "ddx, microseconds",
        "pgmpy": "pgmpy / ddx",
        "pyagrum": "pyAgrum / ddx",
        "difference": "difference",
        "nbn": "nbn / ddx",
        "nbn_difference": "difference (float32)",
    }
    return Table(note, columns, rows)


def _ratio(answer: Answer, ours: float) -> object:
    if answer.seconds is None:
        return answer.why
    return f"{show(float(f'{answer.seconds / ours:.3g}'))} ({show(answer.seconds)} s)"


def large(quick: bool) -> Table:
    rng = np.random.default_rng(8)
    rows: list[Row] = []
    for density in (0.0175,) if quick else (0.0175, 0.1):
        net = random_network(rng, 600, 4000, density)
        score = compiled(net)
        cases = random_cases(rng, net, 2 if quick else 5, 20, 40)
        score(cases[:1])
        times = [seconds(lambda case=case, score=score: score(case[None]), 3) for case in cases]
        plans = explain_plan(net, cases)
        worst = int(np.argmax(times))
        rows.append(
            {
                "density": f"{100 * density:g} %",
                "causes": float(np.mean((net.link > 0.0).sum(axis=1))),
                "median": float(np.median(times)),
                "worst": times[worst],
                "width": f"{min(p.width for p in plans)} to {max(p.width for p in plans)}",
                "states": max(p.states for p in plans),
                "gib": float(max(p.gib for p in plans)),
            }
        )
    note = (
        "One case a call, 600 causes x 4,000 findings, 20 findings present and 40 absent at random; 5 cases each. Width, "
        "states and memory as `explain_plan` tells them. The other engines cannot hold it: hundreds of causes meet in the "
        "observed findings, and the tables or cliques over them have far more entries than at 36 x 90, where they end already."
    )
    columns = {
        "density": "links",
        "causes": "causes of a finding",
        "median": "median, seconds",
        "worst": "slowest, seconds",
        "width": "width",
        "states": "most states",
        "gib": "most memory, GiB",
    }
    return Table(note, columns, rows)
