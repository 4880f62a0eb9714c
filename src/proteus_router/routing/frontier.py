"""From candidate operating points and outcomes to the frontier that a router serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.routing.hull import lower_hull, thin_vertices
from proteus_router.routing.points import PointPolicy
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = [
    "Estimates",
    "estimate_points",
    "frontier_vertices",
    "model_means",
    "observation_rates",
    "plugin_points",
    "price_grid",
]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Estimated mean score and mean cost of operating points, (n_points,) each."""

    accuracy: FloatArray
    cost_usd: FloatArray

    def take(self, points: IntArray) -> Estimates:
        return Estimates(self.accuracy[points], self.cost_usd[points])


def model_means(scores: FloatArray, costs_usd: FloatArray) -> Estimates:
    """Mean score and cost of every model over the rows where it answered; (n_models,) each."""
    return Estimates(np.nanmean(scores, axis=0), np.nanmean(costs_usd, axis=0))


def observation_rates(scores: FloatArray) -> FloatArray:
    """(n_models,) share of rows on which each model's outcome is known."""
    rates: FloatArray = (~np.isnan(scores)).mean(axis=0)
    return rates


def estimate_points(choices: IntArray, scores: FloatArray, costs_usd: FloatArray) -> Estimates:
    """Mean score and cost of every operating point, unbiased by which models answered more often.

    An observed row counts 1 / (observation rate of the model chosen there), weights normalised to one
    (Hajek): right where missingness depends on the model alone. A point none of whose choices was observed
    gets NaN.

    Parameters
    ----------
    choices
        (n_points, n) model index.
    scores, costs_usd
        (n, n_models), NaN where missing.
    """
    rows = np.arange(scores.shape[0])
    missing = np.isnan(scores)
    if not missing.any():
        return Estimates(
            np.array([scores[rows, choice].mean() for choice in choices]),
            np.array([costs_usd[rows, choice].mean() for choice in choices]),
        )
    rates = observation_rates(scores)
    inverse = np.divide(1.0, rates, out=np.zeros_like(rates), where=rates > 0)
    weights = np.where(missing, 0.0, inverse)
    filled_scores, filled_costs = np.where(missing, 0.0, scores), np.where(missing, 0.0, costs_usd)
    accuracy, cost = np.full(choices.shape[0], np.nan), np.full(choices.shape[0], np.nan)
    for point, choice in enumerate(choices):
        weight = weights[rows, choice]
        total = weight.sum()
        if total > 0:
            accuracy[point] = (weight * filled_scores[rows, choice]).sum() / total
            cost[point] = (weight * filled_costs[rows, choice]).sum() / total
    return Estimates(accuracy, cost)


def frontier_vertices(estimates: Estimates, *, min_gap: float) -> IntArray:
    """Points that form the frontier, most accurate first, neighbours at least `min_gap` of accuracy apart."""
    usable = np.flatnonzero(np.isfinite(estimates.accuracy) & np.isfinite(estimates.cost_usd))
    hull = usable[lower_hull(estimates.accuracy[usable], estimates.cost_usd[usable])]
    return hull[thin_vertices(estimates.accuracy[hull], min_gap)]


def price_grid(predictions: Predictions, n_prices: int) -> FloatArray:
    """(n_prices,) prices of cost, rising: 0, then log-spaced over the range in which decisions change.

    The range runs from the price at which the first half percent of the queries leave the model with the
    best predicted score to the one at which all but half a percent sit on the cheapest. It scales as
    1 / cost, so a change of currency changes no decision.
    """
    scores, costs = predictions.scores, predictions.costs_usd
    rows = np.arange(scores.shape[0])
    best = np.where(scores == scores.max(axis=1, keepdims=True), costs, np.inf).argmin(axis=1)
    cheapest = np.where(costs == costs.min(axis=1, keepdims=True), scores, -np.inf).argmax(axis=1)
    leave = _switch_prices(scores[rows, best][:, None] - scores, costs[rows, best][:, None] - costs).min(
        axis=1
    )
    settle = _switch_prices(scores - scores[rows, cheapest][:, None], costs - costs[rows, cheapest][:, None])
    settle = np.where(np.isfinite(settle), settle, 0.0).max(axis=1)
    leave, settle = leave[np.isfinite(leave) & (leave > 0)], settle[settle > 0]
    if leave.size == 0 or settle.size == 0:
        return np.zeros(1)  # the model with the best prediction is everywhere the cheapest
    low, high = np.quantile(leave, 0.005), np.quantile(settle, 0.995)
    return np.concatenate([[0.0], np.geomspace(low, max(high, low * 1.001), max(n_prices - 1, 1))])


def plugin_points(predictions: Predictions, n_prices: int) -> PointPolicy:
    """Candidates of the plain Lagrangian plug-in: the price grid and every model alone."""
    n_models = predictions.scores.shape[1]
    fixed = PointPolicy.from_models(np.arange(n_models), n_models)
    return PointPolicy.from_prices(price_grid(predictions, n_prices), n_models).joined(fixed)


def _switch_prices(gain: FloatArray, extra_cost: FloatArray) -> FloatArray:
    """Price at which a gain in score and its extra cost balance; +inf where there is no extra cost."""
    return np.divide(gain, extra_cost, out=np.full_like(gain, np.inf), where=extra_cost > 0)
