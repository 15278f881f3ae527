"""The network for other engines: ``Model.to_pgmpy``.

The export is the same distribution, node for node: age_band, sex, risk factors, causes, syndromes, findings. Sex depends on
age; a risk factor on both and on what it requires; a cause on age, sex and its risk factors; a syndrome on its causes; a
finding on its causes and syndromes, and on age where its leak does. A graded finding is one node whose states are none and its
levels (noisy-MAX).

Where a setting says how many causes a patient has, there is one node more, ``patient``: present for certain with any cause, and
with the probability ``none_weight`` without. The other nodes are those of people at large; to ask about patients, give the
evidence ``{"patient": "present"}`` with every query.

Where a setting says how many risk factors its records state, silence on one is evidence, on age and sex too: all risk factors
are nodes then. What is not stated is virtual evidence, with the weights 1 for absent and ``unstated`` of the network for
present; a risk factor that requires another is only spoken of where that is stated to be present.

Where causes come in forms these are nodes, independent of each other, and the cause is there where one of them is.

A finding with many causes would need a table of 2**parents columns. Beyond ``MAX_PARENTS`` it becomes a chain of small
tables, each the maximum of the one before and the contribution of one more cause (parent divorcing, Olesen et al. 1989),
which is exact as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddx.errors import UsageError, nearest
from ddx.inference.network import Floats

if TYPE_CHECKING:
    from pgmpy.models import DiscreteBayesianNetwork

    from ddx.diagnosis import Model
    from ddx.network import LayeredNetwork

MAX_PARENTS = 10
AGE, SEX, PATIENT = "age_band", "sex", "patient"
BOOLEAN = ("absent", "present")


def to_pgmpy(
    model: Model, causes: Sequence[str] | None = None, findings: Sequence[str] | None = None
) -> DiscreteBayesianNetwork:
    """The network of a model, or the part with some causes and findings, as a pgmpy model.

    Parameters
    ----------
    causes : ids; default all. The causes left out are absent: they contribute nothing to any finding.
    findings : ids of findings and of graded findings (a level stands for its graded finding); default all that are
        linked to the causes

    Returns
    -------
    A DiscreteBayesianNetwork. States: absent and present; age bands (or their parts) and sexes by their ids; none and the
    levels for a graded finding. If it has a node "patient", give {"patient": "present"} as evidence: else it speaks of people
    at large.

    Raises
    ------
    UsageError
        Unknown ids.
    ImportError
        pgmpy is not installed.
    """
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    net = model.network
    chosen = _chosen("cause", causes, net.causes)
    variables = _variables(net)
    if findings is None:
        columns = list(_columns(net, chosen).values())
        through = net.finding_syndrome @ net.syndrome_link[:, columns]
        shown = (net.link[:, columns] + through).sum(axis=1) > 0.0
        names = [v for v, rows in variables.items() if shown[rows].any()]
    else:
        level_of = {level: graded for graded, levels in net.graded.items() for level in levels}
        names = _chosen("finding", [level_of.get(f, f) for f in findings], tuple(variables))

    states: dict[str, tuple[str, ...]] = {}
    tables: list[tuple[str, Floats, list[str]]] = []

    def add(node: str, node_states: tuple[str, ...], table: Floats, parents: list[str]) -> None:
        """``table``: one axis for the states of the node, then one for those of each parent."""
        states[node] = node_states
        tables.append((node, table, parents))

    add(AGE, net.ages, net.share.sum(axis=1), [])
    add(SEX, net.sexes, (net.share / net.share.sum(axis=1, keepdims=True)).T, [AGE])
    factors = _factors(net, chosen)
    for j in factors:
        add(net.risk_factors[j], BOOLEAN, *_context_table(net, j))
    for cause in chosen:
        k = net.causes.index(cause)
        forms = [c for c in _columns(net, [cause]) if c != cause]
        for form in forms:
            add(form, BOOLEAN, *_cause_table(net, k, _share(net, form)))
        if not forms:
            add(cause, BOOLEAN, *_cause_table(net, k))
            continue
        for entry in _noisy_or_tables(cause, BOOLEAN, np.zeros((1, 1)), dict.fromkeys(forms, np.ones(1))):
            add(*entry)
    if net.none_weight < 1.0:
        for entry in _noisy_or_tables(PATIENT, BOOLEAN, np.full((1, 1), net.none_weight), dict.fromkeys(chosen, np.ones(1))):
            add(*entry)
    for j in _syndromes(net, [r for name in names for r in variables[name]]):
        leak = net.syndrome_leak[j].reshape(1, 1)
        for entry in _noisy_or_tables(net.syndromes[j], BOOLEAN, leak, _effects(net, j, chosen)):
            add(*entry)
    for name in names:
        rows = variables[name]
        node_states = BOOLEAN if len(rows) == 1 else ("none", *(net.findings[r] for r in rows))
        for entry in _noisy_or_tables(name, node_states, net.leak[:, rows], _contributions(net, rows, chosen)):
            add(*entry)

    network = DiscreteBayesianNetwork()
    network.add_nodes_from(states)
    network.add_edges_from((parent, node) for node, _, parents in tables for parent in parents)
    for node, table, parents in tables:
        cpd: Any = TabularCPD(
            node,
            len(states[node]),
            table.reshape(len(states[node]), -1),
            evidence=parents or None,
            evidence_card=[len(states[p]) for p in parents] or None,
            state_names={n: list(states[n]) for n in (node, *parents)},
        )
        network.add_cpds(cpd)
    return network


def _chosen(kind: str, asked: Sequence[str] | None, known: tuple[str, ...]) -> list[str]:
    if asked is None:
        return list(known)
    for name in asked:
        if name not in known:
            raise UsageError(f"unknown {kind} {name!r}{nearest(name, known)}")
    return list(dict.fromkeys(asked))


def _variables(net: LayeredNetwork) -> dict[str, list[int]]:
    """Boolean or graded finding -> its finding columns, lowest level first."""
    row = {f: i for i, f in enumerate(net.findings)}
    graded = {level for levels in net.graded.values() for level in levels}
    variables = {f: [i] for f, i in row.items() if f not in graded}
    variables.update({name: [row[level] for level in levels] for name, levels in net.graded.items()})
    return variables


def _factors(net: LayeredNetwork, causes: Iterable[str]) -> list[int]:
    """Risk factors that change one of the causes, and what they require, required ones first; all where silence is evidence."""
    rows = [net.causes.index(c) for c in causes]
    used = {int(j) for j in np.flatnonzero(net.context_log_odds[rows].any(axis=0) | (net.unstated < 1.0))}
    used |= {int(net.requires[j]) for j in used if net.requires[j] >= 0}
    return sorted(used, key=lambda j: (net.requires[j] >= 0, j))


def _context_table(net: LayeredNetwork, j: int) -> tuple[Floats, list[str]]:
    present = net.context_prior[..., j]
    parents = [AGE, SEX]
    if net.requires[j] >= 0:
        present = np.stack([np.zeros_like(present), present], axis=-1)
        parents.append(net.risk_factors[net.requires[j]])
    return np.stack([1.0 - present, present]), parents


def _columns(net: LayeredNetwork, causes: Iterable[str]) -> dict[str, int]:
    """Nodes with links to findings and their columns in the arrays: causes, or the forms of those that have any."""
    if net.forms is None:
        return {c: net.causes.index(c) for c in causes}
    found = {}
    for c in causes:
        for i in np.flatnonzero(net.forms.cause == net.causes.index(c)).tolist():
            found[net.forms.name[i] or c] = i
    return found


def _share(net: LayeredNetwork, form: str) -> float:
    return 1.0 if net.forms is None else float(net.forms.share[net.forms.name.index(form)])


def _cause_table(net: LayeredNetwork, k: int, share: float = 1.0) -> tuple[Floats, list[str]]:
    used = [int(j) for j in np.flatnonzero(net.context_log_odds[k])]
    log_odds = net.log_odds[..., k]
    for j in used:
        log_odds = np.stack([log_odds, log_odds + net.context_log_odds[k, j]], axis=-1)
    present, absent = 1.0 / (1.0 + np.exp(-log_odds)), 1.0 / (1.0 + np.exp(log_odds))
    if share < 1.0:
        present, absent = -np.expm1(share * np.log(absent)), absent**share
    return np.stack([absent, present]), [AGE, SEX, *(net.risk_factors[j] for j in used)]


def _syndromes(net: LayeredNetwork, rows: Sequence[int]) -> list[int]:
    """Syndromes behind some of the finding columns."""
    return [int(j) for j in np.flatnonzero(net.finding_syndrome[rows].any(axis=0))]


def _effects(net: LayeredNetwork, syndrome: int, causes: Sequence[str]) -> dict[str, Floats]:
    """Cause -> (1,) link to a syndrome."""
    links = {c: net.syndrome_link[syndrome, [net.causes.index(c)]] for c in causes}
    return {c: link for c, link in links.items() if link.any()}


def _contributions(net: LayeredNetwork, rows: list[int], causes: Sequence[str]) -> dict[str, Floats]:
    """Parent -> (L,) links to the levels of a finding: causes, and syndromes that stand behind it."""
    links = {c: net.link[rows, i] for c, i in _columns(net, causes).items()}
    links |= {net.syndromes[j]: net.finding_syndrome[rows, j] for j in _syndromes(net, rows)}
    return {parent: link for parent, link in links.items() if link.any()}


def _noisy_or_tables(
    name: str, states: tuple[str, ...], leaks: Floats, links: dict[str, Floats]
) -> Iterable[tuple[str, tuple[str, ...], Floats, list[str]]]:
    """One table, or a chain of them. Everything is P(value <= v), which multiplies over independent contributions.

    ``leaks`` (A or 1, L), by age where they differ.
    """
    at_most = {parent: _at_most(link) for parent, link in links.items()}
    leak = np.array([_at_most(of_age) for of_age in leaks])
    by_age = bool((leak != leak[0]).any())
    start = leak.T if by_age else leak[0]
    first_parents = [AGE] if by_age else []
    if len(at_most) + len(first_parents) <= MAX_PARENTS:
        cumulative = start
        for own in at_most.values():
            own = own.reshape(-1, *(1,) * (cumulative.ndim - 1))
            cumulative = np.stack([cumulative, cumulative * own], axis=-1)
        yield name, states, _from_cumulative(cumulative), [*first_parents, *at_most]
        return
    previous = f"{name}__leak"
    yield previous, states, _from_cumulative(start), first_parents
    # reached[v, y] = 1 where the value so far, y, is at most v.
    reached = np.tril(np.ones((len(states), len(states))))[..., None]
    for position, (cause, own) in enumerate(at_most.items(), 1):
        node = name if position == len(at_most) else f"{name}__{cause}"
        cumulative = reached * np.stack([np.ones_like(own), own], axis=-1)[:, None, :]
        yield node, states, _from_cumulative(cumulative), [previous, cause]
        previous = node


def _at_most(link: Floats) -> Floats:
    """P(contribution <= v) for v = none, level 1, ..., L, from the continuation ratios of the levels."""
    return np.append(np.cumprod((1.0 - link)[::-1])[::-1], 1.0)


def _from_cumulative(cumulative: Floats) -> Floats:
    return np.diff(cumulative, axis=0, prepend=0.0)
