"""Benchmarks of the inference core: error, throughput against other engines, start-up times.

    python experiments/benchmarks/run.py            # everything, some minutes; rewrites README.md here
    python experiments/benchmarks/run.py --quick    # small sizes, prints only

Every figure is a ratio or a median from one run on one machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mpmath
import numpy as np

from ddx.inference import Network, posterior

HERE = Path(__file__).parent
MARK = "<!-- measured -->"


def random_network(rng: np.random.Generator, causes: int, findings: int, density: float = 0.3) -> Network:
    link = rng.uniform(0.05, 0.9, (findings, causes)) * (rng.random((findings, causes)) < density)
    return Network(rng.uniform(0.001, 0.1, causes), link, rng.uniform(0.001, 0.1, findings))


def random_cases(rng: np.random.Generator, net: Network, n: int, present: int, absent: int) -> np.ndarray:
    evidence = np.full((n, net.n_findings), np.nan)
    for row in evidence:
        order = rng.permutation(net.n_findings)
        row[order[:present]] = 1.0
        row[order[present : present + absent]] = 0.0
    return evidence


def drawn_case(rng: np.random.Generator, net: Network, present: int, absent: int) -> np.ndarray:
    """A case that the network itself makes: about the most probable evidence with so many present findings."""
    while True:
        cause = rng.random(net.n_causes) < np.minimum(10.0 * net.prior, 0.5)
        p = 1.0 - (1.0 - net.leak) * np.prod(np.where(cause, 1.0 - net.link, 1.0), axis=1)
        finding = rng.random(net.n_findings) < p
        on, off = np.flatnonzero(finding), np.flatnonzero(~finding)
        if len(on) >= present:
            row = np.full(net.n_findings, np.nan)
            row[rng.permutation(on)[:present]] = 1.0
            row[rng.permutation(off)[:absent]] = 0.0
            return row


def quickscore(net: Network, evidence: np.ndarray, number: Callable[[float], object]) -> tuple[object, list[object]]:
    """P(e) and P(cause, e) by inclusion-exclusion over the present findings (Heckerman 1989), in any arithmetic."""
    one = number(1.0)
    on, off = np.flatnonzero(evidence == 1.0), np.flatnonzero(evidence == 0.0)
    absent_leak = one
    for f in off:
        absent_leak *= one - number(net.leak[f])
    prior = [number(p) for p in net.prior]
    eta = list(prior)
    for k in range(net.n_causes):
        for f in off:
            eta[k] *= one - number(net.link[f, k])
    total, joint = number(0.0), [number(0.0)] * net.n_causes

    def visit(position: int, sign: object, escape: list[object]) -> None:
        nonlocal total
        if position == len(on):
            factors = [one - p + e for p, e in zip(prior, escape, strict=True)]
            product = sign
            for factor in factors:
                product *= factor
            total += product
            for k, factor in enumerate(factors):
                joint[k] += product / factor * escape[k]
            return
        f = on[position]
        visit(position + 1, sign, escape)
        none = [e * (one - number(w)) if w else e for e, w in zip(escape, net.link[f], strict=True)]
        visit(position + 1, -sign * (one - number(net.leak[f])), none)

    visit(0, absent_leak, eta)
    return total, joint


def error_table(sizes: list[int]) -> list[str]:
    mpmath.mp.dps = 80
    rng = np.random.default_rng(1)
    net = random_network(rng, 36, 90)
    lines = ["| present findings | P(evidence) | Quickscore, float64 | ddx |", "|---|---|---|---|"]
    for m, kind in [*((m, "drawn") for m in sizes), (sizes[-1], "improbable")]:
        case = drawn_case(rng, net, m, 20) if kind == "drawn" else random_cases(rng, net, 1, m, 60)[0]
        exact, exact_joint = quickscore(net, case, mpmath.mpf)
        result = posterior(net, case[None])
        plain, plain_joint = quickscore(net, case, float)
        truth = [j / exact for j in exact_joint]
        ours = max(abs(result.marginal[0, k] - t) / t for k, t in enumerate(truth))
        quick = max(abs(plain_joint[k] / plain - t) / t for k, t in enumerate(truth)) if plain else float("inf")
        label = f"{m}{', improbable' if kind == 'improbable' else ''}"
        lines.append(f"| {label} | {float(exact):.0e} | {float(quick):.0e} | {float(ours):.0e} |")
    return lines


def seconds(action: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def kernels(net: Network, cases: np.ndarray) -> tuple[float, float]:
    """Seconds a case with the NumPy and with the compiled kernel, the latter once it is loaded."""
    posterior(net, cases[:1], kernel="compiled")
    numpy, compiled = (seconds(lambda k=k: posterior(net, cases, kernel=k)) / len(cases) for k in ("numpy", "compiled"))
    return numpy, compiled


def pgmpy_seconds(net: Network, cases: np.ndarray) -> float:
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

    causes = [f"c{k}" for k in range(net.n_causes)]
    model = DiscreteBayesianNetwork()
    model.add_nodes_from(causes)
    for k, cause in enumerate(causes):
        model.add_cpds(TabularCPD(cause, 2, [[1 - net.prior[k]], [net.prior[k]]]))
    for f in range(net.n_findings):
        parents = np.flatnonzero(net.link[f])
        absent = np.array(1.0 - net.leak[f])
        for k in parents:
            absent = np.stack([absent, absent * (1.0 - net.link[f, k])], axis=-1)
        flat = absent.reshape(1, -1)
        model.add_node(f"f{f}")
        model.add_edges_from((causes[k], f"f{f}") for k in parents)
        names = [causes[k] for k in parents] or None
        model.add_cpds(TabularCPD(f"f{f}", 2, np.vstack([flat, 1.0 - flat]), names, [2] * len(parents) or None))
    engine = VariableElimination(model)

    def run() -> None:
        for row in cases:
            observed = {f"f{f}": int(row[f]) for f in np.flatnonzero(~np.isnan(row))}
            for cause in causes:
                engine.query([cause], evidence=observed, show_progress=False)

    return seconds(run, 1) / len(cases)


def pyagrum_seconds(net: Network, cases: np.ndarray) -> float:
    import pyagrum

    model = pyagrum.BayesNet()
    for k in range(net.n_causes):
        model.add(pyagrum.LabelizedVariable(f"c{k}", "", 2))
        model.cpt(f"c{k}").fillWith([1.0 - net.prior[k], net.prior[k]])
    for f in range(net.n_findings):
        model.addNoisyORNet(pyagrum.LabelizedVariable(f"f{f}", "", 2), float(net.leak[f]))
        for k in np.flatnonzero(net.link[f]):
            model.addWeightedArc(f"c{k}", f"f{f}", float(net.link[f, k]))
    targets = {f"c{k}" for k in range(net.n_causes)}

    def run() -> None:
        for row in cases:
            engine = pyagrum.LazyPropagation(model)
            engine.setEvidence({f"f{f}": int(row[f]) for f in np.flatnonzero(~np.isnan(row))})
            engine.setTargets(targets)
            engine.makeInference()
            for target in targets:
                engine.posterior(target)

    return seconds(run, 1) / len(cases)


def engine_table(quick: bool) -> list[str]:
    lines = [
        "| network | present, absent | ddx, microseconds a case | compiled | pgmpy / compiled | pyAgrum / compiled |",
        "|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(2)
    sizes = [(7, 24, 4, 10)] if quick else [(7, 24, 4, 10), (20, 60, 4, 15), (36, 90, 4, 20)]
    for causes, findings, on, off in sizes:
        net = random_network(rng, causes, findings)
        cases = random_cases(rng, net, 4000, on, off)
        numpy, ours = kernels(net, cases)
        some = cases[: 3 if quick or causes > 7 else 10]
        pgmpy = f"{pgmpy_seconds(net, some) / ours:,.0f}" if causes <= 20 else "not run"
        agrum = f"{pyagrum_seconds(net, some) / ours:,.0f}" if causes <= 20 else "not run"
        lines.append(f"| {causes} x {findings} | {on}, {off} | {numpy * 1e6:.1f} | {ours * 1e6:.1f} | {pgmpy} | {agrum} |")
    return lines


def throughput_table(quick: bool) -> list[str]:
    lines = [
        "| present findings, 36 x 90 | ddx, microseconds a case | compiled | compiled / naive-Bayes product |",
        "|---|---|---|---|",
    ]
    rng = np.random.default_rng(3)
    net = random_network(rng, 36, 90)
    log_ratio = rng.normal(size=(90, 36))
    for m in (2, 4, 6) if quick else (2, 4, 6, 8, 10, 12):
        cases = random_cases(rng, net, 10000 if m <= 6 else 400, m, 20)
        numpy, ours = kernels(net, cases)
        known = np.nan_to_num(cases)
        naive = seconds(lambda known=known: np.exp(known @ log_ratio)) / len(cases)
        lines.append(f"| {m} | {numpy * 1e6:.1f} | {ours * 1e6:.1f} | {ours / naive:.0f} |")
    return lines


def start_table(quick: bool) -> list[str]:
    def process(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return seconds(lambda: subprocess.run(command, check=True, capture_output=True), 3 if quick else 9)

    pandas = process("-c", "import pandas")
    rows = {
        "`import ddx`": process("-c", "import ddx"),
        "`import ddx; ddx.load`": process("-c", "import ddx; ddx.load"),
        "`ddx diagnose`, one case": process(
            "-m", "ddx", "diagnose", "--present", "ptosis", "--present", "diplopia", "--age", "34"
        ),
    }
    lines = ["| whole process | time / `import pandas` |", "|---|---|"]
    return lines + [f"| {name} | {value / pandas:.2f} |" for name, value in rows.items()]


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "pandas", "pgmpy", "pyagrum"))
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {packages}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small sizes, print only")
    quick = parser.parse_args().quick
    sections = {
        "Error of the posteriors": error_table([4, 6] if quick else [4, 8, 10, 12, 14, 16]),
        "Against other engines": engine_table(quick),
        "Throughput": throughput_table(quick),
        "Start": start_table(quick),
    }
    text = f"{MARK}\n\n{machine()}\n" + "".join(
        f"\n### {name}\n\n" + "\n".join(lines) + "\n" for name, lines in sections.items()
    )
    print(text)
    if not quick:
        readme = HERE / "README.md"
        before = readme.read_text(encoding="utf-8").split(MARK)[0]
        readme.write_text(before + text, encoding="utf-8")


if __name__ == "__main__":
    main()
