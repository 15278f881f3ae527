"""The figures of the benchmarks; each is drawn from a table that is written beside it as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from report import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, NUMPY, OTHER, FLOOR = "#0b6e4f", "#4fa583", "#c1432e", "#8a8a8a"


def draw(tables: dict[str, Table], folder: Path) -> None:
    """error, cost and batch as PNG (800 pixels wide) and CSV."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    style = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    for name, paint in (("error", _error), ("cost", _cost), ("batch", _batch)):
        with mpl.rc_context(style):
            figure, axes = plt.subplots(figsize=(8.0, 4.4), dpi=100, layout="constrained")
            axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
            axes.set_axisbelow(True)
            paint(axes, tables[name])
            # no date and no version in the file: equal numbers give equal files
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})
            plt.close(figure)
        tables[name].csv(folder / f"{name}.csv")


def _error(axes: Axes, table: Table) -> None:
    for kind, line in (("improbable", "-"), ("drawn", "--")):
        x = table.column("present", kind=kind)
        for key, name, color, marker in (("quickscore", "Quickscore, float64", OTHER, "s"), ("ddx", "ddx", OURS, "o")):
            axes.plot(x, table.column(key, kind=kind), line, color=color, marker=marker, ms=5, label=f"{name}: {kind} evidence")
    axes.axhline(1.0, color="#555555", linewidth=0.8)
    axes.annotate("100 %: no digit is right", (min(x), 1.0), (0, 5), textcoords="offset points", color="#333333", fontsize=10)
    axes.axhline(1e-12, color=OURS, linewidth=0.8, linestyle=":")
    axes.annotate("aim: 1e-12", (max(x), 1e-12), (0, 4), textcoords="offset points", color=OURS, ha="right", fontsize=10)
    axes.set(yscale="log", xlabel="present findings", ylabel="largest relative error", xticks=x)
    axes.set_ylim(1e-17, 1e2)
    axes.set_title("Error of the posteriors against 80-digit arithmetic, 36 causes x 90 findings", loc="left", fontsize=12)
    handles, labels = axes.get_legend_handles_labels()
    order = [0, 2, 1, 3]
    axes.figure.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=2, fontsize=10
    )


def _lines(axes: Axes, table: Table, x: str, lines: tuple[tuple[str, str, str, str], ...]) -> None:
    """Lines with their names at their right ends, no two closer than a line of text."""
    at = table.column(x)
    for key, _, color, marker in lines:
        axes.plot(at, table.column(key), color=color, marker=marker, ms=5)
    axes.set_yscale("log")
    axes.figure.canvas.draw()
    ends = sorted((axes.transData.transform((at[-1], table.column(k)[-1]))[1], name, color) for k, name, color, _ in lines)
    right = axes.transData.transform((at[-1], 1.0))[0]
    below = -1e9
    for height, name, color in ends:
        placed = max(height, below + 17.0)
        below = placed
        axes.annotate(
            name,
            axes.transAxes.inverted().transform((right + 9.0, placed)),
            xycoords="axes fraction",
            va="center",
            color=color,
            annotation_clip=False,
        )


def _cost(axes: Axes, table: Table) -> None:
    axes.set(xlabel="present findings", ylabel="microseconds a case", xticks=table.column("present"))
    axes.set_title("Cost of a case, 36 causes x 90 findings, 20 absent", loc="left", fontsize=12)
    lines = (
        ("numpy", "ddx, NumPy", NUMPY, "v"),
        ("compiled", "ddx, compiled", OURS, "o"),
        ("quickscore", "Quickscore", OTHER, "s"),
        ("naive", "naive Bayes", FLOOR, "x"),
    )
    _lines(axes, table, "present", lines)


def _batch(axes: Axes, table: Table) -> None:
    axes.set(xscale="log", xlabel="cases in a call", ylabel="cases a second")
    axes.set_title("Throughput, 36 causes x 90 findings, 4 present, 20 absent", loc="left", fontsize=12)
    lines = (
        ("numpy", "ddx, NumPy", NUMPY, "v"),
        ("compiled", "ddx, compiled", OURS, "o"),
        ("naive", "naive Bayes", FLOOR, "x"),
    )
    _lines(axes, table, "batch", lines)
