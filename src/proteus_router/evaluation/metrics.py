"""The paper's metrics to the letter, and those of the field, each a pure function of arrays.

"paper" is arXiv 2601.19402, section 4 of its evaluation. A metric that is not defined on its input (a division by
zero, a correlation with something that does not vary) is None, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.routing.hull import lower_hull
from proteus_router.types import BoolArray, FloatArray

__all__ = [
    "Bin",
    "FloorViolations",
    "PerformanceIndex",
    "apgr",
    "average_improvement_in_quality",
    "call_performance_threshold",
    "certified_floor_violations",
    "cost_range",
    "cost_ratio_to_static_mix",
    "expected_calibration_error",
    "floor_compliance",
    "floor_satisfaction",
    "margin",
    "oracle_gap",
    "oracle_gap_closed",
    "overshoot",
    "reliability_bins",
    "routing_efficiency",
    "routing_performance_index",
    "running_floor_satisfaction",
    "target_accuracy_correlation",
    "tau_mu_correlation",
    "tolerance_compliance",
]

STREAM_WINDOW = 100
"""Requests over which the paper's streams are averaged, and after which they are counted."""


# The paper's, over targets


def floor_compliance(targets: FloatArray, achieved: FloatArray) -> float | None:
    """Share of targets met on average: ``mean_j [a_j >= tau_j]``. Source: paper.

    Parameters
    ----------
    targets, achieved
        (t,) requested accuracy and mean score achieved.
    """
    return _mean(achieved >= targets)


def tolerance_compliance(targets: FloatArray, achieved: FloatArray, tolerance: float) -> float | None:
    """Share of targets hit from either side: ``mean_j [|a_j - tau_j| <= tolerance]``. Source: paper (0.02, 0.05).

    The band is closed; rounding of the difference is forgiven to 1e-12.
    """
    return _mean(np.abs(achieved - targets) <= tolerance + 1e-12)


def margin(targets: FloatArray, achieved: FloatArray) -> FloatArray:
    """(t,) ``a_j - tau_j``: above 0 an overshoot, below 0 a shortfall. Source: paper."""
    return achieved - targets


def tau_mu_correlation(targets: FloatArray, quality_preference: FloatArray) -> float | None:
    """Pearson correlation of the target with the policy's mean quality preference. Source: paper.

    It is free of scale: it reads 1 where mu moves by a millionth. Report `target_accuracy_correlation` and the range
    of the achieved accuracy beside it.
    """
    return _pearson(targets, quality_preference)


def target_accuracy_correlation(targets: FloatArray, achieved: FloatArray) -> float | None:
    """Pearson correlation of the target with the accuracy ACHIEVED; what the paper's `tau_mu_correlation` stands for."""
    return _pearson(targets, achieved)


def cost_range(targets: FloatArray, costs_usd: FloatArray) -> float | None:
    """``cost at the highest target / cost at the lowest``; None where the latter is free. Source: paper."""
    if not len(targets):
        return None
    return _ratio(float(costs_usd[np.argmax(targets)]), float(costs_usd[np.argmin(targets)]))


def oracle_gap(accuracy: float, oracle_accuracy: float) -> float:
    """``oracle accuracy - accuracy``, the oracle being the cheapest correct model per query. Source: paper."""
    return oracle_accuracy - accuracy


def routing_efficiency(accuracy: float, random_accuracy: float, latency_ms: float) -> float | None:
    """RE: ``100 (accuracy - random's accuracy) / router latency in ms``, percentage points a millisecond. Source: paper."""
    return _ratio(100.0 * (accuracy - random_accuracy), latency_ms)


@dataclass(frozen=True, slots=True)
class PerformanceIndex:
    """RPI, and whether its time factor was known or set to 1."""

    value: float
    time_known: bool


def routing_performance_index(
    accuracy: float,
    oracle_accuracy: float,
    cost_usd: float,
    dearest_cost_usd: float,
    *,
    router_ms: float | None = None,
    model_ms: float | None = None,
) -> PerformanceIndex | None:
    """RPI: ``100 (Acc / Acc_oracle) (1 - Cost / Cost_max) (1 - t_router / t_LLM)``. Source: paper.

    Parameters
    ----------
    dearest_cost_usd
        Cost_max: the mean cost of the dearest model.
    router_ms, model_ms
        Latency of the router and of the model; the time factor is 1, and said to be so, where either is unknown.

    Returns
    -------
    None where the oracle is never right, nothing costs anything, or the model takes no time.
    """
    quality, price = _ratio(accuracy, oracle_accuracy), _ratio(cost_usd, dearest_cost_usd)
    if quality is None or price is None:
        return None
    if router_ms is None or model_ms is None:
        return PerformanceIndex(100.0 * quality * (1.0 - price), time_known=False)
    time = _ratio(router_ms, model_ms)
    return None if time is None else PerformanceIndex(100.0 * quality * (1.0 - price) * (1.0 - time), True)


# The paper's, over streams


def floor_satisfaction(targets: FloatArray, scores: FloatArray, window: int = STREAM_WINDOW) -> float | None:
    """Share of steps t > window with ``mean(y_{t-window+1..t}) >= tau_t``. Source: paper, dynamic scenarios.

    Parameters
    ----------
    targets, scores
        (T,) target of each step, and its expected score over the router's coin.
    """
    return _mean((_window_means(scores, window) >= targets - 1e-12)[window:])


def running_floor_satisfaction(
    targets: FloatArray, scores: FloatArray, skip: int = STREAM_WINDOW
) -> float | None:
    """Share of steps t > skip with ``mean(y_{1..t}) >= mean(tau_{1..t})``: the same of the mean since the start.

    With a constant target this is the running mean against the target; with a moving one, the mean score over all
    that was served against the mean of what was asked.
    """
    steps = np.arange(1, len(scores) + 1)
    return _mean((np.cumsum(scores) / steps >= np.cumsum(targets) / steps - 1e-12)[skip:])


def overshoot(targets: FloatArray, scores: FloatArray) -> float | None:
    """``mean_t (y_t - tau_t)`` over a stream: accuracy paid for and not asked for. Source: paper, dynamic scenarios."""
    return _mean(scores - targets)


# The field's


def cost_ratio_to_static_mix(
    accuracy: FloatArray, costs_usd: FloatArray, model_accuracy: FloatArray, model_costs_usd: FloatArray
) -> float | None:
    """REQ: mean over requested levels of ``cost / static-mix cost at the accuracy achieved``.

    The static mix is the cheapest random mix of fixed models with that accuracy; above the best model its cost counts.
    Levels at which the mix is free are left out: nothing can undercut it there. Source: findings of this project.

    Parameters
    ----------
    accuracy, costs_usd
        (levels,) what the router achieved and paid at every requested level.
    model_accuracy, model_costs_usd
        (k,) the models' means on the same rows.
    """
    hull = lower_hull(model_accuracy, model_costs_usd)[::-1]
    static = np.interp(accuracy, model_accuracy[hull], model_costs_usd[hull])
    charged = static > 0
    return _mean(costs_usd[charged] / static[charged])


def oracle_gap_closed(cost_ratio: float, oracle_ratio: float) -> float | None:
    """``(1 - ratio) / (1 - oracle's ratio)``: 0 is the static mix, 1 the oracle; None where the oracle saves nothing."""
    return _ratio(1.0 - cost_ratio, 1.0 - oracle_ratio)


def average_improvement_in_quality(
    costs_usd: FloatArray, accuracy: FloatArray, cost_limits: tuple[float, float]
) -> float | None:
    """AIQ: ``1 / (c_max - c_min) * integral over [c_min, c_max] of R(c) dc``. Source: RouterBench, arXiv 2403.12031.

    R is the non-decreasing upper concave hull of the router's (cost, accuracy) points: the best accuracy a mix of its
    points buys for c at most. Below its cheapest point R is 0.

    Parameters
    ----------
    costs_usd, accuracy
        (p,) the router's points.
    cost_limits
        c_min, c_max, the same for all routers compared.
    """
    low, high = cost_limits
    if not len(costs_usd) or high <= low:
        return None
    hull = lower_hull(accuracy, costs_usd)[
        ::-1
    ]  # cheapest first, both rising: its mirror is the concave hull
    c, a = costs_usd[hull], accuracy[hull]
    knots = np.unique(np.clip(np.concatenate([[low, high], c]), low, high))
    knots = knots[knots >= c[0]]
    if not len(knots):
        return 0.0
    value = np.interp(knots, c, a)
    area = float((np.diff(knots) * 0.5 * (value[1:] + value[:-1])).sum())
    return area / (high - low)


def apgr(
    strong_share: FloatArray, accuracy: FloatArray, weak_accuracy: float, strong_accuracy: float
) -> float | None:
    """APGR: ``integral over s in [0, 1] of (a(s) - weak) / (strong - weak) ds``. Source: RouteLLM, arXiv 2406.18665.

    For a pool of two models: a(s) is the accuracy when a share s of the queries goes to the strong one, linear between
    the router's points and the two models alone. 0.5 is a random mix.

    Parameters
    ----------
    strong_share, accuracy
        (p,) the router's points.
    """
    s, a = _two_model_curve(strong_share, accuracy, weak_accuracy, strong_accuracy)
    area = float((np.diff(s) * 0.5 * (a[1:] + a[:-1])).sum())
    return _ratio(area - weak_accuracy, strong_accuracy - weak_accuracy)


def call_performance_threshold(
    strong_share: FloatArray,
    accuracy: FloatArray,
    weak_accuracy: float,
    strong_accuracy: float,
    recovered: float,
) -> float | None:
    """CPT(r): ``min { s : (a(s) - weak) / (strong - weak) >= r }``. Source: RouteLLM, arXiv 2406.18665 (50%, 80%).

    The least share of calls to the strong model that recovers a share r of the gap between the two models.
    """
    if strong_accuracy <= weak_accuracy:
        return None
    s, a = _two_model_curve(strong_share, accuracy, weak_accuracy, strong_accuracy)
    wanted = weak_accuracy + recovered * (strong_accuracy - weak_accuracy)
    reached = np.flatnonzero(a >= wanted - 1e-12)
    if not len(reached):
        return None
    first = int(reached[0])
    if first == 0 or a[first] <= wanted:
        return float(s[first])
    rise = (wanted - a[first - 1]) / (a[first] - a[first - 1])
    return float(s[first - 1] + rise * (s[first] - s[first - 1]))


@dataclass(frozen=True, slots=True)
class FloorViolations:
    """How certified floors held; abstentions are counted apart, since refusing a target breaks no promise."""

    certified: int
    violated: int
    abstained: int
    worst_shortfall: float

    @property
    def rate(self) -> float | None:
        """Violations over certified floors; None where nothing was certified."""
        return self.violated / self.certified if self.certified else None


def certified_floor_violations(targets: FloatArray, true_accuracy: FloatArray) -> FloorViolations:
    """Certified floors whose true accuracy lies below: ``#{a_j < tau_j}`` among the certified.

    A promise at confidence 1 - delta may be broken in a share delta of independent repetitions. On a test sample
    the noise of a_j counts as well, so this reads high there; it is exact in a simulated world.

    Parameters
    ----------
    targets, true_accuracy
        (cells,) NaN accuracy: the target was refused.
    """
    certified = ~np.isnan(true_accuracy)
    short = np.maximum(targets[certified] - true_accuracy[certified], 0.0)
    return FloorViolations(
        certified=int(certified.sum()),
        violated=int((short > 0).sum()),
        abstained=int((~certified).sum()),
        worst_shortfall=float(short.max()) if short.size else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram."""

    predicted: float
    observed: float
    n: int


def reliability_bins(predicted: FloatArray, observed: FloatArray, bins: int = 15) -> list[Bin]:
    """Mean prediction and mean outcome in equal-width bins of the prediction; empty bins are left out.

    Parameters
    ----------
    predicted, observed
        Same shape; NaN outcomes are left out.
    """
    known = ~np.isnan(observed)
    p, y = predicted[known], observed[known]
    place = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    return [
        Bin(float(p[place == index].mean()), float(y[place == index].mean()), int((place == index).sum()))
        for index in np.unique(place)
    ]


def expected_calibration_error(predicted: FloatArray, observed: FloatArray, bins: int = 15) -> float | None:
    """ECE: ``sum_b n_b / n |mean prediction_b - mean outcome_b|`` over equal-width bins.

    Source: Guo et al., arXiv 1706.04599. Scores between 0 and 1 count as they are.
    """
    found = reliability_bins(predicted, observed, bins)
    total = sum(item.n for item in found)
    if not total:
        return None
    return sum(item.n * abs(item.predicted - item.observed) for item in found) / total


def _two_model_curve(
    strong_share: FloatArray, accuracy: FloatArray, weak: float, strong: float
) -> tuple[FloatArray, FloatArray]:
    """Points by rising share, both models alone at the ends; of equal shares the mean accuracy."""
    inside = (strong_share > 0.0) & (strong_share < 1.0)
    shares, place = np.unique(strong_share[inside], return_inverse=True)
    means = np.bincount(place, weights=accuracy[inside], minlength=shares.size) / np.maximum(
        np.bincount(place, minlength=shares.size), 1
    )
    return np.concatenate([[0.0], shares, [1.0]]), np.concatenate([[weak], means, [strong]])


def _window_means(values: FloatArray, window: int) -> FloatArray:
    """(T,) mean of the last `window` values; of as many as there were at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    mean: FloatArray = (total[last] - total[first]) / (last - first)
    return mean


def _pearson(left: FloatArray, right: FloatArray) -> float | None:
    if len(left) < 2 or np.ptp(left) == 0.0 or np.ptp(right) == 0.0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _mean(values: FloatArray | BoolArray) -> float | None:
    return float(np.mean(values)) if values.size else None


def _ratio(over: float, under: float) -> float | None:
    return over / under if under != 0.0 else None
