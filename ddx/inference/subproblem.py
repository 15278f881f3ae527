"""Subproblems of one case: some findings stay exact, the others are weights of causes and syndromes, some causes are fixed.

Axes: n subproblems, m positive findings with a parent, K causes, J syndromes, X = K + J parents of findings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddx.inference.choice import PLAN, load_compiled, load_search, meter
from ddx.inference.dispatch import DOUBT, EFFORT, Problem, Raw, plan_of, run_numpy, take
from ddx.inference.envelope import Envelope
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats, Ints, Network
from ddx.inference.rows import Groups, Rows, Tables, unique_rows

Fixed = NDArray[np.int8]

# Relative allowance for rounding: what 18,000 operations one after the other can lose.
ROUNDING = 2e-12
# Terms of an expansion that are solved at once.
_TERMS = 512
# Doubles of state up to which subproblems may be solved at the same time on several cores.
_SIDE_BY_SIDE = 2.0**25
# Doubles of state that NumPy holds at once.
_CHUNK_DOUBLES = 2.0**18


@dataclass(frozen=True, eq=False)
class Sums:
    """Lower (0) and upper (1) bounds on sums over configurations, times exp(-log_scale)."""

    log_scale: float
    evidence: Floats  # (2,)
    present: Floats  # (2, K) those with the cause
    absent: Floats  # (2, K) those without


class TooImprobable(ArithmeticError):
    """No float of this machine is small enough for P(findings)."""


class Case:
    """One case: its positive findings are all the findings of its ``network``, the absent ones are weights.

    Parameters
    ----------
    problem : N cases
    row : the one meant
    """

    def __init__(self, problem: Problem, row: int) -> None:
        whole, net = problem.rows(np.array([row])), problem.network
        positive = np.flatnonzero(whole.positive[0])

        def own(name: str, ndim: int) -> Floats:
            array: Floats = getattr(net, name)
            return array[row] if array.ndim == ndim else array

        self.network = Network(
            own("prior", 2),
            own("link", 3)[positive],
            own("leak", 2)[positive],
            syndrome_link=own("syndrome_link", 3),
            syndrome_leak=own("syndrome_leak", 2),
            finding_syndrome=own("finding_syndrome", 3)[positive],
            context_log_odds=own("context_log_odds", 3),
            context_prior=own("context_prior", 2),
            requires=net.requires,
            copy=False,
        )
        self.value: Floats = problem.findings[row, positive]  # (m,)
        self.observed, self.context_prior = problem.observed[row], problem.context_prior[row]  # (C,)
        self.log_constant: float = whole.log_constant[0]
        self.log_weight: Floats = np.concatenate([whole.log_escape[0], whole.log_syndrome_escape[0]])  # (X,)
        links = np.concatenate([self.network.link, self.network.finding_syndrome], axis=1)
        self.envelope = Envelope(self.value, self.network.leak, links)

    def rows(self, findings: Floats, fixed: Fixed, log_constant: Floats, log_weight: Floats) -> SubRows:
        """Subproblems: findings (n, m), nan for those that are not in it, other factors (n,) and weights of parents (n, X)."""
        return SubRows(self, findings, fixed, self.log_constant + log_constant, self.log_weight + log_weight)

    def _open(self, findings: Floats) -> SubRows:
        """Subproblems with other findings and nothing else."""
        n = len(findings)
        fixed = np.full((n, self.network.n_causes), -1, dtype=np.int8)
        return self.rows(findings, fixed, np.zeros(n), np.zeros((n, len(self.log_weight))))

    def doubles(self, kept: Booleans) -> float:
        """Doubles of state with some of the findings (m,) alone."""
        return self._open(np.where(kept, self.value, np.nan)[None]).plan()

    def expanded(self, kept: Booleans) -> Sums:
        """The whole case, as 2**r terms for the r findings that are not kept (m,).

        The likelihood v + (1 - 2 v) P(absent | parents) of a finding has two terms: not observed, and absent. Heckerman
        (1989, A tractable inference algorithm for diagnosing multiple diseases, eq. 11) expands all findings. Rounding
        grows with the sum of the absolute values of all terms.
        """
        value, n = self.value[~kept], 1 << int((~kept).sum())
        scale, total = 0.0, np.zeros((6, self.network.n_causes))
        for start in range(0, n, _TERMS):
            term = np.arange(start, min(start + _TERMS, n))
            absent = (term[:, None] >> np.arange(len(value))) & 1 == 1
            findings = np.tile(np.where(kept, self.value, np.nan), (len(term), 1))
            findings[:, ~kept] = np.where(absent, 0.0, np.nan)
            log, marginal, _ = self._open(findings).solve(np.inf)
            if start == 0 and not np.isneginf(log[0]):
                # Nothing observed but what is kept: the most probable term.
                scale = float(log[0])
            weight = np.exp(log - scale) * np.where(absent, 1.0 - 2.0 * value, value).prod(axis=1)
            p = marginal[:, : self.network.n_causes]
            for side, w in enumerate((weight, np.abs(weight))):
                total[3 * side : 3 * side + 3] += np.stack([np.full(p.shape[1], w.sum()), w @ p, w @ (1.0 - p)])
        sums, error = total[:3], total[3:] * ROUNDING
        # What is left of 1 is only known to an absolute error.
        error[2] = error[0]
        both = np.maximum(np.stack([sums - error, sums + error]), 0.0)
        return Sums(scale, both[:, 0, 0], both[:, 1], both[:, 2])


class SubRows(Rows):
    """n subproblems of a case; ``fixed`` (n, K) is 0 for a cause that is absent, 1 for one that is present, -1 otherwise."""

    def __init__(self, case: Case, findings: Floats, fixed: Fixed, log_constant: Floats, log_weight: Floats) -> None:
        n, n_causes = fixed.shape
        observed, context_prior = (np.tile(a, (n, 1)) for a in (case.observed, case.context_prior))
        super().__init__(case.network, np.arange(n), findings, observed, context_prior)
        self.certain: Booleans = fixed == 1
        log_escape = self.log_escape + log_weight[:, :n_causes]
        # What multiplies a certain cause multiplies everything.
        self.log_constant = self.log_constant + log_constant + np.where(self.certain, log_escape, 0.0).sum(axis=1)
        self.log_escape = np.where(self.certain, 0.0, np.where(fixed == 0, -np.inf, log_escape))
        self.log_syndrome_escape = self.log_syndrome_escape + log_weight[:, n_causes:]
        self.seen = self.seen | (self.log_syndrome_escape != 0.0)

    def tables(self, unknown: Booleans, dtype: type = np.float64) -> Tables:
        """For subproblems with the same unknown context (C,)."""
        tables = super().tables(unknown, dtype)
        if not self.certain.any():
            return tables
        alternatives = np.diff(tables.first)
        certain = np.repeat(self.certain, alternatives, axis=1)
        alone = certain & np.repeat(alternatives == 1, alternatives)
        with np.errstate(divide="ignore"):
            log_scale = tables.log_scale + np.where(alone, np.log(tables.present), 0.0).sum(axis=1)
        present: Floats = np.where(alone, 1.0, tables.present).astype(dtype)
        return Tables(tables.first, np.where(certain, 0.0, tables.absent).astype(dtype), present, log_scale, present)

    def solve(self, limit: float) -> tuple[Floats, Floats, Floats]:
        """Log evidence (n,), marginals of causes and syndromes (n, X), doubles of state (n,).

        A subproblem that needs more than ``limit`` doubles has these alone.

        Raises
        ------
        TooImprobable
            A probability is too small for the floats of this machine.
        """
        unknown = self.unknown[0]
        tables = self.tables(unknown)
        raw = self._raw(tables, limit)
        log, marginal = _joint(raw, tables)
        for i in np.flatnonzero((raw.log_mantissa < DOUBT) & (raw.doubles <= limit)):
            if np.finfo(np.longdouble).maxexp == np.finfo(np.float64).maxexp:
                raise TooImprobable
            chosen = np.array([i])
            wide = take(self.tables(unknown, np.longdouble), chosen)
            planned = plan_of(self, int(i), wide.first, None, EFFORT)
            log[chosen], marginal[chosen] = _joint(run_numpy(self, chosen, wide, planned, np.longdouble), wide)
        return log + self.log_constant, marginal, raw.doubles

    def plan(self) -> float:
        """Doubles of state of the first subproblem."""
        first = np.concatenate([[0], np.cumsum(1 << (self.depends & self.unknown[0]).sum(axis=1))])
        return plan_of(self, 0, first, load_compiled("auto"), EFFORT)[2]

    def _raw(self, tables: Tables, limit: float) -> Raw:
        everything = np.arange(len(self.at))
        compiled = load_compiled("auto", PLAN * len(everything))
        if compiled is not None:
            raw: Raw = compiled.run_groups(self, _each(everything), tables, EFFORT, min(limit, _SIDE_BY_SIDE))
            for i in np.flatnonzero((raw.doubles > _SIDE_BY_SIDE) & (raw.doubles <= limit)):
                alone = np.array([i])
                _put(raw, alone, compiled.run_groups(self, _each(alone), tables, EFFORT, limit).of(alone))
            return raw
        shapes = ((), tables.present.shape[1:], (self.network.n_context,), (self.network.n_syndromes,), ())
        raw = Raw(*(np.full((len(everything), *shape), np.nan) for shape in shapes))
        first, inverse = unique_rows(np.concatenate([self.positive, self.seen], axis=1))
        for group, i in enumerate(first):
            chosen = np.flatnonzero(inverse == group)
            planned = plan_of(self, int(i), tables.first, load_search("auto"), EFFORT)
            raw.doubles[chosen] = planned[2]
            size = max(1, int(_CHUNK_DOUBLES // planned[2]))
            for part in np.split(chosen, range(size, len(chosen), size)) if planned[2] <= limit else ():
                with meter.running():
                    _put(raw, part, run_numpy(self, part, take(tables, part), planned))
        return raw


def _joint(raw: Raw, tables: Tables) -> tuple[Floats, Floats]:
    """Log evidence (n,) and marginals (n, X), 0 where there are none."""
    with np.errstate(invalid="ignore"):
        marginal = np.add.reduceat(tables.weight * raw.slope, tables.first[:-1], axis=1)
    both = np.nan_to_num(np.concatenate([marginal, raw.syndrome], axis=1).astype(np.float64))
    return np.asarray(raw.log_mantissa + tables.log_scale, dtype=np.float64), np.clip(both, 0.0, 1.0)


def _each(chosen: Ints) -> Groups:
    """Every case has its own plan."""
    return chosen, np.arange(len(chosen) + 1), np.zeros(len(chosen), dtype=np.bool_)


def _put(raw: Raw, chosen: Ints, part: Raw) -> None:
    for name, array in vars(part).items():
        getattr(raw, name)[chosen] = array
