"""What records report, counted in published case reports, and what it is worth that the knowledge base says so.

    python experiments/reported/run.py                       # textbook patients
    python experiments/reported/run.py --cases CASES.csv     # and published cases (with a column final_diagnosis)

Written are results.csv, figure.png and, below the line "results" of README.md, the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ddx
from ddx.inference.network import Floats
from ddx.knowledge import BALANCED, GENERAL, KnowledgeBase
from ddx.knowledge.ages import age_limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from shared import (  # noqa: E402
    GREY,
    OTHER,
    OURS,
    THIRD,
    Cases,
    Scores,
    canvas,
    groups_of_cases,
    markdown,
    options_of_cases,
    publish,
    run,
)
from silence import heard, hearing  # noqa: E402

SETTINGS = (BALANCED, "primary_care", "neurology_clinic")  # that say something of their records
ASKED, FINDINGS, FACTORS, SHIPPED = DRAWN = (
    "everybody asked",
    "findings as reported",
    "risk factors as stated",
    "as shipped",
)
# As shipped, but for the rule by which findings without a link were counted: of other origin, or whatever their origin.
COMPLETE, INCOMPLETE = "links of all kinds as complete", "links of no kind as complete"
# As shipped, with what is not stated as what a report may have left out: by the shares that were counted, or half of them.
SILENCE = {"silence heard": 1.0, "silence half heard": 0.5}
COLOURS = dict(zip(DRAWN, (GREY, THIRD, OTHER, OURS), strict=True))
# Groups of findings that have a number of their own, and their kinds. Too few bedside tests are foreseen for one.
GROUPS = {
    "complaints": ("symptom",),
    "history": ("history",),
    "signs and bedside tests": ("sign", "bedside_test"),
    "laboratory values": ("lab",),
}
# The group whose links cannot be complete: its leaks are so large that links are drawn only for what is clearly above them.
WITHOUT_LINK = "complaints"
# Findings of a cause: at least so frequent in it, and so many times as frequent as without it.
FREQUENT, ABOVE_LEAK = 0.3, 2.5
FACTOR = "risk factors"
# The risk factors that were looked for.
LOOKED_FOR = ("diabetes", "hypertension", "smoking", "alcohol_heavy", "atrial_fibrillation")
DRAWS = 4000
ALT = "Log score of textbook patients and published cases in three settings, everybody asked and as reported"


def main() -> int:
    return run(options_of_cases(__doc__, HERE), work)


def work(arguments: argparse.Namespace) -> None:
    groups, rows = groups_of_cases(arguments), []
    counts, ratios = count(ddx.load("limb", GENERAL))
    for setting in SETTINGS:
        models = networks(ddx.load("limb", setting), ratios)
        for kind, frame in groups.items():
            for name, model in models.items():
                cases = Cases.of(model, frame)
                rows.append(row(kind, setting, name, cases.scored(model.network)))
            if setting == BALANCED:
                rows += [row(kind, setting, *arm) for arm in with_silence(models[SHIPPED], cases, counts)]
    result = pd.DataFrame(rows)
    counted = table_of_counts(counts, ratios)
    publish(HERE, arguments, models[SHIPPED], "", result, f"{counted}\n\n{table(result)}", draw(result), ALT)


def networks(model: ddx.Model, ratios: dict[tuple[str, bool], Floats]) -> dict[str, ddx.Model]:
    """The setting of a model with and without what it says of its records.

    Where it says both, with each alone, and with the findings of all kinds counted by one rule.
    """
    kb, nothing = model.knowledge, MappingProxyType[str, float]({})
    bases: dict[str, KnowledgeBase] = {ASKED: replace(kb, background_reported=nothing, risk_factors_reported=nothing)}
    if model.setting in kb.background_reported and model.setting in kb.risk_factors_reported:
        bases[FINDINGS] = replace(kb, risk_factors_reported=nothing)
        bases[FACTORS] = replace(kb, background_reported=nothing)
        for name, without_link in ((COMPLETE, False), (INCOMPLETE, True)):
            ratio = {kind: min(ratios[group, without_link][0], 1.0) for group, kinds in GROUPS.items() for kind in kinds}
            own = MappingProxyType({**kb.background_reported, model.setting: MappingProxyType(ratio)})
            bases[name] = replace(kb, background_reported=own)
    bases[SHIPPED] = kb
    return {name: ddx.Model(own, model.setting) for name, own in bases.items()}


def with_silence(model: ddx.Model, cases: Cases, counts: dict[str, Floats]) -> Iterator[tuple[str, Scores]]:
    """The name of a network that hears silence, and what it says of the cases."""
    kb, network = model.knowledge, model.network
    share = {k: said / there for g, kinds in GROUPS.items() for said, there in [counts[f"{g} of the cause"]] for k in kinds}
    single = [f for f, finding in kb.findings.items() if not finding.graded]
    named = {(c, f): share[kb.findings[f].kind] for c in network.causes for f in frequent_in(kb, c, single)}
    evidence = heard(cases.evidence, len(network.findings))
    for name, part in SILENCE.items():
        wider = hearing(network, {pair: part * m for pair, m in named.items()})
        yield name, replace(cases, evidence=evidence).scored(wider)


def row(kind: str, setting: str, network: str, scores: Scores) -> dict[str, object]:
    causes = float(scores.posterior.sum(axis=1).mean())
    return {"cases": kind, "setting": setting, "network": network, **scores.ranks(), "causes": causes}


def count(model: ddx.Model) -> tuple[dict[str, Floats], dict[tuple[str, bool], Floats]]:
    """Line of the table -> how many are reported and how many foreseen; and ratio -> its value and the ends of its interval.

    A ratio is that of a group of findings, of other origin or (True) of any origin without a link to the cause. ``model``:
    people at large, in whom leaks and risk factors are those of people of the age and sex of a report.
    """
    reports, mentions = pd.read_csv(HERE / "reports.csv", keep_default_na=False), pd.read_csv(HERE / "mentions.csv")
    age = np.searchsorted(np.array(age_limits(model.knowledge)[0]), reports["age"].to_numpy(dtype=float), side="right") - 1
    counts: dict[str, Floats] = {}
    ratios: dict[tuple[str, bool], Floats] = {}
    for group, kinds in GROUPS.items():
        other, own, without = of_findings(model, searched(model.knowledge, *kinds), reports, age, mentions)
        counts |= {f"{group} of other origin": other.sum(axis=0), f"{group} of the cause": own.sum(axis=0)}
        counts[f"{group} without a link to the cause"] = without.sum(axis=0)
        ratios[group, False], ratios[group, True] = interval(_ratio, other, own), interval(_ratio, without, own)
    factors = of_risk_factors(model, reports, age)
    counts[FACTOR] = factors.sum(axis=0)
    ratios[FACTOR, False] = interval(_share, factors)
    return counts | unlinked(model, reports, mentions) | absences(model, reports) | named(reports), ratios


def searched(kb: KnowledgeBase, *kinds: str) -> list[str]:
    """Findings of some kinds for whose words the reports were searched."""
    return [f for f in pd.read_csv(HERE / "words.csv")["finding"] if kb.findings[f].kind in kinds]


def of_findings(
    model: ddx.Model, findings: list[str], reports: pd.DataFrame, age: np.ndarray, mentions: pd.DataFrame
) -> tuple[Floats, Floats, Floats]:
    """Reported and foreseen (R, 2) of other origin; in reports of a modelled cause, of the cause and without a link to it."""
    net, kb = model.network.without_syndromes(), model.knowledge
    place = [net.findings.index(f) for f in findings]
    readers = ("reader_1", "reader_2")
    verdicts = {
        (report, finding): pair
        for report, finding, *pair in mentions[["report", "finding", *readers]].itertuples(index=False, name=None)
    }
    other, own, without = [], [], []
    for report, cause, a in zip(reports["report"], reports["cause"], age, strict=True):
        judged = {f: verdicts.get((report, f), ()) for f in findings}
        other.append((_mean(judged[f].count("other") for f in findings if judged[f]), net.leak[a, place].sum()))
        if cause:
            frequent = frequent_in(kb, cause, findings)
            own.append((_mean(judged[f].count("own") for f in frequent if judged[f]), sum(frequent.values())))
            bare = [f for f, i in zip(findings, place, strict=True) if not net.link[i, net.causes.index(cause)]]
            said = _mean(judged[f].count("own") + judged[f].count("other") for f in bare if judged[f])
            without.append((said, net.leak[a, [net.findings.index(f) for f in bare]].sum()))
    return np.array(other), np.array(own), np.array(without)


def unlinked(model: ddx.Model, reports: pd.DataFrame, mentions: pd.DataFrame) -> dict[str, Floats]:
    """The cause's own findings that are reported, and to which it has no link, nor through a syndrome; and those with one."""
    net = model.network.without_syndromes()
    cause = dict(zip(reports["report"], reports["cause"], strict=True))
    found = np.zeros(2)
    for report, finding, *verdicts in mentions[["report", "finding", "reader_1", "reader_2"]].itertuples(
        index=False, name=None
    ):
        if cause[report]:
            linked = net.link[net.findings.index(finding), net.causes.index(cause[report])] > 0.0
            found[int(linked)] += verdicts.count("own") / 2.0
    return {"findings of the cause without a link; with one": found}


def of_risk_factors(model: ddx.Model, reports: pd.DataFrame, age: np.ndarray) -> Floats:
    """Risk factors that are stated to be there, and that are foreseen (R, 2)."""
    net = model.network
    sex = np.array([net.sexes.index(f"sex_{s}") for s in reports["sex"]])
    at = [net.risk_factors.index(f) for f in LOOKED_FOR]
    stated = reports["stated"].str.split(";").map(lambda ids: len([f for f in ids if f]))
    return np.column_stack([stated, net.context_prior[age, sex][:, at].sum(axis=1)])


def interval(number: Callable[..., float], *parts: Floats) -> Floats:
    """A number of some counts (R, 2), and the ends of its 95 % interval: bootstrap over the reports of each."""
    rng = np.random.default_rng(0)
    drawn = [number(*(part[rng.integers(len(part), size=len(part))] for part in parts)) for _ in range(DRAWS)]
    return np.array([number(*parts), *np.quantile(drawn, [0.025, 0.975])])


def frequent_in(kb: KnowledgeBase, cause: str, findings: list[str]) -> dict[str, float]:
    """Findings that a cause often brings, and how often it does."""
    links = {f: kb.means.get(f"link:{cause}:{f}", 0.0) for f in findings}
    return {f: s for f, s in links.items() if s > max(FREQUENT, ABOVE_LEAK * kb.means[f"leak:{f}"])}


def absences(model: ddx.Model, reports: pd.DataFrame) -> dict[str, Floats]:
    """Complaints that are said to be absent, and how many are: those that the cause often brings, and those without a link."""
    complaints, kb = searched(model.knowledge, *GROUPS["complaints"]), model.knowledge
    denied = set(pd.read_csv(HERE / "absences.csv").itertuples(index=False, name=None))
    frequent, foreign = np.zeros(2), np.zeros(2)
    for report, cause in zip(reports["report"], reports["cause"], strict=True):
        if cause:
            for finding, s in frequent_in(kb, cause, complaints).items():
                frequent += (report, finding) in denied, 1.0 - s
            for finding in complaints:
                if f"link:{cause}:{finding}" not in kb.means:
                    foreign += (report, finding) in denied, 1.0 - kb.means[f"leak:{finding}"]
    return {"absences of frequent complaints": frequent, "absences of complaints without a link": foreign}


def named(reports: pd.DataFrame) -> dict[str, Floats]:
    """Modelled causes that the diagnoses name, and reports of which the diagnosis names one."""
    own = reports["named"][reports["named"] != ""].str.split(";")
    return {"causes named by the diagnosis; reports with one": np.array([own.str.len().sum(), len(own)], dtype=float)}


def _mean(votes: Iterable[int]) -> float:
    """Of two readers."""
    return sum(votes) / 2.0


def _share(part: Floats) -> float:
    """Reported over foreseen, of some reports."""
    reported, foreseen = part.sum(axis=0).tolist()
    return float(reported) / float(foreseen) if foreseen else np.nan


def _ratio(other: Floats, own: Floats) -> float:
    """Infinite where the cause's own are not reported at all."""
    return _share(other) / _share(own) if _share(own) else np.inf


def table_of_counts(counts: dict[str, Floats], ratios: dict[tuple[str, bool], Floats]) -> str:
    header = ("in 441 case reports", "reported", "foreseen", "share")
    lines = [(name, f"{said:.4g}", f"{there:.4g}", f"{said / there:.3f}") for name, (said, there) in counts.items()]
    shipped = {(group, group == WITHOUT_LINK): "background_reported" for group in GROUPS} | {
        (FACTOR, False): "risk_factors_reported"
    }
    said = [
        (
            group if group == FACTOR else f"{group} {'without a link' if without_link else 'of other origin'}",
            *(f"{value:.2f}", f"{low:.2f} to {high:.2f}"),
            f"`{shipped[group, without_link]}`" if (group, without_link) in shipped else "",
        )
        for (group, without_link), (value, low, high) in ratios.items()
    ]
    header_of_ratios = ("share of them over that of the cause's; of risk factors", "", "95 % interval", "in kb.toml")
    return f"{markdown(header, lines)}\n\n{markdown(header_of_ratios, said)}"


def table(result: pd.DataFrame) -> str:
    header = ("cases", "setting", "network", "true causes", "top 1", "top 3", "top 5", "log score", "causes a case")
    lines = [
        (
            *(r.cases, r.setting, r.network, str(r.items), f"{r.top_1:.3f}", f"{r.top_3:.3f}", f"{r.top_5:.3f}"),
            *(f"{r.log_score:.3f}", f"{r.causes:.2f}"),
        )
        for r in result.itertuples(index=False)
    ]
    note = (
        "*Everybody asked*: leaks and risk factors as in the studies. *Links of all kinds as complete*: as shipped, but with "
        "the ratio of other origin for complaints, too; *of no kind*: with the ratio without a link for all kinds (1 at most). "
        "*Silence heard*: as shipped, and frequent findings that are not stated count as left out. "
        "*Causes a case*: the sum of the posteriors, mean."
    )
    return f"{note}\n\n{markdown(header, lines)}"


def draw(result: pd.DataFrame) -> Figure:
    kinds = list(dict.fromkeys(result["cases"]))
    figure, axes = canvas(len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        own = result[result["cases"] == kind]
        own = own[own["network"].isin(DRAWN)]
        # Side by side, whether a setting has two networks or four.
        nth, of = own.groupby("setting").cumcount(), own.groupby("setting")["network"].transform("size")
        place = own["setting"].map(SETTINGS.index) + 0.2 * (nth - (of - 1) / 2.0)
        for name in DRAWN:
            there = own["network"] == name
            axis.bar(place[there], own.loc[there, "log_score"], width=0.18, color=COLOURS[name], label=name)
        axis.set(xticks=np.arange(len(SETTINGS)), ylabel="log score, nats a case (less is better)")
        axis.set_xticklabels([s.replace("_", "\n") for s in SETTINGS], fontsize=9)
        axis.set_title(f"{kind} cases", loc="left", fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
