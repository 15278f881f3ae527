"""Pictures of the tables of ddx.sensitivity: each function takes one and returns a matplotlib Figure, 800 pixels wide.

Nothing is shown or saved: ``figure.savefig("tornado.png")`` does that, and notebooks show a Figure that a cell ends with.
matplotlib.pyplot is not imported, so no global state is touched. Without matplotlib every function raises an ImportError that
names the extra to install.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ddx.errors import UsageError
from ddx.sensitivity import LEADING, THRESHOLD

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

_WIDTH, _DPI = 8.0, 100  # inches, dots per inch
# Okabe and Ito's palette, which colour-blind people can tell apart.
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#666666"
_COLOURS = (_BLUE, _RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_HATCH = "/////"
_SMALL, _TINY = 8.0, 7.0  # points
_PROBABILITY = "Posterior probability"
# Row i of a tornado or flip map is centred on y = i: its label above, its bar below.
_LABEL_AT, _BAR_AT, _BAR = -0.22, 0.19, 0.36
# Behind text that crosses a line.
_PLATE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}


def tornado(table: pd.DataFrame, posterior: float, top: int = 15, title: str | None = None) -> Figure:
    """One-way sensitivity: how far each parameter moves the posterior, widest swing on top.

    Parameters
    ----------
    table : of ``sensitivity.one_way``
    posterior : the present posterior of the target, which the bars start from
    top : parameters shown

    Returns
    -------
    Figure: two bars a parameter, to the posterior at the low and at the high end of its interval; where both lie on one side
    of the present posterior, the shorter bar covers a part of the longer. Hatched where the parameter is an expert estimate.

    Raises
    ------
    UsageError
        The table is empty or lacks a column, ``top`` is below 1, or ``posterior`` is no probability.
    """
    _check("tornado", "one_way", table, ("value", "low", "high", "at_low", "at_high", "swing", "cited"), top)
    if not 0.0 <= posterior <= 1.0:
        raise UsageError(f"posterior: got {posterior:g}, expected a probability")
    rows = table.sort_values("swing", ascending=False, kind="stable").head(top)
    figure, axes = _rows(len(rows), title)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ends = rows[["at_low", "at_high"]].to_numpy(dtype=np.float64)
    for i, (name, row) in enumerate(rows.iterrows()):
        _label(axes, i, str(name), f"{_number(row['value'])} ({_number(row['low'])} to {_number(row['high'])})")
        at_low, at_high = ends[i]
        left, right = min(at_low, at_high, posterior), max(at_low, at_high, posterior)
        sides = [("low", at_low, _BLUE, at_low <= at_high), ("high", at_high, _RED, at_low > at_high)]
        # The longer bar first, so that it does not hide the shorter.
        for end, at, colour, leftmost in sorted(sides, key=lambda side: -abs(side[1] - posterior)):
            face, hatch = (colour, None) if row["cited"] else ("white", _HATCH)
            look: dict[str, Any] = {"facecolor": face, "edgecolor": colour, "hatch": hatch}
            axes.barh(i + _BAR_AT, at - posterior, _BAR, posterior, label=f"parameter {end}", **look)
            number = f"{end} {at:.{_decimals(row['swing'])}f}"
            _beside(axes, left if leftmost else right, i, number, leftmost, colour, _TINY)
    axes.axvline(posterior, color="black", linewidth=1.0, zorder=0.5)
    _limits(axes, float(min(ends.min(), posterior)), float(max(ends.max(), posterior)))
    axes.set_xlabel(f"{_PROBABILITY}{_shown(len(rows), len(table), 'parameters')}")
    keys: list[Artist] = [
        Patch(color=_BLUE, label="parameter low"),
        Patch(color=_RED, label="parameter high"),
        Patch(facecolor=_GREY, edgecolor=_GREY, label="cited"),
        Patch(facecolor="white", edgecolor=_GREY, hatch=_HATCH, label="expert estimate"),
        Line2D([], [], color="black", linewidth=1.0, label=f"now: {_number(posterior)}"),
    ]
    _legend(figure, keys)
    return figure


def forest(table: pd.DataFrame, top: int = 15, title: str | None = None) -> Figure:
    """Posteriors of one case with their credible intervals, most probable cause on top.

    Parameters
    ----------
    table : the rows of one case of ``sensitivity.intervals``, causes as index: ``intervals(...).loc[case]``
    top : causes shown

    Returns
    -------
    Figure: a point and a line a cause, and the three numbers beside them. The point (the posterior at the means of the
    parameters) can lie outside of the line.

    Raises
    ------
    UsageError
        The table is empty, lacks a column or holds several cases, or ``top`` is below 1.
    """
    _check("forest", "intervals", table, ("posterior", "low", "high"), top)
    if isinstance(table.index, pd.MultiIndex):
        raise UsageError("forest: got a table with case and cause as index, expected the rows of one case: table.loc[case]")
    rows = table.sort_values("posterior", ascending=False, kind="stable").head(top)
    figure = _figure(0.9 + 0.28 * len(rows), title)
    axes = figure.add_subplot()
    y = np.arange(len(rows))
    axes.hlines(y, rows["low"], rows["high"], color=_BLUE, linewidth=2.0)
    for end in ("low", "high"):
        axes.plot(rows[end], y, "|", color=_BLUE, markersize=7.0)
    axes.plot(rows["posterior"], y, "o", color=_RED, markersize=5.0, label="posterior")
    for i, (_, row) in enumerate(rows.iterrows()):
        numbers = f"{row['posterior']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        axes.text(1.02, i, numbers, transform=axes.get_yaxis_transform(), va="center", fontsize=_SMALL)
    axes.set_yticks(y, [str(cause) for cause in rows.index], fontsize=_SMALL)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0.0, min(1.0, 1.05 * float(rows[["posterior", "high"]].to_numpy().max())) + 0.01)
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    _frame(axes, "left")
    axes.set_xlabel(f"{_PROBABILITY} and its credible interval{_shown(len(rows), len(table), 'causes')}")
    return figure


def sensitivity_curve(
    table: pd.DataFrame, value: float, interval: tuple[float, float] | None = None, title: str | None = None
) -> Figure:
    """The posterior over one parameter, in a colour and line style for each leading cause.

    Parameters
    ----------
    table : of ``sensitivity.curve``
    value : the present value of the parameter; its point lies on the straight line between the rows beside it
    interval : of the parameter, to be shaded

    Returns
    -------
    Figure: dotted vertical lines halfway between two rows with different leading causes.

    Raises
    ------
    UsageError
        The table is empty or lacks a column, ``value`` lies outside of it, or ``interval`` is upside down.
    """
    _check("sensitivity_curve", "curve", table, ("posterior", "leading"))
    table = table.sort_index()
    x, y = table.index.to_numpy(dtype=np.float64), table["posterior"].to_numpy(dtype=np.float64)
    if not x[0] <= value <= x[-1]:
        allowed = f"a number from {x[0]:g} to {x[-1]:g}, where the table ends; give sensitivity.curve other values"
        raise UsageError(f"value: got {value:g}, expected {allowed}")
    if interval is not None and not interval[0] < interval[1]:
        raise UsageError(f"interval: got {interval[0]:g} to {interval[1]:g}, expected the lower end first")
    figure = _figure(4.4, title)
    axes = figure.add_subplot()
    keys: dict[str, Artist] = {}
    leading = table["leading"].astype(str).to_list()
    look = {cause: i for i, cause in enumerate(dict.fromkeys(leading))}
    starts = [0, *(i for i in range(1, len(x)) if leading[i] != leading[i - 1]), len(x)]
    changes = [0.5 * (x[i - 1] + x[i]) for i in starts[1:-1]]
    borders = [x[0], *changes, x[-1]]
    for j, (start, stop) in enumerate(itertools.pairwise(starts)):
        cause = leading[start]
        # Up to the borders, so that the curve has no gaps.
        own = np.unique(np.r_[borders[j], x[start:stop], borders[j + 1]])
        colour, style = _COLOURS[look[cause] % len(_COLOURS)], _STYLES[look[cause] % len(_STYLES)]
        (keys[cause],) = axes.plot(own, np.interp(own, x, y), style, color=colour, linewidth=2.0, label=f"{cause} leads")
    marks = [axes.axvline(c, color=_GREY, linestyle=":", linewidth=1.2, label="the leading cause changes") for c in changes]
    others: list[Artist] = [*marks[:1]]
    now = float(np.interp(value, x, y))
    others += axes.plot([value], [now], "o", color="black", markersize=8.0, label=f"now: {_number(value)}", zorder=3.0)
    if interval is not None:
        label = f"interval: {_number(interval[0])} to {_number(interval[1])}"
        others.append(axes.axvspan(*interval, color="0.92", zorder=0.0, label=label))
    if np.ptp(y) < 1e-6:
        axes.set_ylim(now - 0.05, now + 0.05)
    _numbers(axes)
    _frame(axes)
    axes.set_xlabel(_wrapped(f"Value of {table.index.name}", 80))
    axes.set_ylabel(_PROBABILITY)
    _legend(figure, [*keys.values(), *others], 2)
    return figure


def heat_map(surface: pd.DataFrame, point: tuple[float, float], title: str | None = None) -> Figure:
    """The posterior over two parameters.

    Parameters
    ----------
    surface : of ``sensitivity.surface``: the first parameter upwards, the second to the right
    point : the present values of the first and the second parameter

    Returns
    -------
    Figure: colours, labelled contours (none where the posterior is the same everywhere) and the present values.

    Raises
    ------
    UsageError
        The surface has fewer than two rows or columns.
    """
    rows, columns = surface.shape
    if min(rows, columns) < 2:
        allowed = "a grid of at least two values of each parameter, as sensitivity.surface returns it"
        raise UsageError(f"heat_map: got {rows} rows and {columns} columns, expected {allowed}")
    figure = _figure(5.6, title)
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    axes = figure.add_subplot()
    x, y = (axis.to_numpy(dtype=np.float64) for axis in (surface.columns, surface.index))
    z = surface.to_numpy(dtype=np.float64)
    mesh = axes.pcolormesh(x, y, z, shading="gouraud", cmap="cividis")
    if np.ptp(z) > 1e-9:
        halo: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="white")]
        lines = axes.contour(x, y, z, _round_numbers().tick_values(z.min(), z.max()), colors="black", linewidths=0.9)
        lines.set_path_effects(halo)
        spots = _label_spots(lines, point)
        for text in axes.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=_SMALL, manual=spots) if spots else ():
            text.set_path_effects(halo)
    now = f"now: {_number(point[0])} (up), {_number(point[1])} (right)"
    rim: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 1.5}
    (key,) = axes.plot([point[1]], [point[0]], "o", color=_RED, markersize=11.0, label=now, zorder=4.0, **rim)
    _numbers(axes)
    axes.set_xlabel(_wrapped(str(surface.columns.name), 70))
    axes.set_ylabel(_wrapped(str(surface.index.name), 50))
    bar = figure.colorbar(mesh, ax=axes, label=_PROBABILITY, format=lambda level, _: f"{level:g}")
    bar.ax.tick_params(labelsize=_SMALL)
    _legend(figure, [key])
    return figure


def flip_map(table: pd.DataFrame, top: int = 15, title: str | None = None) -> Figure:
    """How far each parameter must move until another cause leads or an action threshold is crossed, nearest on top.

    Parameters
    ----------
    table : of ``sensitivity.flips``
    top : parameters shown

    Returns
    -------
    Figure: standard deviations to the right, a row a parameter, with the cause that would lead or whose threshold it is.

    Raises
    ------
    UsageError
        The table is empty (no parameter does it within the limit) or lacks a column, or ``top`` is below 1.
    """
    _check("flip_map", "flips", table, ("value", "needed", "deviations", "change", "cause"), top)
    unknown = sorted({str(change) for change in table["change"]} - {LEADING, THRESHOLD})
    if unknown:
        raise UsageError(f"flip_map: got the change {unknown[0]!r}, expected {LEADING!r} or {THRESHOLD!r}")
    rows = table.sort_values("deviations", key=np.abs, kind="stable").head(top)
    figure, axes = _rows(len(rows), title)
    from matplotlib.lines import Line2D

    looks = {LEADING: (_RED, "o", "another cause leads"), THRESHOLD: (_BLUE, "s", "an action threshold is crossed")}
    for z in (-2.0, -1.0, 1.0, 2.0):
        axes.axvline(z, color="0.75", linestyle="--", linewidth=1.0, zorder=0.4)
    axes.axvline(0.0, color="black", linewidth=1.0, zorder=0.5)
    for i, (name, row) in enumerate(rows.iterrows()):
        _label(axes, i, str(name), f"now {_number(row['value'])}, change at {_number(row['needed'])}")
        z = float(row["deviations"])
        colour, marker, _ = looks[row["change"]]
        axes.plot([0.0, z], [i + _BAR_AT] * 2, color=colour, linewidth=1.5)
        axes.plot([z], [i + _BAR_AT], marker, color=colour, markersize=7.0, label=row["change"])
        # On the other side of zero nothing is in the way.
        _beside(axes, 0.0, i, str(row["cause"]), z > 0.0, colour, _SMALL)
    reach = max(2.3, 1.1 * float(rows["deviations"].abs().max()))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(f"Standard deviations that the parameter has to move{_shown(len(rows), len(table), 'parameters')}")
    keys = [Line2D([], [], color=c, marker=m, markersize=7.0, label=label) for c, m, label in looks.values()]
    _legend(figure, keys)
    return figure


def _check(name: str, source: str, table: pd.DataFrame, columns: tuple[str, ...], top: int = 1) -> None:
    if table.empty:
        raise UsageError(f"{name}: got an empty table, expected at least one row of sensitivity.{source}")
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise UsageError(f"{name}: the table lacks the columns {', '.join(missing)}; expected one of sensitivity.{source}")
    if top < 1:
        raise UsageError(f"top: got {top}, expected at least 1")


def _figure(height: float, title: str | None) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "ddx[plots]"') from error

    figure = Figure((_WIDTH, height), _DPI, layout="constrained")
    if title is not None:
        figure.suptitle(_wrapped(title, 85), fontsize=11.0)
    return figure


def _rows(count: int, title: str | None) -> tuple[Figure, Axes]:
    """Axes with one row a parameter, the first on top; ids stand above the bars, where the longest has room."""
    figure = _figure(1.2 + 0.41 * count, title)
    axes = figure.add_subplot()
    axes.set_yticks([])
    axes.set_ylim(count - 0.5, -0.5)
    axes.hlines(
        np.arange(count - 1) + 0.5, 0.0, 1.0, transform=axes.get_yaxis_transform(), color="0.9", linewidth=0.8, zorder=0.2
    )
    axes.tick_params(axis="x", labelsize=_SMALL)
    _frame(axes, "left")
    return figure, axes


def _label(axes: Axes, row: int, name: str, numbers: str) -> None:
    look: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": _SMALL, "bbox": _PLATE}
    axes.text(0.0, row + _LABEL_AT, name, ha="left", **look)
    axes.text(1.0, row + _LABEL_AT, numbers, ha="right", **look)


def _beside(axes: Axes, x: float, row: int, text: str, left: bool, colour: str, size: float) -> None:
    """Text that ends a little to the left of a point of a row's bar, or starts to its right."""
    place: dict[str, Any] = {"xytext": (-5 if left else 5, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
    axes.annotate(text, (x, row + _BAR_AT), va="center", fontsize=size, color=colour, bbox=_PLATE, **place)


def _limits(axes: Axes, low: float, high: float) -> None:
    """Room for the labels at the ends of the bars; ticks at probabilities only."""
    span = max(high - low, 1e-6)
    left, right = low - 0.16 * span, high + 0.16 * span
    axes.set_xlim(left, right)
    ticks = [t for t in _round_numbers().tick_values(left, right) if max(left, 0.0) <= t <= min(right, 1.0)]
    axes.set_xticks(ticks, [f"{t:.9g}" for t in ticks])


def _round_numbers() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(8, steps=[1, 2, 5, 10])


def _label_spots(lines: QuadContourSet, point: tuple[float, float]) -> list[tuple[float, float]]:
    """A place in the middle of each contour that is long enough, away from the present values."""
    now, spots = np.array([point[1], point[0]]), []
    size = np.ptp(lines.axes.dataLim.get_points(), axis=0)
    for path in lines.get_paths():
        pieces = [np.asarray(piece) for piece in path.to_polygons(closed_only=False)]
        line = max(pieces, key=lambda piece: np.ptp(piece / size, axis=0).sum(), default=now[None])
        if np.ptp(line / size, axis=0).sum() > 0.15:
            middle, third = line[len(line) // 2], line[len(line) // 3]
            x, y = third if np.abs((middle - now) / size).sum() < 0.1 else middle
            spots.append((float(x), float(y)))
    return spots


def _numbers(axes: Axes) -> None:
    """Plain numbers at the ticks, without an offset or a power of ten to multiply with."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(_round_numbers())
        axis.set_major_formatter(lambda value, _: f"{value:.9g}")
    axes.tick_params(labelsize=_SMALL)


def _frame(axes: Axes, *without: str) -> None:
    for side in ("top", "right", *without):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure, keys: Sequence[Artist], columns: int = 5) -> None:
    figure.legend(handles=list(keys), loc="outside lower center", ncols=columns, fontsize=_SMALL, frameon=False)


def _number(value: float) -> str:
    return f"{value:.3g}" if value == 0.0 or abs(value) >= 1e-6 else "<1e-6"


def _decimals(swing: float) -> int:
    """Digits after the point that tell the two ends of a bar apart."""
    return int(np.clip(1.0 - np.floor(np.log10(swing)), 3, 7)) if swing > 0.0 else 3


def _shown(shown: int, total: int, what: str) -> str:
    return f" ({shown} of {total} {what})" if shown < total else ""


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))
