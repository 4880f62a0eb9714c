"""Yardsticks that need no router: the static mix of fixed models, and the oracle."""

from __future__ import annotations

import numpy as np

from proteus_router.routing.hull import lower_hull, mix_at_accuracy
from proteus_router.types import FloatArray

__all__ = ["oracle", "static_mix_cost"]


def static_mix_cost(mean_scores: FloatArray, mean_costs: FloatArray, accuracy: float) -> float:
    """Cost of the cheapest random mix of fixed models whose mean score is at least `accuracy`.

    The linear program ``min w.c  s.t.  w.p >= accuracy, w >= 0, sum w = 1`` has its solution on the lower
    hull of the models' (score, cost). Above the best model no mix reaches `accuracy`; that model's cost is
    returned.

    Parameters
    ----------
    mean_scores, mean_costs
        (n_models,).
    """
    hull = lower_hull(mean_scores, mean_costs)
    heights, costs = mean_scores[hull], mean_costs[hull]
    mix = mix_at_accuracy(heights, min(accuracy, float(heights[0])))
    return float(mix.weight_upper * costs[mix.upper] + (1.0 - mix.weight_upper) * costs[mix.lower])


def oracle(scores: FloatArray, costs: FloatArray) -> tuple[float, float]:
    """Mean score and mean cost of the cheapest best model per query, labels known.

    Parameters
    ----------
    scores, costs
        (n, n_models), NaN where missing; a query with no outcome at all is left out.
    """
    seen = ~np.isnan(scores)
    rows = seen.any(axis=1)
    heights = np.where(seen, scores, -np.inf)[rows]
    best = heights.max(axis=1)
    cheapest = np.where(heights == best[:, None], costs[rows], np.inf).min(axis=1)
    return float(best.mean()), float(cheapest.mean())
