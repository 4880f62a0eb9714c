"""Fit one router in one cell and keep what the report needs of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from proteus_router.baselines.base import BenchRouter, RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.inversion import invert
from proteus_router.errors import ProteusError
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.records import Fitted, RouterRecord
from proteus_router.routing.frontier import estimate_points
from proteus_router.types import FloatArray, IntArray

__all__ = ["CONFIDENCES", "fit_record"]

CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Confidences of the figure that sets margin and cost against it."""
_TIMED_QUERIES = 24


def fit_record(
    router: BenchRouter,
    cell: Cell,
    context: Context,
    *,
    confidence: float,
    many_confidences: bool = False,
    timed: bool = False,
) -> RouterRecord:
    """Fit, invert, choose on the test rows.

    Parameters
    ----------
    many_confidences
        Also the floors at every one of `CONFIDENCES`.
    timed
        Also the time of single queries.

    Returns
    -------
    A record with status ``skipped`` and the reason where the router itself declines.
    """
    started = time.process_time()
    try:
        fit = router.fit(context)
        fitted = _fitted(fit, cell, context, confidence, many_confidences)
    except ProteusError as error:
        return RouterRecord(router.name, "skipped", str(error), time.process_time() - started)
    seconds = time.process_time() - started
    if timed:
        fitted = _with_latency(fitted, fit, cell.test.queries)
    return RouterRecord(router.name, "fitted", seconds=seconds, fitted=fitted)


def _fitted(fit: RouterFit, cell: Cell, context: Context, confidence: float, many: bool) -> Fitted:
    inverted = invert(fit, context, confidence=confidence)
    choices = fit.choices(cell.test.queries)
    tested = estimate_points(choices, cell.test.scores, cell.test.costs_usd)
    maps = [invert(fit, context, confidence=level).target_map for level in CONFIDENCES] if many else []
    targets, upper, lower, weight, used = _native(fit, cell.grids.all_targets)
    return Fitted(
        knobs=fit.knobs,
        point_accuracy=tested.accuracy,
        point_cost_usd=tested.cost_usd,
        target_map=inverted.target_map,
        vertices=inverted.points,
        test_choices=choices[inverted.points],
        train_choices=fit.out_of_fold[inverted.points],
        native_targets=targets,
        native_upper=upper,
        native_lower=lower,
        native_weight=weight,
        native_choices=choices[used],
        predicted=None if fit.predicted is None else fit.predicted(cell.test.queries),
        confidences=np.array(CONFIDENCES[: len(maps)]),
        floors=np.array([item.floors[0] for item in maps]) if maps else np.zeros((0, 0)),
    )


def _native(
    fit: RouterFit, targets: FloatArray
) -> tuple[FloatArray, IntArray, IntArray, FloatArray, IntArray]:
    """Targets, the two points and the coin of each, and which of the router's points they are."""
    if fit.native is None:
        none = np.zeros(0, dtype=np.int64)
        return np.zeros(0), none, none, np.zeros(0), none
    mixes = [fit.native(float(target)) for target in targets]
    pairs = np.array([(mix.upper, mix.lower) for mix in mixes], dtype=np.int64)
    used, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(pairs.shape).astype(np.int64)
    weight = np.array([mix.weight_upper for mix in mixes])
    return targets, place[:, 0], place[:, 1], weight, used


def _with_latency(fitted: Fitted, fit: RouterFit, texts: Sequence[str]) -> Fitted:
    """Time of one query at a time: its predictions where the router has them, else all its settings at once."""
    times = []
    for text in texts[:_TIMED_QUERIES]:
        started = time.perf_counter()
        if fit.predicted is not None:
            fit.predicted([text])
        else:
            fit.choices([text])
        times.append((time.perf_counter() - started) * 1000.0)
    return replace(fitted, latency_ms=np.array(times))
