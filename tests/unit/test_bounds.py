"""Lower bounds: reference values, slow twins, edges, and what makes them valid."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.calibration import bounds
from proteus_router.calibration.bounds import (
    betting_bounds,
    lower_bound_betting,
    lower_bound_binomial,
    needed_n,
)
from proteus_router.types import FloatArray


def binomial_twin(successes: int, n: int, delta: float) -> float:
    """Bisection on the exact tail P(X >= successes)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = 0.5 * (low + high)
        tail = math.fsum(math.comb(n, j) * p**j * (1.0 - p) ** (n - j) for j in range(successes, n + 1))
        low, high = (p, high) if tail < delta else (low, p)
    return low


def betting_twin(scores: FloatArray, delta: float) -> float:
    """Row by row in plain Python; the same game, written without sums of sums."""
    n, goal = len(scores), math.log(1.0 / delta)
    rows = math.ceil(n / 64)
    if rows > 8:
        rows = 8 * math.ceil(rows / 8)
    chunk = min(rows, 8)
    stakes: list[float] = []
    for start in range(0, n, rows):
        past = [float(score) for score in scores[:start]]
        mean = (sum(past) + 4 * 0.5) / (start + 4)
        square = (sum(score**2 for score in past) + 4 * 0.5) / (start + 4)
        variance = max(square - mean**2, 1e-4)
        m = min(max(mean - 0.7 * math.sqrt(2 * goal * variance / n), 1e-3), 1.0)
        won = sum(
            stake * (score - m) - (stake * (score - m)) ** 2 / 2
            for stake, score in zip(stakes, past, strict=True)
        )
        stake = math.sqrt(2 * max(goal - won, 0.0) / ((n - start) * variance))
        stakes += [stake] * min(rows, n - start)

    def reached(m: float) -> bool:
        capital = 0.0
        for row in range(n):
            capital += math.log1p(min(stakes[row], 0.9 / m) * (float(scores[row]) - m))
            if ((row + 1) % chunk == 0 or row == n - 1) and capital >= goal:
                return True
        return False

    low, high = 0.0, 1.0
    for _ in range(17):
        m = 0.5 * (low + high)
        low, high = (m, high) if reached(m) else (low, m)
    return low


@pytest.mark.parametrize(
    ("successes", "n", "delta", "published"),
    [
        # Two-sided 95% Clopper-Pearson intervals, lower ends.
        (8, 10, 0.025, 0.4439),
        (10, 20, 0.025, 0.2720),
        (81, 263, 0.025, 0.2527),
        # One-sided 95%.
        (8, 10, 0.05, 0.4931),
        (9, 10, 0.05, 0.6058),
    ],
)
def test_binomial_matches_published_values(successes: int, n: int, delta: float, published: float) -> None:
    assert float(lower_bound_binomial(successes, n, delta)) == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
@pytest.mark.parametrize("delta", [0.05, 0.01, 0.05 / 64])
def test_binomial_equals_the_exact_tail(n: int, delta: float) -> None:
    found = lower_bound_binomial(np.arange(n + 1), n, delta)
    expected = [binomial_twin(successes, n, delta) for successes in range(n + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_binomial_edges() -> None:
    assert float(lower_bound_binomial(0, 0, 0.05)) == 0.0
    assert float(lower_bound_binomial(0, 50, 0.05)) == 0.0
    assert float(lower_bound_binomial(1, 1, 0.05)) == pytest.approx(0.05)
    assert float(lower_bound_binomial(300, 300, 0.05)) == pytest.approx(0.05 ** (1 / 300))
    assert lower_bound_binomial(8, 10, np.array([0.05, 0.01])).shape == (2,)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200, 517, 1100])
def test_betting_equals_its_slow_twin(n: int) -> None:
    scores = np.random.default_rng(n).beta(4.0, 1.3, n)
    deltas = np.array([0.05, 0.05 / 8])
    expected = [betting_twin(scores, float(delta)) for delta in deltas]
    np.testing.assert_allclose(betting_bounds(scores, deltas), expected, atol=2e-5)


def test_betting_edges() -> None:
    assert lower_bound_betting(np.array([]), 0.05) == 0.0
    assert lower_bound_betting(np.zeros(500), 0.05) == 0.0
    assert 0.0 <= lower_bound_betting(np.ones(1), 0.05) <= 0.05
    all_ones = lower_bound_betting(np.ones(500), 0.05)
    assert 0.985 < all_ones <= 0.05 ** (1 / 500)  # no valid bound exceeds the binomial one here


@pytest.mark.parametrize("n", [100, 2000])
def test_betting_stays_below_the_exact_bound_of_coins_and_not_far(n: int) -> None:
    rng = np.random.default_rng(3)
    margins = []
    for _ in range(40):
        coins = (rng.random(n) < 0.8).astype(float)
        exact = float(lower_bound_binomial(coins.sum(), n, 0.05))
        margins.append((exact - lower_bound_betting(coins, 0.05)) / math.sqrt(0.16 / n))
    assert 0.0 < float(np.mean(margins)) < 0.6  # in standard errors


def test_betting_profits_from_a_small_variance() -> None:
    scores = np.random.default_rng(0).beta(40.0, 10.0, 1000)
    loose = float(lower_bound_binomial(scores.sum(), 1000, 0.05))
    assert lower_bound_betting(scores, 0.05) > loose + 0.012


def test_stakes_never_look_ahead() -> None:
    rng = np.random.default_rng(1)
    scores, goal = rng.beta(4.0, 1.3, 640), np.log([20.0])
    starts = np.arange(0, 641, 10)
    before = bounds._stakes(scores, starts, goal)
    changed = scores.copy()
    changed[320:] = rng.random(320)
    after = bounds._stakes(changed, starts, goal)
    # The stake of block 32 is set before its first row, 320, is seen; later ones must differ.
    np.testing.assert_array_equal(before[:, :33], after[:, :33])
    assert not np.array_equal(before[:, 33:], after[:, 33:])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_betting_bound_is_below_the_mean_and_lower_at_much_higher_confidence(seed: int) -> None:
    scores = np.random.default_rng(seed).beta(3.0, 1.5, 150)
    found = betting_bounds(scores, np.array([0.05, 0.0005]))
    assert 0.0 <= found[1] < found[0] < scores.max()


def test_the_order_is_seeded_not_read_from_the_scores() -> None:
    scores = np.random.default_rng(2).beta(4.0, 1.3, 300)
    assert lower_bound_betting(scores, 0.05, seed=1) == lower_bound_betting(scores, 0.05, seed=1)
    assert lower_bound_betting(scores, 0.05, seed=1) != lower_bound_betting(scores, 0.05, seed=2)
    # Sorted rows would be the best case of a gambler who plays in the order given; the shuffle takes it away.
    ascending, descending = np.sort(scores), np.sort(scores)[::-1]
    gap = lower_bound_betting(ascending, 0.05) - lower_bound_betting(descending, 0.05)
    assert abs(gap) < 0.02


def test_betting_is_fast_enough_for_a_calibration() -> None:
    scores = np.random.default_rng(0).beta(4.0, 1.3, 12_000)
    started = time.process_time()
    for _ in range(10):
        betting_bounds(scores, np.array([0.05 / 2**level for level in range(7)]))
    assert (time.process_time() - started) * 20 < 5.0  # 200 points; 1.2 s where it was written


@pytest.mark.parametrize(
    ("target", "accuracy"), [(0.80, 0.83), (0.80, 0.81), (0.60, 0.75), (0.95, 0.97), (0.5, 0.9)]
)
@pytest.mark.parametrize("delta", [0.05, 0.001])
def test_needed_n_is_where_the_exact_bound_reaches_the_target(
    target: float, accuracy: float, delta: float
) -> None:
    rows = np.arange(2, 20_000)
    short = lower_bound_binomial(accuracy * rows, rows, delta) < target
    first = int(rows[short][-1]) + 1
    found = needed_n(target, accuracy, delta)
    assert found is not None
    assert abs(found - first) <= max(3, 0.05 * first)


def test_needed_n_at_the_edges() -> None:
    assert needed_n(0.8, 0.8, 0.05) is None
    assert needed_n(0.8, 0.7, 0.05) is None
    assert needed_n(0.8, 1.0, 0.05) == 14  # 0.8 ** 14 <= 0.05 < 0.8 ** 13


@pytest.mark.parametrize(("a", "b", "gap"), [(4.0, 1.3, 0.02), (40.0, 10.0, 0.01), (1.0, 0.5, 0.03)])
def test_needed_n_of_graded_scores_is_about_right(a: float, b: float, gap: float) -> None:
    mean, rng = a / (a + b), np.random.default_rng(5)
    variance = mean * (1.0 - mean) / (a + b + 1.0)
    n = needed_n(mean - gap, mean, 0.05, variance=variance)
    assert n is not None
    certified = [
        float(betting_bounds(rng.beta(a, b, n), np.array([0.05]))[0]) >= mean - gap for _ in range(100)
    ]
    assert 0.25 < float(np.mean(certified)) < 0.8
