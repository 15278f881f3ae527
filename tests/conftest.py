"""Shared fixtures: the shipped knowledge base, and a tiny one that tests may break."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import settings

import ddx

# The same examples in every run: what fails here fails everywhere.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

KB_TOML = """\
name = "tiny"
version = "1.2.3"
schema_version = 1
title = "A knowledge base for tests"
licence = "CC0-1.0"
intended_use = "Tests only."
default_setting = "general"

[settings]
clinic = "People who come to a clinic"

[measurements.haemoglobin_g_dl]
label = "Haemoglobin"
unit = "g/dl"
loinc = "718-7"
plausible = [1.5, 25.0]
findings = [
    { finding = "low_haemoglobin", below = 12.0, sex = "female" },
    { finding = "low_haemoglobin", below = 13.0, sex = "male" },
]
"""

CAUSES = """\
id,label,aliases,family,course,window_days,icd10,mondo,urgency,action_threshold,description
stroke,Stroke,cva,vascular,acute,30,I63,MONDO:0005098,emergency,0.05,A vessel of the brain is blocked.
neuropathy,Neuropathy,polyneuropathy,nerve,chronic,,G62.9,,routine,0.5,Damage of many nerves.
myopathy,Myopathy,muscle_disease,muscle,chronic,,G72.9,,urgent,0.3,Damage of muscles.
low_sugar,Low blood sugar,hypoglycaemia,metabolic,acute,1,E16.2,,emergency,0.05,Too little glucose.
anaemia,Anaemia,,metabolic,chronic,,D64.9,,routine,0.5,Too little haemoglobin.
"""

FINDINGS = """\
id,label,aliases,graded,level,implies,kind,hpo,loinc,question,cost
gradual_onset,Gradual onset,slow_onset,onset,1,,history,HP:0003587,,Did it come on slowly?,1
sudden_onset,Sudden onset,abrupt_onset,onset,2,,history,,,Did it come on suddenly?,1
arm_weakness,Arm weakness,weak_arm,,,,symptom,,,Is an arm weak?,1
hand_weakness,Hand weakness,,,,arm_weakness,symptom,,,Is a hand weak?,1
numbness,Numbness,,,,,symptom,HP:0003401,,Is anything numb?,1
tremor,Tremor,shaking,,,,symptom,HP:0001337,,Does anything tremble?,1
low_haemoglobin,Low haemoglobin,,,,,lab,,718-7,Is the haemoglobin low?,3
low_glucose,Low glucose,,,,,lab,,,Is the glucose low?,2
raised_ck,Raised creatine kinase,,,,,lab,,,Is the creatine kinase raised?,3
fatigue,Fatigue,tiredness,,,,symptom,,,Are you tired?,1
brisk_reflexes,Brisk reflexes,,,,,sign,,,Are the reflexes brisk?,2
absent_ankle_jerks,Absent ankle jerks,,,,,sign,,,Are the ankle jerks absent?,2
"""

CONTEXT = """\
id,label,aliases,kind,requires,age_from,age_to,question
age_0_17,Age 0 to 17,,age_band,,0,18,
age_18_44,Age 18 to 44,,age_band,,18,45,
age_45_64,Age 45 to 64,,age_band,,45,65,
age_65_74,Age 65 to 74,,age_band,,65,75,
age_75_plus,Age 75 and over,,age_band,,75,121,
sex_female,Female sex,female,sex,,,,
sex_male,Male sex,male,sex,,,,
diabetes,Diabetes,known_diabetes,risk_factor,,,,Do you have diabetes?
insulin,Insulin treatment,,risk_factor,diabetes,,,Do you take insulin?
"""

SOURCES = """\
id,citation,doi,pmid,url,year,design
expert_estimate,Judgement of the authors,,,,,expert_estimate
smith_2020,"Smith, J Tests, 2020",10.1000/smith,,,2020,cohort
jones_2010,"Jones, Ann Tests, 2010",,12345,,2010,case_series
"""

STUDIES_HEADER = (
    "id,quantity,cause,finding,context,group,setting,value,low,high,interval,numerator,denominator,counts,"
    "population,source,quality,note"
)

SENSITIVITY = {
    "stroke": {
        "gradual_onset": 0.05,
        "sudden_onset": 0.85,
        "arm_weakness": 0.7,
        "hand_weakness": 0.5,
        "numbness": 0.4,
        "fatigue": 0.4,
        "brisk_reflexes": 0.6,
    },
    "neuropathy": {
        "gradual_onset": 0.9,
        "sudden_onset": 0.03,
        "numbness": 0.85,
        "arm_weakness": 0.35,
        "hand_weakness": 0.3,
        "fatigue": 0.3,
        "absent_ankle_jerks": 0.7,
    },
    "myopathy": {
        "gradual_onset": 0.8,
        "sudden_onset": 0.04,
        "arm_weakness": 0.8,
        "hand_weakness": 0.3,
        "raised_ck": 0.8,
        "fatigue": 0.6,
    },
    "low_sugar": {
        "gradual_onset": 0.1,
        "sudden_onset": 0.6,
        "arm_weakness": 0.3,
        "tremor": 0.7,
        "low_glucose": 0.95,
        "fatigue": 0.5,
    },
    "anaemia": {"arm_weakness": 0.1, "numbness": 0.12, "tremor": 0.15, "low_haemoglobin": 0.98, "fatigue": 0.8},
}
LEAK = {
    "gradual_onset": 0.02,
    "sudden_onset": 0.01,
    "arm_weakness": 0.03,
    "hand_weakness": 0.02,
    "numbness": 0.06,
    "tremor": 0.03,
    "low_glucose": 0.005,
    "raised_ck": 0.05,
    "fatigue": 0.15,
    "brisk_reflexes": 0.03,
    "absent_ankle_jerks": 0.1,
}


def _studies() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    def add(id_: str, quantity: str, value: float, **cells: object) -> None:
        rows.append({"id": id_, "quantity": quantity, "value": value, "source": "smith_2020", "quality": "cohort", **cells})

    for band, share in zip(("0_17", "18_44", "45_64", "65_74", "75_plus"), (0.2, 0.35, 0.25, 0.1, 0.1), strict=True):
        add(f"share_{band}", "population_share", share, context=f"age_{band}")
    add("share_female", "population_share", 0.51, context="sex_female")
    add("share_male", "population_share", 0.49, context="sex_male")
    add("freq_diabetes", "context_prevalence", 0.08, context="diabetes")
    add("freq_diabetes_old", "context_prevalence", 0.2, context="diabetes", group="age_75_plus")
    add("freq_insulin", "context_prevalence", 0.25, context="insulin")
    add("prior_stroke", "incidence", 0.002, cause="stroke", numerator=200)
    add("prior_neuropathy", "prevalence", 0.02, cause="neuropathy", numerator=20, denominator=1000, counts="reported")
    add("prior_myopathy", "prevalence", 0.001, cause="myopathy", low=0.0005, high=0.002, interval="95")
    add("prior_low_sugar", "incidence", 0.01, cause="low_sugar", low=0.005, high=0.02)
    add("prior_anaemia", "prevalence", 0.05, cause="anaemia", denominator=400, counts="derived")
    add("clinic_stroke", "share", 0.2, cause="stroke", setting="clinic")
    add("clinic_neuropathy", "share", 0.3, cause="neuropathy", setting="clinic")
    add("or_stroke_old", "odds_ratio", 5, cause="stroke", context="age_75_plus", low=4, high=6.25)
    add("or_stroke_diabetes", "relative_risk", 2, cause="stroke", context="diabetes")
    add("or_neuropathy_diabetes", "odds_ratio", 5, cause="neuropathy", context="diabetes")
    add("or_low_sugar_insulin", "odds_ratio", 20, cause="low_sugar", context="insulin")
    add("or_anaemia_female", "odds_ratio", 2, cause="anaemia", context="sex_female")
    for cause, links in SENSITIVITY.items():
        for finding, value in links.items():
            add(f"link_{cause}_{finding}", "sensitivity", value, cause=cause, finding=finding)
    for finding, value in LEAK.items():
        add(f"leak_{finding}", "false_positive_rate", value, finding=finding)
    add("leak_low_haemoglobin", "false_positive_rate", 0.06, finding="low_haemoglobin", source="jones_2010")
    add("leak_ankle_old", "false_positive_rate", 0.3, finding="absent_ankle_jerks", group="age_75_plus")
    estimate = {"source": "expert_estimate", "quality": "expert_estimate", "low": 0.05, "high": 0.6}
    add("link_stroke_tremor", "sensitivity", 0.2, cause="stroke", finding="tremor", **estimate)
    for band, value in (("age_18_44", 0.15), ("age_75_plus", 0.3)):
        add(f"freq_diabetes_{band}", "context_prevalence", value, context="diabetes", group=band, setting="clinic")
    return rows


def write_tiny(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    studies = io.StringIO(newline="")
    writer = csv.DictWriter(studies, next(csv.reader([STUDIES_HEADER])), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_studies())
    files = {
        "kb.toml": KB_TOML,
        "causes.csv": CAUSES,
        "findings.csv": FINDINGS,
        "context.csv": CONTEXT,
        "studies.csv": studies.getvalue(),
        "sources.csv": SOURCES,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content.encode("utf-8"))
    return folder


class Editor:
    """Changes the files of one knowledge base, a cell, a row or a piece of text at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cell(self, file: str, row: str, column: str, value: str) -> None:
        """Set one cell of the row with this id."""
        header, rows = self._read(file)
        next(r for r in rows if r[0] == row)[header.index(column)] = value
        self._write(file, header, rows)

    def drop(self, file: str, *ids: str) -> None:
        """Take out the rows with these ids."""
        header, rows = self._read(file)
        kept = [r for r in rows if r[0] not in ids]
        assert len(kept) == len(rows) - len(ids), f"{file} lacks one of {ids}"
        self._write(file, header, kept)

    def copy(self, file: str, row: str, **cells: str) -> None:
        """Add a copy of a row at the end, with some cells changed."""
        header, rows = self._read(file)
        new = list(next(r for r in rows if r[0] == row))
        for column, value in cells.items():
            new[header.index(column)] = value
        self._write(file, header, [*rows, new])

    def text(self, file: str, old: str, new: str) -> None:
        """Replace a piece of text that stands once in a file."""
        content = (self.folder / file).read_bytes().decode("utf-8")
        assert content.count(old) == 1, f"{old!r} stands {content.count(old)} times in {file}"
        (self.folder / file).write_bytes(content.replace(old, new).encode("utf-8"))

    def lines(self) -> dict[str, int]:
        """Id of every row of every table -> its line."""
        found: dict[str, int] = {}
        for path in self.folder.glob("*.csv"):
            for line, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                found.setdefault(row.split(",", 1)[0], line)
        return found

    def _read(self, file: str) -> tuple[list[str], list[list[str]]]:
        with open(self.folder / file, encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        return header, rows

    def _write(self, file: str, header: list[str], rows: list[list[str]]) -> None:
        with open(self.folder / file, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *rows])


@pytest.fixture(scope="session")
def limb() -> ddx.Model:
    return ddx.load("limb", setting="balanced")


@pytest.fixture
def tiny_kb(tmp_path: Path) -> Path:
    """Folder of a small valid knowledge base of the test's own."""
    return write_tiny(tmp_path / "tiny")


@pytest.fixture
def edit(tiny_kb: Path) -> Editor:
    return Editor(tiny_kb)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same knowledge base, shared: not to be changed."""
    return write_tiny(tmp_path_factory.mktemp("shared") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> ddx.Model:
    return ddx.load(tiny_folder)
