from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from proteus_router.training.stages import FolderStages, MemoryStages, StageStore, stage
from proteus_router.types import Arrays

# A run of its own that is killed, as by `kill -9`, after the file is written and before it gets its name.
KILLED_BEFORE_RENAME = """
import os, signal, sys
import numpy as np
from pathlib import Path
from proteus_router.training import stages

os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
stages.FolderStages(Path(sys.argv[1])).save("fold", {"x": np.full(5, 9.0)})
"""


class _Counted:
    """Computes the same arrays every time and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"x": np.arange(6.0).reshape(2, 3), "ids": np.array([3, 1, 2]), "step": np.array(7)}


def _same(left: Arrays | None, right: Arrays) -> bool:
    return (
        left is not None
        and left.keys() == right.keys()
        and all(left[name].dtype == right[name].dtype for name in right)
        and all(np.array_equal(left[name], right[name]) for name in right)
    )


def _memory(_: Path) -> StageStore:
    return MemoryStages()


Open = Callable[[Path], StageStore]
both_stores = pytest.mark.parametrize("open_store", [_memory, FolderStages], ids=["memory", "folder"])


@both_stores
def test_a_stage_is_computed_once(tmp_path: Path, open_store: Open) -> None:
    store, compute = open_store(tmp_path), _Counted()
    first, second = stage(store, "fold", compute), stage(store, "fold", compute)
    assert compute.calls == 1
    assert _same(first, compute())
    assert _same(second, first)


@both_stores
def test_names_are_apart_and_a_later_save_wins(tmp_path: Path, open_store: Open) -> None:
    store = open_store(tmp_path)
    store.save("fold-1", {"x": np.array([1.0])})
    store.save("fold-2", {"x": np.array([2.0])})
    store.save("fold-1", {"x": np.array([3.0])})
    assert _same(store.load("fold-1"), {"x": np.array([3.0])})
    assert _same(store.load("fold-2"), {"x": np.array([2.0])})
    assert store.load("fold-3") is None


@both_stores
def test_memory_order_does_not_change_the_values(tmp_path: Path, open_store: Open) -> None:
    square = np.arange(12.0).reshape(3, 4)
    arrays = {
        "transposed": square.T,
        "fortran": np.asfortranarray(square),
        "strided": square[::2, ::3],
        "reversed": square[::-1],
        "broadcast": np.broadcast_to(np.arange(3.0), (2, 3)),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
    }
    store = open_store(tmp_path)
    computed = stage(store, "fold", lambda: arrays)
    loaded = stage(store, "fold", lambda: pytest.fail("computed twice"))
    assert _same(computed, arrays)
    assert _same(loaded, arrays)
    assert {name: a.strides for name, a in computed.items()} == {
        name: a.strides for name, a in loaded.items()
    }


@both_stores
def test_what_is_kept_is_a_copy(tmp_path: Path, open_store: Open) -> None:
    store, mine = open_store(tmp_path), {"x": np.zeros(3)}
    store.save("fold", mine)
    mine["x"] += 1.0
    loaded = store.load("fold")
    assert loaded is not None
    assert _same(loaded, {"x": np.zeros(3)})
    loaded["x"] += 2.0
    assert _same(store.load("fold"), {"x": np.zeros(3)})


def test_another_process_finds_the_stages(tmp_path: Path) -> None:
    compute = _Counted()
    stage(FolderStages(tmp_path / "run" / "stages"), "fold", compute)
    stage(FolderStages(tmp_path / "run" / "stages"), "fold", compute)
    assert compute.calls == 1


def _kill_before_rename(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, str(folder)], check=False)
    assert done.returncode == -9
    assert list(folder.glob("*.tmp"))


def test_a_kill_between_write_and_rename_leaves_the_stage_unmade(tmp_path: Path) -> None:
    _kill_before_rename(tmp_path)
    store, compute = FolderStages(tmp_path), _Counted()
    assert store.load("fold") is None
    stage(store, "fold", compute)
    assert compute.calls == 1
    assert _same(FolderStages(tmp_path).load("fold"), compute())


def test_a_kill_between_write_and_rename_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    FolderStages(tmp_path).save("fold", {"x": np.arange(5.0)})
    _kill_before_rename(tmp_path)
    assert _same(FolderStages(tmp_path).load("fold"), {"x": np.arange(5.0)})


def test_a_file_truncated_anywhere_is_computed_again(tmp_path: Path) -> None:
    store, compute = FolderStages(tmp_path), _Counted()
    whole = stage(store, "fold", compute)
    (path,) = tmp_path.iterdir()
    size = path.stat().st_size
    for n_bytes in range(size - 1, -1, -1):
        os.truncate(path, n_bytes)
        assert store.load("fold") is None, n_bytes
    assert _same(stage(store, "fold", compute), whole)
    assert compute.calls == 2
    assert path.stat().st_size == size


@pytest.mark.parametrize("junk", [bytes(200), b"\xff" * 200, b"not safetensors"])
def test_a_file_of_junk_is_computed_again(tmp_path: Path, junk: bytes) -> None:
    store, compute = FolderStages(tmp_path), _Counted()
    (tmp_path / "fold.safetensors").write_bytes(junk)
    stage(store, "fold", compute)
    assert compute.calls == 1
