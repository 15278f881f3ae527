"""Two other engines as referees: pgmpy on exported and on plain tables, pyAgrum on exported tables and its own noisy-OR."""

import functools
import re
from typing import NamedTuple

import numpy as np
import pyagrum
import pytest
from networks import (
    EXAMPLES,
    SMALL_CAUSES,
    SMALL_FACTORS,
    SmallModel,
    layered_evidence,
    nan,
    noisy_or_pyagrum,
    random_context,
    random_evidence,
    random_example,
    small_knowledge,
    sub_network,
    to_pyagrum,
)
from pgmpy.factors.discrete import TabularCPD
from pgmpy.inference import VariableElimination
from pgmpy.models import DiscreteBayesianNetwork

import ddx
import ddx.interop
from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.inference import posterior

AGREE = {"rtol": 1e-10, "atol": 1e-12}


class Group(NamedTuple):
    """Causes of the limb knowledge base, findings, and cases in the form of ``layered_evidence``."""

    causes: tuple[str, ...]
    findings: tuple[str, ...]
    cases: tuple[dict, ...]


NONE, LOWEST, MIDDLE, TOP = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]
GROUPS = {
    "hand": Group(
        ("carpal_tunnel_syndrome", "cervical_radiculopathy", "diabetic_polyneuropathy", "hypothyroidism", "ulnar_neuropathy"),
        ("onset", "hand_numbness", "nocturnal_paraesthesia", "hand_pain", "reduced_vibration_sense", "tinel_positive",
         "neck_pain"),
        (
            {},
            {"hand_numbness": 1, "nocturnal_paraesthesia": 1, "neck_pain": 0},
            {"hand_numbness": 1, "onset": LOWEST, "age_band": "age_55_64", "sex": "sex_female", "repetitive_hand_work": 1},
            {"hand_pain": 1, "onset": TOP, "diabetes": 1, "insulin_or_sulfonylurea": 0, "sex": "sex_male"},
            {"hand_numbness": 1, "reduced_vibration_sense": 1, "insulin_or_sulfonylurea": 1, "age_band": "age_85_plus"},
            {"hand_numbness": 1, "tinel_positive": 0, "insulin_or_sulfonylurea": 0, "smoking": 1},
            {"hand_numbness": 0.8, "hand_pain": 0.3, "onset": [0.0, 0.5, 0.3, 0.2], "diabetes": 0},
        ),
    ),
    "brain": Group(
        ("stroke", "transient_ischemic_attack", "multiple_sclerosis", "guillain_barre"),
        ("onset", "weakness_side", "facial_droop", "dysarthria", "visual_loss", "paraesthesia", "bladder_dysfunction"),
        (
            {"onset": TOP, "weakness_side": [0, 1, 0], "facial_droop": 1},
            {"onset": TOP, "facial_droop": 1, "atrial_fibrillation": 1, "age_band": "age_65_74", "sex": "sex_female"},
            {"onset": MIDDLE, "weakness_side": [0, 0, 1], "paraesthesia": 1, "age_band": "age_30_44"},
            {"onset": [1, 1, 1, 0], "visual_loss": 1, "bladder_dysfunction": 0, "sex": "sex_female"},
            {"onset": NONE, "weakness_side": [1, 0, 0], "dysarthria": 0.6, "hypertension": 1, "smoking": 0},
            {"dysarthria": 1, "facial_droop": 1, "visual_loss": 1, "paraesthesia": 1, "pregnancy": 0, "diabetes": 1},
        ),
    ),
    "tremor": Group(
        ("parkinsons_disease", "essential_tremor", "enhanced_physiologic_tremor", "hyperthyroidism", "cerebellar_ataxia",
         "drug_or_toxin_effect"),
        ("rest_tremor", "postural_tremor", "intention_tremor", "bradykinesia", "tachycardia", "weight_loss", "onset",
         "dystonia"),
        (
            {"rest_tremor": 1, "bradykinesia": 1, "age_band": "age_85_plus", "sex": "sex_male"},
            {"postural_tremor": 1, "rest_tremor": 0, "onset": LOWEST},
            {"postural_tremor": 1, "tachycardia": 1, "weight_loss": 1, "sex": "sex_female", "age_band": "age_30_44"},
            {"intention_tremor": 1, "alcohol_heavy": 1, "onset": [1, 1, 0, 0]},
            {"postural_tremor": 0.9, "dystonia": 0.1, "neurotoxic_exposure": 0, "smoking": 1, "onset": [0.2, 0.4, 0.3, 0.1]},
        ),
    ),
    "sugar": Group(
        ("hypoglycaemia", "diabetic_ketoacidosis", "dehydration", "anxiety_disorder"),
        ("onset", "confusion", "sweating", "tachycardia", "dry_mouth", "low_glucose", "nausea_vomiting"),
        (
            {"confusion": 1, "sweating": 1, "onset": TOP},
            {"low_glucose": 1, "confusion": 1, "insulin_or_sulfonylurea": 1},
            {"low_glucose": 0, "dry_mouth": 1, "nausea_vomiting": 1, "diabetes": 1, "age_band": "age_0_17"},
            {"tachycardia": 1, "sweating": 1, "dry_mouth": 0, "diabetes": 0, "sex": "sex_male", "age_band": "age_55_64"},
            {"low_glucose": 0.99, "insulin_or_sulfonylurea": 0, "diuretic_use": 1, "onset": [1, 0, 1, 1]},
        ),
    ),
    "weak": Group(
        ("myasthenia_gravis", "dermatomyositis", "hypokalaemia", "iron_deficiency_anaemia", "b12_deficiency",
         "protein_malnutrition", "alcoholic_polyneuropathy"),
        ("fatigable_weakness", "dysphagia", "low_potassium", "pallor", "macrocytosis", "reduced_reflexes", "weakness_side"),
        (
            {"fatigable_weakness": 1, "dysphagia": 1, "weakness_side": [0, 0, 1]},
            {"macrocytosis": 1, "pallor": 1, "reduced_reflexes": 1, "alcohol_heavy": 1, "age_band": "age_55_64"},
            {"low_potassium": 1, "diuretic_use": 1, "fatigable_weakness": 0, "sex": "sex_female"},
            {"pallor": 1, "macrocytosis": 0, "pregnancy": 1, "age_band": "age_30_44", "sex": "sex_female"},
            {"macrocytosis": 0.7, "weakness_side": [0.3, 0.2, 0.5], "vegetarian_or_malabsorption": 0},
        ),
    ),
}  # fmt: skip


@functools.cache
def limb():
    return ddx.load("limb", setting="primary_care")


@functools.cache
def exported(name):
    return limb().to_pgmpy(GROUPS[name].causes, GROUPS[name].findings)


def stated(network, case):
    """A case as hard evidence {node: state} and likelihoods {node: weight of every state}."""
    hard, soft = {}, {}
    for node, value in case.items():
        if node in ("age_band", "sex"):
            hard[node] = value
        elif node not in network:  # a risk factor that changes none of the causes
            continue
        elif np.ndim(value) or 0 < value < 1:
            soft[node] = np.asarray(value, dtype=float) if np.ndim(value) else np.array([1.0 - value, value])
        else:
            hard[node] = "present" if value else "absent"
    if "patient" in network:
        hard["patient"] = "present"
    for node, weight in list(soft.items()):
        if np.count_nonzero(weight) == 1:
            hard[node] = network.get_cpds(node).state_names[node][int(np.argmax(weight))]
            del soft[node]
    return hard, soft


def ask_pgmpy(network, case, causes):
    """Marginals of the causes and P(none), from their joint distribution; the marginals of unknown risk factors."""
    hard, soft = stated(network, case)
    virtual = [
        TabularCPD(node, len(w), (w / w.sum())[:, None], state_names={node: network.get_cpds(node).state_names[node]})
        for node, w in soft.items()
    ]
    factors = [n for n in limb().network.risk_factors if n in network and n not in hard]
    engine = VariableElimination(network)
    both = engine.query([*causes, *factors], hard, virtual_evidence=virtual or None, show_progress=False)
    order = [both.variables.index(v) for v in (*causes, *factors)]
    joint = both.values.transpose(order)
    one = {v: joint.take(1, axis=i).sum() for i, v in enumerate((*causes, *factors))}
    none = joint[(0,) * len(causes)].sum()
    return np.array([one[c] for c in causes]), none, {f: one[f] for f in factors}


def ask_pyagrum(bn, hard, soft, nodes):
    """P(node = its last state) of some nodes, and the logarithm of the probability of the evidence."""
    engine = pyagrum.LazyPropagation(bn)
    evidence = hard | {node: w.tolist() for node, w in soft.items()}
    for node, value in evidence.items():
        engine.addEvidence(node, value)
    for node in nodes:
        engine.addTarget(node)
    engine.makeInference()
    marginal = np.array([engine.posterior(node).toarray()[-1] for node in nodes])
    return marginal, np.log(engine.evidenceProbability()) if evidence else 0.0


LIMB_CASES = [pytest.param(name, i, id=f"{name}-{i}") for name, group in GROUPS.items() for i in range(len(group.cases))]


@pytest.mark.parametrize(("name", "i"), LIMB_CASES)
def test_pgmpy_agrees_on_parts_of_limb(name, i):
    causes, case = GROUPS[name].causes, GROUPS[name].cases[i]
    net = sub_network(limb().network, causes)
    result = net.posterior(layered_evidence(net, [case]))
    marginal, none, context = ask_pgmpy(exported(name), case, causes)
    np.testing.assert_allclose(result.marginal[0], marginal, **AGREE)
    np.testing.assert_allclose(result.none[0], none, **AGREE)
    for factor, p in context.items():
        np.testing.assert_allclose(result.context[0, net.risk_factors.index(factor)], p, **AGREE)


@pytest.mark.parametrize(("name", "i"), LIMB_CASES)
def test_pyagrum_agrees_on_parts_of_limb(name, i):
    causes, case = GROUPS[name].causes, GROUPS[name].cases[i]
    net = sub_network(limb().network, causes)
    result = net.posterior(layered_evidence(net, [case]))
    network = exported(name)
    hard, soft = stated(network, case)
    factors = [f for f in net.risk_factors if f in network and f not in hard]
    bn = to_pyagrum(network)
    marginal, log_probability = ask_pyagrum(bn, hard, soft, [*causes, *factors])
    expected = np.append(result.marginal[0], [result.context[0, net.risk_factors.index(f)] for f in factors])
    np.testing.assert_allclose(expected, marginal, **AGREE)
    # P(findings | context), as against P(findings, context)
    context = {n: v for n, v in hard.items() if n in ("age_band", "sex", "patient", *net.risk_factors)}
    _, log_context = ask_pyagrum(bn, context, {}, [])
    np.testing.assert_allclose(result.log_evidence[0], log_probability - log_context, rtol=1e-10, atol=1e-12)


def test_the_export_in_another_setting_is_that_setting():
    model = limb().in_setting("emergency")
    group = GROUPS["brain"]
    net = sub_network(model.network, group.causes)
    result = net.posterior(layered_evidence(net, group.cases[:1]))
    marginal, none, _ = ask_pgmpy(model.to_pgmpy(group.causes, group.findings), group.cases[0], group.causes)
    np.testing.assert_allclose(result.marginal[0], marginal, **AGREE)
    np.testing.assert_allclose(result.none[0], none, **AGREE)


# --- the plain sum over everything as the third referee -------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        {"fever": 1, "weakness": 0},
        {"weakness": 1, "pain": TOP, "age_band": "old", "insulin": 0},
        {"weakness": 1, "swelling": 0.3, "pain": [0.1, 0.2, 0.3, 0.4], "smoking": 1, "sex": "male"},
    ],
)
def test_all_agree_on_the_small_knowledge_base(case):
    model = Model(small_knowledge(), "clinic")
    answer = SmallModel("clinic").answer(case)
    result = model.network.posterior(layered_evidence(model.network, [case]))
    network = model.to_pgmpy()
    hard, soft = stated(network, case)
    by_pyagrum, _ = ask_pyagrum(to_pyagrum(network), hard, soft, [*SMALL_CAUSES, *(f for f in SMALL_FACTORS if f not in hard)])
    by_pgmpy, none, _ = ask_pgmpy(network, case, SMALL_CAUSES)
    unknown = [i for i, f in enumerate(SMALL_FACTORS) if f not in hard]
    for marginal in (result.marginal[0], by_pgmpy, by_pyagrum[:3]):
        np.testing.assert_allclose(marginal, answer.marginal, **AGREE)
    np.testing.assert_allclose(by_pyagrum[3:], answer.context[unknown], **AGREE)
    np.testing.assert_allclose([result.none[0], none], answer.none, **AGREE)


# --- plain networks -------------------------------------------------------------------------------


def random_plain(seed):
    rng = np.random.default_rng(seed)
    n_syndromes = 0 if seed < 106 else int(rng.integers(1, 4))
    return random_example(
        seed,
        int(rng.integers(2, 8)),
        int(rng.integers(3, 13)),
        density=rng.uniform(0.3, 1.0) / (1 + n_syndromes),
        n_syndromes=n_syndromes,
    )


ALL = {name: e for name, e in EXAMPLES.items() if name != "structural"}
ALL |= {f"random_{s}": random_plain(s) for s in range(100, 110)}
PLAIN = {name: e for name, e in ALL.items() if not e.n_context}


def plain_cases(example):
    rng = np.random.default_rng(0)
    return np.vstack([np.ones(len(example.leak)), random_evidence(rng, 4, len(example.leak))])


def split(network, row):
    """One row of evidence on f0, f1, ... as hard and soft evidence on states 0 and 1."""
    hard = {f"f{f}": int(v) for f, v in enumerate(row) if v in (0.0, 1.0)} | patient(network)
    soft = {f"f{f}": np.array([1.0 - v, v]) for f, v in enumerate(row) if 0.0 < v < 1.0}
    return hard, soft


def patient(network):
    """Evidence of every case: that it has come."""
    return {"patient": 1} if network.none_weight < 1.0 else {}


@pytest.mark.parametrize("name", PLAIN)
def test_noisy_or_of_pyagrum_agrees_on_plain_networks(name):
    example = PLAIN[name]
    network = example.network()
    bn = noisy_or_pyagrum(network)
    evidence = plain_cases(example)
    result = posterior(network, evidence)
    for i, row in enumerate(evidence):
        seen = np.flatnonzero(~np.isnan(result.syndrome[i]))
        nodes = [f"c{k}" for k in range(network.n_causes)] + [f"s{j}" for j in seen]
        marginal, log_probability = ask_pyagrum(bn, *split(network, row), nodes)
        np.testing.assert_allclose(np.append(result.marginal[i], result.syndrome[i, seen]), marginal, **AGREE)
        _, log_patient = ask_pyagrum(bn, patient(network), {}, [])
        np.testing.assert_allclose(result.log_evidence[i], log_probability - log_patient, rtol=1e-10, atol=1e-12)


def plain_pgmpy(network):
    """Full tables of context x0, ..., causes c0, ..., syndromes s0, ... and findings f0, ..., straight from the definition."""
    model = DiscreteBayesianNetwork()
    sizes = {"x": network.n_context, "c": network.n_causes, "s": network.n_syndromes, "f": network.n_findings}
    model.add_nodes_from(f"{layer}{i}" for layer, n in sizes.items() for i in range(n))

    def table(name, parents, absent, present):
        """Both for every combination of the parents, the last one the fastest."""
        model.add_edges_from((parent, name) for parent in parents)
        cards = [2] * len(parents)
        model.add_cpds(TabularCPD(name, 2, [absent, present], evidence=parents or None, evidence_card=cards or None))

    def noisy_or(name, leak, **links):
        absent, present, parents = np.array([1.0 - leak]), np.array([leak]), []
        for layer, weights in links.items():
            for i in np.flatnonzero(weights):
                parents.append(f"{layer}{i}")
                present = np.stack([present, present + absent * weights[i]], axis=1).ravel()
                absent = np.stack([absent, absent * (1.0 - weights[i])], axis=1).ravel()
        table(name, parents, absent, present)

    for x, p in enumerate(network.context_prior):
        needed = network.requires[x]
        present = np.array([p]) if needed < 0 else np.array([0.0, p])
        table(f"x{x}", [] if needed < 0 else [f"x{needed}"], 1.0 - present, present)
    for k, p in enumerate(network.prior):
        odds, parents = np.array([p / (1.0 - p)]), np.flatnonzero(network.context_log_odds[k])
        for x in parents:
            odds = np.outer(odds, [1.0, np.exp(network.context_log_odds[k, x])]).ravel()
        table(f"c{k}", [f"x{x}" for x in parents], 1.0 / (1.0 + odds), odds / (1.0 + odds))
    for j, leak in enumerate(network.syndrome_leak):
        noisy_or(f"s{j}", leak, c=network.syndrome_link[j])
    for f, leak in enumerate(network.leak):
        noisy_or(f"f{f}", leak, c=network.link[f], s=network.finding_syndrome[f])
    if network.none_weight < 1.0:
        noisy_or("patient", network.none_weight, c=np.ones(network.n_causes))
    assert model.check_model()
    return model


@pytest.mark.parametrize("name", ALL)
def test_pgmpy_agrees_on_plain_networks(name):
    example = ALL[name]
    network = example.network()
    engine = VariableElimination(plain_pgmpy(network))
    evidence = plain_cases(example)
    context = random_context(np.random.default_rng(1), len(evidence), example.requires or (-1,) * example.n_context)
    result = posterior(network, evidence, context)
    for i, row in enumerate(evidence):
        hard, soft = split(network, row)
        hard |= {f"x{x}": int(v) for x, v in enumerate(context[i]) if not np.isnan(v)}
        virtual = [TabularCPD(node, 2, w[:, None]) for node, w in soft.items()]
        expected = {f"c{k}": p for k, p in enumerate(result.marginal[i])}
        expected |= {f"s{j}": p for j, p in enumerate(result.syndrome[i]) if not np.isnan(p)}
        expected |= {f"x{x}": p for x, p in enumerate(result.context[i]) if f"x{x}" not in hard}
        both = engine.query(list(expected), hard, virtual_evidence=virtual or None, show_progress=False)
        joint = both.values.transpose([both.variables.index(node) for node in expected])
        marginal = [joint.take(1, axis=axis).sum() for axis in range(joint.ndim)]
        np.testing.assert_allclose(list(expected.values()), marginal, **AGREE)
        none = joint[(0,) * network.n_causes].sum()
        np.testing.assert_allclose(result.none[i], none, **AGREE)


# --- the export itself ----------------------------------------------------------------------------


@functools.cache
def whole():
    return limb().to_pgmpy()


def test_the_whole_knowledge_base_is_a_valid_network():
    assert whole().check_model()


def test_every_variable_of_the_knowledge_base_is_a_node_and_chains_add_their_own():
    net, network = limb().network, whole()
    levels = {level for group in net.graded.values() for level in group}
    findings = {f for f in net.findings if f not in levels} | set(net.graded)
    nodes = set(network.nodes())
    assert {"age_band", "sex", "patient", *net.risk_factors, *net.causes, *net.syndromes} | findings <= nodes
    assert not levels & nodes
    links = {}
    for finding in findings:
        rows = [net.findings.index(f) for f in net.graded.get(finding, (finding,))]
        parents = int(net.link[rows].any(axis=0).sum()) + int(net.finding_syndrome[rows].any(axis=0).sum())
        links[finding] = parents, bool((net.leak[:, rows] != net.leak[0, rows]).any())
    links["patient"] = len(net.causes), False
    links |= {s: (int((net.syndrome_link[j] > 0).sum()), False) for j, s in enumerate(net.syndromes)}
    # A chain has a node for the leak and one for every cause but the last, which is the finding itself.
    chained = sum(n for n, by_age in links.values() if n + by_age > ddx.interop.MAX_PARENTS)
    assert chained > 0
    assert len(nodes) == 3 + len(net.risk_factors) + len(net.causes) + len(net.syndromes) + len(findings) + chained
    assert max(len(network.get_parents(n)) for n in nodes - set(net.causes)) <= ddx.interop.MAX_PARENTS


def test_states_are_named_as_in_the_knowledge_base():
    net, network = limb().network, whole()

    def states(node):
        return tuple(network.get_cpds(node).state_names[node])

    assert states("age_band") == net.ages
    assert states("sex") == net.sexes
    assert states("onset") == ("none", *net.graded["onset"])
    for node in ("stroke", "diabetes", "foot_drop", "hand_numbness"):
        assert states(node) == ("absent", "present")


def test_parents_follow_the_model():
    network = exported("hand")
    assert set(network.get_parents("insulin_or_sulfonylurea")) == {"age_band", "sex", "diabetes"}
    assert set(network.get_parents("diabetes")) == {"age_band", "sex"}
    assert (network.get_parents("age_band"), network.get_parents("sex")) == ([], ["age_band"])
    assert network.get_parents("patient") == list(GROUPS["hand"].causes)
    assert set(network.get_parents("ulnar_neuropathy")) == {
        "age_band", "sex", "diabetes", "recent_arm_compression", "repetitive_hand_work", "smoking"
    }  # fmt: skip
    assert "age_band" in network.get_parents("reduced_vibration_sense")
    assert "atrial_fibrillation" not in network


def test_findings_default_to_those_that_the_causes_show():
    net = limb().network
    network = limb().to_pgmpy(["essential_tremor"])
    k = net.causes.index("essential_tremor")
    level_of = {level: graded for graded, levels in net.graded.items() for level in levels}
    through = (net.finding_syndrome * net.syndrome_link[:, k]).sum(axis=1)
    shown = {level_of.get(f, f) for f, w in zip(net.findings, net.link[:, k] + through, strict=True) if w > 0}
    behind = {
        s for j, s in enumerate(net.syndromes) for f in np.flatnonzero(net.finding_syndrome[:, j]) if net.findings[f] in shown
    }
    assert "cerebellar_syndrome" in behind
    assert set(network.nodes()) == {"age_band", "sex", "patient", "essential_tremor"} | shown | behind


def test_a_level_stands_for_its_graded_finding_and_repeats_count_once():
    network = limb().to_pgmpy(["stroke", "stroke"], ["sudden_onset", "gradual_onset", "onset", "facial_droop"])
    assert {"onset", "facial_droop", "stroke"} <= set(network.nodes())
    assert not {"sudden_onset", "gradual_onset"} & set(network.nodes())


@pytest.mark.parametrize("max_parents", [0, 1, 2])
@pytest.mark.parametrize(("name", "i"), [("hand", 2), ("hand", 6), ("brain", 2), ("sugar", 4)])
def test_chains_of_tables_give_the_same_answer_as_one_table(name, i, max_parents, monkeypatch):
    group = GROUPS[name]
    exported(name)  # kept from here on, made before the patch
    monkeypatch.setattr(ddx.interop, "MAX_PARENTS", max_parents)
    chained = limb().to_pgmpy(group.causes, group.findings)
    assert chained.check_model()
    assert len(chained.nodes()) > len(exported(name).nodes())
    answers = [ask_pgmpy(network, group.cases[i], group.causes) for network in (exported(name), chained)]
    np.testing.assert_allclose(answers[1][0], answers[0][0], **AGREE)
    np.testing.assert_allclose(answers[1][1], answers[0][1], **AGREE)
    net = sub_network(limb().network, group.causes)
    hard, soft = stated(chained, group.cases[i])
    by_pyagrum, _ = ask_pyagrum(to_pyagrum(chained), hard, soft, group.causes)
    np.testing.assert_allclose(net.posterior(layered_evidence(net, [group.cases[i]])).marginal[0], by_pyagrum, **AGREE)


@pytest.mark.parametrize(
    ("causes", "findings", "message"),
    [
        (["strok"], None, "unknown cause 'strok'; nearest: stroke"),
        (["qqqq"], None, "unknown cause 'qqqq'"),
        (["stroke"], ["facial_drop"], "unknown finding 'facial_drop'; nearest: facial_droop, "),
        (["stroke"], ["qqqq"], "unknown finding 'qqqq'"),
    ],
)
def test_unknown_ids_are_errors_that_name_the_nearest(causes, findings, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}") as error:
        limb().to_pgmpy(causes, findings)
    assert str(error.value) == message or message.endswith(", ")


def test_an_unobserved_row_is_the_prior_in_every_engine():
    example = PLAIN["sparse"]
    network = example.network()
    marginal, _ = ask_pyagrum(noisy_or_pyagrum(network), {}, {}, [f"c{k}" for k in range(network.n_causes)])
    np.testing.assert_allclose(marginal, example.prior, rtol=1e-14)
    np.testing.assert_allclose(posterior(network, np.full((1, len(example.leak)), nan)).marginal[0], example.prior, rtol=1e-14)
