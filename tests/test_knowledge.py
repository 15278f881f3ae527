"""Files -> knowledge base: every defect is reported, with its place, in exact words; a sound base loads and stays as it is."""

from __future__ import annotations

import csv
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from types import MappingProxyType

import pytest

import ddx
from ddx.errors import KnowledgeError, UsageError
from ddx.knowledge import KnowledgeBase, load_knowledge, locate, read_knowledge, shipped

C, F, X, S, R, K = "causes.csv", "findings.csv", "context.csv", "studies.csv", "sources.csv", "kb.toml"
VOCABULARY = Path(__file__).parent / "data" / "vocabulary.csv"
QUANTITIES = (
    "prevalence, incidence, share, odds_ratio, relative_risk, crude_ratio, context_given_cause, sensitivity, "
    "false_positive_rate, specificity, population_frequency, context_prevalence, population_share"
)


OF_ANAEMIA = (
    *("prior_anaemia", "or_anaemia_female"),
    *(f"link_anaemia_{f}" for f in ("arm_weakness", "numbness", "tremor", "low_haemoglobin", "fatigue")),
)


OF_TREMOR = ("link_low_sugar_tremor", "link_anaemia_tremor", "link_stroke_tremor", "leak_tremor")


def cell(file, row, column, value):
    return lambda edit: edit.cell(file, row, column, value)


def text(file, old, new):
    return lambda edit: edit.text(file, old, new)


def drop(file, *ids):
    return lambda edit: edit.drop(file, *ids)


def copy(file, row, **cells):
    return lambda edit: edit.copy(file, row, **cells)


def append(file, content):
    return lambda edit: (edit.folder / file).write_bytes((edit.folder / file).read_bytes() + content)


def group_rates(cause, *groups):
    """A copy of the prior of a cause for every group."""
    return [copy(S, f"prior_{cause}", id=f"{cause}_{group.replace(';', '_')}", group=group) for group in groups]


def problems_after(edit, *edits) -> list[str]:
    for change in edits:
        change(edit)
    return [str(p) for p in read_knowledge(edit.folder)[1]]


def with_lines(expected: list[str], lines: dict[str, int]) -> list[str]:
    """``<id>`` stands for the line of the row with this id."""
    return [re.sub(r"<(\w+)>", lambda m: str(lines[m[1]]), line) for line in expected]


NO_LEAK = (
    "findings.csv:<tremor>.id: tremor has no leak: studies.csv needs a row without a group: false_positive_rate, specificity "
    "or population_frequency"
)
NO_INSULIN = (
    "studies.csv.quantity: no context_prevalence for insulin among all people: add a row with this context, whose group and "
    "setting are empty"
)
# name -> (edits, all problems that they make, in the order of the report). <id> is the line of that row.
DEFECTS = {
    # cells
    "year_not_whole": (
        [cell(R, "jones_2010", "year", "2010.5")],
        ["sources.csv:<jones_2010>.year: got '2010.5', expected a whole number"],
    ),
    "value_empty": (
        [cell(S, "link_stroke_numbness", "value", "")],
        ["studies.csv:<link_stroke_numbness>.value: got '', expected a number"],
    ),
    "value_infinite": (
        [cell(S, "link_stroke_numbness", "value", "inf")],
        ["studies.csv:<link_stroke_numbness>.value: got 'inf', expected a finite number"],
    ),
    "value_nan": (
        [cell(S, "link_stroke_numbness", "value", "nan")],
        ["studies.csv:<link_stroke_numbness>.value: got 'nan', expected a finite number"],
    ),
    "quantity": (
        [cell(S, "link_stroke_numbness", "quantity", "sensitivty")],
        [f"studies.csv:<link_stroke_numbness>.quantity: got 'sensitivty', allowed: {QUANTITIES}"],
    ),
    "quality": (
        [cell(S, "link_stroke_numbness", "quality", "rct")],
        [
            "studies.csv:<link_stroke_numbness>.quality: got 'rct', allowed: meta_analysis, systematic_review, cohort, "
            "case_series, "
            "guideline, textbook, verbal, expert_estimate"
        ],
    ),
    "interval": (
        [cell(S, "link_stroke_numbness", "interval", "50")],
        ["studies.csv:<link_stroke_numbness>.interval: got '50', allowed: 90, (empty), 95, 99, range"],
    ),
    "counts": (
        [cell(S, "link_stroke_numbness", "counts", "yes")],
        ["studies.csv:<link_stroke_numbness>.counts: got 'yes', allowed: (empty), reported, derived"],
    ),
    "invalid_csv": ([append(S, b'"abc')], ["studies.csv:71: not valid CSV: unexpected end of data"]),
    # names
    "alias_of_two_causes": (
        [cell(C, "anaemia", "aliases", "cva")],
        ["causes.csv:6.aliases: got the alias 'cva', which is an alias of causes.csv:2"],
    ),
    "alias_is_an_id_elsewhere": (
        [cell(F, "tremor", "aliases", "stroke")],
        ["findings.csv:<tremor>.aliases: got the alias 'stroke', which is the id of causes.csv:<stroke>"],
    ),
    "alias_is_the_own_id": (
        [cell(F, "tremor", "aliases", "tremor")],
        ["findings.csv:<tremor>.aliases: got the alias 'tremor', which is the id of findings.csv:<tremor>"],
    ),
    "alias_of_context_and_finding": (
        [cell(X, "insulin", "aliases", "shaking")],
        ["context.csv:<insulin>.aliases: got the alias 'shaking', which is an alias of findings.csv:<tremor>"],
    ),
    "alias_is_an_id_further_down": (
        [cell(C, "stroke", "aliases", "anaemia")],
        ["causes.csv:<stroke>.aliases: got the alias 'anaemia', which is the id of causes.csv:<anaemia>"],
    ),
    "alias_is_an_id_of_another_table": (
        [cell(C, "stroke", "aliases", "tremor"), cell(F, "fatigue", "aliases", "diabetes")],
        [
            "causes.csv:<stroke>.aliases: got the alias 'tremor', which is the id of findings.csv:<tremor>",
            "findings.csv:<fatigue>.aliases: got the alias 'diabetes', which is the id of context.csv:<diabetes>",
        ],
    ),
    "one_id_in_two_tables": (
        [text(F, "tremor,Tremor,shaking", "anaemia,Tremor,shaking"), *(cell(S, r, "finding", "anaemia") for r in OF_TREMOR)],
        ["findings.csv:<tremor>.id: got 'anaemia', which is the id of causes.csv:<anaemia>"],
    ),
    "measurement_named_like_a_finding": (
        [text(K, "measurements.haemoglobin_g_dl", "measurements.tremor")],
        ["kb.toml.measurements.tremor: is also the id of findings.csv:<tremor>"],
    ),
    "duplicate_study": (
        [copy(S, "link_stroke_numbness")],
        ["studies.csv:71.id: got 'link_stroke_numbness', which an earlier row has too"],
    ),
    "duplicate_source": ([copy(R, "jones_2010")], ["sources.csv:5.id: got 'jones_2010', which an earlier row has too"]),
    "duplicate_finding": ([copy(F, "tremor")], ["findings.csv:14.id: got 'tremor', which an earlier row has too"]),
    "duplicate_context": ([copy(X, "insulin")], ["context.csv:11.id: got 'insulin', which an earlier row has too"]),
    # codes
    "icd10": (
        [cell(C, "stroke", "icd10", "stroke")],
        ["causes.csv:<stroke>.icd10: got 'stroke', expected an ICD-10 code such as I63 or G62.9"],
    ),
    "icd10_in_digits_of_another_script": (
        [cell(C, "stroke", "icd10", "I٦٣")],
        ["causes.csv:<stroke>.icd10: got 'I٦٣', expected an ICD-10 code such as I63 or G62.9"],
    ),
    "mondo": (
        [cell(C, "stroke", "mondo", "5098")],
        ["causes.csv:<stroke>.mondo: got '5098', expected MONDO: and 7 digits, such as MONDO:0005098"],
    ),
    "hpo": (
        [cell(F, "tremor", "hpo", "HP:1")],
        ["findings.csv:<tremor>.hpo: got 'HP:1', expected HP: and 7 digits, such as HP:0001337"],
    ),
    "loinc": (
        [cell(F, "low_haemoglobin", "loinc", "718")],
        ["findings.csv:<low_haemoglobin>.loinc: got '718', expected a LOINC code such as 718-7"],
    ),
    # causes
    "chronic_with_window": (
        [cell(C, "anaemia", "window_days", "3")],
        [
            "causes.csv:<anaemia>.window_days: got a window of 3 days for a chronic cause; acute causes have one, chronic "
            "ones none"
        ],
    ),
    "window_not_positive": (
        [cell(C, "stroke", "window_days", "-3")],
        [
            "causes.csv:<stroke>.window_days: got -3, expected days above 0",
            "studies.csv:<prior_stroke>.value: prior:stroke is -1.64e-05, expected a probability in (0, 1)",
        ],
    ),
    "action_threshold": (
        [cell(C, "stroke", "action_threshold", "1")],
        ["causes.csv:<stroke>.action_threshold: got 1, expected a probability in (0, 1)"],
    ),
    # findings
    "level_without_graded": (
        [cell(F, "tremor", "level", "1")],
        ["findings.csv:<tremor>.level: graded and level come together: a level from 1 upward"],
    ),
    "graded_without_level": (
        [cell(F, "tremor", "graded", "shake")],
        [
            "findings.csv:<tremor>.level: graded and level come together: a level from 1 upward",
            "findings.csv:<tremor>.level: shake has the levels [0], expected 1 to 1, each once",
        ],
    ),
    "cost": ([cell(F, "tremor", "cost", "-1")], ["findings.csv:<tremor>.cost: got -1, expected 0 or more"]),
    "level_left_out": (
        [cell(F, "sudden_onset", "level", "3")],
        ["findings.csv:<gradual_onset>.level: onset has the levels [1, 3], expected 1 to 2, each once"],
    ),
    "level_twice": (
        [cell(F, "sudden_onset", "level", "1")],
        ["findings.csv:<gradual_onset>.level: onset has the levels [1, 1], expected 1 to 2, each once"],
    ),
    "implies_unknown": (
        [cell(F, "hand_weakness", "implies", "arm_weaknes")],
        ["findings.csv:<hand_weakness>.implies: unknown finding 'arm_weaknes'; nearest: arm_weakness, hand_weakness"],
    ),
    "implies_in_a_circle": (
        [cell(F, "arm_weakness", "implies", "hand_weakness")],
        ["findings.csv:<arm_weakness>.implies: cyclic implication: arm_weakness => hand_weakness => arm_weakness"],
    ),
    "implies_in_a_wide_circle": (
        [cell(F, "arm_weakness", "implies", "fatigue"), cell(F, "fatigue", "implies", "tremor;hand_weakness")],
        ["findings.csv:<arm_weakness>.implies: cyclic implication: arm_weakness => fatigue => hand_weakness => arm_weakness"],
    ),
    "implies_a_level": (
        [cell(F, "tremor", "implies", "gradual_onset"), cell(F, "sudden_onset", "implies", "gradual_onset")],
        [
            "findings.csv:<sudden_onset>.implies: got 'gradual_onset', a level of onset, of which a case has one: take it out",
            "findings.csv:<tremor>.implies: got 'gradual_onset', a level of onset, of which a case has one: take it out",
        ],
    ),
    "implies_itself": (
        [cell(F, "tremor", "implies", "tremor")],
        ["findings.csv:<tremor>.implies: cyclic implication: tremor => tremor"],
    ),
    # context
    "age_bands_with_a_gap": (
        [cell(X, "age_45_64", "age_from", "46")],
        ["context.csv:<age_45_64>.age_from: age_45_64 must start at 45, where the band before ends, and end later"],
    ),
    "age_bands_do_not_start_at_0": (
        [cell(X, "age_0_17", "age_from", "1")],
        ["context.csv:<age_0_17>.age_from: age_0_17 must start at 0, where the band before ends, and end later"],
    ),
    "age_band_missing": (
        [drop(X, "age_45_64")],
        [
            "studies.csv:<share_45_64>.context: unknown context 'age_45_64'; nearest: age_65_74, age_18_44, age_75_plus",
            "context.csv:4.age_from: age_65_74 must start at 45, where the band before ends, and end later",
        ],
    ),
    "age_band_without_width": (
        [cell(X, "age_45_64", "age_to", "45")],
        ["context.csv:<age_45_64>.age_from: age_45_64 must start at 45, where the band before ends, and end later"],
    ),
    "age_band_without_end": (
        [cell(X, "age_75_plus", "age_to", "")],
        ["context.csv:<age_75_plus>.age_from: age_75_plus must start at 75, where the band before ends, and end later"],
    ),
    "requires_unknown": (
        [cell(X, "insulin", "requires", "diabetis")],
        ["context.csv:<insulin>.requires: got 'diabetis', expected a risk factor that requires none itself"],
    ),
    "requires_itself": (
        [cell(X, "insulin", "requires", "insulin")],
        ["context.csv:<insulin>.requires: got 'insulin', expected a risk factor that requires none itself"],
    ),
    "requires_a_sex": (
        [cell(X, "insulin", "requires", "sex_male")],
        ["context.csv:<insulin>.requires: got 'sex_male', expected a risk factor that requires none itself"],
    ),
    "no_population_share": ([drop(S, "share_male")], ["studies.csv.quantity: no population_share for sex_male"]),
    "no_context_prevalence": ([drop(S, "freq_insulin")], [NO_INSULIN]),
    # priors
    "no_incidence": ([drop(S, "prior_stroke")], ["studies.csv.quantity: no incidence for stroke"]),
    "no_prevalence": ([drop(S, "prior_anaemia")], ["studies.csv.quantity: no prevalence for anaemia"]),
    "incidence_times_window_above_1": (
        [cell(S, "prior_stroke", "value", "20")],
        ["studies.csv:<prior_stroke>.value: prior:stroke is 1.64, expected a probability in (0, 1)"],
    ),
    "prevalence_of_an_acute_cause": (
        [cell(S, "prior_stroke", "quantity", "prevalence"), cell(S, "prior_stroke", "numerator", "")],
        [
            "studies.csv:<prior_stroke>.quantity: got 'prevalence', stroke is acute: expected 'incidence'",
        ],
    ),
    "incidence_of_a_chronic_cause": (
        [cell(S, "prior_anaemia", "quantity", "incidence")],
        [
            "studies.csv:<prior_anaemia>.quantity: got 'incidence', anaemia is chronic: expected 'prevalence'",
        ],
    ),
    "rates_for_some_age_bands": (
        group_rates("anaemia", "age_18_44", "age_75_plus"),
        ["studies.csv:71.group: anaemia has rates for some age bands only; missing: age_0_17, age_45_64, age_65_74"],
    ),
    "rates_and_ratios_of_age_bands": (
        group_rates("stroke", "age_0_17", "age_18_44", "age_45_64", "age_65_74", "age_75_plus"),
        ["studies.csv:71.group: stroke has age-band rates and age-band ratios: keep one kind"],
    ),
    "rate_of_one_sex": (
        group_rates("myopathy", "sex_female"),
        ["studies.csv:71.group: got 'sex_female', expected one age band, or each sex by a row of the same source"],
    ),
    "rate_of_a_sex_and_an_age_band": (
        group_rates("myopathy", "sex_female;age_75_plus"),
        ["studies.csv:71.group: got 'age_75_plus;sex_female', expected one age band, or each sex by a row of the same source"],
    ),
    # links and leaks
    "sensitivity_below_leak": (
        [cell(S, "link_stroke_numbness", "value", "0.05")],
        [
            "studies.csv:<link_stroke_numbness>.value: link:stroke:numbness is 0.05, not above the leak 0.06 of numbness: a "
            "noisy-OR "
            "cause cannot lower a finding; drop the row, or mend the leak"
        ],
    ),
    "sensitivity_equal_to_leak": (
        [cell(S, "link_stroke_numbness", "value", "0.06")],
        [
            "studies.csv:<link_stroke_numbness>.value: link:stroke:numbness is 0.06, not above the leak 0.06 of numbness: a "
            "noisy-OR "
            "cause cannot lower a finding; drop the row, or mend the leak"
        ],
    ),
    "too_few_links": (
        [drop(S, "link_anaemia_tremor")],
        ["causes.csv:<anaemia>.id: anaemia is linked to 4 findings, expected 5 or more"],
    ),
    "finding_without_cause": (
        [drop(S, "link_stroke_brisk_reflexes")],
        ["findings.csv:<brisk_reflexes>.id: brisk_reflexes is linked to no cause"],
    ),
    "no_leak": (
        [drop(S, "leak_tremor")],
        [NO_LEAK],
    ),
    "leak_of_one_age_band_only": (
        [cell(S, "leak_tremor", "group", "age_75_plus")],
        [NO_LEAK],
    ),
    "leak_of_a_sex": (
        [cell(S, "leak_ankle_old", "group", "sex_male")],
        ["studies.csv:<leak_ankle_old>.group: got 'sex_male', a leak depends on one age band or on nothing"],
    ),
    # graded findings
    "level_without_link": (
        [drop(S, "link_stroke_gradual_onset")],
        ["studies.csv:24.finding: link:stroke: onset needs all its levels; missing: gradual_onset"],
    ),
    "levels_of_a_cause_add_up_to_too_much": (
        [cell(S, "link_stroke_gradual_onset", "value", "0.3")],
        [
            "studies.csv:<link_stroke_gradual_onset>.value: link:stroke: the levels of onset add up to 1.15, expected at most "
            "1.1"
        ],
    ),
    "levels_of_the_leak_add_up_to_too_much": (
        [cell(S, "leak_gradual_onset", "value", "0.6"), cell(S, "leak_sudden_onset", "value", "0.6")],
        ["studies.csv:<leak_gradual_onset>.value: leak: the levels of onset add up to 1.2, expected at most 1.1"],
    ),
    "level_below_its_leak": (
        [cell(S, "link_neuropathy_sudden_onset", "value", "0.005")],
        [
            "studies.csv:<link_neuropathy_gradual_onset>.value: link:neuropathy:sudden_onset: 0.005 of those not above this "
            "level reach "
            "it, not more than the 0.01 without any cause; a noisy-MAX cause cannot lower a level"
        ],
    ),
    # coherence and sources
    "population_frequency_below_its_patients": (
        [cell(S, "leak_low_haemoglobin", "quantity", "population_frequency")],
        [
            "studies.csv:<leak_low_haemoglobin>.value: got 0.06, of which patients of the modelled causes make 0.049: the rest "
            "only bounds the leak; make it a verbal false_positive_rate with a range"
        ],
    ),
    "finding_more_frequent_than_what_it_implies": (
        [cell(S, "link_neuropathy_hand_weakness", "value", "0.4")],
        [
            "studies.csv:<link_neuropathy_hand_weakness>.value: link:neuropathy:hand_weakness is 0.4, arm_weakness, which it "
            "implies, only 0.35: raise that one or lower this one"
        ],
    ),
    "finding_more_frequent_without_a_cause_than_what_it_implies": (
        [cell(S, "leak_hand_weakness", "value", "0.06")],
        [
            "studies.csv:<leak_hand_weakness>.value: leak:hand_weakness is 0.06, arm_weakness, which it implies, only 0.03: "
            "raise that one or lower this one"
        ],
    ),
    "finding_without_a_row_for_what_it_implies": (
        [drop(S, "link_neuropathy_arm_weakness")],
        [
            "studies.csv:34.value: link:neuropathy:hand_weakness is 0.3, arm_weakness, which it implies, only 0.03: raise that "
            "one or lower this one"
        ],
    ),
    "expert_source_without_expert_quality": (
        [cell(S, "link_stroke_tremor", "quality", "cohort")],
        ["studies.csv:<link_stroke_tremor>.quality: source and quality must both be expert_estimate or neither"],
    ),
    "expert_quality_without_expert_source": (
        [cell(S, "link_stroke_numbness", "quality", "expert_estimate")],
        ["studies.csv:<link_stroke_numbness>.quality: source and quality must both be expert_estimate or neither"],
    ),
    "expert_estimate_without_interval": (
        [cell(S, "link_stroke_tremor", "low", ""), cell(S, "link_stroke_tremor", "high", "")],
        ["studies.csv:<link_stroke_tremor>.low: an expert estimate needs an interval"],
    ),
    "source_unused": (
        [cell(S, "leak_low_haemoglobin", "source", "smith_2020")],
        ["sources.csv:<jones_2010>.id: jones_2010 is used by no study"],
    ),
    "one_source_in_two_rows": (
        [cell(R, "jones_2010", "doi", "10.1000/SMITH")],
        ["sources.csv:<jones_2010>.doi: got '10.1000/smith', which smith_2020 has too: keep one of the two"],
    ),
    "one_pmid_in_two_rows": (
        [cell(R, "smith_2020", "pmid", "12345")],
        ["sources.csv:<jones_2010>.pmid: got '12345', which smith_2020 has too: keep one of the two"],
    ),
    # references of study rows
    "unknown_cause": (
        [cell(S, "link_stroke_numbness", "cause", "strok")],
        ["studies.csv:<link_stroke_numbness>.cause: unknown cause 'strok'; nearest: stroke"],
    ),
    "unknown_finding": (
        [cell(S, "link_stroke_numbness", "finding", "numbnes")],
        ["studies.csv:<link_stroke_numbness>.finding: unknown finding 'numbnes'; nearest: numbness"],
    ),
    "unknown_context": (
        [cell(S, "or_stroke_diabetes", "context", "diabetis")],
        ["studies.csv:<or_stroke_diabetes>.context: unknown context 'diabetis'; nearest: diabetes"],
    ),
    "unknown_group": (
        [cell(S, "leak_ankle_old", "group", "age_75")],
        ["studies.csv:<leak_ankle_old>.group: unknown group 'age_75'; nearest: age_0_17, age_75_plus, age_65_74"],
    ),
    "risk_factor_as_group": (
        [cell(S, "leak_ankle_old", "group", "diabetes")],
        ["studies.csv:<leak_ankle_old>.group: unknown group 'diabetes'"],
    ),
    "unknown_setting": (
        [cell(S, "clinic_stroke", "setting", "clinics")],
        ["studies.csv:<clinic_stroke>.setting: unknown setting 'clinics'; nearest: clinic"],
    ),
    "built_in_setting": (
        [cell(S, "clinic_stroke", "setting", "general")],
        ["studies.csv:<clinic_stroke>.setting: unknown setting 'general'"],
    ),
    "unknown_source": (
        [cell(S, "link_stroke_numbness", "source", "smith_2021")],
        ["studies.csv:<link_stroke_numbness>.source: unknown source 'smith_2021'; nearest: smith_2020"],
    ),
    "finding_not_given": (
        [cell(S, "link_stroke_numbness", "finding", "")],
        ["studies.csv:<link_stroke_numbness>.finding: got an empty cell, sensitivity needs a finding"],
    ),
    "setting_not_given": (
        [cell(S, "clinic_stroke", "setting", "")],
        ["studies.csv:<clinic_stroke>.setting: got an empty cell, share needs a setting"],
    ),
    "context_of_a_sensitivity": (
        [cell(S, "link_stroke_numbness", "context", "diabetes")],
        ["studies.csv:<link_stroke_numbness>.context: got a context, sensitivity takes none"],
    ),
    "group_of_a_sensitivity": (
        [cell(S, "link_stroke_numbness", "group", "sex_male")],
        ["studies.csv:<link_stroke_numbness>.group: got a group, sensitivity takes none"],
    ),
    "population_share_of_a_risk_factor": (
        [cell(S, "share_male", "context", "diabetes")],
        [
            "studies.csv:<share_male>.context: got 'diabetes', population_share is for age bands, their parts and sexes",
            "studies.csv.quantity: no population_share for sex_male",
        ],
    ),
    "cause_named_like_a_column_of_intervals": (
        [text("causes.csv", "anaemia,Anaemia", "stroke_low,Anaemia"), *(cell(S, r, "cause", "stroke_low") for r in OF_ANAEMIA)],
        [
            "causes.csv:<anaemia>.id: got 'stroke_low', which is a column of tables of posteriors (intervals, leading causes)",
        ],
    ),
    "graded_finding_named_like_a_finding": (
        [cell("findings.csv", level, "graded", "tremor") for level in ("gradual_onset", "sudden_onset")],
        ["findings.csv:<gradual_onset>.graded: got 'tremor', which is the id of findings.csv:<tremor>"],
    ),
    "graded_finding_with_a_space": (
        [cell("findings.csv", level, "graded", "On set") for level in ("gradual_onset", "sudden_onset")],
        ["findings.csv:<gradual_onset>.graded: got 'On set', expected a snake_case name"],
    ),
    "measurement_named_like_a_column": (
        [text(K, "measurements.haemoglobin_g_dl", "measurements.present")],
        ["kb.toml.measurements.present: 'present': is a column of every table of cases or posteriors"],
    ),
    "measurement_with_a_space": (
        [text(K, "measurements.haemoglobin_g_dl", 'measurements."a b"')],
        ["kb.toml.measurements.a b: 'a b': got 'a b', expected a snake_case id"],
    ),
    "findings_of_a_measurement_are_a_table": (
        [
            text(
                K,
                """findings = [
    { finding = "low_haemoglobin", below = 12.0, sex = "female" },
    { finding = "low_haemoglobin", below = 13.0, sex = "male" },
]""",
                "findings = []",
            )
        ],
        ["kb.toml.measurements.haemoglobin_g_dl.findings: got [], expected a list of findings with their limits"],
    ),
    "finding_of_a_measurement_is_a_list": (
        [text(K, 'finding = "low_haemoglobin", below = 12.0', 'finding = ["low_haemoglobin"], below = 12.0')],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[0]: got {'finding': ['low_haemoglobin'], 'below': 12.0, 'sex': "
            "'female'}, expected a finding, below or at_least with a number, and sex if it matters"
        ],
    ),
    "cause_of_a_false_positive_rate": (
        [cell(S, "leak_tremor", "cause", "stroke")],
        [
            "studies.csv:<leak_tremor>.cause: got a cause, false_positive_rate takes none",
        ],
    ),
    "study_that_stands_twice": (
        [cell(S, "leak_ankle_old", "group", ""), cell(S, "leak_ankle_old", "value", "0.1")],
        [
            "studies.csv:<leak_ankle_old>.id: leak_ankle_old is leak_absent_ankle_jerks again, but for the note: keep one of "
            "the two"
        ],
    ),
    "shares_of_the_sexes_above_one": (
        [cell(S, "share_female", "value", "0.9")],
        ["studies.csv.value: population_share of the sexes adds up to 1.39, expected 1"],
    ),
    "shares_of_a_setting_below_one": (
        [
            copy(S, "share_18_44", id="clinic_18_44", setting="clinic", value="0.5"),
            copy(S, "share_45_64", id="clinic_45_64", setting="clinic", value="0.3"),
        ],
        ["studies.csv.value: population_share of the age bands of clinic adds up to 0.8, expected 1"],
    ),
    "shares_of_the_general_population_as_a_setting": (
        [cell(S, "share_18_44", "setting", "general")],
        [
            "studies.csv:<share_18_44>.setting: unknown setting 'general'",
        ],
    ),
    "context_prevalence_of_a_sex": (
        [cell(S, "freq_insulin", "context", "sex_male")],
        [
            "studies.csv:<freq_insulin>.context: got 'sex_male', context_prevalence is for risk factors",
            NO_INSULIN,
        ],
    ),
    "context_prevalence_of_a_setting_as_a_whole": (
        [cell(S, "freq_diabetes_age_75_plus", "group", "")],
        ["studies.csv:<freq_diabetes_age_75_plus>.group: got '', expected one age band for a frequency in a setting"],
    ),
    "context_prevalence_of_a_sex_in_a_setting": (
        [cell(S, "freq_diabetes_age_75_plus", "group", "age_75_plus;sex_male")],
        [
            "studies.csv:<freq_diabetes_age_75_plus>.group: got 'age_75_plus;sex_male', "
            "expected one age band for a frequency in a setting"
        ],
    ),
    "context_prevalence_of_a_built_in_setting": (
        [cell(S, "freq_diabetes_age_75_plus", "setting", "balanced")],
        ["studies.csv:<freq_diabetes_age_75_plus>.setting: unknown setting 'balanced'"],
    ),
    "context_given_cause_of_an_age_band": (
        [
            cell(S, "or_stroke_diabetes", "quantity", "context_given_cause"),
            cell(S, "or_stroke_diabetes", "value", "0.3"),
            cell(S, "or_stroke_diabetes", "context", "age_75_plus"),
        ],
        ["studies.csv:<or_stroke_diabetes>.context: no frequency of 'age_75_plus' in the population to compare with"],
    ),
    "crude_ratio_of_a_risk_factor": (
        [cell(S, "or_stroke_diabetes", "quantity", "crude_ratio"), cell(S, "or_stroke_diabetes", "group", "age_18_44")],
        ["studies.csv:<or_stroke_diabetes>.context: got 'diabetes', a crude ratio is one of age bands or of sexes"],
    ),
    "crude_ratio_against_nothing": (
        [cell(S, "or_stroke_old", "quantity", "crude_ratio")],
        ["studies.csv:<or_stroke_old>.group: got an empty cell, crude_ratio needs a group"],
    ),
    "crude_ratio_against_itself": (
        [cell(S, "or_stroke_old", "quantity", "crude_ratio"), cell(S, "or_stroke_old", "group", "age_75_plus")],
        [
            "studies.csv:<or_stroke_old>.group: got 'age_75_plus', expected what the ratio is against: age_0_17, age_18_44, "
            "age_45_64, age_65_74"
        ],
    ),
    "crude_ratio_against_a_band_with_a_ratio": (
        [
            copy(S, "or_stroke_old", id="or_stroke_young", context="age_0_17", value="0.1", low="0.05", high="0.2"),
            cell(S, "or_stroke_old", "quantity", "crude_ratio"),
            cell(S, "or_stroke_old", "group", "age_0_17"),
        ],
        [
            "studies.csv:<or_stroke_old>.group: got 'age_0_17', expected what the ratio is against: age_18_44, age_45_64, "
            "age_65_74"
        ],
    ),
    "crude_ratio_against_the_other_kind": (
        [cell(S, "or_anaemia_female", "quantity", "crude_ratio"), cell(S, "or_anaemia_female", "group", "age_0_17")],
        ["studies.csv:<or_anaemia_female>.group: got 'age_0_17', expected what the ratio is against: sex_male"],
    ),
    # numbers of study rows
    "not_a_probability": (
        [cell(S, "link_stroke_numbness", "value", "1.4")],
        ["studies.csv:<link_stroke_numbness>.value: got 1.4, expected a probability"],
    ),
    "certainty_without_counts": (
        [cell(S, "link_stroke_numbness", "value", "1")],
        [
            "studies.csv:<link_stroke_numbness>.value: got 1 without a denominator: certainty needs a count, else a value "
            "inside (0, 1)"
        ],
    ),
    "ratio_of_zero": (
        [cell(S, "or_stroke_diabetes", "value", "0")],
        ["studies.csv:<or_stroke_diabetes>.value: got 0, expected a number above 0"],
    ),
    "negative_incidence": (
        [cell(S, "prior_stroke", "value", "-1")],
        [
            "studies.csv:<prior_stroke>.value: got -1, expected a number above 0",
        ],
    ),
    "half_an_interval": (
        [cell(S, "prior_myopathy", "high", "")],
        ["studies.csv:<prior_myopathy>.low: low and high come together"],
    ),
    "interval_beside_the_value": (
        [cell(S, "prior_myopathy", "low", "0.0015")],
        [
            "studies.csv:<prior_myopathy>.low: got 0.0015 to 0.002, which does not hold the value 0.001",
        ],
    ),
    "interval_without_ends": (
        [cell(S, "link_stroke_numbness", "interval", "90")],
        ["studies.csv:<link_stroke_numbness>.interval: got '90' without low and high"],
    ),
    "interval_without_width": (
        [cell(S, "prior_myopathy", "low", "0.001"), cell(S, "prior_myopathy", "high", "0.001")],
        ["studies.csv:<prior_myopathy>.low: the interval has no width"],
    ),
    "counts_without_denominator": (
        [cell(S, "link_stroke_numbness", "counts", "derived")],
        ["studies.csv:<link_stroke_numbness>.counts: got 'derived' without a denominator"],
    ),
    "counts_without_numerator": (
        [cell(S, "prior_neuropathy", "numerator", "")],
        [
            "studies.csv:<prior_neuropathy>.numerator: got an empty cell, counts = reported needs one",
        ],
    ),
    "denominator_of_zero": (
        [cell(S, "prior_anaemia", "denominator", "0")],
        [
            "studies.csv:<prior_anaemia>.denominator: got 0, expected a number above 0",
        ],
    ),
    "numerator_above_denominator": (
        [cell(S, "prior_neuropathy", "numerator", "2000")],
        ["studies.csv:<prior_neuropathy>.numerator: got 2000 of 1000"],
    ),
    "counts_against_value": (
        [cell(S, "prior_neuropathy", "value", "0.04")],
        [
            "studies.csv:<prior_neuropathy>.value: got 0.04, the counts 20/1000 make 0.02",
        ],
    ),
    "negative_numerator_of_an_incidence": (
        [cell(S, "prior_stroke", "numerator", "-3")],
        ["studies.csv:<prior_stroke>.numerator: got '-3', expected 0 or more"],
    ),
    "no_episode_of_an_incidence": (
        [cell(S, "prior_stroke", "numerator", "0")],
        [
            "studies.csv:<prior_stroke>.numerator: got 0 episodes, which bound a rate and make none: leave it empty and give "
            "low and high",
        ],
    ),
    "negative_counts": (
        [cell(S, "prior_neuropathy", "numerator", "-20"), cell(S, "prior_neuropathy", "denominator", "-1000")],
        [
            "studies.csv:<prior_neuropathy>.numerator: got '-20', expected 0 or more",
            "studies.csv:<prior_neuropathy>.denominator: got '-1000', expected 0 or more",
        ],
    ),
    "counts_of_400_digits": (
        [
            cell(S, "prior_neuropathy", "numerator", "1" + 400 * "0"),
            cell(S, "prior_neuropathy", "denominator", "1" + 401 * "0"),
        ],
        [
            "studies.csv:<prior_neuropathy>.numerator: got a number of 401 digits, expected at most 1000000000000",
            "studies.csv:<prior_neuropathy>.denominator: got a number of 402 digits, expected at most 1000000000000",
        ],
    ),
    "negative_year": (
        [cell(R, "jones_2010", "year", "-5")],
        ["sources.csv:<jones_2010>.year: got '-5', expected 0 or more"],
    ),
    "negative_level": (
        [cell(F, "absent_ankle_jerks", "level", "-1")],
        ["findings.csv:<absent_ankle_jerks>.level: got '-1', expected 0 or more"],
    ),
    "digits_of_another_script": (
        [cell(R, "jones_2010", "year", "٢٠١٠"), cell(S, "or_anaemia_female", "value", "٢")],
        [
            "sources.csv:<jones_2010>.year: got '٢٠١٠', expected a whole number",
            "studies.csv:<or_anaemia_female>.value: got '٢', expected a number",
        ],
    ),
    "control_characters": (
        [cell(C, "anaemia", "description", "Too little\x00."), cell(R, "jones_2010", "citation", "\x1b[31mJones")],
        [
            "causes.csv:<anaemia>.description: got the control character '\\x00' in a text",
            "sources.csv:<jones_2010>.citation: got the control character '\\x1b' in a text",
        ],
    ),
    "odds_ratio_beyond_belief": (
        [cell(S, "or_anaemia_female", "value", "1e308")],
        ["studies.csv:<or_anaemia_female>.value: got 1e+308, expected odds_ratio between 0.0001 and 10000"],
    ),
    "interval_of_an_odds_ratio_beyond_belief": (
        [cell(S, "or_stroke_old", "high", "1e300")],
        ["studies.csv:<or_stroke_old>.high: got 1e+300, expected odds_ratio between 1e-08 and 1e+08"],
    ),
    "incidence_beyond_belief": (
        [cell(S, "prior_stroke", "value", "1e5")],
        [
            "studies.csv:<prior_stroke>.value: got 100000, expected incidence between 1e-12 and 1000",
        ],
    ),
    "interval_of_everything": (
        [cell(S, "link_stroke_tremor", "low", "0"), cell(S, "link_stroke_tremor", "high", "1")],
        [
            "studies.csv:<link_stroke_tremor>.low: got 0 to 1, which every probability is in: narrow the interval, or leave it "
            "out"
        ],
    ),
    "counts_of_unknown_kind": (
        [cell(S, "prior_neuropathy", "counts", "")],
        [
            "studies.csv:<prior_neuropathy>.counts: got an empty cell beside a numerator and a denominator, expected reported "
            "or derived",
        ],
    ),
    # kb.toml
    "toml_schema_version_true": (
        [text(K, "schema_version = 1", "schema_version = true")],
        ["kb.toml.schema_version: got True, expected a whole number"],
    ),
    "toml_settings_are_text": (
        [
            text(K, '[settings]\nclinic = "People who come to a clinic"', ""),
            text(K, 'name = "tiny"', 'name = "tiny"\nsettings = ""'),
        ],
        ["kb.toml.settings: got '', expected a table"],
    ),
    "toml_number_of_400_digits": (
        [text(K, "below = 12.0", f"below = 1{400 * '0'}"), text(K, "25.0]", f"1{400 * '0'}]")],
        [
            f"kb.toml.measurements.haemoglobin_g_dl.{place}: got a whole number of more than 64 bits"
            for place in ("plausible[1]", "findings[0].below")
        ],
    ),
    "toml_infinite_limit": (
        [text(K, "25.0]", "inf]")],
        ["kb.toml.measurements.haemoglobin_g_dl.plausible: got [1.5, inf], expected [low, high]"],
    ),
    "toml_number_of_5000_digits": (
        [text(K, "schema_version = 1", f"schema_version = {5000 * '1'}")],
        [
            "kb.toml: cannot be read: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; "
            "use sys.set_int_max_str_digits() to increase the limit"
        ],
    ),
    "toml_lists_in_lists": (
        [text(K, 'name = "tiny"', f'a = {3000 * "["}{3000 * "]"}\nname = "tiny"')],
        ["kb.toml: cannot be read: lists or tables within each other, too deep"],
    ),
    "toml_tables_in_tables": (
        [text(K, 'clinic = "People', f'{3000 * "a."}a = 1\nclinic = "People')],
        [f"kb.toml.settings{8 * '.a'}: lists or tables within each other, more than 8 deep"],
    ),
    "toml_control_character": (
        [text(K, 'licence = "CC0-1.0"', 'licence = "\\u001b[0m"')],
        ["kb.toml.licence: got the control character '\\x1b' in a text"],
    ),
    "measurement_without_unit": (
        [text(K, 'unit = "g/dl"', 'unit = ""')],
        ["kb.toml.measurements.haemoglobin_g_dl.unit: got '', expected a unit (1 for a number without)"],
    ),
    "measurement_of_a_level": (
        [text(K, '"low_haemoglobin", below = 12.0', '"sudden_onset", below = 12.0')],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[0]: got 'sudden_onset', a level of onset; a measurement makes "
            "findings of their own"
        ],
    ),
    "measurement_limits_overlap": (
        [
            text(
                K,
                ', below = 13.0, sex = "male" },',
                ', below = 13.0, sex = "male" },\n    { finding = "fatigue", at_least = 12.5 },',
            )
        ],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[2]: low_haemoglobin below 13 and fatigue at_least 12.5 are both "
            "present in between: move the limits apart"
        ],
    ),
    "measurement_limits_against_an_implication": (
        [
            cell(F, "low_haemoglobin", "implies", "fatigue"),
            text(
                K,
                ', below = 13.0, sex = "male" },',
                ', below = 13.0, sex = "male" },\n    { finding = "fatigue", below = 12.5 },',
            ),
            *(cell(S, f"link_anaemia_{f}", "value", "0.8") for f in ("low_haemoglobin", "fatigue")),
        ],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[1]: low_haemoglobin (below 13) implies fatigue (below 12.5), which "
            "its values need not have: swap the limits"
        ],
    ),
    "toml_broken": (
        [text(K, 'name = "tiny"', "name = tiny")],
        ["kb.toml: cannot be read: Invalid value (at line 1, column 8)"],
    ),
    "toml_unknown_key": (
        [text(K, "title =", "titel =")],
        ["kb.toml.titel: unknown key; nearest: title", "kb.toml.title: key is missing"],
    ),
    "toml_type": ([text(K, '"1.2.3"', "123")], ["kb.toml.version: got 123, expected text"]),
    "toml_schema_version": (
        [text(K, "schema_version = 1", "schema_version = 2")],
        ["kb.toml.schema_version: got 2, this ddx reads 1"],
    ),
    "toml_reserved_setting": (
        [text(K, 'clinic = "People who come to a clinic"', 'balanced = "x"')],
        ["kb.toml.settings.balanced: is built in and not declared"],
    ),
    "toml_default_setting": (
        [text(K, 'default_setting = "general"', 'default_setting = "clinics"')],
        ["kb.toml.default_setting: got 'clinics', allowed: general, balanced, clinic"],
    ),
    "measurement_keys": (
        [text(K, 'unit = "g/dl"', 'units = "g/dl"')],
        [
            "kb.toml.measurements.haemoglobin_g_dl: got keys findings, label, loinc, plausible, units, "
            "expected a table with label, unit, loinc, plausible, findings"
        ],
    ),
    "measurement_plausible": (
        [text(K, "[1.5, 25.0]", "[25.0, 1.5]")],
        ["kb.toml.measurements.haemoglobin_g_dl.plausible: got [25.0, 1.5], expected [low, high]"],
    ),
    "measurement_rule": (
        [text(K, "below = 12.0", "under = 12.0")],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[0]: got {'finding': 'low_haemoglobin', 'under': 12.0, 'sex': "
            "'female'}, "
            "expected a finding, below or at_least with a number, and sex if it matters"
        ],
    ),
    "measurement_rule_with_two_limits": (
        [text(K, "below = 12.0", "below = 12.0, at_least = 3")],
        [
            "kb.toml.measurements.haemoglobin_g_dl.findings[0]: got {'finding': 'low_haemoglobin', 'below': 12.0, 'at_least': "
            "3, "
            "'sex': 'female'}, expected a finding, below or at_least with a number, and sex if it matters"
        ],
    ),
    "measurement_finding": (
        [text(K, '"low_haemoglobin", below = 12.0', '"low_hemoglobin", below = 12.0')],
        ["kb.toml.measurements.haemoglobin_g_dl.findings[0]: unknown finding 'low_hemoglobin'; nearest: low_haemoglobin"],
    ),
    "measurement_limit": (
        [text(K, "below = 13.0", "below = 130")],
        ["kb.toml.measurements.haemoglobin_g_dl.findings[1]: got the limit 130, outside the plausible 1.5 to 25"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_reported_in_exact_words(name, edit):
    edits, expected = DEFECTS[name]
    lines = edit.lines()
    assert problems_after(edit, *edits) == with_lines(expected, lines)


def test_levels_of_a_leak_add_up_in_every_age_band(edit):
    levels = ("gradual", "sudden")
    old = [copy(S, f"leak_{level}_onset", id=f"{level}_old", group="age_75_plus", value="0.6") for level in levels]
    expected = ": leak: the levels of onset add up to 1.2 at age_75_plus, expected at most 1.1"
    assert [p.endswith(expected) for p in problems_after(edit, *old)] == [True]


def test_a_prior_above_one_is_a_problem_and_not_a_crash(edit):
    edit.cell(S, "prior_stroke", "value", "40")
    edit.cell(S, "leak_fatigue", "quantity", "population_frequency")
    found = [str(p) for p in read_knowledge(edit.folder)[1]]
    assert len(found) == 1
    assert "prior:stroke" in found[0]


def test_everybody_having_a_finding_makes_a_leak(edit):
    """The step that the slope is taken over stays below 1."""
    edit.cell(S, "leak_fatigue", "quantity", "population_frequency")
    edit.cell(S, "leak_fatigue", "counts", "derived")
    leaks = []
    for counted in ("9999", "10000"):
        for column, value in (("value", str(int(counted) / 10000)), ("numerator", counted), ("denominator", "10000")):
            edit.cell(S, "leak_fatigue", column, value)
        leaks.append(read_knowledge(edit.folder)[0].parameters["leak:fatigue"].value)
    assert 0.9 < leaks[0] < leaks[1] < 1.0


def test_a_milder_and_a_severer_limit_and_limits_that_meet_are_no_contradiction(edit):
    """Mild and severe lie within each other, 13 is the end of one range and the beginning of the other, women are no men."""
    old = ', below = 13.0, sex = "male" },'
    others = ("below = 10.0", "at_least = 13.0", 'at_least = 12.0, sex = "female"')
    edit.text(K, old, "".join([old, *(f'\n    {{ finding = "fatigue", {limit} }},' for limit in others)]))
    assert problems_after(edit) == []


def test_a_table_that_is_a_directory(edit):
    (edit.folder / "causes.csv").unlink()
    (edit.folder / "causes.csv").mkdir()
    assert str(read_knowledge(edit.folder)[1][0]) == "causes.csv: cannot be read: Is a directory"


def test_a_folder_named_like_a_shipped_knowledge_base_is_not_passed_over(edit, monkeypatch):
    edit.folder.rename(edit.folder.with_name("limb"))
    monkeypatch.chdir(edit.folder.parent)
    message = "'limb' is a shipped knowledge base and a folder here; write ./limb for the folder"
    with pytest.raises(ddx.UsageError, match=f"^{re.escape(message)}$"):
        ddx.load("limb")
    assert ddx.load("./limb").knowledge.name == "tiny"


# A row that cannot be read takes its id with it: nothing else is reported.
UNREADABLE_ROWS = {
    "id": ([cell(C, "stroke", "id", "Stroke one")], ["causes.csv:2.id: got 'Stroke one', expected a snake_case id"]),
    "empty": ([cell(C, "stroke", "label", "")], ["causes.csv:2.label: got an empty cell, expected text"]),
    "alias": ([cell(C, "stroke", "aliases", "cva;C V A")], ["causes.csv:2.aliases: got 'C V A', expected a snake_case id"]),
    "number": ([cell(C, "stroke", "window_days", "x")], ["causes.csv:2.window_days: got 'x', expected a number"]),
    "choice": ([cell(C, "stroke", "course", "subacute")], ["causes.csv:2.course: got 'subacute', allowed: chronic, acute"]),
    "two_cells": (
        [cell(C, "stroke", "course", "subacute"), cell(C, "stroke", "urgency", "soon")],
        [
            "causes.csv:2.course: got 'subacute', allowed: chronic, acute",
            "causes.csv:2.urgency: got 'soon', allowed: emergency, urgent, routine",
        ],
    ),
    "extra_cell": ([text(C, "stroke,Stroke,cva", "stroke,Stroke,cva,extra")], ["causes.csv:2: got 12 cells, expected 11"]),
    "duplicate": ([cell(C, "anaemia", "id", "stroke")], ["causes.csv:6.id: got 'stroke', which an earlier row has too"]),
    "unknown_column": (
        [text(C, "family,course", "familie,course")],
        ["causes.csv:1.familie: unknown column; nearest: family", "causes.csv:1.family: column is missing"],
    ),
    "column_twice": ([text(C, "description\n", "description,course\n")], ["causes.csv:1.course: column stands twice"]),
}

UNREADABLE_TABLES = {
    "file_missing": (lambda edit: (edit.folder / C).unlink(), ["causes.csv: file is missing"]),
    "no_sources": (lambda edit: (edit.folder / R).unlink(), ["sources.csv: file is missing"]),
    "no_findings": (lambda edit: (edit.folder / F).unlink(), ["findings.csv: file is missing"]),
    "not_utf8": (append(C, b"\xff"), ["causes.csv: not UTF-8: byte 554"]),
    "header": (
        text(X, "age_from,age_to", "from,age_to"),
        ["context.csv:1.from: unknown column; nearest: age_from", "context.csv:1.age_from: column is missing"],
    ),
    "open_quote": (append(R, b'x,"y'), ["sources.csv:5: not valid CSV: unexpected end of data"]),
}


@pytest.mark.parametrize("name", UNREADABLE_TABLES)
def test_a_table_that_cannot_be_read_is_the_only_problem(name, edit):
    change, expected = UNREADABLE_TABLES[name]
    assert problems_after(edit, change) == expected
    edit.cell(S, "prior_anaemia", "quality", "good")
    assert [p.split(":")[0] for p in problems_after(edit)] == [*(p.split(":")[0] for p in expected), S]


def test_files_may_begin_with_a_byte_order_mark(edit):
    for file in (K, C, S):
        path = edit.folder / file
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert problems_after(edit) == []


@pytest.mark.parametrize("name", UNREADABLE_ROWS)
def test_an_unreadable_row_is_the_first_problem(name, edit):
    edits, expected = UNREADABLE_ROWS[name]
    assert problems_after(edit, *edits) == expected


@pytest.mark.parametrize("file", [C, F, X, S, R])
def test_a_missing_file_is_a_problem_and_not_a_crash(file, edit):
    (edit.folder / file).unlink()
    knowledge, problems = read_knowledge(edit.folder)
    assert str(problems[0]) == f"{file}: file is missing"
    assert knowledge is not None


def test_a_row_that_cannot_be_read_is_not_reported_as_unknown_too(edit):
    problems = problems_after(edit, cell(C, "stroke", "urgency", "high"))
    assert problems[0] == "causes.csv:2.urgency: got 'high', allowed: emergency, urgent, routine"
    assert [p for p in problems if "unknown" in p] == []


def test_without_kb_toml_the_tables_are_checked_all_the_same(edit):
    (edit.folder / K).unlink()
    knowledge, problems = read_knowledge(edit.folder)
    assert knowledge is None
    assert [str(p).partition(": [Errno")[0] for p in problems] == ["kb.toml: cannot be read"]
    edit.cell(F, "tremor", "level", "high")
    assert "findings.csv:7.level: got 'high', expected a whole number" in map(str, read_knowledge(edit.folder)[1])


EMPTY = {C: "no causes", F: "no findings", X: "no context values", S: "no study rows", R: "no sources"}


@pytest.mark.parametrize("file", EMPTY)
def test_an_empty_table_is_the_only_problem(file, edit):
    path = edit.folder / file
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert problems_after(edit) == [f"{file}: {EMPTY[file]}"]


def test_a_file_without_a_header_says_so(edit):
    (edit.folder / R).write_bytes(b"")
    columns = "id, citation, doi, pmid, url, year, design"
    assert problems_after(edit) == [f"sources.csv: got an empty file, expected the columns {columns}"]


def raw_rows(edit, file):
    return (edit.folder / file).read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.mark.parametrize("file", [C, F, X, S, R])
def test_what_follows_from_a_row_that_cannot_be_read_is_held_back(file, edit):
    """Every row of every table: a cell too few, and a cell that is no value."""
    edit.cell(F, "fatigue", "implies", "tremor")
    for cause in ("stroke", "neuropathy", "myopathy", "anaemia"):
        edit.cell(S, f"link_{cause}_fatigue", "value", "0.2")
        if cause in ("neuropathy", "myopathy"):
            edit.copy(S, f"link_{cause}_fatigue", id=f"{cause}_trembles", finding="tremor", value="0.2")
    edit.cell(S, "link_anaemia_tremor", "value", "0.2")
    edit.cell(S, "leak_fatigue", "value", "0.03")
    group_rates_of_myopathy = ("age_0_17", "age_18_44", "age_45_64", "age_65_74", "age_75_plus", "sex_female", "sex_male")
    for change in group_rates("myopathy", *group_rates_of_myopathy):
        change(edit)
    edit.cell(S, "or_stroke_diabetes", "quantity", "context_given_cause")
    edit.cell(S, "or_stroke_diabetes", "value", "0.3")
    assert problems_after(edit) == []
    whole = raw_rows(edit, file)
    column = {C: "urgency", F: "cost", X: "kind", S: "value", R: "year"}[file]
    for line, row in enumerate(whole[1:], 2):
        header, name = whole[0].count(",") + 1, row.partition(",")[0]
        (edit.folder / file).write_text("".join([*whole[: line - 1], row.rpartition(",")[0] + "\n", *whole[line:]]), "utf-8")
        assert problems_after(edit) == [f"{file}:{line}: got {header - 1} cells, expected {header}"]
        (edit.folder / file).write_text("".join(whole), "utf-8")
        edit.cell(file, name, column, "?")
        assert [p.partition(": ")[0] for p in problems_after(edit)] == [f"{file}:{line}.{column}"]
        (edit.folder / file).write_text("".join(whole), "utf-8")


@pytest.mark.parametrize("file", [C, F, X, R])
def test_what_follows_from_an_id_that_cannot_be_read_is_held_back(file, edit):
    """Nobody knows which unknown id is the one that this row is meant to have."""
    for row in edit._read(file)[1]:
        line = edit.lines()[row[0]]
        edit.cell(file, row[0], "id", "Two words")
        assert problems_after(edit) == [f"{file}:{line}.id: got 'Two words', expected a snake_case id"]
        edit.cell(file, "Two words", "id", row[0])


def test_what_does_not_follow_from_an_unreadable_row_is_reported(edit):
    """Another cause without a prevalence, another finding without a leak, another unknown cause, another unused source."""
    found = problems_after(
        edit,
        cell(S, "prior_stroke", "value", "?"),
        drop(S, "prior_anaemia"),
        cell(S, "leak_numbness", "value", "?"),
        drop(S, "leak_tremor"),
        cell(S, "link_stroke_numbness", "cause", "strok"),
        copy(R, "smith_2020", id="smith_2021", doi="10.1000/other"),
        cell(S, "clinic_stroke", "value", "?"),
    )
    assert found == with_lines(
        [
            "studies.csv:<prior_stroke>.value: got '?', expected a number",
            "studies.csv:<clinic_stroke>.value: got '?', expected a number",
            "studies.csv:<leak_numbness>.value: got '?', expected a number",
            "studies.csv:<link_stroke_numbness>.cause: unknown cause 'strok'; nearest: stroke",
            "studies.csv.quantity: no prevalence for anaemia",
            NO_LEAK,
            "sources.csv:5.id: smith_2021 is used by no study",
        ],
        edit.lines(),
    )


def test_no_age_bands_is_a_problem(edit):
    bands = ("age_0_17", "age_18_44", "age_45_64", "age_65_74", "age_75_plus")
    assert "context.csv.kind: no age bands" in problems_after(edit, drop(X, *bands))


@pytest.mark.parametrize(
    ("change", "n"), [(drop(X, "sex_male"), 1), (copy(X, "sex_male", id="sex_other", aliases=""), 3)], ids=["one", "three"]
)
def test_a_number_of_sexes_other_than_2_is_a_problem_and_not_a_crash(change, n, edit):
    assert f"context.csv.kind: got {n} sexes, expected 2" in problems_after(edit, change)


# Defects that must not pass, whatever the words: a change and the place that has to be named.
PLACES = {
    "last_age_band_ends_too_early": (cell(X, "age_75_plus", "age_to", "90"), "context.csv:6.age_to: "),
    "unknown_sex_of_a_threshold": (
        text(K, 'sex = "female"', 'sex = "femal"'),
        "kb.toml.measurements.haemoglobin_g_dl.findings[0]",
    ),
    "plausible_is_a_number": (text(K, "[1.5, 25.0]", "5"), "kb.toml.measurements.haemoglobin_g_dl.plausible: "),
    "plausible_is_text": (text(K, "[1.5, 25.0]", '["a", "b"]'), "kb.toml.measurements.haemoglobin_g_dl.plausible: "),
    "limit_is_text": (text(K, "below = 12.0", 'below = "12"'), "kb.toml.measurements.haemoglobin_g_dl.findings[0]"),
    "measurement_is_no_table": (
        text(K, "[measurements.haemoglobin_g_dl]", "[measurements]\nx = 1\n[measurements.haemoglobin_g_dl]"),
        "kb.toml.measurements.x",
    ),
    "label_is_a_number": (text(K, 'label = "Haemoglobin"', "label = 5"), "kb.toml.measurements.haemoglobin_g_dl"),
    "setting_is_a_number": (text(K, '"People who come to a clinic"', "5"), "kb.toml.settings.clinic: "),
    "interval_of_a_probability_ends_below_0": (
        lambda edit: edit.cell(S, "prior_myopathy", "low", "-0.1"),
        "studies.csv:14.low: ",
    ),
    "interval_of_a_probability_ends_above_1": (
        lambda edit: edit.cell(S, "prior_myopathy", "high", "1.5"),
        "studies.csv:14.",
    ),
    "interval_of_a_ratio_ends_below_0": (cell(S, "or_stroke_old", "low", "-2"), "studies.csv:19.low: "),
    "finding_named_like_a_column_of_cases": (copy(F, "tremor", id="age", aliases=""), "findings.csv:14.id: got 'age'"),
    "cause_named_like_a_column_of_the_answer": (
        copy(C, "anaemia", id="none_of_these", aliases=""),
        "causes.csv:7.id: got 'none_of_these'",
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_defect_is_reported_at_its_place(name, edit):
    change, place = PLACES[name]
    problems = problems_after(edit, change)
    assert any(p.startswith(place) for p in problems), problems


def test_a_window_that_an_acute_cause_lacks_is_reported(edit):
    problems = problems_after(edit, cell(C, "stroke", "window_days", ""))
    assert "causes.csv:2.window_days: got no window for an acute cause; acute causes have one, chronic ones none" in problems


def test_all_problems_are_reported_at_once(edit):
    lines = edit.lines()
    problems = problems_after(
        edit,
        cell(S, "link_stroke_numbness", "value", "0.05"),
        cell(F, "tremor", "cost", "-1"),
        cell(F, "arm_weakness", "implies", "hand_weakness"),
        cell(X, "insulin", "requires", "sex_male"),
        cell(C, "stroke", "icd10", "stroke"),
        cell(S, "clinic_stroke", "setting", "clinics"),
        text(K, "below = 13.0", "below = 130"),
    )
    assert [p.split(": ")[0] for p in problems] == with_lines(
        [
            "studies.csv:<clinic_stroke>.setting",
            "kb.toml.measurements.haemoglobin_g_dl.findings[1]",
            "causes.csv:<stroke>.icd10",
            "findings.csv:<tremor>.cost",
            "findings.csv:<arm_weakness>.implies",
            "context.csv:<insulin>.requires",
            "studies.csv:<link_stroke_numbness>.value",
        ],
        lines,
    )


def test_loading_a_broken_base_raises_with_all_problems(edit):
    edit.cell(F, "tremor", "cost", "-1")
    with pytest.raises(KnowledgeError) as caught:
        load_knowledge(edit.folder)
    assert str(caught.value) == f"knowledge base {edit.folder}: 1 problem\nfindings.csv:7.cost: got -1, expected 0 or more"
    edit.cell(F, "fatigue", "cost", "-2")
    with pytest.raises(KnowledgeError) as caught:
        ddx.load(edit.folder)
    assert str(caught.value).splitlines()[0] == f"knowledge base {edit.folder}: 2 problems"
    assert [p.row for p in caught.value.problems] == [7, 11]


def test_an_unknown_name_is_a_usage_error_that_names_what_there_is(tmp_path):
    with pytest.raises(UsageError) as caught:
        locate("limbs")
    assert str(caught.value) == "knowledge base 'limbs': neither a shipped name nor a folder with a kb.toml; nearest: limb"
    with pytest.raises(UsageError) as caught:
        locate(tmp_path)
    ships = ", ".join(shipped())
    assert str(caught.value) == (
        f"knowledge base '{tmp_path}': neither a shipped name nor a folder with a kb.toml; shipped: {ships}"
    )


def test_an_unknown_setting_names_the_known_ones(tiny):
    with pytest.raises(UsageError) as caught:
        tiny.in_setting("clinics")
    assert str(caught.value) == "unknown setting 'clinics'; nearest: clinic; known: general, clinic, balanced"


def test_the_tiny_base_loads_with_everything_in_its_place(tiny):
    kb = tiny.knowledge
    assert (kb.name, kb.version, kb.title, kb.licence) == ("tiny", "1.2.3", "A knowledge base for tests", "CC0-1.0")
    assert (kb.intended_use, kb.default_setting, tiny.setting) == ("Tests only.", "general", "general")
    assert list(kb.settings) == ["general", "clinic", "balanced"]
    assert list(kb.causes) == ["stroke", "neuropathy", "myopathy", "low_sugar", "anaemia"]
    assert kb.causes["stroke"].aliases == ("cva",)
    assert (kb.causes["stroke"].window_days, kb.causes["anaemia"].window_days) == (30.0, None)
    assert len(kb.findings) == 12
    assert kb.graded == {"onset": ("gradual_onset", "sudden_onset")}
    assert kb.findings["hand_weakness"].implies == ("arm_weakness",)
    assert [b.id for b in kb.age_bands] == ["age_0_17", "age_18_44", "age_45_64", "age_65_74", "age_75_plus"]
    assert [s.id for s in kb.sexes] == ["sex_female", "sex_male"]
    assert [r.id for r in kb.risk_factors] == ["diabetes", "insulin"]
    assert kb.context["insulin"].requires == "diabetes"
    assert kb.measurements["haemoglobin_g_dl"].plausible == (1.5, 25.0)
    assert kb.names["cva"] == ("cause", "stroke")
    assert kb.names["shaking"] == ("finding", "tremor")
    assert kb.names["known_diabetes"] == ("context", "diabetes")
    assert kb.names["haemoglobin_g_dl"] == ("measurement", "haemoglobin_g_dl")
    assert (kb.studies["share_0_17"].line, kb.causes["stroke"].line, kb.findings["tremor"].line) == (2, 2, 7)


def test_parameters_lead_to_their_studies(tiny):
    parameters = tiny.knowledge.parameters
    assert parameters["link:stroke:numbness"].studies == ("link_stroke_numbness",)
    assert parameters["prior:stroke@clinic"].studies == ("clinic_stroke",)
    assert parameters["leak:absent_ankle_jerks@age_75_plus"].studies == ("leak_ankle_old",)
    assert parameters["context:diabetes@age_75_plus"].studies == ("freq_diabetes_old",)
    assert parameters["link:stroke:tremor"].cited is False
    assert parameters["link:stroke:numbness"].cited is True


def test_lines_count_the_lines_of_the_file_also_after_a_cell_of_two_lines(edit):
    edit.cell(C, "stroke", "description", "One line.\nAnother line.")
    assert problems_after(edit, cell(C, "neuropathy", "icd10", "x")) == [
        "causes.csv:4.icd10: got 'x', expected an ICD-10 code such as I63 or G62.9"
    ]


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_only_line_ends_end_a_row(character, edit):
    label = f"Tremor{character}of the hands"
    edit.cell(F, "tremor", "label", label)
    knowledge, problems = read_knowledge(edit.folder)
    assert [str(p) for p in problems] == []
    assert knowledge.findings["tremor"].label == label


def test_a_byte_order_mark_and_any_order_of_columns_are_read(edit):
    before = load_knowledge(edit.folder)
    path = edit.folder / C
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    with open(path, "w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([row[::-1] for row in rows])
    after = load_knowledge(edit.folder)
    assert after.causes == before.causes
    assert after.parameters == before.parameters


def test_the_digest_changes_with_the_content_and_not_with_line_ends(edit):
    before = load_knowledge(edit.folder).digest
    assert re.fullmatch(r"[0-9a-f]{64}", before)
    for path in edit.folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_knowledge(edit.folder).digest == before
    (edit.folder / "notes.txt").write_text("not a part of it")
    assert load_knowledge(edit.folder).digest == before
    digests = {before}
    for change in (
        cell(S, "link_stroke_numbness", "value", "0.41"),
        cell(C, "stroke", "description", "Another description."),
        cell(F, "tremor", "question", "Another question?"),
        cell(X, "diabetes", "question", "Another question?"),
        cell(R, "jones_2010", "year", "2011"),
        text(K, 'version = "1.2.3"', 'version = "1.2.4"'),
    ):
        change(edit)
        digests.add(load_knowledge(edit.folder).digest)
    assert len(digests) == 7


def test_content_that_moves_between_files_changes_the_digest(edit):
    before = load_knowledge(edit.folder).digest
    causes = (edit.folder / C).read_bytes()
    (edit.folder / C).write_bytes((edit.folder / F).read_bytes())
    (edit.folder / F).write_bytes(causes)
    assert read_knowledge(edit.folder)[0].digest != before


def test_frozen_objects_cannot_be_changed(tiny):
    kb = tiny.knowledge
    changes = [
        (tiny, "setting"),
        (kb, "name"),
        (kb.causes["stroke"], "label"),
        (kb.findings["tremor"], "cost"),
        (kb.context["diabetes"], "label"),
        (kb.measurements["haemoglobin_g_dl"], "unit"),
        (kb.sources["smith_2020"], "year"),
        (kb.studies["prior_stroke"], "value"),
        (kb.parameters["prior:stroke"], "value"),
    ]
    for item, name in changes:
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(item, name, "x")
    for name in ("causes", "findings", "context", "measurements", "sources", "studies", "parameters", "settings"):
        mapping = getattr(kb, name)
        assert type(mapping) is MappingProxyType
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["x"] = None
    for mapping in (kb.names, kb.graded):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["x"] = None


def test_loading_does_not_depend_on_when_it_happens(tiny_folder):
    first, second = load_knowledge(tiny_folder), load_knowledge(tiny_folder)
    assert isinstance(first, KnowledgeBase)
    for field in fields(KnowledgeBase):
        assert getattr(first, field.name) == getattr(second, field.name)


def test_a_wheel_and_a_checkout_ship_the_same_names():
    assert "limb" in shipped()
    assert all((folder / K).is_file() for folder in shipped().values())
    assert locate("limb") == shipped()["limb"]


def test_the_shipped_base_has_no_problems():
    knowledge, problems = read_knowledge(locate("limb"))
    assert [str(p) for p in problems] == []
    assert len(knowledge.causes) == 49


def _vocabulary(kind: str) -> list[str]:
    with open(VOCABULARY, encoding="utf-8", newline="") as stream:
        return [row["id"] for row in csv.DictReader(stream) if row["kind"] == kind]


@pytest.mark.parametrize(("kind", "n"), [("cause", 49), ("finding", 203), ("context", 16)])
def test_the_shipped_base_knows_the_agreed_vocabulary(kind, n, limb):
    ids = _vocabulary(kind)
    assert len(ids) == n
    known = limb.knowledge.names
    assert [i for i in ids if known.get(i, ("", ""))[0] != kind] == []


def test_the_causes_of_the_shipped_base_are_those_of_the_vocabulary(limb):
    assert sorted({limb.knowledge.names[i][1] for i in _vocabulary("cause")}) == sorted(limb.knowledge.causes)


def test_every_study_of_the_shipped_base_has_its_source(limb):
    kb = limb.knowledge
    assert [s.id for s in kb.studies.values() if s.source not in kb.sources] == []
    assert [s.id for s in kb.sources.values() if s.id != "expert_estimate" and not (s.doi or s.pmid or s.url)] == []


def test_every_parameter_of_the_shipped_base_rests_on_study_rows(limb):
    kb = limb.knowledge
    assert [p.id for p in kb.parameters.values() if not p.studies or set(p.studies) - set(kb.studies)] == []


def test_every_measurement_of_the_shipped_base_can_be_used(limb):
    for measurement in limb.knowledge.measurements.values():
        low, high = measurement.plausible
        for sex in ("female", "male", None):
            dx = limb.diagnose(measurements={measurement.id: 0.5 * (low + high)}, age=50, sex=sex)
            assert dx.posterior.between(0.0, 1.0).all()


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("resolved_within_24_hours", "intermittent_course"),
        ("neurogenic_claudication", "claudication"),
        ("poor_oral_intake", "anorexia"),
    ],
)
def test_narrow_findings_of_limb_are_part_of_the_wide_ones(limb, narrow, wide):
    case = {"age": 70, "sex": "female"}
    alone, both = (limb.diagnose(**case, present=present).posterior for present in ([narrow], [narrow, wide]))
    assert alone.to_dict() == both.to_dict()
    with pytest.raises(ddx.CaseError) as caught:
        limb.diagnose(**case, present=[narrow], absent=[wide])
    assert str(caught.value) == f"{narrow} is present but {wide}, which it implies, is absent"


def test_every_estimate_of_limb_says_why():
    kb = load_knowledge("limb")
    text = (shipped()["limb"].parent / "README.md").read_text(encoding="utf-8")
    reasons = {s.note.partition(":")[0] for s in kb.studies.values() if not s.cited}
    assert reasons == {"not looked for yet", "looked for, not found", "no study counts it", "no case-mix study"}
    assert [reason for reason in reasons if f"`{reason}`" not in " ".join(text.split())] == []


@pytest.mark.parametrize(("kind", "aim"), [("link", 0.85), ("prior", 0.9), ("leak", 0.8)])
def test_most_parameters_of_limb_are_cited(kind, aim):
    parameters = load_knowledge("limb").parameters.values()
    cited = [p.cited for p in parameters if p.id.startswith(kind) and ("@" not in p.id or kind == "leak")]
    assert sum(cited) / len(cited) >= aim
