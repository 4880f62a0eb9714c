from __future__ import annotations

import numpy as np
import pytest

from proteus_router.evaluation.yardsticks import (
    accuracy_levels,
    cost_ratio,
    frontier_ratio,
    outcome_of,
    static_cost_at,
    tau_correlation,
)


def _world(seed: int, n: int = 400, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, k)) < np.linspace(0.4, 0.85, k)).astype(float)
    return scores, rng.gamma(2.0, np.geomspace(1e-5, 1e-3, k), (n, k))


def test_outcome_of_one_choice_is_the_plain_mean() -> None:
    scores, costs = _world(0)
    choice = np.random.default_rng(1).integers(0, 4, 400)
    got = outcome_of(choice, choice, 1.0, scores, costs)
    picked = scores[np.arange(400), choice]
    assert got.accuracy == pytest.approx(picked.mean())
    assert got.cost_usd == pytest.approx(costs[np.arange(400), choice].mean())
    assert got.accuracy_se == pytest.approx(picked.std(ddof=1) / 20.0)


def test_outcome_of_a_mix_is_the_mean_over_many_coins() -> None:
    scores, costs = _world(2)
    rng = np.random.default_rng(3)
    upper, lower = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    got = outcome_of(upper, lower, 0.3, scores, costs)
    drawn = [
        scores[np.arange(400), np.where(rng.random(400) < 0.3, upper, lower)].mean() for _ in range(4000)
    ]
    assert got.accuracy == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / np.sqrt(4000))


def test_outcome_with_missing_rows_is_not_drawn_to_the_model_that_answers_more_often() -> None:
    rng = np.random.default_rng(4)
    n = 200_000
    choice = rng.integers(0, 2, n)  # half of the queries to either model
    scores = np.where(rng.random((n, 2)) < [0.9, 0.5], 1.0, 0.0)
    scores[rng.random((n, 2)) < [0.8, 0.1]] = np.nan  # the good one is mostly unobserved
    costs = np.where(np.isnan(scores), np.nan, [3.0, 1.0])
    got = outcome_of(choice, choice, 1.0, scores, costs)
    assert got.accuracy == pytest.approx(0.7, abs=0.01)
    assert got.cost_usd == pytest.approx(2.0, abs=0.02)


def test_levels_run_from_the_quantile_to_just_below_the_best() -> None:
    scores, _ = _world(5)
    levels = accuracy_levels(scores)
    means = scores.mean(axis=0)
    assert len(levels) == 12
    assert levels[0] == pytest.approx(np.quantile(means, 0.3) + 0.02)
    assert levels[-1] == pytest.approx(means.max() - 0.005)


def test_the_static_mix_itself_has_ratio_one() -> None:
    scores, costs = _world(6)
    weak, best = np.zeros(400, dtype=int), np.full(400, 3)
    two = scores[:, [0, 3]], costs[:, [0, 3]]
    mixes = [outcome_of(best // 3, weak, float(w), *two) for w in (0.2, 0.5, 0.9)]
    got = cost_ratio(np.array([mix.accuracy for mix in mixes]), mixes, *two)
    assert got.ratios == pytest.approx(np.ones(3))


def test_the_oracle_closes_its_own_gap() -> None:
    scores, costs = _world(7)
    levels = accuracy_levels(scores)
    best = scores.max(axis=1, keepdims=True)
    choice = np.where(scores == best, costs, np.inf).argmin(axis=1)
    oracle = outcome_of(choice, choice, 1.0, scores, costs)
    got = frontier_ratio(levels, [oracle], scores, costs)
    assert got.oracle_ratio <= got.mean < 1.0


def test_a_level_no_point_reaches_counts_one() -> None:
    scores, costs = _world(8)
    worst = np.zeros(400, dtype=int)
    only = [outcome_of(worst, worst, 1.0, scores, costs)]
    got = frontier_ratio(accuracy_levels(scores), only, scores, costs)
    assert got.mean == 1.0


def test_static_cost_above_the_best_model_is_that_models_cost() -> None:
    scores, costs = _world(9)
    assert static_cost_at(scores, costs, 0.999) == pytest.approx(costs.mean(axis=0)[3])


def test_correlation_is_undefined_where_nothing_varies() -> None:
    assert np.isnan(tau_correlation(np.array([0.7, 0.8]), np.array([0.75, 0.75])))
    assert tau_correlation(np.array([0.7, 0.8]), np.array([0.71, 0.80])) == pytest.approx(1.0)
