"""Files of cases: rows a second and memory of ``ddx score``, beside pyarrow reading that input and writing that output.

    python experiments/benchmarks/files.py                  # 1,000,000 rows; rewrites its part of README.md
    python experiments/benchmarks/files.py --rows 20000     # prints only

Patients of limb, 60 columns: case_id, age, sex, all 16 risk factors (known), 41 findings, of which 30 % are stated and 5 %
present (two a case). Each number is the median of ``--repeats`` whole processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from report import Row, Table, machine

import ddx

HERE = Path(__file__).parent
START, END = "<!-- files -->", "<!-- end of files -->"
STATED, PRESENT, FINDINGS = 0.3, 0.05, 41


def cases(rows: int, seed: int = 0) -> pa.Table:
    """Random patients; implausible pairs of findings occur and are rejected like those of any file."""
    model = ddx.load("limb", "primary_care")
    kb, rng = model.knowledge, np.random.default_rng(seed)
    plain = [f.id for f in kb.findings.values() if not f.graded]
    columns = {
        "case_id": [f"c{i}" for i in range(rows)],
        "age": rng.integers(18, 95, rows),
        "sex": rng.choice(["female", "male"], rows),
    }
    frequency = model.network.context_prior.mean(axis=(0, 1))
    for factor, p in zip(kb.risk_factors, frequency, strict=True):
        columns[factor.id] = (rng.random(rows) < p).astype(int)
        if factor.requires:
            columns[factor.id] = columns[factor.id] * columns[factor.requires]
    for finding in rng.choice(plain, FINDINGS, replace=False).tolist():
        drawn = rng.random(rows)
        columns[finding] = pa.array((drawn < PRESENT).astype(float), mask=drawn >= STATED)
    return pa.table(columns)


def measure(rows: int, repeats: int, folder: Path) -> Table:
    """CSV and Parquet, whole and a tenth of the rows."""
    found: list[Row] = []
    for size in (rows // 10, rows):
        table = cases(size)
        for kind in ("csv", "parquet"):
            source, target, plain = folder / f"in.{kind}", folder / f"out.{kind}", folder / f"plain.{kind}"
            _write(table, source)
            took, peak = zip(*(_score(source, target) for _ in range(repeats)), strict=True)
            result = _read(target)
            read = _seconds(lambda source=source: _read(source), repeats)
            written = _seconds(lambda result=result, plain=plain: _write(result, plain), repeats)
            seconds = statistics.median(took)
            found.append(
                {
                    "format": kind,
                    "rows": size,
                    "seconds": seconds,
                    "speed": int(size / seconds),
                    "read": read,
                    "write": written,
                    "ratio": seconds / (read + written),
                    "mib": max(peak),
                }
            )
    columns = {
        "format": "format",
        "rows": "rows",
        "seconds": "`ddx score`, s",
        "speed": "rows/s",
        "read": "pyarrow reads, s",
        "write": "pyarrow writes, s",
        "ratio": "ratio (aim: 2)",
        "mib": "peak, MiB (aim: 1,024)",
    }
    note = (
        f"Whole processes, start included (median of {repeats}); pyarrow reads that input and writes that output on all cores. "
        f"Peak: largest resident memory of the process."
    )
    return Table(note, columns, found)


# The peak of the child itself: what os.wait4 reports of it begins with the size of its parent.
_CHILD = """
import atexit, sys
from pathlib import Path
from ddx.cli import main

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")), file=sys.stderr)

atexit.register(peak)
main()
"""


def measure_intervals(rows: int, draws: int, folder: Path) -> str:
    """What columns of intervals cost."""
    source, target = folder / "intervals.csv", folder / "intervals_out.csv"
    _write(cases(rows), source)
    seconds, peak = _score(source, target, "--intervals", str(draws))
    return f"With `--intervals {draws}`: {rows:,} rows of CSV in {seconds:.3g} s, {peak:.0f} MiB at most (one run)."


def _score(source: Path, target: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak MiB of one process (Linux)."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _CHILD, "score", source, "-o", target, "--setting", "primary_care", "-q", *options]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return time.perf_counter() - began, int(done.stderr.split()[-1]) / 2**10


def _read(path: Path) -> pa.Table:
    return pc.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".csv":
        pc.write_csv(table, path)
    else:
        pq.write_table(table, path)


def _seconds(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(arguments.rows, arguments.repeats, Path(folder))
        intervals = measure_intervals(arguments.rows // 100, 100, Path(folder))
    packages = ["ddx", "numpy", "numba", "pandas", "pyarrow"]
    text = f"{machine(packages)} Run on {datetime.now(UTC):%Y-%m-%d}.\n\n{table.markdown()}\n\n{intervals}"
    print(text)
    if arguments.rows == 1_000_000:
        readme = HERE / "README.md"
        head, _, rest = readme.read_text(encoding="utf-8").partition(START)
        readme.write_text(f"{head}{START}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
