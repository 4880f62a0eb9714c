"""What the learner sees: rewards in a cost unit, targets in reach, prices that matter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from proteus_router.config import PolicyConfig
from proteus_router.routing.frontier import Estimates
from proteus_router.routing.points import PointPolicy
from proteus_router.training.policy.beta import MU_GRID
from proteus_router.training.policy.problem import Problem
from proteus_router.types import FloatArray, IntArray

__all__ = ["Environment", "make_environment"]


@dataclass(frozen=True)
class Environment:
    """Training rows with rewards, and the scales that make training indifferent to currency.

    Attributes
    ----------
    problem
        The training rows.
    cost_unit_usd
        Mean observed cost; costs below are in this unit.
    kappa
        Price of cost at mu = 0, in predicted score per cost unit.
    targets
        (n_targets,) internal targets, rising, even over the plug-in frontier's [min, max].
    log_dual
        (n_targets,) log of 1 / price of the plug-in frontier at each target: where the duals start.
    log_dual_range
        Bounds of every log dual.
    """

    problem: Problem
    cost_unit_usd: float
    kappa: float
    targets: FloatArray
    log_dual: FloatArray
    log_dual_range: tuple[float, float]

    @cached_property
    def reward_scores(self) -> FloatArray:
        """(n, n_models) observed scores, predicted ones where missing."""
        return np.where(np.isnan(self.problem.scores), self.problem.predicted_scores, self.problem.scores)

    @cached_property
    def reward_costs(self) -> FloatArray:
        """(n, n_models) observed costs in cost units, predicted ones where missing."""
        missing = np.isnan(self.problem.costs_usd)
        costs = np.where(missing, self.problem.predicted_costs_usd, self.problem.costs_usd)
        return costs / self.cost_unit_usd

    @cached_property
    def predicted_costs(self) -> FloatArray:
        """(n, n_models) predicted costs in cost units."""
        return self.problem.predicted_costs_usd / self.cost_unit_usd

    def points_at(self, mu: FloatArray, boosts: FloatArray, gamma: float) -> PointPolicy:
        """The operating points ``p_i + mu b_i - kappa (1 - mu)^gamma c_i`` of the given mu."""
        prices = self.kappa * (1.0 - mu) ** gamma / self.cost_unit_usd
        return PointPolicy(mu[:, None] * boosts, prices, np.full(mu.size, -1, dtype=np.int64), mu)

    def tabulate(self, boosts: FloatArray, gamma: float) -> IntArray:
        """(101, n) model that the hard selection picks at every mu of the grid."""
        return self.points_at(MU_GRID, boosts, gamma).choose_all(self.problem.predictions)


def make_environment(
    problem: Problem, points: PointPolicy, estimates: Estimates, vertices: IntArray, config: PolicyConfig
) -> Environment:
    """Scales and targets from the plug-in frontier of the same rows.

    Parameters
    ----------
    points, estimates
        Candidates of the plug-in with their accuracy and cost.
    vertices
        Its frontier, most accurate first.
    """
    unit = float(np.nanmean(problem.costs_usd))
    unit = unit if unit > 0 else 1.0
    accuracy, cost = estimates.accuracy[vertices], estimates.cost_usd[vertices] / unit
    targets = np.linspace(accuracy[-1], accuracy[0], config.n_targets)
    useful = points.prices[vertices] * unit
    largest = float(useful.max()) if useful.max() > 0 else float(points.prices.max() * unit) or 1.0
    smallest = float(useful[useful > 0].min()) if (useful > 0).any() else largest
    kappa = 1.0 if config.kappa_factor is None else config.kappa_factor * largest
    # The price on a segment of the hull is its slope, and 1 / price is the dual of a target on that segment.
    if vertices.size > 1:
        slopes = np.clip((accuracy[:-1] - accuracy[1:]) / (cost[:-1] - cost[1:]), smallest, largest)
        middles = 0.5 * (accuracy[:-1] + accuracy[1:])
        log_dual = np.interp(targets, middles[::-1], -np.log(slopes[::-1]))
    else:
        log_dual = np.full(config.n_targets, -np.log(largest))
    bounds = (-np.log(2.0 * largest), -np.log(0.5 * smallest))
    return Environment(problem, unit, kappa, targets, log_dual, (float(bounds[0]), float(bounds[1])))
