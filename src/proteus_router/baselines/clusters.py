"""Avengers-Pro-style routing (arXiv 2508.12631): clusters of queries, each with its own ranking of the models.

In every cluster a model's balance score is ``a * accuracy + (1 - a) * (1 - cost)``, accuracy scaled to [0, 1]
between the cluster's worst and best model and cost by its dearest. A query takes the model with the highest
balance score, averaged over its nearest clusters with weights softmax(beta * similarity).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.predicting import model_means
from proteus_router.routing.points import cheapest_argmax
from proteus_router.types import FloatArray, IntArray

__all__ = ["AvengersPro", "balance"]


@dataclass(frozen=True)
class AvengersPro:
    """K-means on unit-length TF-IDF directions; the settings of the authors' released configuration.

    Attributes
    ----------
    clusters
        At most; 20 training queries a cluster at least.
    nearest, beta
        Clusters a query looks at, and the sharpness of their weights.
    n_weights
        Values of a swept from 0 (cost alone) to 1 (accuracy alone).
    """

    name: str = "avengers-pro"
    clusters: int = 25
    nearest: int = 3
    beta: float = 9.0
    n_weights: int = 101

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        train, features = context.train, context.features
        k, weights = train.n_models, np.linspace(1.0, 0.0, self.n_weights)
        own = np.empty((self.n_weights, train.n_queries), dtype=np.int64)
        for fold in range(int(context.folds.max()) + 1):
            held, kept = np.flatnonzero(context.folds == fold), np.flatnonzero(context.folds != fold)
            rule = self._fit_rows(
                features.take(kept), train.scores[kept], train.costs_usd[kept], context, weights
            )
            own[:, held] = rule(features.take(held))
        final = self._fit_rows(features, train.scores, train.costs_usd, context, weights)

        def with_fixed(choices: IntArray) -> IntArray:
            return np.vstack([choices, np.tile(np.arange(k)[:, None], (1, choices.shape[1]))])

        return RouterFit(
            name=self.name,
            knobs=np.concatenate([weights, np.full(k, np.nan)]),
            choices=lambda texts: with_fixed(final(context.features_of(texts))),
            out_of_fold=with_fixed(own),
            seconds=time.perf_counter() - started,
        )

    def _fit_rows(
        self,
        features: Features,
        scores: FloatArray,
        costs_usd: FloatArray,
        context: Context,
        weights: FloatArray,
    ) -> Callable[[Features], IntArray]:
        from sklearn.cluster import KMeans

        places = _places(features, context)
        n_clusters = max(1, min(self.clusters, len(places) // 20))
        model = KMeans(n_clusters, n_init=3, random_state=context.seed).fit(places)
        members = [model.labels_ == cluster for cluster in range(n_clusters)]
        accuracy = np.array([model_means(scores, rows) for rows in members])  # (clusters, k)
        cost = np.array([model_means(costs_usd, rows) for rows in members])
        overall = model_means(costs_usd)
        centres, nearest = model.cluster_centers_, min(self.nearest, n_clusters)

        def rule(other: Features) -> IntArray:
            similarity = _places(other, context) @ centres.T
            near = np.argsort(-similarity, axis=1, kind="stable")[:, :nearest]
            pull = np.exp(self.beta * np.take_along_axis(similarity, near, axis=1))
            pull /= pull.sum(axis=1, keepdims=True)
            choices = np.empty((weights.size, len(near)), dtype=np.int64)
            for index, weight in enumerate(weights):
                score = balance(accuracy, cost, float(weight))
                blended = (pull[:, :, None] * score[near]).sum(axis=1)
                choices[index] = cheapest_argmax(blended, np.tile(overall, (len(near), 1)))
            return choices

        return rule


def balance(accuracy: FloatArray, cost: FloatArray, weight: float) -> FloatArray:
    """(clusters, k) balance scores; a cluster whose models tie in accuracy gives each 1, free ones cost 0."""
    low, high = accuracy.min(axis=1, keepdims=True), accuracy.max(axis=1, keepdims=True)
    dearest = cost.max(axis=1, keepdims=True)
    merit = np.divide(accuracy - low, high - low, out=np.ones_like(accuracy), where=high > low)
    burden = np.divide(cost, dearest, out=np.zeros_like(cost), where=dearest > 0)
    balanced: FloatArray = weight * merit + (1.0 - weight) * (1.0 - burden)
    return balanced


def _places(features: Features, context: Context) -> FloatArray:
    """(n, d) TF-IDF rows on the leading directions, unit length; 0 where no word is known."""
    places = np.asarray(features.words @ context.lexical.projection.astype(np.float64))
    length = np.linalg.norm(places, axis=1, keepdims=True)
    return places / np.where(length > 0, length, 1.0)
