"""From the posterior back to the studies: what one of them, the setting or a prevalence does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ddx.diagnosis import Model
from ddx.draws import posterior_under
from ddx.errors import Problem, UsageError
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase, Study
from ddx.knowledge.parameters import collect
from ddx.sensitivity.case import Case, cause_index, diagnosis_of, each_case, relevant
from ddx.values import inside

_FREQUENCIES = ("context_prevalence", "population_share")


def leave_one_source_out(model: Model, cases: pd.DataFrame) -> pd.DataFrame:
    """What every source does to the posteriors of some cases: its rows are left out and the parameters pooled again.

    Parameters
    ----------
    cases : as for ``Model.score``

    Returns
    -------
    A row per source behind a parameter that the cases can depend on, largest change first: parameters (that it supports),
    alone (those among them that no other row supports; they keep their values, because nothing else says what they are),
    change (largest absolute change of a posterior), case and cause (where that is), before, after, flips (cases whose leading
    cause is another one).

    Raises
    ------
    UsageError, CaseError
        As for ``Model.score``.
    """
    return _leave_out(model, cases, lambda study: study.source, "source")


def leave_one_study_out(model: Model, cases: pd.DataFrame) -> pd.DataFrame:
    """The same for every single row of studies.csv."""
    return _leave_out(model, cases, lambda study: study.id, "study")


def pooled_without(kb: KnowledgeBase, left_out: Iterable[str]) -> tuple[dict[str, float], list[str]]:
    """Parameters that change when study rows are left out (id -> new value), and those that only these rows support.

    Among the changed ones are those that depend on others: a leak beside the causes, a ratio beside the risk factors.
    """
    gone = set(left_out)
    rows = [kb.studies[s] for s in gone]
    causes = {s.cause for s in rows if s.cause}
    # Leaks depend on the causes where everybody was counted, ratios and priors of all causes on the frequencies.
    findings = {s.finding for s in rows if s.finding}
    if any(s.cause and s.finding not in kb.findings for s in rows):
        findings |= {s.finding for s in kb.studies.values() if s.quantity == "population_frequency"}
    everything = any(s.quantity in _FREQUENCIES for s in rows)

    def needed(study: Study) -> bool:
        own = study.cause in causes if study.cause else study.finding in findings
        return study.id not in gone and (own or everything or study.quantity in _FREQUENCIES)

    ignored: list[Problem] = []
    kept = [s for s in kb.studies.values() if needed(s)]
    again = collect(kept, kb.causes, kb.syndromes, kb.findings, kb.context, ignored, kb.parameters)
    alone = [p.id for p in kb.parameters.values() if gone.issuperset(p.studies)]
    return {name: p.value for name, p in again.items() if p.value != kb.parameters[name].value}, alone


def setting_shift(model: Model, case: Case) -> pd.DataFrame:
    """Posterior of every cause for the same case in every setting: causes as index, settings as columns."""
    evidence = diagnosis_of(model, case).evidence
    columns = {s: model.in_setting(s).network.posterior(evidence).marginal[0] for s in model.knowledge.settings}
    frame = pd.DataFrame(columns, index=pd.Index(model.network.causes, name="cause"))
    return frame.sort_values(model.setting, ascending=False, kind="stable")


def prevalence_shift(
    model: Model, case: Case, cause: str, factors: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
) -> pd.DataFrame:
    """Posterior of every cause when the odds of one cause's prevalence are multiplied: causes as index, factors as columns.

    Raises
    ------
    UsageError
        Unknown cause, a factor that is not above 0, or the setting "balanced", in which prevalences do not count.
    """
    index = cause_index(model, cause)
    cause = model.network.causes[index]
    if model.setting == BALANCED:
        raise UsageError(f"setting {BALANCED!r}: every cause is equally likely there; choose another setting")
    wrong = [f for f in factors if not 0.0 < f < np.inf]
    if wrong or not len(factors):
        raise UsageError(f"factors: got {f'{wrong[0]:g}' if wrong else 'none'}, expected numbers above 0")
    own = f"prior:{cause}@{model.setting}"
    parameter = own if model.setting != GENERAL and own in model.knowledge.parameters else f"prior:{cause}"
    p = model.knowledge.means[parameter]
    own_parameter = model.knowledge.parameters[parameter]
    moves = [{parameter: float(inside(own_parameter, np.asarray(f * p / (1.0 - p + f * p))))} for f in factors]
    found = posterior_under(model, diagnosis_of(model, case).evidence, moves)
    frame = pd.DataFrame(found.T, index=pd.Index(model.network.causes, name="cause"), columns=list(factors))
    return frame.iloc[np.argsort(-found.max(axis=0), kind="stable")]


def _leave_out(model: Model, cases: pd.DataFrame, key: Callable[[Study], str], name: str) -> pd.DataFrame:
    each, kb = each_case(model, cases), model.knowledge
    wanted = {p for _, evidence in each for p in relevant(model, evidence)}
    rows: dict[str, list[str]] = {}
    for study in kb.studies.values():
        rows.setdefault(key(study), []).append(study.id)
    supports: dict[str, set[str]] = {}
    for p in kb.parameters.values():
        for s in p.studies if p.id in wanted else ():
            supports.setdefault(key(kb.studies[s]), set()).add(p.id)
    pooled: list[tuple[str, Mapping[str, float], list[str]]] = [(k, *pooled_without(kb, rows[k])) for k in supports]
    largest = [(0.0, "", "", np.nan, np.nan)] * len(pooled)
    flips = np.zeros(len(pooled), dtype=int)
    for label, evidence in each:
        now = model.network.posterior(evidence).marginal[0]
        after = posterior_under(model, evidence, [changes for _, changes, _ in pooled])
        flips += after.argmax(axis=1) != now.argmax()
        for i, row in enumerate(after):
            k = int(np.abs(row - now).argmax())
            if abs(row[k] - now[k]) > largest[i][0]:
                largest[i] = abs(row[k] - now[k]), str(label), model.network.causes[k], now[k], row[k]
    records = [
        {
            "parameters": len(supports[key_]),
            "alone": len(supports[key_].intersection(alone)),
            "change": change,
            "case": case,
            "cause": cause,
            "before": before,
            "after": after_,
            "flips": int(flipped),
        }
        for (key_, _, alone), (change, case, cause, before, after_), flipped in zip(pooled, largest, flips, strict=True)
    ]
    columns = ["parameters", "alone", "change", "case", "cause", "before", "after", "flips"]
    table = pd.DataFrame(records, columns=columns, index=pd.Index([k for k, _, _ in pooled], name=name))
    return table.sort_values("change", ascending=False, kind="stable")
