"""Do 90 % intervals hold what they promise? Populations are drawn, studies of them are drawn, parameters are pooled again.

Nearly: between 1 and 5 studies of 200 persons and means from 0.1 to 0.85 they cover a new population in 85 to 90 % (4,000
replicates). A Beta has lighter tails than the logistic normal law that the populations follow, and the spread between two or
five studies is estimated. With means of 0.02 it is 84 to 88 %, because of studies in which nobody has the finding. In a whole
knowledge base whose every row is drawn again, posteriors of new populations are covered as well.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from scipy.special import betaincinv, expit, logit

import ddx
from ddx.cases import from_mapping
from ddx.draws import draw_parameters, posterior_draws
from ddx.inference import Network, posterior
from ddx.knowledge import Study
from ddx.knowledge.parameters import RATIOS, collect
from ddx.knowledge.pooling import SPREAD, pool_probability
from ddx.network import build_network

REPLICATES, DRAWS = 2000, 400
# What was measured, and three standard errors of a share of 2,000.
LEAST, MOST = 0.86 - 0.022, 0.91 + 0.022
MEANS = {"prior": 0.1, "link": 0.7, "leak": 0.15}


def pooled(name, mean, studies, persons, rng):
    """A parameter pooled from studies of populations around ``mean``, and its value in a new population."""
    population = expit(logit(mean) + rng.normal(0.0, SPREAD["link"], studies + 1))
    rows = []
    for i, p in enumerate(population[:-1]):
        x = int(rng.binomial(persons, p))
        rows.append(
            Study(
                f"s{i}", "sensitivity", x / persons, f"source{i}", "cohort", numerator=x, denominator=persons, counts="reported"
            )
        )
    return pool_probability(name, rows), float(population[-1])


@pytest.mark.parametrize("studies", [1, 2, 5])
@pytest.mark.parametrize("mean", [0.1, 0.5, 0.85])
def test_the_interval_of_a_parameter_covers_a_new_population(studies, mean):
    rng = np.random.default_rng([studies, int(100 * mean)])
    hits = []
    for _ in range(REPLICATES):
        own, truth = pooled("p", mean, studies, 200, rng)
        low, high = betaincinv(own.first, own.second, [0.05, 0.95])
        hits.append(low <= truth <= high)
    assert LEAST <= np.mean(hits) <= MOST


def test_the_interval_of_a_posterior_covers_that_of_a_new_population():
    """One cause, two findings, one present and one absent."""
    rng = np.random.default_rng(7)
    hits = []
    evidence = np.array([[1.0, 0.0]])
    for _ in range(REPLICATES):
        names = ["prior", "link_0", "link_1", "leak_0", "leak_1"]
        own, truth = zip(*(pooled(n, MEANS[n.split("_")[0]], 4, 200, rng) for n in names), strict=True)
        found = posterior_of(draw_parameters(own, DRAWS, rng).T, evidence)
        low, high = np.quantile(found, [0.05, 0.95])
        hits.append(low <= posterior_of(np.array(truth)[:, None], evidence)[0] <= high)
    assert LEAST <= np.mean(hits) <= MOST


def posterior_of(values, evidence):
    """P(cause | evidence) (S,) for S sets of prior, two sensitivities and two leaks (5, S)."""
    prior, sensitivity, leak = values[0], values[1:3].T, values[3:5].T
    link = np.maximum((sensitivity - leak) / (1.0 - leak), 0.0)
    network = Network(prior[:, None], link[:, :, None], leak)
    return posterior(network, np.repeat(evidence, len(prior), axis=0)).marginal[:, 0]


CASES = (
    {
        "present": ["arm_weakness", "sudden_onset"],
        "absent": ["tremor"],
        "age": 70,
        "sex": "female",
        "context": {"diabetes": False},
    },
    {"present": ["numbness", "fatigue"], "absent": ["low_glucose", "raised_ck"], "age": 50, "sex": "male"},
)
KIND = {"incidence": "prior", "prevalence": "prior", "share": "prior", "context_prevalence": "context"} | dict.fromkeys(
    ("false_positive_rate", "specificity"), "leak"
)
RATIO_ERROR, PERSONS, STUDIES = 0.15, 200, 3


def drawn_rows(row, rng):
    """Studies of populations around the number of a row; those of one population have counts, intervals or episodes."""
    if row.quantity == "population_share":
        return [row]
    rows = []
    for i in range(STUDIES):
        plain = replace(
            row, id=f"{row.id}_{i}", quality="cohort", source="jones_2010", low=None, high=None, interval="", note=""
        )
        if row.quantity in RATIOS:
            y = np.log(row.value) + rng.normal(0.0, SPREAD["or"]) + rng.normal(0.0, RATIO_ERROR)
            low, high = np.exp(y - 1.96 * RATIO_ERROR), np.exp(y + 1.96 * RATIO_ERROR)
            rows.append(replace(plain, value=float(np.exp(y)), low=float(low), high=float(high), interval="95"))
        elif row.quantity == "incidence":
            y = np.log(row.value) + rng.normal(0.0, SPREAD["prior"])
            rows.append(
                replace(plain, value=float(np.exp(y)) * rng.poisson(PERSONS) / PERSONS, numerator=PERSONS, denominator=None)
            )
        else:
            x = int(rng.binomial(PERSONS, expit(logit(row.value) + rng.normal(0.0, SPREAD[KIND.get(row.quantity, "link")]))))
            rows.append(replace(plain, value=x / PERSONS, numerator=x, denominator=PERSONS, counts="reported"))
    return rows


def new_population(parameters, rng):
    """Parameter id -> its value in another population; the rows of one population share nothing."""
    values = {}
    for p in parameters.values():
        if p.id.startswith("population:"):
            continue
        moved = rng.normal(0.0, SPREAD[p.id.split(":")[0]])
        values[p.id] = float(expit(logit(p.value) + moved)) if p.distribution == "beta" else p.value * float(np.exp(moved))
    return values


def test_the_intervals_of_a_whole_knowledge_base_pooled_again_cover_a_new_population(tiny):
    """Parameters drawn, studies drawn, pooled again: the posteriors of five causes in two cases."""
    rng, hits = np.random.default_rng(11), []
    kb = tiny.knowledge
    encoded = [
        from_mapping(kb, **({"uncertain": {}, "measurements": {}, "absent": [], "context": {}} | case)) for case in CASES
    ]
    for replicate in range(150):
        problems = []
        rows = [again for row in kb.studies.values() for again in drawn_rows(row, rng)]
        pooled = collect(rows, kb.causes, kb.syndromes, kb.findings, kb.context, problems)
        assert not problems
        assert pooled.keys() == kb.parameters.keys()
        model = ddx.Model(replace(kb, parameters=MappingProxyType(pooled)), "clinic")
        truth = build_network(kb, "clinic", new_population(kb.parameters, rng))
        for case in encoded:
            low, high = np.quantile(posterior_draws(model, case.evidence, 300, replicate)[:, 0], [0.05, 0.95], axis=0)
            there = truth.posterior(case.evidence).marginal[0]
            hits.append((low <= there) & (there <= high))
    assert LEAST <= np.mean(hits) <= MOST
