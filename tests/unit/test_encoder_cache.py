"""The embedding cache: what it saves, and what it survives."""

from __future__ import annotations

import hashlib
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from proteus_router.encoders import CachedEncoder, cache_root

TEXTS = ["What is 2 + 2?", "Prove that √2 is irrational.", "你好", "", "What is 2 + 2?"]


class HashEncoder:
    """Rows made from a hash of the text; keeps what it was asked for."""

    name = "hash"
    dim = 8

    def __init__(self, fingerprint: str = "f") -> None:
        self.fingerprint = fingerprint
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        rows = [
            hashlib.sha256((self.fingerprint + text).encode("utf-8", "surrogatepass")).digest()
            for text in texts
        ]
        return np.frombuffer(b"".join(rows), dtype="<u4").reshape(len(texts), 8).astype(np.float32)


def database(folder: Path) -> Path:
    return folder / "embeddings.sqlite3"


def test_first_call_encodes_each_distinct_text_once_and_the_second_none(tmp_path: Path) -> None:
    inner = HashEncoder()
    encoder = CachedEncoder(inner, tmp_path)
    first = encoder.encode(TEXTS)
    assert inner.asked == [TEXTS[:4]]
    np.testing.assert_array_equal(first, HashEncoder().encode(TEXTS))
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]), first[::-1])
    assert len(inner.asked) == 1
    assert first.dtype == np.float32


def test_only_unseen_texts_are_encoded_and_order_is_kept(tmp_path: Path) -> None:
    inner = HashEncoder()
    encoder = CachedEncoder(inner, tmp_path)
    encoder.encode(["b", "d"])
    out = encoder.encode(["a", "b", "c", "d"])
    assert inner.asked[-1] == ["a", "c"]
    np.testing.assert_array_equal(out, HashEncoder().encode(["a", "b", "c", "d"]))


def test_a_new_process_finds_the_rows(tmp_path: Path) -> None:
    CachedEncoder(HashEncoder(), tmp_path).encode(TEXTS)
    inner = HashEncoder()
    CachedEncoder(inner, tmp_path).encode(TEXTS)
    assert inner.asked == []


def test_another_fingerprint_shares_nothing(tmp_path: Path) -> None:
    CachedEncoder(HashEncoder("f"), tmp_path).encode(TEXTS)
    inner = HashEncoder("g")
    out = CachedEncoder(inner, tmp_path).encode(TEXTS)
    assert len(inner.asked) == 1
    np.testing.assert_array_equal(out, HashEncoder("g").encode(TEXTS))


def test_same_identity_as_what_it_wraps(tmp_path: Path) -> None:
    encoder = CachedEncoder(HashEncoder("f"), tmp_path)
    assert (encoder.name, encoder.fingerprint, encoder.dim) == ("hash", "f", 8)


def test_no_texts_give_an_empty_matrix(tmp_path: Path) -> None:
    assert CachedEncoder(HashEncoder(), tmp_path).encode([]).shape == (0, 8)


def test_lone_surrogates_can_be_keyed(tmp_path: Path) -> None:
    assert CachedEncoder(HashEncoder(), tmp_path).encode(["\ud800"]).shape == (1, 8)


def test_the_text_is_not_in_the_file(tmp_path: Path) -> None:
    secret = "the launch code is 0000"
    CachedEncoder(HashEncoder(), tmp_path).encode([secret])
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("damage", ["flip", "shorten", "swap"])
def test_a_damaged_row_is_computed_again(tmp_path: Path, damage: str) -> None:
    CachedEncoder(HashEncoder(), tmp_path).encode(["a", "b"])
    with sqlite3.connect(database(tmp_path)) as connection:
        (key_a, a), (_, b) = connection.execute("SELECT key, value FROM embeddings ORDER BY rowid").fetchall()
        bad = {"flip": a[:-1] + bytes([a[-1] ^ 1]), "shorten": a[:-4], "swap": b}[damage]
        connection.execute("UPDATE embeddings SET value = ? WHERE key = ?", (bad, key_a))
    connection.close()
    inner = HashEncoder()
    encoder = CachedEncoder(inner, tmp_path)
    np.testing.assert_array_equal(encoder.encode(["a", "b"]), HashEncoder().encode(["a", "b"]))
    assert inner.asked == [["a"]]
    encoder.encode(["a", "b"])
    assert len(inner.asked) == 1, "the repaired row was kept"


@pytest.mark.parametrize("content", [b"not a database at all" * 99, None])
def test_a_damaged_file_is_started_anew(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {index}" for index in range(500)]
    CachedEncoder(HashEncoder(), tmp_path).encode(texts)
    path = database(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    encoder = CachedEncoder(HashEncoder(), tmp_path)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encoder.encode(texts), HashEncoder().encode(texts))
    assert "damaged" in caplog.text
    encoder.encode(texts)
    inner = HashEncoder()
    CachedEncoder(inner, tmp_path).encode(texts)
    assert inner.asked == [], "works again after the damage"


def test_a_folder_that_cannot_be_made_costs_the_cache_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    encoder = CachedEncoder(HashEncoder(), tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encoder.encode(TEXTS), HashEncoder().encode(TEXTS))
    assert "going on without it" in caplog.text


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_encoder_cache import HashEncoder
from proteus_router.encoders import CachedEncoder
encoder = CachedEncoder(HashEncoder(), Path({folder!r}))
print("ready", flush=True)
for index in range({n}):
    encoder.encode([f"text {{index}}"])
"""


def writer(folder: Path, n: int) -> subprocess.Popen[str]:
    code = _WRITER.format(tests=str(Path(__file__).parent), folder=str(folder), n=n)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_killed_while_writing_leaves_a_cache_that_works(tmp_path: Path) -> None:
    with writer(tmp_path, 1_000_000) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    inner = HashEncoder()
    texts = [f"text {index}" for index in range(20)]
    out = CachedEncoder(inner, tmp_path).encode(texts)
    np.testing.assert_array_equal(out, HashEncoder().encode(texts))
    assert len(inner.asked) == 0 or len(inner.asked[0]) < 20, "rows written before the kill are kept"


def test_two_processes_at_once(tmp_path: Path) -> None:
    with writer(tmp_path, 100) as first, writer(tmp_path, 100) as second:
        assert first.wait() == 0
        assert second.wait() == 0
    inner = HashEncoder()
    texts = [f"text {index}" for index in range(100)]
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(texts), HashEncoder().encode(texts))
    assert inner.asked == []


def test_cache_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("PROTEUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_root() == tmp_path / "proteus-router"
