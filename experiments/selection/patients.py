"""Patients drawn from the readers' forms of every cause, not from the network, and written down as reports write them down.

A patient has one cause, every cause equally often, and the age, sex and risk factors of the people to whom the network gives
it; one form of the cause; and findings, independent given the form. A report states as many of them as a textbook patient
does: findings of the cause rather than incidental ones (by as much as reports do), and as absent what is frequent in the cause
or in others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

import ddx
from ddx.inference.network import Floats, Ints
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase
from ddx.knowledge.ages import age_limits
from ddx.knowledge.forms import Forms, forms_of
from ddx.network import LayeredNetwork

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from shared import TEXTBOOK  # noqa: E402

# Findings that reports use.
VOCABULARY = HERE.parents[1] / "tests" / "data" / "vocabulary.csv"
# How much the frequency of a finding in all causes counts for saying that it is absent, beside that in the own cause.
OF_OTHERS = 0.5
COLUMNS = ("case_id", "final_diagnosis", "age", "sex", "context", "present", "absent")


@dataclass(frozen=True, eq=False)
class People:
    """M people at large: indices of age and sex (M,), risk factors (M, C), and P(cause | these) (M, K)."""

    age: Ints
    sex: Ints
    context: np.ndarray
    chance: Floats

    @classmethod
    def drawn(cls, network: LayeredNetwork, n: int, rng: np.random.Generator) -> People:
        """So many of those in whom the causes of a network are independent."""
        stratum = rng.choice(network.share.size, n, p=network.share.ravel() / network.share.sum())
        age, sex = np.divmod(stratum, len(network.sexes))
        context = rng.random((n, len(network.risk_factors))) < network.context_prior[age, sex]
        for j in np.flatnonzero(network.requires >= 0):
            context[:, j] &= context[:, network.requires[j]]
        return cls(age, sex, context, expit(network.log_odds[age, sex] + context @ network.context_log_odds.T))


def draw(model: ddx.Model, n: int, seed: int, people: int = 100_000) -> pd.DataFrame:
    """N patients as ``score`` reads them, with their final_diagnosis; drawn from so many people of the model."""
    rng = np.random.default_rng(seed)
    net = model.network
    crowd = People.drawn(net, people, rng)
    kb = model.knowledge
    start, end = (np.array(limit) for limit in age_limits(kb))
    reports, stated = Reports.of(kb), kb.risk_factors_reported[BALANCED]
    rows = []
    for i, k in enumerate(rng.integers(len(net.causes), size=n).tolist()):
        one = int(rng.choice(people, p=crowd.chance[:, k] / crowd.chance[:, k].sum()))
        age, factors = crowd.age[one], np.flatnonzero(crowd.context[one] & (rng.random(len(net.risk_factors)) < stated))
        present, absent = reports.report(k, int(age), rng)
        years = int(rng.uniform(start[age], end[age]))
        said = [";".join(ids) for ids in ([net.risk_factors[j] for j in factors], present, absent)]
        rows.append((f"form_{i}", net.causes[k], years, net.sexes[crowd.sex[one]].removeprefix("sex_"), *said))
    return pd.DataFrame(rows, columns=COLUMNS).astype(str)


@dataclass(frozen=True, eq=False)
class Reports:
    """What there is to find in patients, and what is said of it.

    ``forms``: of every cause the shares (V,) of its forms and the frequencies (V, F) in them, nan where a finding is not of the
    cause. ``typical`` (K, F): the frequency in all patients of a cause. ``lengths``: present and absent findings of a report.
    """

    findings: tuple[str, ...]
    leak: Floats  # (A, F)
    forms: list[tuple[Floats, Floats]]
    typical: Floats
    graded: list[Ints]
    implies: np.ndarray  # (F, F) whether one implies the other, through others too
    used: np.ndarray  # (F,) findings that reports use
    incidental: Floats  # (F,) how readily a finding is stated that is not of the cause, beside one that is
    lengths: list[tuple[int, int]]

    @classmethod
    def of(cls, kb: KnowledgeBase) -> Reports:
        """Of all causes of a knowledge base."""
        net, forms = ddx.Model(kb, GENERAL).network.without_syndromes(), forms_of(kb.forms.values(), kb.form_findings.values())
        words = pd.read_csv(VOCABULARY)
        own = [frequencies(kb, net.findings, cause, forms[cause]) for cause in net.causes]
        anyone = net.share.sum(axis=1) @ net.leak
        typical = [share @ np.where(np.isnan(table), anyone, table) for share, table in own]
        return cls(
            net.findings,
            net.leak,
            own,
            np.array(typical),
            [np.array([net.findings.index(level) for level in levels]) for levels in net.graded.values()],
            implications(net),
            np.isin(net.findings, words.loc[words["kind"] == "finding", "id"]),
            np.array([kb.background_reported[BALANCED].get(kb.findings[f].kind, 1.0) for f in net.findings]),
            list(lengths()),
        )

    def report(self, cause: int, age: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """Ids of the findings that are said to be present, one at least, and to be absent."""
        there = of_cause = np.zeros(len(self.findings), dtype=bool)
        while not (there & self.used).any():
            there, of_cause = self.patient(cause, age, rng)
        present, absent = self.lengths[rng.integers(len(self.lengths))]
        level = np.isin(np.arange(len(there)), np.concatenate(self.graded))
        expected = self.typical[cause] + OF_OTHERS * self.typical.mean(axis=0)
        return (
            self._chosen(np.where(of_cause, 1.0, self.incidental) * (there & self.used), present, rng),
            self._chosen(expected * (~there & self.used & ~level), absent, rng),
        )

    def patient(self, cause: int, age: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Findings that are there (F,), at most one level of a graded one; and which of them are of the cause."""
        share, table = self.forms[cause]
        frequency = table[rng.choice(len(share), p=share)]
        of_cause = ~np.isnan(frequency)
        there = rng.random(len(frequency)) < np.where(of_cause, frequency, self.leak[age])
        for levels in self.graded:
            p = np.nan_to_num(frequency[levels])
            p = p / max(p.sum(), 1.0)
            there[levels] = np.arange(len(levels)) == np.searchsorted(p.cumsum(), rng.random(), side="right")
        of_cause &= there
        return there | self.implies[there].any(axis=0), of_cause | self.implies[of_cause].any(axis=0)

    def _chosen(self, weight: Floats, n: int, rng: np.random.Generator) -> list[str]:
        n = min(n, np.count_nonzero(weight))
        if not n:
            return []
        return [self.findings[i] for i in rng.choice(len(weight), n, replace=False, p=weight / weight.sum())]


def implications(network: LayeredNetwork) -> np.ndarray:
    """Whether a finding implies another (F, F), through others too, as the network lists them."""
    implies = np.zeros((len(network.findings),) * 2, dtype=bool)
    implies[tuple(network.implications.T)] = True
    return implies


def frequencies(kb: KnowledgeBase, findings: tuple[str, ...], cause: str, forms: Forms) -> tuple[Floats, Floats]:
    """Shares (V,) of the forms of a cause and frequencies (V, F): the readers', else the studies', else nan."""
    of_studies = [kb.means.get(f"link:{cause}:{finding}", np.nan) for finding in findings]
    table = np.tile(np.array(of_studies), (len(forms.share), 1))
    for finding, p in forms.frequency.items():
        table[:, findings.index(finding)] = p
    return np.array(forms.share), table


def lengths() -> Iterator[tuple[int, int]]:
    """How many findings each textbook patient states as present, and as absent."""
    cases = pd.read_csv(TEXTBOOK, dtype=str, keep_default_na=False)
    for present, absent in zip(cases["present"], cases["absent"], strict=True):
        yield len(list(filter(None, present.split(";")))), len(list(filter(None, absent.split(";"))))
