"""JSON Lines, compressed files and long tables as they must not be: scored or rejected row by row, or refused in one line."""

from __future__ import annotations

import gzip
import json

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import chunked, expected, score

import ddx

GOOD = b'{"case_id": "z", "tremor": 1}\n'
TOO_LONG = (1 << 24) + 1
DEEP = b'{"case_id": "a", "note": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"

# name -> (lines, ids that are scored, (line, error) of the rejects)
ROWS = {
    "nested_objects": (
        b'{"case_id": "a", "tremor": {"value": 1}}\n{"case_id": "b", "note": {"x": [1, {}]}}\n',
        "bz",
        [(1, "not_a_value")],
    ),
    "a_name_twice": (
        b'{"case_id": "a", "tremor": 1, "tremor": 0}\n{"case_id": "b", "tremor": 1, " tremor": 0}\n',
        "z",
        [(1, "bad_json"), (2, "bad_json")],
    ),
    "two_names_for_one_finding": (
        b'{"case_id": "a", "tremor": 1, "shaking": 1}\n{"case_id": "b", "shaking": 1}\n',
        "bz",
        [(1, "duplicate_column")],
    ),
    "huge_integers": (
        b'{"case_id": "a", "tremor": '
        + b"9" * 5000
        + b'}\n{"case_id": "b", "age": '
        + b"9" * 400
        + b'}\n{"case_id": '
        + b"9" * 30
        + b"}\n",
        ["9" * 30, "z"],
        [(1, "bad_json"), (2, "not_a_value")],
    ),
    "lists": (
        b'{"case_id": "a", "present": ["tremor", "fatigue"]}\n{"case_id": "b", "tremor": [1]}\n'
        b'{"case_id": "c", "present": []}\n'
        b'{"case_id": "d", "present": ["tremor", null]}\n{"case_id": "e", "present": [["tremor"]]}\n{"case_id": [1]}\n',
        "acdz",
        [(2, "not_a_value"), (5, "unknown_id"), (6, "bad_json")],
    ),
    "booleans": (
        b'{"case_id": "a", "tremor": true}\n{"case_id": "b", "age": true}\n{"case_id": "c", "age": 1}\n'
        b'{"case_id": "d", "age": 1.0}\n',
        "acdz",
        [(2, "not_a_value")],
    ),
    "null": (b'{"case_id": "a", "tremor": null, "age": null}\n{"case_id": null, "tremor": 1}\n', "az", [(2, "empty_case_id")]),
    "without_ids": (b'{"tremor": 1}\n{"tremor": 0}\n', ["1", "2", "z"], []),
    "deep_nesting": (DEEP + b"[" * 100_000 + b"\n", "z", [(1, "bad_json"), (2, "bad_json")]),
    "invalid_utf8": (b'{"case_id": "a\xe9"}\n', "z", [(1, "bad_encoding")]),
    "half_a_surrogate_pair": (
        b'{"case_id": "\\ud800"}\n{"case_id": "\\ud83d\\ude00"}\n{"case_id": "b", "\\udc80": 1}\n',
        ["\U0001f600", "z"],
        [(1, "bad_json"), (3, "bad_json")],
    ),
    "no_objects": (b'[1, 2]\n"x"\n1\nnull\n\n   \n[{"case_id": "a"}]\n', "z", [(line, "bad_json") for line in (1, 2, 3, 4, 7)]),
    "no_json": (
        b'case_id,tremor\na,1\n{\'case_id\': 1}\n{"case_id": "a"\n{}{}\n',
        "z",
        [(line, "bad_json") for line in range(1, 6)],
    ),
    "numbers": (
        b'{"case_id": "a", "tremor": NaN}\n{"case_id": "b", "tremor": Infinity}\n'
        b'{"case_id": "c", "tremor": 1e999}\n{"case_id": "d", "tremor": "1,5"}\n',
        "az",
        [(2, "not_a_value"), (3, "not_a_value"), (4, "not_a_value")],
    ),
    "unknown_names": (
        b'{"case_id": "a", "tremr": 1}\n{"case_id": "b", "": 1}\n{"case_id": "c", "stroke": 1}\n',
        "z",
        [(line, "unknown_column") for line in (1, 2, 3)],
    ),
    "byte_order_mark_and_crlf": (b'\xef\xbb\xbf{"case_id": "a"}\r\n\r\n', "az", []),
    "line_above_the_limit": (b'{"case_id": "a", "note": "' + b"x" * TOO_LONG + b'"}\n', "z", [(1, "line_too_long")]),
    "line_above_the_limit_with_a_case_in_it": (b" " * (1 << 24) + b' {"case_id": "a"}\n', "z", [(1, "line_too_long")]),
    "long_values": (b'{"case_id": "a", "tremor": "' + b"x" * 10_000_000 + b'"}\n', "z", [(1, "not_a_value")]),
    "names_in_every_row_of_its_own": (
        b"".join(b'{"case_id": "%d", "x%d": null}\n' % (i, i) for i in range(600)),
        [*map(str, range(600)), "z"],
        [],
    ),
    "repeated_id_of_a_rejected_row": (
        b'{"case_id": "a", "tremr": 1}\n{"case_id": "a", "tremor": 1}\n',
        "z",
        [(1, "unknown_column"), (2, "duplicate_case_id")],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_scored_or_rejected(name, tmp_path, tiny):
    data, ids, errors = ROWS[name]
    found = score(tmp_path / "whole", tiny, data + GOOD, "cases.jsonl")
    assert found.refusal == ""
    assert list(found.posteriors) == list(ids)
    assert found.errors == [(str(line), error) for line, error in errors]
    assert found.posteriors["z"] == expected(tiny, {"tremor": 1})
    with chunked(rows=1):
        assert score(tmp_path / "rows", tiny, data + GOOD, "cases.jsonl").bytes == found.bytes


def test_lenient_reading_reports_every_name_that_it_reads_over(tmp_path, tiny):
    data = b'{"case_id": "a", "tremr": 1, "tremor": 1}\n{"case_id": "b", "x": 2, "age": "old"}\n' + GOOD
    found = score(tmp_path, tiny, data, "cases.jsonl", lenient=True)
    assert [(r["line"], r["column"], r["value"]) for r in found.rejects] == [
        ("1", "tremr", "1"),
        ("2", "x", "2"),
        ("2", "age", "old"),
    ]
    assert found.report.cells_dropped == 3
    assert found.posteriors["a"] == found.posteriors["z"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_no_cases(data, tmp_path, tiny):
    assert score(tmp_path, tiny, data, "cases.jsonl").refusal == "cases.jsonl: has no cases"


values = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, 1.0, 0.3, 40, 40.0, "40", "1", "x", "", "NaN", float("nan")])
)
names = st.sampled_from(["case_id", "tremor", "shaking", "fatigue", "age", "present", "absent", "note", "tremr"])
listed = st.lists(st.sampled_from(["tremor", "fatigue", "tremr", "weak_arm"]), max_size=2)
objects = st.dictionaries(names, st.one_of(values, values, listed), max_size=5)


@settings(max_examples=100)
@given(rows=st.lists(objects, min_size=1, max_size=6), size=st.integers(1, 4))
def test_a_row_does_not_depend_on_its_neighbours(rows, size, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("json")
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    whole = score(folder / "whole", tiny, data, "cases.jsonl")
    assert whole.report is not None
    assert whole.report.rows == len(rows)
    with chunked(rows=size, block=16):
        assert score(folder / "parts", tiny, data, "cases.jsonl").bytes == whole.bytes


# Compressed files.

CSV = b"case_id,tremor\n" + b"".join(b"c%d,1\n" % i for i in range(1000))


def packed(data: bytes, kind: str) -> bytes:
    return gzip.compress(data) if kind == "gz" else pa.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_files(kind, tmp_path, tiny):
    name = f"cases.csv.{kind}"
    plain = score(tmp_path / "plain", tiny, CSV)
    assert score(tmp_path / "one", tiny, packed(CSV, kind), name).bytes == plain.bytes
    members = b"".join(packed(CSV[at : at + 700], kind) for at in range(0, len(CSV), 700))
    assert score(tmp_path / "many", tiny, members, name).bytes == plain.bytes
    with chunked(7, 64):
        assert score(tmp_path / "blocks", tiny, members, name).bytes == plain.bytes
    for what, data in {
        "truncated": packed(CSV, kind)[:-5],
        "begun": packed(CSV, kind)[:8],
        "garbage": b"garbage" * 100,
        "garbage behind": packed(CSV, kind) + b"garbage",
        "csv": CSV,
        "damaged": packed(CSV, kind)[:40] + b"\xff\0\xff\0" + packed(CSV, kind)[44:],
    }.items():
        refusal = score(tmp_path / what, tiny, data, name).refusal
        assert refusal.startswith(f"{name}: cannot be read as csv, {'gzip' if kind == 'gz' else 'zstd'}: "), what
    assert score(tmp_path / "empty", tiny, b"", name).refusal.startswith(f"{name}: is empty")


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_json(kind, tmp_path, tiny):
    data = b'{"case_id": "a", "tremor": 0}\n' + GOOD
    found = score(tmp_path / "packed", tiny, packed(data, kind), f"cases.jsonl.{kind}")
    assert list(found.posteriors) == ["a", "z"]
    assert "cannot be read as jsonl" in score(tmp_path / "cut", tiny, packed(data, kind)[:-3], f"cases.ndjson.{kind}").refusal


# Long tables.


def test_long_tables(tmp_path, tiny):
    rows = """\
case_id,id,value
a,tremor,1
a,shaking,1
b,tremor,1
b,tremor,1
b,fatigue,0
c,tremor,1
c,tremor,0
d,tremr,1
e,age,40
e,sex,f
e,haemoglobin_g_dl,11
f,tremor,
f,note,x
f,note,y
g,case_id,h
g,tremor,1
,tremor,1
i,tremor
j,present,tremor;fatigue
j,tremor,1
k,tremor,1
k,numbness,maybe
l,stroke,1
"""
    found = score(tmp_path / "whole", tiny, rows.encode())
    assert found.posteriors == {
        "b": expected(tiny, {"tremor": 1, "fatigue": 0}),
        "e": expected(tiny, {"age": 40, "sex": "f", "haemoglobin_g_dl": 11}),
        "f": expected(tiny, {"tremor": ""}),
        "j": expected(tiny, {"present": "tremor;fatigue"}),
    }
    assert [(reject["line"], reject["case_id"], reject["error"]) for reject in found.rejects] == [
        ("2", "a", "duplicate_column"),
        ("7", "c", "contradiction"),
        ("9", "d", "unknown_column"),
        ("16", "g", "unknown_column"),
        ("18", "", "empty_case_id"),
        ("19", "", "ragged_row"),
        ("22", "k", "not_a_value"),
        ("24", "l", "unknown_column"),
    ]
    assert found.rejects[1]["original"] == "c,tremor,1\nc,tremor,0"


BROKEN = {
    "inside_a_case": ("a,age", {"line": "2", "case_id": "a", "message": "line 3: got 2 cells, the header has 3"}),
    "inside_a_case_whatever_it_says": ("?", {"line": "2", "case_id": "a", "message": "line 3: got 1 cells, the header has 3"}),
    "before_a_case": ("a", {"line": "3", "case_id": "a", "message": "line 2: got 1 cells, the header has 3"}),
    "behind_a_case": ('"a",1,2,3', {"line": "2", "case_id": "a", "message": "line 4: got 4 cells, the header has 3"}),
    "of_nobody": ("y,tremor", {"line": "4", "case_id": "", "message": "got 2 cells, the header has 3"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_case_with_a_line_that_cannot_be_read_is_rejected_as_a_whole(name, tmp_path, tiny):
    broken, reject = BROKEN[name]
    rows = ["a,tremor,1", "a,sex,f"]
    at = {"before_a_case": 0, "behind_a_case": 2, "of_nobody": 2}.get(name, 1)
    data = "\n".join(["case_id,id,value", *rows[:at], broken, *rows[at:], "b,tremor,1", ""]).encode()
    found = score(tmp_path / "whole", tiny, data)
    mine = {"a": expected(tiny, {"tremor": 1, "sex": "f"})} if name == "of_nobody" else {}
    assert found.posteriors == mine | {"b": expected(tiny, {"tremor": 1})}
    assert [{column: row[column] for column in reject} for row in found.rejects] == [reject]
    assert found.rejects[0]["error"] == "ragged_row"
    assert found.rejects[0]["original"] == (broken if name == "of_nobody" else "\n".join([*rows[:at], broken, *rows[at:]]))
    assert found.report.rows == (3 if name == "of_nobody" else 2)
    for size in (1, 2, 3):
        with chunked(rows=size, block=16):
            assert score(tmp_path / str(size), tiny, data).bytes == found.bytes


def test_a_lenient_reading_does_without_the_line_that_cannot_be_read(tmp_path, tiny):
    (tmp_path / "long.csv").write_text("case_id,id,value\na,tremor,1\na,age\na,sex,f\n", encoding="utf-8")
    report = ddx.score_file(tmp_path / "long.csv", tmp_path / "out.csv", tiny, lenient=True)
    assert (report.rows, report.scored, report.rejected, report.cells_dropped) == (1, 1, 0, 1)
    kept = pd.read_csv(tmp_path / "out.csv")
    pd.testing.assert_frame_equal(
        kept.drop(columns="case_id"), tiny.score(pd.DataFrame({"tremor": [1], "sex": ["f"]})), check_exact=True
    )


@pytest.mark.parametrize(
    ("good", "broken"),
    [
        ('"x,1",tremor,1', '"x,1",sex,f,f'),
        ('"x""1",tremor,1', '"x""1",sex'),
        ("x\t,tremor,1", "x\t,sex"),
        ('{"case_id": "x,1", "id": "tremor", "value": 1}', '{"case_id": "x,1", "id": "sex", }'),
        ('{"case_id": "\u00e9", "id": "tremor", "value": 1}', '{"case_id": "\\u00e9", "id": "sex", }'),
        ('{"case_id": 1.5, "id": "tremor", "value": 1}', '{" case_id ": 1.50, "id": "sex", }'),
    ],
)
def test_the_case_of_a_line_that_cannot_be_read_is_read_as_that_of_others(good, broken, tmp_path, tiny):
    json_lines = good.startswith("{")
    other = '{"case_id": "y", "id": "tremor", "value": 1}' if json_lines else "y,tremor,1"
    lines = [*([] if json_lines else ["case_id,id,value"]), good, broken, other, ""]
    found = score(tmp_path, tiny, "\n".join(lines).encode(), "cases.jsonl" if json_lines else "cases.csv")
    assert list(found.posteriors) == ["y"]
    assert [row["original"] for row in found.rejects] == [f"{good}\n{broken}"]


def test_a_line_that_tells_no_case_is_of_none(tmp_path, tiny):
    found = score(tmp_path, tiny, b"id,value,case_id\njunk\ntremor,1,\ntremor,1,y\n")
    assert list(found.posteriors) == ["y"]
    assert found.errors == [("2", "ragged_row"), ("3", "empty_case_id")]


def test_the_first_line_that_can_be_read_tells_the_form(tmp_path, tiny):
    rows = [
        '{"case_id": "a", "id": "tremor", "value":',
        '{"case_id": "b", "id": "tremor", "value": 1}',
        '{"case_id": "b", "id": "sex", "value": "f"}',
    ]
    found = score(tmp_path, tiny, "\n".join(rows).encode(), "cases.jsonl")
    assert found.posteriors == {"b": expected(tiny, {"tremor": 1, "sex": "f"})}
    assert found.errors == [("1", "bad_json")]


def test_the_id_of_a_case_that_was_rejected_for_a_line_is_taken(tmp_path, tiny):
    data = b"case_id,id,value\na,tremor,1\na,age\nb,tremor,1\na,sex,f\n"
    found = score(tmp_path, tiny, data)
    assert (found.posteriors, "line 5: case 'a' has rows further up too" in found.refusal) == ({}, True)


@pytest.mark.parametrize("header", ["case_id,id,value", "value,id,case_id"])
def test_where_the_ids_of_cases_stand_does_not_matter(header, tmp_path, tiny):
    rows = ["a,tremor,1", "b,age,40,", "b,tremor,1"]
    data = "\n".join([header, *(row if header[0] == "c" else ",".join(row.split(",")[::-1]) for row in rows), ""]).encode()
    found = score(tmp_path, tiny, data.replace(b",40,age,b", b"40,age,b,"))
    assert list(found.posteriors) == ["a"]
    assert [(row["case_id"], row["error"]) for row in found.rejects] == [("b", "ragged_row")]


def test_a_broken_line_of_long_json_is_a_fault_of_its_case(tmp_path, tiny):
    rows = [
        '{"case_id": "a", "id": "tremor", "value": 1}',
        '{"case_id": "b", "id": "tremor", "value": }',
        '{"case_id": "b", "id": "sex", "value": "f"}',
    ]
    found = score(tmp_path, tiny, "\n".join(rows).encode(), "cases.jsonl")
    assert list(found.posteriors) == ["a"]
    assert [(row["line"], row["case_id"], row["error"]) for row in found.rejects] == [("3", "b", "bad_json")]
    assert found.rejects[0]["message"].startswith("line 2: not valid JSON: ")


statements = st.tuples(
    st.sampled_from("aaabbc"),
    st.sampled_from(["tremor", "shaking", "fatigue", "age", "tremr", "case_id", "note"]),
    st.sampled_from(["1", "0", "", "40", "x"]),
)


@settings(max_examples=100)
@given(rows=st.lists(statements, min_size=1, max_size=12), size=st.integers(1, 5))
def test_long_tables_do_not_depend_on_chunks(rows, size, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("long")
    data = ("case_id,id,value\n" + "".join(",".join(row) + "\n" for row in rows)).encode()
    whole = score(folder / "whole", tiny, data)
    cases = [row[0] for i, row in enumerate(rows) if i == 0 or rows[i - 1][0] != row[0]]
    again = [case for i, case in enumerate(cases) if case and case in cases[:i]]
    if again:
        assert f"case {again[0]!r} has rows further up too" in whole.refusal
    else:
        assert whole.report.rows == len(cases)
    with chunked(rows=size, block=32):
        parts = score(folder / "parts", tiny, data)
    assert (parts.bytes, parts.refusal) == (whole.bytes, whole.refusal)


@settings(max_examples=100)
@given(
    rows=st.lists(st.one_of(statements, st.tuples(st.sampled_from("abx"), st.just("age"))), min_size=1, max_size=12),
    size=st.integers(1, 5),
)
def test_no_case_is_scored_without_a_line_of_its_own(rows, size, tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("long")
    data = ("case_id,id,value\n" + "".join(",".join(row) + "\n" for row in rows)).encode()
    whole = score(folder / "whole", tiny, data)
    with chunked(rows=size, block=32):
        parts = score(folder / "parts", tiny, data)
    assert (parts.bytes, parts.refusal) == (whole.bytes, whole.refusal)
    for case in whole.posteriors:
        own = [i for i, row in enumerate(rows) if row[0] == case and len(row) == 3]
        first = own[0]
        last = next((i for i in range(first, len(rows)) if rows[i][0] != case and len(rows[i]) == 3), len(rows)) - 1
        assert all(len(row) == 3 for row in rows[first : max(i for i in own if i <= last) + 1])
