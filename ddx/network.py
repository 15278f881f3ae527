"""Knowledge base and setting -> the arrays of the network, and from evidence to exact posteriors.

Age and sex select a stratum: they change the priors of the causes, and the age band the frequency of the risk factors and the
leaks. A case of unknown age or sex is a mixture over strata. Risk factors are summed out inside the recursion.

Axes: N cases, K causes, J syndromes, F finding columns, C risk factors, A ages (age bands, or their parts), 2 sexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ddx.errors import UsageError, nearest
from ddx.forms import Columns, columns, has_forms
from ddx.inference import EvidenceTooLarge, Network, Posterior, fitting, joined, log_total, mix
from ddx.inference.network import Floats, Ints
from ddx.inference.rows import TERMS, expit
from ddx.knowledge import KnowledgeBase
from ddx.logistic import admitted, cause_arrays, context_arrays, requirements
from ddx.noisy_or import finding_arrays
from ddx.risk_factors import log_stratum_weight, prior_of_unstated
from ddx.splitting import pieces_of, split_findings
from ddx.values import Values

# Parts of cases (strata, split findings) that are solved at a time: what is made of them takes some hundred MiB.
_PARTS = 16384


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence of N cases in the order of the network's ids.

    ``columns`` (O,) ascending: findings that are stated of some case, without the levels of graded ones; ``finding`` (N, O): 1
    present, 0 absent, nan not observed, between: uncertain. ``level``: graded finding that is stated of some case -> (N, L + 1)
    likelihood of none and of every level, lowest first; 1 everywhere: not observed.
    ``context`` (N, C): 1, 0 or nan. ``age`` (N,) index in ``age_strata`` and ``sex`` (N,) index of the sex, -1 unknown.
    """

    columns: Ints
    finding: Floats
    level: Mapping[str, Floats]
    context: Floats
    age: Ints
    sex: Ints

    def __len__(self) -> int:
        return len(self.finding)


def select(evidence: Evidence, rows: Ints) -> Evidence:
    """The evidence of some cases; itself where these are all of them."""
    if len(rows) == len(evidence) and (rows == np.arange(len(rows))).all():
        return evidence
    finding = evidence.finding[rows]
    level = {graded: likelihood[rows] for graded, likelihood in evidence.level.items()}
    level = {graded: likelihood for graded, likelihood in level.items() if (likelihood != 1.0).any()}
    # What only others state would make sets of parameter values as wide as all cases together.
    stated = ~np.isnan(finding).all(axis=0)
    if not stated.all():
        finding = finding[:, stated]
    columns = evidence.columns[stated]
    return Evidence(columns, finding, level, evidence.context[rows], evidence.age[rows], evidence.sex[rows])


@dataclass(frozen=True, eq=False)
class Parts:
    """N cases as M weighted parts of known age and sex whose evidence is a product over the finding columns.

    ``case`` (M,) ascending; ``age``, ``sex`` (M,) indices; ``columns`` (O,) the findings that some case observes, with all
    levels of a graded one: no other can matter; ``finding`` (M, O); ``log_weight`` (M,). ``log_share`` (M,): what of it is
    P(age, sex | observed context), -inf where an earlier part has it.
    """

    case: Ints
    age: Ints
    sex: Ints
    columns: Ints
    finding: Floats
    log_weight: Floats
    log_share: Floats


@dataclass(frozen=True, eq=False)
class LayeredNetwork:
    """Arrays of one knowledge base in one setting; ids give the meaning of every axis."""

    causes: tuple[str, ...]
    findings: tuple[str, ...]
    risk_factors: tuple[str, ...]
    ages: tuple[str, ...]  # age bands, or the parts of those that have any
    sexes: tuple[str, ...]
    graded: Mapping[str, tuple[str, ...]]
    prevalence: Floats  # (K,) in the setting, over its reference population
    log_odds: Floats  # (A, 2, K) of every cause without risk factors
    context_log_odds: Floats  # (K, C)
    context_prior: Floats  # (A, 2, C)
    requires: Ints  # (C,)
    share: Floats  # (A, 2) of the strata among people at large, in whom the causes are independent
    link: Floats  # (F, K)
    leak: Floats  # (A, F)
    syndromes: tuple[str, ...]
    syndrome_link: Floats  # (J, K)
    syndrome_leak: Floats  # (J,)
    finding_syndrome: Floats  # (F, J)
    implications: Ints  # (P, 2) findings: one, and what it implies
    none_weight: float = 1.0  # of those without any cause; see ``Network`` and ``Admission``
    forms: Columns | None = None  # then the axis K of link is that of their columns, K'
    unstated: float = 1.0  # P(a risk factor is not stated | it is there) over P(the same | it is not there)

    def posterior(self, evidence: Evidence) -> Posterior:
        """Exact posterior of N cases; unknown age, sex and risk factors are summed out.

        Raises
        ------
        EvidenceTooLarge
            Cases that do not fit into memory.
        """
        found, error = self.fitting(evidence)
        if error is not None:
            raise error
        return found

    def fitting(self, evidence: Evidence) -> tuple[Posterior, EvidenceTooLarge | None]:
        """The same with nan for the cases that do not fit into memory, and the error that names these."""
        if not len(evidence):
            none, no_context = np.empty(0), np.empty((0, len(self.risk_factors)))
            return Posterior(np.empty((0, len(self.causes))), none, none, no_context, np.empty((0, len(self.syndromes)))), None
        pieces: list[Posterior] = []
        refused: list[EvidenceTooLarge] = []
        for start, stop in pairwise(self._bounds(evidence)):
            some = select(evidence, np.arange(start, stop))
            parts = self.parts(some)
            context = some.context[parts.case]
            solved, error = fitting(self.core(parts, context), parts.finding, context)
            if error is not None:
                refused += [part.of_row(start + int(parts.case[part.row])) for part in error.each()]
            mixed = mix(solved, parts.case, parts.log_weight)[0]
            if solved.log_weight is not None:
                mixed = replace(
                    mixed, log_evidence=mixed.log_evidence - log_total(parts.log_share + solved.log_weight, parts.case)
                )
            pieces.append(mixed)
        return Posterior.concatenate(pieces), joined(refused)

    def _bounds(self, evidence: Evidence) -> list[int]:
        """Where the cases are cut, so that few enough parts are solved at a time."""
        strata = np.where(evidence.age < 0, len(self.ages), 1) * np.where(evidence.sex < 0, len(self.sexes), 1)
        undecided = split_findings(evidence.finding, self._stated_implications(evidence.columns))
        total = np.cumsum(strata << undecided.sum(axis=1))
        piece = (total - 1) // _PARTS
        return [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(evidence)]

    def without_syndromes(self) -> LayeredNetwork:
        """The network with independent findings; P(finding | one cause alone) and P(finding | no cause) stay."""
        leak, link = 1.0 - self.leak, 1.0 - self.link
        for q, r, v in zip(self.syndrome_leak, self.syndrome_link, self.finding_syndrome.T, strict=True):
            leak *= 1.0 - q * v
            link *= (1.0 - np.outer(v, q + (1.0 - q) * r)) / (1.0 - q * v)[:, None]
        return replace(
            self,
            link=1.0 - link,
            leak=1.0 - leak,
            syndromes=(),
            syndrome_link=self.syndrome_link[:0],
            syndrome_leak=self.syndrome_leak[:0],
            finding_syndrome=self.finding_syndrome[:, :0],
        )

    def parts(self, evidence: Evidence) -> Parts:
        """The strata that a case may belong to, times the pieces of its statements about graded findings."""
        case, age, sex, log_weight = self._strata(evidence)
        case, columns, finding, log_likelihood, part = self._level_parts(evidence, case)
        case, finding, log_likelihood, part = self._implied_parts(columns, case, finding, log_likelihood, part)
        first = np.r_[True, np.diff(part) > 0]
        log_share = np.where(first, log_weight[part], -np.inf)
        return Parts(case, age[part], sex[part], columns, finding, log_weight[part] + log_likelihood, log_share)

    def core(self, parts: Parts, context: Floats) -> Network:
        """The network of the core: the observed findings alone, with priors, leaks and context of every part.

        ``context`` (M, C): what is stated of the risk factors.
        """
        frequency = self.context_prior[parts.age, parts.sex]
        prior = expit(self.log_odds)[parts.age, parts.sex]
        return Network(
            prior=self.in_columns(prior, -1),
            link=self.link[parts.columns],
            leak=self.leak[:, parts.columns][parts.age],
            syndrome_link=self.syndrome_link,
            syndrome_leak=self.syndrome_leak,
            finding_syndrome=self.finding_syndrome[parts.columns],
            context_log_odds=self.in_columns(self.context_log_odds, -2),
            context_prior=prior_of_unstated(frequency, context, self.requires, self.unstated),
            requires=self.requires,
            none_weight=self.none_weight,
            **self.of_columns,
            copy=False,
        )

    def in_columns(self, array: Floats, axis: int) -> Floats:
        """What belongs to the causes, for every one of their forms."""
        return array if self.forms is None else np.take(array, self.forms.cause, axis=axis)

    @property
    def of_columns(self) -> Mapping[str, Any]:
        """Arguments of the core's network."""
        return {} if self.forms is None else {"cause": self.forms.cause, "share": self.forms.share}

    def _strata(self, evidence: Evidence) -> tuple[Ints, Ints, Ints, Floats]:
        """Case, age, sex and log weight P(age, sex | observed context) of every stratum that a case may belong to."""
        if (evidence.age >= 0).all() and (evidence.sex >= 0).all():  # one stratum each, of weight 1
            return np.arange(len(evidence)), evidence.age, evidence.sex, np.zeros(len(evidence))
        age = np.arange(len(self.ages))
        sex = np.arange(len(self.sexes))
        fits_age = (evidence.age[:, None] < 0) | (evidence.age[:, None] == age)
        fits_sex = (evidence.sex[:, None] < 0) | (evidence.sex[:, None] == sex)
        case, a, s = np.nonzero(fits_age[:, :, None] & fits_sex[:, None, :])
        if len(case) == len(evidence):  # there is but one age
            return case, a, s, np.zeros(len(case))
        observed, requires = evidence.context[case], self.requires
        share, prior = self.share[a, s], self.context_prior[a, s]
        return case, a, s, log_stratum_weight(share, prior, observed, requires, case, self.unstated)

    def _columns(self, evidence: Evidence) -> Ints:
        """Findings that a case observes, with all levels of a graded one."""
        if len(self.findings) > TERMS:  # the bits of sums over the findings would depend on how many there are
            return np.arange(len(self.findings))
        levels = [self.findings.index(level) for graded in evidence.level for level in self.graded[graded]]
        return np.union1d(evidence.columns, levels).astype(np.intp)

    def _level_parts(self, evidence: Evidence, case: Ints) -> tuple[Ints, Ints, Floats, Floats, Ints]:
        """Split statements about graded findings into parts that are products over the finding columns.

        A likelihood over levels is a sum of disjoint pieces, "this level" or "not above this level"; each piece is a part.
        """
        whole = len(case) == len(evidence)  # every case is one part so far: nothing to copy
        observed, finding = self._columns(evidence), evidence.finding
        if len(observed) > len(evidence.columns):
            finding = np.full((len(evidence), len(observed)), np.nan)
            finding[:, np.searchsorted(observed, evidence.columns)] = evidence.finding
        if not whole:
            finding = finding[case]
        elif evidence.level:
            finding = finding.copy()
        part = np.arange(len(case))
        log_likelihood = np.zeros(len(case))
        column = {self.findings[f]: i for i, f in enumerate(observed.tolist())}
        for graded, levels in self.graded.items():
            if graded not in evidence.level:
                continue
            likelihood = evidence.level[graded]
            if not whole:
                likelihood = likelihood[case]
            said = (likelihood != 1.0).any(axis=1)
            if not said.any():
                continue
            columns = [column[level] for level in levels]
            pieces = [pieces_of(row) if spoken else [] for row, spoken in zip(likelihood, said, strict=True)]
            repeat = np.array([max(1, len(p)) for p in pieces])
            whole = whole and len(case) == int(repeat.sum())
            case, part = np.repeat(case, repeat), np.repeat(part, repeat)
            log_likelihood, finding = np.repeat(log_likelihood, repeat), np.repeat(finding, repeat, axis=0)
            row = 0
            for options in pieces:
                for weight, values in options:
                    finding[row, columns] = values
                    log_likelihood[row] += np.log(weight)
                    row += 1
                row += not options
        return case, observed, finding, log_likelihood, part

    def _stated_implications(self, columns: Ints) -> list[tuple[int, int]]:
        """Implications between the findings of some columns, by their places in them."""
        place = {f: i for i, f in enumerate(columns.tolist())}
        return [(place[s], place[g]) for s, g in self.implications.tolist() if s in place and g in place]

    def _implied_parts(
        self, columns: Ints, case: Ints, finding: Floats, log_likelihood: Floats, part: Ints
    ) -> tuple[Ints, Floats, Floats, Ints]:
        """Uncertain findings where what they imply, or what implies them, is stated as well: no piece of evidence counts twice.

        What is certain by another finding leaves its likelihood behind. The rest is split: one part has the finding present,
        without what that implies; the other has it absent, without what that excludes. A level is present or absent in every
        part by now, and says what it does beside what it implies.
        """
        stated = self._stated_implications(columns)
        finding, log_likelihood = self._implied_by_levels(columns, stated, finding, log_likelihood)
        related = sorted({column for pair in stated for column in pair})
        values = finding[:, related]
        unsure = np.array(related, dtype=np.intp)[((values > 0.0) & (values < 1.0)).any(axis=0)].tolist()
        finding = finding.copy() if unsure else finding
        for x in unsure:
            general = [g for s, g in stated if s == x]
            special = [s for s, g in stated if g == x]
            for others, value in ((special, 1.0), (general, 0.0)):
                v = finding[:, x]
                rows = np.flatnonzero((v > 0.0) & (v < 1.0) & (finding[:, others] == value).any(axis=1))
                log_likelihood[rows] += np.log(np.abs(1.0 - value - v[rows]))
                finding[rows, x] = np.nan
            v = finding[:, x]
            split = (v > 0.0) & (v < 1.0) & ~np.isnan(finding[:, general + special]).all(axis=1)
            copies = 1 + split
            first = (np.cumsum(copies) - copies)[split]
            case, part = np.repeat(case, copies), np.repeat(part, copies)
            finding, log_likelihood = np.repeat(finding, copies, axis=0), np.repeat(log_likelihood, copies)
            for rows, value, gone in ((first, 1.0, general), (first + 1, 0.0, special)):
                # What is certain once x is: stated findings among the gone ones are as likely as they were said to be.
                said = np.abs(1.0 - value - finding[rows][:, [x, *gone]])
                for column in np.log(np.where(np.isnan(said), 1.0, said)).T:  # a sum whose bits no other row changes
                    log_likelihood[rows] += column
                finding[rows[:, None], gone] = np.nan
                finding[rows, x] = value
        return case, finding, log_likelihood, part

    def _implied_by_levels(
        self, columns: Ints, stated: Sequence[tuple[int, int]], finding: Floats, log_likelihood: Floats
    ) -> tuple[Floats, Floats]:
        """Parts without what a present level implies, and without absent levels that an absent finding excludes."""
        levels = {level for graded in self.graded.values() for level in graded}
        own = [(s, g) for s, g in stated if self.findings[columns[s]] in levels]
        if own:
            finding, log_likelihood = finding.copy(), log_likelihood.copy()
        for s, g in own:
            log_likelihood[(finding[:, s] == 1.0) & (finding[:, g] == 0.0)] = -np.inf
            excluded = (finding[:, s] == 0.0) & (finding[:, g] == 0.0)
            finding[(finding[:, s] == 1.0) & (finding[:, g] == 1.0), g] = np.nan
            finding[excluded, s] = np.nan
        return finding, log_likelihood


def build_network(kb: KnowledgeBase, setting: str, values: Mapping[str, float] | None = None) -> LayeredNetwork:
    """The network of a knowledge base in a setting.

    Parameters
    ----------
    values : parameter id -> number, optional
        Replaces the means of the parameters named (parameter draws, what-if questions).

    Raises
    ------
    UsageError
        Unknown setting or parameter, or a value that a parameter cannot have.
    """
    return build_networks(kb, setting, Values.of(kb, [values or {}]))[0]


def build_networks(kb: KnowledgeBase, setting: str, values: Values) -> list[LayeredNetwork]:
    """The network of every set of parameter values; errors as for ``build_network``."""
    if setting not in kb.settings:
        raise UsageError(f"unknown setting {setting!r}{nearest(setting, kb.settings)}; known: {', '.join(kb.settings)}")
    n, causes = len(values), tuple(kb.causes)
    context = context_arrays(kb, setting, values)
    own = cause_arrays(kb, setting, values, context)
    log_odds = np.moveaxis(own.log_odds.reshape(n, len(causes), *context.share.shape[1:]), 1, -1)
    context_log_odds = own.context_log_odds.reshape(n, len(causes), -1)
    finding = finding_arrays(kb, setting, values)
    place = {f: i for i, f in enumerate(kb.findings)}
    implied = [(place[s], place[g]) for s, g in kb.implications]
    patients = admitted(kb, setting)
    return [
        LayeredNetwork(
            causes=causes,
            findings=tuple(kb.findings),
            risk_factors=tuple(c.id for c in kb.risk_factors),
            ages=tuple(c.id for c in kb.age_strata),
            sexes=tuple(c.id for c in kb.sexes),
            graded=dict(kb.graded),
            prevalence=own.prevalence.reshape(n, -1)[s],
            log_odds=np.ascontiguousarray(log_odds[s]),
            context_log_odds=context_log_odds[s],
            context_prior=context.prior[s],
            requires=requirements(kb),
            share=context.share[s],
            syndromes=() if has_forms(kb, setting) else tuple(kb.syndromes),
            implications=np.array(implied, dtype=np.intp).reshape(-1, 2),
            none_weight=patients.none_weight if patients else 1.0,
            forms=columns(kb) if has_forms(kb, setting) else None,
            unstated=1.0 - kb.risk_factors_reported.get(setting, 0.0),
            **{name: array[s] for name, array in vars(finding).items()},
        )
        for s in range(n)
    ]


def without_findings(evidence: Evidence) -> Evidence:
    """The same cases with age, sex and risk factors only."""
    return replace(evidence, columns=evidence.columns[:0], finding=evidence.finding[:, :0], level={})
