"""Standard streams that are full, closed, or wait: one clear line, and an end."""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from ddx import score_file

CASES = "case_id,tremor\n" + "".join(f"c{i},1\n" for i in range(100))


def ddx(folder: Path, *arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "ddx", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, **{"text": True, **options})


@pytest.mark.parametrize("arguments", [["score", "cases.csv"], ["kb", "show", "stroke"], ["--help"]], ids=" ".join)
def test_a_full_standard_output(arguments, tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CASES)
    kb = [] if arguments == ["--help"] else ["--kb", tiny_folder]
    with open("/dev/full", "w") as full, ddx(tmp_path, *arguments, *kb, stdout=full) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("ddx: ")
    assert errors.endswith(": No space left on device\n")
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]


def test_a_reader_that_goes_away_while_the_writer_goes_on(tmp_path, tiny_folder):
    with ddx(tmp_path, "score", "-", "--kb", tiny_folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # the other end goes, although this one would write for ever
            process.stdin.write("case_id,tremor\n")
            for i in range(100_000_000):
                process.stdin.write(f"{i},1\n")
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.stderr
        assert process.stderr.read() == "ddx: standard output was closed before everything was written\n"
    assert process.returncode == 2


def test_a_reader_that_goes_away_while_the_writer_waits(tmp_path, tiny_folder):
    with ddx(tmp_path, "score", "-", "--kb", tiny_folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("case_id,tremor\n")
            for i in range(540_000):  # more than a block, which is read; then neither more nor an end
                process.stdin.write(f"{i},1\n")
            process.stdin.flush()
        assert process.stderr
        assert process.stderr.read() == "ddx: standard output was closed before everything was written\n"
        assert process.wait(timeout=60) == 2
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@pytest.mark.parametrize(
    ("command", "message"),
    [("score - <&-", "standard input is closed"), ("score cases.csv >&-", "standard output is closed")],
)
def test_closed_streams(command, message, tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CASES)
    shell = f'exec "{sys.executable}" -m ddx {command} --kb "{tiny_folder}"'
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"ddx: {message}\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_a_file_is_written_whatever_becomes_of_the_table_of_leading_causes(closed, tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CASES)
    shell = f'exec "{sys.executable}" -m ddx score cases.csv -o out.csv --kb "{tiny_folder}" {closed}'
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    full = "ddx: standard output: cannot be written: No space left on device\n" if closed == ">/dev/full" else ""
    counts = "" if "2>&-" in closed else "100 cases scored, 0 rejected -> out.csv\n"
    assert (done.returncode, done.stderr) == (0, full + counts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.csv", "out.csv", "out.csv.meta.json"]


def test_rejects_on_standard_output_stand_alone(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\na,maybe\nb,1\n")
    arguments = ("score", "cases.csv", "-o", "out.csv", "--rejects", "-", "--kb", tiny_folder)
    with ddx(tmp_path, *arguments, stdout=subprocess.PIPE) as process:
        shown, _ = process.communicate(timeout=60)
    rows = list(csv.reader(io.StringIO(shown)))
    assert [row[:5] for row in rows[1:]] == [["2", "a", "tremor", "maybe", "not_a_value"]]


def test_what_a_terminal_cannot_show_is_no_reason_to_stop(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\n\u00e9\x1b[31m,1\n\u0430,x\n", encoding="utf-8")
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    arguments = ("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder)
    with ddx(tmp_path, *arguments, stdout=subprocess.PIPE, env={**environment, "PYTHONPATH": ":".join(sys.path)}) as process:
        shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "1 cases scored, 1 rejected -> out.csv\n")
    assert "\x1b" not in shown
    assert "\\xe9" in shown


@pytest.mark.parametrize("form", [[], ["--long"], ["--top", "2"]], ids=" ".join)
def test_parquet_on_standard_output_is_the_parquet_file(form, tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text(CASES)
    arguments = ["score", "cases.csv", "--kb", tiny_folder, "--output-format", "parquet", *form]
    with ddx(tmp_path, *arguments, "-o", "-", stdout=subprocess.PIPE, text=False) as process:
        there, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"100 cases scored, 0 rejected -> standard output\n")
    with ddx(tmp_path, *arguments, "-o", "out.parquet") as process:
        process.communicate(timeout=60)
    assert there == (tmp_path / "out.parquet").read_bytes()
    assert pq.read_table(tmp_path / "out.parquet").num_rows == (500 if form == ["--long"] else 100)


def test_a_reader_of_parquet_that_goes_away(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\n" + "".join(f"c{i},1\n" for i in range(20_000)))
    arguments = ["score", "cases.csv", "--kb", tiny_folder, "--output-format", "parquet"]
    with ddx(tmp_path, *arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == "ddx: standard output was closed before everything was written\n"
    assert process.returncode == 2


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_standard_output_without_a_buffer_may_take_parts(form, tmp_path, tiny, monkeypatch):
    """``python -u``: what is written to a pipe may be taken in parts, of which the writer has to know."""

    class Raw(io.RawIOBase):
        taken = b""

        def writable(self):
            return True

        def write(self, data):
            part = bytes(data[:1000])
            self.taken += part
            return len(part)

    (tmp_path / "cases.csv").write_text(CASES)
    raw = Raw()
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=raw))
    score_file(tmp_path / "cases.csv", "-", tiny, output_format=form)
    score_file(tmp_path / "cases.csv", tmp_path / f"out.{form}", tiny)
    assert len(raw.taken) > 2000
    assert raw.taken == (tmp_path / f"out.{form}").read_bytes()


def test_a_fault_is_no_rejected_row(tmp_path):
    """Whatever happens that nobody foresaw: the lines that say where, and the code of failure."""
    program = "import ddx.diagnosis; ddx.diagnosis.load = lambda *_: 1 / 0\nfrom ddx.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "diagnose"], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 2
    assert "ZeroDivisionError: division by zero\n" in done.stderr
    assert done.stderr.endswith("ddx: this is a fault of ddx; please report it with the lines above\n")
