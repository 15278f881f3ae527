"""Cases in a Spark DataFrame -> posteriors and rejects, by the very scorer that files go through. Needs the extra ``spark``.

The workers need ddx and pyarrow, in the version of the driver. The model is sent to every executor once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ddx.batch import Chunk, Form, Scored, Scorer
from ddx.batch.lines import ROWS
from ddx.batch.sources import arrow_chunk
from ddx.cases import CASE_ID, REJECT_COLUMNS, Column, Reject, case_ids, interpret
from ddx.cases.columns import LISTS
from ddx.cases.values import UNKNOWN
from ddx.diagnosis import Model
from ddx.errors import UsageError

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

# Rows of a DataFrame have no lines; the case_id is what names a row.
REJECTS = tuple(column for column in REJECT_COLUMNS if column != "line")
POSTERIOR, REJECT = "posterior", "reject"
_REJECT = pa.struct([pa.field(column, pa.string()) for column in REJECTS])
# What str.strip takes off: ids that are the same to Python are the same to Spark.
_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def score(
    df: DataFrame,
    model: Model,
    *,
    lenient: bool = False,
    top: int = 0,
    long: bool = False,
    intervals: int = 0,
    seed: int = 0,
) -> tuple[DataFrame, DataFrame]:
    """Posteriors and rejects of a DataFrame of cases.

    Both are selections of one frame, ``score_rows``, and lazy: every action on one of them scores the rows it needs. Nothing is
    cached here, since only you know whether both will be read, whether memory or disk has the room, and when it can be given
    back. To score once for both, keep that frame yourself::

        rows = ddx.spark.score_rows(cases, model).persist()
        posteriors, rejects = ddx.spark.split(rows)
        ...  # write them
        rows.unpersist()

    Parameters
    ----------
    df : a row per case, columns as in a file of cases, wide or in list form: text, numbers or booleans, and text or arrays of
        text for ``present``, ``absent`` and ``context``. ``case_id`` is required: rows of a DataFrame have no order and no
        lines, so nothing else can tell which posterior belongs to which row
    lenient : drop an offending cell (or an unknown column) instead of rejecting its row
    top : so many columns cause_1, posterior_1, ... of the leading causes
    long : a row for every case and cause
    intervals : parameter draws for columns CAUSE_low and CAUSE_high (5 % and 95 % quantiles); 0 leaves them out
    seed : of the draws

    Returns
    -------
    posteriors : case_id, a column per cause, none_of_these and log_evidence (or what ``top``, ``long`` and ``intervals`` ask
        for), the numbers of ``ddx.score_file`` bit for bit. The metadata of its case_id name the knowledge base, its version
        and digest, and the setting
    rejects : case_id, column, value, error, message, original (the row as JSON), a row for every cell that could not be used.
        Rows in = rows scored + rows rejected. Of rows with the same case_id *all* are rejected, with the error
        duplicate_case_id: which of them comes first has no meaning here, and a choice by chance would be none

    Raises
    ------
    UsageError
        Before any job runs: unknown or duplicated columns, no case_id, a column of a type that says nothing, a stream.
    """
    return split(score_rows(df, model, lenient=lenient, top=top, long=long, intervals=intervals, seed=seed))


def score_rows(
    df: DataFrame,
    model: Model,
    *,
    lenient: bool = False,
    top: int = 0,
    long: bool = False,
    intervals: int = 0,
    seed: int = 0,
) -> DataFrame:
    """Posteriors and rejects in one frame: a row holds a struct ``posterior`` or a struct ``reject``, the other one is null.

    Parameters and errors are those of ``score``.
    """
    scorer = Scorer(model, lenient=lenient, form=Form(top, long, intervals, seed))
    names = tuple(df.columns)
    unused = scorer.check(names)
    columns = interpret(names, model.knowledge, lenient)
    _check(df, columns)
    schema = _schema(scorer)
    context = getattr(df.sparkSession, "sparkContext", None)
    shared = _Carried(scorer) if context is None else context.broadcast(scorer)
    rows = _with_counts(df, columns).mapInArrow(_mapping(shared, names), schema)
    if unused:
        rows = rows.union(df.sparkSession.createDataFrame([(None, reject.cells()[1:]) for reject in unused], schema))
    return rows


def split(rows: DataFrame) -> tuple[DataFrame, DataFrame]:
    """``posteriors`` and ``rejects`` of a frame that ``score_rows`` has made."""
    posteriors, rejects = (rows.where(rows[part].isNotNull()).select(f"{part}.*") for part in (POSTERIOR, REJECT))
    return posteriors, rejects


@dataclass(frozen=True, eq=False)
class _Carried:
    """Stands for a broadcast variable where a session has none (Spark Connect): the scorer travels with the function."""

    value: Scorer


def _check(df: DataFrame, columns: Sequence[Column]) -> None:
    """Refuse what no row could be scored with."""
    if not any(column.kind == CASE_ID for column in columns):
        raise UsageError(
            f"no column {CASE_ID!r}: rows of a DataFrame have no order and no lines, so only an id can tell whose posterior a "
            "row is; add the column, each case its own value"
        )
    for column, field in zip(columns, df.schema.fields, strict=True):
        if column.kind not in ("annotation", "unknown") and not _readable(field.dataType, column.kind in LISTS):
            allowed = "text, a number or a boolean" + (", or an array of text" if column.kind in LISTS else "")
            raise UsageError(
                f"column {column.name!r}: got the type {field.dataType.simpleString()}, expected {allowed}; cast it"
            )
    if df.isStreaming:
        raise UsageError("the DataFrame is a stream, whose repeated ids nobody can know; score its batches, in foreachBatch")


def _readable(type_: DataType, listed: bool) -> bool:
    from pyspark.sql import types as t

    if listed and isinstance(type_, t.ArrayType):
        return isinstance(type_.elementType, (t.StringType, t.VarcharType, t.CharType, t.NullType))
    return isinstance(type_, (t.StringType, t.VarcharType, t.CharType, t.NumericType, t.BooleanType, t.NullType))


def _schema(scorer: Scorer) -> StructType:
    """The columns of posteriors and of rejects, each in a struct."""
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType

    kb = scorer.model.knowledge
    made_by = {"knowledge_base": kb.name, "version": kb.version, "digest": kb.digest, "setting": scorer.model.setting}
    types = {pa.string(): StringType(), pa.float64(): DoubleType()}
    posterior = [
        StructField(f.name, types[f.type], metadata={"ddx": made_by} if f.name == CASE_ID else None) for f in scorer.schema
    ]
    reject = [StructField(column, StringType()) for column in REJECTS]
    return StructType([StructField(POSTERIOR, StructType(posterior)), StructField(REJECT, StructType(reject))])


def _with_counts(df: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """The columns by position, and behind them how many rows have the case_id of a row.

    A window, not a join with the counts: it looks at every row once, so that even a source that would answer differently the
    second time cannot have a case scored twice. It costs a shuffle of the cases.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    # Positions as names: Spark would take tremor and Tremor for one column, and a name with a dot for a struct.
    names = [f"c{position}" for position in range(len(columns))]
    rows = df.toDF(*names)
    id_ = next(rows[name] for name, column in zip(names, columns, strict=True) if column.kind == CASE_ID)
    key = f.btrim(id_.cast("string"), f.lit(_SPACE))
    # Rows without an id are rejected one by one; as one group they could be more than a task can take.
    read = [name for name, column in zip(names, columns, strict=True) if column.kind not in ("annotation", "unknown")]
    spread = f.when(key.isNull() | f.lower(key).isin(*UNKNOWN), f.xxhash64(*read))
    return rows.withColumn("rows", f.count(f.lit(1)).over(Window.partitionBy(key, spread)))


def _mapping(
    shared: Broadcast[Scorer] | _Carried, names: tuple[str, ...]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What runs in the Python processes of the executors."""

    def mapped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _stay_on_own_cores()
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield from _rows(shared.value.score(_chunk(batch.slice(start, ROWS), names)))

    return mapped


def _stay_on_own_cores() -> None:
    """As many threads as a task has cores: its neighbours have the others. Too late where something else has loaded numba."""
    if "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


def _chunk(batch: pa.RecordBatch, names: tuple[str, ...]) -> Chunk:
    """Rows as the scorer takes them, without those whose case_id is not their own."""
    *cells, count = batch.columns
    chunk = arrow_chunk(pa.RecordBatch.from_arrays(cells, names=list(names)), 0)
    rows = np.asarray(count)
    if not (rows > 1).any():
        return chunk
    ids = case_ids(names, chunk.cells, chunk.lines.tolist())
    own = np.array([n == 1 or not id_ for n, id_ in zip(rows.tolist(), ids, strict=True)], dtype=np.bool_)
    refused = []
    others = np.flatnonzero(~own).tolist()
    for row, text in zip(others, chunk.texts(others), strict=True):
        message = f"case_id {ids[row]!r} stands in {rows[row]} rows; give every case its own"
        refused.append(Reject(row, ids[row], CASE_ID, ids[row], "duplicate_case_id", message, text))
    kept = np.flatnonzero(own)
    cells = [column.take(pa.array(kept)) for column in chunk.cells]
    return Chunk(names, cells, kept, lambda rows: chunk.texts(kept[rows].tolist()), refused)


def _rows(scored: Scored) -> Iterator[pa.RecordBatch]:
    """The rows of ``score_rows``: posteriors, then rejects."""
    table = scored.table
    if table.num_rows:
        yield _either(table.to_struct_array(), pa.nulls(table.num_rows, _REJECT))
    if scored.rejects:
        columns = zip(*(reject.cells()[1:] for reject in scored.rejects), strict=True)
        rejects = pa.StructArray.from_arrays([pa.array(column, pa.string()) for column in columns], fields=list(_REJECT))
        yield _either(pa.nulls(len(rejects), pa.struct(list(table.schema))), rejects)


def _either(posterior: pa.Array, reject: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([posterior, reject], names=[POSTERIOR, REJECT])
