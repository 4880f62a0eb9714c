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
from proteus_router.types import BoolArray, FloatArray, Predictions

__all__ = [
    "BestPredicted",
    "CrossFitted",
    "FitRows",
    "Learner",
    "PriceSweep",
    "cross_fit",
    "fit_of_points",
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
    """Fits one predictor on given rows: features, scores and costs (n, k; NaN missing), seed."""

    def __call__(
        self, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], Predictions]: ...


def cross_fit(context: Context, fit_rows: FitRows) -> CrossFitted:
    """Fit on the other folds for every fold of the cell, and once on all rows."""
    train, features = context.train, context.features
    scores, costs = np.empty_like(train.scores), np.empty_like(train.costs_usd)
    for fold in range(int(context.folds.max()) + 1):
        held, kept = np.flatnonzero(context.folds == fold), np.flatnonzero(context.folds != fold)
        model = fit_rows(features.take(kept), train.scores[kept], train.costs_usd[kept], context.seed)
        predicted = model(features.take(held))
        scores[held], costs[held] = predicted.scores, predicted.costs_usd
    final = fit_rows(features, train.scores, train.costs_usd, context.seed)
    return CrossFitted(Predictions(scores, costs), lambda texts: final(context.features_of(texts)))


@dataclass(frozen=True)
class PriceSweep:
    """The plug-in ``argmax_i p_i(x) - price c_i(x)`` over prices of cost, and every model alone."""

    name: str
    learner: Learner
    n_prices: int = 150

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
