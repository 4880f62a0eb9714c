"""Label budget: how many labelled queries a router needs."""

from __future__ import annotations

from proteus_router.baselines.context import Context
from proteus_router.evaluation.experiments.parts import (
    COMPARED,
    fit_and_measure,
    observed_everywhere,
    part_of,
    random_rows,
)
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.results import Row

__all__ = ["SIZES", "label_budget"]

SIZES = (100, 300, 1000, 3000)


def label_budget(cell: Cell, context: Context, *, confidence: float, quick: bool = False) -> list[Row]:
    """Each of `SIZES` training queries at random, nested, tested on all test rows; all of them are in `main`."""
    rows: list[Row] = []
    for size in SIZES[: 2 if quick else None]:
        if size >= cell.train.n_queries:
            break
        part = part_of(cell, train=random_rows(cell.train.n_queries, size, cell.seed))
        if observed_everywhere(part):
            rows += fit_and_measure(
                part, list(COMPARED), "budget", str(size), like=context, confidence=confidence
            )
    return rows
