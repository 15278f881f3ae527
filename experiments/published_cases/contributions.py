"""What every statement of a case contributes to a true cause against a wrong one: leave it out and look."""

from __future__ import annotations

import numpy as np
import pandas as pd

import ddx

LISTS = ("context", "present", "absent")
FINDINGS = ("present", "absent")
NO_EVIDENCE = ("case_id", "final_diagnosis", "citation", "url", "note")
COLUMNS = ["case", "truth", "wrong", "column", "statement", "log_bayes_factor"]


def contributions(model: ddx.Model, raw: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Log Bayes factors of the truth against the leading wrong cause, for every item that has not rank 1.

    Parameters
    ----------
    model : that the items come from
    raw : cells of the cases as text, index: case
    items : ``Report.by_item``

    Returns
    -------
    A row per statement: case, truth, wrong, column, statement, log_bayes_factor. With r = P(truth) / P(wrong), posteriors of
    the whole case, and r' without the statement: log r - log r'. Negative: the statement speaks for the wrong cause. Because
    findings compete for explanations the contributions need not add up. Two rows more per item: column "all", log r with
    all statements, and column "prior", log r without any finding (age, sex and context only).
    """
    missed = items[items["rank"] > 1]
    rows: list[tuple[str, str, str, str, str]] = []
    variants: list[pd.Series] = []
    for case, truth, wrong in missed[["case", "truth", "wrong"]].itertuples(index=False):
        whole = raw.loc[case]
        bare = whole.copy()
        bare[[c for c in raw.columns if _is_finding(c, model)]] = ""
        for column, statement, variant in [("all", "", whole), ("prior", "", bare), *_without_each(whole)]:
            rows.append((case, truth, wrong, column, statement))
            variants.append(variant)
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(variants).reset_index(drop=True)
    frame["case_id"] = [str(i) for i in range(len(frame))]
    frame = frame.loc[:, [c for c in frame.columns if c not in NO_EVIDENCE or c == "case_id"]]
    scores = model.score(frame)
    positions = {cause: k for k, cause in enumerate(scores.columns)}
    truth_at, wrong_at = ([positions[row[i]] for row in rows] for i in (1, 2))
    values = scores.to_numpy()
    number = np.arange(len(rows))
    log_ratio = np.log(values[number, truth_at]) - np.log(values[number, wrong_at])
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    whole = pd.Series(np.where(table["column"] == "all", log_ratio, np.nan)).ffill()
    table["log_bayes_factor"] = np.where(table["column"].isin(["all", "prior"]), log_ratio, whole - log_ratio)
    return table


def _without_each(case: pd.Series) -> list[tuple[str, str, pd.Series]]:
    """(column, statement, the case without it) for every statement of a case."""
    found = []
    for column, cell in case.items():
        if column in NO_EVIDENCE or not cell.strip():
            continue
        names = [n.strip() for n in cell.split(";") if n.strip()] if column in LISTS else [cell.strip()]
        for position, name in enumerate(names):
            rest = case.copy()
            rest[column] = ";".join(names[:position] + names[position + 1 :])
            found.append((str(column), name, rest))
    return found


def _is_finding(column: str, model: ddx.Model) -> bool:
    return column in FINDINGS or model.knowledge.names.get(column, ("",))[0] in ("finding", "measurement")
