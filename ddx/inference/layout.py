"""What one case's work consists of: the slots of its state, and the causes and findings that touch them.

A slot is a binary variable that is an axis of the state for a while: an unknown context variable, a syndrome with an observed
finding, the "explained so far" bit of a present or uncertain finding, or, where causes are enumerated, the cause itself.
A cause is absorbed in one step. A finding with syndromes among its parents (with enumeration: every finding) is a factor: a
table over the slots of its parents, applied when all of them have their final value.

The functions below are written for both worlds: NumPy runs them as they are, numba compiles them (so one source decides on
every plan, and both kernels follow the same one). Hence loops, arrays of integers, and no Python objects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddx.inference.network import Ints

Booleans = NDArray[np.bool_]

# Kinds of slots; the first two are also where a link comes from.
FINDING, SYNDROME, CONTEXT, CAUSE = 0, 1, 2, 3


class Layout(NamedTuple):
    """Slots (V), absorbed causes (A) and factors (R); ``x_first[i]`` and ``x_first[i + 1]`` bound the part of i in a list."""

    slot_kind: Ints  # (V,)
    slot_index: Ints  # (V,) context variable, syndrome, position among the positive findings, or cause
    slot_parent: Ints  # (V,) slot of the context variable that this one requires, -1 for none
    cause: Ints  # (A,)
    touch_first: Ints  # slots in hand while the cause is absorbed
    touch_slot: Ints
    context_first: Ints  # the slots of the context that changes its prior
    context_slot: Ints
    bit_first: Ints  # the slots that it may set, and what kind of slot each is
    bit_slot: Ints
    factor: Ints  # (R,) position among the positive findings
    factor_first: Ints  # the slots of its parents; a slot of kind FINDING is its own bit, which the causes set
    factor_slot: Ints


def assemble(
    link_on: Booleans,
    syndrome_on: Booleans,
    finding_syndrome_on: Booleans,
    seen: Booleans,
    depends: Booleans,
    unknown: Booleans,
    requires: Ints,
    cause_of: Ints,
    held: bool,
) -> Layout:
    """The layout of a case.

    Parameters
    ----------
    link_on : (m, K), which cause links to which positive (present or uncertain) finding
    syndrome_on : (J, K), which cause links to which syndrome
    finding_syndrome_on : (m, J), which syndrome links to which positive finding
    seen : (J,), syndromes with a link to an observed finding
    depends : (K, C), which context variable changes which cause
    unknown : (C,), context variables that are not observed
    requires : (C,)
    cause_of : (K,) ascending, the cause of which a column is a form; usually each column is a cause
    held : enumerate the linked causes, instead of keeping a bit for every finding
    """
    m, n_causes = link_on.shape
    n_syndromes, n_context = len(seen), len(unknown)
    limit = n_context + n_syndromes + m + n_causes
    # To ask for memory takes as long as to plan: few arrays, cut into rows.
    slot = np.full((4, limit), -1, np.intp)
    slot_kind, slot_index, slot_parent, of = slot[0], slot[1], slot[2], slot[3]
    of_context, of_syndrome = of[:n_context], of[n_context : n_context + n_syndromes]
    of_bit, of_cause = of[n_context + n_syndromes : limit - n_causes], of[limit - n_causes :]
    slots, opened = 0, 0
    for x in range(n_context):
        opened += 1 if unknown[x] else 0
    for child in range(2 if opened > 0 else 0):  # those that require nothing come first
        for x in range(n_context):
            needed = False
            for y in range(n_context):
                if unknown[y] and (y == x or requires[y] == x):
                    for k in range(n_causes):
                        if depends[k, y]:
                            needed = True
                            break
            if unknown[x] and needed and (requires[x] >= 0) == (child == 1):
                if child == 1:
                    slot_parent[slots] = of_context[requires[x]]
                slot_kind[slots], slot_index[slots] = CONTEXT, x
                of_context[x] = slots
                slots += 1
    most = 2 * opened * n_causes  # touches and bits
    for j in range(n_syndromes):
        if seen[j]:
            slot_kind[slots], slot_index[slots] = SYNDROME, j
            of_syndrome[j] = slots
            slots += 1
            for k in range(n_causes):
                most += 1 if syndrome_on[j, k] else 0
    for b in range(m):
        for k in range(n_causes):
            if link_on[b, k]:
                most += 1
                if held:
                    of_cause[k] = 0
                elif of_bit[b] < 0:
                    slot_kind[slots], slot_index[slots] = FINDING, b
                    of_bit[b] = slots
                    slots += 1
    for k in range(n_causes if held else 0):
        if of_cause[k] >= 0:
            slot_kind[slots], slot_index[slots] = CAUSE, k
            of_cause[k] = slots
            slots += 1

    of_absorbed, absorbed = np.zeros((4, n_causes + 1), np.intp), 0
    cause, touch_first, context_first, bit_first = of_absorbed[0], of_absorbed[1], of_absorbed[2], of_absorbed[3]
    touched = np.empty((3, most), np.intp)
    touch_slot, context_slot, bit_slot = touched[0], touched[1], touched[2]
    touches, contexts, bits = 0, 0, 0
    # Forms of a cause are absorbed one after the other, all or none of them.
    together = np.zeros(n_causes + 1, np.intp)
    for k in range(n_causes):
        any_of = of_cause[k] >= 0
        for x in range(n_context if opened > 0 else 0):
            any_of = any_of or (unknown[x] and depends[k, x])
        for j in range(n_syndromes):
            any_of = any_of or (seen[j] and syndrome_on[j, k])
        for b in range(m):
            any_of = any_of or (of_bit[b] >= 0 and link_on[b, k])
        if any_of:
            together[cause_of[k]] = 1
    for k in range(n_causes):
        for x in range(n_context if opened > 0 else 0):
            if unknown[x] and depends[k, x]:
                context_slot[contexts] = of_context[x]
                contexts += 1
                touch_slot[touches] = of_context[x]
                touches += 1
                parent = slot_parent[of_context[x]]
                if parent >= 0:
                    known = False
                    for i in range(touch_first[absorbed], touches):
                        known = known or touch_slot[i] == parent
                    # A parent that changes the cause itself comes with its own turn.
                    if not known and not depends[k, slot_index[parent]]:
                        touch_slot[touches] = parent
                        touches += 1
        for j in range(n_syndromes):
            if seen[j] and syndrome_on[j, k]:
                bit_slot[bits] = of_syndrome[j]
                bits += 1
        if of_cause[k] >= 0:
            bit_slot[bits] = of_cause[k]
            bits += 1
        for b in range(m):
            if of_bit[b] >= 0 and link_on[b, k]:
                bit_slot[bits] = of_bit[b]
                bits += 1
        for i in range(bit_first[absorbed], bits):
            touch_slot[touches] = bit_slot[i]
            touches += 1
        if together[cause_of[k]] == 1:
            cause[absorbed] = k
            absorbed += 1
            touch_first[absorbed], context_first[absorbed], bit_first[absorbed] = touches, contexts, bits

    of_factor, factors = np.zeros((2, m + 1), np.intp), 0
    factor, factor_first = of_factor[0], of_factor[1]
    factor_slot = np.empty(m * (1 + n_syndromes + (n_causes if held else 0)), np.intp)
    parents = 0
    for b in range(m):
        for j in range(n_syndromes):
            if finding_syndrome_on[b, j]:
                factor_slot[parents] = of_syndrome[j]
                parents += 1
        if held:
            for k in range(n_causes):
                if link_on[b, k]:
                    factor_slot[parents] = of_cause[k]
                    parents += 1
        elif parents > factor_first[factors] and of_bit[b] >= 0:
            factor_slot[parents] = of_bit[b]
            parents += 1
        if parents > factor_first[factors]:
            factor[factors] = b
            factors += 1
            factor_first[factors] = parents
    return Layout(
        slot_kind[:slots],
        slot_index[:slots],
        slot_parent[:slots],
        cause[:absorbed],
        touch_first[: absorbed + 1],
        touch_slot[:touches],
        context_first[: absorbed + 1],
        context_slot[:contexts],
        bit_first[: absorbed + 1],
        bit_slot[:bits],
        factor[:factors],
        factor_first[: factors + 1],
        factor_slot[:parents],
    )


def search(layout: Layout, cause_of: Ints, effort: float) -> tuple[Ints, float]:
    """An order of the absorbed causes (A,) under which few slots are in hand at once, and the doubles of all its states.

    Greedy (always the cause after which the state is smallest), then hill climbing: a cause moves to another place if the
    sum over causes and factors of 2**(slots in hand) does not grow. One move is tried for every 1 / ``effort`` doubles, so that
    searching stays a small part of the work, and 20,000 at most.
    """
    n_slots, most = len(layout.slot_kind), len(layout.cause)
    of_slot, of_cause = np.zeros((6, n_slots), np.intp), np.zeros((6, most + 1), np.intp)
    waiting, in_hand, taken, key = of_slot[0], of_slot[1], of_cause[0], of_cause[3]
    # Forms of a cause, which stand side by side, move as one: they touch what any of them touches.
    begin, touch_first, touched = of_cause[4], of_cause[5], of_slot[5]
    touch_slot, n, touches = np.empty(len(layout.touch_slot), np.intp), 0, 0
    for a in range(most):
        if a == 0 or cause_of[layout.cause[a]] != cause_of[layout.cause[a - 1]]:
            begin[n] = a
            n += 1
        for i in range(layout.touch_first[a], layout.touch_first[a + 1]):
            v = layout.touch_slot[i]
            if touched[v] < n:
                touched[v] = n
                touch_slot[touches] = v
                touches += 1
        begin[n], touch_first[n] = a + 1, touches
    touch_slot, order = touch_slot[:touches], np.empty(n, np.intp)
    for v in touch_slot:
        waiting[v] += 1
    changed = True  # what is in hand or needed once more only, since the keys were computed
    for t in range(n):
        best = -1
        for a in range(n):
            if taken[a] == 0:
                if changed:
                    new, done = 0, 0
                    for i in range(touch_first[a], touch_first[a + 1]):
                        v = touch_slot[i]
                        new += 1 - in_hand[v]
                        done += 1 if waiting[v] == 1 else 0
                    key[a] = (new - done) * 4096 + new
                if best < 0 or key[a] < key[best]:
                    best = a
        order[t] = best
        taken[best] = 1
        changed = False
        for i in range(touch_first[best], touch_first[best + 1]):
            v = touch_slot[i]
            waiting[v] -= 1
            changed = changed or in_hand[v] == 0 or waiting[v] == 1
            in_hand[v] = 1

    first, last, end, change, observed = of_slot[2], of_slot[3], of_slot[4], of_cause[1], of_cause[2]
    current = -1.0
    moves, trial, random = 1, 0, 1
    source, target = 0, 0
    while trial < moves:
        for v in range(n_slots):
            first[v], last[v] = n, -1
        for t in range(n):
            change[t], observed[t] = 0, 0
            a = order[t]
            for i in range(touch_first[a], touch_first[a + 1]):
                v = touch_slot[i]
                if first[v] == n:
                    first[v] = t
                last[v] = t
        for v in range(n_slots):
            end[v] = last[v]
        for r in range(len(layout.factor)):
            ready = 0
            for i in range(layout.factor_first[r], layout.factor_first[r + 1]):
                ready = max(ready, last[layout.factor_slot[i]])
            observed[ready] += 1
            for i in range(layout.factor_first[r], layout.factor_first[r + 1]):
                v = layout.factor_slot[i]
                end[v] = max(end[v], ready)
        for v in range(n_slots):
            if last[v] >= 0:
                change[first[v]] += 1
                change[end[v] + 1] -= 1
        cost, width = 0.0, 0
        for t in range(n):
            width += change[t]
            forms = begin[order[t] + 1] - begin[order[t]]
            cost += (float(1 << width) if width < 62 else 2.0**width) * (forms + observed[t])
        change[n] = 0
        if trial == 0:
            current = cost
            moves += int(min(current * effort, 20000.0)) if n > 1 else 0
        elif cost <= current:
            current = cost
        else:  # take the move back
            a = order[target]
            step = 1 if target < source else -1
            while target != source:
                order[target] = order[target + step]
                target += step
            order[source] = a
        trial += 1
        if trial < moves:
            random = (random * 1103515245 + 12345) & 0x7FFFFFFF
            source = (random >> 8) % n
            random = (random * 1103515245 + 12345) & 0x7FFFFFFF
            target = (random >> 8) % n
            a, position = order[source], source
            step = 1 if source < target else -1
            while position != target:
                order[position] = order[position + step]
                position += step
            order[target] = a
    columns, place = np.empty(most, np.intp), 0
    for t in range(n):
        for a in range(begin[order[t]], begin[order[t] + 1]):
            columns[place] = a
            place += 1
    return columns, current
