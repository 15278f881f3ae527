"""What ``rows`` does with masks and products of matrices, as machine code over lists: the same bits, a tenth of the time.

Sums over findings are exact before their last rounding (see ``rows.exact_sum``), so lists and masks give the same numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddx.inference.kernel_base import compile_function
from ddx.inference.layout import Booleans
from ddx.inference.network import Floats, Ints

Bits = NDArray[np.uint64]
_MANY = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@compile_function
def listed(values: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    """Columns of values that are 0, row after row: bounds (n + 1,) and columns; the same of values above 0."""
    n, width = values.shape
    absent_first, present_first = np.zeros(n + 1, np.intp), np.zeros(n + 1, np.intp)
    for i in range(n):
        absent, present = 0, 0
        for f in range(width):
            absent += values[i, f] == 0.0
            present += values[i, f] > 0.0
        absent_first[i + 1] = absent_first[i] + absent
        present_first[i + 1] = present_first[i] + present
    absent_column, present_column = np.empty(absent_first[n], np.intp), np.empty(present_first[n], np.intp)
    for i in range(n):
        a, p = absent_first[i], present_first[i]
        if a == absent_first[i + 1] and p == present_first[i + 1]:
            continue
        for f in range(width):
            if values[i, f] == 0.0:
                absent_column[a] = f
                a += 1
            elif values[i, f] > 0.0:
                present_column[p] = f
                p += 1
    return absent_first, absent_column, present_first, present_column


@compile_function
def part(first: Ints, column: Ints, wanted: Booleans) -> tuple[Ints, Ints]:
    """The columns of lists that are wanted (F,)."""
    n = len(first) - 1
    new_first, new = np.zeros(n + 1, np.intp), np.empty(len(column), np.intp)
    o = 0
    for i in range(n):
        for p in range(first[i], first[i + 1]):
            if wanted[column[p]]:
                new[o] = column[p]
                o += 1
        new_first[i + 1] = o
    return new_first, new[:o]


@compile_function
def sum_listed(first: Ints, column: Ints, place: Ints, high: Floats, low: Floats) -> Floats:
    """Sums (n, X) over the columns of every list of the rows ``place[column]`` of two-part numbers; see ``rows.exact_sum``."""
    n, width = len(first) - 1, high.shape[1]
    total, rest = np.zeros((n, width)), np.empty(width)
    for i in range(n):
        out = total[i]
        rest[:] = 0.0
        for p in range(first[i], first[i + 1]):
            x, y = high[place[column[p]]], low[place[column[p]]]
            for k in range(width):
                out[k] += x[k]
                rest[k] += y[k]
        for k in range(width):
            out[k] += rest[k]
    return total


@compile_function
def sum_values(first: Ints, high: Floats, low: Floats) -> Floats:
    """The same (n,) where every list has numbers of its own."""
    n = len(first) - 1
    total = np.zeros(n)
    for i in range(n):
        x, y = 0.0, 0.0
        for p in range(first[i], first[i + 1]):
            x += high[p]
            y += low[p]
        total[i] = x + y
    return total


@compile_function
def mark(first: Ints, column: Ints, on: Booleans, seen: Booleans) -> None:
    """Syndromes with a link to a listed finding: ``on`` (F, J) into ``seen`` (n, J)."""
    for i in range(len(first) - 1):
        for p in range(first[i], first[i + 1]):
            for j in range(on.shape[1]):
                if on[column[p], j]:
                    seen[i, j] = True


@compile_function
def add_hash(bits: Bits, hashed: Bits) -> None:
    """Numbers (n,) that tell rows (n, X) apart, on top of what they were."""
    n, width = bits.shape
    for i in range(n):
        a, b = hashed[i], hashed[i] + _MANY
        for x in range(0, width - 1, 2):
            a = (a ^ bits[i, x]) * _MANY
            b = (b ^ bits[i, x + 1]) * _MANY
            a ^= a >> _HALF
            b ^= b >> _HALF
        if width % 2:
            a = (a ^ bits[i, width - 1]) * _MANY
            a ^= a >> _HALF
        hashed[i] = (a ^ (b * _MANY)) * _MANY


@compile_function
def match(hashed: Bits) -> tuple[Ints, Ints]:
    """First index of every distinct number, in the order of appearance, and which of them each one is (n,)."""
    n = len(hashed)
    size = 16
    while size < 2 * n:
        size *= 2
    slots, mask = np.full(size, -1, np.intp), np.uint64(size - 1)
    first, inverse, count = np.empty(n, np.intp), np.empty(n, np.intp), 0
    for i in range(n):
        at = (hashed[i] ^ (hashed[i] >> _HALF)) & mask
        while slots[at] >= 0 and hashed[first[slots[at]]] != hashed[i]:
            at = (at + np.uint64(1)) & mask
        if slots[at] < 0:
            slots[at] = count
            first[count] = i
            count += 1
        inverse[i] = slots[at]
    return first[:count].copy(), inverse


@compile_function
def alike(bits: Bits, first: Ints, inverse: Ints) -> bool:
    """Whether every row (n, X) equals the one that it was matched with."""
    for i in range(len(inverse)):
        j = first[inverse[i]]
        if i != j:
            for x in range(bits.shape[1]):
                if bits[i, x] != bits[j, x]:
                    return False
    return True


@compile_function
def signatures(first: Ints, column: Ints, seen: Booleans, dense: Booleans) -> tuple[Ints, Ints]:
    """Cases in groups of equal lists and equal ``seen`` (n, J): their order, and bounds of the groups in it.

    Lists of ``dense`` (n,) cases are equal if they are equally long.
    """
    n = len(first) - 1
    hashed = np.zeros(n, np.uint64)
    for i in range(n):
        a = _MANY
        if dense[i]:
            a = (a ^ np.uint64(first[i + 1] - first[i])) * _MANY
        else:
            for p in range(first[i], first[i + 1]):
                a = (a ^ np.uint64(column[p] + 1)) * _MANY
                a ^= a >> _HALF
        for j in range(seen.shape[1]):
            a = (a + a) ^ (a >> np.uint64(63)) ^ np.uint64(seen[i, j])
        hashed[i] = a * _MANY
    size = 16
    while size < 2 * n:
        size *= 2
    slots, mask = np.full(size, -1, np.intp), np.uint64(size - 1)
    group, leader, count = np.empty(n, np.intp), np.empty(n, np.intp), 0
    members = np.zeros(n + 1, np.intp)
    for i in range(n):
        at = (hashed[i] ^ (hashed[i] >> _HALF)) & mask
        while slots[at] >= 0:
            j = leader[slots[at]]
            same = hashed[i] == hashed[j] and dense[i] == dense[j] and first[i + 1] - first[i] == first[j + 1] - first[j]
            if same:
                for p in range(0 if dense[i] else first[i + 1] - first[i]):
                    same = same and column[first[i] + p] == column[first[j] + p]
                for x in range(seen.shape[1]):
                    same = same and seen[i, x] == seen[j, x]
            if same:
                break
            at = (at + np.uint64(1)) & mask
        if slots[at] < 0:
            slots[at] = count
            leader[count] = i
            count += 1
        group[i] = slots[at]
        members[slots[at] + 1] += 1
    for g in range(count):
        members[g + 1] += members[g]
    order, at_ = np.empty(n, np.intp), members[:count].copy()
    for i in range(n):
        order[at_[group[i]]] = i
        at_[group[i]] += 1
    return order, members[: count + 1].copy()


@compile_function
def join(absent: Floats, present: Floats, which: Ints, escape: Floats) -> tuple[Floats, Floats, Floats]:
    """Priors (U, K) of every case (n,) times P(absent findings | cause): both divided by their sum, and the sum (n, K)."""
    n, width = escape.shape
    scaled, joint, unit = np.empty((n, width)), np.empty((n, width)), np.empty((n, width))
    for i in range(n):
        a, b = absent[which[i]], present[which[i]]
        for k in range(width):
            y = b[k] * escape[i, k]
            u = a[k] + y
            unit[i, k] = u
            scaled[i, k] = a[k] / u
            joint[i, k] = y / u
    return scaled, joint, unit
