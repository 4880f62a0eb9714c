"""Every metric against a slow twin that spells its formula out, and against values worked out by hand."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from proteus_router.evaluation import metrics
from proteus_router.evaluation.metrics import (
    FloorViolations,
    apgr,
    average_improvement_in_quality,
    call_performance_threshold,
    certified_floor_violations,
    cost_range,
    cost_ratio_to_static_mix,
    expected_calibration_error,
    floor_compliance,
    floor_satisfaction,
    margin,
    oracle_gap,
    oracle_gap_closed,
    overshoot,
    reliability_bins,
    routing_efficiency,
    routing_performance_index,
    running_floor_satisfaction,
    target_accuracy_correlation,
    tau_mu_correlation,
    tolerance_compliance,
)
from proteus_router.types import FloatArray

SEEDS = st.integers(min_value=0, max_value=10_000)
NONE = np.zeros(0)


def draws(seed: int, n: int) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return np.round(rng.random(n), 2), np.round(rng.random(n), 2), rng


@given(SEEDS)
def test_over_targets(seed: int) -> None:
    targets, achieved, rng = draws(seed, 12)
    costs = rng.random(12) + 0.1
    assert (
        floor_compliance(targets, achieved)
        == sum(a >= t for a, t in zip(achieved, targets, strict=True)) / 12
    )
    inside = 0
    for wanted, found in zip(targets, achieved, strict=True):
        inside += round(abs(found - wanted), 6) <= 0.05
    assert tolerance_compliance(targets, achieved, 0.05) == inside / 12
    assert margin(targets, achieved).tolist() == [a - t for a, t in zip(achieved, targets, strict=True)]
    dear = max(range(12), key=lambda i: targets[i])
    cheap = min(range(12), key=lambda i: targets[i])
    assert cost_range(targets, costs) == costs[dear] / costs[cheap]


def test_the_tolerance_band_is_closed() -> None:
    assert tolerance_compliance(np.array([0.9]), np.array([0.88]), 0.02) == 1.0
    assert tolerance_compliance(np.array([0.9]), np.array([0.8799]), 0.02) == 0.0


@given(SEEDS)
def test_correlations(seed: int) -> None:
    x, y, _ = draws(seed, 9)
    mean_x, mean_y = sum(x) / 9, sum(y) / 9
    cov = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slow = cov / math.sqrt(sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y))
    assert target_accuracy_correlation(x, y) == pytest.approx(slow)
    assert tau_mu_correlation(x, y) == pytest.approx(slow)


def test_a_correlation_is_blind_to_scale_and_none_where_nothing_varies() -> None:
    tau = np.linspace(0.8, 0.9, 5)
    assert tau_mu_correlation(tau, 0.5 + 1e-9 * tau) == pytest.approx(1.0)
    assert tau_mu_correlation(tau, np.full(5, 0.5)) is None
    assert target_accuracy_correlation(tau[:1], tau[:1]) is None


def test_the_papers_table_is_reproduced() -> None:
    # RouterBench column of the paper: PROTEUS 90.1 at 0.33, oracle 91.4, dearest 3.3 (GPT-4), random 52.4.
    index = routing_performance_index(0.901, 0.914, 0.33, 3.3)
    assert index is not None
    assert index.value == pytest.approx(88.5, abs=0.3)
    assert not index.time_known
    dearest = routing_performance_index(0.779, 0.914, 3.3, 3.3)
    assert dearest is not None
    assert dearest.value == 0.0
    efficiency = routing_efficiency(0.901, 0.524, 3.4)
    assert efficiency == pytest.approx(11.1, abs=0.05)
    assert oracle_gap(0.901, 0.914) == pytest.approx(0.013)


def test_the_time_factor_counts_where_both_times_are_known() -> None:
    timed = routing_performance_index(0.8, 1.0, 1.0, 2.0, router_ms=10.0, model_ms=100.0)
    assert timed is not None
    assert timed.value == pytest.approx(100 * 0.8 * 0.5 * 0.9)
    assert timed.time_known
    half = routing_performance_index(0.8, 1.0, 1.0, 2.0, router_ms=10.0)
    assert half is not None
    assert half.value == pytest.approx(40.0)
    assert not half.time_known


def test_undefined_is_none_never_nan() -> None:
    assert floor_compliance(NONE, NONE) is None
    assert tolerance_compliance(NONE, NONE, 0.02) is None
    assert cost_range(NONE, NONE) is None
    assert cost_range(np.array([0.1, 0.9]), np.array([0.0, 1.0])) is None
    assert routing_efficiency(0.9, 0.5, 0.0) is None
    assert routing_performance_index(0.9, 0.0, 1.0, 1.0) is None
    assert routing_performance_index(0.9, 0.9, 0.0, 0.0) is None
    assert oracle_gap_closed(0.9, 1.0) is None
    assert floor_satisfaction(np.ones(100), np.ones(100)) is None
    assert running_floor_satisfaction(np.ones(100), np.ones(100)) is None
    assert overshoot(NONE, NONE) is None
    assert average_improvement_in_quality(NONE, NONE, (0.0, 1.0)) is None
    assert average_improvement_in_quality(np.ones(1), np.ones(1), (1.0, 1.0)) is None
    assert apgr(NONE, NONE, 0.5, 0.5) is None
    assert call_performance_threshold(NONE, NONE, 0.5, 0.5, 0.5) is None
    assert expected_calibration_error(NONE, NONE) is None
    assert cost_ratio_to_static_mix(np.ones(2), np.zeros(2), np.ones(3), np.zeros(3)) is None


@given(SEEDS, st.integers(min_value=1, max_value=9))
def test_streams(seed: int, window: int) -> None:
    targets, scores, _ = draws(seed, 30)
    hits = running = 0
    for step in range(window, 30):  # 0-based: the first counted step is number window + 1
        last = scores[step - window + 1 : step + 1]
        assert len(last) == window
        hits += math.fsum(last) / window >= targets[step] - 1e-9
        running += math.fsum(scores[: step + 1]) >= math.fsum(targets[: step + 1]) - 1e-9
    assert floor_satisfaction(targets, scores, window) == hits / (30 - window)
    assert running_floor_satisfaction(targets, scores, window) == running / (30 - window)
    assert overshoot(targets, scores) == pytest.approx(math.fsum(scores - targets) / 30)


def test_the_window_is_a_hundred_and_the_first_hundred_steps_do_not_count() -> None:
    scores = np.concatenate([np.zeros(100), np.ones(100)])
    # Step 101 + j averages j + 1 ones: at least 0.5 from the 50th counted step on.
    assert floor_satisfaction(np.full(200, 0.5), scores) == 0.51
    # The mean since the start reaches 0.5 at the very last step.
    assert running_floor_satisfaction(np.full(200, 0.5), scores) == 0.01


@given(SEEDS)
def test_static_mix_by_linear_programming(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means, prices = rng.random(5), rng.random(5) + 0.05
    accuracy, paid = rng.random(4), rng.random(4)
    slow = []
    for level, cost in zip(accuracy, paid, strict=True):
        wanted = min(level, means.max())
        solved = linprog(prices, A_ub=[-means], b_ub=[-wanted], A_eq=[np.ones(5)], b_eq=[1.0])
        slow.append(cost / solved.fun)
    assert cost_ratio_to_static_mix(accuracy, paid, means, prices) == pytest.approx(np.mean(slow))


def test_gap_closed_is_zero_at_the_static_mix_and_one_at_the_oracle() -> None:
    assert oracle_gap_closed(1.0, 0.4) == 0.0
    assert oracle_gap_closed(0.4, 0.4) == pytest.approx(1.0)
    assert oracle_gap_closed(0.7, 0.4) == pytest.approx(0.5)


@given(SEEDS)
def test_aiq_by_a_fine_grid_of_all_mixes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, accuracy = rng.random(5) * 2.0, rng.random(5)
    low, high = 0.3, 1.7
    grid = np.linspace(low, high, 1401)
    best = np.zeros_like(grid)
    for i in range(5):
        for j in range(5):
            if costs[i] == costs[j]:
                continue
            weight = np.clip((grid - costs[j]) / (costs[i] - costs[j]), 0.0, 1.0)
            mixed_cost = weight * costs[i] + (1 - weight) * costs[j]
            affordable = mixed_cost <= grid + 1e-12
            best = np.maximum(
                best, np.where(affordable, weight * accuracy[i] + (1 - weight) * accuracy[j], 0.0)
            )
        best = np.maximum(best, np.where(costs[i] <= grid, accuracy[i], 0.0))
    slow = best.mean()  # the interval has been cut evenly
    assert average_improvement_in_quality(costs, accuracy, (low, high)) == pytest.approx(slow, abs=2e-3)


def test_aiq_of_two_models_is_the_mean_height_of_their_chord() -> None:
    assert average_improvement_in_quality(
        np.array([1.0, 3.0]), np.array([0.5, 0.9]), (1.0, 3.0)
    ) == pytest.approx(0.7)
    # A dearer and worse point adds nothing, and beyond the last point the curve is flat.
    assert average_improvement_in_quality(
        np.array([1.0, 3.0, 4.0]), np.array([0.5, 0.9, 0.6]), (1.0, 5.0)
    ) == pytest.approx((0.7 * 2 + 0.9 * 2) / 4)
    # What costs more than the limit is out of reach.
    assert average_improvement_in_quality(np.array([6.0]), np.array([0.9]), (1.0, 5.0)) == 0.0


@given(SEEDS)
def test_apgr_and_cpt_by_a_fine_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    share, accuracy = np.sort(rng.random(4)), 0.4 + 0.5 * rng.random(4)
    weak, strong = 0.45, 0.85
    grid = np.linspace(0.0, 1.0, 20_001)
    curve = np.interp(grid, [0.0, *share, 1.0], [weak, *accuracy, strong])
    assert apgr(share, accuracy, weak, strong) == pytest.approx(
        ((curve - weak) / (strong - weak)).mean(), abs=1e-3
    )
    for recovered in (0.5, 0.8):
        reached = grid[(curve - weak) / (strong - weak) >= recovered]
        assert call_performance_threshold(share, accuracy, weak, strong, recovered) == pytest.approx(
            reached[0], abs=1e-3
        )


def test_a_random_mix_recovers_half() -> None:
    share = np.linspace(0, 1, 11)
    assert apgr(share, 0.5 + 0.4 * share, 0.5, 0.9) == pytest.approx(0.5)
    assert call_performance_threshold(share, 0.5 + 0.4 * share, 0.5, 0.9, 0.8) == pytest.approx(0.8)


@given(SEEDS)
def test_certified_floors(seed: int) -> None:
    targets, achieved, rng = draws(seed, 15)
    achieved[rng.random(15) < 0.3] = np.nan
    certified = violated = abstained = 0
    worst = 0.0
    for wanted, found in zip(targets, achieved, strict=True):
        if math.isnan(found):
            abstained += 1
            continue
        certified += 1
        violated += found < wanted
        worst = max(worst, wanted - found)
    found_all = certified_floor_violations(targets, achieved)
    assert found_all == FloorViolations(certified, violated, abstained, pytest.approx(worst))  # type: ignore[arg-type]
    assert found_all.rate == (violated / certified if certified else None)


@given(SEEDS)
def test_calibration_error_row_by_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, observed = rng.random((20, 3)), rng.integers(0, 2, (20, 3)).astype(float)
    observed[rng.random((20, 3)) < 0.2] = np.nan
    predicted[0, 0] = 1.0  # the top edge belongs to the last bin
    bins: dict[int, list[tuple[float, float]]] = {}
    for p, y in zip(predicted.ravel(), observed.ravel(), strict=True):
        if not math.isnan(y):
            bins.setdefault(min(int(p * 15), 14), []).append((p, y))
    n = sum(map(len, bins.values()))
    slow = sum(
        len(rows) / n * abs(sum(p for p, _ in rows) / len(rows) - sum(y for _, y in rows) / len(rows))
        for rows in bins.values()
    )
    assert expected_calibration_error(predicted, observed) == pytest.approx(slow)
    assert [item.n for item in reliability_bins(predicted, observed)] == [
        len(bins[index]) for index in sorted(bins)
    ]


@pytest.mark.parametrize("name", [n for n in metrics.__all__ if inspect.isfunction(getattr(metrics, n))])
def test_every_metric_names_its_formula_and_is_tested(name: str) -> None:
    text = inspect.getdoc(getattr(metrics, name)) or ""
    assert "``" in text or name in ("target_accuracy_correlation", "tau_mu_correlation", "reliability_bins")
    assert name in globals()
