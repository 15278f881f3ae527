"""Cases of a network through the compiled kernel, in groups that share a layout and a program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ddx.inference import layout as _layout
from ddx.inference import program as _program
from ddx.inference.kernel import Block, Slopes, Workspace, room, solve
from ddx.inference.kernel_base import WIDTH, compile_function
from ddx.inference.kernel_gather import Arrays, Cases, fill_lanes, gather
from ddx.inference.kernel_lanes import solve_lanes
from ddx.inference.kernel_plan import search
from ddx.inference.kernel_small import solve_small
from ddx.inference.layout import CONTEXT, SYNDROME, Booleans, Layout
from ddx.inference.network import Floats, Ints
from ddx.inference.program import Program

assemble = compile_function(_layout.assemble)
scan = compile_function(_program.scan)
plan_case = compile_function(_program.plan_case, assemble=assemble, search=search, scan=scan)

# Doubles of state up to which one workspace serves all cases.
KEPT = 2048


class Results(NamedTuple):
    """What the kernel fills for n cases."""

    mantissa: Floats  # (n,)
    exponent: Ints  # (n,)
    present: Floats  # (n, E) derivative of log evidence to ``Cases.present``
    context: Floats  # (n, C)
    syndrome: Floats  # (n, J)
    doubles: Floats  # (n,) memory that a case needs; more than the limit: not solved


@compile_function
def _put(results: Results, row: int, layout: Layout, lane: int, lanes: int, slopes: Slopes) -> None:
    for v in range(len(layout.slot_kind)):
        if layout.slot_kind[v] == CONTEXT:
            results.context[row, layout.slot_index[v]] = slopes.marginal[v * lanes + lane]
        elif layout.slot_kind[v] == SYNDROME:
            results.syndrome[row, layout.slot_index[v]] = slopes.marginal[v * lanes + lane]


@compile_function
def empty_block(layout: Layout, entries: int, lanes: int) -> Block:
    """Room for the numbers of some cases."""
    slots, links, factors = len(layout.slot_kind) * lanes, len(layout.bit_slot) * lanes, 0
    for r in range(len(layout.factor)):
        factors += lanes << (layout.factor_first[r + 1] - layout.factor_first[r])
    entries *= lanes
    return Block(
        np.empty(entries), np.empty(entries), np.empty(links), np.empty(links),
        np.empty(slots), np.empty(2 * slots), np.empty(factors),
    )  # fmt: skip


@compile_function
def empty_slopes(block: Block, full: bool) -> Slopes:
    """Causes that no step absorbs keep the slope 1."""
    extra = 1 if full else 0
    return Slopes(
        np.ones(len(block.present)),
        np.zeros(len(block.entry)),
        np.ones(len(block.absent) * extra),
        np.ones(len(block.link) * extra),
        np.ones(len(block.entry) * extra),
        np.ones(len(block.factor) * extra),
    )


@compile_function
def _linked(arrays: Arrays, cases: Cases, row: int) -> tuple[Booleans, Booleans, Booleans]:
    """Which links of a case are there: findings by causes, syndromes by causes, findings by syndromes."""
    at = cases.at[row]
    links = arrays.link[min(at, arrays.link.shape[0] - 1)]
    syndrome_links = arrays.syndrome_link[min(at, arrays.syndrome_link.shape[0] - 1)]
    finding_syndromes = arrays.finding_syndrome[min(at, arrays.finding_syndrome.shape[0] - 1)]
    finding = cases.finding[cases.first[row] : cases.first[row + 1]]
    n_syndromes, n_causes = syndrome_links.shape
    link_on = np.empty((len(finding), n_causes), np.bool_)
    syndrome_on = np.empty((n_syndromes, n_causes), np.bool_)
    finding_syndrome_on = np.empty((len(finding), n_syndromes), np.bool_)
    for b in range(len(finding)):
        for k in range(n_causes):
            link_on[b, k] = links[finding[b], k] > 0.0
        for j in range(n_syndromes):
            finding_syndrome_on[b, j] = finding_syndromes[finding[b], j] > 0.0
    for j in range(n_syndromes):
        for k in range(n_causes):
            syndrome_on[j, k] = syndrome_links[j, k] > 0.0
    return link_on, syndrome_on, finding_syndrome_on


@compile_function
def _small_block(layout: Layout, absent: Floats, present: Floats, room: Floats) -> Block:
    """A block of one case in the room of those before; ``room`` has ``_doubles`` of its layout."""
    slots, links = len(layout.slot_kind), len(layout.bit_slot)
    return Block(
        absent,
        present,
        room[:links],
        room[links : 2 * links],
        room[2 * links : 2 * links + slots],
        room[2 * links + slots : 2 * links + 3 * slots],
        room[2 * links + 4 * slots :],
    )


@compile_function
def _doubles(layout: Layout) -> int:
    """Of ``_small_block``, and of the marginals of the slots behind its ``leave``."""
    total = 2 * len(layout.bit_slot) + 4 * len(layout.slot_kind)
    for r in range(len(layout.factor)):
        total += 1 << (layout.factor_first[r + 1] - layout.factor_first[r])
    return total


@compile_function
def lanes_of(widest: int, n: int, most: int) -> int:
    """How many of n cases are solved side by side: few enough for the caches; a large state fills them alone.

    Turns of nearly equal size, in full registers: cases that only fill a turn take as long as the others.
    """
    fit = (most if widest <= 64 else most // 2) // WIDTH * WIDTH
    if n < 4 or widest > 512 or fit == 0:
        return 1
    turns = (n + fit - 1) // fit
    return min(fit, (n + WIDTH * turns - 1) // (WIDTH * turns) * WIDTH)


@compile_function
def _side_by_side(
    arrays: Arrays, cases: Cases, first: int, last: int, layout: Layout, program: Program, lanes: int, results: Results
) -> None:
    """Some cases that share a layout and a program, ``lanes`` at a time."""
    entries = cases.absent.shape[1]
    block = empty_block(layout, entries, lanes)
    slopes, space = empty_slopes(block, False), room(program, lanes, False)
    mantissa, exponent = np.empty(lanes), np.empty(lanes, np.intp)
    small = len(program.segment_first) == 2 and len(layout.context_slot) == 0
    for start in range(first, last, lanes):
        fill_lanes(arrays, cases, start, last, layout, lanes, block)
        if small:
            solve_lanes(program, lanes, block, space, mantissa, exponent, slopes)
        else:
            solve(program, lanes, block, space, False, mantissa, exponent, slopes)
        there = min(lanes, last - start)
        for begin in range(0, there, WIDTH):
            for e in range(entries):
                for lane in range(begin, min(begin + WIDTH, there)):
                    results.present[cases.order[start + lane], e] = slopes.present[e * lanes + lane]
        for lane in range(there):
            row = cases.order[start + lane]
            results.mantissa[row], results.exponent[row] = mantissa[lane], exponent[lane]
            _put(results, row, layout, lane, lanes, slopes)


@compile_function
def plan_group(arrays: Arrays, cases: Cases, row: int, dense: bool, effort: float) -> tuple[Layout, Program, float]:
    """The plan that a case shares with its group, and the doubles of state that it needs."""
    link_on, syndrome_on, finding_syndrome_on = _linked(arrays, cases, row)
    if dense:
        for b in range(link_on.shape[0]):
            link_on[b] = True
            finding_syndrome_on[b] = cases.seen[row]
    plan: tuple[Layout, Program, float] = plan_case(
        link_on, syndrome_on, finding_syndrome_on, cases.seen[row], arrays.depends, cases.unknown,
        arrays.requires, arrays.cause, cases.table_first, effort,
    )  # fmt: skip
    return plan


@compile_function
def run_groups(
    arrays: Arrays, cases: Cases, bounds: Ints, dense: Booleans, most: int, effort: float, limit: float, results: Results
) -> None:
    """Cases in groups that share a layout and a program; those that need more than ``limit`` doubles are left.

    ``bounds`` (G + 1,) of the groups in ``cases.order``; ``dense`` (G,): which have the plan of a case in which every cause
    and every syndrome seen has a link to every finding; ``most``: lanes at a time.
    """
    mantissa, exponent = np.empty(1), np.empty(1, np.intp)
    lane, one = len(mantissa) - 1, len(mantissa)  # no literals: numba would compile everything anew for them
    numbers = np.empty(256)
    space = Workspace(
        np.empty(KEPT), np.empty(KEPT), np.empty(KEPT), np.empty(KEPT), np.empty(KEPT), numbers, numbers, np.empty(KEPT)
    )
    for g in range(len(dense)):
        first, last = bounds[g], bounds[g + 1]
        layout, program, doubles = plan_group(arrays, cases, cases.order[first], dense[g], effort)
        for i in range(first, last):
            results.doubles[cases.order[i]] = doubles
        if doubles > limit:
            continue
        lanes = lanes_of(program.size[2], last - first, most)
        if lanes > one:
            _side_by_side(arrays, cases, first, last, layout, program, lanes, results)
            continue
        needed = _doubles(layout)
        if needed > len(numbers):
            numbers = np.empty(needed)
        for i in range(first, last):
            row = cases.order[i]
            block = _small_block(layout, cases.absent[row], cases.present[row], numbers[:needed])
            links, slots = len(block.link), len(block.entry)
            slopes = Slopes(
                results.present[row], numbers[2 * links + 3 * slots : 2 * links + 4 * slots],
                numbers[:0], numbers[:0], numbers[:0], numbers[:0],
            )  # fmt: skip
            slopes.present[:] = 1.0
            slopes.marginal[:] = 0.0
            gather(arrays, cases, i, last, layout, one, block)
            if doubles <= KEPT and len(program.segment_first) == 2 and len(layout.context_slot) == 0:
                results.mantissa[row], results.exponent[row] = solve_small(program, block, space, slopes)
            else:
                solve(
                    program, one, block, space if doubles <= KEPT else room(program, one, False), False,
                    mantissa, exponent, slopes,
                )  # fmt: skip
                results.mantissa[row], results.exponent[row] = mantissa[0], exponent[0]
            _put(results, row, layout, lane, one, slopes)
