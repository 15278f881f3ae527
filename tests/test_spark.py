"""``ddx.spark`` on a cluster: a driver, two executors with a JVM each, and their Python processes.

Without Java these tests fail where CI is set, and are skipped on a machine of somebody who has none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import readme

import ddx
import ddx.spark
from ddx import validation

JAVA = shutil.which("java") or os.environ.get("JAVA_HOME")
if not JAVA and not os.environ.get("CI"):
    pytest.skip("Spark needs Java 17 or later", allow_module_level=True)

# Three JVMs live for a minute: what the second compiler and a second collector win comes too late.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
CONFIG = {
    "spark.ui.enabled": "false",
    "spark.driver.extraJavaOptions": SHORT_LIVED,
    "spark.executor.extraJavaOptions": SHORT_LIVED,
    "spark.sql.shuffle.partitions": "4",
    # Small tables stay in four parts, so that every executor has some of each.
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "37",
    # An executor that is gone does not come back under its name: no reason to wait for it.
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "1s",
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    environment = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"SPARK_WORKER_DIR": str(folder / "work")}).items():
            patch.setenv(name, value)
        builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("ddx tests")
        for name, value in CONFIG.items():
            builder = builder.config(name, value)
        session = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse")).getOrCreate()
        session.sparkContext.setLogLevel("OFF")  # a killed executor is loud
        yield session
        session.stop()


def table(frame) -> pa.Table:
    """The rows of a DataFrame in the order of their case ids."""
    found = frame.toArrow()
    keys = [(name, "ascending") for name in ("case_id", "cause", "column", "value", "original") if name in found.column_names]
    return found.sort_by(keys)


def locally(path: Path, model, folder: Path, **options) -> tuple[pa.Table, pd.DataFrame]:
    """Posteriors and rejects of ``ddx.score_file``."""
    target = folder / "local.parquet"
    ddx.score_file(path, target, model, rejects=folder / "local.csv", **options)
    posteriors = pq.read_table(target)
    keys = [(name, "ascending") for name in ("case_id", "cause") if name in posteriors.column_names]
    rejects = pd.read_csv(folder / "local.csv", dtype=str, keep_default_na=False).drop(columns="line")
    order = ["case_id", "column", "value", "original"]
    return posteriors.sort_by(keys), rejects.sort_values(order, ignore_index=True)


def assert_same_bits(found: pa.Table, expected: pa.Table) -> None:
    assert found.column_names == expected.column_names
    assert found.num_rows == expected.num_rows
    for name in found.column_names:
        ours, theirs = found[name].combine_chunks(), expected[name].combine_chunks()
        assert ours.null_count == 0
        if pa.types.is_floating(ours.type):
            ours, theirs = (np.asarray(column).view(np.int64) for column in (ours, theirs))
            assert (ours == theirs).all(), name
        else:
            assert ours.to_pylist() == theirs.to_pylist(), name


def assert_same_rejects(found: pa.Table, expected: pd.DataFrame) -> None:
    frame = pd.DataFrame(found.to_pylist(), columns=found.column_names)
    assert frame.columns.tolist() == expected.columns.tolist()
    assert frame.to_dict("records") == expected.to_dict("records")


def no_job(spark):
    """Jobs that have run so far; compare before and after."""
    return spark.sparkContext.statusTracker().getJobIdsForGroup(None)


def typed(n: int) -> pa.Table:
    """Cases of ``tiny`` in typed columns, some of them wrong."""
    rng = np.random.default_rng(5)

    def some(values, missing: float = 0.4) -> list:
        return [None if lost else value for lost, value in zip(rng.random(n) < missing, values, strict=True)]

    ids = np.array(["numbness", "raised_ck", "brisk_reflexes", "slow_onset"])
    lists = [ids[rng.random(4) < 0.3].tolist() for _ in range(n)]
    lists[3], lists[4], lists[5] = ["numb"], ["numbness", None, "raised_ck"], [None]
    age = rng.integers(0, 100, n).astype(float)
    age[[7, 8]] = 150, np.nan
    sex = rng.choice(["female", "m", "NA", " male "], n)
    sex[9] = "neither"
    return pa.table(
        {
            "case_id": pa.array([f"c{i:03d}" for i in range(n)]),
            "age": pa.array(age),
            "sex": pa.array(sex),
            "diabetes": pa.array(some(rng.random(n) < 0.5), pa.bool_()),
            "tremor": pa.array(some(rng.random(n) < 0.5), pa.bool_()),
            "fatigue": pa.array(some(rng.random(n)), pa.float64()),
            "weak_arm": pa.array(some(rng.integers(0, 3, n).tolist()), pa.int8()),
            "haemoglobin_g_dl": pa.array(some(rng.uniform(1.0, 20.0, n)), pa.float32()),
            "present": pa.array(lists, pa.list_(pa.string())),
            "note": pa.array([f"row {i}, \u00e9" for i in range(n)]),
        }
    )


@pytest.fixture(scope="module")
def typed_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("typed") / "typed.parquet"
    pq.write_table(typed(300), path, row_group_size=90)
    return path


@pytest.mark.parametrize("lenient", [False, True])
def test_typed_columns_give_what_a_parquet_file_gives(spark, tiny, typed_file, tmp_path, lenient):
    expected, expected_rejects = locally(typed_file, tiny, tmp_path, lenient=lenient)
    posteriors, rejects = ddx.spark.score(spark.read.parquet(str(typed_file)), tiny, lenient=lenient)
    found, found_rejects = table(posteriors), table(rejects)
    assert_same_bits(found, expected)
    assert_same_rejects(found_rejects, expected_rejects)
    assert 50 < found.num_rows < 300 or lenient
    rejected = set(found_rejects["case_id"].to_pylist()) - set(found["case_id"].to_pylist())
    assert found.num_rows + len(rejected) == 300
    assert rejects.columns == ["case_id", "column", "value", "error", "message", "original"]
    # A null in a list says nothing, and what stands beside it is read.
    assert {"c004", "c005"} <= set(found["case_id"].to_pylist())


@pytest.mark.parametrize("options", [{"top": 3, "intervals": 20}, {"long": True, "intervals": 20, "seed": 3}])
def test_the_forms_of_the_output_are_those_of_files(spark, tiny, tmp_path, options):
    path = tmp_path / "few.parquet"
    pq.write_table(typed(40), path)
    expected, _ = locally(path, tiny, tmp_path, **options)
    posteriors, _ = ddx.spark.score(spark.read.parquet(str(path)), tiny, **options)
    assert_same_bits(table(posteriors), expected)


@pytest.fixture(scope="module")
def patients(limb, tmp_path_factory) -> Path:
    """Simulated cases of the shipped knowledge base, in list form, and the examples of the README."""
    path = tmp_path_factory.mktemp("patients") / "patients.csv"
    examples = pd.read_csv(Path(readme.ROOT) / "experiments" / "examples" / "cases.csv", dtype=str)
    simulated = validation.simulate(limb, 40, seed=2, observed=0.2).astype(str)
    pd.concat([examples, simulated]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def expected(limb, patients) -> pa.Table:
    """Their posteriors from this process."""
    posteriors, rejects = locally(patients, limb, patients.parent)
    assert len(posteriors) > 60
    assert rejects.empty
    return posteriors


def read_csv(spark, path: Path):
    """Text cells, in eight parts."""
    return spark.read.csv(str(path), header=True, quote='"', escape='"').repartition(8)


def executors(spark) -> list[int]:
    """Process ids of the executors: the children of the JVM that is ours."""
    handles = spark.sparkContext._jvm.java.lang.ProcessHandle.current().children().toArray()
    pids = [int(handle.pid()) for handle in handles]
    return [pid for pid in pids if b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until(condition, running) -> None:
    """Wait for something that a job in another thread brings about; its error if it fails instead."""
    while not condition():
        if running.done():
            pytest.fail(f"the job ended too early: {running.result()}")
        time.sleep(0.05)


def test_patients_on_a_cluster_that_loses_an_executor(spark, limb, patients, expected, tmp_path):
    """It dies while it scores, with its shuffled rows: they are read and scored again elsewhere."""
    posteriors, _ = ddx.spark.score(read_csv(spark, patients), limb)
    started, go = tmp_path / "started", tmp_path / "go"
    started.mkdir()

    def stall(batches):  # runs behind the scorer, in the same task
        import os
        import time

        for batch in batches:
            (started / str(os.getpid())).touch()
            while not go.exists():
                time.sleep(0.05)
            yield batch

    slow = posteriors.mapInArrow(stall, posteriors.schema)
    before = set(executors(spark))
    assert len(before) == 2
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(table, slow)
        try:
            until(lambda: len(list(started.iterdir())) >= 2, running)  # both are in the middle of a task
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in executors(spark), running)
        finally:
            go.touch()
        assert_same_bits(running.result(), expected)
    assert victim not in executors(spark)


def test_a_killed_python_process_changes_nothing(spark, tiny, typed_file, tmp_path):
    expected, expected_rejects = locally(typed_file, tiny, tmp_path)
    rows = ddx.spark.score_rows(spark.read.parquet(str(typed_file)), tiny)
    killed = tmp_path / "killed"

    def once(batches):
        import os
        import signal

        for batch in batches:
            yield batch
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    posteriors, rejects = ddx.spark.split(rows.mapInArrow(once, rows.schema))
    assert_same_bits(table(posteriors), expected)
    assert killed.exists()
    assert_same_rejects(table(rejects), expected_rejects)


def test_no_case_is_scored_under_an_id_that_is_not_its_own(spark, tiny):
    ids = ["a", " a", "b", "c\u00a0", "c", "C", "", None, "NA", "nan ", "A", "a\n", " "]
    cases = spark.createDataFrame([(id_, row % 2) for row, id_ in enumerate(ids)], "case_id string, tremor int").repartition(3)
    posteriors, rejects = ddx.spark.score(cases, tiny)
    assert table(posteriors)["case_id"].to_pylist() == ["A", "C", "b"]
    found = [row.asDict() for row in rejects.collect()]
    assert sorted((r["case_id"], r["value"], r["error"]) for r in found) == [
        *[("", "", "empty_case_id")] * 5,
        *[("a", "a", "duplicate_case_id")] * 3,
        *[("c", "c", "duplicate_case_id")] * 2,
    ]
    assert {r["column"] for r in found} == {"case_id"}
    assert {r["message"] for r in found if r["error"].startswith("dup")} == {
        "case_id 'a' stands in 3 rows; give every case its own",
        "case_id 'c' stands in 2 rows; give every case its own",
    }
    originals = [json.loads(r["original"]) for r in found]
    assert sorted(o["tremor"] for o in originals) == sorted(row % 2 for row, i in enumerate(ids) if i not in ("A", "C", "b"))
    assert {"case_id": "a\n", "tremor": 1} in originals
    assert posteriors.count() + rejects.count() == len(ids)


def test_numbers_are_ids_too(spark, tiny):
    cases = spark.createDataFrame([(1, 1), (2, 0), (2, 1), (None, 0)], "case_id long, tremor int")
    posteriors, rejects = ddx.spark.score(cases, tiny)
    assert table(posteriors)["case_id"].to_pylist() == ["1"]
    assert sorted(r.error for r in rejects.collect()) == ["duplicate_case_id", "duplicate_case_id", "empty_case_id"]


def test_what_counts_as_space_around_an_id_is_what_python_takes_off():
    assert set(ddx.spark._SPACE) == {c for c in map(chr, range(sys.maxunicode + 1)) if not c.strip()}


def test_names_that_spark_would_mix_up_and_unknown_columns_in_a_lenient_reading(spark, tiny):
    cases = spark.createDataFrame(
        [("a", 1, 0, {"x": 1}, "n")], "case_id string, tremor int, Tremor int, `no.such` map<string,int>, note string"
    )
    posteriors, rejects = ddx.spark.score(cases, tiny, lenient=True)
    model = tiny.score(pd.DataFrame({"tremor": [1]}))
    row = posteriors.collect()[0].asDict()
    assert row.pop("case_id") == "a"
    assert row == model.iloc[0].to_dict()
    assert [(r.case_id, r.column, r.error) for r in rejects.orderBy("column").collect()] == [
        ("", "Tremor", "unknown_column"),
        ("", "no.such", "unknown_column"),
    ]


@contextmanager
def refused_before_any_job(spark, message: str):
    jobs = set(no_job(spark))
    with pytest.raises(ddx.UsageError) as error:
        yield
    assert str(error.value) == message
    assert set(no_job(spark)) == jobs


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            "case_id string, tremr int",
            "unknown column 'tremr'; nearest: tremor; correct it, take it out, or ignore it (--lenient, lenient=True)",
        ),
        (
            "case_id string, tremor int, shaking int",
            "duplicate column 'shaking': columns 'tremor' and 'shaking' both mean tremor; keep one",
        ),
        (
            "tremor int",
            "no column 'case_id': rows of a DataFrame have no order and no lines, so only an id can tell whose posterior a row "
            "is; add the column, each case its own value",
        ),
        (
            "case_id string, tremor date",
            "column 'tremor': got the type date, expected text, a number or a boolean; cast it",
        ),
        (
            "case_id array<string>",
            "column 'case_id': got the type array<string>, expected text, a number or a boolean; cast it",
        ),
        (
            "case_id string, present array<int>",
            "column 'present': got the type array<int>, expected text, a number or a boolean, or an array of text; cast it",
        ),
    ],
)
def test_columns_are_checked_on_the_driver(spark, tiny, schema, message):
    cases = spark.createDataFrame([], schema)
    with refused_before_any_job(spark, message):
        ddx.spark.score(cases, tiny)


def test_columns_of_the_same_name_are_refused(spark, tiny):
    cases = spark.createDataFrame([("a", 1, 1)], "case_id string, tremor int, other int").toDF("case_id", "tremor", "tremor")
    with refused_before_any_job(spark, "duplicate column 'tremor'; keep one"):
        ddx.spark.score(cases, tiny)


def test_a_stream_is_refused(spark, tiny):
    stream = spark.readStream.format("rate").load().selectExpr("cast(value as string) case_id")
    message = "the DataFrame is a stream, whose repeated ids nobody can know; score its batches, in foreachBatch"
    with refused_before_any_job(spark, message):
        ddx.spark.score(stream, tiny)


def test_no_rows_give_two_empty_tables(spark, tiny):
    posteriors, rejects = ddx.spark.score(spark.createDataFrame([], "case_id string, tremor int"), tiny)
    assert posteriors.columns == ["case_id", *tiny.knowledge.causes, "none_of_these", "log_evidence"]
    assert (posteriors.count(), rejects.count()) == (0, 0)


def plan(frame) -> str:
    return frame._jdf.queryExecution().executedPlan().toString()


def test_one_pass_scores_for_both_when_the_rows_are_kept(spark, tiny, typed_file):
    cases = spark.read.parquet(str(typed_file))
    for frame in ddx.spark.score(cases, tiny):
        assert len(re.findall("MapInArrow", plan(frame))) == 1
        assert len(re.findall("Scan parquet", plan(frame))) == 1
    rows = ddx.spark.score_rows(cases, tiny).persist()
    try:
        for frame in ddx.spark.split(rows):
            kept = plan(frame)
            assert kept.count("InMemoryTableScan") == 1
            # Whatever scores stands behind the table that is kept.
            assert "MapInArrow" not in kept[: kept.index("InMemoryRelation")]
    finally:
        rows.unpersist()


def test_the_model_is_sent_once_and_named_in_the_result(spark, tiny, typed_file, monkeypatch):
    sent = []
    broadcast = type(spark.sparkContext).broadcast
    monkeypatch.setattr(type(spark.sparkContext), "broadcast", lambda self, value: sent.append(value) or broadcast(self, value))
    posteriors, _ = ddx.spark.score(spark.read.parquet(str(typed_file)).limit(5), tiny)
    assert [type(value) for value in sent] == [ddx.batch.Scorer]
    kb = tiny.knowledge
    made_by = {"knowledge_base": kb.name, "version": kb.version, "digest": kb.digest, "setting": tiny.setting}
    assert posteriors.schema["case_id"].metadata == {"ddx": made_by}


CONNECTED = """
import sys
import ddx, ddx.spark
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

folder, source = sys.argv[1:]
session = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
assert type(session).__module__ == "pyspark.sql.connect.session"
for name, part in zip(("posteriors", "rejects"), ddx.spark.score(session.read.parquet(source), ddx.load(folder))):
    pq.write_table(part.toArrow(), f"{name}.parquet")
session.stop()
"""


def test_a_session_of_spark_connect_gives_the_same(tiny, tiny_folder, typed_file, tmp_path):
    """Such a session has no broadcast variables: the scorer travels with the function."""
    expected, expected_rejects = locally(typed_file, tiny, tmp_path)
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    environment = alone | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [sys.executable, "-c", CONNECTED, str(tiny_folder), str(typed_file)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, rejects = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("posteriors", "rejects"))
    assert_same_bits(found.sort_by("case_id"), expected)
    keys = [(name, "ascending") for name in ("case_id", "column", "value", "original")]
    assert_same_rejects(rejects.sort_by(keys), expected_rejects)


@pytest.mark.usefixtures("spark")  # the session that the example takes up
def test_the_example_of_the_readme(tmp_path):
    section = readme.README.read_text(encoding="utf-8").split("### On a cluster\n")[1]
    code = re.search(r"^```py\n(.*?)^```\n", section, re.M | re.S)[1]
    assert code.count("/data/") == 3
    cases = pd.read_csv(readme.ROOT / "experiments" / "examples" / "cases.csv", dtype=str).head(9)
    cases.to_parquet(tmp_path / "cases.parquet")
    exec(compile(code.replace("/data/", f"{tmp_path}/"), "README.md", "exec"), {})
    posteriors = pd.read_parquet(tmp_path / "posteriors.parquet").set_index("case_id")
    assert set(posteriors.index) == set(cases["case_id"])
    assert posteriors.loc["stroke", "cause_1"] == "stroke"
    assert pd.read_parquet(tmp_path / "rejects.parquet").empty
