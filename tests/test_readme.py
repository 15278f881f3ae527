"""README and the other documents say what the code does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import readme
import typer

import ddx
from ddx.cli import app
from ddx.knowledge import load
from ddx.knowledge.parameters import QUANTITIES

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "experiments" / "examples" / "cases.csv"


def test_every_example_of_the_readme_prints_what_it_says(tmp_path):
    text = readme.README.read_text(encoding="utf-8")
    assert readme.rendered(text, tmp_path) == text


@pytest.mark.parametrize(
    ("page", "cases"), [("published_cases", "published_cases/others.csv"), ("textbook_cases", "textbook_cases/vignettes.csv")]
)
def test_pages_of_cases_show_what_the_cases_give(page, cases):
    text = (ROOT / "experiments" / page / "README.md").read_text(encoding="utf-8")
    command = f"ddx evaluate experiments/{cases} --setting balanced"
    printed = readme.run(command).split("\n\ncause ")[0]
    assert f"```console\n$ {command}\n{printed}\n```\n" in text


def test_the_two_commands_stand_in_the_readme_and_ci_takes_them_from_there():
    assert readme.command(1).startswith("python3 -m pip install . && python3 -m ddx score ")
    assert readme.command(2) == 'python3 -m pip install -e ".[test]" && python3 -m pytest -n auto --dist loadfile'
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "$(readme_command 1)" in ci
    assert "$(readme_command 2)" in ci


def _commands(group, path="ddx"):
    found = []
    for name, command in group.commands.items():
        full = f"{path} {name}"
        found += _commands(command, full) if hasattr(command, "commands") else [(full, command)]
    return found


@pytest.mark.parametrize(
    ("name", "command"), _commands(typer.main.get_command(app)), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_command_and_option_is_in_the_readme(name, command):
    text = readme.README.read_text(encoding="utf-8")
    assert f"`{name}" in text
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("-") and option not in ("--help", "-q"):
                assert f"`{option}" in text, f"{name} {option}"
    assert command.help


@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("causes.csv", load._CAUSES),
        ("findings.csv", load._FINDINGS),
        ("context.csv", load._CONTEXT),
        ("sources.csv", load._SOURCES),
        ("studies.csv", load._STUDIES),
    ],
)
def test_every_column_of_a_knowledge_base_is_documented(file, columns):
    text = (ROOT / "priors" / "README.md").read_text(encoding="utf-8")
    section = text[text.index(f"**{file}**") :].split("\n\n")[0]
    assert [column for column in columns if f"`{column}`" not in section] == []


def test_every_quantity_is_documented():
    text = (ROOT / "priors" / "README.md").read_text(encoding="utf-8")
    assert [quantity for quantity in QUANTITIES if f"`{quantity}`" not in text] == []


def test_the_examples_cover_every_kind_of_case():
    with EXAMPLES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 30
    truths = {cause for row in rows for cause in row["final_diagnosis"].split(";")}
    named = {
        "stroke",
        "transient_ischemic_attack",
        "cervical_radiculopathy",
        "lumbar_radiculopathy",
        "diabetic_polyneuropathy",
        "alcoholic_polyneuropathy",
        "toxic_neuropathy",
        "idiopathic_polyneuropathy",
        "myasthenia_gravis",
        "parkinsons_disease",
        "hypothyroidism",
        "hypoglycaemia",
        "diabetic_ketoacidosis",
        "diabetic_foot",
    }
    assert named <= truths
    assert sum(";" in row["final_diagnosis"] for row in rows) >= 4
    assert sum(row["case_id"].startswith("published_") for row in rows) >= 10


def test_the_healthy_and_the_unexplained_example_are_recognized_as_such():
    import pandas as pd

    frame = pd.read_csv(EXAMPLES).set_index("case_id", drop=False)
    scores = ddx.load("limb").score(frame)
    assert scores.loc["healthy", "none_of_these"] > 0.8
    assert scores.loc["healthy", "log_evidence"] > -5.0
    # Nothing modelled explains it, and the evidence is far less probable than that of any textbook case with three findings.
    assert scores.loc["unexplained", "none_of_these"] > scores.loc["unexplained"].drop(["none_of_these", "log_evidence"]).max()
    assert scores.loc["unexplained", "log_evidence"] < -12.0


def test_the_version_is_the_same_everywhere():
    assert f"version: {ddx.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {ddx.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
