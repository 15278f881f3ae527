"""Causes that come in forms: the columns of the network, and how frequent findings are in every form.

Within a form findings are independent, in the cause they are not: they hang together as the forms make them. Studies count all
patients of a cause, so the frequencies in its forms are moved by one number on the logit scale until their mean is the total;
of the levels of a graded finding, by one number for each.

Axes: S sets of values, F findings, D of them that differ between forms, V forms of one cause, K causes, K' forms of all, those
of a cause side by side (a cause without forms is its only one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ddx.inference.network import Floats, Ints
from ddx.inference.rows import expit
from ddx.knowledge import KnowledgeBase
from ddx.knowledge.forms import forms_of
from ddx.knowledge.graded import MIN_NONE

# No form shows a finding with certainty, or never.
SMALLEST, LARGEST = 0.002, 0.995
# Halvings of the range in which a shift is looked for: one ulp of it is left.
_HALVINGS, _FAR = 60, 40.0
# Fitting of levels ends when all totals are so close, or after so many rounds.
_CLOSE, _ROUNDS = 1e-12, 2000


@dataclass(frozen=True, eq=False)
class Columns:
    """``cause`` (K',) of every form, ascending; ``share`` of its patients; ``name``, "" where it is the only form."""

    cause: Ints
    share: Floats
    name: tuple[str, ...]


def has_forms(kb: KnowledgeBase, setting: str) -> bool:
    """Whether causes of a setting come in forms."""
    return bool(kb.forms) and setting in kb.settings_with_forms


@lru_cache(maxsize=8)
def columns(kb: KnowledgeBase) -> Columns:
    """The forms of all causes."""
    own = forms_of(kb.forms.values(), ())
    shares = [own[cause].share if cause in own else (1.0,) for cause in kb.causes]
    cause = np.repeat(np.arange(len(shares)), [len(share) for share in shares])
    named: dict[str, list[str]] = {}
    for form in kb.forms.values():
        named.setdefault(form.cause, []).append(form.id)
    name = tuple(form for c in kb.causes for form in named.get(c, [""]))
    return Columns(cause, np.concatenate([np.array(share) for share in shares]), name)


def in_forms(kb: KnowledgeBase, total: Floats, least: Floats, findings: Sequence[str]) -> Floats:
    """Frequencies in every form (S, F, K') of which those in all patients (S, F, K) are the means; 0 where there is none.

    No form shows a finding more rarely than people without the cause (``least``, S, F) do, but for levels of a graded one.
    Levels of a graded finding, which come all or not at all, add up to at most ``1 - MIN_NONE`` in all patients and every form.
    """
    own = columns(kb)
    found = total[:, :, own.cause]
    place = {finding: i for i, finding in enumerate(findings)}
    of_cause: dict[int, list[tuple[int, Floats]]] = {}
    for at, k, logits in _differing(kb):
        if at in place and not kb.findings[at].graded and (total[:, place[at], k] > 0.0).any():
            of_cause.setdefault(k, []).append((place[at], logits))
    for k, differing in of_cause.items():
        here, at_rows = np.flatnonzero(own.cause == k), np.array([row for row, _ in differing])
        wanted = total[:, at_rows, k]
        shifted = _shifted(np.stack([logits for _, logits in differing]), own.share[here], wanted, least[:, at_rows])
        found[:, at_rows[:, None], here] = np.where(wanted[..., None] > 0.0, shifted, 0.0)
    for graded, levels in kb.graded.items():
        if levels[0] in place:
            rows = [place[level] for level in levels]
            found[:, rows] = levels_in_forms(_patterns(kb, graded), own, total[:, rows])
    return found


@lru_cache(maxsize=8)
def _differing(kb: KnowledgeBase) -> tuple[tuple[str, int, Floats], ...]:
    """Finding, cause and logits (V,) of its frequencies in the forms of the cause."""
    cause = {name: k for k, name in enumerate(kb.causes)}
    table = [(row.finding, cause[row.cause], np.array(row.frequencies)) for row in kb.form_findings.values()]
    clipped = [(finding, k, p.clip(SMALLEST, LARGEST)) for finding, k, p in table]
    return tuple((finding, k, np.log(p) - np.log1p(-p)) for finding, k, p in clipped)


@lru_cache(maxsize=32)
def _patterns(kb: KnowledgeBase, graded: str) -> Floats:
    """Odds of the levels of a graded finding against none of them, and 1 for none, in every form (L + 1, K').

    A level that is as frequent in all forms of a cause has the same odds in them.
    """
    own, levels = columns(kb), kb.graded[graded]
    probability = np.full((len(levels), len(own.cause)), np.nan)
    for finding, k, logits in _differing(kb):
        if finding in levels:
            probability[levels.index(finding), own.cause == k] = expit(logits)
    none = np.maximum(1.0 - np.nansum(probability, axis=0), MIN_NONE)
    odds = np.where(np.isnan(probability), 1.0, probability / none)
    return np.vstack([odds, np.ones(len(own.cause))])


def levels_in_forms(pattern: Floats, own: Columns, total: Floats) -> Floats:
    """Probabilities of levels (S, L, K') that have the totals (S, L, K) as their means, and the odds ratios of a pattern.

    Iterative proportional fitting (Deming and Stephan 1940, Ann Math Stat 11, 427-444) of level by form in every cause.
    """
    most = 1.0 - MIN_NONE
    at_all = total.sum(axis=1, keepdims=True)
    levels = total * np.minimum(1.0, most / np.where(at_all > 0.0, at_all, 1.0))
    wanted = np.concatenate([levels, np.maximum(most - levels.sum(axis=1, keepdims=True), 0.0)], axis=1)
    starts = np.flatnonzero(np.diff(own.cause, prepend=-1))
    table = np.broadcast_to(pattern * own.share, (len(total), *pattern.shape))
    for _ in range(_ROUNDS):
        reached = np.add.reduceat(table, starts, axis=2)
        if np.abs(reached - wanted).max() < _CLOSE:
            break
        table = table * (wanted / np.where(reached > 0.0, reached, 1.0))[:, :, own.cause]
        table = table * (most * own.share / table.sum(axis=1))[:, None, :]
    return np.asarray(table[:, :-1] / own.share)


def _shifted(logits: Floats, share: Floats, wanted: Floats, least: Floats) -> Floats:
    """Frequencies (S, D, V) with these logits (D, V), but for one shift of each and not below the least ones (S, D).

    Their means are the wanted ones (S, D), or the least where those are more.
    """
    low, high = np.full(wanted.shape, -_FAR), np.full(wanted.shape, _FAR)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        found = np.maximum(expit(logits + middle[..., None]), least[..., None])
        below = (found * share).sum(axis=-1) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.maximum(expit(logits + 0.5 * (low + high)[..., None]), least[..., None])
