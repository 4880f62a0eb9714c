"""What the store's tests share: open and close, wait, look at the tables from outside."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.store import Store, open_store

__all__ = ["FakeClock", "MakeDecision", "count", "locked", "opened", "rows", "until"]

MakeDecision = Callable[..., DecisionRecord]


@dataclass
class FakeClock:
    """Both clocks, moved by hand."""

    wall_s: float = 1_800_000_000.0
    monotonic_s: float = 50.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@contextlib.asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Store]:
    store = open_store(url, **settings)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def rows(url: str, statement: str) -> list[Any]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = list(connection.execute(sa.text(statement)))
    engine.dispose()
    return found


def count(url: str) -> int:
    return int(rows(url, "SELECT count(*) FROM decisions")[0][0])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds SQLite's write lock."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
