"""What happens when the correlated findings of a syndrome count as independent proofs.

    python experiments/syndromes/run.py                     # simulated patients
    python experiments/syndromes/run.py --cases CASES.csv   # and published cases (with a column final_diagnosis)

Two networks with the same frequency of every finding in every cause alone and without a cause: one with the syndromes of the
knowledge base, one in which findings are independent given the causes. Patients are drawn from the first and scored by both.
Written are results.csv and, below the line "results" of README.md, the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import ddx
from ddx import validation
from ddx.cases import Encoded, encode, interpret, select

HERE = Path(__file__).parent
MARK = "<!-- results -->"
SETTINGS = ("balanced", "neurology_clinic", "primary_care")
# A consultation with a full examination: correlated findings meet in one case.
OBSERVED = {"history": 0.2, "symptom": 0.2, "sign": 0.4, "bedside_test": 0.2, "lab": 0.2, "context": 1.0}
TRUTH = "final_diagnosis"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="CSV file of published cases")
    parser.add_argument("--kb", default="limb", help="shipped knowledge base, or the folder of one")
    parser.add_argument("--setting", action="append", help=f"repeat for more; default: {', '.join(SETTINGS)}")
    parser.add_argument("-n", type=int, default=3000, help="simulated cases per setting; default: 3000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of what is written; default: that of this file")
    arguments = parser.parse_args()
    try:
        return run(arguments.cases, arguments.kb, arguments.setting or SETTINGS, arguments.n, arguments.seed, arguments.output)
    except (ddx.DdxError, OSError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2


def run(cases: str | None, kb: str, settings: Sequence[str], n: int, seed: int, output: Path) -> int:
    frames = []
    for setting in settings:
        model = ddx.load(kb, setting)
        simulated = validation.simulate(model, n, seed, observed=OBSERVED)
        frames.append(compare(model, simulated, "simulated").assign(setting=setting))
        if cases:
            published = pd.read_csv(cases, dtype=str, keep_default_na=False)
            frames.append(compare(model, published, "published").assign(setting=setting))
    result = pd.concat(frames, ignore_index=True)
    result = result[["setting", *(c for c in result.columns if c != "setting")]]
    output.mkdir(parents=True, exist_ok=True)
    result.to_csv(output / "results.csv", index=False, float_format="%.6g", lineterminator="\n")
    text = tables(model.knowledge, result, n, seed)
    head = (HERE / "README.md").read_text(encoding="utf-8").split(MARK)[0]
    (output / "README.md").write_text(f"{head}{MARK}\n\n{text}", encoding="utf-8")
    print(text)
    return 0


def compare(model: ddx.Model, cases: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row per network and group of cases: all, and those with two or more present findings of one syndrome."""
    encoded = evidence_of(model, cases.drop(columns=[c for c in (TRUTH, "citation", "url") if c in cases]))
    with_syndromes, too_large = model.posterior(encoded, list(range(len(cases))))
    # What no memory holds is left out of both.
    fits = np.setdiff1d(np.arange(len(cases)), [reject.line for reject in too_large])
    cases = cases.iloc[fits]
    alone = model.network.without_syndromes().posterior(select(encoded.evidence, fits))
    index = pd.RangeIndex(len(fits))
    frames = {
        "syndromes": model.frame(with_syndromes, pd.RangeIndex(len(encoded.rows))).iloc[fits].set_axis(index),
        "independent": model.frame(alone, index),
    }
    truth = cases[TRUTH].reset_index(drop=True)
    correlated = np.array([_correlated(model, present) for present in cases["present"]])
    rows = []
    for name, posterior in frames.items():
        for group, chosen in (("all", np.full(len(cases), True)), ("two or more of one syndrome", correlated)):
            if chosen.sum() > 1:
                r = validation.report(posterior[chosen], truth[chosen])
                rows.append(
                    {
                        "cases": kind,
                        "group": group,
                        "n": int(chosen.sum()),
                        "network": name,
                        "top_1": r.top_1.value,
                        "top_3": r.top_3.value,
                        "log_score": r.log_score.value,
                        "brier": r.brier.value,
                        "leading_posterior": float(posterior[chosen][list(model.network.causes)].max(axis=1).mean()),
                        "leading_calibration_error": r.leading_calibration_error.value,
                        "by_chance": r.leading_calibration_error_by_chance.high,
                    }
                )
    return pd.DataFrame(rows)


def evidence_of(model: ddx.Model, cases: pd.DataFrame) -> Encoded:
    columns = interpret([str(c) for c in cases.columns], model.knowledge)
    encoded = encode(model.knowledge, columns, [cases[c].tolist() for c in cases], list(range(len(cases))))
    if encoded.rejects:
        raise ddx.CaseError(encoded.rejects)
    return encoded


def _correlated(model: ddx.Model, present: str) -> bool:
    net, said = model.network, present.split(";")
    shown = net.finding_syndrome[[f in said for f in net.findings]] > 0.0
    return bool((shown.sum(axis=0) >= 2).any())


def tables(kb: ddx.knowledge.KnowledgeBase, result: pd.DataFrame, n: int, seed: int) -> str:
    out = [
        f"Knowledge base {kb.name} {kb.version}, digest {kb.digest[:12]}; {n} simulated cases a setting, seed {seed}, observed "
        + ", ".join(f"{kind} {p:g}" for kind, p in OBSERVED.items())
        + ".",
        "",
        "*Leading posterior*: mean posterior of the cause that leads. *Calibration*: expected calibration error of the leading "
        "cause, beside its 97.5 % quantile were the posteriors right.",
        "",
        "| setting | cases | group | n | network | top 1 | top 3 | log score | Brier | leading posterior | calibration |",
        "|" + " --- |" * 11,
    ]
    out += [
        f"| {r.setting} | {r.cases} | {r.group} | {r.n} | {r.network} | {r.top_1:.3f} | {r.top_3:.3f} | {r.log_score:.3f} "
        f"| {r.brier:.3f} | {r.leading_posterior:.3f} | {r.leading_calibration_error:.3f}; {r.by_chance:.3f} |"
        for r in result.itertuples(index=False)
    ]
    return "\n".join([*out, ""])


if __name__ == "__main__":
    sys.exit(main())
