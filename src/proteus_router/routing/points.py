"""A policy as a list of deterministic operating points, each a price of cost or one fixed model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions

__all__ = ["PointPolicy", "Policy", "cheapest_argmax"]


_NEVER = -1e9
"""A boost that no predicted score makes good; finite, so that utilities stay numbers."""


class Policy(Protocol):
    """Maps predictions to one model a query, at any of its operating points."""

    @property
    def kind(self) -> str: ...

    @property
    def n_points(self) -> int: ...

    def choose(self, predictions: Predictions, point: int) -> IntArray:
        """(n_queries,) model index that operating point `point` picks."""
        ...

    def choose_all(self, predictions: Predictions) -> IntArray:
        """(n_points, n_queries) model index of every operating point."""
        ...

    def to_state(self) -> tuple[Arrays, Meta]: ...


def cheapest_argmax(utilities: FloatArray, costs: FloatArray) -> IntArray:
    """(n,) index of the largest utility in a row; of equal ones the lower cost, then the lower index."""
    best = utilities.max(axis=1, keepdims=True)
    choice: IntArray = np.where(utilities == best, costs, np.inf).argmin(axis=1)
    return choice


@dataclass(frozen=True)
class PointPolicy:
    """Operating points ``argmax_i p_i(x) + boost_i - price * c_i(x)``, or one model for every query.

    Attributes
    ----------
    boosts
        (n_points, n_models), added to predicted scores; 0 for a fixed model.
    prices
        (n_points,), >= 0: predicted score given up for one USD; 0 for a fixed model.
    fixed
        (n_points,) index of the model that takes every query, -1 where the rule above chooses.
    quality_preference
        (n_points,) the action mu in [0, 1] that the point came from; NaN where there was none.
    """

    boosts: FloatArray
    prices: FloatArray
    fixed: IntArray
    quality_preference: FloatArray

    kind = "points"

    def __post_init__(self) -> None:
        points, models = self.boosts.shape
        for name in ("prices", "fixed", "quality_preference"):
            if getattr(self, name).shape != (points,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected ({points},).")
        if not (
            np.isfinite(self.boosts).all() and np.isfinite(self.prices).all() and (self.prices >= 0).all()
        ):
            raise ValueError("boosts and prices must be finite, prices not negative.")
        if self.fixed.size and (self.fixed.min() < -1 or self.fixed.max() >= models):
            raise ValueError(f"fixed must name one of {models} models, or be -1.")

    @classmethod
    def from_prices(cls, prices: FloatArray, n_models: int) -> PointPolicy:
        """The plain plug-in: a price of cost a point, no boosts."""
        count = prices.size
        return cls(
            np.zeros((count, n_models)),
            np.asarray(prices, dtype=np.float64),
            np.full(count, -1, dtype=np.int64),
            np.full(count, np.nan),
        )

    @classmethod
    def from_models(cls, models: IntArray, n_models: int) -> PointPolicy:
        """One fixed model a point."""
        count = models.size
        return cls(
            np.zeros((count, n_models)),
            np.zeros(count),
            np.asarray(models, dtype=np.int64),
            np.full(count, np.nan),
        )

    @property
    def n_points(self) -> int:
        return int(self.prices.size)

    @property
    def n_models(self) -> int:
        return int(self.boosts.shape[1])

    def choose(self, predictions: Predictions, point: int) -> IntArray:
        """(n_queries,) model index; ties go to the lower predicted cost."""
        if self.fixed[point] >= 0:
            return np.full(predictions.scores.shape[0], self.fixed[point], dtype=np.int64)
        if predictions.scores.shape[0] == 1:
            return np.array([self._choose_one(predictions, point)])
        utilities = predictions.scores + self.boosts[point] - self.prices[point] * predictions.costs_usd
        return cheapest_argmax(utilities, predictions.costs_usd)

    def _choose_one(self, predictions: Predictions, point: int) -> int:
        """`choose` for one query, the same sums in plain Python: what a server does for every request."""
        scores, costs = predictions.scores[0].tolist(), predictions.costs_usd[0].tolist()
        boosts, price = self._boost_rows[point], self._price_list[point]
        best, choice = -np.inf, 0
        for at, (score, boost, cost) in enumerate(zip(scores, boosts, costs, strict=True)):
            utility = score + boost - price * cost
            if utility > best or (utility == best and cost < costs[choice]):
                best, choice = utility, at
        return choice

    @cached_property
    def _boost_rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.boosts.tolist()
        return rows

    @cached_property
    def _price_list(self) -> list[float]:
        prices: list[float] = self.prices.tolist()
        return prices

    def choose_all(self, predictions: Predictions) -> IntArray:
        """(n_points, n_queries) model index of every operating point."""
        choices = np.empty((self.n_points, predictions.scores.shape[0]), dtype=np.int64)
        for point in range(self.n_points):
            choices[point] = self.choose(predictions, point)
        return choices

    def take(self, points: IntArray) -> PointPolicy:
        """The policy of the given points, in the order given."""
        return PointPolicy(
            self.boosts[points], self.prices[points], self.fixed[points], self.quality_preference[points]
        )

    def among(self, columns: IntArray, n_models: int) -> PointPolicy:
        """The same choices in a pool of `n_models`, of which this policy's are the given columns; no other is chosen."""
        boosts = np.full((self.n_points, n_models), _NEVER)
        boosts[:, columns] = self.boosts
        fixed = np.where(self.fixed < 0, -1, columns[self.fixed])
        return PointPolicy(boosts, self.prices, fixed, self.quality_preference)

    def joined(self, other: PointPolicy) -> PointPolicy:
        """The points of both policies, `other` last."""
        return PointPolicy(
            np.concatenate([self.boosts, other.boosts]),
            np.concatenate([self.prices, other.prices]),
            np.concatenate([self.fixed, other.fixed]),
            np.concatenate([self.quality_preference, other.quality_preference]),
        )

    def to_state(self) -> tuple[Arrays, Meta]:
        arrays: Arrays = {
            "boosts": self.boosts,
            "prices": self.prices,
            "fixed": self.fixed,
            "quality_preference": self.quality_preference,
        }
        return arrays, {"kind": self.kind}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> PointPolicy:
        return cls(arrays["boosts"], arrays["prices"], arrays["fixed"], arrays["quality_preference"])
