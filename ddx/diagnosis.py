"""A knowledge base in a setting, ready to diagnose: one case with ``diagnose``, many with ``score``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddx.cases import CaseError, Encoded, Reject, encode, from_frame, from_mapping, unknown_columns
from ddx.errors import UsageError, nearest
from ddx.inference import Posterior
from ddx.knowledge import KnowledgeBase, load_knowledge
from ddx.network import Evidence, LayeredNetwork, build_network, without_findings

if TYPE_CHECKING:
    import pandas as pd
    from pgmpy.models import DiscreteBayesianNetwork

_Value = TypeVar("_Value")
NONE = "none_of_these"
LOG_EVIDENCE = "log_evidence"


def load(name: str | Path = "limb", setting: str | None = None) -> Model:
    """Load a shipped knowledge base by name, or one in a folder.

    Parameters
    ----------
    name : "limb", or the path of a folder with a kb.toml
    setting : population that the cases come from; default: the one kb.toml names

    Raises
    ------
    UsageError
        No such knowledge base or setting.
    KnowledgeError
        The knowledge base has problems; all of them are listed.
    """
    if not isinstance(name, str | PathLike):
        raise UsageError(f"name: got {name!r}, expected the name of a shipped knowledge base or the path of a folder")
    knowledge = load_knowledge(name)
    return Model(knowledge, knowledge.default_setting if setting is None else setting)


@dataclass(frozen=True, eq=False)
class Model:
    """A knowledge base in one setting. Immutable; ``in_setting`` returns another one."""

    knowledge: KnowledgeBase
    setting: str

    def __post_init__(self) -> None:
        known = self.knowledge.settings
        if not isinstance(self.setting, str) or self.setting not in known:
            raise UsageError(f"unknown setting {self.setting!r}{nearest(self.setting, known)}; known: {', '.join(known)}")

    def __reduce__(self) -> tuple[type[Model], tuple[KnowledgeBase, str]]:
        return Model, (self.knowledge, self.setting)

    def __repr__(self) -> str:
        kb = self.knowledge
        return f"<ddx.Model {kb.name} {kb.version}, {self.setting}: {len(kb.causes)} causes, {len(kb.findings)} findings>"

    @cached_property
    def network(self) -> LayeredNetwork:
        """The arrays of the knowledge base in this setting."""
        return build_network(self.knowledge, self.setting)

    def in_setting(self, setting: str) -> Model:
        """The same knowledge base in another setting."""
        return Model(self.knowledge, setting)

    def diagnose(
        self,
        present: Sequence[str] = (),
        absent: Sequence[str] = (),
        uncertain: Mapping[str, float] | None = None,
        measurements: Mapping[str, float] | None = None,
        age: float | None = None,
        sex: str | None = None,
        context: Mapping[str, bool] | None = None,
    ) -> Diagnosis:
        """Posterior of every cause for one case.

        Parameters
        ----------
        present, absent : ids of findings (or risk factors); everything else is not observed
        uncertain : finding -> v in (0, 1), virtual evidence with likelihoods v for present and 1 - v for absent
        measurements : measurement -> value in the unit that its name ends with
        age : years
        sex : "female" or "male"
        context : risk factor -> True or False; those not given are summed out, as less probable where the setting says how
            many are stated

        Raises
        ------
        CaseError
            Unknown ids, contradictions, implausible values, impossible evidence; all of them are listed.
        """
        for name, given in (("present", present), ("absent", absent)):
            if isinstance(given, str):
                raise UsageError(f"{name}: got the text {given!r}, expected a list of ids, such as [{given!r}]")
            if isinstance(given, Mapping):
                raise UsageError(f"{name}: got a mapping, expected a list of ids; values between 0 and 1 go into uncertain")
            if not isinstance(given, Iterable):
                raise UsageError(f"{name}: got {given!r}, expected a list of ids; leave it out where nothing is stated")
        mappings = (("uncertain", uncertain, 0.8), ("measurements", measurements, 5.5), ("context", context, True))
        for name, values, example in mappings:
            if values is not None and not hasattr(values, "items"):
                got = type(values).__name__
                raise UsageError(f"{name}: got a {got}, expected a mapping from ids to values, such as {{'...': {example}}}")
        encoded = from_mapping(
            self.knowledge,
            present=[_stripped(name) for name in present],
            absent=[_stripped(name) for name in absent],
            uncertain=_by_id("uncertain", uncertain),
            measurements=_by_id("measurements", measurements),
            age=age,
            sex=sex,
            context=_by_id("context", context),
        )
        if encoded.rejects:
            raise CaseError(encoded.rejects)
        posterior, failed = self.posterior(encoded, [-1])
        if failed:
            raise CaseError(failed)
        return Diagnosis(self, encoded.evidence, posterior)

    def score(self, frame: pd.DataFrame, *, lenient: bool = False) -> pd.DataFrame:
        """Posteriors of a frame of cases, wide or in list form, with the same index.

        Parameters
        ----------
        frame : a column per finding, context or measurement id, or the columns present, absent and context with lists of ids
            or ids separated by ';'; case_id, age and sex where known
        lenient : ignore cells (and columns) that cannot be used, with a warning, instead of raising

        Returns
        -------
        A row per case, a column per cause, and none_of_these and log_evidence.

        Raises
        ------
        UsageError
            Unknown or duplicated columns.
        CaseError
            Cells that cannot be used; all of them are listed, ``line`` counting the rows from 0.
        """
        columns, cells = from_frame(self.knowledge, frame, lenient)
        encoded = encode(self.knowledge, columns, cells, list(range(len(frame))), lenient=lenient)
        posterior, failed = self.posterior(encoded, list(range(len(frame))))
        rejects = [*unknown_columns(self.knowledge, columns, -1), *encoded.rejects, *failed]
        if (rejects and not lenient) or failed or len(encoded.rows) < len(frame):
            raise CaseError(rejects)
        if rejects:
            warnings.warn(f"{len(rejects)} cells ignored:\n{CaseError(rejects)}", stacklevel=2)
        return self.frame(posterior, frame.index)

    def posterior(self, encoded: Encoded, lines: Sequence[int]) -> tuple[Posterior, list[Reject]]:
        """Posterior of encoded cases (M of them) and rejects for those that have none; their rows hold nan."""
        failed: list[Reject] = []
        posterior, refused = self.network.fitting(encoded.evidence)
        for error in refused.each() if refused is not None else ():
            message = f"{error.reason}; leave out findings"
            failed.append(_failed(encoded, lines, error.row, "too_many_findings", message))
        for row in np.flatnonzero(posterior.impossible):
            message = "the evidence has probability zero in this knowledge base; look for statements that exclude each other"
            failed.append(_failed(encoded, lines, int(row), "impossible_evidence", message))
        return posterior, failed

    def frame(self, posterior: Posterior, index: pd.Index) -> pd.DataFrame:
        """A frame of posteriors: a column per cause, none_of_these, log_evidence."""
        import pandas as pd

        frame = pd.DataFrame(posterior.marginal, index=index, columns=list(self.network.causes))
        frame[NONE] = posterior.none
        frame[LOG_EVIDENCE] = posterior.log_evidence
        return frame

    def to_pgmpy(self, causes: Sequence[str] | None = None, findings: Sequence[str] | None = None) -> DiscreteBayesianNetwork:
        """The network, or the part with the given causes and findings, as a pgmpy model; see ``ddx.interop``."""
        from ddx.interop import to_pgmpy

        return to_pgmpy(self, causes, findings)


def check_model(model: object) -> None:
    """Refuse what is no model, such as the name of a knowledge base."""
    if not isinstance(model, Model):
        named = isinstance(model, str)
        got = repr(model) if named or model is None else f"a value of type {type(model).__name__}"
        made = f"ddx.load({model!r})" if named else "ddx.load(name)"
        raise UsageError(f"model: got {got}, expected a Model; {made} makes one")


def _stripped(name: str) -> str:
    """An id without the blanks around it, as in files; what is no text is left to the check of ids."""
    return name.strip() if isinstance(name, str) else name


def _by_id(argument: str, values: Mapping[str, _Value] | None) -> dict[str, _Value]:
    found: dict[str, _Value] = {}
    for name, value in () if values is None else values.items():
        if (id_ := _stripped(name)) in found:
            raise UsageError(f"{argument}: {id_!r} is given twice; keep one")
        found[id_] = value
    return found


def _failed(encoded: Encoded, lines: Sequence[int], row: int, error: str, message: str) -> Reject:
    return Reject(lines[int(encoded.rows[row])], encoded.case_ids[row], "", "", error, message)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The answer for one case. Series are made anew each time: changing one changes nothing here."""

    model: Model
    evidence: Evidence
    result: Posterior

    @property
    def posterior(self) -> pd.Series[float]:
        """Cause id -> P(cause | evidence), descending. Causes may coexist: the values need not sum to one."""
        series = _series(self.result.marginal[0], self.model.network.causes, "posterior")
        return series.sort_values(ascending=False, kind="stable")

    @property
    def none_of_these(self) -> float:
        """P(no modelled cause | evidence)."""
        return float(self.result.none[0])

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of P(findings | observed context)."""
        return float(self.result.log_evidence[0])

    @property
    def context(self) -> pd.Series[float]:
        """Risk factor -> P(present | evidence); 1 or 0 where it was observed."""
        return _series(self.result.context[0], self.model.network.risk_factors, "probability")

    @property
    def syndromes(self) -> pd.Series[float]:
        """Syndrome -> P(syndrome | evidence), descending; nan where none of its findings is stated. Nobody observes them."""
        series = _series(self.result.syndrome[0], self.model.network.syndromes, "probability")
        return series.sort_values(ascending=False, kind="stable")

    @property
    def prior(self) -> pd.Series[float]:
        """Cause id -> probability for this age, sex and context before any finding."""
        return _series(self._before.marginal[0], self.model.network.causes, "prior")

    @cached_property
    def _before(self) -> Posterior:
        return self.model.network.posterior(without_findings(self.evidence))

    def table(self, draws: int = 100, seed: int = 0) -> pd.DataFrame:
        """label, code (ICD-10), urgency, prior, posterior, low, high, a row per cause, most probable first.

        Parameters
        ----------
        draws : draws of all parameters from their distributions; low and high are the 5 % and 95 % quantiles of the
            posterior over them (nan for 0 draws); 20 or more
        seed : of the draws

        Raises
        ------
        UsageError
            1 to 19 draws, or a negative number.
        """
        import pandas as pd

        return pd.DataFrame(self.rows(draws, seed)).set_index("cause")

    def rows(self, draws: int = 100, seed: int = 0) -> list[dict[str, Any]]:
        """The rows of ``table``, with the id of the cause, for those who do without pandas; parameters and errors as there."""
        from ddx.draws import posterior_quantiles

        causes, posterior, prior = self.model.knowledge.causes, self.result.marginal[0], self._before.marginal[0]
        low, high = posterior_quantiles(self.model, self.evidence, draws, seed)[:, 0]
        numbers = {"prior": prior, "posterior": posterior, "low": low, "high": high}
        rows = []
        for k in np.argsort(-posterior, kind="stable").tolist():
            cause = causes[self.model.network.causes[k]]
            words = {"cause": cause.id, "label": cause.label, "code": cause.icd10, "urgency": cause.urgency}
            rows.append(words | {name: float(values[k]) for name, values in numbers.items()})
        return rows


def _series(values: NDArray[np.float64], index: Sequence[str], name: str) -> pd.Series[float]:
    import pandas as pd

    return pd.Series(values, index=list(index), name=name, copy=True)
