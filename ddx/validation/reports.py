"""How good posteriors are, given the true causes: ``report``."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddx.batch.scoring import HIGH, LOW
from ddx.cases import CASE_ID, CaseError
from ddx.diagnosis import LOG_EVIDENCE, NONE, check_model
from ddx.errors import UsageError, nearest, whole
from ddx.inference.network import Floats, Ints
from ddx.validation import measures
from ddx.validation.arguments import cells_of, check_posteriors
from ddx.validation.measures import Estimate
from ddx.validation.truth import true_causes

if TYPE_CHECKING:
    from ddx.diagnosis import Model

TOP = (1, 3, 5)
# Truths drawn to see what chance makes of a calibration error; its mean and upper end need no more.
_CHANCE = 200


@dataclass(frozen=True, eq=False)
class Report:
    """What posteriors of N cases are worth.

    An *item* is a case and one of its true causes: a case of two causes is two items, a case of none is no item (but counts
    for log score, Brier score and calibration).

    Attributes
    ----------
    cases, items, without_cause : how many
    top_1, top_3, top_5 : share of items of rank 1, up to 3, up to 5. The rank of an item is 1 + the number of *wrong* causes
        whose posterior is at least as high: the other true causes of the case are no competitors, so that both causes of a
        case can be right at rank 1; equal posteriors count against the item
    log_score : mean over cases of the sum over causes of -y log p - (1 - y) log(1 - p), nats; inf if a posterior of exactly
        0 or 1 was wrong
    brier : mean over cases of the sum over causes of (p - y)^2
    calibration_error : expected calibration error over all posteriors (every cause of every case), in bins of equal width.
        Most posteriors are small and right, which makes this number small
    leading_calibration_error : the same over the leading cause of each case only: is it true as often as its posterior says?
        Of several with the same posterior, the share that is true: the average over which of them is named
    calibration_error_by_chance, leading_calibration_error_by_chance : mean (and 2.5 % and 97.5 % quantile) of both if every
        posterior were exactly right: a calibration error is never 0. No bootstrap: they are there without resamples as well
    per_cause : frame, a row per cause: true (cases that have it), expected (sum of its posteriors), top_1, top_3, top_5 of its
        items, posterior (mean where it is true), log_score, brier (both add up to the overall ones), calibration_error and its
        interval low, high
    reliability, leading_reliability : frames, a row per bin: low, high, count, mean (posterior), frequency (of the truth) and
        its 95 % Wilson interval frequency_low, frequency_high
    by_item : frame, a row per item: case, truth, rank, posterior, wrong (the leading wrong cause), wrong_posterior

    Intervals of estimates are 2.5 % and 97.5 % quantiles over resamples of the cases; those of calibration errors, whose
    resamples lie above the estimate, are corrected for that (``measures.calibration_interval``).
    """

    cases: int
    items: int
    without_cause: int
    top_1: Estimate
    top_3: Estimate
    top_5: Estimate
    log_score: Estimate
    brier: Estimate
    calibration_error: Estimate
    leading_calibration_error: Estimate
    calibration_error_by_chance: Estimate
    leading_calibration_error_by_chance: Estimate
    per_cause: pd.DataFrame
    reliability: pd.DataFrame
    leading_reliability: pd.DataFrame
    by_item: pd.DataFrame

    @property
    def overall(self) -> pd.DataFrame:
        """All estimates: measure -> value, low, high."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        rows = {name: (e.value, e.low, e.high) for name, e in found.items() if isinstance(e, Estimate)}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return frame.rename_axis("measure")


def report(
    posteriors: pd.DataFrame,
    truth: pd.Series[Any] | Sequence[Hashable],
    *,
    model: Model | None = None,
    bins: int = 10,
    resamples: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Report:
    """Measure posteriors against true causes.

    Parameters
    ----------
    posteriors : a row per case, a column per cause, as ``Model.score`` returns it or ``ddx score`` writes it; none_of_these,
        log_evidence, and the columns of leading causes and intervals are read over, and a column case_id names the cases.
        Nothing outside 0 to 1 is clipped, not even by rounding
    truth : ids of the true causes of every case, separated by ';', in the order of the rows; a Series must have the same index.
        Empty (None, nan, pd.NA): none of the causes is present. Leave out cases whose causes are unknown; the words 'unknown',
        'NA', 'n/a' and 'nan' are refused
    model : with it, aliases of causes are understood too, and a column that is none of its causes is refused
    bins : of equal width for calibration
    resamples : bootstrap resamples of the cases; 0 leaves the intervals of estimates out
    seed : of the resamples; an integer or a numpy Generator

    Returns
    -------
    Report; see there for the measures and the rule for cases with two causes.

    Raises
    ------
    UsageError
        Posteriors and truth that do not fit or are of another kind (a truth without an order, such as a set), numbers that are
        no probabilities.
    CaseError
        Names that are no causes, or words for what is unknown; all of them are listed, ``line`` counting the rows from 0.
    """
    whole("bins", bins, 1)
    whole("resamples", resamples, 0)
    if not isinstance(seed, np.random.Generator):
        whole("seed", seed, 0)
    check_posteriors(posteriors)
    if model is not None:
        check_model(model)
    if CASE_ID in posteriors:
        posteriors = posteriors.set_index(CASE_ID)
    frame = _of_causes(posteriors, model)
    probability = _probabilities(frame)
    cells = _cells(frame, truth)
    case_ids = [str(case) for case in frame.index]
    is_true, rejects = true_causes(cells, list(frame.columns), model.knowledge if model else None, case_ids=case_ids)
    if rejects:
        raise CaseError(rejects)
    return _measure(frame.index, [str(c) for c in frame.columns], probability, is_true, bins, resamples, seed)


def _of_causes(posteriors: pd.DataFrame, model: Model | None) -> pd.DataFrame:
    """The columns of causes, without what ``ddx score`` writes beside them."""
    names = {str(name) for name in posteriors.columns}
    beside = {NONE, LOG_EVIDENCE, *(name + end for name in names for end in (LOW, HIGH))}
    beside |= {name for name in names if re.fullmatch(r"(cause|posterior)_\d+", name)}
    frame = posteriors.loc[:, [str(name) not in beside for name in posteriors.columns]]
    if model is not None:
        causes = model.network.causes
        strange = [str(name) for name in frame.columns if str(name) not in causes]
        if strange:
            hint = nearest(strange[0], causes)
            raise UsageError(f"posteriors: column {strange[0]!r} is no cause of {model.knowledge.name}{hint}; take it out")
    return frame


def _probabilities(frame: pd.DataFrame) -> Floats:
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise UsageError(f"posteriors: got {frame.shape[0]} cases and {frame.shape[1]} causes, expected at least one of each")
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise UsageError(f"posteriors: duplicate column {str(repeated[0])!r}; keep one")
    for name, kind in frame.dtypes.items():
        if kind.kind not in "fiu":
            raise UsageError(f"posteriors: column {str(name)!r} holds no numbers but {kind}; keep the columns of causes only")
    p = frame.to_numpy(dtype=np.float64)
    wrong = np.argwhere(~((p >= 0.0) & (p <= 1.0)))
    if len(wrong):
        row, column = (int(i) for i in wrong[0])
        place = f"case {str(frame.index[row])!r}, {frame.columns[column]}"
        raise UsageError(f"posteriors: {place}: got {float(p[row, column])!r}, expected a probability from 0 to 1")
    return p


def _cells(frame: pd.DataFrame, truth: pd.Series[Any] | Sequence[Hashable]) -> Sequence[Hashable]:
    if isinstance(truth, pd.Series) and len(truth) == len(frame) and not truth.index.equals(frame.index):
        raise UsageError("truth: its index differs from that of the posteriors; reindex it, or give a list in their order")
    cells = cells_of(truth)
    if len(cells) != len(frame):
        raise UsageError(f"truth: got {len(cells)} cases, the posteriors have {len(frame)}")
    return cells


def _measure(
    index: pd.Index,
    causes: list[str],
    p: Floats,
    truth: NDArray[np.bool_],
    bins: int,
    resamples: int,
    seed: int | np.random.Generator,
) -> Report:
    rng = np.random.default_rng(seed)
    edges = measures.bin_edges(bins)
    rank = measures.rank_of_truth(p, truth)
    log_score, brier = measures.log_scores(p, truth), measures.brier_scores(p, truth)
    n = len(p)
    lead, lead_true, lead_weight = measures.leading(p, truth)
    named = lead_weight > 0.0
    hits = [(truth & (rank <= k)).sum(axis=1) for k in TOP]
    columns = np.column_stack([truth.sum(axis=1), *hits, log_score.sum(axis=1), brier.sum(axis=1)]).astype(np.float64)
    # Calibration of all posteriors, of the leading ones, of every cause.
    residuals = [measures.residuals(p, truth, edges), measures.residuals(lead, lead_true, edges)]
    residuals += [measures.residuals(p[:, [k]], truth[:, [k]], edges) for k in range(len(causes))]
    sums, drawn = measures.resampled(columns, residuals, resamples, rng)
    value, draws = _means(columns.sum(axis=0)[None], n)[0], _means(sums, n)
    estimates = [Estimate(float(v), *measures.interval(d)) for v, d in zip(value, draws.T, strict=True)]
    weighted: list[tuple[Floats, Floats | float]] = [(p, 1.0), (p[named], lead_weight[named])]
    chance = [measures.calibration_error_by_chance(q, edges, _CHANCE, rng, weight) for q, weight in weighted]
    by_chance = [Estimate(float(c.mean()), *measures.interval(c)) for c in chance]
    weighted += [(p[:, [k]], 1.0) for k in range(len(causes))]
    calibration = []
    for residual, draw, (q, weight) in zip(residuals, drawn, weighted, strict=True):
        ends = measures.calibration_interval(residual, draw, measures.chance_variance(q, edges, weight), rng)
        calibration.append(Estimate(measures.calibration_error(residual), *ends))
    return Report(
        cases=n,
        items=int(truth.sum()),
        without_cause=int((~truth.any(axis=1)).sum()),
        top_1=estimates[0],
        top_3=estimates[1],
        top_5=estimates[2],
        log_score=estimates[3],
        brier=estimates[4],
        calibration_error=calibration[0],
        leading_calibration_error=calibration[1],
        calibration_error_by_chance=by_chance[0],
        leading_calibration_error_by_chance=by_chance[1],
        per_cause=_per_cause(causes, p, truth, rank, log_score, brier, calibration[2:]),
        reliability=_reliability(p, truth, edges),
        leading_reliability=_reliability(lead, lead_true, edges),
        by_item=_by_item(index, causes, p, truth, rank),
    )


def _means(sums: Floats, cases: int) -> Floats:
    """Hits per item, and log and Brier score per case, from the sums (R, 6): items, hits for each of ``TOP``, log, Brier."""
    with np.errstate(invalid="ignore"):
        return np.concatenate([sums[:, 1:-2] / sums[:, :1], sums[:, -2:] / cases], axis=1)


def _per_cause(
    causes: list[str],
    p: Floats,
    truth: NDArray[np.bool_],
    rank: Ints,
    log_score: Floats,
    brier: Floats,
    calibration: list[Estimate],
) -> pd.DataFrame:
    count = truth.sum(axis=0)
    with np.errstate(invalid="ignore"):
        columns: dict[str, Any] = {"true": count, "expected": p.sum(axis=0)}
        columns |= {f"top_{k}": (truth & (rank <= k)).sum(axis=0) / count for k in TOP}
        columns["posterior"] = np.where(truth, p, 0.0).sum(axis=0) / count
    columns |= {"log_score": log_score.mean(axis=0), "brier": brier.mean(axis=0)}
    columns |= {
        "calibration_error": [e.value for e in calibration],
        "low": [e.low for e in calibration],
        "high": [e.high for e in calibration],
    }
    return pd.DataFrame(columns, index=pd.Index(causes, name="cause"))


def _reliability(p: Floats, truth: NDArray[np.bool_] | Floats, edges: Floats) -> pd.DataFrame:
    frame = pd.DataFrame(measures.reliability(p, truth, edges))
    return frame.astype({"count": np.int64})


def _by_item(index: pd.Index, causes: list[str], p: Floats, truth: NDArray[np.bool_], rank: Ints) -> pd.DataFrame:
    names = np.array(causes, dtype=object)
    wrong = np.where(truth, -np.inf, p)
    leader = wrong.argmax(axis=1)
    row, column = np.nonzero(truth)
    no_wrong = np.asarray(truth.all(axis=1))[row]
    return pd.DataFrame(
        {
            "case": np.asarray(index, dtype=object)[row],
            "truth": names[column],
            "rank": rank[row, column],
            "posterior": p[row, column],
            "wrong": np.where(no_wrong, "", names[leader[row]]),
            "wrong_posterior": np.where(no_wrong, np.nan, p[row, leader[row]]),
        }
    )
