"""Benchmarks of the inference core: error, cost, other engines, derivatives, memory, start-up times.

    python experiments/benchmarks/run.py            # everything, some minutes; rewrites README.md and figures/ here
    python experiments/benchmarks/run.py --quick    # small sizes, prints only

Every figure is a ratio or a median from one run on one machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import core
import engines
import tasks
from aims import against_aims
from figures import draw
from report import Table, machine

HERE = Path(__file__).parent
MARK = "<!-- measured -->"

TITLES = {
    "aims": "Against the aims",
    "error": "Error of the posteriors",
    "cost": "Cost against present findings",
    "engines": "Against other engines",
    "large": "The size of QMR-DT",
    "naive": "Against a naive-Bayes product",
    "batch": "Throughput against batch size",
    "derivatives": "Derivatives",
    "many": "Parameter draws and single causes",
    "context": "Unknown context",
    "memory": "Memory",
    "start": "Start",
}
ALT = {
    "error": "Relative error against present findings: Quickscore in float64 loses all digits, ddx none",
    "cost": "Microseconds a case against present findings: ddx NumPy, ddx compiled, Quickscore, naive Bayes",
    "batch": "Cases a second against cases in a call: ddx NumPy, ddx compiled, naive Bayes",
}


def measure(quick: bool, nbn: str) -> dict[str, Table]:
    """Memory first and other engines last: what they leave behind cannot disturb the rest."""
    steps: dict[str, Callable[[], Table]] = {
        "memory": lambda: tasks.memory(quick),
        "start": lambda: tasks.start(quick),
        "error": lambda: core.error(quick),
        "cost": lambda: core.cost(quick),
        "naive": lambda: core.naive(quick),
        "batch": lambda: core.batch(quick),
        "derivatives": lambda: tasks.derivatives(quick),
        "many": lambda: tasks.many(quick),
        "context": lambda: tasks.context(quick),
        "large": lambda: engines.large(quick),
        "engines": lambda: engines.peers(quick, nbn),
    }
    tables = {}
    for name, step in steps.items():
        began = time.perf_counter()
        tables[name] = step()
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small sizes, print only")
    parser.add_argument("--nbn", default=sys.executable, metavar="PYTHON", help="interpreter that has nbn, if another")
    arguments = parser.parse_args()
    tables = measure(arguments.quick, arguments.nbn)
    if not arguments.quick:
        tables["aims"] = against_aims(tables)
        draw(tables, HERE / "figures")
    text = f"{MARK}\n\n{_machine()}\n"
    for name, title in TITLES.items():
        if name in tables:
            figure = f"![{ALT[name]}](figures/{name}.png)\n\n" if name in ALT and not arguments.quick else ""
            text += f"\n## {title}\n\n{figure}{tables[name].markdown().lstrip()}"
    print(text)
    if not arguments.quick:
        readme = HERE / "README.md"
        readme.write_text(readme.read_text(encoding="utf-8").split(MARK)[0] + text, encoding="utf-8")


def _machine() -> str:
    packages = ["ddx", "numpy", "numba", "pandas", "pgmpy", "pyagrum"]
    while True:
        try:
            return machine(packages)
        except PackageNotFoundError as missing:
            packages.remove(str(missing.name))


if __name__ == "__main__":
    main()
