"""Tables, times and numbers as text."""

from __future__ import annotations

import csv
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

Row = dict[str, object]


@dataclass(frozen=True)
class Table:
    """Rows of numbers and text; ``columns`` names what is shown, ``note`` says in a sentence what it is."""

    note: str
    columns: dict[str, str]
    rows: list[Row]

    def markdown(self) -> str:
        """The note and the table."""
        lines = [f"| {' | '.join(self.columns.values())} |", "|---" * len(self.columns) + "|"]
        lines += [f"| {' | '.join(show(row.get(key, '')) for key in self.columns)} |" for row in self.rows]
        return f"{self.note}\n\n" + "\n".join(lines) + "\n"

    def csv(self, path: Path) -> None:
        """The numbers behind it, to six digits."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.columns), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows)

    def column(self, key: str, **where: object) -> list[object]:
        """One column of the rows that match."""
        return [row[key] for row in self.rows if key in row and all(row[k] == v for k, v in where.items())]


def show(value: object) -> str:
    """Text as it is, whole numbers with commas, others to three digits (small ones and errors to one, as a power)."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
    if value == 0.0 or not math.isfinite(value):
        return str(value)
    if abs(value) < 1e-4:
        return f"{value:.0e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def seconds(action: Callable[[], object], repeats: int = 5, budget: float = 2.5) -> float:
    """Median time of some runs, fewer (down to one) where they would take longer than ``budget`` seconds."""
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) + times[-1] < budget):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def per_case(score: Callable[[np.ndarray], object], cases: np.ndarray, target: float = 0.3) -> float:
    """Seconds a case, with as many of the cases at once as take about ``target`` seconds; warm."""
    n = min(4, len(cases))
    score(cases[:n])
    took = min(seconds(lambda: score(cases[:n]), 1) for _ in range(2))
    while n < len(cases) and took < target / 2:
        n = min(len(cases), max(2 * n, int(n * min(target / took, 50.0))))
        took = seconds(lambda n=n: score(cases[:n]), 1)
    return seconds(lambda: score(cases[:n]), budget=6.0 * target) / n


def machine(packages: Sequence[str]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()} ({platform.machine()}), {cores} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
