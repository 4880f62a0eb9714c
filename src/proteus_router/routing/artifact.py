"""A router on disk: a flat folder of safetensors files and a JSON manifest that vouches for each."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

from proteus_router.errors import ArtifactIntegrityError, ArtifactNotFoundError, ArtifactVersionError
from proteus_router.types import Arrays, Meta

__all__ = [
    "SCHEMA_VERSION",
    "Artifact",
    "load_artifact",
    "publish_folder",
    "row_major",
    "state_fingerprint",
    "write_artifact",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_FILE_NAME = re.compile(r"[a-z][a-z0-9_]*\.safetensors")


@dataclass(frozen=True)
class Artifact:
    """The verified content of an artifact folder.

    Attributes
    ----------
    manifest
        The JSON document, without the bookkeeping of files.
    parts
        name -> arrays, one entry a safetensors file.
    """

    manifest: Meta
    parts: dict[str, Arrays]


def row_major(arrays: Arrays) -> Arrays:
    """The same arrays in C order: safetensors writes memory as it lies and would garble a transpose."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def state_fingerprint(arrays: Arrays, meta: Meta) -> str:
    """sha256 of a fitted object's saved state: equal states, equal behaviour."""
    digest = hashlib.sha256(_canonical(meta))
    digest.update(save_bytes(row_major(arrays)))
    return digest.hexdigest()


def write_artifact(folder: Path, artifact: Artifact) -> None:
    """Write every part and, last, the manifest into `folder`; an unfinished one there is removed."""
    for name in artifact.parts:
        if not _FILE_NAME.fullmatch(f"{name}.safetensors"):
            raise ValueError(f"{name!r}: a part is named by lower-case letters, digits and _, a letter first")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    files: dict[str, dict[str, Any]] = {}
    for name, arrays in sorted(artifact.parts.items()):
        data = save_bytes(row_major(arrays))
        files[f"{name}.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        _write_durably(folder / f"{name}.safetensors", data)
    document = {"schema_version": SCHEMA_VERSION, **artifact.manifest}
    document.update(schema_version=SCHEMA_VERSION, files=files)  # whatever a loaded manifest said
    document.pop("manifest_sha256", None)
    document["manifest_sha256"] = hashlib.sha256(_canonical(document)).hexdigest()
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    _write_durably(folder / MANIFEST, (text + "\n").encode("utf-8"))


def publish_folder(finished: Path, destination: Path, *, discard: Path) -> None:
    """Put `finished` in the place of `destination` in one step; what stood there ends up removed.

    A reader, and a kill at any moment, sees the old folder or the new one, never a mixture. Where the system
    can't exchange two folders in one step (outside Linux), the old one waits at `discard` in between, and a
    reader may for that moment find no folder.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    if not destination.exists():
        os.rename(finished, destination)
    elif not _exchange(finished, destination):
        shutil.rmtree(discard, ignore_errors=True)  # a killed run's; the rename needs the place free
        os.rename(destination, discard)
        try:
            os.rename(finished, destination)
        except OSError:
            os.rename(discard, destination)
            raise
    for leftover in (finished, discard):
        shutil.rmtree(leftover, ignore_errors=True)


def load_artifact(folder: Path) -> Artifact:
    """Read and verify an artifact folder; one that is replaced meanwhile is read again from the start.

    Raises
    ------
    ArtifactNotFoundError
        No such folder, or no manifest in it.
    ArtifactVersionError
        Written by a newer release.
    ArtifactIntegrityError
        A file is missing, truncated or edited.
    """
    while True:
        before = _identity(folder)
        try:
            return _read_once(folder)
        except (ArtifactNotFoundError, ArtifactIntegrityError):
            if _identity(folder) == before:
                raise


_COPY_AGAIN = "Copy the whole folder again, or train again."


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Differs between a folder and the one published in its place."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _read_once(folder: Path) -> Artifact:
    document = _read_manifest(folder)
    files = document.pop("files", None)
    if not isinstance(files, dict):
        raise ArtifactIntegrityError(f"{folder / MANIFEST}: lists no files.", hint=_COPY_AGAIN)
    for name, entry in files.items():  # every name before any file is opened
        if not _FILE_NAME.fullmatch(name) or not isinstance(entry, dict):
            raise ArtifactIntegrityError(f"{folder / MANIFEST}: {name!r} is not a file of an artifact.")
    parts = {
        name.removesuffix(".safetensors"): _read_part(folder / name, entry) for name, entry in files.items()
    }
    return Artifact(manifest=document, parts=parts)


def _read_part(path: Path, entry: Meta) -> Arrays:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactIntegrityError(f"{path}: missing or unreadable.", hint=_COPY_AGAIN) from error
    if len(data) != entry.get("bytes"):
        raise ArtifactIntegrityError(
            f"{path}: {len(data)} bytes, the manifest says {entry.get('bytes')}: truncated or edited.",
            hint=_COPY_AGAIN,
        )
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise ArtifactIntegrityError(f"{path}: sha256 differs from the manifest's.", hint=_COPY_AGAIN)
    try:
        return dict(load_bytes(data))
    except SafetensorError as error:
        raise ArtifactIntegrityError(f"{path}: not a safetensors file ({error}).") from error


def _read_manifest(folder: Path) -> Meta:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactNotFoundError(
            f"{folder}: no such router folder.", hint="`proteus train DATASET -o ROUTER` makes one."
        )
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
        version = document["schema_version"]
        stated = document.pop("manifest_sha256", None)
        actual = hashlib.sha256(_canonical(document)).hexdigest()
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(
            f"{folder}: no {MANIFEST} in it, so it is not a router.", hint=_COPY_AGAIN
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactIntegrityError(
            f"{path}: not a readable manifest ({error}).", hint=_COPY_AGAIN
        ) from error
    if type(version) is int and version > SCHEMA_VERSION:  # before the hash, which may be another one by then
        raise ArtifactVersionError(
            f"{path}: schema version {version}, this release reads up to {SCHEMA_VERSION}.",
            hint="Upgrade proteus-router.",
        )
    if stated != actual:
        raise ArtifactIntegrityError(f"{path}: edited or truncated since it was written.", hint=_COPY_AGAIN)
    if type(version) is not int or version < 1:
        raise ArtifactIntegrityError(f"{path}: {version!r} is not a schema version.", hint=_COPY_AGAIN)
    return dict(document)


def _canonical(document: Meta) -> bytes:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step (Linux's renameat2, RENAME_EXCHANGE); False where there is no such call."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2
    return bool(renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchange) == 0)
