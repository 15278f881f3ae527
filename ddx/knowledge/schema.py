"""Frozen objects of a knowledge base: what the files say, with no arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, get_args

from ddx.errors import Problem

Distribution = Literal["beta", "log_normal"]

AGE_MAX = 120.0
BALANCED = "balanced"
GENERAL = "general"
EXPERT = "expert_estimate"
Kind = Literal["history", "symptom", "sign", "bedside_test", "lab"]
FINDING_KINDS: tuple[Kind, ...] = get_args(Kind)
# Tables of kb.toml with numbers for a setting.
OF_SETTINGS = ("causes_per_patient", "risk_factors_reported", "background_reported")
VERBAL = "verbal"  # quality of a source that says in words how frequent something is
SEXES = ("sex_female", "sex_male")
# Columns of tables of cases and of posteriors: no cause, finding, context or measurement can have one of these names.
RESERVED = frozenset(
    {"case_id", "age", "sex", "present", "absent", "context", "none_of_these", "log_evidence"}
    | {"final_diagnosis", "citation", "url", "note"}
)


@dataclass(frozen=True)
class Source:
    """Where numbers come from; ``line`` is its line in sources.csv."""

    id: str
    citation: str
    doi: str = ""
    pmid: str = ""
    url: str = ""
    year: int | None = None
    design: str = ""
    line: int = 0


@dataclass(frozen=True)
class Study:
    """One number from one source. ``line`` is its line in studies.csv."""

    id: str
    quantity: str
    value: float
    source: str
    quality: str
    cause: str = ""
    finding: str = ""
    context: str = ""
    group: tuple[str, ...] = ()
    setting: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""
    numerator: int | None = None
    denominator: int | None = None
    counts: str = ""
    population: str = ""
    note: str = ""
    line: int = 0

    @property
    def cited(self) -> bool:
        """Whether a source stands behind the number, as against an expert estimate."""
        return self.source != EXPERT


@dataclass(frozen=True)
class Cause:
    """``window_days``: how long an episode of an acute cause is active; None for a chronic one."""

    id: str
    label: str
    aliases: tuple[str, ...]
    family: str
    course: Literal["chronic", "acute"]
    window_days: float | None
    icd10: str
    mondo: str
    urgency: Literal["emergency", "urgent", "routine"]
    action_threshold: float
    description: str
    line: int = 0


@dataclass(frozen=True)
class Finding:
    """``graded`` and ``level``: the graded finding that this is one level of, counted from 1 upward; '' and 0 otherwise."""

    id: str
    label: str
    aliases: tuple[str, ...]
    graded: str
    level: int
    implies: tuple[str, ...]
    kind: Kind
    hpo: str
    loinc: str
    question: str
    cost: float
    line: int = 0


@dataclass(frozen=True)
class Syndrome:
    """A state that nobody observes, behind several findings: a finding of causes and a cause of findings."""

    id: str
    label: str
    description: str
    line: int = 0


@dataclass(frozen=True)
class Form:
    """One of the forms in which a cause comes; ``share``: of its patients."""

    id: str
    cause: str
    share: float
    description: str
    line: int = 0


@dataclass(frozen=True)
class FormFinding:
    """How frequent a finding is in every form of a cause, in the order of the forms."""

    id: str
    cause: str
    finding: str
    frequencies: tuple[float, ...]
    line: int = 0


@dataclass(frozen=True)
class Context:
    """A context variable's value: an age band [age_from, age_to), a part of one, a sex, or a boolean risk factor."""

    id: str
    label: str
    aliases: tuple[str, ...]
    kind: Literal["age_band", "age_part", "sex", "risk_factor"]
    requires: str
    age_from: float | None
    age_to: float | None
    question: str
    line: int = 0


@dataclass(frozen=True)
class Threshold:
    """The finding is present where the measurement is ``below``, or ``at_least``, a limit; ``sex`` is an id or ''."""

    finding: str
    below: float | None = None
    at_least: float | None = None
    sex: str = ""


@dataclass(frozen=True)
class Measurement:
    """A number with a unit that thresholds turn into findings; outside ``plausible`` it is an error."""

    id: str
    label: str
    unit: str
    loinc: str
    plausible: tuple[float, float]
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class Parameter:
    """A number of the network with its uncertainty and the studies behind it.

    ``value`` is what the network uses: the mean of a Beta(a, b), the median exp(mu) of a log-normal (mu, sigma) - its log
    odds ratio enters the logit linearly - scaled by ``scale`` (window of an acute cause in years). ``estimates``: what each of
    the studies makes of it alone.
    """

    id: str
    distribution: Distribution
    value: float
    first: float  # a or mu
    second: float  # b or sigma
    studies: tuple[str, ...]
    cited: bool
    scale: float = 1.0
    estimates: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class KnowledgeBase:
    """A whole knowledge base. Mappings are in file order and read-only.

    ``causes_per_patient``: setting -> mean number of modelled causes of those patients who have any.
    ``background_reported``: setting -> kind of finding -> how often a finding without a modelled cause is reported, over how
    often one from a modelled cause is; 1 where nothing is said.
    ``risk_factors_reported``: setting -> how many of the risk factors that are there are stated. ``settings_with_forms``: where
    causes come in their ``forms``; elsewhere findings are as frequent as in all patients of a cause, whatever else there is.
    """

    name: str
    version: str
    title: str
    licence: str
    intended_use: str
    default_setting: str
    settings: MappingProxyType[str, str]
    causes: MappingProxyType[str, Cause]
    findings: MappingProxyType[str, Finding]
    context: MappingProxyType[str, Context]
    measurements: MappingProxyType[str, Measurement]
    sources: MappingProxyType[str, Source]
    studies: MappingProxyType[str, Study]
    parameters: MappingProxyType[str, Parameter]
    syndromes: MappingProxyType[str, Syndrome] = field(default_factory=lambda: MappingProxyType({}))
    causes_per_patient: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    background_reported: MappingProxyType[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    risk_factors_reported: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    forms: MappingProxyType[str, Form] = field(default_factory=lambda: MappingProxyType({}))
    form_findings: MappingProxyType[str, FormFinding] = field(default_factory=lambda: MappingProxyType({}))
    settings_with_forms: tuple[str, ...] = ()
    digest: str = ""
    folder: str = field(default="", compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Read-only mappings do not pickle; other processes get plain ones and wrap them again."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _plain(value) for name, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _read_only(value))

    @cached_property
    def age_bands(self) -> tuple[Context, ...]:
        """Youngest first. Parameters depend on them; cases belong to ``age_strata``."""
        return tuple(c for c in self.context.values() if c.kind == "age_band")

    @cached_property
    def age_parts(self) -> tuple[Context, ...]:
        """Parts of age bands, youngest first."""
        parts = (c for c in self.context.values() if c.kind == "age_part")
        return tuple(sorted(parts, key=lambda part: part.age_from or 0.0))

    @cached_property
    def age_strata(self) -> tuple[Context, ...]:
        """What the age of a case selects, youngest first: the parts of a band that has any, else the band."""
        return tuple(stratum for band in self.age_bands for stratum in self.parts_of(band) or (band,))

    @cached_property
    def band_of_stratum(self) -> tuple[int, ...]:
        """For every one of ``age_strata`` the index of its age band."""
        return tuple(b for b, band in enumerate(self.age_bands) for _ in self.parts_of(band) or (band,))

    def parts_of(self, band: Context) -> tuple[Context, ...]:
        """Parts of an age band, youngest first; none where it is whole."""
        low, high = band.age_from or 0.0, band.age_to or 0.0
        return tuple(p for p in self.age_parts if low <= (p.age_from or 0.0) and (p.age_to or AGE_MAX) <= high)

    @cached_property
    def sexes(self) -> tuple[Context, ...]:
        """Both, in file order."""
        return tuple(c for c in self.context.values() if c.kind == "sex")

    @cached_property
    def risk_factors(self) -> tuple[Context, ...]:
        """The boolean context variables."""
        return tuple(c for c in self.context.values() if c.kind == "risk_factor")

    @cached_property
    def means(self) -> dict[str, float]:
        """Parameter id -> the number that the network uses."""
        return {p.id: p.value for p in self.parameters.values()}

    @cached_property
    def graded(self) -> MappingProxyType[str, tuple[str, ...]]:
        """Graded finding -> its levels, lowest first."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings.values():
            if finding.graded:
                groups.setdefault(finding.graded, []).append(finding)
        return MappingProxyType(
            {name: tuple(f.id for f in sorted(levels, key=lambda f: f.level)) for name, levels in groups.items()}
        )

    @cached_property
    def implications(self) -> tuple[tuple[str, str], ...]:
        """(specific, general) findings of every implication, transitive ones included."""
        pairs: list[tuple[str, str]] = []
        order = {name: i for i, name in enumerate(self.findings)}
        for start in self.findings:
            reached: set[str] = set()
            stack = list(self.findings[start].implies)
            while stack:
                finding = stack.pop()
                if finding not in reached:
                    reached.add(finding)
                    stack.extend(self.findings[finding].implies)
            pairs += [(start, general) for general in sorted(reached, key=order.__getitem__)]
        return tuple(pairs)

    @cached_property
    def names(self) -> MappingProxyType[str, tuple[str, str]]:
        """Every id and alias -> (kind, id), kind one of cause, finding, context, measurement."""
        table: dict[str, tuple[str, str]] = {}
        for kind, items in (("cause", self.causes), ("finding", self.findings), ("context", self.context)):
            for item in items.values():
                for name in (item.id, *item.aliases):
                    table[name] = (kind, item.id)
        table.update({m: ("measurement", m) for m in self.measurements})
        return MappingProxyType(table)


def problem_of(kb: KnowledgeBase, parameter: Parameter, column: str, message: str) -> Problem:
    """A problem of a parameter, at the first of its study rows."""
    first = parameter.studies[0]
    return Problem("studies.csv", kb.studies[first].line if first in kb.studies else None, column, message)


def _plain(value: Any) -> Any:
    """A value of a knowledge base as pickle can have it: no mapping proxies, within others neither."""
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, MappingProxyType) else value


def _read_only(value: Any) -> Any:
    return MappingProxyType({key: _read_only(item) for key, item in value.items()}) if isinstance(value, dict) else value
