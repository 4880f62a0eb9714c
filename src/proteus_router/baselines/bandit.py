"""Primal-dual LinUCB: a router that sees only the outcome of the model it chose, and keeps a floor by a dual.

Disjoint LinUCB (Li et al. 2010) a model, its bonus shrinking as the model is tried; the floor enters through a
multiplier as in budget-paced bandits (ParetoBandit, arXiv 2604.00136, with floor and cost exchanged):

    m_t = argmax_i  lambda (theta_i . x + beta sqrt(x' A_i^-1 x)) - c_i / unit
    lambda <- clip(lambda + eta (tau - y_t))

where c_i is the running mean cost of model i as observed. One pass over the training rows in random order per
target; what is deployed is the last theta with the mean multiplier of the second half, without the bonus.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context, Features
from proteus_router.baselines.predicting import model_means
from proteus_router.routing.hull import mix_at_accuracy
from proteus_router.routing.points import cheapest_argmax
from proteus_router.types import FloatArray, IntArray

__all__ = ["PrimalDualLinUCB"]

_RIDGE = 1.0
_MAX_DUAL = 1e3


@dataclass(frozen=True)
class PrimalDualLinUCB:
    """One bandit run a target.

    Attributes
    ----------
    dim
        Leading directions of the dense view that the linear models read, beside a constant.
    n_targets
        Targets, even between the models' 10% quantile of accuracy and the best.
    beta, eta
        Width of the confidence bonus; step of the multiplier.
    """

    name: str = "linucb"
    dim: int = 5
    n_targets: int = 12
    beta: float = 1.0
    eta: float = 0.05

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        train, features = context.train, context.features
        k = train.n_models
        targets = _targets(train.scores, self.n_targets)
        own = np.empty((targets.size, train.n_queries), dtype=np.int64)
        for fold in range(int(context.folds.max()) + 1):
            held, kept = np.flatnonzero(context.folds == fold), np.flatnonzero(context.folds != fold)
            rule = self._run(
                features.take(kept), train.scores[kept], train.costs_usd[kept], targets, context.seed
            )
            own[:, held] = rule(features.take(held))
        final = self._run(features, train.scores, train.costs_usd, targets, context.seed)

        def with_fixed(choices: IntArray) -> IntArray:
            return np.vstack([choices, np.tile(np.arange(k)[:, None], (1, choices.shape[1]))])

        return RouterFit(
            name=self.name,
            knobs=np.concatenate([targets, np.full(k, np.nan)]),
            choices=lambda texts: with_fixed(final(context.features_of(texts))),
            out_of_fold=with_fixed(own),
            native=lambda target: mix_at_accuracy(targets, min(target, float(targets[0]))),
            seconds=time.perf_counter() - started,
        )

    def _run(
        self, features: Features, scores: FloatArray, costs_usd: FloatArray, targets: FloatArray, seed: int
    ) -> Callable[[Features], IntArray]:
        rng = np.random.default_rng(seed)
        x = _inputs(features, self.dim)
        (n, d), k, runs = x.shape, scores.shape[1], targets.size
        every = np.arange(runs)
        inverse = np.tile(np.eye(d) / _RIDGE, (runs, k, 1, 1))  # A^-1
        reward = np.zeros((runs, k, d))
        theta = np.zeros((runs, k, d))
        tried, paid = np.zeros((runs, k)), np.zeros((runs, k))
        dual, dual_sum, dual_count = np.ones(runs), np.zeros(runs), 0
        unit = 0.0
        for step, row in enumerate(rng.permutation(n)):
            z = x[row]
            reach = inverse @ z  # (runs, k, d)
            bonus = self.beta * np.sqrt(np.maximum(reach @ z, 0.0))
            cost = np.divide(paid, tried, out=np.zeros_like(paid), where=tried > 0)
            unit = max(unit, float(cost.max()))
            utility = dual[:, None] * (theta @ z + bonus) - cost / (unit or 1.0)
            chosen = utility.argmax(axis=1)
            seen = ~np.isnan(scores[row, chosen])  # an outcome nobody recorded teaches nothing
            run, model = every[seen], chosen[seen]
            outcome = scores[row, model]
            direction = reach[run, model]
            scale = 1.0 + direction @ z
            inverse[run, model] -= direction[:, :, None] * direction[:, None, :] / scale[:, None, None]
            reward[run, model] += outcome[:, None] * z
            theta[run, model] = (inverse[run, model] @ reward[run, model][:, :, None])[:, :, 0]
            tried[run, model] += 1.0
            paid[run, model] += costs_usd[row, model]
            dual[run] = np.clip(dual[run] + self.eta * (targets[run] - outcome), 0.0, _MAX_DUAL)
            if step >= n // 2:
                dual_sum += dual
                dual_count += 1
        mean_dual = dual_sum / max(dual_count, 1)
        cost = np.divide(paid, tried, out=np.tile(model_means(costs_usd).max(), paid.shape), where=tried > 0)

        def rule(other: Features) -> IntArray:
            z = _inputs(other, self.dim)
            choices = np.empty((runs, len(z)), dtype=np.int64)
            for index in range(runs):
                utility = mean_dual[index] * (z @ theta[index].T) - cost[index] / (unit or 1.0)
                choices[index] = cheapest_argmax(utility, np.tile(cost[index], (len(z), 1)))
            return choices

        return rule


def _inputs(features: Features, dim: int) -> FloatArray:
    """(n, 1 + dim) a constant and the leading dense directions, of norm about 1 each."""
    dense = features.dense[:, :dim] / np.sqrt(min(dim, features.dense.shape[1]))
    return np.hstack([np.ones((len(dense), 1)), dense])


def _targets(scores: FloatArray, count: int) -> FloatArray:
    """(count,) falling; one alone where all models score alike."""
    means = model_means(scores)
    low, high = float(np.quantile(means, 0.1)), float(means.max())
    return np.linspace(high, low, count) if high > low else np.array([high])
