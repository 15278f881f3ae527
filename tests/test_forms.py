"""Causes that come in forms: against sums over everything, in a knowledge base, and everywhere that uses a network."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from networks import SMALL_CAUSES, assert_bits, layered_evidence, small_knowledge
from test_admission import CASES

import ddx
from ddx import sensitivity, validation
from ddx.draws import posterior_draws, posterior_under
from ddx.errors import KnowledgeError
from ddx.forms import Columns, columns, in_forms, levels_in_forms
from ddx.inference import EvidenceTooLarge, Network, bounds, gradient, linear, posterior, single_cause
from ddx.inference.rows import expit
from ddx.knowledge import read_knowledge
from ddx.knowledge.schema import Form, FormFinding
from ddx.knowledge.syndromes import brought
from ddx.network import build_network
from ddx.sensitivity.case import relevant
from ddx.sensitivity.flips import distance

FOLDER = Path(__file__).parents[1] / "experiments" / "forms"
MODULE = runpy.run_path(str(FOLDER / "run.py"))
READERS = runpy.run_path(str(FOLDER / "readers.py"))


# --- the core ------------------------------------------------------------------------------------------------------


def enumerated(network, prior, effect, finding, frequency):
    """P(cause), P(no cause) of a case, P(context) and P(evidence) by summing over context and forms."""
    group, share = network.cause, network.share
    causes, total, none, joint = int(group[-1]) + 1, 0.0, 0.0, 0.0
    joint, context = np.zeros(causes), np.zeros(len(frequency))
    n_0 = observed = 0.0
    for x in itertools.product((0, 1), repeat=len(frequency)):
        of_x = np.prod([p if on else 1.0 - p for p, on in zip(frequency, x, strict=True)])
        odds = prior / (1.0 - prior) * np.exp(effect @ np.array(x))
        present = 1.0 - (1.0 - odds / (1.0 + odds)) ** share
        for forms in itertools.product((0, 1), repeat=len(group)):
            there = np.array(forms)
            weight = of_x * np.prod(np.where(there, present, 1.0 - present)) * (1.0 if there.any() else network.none_weight)
            shown = 1.0 - (1.0 - network.leak) * np.prod((1.0 - network.link) ** there, axis=1)
            said = np.where(np.isnan(finding), 1.0, finding * shown + (1.0 - finding) * (1.0 - shown)).prod()
            n_0 += weight
            observed += weight * said
            none += weight * said * (not there.any())
            joint += weight * said * np.array([there[group == k].any() for k in range(causes)])
            context += weight * said * np.array(x)
    total = observed
    return joint / total, none / total, context / total, np.log(total / n_0)


@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
@pytest.mark.parametrize("seed", range(8))
def test_posteriors_are_sums_over_all_forms(seed, kernel):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, 3)
    group, n_context = np.repeat(np.arange(3), sizes), seed % 3
    share = np.concatenate([rng.dirichlet(np.ones(v)) for v in sizes])
    prior = rng.uniform(0.02, 0.6, 3)[group]
    effect = (rng.normal(0.0, 1.0, (3, n_context)) * (rng.random((3, n_context)) < 0.6))[group]
    frequency = rng.uniform(0.1, 0.9, n_context)
    link = rng.uniform(0.0, 0.95, (6, len(group))) * (rng.random((6, len(group))) < 0.6)
    network = Network(
        *(prior, link, rng.uniform(0.01, 0.2, 6)),
        context_log_odds=effect,
        context_prior=frequency,
        none_weight=(1.0, 0.3)[seed % 2],
        cause=group,
        share=share,
    )
    findings = rng.choice([0.0, 1.0, np.nan, 0.3], (12, 6), p=[0.3, 0.4, 0.2, 0.1])
    found = posterior(network, findings, kernel=kernel)
    assert found.marginal.shape == (12, 3)
    for i, finding in enumerate(findings):
        marginal, none, context, log_evidence = enumerated(network, prior, effect, finding, frequency)
        np.testing.assert_allclose(found.marginal[i], marginal, rtol=1e-11)
        np.testing.assert_allclose(found.none[i], none, rtol=1e-9)
        np.testing.assert_allclose(found.context[i], context, rtol=1e-11)
        np.testing.assert_allclose(found.log_evidence[i], log_evidence, rtol=1e-11, atol=1e-12)


def test_both_kernels_have_the_same_bits():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(6), 3)
    link = rng.uniform(0.05, 0.9, (14, 18)) * (rng.random((14, 18)) < 0.5)
    share = rng.dirichlet(np.ones(3), 6).ravel()
    network = Network(rng.uniform(0.01, 0.3, 6)[group], link, rng.uniform(0.01, 0.1, 14), cause=group, share=share)
    findings = rng.choice([0.0, 1.0, np.nan], (300, 14), p=[0.3, 0.4, 0.3])
    assert_bits(posterior(network, findings, kernel="numpy"), posterior(network, findings, kernel="compiled"))


def test_a_single_form_is_the_cause():
    rng = np.random.default_rng(2)
    arrays = rng.uniform(0.05, 0.4, 4), rng.uniform(0.0, 0.9, (5, 4)), rng.uniform(0.01, 0.2, 5)
    findings = rng.choice([0.0, 1.0, np.nan], (40, 5))
    plain = posterior(Network(*arrays), findings)
    assert_bits(posterior(Network(*arrays, cause=np.arange(4), share=np.ones(4)), findings), plain)
    # A form with the findings of the cause, beside others like it, is nothing new.
    twice = [arrays[0][[0, 0, 1, 2, 3]], arrays[1][:, [0, 0, 1, 2, 3]], arrays[2]]
    halved = posterior(Network(*twice, cause=[0, 0, 1, 2, 3], share=[1e-12, 1.0 - 1e-12, 1, 1, 1]), findings)
    np.testing.assert_allclose(halved.marginal, plain.marginal, rtol=1e-9)


@pytest.mark.parametrize("method", [gradient, linear, bounds, single_cause])
def test_what_has_no_forms_refuses_them(method):
    network = Network([0.1, 0.1], [[0.5, 0.2]], [0.1], cause=[0, 0], share=[0.5, 0.5])
    message = f"^{method.__name__}: got causes that come in forms, for which there are only exact posteriors$"
    with pytest.raises(ValueError, match=message):
        method(network, [[1.0]], **({"targets": [0]} if method is linear else {}))


def test_a_case_that_is_too_large_is_refused_whatever_the_method():
    """63 findings of one cause, nine in each of seven forms: side by side they need a state of all findings."""
    link = np.zeros((63, 8))
    link[np.arange(63), np.arange(63) // 9] = 0.5
    network = Network([0.1] * 7 + [0.2], link, np.full(63, 0.1), cause=[0] * 7 + [1], share=[1 / 7] * 7 + [1.0])
    few = np.full(63, np.nan)
    few[[0, 10, 20]] = 1.0
    marginal = enumerated(network, network.prior, np.zeros((8, 0)), few, [])[0]
    for kernel, method in itertools.product(("numpy", "compiled"), ("exact", "auto")):
        with pytest.raises(EvidenceTooLarge, match=r"^case 1: 63 present or uncertain findings need \S+ GiB,") as caught:
            posterior(network, [few, np.ones(63)], kernel=kernel, method=method)
        assert caught.value.rows == (1,)
        found = posterior(network, [few], kernel=kernel, method=method)
        np.testing.assert_allclose(found.marginal[0], marginal, rtol=1e-12)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"cause": [0, 0, 1]}, "cause and share come together: give both or neither"),
        ({"share": [1.0, 1.0, 1.0]}, "cause and share come together: give both or neither"),
        ({"cause": [0, 0], "share": [0.5, 0.5, 1.0]}, "cause: got shape (2,), expected (K,) with K = 3, the causes of link"),
        ({"cause": [0, 0, 1], "share": [1.0]}, "share: got shape (1,), expected (K,) with K = 3, the causes of link"),
        *(
            (
                {"cause": cause, "share": [0.5, 0.5, 1.0]},
                f"cause: got {cause}, expected whole numbers from 0, each as before or one more",
            )
            for cause in ([0, 1, 0], [1, 0, 0], [0, 0, 2], [1, 1, 2], [0.0, 0.0, 1.0])
        ),
        *(
            (
                {"cause": [0, 0, 1], "share": share},
                f"share: got {share}, expected shares above 0 that add up to 1 in every cause",
            )
            for share in ([0.5, 0.6, 1.0], [0.0, 1.0, 1.0], [0.5, 0.5, 0.9])
        ),
        ({"cause": [0, 0, 1], "share": [-0.5, 1.5, 1.0]}, "share[0]: got -0.5, expected a probability in [0, 1]"),
        ({"cause": [0, 0, 1], "share": [np.nan, 0.5, 1.0]}, "share[0]: got nan, expected a probability in [0, 1]"),
        (
            {"cause": [0, 1, 1], "share": [1.0, 0.5, 0.5]},
            "prior: forms of one cause differ; it belongs to the cause, and share divides it among them",
        ),
        (
            {
                "cause": [0, 0, 1],
                "share": [0.5, 0.5, 1.0],
                "context_log_odds": [[0.0], [1.0], [0.0]],
                "context_prior": [0.5],
            },
            "context_log_odds: forms of one cause differ; it belongs to the cause, and share divides it among them",
        ),
    ],
)
def test_wrong_forms_are_told(arrays, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Network([0.1, 0.1, 0.2], [[0.5, 0.2, 0.1]], [0.1], **arrays)


# --- a small knowledge base ---------------------------------------------------------------------------------------------------

FORMS = {"hot": ("flu", 0.7), "cold": ("flu", 0.3), "brief": ("gout", 0.2), "long": ("gout", 0.5), "odd": ("gout", 0.3)}
FREQUENCIES = {("flu", "fever"): (0.95, 0.2), ("flu", "weakness"): (0.1, 0.6), ("gout", "swelling"): (0.99, 0.9, 0.3)}


@pytest.fixture(scope="module")
def small():
    forms = {name: Form(name, cause, share, "") for name, (cause, share) in FORMS.items()}
    rows = {f"{c}_{f}": FormFinding(f"{c}_{f}", c, f, p) for (c, f), p in FREQUENCIES.items()}
    return replace(
        small_knowledge(),
        forms=MappingProxyType(forms),
        form_findings=MappingProxyType(rows),
        settings_with_forms=("clinic",),
        causes_per_patient=MappingProxyType({"clinic": 1.04}),
        risk_factors_reported=MappingProxyType({"clinic": 0.6}),
    )


def test_causes_keep_their_priors_and_findings_their_frequencies(small):
    net, plain = build_network(small, "clinic"), build_network(replace(small, settings_with_forms=()), "clinic")
    own = columns(small)
    assert own.cause.tolist() == [0, 0, 1, 2, 2, 2]
    assert own.name == ("hot", "cold", "", "brief", "long", "odd")
    for case in ({}, {"age_band": "old", "diabetes": 1}, {"sex": "female", "smoking": 1}):
        expected = plain.posterior(layered_evidence(plain, [case]))
        np.testing.assert_allclose(net.posterior(layered_evidence(net, [case])).marginal, expected.marginal, rtol=1e-11)
    base = plain.leak[1]  # of all ages but the old
    for finding, cause in (("fever", "flu"), ("weakness", "flu"), ("swelling", "gout")):
        f, k = net.findings.index(finding), SMALL_CAUSES.index(cause)
        here = np.flatnonzero(own.cause == k)
        total = 1.0 - (1.0 - base[f]) * (1.0 - net.link[f, here])
        assert own.share[here] @ total == pytest.approx(small.means[f"link:{cause}:{finding}"], rel=1e-12)
        shift = np.log(total / (1.0 - total)) - [np.log(p / (1.0 - p)) for p in FREQUENCIES[cause, finding]]
        np.testing.assert_allclose(shift, shift[0], rtol=1e-9, atol=1e-12)


def test_the_core_gets_what_the_knowledge_base_says(small):
    """The network of one stratum with known risk factors, by the enumeration above."""
    net = build_network(small, "clinic")
    case = {"fever": 1, "weakness": 0, "swelling": 0.3, "age_band": "old", "sex": "male"}
    case |= {"smoking": 1, "insulin": 0, "diabetes": 1}
    found = net.posterior(layered_evidence(net, [case]))
    x = np.array([case[factor] for factor in net.risk_factors])
    odds = np.exp(net.log_odds[net.ages.index("old"), net.sexes.index("male")] + net.context_log_odds @ x)
    prior = (odds / (1.0 + odds))[net.forms.cause]
    rows = [net.findings.index(f) for f in ("fever", "weakness", "swelling")]
    core = Network(
        *(prior, net.link[rows], net.leak[net.ages.index("old")][rows]),
        none_weight=net.none_weight,
        cause=net.forms.cause,
        share=net.forms.share,
    )
    marginal, none, _, log_evidence = enumerated(core, prior, np.zeros((6, 0)), np.array([1.0, 0.0, 0.3]), [])
    np.testing.assert_allclose(found.marginal[0], marginal, rtol=1e-10)
    np.testing.assert_allclose(found.none[0], none, rtol=1e-9)
    np.testing.assert_allclose(found.log_evidence[0], log_evidence, rtol=1e-9)


def test_settings_without_forms_keep_every_bit(small):
    plain = replace(small, forms=MappingProxyType({}), form_findings=MappingProxyType({}))
    for setting in ("general", "balanced"):
        net, same = build_network(small, setting), build_network(plain, setting)
        assert net.forms is None
        assert_bits(net.posterior(layered_evidence(net, CASES)), same.posterior(layered_evidence(same, CASES)))


def test_frequencies_of_many_sets_have_the_means_that_they_were_given(small):
    total = np.random.default_rng(0).uniform(1e-4, 0.999, (50, 2, 3))
    total[:, 1, 0] = 0.0
    found = in_forms(small, total, np.zeros((50, 2)), ["fever", "weakness"])
    own = columns(small)
    for k in range(3):
        here = own.cause == k
        np.testing.assert_allclose(found[:, :, here] @ own.share[here], total[:, :, k], rtol=1e-12, atol=1e-15)
    assert (found[:, 1, own.cause == 0] == 0.0).all()


def test_no_form_shows_a_finding_more_rarely_than_people_without_the_cause(small):
    total, least = np.random.default_rng(0).uniform(1e-4, 0.999, (50, 2, 3)), np.linspace(0.0, 0.6, 100).reshape(50, 2)
    found, own = in_forms(small, total, least, ["fever", "weakness"]), columns(small)
    free = in_forms(small, total, np.zeros((50, 2)), ["fever", "weakness"])
    lifted = False
    for row in (row for row in small.form_findings.values() if row.finding in ("fever", "weakness")):
        f, k = ["fever", "weakness"].index(row.finding), list(small.causes).index(row.cause)
        here = own.cause == k
        assert (found[:, f, here] >= least[:, f, None]).all()
        mean = np.maximum(total[:, f, k], least[:, f])
        np.testing.assert_allclose(found[:, f, here] @ own.share[here], mean, rtol=1e-12)
        rare = (free[:, f, here] < least[:, f, None]) & (total[:, f, k] > least[:, f])[:, None]
        np.testing.assert_array_equal(found[:, f, here][rare], np.broadcast_to(least[:, f, None], rare.shape)[rare])
        lifted = lifted or bool(rare.any())
    assert lifted


@pytest.fixture(scope="module")
def clinic(tiny):
    """A tiny model in which two causes come in forms."""
    kb = tiny.knowledge
    forms, rows = {}, {}
    for cause in list(kb.causes)[:2]:
        forms |= {f"{cause}_{x}": Form(f"{cause}_{x}", cause, share, "") for x, share in (("a", 0.6), ("b", 0.4))}
        links = [name.split(":")[2] for name in kb.parameters if name.startswith(f"link:{cause}:")]
        own = [name for name in links if name in kb.findings]
        rows |= {
            f"{cause}_{name}": FormFinding("", cause, name, (0.9, 0.2) if i % 2 else (0.1, 0.7)) for i, name in enumerate(own)
        }
    found = replace(kb, forms=MappingProxyType(forms), form_findings=MappingProxyType(rows), settings_with_forms=("clinic",))
    return ddx.Model(found, "clinic")


def test_every_parameter_moves_posteriors_as_in_networks_built_anew(clinic):
    found = clinic.diagnose(present=["tremor", "numbness"], absent=["fatigue"], sex="female")
    moves = [(p.id, 0.8 * p.value) for p in clinic.knowledge.parameters.values()]
    rows = posterior_under(clinic, found.evidence, [dict([move]) for move in moves])
    functions = sensitivity.functions.Functions(clinic, found).under(*zip(*moves, strict=True))
    np.testing.assert_allclose(functions, rows, rtol=1e-14)
    for move, row in zip(moves, rows, strict=True):
        anew = build_network(clinic.knowledge, "clinic", dict([move])).posterior(found.evidence).marginal[0]
        np.testing.assert_allclose(row, anew, rtol=1e-10, atol=1e-15, err_msg=str(move))


def test_sensitivity_and_draws_of_a_case(limb):
    model = limb.in_setting("balanced")
    case = {"present": ["ptosis", "diplopia"], "absent": ["neck_pain"], "age": 34, "sex": "female"}
    table = sensitivity.one_way(model, case, "myasthenia_gravis", ["link:myasthenia_gravis:ptosis", "leak:ptosis"])
    assert (table["swing"] > 0.0).all()
    message = "link:myasthenia_gravis:ptosis: the posterior is no ratio of linear functions of it; use sensitivity.curve"
    with pytest.raises(ddx.UsageError, match=f"^{re.escape(message)}$"):
        sensitivity.function(model, case, "myasthenia_gravis", "link:myasthenia_gravis:ptosis")
    for parameter in ("link:myasthenia_gravis:ptosis", "prior:myasthenia_gravis", "or:myasthenia_gravis:sex_female"):
        assert np.isnan(distance(model, parameter, 0.5))
    evidence = model.diagnose(**case).evidence
    draws = posterior_draws(model, evidence, 20, seed=1)
    assert draws.shape == (20, 1, 49)
    assert 0.5 < draws[:, 0, model.network.causes.index("myasthenia_gravis")].mean() <= 1.0


def test_parameters_left_out_of_a_case_change_nothing(limb):
    """What syndromes bring counts in forms too, so that theirs are not left out."""
    model = limb.in_setting("balanced")
    evidence = model.diagnose(present=["clonus", "ataxia"], age=60, sex="male").evidence
    kept = set(relevant(model, evidence))
    assert {"link:cerebellar_ataxia:upper_motor_neuron", "link:upper_motor_neuron:clonus", "leak:upper_motor_neuron"} <= kept
    left = [p for p in model.knowledge.parameters.values() if p.id not in kept and p.id.startswith(("link:", "leak:"))]
    about_syndromes = [p for p in left if set(p.id.split(":")[1:]) & model.knowledge.syndromes.keys()]
    moves = [{p.id: 0.7 * p.value} for p in [*about_syndromes[::4], *left[::150]]]
    now = model.network.posterior(evidence).marginal[0]
    np.testing.assert_allclose(posterior_under(model, evidence, moves), np.tile(now, (len(moves), 1)), rtol=1e-12)
    moved = posterior_under(model, evidence, [{"link:cerebellar_ataxia:upper_motor_neuron": 0.1}])[0]
    assert np.abs(moved - now).max() > 0.01


def test_posteriors_of_simulated_patients_are_calibrated(clinic):
    cases = validation.simulate(clinic, 30_000, seed=3, observed={"symptom": 0.7, "sign": 0.7, "context": 0.5})
    posterior_of = clinic.score(cases.drop(columns=["final_diagnosis"]))
    truth = cases["final_diagnosis"].str.split(";")
    for cause in clinic.network.causes:
        has, p = truth.map(lambda ids, cause=cause: cause in ids), posterior_of[cause]
        for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 1.0)):
            there = p.between(low, high).to_numpy()
            if there.sum() > 200:
                mean = p.to_numpy()[there].mean()
                assert abs(mean - has.to_numpy()[there].mean()) < 4.5 * np.sqrt(mean * (1.0 - mean) / there.sum())


def test_pgmpy_has_the_forms_as_nodes(small):
    from pgmpy.inference import VariableElimination

    kb = replace(small, risk_factors_reported=MappingProxyType({}))
    model = ddx.Model(kb, "clinic")
    network = model.to_pgmpy()
    assert {"hot", "cold", "brief", "long", "odd"} <= set(network.nodes())
    engine = VariableElimination(network)
    for case in ({"fever": 1}, {"fever": 0, "weakness": 1, "swelling": 1}, {"swelling": 1, "diabetes": 1}):
        found = model.network.posterior(layered_evidence(model.network, [case])).marginal[0]
        hard = {"patient": "present"} | {name: ("absent", "present")[value] for name, value in case.items()}
        for cause, right in zip(SMALL_CAUSES, found, strict=True):
            answer = engine.query([cause], hard, show_progress=False)
            assert answer.get_value(**{cause: "present"}) == pytest.approx(right, rel=1e-10)


def test_levels_have_their_totals_whatever_these_are():
    """Fitted to random tables, with levels that add up to more than there is room for, and none at all."""
    rng = np.random.default_rng(5)
    own = Columns(np.array([0, 0, 0, 1, 2, 2]), np.array([0.5, 0.3, 0.2, 1.0, 0.4, 0.6]), ("",) * 6)
    pattern = np.exp(rng.normal(0.0, 2.0, (4, 6)))
    pattern[3] = 1.0
    total = rng.dirichlet([0.4, 0.4, 0.4, 0.4], (40, 3)).transpose(0, 2, 1)[:, :3]
    total[0] *= 1.2 / total[0].sum(axis=0)
    total[1, :, 0] = 0.0
    total[2, 0] = 0.0
    found = levels_in_forms(pattern, own, total)
    means = np.add.reduceat(found * own.share, [0, 3, 4], axis=2)
    scaled = total * np.minimum(1.0, 0.99 / np.maximum(total.sum(axis=1, keepdims=True), 1e-300))
    np.testing.assert_allclose(means, scaled, rtol=0.0, atol=1e-9)
    assert (found.sum(axis=1) <= 0.99 + 1e-9).all()
    assert (found[1][:, :3] == 0.0).all()
    none = 0.99 - found[5].sum(axis=0)
    odds = found[5] / none / pattern[:3]  # in every cause the same factor for a level, whatever the form
    for here in ([0, 1, 2], [4, 5]):
        ratio = odds[:, here] / odds[:1, here]
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-6)


# --- files ---------------------------------------------------------------------------------------------------------


def write(folder, forms, findings, settings='["clinic"]'):
    (folder / "forms.csv").write_text("id,cause,share,description\n" + "".join(f"{line}\n" for line in forms))
    (folder / "form_findings.csv").write_text("id,cause,finding,frequencies\n" + "".join(f"{line}\n" for line in findings))
    kb = folder / "kb.toml"
    text = kb.read_text(encoding="utf-8")
    kb.write_text(f"settings_with_forms = {settings}\n{text}", encoding="utf-8")
    return [str(problem) for problem in read_knowledge(folder)[1]]


def test_a_base_with_forms_is_read(tiny_kb):
    before = ddx.load(tiny_kb).knowledge
    finding = next(name for name in before.parameters if name.startswith("link:stroke:")).split(":")[2]
    assert write(tiny_kb, ["a,stroke,0.6,One", "b,stroke,0.4,Another"], [f"f1,stroke,{finding},0.9;0.2"]) == []
    model = ddx.load(tiny_kb, "clinic")
    assert model.knowledge.digest != before.digest
    assert model.network.forms.name.count("") == len(model.network.causes) - 1
    assert model.diagnose(present=["tremor"]).posterior.notna().all()
    assert ddx.load(tiny_kb, "general").network.forms is None


def test_problems_of_forms_are_reported(tiny_kb):
    forms = ["a,strok,0.6,One", "b,stroke,0.4,Another", "c,stroke,1.5,Third"]
    found = write(tiny_kb, forms, ["f1,neuropathy,tremor,0.9", "f2,stroke,tremorr,0.9;1.5"])
    assert "forms.csv:2.cause: unknown cause 'strok'; nearest: stroke" in found
    assert "forms.csv:4.share: got 1.5, expected a share above 0, at most 1" in found
    assert "forms.csv:4.share: the shares of the forms of stroke add up to 1.9, expected 0.98 to 1.02" in found
    assert any(
        line.startswith("form_findings.csv:2.cause: got 'neuropathy', which has no forms in forms.csv") for line in found
    )
    assert "form_findings.csv:3.finding: unknown finding 'tremorr'; nearest: tremor" in found
    assert "form_findings.csv:3.frequencies: got 1.5, expected a frequency between 0 and 1" in found
    assert not any("forms" in line and "numbers" in line for line in found)  # while a cause is misspelt


def test_ids_of_forms_are_those_of_nothing_else(tiny_kb):
    found = write(tiny_kb, ["stroke,stroke,0.6,One", "tremor,stroke,0.4,Another"], [])
    for line, name, file in ((2, "stroke", "causes.csv"), (3, "tremor", "findings.csv")):
        assert any(re.match(rf"forms\.csv:{line}\.id: got '{name}', which is the id of {file}:\d+$", text) for text in found)


def test_a_setting_with_forms_needs_some(tiny_kb):
    message = "kb.toml.settings_with_forms: names clinic, and forms.csv has no forms: add them, or take the settings out"
    assert write(tiny_kb, [], []) == [message]


def difference(*arguments):
    command = [sys.executable, "-m", "ddx", "kb", "diff", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_difference_of_forms(tiny_kb, tmp_path):
    finding = next(name for name in ddx.load(tiny_kb).knowledge.parameters if name.startswith("link:stroke:")).split(":")[2]
    other = shutil.copytree(tiny_kb, tmp_path / "other")
    assert write(tiny_kb, ["a,stroke,0.6,One", "b,stroke,0.4,Another"], [f"f1,stroke,{finding},0.9;0.2"], "[]") == []
    assert write(other, ["a,stroke,0.7,One", "c,stroke,0.3,Third"], [f"f1,stroke,{finding},0.9;0.3"]) == []
    out = difference(tiny_kb, other, "--setting", "clinic").splitlines()
    lines = [
        "settings with forms: no setting -> clinic",
        "share of the form a: 0.6 -> 0.7",
        "share of the form b: 0.4 -> not there",
        f"{finding} in the forms of stroke: 0.9;0.2 -> 0.9;0.3",
        "share of the form c: not there -> 0.3",
    ]
    assert [line for line in out if line in lines] == lines
    document = json.loads(difference(tiny_kb, other, "--json"))
    assert document["settings_with_forms"] == {"old": [], "new": ["clinic"]}
    assert document["forms"][1] == {"what": "share of the form b", "old": "0.4", "new": None}


def test_a_table_without_the_other_and_an_unknown_setting_are_reported(tiny_kb):
    assert write(tiny_kb, [], [], '["clinik"]')[0].startswith(
        "kb.toml.settings_with_forms[0]: unknown setting 'clinik'; nearest: clinic"
    )
    (tiny_kb / "forms.csv").unlink()
    kb = tiny_kb / "kb.toml"
    kb.write_text(kb.read_text(encoding="utf-8").replace('["clinik"]', "[]"), encoding="utf-8")
    with pytest.raises(KnowledgeError, match=r"forms\.csv: file is missing"):
        ddx.load(tiny_kb)


def test_forms_of_limb_cover_all_causes(limb):
    kb = limb.knowledge
    assert {form.cause for form in kb.forms.values()} == set(kb.causes)
    assert kb.settings_with_forms == ("balanced",)
    net = limb.in_setting("balanced").network
    assert net.link.shape == (len(kb.findings), len(kb.forms))
    assert ((net.link >= 0.0) & (net.link < 1.0)).all()
    assert expit(net.log_odds).shape[-1] == len(kb.causes)


def age_of_all(kb, net, finding):
    """An age at which a finding has the leak of all ages."""
    return next(
        (i for i, age in enumerate(net.ages) if f"leak:{finding}@{kb.age_bands[kb.band_of_stratum[i]].id}" not in kb.means),
        None,
    )


@pytest.mark.parametrize("reported", [True, False], ids=["as reported", "everybody asked"])
def test_findings_of_limb_are_as_frequent_in_a_cause_as_studies_and_syndromes_make_them(limb, reported):
    """Counted or through syndromes alone: with forms as without, a cause shows what it shows."""
    kb = limb.knowledge if reported else replace(limb.knowledge, background_reported=MappingProxyType({}))
    net, own = build_network(kb, "balanced"), columns(kb)
    ratios = kb.background_reported.get("balanced", {})
    through = least = 0
    for cause, finding in itertools.product(kb.causes, kb.findings):
        f, here = net.findings.index(finding), own.cause == net.causes.index(cause)
        at = age_of_all(kb, net, finding)
        if kb.findings[finding].graded or at is None:
            continue
        leak, ratio = kb.means[f"leak:{finding}"], ratios.get(kb.findings[finding].kind, 1.0)
        assert net.leak[at, f] == pytest.approx(ratio * leak, rel=1e-12)
        said = kb.means.get(f"link:{cause}:{finding}")
        if said is None and any({f"link:{cause}:{s}", f"link:{s}:{finding}"} <= kb.means.keys() for s in kb.syndromes):
            missing = (1.0 - brought(kb.means, kb.syndromes, cause, finding)) / (1.0 - leak)
            said, through = 1.0 - (1.0 - ratio * leak) * missing, through + 1
        shown = own.share[here] @ (1.0 - (1.0 - net.leak[at, f]) * (1.0 - net.link[f, here]))
        if said is None:
            assert (net.link[f, here] == 0.0).all(), (cause, finding)
            continue
        assert shown == pytest.approx(said, rel=1e-9), (cause, finding)
        # No form shows less of it than people without the cause, and then it has no link to that form.
        least += (net.link[f, here] == 0.0).any()
    assert through > 20
    assert least > 50


def test_levels_of_limb_are_as_frequent_in_a_cause_as_studies_say(limb):
    """P(level <= v) of a form is a product over the hazards of the higher levels, of leak and link alike."""
    kb = limb.knowledge
    net, own = limb.in_setting("balanced").network, columns(kb)
    exact = 0
    for levels in kb.graded.values():
        rows, at = [net.findings.index(level) for level in levels], age_of_all(kb, net, levels[0])
        for cause in kb.causes:
            said = np.array([kb.means.get(f"link:{cause}:{level}", 0.0) for level in levels])
            if not said.any():
                continue
            said *= min(1.0, 0.99 / said.sum())
            here = own.cause == net.causes.index(cause)
            below = (1.0 - net.leak[at, rows])[:, None] * (1.0 - net.link[rows][:, here])
            at_most = np.vstack([below[v:].prod(axis=0) for v in range(len(levels))] + [np.ones(here.sum())])
            shown = np.diff(at_most, axis=0) @ own.share[here]
            np.testing.assert_allclose(shown, said, rtol=0.02, atol=2e-3, err_msg=f"{cause} {levels}")
            exact += bool(np.allclose(shown, said, rtol=1e-8, atol=1e-11))
    assert exact > 100  # in the others some form has less of a level than people without the cause


# --- the experiment ------------------------------------------------------------------------------------------------


def test_the_experiment_compares_with_and_without(limb):
    models = MODULE["with_and_without"](limb.in_setting("primary_care"))
    assert [model.network.forms is None for model in models.values()] == [True, False]
    evidence = limb.diagnose(present=["ptosis"], age=40, sex="male").evidence
    assert_bits(
        models["without forms"].network.posterior(evidence), limb.in_setting("primary_care").network.posterior(evidence)
    )


def test_an_unknown_cause_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ddx.UsageError) as caught:
        MODULE["work"](Namespace(cases=None, cause=["strok"], out=tmp_path / "out"))
    assert str(caught.value).startswith("--cause: no patients of 'strok'")
    assert not (tmp_path / "out").exists()
    assert pd.read_csv(FOLDER / "results.csv")["items"].gt(0).all()


def test_forms_of_limb_are_the_mean_of_the_readers(limb):
    kb, mean = limb.knowledge, READERS["of_readers"](limb.knowledge, [0, 1, 2])
    shares = ([form.share for form in base.forms.values()] for base in (kb, mean))
    np.testing.assert_allclose(*shares, rtol=5.1e-3)  # as many digits as the file has
    for row in kb.form_findings.values():
        np.testing.assert_allclose(row.frequencies, mean.form_findings[row.id].frequencies, rtol=0.051)
    written = READERS["written"]()
    assert {key for key in written if key[1]} == {(row.cause, row.finding) for row in kb.form_findings.values()}
    assert all(len(numbers) == 3 and len({len(own) for own in numbers}) == 1 for numbers in written.values())
    one = READERS["of_readers"](kb, [1])
    row = next(iter(one.form_findings.values()))
    assert row.frequencies == pytest.approx(written[row.cause, row.finding][1].tolist(), rel=1e-12)
