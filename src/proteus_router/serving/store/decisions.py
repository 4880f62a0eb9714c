"""Decisions in SQL: written in batches with what they cost, read by id, deleted by age."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.store.audits import draw_audits
from proteus_router.serving.store.bulk import insert_new
from proteus_router.serving.store.events import delete_old_events
from proteus_router.serving.store.rows import DECISION_COLUMNS, decision_from_row, decision_to_values
from proteus_router.serving.store.tables import decisions, spend

__all__ = [
    "delete_older",
    "insert_decisions",
    "read_decision",
    "spent_by_key",
]

_HOUR = 3600
_BREATH = 50  # records prepared between two offers of the interpreter's lock to the event loop
_CHUNK = 1_000  # rows of one deleting transaction, so that writers wait milliseconds

_id = itemgetter(DECISION_COLUMNS.index("id"))
_billed = itemgetter(
    *map(
        DECISION_COLUMNS.index, ("created_at", "key_id", "tier", "cost_usd", "input_tokens", "output_tokens")
    )
)


def insert_decisions(connection: sa.Connection, records: Sequence[DecisionRecord]) -> None:
    """Write `records`, add their cost to ``spend`` and count them for audits, once each, however often this is repeated.

    A commit whose answer was lost is repeated by the writer; only rows that are new are counted.
    """
    rows = {}
    for count, record in enumerate(records, start=1):
        rows[record.id] = decision_to_values(record)
        if count % _BREATH == 0:
            time.sleep(0)
    ordered = sorted(rows.values(), key=_id)
    added = insert_new(connection, decisions, DECISION_COLUMNS, ordered, ("id",))
    new = [row for row in ordered if row[:1] in added]
    _add_spend(connection, new)
    draw_audits(connection, new)


def read_decision(connection: sa.Connection, decision_id: str) -> DecisionRecord | None:
    row = connection.execute(sa.select(decisions).where(decisions.c.id == decision_id)).mappings().first()
    return None if row is None else decision_from_row(row)


def delete_older(connection: sa.Connection, before: float) -> int:
    """Delete up to 1,000 decisions from before `before` with their feedback; how many went."""
    # Another gateway may be deleting the same rows: skip those it holds.
    oldest = (
        sa.select(decisions.c.id)
        .where(decisions.c.created_at < before)
        .order_by(decisions.c.created_at)
        .limit(_CHUNK)
        .with_for_update(skip_locked=True)
    )
    gone = connection.execute(sa.delete(decisions).where(decisions.c.id.in_(oldest)))
    if gone.rowcount < _CHUNK:
        delete_old_events(connection, before)
    return gone.rowcount


def spent_by_key(connection: sa.Connection, since: float) -> dict[str, float]:
    """USD spent by each key since the start of the hour of `since`."""
    total = sa.select(spend.c.key_id, sa.func.sum(spend.c.cost_usd)).where(spend.c.hour >= hour_of(since))
    return {key: float(usd) for key, usd in connection.execute(total.group_by(spend.c.key_id))}


def spent_by_tier(connection: sa.Connection, since: float) -> dict[str, float]:
    """USD spent in each tier since the start of the hour of `since`."""
    total = sa.select(spend.c.tier, sa.func.sum(spend.c.cost_usd)).where(spend.c.hour >= hour_of(since))
    return {tier: float(usd) for tier, usd in connection.execute(total.group_by(spend.c.tier))}


def hour_of(moment: float) -> int:
    """Unix seconds of the start of the hour, UTC."""
    return int(moment // _HOUR) * _HOUR


def _add_spend(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    sums: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0.0, 0, 0, 0])
    for created_at, key_id, tier, cost_usd, input_tokens, output_tokens in map(_billed, rows):
        entry = sums[hour_of(created_at), key_id or "", tier or ""]
        entry[0] += cost_usd or 0.0
        entry[1] += 1
        entry[2] += input_tokens or 0
        entry[3] += output_tokens or 0
    if not sums:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(spend)
    counters = ("cost_usd", "requests", "input_tokens", "output_tokens")
    statement = statement.on_conflict_do_update(
        index_elements=["hour", "key_id", "tier"],
        set_={name: spend.c[name] + statement.excluded[name] for name in counters},
    )
    connection.execute(
        statement,
        [
            {"hour": hour, "key_id": key, "tier": tier, **dict(zip(counters, values, strict=True))}
            for (hour, key, tier), values in sorted(sums.items())
        ],
    )
