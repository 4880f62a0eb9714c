"""The plain Lagrangian plug-in: argmax p - price * c, one price a point, no training of a policy."""

from __future__ import annotations

from dataclasses import dataclass

from proteus_router.routing.frontier import Estimates, estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.points import PointPolicy
from proteus_router.types import FloatArray, Predictions

__all__ = ["PlugIn", "fit_plugin"]


@dataclass(frozen=True)
class PlugIn:
    """Hull vertices of the plug-in's frontier, most accurate first, with their estimates."""

    policy: PointPolicy
    estimates: Estimates


def fit_plugin(
    predictions: Predictions,
    scores: FloatArray,
    costs_usd: FloatArray,
    *,
    n_prices: int = 300,
    min_gap: float = 0.002,
) -> PlugIn:
    """Invert the frontier of the plug-in on the rows given.

    Parameters
    ----------
    predictions
        Out-of-fold predicted score and cost; in-sample ones would promise accuracy that is not there.
    scores, costs_usd
        (n, n_models) outcomes, NaN where missing.
    """
    points = plugin_points(predictions, n_prices)
    estimates = estimate_points(points.choose_all(predictions), scores, costs_usd)
    vertices = frontier_vertices(estimates, min_gap=min_gap)
    return PlugIn(points.take(vertices), estimates.take(vertices))
