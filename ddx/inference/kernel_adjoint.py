"""Cases with all derivatives through the compiled kernel: what ``adjoint`` does with the NumPy kernel, to the same bits."""

from __future__ import annotations

import numpy as np

from ddx.inference import adjoint as _adjoint
from ddx.inference.adjoint import CaseSlopes, Collected, Weights
from ddx.inference.kernel import room, solve
from ddx.inference.kernel_base import compile_function
from ddx.inference.kernel_cases import empty_block, empty_slopes, lanes_of, plan_group
from ddx.inference.kernel_gather import Arrays, Cases, fill_lanes
from ddx.inference.layout import Booleans
from ddx.inference.network import Ints

part = compile_function(_adjoint.part)
collect = compile_function(_adjoint.collect)


@compile_function
def run_adjoint(
    arrays: Arrays, cases: Cases, bounds: Ints, dense: Booleans, most: int, effort: float, limit: float, collected: Collected
) -> None:
    """Parameters as for ``run_groups``; rows of ``collected`` are filled."""
    entries = cases.absent.shape[1]
    full = entries >= 0  # True, and no literal: numba would compile everything anew for it
    for g in range(len(dense)):
        first, last = bounds[g], bounds[g + 1]
        layout, program, doubles = plan_group(arrays, cases, cases.order[first], dense[g], effort)
        for i in range(first, last):
            collected.doubles[cases.order[i]] = doubles
        if doubles > limit:
            continue
        lanes = lanes_of(program.size[2], last - first, most)
        block = empty_block(layout, entries, lanes)
        slopes, space = empty_slopes(block, full), room(program, lanes, full)
        mantissa, exponent = np.empty(lanes), np.empty(lanes, np.intp)
        for start in range(first, last, lanes):
            fill_lanes(arrays, cases, start, last, layout, lanes, block)
            solve(program, lanes, block, space, full, mantissa, exponent, slopes)
            for lane in range(min(lanes, last - start)):
                row = cases.order[start + lane]
                at, begin, end = cases.at[row], cases.first[row], cases.first[row + 1]
                collected.mantissa[row], collected.exponent[row] = mantissa[lane], exponent[lane]
                for e in range(entries):
                    collected.absent[row, e] = slopes.absent[e * lanes + lane]
                    collected.present[row, e] = slopes.present[e * lanes + lane]
                weights = Weights(
                    arrays.link[min(at, arrays.link.shape[0] - 1)],
                    arrays.leak[min(at, arrays.leak.shape[0] - 1)],
                    arrays.syndrome_link[min(at, arrays.syndrome_link.shape[0] - 1)],
                    arrays.finding_syndrome[min(at, arrays.finding_syndrome.shape[0] - 1)],
                )
                own_slopes = CaseSlopes(
                    slopes.marginal[lane::lanes], slopes.link[lane::lanes], slopes.entry[lane::lanes],
                    slopes.factor[lane::lanes],
                )  # fmt: skip
                own = part(collected, row, begin, end)
                collect(layout, cases.finding[begin:end], cases.value[begin:end], weights, own_slopes, own)
