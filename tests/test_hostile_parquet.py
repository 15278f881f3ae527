"""Parquet of every type and of none: cells mean what their text would, rows are scored or rejected, broken files refused."""

from __future__ import annotations

import datetime
import decimal
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import chunked, expected, score


def parquet(columns, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    return sink.getvalue()


IDS = pa.array(["a", "b", "c"])
# type -> (column, its name, what the three cells mean; None: rejected)
TYPES = {
    "bool": (pa.array([True, False, None]), "tremor", [1, 0, ""]),
    "int8": (pa.array([1, 0, 2], pa.int8()), "tremor", [1, 0, None]),
    "uint64": (pa.array([40, 2**63, None], pa.uint64()), "age", [40, None, ""]),
    "float16": (pa.array([np.float16(0.5), np.float16(1), None], pa.float16()), "tremor", [0.5, 1, ""]),
    "float": (pa.array([0.1, float("nan"), float("inf")], pa.float32()), "tremor", [float(np.float32(0.1)), "", None]),
    "double": (pa.array([0.1, 1e-300, -0.0]), "tremor", [0.1, 1e-300, 0]),
    "decimal": (pa.array([decimal.Decimal("11.90"), decimal.Decimal("99"), None]), "haemoglobin_g_dl", [11.9, None, ""]),
    "narrow_decimal": (
        pa.array([decimal.Decimal("11.90"), decimal.Decimal("99"), None], pa.decimal64(6, 2)),
        "haemoglobin_g_dl",
        [11.9, None, ""],
    ),
    "string": (pa.array(["yes", " 0 ", "maybe"]), "tremor", [1, 0, None]),
    "large_string": (pa.array(["yes", None, ""], pa.large_string()), "tremor", [1, "", ""]),
    "binary": (pa.array([b"yes", b"0", None]), "tremor", [1, 0, ""]),
    "dictionary": (pa.array(["yes", None, "x"]).dictionary_encode(), "tremor", [1, "", None]),
    "dictionary_of_numbers": (pa.array([40, None, 140]).dictionary_encode(), "age", [40, "", None]),
    "null": (pa.nulls(3), "tremor", ["", "", ""]),
    "timestamp": (pa.array([datetime.datetime(2020, 1, 1), None, None]), "age", [None, "", ""]),
    "nanoseconds": (pa.array([1, None, None], pa.timestamp("ns")), "tremor", [None, "", ""]),
    "date": (pa.array([datetime.date(1, 1, 1), None, None]), "tremor", [None, "", ""]),
    "time": (pa.array([1, None, None], pa.time64("ns")), "tremor", [None, "", ""]),
    "duration": (pa.array([1, None, None], pa.duration("us")), "tremor", [None, "", ""]),
    "struct": (pa.array([{"x": 1}, None, {"x": None}]), "tremor", [None, "", None]),
    "map": (pa.array([[("x", 1)], None, []], pa.map_(pa.string(), pa.int64())), "tremor", [None, "", None]),
    "list_of_numbers": (pa.array([[1], None, []]), "tremor", [None, "", None]),
    "fixed_list": (pa.array([[1, 2], None, [0, 0]], pa.list_(pa.int64(), 2)), "tremor", [None, "", None]),
}


@pytest.mark.parametrize("kind", TYPES)
def test_types(kind, tmp_path, tiny):
    column, name, meaning = TYPES[kind]
    found = score(tmp_path / "whole", tiny, parquet({"case_id": IDS, name: column}), "cases.parquet")
    assert found.refusal == ""
    assert found.posteriors == {c: expected(tiny, {name: m}) for c, m in zip("abc", meaning, strict=True) if m is not None}
    with chunked(rows=1):
        assert score(tmp_path / "rows", tiny, parquet({"case_id": IDS, name: column}), "cases.parquet").bytes == found.bytes


LISTS = {
    "list": pa.list_(pa.string()),
    "large_list": pa.large_list(pa.string()),
    "list_of_large": pa.list_(pa.large_string()),
    "list_of_dictionary": pa.list_(pa.dictionary(pa.int32(), pa.string())),
    "list_of_binary": pa.list_(pa.binary()),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_ids(kind, tmp_path, tiny):
    cells = [["tremor", "fatigue"], [], None, ["tremor", None], ["tremr"], ["tremor", ""]]
    text = pa.array(cells, pa.list_(pa.string()))
    column = text if kind == "list" else pa.array(cells, LISTS[kind]) if "dictionary" not in kind else _coded(text)
    table = {"case_id": pa.array(list("abcdef")), "present": column}
    found = score(tmp_path, tiny, parquet(table), "cases.parquet")
    said = {"a": "tremor;fatigue", "b": "", "c": "", "d": "tremor", "f": "tremor"}
    assert found.posteriors == {case: expected(tiny, {"present": ids}) for case, ids in said.items()}
    assert found.errors == [("5", "unknown_id")]


def _coded(lists: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(lists.offsets, lists.values.dictionary_encode(), mask=lists.is_null())


def test_ids_of_other_types(tmp_path, tiny):
    for ids, names in (
        (pa.array([3, 1, 2]), ["3", "1", "2"]),
        (pa.array([b"x", b"y", b"z"]), ["x", "y", "z"]),
        (pa.array(["x", None, "y"]), ["x", "y"]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x"]),
        (pa.nulls(3), []),
    ):
        table = parquet({"case_id": ids, "tremor": [1, 1, 1]})
        assert list(score(tmp_path / str(ids.type), tiny, table, "cases.parquet").posteriors) == names


def test_odd_types_are_shown_in_the_rejects(tmp_path, tiny):
    table = pa.table(
        {
            "case_id": ["a"],
            "tremor": pa.array([{"x": [1, None]}]),
            "note": pa.array([2**62], pa.timestamp("us")),
            "url": pa.array([[b"\xff"]]),
        }
    )
    found = score(tmp_path, tiny, parquet(table), "cases.parquet")
    assert found.errors == [("1", "not_a_value")]
    assert found.rejects[0]["value"] == '{"x": [1, null]}'
    assert found.rejects[0]["original"].startswith('{"case_id": "a", "tremor": {"x": [1, null]}, "note": ')


def test_originals_do_not_depend_on_what_else_is_rejected(tmp_path, tiny):
    times = pa.array([0, 2**62, 1_500_000], pa.timestamp("us"))
    table = parquet({"case_id": IDS, "tremor": ["maybe", "maybe", "maybe"], "note": times})
    found = score(tmp_path / "whole", tiny, table, "cases.parquet")
    originals = [row["original"] for row in found.rejects]
    assert originals[0] == '{"case_id": "a", "tremor": "maybe", "note": "1970-01-01 00:00:00"}'
    assert originals[1].startswith('{"case_id": "b", "tremor": "maybe", "note": "')  # no year that Python knows
    assert originals[2] == '{"case_id": "c", "tremor": "maybe", "note": "1970-01-01 00:00:01.500000"}'
    with chunked(rows=1):
        assert score(tmp_path / "rows", tiny, table, "cases.parquet").rejects == found.rejects


def test_many_row_groups_and_encodings(tmp_path, tiny):
    n = 500
    table = pa.table({"case_id": [f"c{i}" for i in range(n)], "tremor": [i % 2 for i in range(n)]})
    whole = score(tmp_path / "whole", tiny, parquet(table), "cases.parquet")
    assert whole.report.scored == n
    for i, options in enumerate(
        ({"row_group_size": 7}, {"compression": "zstd"}, {"use_dictionary": False}, {"data_page_size": 1})
    ):
        with chunked(rows=13):
            assert score(tmp_path / str(i), tiny, parquet(table, **options), "cases.parquet").bytes == whole.bytes


GOOD = parquet({"case_id": [f"c{i}" for i in range(1000)], "tremor": [0.5] * 1000})


def test_what_is_no_parquet_is_refused_in_one_line(tmp_path, tiny):
    middle = len(GOOD) // 3
    for i, (data, message) in enumerate(
        [
            (b"", "cannot be read as parquet"),
            (b"PAR1", "cannot be read as parquet"),
            (b"PAR1" * 10, "cannot be read as parquet"),
            (b"case_id,tremor\na,1\n" * 10, "cannot be read as parquet"),
            (GOOD[:-1], "cannot be read as parquet"),
            (GOOD[:middle], "cannot be read as parquet"),
            (GOOD[:100] + b"\xff" * 200 + GOOD[300:], "cannot be read as parquet"),
            (b"PAR1" + b"\0" * (len(GOOD) - 4 - 300) + GOOD[-300:], "cannot be read as parquet"),
            (parquet({"case_id": pa.array([], pa.string())}), "has a header but no cases"),
            (parquet({"case_id": ["a"], "tremr": [1]}), "unknown column 'tremr'; nearest: tremor"),
            (parquet({"case_id": ["a"], "stroke": [1]}), "is a cause"),
            (parquet({"case_id": [{"a": 1}]}), "case_id holds struct<a: int64>, expected text or whole numbers"),
            (parquet(pa.table([pa.array([1]), pa.array([1])], names=["tremor", "tremor"])), "duplicate column 'tremor'"),
            (parquet({"case_id": ["a"], "tremor": [1], "shaking": [1]}), "both mean tremor"),
            (parquet({"case_id": ["a"], "": [1]}), "column 2 has no name"),
            (parquet({"case_id": pa.array([b"\xff"])}), "cannot be read as parquet"),
            (parquet({"case_id": pa.array([b"\xff"]).view(pa.string())}), "cannot be read as parquet"),
        ]
    ):
        assert message in score(tmp_path / str(i), tiny, data, "cases.parquet").refusal, i


def test_damaged_bytes_never_end_in_anything_but_an_answer(tmp_path, tiny):
    rng = np.random.default_rng(1)
    for i in range(60):
        data = bytearray(GOOD)
        for at in rng.integers(4, len(data) - 8, size=3):
            data[at] = rng.integers(256)
        score(tmp_path / str(i), tiny, bytes(data), "cases.parquet")


def test_long_tables(tmp_path, tiny):
    table = {
        "case_id": ["a", "a", "b", "b"],
        "id": pa.array(["tremor", "age", "tremor", "tremr"]),
        "value": ["1", "40", None, "1"],
    }
    found = score(tmp_path, tiny, parquet(table), "cases.parquet")
    assert found.posteriors == {"a": expected(tiny, {"tremor": 1, "age": 40})}
    assert found.errors == [("3", "unknown_column")]
