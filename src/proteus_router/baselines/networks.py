"""A fully connected network of three layers in plain numpy, and the predictors made of it.

Missing outcomes carry no weight in the loss. Output layers start at zero, so that a permutation of the models
permutes the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.predicting import CrossFitted, cross_fit, mean_cost_head, model_means
from proteus_router.types import FloatArray, Predictions

__all__ = ["ThreeLayers", "TwoHeads", "train_layers"]

Float32 = NDArray[np.float32]
_WIDTHS = (128, 64)
_EPOCHS = 20
_BATCH = 64
_RATE = 1e-3
_DECAY = 0.1
_DROPOUT = 0.4


@dataclass(frozen=True)
class ThreeLayers:
    """The paper's MLP: three layers from the dense view to a score a model; every model at its mean cost."""

    def __call__(self, context: Context) -> CrossFitted:
        out_of_fold, score = cross_fit(context, self._fit_rows)
        own_costs, cost = mean_cost_head(context)

        def predict(texts: Sequence[str]) -> Predictions:
            features = context.features_of(texts)
            return Predictions(score(features), cost(features))

        return CrossFitted(Predictions(out_of_fold, own_costs), predict)

    def _fit_rows(
        self, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], FloatArray]:
        network = train_layers(features.dense, scores, seed)
        return lambda other: np.clip(network(other.dense), 0.0, 1.0)


@dataclass(frozen=True)
class TwoHeads:
    """One trunk of two layers with a head for scores and a head for costs, trained together."""

    def __call__(self, context: Context) -> CrossFitted:
        k = context.train.n_models
        out_of_fold, both = cross_fit(context, self._fit_rows)

        def predict(texts: Sequence[str]) -> Predictions:
            values = both(context.features_of(texts))
            return Predictions(values[:, :k], values[:, k:])

        return CrossFitted(Predictions(out_of_fold[:, :k], out_of_fold[:, k:]), predict)

    def _fit_rows(
        self, features: Features, scores: FloatArray, costs_usd: FloatArray, seed: int
    ) -> Callable[[Features], FloatArray]:
        k = scores.shape[1]
        means = model_means(costs_usd)
        unit = np.where(means > 0, means, 1.0)
        # Square roots tame the long tail of costs and, unlike logarithms, take a free model as it is.
        network = train_layers(features.dense, np.hstack([scores, np.sqrt(costs_usd / unit)]), seed)

        def predict(other: Features) -> FloatArray:
            values = network(other.dense)
            return np.hstack([np.clip(values[:, :k], 0.0, 1.0), np.maximum(values[:, k:], 0.0) ** 2 * unit])

        return predict


def train_layers(inputs: FloatArray, targets: FloatArray, seed: int) -> Callable[[FloatArray], FloatArray]:
    """Fit ``relu, relu, linear`` by Adam on the squared error of `targets` (n, m; NaN missing).

    Returns
    -------
    Inputs (any, d) -> outputs (any, m), float64.
    """
    rng = np.random.default_rng(seed)
    mean = model_means(targets).astype(np.float32)
    seen = ~np.isnan(targets)
    goal = np.where(seen, targets - mean, 0.0).astype(np.float32)
    x = inputs.astype(np.float32)
    sizes = (x.shape[1], *_WIDTHS, targets.shape[1])
    params: list[Float32] = []
    for fan_in, fan_out in pairwise(sizes):
        scale = 0.0 if fan_out == sizes[-1] and len(params) == 4 else np.sqrt(2.0 / fan_in)
        params += [(rng.standard_normal((fan_in, fan_out)) * scale).astype(np.float32), _zeros(fan_out)]
    first, second = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    batch = min(_BATCH, len(x))
    steps = _EPOCHS * (len(x) // batch)
    step = 0
    for _ in range(_EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) // batch * batch, batch):
            rows = order[start : start + batch]
            gradients = _gradients(params, x[rows], goal[rows], seen[rows], rng)
            step += 1
            rate = _RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps))
            for index, (param, gradient) in enumerate(zip(params, gradients, strict=True)):
                first[index] += np.float32(0.1) * (gradient - first[index])
                second[index] += np.float32(0.01) * (gradient * gradient - second[index])
                damped = np.sqrt(second[index] / np.float32(1.0 - 0.99**step)) + np.float32(1e-6)
                if param.ndim == 2:
                    param *= np.float32(1.0 - rate * _DECAY)
                param -= np.float32(rate / (1.0 - 0.9**step)) * first[index] / damped

    def predict(other: FloatArray) -> FloatArray:
        hidden = np.maximum(other @ params[0] + params[1], 0.0)
        hidden = np.maximum(hidden @ params[2] + params[3], 0.0)
        return np.asarray(hidden @ params[4] + params[5] + mean, dtype=np.float64)

    return predict


def _gradients(
    params: list[Float32], x: Float32, goal: Float32, seen: NDArray[np.bool_], rng: np.random.Generator
) -> list[Float32]:
    """Of the mean over rows of the squared error summed over columns, halved; dropout on both hidden layers."""
    w1, b1, w2, b2, w3, b3 = params
    keep1, keep2 = (
        (rng.random((len(x), width), dtype=np.float32) > _DROPOUT) / np.float32(1.0 - _DROPOUT)
        for width in _WIDTHS
    )
    h1 = np.maximum(x @ w1 + b1, 0.0) * keep1
    h2 = np.maximum(h1 @ w2 + b2, 0.0) * keep2
    error = (h2 @ w3 + b3 - goal) * seen / np.float32(len(x))
    back2 = (error @ w3.T) * (h2 > 0) * keep2
    back1 = (back2 @ w2.T) * (h1 > 0) * keep1
    return [x.T @ back1, back1.sum(0), h1.T @ back2, back2.sum(0), h2.T @ error, error.sum(0)]


def _zeros(size: int) -> Float32:
    return np.zeros(size, dtype=np.float32)
