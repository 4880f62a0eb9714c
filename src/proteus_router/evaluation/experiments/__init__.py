"""Experiments beside the main comparison. Those with fits of their own run in a cell's worker; `dynamic` reads records."""

from __future__ import annotations

from proteus_router.baselines.context import Context
from proteus_router.evaluation.experiments.budget import label_budget
from proteus_router.evaluation.experiments.latency import router_latency
from proteus_router.evaluation.experiments.leak import leak
from proteus_router.evaluation.experiments.pool import pool_change
from proteus_router.evaluation.experiments.shift import task_shift
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.results import Row

__all__ = ["run_experiment"]


def run_experiment(name: str, cell: Cell, context: Context, *, quick: bool, confidence: float) -> list[Row]:
    """The rows of one experiment in one cell; none where the data can't show it."""
    if name == "leak":
        return leak(cell, context)
    if name == "pool":
        return pool_change(cell, context)
    if name == "budget":
        return label_budget(cell, context, confidence=confidence, quick=quick)
    if name == "shift":
        return task_shift(cell, context, confidence=confidence, quick=quick)
    if name == "latency":
        return router_latency(cell, context, quick=quick)
    raise ValueError(f"no experiment named {name!r}.")
