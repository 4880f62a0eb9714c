"""The gradient by boosts and gamma, through a softmax in the place of the argmax.

The hard selection is flat almost everywhere. At temperature T the chance of model i is softmax(s_i / T),
and the expected reward has the closed-form derivative d/ds_i = pi_i (r_i - sum_k pi_k r_k) / T: biased by
T, but without the variance of a score-function estimate, since every model's outcome (or prediction) is at
hand.
"""

from __future__ import annotations

import numpy as np

from proteus_router.types import FloatArray

__all__ = ["smoothed_reward"]


def smoothed_reward(
    scores: FloatArray,
    costs: FloatArray,
    rewards: FloatArray,
    mu: FloatArray,
    boosts: FloatArray,
    gamma: float,
    kappa: float,
    temperature: float,
) -> tuple[float, FloatArray, float]:
    """Mean smoothed reward and its derivatives by boosts and gamma.

    Parameters
    ----------
    scores, costs
        (n, n_models), predicted; what selection sees.
    rewards
        (t, n, n_models), one slice a target.
    mu
        (t,) quality preference of each target.

    Returns
    -------
    value, (n_models,) derivative by boosts, derivative by gamma.
    """
    rest = np.maximum(1.0 - mu, 1e-12)
    price = kappa * rest**gamma
    utilities = scores + mu[:, None, None] * boosts - price[:, None, None] * costs  # (t, n, n_models)
    chances = utilities / temperature
    chances -= chances.max(axis=2, keepdims=True)
    np.exp(chances, out=chances)
    chances /= chances.sum(axis=2, keepdims=True)
    mean = (chances * rewards).sum(axis=2, keepdims=True)
    pull = chances * (rewards - mean) / temperature  # d mean / d utility
    cells = rewards.shape[0] * rewards.shape[1]
    by_boosts = np.einsum("tnk,t->k", pull, mu) / cells
    by_gamma = float(np.einsum("tnk,nk,t->", pull, costs, -price * np.log(rest)) / cells)
    return float(mean.mean()), by_boosts, by_gamma
