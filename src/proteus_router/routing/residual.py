"""The query-dependent policy: operating points whose quality preference leans on a summary of the query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.routing.points import cheapest_argmax
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions

__all__ = ["SUMMARY_FEATURES", "ResidualPolicy", "summary_features"]

SUMMARY_FEATURES = (
    "best predicted score",
    "lead of the best over the second best",
    "mean predicted score",
    "spread of predicted scores",
    "predicted score of the cheapest model",
    "log cost of the best over the cheapest",
    "log mean predicted cost",
)

_TINY_USD = 1e-12  # under any price per request; keeps a free model's logarithm finite


def summary_features(predictions: Predictions, cost_unit_usd: float) -> FloatArray:
    """(n, 7) features of a query's predictions, named in `SUMMARY_FEATURES`.

    They do not depend on the order of the models, nor, through `cost_unit_usd`, on the currency. A model
    that is not available (predicted score -inf) counts as 0.
    """
    scores = np.maximum(predictions.scores, 0.0)
    costs = predictions.costs_usd
    rows = np.arange(scores.shape[0])
    best = cheapest_argmax(scores, costs)
    cheapest = cheapest_argmax(-costs, -scores)
    second_best = np.partition(scores, -2, axis=1)[:, -2]
    return np.column_stack(
        [
            scores[rows, best],
            scores[rows, best] - second_best,
            scores.mean(axis=1),
            scores.std(axis=1),
            scores[rows, cheapest],
            np.log((costs[rows, best] + _TINY_USD) / (costs[rows, cheapest] + _TINY_USD)),
            np.log((costs.mean(axis=1) + _TINY_USD) / cost_unit_usd),
        ]
    )


@dataclass(frozen=True)
class ResidualPolicy:
    """Points ``argmax_i p_i + mu b_i - price (1 - mu)^gamma c_i`` with mu = sigmoid(logit + f(x) . weights).

    Attributes
    ----------
    logit
        (n_points,) of the quality preference at the average query.
    weights
        (n_points, 7), lambda-gated weights of the standardised summary features.
    boosts
        (n_models,)
    gamma, price_at_zero
        Sensitivity to cost, and the price of one USD at mu = 0.
    feature_mean, feature_scale
        (7,) of the training rows.
    cost_unit_usd
        Unit of the cost feature.
    fixed
        (n_points,) index of the model that takes every query, -1 where the rule chooses.
    """

    logit: FloatArray
    weights: FloatArray
    boosts: FloatArray
    gamma: float
    price_at_zero: float
    feature_mean: FloatArray
    feature_scale: FloatArray
    cost_unit_usd: float
    fixed: IntArray

    kind = "residual"

    @property
    def n_points(self) -> int:
        return int(self.logit.size)

    def choose(self, predictions: Predictions, point: int) -> IntArray:
        """(n_queries,) model index; ties go to the lower predicted cost."""
        return self._choose(predictions, point, self._features(predictions))

    def choose_all(self, predictions: Predictions) -> IntArray:
        """(n_points, n_queries) model index of every operating point."""
        features = self._features(predictions)
        choices = np.empty((self.n_points, features.shape[0]), dtype=np.int64)
        for point in range(self.n_points):
            choices[point] = self._choose(predictions, point, features)
        return choices

    def take(self, points: IntArray) -> ResidualPolicy:
        """The policy of the given points, in the order given."""
        return ResidualPolicy(
            self.logit[points],
            self.weights[points],
            self.boosts,
            self.gamma,
            self.price_at_zero,
            self.feature_mean,
            self.feature_scale,
            self.cost_unit_usd,
            self.fixed[points],
        )

    def to_state(self) -> tuple[Arrays, Meta]:
        arrays: Arrays = {
            "logit": self.logit,
            "weights": self.weights,
            "boosts": self.boosts,
            "feature_mean": self.feature_mean,
            "feature_scale": self.feature_scale,
            "fixed": self.fixed,
        }
        meta: Meta = {
            "kind": self.kind,
            "gamma": self.gamma,
            "price_at_zero": self.price_at_zero,
            "cost_unit_usd": self.cost_unit_usd,
        }
        return arrays, meta

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> ResidualPolicy:
        return cls(
            logit=arrays["logit"],
            weights=arrays["weights"],
            boosts=arrays["boosts"],
            gamma=float(meta["gamma"]),
            price_at_zero=float(meta["price_at_zero"]),
            feature_mean=arrays["feature_mean"],
            feature_scale=arrays["feature_scale"],
            cost_unit_usd=float(meta["cost_unit_usd"]),
            fixed=arrays["fixed"],
        )

    def _features(self, predictions: Predictions) -> FloatArray:
        raw = summary_features(predictions, self.cost_unit_usd)
        features: FloatArray = (raw - self.feature_mean) / self.feature_scale
        return features

    def _choose(self, predictions: Predictions, point: int, features: FloatArray) -> IntArray:
        if self.fixed[point] >= 0:
            return np.full(features.shape[0], self.fixed[point], dtype=np.int64)
        mu = 0.5 * (1.0 + np.tanh(0.5 * (self.logit[point] + features @ self.weights[point])))[:, None]
        price = self.price_at_zero * (1.0 - mu) ** self.gamma
        utilities = predictions.scores + mu * self.boosts - price * predictions.costs_usd
        return cheapest_argmax(utilities, predictions.costs_usd)
