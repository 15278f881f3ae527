"""Networks to test with, and three ways to the right answer that share no code with ddx.

``enumerate_posterior`` sums over every configuration of context, causes and syndromes, straight from the definition of the
model; ``quickscore`` is Heckerman's inclusion-exclusion over the findings in 120-digit arithmetic; ``to_pyagrum`` hands the
tables of an exported network to another engine. Axes: N cases, K causes, J syndromes, F findings, C context variables.
"""

import itertools
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import mpmath
import numpy as np
from hypothesis import strategies as st

import ddx
from ddx.inference import Network, dispatch
from ddx.knowledge import Cause, Context, Finding, KnowledgeBase, Parameter

nan = np.nan


@dataclass(frozen=True)
class Example:
    """The arrays of one network, shared by all cases."""

    prior: np.ndarray  # (K,)
    link: np.ndarray  # (F, K)
    leak: np.ndarray  # (F,)
    context_log_odds: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (K, C)
    context_prior: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (C,)
    requires: tuple[int, ...] = ()
    syndrome_link: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (J, K)
    syndrome_leak: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (J,)
    finding_syndrome: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (F, J)
    none_weight: float = 1.0

    @property
    def n_context(self):
        return len(self.context_prior)

    @property
    def n_syndromes(self):
        return len(self.syndrome_leak)

    def arrays(self):
        """The arguments of Network; those of a layer that is not there are left out."""
        names = ["prior", "link", "leak"]
        if self.n_context:
            names += ["context_log_odds", "context_prior", *(["requires"] if self.requires else [])]
        if self.n_syndromes:
            names += ["syndrome_link", "syndrome_leak", "finding_syndrome"]
        return {name: getattr(self, name) for name in names} | (
            {"none_weight": self.none_weight} if self.none_weight < 1.0 else {}
        )

    def network(self):
        return Network(**self.arrays())


class Answer(NamedTuple):
    """Of one case; ``none``: no cause at all; ``log_evidence``: of the findings, given the observed context."""

    marginal: np.ndarray  # (K,)
    none: float
    log_evidence: float
    context: np.ndarray  # (C,)
    syndrome: np.ndarray  # (J,) nan for a syndrome none of whose findings was observed


def random_example(
    seed,
    n_causes,
    n_findings,
    n_context=0,
    requires=(),
    *,
    density=0.5,
    prior=(0.01, 0.5),
    leak=(0.01, 0.3),
    n_syndromes=0,
    syndrome_density=0.6,
):
    """A network of random sparse links; every context variable changes about half of the causes."""
    rng = np.random.default_rng(seed)

    def links(share, *shape):
        return rng.uniform(0.05, 0.95, shape) * (rng.random(shape) < share)

    link = links(density, n_findings, n_causes)
    log_odds = rng.normal(0.0, 1.5, (n_causes, n_context)) * (rng.random((n_causes, n_context)) < 0.5)
    return Example(
        prior=np.exp(rng.uniform(*np.log(prior), n_causes)),
        link=link,
        leak=np.exp(rng.uniform(*np.log(leak), n_findings)),
        context_log_odds=log_odds,
        context_prior=rng.uniform(0.05, 0.7, n_context),
        requires=tuple(requires),
        syndrome_link=links(syndrome_density, n_syndromes, n_causes),
        syndrome_leak=np.exp(rng.uniform(*np.log(leak), n_syndromes)),
        finding_syndrome=links(syndrome_density, n_findings, n_syndromes),
    )


def random_evidence(rng, n_cases, n_findings, shares=(0.3, 0.25, 0.25, 0.2)):
    """Rows that mix present, absent, not observed and uncertain findings, in these shares."""
    kind = rng.choice(4, size=(n_cases, n_findings), p=shares)
    return np.choose(kind, [1.0, 0.0, nan, rng.uniform(0.02, 0.98, (n_cases, n_findings))])


def random_context(rng, n_cases, requires):
    """Rows of 1, 0 and nan that do not contradict ``requires`` (C,)."""
    context = rng.choice([0.0, 1.0, nan], size=(n_cases, len(requires)), p=[0.3, 0.3, 0.4])
    for child, parent in enumerate(requires):
        if parent >= 0:
            clash = (context[:, child] == 1.0) & (context[:, parent] == 0.0)
            context[clash, child] = nan
    return context


def _booleans(n):
    return np.array(list(itertools.product([0.0, 1.0], repeat=n))).reshape(2**n, n)


def _noisy_or(leak, link, parents):
    """P(0) and P(1) (A, F) for every row of parents (A, K); neither is one minus the other, which would lose digits."""
    absent = (1.0 - leak) * np.prod((1.0 - link) ** parents[:, None, :], axis=2)
    with np.errstate(divide="ignore"):
        log_escape = np.where(parents[:, None, :] == 1.0, np.log1p(-link), 0.0).sum(axis=2)
        return absent, -np.expm1(np.log1p(-leak) + log_escape)


def enumerate_posterior(example, evidence, context=None):
    """The definition of the model, summed over all 2**(C + K + J) configurations of context, causes and syndromes.

    ``evidence`` (F,) and ``context`` (C,) of one case, nan for not observed.
    """
    n_causes, n_syndromes, n_findings = len(example.prior), example.n_syndromes, len(example.leak)
    finding_syndrome = example.finding_syndrome.reshape(n_findings, n_syndromes)
    observed = np.full(example.n_context, nan) if context is None else np.asarray(context, dtype=float)
    causes, syndromes = _booleans(n_causes), _booleans(n_syndromes)
    absent, present = _noisy_or(example.syndrome_leak, example.syndrome_link.reshape(n_syndromes, n_causes), causes)
    of_syndromes = np.prod(np.where(syndromes == 1.0, present[:, None], absent[:, None]), axis=2)
    parents = np.hstack([np.repeat(causes, len(syndromes), axis=0), np.tile(syndromes, (len(causes), 1))])
    absent, present = _noisy_or(example.leak, np.hstack([example.link, finding_syndrome]), parents)
    v = np.asarray(evidence, dtype=float)
    likelihood = np.prod(np.where(np.isnan(v), 1.0, v * present + (1.0 - v) * absent), axis=1)
    given_causes = of_syndromes * likelihood.reshape(of_syndromes.shape)
    joint = np.zeros(given_causes.shape)
    joint_context = np.zeros(example.n_context)
    p_context_total = 0.0
    weight = np.where(causes.any(axis=1), 1.0, example.none_weight)
    for x in _booleans(example.n_context):
        if np.any(~np.isnan(observed) & (observed != x)):
            continue
        p_context = 1.0
        for j, p in enumerate(example.context_prior):
            parent = example.requires[j] if example.requires else -1
            possible = p if parent < 0 or x[parent] == 1.0 else 0.0
            p_context *= possible if x[j] == 1.0 else 1.0 - possible
        odds_ratio = np.exp(example.context_log_odds @ x) if example.n_context else 1.0
        p = example.prior * odds_ratio / (1.0 - example.prior + example.prior * odds_ratio)
        of_causes = p_context * np.prod(np.where(causes == 1.0, p, 1.0 - p), axis=1) * weight
        p_context_total += of_causes.sum()
        here = of_causes[:, None] * given_causes
        joint += here
        joint_context += here.sum() * x
    total = joint.sum()
    seen = (~np.isnan(v)[:, None] & (finding_syndrome > 0.0)).any(axis=0)
    return Answer(
        causes.T @ joint.sum(axis=1) / total,
        joint[0].sum() / total,
        np.log(total / p_context_total),
        joint_context / total,
        np.where(seen, joint.sum(axis=0) @ syndromes / total, nan),
    )


_PLACES = 400
_ONE = 1 << _PLACES
_fixed = np.frompyfunc(lambda x: int(mpmath.mpf(float(x)) * _ONE), 1, 1)


def quickscore(example, evidence):
    """Answer for one row of evidence (F,) in 80-digit numbers, for networks without context.

    Heckerman (1989, eq. 11), with likelihoods 1 - v and v for absent and present: the sum over subsets S of the present and
    uncertain findings of prod_{not S} v prod_S (1 - 2 v)(1 - leak) prod_k (1 - p_k + p_k escape_k prod_S (1 - w_k)).
    Signs alternate and digits cancel, hence fixed-point integers of 400 binary places: what is left is good to 80 digits.
    Given which syndromes are there, they are findings like the others, and part of the leaks of the findings that they cause.
    """
    n_causes, n_syndromes, n_findings = len(example.prior), example.n_syndromes, len(example.leak)
    prior, finding_syndrome = _fixed(example.prior), _fixed(example.finding_syndrome.reshape(n_findings, n_syndromes))
    link = np.vstack([_fixed(example.link), _fixed(example.syndrome_link.reshape(n_syndromes, n_causes))])
    leak, syndrome_leak = _fixed(example.leak), _fixed(example.syndrome_leak)
    with mpmath.workdps(140):
        total, none = mpmath.mpf(0), mpmath.mpf(0)
        causes, syndromes = [mpmath.mpf(0)] * n_causes, [mpmath.mpf(0)] * n_syndromes
        for there in itertools.product((0, 1), repeat=n_syndromes):
            not_explained = _ONE - leak
            for j in np.flatnonzero(there):
                not_explained = not_explained * (_ONE - finding_syndrome[:, j]) >> _PLACES
            here, alone, of_causes = _joint(
                prior, link, np.append(_ONE - not_explained, syndrome_leak), np.append(evidence, there)
            )
            total, none = total + here, none + alone
            causes = [c + own for c, own in zip(causes, of_causes, strict=True)]
            syndromes = [s + here * j for s, j in zip(syndromes, there, strict=True)]
        seen = (~np.isnan(evidence)[:, None] & (example.finding_syndrome.reshape(n_findings, n_syndromes) > 0.0)).any(axis=0)
        return Answer(
            np.array([c / total for c in causes]),
            none / total,
            mpmath.log(total),
            np.zeros(0),
            np.array([p / total if s else nan for p, s in zip(syndromes, seen, strict=True)]),
        )


def _joint(prior, link, leak, evidence):
    """P(evidence), P(evidence, no cause) and P(evidence, cause) (K,), in 120 digits, of a network of fixed-point integers."""
    value = _fixed(np.nan_to_num(evidence))
    bits, absent = np.flatnonzero(evidence > 0.0), np.flatnonzero(evidence == 0.0)

    def times(table, factor):
        return table if factor == _ONE else table * factor >> _PLACES

    def over_subsets(start, without, within):
        table = np.array([start], dtype=object)
        for out, into in zip(without, within, strict=True):
            table = np.concatenate([times(table, out), times(table, into)])
        return table

    ones = [_ONE] * len(bits)
    coefficient = over_subsets(_ONE, value[bits], [(_ONE - 2 * value[r]) * (_ONE - leak[r]) >> _PLACES for r in bits])
    scale = mpmath.mpf(1) / _ONE
    for r in absent:
        scale *= mpmath.mpf(_ONE - leak[r]) / _ONE

    def joint(k):
        start = prior[k]
        for r in absent:
            start = times(start, _ONE - link[r, k])
        return over_subsets(start, ones, _ONE - link[bits, k])

    total, nobody = coefficient, _ONE
    for k in range(len(prior)):
        total = total * (_ONE - prior[k] + joint(k)) >> _PLACES
        nobody = nobody * (_ONE - prior[k]) >> _PLACES
    of_causes = []
    for k in range(len(prior)):
        own = joint(k)
        of_causes.append(sum(total * own // (_ONE - prior[k] + own)) * scale)
    return sum(total) * scale, sum(coefficient * nobody >> _PLACES) * scale, of_causes


def relative_error(got, exact):
    """Largest relative error of floats against 80-digit numbers; infinite for anything but zero where zero is right."""
    with mpmath.workdps(80):
        pairs = zip(np.atleast_1d(got), np.atleast_1d(exact), strict=True)
        return max(float(abs(mpmath.mpf(float(g)) / e - 1)) if e else (np.inf if g else 0.0) for g, e in pairs)


def largest_error(result, i, answer):
    """Largest relative error of case i of a Posterior against an Answer in 80 digits."""
    pairs = [
        (result.marginal[i], answer.marginal),
        (result.none[i], answer.none),
        (result.log_evidence[i], answer.log_evidence),
    ]
    seen = np.array([not mpmath.isnan(p) for p in answer.syndrome], dtype=bool)
    np.testing.assert_array_equal(np.isnan(result.syndrome[i]), ~seen)
    if seen.any():
        pairs.append((result.syndrome[i][seen], answer.syndrome[seen]))
    return max(relative_error(got, exact) for got, exact in pairs)


EXAMPLES = {
    "one_cause": random_example(1, 1, 3, density=1.0),
    "no_links": random_example(2, 4, 5, density=0.0),
    "sparse": random_example(3, 6, 9, density=0.3),
    "dense": random_example(4, 7, 8, density=1.0),
    "rare_causes": random_example(5, 6, 8, prior=(1e-9, 1e-4), leak=(1e-6, 1e-2)),
    "one_context": random_example(6, 4, 6, 1),
    "context": random_example(7, 5, 7, 4),
    "requires": random_example(8, 5, 6, 4, (-1, 0, -1, 2)),
    "two_need_one": random_example(9, 5, 6, 4, (-1, 0, 0, -1)),
    "child_before_parent": random_example(10, 4, 5, 3, (2, -1, -1)),
    "idle_context": replace(random_example(11, 4, 5, 2, (-1, 0)), context_log_odds=np.array([[1.0, 0.0]] * 4)),
    "context_without_effect": replace(random_example(12, 3, 4, 2), context_log_odds=np.zeros((3, 2))),
    "syndromes_only": random_example(20, 5, 8, density=0.0, n_syndromes=3),
    "syndromes_and_links": random_example(21, 5, 7, density=0.3, n_syndromes=3),
    "findings_of_many_syndromes": random_example(22, 4, 8, density=0.2, n_syndromes=3, syndrome_density=0.95),
    "rare_syndromes": random_example(23, 5, 7, density=0.2, prior=(1e-9, 1e-4), leak=(1e-6, 1e-2), n_syndromes=2),
    "more_syndromes_than_findings": random_example(24, 5, 3, density=0.5, n_syndromes=5),
    "syndromes_and_context": random_example(25, 5, 6, 3, (-1, 0, -1), density=0.4, n_syndromes=2),
    "syndromes_only_and_context": random_example(26, 4, 6, 3, (1, -1, 1), density=0.0, n_syndromes=2),
    "syndrome_without_leak": Example(
        prior=np.array([0.1, 0.02, 0.3, 0.05]),
        link=np.array([[0.3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0.6], [0, 0, 0, 0], [0, 0.2, 0, 0]]),
        leak=np.array([0.02, 0.1, 0.05, 0.01, 0.2]),
        syndrome_link=np.array([[0.7, 0.4, 0, 0], [0, 0.8, 0.5, 0.9]]),
        syndrome_leak=np.array([0.0, 0.03]),
        finding_syndrome=np.array([[0.9, 0], [0.6, 0.2], [0.4, 0.8], [0, 0.7], [0, 0.3]]),
    ),
    "certain_link_to_syndrome": Example(
        prior=np.array([0.1, 0.02, 0.3]),
        link=np.array([[0, 0, 0.4], [0, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 0.1, 0.7]]),
        leak=np.array([0.05, 0.02, 0.1, 0.3, 0.01]),
        syndrome_link=np.array([[1.0, 0.2, 0], [0, 1.0, 1.0]]),
        syndrome_leak=np.array([0.04, 0.0]),
        finding_syndrome=np.array([[0.8, 0.1], [0.5, 0], [0, 0.9], [0.3, 0.6], [1.0, 0]]),
    ),
    "syndrome_of_no_cause": Example(
        prior=np.array([0.1, 0.02, 0.3]),
        link=np.array([[0.5, 0, 0.4], [0, 0.6, 0], [0, 0, 0], [0, 0, 0.2]]),
        leak=np.array([0.05, 0.02, 0.1, 0.3]),
        syndrome_link=np.array([[0, 0, 0], [0.6, 0.9, 0], [0.5, 0, 0.5]]),  # the last one shows in no finding
        syndrome_leak=np.array([0.15, 0.02, 0.1]),
        finding_syndrome=np.array([[0.8, 0.3, 0], [0.5, 0, 0], [0.7, 0, 0], [0, 0.6, 0]]),
    ),
    "weighed": replace(random_example(30, 6, 8), none_weight=0.2),
    "weighed_context": replace(random_example(31, 5, 6, 3, (-1, 0, -1)), none_weight=0.05),
    "weighed_syndromes_and_context": replace(random_example(32, 4, 6, 3, n_syndromes=2, density=0.3), none_weight=0.4),
    "weighed_idle_context": replace(
        random_example(33, 4, 5, 2, (-1, 0)), context_log_odds=np.array([[1.0, 0.0]] * 4), none_weight=0.3
    ),
    "structural": Example(
        prior=np.array([0.0, 1.0, 0.2, 0.1, 0.3]),
        link=np.array([[1, 0.3, 0, 0.5, 0], [0, 0.4, 1, 0, 0], [0, 0, 0.7, 1, 0.2], [0.2, 0, 0, 0, 0.9]]),
        leak=np.array([0.0, 1.0, 0.0, 0.05]),
        context_log_odds=np.array([[2.0, 0.0], [-1.0, 0.5], [1.0, 0.0], [0.0, -2.0], [0.0, 0.0]]),
        context_prior=np.array([0.3, 0.6]),
    ),
}  # fmt: skip


# --- networks of hypothesis, and the kernel that solves them ---------------------------------------------------------------

INNER = st.floats(1e-6, 1.0 - 1e-6)
PROBABILITY = st.one_of(INNER, st.sampled_from([0.0, 1e-300, 0.5, 1.0]))
VALUE = st.one_of(st.sampled_from([nan, 0.0, 1.0, 0.5]), st.floats(1e-9, 1.0))


@st.composite
def problems(draw, probability=PROBABILITY, max_cases=4, syndromes=(0, 2), weights=(1.0, 0.3, 0.01)):
    """(Example, evidence (N, F), context (N, C)); ``syndromes``: how few, how many; ``weights`` of no cause."""
    n_causes, n_findings, n_context = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    n_syndromes, n_cases = draw(st.integers(*syndromes)), draw(st.integers(1, max_cases))

    def array(element, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(element, min_size=size, max_size=size)), dtype=float).reshape(shape)

    some = st.one_of(st.just(0.0), probability)
    requires = (-1, *(draw(st.sampled_from([-1, 0])) for _ in range(n_context - 1))) if n_context else ()
    example = Example(
        prior=array(probability, n_causes),
        link=array(some, n_findings, n_causes),
        leak=array(probability, n_findings),
        context_log_odds=array(st.one_of(st.just(0.0), st.floats(-5.0, 5.0)), n_causes, n_context),
        context_prior=array(st.floats(0.01, 0.99), n_context),
        requires=requires,
        syndrome_link=array(some, n_syndromes, n_causes),
        syndrome_leak=array(probability, n_syndromes),
        finding_syndrome=array(some, n_findings, n_syndromes),
        none_weight=draw(st.sampled_from(weights)),
    )
    evidence = array(VALUE, n_cases, n_findings)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return example, evidence, random_context(rng, n_cases, requires)


def _arrays_of(result):
    return {name: array for name, array in vars(result).items() if isinstance(array, np.ndarray)}


def some_rows(result, rows):
    """The result for some of the cases."""
    return replace(result, **{name: array[rows] for name, array in _arrays_of(result).items()})


def assert_bits(got, expected):
    """Two results are the same to the last bit, in every array."""
    assert _arrays_of(got).keys() == _arrays_of(expected).keys()
    for name, array in _arrays_of(expected).items():
        other = getattr(got, name)
        assert other.shape == array.shape, name
        different = np.argwhere(~((other == array) | (np.isnan(other) & np.isnan(array))))
        assert not len(different), f"{name}: {len(different)} differ, first at {different[0]}"


def use_kernel(patch, name):
    """From here on the core takes this kernel where it may choose."""
    load = dispatch.load_compiled
    patch.setattr(dispatch, "load_compiled", lambda kernel, expected=0.0: load(name if kernel == "auto" else kernel, expected))


# --- the limb knowledge base, and a small one whose parameters are written down here -------------------------------------


def sub_network(net, causes):
    """A LayeredNetwork with all causes but these switched off."""
    rows = [net.causes.index(c) for c in causes]
    columns, forms = rows, net.forms
    if forms is not None:
        own = [np.flatnonzero(forms.cause == k) for k in rows]
        columns = np.concatenate(own)
        cause = np.repeat(np.arange(len(rows)), [len(part) for part in own])
        forms = replace(forms, cause=cause, share=forms.share[columns], name=tuple(forms.name[i] for i in columns))
    return replace(
        net,
        causes=tuple(causes),
        prevalence=net.prevalence[rows],
        log_odds=net.log_odds[..., rows],
        context_log_odds=net.context_log_odds[rows],
        link=net.link[:, columns],
        syndrome_link=net.syndrome_link[:, columns],
        forms=forms,
    )


def layered_evidence(net, cases):
    """Evidence of cases given as dicts: finding, ``graded=likelihood``, risk factor, age_band and sex by their ids."""
    finding = np.full((len(cases), len(net.findings)), nan)
    context = np.full((len(cases), len(net.risk_factors)), nan)
    age, sex = np.full((2, len(cases)), -1)
    level = {graded: np.ones((len(cases), len(levels) + 1)) for graded, levels in net.graded.items()}
    for row, case in enumerate(cases):
        for name, value in case.items():
            if name == "age_band":
                age[row] = net.ages.index(value)
            elif name == "sex":
                sex[row] = net.sexes.index(value)
            elif name in level:
                level[name][row] = value
            elif name in net.risk_factors:
                context[row, net.risk_factors.index(name)] = value
            else:
                finding[row, net.findings.index(name)] = value
    columns = np.flatnonzero(~np.isnan(finding).all(axis=0))
    level = {graded: likelihood for graded, likelihood in level.items() if (likelihood != 1.0).any()}
    return ddx.network.Evidence(columns, finding[:, columns], level, context, age, sex)


SMALL_CAUSES = ("flu", "palsy", "gout")
SMALL_FINDINGS = ("fever", "weakness", "swelling")
SMALL_FACTORS = ("smoking", "insulin", "diabetes")
SMALL_AGES, SMALL_SEXES = ("young", "adult", "old"), ("female", "male")
SMALL_LEVELS = ("mild", "medium", "severe")
SMALL_VALUES = {
    "population:young": 0.3, "population:adult": 0.45, "population:old": 0.25,
    "population:female": 0.52, "population:male": 0.48,
    "context:smoking": 0.25, "context:smoking@young": 0.1, "context:smoking@female": 0.2, "context:smoking@male": 0.3,
    "context:diabetes": 0.08, "context:diabetes@old": 0.2, "context:diabetes@male+old": 0.26,
    "context:smoking@young@clinic": 0.25, "context:diabetes@old@clinic": 0.35, "context:insulin@adult@clinic": 0.4,
    "context:insulin": 0.3, "context:insulin@old": 0.45,
    "prior:flu": 0.02, "prior:flu@clinic": 0.15, "prior:palsy": 0.004, "prior:palsy@clinic": 0.08, "prior:gout": 0.03,
    "or:flu:young": 1.8, "or:flu:old": 0.6, "or:flu:smoking": 1.4, "or:palsy:old": 4.0, "or:palsy:female": 0.7,
    "or:palsy:diabetes": 3.0, "or:palsy:insulin": 2.0, "or:gout:female": 0.25, "or:gout:old": 5.0, "or:gout:smoking": 0.8,
    "leak:fever": 0.01, "leak:weakness": 0.03, "leak:weakness@old": 0.12, "leak:swelling": 0.05,
    "leak:mild": 0.1, "leak:medium": 0.04, "leak:severe": 0.01, "leak:mild@old": 0.2, "leak:severe@old": 0.03,
    "link:flu:fever": 0.8, "link:flu:weakness": 0.3, "link:flu:mild": 0.4, "link:flu:medium": 0.3, "link:flu:severe": 0.05,
    "link:palsy:weakness": 0.9, "link:palsy:mild": 0.2, "link:palsy:medium": 0.25, "link:palsy:severe": 0.5,
    "link:gout:swelling": 0.95, "link:gout:fever": 0.2,
}  # fmt: skip


SMALL_REQUIRES = {"insulin": "diabetes"}


def small_knowledge(values=None, requires=None):
    """Three causes, four findings (pain has levels), three risk factors, one of which requires another."""
    values, requires = SMALL_VALUES | (values or {}), SMALL_REQUIRES if requires is None else requires
    causes = [Cause(c, c, (), "f", "chronic", None, "", "", "routine", 0.5, "") for c in SMALL_CAUSES]
    findings = [Finding(f, f, (), "", 0, (), "symptom", "", "", "?", 1.0) for f in SMALL_FINDINGS]
    levels = [Finding(f, f, (), "pain", i, (), "symptom", "", "", "?", 1.0) for i, f in enumerate(SMALL_LEVELS, 1)]
    ages = (("young", 0, 30), ("adult", 30, 60), ("old", 60, 121))
    context = [
        *(Context(b, b, (), "age_band", "", low, high, "?") for b, low, high in ages),
        *(Context(s, s, (), "sex", "", None, None, "?") for s in ("female", "male")),
        *(Context(x, x, (), "risk_factor", requires.get(x, ""), None, None, "?") for x in SMALL_FACTORS),
    ]
    parameters = [Parameter(name, "beta", value, 1.0, 1.0, (), cited=True) for name, value in values.items()]

    def by_id(items):
        return MappingProxyType({item.id: item for item in items})

    return KnowledgeBase(
        name="small",
        version="1",
        title="",
        licence="",
        intended_use="",
        default_setting="general",
        settings=MappingProxyType({"general": "", "clinic": "", "balanced": ""}),
        causes=by_id(causes),
        findings=by_id([findings[0], levels[1], levels[0], *findings[1:], levels[2]]),
        context=by_id(context),
        measurements=MappingProxyType({}),
        sources=MappingProxyType({}),
        studies=MappingProxyType({}),
        parameters=by_id(parameters),
    )


class SmallModel:
    """The small knowledge base by the definition of the model alone: nested sums over everything, bisection for intercepts.

    ``none_weight``, ``scale`` of the priors, ``share`` of (age band, sex): of people at large, in whom causes are independent.
    """

    def __init__(self, setting="general", values=None, requires=None, none_weight=1.0, scale=1.0, share=None):
        self.value, self.setting = SMALL_VALUES | (values or {}), setting
        self.none_weight, self.share = none_weight, share
        self.requires = SMALL_REQUIRES if requires is None else requires
        general = {c: self.value[f"prior:{c}"] for c in SMALL_CAUSES}
        self.prevalence = {
            "general": general,
            "clinic": {c: self.value.get(f"prior:{c}@clinic", general[c]) for c in SMALL_CAUSES},
            "balanced": dict.fromkeys(SMALL_CAUSES, 1.0 / 3.0),
        }[setting]
        self.prevalence = {c: scale * p for c, p in self.prevalence.items()}
        self.intercept = {c: self._intercept(c) for c in SMALL_CAUSES}

    def strata(self):
        """(age band, sex, weight)"""
        if self.share is not None:
            yield from ((age, sex, weight) for (age, sex), weight in self.share.items())
            return
        total = sum(self.value[f"population:{a}"] for a in SMALL_AGES) * sum(self.value[f"population:{s}"] for s in SMALL_SEXES)
        for age, sex in itertools.product(SMALL_AGES, SMALL_SEXES):
            yield age, sex, self.value[f"population:{age}"] * self.value[f"population:{sex}"] / total

    def p_factor(self, factor, age, sex):
        """P(factor | group, what it requires): that of all people, its odds moved as the setting's own figure says."""
        p, own = self.p_factor_of_all(factor, age, sex), self.value.get(f"context:{factor}@{age}@{self.setting}")
        if own is None:
            return p
        base = sum(self.value[f"population:{s}"] * self.p_factor_of_all(factor, age, s) for s in SMALL_SEXES)
        odds = p / (1.0 - p) * (own / (1.0 - own)) / (base / (1.0 - base))
        return odds / (1.0 + odds)

    def p_factor_of_all(self, factor, age, sex):
        """The figure of the group, else that of the age and the contrast of the sexes."""
        cell = self.value.get(f"context:{factor}@{'+'.join(sorted((age, sex)))}")
        if cell is not None:
            return cell
        p = self.value.get(f"context:{factor}@{age}", self.value[f"context:{factor}"])
        own = self.value.get(f"context:{factor}@{sex}")
        if own is None:
            return p
        mean = sum(self.value[f"population:{s}"] * self.value[f"context:{factor}@{s}"] for s in SMALL_SEXES)
        odds = p / (1.0 - p) * (own / (1.0 - own)) / (mean / (1.0 - mean))
        return odds / (1.0 + odds)

    def contexts(self, age, sex):
        """({factor: 0 or 1}, probability)"""
        for bits in itertools.product((0, 1), repeat=len(SMALL_FACTORS)):
            x = dict(zip(SMALL_FACTORS, bits, strict=True))
            probability = 1.0
            for factor in SMALL_FACTORS:
                needed = self.requires.get(factor)
                p = self.p_factor(factor, age, sex) if needed is None or x[needed] else 0.0
                probability *= p if x[factor] else 1.0 - p
            yield x, probability

    def p_cause(self, cause, age, sex, x, intercept=None):
        odds = np.exp(self.intercept[cause] if intercept is None else intercept)
        for name in (age, sex, *(factor for factor in SMALL_FACTORS if x[factor])):
            odds *= self.value.get(f"or:{cause}:{name}", 1.0)
        return odds / (1.0 + odds)

    def marginal(self, cause, intercept=None):
        """P(cause) over the reference population."""
        return sum(
            weight * p * self.p_cause(cause, age, sex, x, intercept)
            for age, sex, weight in self.strata()
            for x, p in self.contexts(age, sex)
        )

    def _intercept(self, cause):
        low, high = -40.0, 40.0
        while high - low > 1e-14 * max(1.0, abs(low)):
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            low, high = (low, middle) if self.marginal(cause, middle) > self.prevalence[cause] else (middle, high)
        return 0.5 * (low + high)

    def p_present(self, finding, age, causes):
        """Noisy-OR; the links follow from the sensitivities and the leak of all ages together."""
        leak = self.value[f"leak:{finding}"]
        absent = 1.0 - self.value.get(f"leak:{finding}@{age}", leak)
        for cause in causes:
            s = self.value.get(f"link:{cause}:{finding}")
            if s is not None:
                absent *= 1.0 - (s - leak) / (1.0 - leak)
        return 1.0 - absent

    def p_levels(self, age, causes):
        """Noisy-MAX (none, mild, medium, severe): every reason contributes a level of its own, the highest shows."""
        reasons = [self._levels(lambda v: self.value.get(f"leak:{v}@{age}", self.value[f"leak:{v}"]))]
        everyone = np.cumsum(self._levels(lambda v: self.value[f"leak:{v}"]))
        for cause in causes:
            if f"link:{cause}:severe" in self.value:
                # Studies count the patients with the cause, in whom the leak is at work as well.
                alone = np.cumsum(self._levels(lambda v, c=cause: self.value[f"link:{c}:{v}"])) / everyone
                reasons.append(np.diff(alone, prepend=0.0))
        probability = np.zeros(4)
        for shown in itertools.product(range(4), repeat=len(reasons)):
            probability[max(shown)] += np.prod([own[v] for own, v in zip(reasons, shown, strict=True)])
        return probability

    @staticmethod
    def _levels(of):
        levels = [of(v) for v in SMALL_LEVELS]
        return np.array([1.0 - sum(levels), *levels])

    def worlds(self):
        """(age band, sex, {factor: 0 or 1}, causes 0 or 1, weight among those who come)"""
        for age, sex, weight in self.strata():
            for x, p in self.contexts(age, sex):
                for c in itertools.product((0, 1), repeat=3):
                    joint = weight * p * (1.0 if any(c) else self.none_weight)
                    for cause, there in zip(SMALL_CAUSES, c, strict=True):
                        q = self.p_cause(cause, age, sex, x)
                        joint *= q if there else 1.0 - q
                    yield age, sex, x, c, joint

    def answer(self, case):
        """Answer for a case in the form of ``layered_evidence``."""
        causes = np.zeros(3)
        factors = np.zeros(3)
        none = total = observed = 0.0
        for age, sex, x, c, weight in self.worlds():
            if case.get("age_band", age) != age or case.get("sex", sex) != sex:
                continue
            if any(case.get(factor, x[factor]) != x[factor] for factor in SMALL_FACTORS):
                continue
            observed += weight
            present = tuple(k for k, there in zip(SMALL_CAUSES, c, strict=True) if there)
            joint = weight * self._likelihood(case, age, present)
            total += joint
            causes += joint * np.array(c)
            factors += joint * np.array([x[factor] for factor in SMALL_FACTORS])
            none += joint * (not any(c))
        return Answer(causes / total, none / total, np.log(total / observed), factors / total, np.zeros(0))

    def _likelihood(self, case, age, causes):
        likelihood = 1.0
        for finding in SMALL_FINDINGS:
            if finding in case:
                p, v = self.p_present(finding, age, causes), case[finding]
                likelihood *= v * p + (1.0 - v) * (1.0 - p)
        if "pain" in case:
            likelihood *= self.p_levels(age, causes) @ np.asarray(case["pain"])
        return likelihood


# --- other engines ---------------------------------------------------------------------------------------------------------


def to_pyagrum(network):
    """A pgmpy network, table by table, as a pyAgrum network."""
    import pyagrum

    bn = pyagrum.BayesNet()
    for cpd in network.get_cpds():
        bn.add(pyagrum.LabelizedVariable(cpd.variable, cpd.variable, [str(s) for s in cpd.state_names[cpd.variable]]))
    for parent, node in network.edges():
        bn.addArc(parent, node)
    for cpd in network.get_cpds():
        table = bn.cpt(cpd.variable)
        # pyAgrum's arrays carry the node last and the parents in reverse order of their names.
        order = [cpd.variables.index(name) for name in reversed(table.names)]
        table[:] = np.ascontiguousarray(cpd.values.transpose(order))
    return bn


def noisy_or_pyagrum(network):
    """A ddx.inference.Network without context as a pyAgrum network of causes c0, ..., syndromes s0, ... and findings f0, ...

    Where no cause has a weight of its own, "patient" is 1 in all cases.
    """
    import pyagrum

    bn = pyagrum.BayesNet()
    for k, p in enumerate(network.prior):
        bn.add(pyagrum.LabelizedVariable(f"c{k}", "", 2))
        bn.cpt(f"c{k}")[:] = [1.0 - p, p]

    def noisy_or(name, leak, **links):
        bn.addNoisyORNet(pyagrum.LabelizedVariable(name, "", 2), float(leak))
        for parents, weights in links.items():
            for i in np.flatnonzero(weights):
                bn.addWeightedArc(f"{parents}{i}", name, float(weights[i]))

    for j, leak in enumerate(network.syndrome_leak):
        noisy_or(f"s{j}", leak, c=network.syndrome_link[j])
    for f, leak in enumerate(network.leak):
        noisy_or(f"f{f}", leak, c=network.link[f], s=network.finding_syndrome[f])
    if network.none_weight < 1.0:
        noisy_or("patient", network.none_weight, c=np.ones(network.n_causes))
    return bn
