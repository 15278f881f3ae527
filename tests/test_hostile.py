"""CSV as it must not be: every row is scored or rejected with its text, or the file is refused in one line."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import chunked, expected, expected_of_table, score

from ddx.batch import lines, scoring

HEADER = b"case_id,tremor,age,note\n"
GOOD = b"z,1,40,\n"
TOO_LONG = (1 << 24) + 1
BOM = b"\xef\xbb\xbf"

# name -> (bytes of the file, ids that are scored, (line, error) of the rejects)
ROWS = {
    "newlines_in_cells": (HEADER + b'a,1,40,"x\ny"\nb,0,50,"p\r\nq\n\n"\n' + GOOD, "abz", []),
    "quotes_inside_unquoted_cells": (HEADER + b'a,1,40,5" pipe\nb,1,50,x"y"z\nc,1,40,"""\n"\n' + GOOD, "abcz", []),
    "quotes_everywhere": (HEADER + b'"a","1","40","he said ""hi"", twice"\n' + GOOD, "az", []),
    "quotes_behind_a_quoted_cell": (HEADER + b'a,1,40,"x"y\nb,1,40,"x" \n' + GOOD, "z", [(2, "bad_csv"), (3, "bad_csv")]),
    "a_quote_that_never_closes": (HEADER + b'a,1,40,"x\nb,1,40,y\n' + GOOD, "bz", [(2, "bad_csv")]),
    "a_quote_that_closes_wrongly": (HEADER + b'a,1,40,"x\nb,1,40,"y\n' + GOOD, "z", [(2, "bad_csv"), (3, "bad_csv")]),
    "nul": (HEADER + b"a,1,40,x\0y\nb,1\0,40,\n\0c,1,40,\n" + GOOD, ["a", "\0c", "z"], [(3, "not_a_value")]),
    "byte_order_mark": (BOM + HEADER + GOOD, "z", []),
    "byte_order_mark_in_the_middle": (
        BOM + HEADER + b"a,1,40,\n" + BOM + HEADER + BOM + b"b,1,40,\n" + GOOD,
        ["a", "\ufeffb", "z"],
        [(3, "not_a_value")] * 2,
    ),
    "two_encodings": (HEADER + b"caf\xc3\xa9,1,40,\nbl\xe9,1,40,\n" + GOOD, ["caf\u00e9", "z"], [(3, "bad_encoding")]),
    "half_a_character_at_the_end": (HEADER + GOOD + b"a,1,40,\xc3", "z", [(3, "bad_encoding")]),
    "surrogates_in_utf8": (HEADER + b"a,1,40,\xed\xa0\x80\n" + GOOD, "z", [(2, "bad_encoding")]),
    "crlf": (HEADER.replace(b"\n", b"\r\n") + b"a,1,40,\r\n\r\n" + GOOD, "az", []),
    "lone_carriage_returns": (
        HEADER + b'a,1,40,x\rb,1,40,y\nc,1,40,"x\ry"\nd,1,40,x\r\r\n' + GOOD + b"e,1,40,x\r",
        "cdze",
        [(2, "bad_csv")],
    ),
    "ragged": (
        HEADER + b"a\na,1,40\na,1,40,x,\n,,,\n \na,1,40,x\n" + GOOD,
        "az",
        [*((line, "ragged_row") for line in (2, 3, 4)), (5, "empty_case_id"), (6, "ragged_row")],
    ),
    "empty_lines": (b"\n\r\n" + HEADER + b"\n\n" + GOOD + b"\r\n\n", "z", []),
    "no_line_feed_at_the_end": (HEADER + GOOD.rstrip(), "z", []),
    "separators_that_are_no_line_ends": (
        HEADER + "a,1,40,x\u2028y\x0b\x0c\x1c\x85z\nb\u0085c,1,40,\n".encode() + GOOD,
        ["a", "b\u0085c", "z"],
        [],
    ),
    "long_cell": (HEADER + b"a,1,40," + b"x" * 10_000_000 + b"\n" + GOOD, "az", []),
    "long_value": (HEADER + b"a," + b"1" * 10_000_000 + b",40,\n" + GOOD, "z", [(2, "not_a_value")]),
    "long_id": (HEADER + b"a" * 10_000_000 + b",1,40,\n" + GOOD, ["a" * 10_000_000, "z"], []),
    "long_quoted_cell": (HEADER + b'a,1,40,"' + b"x,\n" * 3_000_000 + b'"\n' + GOOD, "az", []),
    "line_above_the_limit": (HEADER + b"a,1,40," + b"x" * TOO_LONG + b"\n" + GOOD, "z", [(2, "line_too_long")]),
    "last_line_above_the_limit": (HEADER + GOOD + b"x" * TOO_LONG, "z", [(3, "line_too_long")]),
    "formulas": (
        HEADER + b"=1+1,1,40,\n+1,=1+1,40,\n-1,1,@x,\n@x,1,40,=cmd|' /C calc'!A0\n" + GOOD,
        ["=1+1", "@x", "z"],
        [(3, "not_a_value"), (4, "not_a_value")],
    ),
    "look_alike_ids": (
        "case_id,present\na,trem\u043er\nb,\uff54remor\nc,tre\u200bmor\nd,\u200ftremor\ne,\u00a0tremor\u00a0\nf,TREMOR\n".encode(),
        "e",
        [(line, "unknown_id") for line in (2, 3, 4, 5, 7)],
    ),
    "ids_that_differ_in_what_nobody_sees": (
        "case_id,tremor\na,1\na\u200b,1\n\u200ea,1\n\u0430,1\na\0,1\n\u00a0a,1\n".encode(),
        ["a", "a\u200b", "\u200ea", "\u0430", "a\0"],
        [(7, "duplicate_case_id")],
    ),
    "more_ids_than_there_are": (
        b"case_id,present,absent\na," + b";".join(b"x%d" % i for i in range(500_000)) + b",\nb,tremor;tremor; ;,numbness\n",
        "b",
        [(2, "too_many_ids")],
    ),
    "ids_that_say_nothing": (
        HEADER + b"NA,1,40,\nunknown,1,40,\n  ,1,40,\n" + GOOD,
        "z",
        [(i, "empty_case_id") for i in (2, 3, 4)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_scored_or_rejected(name, tmp_path, tiny):
    data, ids, errors = ROWS[name]
    found = score(tmp_path, tiny, data)
    assert found.refusal == ""
    assert list(found.posteriors) == list(ids)
    assert found.errors == [(str(line), error) for line, error in errors]
    for answer in found.posteriors.values():
        assert answer in (expected(tiny, {"tremor": "1", "age": 40}), expected(tiny, {"tremor": "0", "age": 50})) or (
            b",age," not in data
        )


# name -> (bytes of the file, what is said of it)
REFUSED = {
    "nothing": (b"", "cases.csv: is empty; expected a header and one case a row"),
    "line_feeds": (b"\n\r\n\n", "cases.csv: is empty; expected a header and one case a row"),
    "byte_order_mark": (BOM, "cases.csv: is empty; expected a header and one case a row"),
    "header_only": (HEADER, "cases.csv: has a header but no cases"),
    "two_byte_order_marks": (BOM + BOM + HEADER + GOOD, "unknown column '\\ufeffcase_id'"),
    "utf16": ("case_id,tremor\na,1\n".encode("utf-16-be"), "unknown column"),
    "nul_only": (b"\0" * 1000, "unknown column"),
    "carriage_returns": (HEADER.replace(b"\n", b"\r") + GOOD, "cases.csv:1: not valid CSV"),
    "duplicated_header": (b"case_id,tremor,tremor\na,1,1\n", "duplicate column 'tremor'; keep one"),
    "two_names_for_one_finding": (b"case_id,tremor,shaking\na,1,1\n", "columns 'tremor' and 'shaking' both mean tremor"),
    "empty_name": (b"case_id,,tremor\na,1,1\n", "column 2 has no name"),
    "look_alike": ("case_id,trem\u043er\na,1\n".encode(), "unknown column"),
    "open_quote": (b'case_id,"tremor\na,1\n' * 100_000, "cases.csv:1: not valid CSV"),
    "open_quote_and_no_other": (b'case_id,"tremor\n' + b"a,1\n" * 1_000_000, "a quote of the header is never closed"),
    "header_above_the_limit": (b"x," * (TOO_LONG // 2 + 1), "cases.csv:1: longer than"),
    "a_million_columns": (b",".join(b"x%d" % i for i in range(1_000_000)) + b"\n", "unknown column 'x0'"),
    "a_million_columns_that_are_read_over": (b",".join([b"note"] * 1_000_000) + b"\n", "has a header but no cases"),
    "binary": (b"\x89PNG\r\n" + bytes(range(256)) * 100, "cases.csv:1: byte 0x89 is not utf-8"),
    "parquet_that_is_none": (b"PAR1\0\0\0\0PAR1", "is parquet by its first bytes, expected csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_in_one_line(name, tmp_path, tiny):
    data, message = REFUSED[name]
    assert message in score(tmp_path, tiny, data).refusal


def test_a_million_columns_and_a_row(tmp_path, tiny):
    n = 1_000_000
    found = score(tmp_path, tiny, b"case_id,tremor" + b",note" * n + b"\na,1" + b"," * n + b"\nb,1\n")
    assert found.posteriors == {"a": expected(tiny, {"tremor": "1"})}
    assert found.errors == [("3", "ragged_row")]


def test_unknown_columns_that_are_many_are_all_reported(tmp_path, tiny):
    n = 100_000
    names = b"".join(b",x%d" % i for i in range(n))
    found = score(tmp_path, tiny, b"case_id,tremor" + names + b"\na,1" + b"," * n + b"\n", lenient=True)
    assert found.posteriors == {"a": expected(tiny, {"tremor": "1"})}
    assert [reject["column"] for reject in found.rejects] == [f"x{i}" for i in range(n)]


def test_rejects_hold_the_whole_row(tmp_path, tiny):
    rows = ['a,1,40,"x"y' + "z" * 5000, "b,maybe,40," + "z" * 5000, "c,1" + ",z" * 5000, 'd,1,40,"x\ry"z']
    found = score(tmp_path, tiny, HEADER + "\n".join(rows).encode())
    assert [reject["original"] for reject in found.rejects] == rows


def test_a_row_that_is_bad_all_over_is_listed_in_part(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(scoring, "MOST_OFFENCES", 4)
    names = [name for name, finding in tiny.knowledge.findings.items() if not finding.graded]
    header, row = ",".join(["case_id", "age", *names]), ",".join(["a", "old", *["ja"] * len(names)])
    found = score(tmp_path, tiny, f"{header}\n{row}\nb,1,{',' * (len(names) - 1)}nein\n".encode())
    reading = "1/yes/true/present, 0/no/false/absent, a number from 0 to 1, or empty"
    assert [(r["line"], r["column"], r["error"], r["message"]) for r in found.rejects] == [
        ("2", "age", "not_a_value", "got 'old', expected an age in years, or empty"),
        *[("2", name, "not_a_value", f"got 'ja', expected {reading}") for name in names[:3]],
        ("2", "", "more_offences", f"and {len(names) - 3} more of this row"),
        ("3", names[-1], "not_a_value", f"got 'nein', expected {reading}"),
    ]
    assert {r["original"] for r in found.rejects[:5]} == {row}


@pytest.mark.parametrize("line", [b'x",a"b,"\n', b'a,1,40,"\n', b'"\n', b'"""\n', b'a,"b""\n'])
def test_open_quotes_in_every_line_take_no_time_that_grows_with_their_square(line, tmp_path, tiny, monkeypatch):
    cells, parsed = lines.CsvRows._cells, 0

    def counted(self, raws):
        nonlocal parsed
        parsed += len(raws)
        return cells(self, raws)

    monkeypatch.setattr(lines.CsvRows, "_cells", counted)
    found = score(tmp_path, tiny, HEADER + GOOD + line * 40_001)
    assert parsed < 8 * 40_001
    assert found.report.rejected == len({reject["line"] for reject in found.rejects}) > 20_000 - 2


@pytest.mark.parametrize("encoding", ["idna", "undefined", "utf-7", "raw_unicode_escape", "rot13", "utf-16", "no\0such"])
def test_encodings_that_are_none(encoding, tmp_path, tiny):
    assert "encoding" in score(tmp_path, tiny, HEADER + GOOD, encoding=encoding).refusal


def test_other_encodings(tmp_path, tiny):
    for encoding in ("cp1252", "latin-1", "shift_jis", "iso2022_jp", "gb18030", "utf_8"):
        text = '\u30bd",x' if encoding in ("shift_jis", "iso2022_jp", "gb18030", "utf_8") else '\u00e9",x'
        quoted = text.replace('"', '""')
        data = f'case_id,tremor,age,note\n"{quoted}",1,40,"\n"\n'.encode(encoding)
        found = score(tmp_path / encoding, tiny, data, encoding=encoding)
        assert list(found.posteriors) == [text]


# What a number is: cell -> the value it has, or None where it must be refused.
CELLS = {
    "1": 1.0,
    "+1": 1.0,
    " 1 ": 1.0,
    "\u00a01\u00a0": 1.0,
    "yes": 1.0,
    "TRUE": 1.0,
    "0": 0.0,
    "-0": 0.0,
    "0.25": 0.25,
    ".25": 0.25,
    "2.5e-1": 0.25,
    "\uff11": 1.0,
    "\u0660": 0.0,
    "": np.nan,
    "NaN": np.nan,
    "n/a": np.nan,
    **dict.fromkeys(
        ["-1", "1.5", "1e999", "-1e999", "Infinity", "-inf", "1,5", "0,5", "1.000,5", "0x1", "0b1", "1_0", "1e", "--1"]
    ),
    **dict.fromkeys(
        ["=1+1", "@x", "1;1", "1 0", "\u00b2", "\u00bd", "1\u066b5", "\u200b1", "1\u200f", "\u2212" + "1", "ye\u0455", "1%"]
    ),
    **dict.fromkeys(["1\0", "None", "null", "<NULL>", "-", "?", "'1'", '"1"', "1\n1"]),
}


def test_what_a_number_is(tmp_path, tiny):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["case_id", "tremor"], *([f"c{i}", cell] for i, cell in enumerate(CELLS))])
    found = score(tmp_path, tiny, text.getvalue().encode())
    said = {f"c{i}": value for i, value in enumerate(CELLS.values()) if value is not None}
    assert found.posteriors == {case: expected(tiny, {"tremor": value}) for case, value in said.items()}
    assert {reject["error"] for reject in found.rejects} == {"not_a_value", "out_of_range"}


def test_a_value_that_is_refused_stands_in_the_rejects_as_it_was(tmp_path, tiny):
    bad = [cell for cell, value in CELLS.items() if value is None]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["case_id", "tremor"], *([f"c{i}", cell] for i, cell in enumerate(bad))])
    found = score(tmp_path, tiny, text.getvalue().encode())
    assert [reject["value"] for reject in found.rejects] == bad


# Whatever is in the cells, the answer is that of Model.score on the rows that the csv module of Python reads.

TOKENS = [
    "1",
    "0",
    "0.3",
    "",
    "NA",
    "yes",
    "2",
    "x",
    "=1+1",
    "1,5",
    'a"b',
    '"',
    "a\nb",
    "\r\n",
    "\u043e",
    "\u200b",
    "\ufeff",
    "a\0",
    "70",
]
ids = st.one_of(
    st.sampled_from([*"abcdefghij", "NA", "", *TOKENS]), st.text(st.sampled_from('ab",\n\r\0\u00e9\u202e\ufeff '), max_size=5)
)
finding = st.one_of(st.sampled_from(["1", "0", "0.3", "", "yes"]), st.sampled_from(TOKENS))
listed = st.lists(st.sampled_from(["tremor", "fatigue", "numbness", "weak_arm", "hand_weakness", "tremr", "", " "]), max_size=3)
row = st.tuples(
    ids,
    finding,
    finding,
    st.sampled_from(["40", "70.5", "", "-1", "121", "x"]),
    st.sampled_from(["f", "male", "", "x"]),
    st.sampled_from(["", "11.9", "12.5", "13", "1e3", "NaN"]),
    listed.map(";".join),
    listed.map(";".join),
    st.one_of(st.sampled_from(TOKENS), st.text(max_size=8).filter(lambda t: t.isprintable())),
)
COLUMNS = ["case_id", "tremor", "shaking", "age", "sex", "haemoglobin_g_dl", "present", "absent", "note"]
COLUMNS[2] = "fatigue"
sizes = st.tuples(st.sampled_from([1, 2, 3, 8192]), st.sampled_from([1, 7, 64, 1 << 22]), st.booleans())


@settings(max_examples=120)
@given(table=st.lists(row, min_size=1, max_size=6), how=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), size=sizes)
def test_a_file_is_scored_as_its_rows_are(table, how, size, tmp_path_factory, tiny):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=how).writerows([COLUMNS, *table])
    folder = tmp_path_factory.mktemp("table")
    parsed = list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True))[1:]
    whole = score(folder / "whole", tiny, text.getvalue().encode())
    assert whole.posteriors == expected_of_table(tiny, COLUMNS, parsed)
    assert whole.report is None or whole.report.rows == len(parsed)
    rows, block, csv_module = size
    with chunked(rows, block, csv_module=csv_module):
        parts = score(folder / "parts", tiny, text.getvalue().encode())
    assert parts.bytes == whole.bytes


@settings(max_examples=150)
@given(
    data=st.lists(
        st.sampled_from([b"a", b"1", b",", b"\n", b"\r\n", b"\r", b'"', b'""', b"\xe9", b"\0", b"b,1,40,\n"]), max_size=40
    ),
    size=sizes,
)
def test_any_bytes_give_the_same_whatever_the_blocks(data, size, tmp_path_factory, tiny):
    content = HEADER + b"".join(data)
    folder = tmp_path_factory.mktemp("bytes")
    with chunked(longest=64, block=64):
        whole = score(folder / "whole", tiny, content)
    rows, block, csv_module = size
    with chunked(rows, min(block, 64), longest=64, csv_module=csv_module):
        parts = score(folder / "parts", tiny, content)
    assert (parts.bytes, parts.refusal) == (whole.bytes, whole.refusal)
