"""Nearest neighbours: predicted score and cost are means over the most similar training queries.

Similarity is the cosine of word TF-IDF rows, the kernel of our own heads. Training rows find their neighbours
outside their own text group, so their predictions are out of fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from proteus_router.baselines.context import Context
from proteus_router.baselines.predicting import CrossFitted, model_means
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["NearestNeighbours", "mean_over_neighbours"]

_SIZES = (3, 5, 10, 20, 40, 60, 80, 120)
"""Numbers of neighbours tried."""
_ROWS = 1_000
"""Queries whose similarities are held at a time."""


@dataclass(frozen=True)
class NearestNeighbours:
    """Mean score and cost of the k most similar training queries.

    Attributes
    ----------
    k
        Neighbours; None takes the number of `_SIZES` with the least out-of-fold squared error of the score.
    """

    k: int | None = None

    def __call__(self, context: Context) -> CrossFitted:
        train, own = context.train, _own_neighbours(context)
        k = self.k or _best_size(own, train.scores)

        def predict(texts: Sequence[str]) -> Predictions:
            found = context.remember("neighbours", texts, lambda batch: _neighbours(batch, context))
            return _predictions(found, k, context)

        return CrossFitted(_predictions(own, k, context), predict)


def mean_over_neighbours(values: FloatArray, neighbours: IntArray, fallback: FloatArray) -> FloatArray:
    """(m, k) mean of `values` (n, k; NaN missing) over the rows `neighbours` (m, size) names, -1 for none.

    `fallback` (k,) stands in for a model that answered none of them.
    """
    filled = np.vstack([np.nan_to_num(values), np.zeros((1, values.shape[1]))])  # row -1 counts nothing
    seen = np.vstack([~np.isnan(values), np.zeros((1, values.shape[1]), dtype=bool)])
    total = np.zeros((len(neighbours), values.shape[1]))
    count = np.zeros_like(total)
    for column in neighbours.T:  # (m,) at a time: (m, size, k) would not fit in the cache
        total += filled[column]
        count += seen[column]
    mean: FloatArray = np.divide(total, count, out=np.tile(fallback, (len(neighbours), 1)), where=count > 0)
    return mean


def _predictions(neighbours: IntArray, k: int, context: Context) -> Predictions:
    near, train = neighbours[:, :k], context.train
    scores = mean_over_neighbours(train.scores, near, model_means(train.scores))
    costs = mean_over_neighbours(train.costs_usd, near, model_means(train.costs_usd))
    return Predictions(scores, costs)


def _best_size(own: IntArray, scores: FloatArray) -> int:
    fallback = model_means(scores)

    def error(size: int) -> float:
        return float(np.nanmean((mean_over_neighbours(scores, own[:, :size], fallback) - scores) ** 2))

    return min((size for size in _SIZES if size <= max(own.shape[1], _SIZES[0])), key=error)


def _own_neighbours(context: Context) -> IntArray:
    words, groups = context.features.words, context.groups
    return context.remember(
        "own neighbours", ("train",), lambda _: _most_similar(words, words, groups, groups)
    )


def _neighbours(texts: Sequence[str], context: Context) -> IntArray:
    return _most_similar(context.features_of(texts).words, context.features.words, None, None)


def _most_similar(
    queries: csr_matrix, rows: csr_matrix, query_groups: IntArray | None, row_groups: IntArray | None
) -> IntArray:
    """(m, size) rows by falling similarity, of equal ones the earlier; -1 where a query's group leaves too few."""
    size = min(max(_SIZES), rows.shape[0])
    found = np.empty((queries.shape[0], size), dtype=np.int64)
    transposed = rows.T.tocsr()
    for start in range(0, queries.shape[0], _ROWS):
        similarity = (queries[start : start + _ROWS] @ transposed).toarray()
        if query_groups is not None and row_groups is not None:
            similarity[query_groups[start : start + _ROWS, None] == row_groups] = -np.inf
        near = np.sort(np.argpartition(-similarity, size - 1, axis=1)[:, :size], axis=1)
        value = np.take_along_axis(similarity, near, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        near, value = (np.take_along_axis(part, order, axis=1) for part in (near, value))
        allowed = value > -np.inf
        found[start : start + _ROWS] = np.where(allowed, near, -1)
    return found
