"""Knowledge base and setting -> the arrays of the network, and from evidence to exact posteriors.

Age band and sex select a stratum: they change the priors of the causes, the frequency of the risk factors, and (age) the leaks.
A case of unknown age or sex is a mixture over strata. Risk factors are summed out inside the recursion.

Axes: N cases, K causes, J syndromes, F finding columns, C risk factors, A age bands, 2 sexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddx.errors import UsageError, nearest
from ddx.inference import EvidenceTooLarge, Network, Posterior, mix, posterior
from ddx.inference.network import Floats, Ints
from ddx.inference.rows import expit
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase
from ddx.noisy_or import finding_arrays


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence of N cases in the order of the network's ids.

    ``finding`` (N, F): 1 present, 0 absent, nan not observed, between: uncertain; nan for the levels of graded findings.
    ``level``: graded finding -> (N, L + 1) likelihood of none and of every level, lowest first; 1 everywhere: not observed.
    ``context`` (N, C): 1, 0 or nan. ``age`` (N,) index of the age band and ``sex`` (N,) index of the sex, -1 unknown.
    """

    finding: Floats
    level: Mapping[str, Floats]
    context: Floats
    age: Ints
    sex: Ints

    def __len__(self) -> int:
        return len(self.finding)


@dataclass(frozen=True, eq=False)
class Parts:
    """N cases as M weighted parts of known age and sex whose evidence is a product over the finding columns.

    ``case`` (M,) ascending; ``age``, ``sex`` (M,) indices; ``finding`` (M, F); ``log_weight`` (M,).
    """

    case: Ints
    age: Ints
    sex: Ints
    finding: Floats
    log_weight: Floats


@dataclass(frozen=True, eq=False)
class LayeredNetwork:
    """Arrays of one knowledge base in one setting; ids give the meaning of every axis."""

    causes: tuple[str, ...]
    findings: tuple[str, ...]
    risk_factors: tuple[str, ...]
    age_bands: tuple[str, ...]
    sexes: tuple[str, ...]
    graded: Mapping[str, tuple[str, ...]]
    prevalence: Floats  # (K,) in the setting, over the reference population
    log_odds: Floats  # (A, 2, K) of every cause without risk factors
    context_log_odds: Floats  # (K, C)
    context_prior: Floats  # (A, 2, C)
    requires: Ints  # (C,)
    share: Floats  # (A, 2) of the reference population
    link: Floats  # (F, K)
    leak: Floats  # (A, F)
    syndromes: tuple[str, ...]
    syndrome_link: Floats  # (J, K)
    syndrome_leak: Floats  # (J,)
    finding_syndrome: Floats  # (F, J)

    def posterior(self, evidence: Evidence) -> Posterior:
        """Exact posterior of N cases; unknown age, sex and risk factors are summed out."""
        if not len(evidence):
            none, no_context = np.empty(0), np.empty((0, len(self.risk_factors)))
            return Posterior(np.empty((0, len(self.causes))), none, none, no_context, np.empty((0, len(self.syndromes))))
        parts = self.parts(evidence)
        try:
            solved = posterior(self.core(parts), parts.finding, evidence.context[parts.case])
        except EvidenceTooLarge as error:
            raise error.of_row(int(parts.case[error.row])) from None
        return mix(solved, parts.case, parts.log_weight)[0]

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
        case, finding, log_likelihood, part = self._level_parts(evidence, case)
        return Parts(case, age[part], sex[part], finding, log_weight[part] + log_likelihood)

    def core(self, parts: Parts) -> Network:
        """The network of the core, with priors, leaks and context of every part."""
        return Network(
            prior=expit(self.log_odds[parts.age, parts.sex]),
            link=self.link,
            leak=self.leak[parts.age],
            syndrome_link=self.syndrome_link,
            syndrome_leak=self.syndrome_leak,
            finding_syndrome=self.finding_syndrome,
            context_log_odds=self.context_log_odds,
            context_prior=self.context_prior[parts.age, parts.sex],
            requires=self.requires,
        )

    def _strata(self, evidence: Evidence) -> tuple[Ints, Ints, Ints, Floats]:
        """Case, age band, sex and log weight P(age, sex | observed context) of every stratum that a case may belong to."""
        age = np.arange(len(self.age_bands))
        sex = np.arange(len(self.sexes))
        fits_age = (evidence.age[:, None] < 0) | (evidence.age[:, None] == age)
        fits_sex = (evidence.sex[:, None] < 0) | (evidence.sex[:, None] == sex)
        case, a, s = np.nonzero(fits_age[:, :, None] & fits_sex[:, None, :])
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.share[a, s]) + self._log_context(evidence.context[case], self.context_prior[a, s])
        first = np.flatnonzero(np.r_[True, np.diff(case) > 0])
        peak = np.maximum.reduceat(log_weight, first)
        total = np.add.reduceat(np.exp(log_weight - peak[case]), first)
        return case, a, s, log_weight - (peak + np.log(total))[case]

    def _log_context(self, observed: Floats, prior: Floats) -> Floats:
        """Log P(observed context | stratum) (M,): a risk factor together with those that require it."""
        total = np.zeros(len(observed))
        own = np.where(observed == 1.0, prior, np.where(observed == 0.0, 1.0 - prior, 1.0))
        with np.errstate(divide="ignore"):
            for j in np.flatnonzero(self.requires < 0):
                children = np.flatnonzero(self.requires == j)
                present = prior[:, j] * own[:, children].prod(axis=1)
                absent = np.where((observed[:, children] == 1.0).any(axis=1), 0.0, 1.0 - prior[:, j])
                x = observed[:, j]
                total += np.log(np.where(x == 1.0, present, np.where(x == 0.0, absent, present + absent)))
        return total

    def _level_parts(self, evidence: Evidence, case: Ints) -> tuple[Ints, Floats, Floats, Ints]:
        """Split statements about graded findings into parts that are products over the finding columns.

        A likelihood over levels is a sum of disjoint pieces, "this level" or "not above this level"; each piece is a part.
        """
        finding = evidence.finding[case]
        part = np.arange(len(case))
        log_likelihood = np.zeros(len(case))
        column = {f: i for i, f in enumerate(self.findings)}
        for graded, levels in self.graded.items():
            likelihood = evidence.level[graded][case]
            said = (likelihood != 1.0).any(axis=1)
            if not said.any():
                continue
            columns = [column[level] for level in levels]
            pieces = [_pieces(row) if spoken else [] for row, spoken in zip(likelihood, said, strict=True)]
            repeat = np.array([max(1, len(p)) for p in pieces])
            case, part = np.repeat(case, repeat), np.repeat(part, repeat)
            log_likelihood, finding = np.repeat(log_likelihood, repeat), np.repeat(finding, repeat, axis=0)
            row = 0
            for options in pieces:
                for weight, values in options:
                    finding[row, columns] = values
                    log_likelihood[row] += np.log(weight)
                    row += 1
                row += not options
        return case, finding, log_likelihood, part


def _pieces(likelihood: Floats) -> list[tuple[float, list[float]]]:
    """(weight, values of the level columns) whose weighted sum is a likelihood over none, level 1, ..., level L.

    "Level v" is: v present, all above absent. "At most v" is: all above absent. A likelihood with one value up to level v
    starts with the second kind.
    """
    if not likelihood.any():
        raise ValueError("a likelihood over levels is zero everywhere: contradictory statements about a graded finding")
    n_levels = len(likelihood) - 1
    flat = 0
    while flat < n_levels and likelihood[flat + 1] == likelihood[0]:
        flat += 1
    pieces = []
    if likelihood[0] > 0.0:
        pieces.append((float(likelihood[0]), [np.nan] * flat + [0.0] * (n_levels - flat)))
    pieces += [
        (float(likelihood[v]), [np.nan] * (v - 1) + [1.0] + [0.0] * (n_levels - v))
        for v in range(flat + 1, n_levels + 1)
        if likelihood[v] > 0.0
    ]
    return pieces


def build_network(kb: KnowledgeBase, setting: str, values: Mapping[str, float] | None = None) -> LayeredNetwork:
    """The network of a knowledge base in a setting.

    Parameters
    ----------
    values : parameter id -> number, optional
        Replaces the means of the parameters named (parameter draws, what-if questions).

    Raises
    ------
    UsageError
        Unknown setting.
    """
    if setting not in kb.settings:
        raise UsageError(f"unknown setting {setting!r}{nearest(setting, kb.settings)}; known: {', '.join(kb.settings)}")
    value = kb.means | dict(values or {})
    causes, findings = tuple(kb.causes), tuple(kb.findings)
    bands, sexes = tuple(c.id for c in kb.age_bands), tuple(c.id for c in kb.sexes)
    share = np.outer(
        _normalized([value[f"population:{b}"] for b in bands]), _normalized([value[f"population:{s}"] for s in sexes])
    )
    risk_factors = tuple(c.id for c in kb.risk_factors)
    context_prior = np.empty((*share.shape, len(risk_factors)))  # there may be none
    for x, factor in enumerate(risk_factors):
        context_prior[..., x] = _context_prior(value, factor, bands, sexes, share)
    requires = np.array([risk_factors.index(c.requires) if c.requires else -1 for c in kb.risk_factors], dtype=np.intp)
    prevalence, log_odds, context_log_odds = _cause_arrays(kb, setting, value, causes, context_prior, requires, share)
    arrays = finding_arrays(kb, value).usable()
    return LayeredNetwork(
        causes=causes,
        findings=findings,
        risk_factors=risk_factors,
        age_bands=bands,
        sexes=sexes,
        graded=kb.graded,
        prevalence=prevalence,
        log_odds=log_odds,
        context_log_odds=context_log_odds,
        context_prior=context_prior,
        requires=requires,
        share=share,
        syndromes=tuple(kb.syndromes),
        **vars(arrays),
    )


def revise_network(network: LayeredNetwork, kb: KnowledgeBase, setting: str, values: Mapping[str, float]) -> LayeredNetwork:
    """What ``build_network`` returns for these values, from the network of the means: only what depends on them is made anew.

    Arrays that stay are the very arrays of ``network``.
    """
    value = kb.means | dict(values)
    kinds = {parameter.partition(":")[0] for parameter in values}
    if "population" in kinds:
        return build_network(kb, setting, values)
    if kinds & {"link", "leak"}:
        network = replace(network, **vars(finding_arrays(kb, value).usable()))
    if not kinds - {"link", "leak"}:
        return network
    named = {parameter.replace("@", ":").split(":")[1] for parameter in values if parameter.startswith(("or:", "prior:"))}
    context_prior = network.context_prior if "context" not in kinds else network.context_prior.copy()
    for x, factor in enumerate(network.risk_factors):
        if any(p == f"context:{factor}" or p.startswith(f"context:{factor}@") for p in values):
            context_prior[..., x] = _context_prior(value, factor, network.age_bands, network.sexes, network.share)
            family = [x, *np.flatnonzero(network.requires == x)]
            changed = (network.context_log_odds[:, family] != 0.0).any(axis=1)
            named |= {network.causes[k] for k in np.flatnonzero(changed)}
    causes = [cause for cause in network.causes if cause in named]
    rows = [network.causes.index(cause) for cause in causes]
    arrays = _cause_arrays(kb, setting, value, causes, context_prior, network.requires, network.share)
    prevalence, log_odds, context_log_odds = (
        a.copy() for a in (network.prevalence, network.log_odds, network.context_log_odds)
    )
    prevalence[rows], log_odds[..., rows], context_log_odds[rows] = arrays
    return replace(
        network, prevalence=prevalence, log_odds=log_odds, context_log_odds=context_log_odds, context_prior=context_prior
    )


def _cause_arrays(
    kb: KnowledgeBase,
    setting: str,
    value: Mapping[str, float],
    causes: Sequence[str],
    context_prior: Floats,
    requires: Ints,
    share: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Prevalence (k,), log odds (A, 2, k) and log odds ratios of the risk factors (k, C) of some causes."""

    def log_ratio(context: str) -> Floats:
        return np.array([np.log(value.get(f"or:{cause}:{context}", 1.0)) for cause in causes])

    sexes = [log_ratio(s.id) for s in kb.sexes]
    stratum = np.array([[band + sex for sex in sexes] for band in [log_ratio(b.id) for b in kb.age_bands]])
    context_log_odds = np.empty((len(causes), len(kb.risk_factors)))
    for x, factor in enumerate(kb.risk_factors):
        context_log_odds[:, x] = log_ratio(factor.id)
    prevalence = np.array([_prevalence(value, cause, setting, len(kb.causes)) for cause in causes])
    intercept = solve_intercepts(prevalence, stratum, context_log_odds, context_prior, requires, share)
    return prevalence, intercept + stratum, context_log_odds


def _prevalence(value: Mapping[str, float], cause: str, setting: str, n_causes: int) -> float:
    """Of the setting; a cause without a figure for it keeps that of the general population."""
    if setting == BALANCED:
        return 1.0 / n_causes
    general = value[f"prior:{cause}"]
    return general if setting == GENERAL else value.get(f"prior:{cause}@{setting}", general)


def _context_prior(
    value: Mapping[str, float], factor: str, bands: tuple[str, ...], sexes: tuple[str, ...], share: Floats
) -> Floats:
    """P(risk factor | age band, sex) (A, 2): the figure of the group, else log odds of age plus the contrast of the sexes."""
    overall = value[f"context:{factor}"]
    by_sex = np.array([value.get(f"context:{factor}@{s}", np.nan) for s in sexes])
    mean = share.sum(axis=0) @ by_sex
    contrast = _logit(by_sex) - _logit(mean) if np.isfinite(mean) else np.zeros(len(sexes))
    prior = np.empty((len(bands), len(sexes)))
    for a, band in enumerate(bands):
        base = value.get(f"context:{factor}@{band}", overall)
        for s, sex in enumerate(sexes):
            cell = value.get(f"context:{factor}@{'+'.join(sorted((band, sex)))}")
            prior[a, s] = expit(_logit(base) + contrast[s]) if cell is None else cell
    return prior


def solve_intercepts(
    prevalence: Floats, stratum: Floats, context_log_odds: Floats, context_prior: Floats, requires: Ints, share: Floats
) -> Floats:
    """Intercepts b (K,) for which the marginal of every cause over the reference population is its prevalence.

    sum over strata and risk factors of P(stratum) P(x | stratum) expit(b_k + stratum_k + log_odds_k x) = prevalence_k,
    solved by Newton steps inside a bracket; the sum runs over the risk factors that change the cause.

    Parameters
    ----------
    prevalence (K,), stratum (A, 2, K), context_log_odds (K, C), context_prior (A, 2, C), requires (C,), share (A, 2)
    """
    intercept = np.empty(len(prevalence))
    for k, target in enumerate(prevalence):
        offset, weight = offsets(stratum[..., k], context_log_odds[k], context_prior, requires, share)
        low, high = _logit(target) - offset.max(), _logit(target) - offset.min()
        b = 0.5 * (low + high)
        for _ in range(100):
            p = expit(b + offset)
            gap = float(weight @ p - target)
            low, high = (low, b) if gap > 0.0 else (b, high)
            newton = b - gap / float(weight @ (p * (1.0 - p)))
            step = newton if low <= newton <= high else 0.5 * (low + high)
            if abs(step - b) <= 1e-15 * max(1.0, abs(b)):
                break
            b = step
        intercept[k] = b
    return intercept


def offsets(stratum: Floats, log_odds: Floats, prior: Floats, requires: Ints, share: Floats) -> tuple[Floats, Floats]:
    """Log odds offset and probability of every combination of stratum and of the risk factors that matter."""
    used = set(np.flatnonzero(log_odds).tolist())
    used |= {int(requires[j]) for j in used if requires[j] >= 0}
    offset, weight = stratum.ravel(), share.ravel()
    probability = prior.reshape(share.size, prior.shape[-1])
    state: dict[int, NDArray[np.bool_]] = {}
    origin = np.arange(len(offset))
    for j in sorted(used, key=lambda j: (requires[j] >= 0, j)):
        p = probability[origin, j]
        if requires[j] >= 0:
            p = np.where(state[int(requires[j])], p, 0.0)
        state = {i: np.concatenate([x, x]) for i, x in state.items()}
        state[j] = np.repeat([False, True], len(origin))
        offset = np.concatenate([offset, offset + log_odds[j]])
        weight = np.concatenate([weight * (1.0 - p), weight * p])
        origin = np.concatenate([origin, origin])
    return offset, weight


def _normalized(values: list[float]) -> Floats:
    return np.array(values) / sum(values)


def _logit(p: Floats | float) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)))


def without_findings(evidence: Evidence) -> Evidence:
    """The same cases with age, sex and risk factors only."""
    level = {graded: np.ones_like(likelihood) for graded, likelihood in evidence.level.items()}
    return Evidence(np.full_like(evidence.finding, np.nan), level, evidence.context, evidence.age, evidence.sex)
