"""Textbook predictors to beat: ridge and nearest neighbours on the dense view, each model at its mean cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["cross_fitted", "knn", "ridge"]


def ridge() -> Any:
    """Linear regression with an L2 penalty; the plain plug-in's predictor."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=300.0))


def knn(k: int = 60) -> Any:
    """Mean score of the k nearest training queries by cosine; the paper's baseline has k = 5."""
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(n_neighbors=k, metric="cosine")


def cross_fitted(
    estimator: Any,
    features: FloatArray,
    scores: FloatArray,
    costs_usd: FloatArray,
    groups: IntArray,
    held_out_features: FloatArray,
) -> tuple[Predictions, Predictions]:
    """Out-of-fold predictions of the training rows, and predictions of held-out rows by a refit on all.

    Parameters
    ----------
    features, held_out_features
        (n, d) and (m, d).
    scores, costs_usd
        (n, k) complete: these baselines know no missing outcomes.
    groups
        (n,) text groups; a group is never split over folds.
    """
    from sklearn.base import clone
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(n_splits=10)
    out_of_fold = cross_val_predict(clone(estimator), features, scores, groups=groups, cv=folds)
    held_out = clone(estimator).fit(features, scores).predict(held_out_features)
    mean_cost = costs_usd.mean(axis=0)
    return (
        Predictions(np.asarray(out_of_fold, dtype=np.float64), np.tile(mean_cost, (len(features), 1))),
        Predictions(np.asarray(held_out, dtype=np.float64), np.tile(mean_cost, (len(held_out_features), 1))),
    )
