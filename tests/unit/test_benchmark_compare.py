"""The paired bootstrap of the benchmark: against a slow twin, and where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.baselines.static import static_mix_cost
from proteus_router.calibration.certify import calibrate
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.evaluation.harness.cells import Cell, make_cell
from proteus_router.evaluation.harness.compare import (
    compare,
    draw_multiplicity,
    interval_of,
    ratios_of_cell,
    row_totals,
    tolerance_noise,
)
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.records import Fitted, Served
from proteus_router.evaluation.yardsticks import outcome_of
from proteus_router.routing.target_map import TargetMap
from proteus_router.types import FloatArray, IntArray


def bench_table(n: int, *, missing: float, seed: int = 0) -> OutcomeTable:
    """Three models, the dearer the better; texts unlike each other but for a few twins."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, 3)) < [0.5, 0.7, 0.85]).astype(float)
    costs = rng.gamma(4.0, [1e-5, 1e-4, 1e-3], (n, 3))
    gone = rng.random((n, 3)) < missing
    gone[gone.all(axis=1), 0] = False
    scores[gone] = costs[gone] = np.nan
    words = rng.integers(0, 10**9, (n, 4))
    words[n // 2 : n // 2 + 10] = words[:10]
    return OutcomeTable(
        query_ids=tuple(f"q{i}" for i in range(n)),
        queries=tuple(" ".join(map(str, row)) for row in words.tolist()),
        models=("small", "middle", "large"),
        scores=scores,
        costs_usd=costs,
        name="made-up",
    )


def target_map(accuracy: FloatArray, cost: FloatArray) -> TargetMap:
    """Two vertices with these estimates and no evidence."""
    none = np.zeros((2, 0))
    return calibrate(
        accuracy=accuracy,
        cost_usd=cost,
        choices=none.astype(np.int64),
        scores=np.zeros((0, 3)),
        costs_usd=np.zeros((0, 3)),
        confidence=0.95,
        scheme="crossfit",
        data_fingerprint="",
        policy_fingerprint="",
        seed=0,
    )


def _cell(missing: float = 0.0, n: int = 400, seed: int = 0) -> Cell:
    return make_cell(BenchData("t", bench_table(n, missing=missing), 0.5), seed)


def _served(cell: Cell, seed: int, count: int = 3) -> list[Served]:
    rng = np.random.default_rng(seed)
    shape = (count, cell.test.n_queries)
    upper, lower = rng.integers(0, 3, shape), rng.integers(0, 3, shape)
    return [Served(u, v, w) for u, v, w in zip(upper, lower, rng.random(count).tolist(), strict=True)]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_ratios_equal_a_slow_twin_on_every_resample(missing: float) -> None:
    cell = _cell(missing)
    served = _served(cell, 1)
    multiplicity = draw_multiplicity(cell.n_groups, 5, seed=3)
    found = ratios_of_cell(cell, {"a": served}, multiplicity)["a"]
    rates = (~np.isnan(cell.test.scores)).mean(axis=0)
    for line, counts in enumerate(multiplicity):
        repeats = counts[cell.test_groups].astype(int)
        rows = np.repeat(np.arange(cell.test.n_queries), repeats)
        scores, costs = cell.test.scores[rows], cell.test.costs_usd[rows]
        means, prices = np.nanmean(scores, axis=0), np.nanmean(costs, axis=0)
        ratios = []
        for item in served:
            total = cost = weight = 0.0
            for place, row in enumerate(rows):
                for model, share in (
                    (item.upper[row], item.weight_upper),
                    (item.lower[row], 1 - item.weight_upper),
                ):
                    if not np.isnan(scores[place, model]):
                        part = share / rates[model]
                        total, cost = total + part * scores[place, model], cost + part * costs[place, model]
                        weight += part
            accuracy = total / weight
            ratios.append(cost / weight / static_mix_cost(means, prices, min(accuracy, float(means.max()))))
        assert found[line] == pytest.approx(np.mean(ratios), rel=1e-4)


def test_row_totals_add_up_to_the_outcome() -> None:
    cell = _cell(0.2)
    (item,) = _served(cell, 2, 1)
    score, cost, weight = row_totals([item], cell.test.scores, cell.test.costs_usd)
    expected = outcome_of(item.upper, item.lower, item.weight_upper, cell.test.scores, cell.test.costs_usd)
    assert score.sum() / weight.sum() == pytest.approx(expected.accuracy)
    assert cost.sum() / weight.sum() == pytest.approx(expected.cost_usd)


def test_a_router_against_itself_differs_by_nothing_and_a_dearer_one_significantly() -> None:
    cell = _cell()
    served = _served(cell, 4)
    multiplicity = draw_multiplicity(cell.n_groups, 200, seed=0)
    ratios = ratios_of_cell(cell, {"a": served, "same": served}, multiplicity)
    interval = compare([ratios["a"]] * 2, [ratios["same"]] * 2)
    assert interval is not None
    assert (interval.estimate, interval.low, interval.high, interval.p_value) == (0.0, 0.0, 0.0, 1.0)
    dearer = compare([ratios["a"]], [ratios["a"] + 0.1])
    assert dearer is not None
    assert dearer.high < 0
    assert dearer.p_value < 0.05


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Mean of n numbers whose mean is 0: a 95% interval should cover it in most of 60 samples, and not in all."""
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(60):
        values = rng.normal(size=80)
        weights = draw_multiplicity(80, 300, seed)
        interval = interval_of(np.asarray(weights @ values / weights.sum(axis=1), dtype=np.float64))
        covered.append(interval.low <= 0.0 <= interval.high)
    assert 0.85 <= np.mean(covered) < 1.0


def test_seeds_share_their_resamples() -> None:
    """Two seeds of one data set: the same group counts as often in both, so the interval of two equal halves is no
    narrower than that of one."""
    cell = _cell()
    multiplicity = draw_multiplicity(cell.n_groups, 300, seed=0)
    ours = ratios_of_cell(cell, {"a": _served(cell, 5), "b": _served(cell, 6)}, multiplicity)
    one = compare([ours["a"]], [ours["b"]])
    two = compare([ours["a"], ours["a"]], [ours["b"], ours["b"]])
    assert one is not None
    assert two is not None
    assert two.high - two.low == pytest.approx(one.high - one.low)


def _constant(cell: Cell, bias: float) -> Fitted:
    """A router of two fixed models whose estimates are off by `bias`."""
    n_train, n_test = cell.train.n_queries, cell.test.n_queries
    means, costs = np.nanmean(cell.train.scores, axis=0), np.nanmean(cell.train.costs_usd, axis=0)
    order = np.argsort(-means)[[0, 2]]
    estimates: TargetMap = target_map(means[order] + bias, np.sort(costs[order])[::-1])

    def tiled(n: int) -> IntArray:
        return np.tile(order[:, None], (1, n))

    empty: FloatArray = np.zeros(0)
    return Fitted(empty, empty, empty, estimates, np.arange(2), tiled(n_test), tiled(n_train))


def test_noise_allows_what_an_unbiased_router_does_and_not_what_a_biased_one_does() -> None:
    cells = [_cell(n=1_200, seed=seed) for seed in range(3)]
    multiplicity = draw_multiplicity(cells[0].n_groups, 300, seed=0)
    fair = tolerance_noise([(cell, _constant(cell, 0.0)) for cell in cells], (0.02, 0.05), multiplicity)
    biased = tolerance_noise([(cell, _constant(cell, 0.08)) for cell in cells], (0.02, 0.05), multiplicity)
    for tolerance in (0.02, 0.05):
        assert fair[tolerance][2] >= 0.05
        assert biased[tolerance][0] < biased[tolerance][1]
        assert biased[tolerance][2] < 0.05
