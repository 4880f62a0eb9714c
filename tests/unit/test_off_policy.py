"""Off-policy estimates: hand-computed, against slow twins, and against the truth of a simulated world."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.learning.estimators import (
    Estimate,
    doubly_robust,
    effective_size,
    ips,
    overlap,
    robust_variance,
    snips,
)

REWARD = np.array([1.0, 0.0, 1.0, 1.0])
WEIGHT = np.array([2.0, 1.0, 0.0, 0.5])


def test_by_hand() -> None:
    assert ips(REWARD, WEIGHT).value == pytest.approx(2.5 / 4)
    assert snips(REWARD, WEIGHT).value == pytest.approx(2.5 / 3.5)
    predicted, chances = np.full(4, 0.5), np.full(4, 0.6)
    # terms: 0.6 + 2 (0.5), 0.6 - 0.5, 0.6, 0.6 + 0.25
    assert doubly_robust(REWARD, WEIGHT, predicted, chances).value == pytest.approx(
        (1.6 + 0.1 + 0.6 + 0.85) / 4
    )
    assert effective_size(WEIGHT) == pytest.approx(3.5**2 / 5.25)
    assert overlap(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.2, 0.8]])) == pytest.approx(
        0.75
    )


def test_errors_by_hand() -> None:
    terms = np.array([2.0, 0.0, 0.0, 0.5])
    assert ips(REWARD, WEIGHT).error == pytest.approx(np.sqrt(((terms - 0.625) ** 2).sum() / 3 / 4))
    value = 2.5 / 3.5
    squares = 4 * (1 - value) ** 2 + value**2 + 0.25 * (1 - value) ** 2
    assert snips(REWARD, WEIGHT).error == pytest.approx(np.sqrt(squares) / 3.5)
    found = ips(REWARD, WEIGHT)
    assert (found.high - found.value, found.value - found.low) == pytest.approx(
        (1.95996 * found.error,) * 2, rel=1e-4
    )


def test_without_rows_nothing_is_claimed() -> None:
    none = np.zeros(0)
    for found in (ips(none, none), snips(none, none), doubly_robust(none, none, none, none)):
        assert found.low == -np.inf
        assert found.high == np.inf


class Logged:
    """Decisions of an exploring policy in a world of three models whose truth is known."""

    def __init__(self, seed: int, n: int = 4_000) -> None:
        rng = np.random.default_rng(seed)
        hard = rng.random(n)
        self.truth = np.clip(np.column_stack((0.9 - 0.7 * hard, 0.85 - 0.3 * hard, 0.9 - 0.05 * hard)), 0, 1)
        favourite = np.where(hard < 0.5, 0, 1)
        self.q = np.full((n, 3), 0.05)
        self.q[np.arange(n), favourite] += 0.85
        drawn = (rng.random(n)[:, None] > np.cumsum(self.q, axis=1)).sum(axis=1)
        rows = np.arange(n)
        self.reward = (rng.random(n) < self.truth[rows, drawn]).astype(float)
        self.pi = np.zeros((n, 3))
        self.pi[rows, np.where(hard < 0.3, 0, 2)] = 1.0
        self.weight = self.pi[rows, drawn] / self.q[rows, drawn]
        self.value = float((self.pi * self.truth).sum(axis=1).mean())
        self.drawn = drawn

    def predictions(self, off: float) -> tuple[np.ndarray, np.ndarray]:
        """p_a(x) and sum pi p of predictions that are `off` by a constant."""
        wrong = np.clip(self.truth + off, 0, 1)
        return wrong[np.arange(len(wrong)), self.drawn], (self.pi * wrong).sum(axis=1)


def test_every_estimate_is_the_sum_written_out() -> None:
    logged = Logged(0, n=200)
    predicted, chances = logged.predictions(0.05)
    plain = weighted = robust = total = 0.0
    for row in range(200):
        w, r = logged.weight[row], logged.reward[row]
        plain += w * r / 200
        weighted += w * r
        total += w
        robust += (chances[row] + w * (r - predicted[row])) / 200
    assert ips(logged.reward, logged.weight).value == pytest.approx(plain)
    assert snips(logged.reward, logged.weight).value == pytest.approx(weighted / total)
    assert doubly_robust(logged.reward, logged.weight, predicted, chances).value == pytest.approx(robust)


@pytest.mark.parametrize("off", [0.0, 0.15])
def test_intervals_cover_the_truth_as_often_as_they_say(off: float) -> None:
    hits = np.zeros(3)
    runs = 300
    widths = np.zeros(3)
    for seed in range(runs):
        logged = Logged(seed, n=2_000)
        predicted, chances = logged.predictions(off)
        found = (
            ips(logged.reward, logged.weight),
            snips(logged.reward, logged.weight),
            doubly_robust(logged.reward, logged.weight, predicted, chances),
        )
        hits += [one.low <= logged.value <= one.high for one in found]
        widths += [one.high - one.low for one in found]
    allowed = 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    assert (hits / runs >= allowed).all(), hits / runs
    assert max(widths[1:]) < widths[0]  # what the normalisation and the predictions are for


def test_the_foretold_variance_is_the_formula_and_never_less_than_what_is_seen() -> None:
    logged = Logged(0, n=300)
    predicted, chances = logged.predictions(0.05)
    residual = logged.reward - predicted
    squares = (logged.pi**2 / logged.q).sum(axis=1)
    terms = chances + logged.weight * residual
    found = robust_variance(terms, logged.weight, residual, squares, chances)
    seconds = total = 0.0
    for row in range(300):
        seconds += logged.weight[row] * residual[row] ** 2
        total += logged.weight[row]
    foretold = np.mean(squares) * seconds / total + np.var(chances, ddof=1)
    assert found == pytest.approx(max(foretold, np.var(terms, ddof=1)))
    none = np.zeros(300)
    assert robust_variance(terms, none, residual, squares, chances) == pytest.approx(np.var(terms, ddof=1))


def test_where_heavy_weights_are_rare_the_foretold_variance_holds_and_the_seen_one_does_not() -> None:
    """One query in ten needs a model that is tried once in a hundred times: forty heavy weights decide."""
    runs, n, q, p = 2_000, 4_000, 0.01, 0.8
    rng = np.random.default_rng(5)
    missed = {"seen": 0, "foretold": 0}
    for _ in range(runs):
        rare = rng.random(n) < 0.1
        hit = np.where(rare, rng.random(n) < q, True)
        weight = hit / np.where(rare, q, 1.0)
        reward = (rng.random(n) < p).astype(float)
        chances = np.full(n, p)
        residual = reward - p
        terms = chances + weight * residual
        squares = 1.0 / np.where(rare, q, 1.0)
        variance = robust_variance(terms, weight, residual, squares, chances)
        one, other = Estimate.of_terms(terms, 0.95), Estimate.of_terms(terms, 0.95, variance=variance)
        missed["seen"] += one.low > p
        missed["foretold"] += other.low > p
    limit = 0.025 + 3 * np.sqrt(0.025 * 0.975 / runs)
    assert missed["foretold"] / runs <= limit
    assert missed["seen"] / runs > limit


def test_doubly_robust_forgives_wrong_predictions_and_the_plain_prediction_does_not() -> None:
    logged = Logged(1, n=20_000)
    predicted, chances = logged.predictions(0.15)
    assert abs(chances.mean() - logged.value) > 0.05
    found = doubly_robust(logged.reward, logged.weight, predicted, chances)
    assert abs(found.value - logged.value) < 3 * found.error
