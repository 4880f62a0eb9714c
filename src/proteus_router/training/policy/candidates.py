"""The candidates for shipping, each fitted from rows alone and each cut down to its frontier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.config import PolicyConfig
from proteus_router.routing.frontier import Estimates, estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.points import PointPolicy
from proteus_router.routing.residual import ResidualPolicy
from proteus_router.training.policy.environment import make_environment
from proteus_router.training.policy.learner import train_policy
from proteus_router.training.policy.problem import Problem
from proteus_router.training.policy.residual import train_residual
from proteus_router.training.stages import StageStore
from proteus_router.training.threads import one_blas_thread
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray, IntArray

__all__ = ["CANDIDATES", "Settings", "fit_candidates"]

CANDIDATES = ("static mix", "plug-in", "trained policy", "query-dependent policy")
"""From the simplest to the most complex."""


@dataclass(frozen=True)
class Settings:
    """All operating points of one candidate, before the hull, in an order that is the same for every fit.

    Attributes
    ----------
    policy
        Every setting, then every model alone.
    estimates
        Accuracy and cost of each on the rows fitted on.
    """

    policy: PointPolicy | ResidualPolicy
    estimates: Estimates

    def frontier(self, min_gap: float) -> tuple[PointPolicy | ResidualPolicy, FloatArray]:
        vertices = frontier_vertices(self.estimates, min_gap=min_gap)
        return self.policy.take(vertices), self.estimates.accuracy[vertices]


def fit_candidates(
    problem: Problem,
    *,
    config: PolicyConfig,
    seed: int,
    stages: StageStore,
    stage_name: str,
    log: TrainLog,
    names: tuple[str, ...] = CANDIDATES,
) -> dict[str, Settings]:
    """Fit the candidates of the given names on `problem`."""
    models = problem.n_models
    fixed = PointPolicy.from_models(np.arange(models), models)
    plugin = plugin_points(problem.predictions, config.n_settings)
    found = {"static mix": _estimated(fixed, problem), "plug-in": _estimated(plugin, problem)}
    if "trained policy" in names or "query-dependent policy" in names:
        estimates = found["plug-in"].estimates
        vertices = frontier_vertices(estimates, min_gap=config.min_gap)
        environment = make_environment(problem, plugin, estimates, vertices, config)
        with one_blas_thread():
            trained = train_policy(
                environment, config=config, seed=seed, stages=stages, stage_name=stage_name, log=log
            )
        found["trained policy"] = _estimated(trained.points(config.n_settings).joined(fixed), problem)
    if "query-dependent policy" in names:
        with one_blas_thread():
            residual = train_residual(
                trained,
                config=config,
                seed=seed,
                stages=stages,
                stage_name=f"{stage_name}_residual",
                log=log,
            )
        found["query-dependent policy"] = _estimated(residual, problem)
    return {name: found[name] for name in CANDIDATES if name in names}


def _estimated(policy: PointPolicy | ResidualPolicy, problem: Problem) -> Settings:
    choices: IntArray = policy.choose_all(problem.predictions)
    return Settings(policy, estimate_points(choices, problem.scores, problem.costs_usd))
