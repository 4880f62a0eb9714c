"""Linear predictors of the score on the dense view, each model at its mean cost or with a predicted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.predicting import CrossFitted, cost_head, cross_fit, mean_cost_head, model_means
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
    penalties: tuple[float, ...] = (300.0, 1_000.0, 3_000.0)

    def __call__(self, context: Context) -> CrossFitted:
        scores = context.train.scores
        tried = [cross_fit(context, partial(self._fit_rows, penalty)) for penalty in self.penalties]
        errors = [float(np.nanmean((out_of_fold - scores) ** 2)) for out_of_fold, _ in tried]
        out_of_fold, score = tried[int(np.argmin(errors))]
        own_costs, cost = (cost_head if self.costs == "predicted" else mean_cost_head)(context)

        def predict(texts: Sequence[str]) -> Predictions:
            features = context.features_of(texts)
            return Predictions(score(features), cost(features))

        return CrossFitted(Predictions(out_of_fold, own_costs), predict)

    def _fit_rows(
        self, penalty: float, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], FloatArray]:
        score = (fit_ridge if self.loss == "squared" else fit_logistic)(features.dense, scores, penalty)
        return lambda other: np.clip(score(other.dense), 0.0, 1.0)


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
