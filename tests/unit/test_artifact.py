from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proteus_router.errors import ArtifactIntegrityError, ArtifactNotFoundError, ArtifactVersionError
from proteus_router.routing import artifact as module
from proteus_router.routing.artifact import (
    SCHEMA_VERSION,
    Artifact,
    load_artifact,
    state_fingerprint,
    write_artifact,
)
from proteus_router.types import Arrays

SQUARE = np.arange(12.0).reshape(3, 4)


def _artifact(stamp: float = 0.0, n_parts: int = 2) -> Artifact:
    parts = {f"part_{i}": {"stamp": np.full(4, stamp)} for i in range(n_parts)}
    return Artifact(manifest={"stamp": stamp, "models": [{"name": "gro\u00df"}], "none": None}, parts=parts)


def _same(left: dict[str, Arrays], right: dict[str, Arrays]) -> bool:
    return left.keys() == right.keys() and all(
        left[part].keys() == arrays.keys()
        and all(left[part][name].dtype == array.dtype for name, array in arrays.items())
        and all(np.array_equal(left[part][name], array) for name, array in arrays.items())
        for part, arrays in right.items()
    )


def _resign(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make its own hash right again, as a forger would."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["manifest_sha256"]
    change(document)
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    document["manifest_sha256"] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def router(tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    write_artifact(folder, _artifact())
    return folder


# Write and read


def test_what_is_written_is_read(tmp_path: Path) -> None:
    parts: dict[str, Arrays] = {
        "predictor": {
            "half": SQUARE.astype(np.float16),
            "words": np.frombuffer("gro\u00df\nklein".encode(), dtype=np.uint8),
            "flags": np.array([True, False]),
            "scalar": np.array(2.5),
            "empty": np.zeros((0, 3)),
            "nan": np.array([np.nan]).view(np.int64),
        },
        "policy": {"fixed": np.array([-1, 2])},
        "nothing": {},
    }
    manifest = {"models": [{"name": "gro\u00df", "price": 1e-7}], "map": {"kind": None, "n": 3}}
    write_artifact(tmp_path / "router", Artifact(manifest=manifest, parts=parts))
    got = load_artifact(tmp_path / "router")
    assert _same(got.parts, parts)
    assert got.manifest == {"schema_version": SCHEMA_VERSION, **manifest}


@pytest.mark.parametrize(
    "array",
    [SQUARE.T, np.asfortranarray(SQUARE), SQUARE[::2, ::3], SQUARE[::-1], np.broadcast_to(SQUARE[0], (2, 4))],
    ids=["transposed", "fortran", "strided", "reversed", "broadcast"],
)
def test_memory_order_does_not_change_the_values(tmp_path: Path, array: np.ndarray) -> None:
    write_artifact(tmp_path / "router", Artifact(manifest={}, parts={"part": {"x": array}}))
    np.testing.assert_array_equal(load_artifact(tmp_path / "router").parts["part"]["x"], array)
    assert state_fingerprint({"x": array}, {}) == state_fingerprint({"x": array.copy(order="C")}, {})


def test_the_folder_is_flat_and_holds_nothing_but_manifest_and_parts(router: Path) -> None:
    assert {path.name for path in router.iterdir()} == {
        "manifest.json",
        "part_0.safetensors",
        "part_1.safetensors",
    }


def test_the_same_artifact_gives_the_same_bytes_also_when_copied_through_memory(router: Path) -> None:
    again = router.with_name("again")
    write_artifact(again, load_artifact(router))
    for path in router.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_the_writer_states_its_own_schema_version(tmp_path: Path) -> None:
    stale = {"schema_version": SCHEMA_VERSION + 7, "files": {"x": 1}, "manifest_sha256": "0"}
    write_artifact(tmp_path / "router", Artifact(manifest=stale, parts={}))
    assert load_artifact(tmp_path / "router") == Artifact(
        manifest={"schema_version": SCHEMA_VERSION}, parts={}
    )


def test_an_unfinished_folder_is_written_afresh(router: Path) -> None:
    (router / "manifest.json").unlink()
    (router / "stray.safetensors").write_bytes(b"half")
    write_artifact(router, _artifact(1.0, n_parts=1))
    assert {path.name for path in router.iterdir()} == {"manifest.json", "part_0.safetensors"}


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "Upper", "1st", "dot.dot", "a\n"])
def test_a_part_name_that_leaves_the_folder_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a part is named by"):
        write_artifact(tmp_path / "router", Artifact(manifest={}, parts={name: {}}))
    assert not list(tmp_path.iterdir())


def test_the_manifest_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write = module._write_durably

    def noted(path: Path, data: bytes) -> None:
        order.append(path.name)
        write(path, data)

    monkeypatch.setattr(module, "_write_durably", noted)
    write_artifact(tmp_path / "router", _artifact())
    assert order[-1] == "manifest.json"


def test_fingerprint_follows_every_value_name_and_setting() -> None:
    base = state_fingerprint({"x": SQUARE, "y": SQUARE}, {"a": 1, "b": 2})
    assert state_fingerprint({"y": SQUARE, "x": SQUARE}, {"b": 2, "a": 1}) == base
    nudged = SQUARE.copy()
    nudged[0, 0] = np.nextafter(0.0, 1.0)
    others = [
        state_fingerprint({"x": nudged, "y": SQUARE}, {"a": 1, "b": 2}),
        state_fingerprint({"x": SQUARE, "z": SQUARE}, {"a": 1, "b": 2}),
        state_fingerprint({"x": SQUARE.reshape(4, 3), "y": SQUARE}, {"a": 1, "b": 2}),
        state_fingerprint({"x": SQUARE, "y": SQUARE}, {"a": 1, "b": 3}),
    ]
    assert len({base, *others}) == 5


# Damage


def test_a_part_truncated_anywhere_is_refused(router: Path) -> None:
    part = router / "part_1.safetensors"
    for n_bytes in range(part.stat().st_size - 1, -1, -1):
        os.truncate(part, n_bytes)
        with pytest.raises(
            ArtifactIntegrityError, match=r"part_1\.safetensors: \d+ bytes, the manifest says"
        ):
            load_artifact(router)


def test_a_part_with_any_one_bit_flipped_is_refused(router: Path) -> None:
    part = router / "part_1.safetensors"
    whole = part.read_bytes()
    with part.open("r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ 1]), position)
            with pytest.raises(ArtifactIntegrityError, match=r"part_1\.safetensors: sha256 differs"):
                load_artifact(router)
            os.pwrite(file.fileno(), bytes([byte]), position)
    load_artifact(router)


def test_a_part_with_bytes_added_is_refused(router: Path) -> None:
    with (router / "part_0.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactIntegrityError, match="truncated or edited"):
        load_artifact(router)


def test_a_missing_part_is_refused(router: Path) -> None:
    (router / "part_0.safetensors").unlink()
    with pytest.raises(ArtifactIntegrityError, match=r"part_0\.safetensors: missing or unreadable"):
        load_artifact(router)


def test_a_folder_in_the_place_of_a_part_is_refused(router: Path) -> None:
    (router / "part_0.safetensors").unlink()
    (router / "part_0.safetensors").mkdir()
    with pytest.raises(ArtifactIntegrityError, match="missing or unreadable"):
        load_artifact(router)


def test_two_parts_swapped_are_refused(tmp_path: Path) -> None:
    router = tmp_path / "router"
    parts = {"one": {"x": np.array([1.0])}, "two": {"x": np.array([2.0])}}
    write_artifact(router, Artifact(manifest={}, parts=parts))
    (router / "one.safetensors").rename(router / "kept")
    (router / "two.safetensors").rename(router / "one.safetensors")
    (router / "kept").rename(router / "two.safetensors")
    with pytest.raises(ArtifactIntegrityError, match="sha256 differs"):
        load_artifact(router)


def test_a_file_the_manifest_does_not_list_is_not_read(router: Path) -> None:
    (router / "extra.safetensors").write_bytes(b"junk")
    assert set(load_artifact(router).parts) == {"part_0", "part_1"}


def test_a_manifest_truncated_anywhere_is_refused(router: Path) -> None:
    path = router / "manifest.json"
    text = path.read_bytes()
    assert text.endswith(b"}\n")
    for n_bytes in range(len(text) - 2, -1, -1):
        os.truncate(path, n_bytes)
        with pytest.raises(ArtifactIntegrityError, match="not a readable manifest"):
            load_artifact(router)


def test_an_edited_manifest_is_refused(router: Path) -> None:
    path = router / "manifest.json"
    text = path.read_text(encoding="utf-8")
    for old, new in [('"stamp": 0.0', '"stamp": 0.5'), ("gro\u00df", "klein"), ('"none": null,', "")]:
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ArtifactIntegrityError, match="edited or truncated since it was written"):
            load_artifact(router)


def test_a_manifest_only_laid_out_differently_is_the_same_manifest(router: Path) -> None:
    path = router / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert load_artifact(router).manifest["stamp"] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"3",
        b"null",
        b"\xff\xfe",
        b'{"schema_version": 1}',
        b'{"schema_version": 1, "x": NaN}',
        b'{"schema_version": 1, "x": "\\ud800"}',
        b'{"schema_version": 1, "x": ' + b"[" * 200_000,
    ],
    ids=["empty", "no_keys", "list", "number", "null", "not_utf8", "no_hash", "nan", "surrogate", "deep"],
)
def test_a_manifest_of_junk_is_refused(router: Path, text: bytes) -> None:
    (router / "manifest.json").write_bytes(text)
    with pytest.raises(ArtifactIntegrityError, match=r"manifest\.json: "):
        load_artifact(router)


def test_a_folder_in_the_place_of_the_manifest_is_refused(router: Path) -> None:
    (router / "manifest.json").unlink()
    (router / "manifest.json").mkdir()
    with pytest.raises(ArtifactIntegrityError, match="not a readable manifest"):
        load_artifact(router)


def test_no_folder_a_file_and_a_folder_that_is_no_router_are_not_found(tmp_path: Path, router: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match="no such router folder"):
        load_artifact(tmp_path / "none")
    with pytest.raises(ArtifactNotFoundError, match="no such router folder"):
        load_artifact(router / "manifest.json")
    (router / "manifest.json").unlink()
    with pytest.raises(ArtifactNotFoundError, match=r"no manifest\.json in it"):
        load_artifact(router)


# Versions and forged manifests


def test_a_newer_schema_is_refused_as_newer_whatever_its_hash(router: Path) -> None:
    path = router / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8")) | {"schema_version": SCHEMA_VERSION + 1}
    path.write_text(json.dumps(document), encoding="utf-8")
    expected = f"schema version {SCHEMA_VERSION + 1}, this release reads up to {SCHEMA_VERSION}"
    with pytest.raises(ArtifactVersionError, match=expected):
        load_artifact(router)


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
def test_what_is_no_schema_version_is_refused(router: Path, version: object) -> None:
    _resign(router, lambda document: document.update(schema_version=version))
    with pytest.raises(ArtifactIntegrityError, match="is not a schema version"):
        load_artifact(router)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "sub/part.safetensors",
        "..",
        ".",
        "",
        "manifest.json",
        "part_0.safetensors\n",
        "part_0.safetensors/../../outside.safetensors",
        "PART.safetensors",
        "part\0.safetensors",
        ".hidden.safetensors",
        "c:part.safetensors",
        "sub\\part.safetensors",
        "ABSOLUTE",
    ],
)
def test_a_file_name_that_leaves_the_folder_is_refused_before_any_file_is_read(
    router: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    outside = router.parent / "outside.safetensors"
    shutil.copy(router / "part_0.safetensors", outside)
    name = str(outside) if name == "ABSOLUTE" else name
    _resign(
        router, lambda document: document["files"].update({name: document["files"]["part_0.safetensors"]})
    )
    opened: list[str] = []
    read = Path.read_bytes

    def noted(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    with pytest.raises(ArtifactIntegrityError, match="is not a file of an artifact"):
        load_artifact(router)
    assert opened == ["manifest.json"]


JUNK_ENTRY = {"bytes": 4, "sha256": hashlib.sha256(b"junk").hexdigest()}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"junk.safetensors": JUNK_ENTRY}, "not a safetensors file"),
        ({"junk.safetensors": {}}, "the manifest says None"),
        ({"junk.safetensors": "junk"}, "is not a file of an artifact"),
        (["junk.safetensors"], "lists no files"),
        (None, "lists no files"),
    ],
)
def test_a_forged_manifest_with_right_hashes_still_has_to_make_sense(
    router: Path, files: object, message: str
) -> None:
    (router / "junk.safetensors").write_bytes(b"junk")
    _resign(router, lambda document: document.update(files=files))
    with pytest.raises(ArtifactIntegrityError, match=message):
        load_artifact(router)
