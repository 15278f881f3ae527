"""The command line through real processes and files: what comes out, what is refused, and that nothing is left half done."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import platform
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import typer

import ddx
from ddx.cli import app
from ddx.cli.show import SHOWN_CASES

READING = "1/yes/true/present, 0/no/false/absent, a number from 0 to 1, or empty"
CAUSES = ["stroke", "neuropathy", "myopathy", "low_sugar", "anaemia"]
HEADER = ["case_id", *CAUSES, "none_of_these", "log_evidence"]
WIDE = """\
case_id,age,sex,tremor,fatigue,low_haemoglobin,note
a,70,f,1,,1,"first line
second line, with a ""quote"" in it"
b,,m,maybe,yes,,
c,200,f,1,2,,

a,40,f,1,,,
,40,f,1,,,
d,40,f,1
e,40,m,1,0,,caf\u00e9
"""
REJECTS = f"""\
line,case_id,column,value,error,message,original
4,b,tremor,maybe,not_a_value,"got 'maybe', expected {READING}","b,,m,maybe,yes,,"
5,c,age,200,implausible_age,"got 200, expected an age from 0 to 120 years","c,200,f,1,2,,"
5,c,fatigue,2,out_of_range,"got 2, expected a number from 0 to 1","c,200,f,1,2,,"
7,a,case_id,a,duplicate_case_id,case_id 'a' stands in an earlier row; give every case its own,"a,40,f,1,,,"
8,,case_id,,empty_case_id,case_id is empty; give every case an id,",40,f,1,,,"
9,,,"d,40,f,1",ragged_row,"got 4 cells, the header has 7","d,40,f,1"
"""
CLEAN = "case_id,tremor\na,1\nb,0\n"


def run(*arguments: object, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "ddx", *map(str, arguments)], cwd=cwd, input=stdin, capture_output=True, timeout=120, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


MANY = """
import json, sys
from ddx.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["ddx", *arguments]
    try:
        main()
    except SystemExit as end:
        print(f"exit {end.code or 0}", end=chr(0))
"""


def run_many(commands: list[list[str]], cwd: Path) -> list[tuple[int, str]]:
    """Exit code and standard output of several commands, which say nothing on standard error, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, json.dumps(commands)], cwd=cwd, capture_output=True, timeout=120, check=True
    )
    assert done.stderr == b""
    answers = [re.fullmatch(r"(.*)exit (\d+)", part, re.DOTALL) for part in text(done.stdout).split("\0")[:-1]]
    return [(int(answer[2]), answer[1]) for answer in answers]


def text(stream: bytes) -> str:
    return stream.decode("utf-8")


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def table(content: str) -> list[dict[str, str]]:
    rows = list(csv.reader(content.splitlines()))
    assert rows[0] == HEADER
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def assert_row(row: dict[str, str], dx: ddx.Diagnosis) -> None:
    got = [float(row[c]) for c in CAUSES]
    np.testing.assert_allclose(got, dx.posterior[CAUSES], rtol=1e-12)
    assert float(row["none_of_these"]) == pytest.approx(dx.none_of_these, rel=1e-12)
    assert float(row["log_evidence"]) == pytest.approx(dx.log_evidence, rel=1e-12, abs=1e-13)


# ddx score: a file with everything in it, once.


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tiny_folder):
    """A wide file with a byte order mark, CRLF, a cell of two lines, a blank line and six offences."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "cases.csv").write_bytes(b"\xef\xbb\xbf" + WIDE.replace("\n", "\r\n").encode("utf-8"))
    return folder, run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=folder)


def test_some_rejected_rows_make_exit_code_1(wide):
    folder, done = wide
    assert done.returncode == 1
    assert files(folder) == {"cases.csv", "out.csv", "out.csv.meta.json", "out.rejects.csv"}


NO_PANDAS = """
import sys
from ddx.cli import main

class Told:
    def find_spec(name, path=None, target=None):
        if name == "pandas":
            print("pandas was asked for", file=sys.stderr)
            raise ImportError(name)

sys.meta_path.insert(0, Told)
main()
"""


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet"])
def test_scoring_a_file_does_without_pandas(target, tmp_path, tiny_folder):
    """Arrow asks for it too, and goes on without: a third of a second all the same where it is there."""
    (tmp_path / "cases.csv").write_text(CLEAN, encoding="utf-8")
    command = [sys.executable, "-c", NO_PANDAS, "score", "cases.csv", "-o", target, "--kb", tiny_folder]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert (done.returncode, text(done.stderr)) == (0, f"2 cases scored, 0 rejected -> {target}\n")


def test_silence_on_stderr_but_for_the_summary(wide):
    assert text(wide[1].stderr) == "2 cases scored, 5 rejected -> out.csv\n"


def test_the_leading_causes_are_shown(wide):
    lines = text(wide[1].stdout).splitlines()
    assert lines[0].split() == ["case", "leading", "cause", "second", "none"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "e"]
    assert lines[1].split()[1] == "anaemia"


def test_the_posteriors_are_those_of_diagnose(wide, tiny):
    rows = table((wide[0] / "out.csv").read_text(encoding="utf-8"))
    assert [row["case_id"] for row in rows] == ["a", "e"]
    assert_row(rows[0], tiny.diagnose(present=["tremor", "low_haemoglobin"], age=70, sex="f"))
    assert_row(rows[1], tiny.diagnose(present=["tremor"], absent=["fatigue"], age=40, sex="m"))


def test_the_rejects_say_line_case_column_value_and_reason(wide):
    assert (wide[0] / "out.rejects.csv").read_text(encoding="utf-8") == REJECTS


def test_the_metadata_add_up(wide, tiny):
    meta = json.loads((wide[0] / "out.csv.meta.json").read_text(encoding="utf-8"))
    assert meta.pop("seconds") >= 0
    assert meta == {
        "knowledge_base": "tiny",
        "version": "1.2.3",
        "digest": tiny.knowledge.digest,
        "setting": "general",
        "input": "cases.csv",
        "output": "out.csv",
        "rows": 7,
        "scored": 2,
        "rejected": 5,
        "cells_dropped": 0,
        "lenient": False,
        "encoding": "utf-8",
        "top": 0,
        "long": False,
        "intervals": 0,
        "seed": 0,
        "input_digest": hashlib.blake2b((wide[0] / "cases.csv").read_bytes(), digest_size=16).hexdigest(),
        "resumed": 0,
        "versions": {
            "ddx": ddx.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
            "orjson": orjson.__version__,
        },
    }


def test_lenient_scoring_drops_cells_and_columns_and_reports_them(tmp_path, tiny_folder, tiny):
    (tmp_path / "cases.csv").write_text(WIDE.replace(",fatigue,", ",fatigue,", 1).replace("note", "notes", 1), encoding="utf-8")
    done = run("score", "cases.csv", "-o", "out.csv", "--rejects", "bad.csv", "--kb", tiny_folder, "--lenient", cwd=tmp_path)
    assert done.returncode == 1
    assert text(done.stderr) == "4 cases scored, 3 rejected, 4 cells dropped -> out.csv\n"
    assert files(tmp_path) == {"cases.csv", "out.csv", "out.csv.meta.json", "bad.csv"}
    header, *rest = REJECTS.splitlines()
    unknown = "1,,notes,,unknown_column,unknown column 'notes'; nearest: note; ignored,"
    assert (tmp_path / "bad.csv").read_text(encoding="utf-8").splitlines() == [header, unknown, *rest]
    rows = table((tmp_path / "out.csv").read_text(encoding="utf-8"))
    assert [row["case_id"] for row in rows] == ["a", "b", "c", "e"]
    assert_row(rows[1], tiny.diagnose(present=["fatigue"], sex="m"))
    assert_row(rows[2], tiny.diagnose(present=["tremor"], sex="f"))
    meta = json.loads((tmp_path / "out.csv.meta.json").read_text(encoding="utf-8"))
    assert (meta["rows"], meta["scored"], meta["rejected"], meta["cells_dropped"], meta["lenient"]) == (7, 4, 3, 4, True)


def test_list_form_from_standard_input_to_standard_output(tmp_path, tiny_folder, tiny):
    cases = "case_id,age,present,absent,context\na,30,tremor;fatigue,numbness,diabetes\nb,,tremr,,\nc,80,weak_arm,,\n"
    done = run("score", "-", "-o", "-", "--kb", tiny_folder, "--setting", "clinic", cwd=tmp_path, stdin=cases.encode())
    assert done.returncode == 1
    rows = table(text(done.stdout))
    assert [row["case_id"] for row in rows] == ["a", "c"]
    clinic = tiny.in_setting("clinic")
    assert_row(rows[0], clinic.diagnose(["tremor", "fatigue"], ["numbness"], age=30, context={"diabetes": True}))
    assert_row(rows[1], clinic.diagnose(["arm_weakness"], age=80))
    assert text(done.stderr).splitlines() == [
        "line 3, case 'b', present: unknown finding 'tremr'; nearest: tremor",
        "2 cases scored, 1 rejected -> standard output",
    ]
    assert files(tmp_path) == set()


def test_clean_cases_make_exit_code_0_and_no_rejects_and_a_second_run_leaves_no_stale_ones(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CLEAN)
    arguments = ("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, "-q")
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, text(done.stderr)) == (0, b"", "2 cases scored, 0 rejected -> out.csv\n")
    assert files(tmp_path) == {"cases.csv", "out.csv", "out.csv.meta.json"}
    first = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.rejects.csv").write_text("stale")
    (tmp_path / "out.csv").write_text("stale")
    assert run(*arguments, cwd=tmp_path).returncode == 0
    assert (tmp_path / "out.csv").read_bytes() == first
    assert (tmp_path / "out.rejects.csv").read_text() == REJECTS.splitlines()[0] + "\n"


def test_without_case_id_the_line_names_the_case(tmp_path, tiny_folder):
    done = run("score", "-", "--kb", tiny_folder, cwd=tmp_path, stdin=b"tremor,note\n1,\n0,\n")
    assert done.returncode == 0
    assert [row["case_id"] for row in table(text(done.stdout))] == ["2", "3"]


def test_another_encoding_can_be_named(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_bytes("case_id,tremor\ncaf\u00e9,1\n".encode("cp1252"))
    done = run("score", "cases.csv", "--kb", tiny_folder, "--encoding", "cp1252", cwd=tmp_path)
    assert done.returncode == 0
    assert [row["case_id"] for row in table(text(done.stdout))] == ["caf\u00e9"]


def test_odd_case_ids_come_through_as_they_are(tmp_path, tiny_folder):
    odd = ["[/red]", "[bold]x", ":smile:", 'a"b', "two words", "a,b"]
    with open(tmp_path / "cases.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["case_id", "tremor"], *([case, 1] for case in odd)])
    done = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert done.returncode == 0
    written = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert [row["case_id"] for row in table(written)] == odd
    quoted = [*odd[:3], '"a""b"', "two words", '"a,b"']  # only where a cell needs it
    assert all(line.startswith(f"{cell},") for line, cell in zip(written.splitlines()[1:], quoted, strict=True))
    shown = text(done.stdout).splitlines()[1:]
    assert [line.startswith(case) for line, case in zip(shown, odd, strict=True)] == [True] * len(odd)


def test_many_blocks_come_out_in_order_and_the_table_is_cut(tmp_path, tiny_folder):
    n = 4500
    lines = [f"c{i},{i % 2},{i % 90}" for i in range(n)]
    lines[3999] = "c7,1,20"
    (tmp_path / "cases.csv").write_text("case_id,tremor,age\n" + "\n".join(lines) + "\n")
    done = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert done.returncode == 1
    rows = table((tmp_path / "out.csv").read_text(encoding="utf-8"))
    assert [row["case_id"] for row in rows] == [f"c{i}" for i in range(n) if i != 3999]
    rejects = (tmp_path / "out.rejects.csv").read_text(encoding="utf-8").splitlines()
    assert rejects[1:] == [
        "4001,c7,case_id,c7,duplicate_case_id,case_id 'c7' stands in an earlier row; give every case its own,\"c7,1,20\""
    ]
    shown = text(done.stdout).splitlines()
    assert (len(shown), shown[-1]) == (SHOWN_CASES + 2, f"and {n - 1 - SHOWN_CASES} more cases in out.csv")


# What is refused: exit code 2, one text, nothing written.

UTF8 = "save the file as UTF-8, or name its encoding, such as --encoding cp1252"
# name -> (content of cases.csv or None, arguments, standard error)
REFUSED = {
    "missing_file": (None, ["score", "cases.csv", "-o", "out.csv"], "cases.csv: no such file"),
    "source_is_a_directory": (None, ["score", ".", "-o", "out.csv"], ".: cannot be read: Is a directory"),
    "empty": (b"", ["score", "cases.csv", "-o", "out.csv"], "cases.csv: is empty; expected a header and one case a row"),
    "header_only": (b"case_id,tremor\n\n", ["score", "cases.csv", "-o", "out.csv"], "cases.csv: has a header but no cases"),
    "header_not_utf8": (
        b"case_id,trem\xe9r\na,1\n",
        ["score", "cases.csv", "-o", "out.csv"],
        f"cases.csv:1: byte 0xe9 is not utf-8; {UTF8}",
    ),
    "utf16": (
        CLEAN.encode("utf-16"),
        ["score", "cases.csv", "-o", "out.csv"],
        "cases.csv: is UTF-16, expected UTF-8; save it as UTF-8",
    ),
    "unknown_encoding": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--encoding", "utf-9"],
        re.compile("unknown encoding"),
    ),
    "unknown_column": (
        b"case_id,tremr\na,1\n",
        ["score", "cases.csv", "-o", "out.csv"],
        "cases.csv: unknown column 'tremr'; nearest: tremor; correct it, take it out, or ignore it (--lenient, lenient=True)",
    ),
    "semicolons": (
        b"case_id;age\na;1\n",
        ["score", "cases.csv", "-o", "out.csv"],
        "cases.csv: the header is one column, with ';' in its name; write the table with commas between cells",
    ),
    "semicolons_lenient": (
        b"case_id;age\na;1\n",
        ["score", "cases.csv", "-o", "out.csv", "--lenient"],
        "cases.csv: the header is one column, with ';' in its name; write the table with commas between cells",
    ),
    "nothing_known": (
        b"CASE_ID,AGE,PRESENT,note\na,1,ptosis,x\n",
        ["score", "cases.csv", "-o", "out.csv", "--lenient"],
        "cases.csv: no column says anything about a case: 'CASE_ID', 'AGE', 'PRESENT' unknown; see the README for the columns "
        "of cases",
    ),
    "gzip_without_its_name": (
        gzip.compress(CLEAN.encode()),
        ["score", "cases.csv", "-o", "out.csv"],
        "cases.csv: is gzip by its first bytes, expected csv; let its name end in .gz, or unpack it",
    ),
    "another_format_than_the_name": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--input-format", "jsonl"],
        "cases.csv: is a csv file by its name, not jsonl; leave the input format out or change the name",
    ),
    "resumed_stream_of_rejects": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--rejects", "-", "--resume"],
        "--resume needs files for input, output and rejects; a stream cannot be taken up again",
    ),
    "quote_of_the_header_that_never_ends": (
        b'case_id,tremor,"note\na,1,x\nb,1,y\n',
        ["score", "cases.csv", "-o", "out.csv"],
        re.compile(r"^ddx: cases\.csv:\d: not valid CSV: "),
    ),
    "line_ends_of_old_macintoshes": (
        CLEAN.replace("\n", "\r").encode(),
        ["score", "cases.csv", "-o", "out.csv"],
        re.compile(r"^ddx: cases\.csv:\d: not valid CSV: "),
    ),
    "target_is_a_directory": (CLEAN.encode(), ["score", "cases.csv", "-o", "."], ".: is a directory; name a file in it"),
    "target_in_a_missing_directory": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "no/out.csv"],
        "no/out.csv: the directory no does not exist; make it first",
    ),
    "target_is_the_source": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "./cases.csv"],
        "cases.csv: is both input and output; name another output",
    ),
    "rejects_are_the_source": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--rejects", "cases.csv"],
        "cases.csv: is both input and output; name another output",
    ),
    "rejects_are_the_target": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--rejects", "out.csv"],
        "out.csv: is the target of both posteriors and rejects; name two files",
    ),
    "unknown_format": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.xlsx"],
        "out.xlsx: unknown output format '.xlsx'; write to a .csv, .jsonl or .parquet file (.csv.gz, .csv.zst too)",
    ),
    "unknown_setting": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--setting", "clinics"],
        "unknown setting 'clinics'; nearest: clinic; known: general, clinic, balanced",
    ),
    "unknown_finding": (None, ["diagnose", "--present", "tremr"], "present: unknown finding 'tremr'; nearest: tremor"),
    "pair_without_a_number": (None, ["diagnose", "--uncertain", "tremor"], "--uncertain: got 'tremor', expected NAME=NUMBER"),
    "pair_with_an_underscore": (
        None,
        ["diagnose", "--measure", "haemoglobin_g_dl=1_4"],
        "--measure: got 'haemoglobin_g_dl=1_4', expected NAME=NUMBER",
    ),
    "pair_given_twice": (
        None,
        ["diagnose", "--uncertain", "tremor=0.1", "--uncertain", "tremor=0.9"],
        "--uncertain: tremor is both 0.1 and 0.9; keep one",
    ),
    "factor_given_twice": (
        None,
        ["diagnose", "--context", "diabetes", "--context", "no:diabetes"],
        "--context: diabetes is both present and absent; keep one",
    ),
    "fraction_given_twice": (
        None,
        ["simulate", "-n", "1", "--observed", "sign=0.1", "--observed", "sign=0.9"],
        "--observed: sign got both 0.1 and 0.9; keep one",
    ),
    "format_and_name_differ": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv.gz", "--output-format", "parquet"],
        "out.csv.gz: is a csv file by its name, not parquet; leave the output format out or change the name",
    ),
    "format_of_a_compressed_name": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.parquet.gz", "--output-format", "csv"],
        "out.parquet.gz: unknown output format '.gz'; write to a .csv, .jsonl or .parquet file (.csv.gz, .csv.zst too)",
    ),
    "target_in_a_folder_that_is_not_there": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "results/"],
        "results/: is a directory; name a file in it",
    ),
    "format_nobody_knows": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--output-format", "xlsx"],
        "output_format: got 'xlsx', expected csv, jsonl or parquet",
    ),
    "long_with_leading_causes": (
        CLEAN.encode(),
        ["score", "cases.csv", "-o", "out.csv", "--long", "--top", "3"],
        "top: got 3, but the long form has a row for every cause and no columns of leading ones",
    ),
    "nothing_of_this_name": (None, ["kb", "show", "tremr"], "nothing is called 'tremr' in tiny; nearest: tremor, leak:tremor"),
}


# One process for all of them, each in a folder of its own, with its own standard output and standard error.
EACH = """
import json, os, sys, traceback
from ddx.cli import main
for folder, arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"../{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["ddx", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    with open("../code", "w") as file:
        file.write(str(code))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory, tiny_folder) -> Path:
    """A folder for every name, with the folder "work" of the command and its exit code and answers beside it."""
    root = tmp_path_factory.mktemp("refused")
    commands = []
    for name, (content, arguments, _) in REFUSED.items():
        work = root / name / "work"
        work.mkdir(parents=True)
        if content is not None:
            (work / "cases.csv").write_bytes(content)
        commands.append([str(work), [*arguments, "--kb", str(tiny_folder)]])
    subprocess.run([sys.executable, "-c", EACH, json.dumps(commands)], timeout=120, check=True)
    return root


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing_behind(name, refused):
    content, _, expected = REFUSED[name]
    folder = refused / name
    code, output, errors = ((folder / part).read_text(encoding="utf-8") for part in ("code", "stdout", "stderr"))
    assert "Traceback" not in errors, errors
    assert (code, output) == ("2", "")
    if isinstance(expected, str):
        assert errors == f"ddx: {expected}\n"
    else:
        assert expected.search(errors)
    assert files(folder / "work") == ({"cases.csv"} if content is not None else set())
    assert content is None or (folder / "work" / "cases.csv").read_bytes() == content


def test_metadata_that_cannot_be_written_leave_nothing_behind(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CLEAN)
    (tmp_path / "out.csv.meta.json").mkdir()
    before = files(tmp_path)
    done = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "out.csv.meta.json" in text(done.stderr)
    assert files(tmp_path) == before


def test_a_run_that_fails_leaves_standard_output_empty(tmp_path, tiny_folder):
    def answer(cases):
        return run("score", "-", "-o", "-", "--kb", tiny_folder, cwd=tmp_path, stdin=cases)

    empty = answer(b"case_id,age\n\n")
    assert (empty.returncode, empty.stdout) == (2, b"")
    assert text(empty.stderr) == "ddx: standard input: has a header but no cases\n"
    rejected = answer(b"case_id,age\na,x\n")
    assert (rejected.returncode, table(text(rejected.stdout))) == (1, [])
    assert text(rejected.stdout).startswith("case_id,")


def test_an_old_answer_survives_a_run_that_fails(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_bytes(b"case_id,tremor\n\n\n")
    (tmp_path / "out.csv").write_text("old")
    done = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert (done.returncode, text(done.stderr)) == (2, "ddx: cases.csv: has a header but no cases\n")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert files(tmp_path) == {"cases.csv", "out.csv"}


def test_lines_that_are_no_rows_are_rejected_and_the_others_scored(tmp_path, tiny_folder):
    rows = [b"a,1,x", b"caf\xe9,1,x", b'b,1,"y', b"c,0,z", b'd,"1"2,z', b'e,1,"two', b'lines"', b"f\0,1,", b""]
    (tmp_path / "cases.csv").write_bytes(b"case_id,tremor,note\n" + b"\n".join(rows))
    done = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert (done.returncode, text(done.stderr)) == (1, "4 cases scored, 3 rejected -> out.csv\n")
    scored = table((tmp_path / "out.csv").read_text(encoding="utf-8"))
    assert [row["case_id"] for row in scored] == ["a", "c", "e", "f\0"]
    with open(tmp_path / "out.rejects.csv", encoding="utf-8", newline="") as file:
        rejects = [(r["line"], r["error"], r["message"], r["original"]) for r in csv.DictReader(file)]
    assert rejects == [
        ("3", "bad_encoding", f"byte 0xe9 is not utf-8; {UTF8}", "caf\ufffd,1,x"),
        ("4", "bad_csv", "not valid CSV: ',' expected after '\"'", 'b,1,"y'),
        ("6", "bad_csv", "not valid CSV: ',' expected after '\"'", 'd,"1"2,z'),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CLEAN)
    (tmp_path / "locked").mkdir(mode=0o500)
    done = run("score", "cases.csv", "-o", "locked/out.csv", "--kb", tiny_folder, cwd=tmp_path)
    assert (done.returncode, text(done.stderr)) == (2, "ddx: locked/out.csv: cannot be written: permission denied\n")


def test_a_broken_knowledge_base_is_refused_with_all_its_problems(edit, tmp_path):
    edit.cell("findings.csv", "tremor", "cost", "-1")
    edit.cell("studies.csv", "link_stroke_numbness", "value", "1.4")
    edit.text("kb.toml", "below = 13.0", "below = 130")
    (tmp_path / "cases.csv").write_text(CLEAN)
    before = files(tmp_path)
    expected = (
        "ddx: knowledge base tiny: 3 problems\n"
        "studies.csv:28.value: got 1.4, expected a probability\n"
        "kb.toml.measurements.haemoglobin_g_dl.findings[1]: got the limit 130, outside the plausible 1.5 to 25\n"
        "findings.csv:7.cost: got -1, expected 0 or more\n"
    )
    for arguments in (["score", "cases.csv", "-o", "out.csv", "--kb", "tiny"], ["kb", "check", "tiny"]):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout, text(done.stderr)) == (2, b"", expected)
    assert files(tmp_path) == before


def test_a_knowledge_base_that_is_none_is_refused(tmp_path):
    done = run("kb", "check", "limbs", cwd=tmp_path)
    message = "ddx: knowledge base 'limbs': neither a shipped name nor a folder with a kb.toml; nearest: limb\n"
    assert (done.returncode, done.stdout, text(done.stderr)) == (2, b"", message)


@pytest.mark.parametrize(
    "arguments", [["score"], ["scor"], ["score", "x.csv", "--frobnicate"], ["diagnose", "--age", "old"]], ids=" ".join
)
def test_wrong_usage_makes_exit_code_2(arguments, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "Error" in text(done.stderr)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_that_goes_away_is_no_disaster(unbuffered, tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\n" + "".join(f"c{i},1\n" for i in range(3000)))
    arguments = [sys.executable, "-m", "ddx", "score", "cases.csv", "-o", "-", "--kb", str(tiny_folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = text(process.stderr.read())
        assert process.wait(timeout=60) == 2
    assert errors == "ddx: standard output was closed before everything was written\n"


# Progress.


def _on_a_terminal(arguments: list[str], cwd: Path) -> tuple[int, bytes, str]:
    """Exit code, standard output and what a terminal got on standard error."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the way in which Linux says that the other end is closed
                break
            if not piece:
                break
            shown += piece
        output, _ = process.communicate(timeout=60)
        return process.returncode, output, shown.decode("utf-8")
    finally:
        os.close(master)


def test_a_terminal_gets_a_progress_bar_that_goes_away(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\n" + "".join(f"c{i},1\n" for i in range(3000)))
    arguments = [sys.executable, "-m", "ddx", "score", "cases.csv", "-o", "out.csv", "--kb", str(tiny_folder), "-q"]
    code, output, shown = _on_a_terminal(arguments, tmp_path)
    assert (code, output) == (0, b"")
    size = (tmp_path / "cases.csv").stat().st_size
    assert f"{size / 1000:.1f}/{size / 1000:.1f} kB" in shown
    assert "\x1b[2K" in shown
    assert shown.rstrip().endswith("3000 cases scored, 0 rejected -> out.csv")


# ddx diagnose.

CASE = ["--present", "tremor", "--absent", "numbness", "--uncertain", "fatigue=0.7", "--context", "no:insulin"]
CASE += ["--context", "diabetes", "--age", "70", "--sex", "female"]


@pytest.fixture(scope="module")
def case(tiny) -> ddx.Diagnosis:
    return tiny.diagnose(
        present=["tremor"],
        absent=["numbness"],
        uncertain={"fatigue": 0.7},
        context={"insulin": False, "diabetes": True},
        age=70,
        sex="female",
    )


def test_diagnose_as_json(tmp_path, tiny_folder, tiny, case):
    done = run("diagnose", *CASE, "--kb", tiny_folder, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["knowledge_base"] == {"name": "tiny", "version": "1.2.3", "digest": tiny.knowledge.digest}
    assert document["setting"] == "general"
    assert document["none_of_these"] == pytest.approx(case.none_of_these, rel=1e-12)
    assert document["log_evidence"] == pytest.approx(case.log_evidence, rel=1e-12)
    assert document["context"] == {"diabetes": 1.0, "insulin": 0.0}
    assert [c["id"] for c in document["causes"]] == list(case.posterior.index)
    for cause in document["causes"]:
        assert set(cause) == {"id", "label", "code", "urgency", "prior", "posterior"}
        assert cause["posterior"] == pytest.approx(case.posterior[cause["id"]], rel=1e-12)
        assert cause["prior"] == pytest.approx(case.prior[cause["id"]], rel=1e-12)


def test_json_has_the_syndromes_behind_a_stated_finding(tmp_path):
    done = run("diagnose", "--present", "ptosis", "--json", cwd=tmp_path)
    expected = ddx.load("limb").diagnose(present=["ptosis"]).syndromes.dropna()
    assert list(expected.index) == ["fatigable_ocular_weakness"]
    assert json.loads(done.stdout)["syndromes"] == pytest.approx(expected.to_dict(), rel=1e-12)


def test_diagnose_with_intervals_is_reproducible(tmp_path, tiny_folder, case):
    first, second = (
        run("diagnose", *CASE, "--kb", tiny_folder, "--json", "--intervals", "50", "--seed", "3", cwd=tmp_path)
        for _ in range(2)
    )
    assert first.stdout == second.stdout
    frame = case.table(draws=50, seed=3)
    for cause in json.loads(first.stdout)["causes"]:
        assert cause["low"] <= cause["high"]
        assert [cause["low"], cause["high"]] == pytest.approx(frame.loc[cause["id"], ["low", "high"]].to_list(), rel=1e-9)


def test_diagnose_as_text(tmp_path, tiny_folder, case):
    done = run("diagnose", *CASE, "--kb", tiny_folder, "--top", "2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = text(done.stdout).splitlines()
    assert lines[0].split() == ["cause", "ICD-10", "urgency", "prior", "posterior"]
    labels = case.table(draws=0)["label"]
    assert lines[1].startswith(labels.iloc[0])
    assert lines[2].startswith(labels.iloc[1])
    assert lines[3] == ""
    assert lines[4] == f"none of these {case.none_of_these:.3f}, log evidence {case.log_evidence:.2f}"
    assert lines[5] == "tiny 1.2.3, setting general. Tests only."


# ddx kb.


def test_kb_check_of_sound_bases(tmp_path, tiny_folder):
    done = run("kb", "check", tiny_folder, cwd=tmp_path)
    expected = "tiny 1.2.3: no problems in 5 causes, 12 findings, 9 context values, 69 study rows, 3 sources\n"
    assert (done.returncode, text(done.stdout), done.stderr) == (0, expected, b"")
    done = run("kb", "check", cwd=tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"limb [\d.]+: no problems in 49 causes, .*\n", text(done.stdout))


SHOWN = {
    "stroke": [
        "Stroke (stroke)",
        "ICD-10 I63 MONDO:0005098",
        "acute, active for 30 days",
        "link:stroke:numbness",
        "smith_2020",
    ],
    "cva": ["Stroke (stroke)", "prior:stroke@clinic"],
    "sudden_onset": ["Sudden onset (sudden_onset)", "level 2 of onset", "leak:sudden_onset", "Did it come on suddenly?"],
    "onset": ["gradual_onset, sudden_onset", "link:stroke:sudden_onset", "leak:gradual_onset"],
    "hand_weakness": ["arm_weakness", "link:myopathy:hand_weakness"],
    "insulin": ["Insulin treatment (insulin)", "diabetes", "context:insulin", "or:low_sugar:insulin"],
    "haemoglobin_g_dl": ["Haemoglobin", "g/dl", "1.5 to 25", "low_haemoglobin: below 12 for female", "below 13 for male"],
    "prior:neuropathy": [
        "prior:neuropathy = 0.02, Beta(",
        "prevalence 0.02 (20/1000)",
        "Smith, J Tests, 2020",
        "doi:10.1000/smith",
    ],
    "leak:low_haemoglobin": ["false_positive_rate 0.06", "Jones, Ann Tests, 2010", "PMID 12345"],
    "prior:stroke": ["log-normal(", "x 0.0821 years", "incidence 0.002, cohort, makes 0.0001643"],
    "link:stroke:numbness": ["sensitivity 0.4, cohort\n"],
}


def test_kb_show_names_the_item_its_parameters_and_their_studies(tmp_path, tiny_folder):
    answers = run_many([["kb", "show", name, "--kb", str(tiny_folder)] for name in SHOWN], tmp_path)
    assert [code for code, _ in answers] == [0] * len(SHOWN)
    missing = {name: [p for p in SHOWN[name] if p not in shown] for name, (_, shown) in zip(SHOWN, answers, strict=True)}
    assert missing == {name: [] for name in SHOWN}


def test_kb_coverage(tmp_path, tiny_folder):
    done = run("kb", "coverage", "--kb", tiny_folder, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = text(done.stdout).splitlines()
    assert lines[0].split() == ["kind", "numbers", "words", "estimates", "all", "cited"]
    rows = {line.split("  ")[0]: " ".join(line.split()[-6:]) for line in lines if line.endswith(" %")}
    assert rows["link"] == "31 0 1 32 97 %"
    assert rows["prior"] == "5 0 0 5 100 %"
    assert rows["prior in a setting"] == "2 0 0 2 100 %"
    assert rows["leak in an age band"] == "1 0 0 1 100 %"
    assert rows["odds ratio"] == "5 0 0 5 100 %"
    assert rows["all parameters"] == "68 0 1 69 99 %"
    assert rows["stroke"] == "11 0 1 12 92 %"
    assert "68 study rows from 2 sources, 1 expert estimates in use.\n" in text(done.stdout)
    assert text(done.stdout).endswith("\n--estimates lists them.\n")


def test_kb_coverage_tells_words_from_numbers_and_estimates_in_use_from_others(tmp_path, edit):
    edit.cell("studies.csv", "link_stroke_numbness", "quality", "verbal")
    edit.copy("studies.csv", "link_stroke_tremor", id="counted", source="smith_2020", quality="cohort", value="0.3")
    lines = text(run("kb", "coverage", "--kb", edit.folder, cwd=tmp_path).stdout).splitlines()
    rows = {line.split("  ")[0]: " ".join(line.split()[-6:]) for line in lines if line.endswith(" %")}
    assert rows["link"] == "31 1 0 32 100 %"
    assert "69 study rows from 2 sources, 0 expert estimates in use (1 more are superseded)." in lines


def test_kb_coverage_counts_the_sources_of_a_base_without_estimates(tmp_path, edit):
    edit.drop("studies.csv", "link_stroke_tremor")
    edit.drop("sources.csv", "expert_estimate")
    lines = text(run("kb", "coverage", "--kb", edit.folder, cwd=tmp_path).stdout).splitlines()
    assert "68 study rows from 2 sources, 0 expert estimates in use." in lines


def test_kb_show_says_what_the_network_has_where_syndromes_bring_more(tmp_path):
    done = run("kb", "show", "link:diabetic_polyneuropathy:reduced_vibration_sense", cwd=tmp_path)
    first, second = text(done.stdout).splitlines()[:2]
    model = ddx.load("limb", "general")
    net = model.network
    k, f = net.causes.index("diabetic_polyneuropathy"), net.findings.index("reduced_vibration_sense")
    syndrome, v = 1.0 - (1.0 - net.syndrome_leak) * (1.0 - net.syndrome_link[:, k]), net.finding_syndrome[f]
    no_leak = (1.0 - model.knowledge.means["leak:reduced_vibration_sense"]) / np.prod(1.0 - net.syndrome_leak * v)
    there = 1.0 - no_leak * (1.0 - net.link[f, k]) * np.prod(1.0 - syndrome * v)
    assert float(first.split("= ")[1].split(",")[0]) < there
    said = f"without forms the network has {there:.4g}, beside the leak of the studies: so much the syndromes of"
    assert second.startswith(said)


def test_kb_coverage_lists_the_estimates_by_their_reason(tmp_path, edit):
    bare = text(run("kb", "coverage", "--kb", edit.folder, "--estimates", cwd=tmp_path).stdout)
    assert bare.endswith("\nno reason given:\n  link:stroke:tremor 0.2\n")
    edit.cell("studies.csv", "link_stroke_tremor", "note", "no study found: looked for in two reviews")
    done = run("kb", "coverage", "--kb", edit.folder, "--estimates", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    table, _, listed = text(done.stdout).rpartition("\n\n")
    assert listed == "no study found:\n  link:stroke:tremor 0.2  (looked for in two reviews)\n"
    assert table.splitlines()[-1].split() == ["no", "study", "found", "1"]


# Version and help.


def test_version(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, text(done.stdout), done.stderr) == (0, f"ddx {ddx.__version__}\n", b"")


def _commands(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))


def test_help_of_every_command_names_its_options_and_commands(tmp_path):
    answers = run_many([[*path, "--help"] for path in COMMANDS], tmp_path)
    assert set(COMMANDS) >= {(), ("score",), ("diagnose",), ("kb",), ("kb", "check"), ("kb", "show"), ("kb", "coverage")}
    for (path, command), (code, shown) in zip(COMMANDS.items(), answers, strict=True):
        options = [option for p in command.params for option in p.opts if option.startswith("-")]
        names = [*options, *getattr(command, "commands", {})]
        assert (path, code, [n for n in names if n not in shown]) == (path, 0, [])


def test_every_option_and_command_has_a_help_text():
    for path, command in COMMANDS.items():
        assert command.help, path
        silent = [p.name for p in command.params if p.param_type_name == "option" and not p.help and p.name != "help"]
        assert (path, silent) == (path, [])
