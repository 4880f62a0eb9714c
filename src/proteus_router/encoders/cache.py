"""Embeddings kept on disk by content: the same encoder never encodes the same text twice."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proteus_router.encoders.base import Encoder

__all__ = ["CachedEncoder", "cache_root"]

_log = logging.getLogger(__name__)
_BATCH = 256  # texts encoded between two commits: what a kill can lose
_BUSY_TIMEOUT_S = 30.0
_CHECKSUM_BYTES = 4


def cache_root() -> Path:
    """Where encoders and embeddings are kept: ``$PROTEUS_CACHE``, else the platform's user cache folder."""
    chosen = os.environ.get("PROTEUS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "proteus-router"


class CachedEncoder:
    """An encoder that looks in a file before it computes; same name, fingerprint and dim as the one it wraps.

    The file is one SQLite database, so a kill while writing loses at most the current batch and several
    processes may share it. It holds sha256(fingerprint, text) and the float32 row with a checksum, never the
    text. A row that fails its checksum is computed again; a damaged file is deleted and begun anew; a folder
    that cannot be written to means no cache, with a warning, not a failure.

    Parameters
    ----------
    encoder
        What computes unseen texts.
    cache_dir
        Folder of the database; `cache_root()` if None.
    """

    def __init__(self, encoder: Encoder, cache_dir: Path | None = None) -> None:
        self._encoder = encoder
        self._path = (cache_root() if cache_dir is None else cache_dir) / "embeddings.sqlite3"

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32, rows in the order of `texts`; each distinct unseen text is encoded once."""
        keys = [_key(self.fingerprint, text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        rows = self._read(list(text_of))
        unseen = [key for key in text_of if key not in rows]
        for start in range(0, len(unseen), _BATCH):
            batch = unseen[start : start + _BATCH]
            encoded = self._encoder.encode([text_of[key] for key in batch])
            fresh = dict(zip(batch, encoded, strict=True))
            rows.update(fresh)
            self._write(fresh)
        out = np.empty((len(keys), self.dim), dtype=np.float32)
        for index, key in enumerate(keys):
            out[index] = rows[key]
        return out

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        if not self._path.exists():
            return found
        with self._guarded(), self._connect() as database:
            for key in keys:
                hit = database.execute("SELECT value FROM embeddings WHERE key = ?", (key,)).fetchone()
                row = None if hit is None else _unpack(hit[0], key, self.dim)
                if row is not None:
                    found[key] = row
        return found

    def _write(self, rows: dict[bytes, NDArray[np.float32]]) -> None:
        packed = [(key, _pack(key, row)) for key, row in rows.items()]
        with self._guarded(), self._connect() as database:
            database.executemany("INSERT OR REPLACE INTO embeddings (key, value) VALUES (?, ?)", packed)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One connection a call: cheap beside encoding, and safe from any thread.
        database = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
            )
            with database:  # commit, or roll back on an error
                yield database
        finally:
            database.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """A cache may fail; encoding must not."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:  # locked, read-only, disk full
            _log.warning("embedding cache %s not usable now (%s); going on without it", self._path, error)
        except sqlite3.DatabaseError as error:  # not a database, malformed image
            _log.warning("embedding cache %s is damaged (%s); starting it anew", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _key(fingerprint: str, text: str) -> bytes:
    return hashlib.sha256(f"{fingerprint}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _checksum(key: bytes, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


def _pack(key: bytes, row: NDArray[np.float32]) -> bytes:
    payload = np.ascontiguousarray(row, dtype="<f4").tobytes()
    return _checksum(key, payload) + payload


def _unpack(value: object, key: bytes, dim: int) -> NDArray[np.float32] | None:
    """The row, or None where it is not what was written."""
    if not isinstance(value, bytes) or len(value) != _CHECKSUM_BYTES + 4 * dim:
        return None
    payload = value[_CHECKSUM_BYTES:]
    if value[:_CHECKSUM_BYTES] != _checksum(key, payload):
        return None
    return np.frombuffer(payload, dtype="<f4").astype(np.float32)
