"""A new model's heads from a few outcomes: what it has in common with the models that are known.

A hundred labels are too few to learn from words. They are enough to say which known models the new one resembles: its
score is regressed on their scores on the same queries, by ridge towards their plain mean. Whatever predicts them then
predicts it. The same regression fills in its score where only the others were asked, with less noise than its labels have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.data.splits import fold_ids
from proteus_router.types import FloatArray, IntArray

__all__ = ["Transfer", "fit_transfer"]

_PENALTIES = np.geomspace(0.1, 1_000.0, 17)
_FOLDS = 10
_LEAST_COST = 1e-3
"""Least cost taken into the logarithm, relative to the mean."""


@dataclass(frozen=True)
class Transfer:
    """The new model in terms of the k known ones.

    Attributes
    ----------
    weights, bias
        (k,) and a number: predicted score = bias + predicted scores of the others @ weights.
    cost_weights, cost_bias
        The same for log cost.
    imputed
        (n,) its mean score on every row, given how the others did there; its own outcomes where they are known.
    leave_out
        (n,) predicted scores; on rows where it was observed, by a fit without their text group.
    leave_out_cost_usd
        (n,) predicted costs.
    """

    weights: FloatArray
    bias: float
    cost_weights: FloatArray
    cost_bias: float
    imputed: FloatArray
    leave_out: FloatArray
    leave_out_cost_usd: FloatArray


def fit_transfer(
    predicted: FloatArray,
    predicted_costs_usd: FloatArray,
    scores: FloatArray,
    own_scores: FloatArray,
    own_costs_usd: FloatArray,
    groups: IntArray,
) -> Transfer:
    """Fit on the rows where the new model was observed.

    Parameters
    ----------
    predicted, predicted_costs_usd, scores
        (n, k) of the known models: out-of-fold predictions, and outcomes with NaN where missing.
    own_scores, own_costs_usd
        (n,) of the new model, NaN where it was not asked.
    groups
        (n,) text group.
    """
    labelled = np.flatnonzero(~np.isnan(own_scores))
    folds = fold_ids(groups[labelled], min(_FOLDS, np.unique(groups[labelled]).size), 0)
    others = np.where(np.isnan(scores), predicted, scores)
    score = _cross_fitted(others[labelled], own_scores[labelled], folds)
    imputed = np.clip(others @ score.weights + score.bias, 0.0, 1.0)
    imputed[labelled] = own_scores[labelled]
    leave_out = predicted @ score.weights + score.bias
    leave_out[labelled] = score.held_out(predicted[labelled])

    logs, paid = np.log(predicted_costs_usd), own_costs_usd[labelled]
    level = float(paid.mean())
    cost = _cross_fitted(logs[labelled], np.log(np.maximum(paid / level, _LEAST_COST)), folds)
    shape = np.exp(logs @ cost.weights + cost.bias)
    scale = level / float(
        shape[labelled].mean()
    )  # the mean of a logarithm's prediction is not that of the cost
    return Transfer(
        weights=score.weights,
        bias=score.bias,
        cost_weights=cost.weights,
        cost_bias=cost.bias + float(np.log(scale)),
        imputed=imputed,
        leave_out=leave_out,
        leave_out_cost_usd=shape * scale,
    )


@dataclass(frozen=True)
class _Line:
    """A ridge line, and the lines that were fitted without each fold."""

    weights: FloatArray
    bias: float
    without: tuple[tuple[FloatArray, float], ...]
    folds: IntArray

    def held_out(self, inputs: FloatArray) -> FloatArray:
        """(m,) values on rows of the fit, each by the line that has not seen its fold."""
        values = np.empty(len(inputs))
        for fold, (weights, bias) in enumerate(self.without):
            rows = self.folds == fold
            values[rows] = inputs[rows] @ weights + bias
        return values


def _cross_fitted(inputs: FloatArray, goal: FloatArray, folds: IntArray) -> _Line:
    """Ridge towards equal weights, with the penalty that predicts held-out folds best."""
    best: tuple[float, _Line] | None = None
    for penalty in _PENALTIES:
        without = tuple(
            _ridge(inputs[folds != fold], goal[folds != fold], penalty)
            for fold in range(int(folds.max()) + 1)
        )
        line = _Line(*_ridge(inputs, goal, penalty), without, folds)
        error = float(((line.held_out(inputs) - goal) ** 2).mean())
        if best is None or error < best[0]:
            best = error, line
    assert best is not None
    return best[1]


def _ridge(inputs: FloatArray, goal: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    k = inputs.shape[1]
    prior = np.full(k, 1.0 / k)
    mean, middle = inputs.mean(axis=0), float(goal.mean())
    centred = inputs - mean
    left = goal - middle - centred @ prior
    weights = prior + np.linalg.solve(centred.T @ centred + penalty * np.eye(k), centred.T @ left)
    return weights, middle - float(mean @ weights)
