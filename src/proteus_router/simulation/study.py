"""Many streams: scenarios, audit shares, with and without tracking, seeds; each kept in a file of its own."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from proteus_router._version import __version__
from proteus_router.routing.router import Router
from proteus_router.simulation.scenario import Scenario
from proteus_router.simulation.stream import Setting, run_stream
from proteus_router.simulation.summary import record_of
from proteus_router.simulation.world import Universe, remembering

__all__ = ["Study", "Task", "tasks_of"]


_FORMAT = 5
"""Of a stream's file; rises when records get other contents, or the loop other numbers."""


@dataclass(frozen=True, slots=True)
class Task:
    """One stream to be run."""

    scenario: Scenario
    setting: Setting

    @property
    def name(self) -> str:
        loop = "tracked" if self.setting.tracked else "fixed"
        return f"{self.scenario.name}-{self.setting.audit_share:g}-{loop}-{self.setting.seed}"


def tasks_of(
    scenarios: Sequence[Scenario], shares: Sequence[float], loops: Sequence[bool], seeds: Sequence[int]
) -> list[Task]:
    """All combinations; seeds outermost, so that a study cut short has a little of everything."""
    return [
        Task(scenario, Setting(share, tracked, seed))
        for seed in seeds
        for scenario in scenarios
        for share in shares
        for tracked in loops
    ]


class Study:
    """Runs streams that are not there yet, and reads those that are.

    Parameters
    ----------
    make
        Builds the router and the world; called once a process.
    folder
        Where streams are kept; one that was made by another release, router or scenario is run again.
    """

    def __init__(self, make: Callable[[], tuple[Router, Universe]], folder: Path) -> None:
        self._make, self._folder = make, folder / "streams"
        self._made: tuple[Router, Universe] | None = None

    def run(self, tasks: Sequence[Task], *, jobs: int = 1) -> Iterator[dict[str, Any]]:
        """Records of the streams, in the order of `tasks`."""
        if jobs == 1:
            yield from map(self._one, tasks)
            return
        context = get_context("spawn")  # threads of the store do not survive a fork
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(self,)) as pool:
            yield from pool.map(_one, tasks)

    def _one(self, task: Task) -> dict[str, Any]:
        path = self._folder / f"{task.name}.json"
        router, _ = self._world()
        made_by = {"version": __version__, "format": _FORMAT, "router": router.target_map.policy_fingerprint}
        identity = {**made_by, "scenario": task.scenario.model_dump(mode="json")}
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if {key: kept.get(key) for key in identity} == identity:
                return kept
        router, universe = self._world()
        with _quiet():
            record = {
                **record_of(run_stream(router, universe, task.scenario, task.setting), universe),
                **made_by,
            }
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        unfinished.replace(path)
        return record

    def _world(self) -> tuple[Router, Universe]:
        if self._made is None:
            router, universe = self._make()
            self._made = remembering(router, universe.bank), universe
        return self._made


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors alone are logged meanwhile: a stream's warnings are its results."""
    logger = logging.getLogger("proteus_router")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


_study: list[Study] = []


def _begin(study: Study) -> None:
    _study.append(study)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the command is killed, its workers would go on, and then wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _one(task: Task) -> dict[str, Any]:
    return _study[0]._one(task)
