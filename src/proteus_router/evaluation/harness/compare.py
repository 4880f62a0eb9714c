"""Ours against theirs: a paired bootstrap over text groups, the same resamples for every router and every seed.

Seeds split the same rows in different ways, so their figures are not independent. Here whole text groups of the
data set are drawn with replacement, once for all seeds: a group that is drawn twice counts twice in the test part
of every seed it is in. Routers are not fitted again; the interval is that of the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.records import Fitted, Served
from proteus_router.routing.frontier import observation_rates
from proteus_router.routing.hull import lower_hull
from proteus_router.types import FloatArray, IntArray

__all__ = [
    "Interval",
    "Ratios",
    "compare",
    "draw_multiplicity",
    "ratios_of_cell",
    "row_totals",
    "tolerance_noise",
]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its 95% bootstrap interval, and the share of resamples on the other side of zero (two-sided)."""

    estimate: float
    low: float
    high: float
    p_value: float


Ratios = FloatArray
"""(1 + B,) cost ratio: on the rows as they are, then on every resample."""


def draw_multiplicity(n_groups: int, n_resamples: int, seed: int) -> FloatArray:
    """(1 + B, n_groups) how often each group counts; the first line is ones."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    return np.concatenate([np.ones((1, n_groups)), counts]).astype(np.float32)


def row_totals(
    served: list[Served], scores: FloatArray, costs_usd: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted score, weighted cost and weight of every row, (n, L) each: its expectation over the coin.

    Weights are those of `yardsticks.outcome_of`: one over the observation rate of the model chosen.
    """
    rows = np.arange(len(scores))
    rates = np.maximum(observation_rates(scores), 1e-12)
    filled, paid, seen = np.nan_to_num(scores), np.nan_to_num(costs_usd), ~np.isnan(scores)
    score, cost, weight = (np.zeros((len(scores), len(served))) for _ in range(3))
    for column, item in enumerate(served):
        for choice, share in ((item.upper, item.weight_upper), (item.lower, 1.0 - item.weight_upper)):
            part = np.where(seen[rows, choice], share / rates[choice], 0.0)
            score[:, column] += part * filled[rows, choice]
            cost[:, column] += part * paid[rows, choice]
            weight[:, column] += part
    return score, cost, weight


def ratios_of_cell(
    cell: Cell, asked: Mapping[str, list[Served]], multiplicity: FloatArray
) -> dict[str, Ratios]:
    """Cost ratio to the static mix of every way of serving, mean over what it was asked for, on every resample.

    Parameters
    ----------
    asked
        Name -> what serves each requested accuracy.

    Returns
    -------
    Name -> (1 + B,); NaN for a resample in which no request has a static mix that costs anything.
    """
    totals = _GroupTotals(cell.test_groups, multiplicity)
    accuracy, price = _model_means(cell, totals)
    reached, paid = {}, {}
    for name, served in asked.items():
        score, cost, weight = (
            totals(part) for part in row_totals(served, cell.test.scores, cell.test.costs_usd)
        )
        known = weight > 0
        reached[name] = np.divide(score, weight, out=np.full_like(score, np.nan), where=known)
        paid[name] = np.divide(cost, weight, out=np.full_like(cost, np.nan), where=known)
    static = {name: np.empty_like(values) for name, values in reached.items()}
    for line in range(len(accuracy)):
        hull = lower_hull(accuracy[line], price[line])[::-1]  # one hull serves all routers
        for name, values in reached.items():
            static[name][line] = np.interp(values[line], accuracy[line, hull], price[line, hull])
    found = {}
    for name in asked:
        usable = (static[name] > 0) & np.isfinite(paid[name])
        ratio = np.divide(paid[name], static[name], out=np.zeros_like(static[name]), where=usable)
        count = usable.sum(axis=1)
        found[name] = np.divide(ratio.sum(axis=1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return found


def compare(ours: list[Ratios], theirs: list[Ratios]) -> Interval | None:
    """Ours minus theirs, mean over seeds (one entry a seed, in the same order); None where it is undefined."""
    pairs = [
        left - right for left, right in zip(ours, theirs, strict=True) if np.isfinite(left[0] - right[0])
    ]
    return None if not pairs else interval_of(np.mean(pairs, axis=0))


def interval_of(values: Ratios) -> Interval:
    """Percentile interval of the resamples around the estimate, moved so that it is centred on it.

    Resampling repeats rows, which moves a ratio of means a little to one side; the estimate itself has no such shift.
    """
    estimate = float(values[0])
    resampled = values[1:][np.isfinite(values[1:])]
    if not resampled.size:
        return Interval(estimate, estimate, estimate, 1.0)
    centred = resampled - resampled.mean() + estimate
    low, high = np.quantile(centred, (0.025, 0.975))
    wrong = min(float((centred >= 0).mean()), float((centred <= 0).mean()))
    return Interval(estimate, float(low), float(high), min(1.0, 2.0 * max(wrong, 1.0 / (resampled.size + 1))))


def tolerance_noise(
    cells: Sequence[tuple[Cell, Fitted]], tolerances: tuple[float, ...], multiplicity: FloatArray
) -> dict[float, tuple[float, float, float]]:
    """How often the target is met within a tolerance, and how often noise alone would let it.

    Without any bias a gap is the noise of the test rows less that of the training rows on which the setting was chosen.
    Both are resampled together, over all targets and seeds.

    Returns
    -------
    tolerance -> (observed share, share that noise allows, probability of a share as low as observed).
    """
    observed, noise = [], []
    for cell, fitted in cells:
        targets = cell.grids.response.tolist()
        test = _accuracy(
            [fitted.expected(target) for target in targets],
            cell.test.scores,
            cell.test.costs_usd,
            _GroupTotals(cell.test_groups, multiplicity),
        )
        train = _accuracy(
            [fitted.expected_in_training(target) for target in targets],
            cell.train.scores,
            cell.train.costs_usd,
            _GroupTotals(cell.train_groups, multiplicity),
        )
        observed.append(test[0] - np.array(targets))
        noise.append((test[1:] - test[0]) - (train[1:] - train[0]))
    gaps, drawn = np.concatenate(observed), np.concatenate(noise, axis=1)
    found = {}
    for tolerance in tolerances:
        share = float((np.abs(gaps) <= tolerance).mean())
        shares = (np.abs(drawn) <= tolerance).mean(axis=1)
        found[tolerance] = (share, float(shares.mean()), float((shares <= share).mean()))
    return found


def _accuracy(
    served: list[Served], scores: FloatArray, costs_usd: FloatArray, totals: _GroupTotals
) -> FloatArray:
    """(1 + B, targets)."""
    score, _, weight = row_totals(served, scores, costs_usd)
    return totals(score) / np.maximum(totals(weight), 1e-12)


def _model_means(cell: Cell, totals: _GroupTotals) -> tuple[FloatArray, FloatArray]:
    """(1 + B, k) mean score and cost of each model; one that a resample never saw is priced out."""
    seen = ~np.isnan(cell.test.scores)
    count = totals(seen.astype(np.float64))
    score, cost = totals(np.nan_to_num(cell.test.scores)), totals(np.nan_to_num(cell.test.costs_usd))
    missing = count <= 0
    accuracy = np.divide(score, count, out=np.zeros_like(score), where=~missing)
    price = np.divide(cost, count, out=np.full_like(cost, float(cost.max()) + 1.0), where=~missing)
    return accuracy, price


class _GroupTotals:
    """Sums over rows, (n, columns) -> (1 + B, columns), with each row's group counted as often as it was drawn."""

    def __init__(self, groups: IntArray, multiplicity: FloatArray) -> None:
        names, place = np.unique(groups, return_inverse=True)
        n = len(groups)
        self._by_group = csr_matrix((np.ones(n), (place, np.arange(n))), shape=(names.size, n))
        self._multiplicity = multiplicity[:, names]

    def __call__(self, values: FloatArray) -> FloatArray:
        by_group = np.asarray(self._by_group @ values)
        return np.asarray(self._multiplicity @ by_group.astype(np.float32), dtype=np.float64)
