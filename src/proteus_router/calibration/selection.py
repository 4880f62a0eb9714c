"""Out-of-fold choice of the hull's vertices: evidence that has not chosen what it certifies.

The deployed vertices are chosen by their outcomes on all rows; the mean score of a vertex on those same
rows is therefore too high (the winner's curse), most of all where candidates are nearly equal. Here the
choice is cross-fitted as the heads are: for the rows of each fold the vertices are chosen anew from the
outcomes of all other rows. A vertex is known by its price of accuracy: of all candidates it has the largest
``accuracy - price * cost``.
"""

from __future__ import annotations

import numpy as np

from proteus_router.routing.frontier import observation_rates
from proteus_router.types import FloatArray, IntArray

__all__ = ["out_of_fold_choices", "vertex_prices"]


def out_of_fold_choices(
    *,
    accuracy: FloatArray,
    cost_usd: FloatArray,
    candidates: IntArray,
    scores: FloatArray,
    costs_usd: FloatArray,
    folds: IntArray,
) -> IntArray:
    """(V, n) model that each vertex takes on each row when the row's own fold had no say in choosing the
    vertex.

    Parameters
    ----------
    accuracy, cost_usd
        (V,) estimates of the deployed vertices, most accurate first.
    candidates
        (M, n) model that each candidate operating point takes on each row, from out-of-fold predictions.
    scores, costs_usd
        (n, k) outcomes, NaN where missing.
    folds
        (n,) fold of each row; near-equal texts share one.
    """
    prices = vertex_prices(accuracy, cost_usd)
    names, fold_of = np.unique(folds, return_inverse=True)
    seen_accuracy, seen_cost = _leave_fold_out(candidates, scores, costs_usd, np.eye(names.size)[fold_of])
    choices = np.empty((prices.size, scores.shape[0]), dtype=np.int64)
    for fold in range(names.size):
        inside = fold_of == fold
        usable = np.flatnonzero(np.isfinite(seen_accuracy[:, fold]))
        for vertex, price in enumerate(prices):
            best = _best(seen_accuracy[usable, fold], seen_cost[usable, fold], price)
            choices[vertex, inside] = candidates[usable[best], inside]
    return choices


def _leave_fold_out(
    candidates: IntArray, scores: FloatArray, costs_usd: FloatArray, in_fold: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(M, F) mean score and cost of every candidate over the rows outside each fold (`in_fold`: (n, F) 0/1).

    Rows are weighted by 1 / observation rate of the chosen model, as in `frontier.estimate_points`; NaN where
    nothing was observed.
    """
    rates = observation_rates(scores)
    weights = np.divide(~np.isnan(scores), rates, out=np.zeros(scores.shape), where=rates > 0)
    outside = 1.0 - in_fold
    rows = np.arange(scores.shape[0])
    total = weights[rows, candidates] @ outside
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy, cost = (
            (weights * np.nan_to_num(values))[rows, candidates] @ outside / total
            for values in (scores, costs_usd)
        )
    return accuracy, cost


def vertex_prices(accuracy: FloatArray, cost_usd: FloatArray) -> FloatArray:
    """(V,) accuracy given up for one USD at which each vertex is the best: 0 for the first, inf for the last.

    Between its neighbours a vertex of a convex chain is best for a range of prices; this is the geometric
    mean of the range's ends.
    """
    slopes = (accuracy[:-1] - accuracy[1:]) / np.maximum(cost_usd[:-1] - cost_usd[1:], 1e-300)
    inner = np.sqrt(slopes[:-1] * slopes[1:])
    return np.concatenate([[0.0], inner, [np.inf]])[: accuracy.size]


def _best(accuracy: FloatArray, cost_usd: FloatArray, price: float) -> int:
    """Candidate with the largest accuracy - price * cost; ties go to the cheaper, then to the first."""
    if np.isinf(price):
        return int(np.lexsort((-accuracy, cost_usd))[0])
    return int(np.lexsort((cost_usd, -(accuracy - price * cost_usd)))[0])
