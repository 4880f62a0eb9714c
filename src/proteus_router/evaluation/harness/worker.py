"""One cell in a process of its own: ``python -m proteus_router.evaluation.harness.worker PLAN SPEC SEED FOLDER [alone]``.

Prints one JSON object a line: ``{"data", "n_train"}`` at the start, ``{"step", "state", "reason", "seconds"}`` when a
step ends.
Steps that are done already are passed over.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from proteus_router.baselines.context import Context
from proteus_router.baselines.registry import REGISTRY
from proteus_router.errors import ProteusError
from proteus_router.evaluation.experiments import run_experiment
from proteus_router.evaluation.harness.cells import Cell, make_cell
from proteus_router.evaluation.harness.datasets import load_data
from proteus_router.evaluation.harness.fitting import fit_record
from proteus_router.evaluation.harness.plan import Plan, Step
from proteus_router.evaluation.harness.records import RouterRecord, load_record, save_record
from proteus_router.evaluation.harness.results import read_rows, write_rows
from proteus_router.training.stages import FolderStages

__all__ = ["is_done", "main", "run_cell"]


def main(arguments: list[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    plan = Plan.load(Path(arguments[0]))
    run_cell(plan, arguments[1], int(arguments[2]), Path(arguments[3]), alone=arguments[4:] == ["alone"])


def run_cell(plan: Plan, spec: str, seed: int, folder: Path, *, alone: bool = False) -> None:
    """Do the steps of one cell that are not done: those that run beside others, or those that run alone.

    Parameters
    ----------
    folder
        Where the cell's pieces lie, as the parent reckoned it: sources that change during a run must not part them.
    """
    data = load_data(spec, limit=plan.limit)
    todo = [step for step in plan.steps(seed, alone=alone) if not is_done(step, folder)]
    if not todo:
        return
    cell = make_cell(data, seed)
    _say(data=cell.data, n_train=cell.train.n_queries)
    context = Context.of(
        cell.train, seed=seed, groups=cell.train_groups, stages=FolderStages(folder / "heads")
    )
    for step in todo:
        started = time.perf_counter()
        if step.kind == "router":
            state, reason = _router(step, plan, cell, context, folder)
        else:
            state, reason = _experiment(step, plan, cell, context, folder)
        _say(step=step.name, state=state, reason=reason, seconds=round(time.perf_counter() - started, 2))


def is_done(step: Step, folder: Path) -> bool:
    """Whether a step left a whole file; one that failed is tried again."""
    path = step.file(folder)
    if step.kind == "experiment":
        return read_rows(path) is not None
    record = load_record(path)
    return record is not None and record.status != "failed"


def _router(step: Step, plan: Plan, cell: Cell, context: Context, folder: Path) -> tuple[str, str]:
    entry = REGISTRY[step.name]
    try:
        record = fit_record(
            entry.factory(),
            cell,
            context,
            confidence=plan.confidence,
            many_confidences=entry.kind == "ours",
            timed=cell.seed == plan.seeds[0],
        )
    except Exception as error:  # reported at the end; it must not cost an hour's other results
        record = RouterRecord(step.name, "failed", _trouble(error))
    save_record(record, step.file(folder))
    return record.status, record.reason


def _experiment(step: Step, plan: Plan, cell: Cell, context: Context, folder: Path) -> tuple[str, str]:
    started = time.perf_counter()
    try:
        rows = run_experiment(step.name, cell, context, quick=plan.quick, confidence=plan.confidence)
    except ProteusError as error:  # too few rows, a missing extra: the report leaves it out
        rows, state, reason = [], "skipped", str(error)
    except Exception as error:  # as above
        return "failed", _trouble(error)
    else:
        state, reason = "done", ""
    write_rows(rows, step.file(folder), seconds=time.perf_counter() - started)
    return state, reason


def _trouble(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


def _end_with_parent() -> None:
    """The parent holds the other end of stdin and never writes; it closes when the parent is gone, however it went."""
    sys.stdin.read()
    os._exit(1)


def _say(**event: Any) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    main(sys.argv[1:])
