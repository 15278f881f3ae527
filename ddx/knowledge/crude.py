"""What was counted in everybody, without what the modelled risk factors and causes bring to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ddx.knowledge.schema import Context


def log_raised(context: Mapping[str, Context], frequency: Mapping[str, float], ratios: Mapping[str, float]) -> float:
    """Log of what the risk factors multiply the odds of a cause by, on average over people, where the cause is rare.

    Parameters
    ----------
    frequency : risk factor -> how many have it, of those who have what it requires
    ratios : risk factor -> odds ratio, of those that matter
    """
    needed = dict.fromkeys(y for x in ratios for y in (context[x].requires, x) if y in frequency)

    def raised(x: str) -> float:
        ratio = ratios.get(x, 1.0)
        for child in needed:
            if context[child].requires == x:
                ratio *= raised(child)
        return 1.0 + frequency[x] * (ratio - 1.0)

    return sum(math.log(raised(x)) for x in needed if not context[x].requires)


def leak_beside(frequency: float, counted: Sequence[tuple[float, float]], bridged: Sequence[tuple[float, float]]) -> float:
    """The leak beside which the modelled causes make a finding as frequent as it was counted; 0 or less where they make more.

    1 - frequency = (1 - leak) prod_k (1 - prior_k w_k), and 1 - sensitivity_k = (1 - leak) (1 - w_k).

    Parameters
    ----------
    counted : prior and sensitivity of causes with a sensitivity of their own, which counts the leak in
    bridged : prior and w of causes that reach the finding through syndromes alone
    """
    through = math.prod(1.0 - prior * w for prior, w in bridged)
    leak = found = 0.0
    for _ in range(100):  # contracts by the sum of the priors, or so
        escape = through
        for prior, sensitivity in counted:
            escape *= 1.0 - prior * max(1.0 - (1.0 - sensitivity) / (1.0 - leak), 0.0)
        found = 1.0 - (1.0 - frequency) / escape
        if found <= 0.0 or abs(found - leak) <= 1e-15:
            break
        leak = found
    return found
