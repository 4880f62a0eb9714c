"""Linear predictors of the score on the dense view, each model at its mean cost or with a predicted one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.predicting import CrossFitted, cross_fit, model_means
from proteus_router.training.heads.cost import fit_cost
from proteus_router.training.heads.kernel import observation_patterns
from proteus_router.types import FloatArray, Predictions

__all__ = ["Linear", "fit_logistic", "fit_ridge"]

Linearly = Callable[[FloatArray], FloatArray]
"""Dense rows (m, d) -> predicted scores (m, k)."""


@dataclass(frozen=True)
class Linear:
    """Ridge or logistic regression a model.

    Attributes
    ----------
    loss
        squared: ridge; log: logistic, graded scores counting as fractions of a success.
    costs
        mean: every model at its mean cost; predicted: ridge on the log cost.
    penalties
        Weights of the L2 penalty tried; the one with the least out-of-fold squared error is taken.
    """

    loss: Literal["squared", "log"]
    costs: Literal["mean", "predicted"] = "mean"
    penalties: tuple[float, ...] = (300.0, 1_000.0, 3_000.0, 10_000.0)

    def __call__(self, context: Context) -> CrossFitted:
        tried = [cross_fit(context, partial(self._fit_rows, penalty)) for penalty in self.penalties]
        scores = context.train.scores
        errors = [float(np.nanmean((fitted.out_of_fold.scores - scores) ** 2)) for fitted in tried]
        return tried[int(np.argmin(errors))]

    def _fit_rows(
        self, penalty: float, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], Predictions]:
        fit = fit_ridge if self.loss == "squared" else fit_logistic
        scorer = fit(features.dense, scores, penalty)
        pricer = _predicted_costs if self.costs == "predicted" else _mean_costs
        price = pricer(features.dense, costs_usd)
        return lambda other: Predictions(np.clip(scorer(other.dense), 0.0, 1.0), price(other.dense))


def fit_ridge(inputs: FloatArray, targets: FloatArray, penalty: float) -> Linearly:
    """Ridge regression of every column of `targets` (n, k; NaN missing), intercept free."""
    d, k = inputs.shape[1], targets.shape[1]
    weights, intercept = np.zeros((d, k)), model_means(targets)
    for rows, columns in observation_patterns(~np.isnan(targets)):
        if rows.size:
            x, y = inputs[rows], targets[np.ix_(rows, columns)]
            centre, mean = x.mean(axis=0), y.mean(axis=0)
            x = x - centre
            weights[:, columns] = np.linalg.solve(x.T @ x + penalty * np.eye(d), x.T @ (y - mean))
            intercept[columns] = mean - centre @ weights[:, columns]
    return lambda other: np.asarray(other @ weights + intercept)


def fit_logistic(inputs: FloatArray, targets: FloatArray, penalty: float) -> Linearly:
    """Logistic regression of every column of `targets` (n, k; NaN missing; in [0, 1]), intercept free.

    A score between 0 and 1 counts as that share of a success. A column whose scores are all 0, or all 1, is
    predicted as its mean.
    """
    from sklearn.linear_model import LogisticRegression

    d, k = inputs.shape[1], targets.shape[1]
    weights, intercept = np.zeros((d, k)), np.zeros(k)
    mean = model_means(targets)
    constant = (mean <= 0.0) | (mean >= 1.0)
    for column in np.flatnonzero(~constant):
        rows = np.flatnonzero(~np.isnan(targets[:, column]))
        y = targets[rows, column]
        right, wrong = rows[y > 0], rows[y < 1]
        model = LogisticRegression(C=1.0 / penalty, solver="newton-cholesky")
        model.fit(
            inputs[np.concatenate([right, wrong])],
            np.concatenate([np.ones(right.size), np.zeros(wrong.size)]),
            sample_weight=np.concatenate([y[y > 0], 1.0 - y[y < 1]]),
        )
        weights[:, column], intercept[column] = model.coef_[0], model.intercept_[0]

    def predict(other: FloatArray) -> FloatArray:
        fitted: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * (other @ weights + intercept)))
        return np.where(constant, mean, fitted)

    return predict


def _mean_costs(inputs: FloatArray, costs_usd: FloatArray) -> Linearly:
    means = model_means(costs_usd)
    return lambda other: np.tile(means, (len(other), 1))


def _predicted_costs(inputs: FloatArray, costs_usd: FloatArray) -> Linearly:
    solution = fit_cost(inputs, costs_usd, np.arange(len(inputs)), alpha=10.0)
    return lambda other: np.exp(other @ solution.weights + solution.intercept)
