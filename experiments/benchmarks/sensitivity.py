"""Sensitivity of one case of limb, beside the same posteriors from networks built one by one.

    python experiments/benchmarks/sensitivity.py             # rewrites its part of README.md
    python experiments/benchmarks/sensitivity.py --quick     # prints only

Each number is the median of ``--repeats`` calls after a first one; that first one, which also fills what serves all cases, is
told as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from report import Row, Table, machine

import ddx
from ddx import sensitivity
from ddx.draws import posterior_draws
from ddx.network import build_network
from ddx.sensitivity.case import relevant

HERE = Path(__file__).parent
START, END = "<!-- sensitivity -->", "<!-- end of sensitivity -->"
FINDINGS = {
    "present": ["foot_numbness", "paraesthesia", "gradual_onset"],
    "absent": ["neck_pain", "back_pain", "babinski_sign"],
}


def measure(repeats: int, draws: int) -> Table:
    model = ddx.load("limb", "primary_care")
    nothing = dict.fromkeys(model.network.risk_factors, False)
    rows: list[Row] = []
    for name, context in (("risk factors known", nothing), ("risk factors unknown", {})):
        case = model.diagnose(**FINDINGS, age=64, sex="male", context=context)
        target = case.posterior.index[0]
        parameters = relevant(model, case.evidence)
        one = _of_a_network(model, case, parameters)
        tasks: dict[str, tuple[int, Callable[[], object]]] = {
            "`one_way`": (4 * len(parameters), lambda case=case, target=target: sensitivity.one_way(model, case, target)),
            "`flips`": (12 * len(parameters), lambda case=case: sensitivity.flips(model, case)),
            f"{draws:,} draws": (draws, lambda case=case: posterior_draws(model, case.evidence, draws, 0)),
        }
        for task, (posteriors, action) in tasks.items():
            first = _seconds(action)
            took = statistics.median(_seconds(action) for _ in range(repeats))
            row: Row = {"case": name, "task": task, "first": first, "seconds": took, "posteriors": posteriors}
            rows.append(row | {"ratio": posteriors * one / took})
    columns = {
        "case": "case",
        "task": "task",
        "first": "first call, s",
        "seconds": "seconds",
        "posteriors": "posteriors behind it",
        "ratio": "networks one by one / this",
    }
    note = (
        "Three findings present, three absent, age and sex known. *Posteriors behind it*: four values of every parameter, "
        "twelve for the flips (at least: each is then bisected), one a draw. *One by one*: so many times `build_network` and "
        "`posterior` (median of 30, values of the parameters)."
    )
    return Table(note, columns, rows)


def _of_a_network(model: ddx.Model, case: ddx.Diagnosis, parameters: list[str]) -> float:
    """Seconds of a network with another value of one parameter, and its posterior."""
    rng = np.random.default_rng(0)
    times = []
    for name in rng.choice(parameters, 30).tolist():
        value = {name: 0.9 * model.knowledge.means[name]}
        times.append(
            _seconds(lambda value=value: build_network(model.knowledge, model.setting, value).posterior(case.evidence))
        )
    return statistics.median(times)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat, few draws, prints only")
    arguments = parser.parse_args()
    table = measure(1, 200) if arguments.quick else measure(arguments.repeats, 10_000)
    text = f"{machine(['ddx', 'numpy', 'numba'])} Run on {datetime.now(UTC):%Y-%m-%d}.\n\n{table.markdown()}"
    print(text)
    if not arguments.quick:
        readme = HERE / "README.md"
        head, _, rest = readme.read_text(encoding="utf-8").partition(START)
        readme.write_text(f"{head}{START}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
