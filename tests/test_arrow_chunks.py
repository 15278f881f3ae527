"""Typed rows, of Parquet files and of Spark, as chunks for the scorer."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

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
    assert json.loads(chunk.text(1)) == {"present": LISTS[start + 1], "other": start + 1}
