"""Predicted cost: ridge on log cost, smeared so that each model's mean prediction is its mean cost.

Log costs shift when costs are scaled and the intercept is free, so scaling all costs by a constant scales the
predictions by it. A model that is free (or sometimes free) gets a small positive cost relative to the pool's
cheapest, so that the order of prices stays meaningful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.training.heads.kernel import observation_patterns
from proteus_router.types import FloatArray, IntArray

__all__ = ["CostSolution", "fit_cost"]

_FREE = 1e-6
"""Predicted cost of a model that never cost anything, relative to the cheapest mean cost of the others."""
_FLOOR = 1e-3
"""Least cost taken into the logarithm, relative to the model's mean cost."""


@dataclass(frozen=True, slots=True)
class CostSolution:
    """c(x) = exp(intercept + z(x)' weights), smearing included in the intercept.

    Attributes
    ----------
    weights, intercept
        (d, k), (k,).
    oof
        (n, k) leave-group-out predictions in USD.
    """

    weights: FloatArray
    intercept: FloatArray
    oof: FloatArray


def fit_cost(inputs: FloatArray, costs_usd: FloatArray, groups: IntArray, alpha: float) -> CostSolution:
    """Ridge of log cost on `inputs` (n, d) for every model; `costs_usd` (n, k), NaN missing.

    The intercept is not penalised. Costs may be zero.
    """
    n, d = inputs.shape
    k = costs_usd.shape[1]
    weights, intercept, log_oof = np.zeros((d, k)), np.zeros(k), np.zeros((n, k))
    seen = ~np.isnan(costs_usd)
    mean = np.where(seen, costs_usd, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    charged = mean > 0
    stand_in = _FREE * (mean[charged].min() if charged.any() else 1.0)
    level = np.where(charged, mean, stand_in)
    logs = np.log(np.maximum(costs_usd / level, _FLOOR))
    logs[:, ~charged] = np.where(seen[:, ~charged], 0.0, np.nan)
    for rows, columns in observation_patterns(seen):
        fitted = _ridge(inputs, rows, logs[np.ix_(rows, columns)], groups, alpha)
        weights[:, columns], intercept[columns], log_oof[:, columns] = fitted
    shape = np.exp(log_oof)
    smearing = np.where(seen, costs_usd / level, 0.0).sum(axis=0) / np.where(seen, shape, 0.0).sum(axis=0)
    smearing = np.where(charged, smearing, 1.0)
    return CostSolution(weights, intercept + np.log(level) + np.log(smearing), shape * smearing * level)


def _ridge(
    inputs: FloatArray, rows: IntArray, y: FloatArray, groups: IntArray, alpha: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights, intercept, and leave-group-out predictions for all rows (block identity on I - H)."""
    x = inputs[rows]
    mean = x.mean(axis=0)
    centred = x - mean
    moment = centred.T @ centred
    moment.flat[:: len(moment) + 1] += alpha
    root = np.linalg.inv(np.linalg.cholesky(moment))  # root' root = moment^-1
    y_mean = y.mean(axis=0)
    weights = root.T @ (root @ (centred.T @ (y - y_mean)))
    intercept = y_mean - mean @ weights
    predicted = inputs @ weights + intercept
    spread = (inputs - mean) @ root.T  # hat(i, j) = 1/n + spread_i . spread_j
    m = len(rows)
    members_of: dict[int, list[int]] = {}
    for position, group in enumerate(groups[rows]):
        members_of.setdefault(int(group), []).append(position)
    out = predicted.copy()
    for row, group in enumerate(groups):
        members = members_of.get(int(group))
        if members is None:
            continue
        own = spread[rows[members]]
        block = np.eye(len(members)) - own @ own.T - 1.0 / m
        residual = np.linalg.solve(block, y[members] - predicted[rows[members]])
        out[row] = predicted[row] - (own @ spread[row] + 1.0 / m) @ residual
    return weights, intercept, out
