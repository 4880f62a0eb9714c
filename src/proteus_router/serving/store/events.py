"""The log of the closed loop: rows whose numbers rise in the order of their commits.

A database hands out numbers before transactions commit, so a reader that remembers the largest one would miss whoever
commits later with a smaller one. Here whoever appends holds a lock until its commit; SQLite has one writer anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from proteus_router.serving.records import LoopEvent, LoopEventKind
from proteus_router.serving.store.bulk import dumps
from proteus_router.serving.store.tables import loop_events, loop_snapshots

__all__ = ["NewEvent", "append_events", "delete_old_events", "read_events"]

_LOCK = 0x70726F6C6F6F70  # "proloop": the advisory lock of whoever appends


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no number yet."""

    kind: LoopEventKind
    tier: str | None
    model: str | None
    data: Mapping[str, Any]


def append_events(connection: sa.Connection, events: Sequence[NewEvent], *, at: float) -> None:
    """Append in the order given; the last thing a transaction does, since it holds up every other that appends."""
    if not events:
        return
    if connection.dialect.name != "postgresql":
        rows = [(at, event.kind, event.tier, event.model, dumps(event.data)) for event in events]
        connection.exec_driver_sql(
            "INSERT INTO loop_events (at, kind, tier, model, data) VALUES (?, ?, ?, ?, ?)", rows
        )
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    document = dumps(
        [
            {"at": at, "kind": event.kind, "tier": event.tier, "model": event.model, "data": event.data}
            for event in events
        ]
    )
    connection.exec_driver_sql(
        "INSERT INTO loop_events (at, kind, tier, model, data) SELECT at, kind, tier, model, data FROM "
        "ROWS FROM (json_to_recordset(%(rows)s::json) AS "
        "(at double precision, kind text, tier text, model text, data jsonb)) WITH ORDINALITY AS new(at, kind, tier, "
        "model, data, place) ORDER BY place",
        {"rows": document},
    )


def read_events(connection: sa.Connection, after: int, limit: int) -> list[LoopEvent]:
    """The next events with a larger number than `after`."""
    wanted = sa.select(loop_events).where(loop_events.c.sequence > after).order_by(loop_events.c.sequence)
    return [LoopEvent(**row) for row in connection.execute(wanted.limit(limit)).mappings()]


def delete_old_events(connection: sa.Connection, before: float) -> None:
    """Delete events from before `before` that a snapshot holds. Its last one stays, so that numbers go on rising."""
    held = sa.select(sa.func.max(loop_snapshots.c.sequence)).scalar_subquery()
    connection.execute(sa.delete(loop_events).where(loop_events.c.at < before, loop_events.c.sequence < held))
