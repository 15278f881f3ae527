"""The experiments run at a small size and write what their READMEs promise."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
RUN = ROOT / "experiments" / "run.py"
MARK = "<!-- results -->"
SETTINGS = ["general", "primary_care", "emergency", "neurology_clinic", "balanced"]
MEASURES = [
    *("cases", "items", "top_1", "top_3", "top_1_change", "top_1_change_error", "log_score", "log_score_change"),
    *("log_score_change_error", "same_leader", "ruled_out", "false_certain", "impossible"),
]
CALIBRATION = ["leading_posterior", "leading_true", "leading_calibration_error", "by_chance"]
ARMS = (
    *("all", "all, links < 0.05 zero", "all, links < 0.05, leaks < 0.005 zero", "all, links and leaks < 0.05 zero"),
    *("links and leaks only", "priors and ratios only"),
)
# Experiment -> the columns of results.csv that come first, their values row by row, and the other columns.
EXPECTED = {
    "parameter_noise": (
        ["sigma", "arm", "replicate"],
        [
            (sigma, arm, replicate)
            for sigma in (0.0, 0.25, 0.5, 1.0, 2.0)
            for replicate in range(2 if sigma else 1)
            for arm in ARMS
        ],
        MEASURES,
    ),
    "credible_intervals": (
        ["arm", "cases"],
        [
            (arm, 10)
            for arm in (
                *("all uncertain", "priors known", "links known", "leaks known"),
                *("odds ratios and risk factors known", "priors and links known"),
            )
        ],
        ["width", "width_error", "width_median", "wider_than_half", "same_leader"],
    ),
    "dominant_parameters": (
        ["cause", "cases"],
        [("stroke", 1)],
        ["posterior", "prior", "link", "leak", "or", "context", "estimates", "first", "share_of_first", "sources_of_first"],
    ),
    "leak": (["setting", "factor"], [("emergency", f) for f in (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)], [*MEASURES, *CALIBRATION]),
    "quickscore": (
        ["network", "evidence", "present", "cases"],
        [
            (network, evidence, present, cases)
            for network, cases in (("random 0", 1), ("random 1", 1), ("limb", 2))
            for evidence in ("probable", "improbable")
            for present in (2, 4, 6)
        ],
        [
            *("p_evidence_lowest", "p_evidence_median"),
            *(f"quickscore_{what}" for what in ("error_max", "error_median", "impossible", "wrong_leader")),
            *(f"ddx_{what}" for what in ("error_max", "error_median", "impossible", "wrong_leader")),
        ],
    ),
    "prevalence_shift": (
        ["arm", "factor"],
        [(arm, factor) for arm in ("all causes", "one cause") for factor in (0.1, 0.2, 0.5, 2.0, 5.0, 10.0)],
        ["log_score_change", "log_score_change_error", "other_leader", "top_1", "where_true"],
    ),
    "setting_shift": (["cases_of", "scored_in"], [(a, b) for a in SETTINGS for b in SETTINGS], MEASURES),
}

# Those that write results.csv, figure.png and a README by ``shared.publish``.
PUBLISHED = [*EXPECTED, "forms", "left_out_studies", "new_study", "reported", "selection"]


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RUN, *options], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("experiments")
    before = {path: path.read_bytes() for path in (ROOT / "experiments").glob("*/*") if path.is_file()}
    done = command("--small", "--out", str(out), *PUBLISHED, "syndromes", "textbook_cases")
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [*PUBLISHED, "syndromes", "textbook_cases"]
    for path, content in before.items():
        assert path.read_bytes() == content, f"{path} was written by a small run"
    return out


@pytest.mark.parametrize("name", EXPECTED)
def test_results_have_the_rows_and_columns(small, name):
    keys, rows, others = EXPECTED[name]
    found = pd.read_csv(small / name / "results.csv")
    assert list(found.columns) == [*keys, *others]
    assert list(found[keys].itertuples(index=False, name=None)) == rows
    assert found.notna().all(axis=None)
    names = ["top_1", "top_3", "same_leader", "ruled_out", "false_certain", "impossible", "posterior", "estimates"]
    shares = found[[name for name in names if name in found]]
    assert ((shares >= 0.0) & (shares <= 1.0)).all(axis=None)


def test_studies_are_ranked_by_what_they_remove(small):
    found = pd.read_csv(small / "new_study" / "results.csv")
    columns = ["parameter", "value", "share_of_variance", "removed", "cases_that_gain", "mean", "cited", "sources"]
    assert list(found.columns) == columns
    assert found["value"].is_monotonic_decreasing
    assert found["value"].to_numpy() == pytest.approx((found["share_of_variance"] * found["removed"]).to_numpy(), rel=1e-4)
    assert found["removed"].between(0.0, 1.0).all()
    assert 0.9 < found["share_of_variance"].sum() <= 1.0 + 1e-6
    table = (small / "new_study" / "README.md").read_text(encoding="utf-8")
    assert "| 0 | " in table
    assert "| one study of the case mix of the setting (200 patients) | " in table


def test_more_causes_rank_among_the_first_three_than_first(small):
    for name in ("parameter_noise", "leak", "setting_shift"):
        found = pd.read_csv(small / name / "results.csv")
        assert (found["top_1"] <= found["top_3"]).all()


def test_the_shares_of_all_kinds_of_parameters_make_one(small):
    found = pd.read_csv(small / "dominant_parameters" / "results.csv")
    # Shares of the reference population are parameters too, but next to nothing depends on them.
    kinds = found[["prior", "link", "leak", "or", "context"]].sum(axis=1)
    assert (kinds.between(0.999, 1.0 + 1e-9)).all()


def test_quickscore_loses_digits_and_ddx_none(small):
    found = pd.read_csv(small / "quickscore" / "results.csv")
    assert (found["ddx_error_max"] < 1e-13).all()
    assert (found[["ddx_impossible", "ddx_wrong_leader"]] == 0.0).all(axis=None)
    assert (found["quickscore_error_max"] > found["ddx_error_max"]).all()
    assert (found["p_evidence_lowest"] <= found["p_evidence_median"]).all()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_figure_is_a_png_800_pixels_wide(small, name):
    content = (small / name / "figure.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", content[16:20]) == (800,)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_readme_keeps_its_head_and_names_the_knowledge_base(small, name):
    head, results = (small / name / "README.md").read_text(encoding="utf-8").split(MARK)
    assert (ROOT / "experiments" / name / "README.md").read_text(encoding="utf-8").startswith(head)
    assert "digest" in results
    assert ("seed 0" in results) == (name not in ("forms", "left_out_studies", "reported"))
    assert "(figure.png)" in results


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("parameter_noise", lambda r: (r["sigma"] == 0.0) & ~r["arm"].str.contains("zero")),
        ("leak", lambda r: r["factor"] == 1.0),
        ("setting_shift", lambda r: r["cases_of"] == r["scored_in"]),
    ],
)
def test_what_is_not_changed_changes_nothing(small, name, same):
    found = pd.read_csv(small / name / "results.csv")
    unchanged = found[same(found)]
    assert len(unchanged)
    assert (unchanged[["top_1_change", "log_score_change"]] == 0.0).all(axis=None)
    assert (unchanged["same_leader"] == 1.0).all()


def test_more_of_all_causes_raises_their_posteriors_where_they_are(small):
    found = pd.read_csv(small / "prevalence_shift" / "results.csv").set_index(["arm", "factor"])["where_true"]
    for arm in ("all causes", "one cause"):
        assert found[arm].is_monotonic_increasing
        assert found[arm][0.1] < 0.0 < found[arm][10.0]


def test_syndromes_writes_a_row_per_network_and_group(small):
    found = pd.read_csv(small / "syndromes" / "results.csv")
    assert set(found["setting"]) == {"neurology_clinic"}
    assert set(found["network"]) == {"syndromes", "independent"}


def test_textbook_patients_of_a_cause(small):
    found = pd.read_csv(small / "textbook_cases" / "results.csv")
    assert found["case"].tolist() == ["tb_stroke_a", "tb_stroke_b", "tb_stroke_c"]
    assert set(found["truth"]) == {"stroke"}
    assert (found["rank"] >= 1).all()


def test_every_cause_has_three_textbook_patients_with_ids_that_limb_knows(limb):
    path = ROOT / "experiments" / "textbook_cases" / "cases.csv"
    cases = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert cases["final_diagnosis"].value_counts().to_dict() == dict.fromkeys(limb.knowledge.causes, 3)
    posteriors = limb.score(cases.drop(columns=["final_diagnosis", "citation", "url"]))
    assert posteriors.notna().all(axis=None)
    missed = pd.read_csv(path.with_name("explanations.csv"), dtype=str)
    assert set(missed["case"]) <= set(cases["case_id"])
    assert set(missed["kind"]) <= {"missing finding", "wrong parameter", "structure", "the case"}


def test_every_cause_has_four_vignettes_with_ids_that_limb_knows(limb):
    cases = pd.read_csv(ROOT / "experiments" / "textbook_cases" / "vignettes.csv", dtype=str, keep_default_na=False)
    assert cases["final_diagnosis"].value_counts().to_dict() == dict.fromkeys(limb.knowledge.causes, 4)
    assert set(cases["case_id"]) == {f"vg_{cause}_{form}" for cause in limb.knowledge.causes for form in "abcd"}
    posteriors = limb.score(cases.drop(columns=["final_diagnosis", "note"]))
    assert posteriors.notna().all(axis=None)


def test_an_unknown_experiment_is_an_error_that_lists_the_known_ones():
    done = command("--small", "leaks")
    assert done.returncode == 2
    assert "unknown experiment 'leaks'; known: benchmarks, credible_intervals, dominant_parameters, " in done.stderr


def test_what_needs_published_cases_is_left_out_aloud():
    done = command("--small", "published_cases")
    assert done.returncode == 0
    assert done.stdout == "published_cases: left out, it needs --cases\n"
