"""Statements about N cases, collected from any kind of input, turned into evidence.

Whatever is wrong with a statement becomes a reject; the statement itself is not used. Whether the whole case is given up for
it is the caller's choice (strict or lenient).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddx.cases.rejects import Reject
from ddx.inference.network import Floats
from ddx.knowledge import KnowledgeBase
from ddx.network import Evidence
from ddx.splitting import split_findings

# Uncertain findings of one case that imply or exclude stated ones: each of them makes two cases of one.
MOST_UNCERTAIN = 10


class Statements:
    """Findings, context, age and sex of N cases, and what was wrong with them.

    ``findings`` and ``context`` hold values (N,) of every id that was named. ``lines`` and ``case_ids`` (N,) only serve the
    rejects.
    """

    def __init__(self, kb: KnowledgeBase, lines: Sequence[int], case_ids: Sequence[str]) -> None:
        self.kb, self.lines, self.case_ids = kb, lines, case_ids
        n = len(lines)
        self.findings: dict[str, Floats] = {}
        self.context: dict[str, Floats] = {}
        self.age = np.full(n, np.nan)
        self.sex = np.full(n, -1, dtype=np.intp)
        self.rejects: list[Reject] = []
        self.rejected = np.zeros(n, dtype=np.bool_)
        # Cells that were contradicted: nothing can be said about them any more.
        self._void: set[tuple[str, int]] = set()
        self._risk_factors = {c.id for c in kb.risk_factors}
        self._sexes = [s.id for s in kb.sexes]

    def reject(self, row: int, column: str, value: object, error: str, message: str) -> None:
        """Report an offence of one row."""
        self.rejected[row] = True
        self.rejects.append(Reject(self.lines[row], self.case_ids[row], column, str(value), error, message))

    def put_finding(self, finding: str, values: Floats, column: str) -> None:
        """Values (N,) 1, 0 or in between, nan where nothing is said; a second, different statement takes both away."""
        self._put(self.findings, finding, values, column)

    def put_context(self, context: str, values: Floats, column: str) -> None:
        """Values (N,) 1 or 0 of a risk factor, nan where nothing is said."""
        if context in self._risk_factors:
            unsure = (values > 0.0) & (values < 1.0)
            for row in np.flatnonzero(unsure).tolist():
                message = f"got {values[row]:g}, {context} is context: expected 1 or 0"
                self.reject(row, column, float(values[row]), "out_of_range", message)
            self._put(self.context, context, np.where(unsure, np.nan, values), column)
            return
        is_sex = (values == 1.0) & (context in self._sexes)
        for row in np.flatnonzero(~np.isnan(values) & ~is_sex).tolist():
            self.reject(row, column, context, "not_a_value", f"{context} is an age band or a sex; give age and sex instead")
        if is_sex.any():
            self.put_sex(np.where(is_sex, self.sex_index(context), np.nan), column)

    def put_age(self, values: Floats, column: str) -> None:  # noqa: ARG002
        """Ages (N,) in years, nan unknown."""
        self.age = values

    def sex_index(self, sex: str | None) -> float:
        """Number of a sex, nan for None."""
        return np.nan if sex is None else float(self._sexes.index(sex))

    def put_sex(self, values: Floats, column: str) -> None:
        """Indices (N,) of sexes, nan unknown."""
        values = self._usable("sex", values)
        said = ~np.isnan(values)
        clash = said & (self.sex >= 0) & (self.sex != values)
        self.sex[said] = values[said]
        for row in np.flatnonzero(clash).tolist():
            self.reject(row, column, self._sexes[self.sex[row]], "contradiction", "two different sexes; keep one")
            self.sex[row] = -1
            self._void.add(("sex", row))

    def put_measurement(self, measurement: str, values: Floats, column: str) -> None:
        """Turn measurements (N,) into findings; call it when age and sex are known."""
        definition = self.kb.measurements[measurement]
        for finding in dict.fromkeys(rule.finding for rule in definition.thresholds):
            answers = np.full((len(self.kb.sexes), len(values)), np.nan)
            for index, of in enumerate(self._sexes):
                rules = [r for r in definition.thresholds if r.finding == finding and r.sex in ("", of)]
                if rules:
                    hits = [values < r.below if r.below is not None else values >= float(r.at_least or 0.0) for r in rules]
                    answers[index] = np.where(np.isnan(values), np.nan, np.any(hits, axis=0))
            # Unknown sex: an answer only where the limits of both sexes agree.
            agreed = np.where((answers == answers[0]).all(axis=0), answers[0], np.nan)
            answer = np.where(self.sex < 0, agreed, np.take_along_axis(answers, np.maximum(self.sex, 0)[None], axis=0)[0])
            self.put_finding(finding, answer, column)

    def _put(self, table: dict[str, Floats], name: str, values: Floats, column: str) -> None:
        values = self._usable(name, values)
        if name not in table:
            table[name] = values
            return
        old = table[name]
        clash = ~np.isnan(old) & ~np.isnan(values) & (old != values)
        for row in np.flatnonzero(clash).tolist():
            kinds = sorted((float(old[row]), float(values[row])))
            what = "both present and absent" if kinds == [0.0, 1.0] else f"both {kinds[0]:g} and {kinds[1]:g}"
            self.reject(row, column, name, "contradiction", f"{name} is {what}; keep one statement")
            self._void.add((name, row))
        table[name] = np.where(clash, np.nan, np.where(np.isnan(values), old, values))

    def _usable(self, name: str, values: Floats) -> Floats:
        """The values without those of cells that were contradicted."""
        void = [row for of, row in self._void if of == name]
        if void:
            values = values.copy()
            values[void] = np.nan
        return values

    def evidence(self) -> Evidence:
        """Evidence of all N cases, contradictions taken out and reported; no statement can be added afterwards."""
        self._apply_requirements()
        self._apply_implications()
        stated = {name for name, values in self.findings.items() if not np.isnan(values).all()}
        level = {graded: self._levels(graded, levels) for graded, levels in self.kb.graded.items() if stated & set(levels)}
        stated -= {f for levels in self.kb.graded.values() for f in levels}
        columns = np.flatnonzero([f in stated for f in self.kb.findings])
        finding = self._table(self.findings, [f for f in self.kb.findings if f in stated])
        context = self._table(self.context, [c.id for c in self.kb.risk_factors])
        edges = [stratum.age_from or 0.0 for stratum in self.kb.age_strata]
        known = np.nan_to_num(self.age, nan=0.0)
        age = np.where(np.isnan(self.age), -1, np.searchsorted(edges, known, side="right") - 1).astype(np.intp)
        return Evidence(columns, finding, level, context, age, self.sex)

    def _table(self, values: dict[str, Floats], names: Sequence[str]) -> Floats:
        """The values of some ids side by side (N, X)."""
        table = np.full((len(self.lines), len(names)), np.nan)
        for i, name in enumerate(names):
            if name in values:
                table[:, i] = values[name]
        return table

    def _apply_requirements(self) -> None:
        for factor in self.kb.risk_factors:
            if factor.id in self.context and factor.requires in self.context:
                own, needed = self.context[factor.id], self.context[factor.requires]
                clash = (own == 1.0) & (needed == 0.0)
                for row in np.flatnonzero(clash):
                    message = f"{factor.id} is present but {factor.requires}, which it requires, is absent"
                    self.reject(int(row), "", factor.id, "contradiction", message)
                own[clash] = np.nan
                needed[clash] = np.nan

    def _apply_implications(self) -> None:
        """No piece of evidence counts twice: what a present finding implies, and what an absent one excludes, is taken out.

        Uncertain findings are left to ``LayeredNetwork.parts``.
        """
        drop = {name: np.zeros(len(values), dtype=np.bool_) for name, values in self.findings.items()}
        for specific, general in self.kb.implications:
            if specific in self.findings and general in self.findings:
                own, implied = self.findings[specific], self.findings[general]
                clash = (own == 1.0) & (implied == 0.0)
                for row in np.flatnonzero(clash):
                    message = f"{specific} is present but {general}, which it implies, is absent"
                    self.reject(int(row), "", specific, "contradiction", message)
                drop[general] |= (own == 1.0) & ((implied == 1.0) | clash)
                drop[specific] |= (implied == 0.0) & ((own == 0.0) | clash)
        for name, gone in drop.items():
            self.findings[name][gone] = np.nan
        self._refuse_many_uncertain()

    def _refuse_many_uncertain(self) -> None:
        """They are split into present and absent (``LayeredNetwork.parts``)."""
        pairs = [pair for pair in self.kb.implications if self.findings.keys() >= set(pair)]
        names = [name for name in self.findings if any(name in pair for pair in pairs)]
        place = {name: i for i, name in enumerate(names)}
        split = split_findings(self._table(self.findings, names), [(place[s], place[g]) for s, g in pairs])
        for row in np.flatnonzero(split.sum(axis=1) > MOST_UNCERTAIN).tolist():
            many = [names[i] for i in np.flatnonzero(split[row])]
            message = (
                f"{len(many)} uncertain findings imply or exclude stated ones ({', '.join(many)}), "
                f"expected {MOST_UNCERTAIN} at most; give some of them as present or absent, or not at all"
            )
            self.reject(row, "", "", "too_many_uncertain", message)
            for name in many:
                self.findings[name][row] = np.nan

    def _levels(self, graded: str, levels: tuple[str, ...]) -> Floats:
        """Likelihood over none and the levels (N, L + 1)."""
        stated = self._table(self.findings, levels)
        likelihood = np.ones((len(stated), len(levels) + 1))
        for i in range(len(levels)):
            v = np.where(np.isnan(stated[:, i]), 0.5, stated[:, i])
            likely = np.repeat(1.0 - v[:, None], len(levels) + 1, axis=1)
            likely[:, i + 1] = v
            likelihood *= np.where(np.isnan(stated[:, i])[:, None], 1.0, likely)
        for row in np.flatnonzero(~likelihood.any(axis=1)):
            present = [level for level, v in zip(levels, stated[row], strict=True) if v == 1.0]
            message = f"{' and '.join(present)} are levels of {graded}, of which one case has one; keep one"
            self.reject(int(row), "", ";".join(present), "two_levels", message)
            likelihood[row] = 1.0
        return likelihood
