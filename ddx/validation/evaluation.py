"""A file of cases with their diagnoses in, a report out: the function behind ``ddx evaluate``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ddx.batch import STREAM, Source, check_encoding
from ddx.cases import CASE_ID, LISTS, CaseIds, Column, Reject, encode, interpret
from ddx.diagnosis import Model
from ddx.errors import UsageError, nearest
from ddx.validation.reports import Report, report
from ddx.validation.simulation import TRUTH
from ddx.validation.truth import true_causes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """rows = scored + rejected; ``rejects`` say why. ``posteriors`` and ``truth`` of the scored cases, with their report."""

    rows: int
    scored: int
    rejected: int
    rejects: tuple[Reject, ...]
    posteriors: pd.DataFrame
    truth: pd.Series[str]
    report: Report


def evaluate_file(
    source: str | Path,
    model: Model,
    *,
    truth: str = TRUTH,
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
    truth : the column with ids or aliases of the true causes, separated by ';'; an empty cell says that none is present
    encoding : of the source
    bins, resamples, seed : see ``report``

    Raises
    ------
    UsageError
        The source cannot be read as a table of cases, has no such column, or no row of it can be used.
    """
    check_encoding(encoding)
    source = str(source)
    kb = model.knowledge
    rejects: list[Reject] = []
    scores: list[pd.DataFrame] = []
    truths: list[str] = []
    rows = 0
    seen = CaseIds()

    def interpreted(header: Iterable[str]) -> tuple[int, tuple[Column, ...]]:
        names = [name.strip() for name in header]
        at = _column(source, names, truth)
        return at, interpret([*names[:at], *names[at + 1 :]], kb)

    with Source(source, encoding, lists=(*LISTS, truth.strip())) as reader:
        if reader.long:
            form = "is in long form, which has no column of true causes"
            raise UsageError(f"{_shown(source)}: {form}; give a row for every case, wide or in list form")
        if reader.header is not None:
            interpreted(reader.header)  # a header that says nothing is refused, whatever follows
        for chunk in reader.chunks():
            lines = chunk.lines.tolist()
            rows += len(lines) + len(chunk.refused)
            rejects += chunk.refused
            at, columns = interpreted(chunk.names)
            if not lines:
                continue
            cells = list(chunk.cells)
            column = cells.pop(at)
            answers = ["" if a is None else str(a) for a in (column.to_pylist() if hasattr(column, "to_pylist") else column)]
            encoded = encode(kb, columns, cells, lines, seen=seen)
            posterior, failed = model.posterior(encoded, lines)
            frame = model.frame(posterior, pd.Index(encoded.case_ids, name=CASE_ID))
            own_lines = [lines[int(i)] for i in encoded.rows]
            own_answers = [answers[int(i)] for i in encoded.rows]
            unknown = true_causes(
                own_answers, model.network.causes, kb, column=truth, lines=own_lines, case_ids=encoded.case_ids
            )[1]
            lost = {reject.line for reject in (*failed, *unknown)}
            keep = [line not in lost for line in own_lines]
            scores.append(frame[keep])
            truths += [answer for answer, kept in zip(own_answers, keep, strict=True) if kept]
            rejects += [*encoded.rejects, *failed, *unknown]
    rejects.sort(key=lambda reject: reject.line)
    if not truths:
        raise UsageError("\n".join([f"{_shown(source)}: no case can be used, of {rows}", *map(str, rejects[:20])]))
    posteriors = pd.concat(scores)
    answers_frame = pd.Series(truths, index=posteriors.index, name=truth)
    found = report(posteriors, answers_frame, model=model, bins=bins, resamples=resamples, seed=seed)
    return Evaluation(rows, len(truths), rows - len(truths), tuple(rejects), posteriors, answers_frame, found)


def _column(source: str, header: list[str], truth: str) -> int:
    if header.count(truth) != 1:
        what = f"no column {truth!r}{nearest(truth, header)}" if truth not in header else f"more than one column {truth!r}"
        raise UsageError(f"{_shown(source)}: has {what}; name the one with the true causes")
    return header.index(truth)


def _shown(source: str) -> str:
    return "standard input" if source == STREAM else source
