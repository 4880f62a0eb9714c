"""OmniRouter-style routing (arXiv 2502.20576): the cheapest assignment of a batch that keeps a mean predicted score.

    min  sum_x c_m(x)(x)   s.t.   mean_x p_m(x)(x) >= alpha

The Lagrangian separates over the queries of the batch, so one multiplier settles it; here it is found exactly
on a grid instead of by subgradient steps. A batch of one gets the cheapest model predicted to reach alpha.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.networks import TwoHeads
from proteus_router.routing.frontier import plugin_points
from proteus_router.routing.hull import Mix, mix_at_accuracy
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["OmniRouter", "assign"]


@dataclass(frozen=True)
class OmniRouter:
    """Two-headed network and batch Lagrangian; alpha is the accuracy target itself."""

    name: str = "omnirouter"
    n_alphas: int = 41

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        fitted = TwoHeads()(context)
        own, k = fitted.out_of_fold, context.train.n_models
        fixed = np.arange(k)
        low, high = _reach(own)
        alphas = np.linspace(high, low, self.n_alphas if high > low else 1)

        def choices(predictions: Predictions) -> IntArray:
            alone = np.tile(fixed[:, None], (1, len(predictions.scores)))
            return np.vstack([assign(predictions, alphas), alone])

        return RouterFit(
            name=self.name,
            knobs=np.concatenate([alphas, np.full(k, np.nan)]),
            choices=lambda texts: choices(fitted.predict(texts)),
            out_of_fold=choices(own),
            native=lambda target: native_mix(alphas, target),
            predicted=fitted.predict,
            seconds=time.perf_counter() - started,
        )


def assign(predictions: Predictions, alphas: FloatArray, n_prices: int = 200) -> IntArray:
    """(len(alphas), n) the cheapest plug-in assignment whose mean predicted score reaches each alpha.

    Where none does, the one with the highest mean predicted score.
    """
    n = len(predictions.scores)
    if n == 0:
        return np.empty((alphas.size, 0), dtype=np.int64)
    candidates = plugin_points(predictions, n_prices).choose_all(predictions)
    rows = np.arange(n)
    score = np.array([predictions.scores[rows, choice].mean() for choice in candidates])
    cost = np.array([predictions.costs_usd[rows, choice].mean() for choice in candidates])
    found = np.empty((alphas.size, n), dtype=np.int64)
    for index, alpha in enumerate(alphas):
        price = np.where(score >= alpha, cost, np.inf)
        best = price.argmin() if np.isfinite(price).any() else np.lexsort((cost, -score))[0]
        found[index] = candidates[best]
    return found


def native_mix(alphas: FloatArray, target: float) -> Mix:
    """The mix of two neighbouring alphas (falling) that stands for alpha = target, clamped to their range."""
    return mix_at_accuracy(alphas, min(target, float(alphas[0])))


def _reach(predictions: Predictions) -> tuple[float, float]:
    """Mean predicted score of the cheapest model a query and of the best one."""
    rows, scores = np.arange(len(predictions.scores)), predictions.scores
    cheapest = scores[rows, predictions.costs_usd.argmin(axis=1)]
    return float(cheapest.mean()), float(scores.max(axis=1).mean())
