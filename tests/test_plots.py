"""Pictures: what they show is what the tables hold, in this order, and no two texts lie on each other."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgba
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import ddx
from ddx import plots, sensitivity
from ddx.errors import UsageError

CASE = {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"}
LONG = (
    "link:functional_neurological_disorder:fatigable_weakness",
    "link:functional_neurological_disorder:unilateral_sensory_symptoms",
    "link:transient_nerve_compression:unilateral_sensory_symptoms",
)


def texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, laid out."""
    FigureCanvasAgg(figure).draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    inside = figure.bbox
    # Tick labels beyond the limits exist and are not drawn.
    off = {
        label
        for axes in figure.axes
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(limits) <= tick.get_loc() <= max(limits)
    }
    found = [t for t in found if t not in off]
    for t in found:
        box = t.get_window_extent()
        assert inside.x0 <= box.x0, t
        assert box.x1 <= inside.x1, t
        assert inside.y0 <= box.y0, t
        assert box.y1 <= inside.y1, t
    return found


def apart(figure: Figure) -> None:
    """No text overlaps another one, and the picture is 800 pixels wide."""
    assert figure.bbox.width == 800.0
    for a, b in itertools.combinations(texts(figure), 2):
        assert not a.get_window_extent().padded(-1.0).overlaps(b.get_window_extent().padded(-1.0)), (a, b)


def bars(figure: Figure) -> dict[tuple[float, str], Rectangle]:
    """Row of the tornado and end -> bar."""
    return {
        (round(bar.get_y(), 6), container.get_label().removeprefix("parameter ")): bar
        for container in figure.axes[0].containers
        for bar in container
    }


def legend(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.legends[0].get_texts()]


def one_way(n: int = 3, **columns: object) -> pd.DataFrame:
    swing = np.linspace(0.3, 1e-4, n)
    names = [*LONG, *(f"leak:finding_{i}" for i in range(n))][:n]
    table = {
        "value": 0.2,
        "low": 0.1,
        "high": 0.4,
        "at_low": 0.5 - swing / 3,
        "at_high": 0.5 + 2 * swing / 3,
        "swing": swing,
        "cited": [i % 2 == 0 for i in range(n)],
    }
    return pd.DataFrame(table | columns, index=pd.Index(names, name="parameter"))


def flips(n: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "value": 0.0012,
            "needed": 0.0028,
            "deviations": [0.02, -1.5, 3.9, 4.0][:n],
            "change": ["leading cause", "action threshold", "leading cause", "action threshold"][:n],
            "cause": ["functional_neurological_disorder", "functional_neurological_disorder", "stroke", "anaemia"][:n],
        },
        index=pd.Index([*LONG, "prior:anaemia"][:n], name="parameter"),
    )


def curve(leading: list[str], posterior: list[float]) -> pd.DataFrame:
    index = pd.Index(np.linspace(0.1, 0.9, len(leading)), name=LONG[0])
    return pd.DataFrame({"posterior": posterior, "leading": leading}, index=index)


def grid(z: object) -> pd.DataFrame:
    values = np.asarray(z, dtype=np.float64)
    index = pd.Index(np.linspace(0.1, 0.3, values.shape[0]), name=LONG[0])
    return pd.DataFrame(values, index=index, columns=pd.Index(np.linspace(0.01, 0.05, values.shape[1]), name=LONG[1]))


def test_a_tornado_shows_the_table_widest_on_top(tiny):
    table = sensitivity.one_way(tiny, CASE, "stroke")
    now = float(tiny.diagnose(**CASE).posterior["stroke"])
    figure = plots.tornado(table.sample(frac=1.0, random_state=1), now, top=12)
    widest = table.sort_values("swing", ascending=False).head(12)
    assert widest["cited"].nunique() == 2
    drawn = bars(figure)
    heights = sorted({y for y, _ in drawn})
    assert len(drawn) == 24
    assert len(heights) == 12
    axes = figure.axes[0]
    assert axes.yaxis_inverted()
    for y, (name, row) in zip(heights, widest.iterrows(), strict=True):
        for end, colour in (("low", "#0072B2"), ("high", "#D55E00")):
            bar = drawn[y, end]
            assert bar.get_x() == pytest.approx(now, abs=0.0)
            assert bar.get_x() + bar.get_width() == pytest.approx(row[f"at_{end}"], rel=1e-12)
            assert to_hex(bar.get_edgecolor()).upper() == colour
            assert (bar.get_hatch() is None) == row["cited"], name
            assert bar.get_facecolor() == to_rgba(colour if row["cited"] else "white")
    written = [t.get_text() for t in axes.texts]
    assert [t for t in written if ":" in t] == list(widest.index)
    first = widest.iloc[0]
    assert written[1] == f"{first['value']:.3g} ({first['low']:.3g} to {first['high']:.3g})"
    assert 0.01 < first["swing"] < 0.1  # three digits tell the ends apart
    assert {f"low {first['at_low']:.3f}", f"high {first['at_high']:.3f}"} <= set(written)
    assert axes.get_xlabel() == f"Posterior probability (12 of {len(table)} parameters)"
    assert legend(figure) == ["parameter low", "parameter high", "cited", "expert estimate", f"now: {now:.3g}"]
    apart(figure)


@pytest.mark.parametrize("n", [1, 3, 15])
def test_a_tornado_of_long_ids_and_tiny_swings_can_be_read(n):
    figure = plots.tornado(one_way(n), 0.5, title="A title that is far too long for one line of eight inches " * 2)
    apart(figure)
    if n == 15:
        assert {"low 0.49997", "high 0.50007"} <= {t.get_text() for t in texts(figure)}


def test_a_tornado_without_any_swing_still_has_its_labels():
    figure = plots.tornado(one_way(2, at_low=0.5, at_high=0.5, swing=0.0), 0.5)
    assert {"low 0.500", "high 0.500"} <= {t.get_text() for t in texts(figure)}
    apart(figure)


def test_both_ends_on_one_side_are_both_seen():
    figure = plots.tornado(one_way(1, at_low=0.8, at_high=0.6, swing=0.2), 0.5)
    longer, shorter = figure.axes[0].patches
    assert [round(b.get_width(), 12) for b in (longer, shorter)] == [0.3, 0.1]  # the later one is drawn above
    assert to_hex(longer.get_facecolor()).upper() == "#0072B2"
    places = {t.get_text(): (t.xy[0], t.get_ha()) for t in figure.axes[0].texts if hasattr(t, "xy")}
    assert places == {"low 0.800": (0.8, "left"), "high 0.600": (0.5, "right")}
    apart(figure)


@pytest.mark.parametrize("now", [0.0, 1e-7, 1.0])
def test_ticks_of_a_tornado_are_probabilities(now):
    figure = plots.tornado(one_way(1, at_low=now, at_high=abs(now - 0.02), swing=0.02), now)
    assert all(0.0 <= tick <= 1.0 for tick in figure.axes[0].get_xticks())
    assert len(figure.axes[0].get_xticks()) >= 3
    apart(figure)


def test_a_forest_shows_the_table_most_probable_on_top(tiny):
    cases = pd.DataFrame({"present": ["arm_weakness;numbness", "tremor"], "age": [70, 30], "sex": ["female", "male"]})
    table = sensitivity.intervals(tiny, cases, draws=100).loc[0]
    figure = plots.forest(table.sort_index(), top=4)
    shown = table.sort_values("posterior", ascending=False).head(4)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(shown.index)
    assert axes.yaxis_inverted()
    (point,) = [line for line in axes.lines if line.get_label() == "posterior"]
    np.testing.assert_array_equal(point.get_xdata(), shown["posterior"])
    np.testing.assert_array_equal(point.get_ydata(), range(4))
    (lines,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    ends = [[(row["low"], i), (row["high"], i)] for i, (_, row) in enumerate(shown.iterrows())]
    np.testing.assert_array_equal(np.array(lines.get_segments()), np.array(ends))
    first = shown.iloc[0]
    assert axes.texts[0].get_text() == f"{first['posterior']:.3f} ({first['low']:.3f} to {first['high']:.3f})"
    assert axes.get_xlabel() == "Posterior probability and its credible interval (4 of 5 causes)"
    apart(figure)


def test_a_forest_takes_a_point_outside_of_its_interval():
    names = [f"functional_neurological_disorder_{i}" for i in range(20)]
    table = pd.DataFrame({"posterior": 0.99, "low": 0.2, "high": 0.98}, index=names)
    figure = plots.forest(table, title="Long names")
    assert figure.axes[0].get_xlim() == (0.0, 1.01)
    apart(figure)


def test_a_forest_of_several_cases_is_refused(tiny):
    table = sensitivity.intervals(tiny, pd.DataFrame({"present": ["tremor"]}), draws=100)
    with pytest.raises(UsageError) as error:
        plots.forest(table)
    assert str(error.value) == (
        "forest: got a table with case and cause as index, expected the rows of one case: table.loc[case]"
    )


def test_a_curve_shows_the_table_the_present_value_and_where_another_cause_leads(tiny):
    parameter = "link:neuropathy:arm_weakness"
    table = sensitivity.curve(tiny, CASE, "neuropathy", parameter, values=np.linspace(0.01, 0.99, 50))
    value = tiny.knowledge.means[parameter]
    figure = plots.sensitivity_curve(table, value, (0.5, 0.8))
    axes = figure.axes[0]
    leading = list(dict.fromkeys(table["leading"]))
    assert len(leading) == 2
    parts = [line for line in axes.lines if line.get_label().endswith(" leads")]
    assert [line.get_label() for line in parts] == [f"{cause} leads" for cause in leading]
    for part, cause in zip(parts, leading, strict=True):
        drawn = dict(zip(part.get_xdata(), part.get_ydata(), strict=True))
        own = table[table["leading"] == cause]
        assert {x: drawn[x] for x in own.index} == own["posterior"].to_dict()
        assert len(drawn) == len(own) + 1  # and the point halfway
    (change,) = [line for line in axes.lines if line.get_label() == "the leading cause changes"]
    before, after = table.index[np.flatnonzero(table["leading"] != leading[0])[0] + np.array([-1, 0])]
    assert change.get_xdata() == pytest.approx([(before + after) / 2] * 2)
    (point,) = [line for line in axes.lines if line.get_label() == f"now: {value:.3g}"]
    assert point.get_xdata() == pytest.approx([value])
    assert point.get_ydata() == pytest.approx([tiny.diagnose(**CASE).posterior["neuropathy"]], abs=1e-3)
    (shade,) = axes.patches
    assert tuple(shade.get_path().transformed(shade.get_patch_transform()).get_extents().intervalx) == pytest.approx((0.5, 0.8))
    assert axes.get_xlabel() == f"Value of {parameter}"
    assert legend(figure)[-1] == "interval: 0.5 to 0.8"
    apart(figure)


def test_a_cause_that_leads_twice_has_one_colour_and_one_entry():
    figure = plots.sensitivity_curve(curve(["a", "a", "b", "a", "c"], [0.1, 0.2, 0.3, 0.4, 0.5]), 0.5, title="Three causes")
    parts = [line for line in figure.axes[0].lines if line.get_label().endswith(" leads")]
    assert [line.get_label()[0] for line in parts] == ["a", "b", "a", "c"]
    assert parts[0].get_color() == parts[2].get_color() != parts[1].get_color()
    assert parts[0].get_linestyle() == parts[2].get_linestyle() != parts[1].get_linestyle()
    assert legend(figure) == ["a leads", "b leads", "c leads", "the leading cause changes", "now: 0.5"]
    ends = [(line.get_xdata()[0], line.get_xdata()[-1]) for line in parts]
    assert ends == [pytest.approx(e) for e in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.9))]
    apart(figure)


def test_a_flat_curve_is_drawn_flat():
    figure = plots.sensitivity_curve(curve(["a"] * 3, [0.3, 0.3 + 1e-12, 0.3]), 0.5)
    assert figure.axes[0].get_ylim() == pytest.approx((0.25, 0.35))
    apart(figure)


@pytest.mark.parametrize(
    ("value", "interval", "message"),
    [
        (
            0.95,
            None,
            "value: got 0.95, expected a number from 0.1 to 0.9, where the table ends; give sensitivity.curve other values",
        ),
        (0.5, (0.6, 0.4), "interval: got 0.6 to 0.4, expected the lower end first"),
    ],
)
def test_a_curve_refuses_what_it_cannot_show(value, interval, message):
    with pytest.raises(UsageError) as error:
        plots.sensitivity_curve(curve(["a"] * 3, [0.1, 0.2, 0.3]), value, interval)
    assert str(error.value) == message


def test_a_heat_map_shows_the_surface(tiny):
    first, second = "link:stroke:arm_weakness", "prior:stroke"
    surface = sensitivity.surface(tiny, CASE, "stroke", first, second, points=7)
    point = tiny.knowledge.means[first], tiny.knowledge.means[second]
    figure = plots.heat_map(surface, point, title="Two ways")
    axes, bar = figure.axes
    (mesh,) = [c for c in axes.collections if isinstance(c, QuadMesh)]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(surface.shape), surface.to_numpy())
    corners = mesh.get_coordinates()
    np.testing.assert_array_equal(corners[0, :, 0], surface.columns)
    np.testing.assert_array_equal(corners[:, 0, 1], surface.index)
    (contours,) = [c for c in axes.collections if isinstance(c, QuadContourSet)]
    written = {float(t.get_text()) for t in contours.labelTexts}
    assert written
    assert written <= {round(level, 9) for level in contours.levels}
    (now,) = axes.lines
    assert (now.get_ydata()[0], now.get_xdata()[0]) == point
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == (first, second, "Posterior probability")
    apart(figure)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.311, 0.3111), (1e-9, 3e-7), (0.4, 0.4), (0.4, 0.4 + 1e-13)])
def test_a_heat_map_of_any_range_can_be_read(low, high):
    z = low + (high - low) * np.add.outer(np.linspace(0.0, 0.5, 5), np.linspace(0.0, 0.5, 4) ** 2 * 2.0)
    figure = plots.heat_map(grid(z), (0.2, 0.03))
    assert any(isinstance(c, QuadContourSet) for c in figure.axes[0].collections) == (high - low > 1e-9)
    apart(figure)


def test_labels_of_contours_stay_away_from_the_present_values_and_the_edge():
    z = np.add.outer(np.linspace(0.1, 0.5, 9), np.linspace(0.0, 0.4, 9))
    for i, j in ((0.2, 0.03), (0.25, 0.02), (0.15, 0.05)):
        figure = plots.heat_map(grid(z), (i, j))
        apart(figure)
        axes = figure.axes[0]
        (contours,) = [c for c in axes.collections if isinstance(c, QuadContourSet)]
        x, y = axes.transData.transform((j, i))
        assert len(contours.labelTexts) >= 5
        for text in contours.labelTexts:
            box = text.get_window_extent()
            assert np.hypot((box.x0 + box.x1) / 2 - x, (box.y0 + box.y1) / 2 - y) > 15.0
            assert axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1
            assert axes.bbox.y0 < box.y0 < box.y1 < axes.bbox.y1


def test_a_flip_map_shows_the_table_nearest_on_top(tiny):
    table = sensitivity.flips(tiny, CASE)
    assert set(table["change"]) == {"leading cause", "action threshold"}
    figure = plots.flip_map(table.sample(frac=1.0, random_state=1), top=100)
    axes = figure.axes[0]
    points = sorted((line for line in axes.lines if line.get_label() in set(table["change"])), key=lambda x: x.get_ydata()[0])
    assert [p.get_xdata()[0] for p in points] == list(table["deviations"])
    assert [p.get_label() for p in points] == list(table["change"])
    looks = {"leading cause": ("#D55E00", "o"), "action threshold": ("#0072B2", "s")}
    assert [(p.get_color(), p.get_marker()) for p in points] == [looks[c] for c in table["change"]]
    assert axes.yaxis_inverted()
    written = [t.get_text() for t in axes.texts]
    assert written[::3] == list(table.index)
    assert written[2::3] == list(table["cause"])
    assert written[1] == f"now {table['value'].iloc[0]:.3g}, change at {table['needed'].iloc[0]:.3g}"
    lines = sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--")
    assert lines == [-2.0, -1.0, 1.0, 2.0]
    assert axes.get_xlabel() == "Standard deviations that the parameter has to move"
    assert legend(figure) == ["another cause leads", "an action threshold is crossed"]
    apart(figure)


def test_a_flip_map_of_long_ids_can_be_read_and_says_what_it_leaves_out():
    figure = plots.flip_map(flips(4), top=3, title="Long names")
    assert figure.axes[0].get_xlabel() == "Standard deviations that the parameter has to move (3 of 4 parameters)"
    for text, z in zip(figure.axes[0].texts[2::3], flips()["deviations"], strict=True):
        assert text.get_ha() == ("right" if z > 0 else "left")  # away from the marker
    apart(figure)


def test_a_flip_map_refuses_an_unknown_change():
    with pytest.raises(UsageError) as error:
        plots.flip_map(flips().assign(change="weather"))
    assert str(error.value) == "flip_map: got the change 'weather', expected 'leading cause' or 'action threshold'"


DRAWN: dict[str, tuple[str, Callable[[pd.DataFrame], Figure], pd.DataFrame]] = {
    "tornado": ("one_way", lambda t: plots.tornado(t, 0.5), one_way()),
    "forest": ("intervals", plots.forest, pd.DataFrame({"posterior": [0.5], "low": [0.4], "high": [0.6]}, index=["a"])),
    "sensitivity_curve": ("curve", lambda t: plots.sensitivity_curve(t, 0.5), curve(["a", "b"], [0.1, 0.2])),
    "flip_map": ("flips", plots.flip_map, flips()),
}


@pytest.mark.parametrize("name", DRAWN)
def test_an_empty_table_is_an_error(name):
    source, draw, table = DRAWN[name]
    for empty in (table.iloc[:0], pd.DataFrame()):
        with pytest.raises(UsageError) as error:
            draw(empty)
        assert str(error.value) == f"{name}: got an empty table, expected at least one row of sensitivity.{source}"


def test_an_empty_surface_is_an_error():
    with pytest.raises(UsageError) as error:
        plots.heat_map(pd.DataFrame(), (0.5, 0.5))
    assert str(error.value) == (
        "heat_map: got 0 rows and 0 columns, "
        "expected a grid of at least two values of each parameter, as sensitivity.surface returns it"
    )


@pytest.mark.parametrize("name", DRAWN)
def test_a_table_of_something_else_is_an_error(name):
    source, draw, table = DRAWN[name]
    columns = [c for c in table.columns if c not in ("sources", "distance")]
    with pytest.raises(UsageError) as error:
        draw(table.rename(columns={columns[0]: "x", columns[1]: "y"}))
    missing = ", ".join(columns[:2])
    assert str(error.value) == f"{name}: the table lacks the columns {missing}; expected one of sensitivity.{source}"


def test_numbers_out_of_range_are_errors():
    for draw in (lambda: plots.tornado(one_way(), 0.5, top=0), lambda: plots.flip_map(flips(), top=0)):
        with pytest.raises(UsageError, match=r"\Atop: got 0, expected at least 1\Z"):
            draw()
    for wrong in (1.5, float("nan")):
        with pytest.raises(UsageError, match=rf"\Aposterior: got {wrong:g}, expected a probability\Z"):
            plots.tornado(one_way(), wrong)


def test_the_tables_stay_as_they_were():
    surface = grid([[0.1, 0.2], [0.3, 0.4]])
    for table, draw in [(t, d) for _, d, t in DRAWN.values()] + [(surface, lambda t: plots.heat_map(t, (0.2, 0.03)))]:
        before = table.copy(deep=True)
        draw(table)
        pd.testing.assert_frame_equal(table, before)


def test_a_picture_needs_no_pyplot_and_can_be_saved(tmp_path):
    code = (
        "import sys, pandas as pd\n"
        "from ddx import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figure = plots.forest(pd.DataFrame({'posterior': [0.5], 'low': [0.4], 'high': [0.6]}, index=['a']))\n"
        f"figure.savefig({str(tmp_path / 'forest.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
    header = (tmp_path / "forest.png").read_bytes()[:24]
    assert header[:4] == b"\x89PNG"
    assert int.from_bytes(header[16:20], "big") == 800


@pytest.mark.parametrize("name", [*DRAWN, "heat_map"])
def test_without_matplotlib_the_extra_is_named(name, monkeypatch):
    draw, table = DRAWN[name][1:] if name in DRAWN else (lambda t: plots.heat_map(t, (0.2, 0.03)), grid(np.eye(2)))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=re.escape('pictures need matplotlib: pip install "ddx[plots]"') + r"\Z"):
        draw(table)


def test_the_longest_ids_of_limb_have_room():
    kb = ddx.load("limb").knowledge
    ids = sorted(kb.parameters, key=len)[-15:]
    cause = max(kb.causes, key=len)
    apart(plots.tornado(one_way(15, value=0.000358, low=0.0000118, high=0.000244).set_axis(ids), 0.5))
    table = pd.concat([flips(1)] * 15).set_axis(ids).assign(cause=cause, deviations=np.linspace(-4.0, 4.0, 15))
    apart(plots.flip_map(table))
