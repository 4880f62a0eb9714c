"""What experiments share: a part of a cell, and the routers they compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from proteus_router.baselines.context import Context
from proteus_router.baselines.registry import REGISTRY
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.fitting import fit_record
from proteus_router.evaluation.harness.measure import measure
from proteus_router.evaluation.harness.results import Row
from proteus_router.types import IntArray, Predictions

__all__ = ["COMPARED", "fit_and_measure", "observed_everywhere", "part_of", "random_rows"]

COMPARED = ("plugin-own-heads", "plugin-ridge", "knn")
"""Ours without the training of a policy, which takes ten times as long and comes out level; and what most people would
try."""


def part_of(cell: Cell, *, train: IntArray | None = None, test: IntArray | None = None) -> Cell:
    """The cell of the given training and test rows."""
    smaller = cell
    if train is not None:
        smaller = replace(smaller, train=cell.train.take(train), train_groups=cell.train_groups[train])
    if test is not None:
        known, expected = cell.query_only, cell.expected_scores
        smaller = replace(
            smaller,
            test=cell.test.take(test),
            test_groups=cell.test_groups[test],
            expected_scores=None if expected is None else expected[test],
            query_only=None if known is None else Predictions(known.scores[test], known.costs_usd[test]),
        )
    return smaller


def fit_and_measure(
    cell: Cell, routers: list[str], experiment: str, variant: str, *, like: Context, confidence: float
) -> list[Row]:
    """Fit the routers on the cell's training rows alone, with heads of their own set up as in `like`; measure them."""
    context = Context.of(cell.train, seed=cell.seed, groups=cell.train_groups, config=like.config)
    rows: list[Row] = []
    for name in routers:
        record = fit_record(REGISTRY[name].factory(), cell, context, confidence=confidence)
        rows += measure(cell, record, experiment=experiment, variant=variant)
    return rows


def observed_everywhere(cell: Cell) -> bool:
    """Whether every model has an outcome in both parts."""
    return bool(cell.train.observed.any(axis=0).all() and cell.test.observed.any(axis=0).all())


def random_rows(n: int, keep: int, seed: int) -> IntArray:
    """`keep` of `n` row numbers, rising; a smaller draw of the same seed is part of a larger one."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:keep]).astype(np.int64)
