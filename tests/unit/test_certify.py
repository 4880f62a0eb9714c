"""Calibration: the sequence of points, its coins, and what missing outcomes do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from proteus_router.calibration.bounds import betting_bounds, lower_bound_binomial
from proteus_router.calibration.certify import calibrate, mixture_weights
from proteus_router.calibration.missing import common_rate
from proteus_router.calibration.selection import out_of_fold_choices, vertex_prices
from proteus_router.routing.target_map import Certificate, Infeasible, TargetMap
from proteus_router.types import FloatArray, IntArray

MODELS = np.array([0.85, 0.75, 0.65])


def evidence(n: int, seed: int = 0, *, graded: bool = False) -> dict[str, Any]:
    """Three fixed models as operating points."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, 3)) < MODELS).astype(float)
    if graded:
        scores = rng.beta(20 * MODELS, 20 * (1 - MODELS), (n, 3))
    return {
        "accuracy": MODELS,
        "cost_usd": np.array([10.0, 3.0, 1.0]),
        "choices": np.tile(np.arange(3)[:, None], (1, n)),
        "scores": scores,
        "costs_usd": np.tile([10.0, 3.0, 1.0], (n, 1)),
        "confidence": 0.95,
        "scheme": "split",
        "data_fingerprint": "d",
        "policy_fingerprint": "p",
        "seed": 0,
    }


def test_the_sequence_has_every_vertex_and_even_mixtures() -> None:
    upper, weight = mixture_weights(np.array([0.80, 0.79, 0.70]), min_mixtures=4, max_step=0.004)
    accuracy = np.array([0.80, 0.79, 0.70])
    lower = np.minimum(upper + 1, 2)
    points = weight * accuracy[upper] + (1 - weight) * accuracy[lower]
    assert (points[0], points[-1]) == (0.80, 0.70)
    steps = -np.diff(points)
    assert np.allclose(steps[:5], 0.002)  # a gap of one point: four mixtures
    assert np.allclose(steps[5:], 0.09 / 23)  # a wide gap: steps of at most 0.4 points
    np.testing.assert_array_equal(weight[[0, 5, -1]], 1.0)


def test_bounds_are_those_of_the_drawn_outcomes() -> None:
    given = evidence(500)
    target_map = calibrate(**given)
    vertices = np.flatnonzero(target_map.weight_upper == 1.0)
    successes = given["scores"].sum(axis=0)
    for level, covered in enumerate(target_map.covered):
        expected = lower_bound_binomial(successes, 500, 0.05 / covered)
        np.testing.assert_allclose(target_map.lower_bounds[level, vertices], expected)
    np.testing.assert_allclose(target_map.evidence_accuracy[vertices], successes / 500)
    np.testing.assert_array_equal(target_map.n, 500)
    assert target_map.variance is None


def test_graded_scores_get_the_betting_bound_in_a_seeded_order() -> None:
    given = evidence(400, graded=True)
    target_map = calibrate(**given)
    rng = np.random.default_rng(given["seed"])
    rng.random(400), rng.random(400)  # the two coins of every row
    order = rng.permutation(400)
    expected = betting_bounds(given["scores"][order, 0], np.array([0.05]))[0]
    assert target_map.lower_bounds[0, 0] <= expected
    assert target_map.lower_bounds[0, 0] == pytest.approx(expected, abs=2e-3)
    assert target_map.variance == pytest.approx(float(given["scores"][:, 0].var()))
    # A single score between 0 and 1 suffices: the exact binomial would not be valid.
    nearly = evidence(400)
    nearly["scores"][7, 2] = 0.5
    assert calibrate(**nearly).variance is not None


def test_neighbours_share_their_coins() -> None:
    n = 300
    given = evidence(n)
    given["scores"] = np.tile([1.0, 1.0, 0.0], (n, 1))  # outcome 1 iff vertex 0 or 1 was drawn
    target_map = calibrate(**given)
    gap = target_map.upper == 1
    drawn = target_map.evidence_accuracy[gap]
    # The share that draws the upper vertex falls with its weight without exception, and is near it.
    assert np.all(np.diff(drawn) <= 0.0)
    np.testing.assert_allclose(drawn, target_map.weight_upper[gap], atol=4 * np.sqrt(0.25 / n))


def test_calibration_is_repeatable_and_seeded() -> None:
    given = evidence(300, graded=True)
    one, same, other = calibrate(**given), calibrate(**given), calibrate(**(given | {"seed": 1}))
    np.testing.assert_array_equal(one.lower_bounds, same.lower_bounds)
    assert not np.array_equal(one.lower_bounds, other.lower_bounds)


@pytest.mark.parametrize("scheme", ["split", "crossfit"])
def test_the_assumption_names_the_scheme(scheme: str) -> None:
    certificate = calibrate(**(evidence(300) | {"scheme": scheme})).certify(0.6)
    assert isinstance(certificate, Certificate)
    assert certificate.scheme == scheme
    words = {"split": "held-out rows", "crossfit": "not by a finite-sample theorem"}[scheme]
    assert words in certificate.assumption
    assert "missing at random" not in certificate.assumption


def test_few_rows_certify_little_and_say_how_many_are_needed() -> None:
    target_map = calibrate(**evidence(12, seed=1))
    assert target_map.shortage is not None
    assert "n = 12" in target_map.shortage
    outcome = target_map.certify(0.82)
    assert isinstance(outcome, Infeasible)
    none = evidence(12)
    none["choices"] = np.zeros((3, 0), dtype=np.int64)
    none["scores"] = none["costs_usd"] = np.zeros((0, 3))
    empty = calibrate(**none)
    assert isinstance(empty.certify(0.1), Infeasible)
    assert empty.shortage is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": np.array([0.75, 0.85, 0.65])},
        {"accuracy": np.array([0.85, 0.85, 0.65])},
        {"cost_usd": np.array([1.0, 3.0, 10.0])},
        {"cost_usd": np.array([10.0, 3.0])},
        {"choices": np.zeros((3, 5), dtype=np.int64)},
        {"costs_usd": np.zeros((5, 3))},
        {"confidence": 1.0},
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        calibrate(**(evidence(20) | changes))


# Missing outcomes: half of the rows are easy, and the point sends them to model 0, which was observed often; the
# hard rows go to model 1, observed seldom. Complete cases then over-count the easy rows.
EASY, HARD, RATES = 0.95, 0.55, np.array([0.9, 0.3])
TRUTH = (EASY + HARD) / 2


def missing_evidence(n: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    hard = (rng.random(n) < 0.5).astype(np.int64)
    p = np.where(hard == 1, HARD, EASY)
    scores = (rng.random((n, 2)) < p[:, None]).astype(float)
    return hard, np.where(rng.random((n, 2)) < RATES, scores, np.nan)


def calibrated(choices: IntArray, scores: FloatArray, seed: int) -> TargetMap:
    return calibrate(
        accuracy=np.array([TRUTH]),
        cost_usd=np.array([1.0]),
        choices=choices[None],
        scores=scores,
        costs_usd=np.where(np.isnan(scores), np.nan, 1.0),
        confidence=0.95,
        scheme="split",
        data_fingerprint="d",
        policy_fingerprint="p",
        seed=seed,
    )


def test_thinning_removes_the_bias_of_complete_cases() -> None:
    n, repetitions = 600, 1000
    naive = thinned = 0
    means, sizes = [], []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        choices, scores = missing_evidence(n, rng)
        target_map = calibrated(choices, scores, seed)
        thinned += bool(target_map.lower_bounds[0, 0] > TRUTH)
        means.append(target_map.evidence_accuracy[0])
        sizes.append(target_map.n[0])
        complete = scores[np.arange(n), choices]
        complete = complete[~np.isnan(complete)]
        naive += bool(lower_bound_binomial(complete.sum(), complete.size, 0.05) > TRUTH)
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert naive / repetitions > 0.5  # what counting complete cases would do
    assert thinned / repetitions <= limit
    assert float(np.mean(means)) == pytest.approx(TRUTH, abs=0.005)
    assert float(np.mean(sizes)) == pytest.approx(n * RATES.min(), rel=0.03)


def test_thinning_costs_only_the_gaps_that_need_it() -> None:
    rng = np.random.default_rng(0)
    given = evidence(2000)
    given["scores"][rng.random(2000) < 0.8, 2] = np.nan
    given["costs_usd"] = np.where(np.isnan(given["scores"]), np.nan, given["costs_usd"])
    target_map = calibrate(**given)
    complete = target_map.upper == 0
    np.testing.assert_array_equal(target_map.n[complete], 2000)
    assert np.all(target_map.n[target_map.upper == 2] < 500)
    certificate = target_map.certify(0.78)
    assert isinstance(certificate, Certificate)
    assert certificate.n == 2000
    assert "missing at random" in certificate.assumption


def test_a_model_never_observed_leaves_no_evidence() -> None:
    given = evidence(200)
    given["scores"][:, 2] = np.nan
    target_map = calibrate(**given)
    assert target_map.n[-1] == 0
    np.testing.assert_array_equal(target_map.lower_bounds[:, -1], 0.0)
    assert isinstance(target_map.certify(0.75), Certificate)


def test_a_seldom_observed_model_that_takes_few_rows_counts_as_zero() -> None:
    n, rng = 2000, np.random.default_rng(0)
    choices = (rng.random(n) < 0.01).astype(np.int64)  # one row in a hundred to model 1
    scores = (rng.random((n, 2)) < 0.8).astype(float)
    scores[rng.random(n) < 0.95, 1] = np.nan
    target_map = calibrated(choices, scores, 0)
    assert target_map.n[0] == n  # not a twentieth of it
    known = np.where(choices == 1, 0.0, scores[:, 0])
    assert target_map.evidence_accuracy[0] == pytest.approx(known.mean())
    # When it takes half of the rows, thinning down to its rate is the lesser evil.
    half = calibrated((rng.random(n) < 0.5).astype(np.int64), scores, 0)
    assert half.n[0] < 0.08 * n
    assert half.evidence_accuracy[0] == pytest.approx(0.8, abs=0.15)


@pytest.mark.parametrize(("seldom_share", "expected"), [(0.0, 1.0), (0.01, 1.0), (0.5, 0.04)])
def test_the_common_rate_weighs_rows_lost_against_rows_counted_zero(
    seldom_share: float, expected: float
) -> None:
    assert common_rate(np.array([1.0, 0.04]), np.array([1 - seldom_share, seldom_share]), 2000) == expected


def test_prices_of_vertices_pick_the_vertices() -> None:
    accuracy, cost = np.array([0.80, 0.78, 0.70, 0.60]), np.array([10.0, 4.0, 1.0, 0.5])
    prices = vertex_prices(accuracy, cost)
    assert prices[0] == 0.0
    assert prices[-1] == np.inf
    for vertex, price in enumerate(prices[:-1]):
        assert int((accuracy - price * cost).argmax()) == vertex
    np.testing.assert_array_equal(vertex_prices(accuracy[:1], cost[:1]), [0.0])


def test_a_fold_has_no_say_in_its_own_vertices() -> None:
    rng = np.random.default_rng(0)
    n, folds = 60, np.arange(60) % 3
    candidates = rng.integers(0, 3, (20, n))
    scores = (rng.random((n, 3)) < 0.7).astype(float)
    costs = rng.random((n, 3))
    given: dict[str, Any] = {
        "accuracy": np.array([0.8, 0.7, 0.6]),
        "cost_usd": np.array([0.6, 0.5, 0.4]),
        "candidates": candidates,
        "costs_usd": costs,
        "folds": folds,
    }
    before = out_of_fold_choices(scores=scores, **given)
    changed = scores.copy()
    changed[folds == 1] = 1.0 - changed[folds == 1]
    after = out_of_fold_choices(scores=changed, **given)
    np.testing.assert_array_equal(before[:, folds == 1], after[:, folds == 1])
    assert not np.array_equal(before[:, folds != 1], after[:, folds != 1])
    # The slow twin of the first vertex: the most accurate candidate over the other folds.
    for fold in range(3):
        outside = np.flatnonzero(folds != fold)
        means = [scores[outside, candidate[outside]].mean() for candidate in candidates]
        tied = np.flatnonzero(np.isclose(means, max(means)))
        inside = folds == fold
        assert any(np.array_equal(before[0, inside], candidates[one, inside]) for one in tied)


def test_out_of_fold_choices_take_missing_outcomes() -> None:
    rng = np.random.default_rng(1)
    n = 90
    scores = np.where(rng.random((n, 2)) < 0.4, np.nan, rng.random((n, 2)))
    costs = np.where(np.isnan(scores), np.nan, 1.0)
    scores[:, 1], costs[:, 1] = np.nan, np.nan  # nothing known of model 1
    found = out_of_fold_choices(
        accuracy=np.array([0.5]),
        cost_usd=np.array([1.0]),
        candidates=np.tile([[0], [1]], (1, n)),
        scores=scores,
        costs_usd=costs,
        folds=np.arange(n) % 5,
    )
    np.testing.assert_array_equal(found, np.zeros((1, n)))
