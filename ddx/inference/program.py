"""A layout and an order of its causes -> the steps that both kernels run.

A state is a flat array over the slots in hand; the slot introduced last is its fastest bit. A slot enters before the first
cause that touches it and is summed out after the last one, or after the last factor that needs it. ``scan`` is written for
both worlds, as the functions of ``layout`` are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ddx.inference.layout import Booleans, Layout, assemble, search
from ddx.inference.network import Ints

ABSORB, INTRODUCE, SUM_OUT, OBSERVE = 0, 1, 2, 3
# Doubles of stored states (256 MiB) above which some are computed twice instead of stored.
_STORE_ALL = 1 << 25
# Doubles beyond which no machine holds the states, and integers no longer count them.
HOPELESS = 2.0**40


class Program(NamedTuple):
    """Steps (S,); ``x_first[s]`` and ``x_first[s + 1]`` bound the part of step s in a list."""

    action: Ints
    subject: Ints  # slot introduced or summed out, absorbed cause (0 to A - 1), factor
    width: Ints  # slots in hand before the step
    shift: Ints  # of the slot summed out, or of the parent of the one introduced; -1 for none
    table: Ints  # where the table of the cause or factor starts
    axis_first: Ints  # the shifts of the slots that index this table, its fastest bit first
    axis_shift: Ints
    bit_first: Ints  # the shifts of the slots that the cause may set, and which link each has
    bit_shift: Ints
    bit_link: Ints
    segment_first: Ints  # (G + 1,) steps: states are stored segment by segment
    offset: Ints  # (S,) of the state before the step in the store of its segment
    since: Ints  # (S,) the step of the first form of the cause that is absorbed, else the step itself
    size: Ints  # (3,) doubles of the checkpoints, of the largest segment's store, of the widest state


def scan(layout: Layout, order: Ints, cause_table: Ints, cause_of: Ints) -> Program:
    """The program of a layout whose causes are absorbed in this order.

    ``cause_table`` (K,): where the table of each cause starts. ``cause_of`` (K,): the cause of which a column is a form;
    forms of one are absorbed one after the other, and no slot comes or goes in between. The tables of the factors follow one
    another.
    """
    n_slots, n, n_factors = len(layout.slot_kind), len(layout.cause), len(layout.factor)
    n_steps = n + 2 * n_slots + n_factors
    # To ask for memory takes as long as to plan: few arrays, cut into rows.
    steps = np.zeros((10, n_steps + 1), np.intp)
    since = steps[9]
    action, subject, width_of, shift_of, table = steps[0], steps[1], steps[2], steps[3], steps[4]
    axis_first, bit_first, segment_first, offset = steps[5], steps[6], steps[7], steps[8]
    axis_shift = np.zeros(len(layout.context_slot) + len(layout.factor_slot), np.intp)
    of_bit = np.zeros((2, len(layout.bit_slot)), np.intp)
    bit_shift, bit_link = of_bit[0], of_bit[1]
    of_factor, entries = np.zeros((2, n_factors), np.intp), 0
    factor_table, ready = of_factor[0], of_factor[1]
    for r in range(n_factors):
        factor_table[r] = entries
        entries += 1 << (layout.factor_first[r + 1] - layout.factor_first[r])

    of_slot = np.full((5, n_slots), -1, np.intp)
    last, end, hand, needed = of_slot[0], of_slot[1], of_slot[2], of_slot[3]
    place = of_slot[4]  # position of a slot in hand
    # Where the forms of the cause that is absorbed at t begin, and end.
    of_group = np.zeros((2, n + 1), np.intp)
    begins, stops = of_group[0], of_group[1]
    for t in range(n):
        same = t > 0 and cause_of[layout.cause[order[t]]] == cause_of[layout.cause[order[t - 1]]]
        begins[t] = begins[t - 1] if same else t
        for u in range(begins[t], t + 1):
            stops[u] = t
    for t in range(n):
        a = order[t]
        for i in range(layout.touch_first[a], layout.touch_first[a + 1]):
            last[layout.touch_slot[i]] = max(last[layout.touch_slot[i]], stops[t])
    for v in range(n_slots):
        end[v] = last[v]
    for r in range(n_factors):
        ready[r] = -1
        for i in range(layout.factor_first[r], layout.factor_first[r + 1]):
            ready[r] = max(ready[r], last[layout.factor_slot[i]])
        for i in range(layout.factor_first[r], layout.factor_first[r + 1]):
            v = layout.factor_slot[i]
            end[v] = max(end[v], ready[r])

    s, width, axes, bits = 0, 0, 0, 0
    for t in range(-1, n):
        # What comes before the first cause: slots that no cause touches, and their factors.
        a = order[t] if t >= 0 else -1
        count = 0
        if t >= 0 and begins[t] == t:
            for u in range(t, stops[t] + 1):
                for i in range(layout.touch_first[order[u]], layout.touch_first[order[u] + 1]):
                    v = layout.touch_slot[i]
                    new = place[v] < 0
                    for j in range(count):
                        new = new and needed[j] != v
                    if new:
                        needed[count] = v
                        count += 1
        elif t < 0:
            for v in range(n_slots):
                if last[v] < 0:
                    needed[count] = v
                    count += 1
        for child in range(2):
            for i in range(count):
                v = needed[i]
                parent = layout.slot_parent[v]
                if place[v] < 0 and (parent >= 0) == (child == 1):
                    action[s], subject[s], width_of[s] = INTRODUCE, v, width
                    shift_of[s] = width - 1 - place[parent] if parent >= 0 else -1
                    axis_first[s + 1], bit_first[s + 1] = axes, bits
                    s += 1
                    hand[width] = v
                    place[v] = width
                    width += 1
        if t >= 0:
            action[s], subject[s], width_of[s], shift_of[s] = ABSORB, a, width, -1
            since[s] = s - (t - begins[t])
            table[s] = cause_table[layout.cause[a]]
            for i in range(layout.context_first[a], layout.context_first[a + 1]):
                axis_shift[axes] = width - 1 - place[layout.context_slot[i]]
                axes += 1
            for i in range(layout.bit_first[a], layout.bit_first[a + 1]):
                # Fastest slot first: a large state then passes through the caches once for many links.
                shift, b = width - 1 - place[layout.bit_slot[i]], bits
                while b > bit_first[s] and bit_shift[b - 1] > shift:
                    bit_shift[b], bit_link[b] = bit_shift[b - 1], bit_link[b - 1]
                    b -= 1
                bit_shift[b], bit_link[b] = shift, i
                bits += 1
            axis_first[s + 1], bit_first[s + 1] = axes, bits
            s += 1
        for r in range(n_factors):
            if ready[r] == t:
                action[s], subject[s], width_of[s], table[s] = OBSERVE, r, width, factor_table[r]
                shift_of[s] = -1
                for i in range(layout.factor_first[r], layout.factor_first[r + 1]):
                    axis_shift[axes] = width - 1 - place[layout.factor_slot[i]]
                    axes += 1
                axis_first[s + 1], bit_first[s + 1] = axes, bits
                s += 1
        for v in range(n_slots):
            if end[v] == t and place[v] >= 0:
                action[s], subject[s], width_of[s] = SUM_OUT, v, width
                shift_of[s] = width - 1 - place[v]
                axis_first[s + 1], bit_first[s + 1] = axes, bits
                s += 1
                for i in range(place[v], width - 1):
                    hand[i] = hand[i + 1]
                    place[hand[i]] = i
                width -= 1
                place[v] = -2

    for i in range(s):
        if action[i] != ABSORB:
            since[i] = i
    # States are stored segment by segment; the state before a segment is kept as a checkpoint.
    widest, total = 0, 0
    for i in range(s):
        widest = max(widest, width_of[i] + (1 if action[i] == INTRODUCE else 0))
        total += 1 << width_of[i]
    best_budget, best_memory = total, total
    budget = total
    while total > _STORE_ALL and budget >= (1 << widest):
        checkpoints, inside, largest = 0, 0, 0
        for i in range(s):
            size = 1 << width_of[i]
            if i == 0 or (inside + size > budget and since[i] == i):
                checkpoints += size
                inside = 0
            inside += size
            largest = max(largest, inside)
        if checkpoints + largest < best_memory:
            best_budget, best_memory = budget, checkpoints + largest
        budget = budget * 3 // 4
    segments = 0
    inside, checkpoints, largest = 0, 0, 0
    for i in range(s):
        size = 1 << width_of[i]
        if i == 0 or (inside + size > best_budget and since[i] == i):
            segment_first[segments] = i
            segments += 1
            checkpoints += size
            inside = 0
        offset[i] = inside
        inside += size
        largest = max(largest, inside)
    segment_first[segments] = s
    return Program(
        action[:s],
        subject[:s],
        width_of[:s],
        shift_of[:s],
        table[:s],
        axis_first[: s + 1],
        axis_shift[:axes],
        bit_first[: s + 1],
        bit_shift[:bits],
        bit_link[:bits],
        segment_first[: segments + 1],
        offset[:s],
        since[:s],
        np.array([checkpoints, largest, 1 << widest], dtype=np.intp),
    )


def plan_case(
    link_on: Booleans,
    syndrome_on: Booleans,
    finding_syndrome_on: Booleans,
    seen: Booleans,
    depends: Booleans,
    unknown: Booleans,
    requires: Ints,
    cause_of: Ints,
    cause_table: Ints,
    effort: float,
) -> tuple[Layout, Program, float]:
    """The layout and program of a case with the fewest doubles of state, and the doubles that it needs at once.

    Parameters as for ``assemble``, ``search`` and ``scan``. Enumeration is tried where the linked causes are fewer than the
    positive findings. Beyond HOPELESS doubles the layout is empty.
    """
    held = link_on.shape[0] < 0  # False, and no literal: numba would compile everything anew for it
    layout = assemble(link_on, syndrome_on, finding_syndrome_on, seen, depends, unknown, requires, cause_of, held)
    order, cost = search(layout, cause_of, effort)
    linked = 0
    for k in range(link_on.shape[1]):
        for b in range(link_on.shape[0]):
            if link_on[b, k]:
                linked += 1
                break
    # Enumerated causes would have to be told apart from their forms.
    plain = len(cause_of) == 0 or cause_of[len(cause_of) - 1] == len(cause_of) - 1
    if plain and linked < link_on.shape[0]:
        other = assemble(link_on, syndrome_on, finding_syndrome_on, seen, depends, unknown, requires, cause_of, not held)
        other_order, other_cost = search(other, cause_of, effort)
        if other_cost < cost:
            layout, order, cost = other, other_order, other_cost
    if cost > HOPELESS:
        nothing, nobody = link_on[:0], np.zeros_like(unknown)
        layout = assemble(
            nothing, syndrome_on, finding_syndrome_on[:0], np.zeros_like(seen), depends, nobody, requires, cause_of, held
        )
        return layout, scan(layout, order, cause_table, cause_of), cost
    program = scan(layout, order, cause_table, cause_of)
    return layout, program, float(program.size[0] + program.size[1] + 3 * program.size[2])
