"""What the store keeps in memory does not grow with what it has written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from proteus_router.serving.store.database import Database
from proteus_router.serving.store.decisions import insert_decisions
from proteus_router.serving.store.migrate import migrate
from tests.serving.store.helpers import MakeDecision


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_batches_of_every_size_leave_no_statement_each(sqlite_url: str, make_decision: MakeDecision) -> None:
    candidates = tuple({"model": f"model-{n}", "predicted_score": 0.5, "propensity": 0.1} for n in range(10))
    database = Database(sqlite_url, timeout_s=5)
    migrate(database)

    def write(size: int) -> None:
        batch = [make_decision(candidates=candidates) for _ in range(size)]
        database.write(lambda connection: insert_decisions(connection, batch))

    try:
        for _ in range(12):
            write(100)
        before = _resident_mib()
        for size in range(1, 100):
            write(size)
        assert _resident_mib() - before < 10
    finally:
        database.close()
