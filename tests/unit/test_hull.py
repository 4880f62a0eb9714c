"""Lower hull, thinning and mixing against slow obvious twins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from proteus_router.errors import InfeasibleTargetError
from proteus_router.routing.hull import Mix, lower_hull, mix_at_accuracy, thin_vertices
from proteus_router.types import FloatArray


def _cheapest_cost(accuracy: FloatArray, cost: FloatArray, target: float) -> float:
    """Linear program over all points: the cheapest mix that reaches `target`."""
    ones = np.ones((1, cost.size))
    found = linprog(
        cost, A_ub=[-accuracy], b_ub=[-target], A_eq=ones, b_eq=[1.0], bounds=(0, 1), method="highs"
    )
    assert found.fun is not None
    return float(found.fun)


@pytest.mark.parametrize("seed", range(20))
def test_hull_mix_costs_what_the_linear_program_costs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    accuracy, cost = rng.random(12), rng.random(12)
    vertices = lower_hull(accuracy, cost)
    heights, prices = accuracy[vertices], cost[vertices]
    assert (np.diff(heights) < 0).all()
    assert (np.diff(prices) < 0).all()
    for target in np.linspace(accuracy.min(), accuracy.max(), 7):
        mix = mix_at_accuracy(heights, float(target))
        price = mix.weight_upper * prices[mix.upper] + (1 - mix.weight_upper) * prices[mix.lower]
        assert price == pytest.approx(_cheapest_cost(accuracy, cost, float(target)), abs=1e-9)


def test_dominated_and_equal_points_leave_one_vertex() -> None:
    accuracy = np.array([0.8, 0.8, 0.7, 0.8])
    cost = np.array([2.0, 1.0, 1.0, 1.0])
    assert lower_hull(accuracy, cost).tolist() == [1]


def test_points_on_a_chord_are_not_vertices() -> None:
    accuracy, cost = np.array([0.5, 0.75, 1.0]), np.array([1.0, 2.0, 3.0])
    assert lower_hull(accuracy, cost).tolist() == [2, 0]


@pytest.mark.parametrize("bad", [np.array([]), np.array([0.5, np.nan])])
def test_hull_refuses_what_it_cannot_order(bad: FloatArray) -> None:
    with pytest.raises(ValueError, match="accuracy and cost"):
        lower_hull(bad, np.zeros(bad.size)) if bad.size else lower_hull(np.zeros(2), np.array([np.inf, 1.0]))


def test_thinning_keeps_ends_and_gaps() -> None:
    accuracy = np.array([0.9, 0.8995, 0.89, 0.8889, 0.85, 0.8401, 0.84])
    kept = thin_vertices(accuracy, 0.002)
    assert kept.tolist() == [0, 2, 4, 6]
    assert thin_vertices(np.array([0.5]), 0.1).tolist() == [0]
    assert thin_vertices(np.array([0.5, 0.49]), 0.1).tolist() == [0, 1]


def test_mix_reaches_the_target_exactly() -> None:
    accuracy = np.array([0.9, 0.7, 0.6])
    mix = mix_at_accuracy(accuracy, 0.75)
    assert (mix.upper, mix.lower) == (0, 1)
    assert mix.weight_upper * 0.9 + (1 - mix.weight_upper) * 0.7 == pytest.approx(0.75)
    assert mix_at_accuracy(accuracy, 0.7) == Mix(1, 1, 1.0)
    assert mix_at_accuracy(accuracy, 0.9) == Mix(0, 0, 1.0)


def test_a_target_below_the_frontier_takes_the_cheapest_and_one_above_is_refused() -> None:
    accuracy = np.array([0.9, 0.7])
    assert mix_at_accuracy(accuracy, 0.2) == Mix(1, 1, 1.0)
    with pytest.raises(InfeasibleTargetError, match=r"0\.95"):
        mix_at_accuracy(accuracy, 0.95)
