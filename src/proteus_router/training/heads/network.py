"""A small multi-task network in plain numpy: one hidden layer shared by the models, masked squared error, Adam.

The output layer starts at zero and the hidden layer is drawn without reference to the models, so a permutation
of the models permutes the fit. An ensemble is stored as one wide network: averaging outputs is concatenating
hidden layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proteus_router.errors import DivergenceError
from proteus_router.types import FloatArray

__all__ = ["Network", "NetworkParams", "predict_network", "train_network"]

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NetworkParams:
    """Shape and optimisation of one member."""

    hidden: int = 64
    epochs: int = 30
    batch: int = 64
    rate: float = 2e-3
    decay: float = 0.1
    dropout_in: float = 0.1
    dropout: float = 0.3
    members: int = 4


@dataclass(frozen=True, slots=True)
class Network:
    """f(x) = relu(x W_in + b_in) W_out + b_out."""

    w_in: Float32  # (d, h)
    b_in: Float32  # (h,)
    w_out: Float32  # (h, k)
    b_out: Float32  # (k,)


def predict_network(network: Network, inputs: Float32) -> FloatArray:
    """(n, k) float64."""
    hidden = np.maximum(inputs @ network.w_in + network.b_in, 0.0)
    return np.asarray(hidden @ network.w_out + network.b_out, dtype=np.float64)


def train_network(inputs: Float32, targets: FloatArray, params: NetworkParams, seed: int) -> Network:
    """An ensemble of `params.members` networks on (n, d) inputs and (n, k) targets with NaN for missing."""
    members = [_train_member(inputs, targets, params, [seed, member]) for member in range(params.members)]
    return Network(
        np.concatenate([m.w_in for m in members], axis=1),
        np.concatenate([m.b_in for m in members]),
        np.asarray(np.concatenate([m.w_out for m in members]) / np.float32(len(members)), dtype=np.float32),
        np.asarray(np.mean([m.b_out for m in members], axis=0), dtype=np.float32),
    )


def _train_member(inputs: Float32, targets: FloatArray, params: NetworkParams, seed: list[int]) -> Network:
    rng = np.random.default_rng(seed)
    n, d = inputs.shape
    mask = ~np.isnan(targets)
    counts = np.maximum(mask.sum(axis=0), 1)
    mean = (np.where(mask, targets, 0.0).sum(axis=0) / counts).astype(np.float32)
    goal = np.where(mask, targets - mean, 0.0).astype(np.float32)
    weight = mask.astype(np.float32)
    k, h = targets.shape[1], params.hidden
    values = [
        (rng.standard_normal((d, h)) * np.sqrt(2.0 / d)).astype(np.float32),
        np.zeros(h, dtype=np.float32),
        np.zeros((h, k), dtype=np.float32),
        np.zeros(k, dtype=np.float32),
    ]
    first = [np.zeros_like(value) for value in values]
    second = [np.zeros_like(value) for value in values]
    batch = min(params.batch, n)
    per_epoch = max(n // batch, 1)
    total = params.epochs * per_epoch
    step = 0
    loss = 0.0
    for _ in range(params.epochs):
        order = rng.permutation(n)
        for start in range(0, per_epoch * batch, batch):
            rows = order[start : start + batch]
            w_in, b_in, w_out, b_out = values
            x = inputs[rows]
            if params.dropout_in > 0:
                kept = rng.random(x.shape, dtype=np.float32) > params.dropout_in
                x = np.asarray(x * kept / np.float32(1 - params.dropout_in), dtype=np.float32)
            pre = x @ w_in + b_in
            keep = (rng.random(pre.shape, dtype=np.float32) > params.dropout) / np.float32(1 - params.dropout)
            active = (pre > 0) * keep
            hidden = pre * active
            error = (hidden @ w_out + b_out - goal[rows]) * weight[rows]
            loss = float(np.einsum("ij,ij->", error, error))
            error *= np.float32(1.0 / batch)
            back = (error @ w_out.T) * active
            slopes = [x.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
            step += 1
            rate = params.rate * 0.5 * (1.0 + np.cos(np.pi * step / total))
            for i, (value, slope) in enumerate(zip(values, slopes, strict=True)):
                first[i] += np.float32(0.1) * (slope - first[i])
                second[i] += np.float32(0.01) * (slope * slope - second[i])
                scale = np.float32(rate / (1.0 - 0.9**step))
                damp = np.float32(1.0 / (1.0 - 0.99**step))
                if value.ndim == 2:
                    value *= np.float32(1.0 - rate * params.decay)
                value -= scale * first[i] / (np.sqrt(second[i] * damp) + np.float32(1e-6))
        if not np.isfinite(loss):
            raise DivergenceError(
                "The score network diverged.", step=step, metric="loss", hint="Lower heads.network_rate."
            )
    return Network(values[0], values[1], values[2], values[3] + mean)
