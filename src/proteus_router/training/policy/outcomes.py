"""What a policy would have scored and cost on rows it was not fitted on, level by level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.routing.frontier import observation_rates
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.routing.points import Policy
from proteus_router.training.policy.problem import Problem
from proteus_router.types import FloatArray

__all__ = ["LevelOutcomes", "accuracy_levels", "outcomes_at_levels", "weighted_outcomes"]


@dataclass(frozen=True)
class LevelOutcomes:
    """Expected contribution of every row when a policy serves every accuracy level in turn.

    Each array is (n_levels, n). Mean score at a level = sum(score) / sum(weight), likewise cost: Hajek, so
    a row whose chosen model was not observed has weight 0.
    """

    score: FloatArray
    cost_usd: FloatArray
    weight: FloatArray

    @classmethod
    def empty(cls, n_levels: int, n_queries: int) -> LevelOutcomes:
        return cls(*(np.zeros((n_levels, n_queries)) for _ in range(3)))


def accuracy_levels(scores: FloatArray, n_levels: int = 12) -> FloatArray:
    """(n_levels,) from the models' 30% quantile + 0.02 to the best model - 0.005: where routing pays.

    Models that hardly differ leave no such range; the levels then spread from their 30% quantile to the
    best.
    """
    means = np.nanmean(scores, axis=0)
    low, high = float(np.quantile(means, 0.3)) + 0.02, float(means.max()) - 0.005
    if low >= high:
        low, high = float(np.quantile(means, 0.3)), float(means.max())
    return np.linspace(low, high, n_levels)


def weighted_outcomes(problem: Problem) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scores and costs times weights, and weights, (n, n_models): 1 / observation rate, 0 where missing."""
    missing = np.isnan(problem.scores)
    rates = observation_rates(problem.scores)
    inverse = np.divide(1.0, rates, out=np.zeros_like(rates), where=rates > 0)
    weights = np.where(missing, 0.0, inverse)
    scores = np.where(missing, 0.0, problem.scores) * weights
    costs = np.where(missing, 0.0, problem.costs_usd) * weights
    return scores, costs, weights


def outcomes_at_levels(
    policy: Policy,
    accuracy: FloatArray,
    held_out: Problem,
    weighted: tuple[FloatArray, FloatArray, FloatArray],
    levels: FloatArray,
) -> LevelOutcomes:
    """Serve each level by the mix that `accuracy` says reaches it, or by the most accurate point.

    Parameters
    ----------
    policy, accuracy
        Frontier vertices, most accurate first, and their estimates from other rows than `held_out`.
    weighted
        `weighted_outcomes` of the held-out rows, rates taken over all rows.
    """
    rows = np.arange(held_out.n_queries)
    choices = policy.choose_all(held_out.predictions)
    served = [[part[rows, choice] for part in weighted] for choice in choices]
    result = LevelOutcomes.empty(levels.size, rows.size)
    for index, level in enumerate(levels):
        mix = mix_at_accuracy(accuracy, min(float(level), float(accuracy[0])))
        for target, upper, lower in zip(
            (result.score, result.cost_usd, result.weight), served[mix.upper], served[mix.lower], strict=True
        ):
            target[index] = mix.weight_upper * upper + (1.0 - mix.weight_upper) * lower
    return result
