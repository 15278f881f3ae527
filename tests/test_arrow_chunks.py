"""Typed rows, of Parquet files and of Spark, as chunks for the scorer."""

from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pytest

import ddx
from ddx import spark
from ddx.batch import Form
from ddx.batch.sources import arrow_chunk

LISTS = [["a", "b"], [], None, ["a", None], [None], [None, "c", "d"]]


@pytest.mark.parametrize("type_", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
@pytest.mark.parametrize("start", [0, 2])
def test_a_null_in_a_list_says_nothing_and_takes_nothing_with_it(type_, start):
    batch = pa.RecordBatch.from_arrays([pa.array(LISTS, type_), pa.array(range(6))], names=["present", "other"]).slice(start)
    chunk = arrow_chunk(batch, 7)
    assert chunk.names == ("present", "other")
    assert chunk.cells[0].to_pylist() == ["a;b", "", None, "a", "", "c;d"][start:]
    assert chunk.cells[1].to_pylist() == list(range(start, 6))
    assert chunk.lines.tolist() == list(range(7, 13 - start))
    expected = [{"present": LISTS[at], "other": at} for at in (start + 2, start + 1)]
    assert [json.loads(text) for text in chunk.texts([2, 1])] == expected


CELLS = {
    "text": pa.array(["a, b", 'q"', "\x1f", "%s", None, "é\u2028", ""]),
    "100 % of {it}": pa.array([1.0, float("nan"), float("inf"), -0.0, None, 1e300, 5e-324]),
    "whole": pa.array([2**63 - 1, -1, None, 0, 1, 2, 3]),
    "flag": pa.array([True, False, None, True, False, None, True]),
    "date": pa.array([datetime.date(2020, 1, 1), None, *[datetime.date(1, 1, 1)] * 5]),
    "list": pa.array([["a", "b, c"], [], None, [None], ["\x1f"], [""], ["d"]]),
    "nothing": pa.nulls(7),
}


def test_the_text_of_a_row_is_an_object_with_its_cells():
    batch = pa.RecordBatch.from_arrays(list(CELLS.values()), names=list(CELLS))
    texts = arrow_chunk(batch, 1).texts(range(7))
    rows = zip(*(column.to_pylist() for column in CELLS.values()), strict=True)
    assert texts == [json.dumps(dict(zip(CELLS, row, strict=True)), default=str, ensure_ascii=False) for row in rows]


def test_texts_of_no_rows_and_of_types_that_arrow_takes_no_cells_of():
    batch = pa.RecordBatch.from_arrays(
        [pa.array(["a", "b"]), pa.array(["x", None]).cast(pa.string_view())], ["case_id", "note"]
    )
    texts = arrow_chunk(batch, 1).texts
    assert texts([]) == []
    assert [json.loads(text) for text in texts([1, 0])] == [{"case_id": "b", "note": None}, {"case_id": "a", "note": "x"}]


def test_equal_rows_without_an_id_are_left_to_the_scorer():
    names = ("case_id", "tremor")
    batch = pa.RecordBatch.from_arrays([pa.array(["", ""]), pa.array([1, 1]), pa.array([2, 2])], [*names, "rows"])
    chunk = spark._chunk(batch, names)
    assert (len(chunk.lines), chunk.refused) == (2, [])


@pytest.mark.parametrize("name", ["top", "intervals"])
def test_a_form_refuses_negative_numbers_before_any_work(name):
    with pytest.raises(ddx.UsageError, match=rf"^{name}: got -1, expected 0 or more$"):
        Form(**{name: -1})
