"""Run the cells of a plan over processes, each with one BLAS thread; what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from proteus_router.evaluation.harness.clock import Clock
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.plan import ALONE, Plan, Step, cell_folder
from proteus_router.evaluation.harness.worker import is_done

__all__ = ["run_plan"]

Say = Callable[[str], None]


@dataclass
class _Run:
    """What the threads that watch the workers share."""

    plan: Plan
    say: Say
    clock: Clock
    pending: dict[tuple[str, int], list[Step]]
    folders: dict[tuple[str, int], Path]
    rows: dict[str, int]
    total: int
    failures: list[str] = field(default_factory=list)
    workers: set[subprocess.Popen[str]] = field(default_factory=set)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> int:
        return sum(len(steps) for steps in self.pending.values())

    def time_left(self) -> str:
        seconds = self.clock.left(
            (step.name, self.rows[spec]) for (spec, _), steps in self.pending.items() for step in steps
        )
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def run_plan(plan: Plan, data_sets: list[BenchData], *, jobs: int, say: Say) -> list[str]:
    """Do all steps of the plan that are not done.

    Parameters
    ----------
    data_sets
        In the order of ``plan.specs``.
    say
        Receives one line a finished step, with the time left.

    Returns
    -------
    What failed, one line each; the rest is done all the same.
    """
    pending: dict[tuple[str, int], list[Step]] = {}
    folders: dict[tuple[str, int], Path] = {}
    for data in data_sets:
        for seed in plan.seeds:
            folder = cell_folder(plan, data, seed)
            folders[data.spec, seed] = folder
            steps = [step for step in plan.steps(seed) if not is_done(step, folder)]
            if steps:
                pending[data.spec, seed] = steps
    rows = {data.spec: round(data.table.n_queries * (1.0 - data.test_share)) for data in data_sets}
    total = len(data_sets) * sum(len(plan.steps(seed)) for seed in plan.seeds)
    run = _Run(plan, say, Clock(jobs), pending, folders, rows, total)
    if run.left < total:
        say(f"{total - run.left} of {total} steps are done already")
    plan_file = plan.work / "plan.json"
    plan.save(plan_file)
    # Long cells first, so that no process waits at the end for one that began last.
    order = sorted(pending, key=lambda cell: (-rows[cell[0]], cell[1]))
    for alone in (False, True):
        cells = [
            cell for cell in order if any((step.name in ALONE) == alone for step in pending.get(cell, ()))
        ]
        _run_cells(run, plan_file, cells, jobs=1 if alone else jobs, alone=alone)
    return run.failures


def _run_cells(run: _Run, plan_file: Path, cells: list[tuple[str, int]], *, jobs: int, alone: bool) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(lambda cell: _watch(run, plan_file, *cell, alone=alone), cells):
                pass
        except BaseException:  # interrupted: the workers must not go on alone
            with run.lock:
                run.stopped = True
                for worker in run.workers:
                    worker.terminate()
            raise


def _watch(run: _Run, plan_file: Path, spec: str, seed: int, *, alone: bool) -> None:
    """Start the worker of one cell and follow it to its end."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [
        sys.executable,
        "-m",
        "proteus_router.evaluation.harness.worker",
        str(plan_file),
        spec,
        str(seed),
        str(run.folders[spec, seed]),
        *(["alone"] if alone else []),
    ]
    log = run.plan.work / "logs" / f"{hashlib.sha256(spec.encode()).hexdigest()[:8]}-seed{seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        with run.lock:
            if run.stopped:
                return
            worker = subprocess.Popen(
                command,
                env=os.environ | one_thread,
                stdin=subprocess.PIPE,  # held open: a worker ends when we do
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            run.workers.add(worker)
        with worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                _note(run, json.loads(line), spec, seed)
    code = worker.returncode
    with run.lock:
        run.workers.discard(worker)
        if code and not run.stopped:
            tail = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no message"]
            run.failures.append(f"{spec}, seed {seed}: the process ended with code {code}: {tail[0]}")
            run.pending.pop((spec, seed), None)


def _note(run: _Run, event: dict[str, object], spec: str, seed: int) -> None:
    with run.lock:
        if "step" not in event:
            run.rows[spec] = int(str(event["n_train"]))
            return
        name, seconds = str(event["step"]), float(str(event["seconds"]))
        run.clock.note(name, run.rows[spec], seconds)
        steps = run.pending[spec, seed]
        run.pending[spec, seed] = [step for step in steps if step.name != name]
        if event["state"] == "failed":
            run.failures.append(f"{spec}, seed {seed}, {name}: {event['reason']}")
        run.say(
            f"[{run.total - run.left}/{run.total}] {spec} seed {seed} {name}: {event['state']}, {seconds:.1f} s; "
            f"about {run.time_left()} left"
        )
