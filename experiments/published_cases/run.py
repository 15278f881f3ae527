"""Published cases: where the diagnosis that was made ranks, and which findings of a case spoke against it.

    python experiments/published_cases/run.py CASES.csv            # all settings; writes results here
    python experiments/published_cases/run.py CASES.csv --setting balanced --output FOLDER

CASES.csv has a column final_diagnosis (true causes, separated by ';') and whatever else ``ddx score`` reads. Written are
results.csv (an item per row: a case and one of its true causes), contributions.csv (what every statement of a missed case
contributes) and, below the line "results" of README.md, the tables. The setting "fitting" is chosen case by case.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
from contributions import contributions
from tables import tables

import ddx
from ddx import validation

HERE = Path(__file__).parent
MARK = "<!-- results -->"
SETTINGS = ("balanced", "fitting", "emergency", "neurology_clinic", "primary_care", "general")
FITTING = "fitting"
ACUTE = {"sudden_onset", "subacute_onset"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", help="CSV file of cases with a column final_diagnosis")
    parser.add_argument("--kb", default="limb", help="shipped knowledge base, or the folder of one")
    parser.add_argument("--setting", action="append", help=f"repeat for more; default: {', '.join(SETTINGS)}")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of what is written; default: that of this file")
    parser.add_argument("--explanations", type=Path, help="CSV file: case, truth, kind, why, for misses under balanced")
    arguments = parser.parse_args()
    settings = arguments.setting or SETTINGS
    try:
        return run(arguments.cases, arguments.kb, settings, arguments.output, arguments.explanations)
    except (ddx.DdxError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2


def run(source: str, kb: str, settings: tuple[str, ...] | list[str], output: Path, explanations: Path | None) -> int:
    knowledge = ddx.load(kb).knowledge
    raw = pd.read_csv(source, dtype=str, keep_default_na=False).rename(columns=str.strip)
    if "case_id" not in raw:
        raise ddx.UsageError(f"{source}: has no column case_id; results are listed by it")
    raw = raw.set_index(raw["case_id"].str.strip())
    evaluations, results, parts = {}, [], []
    chosen = raw["present"].map(_fitting) if "present" in raw else pd.Series("neurology_clinic", index=raw.index)
    for setting in settings:
        if setting == FITTING:
            whole = {name: validation.evaluate_file(source, ddx.load(kb, name)) for name in sorted(set(chosen))}
            evaluations[setting] = found = _by_case(whole, chosen)
            models = {name: ddx.load(kb, name) for name in whole}
            part = [
                contributions(models[name], raw, items)
                for name, items in found.report.by_item.groupby(found.report.by_item["case"].map(chosen))
            ]
            part = pd.concat(part, ignore_index=True)
        else:
            model = ddx.load(kb, setting)
            evaluations[setting] = found = validation.evaluate_file(source, model)
            part = contributions(model, raw, found.report.by_item)
        fit = found.posteriors[["none_of_these", "log_evidence"]].loc[found.report.by_item["case"]].reset_index(drop=True)
        results.append(pd.concat([found.report.by_item, fit], axis=1).assign(setting=setting))
        parts.append(part.assign(setting=setting))
    result, part = (pd.concat(frames, ignore_index=True) for frames in (results, parts))
    output.mkdir(parents=True, exist_ok=True)
    for name, frame in (("results.csv", result), ("contributions.csv", part)):
        frame = frame[["setting", *(c for c in frame.columns if c != "setting")]]
        frame.to_csv(output / name, index=False, float_format="%.6g", lineterminator="\n")
    why = pd.read_csv(explanations, dtype=str).set_index(["case", "truth"]) if explanations else None
    text = tables(Path(source).name, knowledge, evaluations, result, part, why)
    own = output / "README.md"
    head = (own if own.exists() else HERE / "README.md").read_text(encoding="utf-8").split(MARK)[0]
    (output / "README.md").write_text(f"{head}{MARK}\n\n{text}", encoding="utf-8")
    rejects = next(iter(evaluations.values())).rejects
    for reject in rejects:
        print(reject, file=sys.stderr)
    print(_summary(evaluations))
    return 1 if rejects else 0


def _fitting(present: str) -> str:
    """Emergency where the case says that it began suddenly or within days, else the neurology clinic: from the case alone."""
    return "emergency" if ACUTE & {finding.strip() for finding in present.split(";")} else "neurology_clinic"


def _by_case(whole: Mapping[str, validation.Evaluation], chosen: pd.Series) -> validation.Evaluation:
    """Every case from the evaluation in its own setting."""
    first = next(iter(whole.values()))
    posteriors = pd.concat([found.posteriors[chosen.loc[found.posteriors.index] == name] for name, found in whole.items()])
    posteriors = posteriors.loc[first.posteriors.index]
    return replace(first, posteriors=posteriors, report=validation.report(posteriors, first.truth))


def _summary(evaluations: dict[str, validation.Evaluation]) -> str:
    lines = []
    for setting, found in evaluations.items():
        r = found.report
        lines.append(
            f"{setting:<18}{found.scored} cases, {r.items} items: top 1 {r.top_1.value:.3f}, top 3 {r.top_3.value:.3f}, "
            f"top 5 {r.top_5.value:.3f}, log score {r.log_score.value:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
