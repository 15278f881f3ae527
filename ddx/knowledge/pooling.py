"""From study rows to parameters: random-effects pooling on the logit or log scale.

Every study gives an estimate y and a variance v on the working scale: logit for probabilities, log for rates and ratios.

- Counts as reported: y = logit(x / n), v = 1/x + 1/(n - x), with 1/2 added to x and n - x when one of them is zero.
- Counts computed back from a printed percentage, and sizes without counts: the same with half the size.
- An interval: v = ((t(high) - t(low)) / (2 z))**2, z after its coverage; the range over several studies counts as 90 %.
- A bare number: v of a study of ``_SIZE[quality]`` persons, or ``_RATIO_SD[quality]**2`` (as for ratios) where that is less.

The between-study variance is the DerSimonian-Laird estimate (1986, eq. 9), averaged with a typical value tau0**2 (``SPREAD``)
that weighs as two studies, because few studies cannot estimate it and one study cannot at all (Turner et al., Int J Epidemiol
2012, take it from other meta-analyses). The parameter is the *predictive* distribution for a new population (Higgins, Thompson
and Spiegelhalter, J R Stat Soc A 2009, eq. 7): mean of the estimates weighted by 1/(v + tau**2), variance 1/sum(weights) +
tau**2. Three ranks are never mixed: studies that give a number; sources that say it in words (``verbal``: "common", "in some";
the interval is the class of the Human Phenotype Ontology's frequency terms), which count where no number exists; and expert
estimates, which count where no source exists and whose interval is taken as it is.

Words are no independent counts: a row moves the earlier estimate into the class of its word, and the next one repeats it. They
are pooled as fully dependent: the mean stays the same, its standard deviation is the weighted mean of theirs, each
sqrt(v + tau**2), and tau**2 is not below tau0**2. Rows that repeat one make exactly what that one makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ddx.knowledge.schema import VERBAL, Distribution, Parameter, Study

# Estimate and variance on the working scale, and the study behind them.
Estimate = tuple[tuple[float, float], Study]

_Z = {"90": 1.645, "": 1.96, "95": 1.96, "99": 2.576, "range": 1.645}
_SIZE = {
    "meta_analysis": 200.0,
    "systematic_review": 100.0,
    "cohort": 50.0,
    "case_series": 20.0,
    "guideline": 20.0,
    "textbook": 20.0,
    "verbal": 4.0,
    "expert_estimate": 4.0,
}
_RATIO_SD = {
    "meta_analysis": 0.15,
    "systematic_review": 0.2,
    "cohort": 0.3,
    "case_series": 0.5,
    "guideline": 0.4,
    "textbook": 0.4,
    "verbal": 0.7,
    "expert_estimate": 0.7,
}
QUALITIES = tuple(_SIZE)
INTERVALS = tuple(_Z)
# Typical standard deviation tau0 between studies of one thing, on the working scale, by kind of parameter: rounded restricted
# maximum likelihood estimates over the parameters of limb that have two sources or more (experiments/left_out_studies).
SPREAD = MappingProxyType({"link": 0.6, "leak": 0.55, "context": 0.35, "prior": 0.75, "or": 0.3})


def pool_probability(
    parameter_id: str,
    studies: Sequence[Study],
    complement: Sequence[Study] = (),
    *,
    spread: float = SPREAD["link"],
    moved: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Parameter:
    """Beta parameter from study rows of a probability; ``complement`` rows report 1 - p (specificities).

    ``spread`` : typical standard deviation between studies on the logit scale, one of ``SPREAD``. ``moved`` : study id -> what
    to add to its logit, and what its standard error grows by, where another probability was counted than is asked for.

    The Beta has the pooled mean and the variance of the pooled logit by the delta method. Neither shape is below 1/2, that of
    Jeffreys' prior, nor their sum below 2: where the variance is above 2, the delta method no longer holds, and would put the
    parameter at 0 or 1 for most draws.
    """
    estimates = []
    for study in studies:
        y, v = logit_estimate(study)
        shift, growth = moved.get(study.id, (0.0, 1.0))
        estimates.append(((y + shift, v * growth**2), study))
    estimates += [((-y, v), s) for s in complement for y, v in [logit_estimate(s)]]
    mean, error, tau2, used = pool(estimates, spread)
    variance = error + tau2
    p = expit(mean)
    # Beta variance = p(1-p)/(size+1), set equal to (p(1-p))^2 * variance. A size under 2 would be U-shaped.
    size = max(1.0 / (p * (1.0 - p) * variance) - 1.0, 0.5 / min(p, 1.0 - p), 2.0)
    return _parameter(parameter_id, "beta", p, (p * size, (1.0 - p) * size), used, expit)


def pool_rate(parameter_id: str, studies: Sequence[Study], years: float) -> Parameter:
    """Log-normal parameter: episodes per person-year times the years that one is active."""
    estimates = [(log_estimate(s), s) for s in studies]
    mean, error, tau2, used = pool(estimates, SPREAD["prior"])
    shape = mean, math.sqrt(error + tau2)
    return _parameter(parameter_id, "log_normal", math.exp(mean) * years, shape, used, lambda y: math.exp(y) * years, years)


def pool_ratio(parameter_id: str, estimates: Sequence[Estimate]) -> Parameter:
    """Log-normal parameter from log odds ratios and their variances."""
    mean, error, tau2, used = pool(estimates, SPREAD["or"])
    return _parameter(parameter_id, "log_normal", math.exp(mean), (mean, math.sqrt(error + tau2)), used, math.exp)


def group_ratio_estimate(study: Study, reference: float) -> tuple[float, float]:
    """Log odds ratio of a group's ``prevalence`` (log rate ratio for ``incidence``) against a reference value."""
    if study.quantity == "incidence":
        y, v = log_estimate(study)
        return y - math.log(reference), v
    y, v = logit_estimate(study)
    return y - logit(reference), v


def exposure_ratio_estimate(study: Study, exposed: float) -> tuple[float, float]:
    """Log odds ratio from P(context | cause) and the frequency of the context in the population."""
    y, v = logit_estimate(study)
    return y - logit(exposed), v


def expit(y: float) -> float:
    """Probability of log odds."""
    return 1.0 / (1.0 + math.exp(-y))


def logit(p: float) -> float:
    """Log odds of a probability inside (0, 1)."""
    return math.log(p) - math.log1p(-p)


def logit_estimate(study: Study) -> tuple[float, float]:
    """Logit and its variance from a row of a probability."""
    x, n, p = study.numerator, study.denominator, study.value
    if x is not None and n is not None and study.counts == "reported":
        a, b = float(x), float(n - x)
        if a == 0.0 or b == 0.0:
            a, b = a + 0.5, b + 0.5
        return math.log(a / b), 1.0 / a + 1.0 / b
    p = min(max(p, 1e-6), 1.0 - 1e-6) if n is None else min(max(p, 0.5 / (n + 1.0)), 1.0 - 0.5 / (n + 1.0))
    if study.low is not None and study.high is not None:
        variance = _interval_variance(study, logit(_inside(study.low, p)), logit(_inside(study.high, p)))
    else:
        variance = 1.0 / ((0.5 * n if n is not None else _SIZE[study.quality]) * p * (1.0 - p))
        if n is None:  # what is rare was counted among more
            variance = min(variance, _RATIO_SD[study.quality] ** 2)
    return logit(p), variance


def _inside(bound: float, value: float) -> float:
    """An interval that ends at 0 or 1 has no logit: end it at a twentieth of the estimate's distance from the edge."""
    if bound <= 0.0:
        return value / 20.0
    if bound >= 1.0:
        return 1.0 - (1.0 - value) / 20.0
    return bound


def log_estimate(study: Study) -> tuple[float, float]:
    """Logarithm and its variance from a row of a rate or a ratio (a relative risk is read as an odds ratio)."""
    if study.low is not None and study.high is not None:
        low = study.low if study.low > 0.0 else study.value / 20.0
        return math.log(study.value), _interval_variance(study, math.log(low), math.log(study.high))
    if study.quantity == "incidence" and study.numerator:
        return math.log(study.value), 1.0 / study.numerator
    return math.log(study.value), _RATIO_SD[study.quality] ** 2


def _interval_variance(study: Study, low: float, high: float) -> float:
    return max(((high - low) / (2.0 * _Z[study.interval])) ** 2, 1e-8)


def pool(estimates: Sequence[Estimate], spread: float) -> tuple[float, float, float, Sequence[Estimate]]:
    """Mean, its variance, tau^2 between studies, and the estimates that count; ``spread`` : tau0.

    The first variance alone is that of the mean, both together that of a new population.
    """
    cited = [(estimate, s) for estimate, s in estimates if s.cited and s.quality != VERBAL]
    cited = cited or [(estimate, s) for estimate, s in estimates if s.cited]
    if not cited:
        weights = [1.0 / v for (_, v), _ in estimates]
        mean = sum(w * y for w, ((y, _), _) in zip(weights, estimates, strict=True)) / sum(weights)
        return mean, sum(v for (_, v), _ in estimates) / len(estimates), 0.0, estimates
    k = len(cited)
    y = [estimate[0] for estimate, _ in cited]
    v = [estimate[1] for estimate, _ in cited]
    fixed = [1.0 / vi for vi in v]
    total = sum(fixed)
    centre = sum(w * yi for w, yi in zip(fixed, y, strict=True)) / total
    tau2 = spread**2
    if k > 1:
        q = sum(w * (yi - centre) ** 2 for w, yi in zip(fixed, y, strict=True))
        estimate = max(0.0, (q - (k - 1)) / (total - sum(w * w for w in fixed) / total))
        tau2 = (2.0 * spread**2 + (k - 1) * estimate) / (k + 1)
    weights = [1.0 / (vi + tau2) for vi in v]
    mean = sum(w * yi for w, yi in zip(weights, y, strict=True)) / sum(weights)
    if k > 1 and all(s.quality == VERBAL for _, s in cited):
        # Fully dependent, so that the standard deviation of the mean is the mean of theirs; nor does their agreement say that
        # populations agree.
        tau2 = max(tau2, spread**2)
        error = (sum(w * math.sqrt(vi + tau2) for w, vi in zip(weights, v, strict=True)) / sum(weights)) ** 2
        return mean, error, tau2, cited
    return mean, 1.0 / sum(weights), tau2, cited


def _parameter(
    parameter_id: str,
    distribution: Distribution,
    value: float,
    shape: tuple[float, float],
    used: Sequence[Estimate],
    natural: Callable[[float], float],
    scale: float = 1.0,
) -> Parameter:
    """``natural`` : from the working scale to that of the value."""
    studies = tuple(s.id for _, s in used)
    cited = any(s.cited for _, s in used)
    return Parameter(parameter_id, distribution, value, *shape, studies, cited, scale, tuple(natural(y) for (y, _), _ in used))
