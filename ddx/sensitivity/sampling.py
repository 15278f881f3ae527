"""Parameter uncertainty by Monte Carlo: credible intervals of posteriors, and Sobol indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddx.diagnosis import Model
from ddx.draws import posterior_draws, posterior_under
from ddx.errors import UsageError, whole
from ddx.inference.network import Floats
from ddx.knowledge import Parameter
from ddx.sensitivity.case import Case, cause_index, check_level, chosen, diagnosis_of, encoded_cases, parameter_of
from ddx.sensitivity.oneway import one_way
from ddx.values import inside

# Batches of draws whose quantiles tell how far the quantiles of all draws can be off.
_BATCHES = 10


def intervals(model: Model, cases: pd.DataFrame, draws: int = 2000, seed: int = 0, level: float = 0.9) -> pd.DataFrame:
    """Credible intervals of every posterior under the uncertainty of all parameters.

    Parameters
    ----------
    cases : as for ``Model.score``
    draws : of all parameters; each is drawn once a draw, whatever shares it, and serves all cases. At least 100
    level : coverage of the interval

    Returns
    -------
    A row per case and cause (index: case, cause): posterior (at the means of the parameters), mean (over the draws), low, high,
    and error_low, error_high: standard errors of the two quantiles by Monte Carlo, from ten batches of draws.

    Raises
    ------
    UsageError, CaseError
        As for ``Model.score``; fewer than 100 draws.

    Notes
    -----
    Holds draws x cases x causes doubles. With known risk factors a draw of limb takes about 1 ms for one case, 4 for forty and
    9 for eighty; unknown ones cost some 5 ms for every case.

    Where populations differ as the pooling assumes, 90 % intervals of pooled parameters cover a new population in 85 to 90 %
    (rare findings, about 2 %: 84 to 88 %); tests/test_coverage.py simulates it.
    """
    whole("draws", draws)
    if draws < 100:
        raise UsageError(f"draws: got {draws}, expected at least 100: quantiles of fewer say nothing")
    check_level(level)
    evidence = encoded_cases(model, cases)
    causes = model.network.causes
    drawn = posterior_draws(model, evidence, draws, seed)
    ends = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    low, high = np.quantile(drawn, ends, axis=0)
    by_batch = np.stack([np.quantile(batch, ends, axis=0) for batch in np.array_split(drawn, _BATCHES)])
    error = by_batch.std(axis=0, ddof=1) / np.sqrt(_BATCHES)
    columns = {
        "posterior": model.network.posterior(evidence).marginal,
        "mean": drawn.mean(axis=0),
        "low": low,
        "high": high,
        "error_low": error[0],
        "error_high": error[1],
    }
    index = pd.MultiIndex.from_product([cases.index, causes], names=["case", "cause"])
    return pd.DataFrame({name: array.ravel() for name, array in columns.items()}, index=index)


def sobol(
    model: Model,
    case: Case,
    target: str,
    parameters: Sequence[str] | None = None,
    n: int = 1024,
    seed: int = 0,
) -> pd.DataFrame:
    """Sobol indices of P(target | evidence): shares of its variance, interactions included (with SALib).

    Parameters
    ----------
    parameters : ids; default: the ten with the widest one-way swing. The others stay at their means
    n : base samples, a power of two; n (D + 2) posteriors are computed for D parameters

    Returns
    -------
    A row per parameter, largest total first: first, first_error, total, total_error (half widths of 95 % intervals).

    Raises
    ------
    UsageError
        Unknown target or parameter, ``n`` is no power of two, or a seed below 0.
    ImportError
        SALib is missing: pip install "ddx[sensitivity]".
    """
    whole("n", n)
    whole("seed", seed, 0)
    if n < 2 or n & (n - 1):
        raise UsageError(f"n: got {n}, expected a power of two")
    try:
        from SALib.analyze.sobol import analyze
        from SALib.sample.sobol import sample
    except ImportError as error:
        raise ImportError('Sobol indices need SALib: pip install "ddx[sensitivity]"') from error

    column, evidence = cause_index(model, target), diagnosis_of(model, case).evidence
    ids = chosen(model, parameters) if parameters is not None else list(one_way(model, case, target).index[:10])
    if not ids:
        raise UsageError("parameters: got none, expected ids of parameters that vary")
    own = [parameter_of(model, p) for p in ids]
    problem = {"num_vars": len(ids), "names": ids, "bounds": [[0.0, 1.0]] * len(ids)}
    unit = np.clip(sample(problem, n, calc_second_order=False, seed=seed), 1e-9, 1.0 - 1e-9)
    values = np.column_stack([_quantile(p, unit[:, i]) for i, p in enumerate(own)])
    moves = [dict(zip(ids, row, strict=True)) for row in values.tolist()]
    outcome = posterior_under(model, evidence, moves)[:, column]
    found = analyze(problem, outcome, calc_second_order=False, seed=seed)
    names = {"first": "S1", "first_error": "S1_conf", "total": "ST", "total_error": "ST_conf"}
    table = pd.DataFrame({name: found[key] for name, key in names.items()}, index=pd.Index(ids, name="parameter"))
    return table.sort_values("total", ascending=False, kind="stable")


def _quantile(parameter: Parameter, unit: Floats) -> Floats:
    """Quantiles of the parameter's distribution."""
    from scipy.special import betaincinv, ndtri

    if parameter.distribution == "log_normal":
        return inside(parameter, np.exp(parameter.first + parameter.second * ndtri(unit)) * parameter.scale)
    return inside(parameter, betaincinv(parameter.first, parameter.second, unit))
