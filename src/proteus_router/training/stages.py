"""Finished stages of a training run, kept so that a killed run goes on where it was.

A stage is a deterministic function of data, configuration and seed, so taking its arrays from the folder or
computing them again gives the same router.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from proteus_router.routing.artifact import row_major
from proteus_router.types import Arrays

__all__ = ["FolderStages", "MemoryStages", "StageStore", "stage"]


class StageStore(Protocol):
    """Keeps the arrays of finished stages by name; a later save of a name replaces the earlier."""

    def load(self, name: str) -> Arrays | None: ...

    def save(self, name: str, arrays: Arrays) -> None: ...


class MemoryStages:
    """Forgets everything with the process; for library use and tests."""

    def __init__(self) -> None:
        self._stages: dict[str, Arrays] = {}

    def load(self, name: str) -> Arrays | None:
        arrays = self._stages.get(name)
        return None if arrays is None else _copies(arrays)

    def save(self, name: str, arrays: Arrays) -> None:
        self._stages[name] = _copies(arrays)  # the caller may go on updating its own, as an optimiser does


class FolderStages:
    """One safetensors file a stage, written beside and renamed, so that a kill leaves whole files only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, name: str) -> Arrays | None:
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            return dict(load_file(path))
        except SafetensorError:  # a disk that lied about a rename; computing the stage again is always right
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        path = self._folder / f"{name}.safetensors"
        unfinished = path.with_suffix(".tmp")
        save_file(row_major(arrays), unfinished)
        os.replace(unfinished, path)


def stage(store: StageStore, name: str, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of stage `name`: loaded if the store has them, else computed and saved.

    In C order either way: sums run along the memory, so a resumed run would else differ in its last digits.
    """
    arrays = store.load(name)
    if arrays is None:
        arrays = row_major(compute())
        store.save(name, arrays)
    return arrays


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy(order="C") for name, array in arrays.items()}
