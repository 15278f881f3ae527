"""ddx simulate, ddx evaluate, ddx kb diff, and the published cases: files in, tables and exit codes out."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import chunked

import ddx
from ddx import validation
from ddx.cli import diff as diff_module
from ddx.cli import main

ROOT = Path(__file__).resolve().parents[1]
CASES = """\
case_id,age,sex,present,absent,final_diagnosis
a,70,male,sudden_onset;arm_weakness;brisk_reflexes,tremor,cva
b,30,female,low_haemoglobin;fatigue,,anaemia;neuropathy
c,40,female,,fatigue;tremor;numbness,
"""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in a folder of its own: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ddx", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(CASES, encoding="utf-8")
    return path


def _squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


# ddx simulate


def test_simulate_writes_what_the_function_draws(run, tmp_path, tiny):
    code, out, err = run("simulate", "-n", 30, "-o", "cases.csv", "--seed", 4, "--kb", tiny.knowledge.folder)
    assert (code, out, err) == (0, "", "30 cases drawn -> cases.csv\n")
    written = pd.read_csv(tmp_path / "cases.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, validation.simulate(tiny, 30, 4), check_dtype=False)
    assert {p.name for p in tmp_path.iterdir()} == {"cases.csv"}


def test_simulated_cases_go_through_score_and_evaluate(run, tiny_folder):
    run("simulate", "-n", 40, "-o", "cases.csv", "--kb", tiny_folder, "--setting", "balanced", "--observed", 0.5)
    code, _, err = run("score", "cases.csv", "-o", "out.csv", "--kb", tiny_folder, "-q")
    assert (code, err) == (0, "40 cases scored, 0 rejected -> out.csv\n")
    code, out, err = run("evaluate", "cases.csv", "--kb", tiny_folder, "--setting", "balanced")
    assert (code, err) == (0, "40 cases scored, 0 rejected\n")
    assert out.startswith("40 cases, ")


def test_simulate_takes_fractions_by_kind(run, tiny):
    code, out, err = run(
        "simulate",
        "-n",
        5,
        "--kb",
        tiny.knowledge.folder,
        "--observed",
        "lab=1",
        "--observed",
        "context=0",
        "--observed",
        "sign=0",
    )
    assert (code, err) == (0, "5 cases drawn -> standard output\n")
    drawn = validation.simulate(tiny, 5, observed={"lab": 1.0, "context": 0.0, "sign": 0.0})
    assert out == drawn.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--observed", "few"], "--observed: got 'few', expected a number, or KIND=NUMBER"),
        (["--observed", "lab=nan"], "--observed: got 'lab=nan', expected a number, or KIND=NUMBER"),
        (["--setting", ""], "unknown setting ''; known: general, clinic, balanced"),
        (
            ["--observed", "0.5", "--observed", "lab=1"],
            "--observed: got a number for all kinds and numbers for single ones; give one or the other",
        ),
        (["--observed", "2"], "observed: got 2, expected a probability from 0 to 1"),
        (["-o", "no/cases.csv"], "no/cases.csv: the directory no does not exist; make it first"),
        (["-o", "cases.xlsx"], "cases.xlsx: unknown output format '.xlsx'; write to a .csv file"),
        (["--setting", "clinics"], "unknown setting 'clinics'; nearest: clinic; known: general, clinic, balanced"),
    ],
)
def test_what_simulate_cannot_do_ends_with_code_2(run, tmp_path, tiny_folder, options, message):
    assert run("simulate", "-n", 2, "--kb", tiny_folder, *options) == (2, "", f"ddx: {message}\n")
    assert list(tmp_path.iterdir()) == []


# ddx evaluate


def test_evaluate_prints_measures_causes_and_reliability(run, cases, tiny):
    code, out, err = run("evaluate", cases, "--kb", tiny.knowledge.folder, "--resamples", 50)
    assert (code, err) == (0, "3 cases scored, 0 rejected\n")
    frame = pd.read_csv(cases, keep_default_na=False)
    report = validation.report(tiny.score(frame), frame["final_diagnosis"], model=tiny, resamples=50)
    lines = _squeezed(out)
    assert lines[0] == "3 cases, 3 true causes, 1 without any. tiny 1.2.3, setting general."
    assert lines[2] == "measure value 2.5 % 97.5 %"
    assert lines[3] == "truth ranks first {:.3f} {:.3f} {:.3f}".format(*report.overall.loc["top_1"])
    assert lines[6] == "log score {:.3f} {:.3f} {:.3f}".format(*report.overall.loc["log_score"])
    assert lines[13] == "cause true expected first first 3 first 5 posterior log score Brier calibration"
    # Only causes that are true somewhere.
    assert [line.split()[:2] for line in lines[14:17]] == [["stroke", "1"], ["neuropathy", "1"], ["anaemia", "1"]]
    assert lines[18] == "posterior count mean true 2.5 % 97.5 %"
    first = report.reliability.iloc[0]
    assert lines[19].startswith(f"0 to 0.1 {first['count']:.0f} {first['mean']:.3f} {first['frequency']:.3f} ")


def test_evaluate_prints_json_without_nan(run, cases, tiny):
    code, out, _ = run("evaluate", cases, "--kb", tiny.knowledge.folder, "--json", "--resamples", 0, "--bins", 4)
    document = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    frame = pd.read_csv(cases, keep_default_na=False)
    report = validation.report(tiny.score(frame), frame["final_diagnosis"], model=tiny, resamples=0, bins=4)
    assert code == 0
    assert document["knowledge_base"] == {"name": "tiny", "version": "1.2.3", "digest": tiny.knowledge.digest}
    assert (document["rows"], document["scored"], document["rejected"], document["items"]) == (3, 3, 0, 3)
    assert document["overall"]["brier"] == {"value": report.brier.value, "low": None, "high": None}
    assert [item["truth"] for item in document["by_item"]] == ["stroke", "neuropathy", "anaemia"]
    assert [item["rank"] for item in document["by_item"]] == report.by_item["rank"].tolist()
    assert len(document["reliability"]) == 4
    assert document["per_cause"]["myopathy"]["top_1"] is None
    assert document["overall"]["calibration_error_by_chance"] == dict(report.overall.loc["calibration_error_by_chance"])
    assert (document["cells_dropped"], document["rejects"]) == (0, [])


def test_rejected_rows_are_left_out_and_make_exit_code_1(run, cases, tiny_folder):
    cases.write_text(
        CASES + "d,40,male,tremors,,stroke\n" + "e,40,male,tremor,,strok\n" + "a,40,male,tremor,,stroke\n" + "f,40\n",
        encoding="utf-8",
    )
    code, out, err = run("evaluate", cases, "--kb", tiny_folder, "--resamples", 0)
    assert code == 1
    assert out.startswith("3 cases, 3 true causes, 1 without any.")
    assert err.splitlines() == [
        "line 5, case 'd', present: unknown finding 'tremors'; nearest: tremor",
        "line 6, case 'e', final_diagnosis: unknown cause 'strok'; nearest: stroke",
        "line 7, case 'a', case_id: case_id 'a' stands in an earlier row; give every case its own",
        "line 8: got 2 cells, the header has 6",
        "3 cases scored, 4 rejected",
    ]


def test_an_unknown_truth_rejects_its_row_and_an_empty_one_is_none_of_the_causes(run, tmp_path, tiny, tiny_folder):
    words = ["stroke", "unknown", "NA", "n/a", "nan", "anaemia; unknown", "", "  "]
    rows = "".join(f"{case},1,{word}\n" for case, word in zip("abcdefgh", words, strict=True))
    (tmp_path / "cases.csv").write_text("case_id,tremor,final_diagnosis\n" + rows, encoding="utf-8")
    remedy = "leave such cases out, or empty the cell if none of the modelled causes is present"
    said = f"expected ids of causes separated by ';', or an empty cell; {remedy}"
    got = [(3, "b", "unknown"), (4, "c", "NA"), (5, "d", "n/a"), (6, "e", "nan"), (7, "f", "unknown")]
    lines = [f"line {line}, case {case!r}, final_diagnosis: got {word!r}, {said}" for line, case, word in got]
    for option in ([], ["--lenient"]):
        code, out, err = run("evaluate", "cases.csv", "--kb", tiny_folder, "--resamples", 0, *option)
        assert (code, err.splitlines()) == (1, [*lines, "3 cases scored, 5 rejected"])
        assert out.startswith("3 cases, 1 true causes, 2 without any.")
    frame = pd.DataFrame({"case_id": list("abcdefgh"), "tremor": 1, "final_diagnosis": words})
    frame.to_parquet(tmp_path / "cases.parquet")
    frame.to_json(tmp_path / "cases.jsonl", orient="records", lines=True)
    for name in ("cases.parquet", "cases.jsonl"):
        found = validation.evaluate_file(tmp_path / name, tiny, resamples=0)
        assert [(r.case_id, r.value, r.error) for r in found.rejects] == [(case, word, "not_a_value") for _, case, word in got]


def test_no_value_of_a_typed_file_is_an_empty_truth(tmp_path, tiny):
    column = pa.array([float("nan"), None], pa.float64())
    pq.write_table(pa.table({"tremor": [1, 0], "final_diagnosis": column}), tmp_path / "cases.parquet")
    found = validation.evaluate_file(tmp_path / "cases.parquet", tiny, resamples=0)
    assert (found.truth.tolist(), found.report.without_cause, found.rejects) == (["", ""], 2, ())
    rows = '{"tremor": 1, "final_diagnosis": null}\n{"tremor": 1, "final_diagnosis": ["unknown"]}\n'
    (tmp_path / "cases.jsonl").write_text(rows, encoding="utf-8")
    found = validation.evaluate_file(tmp_path / "cases.jsonl", tiny, resamples=0)
    assert (found.truth.tolist(), [reject.value for reject in found.rejects]) == ([""], ["unknown"])


def test_the_column_of_the_truth_may_have_any_name(run, cases, tiny_folder):
    expected = run("evaluate", cases, "--kb", tiny_folder, "--resamples", 0)
    cases.write_text(CASES.replace("final_diagnosis", "verdict"), encoding="utf-8")
    assert run("evaluate", cases, "--kb", tiny_folder, "--resamples", 0, "--truth", "verdict") == expected
    assert run("evaluate", cases, "--kb", tiny_folder) == (
        2,
        "",
        f"ddx: {cases}: has no column 'final_diagnosis'; name the one with the true causes\n",
    )
    assert run("evaluate", cases, "--kb", tiny_folder, "--truth", "verdicts") == (
        2,
        "",
        f"ddx: {cases}: has no column 'verdicts'; nearest: verdict; name the one with the true causes\n",
    )


def test_evaluate_takes_lists_of_true_causes_and_no_long_form(run, tmp_path, tiny_folder):
    rows = (
        '{"present": ["tremor"], "final_diagnosis": ["stroke", "anaemia"]}\n{"present": ["fatigue"], "final_diagnosis": []}\n'
    )
    (tmp_path / "cases.jsonl").write_text(rows, encoding="utf-8")
    code, out, err = run("evaluate", "cases.jsonl", "--kb", tiny_folder, "--json", "--resamples", 0)
    assert (code, err) == (0, "2 cases scored, 0 rejected\n")
    document = json.loads(out)
    assert [item["truth"] for item in document["by_item"]] == ["stroke", "anaemia"]
    assert document["without_cause"] == 1
    (tmp_path / "named.jsonl").write_text(rows.replace("final_diagnosis", "verdict"), encoding="utf-8")
    named = run("evaluate", "named.jsonl", "--truth", "verdict", "--kb", tiny_folder, "--json", "--resamples", 0)
    assert json.loads(named[1])["by_item"] == document["by_item"]
    (tmp_path / "long.csv").write_text("case_id,id,value\na,tremor,1\na,final_diagnosis,stroke\n", encoding="utf-8")
    message = "is in long form, which has no column of true causes; give a row for every case, wide or in list form"
    assert run("evaluate", "long.csv", "--kb", tiny_folder) == (2, "", f"ddx: long.csv: {message}\n")


def test_an_object_without_true_causes_has_none_wherever_it_stands(run, tmp_path, tiny_folder):
    rows = '{"tremor": 1, "final_diagnosis": "stroke"}\n{"tremor": 1}\n'
    (tmp_path / "cases.jsonl").write_text(rows, encoding="utf-8")
    whole = run("evaluate", "cases.jsonl", "--kb", tiny_folder, "--resamples", 0)
    assert (whole[0], whole[2]) == (0, "2 cases scored, 0 rejected\n")
    assert whole[1].startswith("2 cases, 1 true causes, 1 without any.")
    with chunked(rows=1):
        assert run("evaluate", "cases.jsonl", "--kb", tiny_folder, "--resamples", 0) == whole
    message = "cases.jsonl: has no column 'verdict'; name the one with the true causes"
    assert run("evaluate", "cases.jsonl", "--truth", "verdict", "--kb", tiny_folder) == (2, "", f"ddx: {message}\n")


def test_evaluate_rejects_the_rows_of_json_lines_that_name_something_unknown(run, tmp_path, tiny_folder):
    row = '{"case_id": "%s", "%s": 1, "final_diagnosis": "stroke"}\n'
    rows = row % ("a", "tremr") + row % ("b", "tremor")
    (tmp_path / "cases.jsonl").write_text(rows, encoding="utf-8")
    code, out, err = run("evaluate", "cases.jsonl", "--kb", tiny_folder, "--json", "--resamples", 0)
    message = "unknown column 'tremr'; nearest: tremor; correct it, take it out, or ignore it (--lenient, lenient=True)"
    assert (code, err) == (1, f"line 1, case 'a', tremr: {message}\n1 cases scored, 1 rejected\n")
    assert [item["case"] for item in json.loads(out)["by_item"]] == ["b"]


LENIENT = """\
case_id,note,tremor,tremr,final_diagnosis
a,,maybe,1,stroke
b,,1,1,anaemia
b,,1,1,anaemia
c,,0,1,strok
"""


def test_lenient_evaluation_drops_cells_and_says_so(run, tmp_path, tiny, tiny_folder):
    (tmp_path / "cases.csv").write_text(LENIENT, encoding="utf-8")
    code, out, err = run("evaluate", "cases.csv", "--kb", tiny_folder, "--json", "--resamples", 0, "--lenient")
    assert code == 1
    assert err.splitlines() == [
        "line 1, tremr: unknown column 'tremr'; nearest: tremor; ignored",
        "line 2, case 'a', tremor: got 'maybe', expected 1/yes/true/present, 0/no/false/absent, a number from 0 to 1, or empty",
        "line 4, case 'b', case_id: case_id 'b' stands in an earlier row; give every case its own",
        "line 5, case 'c', final_diagnosis: unknown cause 'strok'; nearest: stroke",
        "2 cases scored, 2 rejected, 2 cells dropped",
    ]
    found = validation.evaluate_file(tmp_path / "cases.csv", tiny, lenient=True, resamples=0)
    assert (found.rows, found.scored, found.rejected, found.cells_dropped) == (4, 2, 2, 2)
    expected = tiny.score(pd.DataFrame({"case_id": ["a", "b"], "tremor": ["", "1"]}))
    np.testing.assert_array_equal(found.posteriors.to_numpy(), expected.to_numpy())
    document = json.loads(out)
    assert [item["truth"] for item in document["by_item"]] == ["stroke", "anaemia"]
    assert document["cells_dropped"] == 2
    fields = ["line", "case_id", "column", "value", "error", "message"]
    assert [list(reject) for reject in document["rejects"]] == [fields] * 4
    message = "unknown cause 'strok'; nearest: stroke"
    assert list(document["rejects"][3].values()) == [5, "c", "final_diagnosis", "strok", "unknown_id", message]
    assert [reject["message"] for reject in document["rejects"]] == [line.split(": ", 1)[1] for line in err.splitlines()[:4]]


def test_the_help_of_evaluate_says_what_lenient_and_json_leave(run):
    said = " ".join(run("evaluate", "--help")[1].replace("\u2502", " ").split())
    assert "a truth that is no cause rejects its row still" in said
    assert "and the rejects as JSON" in said
    assert "empty: none of the modelled causes" in said


def test_evaluate_without_a_usable_case_says_why(run, cases, tiny_folder):
    cases.write_text("case_id,present,final_diagnosis\na,tremors,stroke\n", encoding="utf-8")
    assert run("evaluate", cases, "--kb", tiny_folder) == (
        2,
        "",
        f"ddx: {cases}: no case can be used, of 1\nline 2, case 'a', present: unknown finding 'tremors'; nearest: tremor\n",
    )


# ddx kb diff


@pytest.fixture
def other(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "tiny"
    shutil.copytree(tiny_folder, folder)
    studies = (folder / "studies.csv").read_text(encoding="utf-8")
    old = "leak_tremor,false_positive_rate,,tremor,,,,0.03"
    assert studies.count(old) == 1
    studies = studies.replace(old, old.replace("0.03", "0.06"))
    kept = [line for line in studies.splitlines() if not line.startswith("link_myopathy_hand_weakness,")]
    (folder / "studies.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


def test_parameter_changes_are_moved_added_removed(tiny_folder, other):
    old, new = ddx.load(tiny_folder).knowledge, ddx.load(other).knowledge
    forth = validation.parameter_changes(old, new)
    logit = math.log(0.06 / 0.94) - math.log(0.03 / 0.97)
    moved = forth.set_index("parameter").loc["leak:tremor"]
    assert moved[["what", "old", "new"]].tolist() == ["moved", pytest.approx(0.03), pytest.approx(0.06)]
    assert moved["change"] == pytest.approx(logit)
    assert forth["parameter"].tolist() == ["leak:tremor", "link:myopathy:hand_weakness"]
    assert forth["what"].tolist() == ["moved", "removed"]
    back = validation.parameter_changes(new, old)
    assert back["what"].tolist() == ["moved", "added"]
    assert back.loc[0, "change"] == pytest.approx(-logit)
    assert len(validation.parameter_changes(old, old)) == 0


def test_the_largest_move_comes_first_and_ratios_count_on_the_log_scale(edit):
    old = ddx.load(edit.folder).knowledge
    edit.cell("studies.csv", "or_low_sugar_insulin", "value", "30")
    edit.cell("studies.csv", "leak_fatigue", "value", "0.16")
    changes = validation.parameter_changes(old, ddx.load(edit.folder).knowledge)
    assert changes["parameter"].tolist() == ["or:low_sugar:insulin", "leak:fatigue"]
    assert changes.loc[0, "change"] == pytest.approx(math.log(1.5))


def test_a_change_is_on_the_scale_of_its_spread():
    """A prior that is an incidence times a window is log-normal: its logarithm moves, not its log odds."""
    old = ddx.load("limb").knowledge
    own = old.parameters["prior:stroke"]
    assert own.distribution == "log_normal"
    moved = dataclasses.replace(own, first=own.first + 0.5, value=own.value * math.exp(0.5))
    new = dataclasses.replace(old, parameters={**old.parameters, "prior:stroke": moved})
    (row,) = validation.parameter_changes(old, new).to_dict("records")
    assert row["change"] == pytest.approx(0.5, rel=1e-12)
    assert row["old_spread"] == row["new_spread"] == own.second


def test_parameters_that_only_became_more_certain_come_last(edit, run, tiny_folder):
    old = ddx.load(edit.folder).knowledge
    edit.cell("studies.csv", "or_low_sugar_insulin", "value", "30")
    edit.cell("studies.csv", "link_stroke_tremor", "low", "0.04")
    changes = validation.parameter_changes(old, ddx.load(edit.folder).knowledge)
    assert changes["parameter"].tolist() == ["or:low_sugar:insulin", "link:stroke:tremor"]
    assert changes["what"].tolist() == ["moved", "spread"]
    value = old.parameters["link:stroke:tremor"].value
    assert changes.loc[1, ["old", "new", "change"]].tolist() == [value, value, 0.0]
    # An expert estimate keeps its own interval.
    spreads = [(logit(0.6) - logit(low)) / 3.92 for low in (0.05, 0.04)]
    assert changes.loc[1, ["old_spread", "new_spread"]].tolist() == pytest.approx(spreads)
    out = run("kb", "diff", tiny_folder, edit.folder)[1]
    assert "parameters: 1 moved, 0 added, 0 removed, 1 with another spread" in out
    assert f"link:stroke:tremor spread 0.2 ± {spreads[0]:.3g} 0.2 ± {spreads[1]:.3g} +0.000" in _squeezed(out)


def test_kb_diff_shows_the_spread_of_what_moved_and_became_more_certain(edit, run, tiny_folder):
    """A bare number has the variance 0.09, that of ratios, and 100 of 200 have 1 / 100 + 1 / 100."""
    for column, value in (("value", "0.5"), ("numerator", "100"), ("denominator", "200"), ("counts", "reported")):
        edit.cell("studies.csv", "link_myopathy_hand_weakness", column, value)
    edit.drop("studies.csv", "link_neuropathy_hand_weakness")
    out = _squeezed(run("kb", "diff", tiny_folder, edit.folder)[1])
    before, after = math.sqrt(0.09 + 0.72), math.sqrt(0.02 + 0.72)
    change = logit(0.5) - logit(0.3)
    assert out[2:7] == [
        "parameters: 1 moved, 0 added, 1 removed, 0 with another spread",
        "parameter what old new log odds",
        f"link:myopathy:hand_weakness moved 0.3 ± {before:.3g} 0.5 ± {after:.3g} {change:+.3f}",
        f"link:neuropathy:hand_weakness removed 0.3 ± {before:.3g}",
        "±: standard deviation (of the log odds, or of the logarithm of a ratio or rate), where it is another one",
    ]


def test_another_order_of_the_rows_changes_nothing(edit):
    old = ddx.load(edit.folder).knowledge
    path = edit.folder / "studies.csv"
    head, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([head, *reversed(rows)]), encoding="utf-8")
    assert validation.parameter_changes(old, ddx.load(edit.folder).knowledge).empty


def logit(p):
    return math.log(p / (1.0 - p))


def test_posterior_changes_are_differences_of_scores(tiny, other, cases):
    frame = pd.read_csv(cases, keep_default_na=False)
    changed = ddx.load(other)
    moved, rejects = validation.posterior_changes(tiny, changed, frame)
    assert rejects == []
    before, after = tiny.score(frame), changed.score(frame)
    for row in moved.itertuples():
        at = "abc".index(row.case)
        assert (row.old, row.new) == (before.loc[at, row.cause], after.loc[at, row.cause])
        assert row.change == row.new - row.old
    assert moved["change"].abs().is_monotonic_decreasing
    assert len(moved) > 0
    # b says nothing of tremor and hand weakness: equal up to rounding is no move.
    assert "b" not in moved["case"].tolist()
    assert len(validation.posterior_changes(tiny, tiny, frame)[0]) == 0


def test_kb_diff_prints_both_tables(run, tiny_folder, other, cases):
    code, out, err = run("kb", "diff", tiny_folder, other, "--cases", cases, "--top", 1)
    assert (code, err) == (0, "")
    old, new = ddx.load(tiny_folder), ddx.load(other)
    moved, _ = validation.posterior_changes(old, new, pd.read_csv(cases, keep_default_na=False))
    far = (moved["change"].abs() >= 0.01).sum()
    first = moved.iloc[0]
    assert _squeezed(out) == [
        f"tiny 1.2.3 ({old.knowledge.digest[:12]}) -> tiny 1.2.3 ({new.knowledge.digest[:12]})",
        "",
        "parameters: 1 moved, 0 added, 1 removed, 0 with another spread",
        "parameter what old new log odds",
        "leak:tremor moved 0.03 0.06 +0.725",
        "and 1 more; --top shows them",
        "",
        f"posteriors of 3 cases, setting general: {len(moved)} moved, {far} of them by 0.01 or more",
        "case cause old new change",
        f"{first['case']} {first['cause']} {first['old']:.4f} {first['new']:.4f} {first['change']:+.4f}",
        f"and {len(moved) - 1} more; --top shows them",
    ]


def test_kb_diff_prints_json(run, tiny_folder, other, cases):
    code, out, _ = run("kb", "diff", tiny_folder, other, "--cases", cases, "--json", "--setting", "clinic")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert code == 0
    assert (document["setting"], document["cases"]) == ("clinic", 3)
    assert [p["what"] for p in document["parameters"]] == ["moved", "removed"]
    assert document["parameters"][1]["new"] is None
    assert document["posteriors"][0].keys() == {"case", "cause", "old", "new", "change"}


def test_cases_that_only_one_knowledge_base_can_read_are_left_out(run, tiny_folder, other, cases):
    cases.write_text(CASES + "d,40,male,tremors,,stroke\n", encoding="utf-8")
    code, out, err = run("kb", "diff", tiny_folder, other, "--cases", cases)
    assert (code, err) == (1, "line 5, case 'd', present: unknown finding 'tremors'; nearest: tremor\n")
    assert "posteriors of 3 cases" in out


def test_a_case_with_a_line_that_cannot_be_read_is_not_compared(run, tiny_folder, other, cases):
    """Without that line it is another case, which `ddx score` rejects too."""
    text = "case_id,id,value\na,tremor,1\na,numbness\nb,tremor,1\nb,age,40\n"
    cases.write_text(text, encoding="utf-8")
    code, out, err = run("kb", "diff", tiny_folder, other, "--cases", cases)
    message = "line 3: got 2 cells, the header has 3"
    assert (code, err) == (1, f"line 2, case 'a': {message}\n")
    assert "posteriors of 1 cases" in out
    assert run("score", cases, "-o", cases.with_name("out.csv"), "--kb", tiny_folder)[0] == 1
    frame, lines, rejects = validation.read_cases(cases)
    assert (frame["case_id"].tolist(), lines) == (["b"], [4])
    assert [(reject.line, reject.case_id, reject.message) for reject in rejects] == [(2, "a", message)]


def test_the_examples_of_a_checkout_are_the_default(run, tiny_folder, other, cases, monkeypatch):
    monkeypatch.setattr(diff_module, "EXAMPLES", cases)
    assert "posteriors of 3 cases" in run("kb", "diff", tiny_folder, other)[1]
    cases.write_text(CASES + "d,40,male,tremors,,stroke\n", encoding="utf-8")
    code, _, err = run("kb", "diff", tiny_folder, other)
    assert (code, err) == (0, "1 example cases cannot be read with both knowledge bases\n")
    monkeypatch.setattr(diff_module, "EXAMPLES", cases.with_name("none.csv"))
    code, out, err = run("kb", "diff", tiny_folder, other)
    assert (code, err) == (0, "")
    assert "posteriors" not in out


def test_kb_diff_refuses_what_is_not_there(run, tiny_folder, cases):
    code, out, err = run("kb", "diff", "limp", tiny_folder)
    assert (code, out) == (2, "")
    assert err == "ddx: knowledge base 'limp': neither a shipped name nor a folder with a kb.toml; nearest: limb\n"
    assert run("kb", "diff", tiny_folder, tiny_folder, "--cases", "no.csv") == (2, "", "ddx: no.csv: no such file\n")
    cases.write_text("case_id,tremors\na,1\n", encoding="utf-8")
    message = "unknown column 'tremors'; nearest: tremor; correct it or take it out"
    assert run("kb", "diff", tiny_folder, tiny_folder, "--cases", cases) == (2, "", f"ddx: {tiny_folder}: {message}\n")


# experiments/published_cases


def test_published_cases_writes_ranks_contributions_and_tables(tiny, tmp_path, cases):
    cases.write_text(
        CASES.replace("c,40,female,,", "c,40,female,tremor,").replace("fatigue;tremor;", "fatigue;")[:-1] + "myopathy\n"
    )
    out = tmp_path / "results"
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "experiments" / "published_cases" / "run.py",
            cases,
            "--kb",
            tiny.knowledge.folder,
            "--setting",
            "clinic",
            "--output",
            out,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clinic            3 cases, 4 items: top 1 ")
    assert {p.name for p in out.iterdir()} == {"README.md", "results.csv", "contributions.csv"}
    results = pd.read_csv(out / "results.csv").set_index(["case", "truth"])
    assert results.index.tolist() == [("a", "stroke"), ("b", "neuropathy"), ("b", "anaemia"), ("c", "myopathy")]
    model = tiny.in_setting("clinic")
    whole = model.diagnose(present=["tremor"], absent=["fatigue", "numbness"], age=40, sex="female").posterior
    item = results.loc[("c", "myopathy")]
    wrong = whole.drop("myopathy").index[0]
    assert item["wrong"] == wrong
    assert item["posterior"] == pytest.approx(whole["myopathy"], rel=1e-5)
    parts = pd.read_csv(out / "contributions.csv", keep_default_na=False)
    parts = parts[parts["case"] == "c"].set_index(["column", "statement"])["log_bayes_factor"]
    # By leaving one statement out, once more and by hand.
    less = model.diagnose(present=["tremor"], absent=["numbness"], age=40, sex="female").posterior
    log_ratio = math.log(whole["myopathy"] / whole[wrong])
    assert parts["absent", "fatigue"] == pytest.approx(log_ratio - math.log(less["myopathy"] / less[wrong]), rel=1e-4)
    assert parts["all", ""] == pytest.approx(log_ratio, rel=1e-5)
    bare = model.diagnose(age=40, sex="female").posterior
    assert parts["prior", ""] == pytest.approx(math.log(bare["myopathy"] / bare[wrong]), rel=1e-5)
    assert parts.index.tolist() == [
        ("all", ""),
        ("prior", ""),
        ("age", "40"),
        ("sex", "female"),
        ("present", "tremor"),
        ("absent", "fatigue"),
        ("absent", "numbness"),
    ]
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "`cases.csv`: 3 cases, 4 true causes. Knowledge base tiny 1.2.3, digest " in readme
    assert str(tmp_path) not in readme


def test_published_cases_chooses_a_fitting_setting_and_explains_misses(tmp_path):
    published = pd.read_csv(ROOT / "experiments" / "examples" / "cases.csv", dtype=str, keep_default_na=False)
    if "final_diagnosis" not in published:
        published["final_diagnosis"] = ""
    published = published[published["case_id"].isin(["stroke", "parkinson"])].assign(
        final_diagnosis=["transient_ischemic_attack", "parkinsons_disease"]
    )
    cases, why = tmp_path / "cases.csv", tmp_path / "why.csv"
    published.to_csv(cases, index=False)
    why.write_text("case,truth,kind,why\nstroke,transient_ischemic_attack,the case,It lasted.\n", encoding="utf-8")
    run = [sys.executable, ROOT / "experiments" / "published_cases" / "run.py", cases, "--explanations", why]
    settings = ["--setting", "balanced", "--setting", "fitting", "--output", tmp_path / "out"]
    done = subprocess.run([*run, *settings], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    result = pd.read_csv(tmp_path / "out" / "results.csv").set_index(["setting", "case"])["posterior"]
    scored = {s: ddx.load("limb", s).score(published) for s in ("emergency", "neurology_clinic")}
    by_case = {s: frame.set_index(published["case_id"]) for s, frame in scored.items()}
    assert result["fitting", "stroke"] == pytest.approx(
        by_case["emergency"].loc["stroke", "transient_ischemic_attack"], rel=1e-5
    )
    parkinson = by_case["neurology_clinic"].loc["parkinson", "parkinsons_disease"]
    assert result["fitting", "parkinson"] == pytest.approx(parkinson, rel=1e-5)
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "the case 1. Read and judged by hand (`explanations.csv`); no number was changed for a case." in readme
    assert "| stroke | transient_ischemic_attack | 2 | the case | It lasted. |" in readme
    assert "| parkinsons_disease | 1 | " in readme


def test_published_cases_says_what_is_wrong(tmp_path, cases):
    run = ROOT / "experiments" / "published_cases" / "run.py"
    cases.write_text(CASES.replace("case_id", "note"), encoding="utf-8")
    done = subprocess.run([sys.executable, run, cases, "--output", tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"run.py: {cases}: has no column case_id; results are listed by it\n")


def test_diff_reads_cases_in_another_encoding(run, tmp_path, tiny_folder):
    (tmp_path / "latin.csv").write_bytes("case_id,tremor\nM\u00fcller,1\n".encode("cp1252"))
    arguments = ("kb", "diff", tiny_folder, tiny_folder, "--cases", tmp_path / "latin.csv", "--json")
    code, _, err = run(*arguments)
    assert (code, err) == (
        1,
        "line 2: byte 0xfc is not utf-8; save the file as UTF-8, or name its encoding, such as --encoding cp1252\n",
    )
    code, out, err = run(*arguments, "--encoding", "cp1252")
    assert (code, err, json.loads(out)["cases"]) == (0, "", 1)


# experiments/syndromes


def test_the_syndromes_experiment_compares_both_networks(tmp_path):
    run = [sys.executable, ROOT / "experiments" / "syndromes" / "run.py", "-n", "300", "--setting", "neurology_clinic"]
    done = subprocess.run([*run, "--output", tmp_path / "out"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    result = pd.read_csv(tmp_path / "out" / "results.csv").set_index(["group", "network"])
    assert result.loc["all", "n"].tolist() == [300, 300]
    model = ddx.load("limb", "neurology_clinic")
    sys.path.insert(0, str(ROOT / "experiments" / "syndromes"))
    try:
        from run import OBSERVED
    finally:
        sys.path.pop(0)
    simulated = validation.simulate(model, 300, 0, observed=OBSERVED)
    expected = validation.report(model.score(simulated), simulated["final_diagnosis"])
    assert result.loc[("all", "syndromes"), "log_score"] == pytest.approx(expected.log_score.value, rel=1e-5)
    assert result.loc[("all", "independent"), "log_score"] != pytest.approx(expected.log_score.value, rel=1e-5)
    table = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert table.startswith("# Syndromes\n")
    assert "| neurology_clinic | simulated | all | 300 | syndromes | " in table
    done = subprocess.run([*run, "--kb", "limp"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "run.py: knowledge base 'limp': neither a shipped name nor a folder with a kb.toml; nearest: limb\n"


def test_a_header_without_cases(run, tmp_path, tiny):
    (tmp_path / "none.csv").write_text("case_id,age,tremor\n", encoding="utf-8")
    folder = tiny.knowledge.folder
    code, _, err = run("kb", "diff", folder, folder, "--cases", "none.csv")
    assert (code, err) == (0, "")
    code, out, err = run("evaluate", "none.csv", "--kb", folder)
    assert (code, out) == (2, "")
    assert err.startswith("ddx: none.csv: has no column 'final_diagnosis'")
    (tmp_path / "none.csv").write_text("case_id,tremr,final_diagnosis\n", encoding="utf-8")
    code, out, err = run("evaluate", "none.csv", "--kb", folder)
    assert (code, out) == (2, "")
    assert err.startswith("ddx: none.csv: unknown column 'tremr'; nearest: tremor")
