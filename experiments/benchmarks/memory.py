"""Peak memory of one process, with a call of the core or without it.

    python memory.py batch|dense SIZE with|without

Prints mebibytes. ``peak`` asks twice: what the call adds.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
from networks import random_cases, random_network

from ddx.inference import Network, posterior


def problem(kind: str, size: int) -> tuple[Network, np.ndarray]:
    """``batch``: SIZE rows, 4 present; ``dense``: one case with SIZE present findings, all linked to all causes."""
    rng = np.random.default_rng(6)
    if kind == "batch":
        net = random_network(rng, 36, 90)
        cases = np.empty((size, 90))
        for block in np.array_split(cases, -(-size // 1000)):  # no peak of its own
            block[:] = random_cases(rng, net, len(block), 4, 20)
        return net, cases
    net = random_network(rng, 36, 90, 1.0)
    return net, random_cases(rng, net, 1, size, 20)


def peak(kind: str, size: int) -> float:
    """MiB that the call adds to the peak of the process."""

    def run(call: str) -> float:
        done = subprocess.run([sys.executable, __file__, kind, str(size), call], check=True, capture_output=True, text=True)
        return float(done.stdout)

    return run("with") - run("without")


def main(kind: str, size: int, call: str) -> None:
    net, cases = problem(kind, size)
    posterior(net, random_cases(np.random.default_rng(0), net, 1, 2, 2), kernel="compiled")
    if call == "with":
        posterior(net, cases, kernel="compiled")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
