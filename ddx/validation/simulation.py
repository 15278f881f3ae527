"""Cases drawn from the model itself, with the causes that are true in them.

Drawn in the order of the network: age and sex, risk factors, causes, findings. Of people without any cause a setting may have
fewer than there are at large: those who do not come are drawn anew. A graded finding takes the highest level that was
contributed (noisy-MAX). What is observed is drawn beside all that, without a look at the values: posteriors of such cases are
calibrated by construction (missing at random, Rubin 1976), which a program that computes them has to reproduce.

The network has no joint distribution of a finding and of what it implies - evidence on both counts as evidence on one, see
``ddx.cases``. A simulated case therefore never holds both: of findings that imply each other, those are observed that come
first in a random order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddx.cases import CASE_ID
from ddx.diagnosis import check_model
from ddx.errors import UsageError, nearest, whole
from ddx.inference.network import Floats, Ints
from ddx.inference.rows import expit
from ddx.knowledge import KnowledgeBase
from ddx.knowledge.ages import age_limits
from ddx.knowledge.schema import FINDING_KINDS
from ddx.network import LayeredNetwork

if TYPE_CHECKING:
    from ddx.diagnosis import Model

Bools = NDArray[np.bool_]
Observed = float | Mapping[str, float]

TRUTH = "final_diagnosis"
CONTEXT = "context"
KINDS: tuple[str, ...] = (*FINDING_KINDS, CONTEXT)
# Share of the findings that is observed unless asked otherwise; what is present makes exact inference costly.
OBSERVED = 0.2
_BLOCK = 5000


def simulate(
    model: Model, n: int, seed: int | np.random.Generator = 0, *, observed: Observed = OBSERVED, prefix: str = "simulated_"
) -> pd.DataFrame:
    """Draw cases from a model.

    Parameters
    ----------
    model : the knowledge base and the setting that the cases come from
    n : how many cases
    seed : integer, or a numpy Generator
    observed : how much of a case is observed, as probability in [0, 1] for every finding, or by kind: history, symptom,
        sign, bedside_test, lab, and context for the risk factors; a kind that is not named keeps its default, 0.2 (risk
        factors: 1). A single number is for all kinds of findings. Age and sex are always given. What is observed costs: with
        most of a large knowledge base observed, cases may have too many present findings to be scored exactly
    prefix : of the case ids; a running number follows

    Returns
    -------
    A row per case (N rows) in the list form that ``Model.score`` and ``ddx score`` read: case_id, age, sex, context, present,
    absent, and final_diagnosis, the true causes separated by ';', empty when there is none. Absent risk factors stand in
    ``absent``. Of a finding and what it implies only one is observed.

    Raises
    ------
    UsageError
        A number of cases or a seed that is negative or not whole, unknown kinds, probabilities outside [0, 1].
    """
    check_model(model)
    whole("n", n, 0)
    if not isinstance(seed, np.random.Generator):
        whole("seed", seed, 0)
    chance = _chances(observed)
    rng = np.random.default_rng(seed)
    width = len(str(n))
    blocks = [_draw(model, min(_BLOCK, n - start), chance, rng) for start in range(0, max(n, 1), _BLOCK)]
    frame = pd.concat(blocks, ignore_index=True)
    frame.insert(0, CASE_ID, [f"{prefix}{i:0{width}d}" for i in range(1, n + 1)])
    return frame


def _chances(observed: Observed) -> dict[str, float]:
    """Kind -> probability that a finding (or risk factor) of this kind is observed."""
    if not isinstance(observed, Mapping):
        given: dict[str, Any] = dict.fromkeys(KINDS[:-1], observed)
    else:
        given = dict(observed)
        for kind in given:
            if kind not in KINDS:
                raise UsageError(f"observed: unknown kind {kind!r}{nearest(str(kind), KINDS)}; known: {', '.join(KINDS)}")
    for kind, p in given.items():
        where, also = (f"observed: {kind}", "") if isinstance(observed, Mapping) else ("observed", ", or one for each kind")
        if isinstance(p, bool) or not isinstance(p, Real):
            raise UsageError(f"{where}: got {p!r}, expected a probability from 0 to 1{also}")
        if not 0.0 <= float(p) <= 1.0:
            raise UsageError(f"{where}: got {p:g}, expected a probability from 0 to 1")
    return dict.fromkeys(KINDS, OBSERVED) | {CONTEXT: 1.0} | given


def _draw(model: Model, n: int, chance: Mapping[str, float], rng: np.random.Generator) -> pd.DataFrame:
    net, kb = model.network, model.knowledge
    age, sex, years, context, cause = _patients(net, kb, n, rng)
    finding = _findings(net, age, cause, rng)
    if net.forms is not None:
        cause = np.logical_or.reduceat(cause, np.searchsorted(net.forms.cause, np.arange(len(net.causes))), axis=1)
    seen = _observed(kb, n, chance, rng)
    stated = rng.random(context.shape) < chance[CONTEXT]
    if net.unstated < 1.0:  # what nobody asked for is told where it is there
        told = context & (rng.random(context.shape) >= net.unstated)
        beside = np.where(net.requires < 0, True, (stated | told)[:, net.requires])
        stated |= told & beside
    factors, findings = np.array(net.risk_factors, dtype=object), np.array(net.findings, dtype=object)
    # Of a graded finding with a level the level is said, and that says the others.
    for levels in net.graded.values():
        columns = [net.findings.index(level) for level in levels]
        present = finding[:, columns].any(axis=1, keepdims=True)
        seen[:, columns] &= finding[:, columns] | ~present
    absent = [
        ";".join(filter(None, pair))
        for pair in zip(_names(findings, seen & ~finding), _names(factors, stated & ~context), strict=True)
    ]
    return pd.DataFrame(
        {
            "age": years,
            "sex": [net.sexes[s].removeprefix("sex_") for s in sex],
            "context": _names(factors, stated & context),
            "present": _names(findings, seen & finding),
            "absent": absent,
            TRUTH: _names(np.array(net.causes, dtype=object), cause),
        }
    )


def _patients(
    net: LayeredNetwork, kb: KnowledgeBase, n: int, rng: np.random.Generator
) -> tuple[Ints, Ints, Ints, Bools, Bools]:
    """Age, sex, years (N,), risk factors (N, C) and causes (N, K), or forms, of people at large, until so many have come."""
    rounds: list[tuple[Ints, Ints, Ints, Bools, Bools]] = []
    missing = n
    while missing > 0 or not rounds:
        stratum = rng.choice(net.share.size, n, p=(net.share / net.share.sum()).ravel())
        age, sex = np.divmod(stratum, len(net.sexes))
        years = _ages(kb, age, rng)
        context = _context(net, age, sex, rng)
        cause = _causes(net, age, sex, context, rng)
        come = np.arange(n)
        if net.none_weight < 1.0:
            come = np.flatnonzero(cause.any(axis=1) | (rng.random(n) < net.none_weight))[:missing]
        rounds.append((age[come], sex[come], years[come], context[come], cause[come]))
        missing -= len(come)
    age, sex, years, context, cause = (np.concatenate(arrays) for arrays in zip(*rounds, strict=True))
    return age, sex, years, context, cause


def _ages(kb: KnowledgeBase, age: Ints, rng: np.random.Generator) -> Ints:
    """Whole years (N,), uniform in the age band, or the part of one, of each case."""
    start, end = np.array(age_limits(kb))
    years = start[age] + rng.random(len(age)) * (end - start)[age]
    return np.asarray(np.floor(years), dtype=np.intp)


def _context(net: LayeredNetwork, age: Ints, sex: Ints, rng: np.random.Generator) -> Bools:
    """Risk factors (N, C); one that requires another is absent without it."""
    drawn = rng.random((len(age), len(net.risk_factors))) < net.context_prior[age, sex]
    for j in np.flatnonzero(net.requires >= 0):
        drawn[:, j] &= drawn[:, net.requires[j]]
    return drawn


def _causes(net: LayeredNetwork, age: Ints, sex: Ints, context: Bools, rng: np.random.Generator) -> Bools:
    """Causes (N, K), or their forms (N, K') where they have any, logistic in the context."""
    log_odds = net.log_odds[age, sex] + context @ net.context_log_odds.T
    present = expit(log_odds)
    if net.forms is not None:
        present = -np.expm1(net.forms.share * np.log1p(-net.in_columns(present, -1)))
    return np.asarray(rng.random(present.shape) < present)


def _findings(net: LayeredNetwork, age: Ints, cause: Bools, rng: np.random.Generator) -> Bools:
    """Findings (N, F), leaky noisy-OR of causes (or forms) and syndromes; of a graded finding the highest level only."""
    syndrome = _noisy_or(np.tile(net.syndrome_leak, (len(age), 1)), [(cause, net.syndrome_link)], rng)
    drawn = _noisy_or(net.leak[age], [(cause, net.link), (syndrome, net.finding_syndrome)], rng)
    for levels in net.graded.values():
        above = np.zeros(len(age), dtype=np.bool_)
        for level in reversed(levels):
            column = net.findings.index(level)
            drawn[:, column] &= ~above
            above |= drawn[:, column]
    return drawn


def _noisy_or(leak: Floats, parents: Sequence[tuple[Bools, Floats]], rng: np.random.Generator) -> Bools:
    """Children (N, X) of boolean parents (N, K) with links (X, K); ``leak`` (N, X)."""
    missing = 1.0 - leak
    for parent, link in parents:
        for k in range(link.shape[1]):
            missing[parent[:, k]] *= 1.0 - link[:, k]
    return np.asarray(rng.random(missing.shape) >= missing)


def _observed(kb: KnowledgeBase, n: int, chance: Mapping[str, float], rng: np.random.Generator) -> Bools:
    """Which findings are observed (N, F): drawn for each, graded ones as a whole; then one of those that imply each other.

    The second step takes the findings in a random order and leaves out what is implied by, or implies, an earlier one; done
    here in rounds for all cases at once (Luby 1986): whatever comes before all its rivals stays, and its rivals go.
    """
    unit_of = {f.id: f.graded or f.id for f in kb.findings.values()}
    units = {unit: i for i, unit in enumerate(dict.fromkeys(unit_of.values()))}
    column = np.array([units[unit] for unit in unit_of.values()], dtype=np.intp)
    chances = np.empty(len(units))
    for finding in kb.findings.values():
        chances[units[unit_of[finding.id]]] = chance[finding.kind]
    open_ = rng.random((n, len(units))) < chances
    order = rng.random((n, len(units)))
    rivals = sorted({(units[unit_of[a]], units[unit_of[b]]) for a, b in kb.implications})
    kept = np.zeros_like(open_)
    while open_.any():
        waiting = np.where(open_, order, np.inf)
        first = np.full_like(order, np.inf)
        for a, b in rivals:
            first[:, a] = np.minimum(first[:, a], waiting[:, b])
            first[:, b] = np.minimum(first[:, b], waiting[:, a])
        stays = open_ & (order < first)
        kept |= stays
        open_ &= ~stays
        for a, b in rivals:
            open_[:, a] &= ~stays[:, b]
            open_[:, b] &= ~stays[:, a]
    return np.asarray(kept[:, column])


def _names(ids: NDArray[np.object_], chosen: Bools) -> list[str]:
    return [";".join(ids[row]) for row in chosen]
