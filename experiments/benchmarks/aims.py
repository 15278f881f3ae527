"""The aims of the design beside what was measured."""

from __future__ import annotations

from report import Row, Table, show

NOT_HERE = "not measured here"
FILES = "measured by another command: see *Files of cases*"


def _row(aim: str, target: str, measured: str, value: float | None, limit: float, least: bool = False, why: str = "") -> Row:
    """``value`` should be at most ``limit``, or with ``least`` at least."""
    if value is None:
        verdict = "no ratio: the other engine did not end" if measured else NOT_HERE
    else:
        factor = limit / value if least else value / limit
        verdict = "met" if factor <= 1.0 else f"missed by a factor of {show(float(f'{factor:.2g}'))}"
        why = "" if factor <= 1.0 else why
    return {"aim": aim, "target": target, "measured": measured, "verdict": verdict, "why": why}


def against_aims(tables: dict[str, Table]) -> Table:
    """From the tables of a full run."""
    engine = {str(row["network"]).split(",")[0]: row for row in tables["engines"].rows}
    small, big = engine["7 x 24"], engine["36 x 90"]
    error = max(tables["error"].column("ddx"))
    apart = max([d for d in tables["engines"].column("difference") if isinstance(d, float)], default=None)
    floor = {row["present"]: row for row in tables["naive"].rows}
    large = max(tables["large"].column("worst"))
    ratios = {(r["network"], r["present"], r["cases"]): r["target"] for r in tables["derivatives"].rows}
    slope, at = max((ratio, key) for key, ratio in ratios.items())
    draws = tables["many"].column("seconds", task="draws")[0]
    start = {row["what"]: row["ratio"] for row in tables["start"].rows}

    def times(row: Row, name: str) -> str:
        value = float(f"{row[f'{name}_least']:.3g}")
        return f"{'more than ' if str(row[name]).startswith('>') else ''}{show(value)} x"

    naive_why = (
        f"present findings cost what the floor does not pay: {show(floor[2]['ratio'])} x at 2 present, "
        f"{show(floor[4]['ratio'])} x at 4, {show(floor[8]['ratio'])} x at 8; "
        f"the floor takes {show(floor[4]['naive'])} microseconds a case, less than the logarithms of the absent findings cost"
    )
    pgmpy_big = f"; pgmpy {times(big, 'pgmpy')}" if big["pgmpy_least"] else f"; pgmpy: {big['pgmpy']}"
    rows = [
        _row("posterior error against 80 digits, up to 16 present", "<= 1e-12", show(error), error, 1e-12),
        _row(
            "agreement with pgmpy and pyAgrum (here without context; with it: `tests/`)",
            "<= 1e-10",
            "none ran" if apart is None else show(apart),
            apart,
            1e-10,
        ),
        _row(
            "throughput against pgmpy and pyAgrum, 7 x 24",
            ">= 1,000 x",
            f"{times(small, 'pgmpy')}, {times(small, 'pyagrum')}",
            min(small["pgmpy_least"], small["pyagrum_least"]),
            1e3,
            True,
            f"pgmpy: {small['pgmpy']}, pyAgrum: {small['pyagrum']} a case; ddx {show(small['ddx'])} "
            "microseconds, of which most is the same for every case: checks, packing, logarithms of the absent findings",
        ),
        _row(
            "throughput against pyAgrum, 36 x 90",
            ">= 100,000 x",
            f"{times(big, 'pyagrum') if big['pyagrum_least'] else big['pyagrum']}{pgmpy_big}",
            big["pyagrum_least"] or None,
            1e5,
            True,
        ),
        _row(
            "time against a naive-Bayes product, 36 x 90, 4 present",
            "<= 3 x",
            f"{show(floor[4]['ratio'])} x",
            floor[4]["ratio"],
            3.0,
            why=naive_why,
        ),
        _row("CSV in to CSV out, 1,000,000 rows (`files.py`)", "<= 2 x pyarrow", "", None, 2.0, why=FILES),
        _row("peak memory of that run (`files.py`)", "<= 1 GiB", "", None, 1.0, why=FILES),
        _row("600 x 4,000, 20 present, one case, the slowest", "<= 5 s", f"{show(large)} s", large, 5.0),
        _row(
            "derivatives of one posterior over the posterior",
            "<= 10 x",
            f"{show(slope)} x at most, {show(min(ratios.values()))} x at least",
            slope,
            10.0,
            why=f"the slowest is {at[0]} with {at[1]} present, {at[2]} in a call; {sum(r <= 10.0 for r in ratios.values())} of "
            f"{len(ratios)} rows of the table are within",
        ),
        _row("10,000 parameter draws of one case, 36 x 90 (limb: see *Sensitivity*)", "<= 2 s", f"{show(draws)} s", draws, 2.0),
        _row("value of every unobserved finding for one case", "<= 20 ms", "", None, 20.0, why="ddx has no such function yet"),
        _row("`import ddx` over `import pandas`", "<= 1.5 x", f"{start['`import ddx`']:.2f} x", start["`import ddx`"], 1.5),
        _row(
            "`ddx diagnose` over `import pandas`",
            "<= 2.5 x",
            f"{start['`ddx diagnose`, one case']:.2f} x",
            start["`ddx diagnose`, one case"],
            2.5,
        ),
    ]
    columns = {"aim": "measure", "target": "aim", "measured": "measured", "verdict": "verdict", "why": "why missed"}
    return Table("", columns, rows)
