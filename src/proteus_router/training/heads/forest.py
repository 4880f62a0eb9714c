"""Extremely randomised trees for all models at once: neighbourhoods that the outcomes shape, not the words alone.

A tree splits on the outcomes of every model together, and a leaf holds one mean a model. Shallow trees of small leaves,
averaged, are what a cluster or a nearest-neighbour router does with its neighbourhoods, drawn a hundred times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proteus_router.routing.forest import Forest
from proteus_router.types import FloatArray

__all__ = ["ForestParams", "grow_forest"]


@dataclass(frozen=True, slots=True)
class ForestParams:
    """Size of the forest.

    Attributes
    ----------
    trees, depth
        How many, and how deep at most.
    leaf_rows
        Rows a leaf must hold; a model observed on fewer of them is drawn to its mean.
    tried
        Numbers of the dense view tried at a split.
    """

    trees: int
    depth: int
    leaf_rows: int
    tried: int


def grow_forest(inputs: NDArray[np.float32], scores: FloatArray, params: ForestParams, seed: int) -> Forest:
    """Trees on (n, d) inputs and (n, k) scores, NaN where missing; their predictions sum to the mean over trees.

    The splits see a missing outcome as its model's mean; the leaves do not see it at all.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    seen = ~np.isnan(scores)
    mean = np.where(seen, scores, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    deviation = np.where(seen, scores - mean, 0.0)
    grown = ExtraTreesRegressor(
        n_estimators=params.trees,
        max_depth=params.depth,
        min_samples_leaf=params.leaf_rows,
        max_features=min(params.tried, inputs.shape[1]),
        random_state=seed,
    ).fit(inputs, deviation)
    roots, children, features, thresholds, values = [], [], [], [], []
    start = depth = 0
    for estimator in grown.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        itself = np.arange(tree.node_count)
        children.append(
            start
            + np.column_stack([np.where(leaf, itself, c) for c in (tree.children_left, tree.children_right)])
        )
        roots.append(start)
        features.append(np.where(leaf, 0, tree.feature))
        thresholds.append(np.where(leaf, 0.0, tree.threshold))
        values.append(
            (mean + _leaf_means(tree.apply(inputs), deviation, seen, params.leaf_rows, leaf)) / params.trees
        )
        start += tree.node_count
        depth = max(depth, int(tree.max_depth))
    return Forest(
        np.array(roots, dtype=np.int32),
        np.concatenate(children).astype(np.int32),
        np.concatenate(features).astype(np.int32),
        np.concatenate(thresholds),
        np.concatenate(values).astype(np.float32),
        depth,
    )


def _leaf_means(
    reached: NDArray[np.int64],
    deviation: FloatArray,
    seen: NDArray[np.bool_],
    leaf_rows: int,
    leaf: NDArray[np.bool_],
) -> FloatArray:
    """(m, k) mean deviation of what was observed in each leaf, over at least `leaf_rows` of it."""
    means = np.zeros((len(leaf), deviation.shape[1]))
    for model in range(deviation.shape[1]):
        total = np.bincount(reached, weights=deviation[:, model], minlength=len(leaf))
        count = np.bincount(reached, weights=seen[:, model], minlength=len(leaf))
        means[:, model] = total / np.maximum(count, leaf_rows)
    return means
