"""The frontier as it looks now: the policy's operating points, judged by recent queries and corrected scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from proteus_router.routing.frontier import Estimates, frontier_vertices
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.routing.points import Policy
from proteus_router.types import BoolArray, FloatArray, IntArray, Predictions

__all__ = ["Chooser", "Frontier", "TrackedMix", "corrected", "reinvert"]

_RETREAT = 0.02
"""Internal targets above the frontier's top over which traffic goes over to the best single model."""


class Chooser(Protocol):
    """Picks a model per query at an operating point: a policy, or a router that knows which models are there."""

    def choose(self, predictions: Predictions, point: int) -> IntArray: ...


@dataclass(frozen=True, slots=True)
class TrackedMix:
    """How a tracked tier is served until the next inversion.

    Attributes
    ----------
    upper, lower, weight_upper
        Two operating points of the policy and the probability of `upper`, as in `OperatingMix`.
    best_model, retreat
        A model, and the probability with which it answers whatever the operating points say.
    internal_target
        What was asked for.
    expected_cost_usd
        USD per request at present prices.
    """

    upper: int
    lower: int
    weight_upper: float
    best_model: int
    retreat: float
    internal_target: float
    expected_cost_usd: float

    def choose(self, chooser: Chooser, predictions: Predictions, coins: FloatArray) -> IntArray:
        """(n,) model of each query.

        Parameters
        ----------
        chooser
            The router, which knows the pool, or its bare policy.
        predictions
            Corrected, see `corrected`.
        coins
            (n,) uniform draws, one a query.
        """
        upper = chooser.choose(predictions, self.upper)
        lower = upper if self.lower == self.upper else chooser.choose(predictions, self.lower)
        # Retreat begins at the top, where `upper` serves alone: one coin does for both.
        point = np.where(coins < self.weight_upper, upper, lower)
        chosen: IntArray = np.where(coins < self.retreat, self.best_model, point)
        return chosen


@dataclass(frozen=True, slots=True)
class Frontier:
    """Hull vertices of the policy's points, most accurate first, with their mean predicted score and cost.

    Attributes
    ----------
    points
        (v,) index of the policy's operating point.
    accuracy, cost_usd
        (v,) mean over the queries that were looked at.
    best_model, best_model_cost_usd
        The model with the highest mean corrected score, and its mean cost.
    """

    points: IntArray
    accuracy: FloatArray
    cost_usd: FloatArray
    best_model: int
    best_model_cost_usd: float

    def mix(self, internal_target: float) -> TrackedMix:
        """The cheapest mix expected to score `internal_target`; below the frontier, its cheap end.

        A target above the frontier means that audits found even its top short of the floor. The top picks the model
        that looks best for each query, and looks better than it is (the winner's curse); the mean of one model has no
        such selection in it. So the traffic retreats to the best single model, all of it 0.02 above the top.
        """
        top = float(self.accuracy[0])
        found = mix_at_accuracy(self.accuracy, min(internal_target, top))
        weight = found.weight_upper
        cost = weight * self.cost_usd[found.upper] + (1.0 - weight) * self.cost_usd[found.lower]
        retreat = min(max((internal_target - top) / _RETREAT, 0.0), 1.0)
        return TrackedMix(
            upper=int(self.points[found.upper]),
            lower=int(self.points[found.lower]),
            weight_upper=weight,
            best_model=self.best_model,
            retreat=retreat,
            internal_target=internal_target,
            expected_cost_usd=float(retreat * self.best_model_cost_usd + (1.0 - retreat) * cost),
        )


def corrected(predictions: Predictions, offsets: FloatArray) -> Predictions:
    """Predictions with each model's offset added to its predicted scores, kept within [0, 1]."""
    scores = np.clip(predictions.scores + offsets, 0.0, 1.0)
    return Predictions(scores, predictions.costs_usd, predictions.embedding)


def reinvert(
    policy: Policy,
    recent: Predictions,
    offsets: FloatArray,
    *,
    available: BoolArray | None = None,
    min_gap: float = 0.002,
) -> Frontier:
    """Order the policy's operating points anew by what they would choose on `recent` queries.

    Predicted scores stand in for outcomes, which are known for the audited alone; that they are off by a little is
    what integral control makes up for. New prices and another mix of traffic enter through `recent` itself.

    Parameters
    ----------
    policy
        Its points are kept; their order and their costs are not.
    recent
        Predictions of some hundreds of recent queries, at present prices.
    offsets
        (n_models,) corrections of predicted scores, see `Recalibration.offsets`.
    available
        (n_models,) False for a model that is out of the pool or in quarantine; at least one True.
    """
    now = corrected(recent, offsets)
    if available is not None:
        scores = np.where(available, now.scores, -np.inf)
        now = Predictions(scores, now.costs_usd, now.embedding)
    choices = policy.choose_all(now)  # (n_points, n)
    if available is not None:  # a point of one fixed model may name an absent one, as in Router.choose
        choices = np.where(available[choices], choices, now.scores.argmax(axis=1))
    rows = np.arange(now.scores.shape[0])
    estimates = Estimates(now.scores[rows, choices].mean(axis=1), now.costs_usd[rows, choices].mean(axis=1))
    vertices = frontier_vertices(estimates, min_gap=min_gap)
    best = int(now.scores.mean(axis=0).argmax())
    return Frontier(
        points=vertices,
        accuracy=estimates.accuracy[vertices],
        cost_usd=estimates.cost_usd[vertices],
        best_model=best,
        best_model_cost_usd=float(now.costs_usd[:, best].mean()),
    )
