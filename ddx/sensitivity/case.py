"""What every analysis needs of one case: its evidence, the parameters that can matter, and their distributions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ddx.cases import CaseError, encode, from_frame, select
from ddx.diagnosis import Diagnosis, Model, check_model
from ddx.errors import UsageError, between, nearest
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase, Parameter
from ddx.network import Evidence
from ddx.values import inside, spread_of

_ARGUMENTS = tuple(signature(Model.diagnose).parameters)[1:]
Case = Diagnosis | Mapping[str, Any]


def diagnosis_of(model: Model, case: Case) -> Diagnosis:
    """A case as ``Model.diagnose`` returned it, or the arguments for that: {"present": ["ptosis"], "age": 34}."""
    check_model(model)
    if isinstance(case, Diagnosis):
        return case if case.model is model else Diagnosis(model, case.evidence, model.network.posterior(case.evidence))
    if not isinstance(case, Mapping):
        raise UsageError(f"case: got a {type(case).__name__}, expected a Diagnosis or the arguments of Model.diagnose by name")
    for name in case:
        if name not in _ARGUMENTS:
            raise UsageError(f"case: unknown argument {name!r}{nearest(str(name), _ARGUMENTS)}; known: {', '.join(_ARGUMENTS)}")
    return model.diagnose(**case)


def encoded_cases(model: Model, cases: pd.DataFrame) -> Evidence:
    """Evidence of every row of a frame of cases, as ``Model.score`` takes them.

    Raises
    ------
    UsageError, CaseError
        As for ``Model.score``.
    """
    check_model(model)
    columns, cells = from_frame(model.knowledge, cases)
    encoded = encode(model.knowledge, columns, cells, list(range(len(cases))))
    # Those that no analysis could solve are named before it begins; to find them, all cases are solved once.
    failed = [] if encoded.rejects else model.posterior(encoded, list(range(len(cases))))[1]
    if encoded.rejects or failed:
        raise CaseError([*encoded.rejects, *failed])
    return encoded.evidence


def each_case(model: Model, cases: pd.DataFrame) -> list[tuple[Any, Evidence]]:
    """Index and evidence of every row of a frame of cases; errors as for ``encoded_cases``."""
    evidence = encoded_cases(model, cases)
    return [(label, select(evidence, np.array([i]))) for i, label in enumerate(cases.index)]


def cause_index(model: Model, target: str) -> int:
    """Index of a cause, by its id or an alias.

    Raises
    ------
    UsageError
        No such cause.
    """
    check_model(model)
    causes = model.network.causes
    kind, known = model.knowledge.names.get(str(target), ("", ""))
    cause = known if kind == "cause" else target
    if cause not in causes:
        raise UsageError(f"target: unknown cause {target!r}{nearest(target, causes)}")
    return causes.index(cause)


def parameter_of(model: Model, parameter: str) -> Parameter:
    """A parameter by its id.

    Raises
    ------
    UsageError
        No such parameter.
    """
    check_model(model)
    known = model.knowledge.parameters
    if parameter not in known:
        raise UsageError(f"unknown parameter {parameter!r}{nearest(parameter, known)}")
    return known[parameter]


def chosen(model: Model, parameters: Iterable[str]) -> list[str]:
    """Ids of parameters that were asked for, each once.

    Raises
    ------
    UsageError
        An unknown id, or a text in place of a list.
    """
    if isinstance(parameters, str):
        raise UsageError(f"parameters: got the text {parameters!r}, expected a list of ids, such as [{parameters!r}]")
    ids = list(dict.fromkeys(parameters))
    for name in ids:
        parameter_of(model, name)
    return ids


def relevant(model: Model, evidence: Evidence) -> list[str]:
    """Ids of the parameters that the posterior of a case can depend on, in the order of the knowledge base.

    Links and leaks of findings that are not observed cancel out; so do priors and populations of other settings.
    """
    kb, network = model.knowledge, model.network
    parts = network.parts(evidence)
    observed = {network.findings[f] for f in parts.columns}
    # Where causes come in forms the network has no syndromes, but what they bring counts where no study counted it.
    syndromes = {s for s in kb.syndromes if any(f"link:{s}:{finding}" in kb.parameters for finding in observed)}
    bands = {kb.age_bands[kb.band_of_stratum[a]].id for a in np.unique(parts.age)}
    return [p for p in kb.parameters if _matters(p, model, observed | syndromes, bands)]


def _matters(parameter: str, model: Model, below: set[str], bands: set[str]) -> bool:
    kind, subject, *rest = parameter.partition("@")[0].split(":")
    where = parameter.partition("@")[2]
    if kind == "link":
        return rest[0] in below
    if kind == "leak":
        # The leak of all ages is what the totals of the links are reckoned from, whatever the age.
        return subject in below and (not where or where in bands)
    if kind == "prior":
        own = f"prior:{subject}@{model.setting}" in model.knowledge.parameters
        used = where == model.setting if own and model.setting != GENERAL else not where
        return used and model.setting != BALANCED
    if kind == "context":
        return where.partition("@")[2] in ("", model.setting)
    # The shares of the sexes among all people weigh what a risk factor's frequencies in the sexes are reckoned from.
    return kind != "population" or where in ("", model.setting)


def check_level(level: float) -> None:
    """Refuse a coverage that is not inside (0, 1)."""
    between("level", level)


def interval_of(parameter: Parameter, level: float = 0.9) -> tuple[float, float]:
    """Central interval of a parameter's distribution.

    Raises
    ------
    UsageError
        A level that is not inside (0, 1).
    """
    check_level(level)
    tail = 0.5 * (1.0 - level)
    if parameter.distribution == "log_normal":
        z = NormalDist().inv_cdf(tail)
        ends = np.exp(parameter.first + z * parameter.second * np.array([1.0, -1.0])) * parameter.scale
        low, high = inside(parameter, ends).tolist()
        return low, high
    from scipy.special import betaincinv  # loaded here: it takes a tenth of a second

    low, high = (float(x) for x in betaincinv(parameter.first, parameter.second, [tail, 1.0 - tail]))
    return low, high


def moved(parameter: Parameter, z: float) -> float:
    """The value ``z`` standard deviations away from the mean."""
    shift = z * spread_of(parameter)
    p = parameter.value
    value = p * np.exp(shift) if parameter.distribution == "log_normal" else 1.0 / (1.0 + (1.0 - p) / p * np.exp(-shift))
    return float(inside(parameter, value))


def sources_of(kb: KnowledgeBase, parameter: Parameter) -> str:
    """Ids of the sources behind a parameter, separated by ';'."""
    return ";".join(dict.fromkeys(kb.studies[s].source for s in parameter.studies))
