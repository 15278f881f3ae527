"""The order of work: which cause is absorbed when, and how long each unknown context variable stays in hand.

An unknown context variable has to be kept as an axis of the state only between the first and the last cause that depends on
it. The order below keeps that set of axes small (greedy variable elimination, Zhang and Poole 1996; Dechter 1999).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Step:
    """One operation on the state: ``introduce`` or ``sum_out`` a context variable, or ``absorb`` a cause.

    ``hand`` lists the context variables that are axes of the state before the step, in axis order.
    """

    action: str
    index: int
    hand: tuple[int, ...]


@lru_cache(maxsize=4096)
def plan(
    n_causes: int, dependencies: tuple[frozenset[int], ...], unknown: frozenset[int], requires: tuple[int, ...]
) -> tuple[Step, ...]:
    """Steps that absorb every cause and sum out every unknown context variable.

    Parameters
    ----------
    n_causes : K
    dependencies : K sets of context variables that change the cause's prior
    unknown : context variables to sum out
    requires : C, the variable that each one needs, or -1
    """
    waiting = {k: dependencies[k] & unknown for k in range(n_causes)}
    steps = [Step("absorb", k, ()) for k in range(n_causes) if not waiting[k]]
    waiting = {k: needed for k, needed in waiting.items() if needed}
    pairs = {frozenset((child, requires[child])) for child in unknown if requires[child] in unknown}
    remaining = set(unknown)
    hand: list[int] = []

    def introduce(variable: int) -> None:
        parent = requires[variable]
        if parent in remaining and parent not in hand:
            introduce(parent)
        if variable not in hand:
            steps.append(Step("introduce", variable, tuple(hand)))
            hand.append(variable)

    while remaining:
        target = min(remaining, key=lambda v: (_width(v, waiting.values(), pairs, hand), v))
        for pair in sorted(pairs, key=sorted):
            if target in pair:
                for variable in sorted(pair):
                    introduce(variable)
        pairs = {pair for pair in pairs if target not in pair}
        causes = sorted((k for k, needed in waiting.items() if target in needed), key=lambda k: (len(waiting[k]), k))
        for k in causes:
            for variable in sorted(waiting[k]):
                introduce(variable)
            steps.append(Step("absorb", k, tuple(hand)))
            del waiting[k]
        introduce(target)
        steps.append(Step("sum_out", target, tuple(hand)))
        hand.remove(target)
        remaining.remove(target)
    return tuple(steps)


def _width(variable: int, needs: object, pairs: set[frozenset[int]], hand: list[int]) -> int:
    together = {variable, *hand}
    for needed in [*needs, *pairs]:  # type: ignore[misc]
        if variable in needed:
            together |= needed
    return len(together)
