"""Static mix against the linear program, the oracle against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from proteus_router.baselines.plugin import fit_plugin
from proteus_router.baselines.static import oracle, static_mix_cost
from proteus_router.types import Predictions


@pytest.mark.parametrize("seed", range(15))
def test_static_mix_is_the_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, costs = rng.random(9), rng.random(9)
    for accuracy in np.linspace(scores.min() - 0.1, scores.max(), 6):
        found = linprog(
            costs,
            A_ub=[-scores],
            b_ub=[-accuracy],
            A_eq=np.ones((1, 9)),
            b_eq=[1.0],
            bounds=(0, 1),
            method="highs",
        )
        assert static_mix_cost(scores, costs, float(accuracy)) == pytest.approx(found.fun, abs=1e-9)


def test_above_the_best_model_its_cost_is_returned() -> None:
    assert static_mix_cost(np.array([0.5, 0.8]), np.array([1.0, 3.0]), 0.99) == 3.0


def test_oracle_takes_the_cheapest_best_answer() -> None:
    nan = np.nan
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.3, nan, 0.7], [nan, nan, nan]])
    costs = np.array([[5.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, nan, 4.0], [nan, nan, nan]])
    accuracy, cost = oracle(scores, costs)
    assert accuracy == pytest.approx((1.0 + 0.0 + 0.7) / 3)
    assert cost == pytest.approx((2.0 + 1.0 + 4.0) / 3)


def test_plug_in_with_the_truth_beats_every_static_mix() -> None:
    rng = np.random.default_rng(3)
    truth, costs = rng.random((3000, 4)), np.tile([1.0, 2.0, 3.0, 4.0], (3000, 1))
    scores = (rng.random((3000, 4)) < truth).astype(float)
    fit = fit_plugin(Predictions(truth, costs), scores, costs)
    assert (np.diff(fit.estimates.accuracy) < 0).all()
    means = scores.mean(axis=0)
    below = fit.estimates.accuracy <= means.max()  # above it there is no static mix to compare with
    assert below.any()
    for accuracy, cost in zip(fit.estimates.accuracy[below], fit.estimates.cost_usd[below], strict=True):
        assert cost <= static_mix_cost(means, costs[0], float(accuracy)) + 1e-9
    assert fit.estimates.accuracy[0] > means.max() + 0.2
