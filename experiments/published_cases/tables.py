"""The tables of README.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ddx.knowledge import KnowledgeBase
from ddx.validation import Evaluation

SHOWN = 3


def tables(
    source: str,
    kb: KnowledgeBase,
    evaluations: Mapping[str, Evaluation],
    results: pd.DataFrame,
    parts: pd.DataFrame,
    why: pd.DataFrame | None,
) -> str:
    """Everything below the line "results"."""
    first = next(iter(evaluations.values()))
    out = [
        f"`{source}`: {first.scored} cases, {first.report.items} true causes"
        + (f"; {first.rejected} cases rejected" if first.rejected else "")
        + f". Knowledge base {kb.name} {kb.version}, digest {kb.digest[:12]}.",
        "",
        "## All settings",
        "",
        "Intervals: 95 %, bootstrap over cases. Calibration of the leading cause: expected calibration error, beside what "
        "chance alone would make of it (97.5 % quantile).",
        "",
        *_overall(evaluations),
        "",
        *_causes(evaluations),
        "## Misses",
        "",
        "Items (a case and one of its true causes) that do not rank first. In the last columns the statements of the case that "
        "speak most for the wrong and for the true cause: log Bayes factor of the true against the wrong cause, by leaving the "
        "statement out; `-` before a name: absent. *start* is the log ratio of both before any finding.",
        "",
    ]
    for setting in evaluations:
        missed = results[(results["setting"] == setting) & (results["rank"] > 1)]
        out += [f"### {setting}: {len(missed)} of {(results['setting'] == setting).sum()}", ""]
        out += _misses(missed, parts[parts["setting"] == setting])
        out.append("")
        if why is not None and setting == "balanced":
            out += _explained(missed, why)
    out += ["## Confusions", "", "How often a wrong cause stands above a true one, all settings together.", ""]
    return "\n".join([*out, *_confusions(results), ""])


def _overall(evaluations: Mapping[str, Evaluation]) -> list[str]:
    rows = []
    for setting, found in evaluations.items():
        r = found.report
        top = [f"{e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for e in (r.top_1, r.top_3, r.top_5)]
        median = float(np.median(r.by_item["posterior"]))
        calibration = f"{r.leading_calibration_error.value:.3f}; {r.leading_calibration_error_by_chance.high:.3f}"
        rows.append([setting, *top, f"{median:.3f}", f"{r.log_score.value:.3f}", f"{r.brier.value:.3f}", calibration])
    header = ["setting", "top 1", "top 3", "top 5", "median posterior of the truth", "log score", "Brier", "calibration"]
    return _markdown(header, rows)


def _misses(missed: pd.DataFrame, parts: pd.DataFrame) -> list[str]:
    rows = []
    for item in missed.sort_values(["rank", "case"], kind="stable").itertuples(index=False):
        own = parts[(parts["case"] == item.case) & (parts["truth"] == item.truth)]
        start = float(own.loc[own["column"] == "prior", "log_bayes_factor"].iloc[0])
        said = own[~own["column"].isin(["all", "prior"])].sort_values("log_bayes_factor", kind="stable")
        against, behind = said[said["log_bayes_factor"] < -0.05].head(SHOWN), said[said["log_bayes_factor"] > 0.05].tail(SHOWN)
        truth, wrong = f"{item.truth} {_p(item.posterior)}", f"{item.wrong} {_p(item.wrong_posterior)}"
        rows.append([item.case, truth, str(item.rank), wrong, _signed(start), _said(against), _said(behind.iloc[::-1])])
    return _markdown(["case", "truth", "rank", "leading wrong cause", "start", "for the wrong one", "for the truth"], rows)


def _causes(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Per true cause, under balanced (or the first setting)."""
    name = "balanced" if "balanced" in evaluations else next(iter(evaluations))
    per = evaluations[name].report.per_cause
    per = per[per["true"] > 0]
    rows = [
        [
            str(c),
            f"{r.true:.0f}",
            f"{r.expected:.1f}",
            f"{r.top_1:.2f}",
            f"{r.top_3:.2f}",
            f"{r.top_5:.2f}",
            f"{r.posterior:.2f}",
        ]
        for c, r in zip(per.index, per.itertuples(index=False), strict=True)
    ]
    header = ["cause", "true", "expected", "top 1", "top 3", "top 5", "mean posterior where true"]
    text = f"## Per cause ({name})"
    return [text, "", "*Expected*: the sum of the posteriors of the cause over all cases.", "", *_markdown(header, rows), ""]


def _explained(missed: pd.DataFrame, why: pd.DataFrame) -> list[str]:
    rows, kinds = [], []
    for item in missed.sort_values(["rank", "case"], kind="stable").itertuples(index=False):
        key = (item.case, item.truth)
        kind, text = why.loc[key, ["kind", "why"]] if key in why.index else ("not explained yet", "")
        kinds.append(str(kind))
        rows.append([item.case, item.truth, str(item.rank), str(kind), str(text)])
    counts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds), key=lambda k: (-kinds.count(k), k)))
    head = ["#### Why", "", f"{counts}. Read and judged by hand (`explanations.csv`); no number was changed for a case.", ""]
    return [*head, *_markdown(["case", "truth", "rank", "kind", "why"], rows), ""]


def _said(statements: pd.DataFrame) -> str:
    cells = []
    for column, name, value in statements[["column", "statement", "log_bayes_factor"]].itertuples(index=False):
        label = f"-{name}" if column == "absent" else name if column in ("present", "context") else f"{column} {name}"
        cells.append(f"{label} {_signed(value)}")
    return ", ".join(cells)


def _confusions(results: pd.DataFrame) -> list[str]:
    missed = results[results["rank"] > 1]
    counts = missed.groupby(["truth", "wrong"])["case"].agg(["size", "nunique"]).reset_index()
    counts = counts.sort_values(["size", "truth", "wrong"], ascending=[False, True, True])
    rows = [[r.truth, r.wrong, str(r.size_), str(r.nunique)] for r in counts.rename(columns={"size": "size_"}).itertuples()]
    return _markdown(["truth", "wrong", "times", "cases"], rows)


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}"
