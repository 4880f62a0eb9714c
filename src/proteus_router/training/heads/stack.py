"""Weights that combine estimators of the score: what decides between models apart from how hard a query is.

A score is split into its mean over models (the level: is the query hard?) and what is left (the contrasts: who is
better on it?). Only contrasts decide where a query goes; they are weak, so each estimator gets one weight for
them, shared by all models, by non-negative least squares. Weights need not sum to one: that is the shrinkage.
The level has weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from proteus_router.types import BoolArray, FloatArray

__all__ = ["StackWeights", "combine", "fit_stack", "mixing_matrix"]


@dataclass(frozen=True, slots=True)
class StackWeights:
    """One weight an estimator for the contrasts, one for the level, and a constant per model.

    The combined prediction is  constant_i + sum_e contrast_e (f_ei - mean_i f_ei) + level_e mean_i f_ei.
    """

    contrast: FloatArray  # (e,)
    level: FloatArray  # (e,)
    constant: FloatArray  # (k,)


def mixing_matrix(contrast: float, level: float, k: int) -> FloatArray:
    """(k, k) symmetric M with  f M = contrast (f - mean f) + level mean f."""
    return contrast * np.eye(k) + (level - contrast) / k * np.ones((k, k))


def combine(weights: StackWeights, predictions: Sequence[FloatArray]) -> FloatArray:
    """(n, k) combined predictions, not yet limited to [0, 1]."""
    k = len(weights.constant)
    total = np.zeros_like(predictions[0]) + weights.constant
    for f, contrast, level in zip(predictions, weights.contrast, weights.level, strict=True):
        total += f @ mixing_matrix(float(contrast), float(level), k)
    return total


def fit_stack(
    predictions: Sequence[FloatArray], scores: FloatArray, rows: BoolArray | None = None
) -> StackWeights:
    """Weights from cross-fitted `predictions` (each (n, k)) against `scores` (n, k; NaN missing).

    The contrasts of a row are taken over the models observed on it, on both sides; each model's own mean is
    fitted freely (centred out), so that shrinking the contrasts never pulls models together on average.
    """
    use = np.ones(len(scores), dtype=bool) if rows is None else rows
    y = scores[use]
    seen = ~np.isnan(y)
    stacked = [f[use] for f in predictions]
    several = seen & (seen.sum(axis=1, keepdims=True) > 1)
    target = _contrasts(y, several)
    design = [_contrasts(f, several) for f in stacked]
    contrast, _ = nnls(np.column_stack([x[several] for x in design]), target[several])
    answered = seen.any(axis=1)
    hard = _centre(_row_mean(y, seen)[answered])
    level, _ = nnls(np.column_stack([_centre(_row_mean(f, seen)[answered]) for f in stacked]), hard)
    k = scores.shape[1]
    bare = combine(StackWeights(contrast, level, np.zeros(k)), stacked)
    constant = _column_mean(y - bare, seen)
    return StackWeights(np.asarray(contrast), np.asarray(level), constant)


def _centre(values: FloatArray) -> FloatArray:
    centred: FloatArray = values - values.mean(axis=0)
    return centred


def _row_mean(values: FloatArray, seen: BoolArray) -> FloatArray:
    mean: FloatArray = np.where(seen, values, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return mean


def _column_mean(values: FloatArray, seen: BoolArray) -> FloatArray:
    mean: FloatArray = np.where(seen, values, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return mean


def _contrasts(values: FloatArray, seen: BoolArray) -> FloatArray:
    """Deviation from the row's mean over observed models, then from the model's own mean of that."""
    deviation = np.where(seen, values - _row_mean(values, seen)[:, None], 0.0)
    return np.where(seen, deviation - _column_mean(deviation, seen), 0.0)
