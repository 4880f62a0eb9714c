"""The Beta distribution over the quality preference mu, on a grid."""

from __future__ import annotations

import numpy as np

from proteus_router.types import FloatArray

__all__ = ["LOGIT_GRID", "MU_GRID", "beta_pmf", "entropy", "kl_divergence", "logit_gradient", "sigmoid"]

MU_GRID: FloatArray = np.linspace(0.0, 1.0, 101)
"""The 101 values of mu at which the hard selection is tabulated."""

# Logarithms see mu pulled into the open interval: cell centres of a 101-cell partition.
_INNER = (100.0 * MU_GRID + 0.5) / 101.0
_LOG_MU, _LOG_REST = np.log(_INNER), np.log1p(-_INNER)
LOGIT_GRID: FloatArray = _LOG_MU - _LOG_REST


def sigmoid(x: FloatArray) -> FloatArray:
    result: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


def beta_pmf(logit: FloatArray, concentration: float) -> FloatArray:
    """(..., 101) weights of Beta(m s, (1 - m) s) on the grid, m = sigmoid(logit), s = concentration."""
    mean = sigmoid(logit)[..., None]
    weight = (mean * concentration - 1.0) * _LOG_MU + ((1.0 - mean) * concentration - 1.0) * _LOG_REST
    weight -= weight.max(axis=-1, keepdims=True)
    np.exp(weight, out=weight)
    weight /= weight.sum(axis=-1, keepdims=True)
    return weight


def logit_gradient(
    pmf: FloatArray, rewards: FloatArray, logit: FloatArray, concentration: float
) -> FloatArray:
    """Derivative of ``sum_m pmf_m R_m`` with respect to the logit of the mean: exact, nothing is sampled.

    With weights proportional to exp(m s L + ...), L = logit(mu), the derivative by the mean m is s Cov(L,
    R).
    """
    centred = rewards - (pmf * rewards).sum(axis=-1, keepdims=True)
    mean = sigmoid(logit)
    gradient: FloatArray = concentration * mean * (1.0 - mean) * (pmf * centred * LOGIT_GRID).sum(axis=-1)
    return gradient


def entropy(pmf: FloatArray) -> float:
    """Mean entropy in nats; log(101) at most."""
    return float(-(pmf * np.log(np.maximum(pmf, 1e-300))).sum(axis=-1).mean())


def kl_divergence(old: FloatArray, new: FloatArray) -> float:
    """Mean KL(old || new) in nats."""
    ratio = np.log(np.maximum(old, 1e-300)) - np.log(np.maximum(new, 1e-300))
    return float((old * ratio).sum(axis=-1).mean())
