"""Routers that predict a score and a cost a model, then trade them off: what most published routers are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context, Features
from proteus_router.routing.frontier import plugin_points
from proteus_router.routing.points import PointPolicy
from proteus_router.training.heads.cost import CostSolution, fit_cost
from proteus_router.types import BoolArray, FloatArray, IntArray, Predictions

__all__ = [
    "BestPredicted",
    "CrossFitted",
    "FitRows",
    "Learner",
    "PriceSweep",
    "cost_head",
    "cross_fit",
    "fit_of_points",
    "mean_cost_head",
    "model_means",
]


@dataclass(frozen=True)
class CrossFitted:
    """Predictions of the training rows by fits without them, and a fit on all rows for other texts."""

    out_of_fold: Predictions
    predict: Callable[[Sequence[str]], Predictions]


class Learner(Protocol):
    """Learns to predict score and cost from one cell's training rows."""

    def __call__(self, context: Context) -> CrossFitted: ...


class FitRows(Protocol):
    """Fits something on given rows: features, scores and costs (n, k; NaN missing), seed.

    What comes back maps features (m) to an array (m, columns).
    """

    def __call__(
        self, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], FloatArray]: ...


def cross_fit(context: Context, fit_rows: FitRows) -> tuple[FloatArray, Callable[[Features], FloatArray]]:
    """(n, columns) for the training rows by fits without their fold, and a fit on all rows."""
    train, features = context.train, context.features
    parts: list[tuple[IntArray, FloatArray]] = []
    for fold in range(int(context.folds.max()) + 1):
        held, kept = np.flatnonzero(context.folds == fold), np.flatnonzero(context.folds != fold)
        model = fit_rows(features.take(kept), train.scores[kept], train.costs_usd[kept], context.seed)
        parts.append((held, model(features.take(held))))
    out_of_fold = np.empty((train.n_queries, parts[0][1].shape[1]))
    for held, values in parts:
        out_of_fold[held] = values
    return out_of_fold, fit_rows(features, train.scores, train.costs_usd, context.seed)


def cost_head(context: Context) -> tuple[FloatArray, Callable[[Features], FloatArray]]:
    """Predicted cost of the training rows (leave-group-out) and of other features: ridge on the log cost."""

    def fit(_: Sequence[str]) -> CostSolution:
        dense, costs = context.features.dense, context.train.costs_usd
        return fit_cost(dense, costs, context.groups, context.config.heads.cost_alpha)

    solution = context.remember("cost head", ("train",), fit)
    return solution.oof, lambda other: np.exp(other.dense @ solution.weights + solution.intercept)


def mean_cost_head(context: Context) -> tuple[FloatArray, Callable[[Features], FloatArray]]:
    """Every model at its mean cost on the training rows."""
    means = model_means(context.train.costs_usd)

    def tiled(rows: int) -> FloatArray:
        return np.tile(means, (rows, 1))

    return tiled(context.train.n_queries), lambda other: tiled(len(other.dense))


@dataclass(frozen=True)
class PriceSweep:
    """The plug-in ``argmax_i p_i(x) - price c_i(x)`` over prices of cost, and every model alone."""

    name: str
    learner: Learner
    n_prices: int = 300

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        fitted = self.learner(context)
        points = plugin_points(fitted.out_of_fold, self.n_prices)
        return fit_of_points(self.name, points, fitted, started=started)


@dataclass(frozen=True)
class BestPredicted:
    """One point: the model with the best predicted score; of equal ones the cheaper."""

    name: str
    learner: Learner

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        fitted = self.learner(context)
        points = PointPolicy.from_prices(np.zeros(1), context.train.n_models)
        return fit_of_points(self.name, points, fitted, started=started)


def fit_of_points(
    name: str, points: PointPolicy, fitted: CrossFitted, *, started: float, knobs: FloatArray | None = None
) -> RouterFit:
    """The router that applies `points` to the predictions; `knobs` are the prices where they are not given."""
    prices = np.where(points.fixed >= 0, np.nan, points.prices)
    return RouterFit(
        name=name,
        knobs=prices if knobs is None else knobs,
        choices=lambda texts: points.choose_all(fitted.predict(texts)),
        out_of_fold=points.choose_all(fitted.out_of_fold),
        predicted=fitted.predict,
        seconds=time.perf_counter() - started,
    )


def model_means(values: FloatArray, rows: BoolArray | slice = slice(None)) -> FloatArray:
    """(k,) mean of each model over the given rows where it answered; over all its rows, then 0, where it did not."""
    overall = _mean(values, np.zeros(values.shape[1]))
    return _mean(values[rows], overall)


def _mean(values: FloatArray, fallback: FloatArray) -> FloatArray:
    seen = ~np.isnan(values)
    count = seen.sum(axis=0)
    total = np.where(seen, values, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, count, out=fallback.copy(), where=count > 0)
    return mean
