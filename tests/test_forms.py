"""The experiment with forms: its recursion against enumeration and against the engine, and what its files hold."""

from __future__ import annotations

import itertools
import runpy
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

import ddx
from ddx.knowledge.graded import continuation

FOLDER = Path(__file__).parents[1] / "experiments" / "forms"
MODULE = runpy.run_path(str(FOLDER / "run.py"))


@pytest.mark.parametrize("seed", range(4))
def test_a_case_equals_the_sum_over_causes_and_forms(seed):
    rng = np.random.default_rng(seed)
    prior, leak = rng.uniform(0.05, 0.5, 3), rng.uniform(0.01, 0.3, 5)
    causes = [(rng.dirichlet(np.ones(v)), rng.uniform(0.0, 0.9, (v, 5))) for v in (1, 3, 2)]
    finding = np.array([1.0, 0.0, np.nan, 1.0, 1.0])
    joint, total = np.zeros(3), 0.0
    # 0: the cause is absent; v: it is there in its form v.
    for states in itertools.product(*(range(len(share) + 1) for share, _ in causes)):
        p, silent = 1.0, 1.0 - leak
        for k, v in enumerate(states):
            share, link = causes[k]
            p *= prior[k] * share[v - 1] if v else 1.0 - prior[k]
            silent = silent * (1.0 - link[v - 1]) if v else silent
        p *= np.prod(np.where(finding == 1.0, 1.0 - silent, np.where(finding == 0.0, silent, 1.0)))
        joint += p * np.array([v > 0 for v in states])
        total += p
    found, none, some = MODULE["_one"](prior, leak, causes, finding)
    assert none + some == pytest.approx(total, rel=1e-13)
    silent = np.where(finding == 1.0, leak, np.where(finding == 0.0, 1.0 - leak, 1.0)).prod()
    assert none == pytest.approx((1.0 - prior).prod() * silent, rel=1e-13)
    assert found == pytest.approx(joint, rel=1e-13)


@pytest.mark.parametrize("as_counted", [True, False])
def test_without_forms_it_is_the_engine_without_syndromes(limb, as_counted):
    limb = limb if as_counted else MODULE["independent"](limb)
    assert (limb.network.none_weight < 1.0) == as_counted
    factors = [c.id for c in limb.knowledge.risk_factors]
    known = dict.fromkeys(factors, 0) | {"diabetes": 1}
    findings = {"hand_weakness": [1, 0], "unilateral_weakness": [1, 0], "subacute_onset": [1, 1], "hyperreflexia": [0, 1]}
    frame = pd.DataFrame({"age": [42, 80], "sex": ["female", "male"], "final_diagnosis": "stroke", **findings, **known}).astype(
        str
    )
    cases = MODULE["Cases"].of(limb, frame)
    assert cases.truth.sum(axis=1).tolist() == [1, 1]
    found = MODULE["posterior"](limb, cases.evidence, MODULE["links"](limb, {}))
    assert found == pytest.approx(limb.network.without_syndromes().posterior(cases.evidence).marginal, rel=1e-10)


@pytest.mark.parametrize("as_counted", [True, False])
def test_in_the_engine_it_is_the_engine_where_causes_have_no_forms(limb, as_counted):
    frame = pd.DataFrame({"age": ["42", ""], "sex": ["female", "male"], "final_diagnosis": "stroke", "hand_weakness": "1"})
    limb = limb if as_counted else MODULE["independent"](limb)
    evidence = MODULE["Cases"].of(limb, frame).evidence
    found = MODULE["in_the_engine"](limb, evidence, MODULE["links"](limb, {}))
    assert found == pytest.approx(limb.network.without_syndromes().posterior(evidence).marginal, rel=1e-9)


def test_forms_of_a_cause_share_its_prior(limb):
    forms = {"stroke": MODULE["Forms"](np.array([0.25, 0.75]), {"hand_weakness": np.array([0.9, 0.2])})}
    limb = MODULE["independent"](limb)
    own = MODULE["links"](limb, forms)
    nothing = pd.DataFrame({"age": ["42"], "sex": ["female"], "final_diagnosis": "stroke", "diabetes": "0"})
    evidence = MODULE["Cases"].of(limb, nothing).evidence
    found = MODULE["in_the_engine"](limb, evidence, own)
    assert found == pytest.approx(limb.network.posterior(evidence).marginal, rel=1e-2)


def test_forms_may_keep_the_frequencies_of_the_base(limb):
    forms = MODULE["read_forms"]()
    assert list(forms) == sorted(limb.knowledge.causes)
    for cause, own in forms.items():
        assert own.share.sum() == pytest.approx(1.0)
        kept = MODULE["keep_totals"](limb.knowledge, cause, own)
        for finding, p in kept.frequency.items():
            total = limb.knowledge.means[f"link:{cause}:{finding}"]
            assert own.share @ p == pytest.approx(min(max(total, 0.002), 0.995), abs=1e-9)
            apart = logit(p) - logit(own.frequency[finding].clip(0.002, 0.995))
            assert apart == pytest.approx(np.full(len(p), apart[0]), abs=1e-9)


def test_links_of_forms_are_what_lifts_the_leak_to_their_frequency(limb):
    forms = {
        "stroke": MODULE["Forms"](
            np.array([0.25, 0.75]), {"dysarthria": np.array([0.9, 0.2]), "sudden_onset": np.array([0.5, 0.95])}
        )
    }
    own = MODULE["links"](limb, forms)
    net, kb = limb.network, limb.knowledge
    share, weights = own.causes[net.causes.index("stroke")]
    leak, at = kb.means["leak:dysarthria"], net.findings.index("dysarthria")
    assert share.tolist() == [0.25, 0.75]
    assert 1.0 - (1.0 - leak) * (1.0 - weights[:, at]) == pytest.approx([0.9, 0.2])
    levels = kb.graded["onset"]
    reached = continuation([*(kb.means[f"link:stroke:{f}"] for f in levels[:-1]), 0.5])
    without = continuation([kb.means[f"leak:{f}"] for f in levels])
    last = net.findings.index(levels[-1])
    assert 1.0 - (1.0 - without[-1]) * (1.0 - weights[0, last]) == pytest.approx(reached[-1])
    np.testing.assert_array_equal(own.leak, net.without_syndromes().leak)


def test_the_files_name_forms_and_findings_that_limb_has(limb):
    forms = pd.read_csv(FOLDER / "forms.csv")
    frequencies = pd.read_csv(FOLDER / "frequencies.csv")
    assert forms.groupby("cause")["form"].nunique().between(2, 6).all()
    assert set(frequencies["finding"]) <= set(limb.knowledge.findings)
    count = forms["cause"].value_counts()
    for cause, text in zip(frequencies["cause"], frequencies["frequencies"], strict=True):
        values = [float(p) for p in text.split(";")]
        assert len(values) == count[cause]
        assert all(0.0 < p < 1.0 for p in values)


def test_an_unknown_cause_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ddx.UsageError) as caught:
        MODULE["work"](Namespace(cases=None, cause=["strok"], out=tmp_path / "out"))
    assert str(caught.value) == "--cause: no patients of 'strok'; nearest: stroke"
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_textbook_patients(tmp_path):
    MODULE["work"](Namespace(cases=None, cause=["stroke"], out=tmp_path))
    result = pd.read_csv(tmp_path / "results.csv")
    assert set(result["cases"]) == {"textbook"}
    assert (result["items"] == 3).all()
    assert result["network"].tolist()[:3] == ["as shipped", "as shipped, but causes independent", "no forms"]
    assert (result["top_1"] <= result["top_3"]).all()
    assert "270 forms of 49 causes." in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
