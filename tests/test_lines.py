"""Rows of CSV bytes: whichever parser a block goes through, the cells are those that the csv module of Python reads."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddx.batch.lines import CsvRows

cells = st.text(alphabet=st.sampled_from(list("ab ,\"\n\t'é")), max_size=4)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6))
quoting = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])


def rows_of(data: bytes) -> list[list[str]]:
    found = []
    for chunk in CsvRows(io.BytesIO(data), "cases.csv", "utf-8").chunks():
        assert chunk.refused == []
        columns = [column.to_pylist() if hasattr(column, "to_pylist") else column for column in chunk.cells]
        found += [list(row) for row in zip(*columns, strict=True)]
    return found


@given(tables, quoting, st.sampled_from(["\n", "\r\n"]))
def test_cells_are_those_of_the_csv_module(table, how, ending):
    names = [f"n{i}" for i in range(len(table[0]) if table else 1)]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=how, lineterminator=ending).writerows([names, *table])
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True))[1:]
    assert rows_of(text.getvalue().encode()) == [row for row in expected if row]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ('"a","b"', ["a", "b"]),
        ('a,"b"', ["a", "b"]),
        ('"a,b",""', ["a,b", ""]),
        ('"a""b",c', ['a"b', "c"]),
        ('a"b,c"', ['a"b', 'c"']),
        ('"a\nb",c', ["a\nb", "c"]),
        ("'a',\"b\"", ["'a'", "b"]),
    ],
)
def test_quotes(row, cells):
    assert rows_of(f"x,y\n{row}\n1,2\n".encode()) == [cells, ["1", "2"]]


def test_text_of_a_quoted_row_is_as_it_stands_in_the_file():
    chunk = next(CsvRows(io.BytesIO(b'x,y\r\n"a","b"\r\n1,"2"\r\n'), "cases.csv", "utf-8").chunks())
    assert chunk.texts([1, 0]) == ['1,"2"', '"a","b"']
    assert chunk.lines.tolist() == [2, 3]
