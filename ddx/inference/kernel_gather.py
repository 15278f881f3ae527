"""From the arrays of a network and of its cases to the numbers that the compiled kernel works on, one case a lane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ddx.inference.kernel import Block
from ddx.inference.kernel_base import WIDTH, U, compile_function
from ddx.inference.layout import CAUSE, CONTEXT, FINDING, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints


class Arrays(NamedTuple):
    """The network as the kernel reads it: every array with a case axis of length N, or 1 if all cases share it."""

    link: Floats  # (., F, K)
    leak: Floats  # (., F)
    syndrome_link: Floats  # (., J, K)
    syndrome_leak: Floats  # (., J)
    finding_syndrome: Floats  # (., F, J)
    depends: Booleans  # (K, C)
    requires: Ints  # (C,)
    cause: Ints  # (K,)


class Cases(NamedTuple):
    """What the kernel reads of n cases."""

    order: Ints  # the cases of the groups
    at: Ints  # (n,) their indices in arrays with a case axis
    first: Ints  # (n + 1,) bounds of the positive findings of a case
    finding: Ints
    value: Floats
    seen: Booleans  # (n, J)
    unknown: Booleans  # (C,)
    context_prior: Floats  # (n, C)
    syndrome_escape: Floats  # (n, J)
    table_first: Ints  # (K + 1,)
    absent: Floats  # (n, E)
    present: Floats  # (n, E)


@compile_function
def gather(arrays: Arrays, cases: Cases, start: int, last: int, layout: Layout, lanes: int, block: Block) -> None:
    """The numbers of cases of a group from ``start`` on into the lanes, but for the tables of causes; see ``Rows.block``.

    The group ends before ``last``; its last case fills lanes that are left over. Eight cases at a time, number by number: their
    arrays stay in the cache, and what is written lies side by side.
    """
    row_of, at_of, first_of = np.empty(WIDTH, np.intp), np.empty(WIDTH, np.intp), np.empty(WIDTH, np.intp)
    for begin in range(0, lanes, WIDTH):
        some = min(lanes - begin, WIDTH)
        for c in range(some):
            row_of[c] = cases.order[min(start + begin + c, last - 1)]
            at_of[c], first_of[c] = cases.at[row_of[c]], cases.first[row_of[c]]
        _gather_links(arrays, cases, layout, lanes, begin, some, at_of, first_of, block)
        _gather_slots(arrays, cases, layout, lanes, begin, some, row_of, at_of, first_of, block)
        _gather_factors(arrays, cases, layout, lanes, begin, some, at_of, first_of, block)


@compile_function
def _gather_links(
    arrays: Arrays, cases: Cases, layout: Layout, lanes: int, begin: int, some: int, at_of: Ints, first_of: Ints, block: Block
) -> None:
    link, escape = block.link, block.escape
    links, syndrome_links = arrays.link.ravel(), arrays.syndrome_link.ravel()
    n_findings, n_causes, n_syndromes = arrays.link.shape[1], arrays.link.shape[2], arrays.syndrome_link.shape[1]
    # Where the links of a slot begin, for each of the cases.
    n_slots = len(layout.slot_kind)
    begins = np.zeros(n_slots * WIDTH, np.uint64)
    for v in range(n_slots):
        kind, index = layout.slot_kind[v], layout.slot_index[v]
        for c in range(some):
            if kind == FINDING:
                at = min(at_of[c], arrays.link.shape[0] - 1)
                begins[v * WIDTH + c] = (at * n_findings + cases.finding[first_of[c] + index]) * n_causes
            elif kind == SYNDROME:
                at = min(at_of[c], arrays.syndrome_link.shape[0] - 1)
                begins[v * WIDTH + c] = (at * n_syndromes + index) * n_causes
    for a in range(len(layout.cause)):
        k = U(layout.cause[a])
        for b in range(layout.bit_first[a], layout.bit_first[a + 1]):
            v, o = layout.bit_slot[b], U(b * lanes + begin)
            kind, first = layout.slot_kind[v], U(v * WIDTH)
            if kind == FINDING:
                for c in range(U(some)):
                    link[o + c] = links[begins[first + c] + k]
            elif kind == SYNDROME:
                for c in range(U(some)):
                    link[o + c] = syndrome_links[begins[first + c] + k]
            else:
                for c in range(U(some)):
                    link[o + c] = 1.0
            for c in range(U(some)):
                escape[o + c] = 1.0 - link[o + c]


@compile_function
def _gather_slots(
    arrays: Arrays, cases: Cases, layout: Layout, lanes: int, begin: int, some: int, row_of: Ints, at_of: Ints, first_of: Ints,
    block: Block,
) -> None:  # fmt: skip
    leaks, syndrome_leaks = arrays.leak, arrays.syndrome_leak
    n_slots = len(layout.slot_kind)
    for v in range(n_slots):
        kind, index = layout.slot_kind[v], layout.slot_index[v]
        o = v * lanes + begin
        for c in range(some):
            p, u0, u1 = 0.0, 1.0, 1.0
            if kind == CONTEXT:
                p = cases.context_prior[row_of[c], index]
            elif kind == SYNDROME:
                p = syndrome_leaks[min(at_of[c], syndrome_leaks.shape[0] - 1), index]
                u1 = cases.syndrome_escape[row_of[c], index]
            elif kind == FINDING:
                p = leaks[min(at_of[c], leaks.shape[0] - 1), cases.finding[first_of[c] + index]]
                u1 = cases.value[first_of[c] + index]
                u0 = 1.0 - u1
            block.entry[o + c] = p
            block.leave[o + c] = u0
            block.leave[n_slots * lanes + o + c] = u1


@compile_function
def _gather_factors(
    arrays: Arrays, cases: Cases, layout: Layout, lanes: int, begin: int, some: int, at_of: Ints, first_of: Ints, block: Block
) -> None:
    """``noisy_or_table`` of every factor, and how likely that makes the finding."""
    links, finding_syndromes, leaks = arrays.link, arrays.finding_syndrome, arrays.leak
    n_slots, start, most = len(layout.slot_kind), U(0), 0
    for r in range(len(layout.factor)):
        most = max(most, layout.factor_first[r + 1] - layout.factor_first[r])
    explained, not_explained = np.empty(WIDTH << most), np.empty(WIDTH << most)
    w = np.empty(WIDTH)
    for r in range(len(layout.factor)):
        position, first_slot = layout.factor[r], layout.factor_first[r]
        parents = layout.factor_first[r + 1] - first_slot
        own_bit = False
        for j in range(parents):
            slot = layout.factor_slot[first_slot + j]
            if layout.slot_kind[slot] == FINDING:
                own_bit = True
                for c in range(some):
                    block.leave[slot * lanes + begin + c] = 1.0
                    block.leave[(n_slots + slot) * lanes + begin + c] = 1.0
        for c in range(some):
            leak = leaks[min(at_of[c], leaks.shape[0] - 1), cases.finding[first_of[c] + position]]
            explained[c], not_explained[c] = (0.0, 1.0) if own_bit else (leak, 1.0 - leak)
        for j in range(parents):
            slot = layout.factor_slot[first_slot + j]
            kind, index = layout.slot_kind[slot], layout.slot_index[slot]
            for c in range(some):
                f = cases.finding[first_of[c] + position]
                w[c] = 1.0
                if kind == SYNDROME:
                    w[c] = finding_syndromes[min(at_of[c], finding_syndromes.shape[0] - 1), f, index]
                elif kind == CAUSE:
                    w[c] = links[min(at_of[c], links.shape[0] - 1), f, index]
            for low in range(U(0), U(WIDTH << j), U(WIDTH)):
                high = low | U(WIDTH << j)
                for c in range(U(some)):
                    explained[high + c] = explained[low + c] + not_explained[low + c] * w[c]
                    not_explained[high + c] = not_explained[low + c] * (1.0 - w[c])
        for c in range(U(some)):
            w[c] = cases.value[first_of[c] + position]
        for e in range(U(1 << parents)):
            o, i = (start + e) * U(lanes) + U(begin), e * U(WIDTH)
            for c in range(U(some)):
                block.factor[o + c] = w[c] * explained[i + c] + (1.0 - w[c]) * not_explained[i + c]
        start += U(1 << parents)


@compile_function
def fill_lanes(arrays: Arrays, cases: Cases, start: int, last: int, layout: Layout, lanes: int, block: Block) -> None:
    """The numbers of some cases of a group that ends before ``last``, whose last case fills lanes that are left over."""
    gather(arrays, cases, start, last, layout, lanes, block)
    row_of = np.empty(WIDTH, np.intp)
    for begin in range(0, lanes, WIDTH):
        some = min(lanes - begin, WIDTH)
        for c in range(some):
            row_of[c] = cases.order[min(start + begin + c, last - 1)]
        for e in range(cases.absent.shape[1]):
            for c in range(some):
                block.absent[e * lanes + begin + c] = cases.absent[row_of[c], e]
                block.present[e * lanes + begin + c] = cases.present[row_of[c], e]
