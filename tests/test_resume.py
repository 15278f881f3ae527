"""Runs that are killed, taken up, disturbed or denied: the same bytes as a run in peace, or one clear line and nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ddx
from ddx.batch import lines, sources

# A process that has loaded everything and makes a child for every run, with checkpoints as often as possible and small chunks.
# "where" says where a run ends itself with SIGKILL: when so many bytes of posteriors are written ("write 5000"), or when a file
# is about to get its name ("replace 2": before the third time).
NURSERY = """
import json, os, resource, signal, sys
from pathlib import Path
import ddx, pandas
from ddx.batch import lines, run, sources, targets

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def child(source, target, options, where, size):
    run.CHECKPOINT = 0.0
    for module in (lines, sources):
        module.ROWS = 50
        module.BLOCK_BYTES = 2000
    if size >= 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    kind, _, number = where.partition(" ")
    write, replace, done = targets.Target.write, Path.replace, 0

    def counted(self, data):
        nonlocal done
        write(self, data)
        if self.target == target:
            done += len(data)
            if done >= int(number):
                die()

    def replaced(self, to):
        nonlocal done
        if not str(to).endswith(".journal"):
            if done == int(number):
                die()
            done += 1
        return replace(self, to)

    if kind == "write":
        targets.Target.write = counted
    if kind == "replace":
        Path.replace = replaced
    try:
        report = ddx.score_file(source, target, model, **options)
    except ddx.UsageError as error:
        return 2, str(error)
    return 0, [report.rows, report.scored, report.rejected, report.cells_dropped, report.resumed]

model = ddx.load(sys.argv[1])
for line in sys.stdin:
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        answer = child(*json.loads(line))
        with os.fdopen(theirs, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(answer if code == 0 else json.dumps([code, ""]), flush=True)
"""
N = 1500


def rows(n: int = N) -> list[dict[str, str]]:
    """Cases of which some are bad, and some have the id of a row far above."""
    drawn = random.Random(5)
    table = [{"case_id": f"c{i}", "tremor": str(i % 2), "age": str(drawn.randrange(120))} for i in range(n)]
    for at in drawn.sample(range(n // 2, n), n // 20):
        table[at]["case_id"] = f"c{drawn.randrange(at)}"
    for at in drawn.sample(range(n), n // 20):
        table[at]["tremor"] = "maybe"
    return table


def write(folder: Path, name: str = "cases.csv", n: int = N) -> Path:
    path = folder / name
    table = rows(n)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(table), path)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        path.write_text("case_id,tremor,age\n" + "".join(",".join(row.values()) + "\n" for row in table))
    return path


@pytest.fixture(scope="module")
def drive(tiny_folder):
    """Runs a file: (exit code, counts or message)."""
    command = [sys.executable, "-c", NURSERY, str(tiny_folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin
        assert nursery.stdout

        def run(source: Path, target: Path, where: str = "", size: int = -1, **options: object) -> tuple[int, list[int] | str]:
            print(json.dumps([str(source), str(target), options, where, size]), file=nursery.stdin, flush=True)
            code, answer = json.loads(nursery.stdout.readline())
            assert code in (0, 2, -signal.SIGKILL)
            return code, answer

        yield run
        nursery.stdin.close()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(folder: Path, name: str) -> tuple[bytes, bytes]:
    return (folder / name).read_bytes(), (folder / "out.rejects.csv").read_bytes()


FORMS = [("cases.csv", "out.csv"), ("cases.csv", "out.csv.gz"), ("cases.parquet", "out.parquet"), ("cases.jsonl", "out.jsonl")]
KILLS = 20


@pytest.fixture(scope="module", params=FORMS, ids=[target for _, target in FORMS])
def peace(request, tmp_path_factory, drive):
    """A run that nobody disturbed."""
    source, target = request.param
    folder = tmp_path_factory.mktemp("peace")
    code, counts = drive(write(folder, source), folder / target)
    assert code == 0, counts
    assert left(folder) == {source, target, f"{target}.meta.json", "out.rejects.csv"}
    return folder / source, target, content(folder, target), counts


def test_killed_runs_continue_to_the_same_bytes(peace, tmp_path, drive):
    source, target, expected, counts = peace
    drawn = random.Random(target)
    places = [f"write {drawn.randrange(1, 120_000)}" for _ in range(KILLS // len(FORMS) - 2)]
    for where in [*places, f"replace {drawn.randrange(3)}", "write 1"]:
        folder = tmp_path / where.replace(" ", "_")
        folder.mkdir()
        code, _ = drive(source, folder / target, where)
        assert code == -signal.SIGKILL, where
        assert target not in left(folder)
        # Killed once more on the way, at a place of its own.
        code, _ = drive(source, folder / target, f"write {drawn.randrange(1, 60_000)}", resume=True)
        assert code in (0, -signal.SIGKILL), where
        if code:
            code, answer = drive(source, folder / target, resume=True)
            assert (code, answer[:4]) == (0, counts[:4]), where
        assert content(folder, target) == expected, where
        assert left(folder) == {target, f"{target}.meta.json", "out.rejects.csv"}, where


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_run_that_was_killed_between_two_names(number, peace, tmp_path, drive):
    source, target, expected, counts = peace
    assert drive(source, tmp_path / target, f"replace {number}")[0] == -signal.SIGKILL
    code, answer = drive(source, tmp_path / target, resume=True)
    assert (code, answer) == (0, [*counts[:4], counts[0]])
    assert content(tmp_path, target) == expected
    assert left(tmp_path) == {target, f"{target}.meta.json", "out.rejects.csv"}


@pytest.fixture
def killed(tmp_path, drive):
    """A run that was killed on its way, with a checkpoint."""
    source = write(tmp_path)
    assert drive(source, tmp_path / "out.csv", "write 60000")[0] == -signal.SIGKILL
    assert ".out.csv.journal" in left(tmp_path)
    return partial(drive, source, tmp_path / "out.csv"), tmp_path


def test_what_is_not_the_same_run_is_not_resumed(killed):
    again, folder = killed
    before = {name for name in left(folder) if not name.endswith(".lock")}
    for options, what in (
        ({"lenient": True}, "(lenient was False, is True)"),
        ({"top": 2}, "(top was 0, is 2)"),
        ({"long": True}, "(long was False, is True)"),
        ({"encoding": "cp1252"}, "(encoding was utf-8, is cp1252)"),
        ({"rejects": str(folder / "other.csv")}, "rejects"),
        ({"input_format": "jsonl"}, "formats"),
    ):
        code, said = again(resume=True, **options)
        assert (code, what in said or what == "formats") == (2, True), said
        assert "start again without --resume" in said or what == "formats"
        assert left(folder) == before
    assert again(resume=True)[0] == 0


def test_another_input_is_not_resumed(killed):
    again, folder = killed
    source = folder / "cases.csv"
    old = source.read_text()
    for new, what in (
        (old.replace("c7,1,", "c7,0,"), "is not what the run began with"),
        (old[:3000], "is shorter than when the run began"),
        ("case_id,tremor,age\n", "is shorter than when the run began"),
    ):
        source.write_text(new)
        assert again(resume=True) == (2, f"{source}: {what}; start again without --resume")
    source.unlink()
    assert again(resume=True) == (2, f"{source}: no such file")
    source.write_text(old)
    code, answer = again(resume=True)
    assert (code, answer[0]) == (0, N)


def test_without_resume_a_run_begins_anew(killed, tmp_path, drive):
    again, folder = killed
    # Killed before its own first checkpoint, it must not leave the journal of the run before it.
    assert again("write 1")[0] == -signal.SIGKILL
    code, answer = again(resume=True)
    assert (code, answer[0], answer[4] < N) == (0, N, True)
    (tmp_path / "fresh").mkdir()
    assert drive(folder / "cases.csv", tmp_path / "fresh" / "out.csv")[0] == 0
    assert content(tmp_path / "fresh", "out.csv") == content(folder, "out.csv")


@pytest.mark.parametrize("damage", ["gone", "short", "garbled", "not json"])
def test_damaged_remains_are_not_taken_up(damage, killed):
    again, folder = killed
    part, journal = folder / ".out.csv.part", folder / ".out.csv.journal"
    if damage == "gone":
        part.unlink()
    elif damage == "short":
        os.truncate(part, 100)
    else:
        journal.write_text("{}" if damage == "garbled" else "{")
    code, said = again(resume=True)
    if damage in ("gone", "short"):
        assert (code, said) == (2, f"{folder}/out.csv: the unfinished run has lost {part}; start again without --resume")
        assert again()[0] == 0
    else:
        assert (code, said[4]) == (0, 0)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.zst"])
def test_a_complete_run_without_its_names_is_that_of_its_input(name, tmp_path, drive):
    source, target = write(tmp_path), tmp_path / name
    assert drive(source, target, "replace 2")[0] == -signal.SIGKILL
    old = source.read_text()
    for new in (old.replace("c7,1,", "c7,0,"), f"{old}more,1,40\n"):
        source.write_text(new)
        assert drive(source, target, resume=True) == (
            2,
            f"{source}: is not what the run began with; start again without --resume",
        )
    source.write_text(old)
    part = tmp_path / f".{name}.part"
    kept = part.read_bytes()
    part.unlink()
    target.write_text("of another run")
    lost = f"{target}: the unfinished run has lost {part}; start again without --resume"
    assert drive(source, target, resume=True) == (2, lost)
    assert target.read_text() == "of another run"
    part.write_bytes(kept)
    code, answer = drive(source, target, resume=True)
    assert (code, answer[0], answer[4]) == (0, N, N)
    assert drive(source, tmp_path / f"fresh.{name}")[0] == 0
    assert (tmp_path / f"fresh.{name}").read_bytes() == target.read_bytes()


def test_another_parquet_file_of_the_same_size_and_time_is_not_resumed(tmp_path, drive):
    source = tmp_path / "cases.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), source, compression="none")
    assert drive(source, tmp_path / "out.csv", "write 60000")[0] == -signal.SIGKILL
    time_of, data = source.stat().st_mtime_ns, source.read_bytes()
    source.write_bytes(data.replace(b"c1400", b"c14zz"))
    assert source.read_bytes() != data
    os.utime(source, ns=(time_of, time_of))
    message = f"{source}: is not what the run began with; start again without --resume"
    assert drive(source, tmp_path / "out.csv", resume=True) == (2, message)


def test_nothing_to_resume(tmp_path, drive):
    source = write(tmp_path, n=10)
    target = tmp_path / "out.csv"
    message = f"{target}: there is no unfinished run to resume; leave --resume out"
    assert drive(source, target, resume=True) == (2, message)
    assert drive(source, target)[0] == 0
    assert drive(source, target, resume=True) == (2, message)
    code, said = drive(Path("-"), target, resume=True)
    assert (code, "a stream cannot be taken up again" in said) == (2, True)


@contextlib.contextmanager
def waiting(folder: Path, tiny_folder: Path):
    """A run in a folder that has begun, and waits for the rest of ../cases.csv."""
    os.mkfifo(folder.parent / "cases.csv")
    command = [sys.executable, "-m", "ddx", "score", "../cases.csv", "-o", "out.csv", "--kb", str(tiny_folder), "-q"]
    # A job in the background of a shell ignores interrupts, and so would its children.
    heard = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with (
        subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process,
        open(folder.parent / "cases.csv", "w") as pipe,
    ):
        pipe.write(f"case_id,tremor,note\na,1,{'x' * 5_000_000}\na,1,\n")  # more than is read at first
        pipe.flush()
        while ".out.csv.lock" not in left(folder):
            assert process.poll() is None
            time.sleep(0.01)
        yield process, pipe


def test_one_run_a_target(tmp_path, tiny_folder, drive):
    work = tmp_path / "work"
    work.mkdir()
    with waiting(work, tiny_folder) as (first, pipe):
        other = write(tmp_path, "other.csv", n=10)
        for name, locked in (("out.csv", "out.csv"), ("out.parquet", "out.rejects.csv")):
            message = f"{work}/{locked}: another run is writing it; wait for it, or name another output"
            assert drive(other, work / name) == (2, message)
        pipe.close()
        assert first.communicate(timeout=60)[1] == "1 cases scored, 1 rejected -> out.csv\n"
    assert left(work) == {"out.csv", "out.csv.meta.json", "out.rejects.csv"}


# Disks.


@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet", "out.jsonl"])
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_full_disk(target, size, tmp_path, drive):
    source = write(tmp_path)
    code, said = drive(source, tmp_path / target, size=size)
    assert code == 2
    assert "\n" not in said
    assert "cannot be written: File too large" in said
    assert said.endswith("; what is done is kept, go on with --resume") == bool(size)
    assert target not in left(tmp_path)
    if size:  # what was done is taken up when there is room
        code, answer = drive(source, tmp_path / target, resume=True)
        assert (code, answer[0]) == (0, N)
        assert answer[4] > 0
    (tmp_path / "fresh").mkdir()
    assert drive(source, tmp_path / "fresh" / target)[0] == 0
    if size:
        assert content(tmp_path, target) == content(tmp_path / "fresh", target)


def test_targets_that_are_no_files(tmp_path, drive):
    source = write(tmp_path, n=10)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "other.csv.meta.json").mkdir()
    for target, message in (
        (Path("/dev/null"), "/dev/null: is no regular file; - is standard output"),
        (tmp_path / "pipe.csv", f"{tmp_path}/pipe.csv: is no regular file; - is standard output"),
        (tmp_path / "other.csv", f"{tmp_path}/other.csv.meta.json: is no regular file; name another output"),
        (source / "out.csv", f"{source}/out.csv: the directory {source} does not exist; make it first"),
        (tmp_path / f"{'x' * 250}.csv", "File name too long"),
    ):
        code, said = drive(source, target)
        assert (code, message in said, "\n" in said) == (2, True, False), said
    assert left(tmp_path) == {"cases.csv", "pipe.csv", "other.csv.meta.json"}
    assert not Path("/dev/null").is_file()


# Targets that exist.


def test_a_link_stays_and_so_do_the_rights_of_what_it_leads_to(tmp_path, drive):
    (tmp_path / "deep").mkdir()
    real, link = tmp_path / "deep" / "real.csv", tmp_path / "out.csv"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    source = write(tmp_path, n=10)
    assert drive(source, link)[0] == 0
    assert drive(source, tmp_path / "plain.csv")[0] == 0
    assert link.is_symlink()
    assert real.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert real.stat().st_mode & 0o777 == 0o600
    assert left(tmp_path / "deep") == {"real.csv"}


def test_an_input_that_is_cut_off_while_it_is_read(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 2000)
    source = write(tmp_path)
    size, reading = source.stat().st_size, sources.Source._open

    def cut(self):
        reading(self)
        os.truncate(source, 5000)

    monkeypatch.setattr(sources.Source, "_open", cut)
    message = f"{source}: had {size} bytes when it was opened and ends at 5000; something has cut it off meanwhile, start again"
    with pytest.raises(ddx.UsageError, match=f"^{re.escape(message)}$"):
        ddx.score_file(source, tmp_path / "out.csv", tiny)
    assert left(tmp_path) == {"cases.csv"}


# Interrupted by a person.


def test_an_interrupted_run_says_what_is_left(tmp_path, tiny_folder):
    work = tmp_path / "work"
    work.mkdir()
    with waiting(work, tiny_folder) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "ddx: interrupted; nothing is written\n"
        assert process.returncode == 130
    assert left(work) == set()
