"""Decisions in SQL: written in batches with what they cost, read by id, deleted by age."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.store.rows import decision_from_row, decision_to_row
from proteus_router.serving.store.tables import decisions, spend

__all__ = [
    "delete_older",
    "insert_decisions",
    "insert_or_skip",
    "read_decision",
    "spent_by_key",
]

_HOUR = 3600
_CHUNK = 1_000  # rows of one deleting transaction, so that writers wait milliseconds


def insert_or_skip(connection: sa.Connection, table: sa.Table, keys: Sequence[str]) -> Any:
    """INSERT that leaves a row alone which is already there; the two databases' common form of it."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(index_elements=list(keys))
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=list(keys))


def insert_decisions(connection: sa.Connection, records: Sequence[DecisionRecord]) -> None:
    """Write `records` and add their cost to ``spend``, once each, however often this is repeated.

    A commit whose answer was lost is repeated by the writer; only rows that are new are added to the spend.
    """
    by_id = {row["id"]: row for row in map(decision_to_row, records)}
    # In one order everywhere, so that two gateways never wait for each other in a circle.
    rows = [by_id[key] for key in sorted(by_id)]
    statement = insert_or_skip(connection, decisions, ["id"]).returning(decisions.c.id)
    added = connection.execute(statement, rows).scalars().all()
    _add_spend(connection, [by_id[key] for key in added])


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
    return gone.rowcount


def spent_by_key(connection: sa.Connection, since: float) -> dict[str, float]:
    """USD spent by each key since the start of the hour of `since`."""
    total = sa.select(spend.c.key_id, sa.func.sum(spend.c.cost_usd)).where(spend.c.hour >= hour_of(since))
    return {key: float(usd) for key, usd in connection.execute(total.group_by(spend.c.key_id))}


def hour_of(moment: float) -> int:
    """Unix seconds of the start of the hour, UTC."""
    return int(moment // _HOUR) * _HOUR


def _add_spend(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    sums: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0.0, 0, 0, 0])
    for row in rows:
        entry = sums[hour_of(row["created_at"]), row["key_id"] or "", row["tier"] or ""]
        entry[0] += row["cost_usd"] or 0.0
        entry[1] += 1
        entry[2] += row["input_tokens"] or 0
        entry[3] += row["output_tokens"] or 0
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
