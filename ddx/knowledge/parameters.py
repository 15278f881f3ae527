"""Study rows -> the parameters of the network, one rule a kind of parameter; what no rule can use is a problem."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ddx.errors import Problem
from ddx.knowledge.pooling import (
    exposure_ratio_estimate,
    group_ratio_estimate,
    pool_probability,
    pool_rate,
    pool_ratio,
    ratio_estimate,
)
from ddx.knowledge.schema import SEXES, Cause, Context, Finding, Parameter, Study, Syndrome

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
    "false_positive_rate": (frozenset({"finding"}), frozenset({"cause", "group"})),
    "specificity": (frozenset({"finding"}), frozenset({"cause", "group"})),
    "population_frequency": (frozenset({"finding"}), frozenset({"group"})),
    "context_prevalence": (frozenset({"context"}), frozenset({"group"})),
    "population_share": (frozenset({"context"}), frozenset()),
}
RATIOS = ("odds_ratio", "relative_risk")
LEAKS = ("false_positive_rate", "specificity", "population_frequency")

_STUDIES = "studies.csv"

Estimates = dict[str, list[tuple[tuple[float, float], Study]]]  # context -> log ratio and its variance, by study


def collect(
    studies: Iterable[Study],
    causes: Mapping[str, Cause],
    syndromes: Mapping[str, Syndrome],
    findings: Mapping[str, Finding],
    context: Mapping[str, Context],
    problems: list[Problem],
) -> dict[str, Parameter]:
    """Every parameter that the study rows give, by id."""
    return _Collector(studies, causes, syndromes, findings, context, problems).parameters


class _Collector:
    def __init__(
        self,
        studies: Iterable[Study],
        causes: Mapping[str, Cause],
        syndromes: Mapping[str, Syndrome],
        findings: Mapping[str, Finding],
        context: Mapping[str, Context],
        problems: list[Problem],
    ) -> None:
        self.causes, self.context, self.problems = causes, context, problems
        self.parameters: dict[str, Parameter] = {}
        rows: dict[tuple[str, str], list[Study]] = defaultdict(list)
        for study in studies:
            subject = study.cause if study.quantity not in LEAKS else study.finding
            rows[study.quantity, subject or study.context].append(study)
        self.rows = rows
        self.bands = [c.id for c in context.values() if c.kind == "age_band"]
        for variable in context.values():
            self._population(variable)
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

    def _reject(self, study: Study, column: str, message: str) -> None:
        self.problems.append(Problem(_STUDIES, study.line, column, message))

    def _population(self, variable: Context) -> None:
        shares = self.rows["population_share", variable.id]
        frequencies = self.rows["context_prevalence", variable.id]
        if variable.kind == "risk_factor":
            for study in shares:
                self._reject(study, "context", f"got {variable.id!r}, population_share is for age bands and sexes")
            for group, members in _by_group(frequencies).items():
                self._add(pool_probability(_at(f"context:{variable.id}", group), members))
        else:
            for study in frequencies:
                self._reject(study, "context", f"got {variable.id!r}, context_prevalence is for risk factors")
            if shares:
                # The reference population is a convention, not one population among others: no spread between studies.
                self._add(pool_probability(f"population:{variable.id}", shares, spread=0.0))

    def _prior(self, cause: Cause) -> None:
        expected, other = ("incidence", "prevalence") if cause.course == "acute" else ("prevalence", "incidence")
        for study in self.rows[other, cause.id]:
            self._reject(study, "quantity", f"got {other!r}, {cause.id} is {cause.course}: expected {expected!r}")
        overall = [s for s in self.rows[expected, cause.id] if not s.group]
        if overall and cause.course == "acute":
            years = (cause.window_days or 0.0) / DAYS_PER_YEAR
            self._add(pool_rate(f"prior:{cause.id}", overall, years))
        elif overall:
            self._add(pool_probability(f"prior:{cause.id}", overall))
        by_setting: dict[str, list[Study]] = defaultdict(list)
        for study in self.rows["share", cause.id]:
            by_setting[study.setting].append(study)
        for setting, members in by_setting.items():
            self._add(pool_probability(f"prior:{cause.id}@{setting}", members))

    def _ratios(self, cause: Cause) -> None:
        """Risk factors first: what they bring is taken out of the rates and shares of age bands and sexes."""
        estimates: Estimates = defaultdict(list)
        for quantity in RATIOS:
            for study in self.rows[quantity, cause.id]:
                self._estimate(estimates, study, ratio_estimate(study))
        shares = self.rows["context_given_cause", cause.id]
        of_sexes = [s for s in shares if s.context in SEXES]
        for study in shares:
            if study.context not in SEXES:
                self._exposure(estimates, study, 0.0)
        risk_factors = [x for x in self.context if self.context[x].kind == "risk_factor" and estimates[x]]
        ratios = {x: pool_ratio("", estimates[x]).value for x in risk_factors}
        brought = {group: self._brought(ratios, group) for group in (*self.bands, *SEXES)}
        for study in of_sexes:
            other = SEXES[1 - SEXES.index(study.context)]
            self._exposure(estimates, study, brought[study.context] - brought[other])
        self._group_rates(cause, estimates, brought)
        self._crude_ratios(cause, estimates, brought)
        for target in self.context:
            if estimates[target]:
                self._add(pool_ratio(f"or:{cause.id}:{target}", estimates[target]))

    def _estimate(self, estimates: Estimates, study: Study, estimate: tuple[float, float], brought: float = 0.0) -> None:
        """File an estimate under its context, without the log ratio that other risk factors bring to it."""
        y, v = estimate
        target, sign = self._sex_contrast(study.context)
        estimates[target].append(((sign * (y - brought), v), study))

    def _exposure(self, estimates: Estimates, study: Study, brought: float) -> None:
        exposed = self._exposed(study.context)
        if exposed is None:
            self._reject(study, "context", f"no frequency of {study.context!r} in the population to compare with")
        else:
            self._estimate(estimates, study, exposure_ratio_estimate(study, exposed), brought)

    def _crude_ratios(self, cause: Cause, estimates: Estimates, brought: Mapping[str, float]) -> None:
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
                self._estimate(estimates, study, ratio_estimate(study), brought[study.context] - brought[reference])

    def _brought(self, ratios: Mapping[str, float], group: str) -> float:
        """Log of what the risk factors multiply the odds of a cause by in an age band or a sex, where the cause is rare."""

        def raised(x: Context) -> float:
            at_group, at_all = (self.parameters.get(_at(f"context:{x.id}", at)) for at in ((group,), ()))
            parameter = at_group or at_all
            if parameter is None:
                return 1.0
            ratio = ratios.get(x.id, 1.0)
            for child in self.context.values():
                if child.requires == x.id:
                    ratio *= raised(child)
            return 1.0 + parameter.value * (ratio - 1.0)

        roots = [x for x in self.context.values() if x.kind == "risk_factor" and not x.requires]
        return sum(math.log(raised(x)) for x in roots)

    def _sex_contrast(self, context: str) -> tuple[str, float]:
        """A ratio for one sex is the inverse ratio for the other: keep one parameter, women against men."""
        return (SEXES[0], -1.0) if context == SEXES[1] else (context, 1.0)

    def _exposed(self, context: str) -> float | None:
        kind = self.context[context].kind
        parameter = self.parameters.get(f"{'population' if kind == 'sex' else 'context'}:{context}")
        return None if kind == "age_band" or parameter is None else parameter.value

    def _group_rates(self, cause: Cause, estimates: Estimates, brought: Mapping[str, float]) -> None:
        quantity = "incidence" if cause.course == "acute" else "prevalence"
        grouped = _by_group(s for s in self.rows[quantity, cause.id] if s.group)
        bands = [b for b in self.bands if (b,) in grouped]
        if bands and any(estimates[b] for b in self.bands):
            self._reject(grouped[bands[0],][0], "group", f"{cause.id} has age-band rates and age-band ratios: keep one kind")
        elif bands and len(bands) < len(self.bands):
            missing = ", ".join(b for b in self.bands if b not in bands)
            self._reject(grouped[bands[0],][0], "group", f"{cause.id} has rates for some age bands only; missing: {missing}")
        elif bands:
            rates = {b: _rate(grouped[b,]) for b in bands}
            total = sum(self._share(b) for b in bands)
            reference = sum(self._share(b) * rates[b] for b in bands) / total
            mean = math.log(sum(self._share(b) * math.exp(brought[b]) for b in bands) / total)
            for b in bands:
                for study in grouped[b,]:
                    y, v = group_ratio_estimate(study, reference)
                    estimates[b].append(((y - (brought[b] - mean), v), study))
        self._sex_rates(grouped, estimates, brought[SEXES[0]] - brought[SEXES[1]])

    def _sex_rates(self, grouped: dict[tuple[str, ...], list[Study]], estimates: Estimates, brought: float) -> None:
        """Rates of both sexes from one source make one ratio, women against men."""
        first, second = (grouped.get((sex,), []) for sex in SEXES)
        paired = {s.source for s in first} & {s.source for s in second}
        for study in first:
            partner = next((s for s in second if s.source == study.source), None)
            if partner is not None:
                y, v = group_ratio_estimate(study, partner.value)
                estimates[SEXES[0]].append(((y - brought, v + group_ratio_estimate(partner, study.value)[1]), study))
        for group, members in grouped.items():
            for study in members:
                single = len(group) == 1 and (group[0] in self.bands or study.source in paired)
                if not single:
                    expected = "one age band, or each sex by a row of the same source"
                    self._reject(study, "group", f"got {';'.join(group)!r}, expected {expected}")

    def _share(self, band: str) -> float:
        parameter = self.parameters.get(f"population:{band}")
        return parameter.value if parameter else 1.0

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
                self._add(pool_probability(_at(f"leak:{finding}", group), members, complement))
            else:
                for study in (*members, *complement):
                    self._reject(study, "group", f"got {';'.join(group)!r}, a leak depends on one age band or on nothing")


def _by_group(studies: Iterable[Study]) -> dict[tuple[str, ...], list[Study]]:
    groups: dict[tuple[str, ...], list[Study]] = defaultdict(list)
    for study in studies:
        groups[tuple(sorted(study.group))].append(study)
    return groups


def _rate(studies: list[Study]) -> float:
    if studies[0].quantity == "incidence":
        return pool_rate("", studies, 1.0).value
    return pool_probability("", studies).value


def _at(parameter: str, group: tuple[str, ...]) -> str:
    return f"{parameter}@{'+'.join(group)}" if group else parameter
