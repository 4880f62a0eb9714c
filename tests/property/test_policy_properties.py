"""Properties of the whole default policy: currency, order of models, useless models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.config import PolicyConfig
from proteus_router.routing.frontier import Estimates, frontier_vertices
from proteus_router.routing.points import PointPolicy
from proteus_router.training.policy import PolicyFit, Problem, fit_default_policy
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import IntArray, Predictions

# A wide margin makes the trained policy ship, so that its own properties are seen too.
CONFIGS = [
    PolicyConfig(steps=0, n_folds=2, n_settings=60, bootstrap=50),
    PolicyConfig(steps=30, n_folds=2, n_settings=60, bootstrap=50, margin=10.0, query_dependent=False),
    PolicyConfig(steps=30, n_folds=2, n_settings=60, bootstrap=50, margin=10.0),
]


def _problem(seed: int = 0, n: int = 240, k: int = 4) -> Problem:
    rng = np.random.default_rng(seed)
    truth = np.clip(np.linspace(0.4, 0.8, k) + rng.normal(0, 0.25, (n, k)), 0.02, 0.98)
    costs = np.geomspace(0.5, 16.0, k) * rng.lognormal(0, 0.3, (n, k))
    return Problem(
        truth,
        costs,
        (rng.random((n, k)) < truth).astype(float),
        costs * rng.lognormal(0, 0.1, (n, k)),
        np.arange(n),
    )


def _fit(problem: Problem, config: PolicyConfig) -> PolicyFit:
    return fit_default_policy(
        problem,
        config=config,
        seed=0,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=lambda stage, done, total: None,
    )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("factor", [2.0**-20, 1024.0])
def test_the_currency_changes_no_decision(config: PolicyConfig, factor: float) -> None:
    problem = _problem()
    other = Problem(
        problem.predicted_scores,
        problem.predicted_costs_usd * factor,
        problem.scores,
        problem.costs_usd * factor,
        problem.groups,
    )
    before, after = _fit(problem, config), _fit(other, config)
    np.testing.assert_array_equal(
        before.policy.choose_all(problem.predictions), after.policy.choose_all(other.predictions)
    )
    np.testing.assert_allclose(after.cost_usd, before.cost_usd * factor)


@pytest.mark.parametrize("config", CONFIGS)
def test_permuting_models_permutes_decisions(config: PolicyConfig) -> None:
    problem = _problem()
    order = np.array([2, 0, 3, 1])
    other = Problem(
        problem.predicted_scores[:, order],
        problem.predicted_costs_usd[:, order],
        problem.scores[:, order],
        problem.costs_usd[:, order],
        problem.groups,
    )
    before, after = _fit(problem, config), _fit(other, config)
    chosen: IntArray = order[after.policy.choose_all(other.predictions)]
    np.testing.assert_array_equal(before.policy.choose_all(problem.predictions), chosen)


def test_a_dominated_model_raises_no_cost_of_the_frontier() -> None:
    """A model predicted worse and dearer than another everywhere is never chosen by the plug-in."""
    problem = _problem()
    worse = Problem(
        np.column_stack([problem.predicted_scores, problem.predicted_scores[:, 1] - 0.01]),
        np.column_stack([problem.predicted_costs_usd, problem.predicted_costs_usd[:, 1] * 1.1]),
        np.column_stack([problem.scores, np.zeros(problem.n_queries)]),
        np.column_stack([problem.costs_usd, problem.costs_usd[:, 1] * 1.1]),
        problem.groups,
    )
    before, after = _fit(problem, CONFIGS[0]), _fit(worse, CONFIGS[0])
    levels = np.linspace(before.accuracy[-1], before.accuracy[0], 20)
    costs = [np.interp(levels, f.accuracy[::-1], f.cost_usd[::-1]) for f in (before, after)]
    assert (costs[1] <= costs[0] * 1.02).all()
    assert not (after.policy.choose_all(worse.predictions) == 4).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_more_candidates_never_make_the_hull_dearer(seed: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    few = Estimates(rng.random(8), rng.random(8))
    many = Estimates(
        np.concatenate([few.accuracy, rng.random(extra)]), np.concatenate([few.cost_usd, rng.random(extra)])
    )
    hulls = [(e, frontier_vertices(e, min_gap=0.0)) for e in (few, many)]
    (small, a), (large, b) = hulls
    for level in np.linspace(small.accuracy[a[-1]], small.accuracy[a[0]], 9):
        old = np.interp(level, small.accuracy[a][::-1], small.cost_usd[a][::-1])
        new = np.interp(level, large.accuracy[b][::-1], large.cost_usd[b][::-1])
        assert new <= old + 1e-12


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_a_higher_price_never_costs_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions = Predictions(rng.random((30, 4)), rng.random((30, 4)))
    policy = PointPolicy.from_prices(np.sort(rng.exponential(1.0, 6)), 4)
    rows = np.arange(30)
    costs = [predictions.costs_usd[rows, choice].sum() for choice in policy.choose_all(predictions)]
    assert (np.diff(costs) <= 1e-12).all()
