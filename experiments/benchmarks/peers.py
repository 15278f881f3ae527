"""Other engines on the same network and cases, one process each, so that time and memory can be limited.

    python peers.py ENGINE CASES.npz GIBIBYTES

Needs NumPy and the engine only. Prints a line of JSON: {"built": true} when the model stands, {"seconds": per case} at the end,
or {"error": why}; posteriors go to CASES.npz.out.npy. ``ask`` is the other side of that.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_PARENTS = 16

# Node -> parents, P(node absent | parents) with an axis for each parent.
Nodes = dict[str, tuple[list[str], np.ndarray]]


def spare_gib() -> float:
    """Four fifths of the memory that is free now: what an engine may take."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return 8.0
    kib = next(line.split()[1] for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("MemAvailable"))
    return round(0.8 * int(kib) / 2**20, 1)


@dataclass(frozen=True)
class Answer:
    """Seconds a case, or why there is none; the posteriors (N, K) of the cases."""

    seconds: float | None
    why: str = ""
    marginal: np.ndarray | None = None


def ask(
    engine: str, prior: np.ndarray, link: np.ndarray, leak: np.ndarray, cases: np.ndarray, timeout: float, python: str
) -> Answer:
    """An engine on some cases, in a process of its own that ends after ``timeout`` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.npz"
        np.savez(path, prior=prior, link=link, leak=leak, cases=cases)
        command = [python, __file__, engine, str(path), str(spare_gib())]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as expired:
            printed = expired.stdout or ""
            built = "built" in (printed.decode() if isinstance(printed, bytes) else printed)
            return Answer(None, f"> {timeout:.0f} s" if built else f"> {timeout:.0f} s to build the model")
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        last = said[-1] if said else {}
        if "seconds" in last:
            return Answer(last["seconds"], "", np.load(f"{path}.out.npy"))
        return Answer(None, last.get("error") or f"ended with code {done.returncode}")


def nodes_of(prior: np.ndarray, link: np.ndarray, leak: np.ndarray, observed: np.ndarray) -> Nodes:
    """The observed findings as tables; more than MAX_PARENTS causes become a chain of ORs (parent divorcing)."""
    nodes: Nodes = {f"c{k}": ([], np.array(1.0 - p)) for k, p in enumerate(prior)}
    for f in observed:
        causes = np.flatnonzero(link[f])
        if len(causes) <= MAX_PARENTS:
            absent = np.array(1.0 - leak[f])
            for k in causes:
                absent = np.stack([absent, absent * (1.0 - link[f, k])], axis=-1)
            nodes[f"f{f}"] = ([f"c{k}" for k in causes], absent)
            continue
        before = f"f{f}_leak"
        nodes[before] = ([], np.array(1.0 - leak[f]))
        for k in causes:
            node = f"f{f}" if k == causes[-1] else f"f{f}_c{k}"
            nodes[node] = ([before, f"c{k}"], np.array([[1.0, 1.0 - link[f, k]], [0.0, 0.0]]))
            before = node
    return nodes


def observed_of(row: np.ndarray) -> dict[str, int]:
    return {f"f{f}": int(row[f]) for f in np.flatnonzero(~np.isnan(row))}


def pgmpy_engine(prior: np.ndarray, link: np.ndarray, leak: np.ndarray, cases: np.ndarray) -> Callable[[], np.ndarray]:
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

    nodes = nodes_of(prior, link, leak, np.flatnonzero(~np.isnan(cases).all(axis=0)))
    model = DiscreteBayesianNetwork()
    model.add_nodes_from(nodes)
    model.add_edges_from((parent, node) for node, (parents, _) in nodes.items() for parent in parents)
    for node, (parents, absent) in nodes.items():
        flat = absent.reshape(1, -1)
        model.add_cpds(TabularCPD(node, 2, np.vstack([flat, 1.0 - flat]), parents or None, [2] * len(parents) or None))
    engine = VariableElimination(model)

    def run() -> np.ndarray:
        marginal = np.empty((len(cases), len(prior)))
        for i, row in enumerate(cases):
            for k in range(len(prior)):
                factor = engine.query([f"c{k}"], evidence=observed_of(row), show_progress=False)
                marginal[i, k] = factor.values[1]
        return marginal

    return run


def pyagrum_engine(prior: np.ndarray, link: np.ndarray, leak: np.ndarray, cases: np.ndarray) -> Callable[[], np.ndarray]:
    import pyagrum

    model = pyagrum.BayesNet()
    for k, p in enumerate(prior):
        model.add(pyagrum.LabelizedVariable(f"c{k}", "", 2))
        model.cpt(f"c{k}").fillWith([1.0 - p, p])
    for f in np.flatnonzero(~np.isnan(cases).all(axis=0)):
        model.addNoisyORNet(pyagrum.LabelizedVariable(f"f{f}", "", 2), float(leak[f]))
        for k in np.flatnonzero(link[f]):
            model.addWeightedArc(f"c{k}", f"f{f}", float(link[f, k]))

    def run() -> np.ndarray:
        marginal = np.empty((len(cases), len(prior)))
        for i, row in enumerate(cases):
            engine = pyagrum.LazyPropagation(model)
            engine.setEvidence(observed_of(row))
            engine.setTargets({f"c{k}" for k in range(len(prior))})
            engine.makeInference()
            marginal[i] = [engine.posterior(f"c{k}")[1] for k in range(len(prior))]
        return marginal

    return run


def nbn_engine(prior: np.ndarray, link: np.ndarray, leak: np.ndarray, cases: np.ndarray) -> Callable[[], np.ndarray]:
    """All cases in one batch for every cause; they have the same findings observed."""
    import torch
    from nbn import CategoricalTableMechanism, NeuralBayesianNetwork
    from nbn.inference import TensorVariableElimination

    panel = np.flatnonzero(~np.isnan(cases[0]))
    nodes = nodes_of(prior, link, leak, panel)
    edges = [(parent, node) for node, (parents, _) in nodes.items() for parent in parents]
    model = NeuralBayesianNetwork(edges, variables=dict.fromkeys(nodes, ("discrete", 2)), device="cpu")
    for node, (parents, absent) in nodes.items():
        order = [parents.index(p) for p in model.dag.parents(node)]
        flat = np.transpose(absent, order).reshape(-1)
        table = CategoricalTableMechanism()
        table.fit_from_counts(torch.tensor(np.stack([flat, 1.0 - flat], axis=1)), [2] * len(parents))
        model.set_mechanism(node, table)
    values = {f"f{f}": torch.tensor(cases[:, f].astype(np.int64)) for f in panel}
    engine = TensorVariableElimination(memory_budget=spare_gib() * 2**30)

    def run() -> np.ndarray:
        answers = [model.query_batch([f"c{k}"], values, engine=engine)[:, 1] for k in range(len(prior))]
        return torch.stack(answers, dim=1).detach().numpy().astype(np.float64)

    return run


ENGINES = {"pgmpy": pgmpy_engine, "pyagrum": pyagrum_engine, "nbn": nbn_engine}


def main(engine: str, path: str, gib: float) -> None:
    said = sys.stdout
    sys.stdout = sys.stderr
    given = np.load(path)

    def say(**message: object) -> None:
        print(json.dumps(message), file=said, flush=True)

    try:
        if engine != "nbn":  # PyTorch reserves more address space than it uses; nbn watches its memory itself.
            resource.setrlimit(resource.RLIMIT_AS, (int(gib * 2**30),) * 2)
        run = ENGINES[engine](given["prior"], given["link"], given["leak"], given["cases"])
        say(built=True)
        start = time.perf_counter()
        marginal = run()
        if (took := time.perf_counter() - start) < 1.0:  # once more, warm
            start = time.perf_counter()
            marginal = run()
            took = time.perf_counter() - start
    except ImportError as error:
        say(error=f"not installed ({error.name})")
    except Exception as error:
        memory = any(word in f"{type(error).__name__} {error}".lower() for word in ("memory", "alloc"))
        say(error=f"out of memory ({gib:.1f} GiB)" if memory else f"{type(error).__name__}: {str(error)[:80]}")
    else:
        np.save(f"{path}.out.npy", marginal)
        say(seconds=took / len(marginal))
    said.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
