"""ddx sensitivity: one case or a file in, tables, CSV and exit codes out."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from ddx import sensitivity
from ddx.cli import main
from ddx.cli.show import console
from ddx.cli.validation import table

CASE = ["--present", "arm_weakness", "--present", "numbness", "--absent", "tremor", "--age", "70", "--sex", "female"]
FILE = """\
case_id,age,sex,present,absent
a,70,female,arm_weakness;numbness,tremor
b,30,male,fatigue;tremor,
"""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, tiny):
    """Run ddx sensitivity on the tiny knowledge base in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases.csv").write_text(FILE, encoding="utf-8")

    def call(*arguments):
        kb = ["--kb", tiny.knowledge.folder, "--setting", "clinic"]
        monkeypatch.setattr(sys, "argv", ["ddx", "sensitivity", *arguments, *kb])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


def test_a_case_shows_its_parameters_widest_first(run, tiny):
    code, out, err = run(*CASE, "--top", "3")
    model = tiny.in_setting("clinic")
    case = {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"}
    leading = model.diagnose(**case).posterior
    table = sensitivity.one_way(model, case, leading.index[0])
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"P({leading.index[0]}) = {leading.iloc[0]:.3g}. tiny 1.2.3, setting clinic."
    assert [line.split()[0] for line in lines[3:]] == list(table.index[:3])
    first = table.iloc[0]
    expected = [f"{first[c]:.3g}" for c in ("value", "low", "high", "at_low", "at_high", "swing")]
    assert [word for word in lines[3].split()[1:-1] if word != "to"] == expected


def test_the_target_may_be_an_alias(run):
    assert run(*CASE, "--target", "cva") == run(*CASE, "--target", "stroke")


def test_the_csv_file_holds_the_whole_table(run, tiny, tmp_path):
    assert run(*CASE, "--target", "myopathy", "-o", "all.csv")[0] == 0
    case = {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"}
    expected = sensitivity.one_way(tiny.in_setting("clinic"), case, "myopathy")
    found = pd.read_csv(tmp_path / "all.csv", index_col="parameter")
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-12)


def test_standard_output_is_the_csv_file_alone(run):
    code, out, err = run(*CASE, "-o", "-")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "parameter,value,low,high,derivative,at_low,at_high,swing,cited,sources"
    assert "setting clinic" not in out


def test_a_tornado_diagram_is_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    assert run(*CASE, "--plot", "tornado.png", "-o", "table.csv")[0] == 0
    assert (tmp_path / "tornado.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cases.csv", "table.csv", "tornado.png"]


def test_flips_say_what_happens_then(run, tiny):
    _, out, _ = run(*CASE, "--flips", "--top", "2")
    case = {"present": ["arm_weakness", "numbness"], "absent": ["tremor"], "age": 70, "sex": "female"}
    table = sensitivity.flips(tiny.in_setting("clinic"), case).head(2)
    shown = [" ".join(line.split()) for line in out.splitlines()[-2:]]
    words = {"leading cause": "leads", "action threshold": "crosses its threshold"}
    assert shown == [
        f"{name} {row['value']:.3g} {row['needed']:.3g} {row['deviations']:+.2f} {row['cause']} {words[row['change']]}"
        for name, row in table.iterrows()
    ]


def test_long_names_fold_and_numbers_stay_whole(capsys):
    name, then = "prior:" + "functional_neurological_disorder_" * 3, "functional_neurological_disorder crosses its threshold"
    console().print(table(["parameter", "needed", "then"], [[name, "0.0123456", then]], ["then"]))
    header, *lines = capsys.readouterr().out.splitlines()
    column = header.index("then")
    number = column - 2 - len("0.0123456")
    assert "".join(line[:number].strip() for line in lines) == name
    assert lines[0][number:column].rstrip() == "0.0123456"
    assert " ".join(line[column:].strip() for line in lines).strip() == then


def test_a_file_is_summed_up(run, tiny, tmp_path):
    code, _, err = run("cases.csv", "-o", "summary.csv")
    frame = pd.read_csv(tmp_path / "cases.csv", index_col="case_id")
    expected = sensitivity.summary(tiny.in_setting("clinic"), frame)
    found = pd.read_csv(tmp_path / "summary.csv", index_col="parameter")
    assert (code, err) == (0, "2 cases, 0 rejected\n")
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-12)


def test_rows_that_cannot_be_used_are_named_and_the_others_summed_up(run, tmp_path):
    (tmp_path / "cases.csv").write_text(FILE + "c,old,male,,\n", encoding="utf-8")
    code, out, err = run("cases.csv")
    assert code == 1
    assert out.split()[0] == "parameter"
    assert err.splitlines()[0].startswith("line 4, case 'c', age: got 'old'")
    assert err.splitlines()[-1] == "2 cases, 1 rejected"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["cases.csv", "--present", "tremor"],
            "--present is for one case, but cases.csv is a file of cases; give one or the other",
        ),
        (
            [*CASE, "-o", "-", "--flips"],
            "--flips is shown on standard output, where --output - writes its table; name a file for that",
        ),
        (["cases.csv", "--flips"], "--flips is for one case, but cases.csv is a file of cases; give one or the other"),
        (["--level", "1.5"], "--level: got 1.5, expected a number between 0 and 1"),
        (["--present", "tremor", "--target", "strok"], "target: unknown cause 'strok'; nearest: stroke"),
        (["cases.csv", "--plot", "x.png"], "--plot is for one case, but cases.csv is a file of cases; give one or the other"),
        (
            ["--present", "tremor", "--plot", "x.gif"],
            "x.gif: unknown picture format '.gif'; write to a .png, .svg or .pdf file",
        ),
        (["nothing.csv"], "nothing.csv: no such file"),
        (["--present", "tremor", "-o", "nowhere/table.csv"], "nowhere/table.csv: "),
    ],
)
def test_what_cannot_be_done_ends_with_one_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"ddx: {message}")
    assert err.count("\n") == 1


def test_a_row_that_names_an_unknown_id_is_a_reject(run, tmp_path):
    (tmp_path / "cases.jsonl").write_text('{"case_id": "a", "tremor": 1}\n{"case_id": "b", "tremr": 1}\n', encoding="utf-8")
    code, out, err = run("cases.jsonl", "-o", "summary.csv")
    assert (code, out.split()[0]) == (1, "parameter")
    # There is no --lenient here.
    first = "line 2, case 'b', tremr: unknown column 'tremr'; nearest: tremor; correct it or take it out"
    assert err.splitlines()[0] == first
    assert err.splitlines()[-1] == "1 cases, 1 rejected"


def test_a_file_in_another_encoding(run, tmp_path):
    (tmp_path / "cases.csv").write_bytes("case_id,tremor\nM\u00fcller,1\n".encode("cp1252"))
    assert run("cases.csv")[0] == 2
    code, out, err = run("cases.csv", "--encoding", "cp1252", "--top", "1")
    assert (code, err) == (0, "1 cases, 0 rejected\n")
    assert "M\u00fcller" in out
