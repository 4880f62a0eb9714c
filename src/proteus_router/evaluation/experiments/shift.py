"""Shift: train on all tasks but one, serve that one; beside it the same number of labels with the task among them."""

from __future__ import annotations

import numpy as np

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

__all__ = ["task_shift"]

_MIN_TEST_ROWS = 100
_MAX_TASKS = 4
_MAX_TRAIN_ROWS = 2_000


def task_shift(cell: Cell, context: Context, *, confidence: float, quick: bool = False) -> list[Row]:
    """The largest tasks one by one; none where the data name no tasks, or a single one."""
    if cell.train.tasks is None or cell.test.tasks is None:
        return []
    train_tasks, test_tasks = np.array(cell.train.tasks), np.array(cell.test.tasks)
    names, counts = np.unique(test_tasks, return_counts=True)
    largest = [
        str(names[place]) for place in np.argsort(-counts, kind="stable") if counts[place] >= _MIN_TEST_ROWS
    ]
    rows: list[Row] = []
    for task in largest[: 1 if quick else _MAX_TASKS]:
        others = np.flatnonzero(train_tasks != task)
        if len(others) < _MIN_TEST_ROWS:
            continue
        keep = min(len(others), _MAX_TRAIN_ROWS)
        test = np.flatnonzero(test_tasks == task)
        unseen = others[random_rows(len(others), keep, cell.seed)]
        seen = random_rows(cell.train.n_queries, keep, cell.seed)
        for label, train in (("unseen", unseen), ("seen", seen)):
            part = part_of(cell, train=train, test=test)
            if observed_everywhere(part):
                rows += fit_and_measure(
                    part, list(COMPARED), "shift", f"{task}|{label}", like=context, confidence=confidence
                )
    return rows
