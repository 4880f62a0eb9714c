"""Targets that change with time: the paper's four scenarios, rescaled to what the data set can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proteus_router.errors import InfeasibleTargetError
from proteus_router.evaluation import metrics
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.compare import row_totals
from proteus_router.evaluation.harness.records import Fitted, Served
from proteus_router.evaluation.harness.results import Row
from proteus_router.types import FloatArray

__all__ = ["SCENARIOS", "STEPS", "WINDOW", "Stream", "best_effort", "dynamic", "stream_of", "targets_of"]

STEPS, WINDOW = 1_000, 100
_LOW, _HIGH = 0.80, 0.95
"""The range of the paper's targets; it is mapped to the cell's own."""


def _step(time: FloatArray) -> FloatArray:
    return np.where(time < 0.5, 0.82, 0.92)


def _drift(time: FloatArray) -> FloatArray:
    return 0.80 + 0.15 * time


def _cycle(time: FloatArray) -> FloatArray:
    return 0.875 + 0.05 * np.sin(2.0 * np.pi * 2.0 * time)


def _peak(time: FloatArray) -> FloatArray:
    """Two smooth peaks, at 0.3 and 0.75 of the time."""
    peaks = [1.0 / (1.0 + np.exp((np.abs(time - centre) - 0.12) / 0.015)) for centre in (0.3, 0.75)]
    return 0.82 + 0.10 * np.maximum(*peaks)


SCENARIOS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "step": _step,
    "drift": _drift,
    "cycle": _cycle,
    "peak/off-peak": _peak,
}


@dataclass(frozen=True)
class Stream:
    """1,000 requests in order: target, score and cost of each, in expectation over the router's coin; (T,)."""

    target: FloatArray
    score: FloatArray
    cost_usd: FloatArray

    def window_mean(self) -> FloatArray:
        """(T,) mean score of the last 100 requests; of as many as there were at the start."""
        total = np.concatenate([[0.0], np.cumsum(self.score)])
        last = np.arange(1, STEPS + 1)
        first = np.maximum(last - WINDOW, 0)
        mean: FloatArray = (total[last] - total[first]) / (last - first)
        return mean


def targets_of(scenario: str, low: float, high: float) -> FloatArray:
    """(1000,) targets of a scenario, the paper's range mapped to [low, high]."""
    shape = SCENARIOS[scenario](np.arange(STEPS) / STEPS)
    return low + (shape - _LOW) / (_HIGH - _LOW) * (high - low)


def stream_of(cell: Cell, scenario: str, serve: Callable[[float], Served]) -> Stream:
    """Serve test rows in a random order, the same for every router; each is asked for on the cell's stream grid."""
    grid = cell.grids.stream
    wanted = targets_of(scenario, float(grid[0]), float(grid[-1]))
    place = np.abs(wanted[:, None] - grid[None, :]).argmin(axis=1)
    complete = np.flatnonzero(cell.test.observed.all(axis=1))
    rows = np.random.default_rng(cell.seed).choice(complete, STEPS, replace=len(complete) < STEPS)
    score, cost = np.empty(STEPS), np.empty(STEPS)
    for index in np.unique(place):
        now = np.flatnonzero(place == index)
        served = serve(float(grid[index]))
        at = rows[now]
        part = Served(served.upper[at], served.lower[at], served.weight_upper)
        totals = row_totals([part], cell.test.scores[at], cell.test.costs_usd[at])
        score[now], cost[now] = totals[0][:, 0], totals[1][:, 0]
    return Stream(grid[place], score, cost)


def dynamic(cell: Cell, router: str, fitted: Fitted) -> list[Row]:
    """Floor satisfaction and overshoot of one router in every scenario; none where no row is complete."""
    if not cell.test.observed.all(axis=1).any():
        return []
    ways: dict[str, Callable[[float], Served]] = {
        "expected": fitted.expected,
        "certified": best_effort(fitted),
    }
    if fitted.is_native:
        ways["native"] = fitted.native
    rows = []
    for scenario in SCENARIOS:
        for guarantee, serve in ways.items():
            stream = stream_of(cell, scenario, serve)
            for metric, value in _figures(stream):
                rows.append(
                    Row("dynamic", cell.data, cell.seed, router, metric, value, scenario, guarantee, n=STEPS)
                )
    return rows


def best_effort(fitted: Fitted) -> Callable[[float], Served]:
    """The certified setting; where there is none the most accurate."""

    def serve(target: float) -> Served:
        try:
            return fitted.certified(target)
        except InfeasibleTargetError:
            return fitted.expected(1.0 - 1e-6)

    return serve


def _figures(stream: Stream) -> list[tuple[str, float | None]]:
    return [
        ("window_satisfaction", metrics.floor_satisfaction(stream.target, stream.score, WINDOW)),
        ("running_satisfaction", metrics.running_floor_satisfaction(stream.target, stream.score, WINDOW)),
        ("overshoot", metrics.overshoot(stream.target, stream.score)),
        ("mean_cost_usd", float(stream.cost_usd.mean())),
    ]
