"""A file of cases with their diagnoses in, a report out: the function behind ``ddx evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ddx.batch import STREAM, Chunk, Scorer, Source, check_encoding
from ddx.cases import CASE_ID, LISTS, CaseIds, Reject
from ddx.diagnosis import Model
from ddx.errors import UsageError, nearest
from ddx.validation.reports import Report, report
from ddx.validation.simulation import TRUTH
from ddx.validation.truth import is_null, true_causes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """rows = scored + rejected; ``rejects`` say why. ``posteriors`` and ``truth`` of the scored cases, with their report.

    ``cells_dropped`` : of scored cases, and columns, where the reading was lenient
    """

    rows: int
    scored: int
    rejected: int
    cells_dropped: int
    rejects: tuple[Reject, ...]
    posteriors: pd.DataFrame
    truth: pd.Series[str]
    report: Report


def evaluate_file(
    source: str | Path,
    model: Model,
    *,
    truth: str = TRUTH,
    lenient: bool = False,
    encoding: str = "utf-8",
    bins: int = 10,
    resamples: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Evaluation:
    """Score a file of cases and measure the posteriors against a column of true causes.

    Parameters
    ----------
    source : file of cases in a format of ``score_file``, wide or in list form; "-" is standard input (CSV)
    model : the knowledge base and the setting
    truth : the column with ids or aliases of the true causes, separated by ';'; an empty cell (null, nan) says that none of
        the modelled causes is present. A case whose causes are not known has no place here: 'unknown', 'NA' and the like are
        rejects
    lenient : drop an offending cell (or an unknown column) instead of rejecting its row
    encoding : of the source
    bins, resamples, seed : see ``report``

    Raises
    ------
    UsageError
        The source cannot be read as a table of cases, has no such column, or no row of it can be used.
    """
    check_encoding(encoding)
    if not isinstance(truth, str):
        raise UsageError(f"truth: got {truth!r}, expected the name of a column")
    source = str(source)
    scorer = Scorer(model, lenient=lenient)
    rejects: list[Reject] = []
    scores: list[pd.DataFrame] = []
    truths: list[str] = []
    rows, dropped, named = 0, 0, False
    last: tuple[str, ...] = ()
    seen = CaseIds()

    with Source(source, encoding, lists=(*LISTS, truth.strip())) as reader:
        if reader.long:
            form = "is in long form, which has no column of true causes"
            raise UsageError(f"{_shown(source)}: {form}; give a row for every case, wide or in list form")
        if reader.header is not None:
            at = _column(source, reader.header, truth)
            with reader.blamed():
                rejects += scorer.check([*reader.header[:at], *reader.header[at + 1 :]])
            named = True
            dropped = len(rejects)
        for chunk in reader.chunks():
            lines = chunk.lines.tolist()
            rows += len(lines) + len(chunk.refused)
            rejects += chunk.refused
            if not lines:
                continue
            last = chunk.names
            answers, rest = _split(chunk, truth)
            named = named or rest is not chunk
            scored = scorer.score(replace(rest, refused=[]), seen)
            frame = scored.table.to_pandas().set_index(CASE_ID)
            own_lines = [lines[row] for row in scored.at.tolist()]
            answers = [answers[row] for row in scored.at.tolist()]
            unknown = true_causes(
                answers,
                model.network.causes,
                model.knowledge,
                column=truth,
                lines=own_lines,
                case_ids=frame.index.tolist(),
            )[1]
            wrong = {reject.line for reject in unknown}
            keep = [line not in wrong for line in own_lines]
            dropped += scored.cells_dropped - sum(reject.line in wrong for reject in scored.rejects)
            scores.append(frame[keep])
            truths += [answer for answer, kept in zip(answers, keep, strict=True) if kept]
            rejects += [*scored.rejects, *unknown]
    rejects.sort(key=lambda reject: reject.line)
    if rows and not named:  # no object of JSON Lines has it
        _column(source, last, truth)
    if not truths:
        raise UsageError("\n".join([f"{_shown(source)}: no case can be used, of {rows}", *map(str, rejects[:20])]))
    posteriors = pd.concat(scores)
    answers_frame = pd.Series(truths, index=posteriors.index, name=truth)
    found = report(posteriors, answers_frame, model=model, bins=bins, resamples=resamples, seed=seed)
    return Evaluation(rows, len(truths), rows - len(truths), dropped, tuple(rejects), posteriors, answers_frame, found)


def _split(chunk: Chunk, truth: str) -> tuple[list[str], Chunk]:
    """The cells of the true causes, and a chunk without them: itself where none of its objects names any."""
    at = [i for i, name in enumerate(chunk.names) if name.strip() == truth]
    if not at:
        return [""] * len(chunk.lines), chunk
    column = chunk.cells[at[0]]
    cells = column.to_pylist() if hasattr(column, "to_pylist") else column
    answers = ["" if is_null(cell) else str(cell) for cell in cells]
    kept = [i for i in range(len(chunk.names)) if i != at[0]]
    return answers, replace(chunk, names=tuple(chunk.names[i] for i in kept), cells=[chunk.cells[i] for i in kept])


def _column(source: str, names: Sequence[str], truth: str) -> int:
    header = [name.strip() for name in names]
    if header.count(truth) != 1:
        what = f"no column {truth!r}{nearest(truth, header)}" if truth not in header else f"more than one column {truth!r}"
        raise UsageError(f"{_shown(source)}: has {what}; name the one with the true causes")
    return header.index(truth)


def _shown(source: str) -> str:
    return "standard input" if source == STREAM else source
