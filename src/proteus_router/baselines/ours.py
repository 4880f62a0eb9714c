"""Our router and its ablations, on heads fitted once a cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.predicting import CrossFitted, PriceSweep, mean_cost_head
from proteus_router.config import PolicyConfig
from proteus_router.routing.frontier import Estimates, estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.hull import Mix
from proteus_router.routing.points import PointPolicy
from proteus_router.training.heads import FittedHeads
from proteus_router.training.policy import Problem, fit_default_policy
from proteus_router.training.policy.environment import Environment, make_environment
from proteus_router.training.policy.learner import train_policy
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import IntArray, Predictions

__all__ = [
    "OneHead",
    "OwnHeads",
    "Proteus",
    "TrainedPolicy",
    "WithoutConvexification",
    "own_heads_plugin",
]


@dataclass(frozen=True)
class Proteus:
    """What `proteus train` ships: the policy that its own out-of-fold comparison chose, on our heads."""

    name: str = "proteus"

    def fit(self, context: Context) -> RouterFit:
        _ = context.heads  # shared by many routers, not part of this one's time
        started = time.perf_counter()
        found = fit_default_policy(
            _problem(context.heads.oof, context),
            config=context.config.policy,
            seed=context.seed,
            stages=context.stages,
            log=TrainLog(None),
            progress=lambda *_: None,
        )
        policy = found.policy
        return RouterFit(
            name=self.name,
            knobs=found.accuracy,
            choices=lambda texts: policy.choose_all(context.predict(texts)),
            out_of_fold=found.out_of_fold_choices,
            estimates=Estimates(found.accuracy, found.cost_usd),
            predicted=context.predict,
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True)
class OwnHeads:
    """Our heads as a learner.

    Attributes
    ----------
    costs
        predicted, or mean: every model at its mean cost.
    """

    costs: Literal["predicted", "mean"] = "predicted"

    def __call__(self, context: Context) -> CrossFitted:
        if self.costs == "predicted":
            return CrossFitted(context.heads.oof, context.predict)
        own, cost = mean_cost_head(context)

        def predict(texts: Sequence[str]) -> Predictions:
            found = context.predict(texts)
            return Predictions(found.scores, cost(context.features_of(texts)))

        return CrossFitted(Predictions(context.heads.oof.scores, own), predict)


@dataclass(frozen=True)
class OneHead:
    """A single estimator of the score under the stack's shrinkage; its fit is shared with the full heads."""

    estimator: Literal["kernel", "forest"]

    def __call__(self, context: Context) -> CrossFitted:
        config = context.config.heads.model_copy(update={"estimators": (self.estimator,)})
        return of_heads(context.fit_heads(config))


def of_heads(heads: FittedHeads) -> CrossFitted:
    return CrossFitted(heads.oof, lambda texts: heads.predictor.predict(list(texts)))


def own_heads_plugin() -> PriceSweep:
    """The plain plug-in given our own heads: the one baseline ours may tie with."""
    return PriceSweep("plugin-own-heads", OwnHeads())


@dataclass(frozen=True)
class WithoutConvexification:
    """Our plug-in, but a target is served by one point: the cheapest estimated to reach it, no coin."""

    name: str = "no-convexification"

    def fit(self, context: Context) -> RouterFit:
        fit = own_heads_plugin().fit(context)
        estimates = estimate_points(fit.out_of_fold, context.train.scores, context.train.costs_usd)

        def native(target: float) -> Mix:
            price = np.where(estimates.accuracy >= target, estimates.cost_usd, np.inf)
            reached = np.isfinite(price).any()
            point = int(price.argmin() if reached else np.nanargmax(estimates.accuracy))
            return Mix(point, point, 1.0)

        return replace(fit, name=self.name, native=native)


@dataclass(frozen=True)
class TrainedPolicy:
    """The trained policy whether or not it would ship, cross-fitted on the cell's folds.

    Attributes
    ----------
    update
        Settings of `PolicyConfig` changed from their defaults: the ablation.
    conditioned
        False: one quality preference, the mean over targets, serves every target.
    """

    name: str
    update: tuple[tuple[str, object], ...] = ()
    conditioned: bool = True

    def fit(self, context: Context) -> RouterFit:
        config = context.config.policy.model_copy(update=dict(self.update))
        problem = _problem(context.heads.oof, context)
        started = time.perf_counter()
        own: list[tuple[IntArray, IntArray]] = []
        for fold in range(int(context.folds.max()) + 1):
            held, kept = np.flatnonzero(context.folds == fold), np.flatnonzero(context.folds != fold)
            points = self._train(problem.take(kept), config, context)
            own.append((held, points.choose_all(problem.take(held).predictions)))
        final = self._train(problem, config, context)
        out_of_fold = np.empty((final.n_points, problem.n_queries), dtype=np.int64)
        for held, choices in own:
            out_of_fold[:, held] = choices
        one = Mix(0, 0, 1.0)
        return RouterFit(
            name=self.name,
            knobs=np.where(final.fixed >= 0, np.nan, final.quality_preference),
            choices=lambda texts: final.choose_all(context.predict(texts)),
            out_of_fold=out_of_fold,
            native=None if self.conditioned else lambda target: one,
            predicted=context.predict,
            seconds=time.perf_counter() - started,
        )

    def _train(self, problem: Problem, config: PolicyConfig, context: Context) -> PointPolicy:
        environment = _environment(problem, config)
        trained = train_policy(
            environment,
            config=config,
            seed=context.seed,
            stages=MemoryStages(),
            stage_name="policy",
            log=TrainLog(None),
        )
        if not self.conditioned:
            mean = trained.settings(config.n_targets).mean(keepdims=True)
            return environment.points_at(mean, trained.boosts, trained.gamma)
        fixed = PointPolicy.from_models(np.arange(problem.n_models), problem.n_models)
        return trained.points(config.n_settings).joined(fixed)


def _environment(problem: Problem, config: PolicyConfig) -> Environment:
    points = plugin_points(problem.predictions, config.n_settings)
    estimates = estimate_points(points.choose_all(problem.predictions), problem.scores, problem.costs_usd)
    return make_environment(
        problem, points, estimates, frontier_vertices(estimates, min_gap=config.min_gap), config
    )


def _problem(predictions: Predictions, context: Context) -> Problem:
    train = context.train
    return Problem(predictions.scores, predictions.costs_usd, train.scores, train.costs_usd, context.groups)
