"""Formats carry the same cases in and the same numbers out, bit for bit, whatever the chunks and threads are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import chunked

import ddx
from ddx.batch.targets import csv_rows
from ddx.batch.whole import Whole

CELL = st.one_of(st.integers(), st.text(st.sampled_from("ab,;\"'\r\n\t \0é"), max_size=6), st.text(max_size=4))
TARGETS = ["out.csv", "out.csv.gz", "out.csv.zst", "out.jsonl", "out.jsonl.gz", "out.ndjson.zst", "out.parquet"]
FORMS = {"plain": {}, "top": {"top": 3}, "long": {"long": True}, "intervals": {"intervals": 20, "seed": 3}}
FORMS["long intervals"] = {"long": True, "intervals": 20}
COLUMNS = {
    "case_id": str,
    "tremor": float,
    "fatigue": float,
    "diabetes": bool,
    "age": float,
    "sex": str,
    "haemoglobin_g_dl": float,
}


def cases(n: int) -> list[dict[str, object]]:
    drawn = random.Random(7)
    table = []
    for i in range(n):
        values = [drawn.choice([0.0, 1.0, 0.3, 1 / 3, None]) for _ in range(2)]
        rest = [drawn.choice([True, False, None]), float(drawn.randrange(100)), drawn.choice(["f", "m", None])]
        row = [f'c{i} "x", \u00e9', *values, *rest, drawn.choice([None, 10.25, 12.5, 14.0])]
        table.append(
            {**dict(zip(COLUMNS, row, strict=True)), "present": drawn.choice([None, "numbness", "numbness;hand_weakness"])}
        )
    table[n // 2]["age"] = 999.0
    return table


def text_of(table: list[dict[str, object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]), restval="")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def lists(table: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{**row, "present": row["present"] and str(row["present"]).split(";")} for row in table]


def write(path: Path, table: list[dict[str, object]]) -> Path:
    name = path.name
    if ".jsonl" in name:
        data = "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in lists(table)).encode()
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(lists(table)), path, row_group_size=17)
        return path
    else:
        data = text_of(table)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return path


def read(path: Path) -> list[dict[str, object]]:
    """Rows with floats."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    if "json" in path.name:
        return [json.loads(line) for line in data.splitlines()]
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
    return [{k: v if k in ("case_id", "cause") or k.startswith("cause_") else float(v) for k, v in row.items()} for row in rows]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "cases.csv", cases(60))


@pytest.mark.parametrize("form", FORMS)
def test_every_target_holds_the_same_numbers(form, source, tmp_path, tiny):
    found = {}
    for target in TARGETS:
        report = ddx.score_file(source, tmp_path / target, tiny, **FORMS[form])
        assert (report.rows, report.scored, report.rejected) == (60, 59, 1)
        found[target] = read(tmp_path / target)
    for target in TARGETS:
        assert found[target] == found["out.csv"], target
        assert list(found[target][0]) == list(found["out.csv"][0]), target
    assert len(found["out.csv"]) == 59 * (len(tiny.network.causes) if "long" in form else 1)


@pytest.mark.parametrize("at_a_time", [1, 7, 59])
def test_intervals_of_a_file_are_those_of_every_case_alone(at_a_time, source, tmp_path, tiny, monkeypatch):
    causes = list(tiny.network.causes)
    monkeypatch.setattr("ddx.batch.scoring._DRAWN", at_a_time * 20 * len(causes))
    ddx.score_file(source, tmp_path / "out.parquet", tiny, intervals=20, seed=5)
    found = pq.read_table(tmp_path / "out.parquet").to_pandas().set_index("case_id")
    for row in cases(60)[:5]:
        case = {"present": row["present"].split(";") if row["present"] else [], "absent": [], "uncertain": {}}
        for finding in ("tremor", "fatigue"):
            if row[finding] in (0.0, 1.0):
                case["present" if row[finding] else "absent"].append(finding)
            elif row[finding] is not None:
                case["uncertain"][finding] = row[finding]
        diagnosis = tiny.diagnose(
            **case,
            context={} if row["diabetes"] is None else {"diabetes": row["diabetes"]},
            measurements={} if row["haemoglobin_g_dl"] is None else {"haemoglobin_g_dl": row["haemoglobin_g_dl"]},
            age=row["age"],
            sex=row["sex"],
        )
        table = diagnosis.table(draws=20, seed=5).loc[causes]
        for end in ("low", "high"):
            np.testing.assert_array_equal(found.loc[row["case_id"], [f"{c}_{end}" for c in causes]].to_numpy(float), table[end])


def test_more_text_than_a_column_of_arrow_holds_is_refused(source, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("ddx.batch.scoring._TEXT", 100)
    with pytest.raises(ddx.UsageError, match=r"^59 texts have \d+ bytes together, expected 100 at most; shorten the ids$"):
        ddx.score_file(source, tmp_path / "out.csv", tiny)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=4))
def test_rows_are_quoted_as_the_csv_module_does(rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    ours = csv_rows(rows)
    assert list(csv.reader(io.StringIO(ours.decode(), newline=""), strict=True)) == [
        [str(cell) for cell in row] for row in rows
    ]
    assert ours == b"".join(csv_rows([row]) for row in rows)
    if not any("\n" in str(cell) for row in rows for cell in row):  # the ends of rows are the only difference
        assert ours == text.getvalue().replace("\r\n", "\n").encode()


@pytest.mark.parametrize(
    "name", ["cases.csv.gz", "cases.csv.zst", "cases.jsonl", "cases.jsonl.gz", "cases.parquet", "cases.txt", "cases"]
)
def test_every_source_says_the_same(name, source, tmp_path, tiny):
    ddx.score_file(source, tmp_path / "first.csv", tiny)
    report = ddx.score_file(write(tmp_path / name, cases(60)), tmp_path / "out.csv", tiny)
    assert (report.rows, report.scored, report.rejected) == (60, 59, 1)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()


def test_the_forms_agree_with_each_other_and_with_frames(source, tmp_path, tiny):
    answers = {}
    for form, options in FORMS.items():
        ddx.score_file(source, tmp_path / f"{form}.parquet", tiny, **options)
        answers[form] = pq.read_table(tmp_path / f"{form}.parquet").to_pandas()
    causes = list(tiny.network.causes)
    plain = answers["plain"].set_index("case_id")
    frame = pd.DataFrame([row for row in cases(60) if row["age"] != 999.0], dtype=object).set_index("case_id")
    pd.testing.assert_frame_equal(plain, tiny.score(frame), check_exact=True, check_index_type=False)
    long = answers["long"].pivot(index="case_id", columns="cause", values="posterior").loc[plain.index, causes]
    np.testing.assert_array_equal(long, plain[causes])
    pd.testing.assert_frame_equal(answers["top"].set_index("case_id")[list(plain)], plain, check_exact=True)
    ordered = np.sort(plain[causes].to_numpy(), axis=1)[:, ::-1]
    for rank in (1, 2, 3):
        np.testing.assert_array_equal(answers["top"][f"posterior_{rank}"], ordered[:, rank - 1])
        named = [plain.loc[case, cause] for case, cause in zip(plain.index, answers["top"][f"cause_{rank}"], strict=True)]
        np.testing.assert_array_equal(named, ordered[:, rank - 1])
    intervals = answers["intervals"].set_index("case_id")
    pd.testing.assert_frame_equal(intervals[list(plain)], plain, check_exact=True)
    assert (intervals[[f"{c}_low" for c in causes]].to_numpy() <= intervals[[f"{c}_high" for c in causes]].to_numpy()).all()


def test_long_and_wide_input_say_the_same(tmp_path, tiny):
    table = [row for row in cases(60) if row["age"] != 999.0]
    statements = [
        {"case_id": row["case_id"], "id": id_, "value": str(value)}
        for row in table
        for id_, value in row.items()
        if id_ != "case_id" and (value is not None or id_ == "age")
    ]
    ddx.score_file(write(tmp_path / "wide.csv", table), tmp_path / "wide_out.csv", tiny)
    wide = (tmp_path / "wide_out.csv").read_bytes()
    for name in ("long.csv", "long.csv.gz", "long.parquet", "long.jsonl"):
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(statements), tmp_path / name)
        elif name.endswith(".jsonl"):
            (tmp_path / name).write_text("\n" + "".join(json.dumps(row) + "\n" for row in statements), encoding="utf-8")
        else:
            data = text_of(statements)
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        with chunked(rows=7, block=200):
            ddx.score_file(tmp_path / name, tmp_path / "out.csv", tiny)
        assert (tmp_path / "out.csv").read_bytes() == wide, name


def test_no_case_is_scored_whose_rows_stand_apart(tmp_path, tiny):
    (tmp_path / "long.csv").write_text("case_id,id,value\na,tremor,1\nb,tremor,0\na,age,40\n", encoding="utf-8")
    with pytest.raises(ddx.UsageError) as refused:
        ddx.score_file(tmp_path / "long.csv", tmp_path / "out.csv", tiny)
    assert str(refused.value) == (
        f"{tmp_path}/long.csv: line 4: case 'a' has rows further up too, before those of other cases; sort the table by "
        "case_id, to have the rows of a case together"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["long.csv"]


def test_a_line_of_long_json_that_is_no_statement_is_rejected(tmp_path, tiny):
    lines = [
        '{"case_id": "a", "id": "tremor", "value": 1}',
        '{"case_id": "b", "tremor": 1}',
        "{}",
        '{"case_id": "c", "id": "age", "value": 40}',
    ]
    (tmp_path / "long.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = ddx.score_file(tmp_path / "long.jsonl", tmp_path / "out.csv", tiny)
    assert (report.rows, report.scored, report.rejected) == (4, 2, 2)
    rejects = pd.read_csv(tmp_path / "out.rejects.csv", dtype=str)
    expected = "expected the names case_id, id, value, as in the first line; got"
    assert rejects["message"].tolist() == [f"{expected} case_id, tremor", f"{expected} none"]
    assert rejects["line"].tolist() == ["2", "3"]


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet", "out.csv.gz"])
def test_chunks_do_not_show(target, source, tmp_path, tiny):
    ddx.score_file(source, tmp_path / target, tiny, top=2)
    whole = (tmp_path / target).read_bytes(), (tmp_path / "out.rejects.csv").read_bytes()
    for rows, block in ((1, 1 << 22), (7, 64), (60, 1000), (59, 1)):
        with chunked(rows, block):
            ddx.score_file(source, tmp_path / target, tiny, top=2)
        assert ((tmp_path / target).read_bytes(), (tmp_path / "out.rejects.csv").read_bytes()) == whole


def test_threads_do_not_show(tmp_path, tiny_folder):
    write(tmp_path / "cases.csv", cases(3000))
    found = []
    for threads in (1, 2):
        for kb in (str(tiny_folder), "limb"):
            source = "cases.csv" if kb != "limb" else Path(__file__).parents[1] / "experiments" / "examples" / "cases.csv"
            command = [sys.executable, "-m", "ddx", "score", str(source), "-o", f"out{threads}.csv", "--kb", kb, "-q"]
            environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
            assert done.returncode in (0, 1), done.stderr
            found.append((tmp_path / f"out{threads}.csv").read_bytes())
    assert found[:2] == found[2:]


def _made(folder, text, pieces):
    """Compressed text, made while its part grows by so many bytes at a time."""
    part, ready = folder / "part", folder / "ready"
    with open(part, "wb") as stream:
        whole = Whole(part, ready, None, "gzip")
        for start in range(0, len(text), pieces):
            stream.write(text[start : start + pieces])
            stream.flush()
            whole.grow(stream.tell())
    whole.grow(len(text), complete=True)
    return ready.read_bytes()


def test_a_file_in_one_piece_is_the_same_however_its_part_grew(tmp_path):
    text = np.random.default_rng(0).integers(0, 9, 3_000_000).astype(np.uint8).tobytes()
    made = [_made(tmp_path, text, pieces) for pieces in (3_000_000, 777_777, 50_001)]
    assert made[0] == made[1] == made[2]
    assert gzip.decompress(made[0]) == text


def test_a_file_in_one_piece_that_nobody_wants_is_gone(tmp_path):
    (tmp_path / "part").write_bytes(b"12")
    whole = Whole(tmp_path / "part", tmp_path / "ready", None, "gzip")
    whole.grow(2)
    whole.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_a_file_in_one_piece_says_what_went_wrong(tmp_path):
    (tmp_path / "part").write_bytes(b"12")
    whole = Whole(tmp_path / "part", tmp_path / "no_folder" / "ready", None, "gzip")
    with pytest.raises(FileNotFoundError):
        whole.grow(2, complete=True)
    whole.stop()


def test_an_unknown_name_still_says_how_a_file_is_compressed(tmp_path, tiny):
    table = cases(9)
    write(tmp_path / "cases.csv", table)
    (tmp_path / "cases.dat.gz").write_bytes(gzip.compress(text_of(table)))
    ddx.score_file(tmp_path / "cases.csv", tmp_path / "out.csv", tiny)
    ddx.score_file(tmp_path / "cases.dat.gz", tmp_path / "out.dat.gz", tiny, input_format="csv", output_format="csv")
    assert gzip.decompress((tmp_path / "out.dat.gz").read_bytes()) == (tmp_path / "out.csv").read_bytes()


def test_a_name_without_a_suffix_has_the_format_that_was_asked_for(tmp_path, tiny):
    write(tmp_path / "cases.csv", cases(9))
    ddx.score_file(tmp_path / "cases.csv", tmp_path / "out.parquet", tiny)
    ddx.score_file(tmp_path / "cases.csv", tmp_path / "posteriors", tiny, output_format="parquet")
    assert (tmp_path / "posteriors").read_bytes() == (tmp_path / "out.parquet").read_bytes()


@pytest.mark.parametrize("name", ["out.csv.meta.json", ".out.csv.part", ".out.csv.journal"])
def test_a_source_is_not_overwritten_by_a_file_beside_the_target(name, tmp_path, tiny):
    source = tmp_path / name
    source.write_bytes(text_of(cases(9)))
    with pytest.raises(ddx.UsageError) as caught:
        ddx.score_file(source, tmp_path / "out.csv", tiny, input_format="csv")
    target = tmp_path / "out.csv"
    assert str(caught.value) == f"{source}: a run that writes {target} uses this name too; name another output"
    assert source.read_bytes() == text_of(cases(9))


def test_statements_of_the_long_form_that_say_the_same_agree(tmp_path, tiny):
    lines = ["a,tremor,1", "a,tremor,yes", "b,tremor,", "b,tremor,0", "b,tremor,NA", "c,tremor,1", "c,tremor,no"]
    (tmp_path / "long.csv").write_text("\n".join(["case_id,id,value", *lines, ""]), encoding="utf-8")
    report = ddx.score_file(tmp_path / "long.csv", tmp_path / "out.csv", tiny)
    assert (report.scored, report.rejected) == (2, 1)
    found = {row["case_id"]: row["log_evidence"] for row in read(tmp_path / "out.csv")}
    assert found == {
        "a": tiny.diagnose(present=["tremor"]).log_evidence,
        "b": tiny.diagnose(absent=["tremor"]).log_evidence,
    }
    rejects = pd.read_csv(tmp_path / "out.rejects.csv")
    assert rejects["message"].tolist() == ["stated twice, as 1 and no; keep one statement"]
