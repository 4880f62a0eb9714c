"""A free model must not turn the comparison of policies into a division by zero."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.training.policy.compare import cost_ratio


def test_a_pool_that_is_free_has_ratio_one() -> None:
    free = np.zeros(3)
    assert cost_ratio(np.array([0.5, 0.6]), np.zeros(2), np.array([0.4, 0.5, 0.7]), free) == 1.0


def test_paying_where_the_mix_is_free_counts_against_the_router_by_a_bounded_amount() -> None:
    accuracy, cost = np.array([0.5, 0.8]), np.array([0.2, 1.0])
    models, prices = np.array([0.5, 0.8]), np.array([0.0, 1.0])
    # At 0.5 the mix is free: 0.2 against at least 1% of the dearest; at 0.8 both pay 1.
    assert cost_ratio(accuracy, cost, models, prices) == pytest.approx((0.2 / 0.01 + 1.0) / 2)


def test_without_a_free_model_nothing_is_floored() -> None:
    models, prices = np.array([0.5, 0.8]), np.array([1e-6, 1.0])
    assert cost_ratio(np.array([0.5]), np.array([2e-6]), models, prices) == pytest.approx(2.0)
