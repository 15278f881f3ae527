"""Standard streams that are full, closed, or wait: one clear line, and an end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

CASES = "case_id,tremor\n" + "".join(f"c{i},1\n" for i in range(100))


def ddx(folder: Path, *arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "ddx", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **options)


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


def test_what_a_terminal_cannot_show_is_no_reason_to_stop(tmp_path, tiny_folder):
    (tmp_path / "cases.csv").write_text("case_id,tremor\n\u00e9\x1b[31m,1\n\u0430,x\n", encoding="utf-8")
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    arguments = ("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder)
    with ddx(tmp_path, *arguments, stdout=subprocess.PIPE, env={**environment, "PYTHONPATH": ":".join(sys.path)}) as process:
        shown, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "1 cases scored, 1 rejected -> out.csv\n")
    assert "\x1b" not in shown
    assert "\\xe9" in shown
