"""The order of work: which cause is absorbed when, and how long each variable stays an axis of the state.

A variable is an unknown context variable, or the "explained so far" bit of a present or uncertain finding. It has to be
kept from the first to the last cause that touches it. The order below keeps the state small by greedy variable elimination
(Zhang and Poole 1996; Kjaerulff 1990 on greedy orders).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Step:
    """One operation on the state: ``introduce`` or ``sum_out`` a variable, or ``absorb`` a cause.

    ``hand`` lists the variables that are axes of the state before the step, in axis order.
    """

    action: str
    index: int
    hand: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Steps, and the doubles of all states that they keep for one case: what the work and the memory grow with."""

    steps: tuple[Step, ...]
    doubles: int


@lru_cache(maxsize=4096)
def plan(touched: tuple[frozenset[int], ...], variables: frozenset[int], requires: tuple[int, ...]) -> Plan:
    """The cheapest of a few greedy orders.

    Parameters
    ----------
    touched : K sets, the variables that each cause depends on or may change
    variables : all variables, those that no cause touches included
    requires : variable -> the variable that it needs, or -1; variables beyond its end need none
    """
    pairs = frozenset(
        frozenset((child, parent)) for child, parent in enumerate(requires) if child in variables and parent in variables
    )
    parent = {child: requires[child] for child in variables if child < len(requires) and requires[child] in variables}
    orders = (_narrowest, _fewest_causes, _fewest_new)
    plans = [_Planner(touched, variables, pairs, parent).run(order) for order in orders]
    return min(plans, key=lambda p: p.doubles)


class _Planner:
    def __init__(
        self,
        touched: tuple[frozenset[int], ...],
        variables: frozenset[int],
        pairs: frozenset[frozenset[int]],
        parent: dict[int, int],
    ) -> None:
        self.steps = [Step("absorb", k, ()) for k, needed in enumerate(touched) if not needed]
        self.waiting = {k: needed for k, needed in enumerate(touched) if needed}
        self.pairs, self.parent = set(pairs), parent
        self.remaining = set(variables)
        self.hand: list[int] = []

    def run(self, order: Callable[[_Planner, int], tuple[int, ...]]) -> Plan:
        while self.remaining:
            self._finish(min(self.remaining, key=lambda v: (*order(self, v), v)))
        return Plan(tuple(self.steps), sum(1 << len(step.hand) for step in self.steps))

    def together(self, variable: int) -> set[int]:
        """Everything that is in hand when the variable can be summed out."""
        reached = {variable, *self.hand}
        for needed in (*self.waiting.values(), *self.pairs):
            if variable in needed:
                reached |= needed
        return reached

    def _introduce(self, variable: int) -> None:
        parent = self.parent.get(variable)
        if parent in self.remaining and parent is not None:
            self._introduce(parent)
        if variable not in self.hand:
            self.steps.append(Step("introduce", variable, tuple(self.hand)))
            self.hand.append(variable)

    def _finish(self, target: int) -> None:
        """Absorb every cause that touches the variable, then sum it out, and whatever else nothing touches any more."""
        for pair in sorted(self.pairs, key=sorted):
            if target in pair:
                for variable in sorted(pair):
                    self._introduce(variable)
        self.pairs = {pair for pair in self.pairs if target not in pair}
        causes = [k for k, needed in self.waiting.items() if target in needed]
        while causes:
            hand = set(self.hand)
            k = min(causes, key=lambda c: (len(self.waiting[c] - hand), c))
            for variable in sorted(self.waiting[k]):
                self._introduce(variable)
            self.steps.append(Step("absorb", k, tuple(self.hand)))
            del self.waiting[k]
            causes.remove(k)
            self._sum_out_done(target)
        self._introduce(target)
        self._sum_out(target)

    def _sum_out_done(self, target: int) -> None:
        busy = {target}.union(*self.waiting.values(), *self.pairs)
        for variable in [v for v in self.hand if v not in busy]:
            self._sum_out(variable)

    def _sum_out(self, variable: int) -> None:
        self.steps.append(Step("sum_out", variable, tuple(self.hand)))
        self.hand.remove(variable)
        self.remaining.remove(variable)


def _narrowest(planner: _Planner, variable: int) -> tuple[int, ...]:
    return (len(planner.together(variable)),)


def _fewest_causes(planner: _Planner, variable: int) -> tuple[int, ...]:
    causes = sum(variable in needed for needed in planner.waiting.values())
    return (causes, len(planner.together(variable)))


def _fewest_new(planner: _Planner, variable: int) -> tuple[int, ...]:
    return (len(planner.together(variable)) - len(planner.hand) - (variable in planner.hand), -len(planner.hand))
