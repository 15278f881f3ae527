"""The syndrome layer of a knowledge base: totals of studies -> direct parts, the same in pgmpy, every defect in words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from networks import layered_evidence, sub_network

import ddx
from ddx.knowledge import load_knowledge, read_knowledge
from ddx.knowledge.syndromes import brought, brought_without_cause

SYNDROME = "id,label,description\ncentral_signs,Signs of the first motor neuron,Damage above the front horn.\n"
# id -> (cause, finding, value); the quantity follows from whether there is a cause.
ROWS = {
    "central_signs_alone": ("", "central_signs", 0.01),
    "stroke_central": ("stroke", "central_signs", 0.8),
    "myopathy_central": ("myopathy", "central_signs", 0.05),
    "central_brisk": ("central_signs", "brisk_reflexes", 0.65),
    "central_hand": ("central_signs", "hand_weakness", 0.5),
    "central_ankle": ("central_signs", "absent_ankle_jerks", 0.3),
}


@pytest.fixture
def with_syndrome(edit):
    (edit.folder / "syndromes.csv").write_text(SYNDROME, encoding="utf-8")
    for id_, (cause, finding, value) in ROWS.items():
        add_row(edit, id_, cause, finding, value)
    return edit


def add_row(edit, id_, cause, finding, value, **cells):
    template = "link_stroke_numbness" if cause else "leak_fatigue"
    edit.copy("studies.csv", template, id=id_, cause=cause, finding=finding, value=str(value), **cells)


def certain(model, cause):
    """The network in which one cause is there and no other."""
    return alone(model.network, cause, 40.0)


def alone(net, cause, log_odds):
    net = sub_network(net, [cause])
    return replace(net, log_odds=np.full_like(net.log_odds, log_odds))


def probability(net, **findings):
    return float(np.exp(net.posterior(layered_evidence(net, [findings | {"age_band": "age_18_44"}])).log_evidence[0]))


def test_without_syndromes_every_finding_keeps_its_frequency_and_findings_become_independent(with_syndrome):
    model = ddx.Model(load_knowledge(with_syndrome.folder), "general")
    whole, apart = model.network, model.network.without_syndromes()
    assert (apart.syndromes, apart.finding_syndrome.shape) == ((), (len(apart.findings), 0))
    for cause, log_odds in [("stroke", -40.0), *((c, 40.0) for c in whole.causes)]:
        for finding in whole.findings:
            one, other = (probability(alone(net, cause, log_odds), **{finding: 1.0}) for net in (whole, apart))
            assert other == pytest.approx(one, rel=1e-12), (cause, finding)
    signs = {"brisk_reflexes": 1.0, "hand_weakness": 1.0}
    stroke = alone(apart, "stroke", 40.0)
    singly = [probability(stroke, **{finding: 1.0}) for finding in signs]
    assert probability(stroke, **signs) == pytest.approx(np.prod(singly), rel=1e-12)
    assert probability(certain(model, "stroke"), **signs) > 1.1 * np.prod(singly)


def test_a_sensitivity_counts_what_comes_through_the_syndrome(with_syndrome):
    kb = load_knowledge(with_syndrome.folder)
    model = ddx.Model(kb, "general")
    value = {p.id: p.value for p in kb.parameters.values()}
    for cause in kb.causes:
        net = certain(model, cause)
        for finding in kb.findings:
            if not kb.findings[finding].graded:
                total = value.get(f"link:{cause}:{finding}", brought(value, kb.syndromes, cause, finding))
                expected = value[f"leak:{finding}"] if total is None else total
                np.testing.assert_allclose(probability(net, **{finding: 1}), expected, rtol=1e-12)


def test_a_leak_counts_what_comes_from_a_syndrome_without_a_cause(with_syndrome):
    model = ddx.load(with_syndrome.folder)
    nothing = replace(model.network, log_odds=np.full_like(model.network.log_odds, -800.0))
    for finding, band, leak in (
        ("brisk_reflexes", "age_18_44", 0.03),
        ("absent_ankle_jerks", "age_18_44", 0.1),
        ("absent_ankle_jerks", "age_75_plus", 0.3),
    ):
        evidence = layered_evidence(nothing, [{finding: 1, "age_band": band}])
        np.testing.assert_allclose(np.exp(nothing.posterior(evidence).log_evidence), leak, rtol=1e-12)


def test_findings_of_a_syndrome_are_no_independent_proofs(with_syndrome):
    """P(both | only stroke) by the definition, summed over the syndrome."""
    kb = load_knowledge(with_syndrome.folder)
    net = certain(ddx.Model(kb, "general"), "stroke")
    v = {"brisk_reflexes": (0.65 - 0.03) / 0.97, "hand_weakness": (0.5 - 0.02) / 0.98}
    q, both = 0.8, 1.0
    present, absent = {}, {}
    for finding, total in (("brisk_reflexes", 0.6), ("hand_weakness", 0.5)):
        rest = (1.0 - total) / (1.0 - q * v[finding])  # neither by the leak nor by a direct link
        absent[finding], present[finding] = 1.0 - rest, 1.0 - rest * (1.0 - v[finding])
        both *= total
    expected = q * np.prod(list(present.values())) + (1.0 - q) * np.prod(list(absent.values()))
    np.testing.assert_allclose(probability(net, brisk_reflexes=1, hand_weakness=1), expected, rtol=1e-12)
    assert expected > 1.1 * both


def test_pgmpy_has_the_same_network(with_syndrome):
    from pgmpy.inference import VariableElimination

    model = ddx.load(with_syndrome.folder)
    network = model.to_pgmpy()
    assert set(network.get_parents("hand_weakness")) == {"stroke", "neuropathy", "myopathy", "central_signs"}
    dx = model.diagnose(
        ["brisk_reflexes", "hand_weakness"], ["absent_ankle_jerks"], age=80, sex="male", context={"diabetes": True}
    )
    evidence = {
        "brisk_reflexes": "present", "hand_weakness": "present", "absent_ankle_jerks": "absent",
        "age_band": "age_75_plus", "sex": "sex_male", "diabetes": "present", "arm_weakness": "present",
    }  # fmt: skip
    del evidence["arm_weakness"]  # implied by hand_weakness, and counted once
    engine = VariableElimination(network)
    expected = {**dx.posterior, **dx.syndromes}
    assert "central_signs" in expected
    for node, p in expected.items():
        factor = engine.query([node], evidence, show_progress=False)
        np.testing.assert_allclose(p, factor.values[factor.get_state_no(node, "present")], rtol=1e-10)


def test_intervals_draw_the_syndrome_too(with_syndrome):
    dx = ddx.load(with_syndrome.folder).diagnose(["brisk_reflexes", "hand_weakness"], age=80)
    table = dx.table(draws=50)
    assert ((table.low < table.posterior) & (table.posterior < table.high)).all()


def problems(edit):
    return [str(p) for p in read_knowledge(edit.folder)[1]]


def lines(text, edit):
    places = edit.lines()
    return re.sub(r"<(\w+)>", lambda m: str(places[m[1]]), text)


@pytest.mark.parametrize("row", [row for row in ROWS if row != "central_ankle"])
def test_what_follows_from_a_row_of_a_syndrome_that_cannot_be_read_is_held_back(row, with_syndrome):
    """Of the findings of the syndrome two are left, the least that there may be."""
    with_syndrome.drop("studies.csv", "central_ankle")
    assert problems(with_syndrome) == []
    with_syndrome.cell("studies.csv", row, "value", "?")
    line = with_syndrome.lines()[row]
    assert problems(with_syndrome) == [f"studies.csv:{line}.value: got '?', expected a number"]


DEFECTS = {
    "more than the studies say": (
        lambda e: e.cell("studies.csv", "link_stroke_brisk_reflexes", "value", "0.1"),
        "studies.csv:<link_stroke_brisk_reflexes>.value: link:stroke:brisk_reflexes is 0.1, but the syndromes of stroke alone "
        "bring 0.523: lower what links the cause to the syndrome or the syndrome to the finding, or mend the row",
    ),
    "more than the leak": (
        lambda e: e.cell("studies.csv", "central_signs_alone", "value", "0.06"),
        "studies.csv:<leak_hand_weakness>.value: leak:hand_weakness is 0.02, syndromes without a cause alone bring 0.0294",
    ),
    "not above its leak": (
        lambda e: e.cell("studies.csv", "myopathy_central", "value", "0.01"),
        "studies.csv:<myopathy_central>.value: link:myopathy:central_signs is 0.01, not above the leak 0.01 of central_signs: "
        "a noisy-OR cause cannot lower a finding; drop the row, or mend the leak",
    ),
    "no leak": (
        lambda e: e.drop("studies.csv", "central_signs_alone"),
        "syndromes.csv:<central_signs>.id: central_signs has no leak: studies.csv needs a row "
        "without a group: false_positive_rate, specificity or population_frequency",
    ),
    "one finding": (
        lambda e: e.drop("studies.csv", "central_brisk", "central_hand"),
        "syndromes.csv:<central_signs>.id: got 2 causes and 1 findings of central_signs, expected 1 or more and 2 or more",
    ),
    "a level": (
        lambda e: add_row(e, "central_sudden", "central_signs", "sudden_onset", 0.9),
        "studies.csv:<central_sudden>.finding: got the graded finding 'sudden_onset' of the syndrome central_signs; link its "
        "levels to causes",
    ),
    "a syndrome of a syndrome": (
        lambda e: add_row(e, "odd", "central_signs", "central_signs", 0.9),
        "studies.csv:<odd>.finding: got the syndrome 'central_signs', but central_signs is one itself",
    ),
    "a group": (
        lambda e: e.copy("studies.csv", "central_signs_alone", id="odd", group="age_75_plus"),
        "studies.csv:<odd>.group: got 'age_75_plus', the frequency of a syndrome depends on nothing",
    ),
    "a prior": (
        lambda e: e.copy("studies.csv", "prior_neuropathy", id="odd", cause="central_signs"),
        "studies.csv:<odd>.cause: unknown cause 'central_signs'",
    ),
    "a name twice": (
        lambda e: e.copy("findings.csv", "tremor", id="central_signs", label="Central signs", aliases=""),
        "findings.csv:14.id: got 'central_signs', which is the id of syndromes.csv:2",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_reported_in_exact_words(name, with_syndrome):
    change, expected = DEFECTS[name]
    change(with_syndrome)
    assert lines(expected, with_syndrome) in problems(with_syndrome)


def test_a_little_less_than_the_syndrome_brings_is_chance(with_syndrome):
    """0.45 from a cohort: its 95 % quantile lies above 0.52. The direct link is zero then."""
    with_syndrome.cell("studies.csv", "link_stroke_brisk_reflexes", "value", "0.45")
    assert problems(with_syndrome) == []
    model = ddx.load(with_syndrome.folder)
    net = certain(model, "stroke")
    value = {p.id: p.value for p in model.knowledge.parameters.values()}
    total = brought(value, model.knowledge.syndromes, "stroke", "brisk_reflexes")
    np.testing.assert_allclose(probability(net, brisk_reflexes=1), total, rtol=1e-12)


def test_what_syndromes_bring_by_hand():
    value = {
        "leak:f": 0.1, "leak:s": 0.2, "link:c:s": 0.6, "link:s:f": 0.55,
    }  # fmt: skip
    # v = (0.55 - 0.1) / 0.9 = 0.5; direct leak: 0.9 / (1 - 0.2 * 0.5) = 1, so nothing but the syndrome brings the finding.
    assert brought(value, ["s"], "c", "f") == pytest.approx(0.3, abs=1e-15)
    assert brought(value, ["s"], "other", "f") == pytest.approx(0.1, abs=1e-15)
    assert brought_without_cause(value, ["s"], "f") == pytest.approx(0.1, abs=1e-15)
    assert brought(value, [], "c", "f") is None


def test_simulated_patients_have_syndromes(with_syndrome):
    """Of simulated strokes, as many show both findings as the network says."""
    from ddx import validation

    kb = load_knowledge(with_syndrome.folder)
    model = ddx.Model(kb, "balanced")
    cases = validation.simulate(model, 20_000, seed=0, observed=1.0)
    alone = cases[cases.final_diagnosis == "stroke"]
    both = alone.present.str.contains("brisk_reflexes") & alone.present.str.contains("fatigue")
    brisk_and_ankle = alone.present.str.contains("brisk_reflexes") & alone.present.str.contains("absent_ankle_jerks")
    net = certain(model, "stroke")
    for seen, findings in ((both, ("brisk_reflexes", "fatigue")), (brisk_and_ankle, ("brisk_reflexes", "absent_ankle_jerks"))):
        band = cases.loc[alone.index, "age"].ge(75)
        expected = [
            float(
                np.exp(net.posterior(layered_evidence(net, [dict.fromkeys(findings, 1) | {"age_band": age}])).log_evidence[0])
            )
            for age in ("age_18_44", "age_75_plus")
        ]
        mean = expected[0] + (expected[1] - expected[0]) * band.mean()
        assert seen.mean() == pytest.approx(mean, abs=4.0 * np.sqrt(mean * (1.0 - mean) / len(alone)))
