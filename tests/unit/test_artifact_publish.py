from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proteus_router.errors import ArtifactNotFoundError
from proteus_router.routing import artifact as module
from proteus_router.routing.artifact import Artifact, load_artifact, publish_folder, write_artifact
from proteus_router.types import Arrays


def _artifact(stamp: float, n_parts: int = 2) -> Artifact:
    """Each part repeats the manifest's stamp, so that a mixture of two artifacts shows."""
    parts = {f"part_{i}": {"stamp": np.full(4, stamp)} for i in range(n_parts)}
    return Artifact(manifest={"stamp": stamp}, parts=parts)


def _stamps(artifact: Artifact) -> set[float]:
    return {artifact.manifest["stamp"], *(float(part["stamp"][0]) for part in artifact.parts.values())}


linux = pytest.mark.skipif(sys.platform != "linux", reason="the exchange in one step is Linux's")
either_way = pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "no_exchange"])


def _set_exchange(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    if not available:
        monkeypatch.setattr(module, "_exchange", lambda first, second: False)
    elif sys.platform != "linux":
        pytest.skip("two folders are exchanged in one step on Linux only")


@either_way
def test_publish_replaces_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    _set_exchange(monkeypatch, exchange)
    finished, router, discard = tmp_path / "new", tmp_path / "deep" / "router", tmp_path / "old"
    for stamp in (1.0, 2.0, 3.0):
        write_artifact(finished, _artifact(stamp, n_parts=int(stamp)))
        publish_folder(finished, router, discard=discard)
        assert _stamps(load_artifact(router)) == {stamp}
        assert len(list(router.iterdir())) == int(stamp) + 1
        assert {path.name for path in tmp_path.iterdir()} == {"deep"}


def test_what_a_killed_run_left_at_discard_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_exchange(monkeypatch, False)
    finished, router, discard = tmp_path / "new", tmp_path / "router", tmp_path / "old"
    for folder, stamp in [(finished, 3.0), (router, 2.0), (discard, 1.0)]:
        write_artifact(folder, _artifact(stamp))
    publish_folder(finished, router, discard=discard)
    assert load_artifact(router).manifest["stamp"] == 3.0
    assert not discard.exists()


@either_way
def test_a_publish_that_fails_leaves_the_old_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    _set_exchange(monkeypatch, exchange)
    router = tmp_path / "router"
    write_artifact(router, _artifact(1.0))
    with pytest.raises(OSError, match="never written"):
        publish_folder(tmp_path / "never written", router, discard=tmp_path / "old")
    assert load_artifact(router).manifest["stamp"] == 1.0


@linux
def test_a_kill_right_after_the_exchange_leaves_the_new_router(tmp_path: Path) -> None:
    finished, router = tmp_path / "new", tmp_path / "router"
    write_artifact(finished, _artifact(2.0))
    write_artifact(router, _artifact(1.0))
    script = (
        "import os, shutil, signal, sys; from pathlib import Path\n"
        "from proteus_router.routing.artifact import publish_folder\n"
        "shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "publish_folder(Path(sys.argv[1]), Path(sys.argv[2]), discard=Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, str(finished), str(router), str(tmp_path / "old")]
    assert subprocess.run(command, check=False).returncode == -9
    assert load_artifact(router).manifest["stamp"] == 2.0
    assert load_artifact(finished).manifest["stamp"] == 1.0


def _read_while_replacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_times: int
) -> tuple[list[float], list[Exception]]:
    """Stamps a looping reader saw while another thread replaced the router, and the errors it met."""
    router = tmp_path / "router"
    monkeypatch.setattr(
        os, "fsync", lambda _: None
    )  # two hundred of them take seconds and decide nothing here
    for stamp in range(n_times + 1):
        write_artifact(tmp_path / f"new{stamp}", _artifact(float(stamp), n_parts=4))
    publish_folder(tmp_path / "new0", router, discard=tmp_path / "old")
    stamps: list[float] = []
    errors: list[Exception] = []
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                got = load_artifact(router)
            except Exception as error:
                errors.append(error)
                continue
            (stamp,) = _stamps(got)
            stamps.append(stamp)
            reading.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(10)
    for stamp in range(1, n_times + 1):
        publish_folder(tmp_path / f"new{stamp}", router, discard=tmp_path / "old")
        threading.Event().wait(0.002)  # or one reading would span them all
    done.set()
    thread.join(10)
    stamps.append(float(load_artifact(router).manifest["stamp"]))
    return stamps, errors


@linux
def test_a_reader_never_notices_fifty_replacements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps, errors = _read_while_replacing(tmp_path, monkeypatch, 50)
    assert errors == []
    assert stamps == sorted(stamps)
    assert stamps[-1] == 50.0
    assert len(set(stamps)) > 5  # the reader did run in between


def test_without_the_exchange_a_reader_may_find_no_folder_but_never_a_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_exchange(monkeypatch, False)
    stamps, errors = _read_while_replacing(tmp_path, monkeypatch, 50)
    assert {type(error) for error in errors} <= {ArtifactNotFoundError}
    assert stamps == sorted(stamps)
    assert stamps[-1] == 50.0
    assert len(set(stamps)) > 5


@linux
def test_a_router_replaced_in_the_middle_of_a_reading_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race above by hand: the replacement falls between the manifest and the first part."""
    finished, router = tmp_path / "new", tmp_path / "router"
    write_artifact(router, _artifact(1.0))
    write_artifact(finished, _artifact(2.0, n_parts=1))
    read = module._read_part

    def replace_first(path: Path, entry: dict[str, Any]) -> Arrays:
        if finished.exists():
            publish_folder(finished, router, discard=tmp_path / "old")
        return read(path, entry)

    monkeypatch.setattr(module, "_read_part", replace_first)
    got = load_artifact(router)
    assert _stamps(got) == {2.0}
    assert len(got.parts) == 1


def test_the_exchange_says_no_where_there_is_no_such_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "mark").touch()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not module._exchange(first, second)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not module._exchange(first, second)
    assert (first / "mark").exists()
