"""Networks to test with, and three ways to the right answer that share no code with ddx.

``enumerate_posterior`` sums over every configuration of context and causes, straight from the definition of the model;
``quickscore`` is Heckerman's inclusion-exclusion over the findings in 120-digit arithmetic; ``to_pyagrum`` hands the tables
of an exported network to another engine. Axes: N cases, K causes, F findings, C context variables.
"""

import itertools
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import mpmath
import numpy as np

import ddx
from ddx.inference import Network
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

    @property
    def n_context(self):
        return len(self.context_prior)

    def network(self):
        if not self.n_context:
            return Network(self.prior, self.link, self.leak)
        return Network(
            self.prior,
            self.link,
            self.leak,
            context_log_odds=self.context_log_odds,
            context_prior=self.context_prior,
            requires=self.requires or None,
        )


class Answer(NamedTuple):
    """Of one case; ``none``: no cause at all; ``log_evidence``: of the findings, given the observed context."""

    marginal: np.ndarray  # (K,)
    none: float
    log_evidence: float
    context: np.ndarray  # (C,)


def random_example(seed, n_causes, n_findings, n_context=0, requires=(), *, density=0.5, prior=(0.01, 0.5), leak=(0.01, 0.3)):
    """A network of random sparse links; every context variable changes about half of the causes."""
    rng = np.random.default_rng(seed)
    link = rng.uniform(0.05, 0.95, (n_findings, n_causes)) * (rng.random((n_findings, n_causes)) < density)
    log_odds = rng.normal(0.0, 1.5, (n_causes, n_context)) * (rng.random((n_causes, n_context)) < 0.5)
    return Example(
        prior=np.exp(rng.uniform(*np.log(prior), n_causes)),
        link=link,
        leak=np.exp(rng.uniform(*np.log(leak), n_findings)),
        context_log_odds=log_odds,
        context_prior=rng.uniform(0.05, 0.7, n_context),
        requires=tuple(requires),
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


def enumerate_posterior(example, evidence, context=None):
    """The definition of the model, summed over all 2**(C + K) configurations of context and causes.

    ``evidence`` (F,) and ``context`` (C,) of one case, nan for not observed.
    """
    observed = np.full(example.n_context, nan) if context is None else np.asarray(context, dtype=float)
    causes = _booleans(len(example.prior))
    p_absent = (1.0 - example.leak) * np.prod((1.0 - example.link) ** causes[:, None, :], axis=2)
    with np.errstate(divide="ignore"):  # 1 - p_absent, without losing the digits of a small leak
        log_escape = np.where(causes[:, None, :] == 1.0, np.log1p(-example.link), 0.0).sum(axis=2)
        p_present = -np.expm1(np.log1p(-example.leak) + log_escape)
    v = np.asarray(evidence, dtype=float)
    likelihood = np.prod(np.where(np.isnan(v), 1.0, v * p_present + (1.0 - v) * p_absent), axis=1)
    joint_causes = np.zeros(len(causes))
    joint_context = np.zeros(example.n_context)
    p_context_total = 0.0
    for x in _booleans(example.n_context):
        if np.any(~np.isnan(observed) & (observed != x)):
            continue
        p_context = 1.0
        for j, p in enumerate(example.context_prior):
            parent = example.requires[j] if example.requires else -1
            possible = p if parent < 0 or x[parent] == 1.0 else 0.0
            p_context *= possible if x[j] == 1.0 else 1.0 - possible
        p_context_total += p_context
        odds_ratio = np.exp(example.context_log_odds @ x) if example.n_context else 1.0
        p = example.prior * odds_ratio / (1.0 - example.prior + example.prior * odds_ratio)
        joint = p_context * np.prod(np.where(causes == 1.0, p, 1.0 - p), axis=1) * likelihood
        joint_causes += joint
        joint_context += joint.sum() * x
    total = joint_causes.sum()
    return Answer(
        causes.T @ joint_causes / total, joint_causes[0] / total, np.log(total / p_context_total), joint_context / total
    )


_PLACES = 400
_ONE = 1 << _PLACES


def quickscore(prior, link, leak, evidence):
    """Marginals (K,), none and log evidence as 80-digit numbers, for prior (K,), link (F, K), leak (F,), evidence (F,).

    Heckerman (1989, eq. 11), with likelihoods 1 - v and v for absent and present: the sum over subsets S of the present and
    uncertain findings of prod_{not S} v prod_S (1 - 2 v)(1 - leak) prod_k (1 - p_k + p_k escape_k prod_S (1 - w_k)).
    Signs alternate and digits cancel, hence fixed-point integers of 400 binary places: what is left is good to 80 digits.
    """
    fixed = np.frompyfunc(lambda x: int(mpmath.mpf(float(x)) * _ONE), 1, 1)
    with mpmath.workdps(140):
        prior, link, leak, value = fixed(prior), fixed(link), fixed(leak), fixed(np.nan_to_num(evidence))
        bits, absent = np.flatnonzero(evidence > 0.0), np.flatnonzero(evidence == 0.0)

        def over_subsets(start, without, within):
            table = np.array([start], dtype=object)
            for out, into in zip(without, within, strict=True):
                table = np.concatenate([table * out >> _PLACES, table * into >> _PLACES])
            return table

        ones = [_ONE] * len(bits)
        coefficient = over_subsets(_ONE, value[bits], [(_ONE - 2 * value[r]) * (_ONE - leak[r]) >> _PLACES for r in bits])
        log_absent_leak = mpmath.mpf(0)
        for r in absent:
            log_absent_leak += mpmath.log(mpmath.mpf(_ONE - leak[r]) / _ONE)

        def joint(k):
            start = prior[k]
            for r in absent:
                start = start * (_ONE - link[r, k]) >> _PLACES
            return over_subsets(start, ones, _ONE - link[bits, k])

        total = coefficient
        nobody = _ONE
        for k in range(len(prior)):
            total = total * (_ONE - prior[k] + joint(k)) >> _PLACES
            nobody = nobody * (_ONE - prior[k]) >> _PLACES
        evidence_probability = mpmath.mpf(sum(total))
        marginal = []
        for k in range(len(prior)):
            own = joint(k)
            marginal.append(mpmath.mpf(sum(total * own // (_ONE - prior[k] + own))) / evidence_probability)
        none = mpmath.mpf(sum(coefficient * nobody >> _PLACES)) / evidence_probability
        return marginal, none, mpmath.log(evidence_probability / _ONE) + log_absent_leak


def relative_error(got, exact):
    """Largest relative error of floats against 80-digit numbers."""
    with mpmath.workdps(80):
        return max(
            float(abs((mpmath.mpf(float(g)) - e) / e)) for g, e in zip(np.atleast_1d(got), np.atleast_1d(exact), strict=True)
        )


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
    "structural": Example(
        prior=np.array([0.0, 1.0, 0.2, 0.1, 0.3]),
        link=np.array([[1, 0.3, 0, 0.5, 0], [0, 0.4, 1, 0, 0], [0, 0, 0.7, 1, 0.2], [0.2, 0, 0, 0, 0.9]]),
        leak=np.array([0.0, 1.0, 0.0, 0.05]),
        context_log_odds=np.array([[2.0, 0.0], [-1.0, 0.5], [1.0, 0.0], [0.0, -2.0], [0.0, 0.0]]),
        context_prior=np.array([0.3, 0.6]),
    ),
}  # fmt: skip


# --- the limb knowledge base, and a small one whose parameters are written down here -------------------------------------


def sub_network(net, causes):
    """A LayeredNetwork with all causes but these switched off."""
    rows = [net.causes.index(c) for c in causes]
    return replace(
        net,
        causes=tuple(causes),
        prevalence=net.prevalence[rows],
        log_odds=net.log_odds[..., rows],
        context_log_odds=net.context_log_odds[rows],
        link=net.link[:, rows],
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
                age[row] = net.age_bands.index(value)
            elif name == "sex":
                sex[row] = net.sexes.index(value)
            elif name in level:
                level[name][row] = value
            elif name in net.risk_factors:
                context[row, net.risk_factors.index(name)] = value
            else:
                finding[row, net.findings.index(name)] = value
    return ddx.network.Evidence(finding, level, context, age, sex)


SMALL_LEVELS = ("mild", "medium", "severe")
SMALL_VALUES = {
    "population:young": 0.3, "population:adult": 0.45, "population:old": 0.25,
    "population:female": 0.52, "population:male": 0.48,
    "context:smoking": 0.25, "context:smoking@young": 0.1, "context:smoking@female": 0.2, "context:smoking@male": 0.3,
    "context:diabetes": 0.08, "context:diabetes@old": 0.2, "context:diabetes@old+male": 0.26,
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


def small_knowledge():
    """Three causes, four findings (pain has levels), three risk factors, one of which requires another."""
    causes = [Cause(c, c, (), "f", "chronic", None, "", "", "routine", 0.5, "") for c in ("flu", "palsy", "gout")]
    findings = [Finding(f, f, (), "", 0, (), "symptom", "", "", "?", 1.0) for f in ("fever", "weakness", "swelling")]
    levels = [Finding(f, f, (), "pain", i, (), "symptom", "", "", "?", 1.0) for i, f in enumerate(SMALL_LEVELS, 1)]
    ages = (("young", 0, 30), ("adult", 30, 60), ("old", 60, 121))
    factors = (("smoking", ""), ("insulin", "diabetes"), ("diabetes", ""))
    context = [
        *(Context(b, b, (), "age_band", "", low, high, "?") for b, low, high in ages),
        *(Context(s, s, (), "sex", "", None, None, "?") for s in ("female", "male")),
        *(Context(x, x, (), "risk_factor", r, None, None, "?") for x, r in factors),
    ]  # fmt: skip
    parameters = [Parameter(name, "beta", value, 1.0, 1.0, (), cited=True) for name, value in SMALL_VALUES.items()]

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
        table[:] = cpd.values.transpose([cpd.variables.index(name) for name in reversed(table.names)])
    return bn


def noisy_or_pyagrum(network):
    """A ddx.inference.Network without context as a pyAgrum network of causes c0, c1, ... and findings f0, f1, ..."""
    import pyagrum

    bn = pyagrum.BayesNet()
    for k, p in enumerate(network.prior):
        bn.add(pyagrum.LabelizedVariable(f"c{k}", "", 2))
        bn.cpt(f"c{k}")[:] = [1.0 - p, p]
    for f in range(network.n_findings):
        bn.addNoisyORNet(pyagrum.LabelizedVariable(f"f{f}", "", 2), float(network.leak[f]))
        for k in np.flatnonzero(network.link[f]):
            bn.addWeightedArc(f"c{k}", f"f{f}", float(network.link[f, k]))
    return bn
