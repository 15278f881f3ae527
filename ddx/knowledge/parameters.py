"""Study rows -> the parameters of the network, one rule a kind of parameter; what no rule can use is a problem."""

from __future__ import annotations

import math
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ddx.errors import Problem
from ddx.knowledge.crude import leak_beside, log_raised
from ddx.knowledge.pooling import (
    SPREAD,
    Estimate,
    exposure_ratio_estimate,
    group_ratio_estimate,
    log_estimate,
    logit,
    pool_probability,
    pool_rate,
    pool_ratio,
)
from ddx.knowledge.schema import SEXES, Cause, Context, Finding, Parameter, Study, Syndrome
from ddx.knowledge.syndromes import brought
from ddx.knowledge.unread import Unread

DAYS_PER_YEAR = 365.25

# quantity -> (columns that must be filled, columns that may be)
QUANTITIES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "prevalence": (frozenset({"cause"}), frozenset({"group"})),
    "incidence": (frozenset({"cause"}), frozenset({"group"})),
    "share": (frozenset({"cause", "setting"}), frozenset()),
    "odds_ratio": (frozenset({"cause", "context"}), frozenset()),
    "relative_risk": (frozenset({"cause", "context"}), frozenset()),
    "crude_ratio": (frozenset({"cause", "context", "group"}), frozenset()),
    "context_given_cause": (frozenset({"cause", "context"}), frozenset()),
    "sensitivity": (frozenset({"cause", "finding"}), frozenset()),
    "false_positive_rate": (frozenset({"finding"}), frozenset({"group"})),
    "specificity": (frozenset({"finding"}), frozenset({"group"})),
    "population_frequency": (frozenset({"finding"}), frozenset({"group"})),
    "context_prevalence": (frozenset({"context"}), frozenset({"group", "setting"})),
    "population_share": (frozenset({"context"}), frozenset({"setting"})),
}
RATIOS = ("odds_ratio", "relative_risk")
LEAKS = ("false_positive_rate", "specificity", "population_frequency")

_STUDIES = "studies.csv"

Estimates = dict[str, list[Estimate]]  # context -> log ratios


def collect(
    studies: Iterable[Study],
    causes: Mapping[str, Cause],
    syndromes: Mapping[str, Syndrome],
    findings: Mapping[str, Finding],
    context: Mapping[str, Context],
    problems: list[Problem],
    known: Mapping[str, Parameter] = MappingProxyType({}),
    unread: Unread | None = None,
) -> dict[str, Parameter]:
    """Every parameter that the study rows give, by id. Where they are not all rows, ``known`` has what others depend on.

    ``problems`` and ``unread`` are added to; what rows lack because others could not be used is no problem.
    """
    return _Collector(studies, causes, syndromes, findings, context, problems, known, unread or Unread()).parameters


class _Collector:
    def __init__(
        self,
        studies: Iterable[Study],
        causes: Mapping[str, Cause],
        syndromes: Mapping[str, Syndrome],
        findings: Mapping[str, Finding],
        context: Mapping[str, Context],
        problems: list[Problem],
        known: Mapping[str, Parameter],
        unread: Unread,
    ) -> None:
        self.causes, self.syndromes, self.context, self.problems, self.unread = causes, syndromes, context, problems, unread
        self.parameters: dict[str, Parameter] = {}
        self.value = {p.id: p.value for p in known.values()}  # and of the parameters so far
        rows: dict[tuple[str, str], list[Study]] = defaultdict(list)
        for study in studies:
            subject = study.cause if study.quantity not in LEAKS else study.finding
            rows[study.quantity, subject or study.context].append(study)
        self.rows = rows
        self.bands = [c.id for c in context.values() if c.kind == "age_band"]
        for variable in context.values():
            self._population(variable)
        self.frequencies = {group: self._frequencies(group) for group in (*self.bands, *SEXES)}
        self.priors: dict[str, dict[str, float]] = {}
        for cause in causes.values():
            self._prior(cause)
            self._ratios(cause)
            self._links(cause.id)
        for syndrome in syndromes:
            self._links(syndrome)
        for finding in (*syndromes, *findings):
            self._leaks(finding)

    def _add(self, parameter: Parameter) -> None:
        self.parameters[parameter.id] = parameter
        self.value[parameter.id] = parameter.value

    def _reject(self, study: Study, column: str, message: str) -> None:
        self.problems.append(Problem(_STUDIES, study.line, column, message))
        self.unread.add_study(study)

    def _population(self, variable: Context) -> None:
        shares = self.rows["population_share", variable.id]
        frequencies = self.rows["context_prevalence", variable.id]
        if variable.kind == "risk_factor":
            for study in shares:
                self._reject(study, "context", f"got {variable.id!r}, population_share is for age bands, their parts and sexes")
            for setting, rows in _by_setting(frequencies).items():
                for group, members in _by_group(rows).items():
                    if setting and (len(group) != 1 or group[0] not in self.bands):
                        got = ";".join(group)
                        self._reject(members[0], "group", f"got {got!r}, expected one age band for a frequency in a setting")
                        continue
                    at = _at(f"context:{variable.id}", group) + (f"@{setting}" if setting else "")
                    self._add(pool_probability(at, members, spread=SPREAD["context"]))
        else:
            for study in frequencies:
                self._reject(study, "context", f"got {variable.id!r}, context_prevalence is for risk factors")
            for setting, members in _by_setting(shares).items():
                # The reference population is a convention, not one population among others: no spread between studies.
                self._add(
                    pool_probability(_at(f"population:{variable.id}", (setting,) if setting else ()), members, spread=0.0)
                )

    def _prior(self, cause: Cause) -> None:
        expected, other = ("incidence", "prevalence") if cause.course == "acute" else ("prevalence", "incidence")
        for study in self.rows[other, cause.id]:
            self._reject(study, "quantity", f"got {other!r}, {cause.id} is {cause.course}: expected {expected!r}")
        overall = [s for s in self.rows[expected, cause.id] if not s.group]
        if overall and cause.course == "acute":
            years = (cause.window_days or 0.0) / DAYS_PER_YEAR
            self._add(pool_rate(f"prior:{cause.id}", overall, years))
        elif overall:
            self._add(pool_probability(f"prior:{cause.id}", overall, spread=SPREAD["prior"]))
        for setting, members in _by_setting(self.rows["share", cause.id]).items():
            self._add(pool_probability(f"prior:{cause.id}@{setting}", members, spread=SPREAD["prior"]))

    def _ratios(self, cause: Cause) -> None:
        """Risk factors first: what they raise the odds by is taken out of rates and shares of age bands and sexes."""
        estimates: Estimates = defaultdict(list)
        for quantity in RATIOS:
            for study in self.rows[quantity, cause.id]:
                self._estimate(estimates, study, log_estimate(study))
        shares = self.rows["context_given_cause", cause.id]
        of_sexes = [s for s in shares if s.context in SEXES]
        for study in shares:
            if study.context not in SEXES:
                self._exposure(estimates, study, 0.0)
        raised = self._raised({x: pool_ratio("", found).value for x, found in estimates.items() if found})
        for study in of_sexes:
            other = SEXES[1 - SEXES.index(study.context)]
            self._exposure(estimates, study, raised[study.context] - raised[other])
        self._group_rates(cause, estimates, raised)
        self._crude_ratios(cause, estimates, raised)
        for target in self.context:
            if estimates[target]:
                self._add(pool_ratio(f"or:{cause.id}:{target}", estimates[target]))

    def _estimate(self, estimates: Estimates, study: Study, estimate: tuple[float, float], raised: float = 0.0) -> None:
        """File an estimate under its context, without the log ratio that other risk factors raise it by."""
        y, v = estimate
        target, sign = self._sex_contrast(study.context)
        estimates[target].append(((sign * (y - raised), v), study))

    def _exposure(self, estimates: Estimates, study: Study, raised: float) -> None:
        exposed = self._exposed(study.context)
        if exposed is None and self.unread.count("context", study.context) + self.unread.count("population", study.context):
            self.unread.add_study(study)
        elif exposed is None:
            self._reject(study, "context", f"no frequency of {study.context!r} in the population to compare with")
        else:
            self._estimate(estimates, study, exposure_ratio_estimate(study, exposed), raised)

    def _crude_ratios(self, cause: Cause, estimates: Estimates, raised: Mapping[str, float]) -> None:
        rows = self.rows["crude_ratio", cause.id]
        own = {b for b in self.bands if estimates[b]} | {s.context for s in rows if s.context in self.bands}
        for study in rows:
            groups = self.bands if study.context in self.bands else SEXES if study.context in SEXES else ()
            (reference,) = study.group if len(study.group) == 1 else ("",)
            if not groups:
                self._reject(study, "context", f"got {study.context!r}, a crude ratio is one of age bands or of sexes")
            elif reference not in groups or reference == study.context or reference in own:
                free = [g for g in groups if g != study.context and g not in own]
                expected = ", ".join(free) or "an age band that has no ratio itself; every one has"
                self._reject(study, "group", f"got {';'.join(study.group)!r}, expected what the ratio is against: {expected}")
            else:
                self._estimate(estimates, study, log_estimate(study), raised[study.context] - raised[reference])

    def _frequencies(self, group: str) -> dict[str, float]:
        """How many have every risk factor in an age band or of a sex."""
        at = {x: next((n for n in (f"context:{x}@{group}", f"context:{x}") if n in self.value), "") for x in self.context}
        return {x: self.value[name] for x, name in at.items() if name}

    def _raised(self, ratios: Mapping[str, float]) -> dict[str, float]:
        """What the risk factors raise the log odds of a cause by in every age band and sex; ``ratios`` by context."""
        own = {x: ratio for x, ratio in ratios.items() if self.context[x].kind == "risk_factor"}
        return {group: log_raised(self.context, frequency, own) for group, frequency in self.frequencies.items()}

    def _prior_in(self, cause: str, group: str) -> float | None:
        """P(cause) in an age band of the general population, or ("") in all of it."""
        prior = self.value.get(f"prior:{cause}")
        if prior is not None and not 0.0 < prior < 1.0:
            return None  # the check says so
        if prior is None or not group:
            return prior
        if cause not in self.priors:
            ratios = {x: self.value[f"or:{cause}:{x}"] for x in self.context if f"or:{cause}:{x}" in self.value}
            raised = self._raised(ratios)
            relative = {b: ratios.get(b, 1.0) * math.exp(raised[b]) for b in self.bands}
            # Odds: a frequent cause does not reach a probability above 1.
            odds = {b: prior / (1.0 - prior) * x / self._average(relative) for b, x in relative.items()}
            self.priors[cause] = {b: x / (1.0 + x) for b, x in odds.items()}
        return self.priors[cause][group]

    def _sex_contrast(self, context: str) -> tuple[str, float]:
        """A ratio for one sex is the inverse ratio for the other: keep one parameter, women against men."""
        return (SEXES[0], -1.0) if context == SEXES[1] else (context, 1.0)

    def _exposed(self, context: str) -> float | None:
        kind = self.context[context].kind
        parameter = self.parameters.get(f"{'population' if kind == 'sex' else 'context'}:{context}")
        return None if kind == "age_band" or parameter is None else parameter.value

    def _group_rates(self, cause: Cause, estimates: Estimates, raised: Mapping[str, float]) -> None:
        quantity = "incidence" if cause.course == "acute" else "prevalence"
        waiting = self.unread.count("prior", cause.id) > 0  # for rows that could not be used: what is missing is among them
        grouped = _by_group(s for s in self.rows[quantity, cause.id] if s.group)
        bands = [b for b in self.bands if (b,) in grouped]
        if bands and any(estimates[b] for b in self.bands):
            self._reject(grouped[bands[0],][0], "group", f"{cause.id} has age-band rates and age-band ratios: keep one kind")
        elif bands and len(bands) < len(self.bands) and waiting:
            pass
        elif bands and len(bands) < len(self.bands):
            missing = ", ".join(b for b in self.bands if b not in bands)
            self._reject(grouped[bands[0],][0], "group", f"{cause.id} has rates for some age bands only; missing: {missing}")
        elif bands:
            rates = {b: _rate(grouped[b,]) for b in bands}
            reference, mean = self._average(rates), math.log(self._average({b: math.exp(raised[b]) for b in bands}))
            for b in bands:
                for study in grouped[b,]:
                    y, v = group_ratio_estimate(study, reference)
                    estimates[b].append(((y - (raised[b] - mean), v), study))
        self._sex_rates(grouped, estimates, raised[SEXES[0]] - raised[SEXES[1]], waiting)

    def _sex_rates(
        self, grouped: dict[tuple[str, ...], list[Study]], estimates: Estimates, raised: float, waiting: bool
    ) -> None:
        """Rates of both sexes from one source make one ratio, women against men; ``waiting`` for rows nobody could use."""
        first, second = (grouped.get((sex,), []) for sex in SEXES)
        paired = {s.source for s in first} & {s.source for s in second}
        for study in first:
            partner = next((s for s in second if s.source == study.source), None)
            if partner is not None:
                y, v = group_ratio_estimate(study, partner.value)
                estimates[SEXES[0]].append(((y - raised, v + group_ratio_estimate(partner, study.value)[1]), study))
        for group, members in grouped.items():
            for study in members:
                single = len(group) == 1 and (group[0] in self.bands or study.source in paired)
                if not single and not waiting:
                    expected = "one age band, or each sex by a row of the same source"
                    self._reject(study, "group", f"got {';'.join(group)!r}, expected {expected}")

    def _average(self, values: Mapping[str, float]) -> float:
        """Of numbers by age band, over the reference population."""
        shares = {band: self.value.get(f"population:{band}", 1.0) for band in values}
        return sum(shares[band] * value for band, value in values.items()) / sum(shares.values())

    def _links(self, cause: str) -> None:
        by_finding: dict[str, list[Study]] = defaultdict(list)
        for study in self.rows["sensitivity", cause]:
            by_finding[study.finding].append(study)
        for finding, members in by_finding.items():
            self._add(pool_probability(f"link:{cause}:{finding}", members))

    def _leaks(self, finding: str) -> None:
        direct = _by_group(s for q in ("false_positive_rate", "population_frequency") for s in self.rows[q, finding])
        inverse = _by_group(self.rows["specificity", finding])
        for group in dict.fromkeys([*direct, *inverse]):
            members, complement = direct.get(group, []), inverse.get(group, [])
            if not group or (len(group) == 1 and group[0] in self.bands):
                moved = {s.id: self._beside_causes(s) for s in members if s.quantity == "population_frequency"}
                leak = pool_probability(_at(f"leak:{finding}", group), members, complement, spread=SPREAD["leak"], moved=moved)
                self._add(leak)
            else:
                for study in (*members, *complement):
                    self._reject(study, "group", f"got {';'.join(group)!r}, a leak depends on one age band or on nothing")

    def _beside_causes(self, study: Study) -> tuple[float, float]:
        """From the logit of a population frequency to that of the leak: what to add, and by what its error grows."""
        group, counted, bridged = "".join(study.group), [], []
        p = min(max(study.value, 1e-6), 1.0 - 1e-6)
        value = ChainMap({f"leak:{study.finding}": p}, self.value)
        behind = [s for s in self.syndromes if f"link:{s}:{study.finding}" in value and f"leak:{s}" in value]
        for cause in self.causes:
            prior, link = self._prior_in(cause, group), self.value.get(f"link:{cause}:{study.finding}")
            if prior is not None and link is not None:
                counted.append((prior, link))
            elif prior is not None and (total := brought(value, behind, cause, study.finding)) is not None:
                bridged.append((prior, 1.0 - (1.0 - total) / (1.0 - p)))
        leak, less = (leak_beside(x, counted, bridged) for x in (p, p * 0.9999))
        if leak < 0.5 * p:
            made = 1.0 - math.prod(1.0 - prior * x for prior, x in (*counted, *bridged))
            message = f"got {study.value:.3g}, of which patients of the modelled causes make {made:.3g}: the rest only bounds"
            self._reject(study, "value", f"{message} the leak; make it a verbal false_positive_rate with a range")
            return 0.0, 1.0
        slope = (leak - less) / (0.0001 * p)
        return logit(leak) - logit(p), slope * p * (1.0 - p) / (leak * (1.0 - leak))


def _by_group(studies: Iterable[Study]) -> dict[tuple[str, ...], list[Study]]:
    groups: dict[tuple[str, ...], list[Study]] = defaultdict(list)
    for study in studies:
        groups[tuple(sorted(study.group))].append(study)
    return groups


def _by_setting(studies: Iterable[Study]) -> dict[str, list[Study]]:
    settings: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        settings[study.setting].append(study)
    return settings


def _rate(studies: list[Study]) -> float:
    if studies[0].quantity == "incidence":
        return pool_rate("", studies, 1.0).value
    return pool_probability("", studies, spread=SPREAD["prior"]).value


def _at(parameter: str, group: tuple[str, ...]) -> str:
    return f"{parameter}@{'+'.join(group)}" if group else parameter
