"""One-way sensitivity of a file of cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ddx.batch import Scorer, Source, check_encoding
from ddx.cases import CaseIds, Reject, select
from ddx.diagnosis import Model
from ddx.errors import UsageError
from ddx.inference.network import Floats
from ddx.network import Evidence
from ddx.sensitivity.oneway import summarize


@dataclass(frozen=True, eq=False)
class Summary:
    """``table`` as ``summary`` returns it; ``rows`` = ``scored`` + rejected rows."""

    table: pd.DataFrame
    rows: int
    scored: int
    rejects: list[Reject]

    @property
    def rejected(self) -> int:
        """Rows without a posterior."""
        return self.rows - self.scored


def summarize_file(source: str, model: Model, *, level: float = 0.9, encoding: str = "utf-8") -> Summary:
    """``summary`` of the cases of a file, in the formats of ``score_file``.

    Raises
    ------
    UsageError
        The source cannot be read as a table of cases, or no row of it can be used.
    """
    check_encoding(encoding)
    scorer = Scorer(model, lenient=None)
    kept: list[Evidence] = []
    labels: list[str] = []
    rejects: list[Reject] = []
    rows = 0
    with Source(source, encoding) as reader:
        seen = CaseIds(long=reader.long)
        if reader.header is not None and not reader.long:
            with reader.blamed():
                scorer.check(reader.header)
        for chunk in reader.chunks():
            with reader.blamed():
                read = scorer.read(chunk, seen)
            rows += read.rows
            rejects += chunk.refused
            if read.encoded is None:
                continue
            found, lines = read.encoded, chunk.lines.tolist()
            failed = model.posterior(found, lines)[1]
            lost = {reject.line for reject in failed}
            good = np.array([i for i, row in enumerate(found.rows) if lines[int(row)] not in lost], dtype=np.intp)
            kept.append(select(found.evidence, good))
            labels += [found.case_ids[i] for i in good]
            rejects += [*found.rejects, *failed]
    rejects.sort(key=lambda reject: reject.line)
    if not labels:
        raise UsageError("\n".join([f"{source}: no case can be used, of {rows}", *map(str, rejects[:20])]))
    return Summary(summarize(model, _joined(kept), labels, level), rows, len(labels), rejects)


def _joined(parts: list[Evidence]) -> Evidence:
    n = [len(part) for part in parts]
    columns = np.unique(np.concatenate([part.columns for part in parts]))
    finding = np.full((sum(n), len(columns)), np.nan)
    level: dict[str, Floats] = {}
    for start, part in zip(np.cumsum([0, *n[:-1]]).tolist(), parts, strict=True):
        rows = slice(start, start + len(part))
        finding[rows, np.searchsorted(columns, part.columns)] = part.finding
        for graded, likelihood in part.level.items():
            level.setdefault(graded, np.ones((sum(n), likelihood.shape[1])))[rows] = likelihood
    context, age, sex = (np.concatenate([getattr(part, name) for part in parts]) for name in ("context", "age", "sex"))
    return Evidence(columns, finding, level, context, age, sex)
