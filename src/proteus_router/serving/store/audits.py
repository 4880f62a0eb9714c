"""Audits in SQL: noted as decisions are written, closed by the first score, handed out while they wait.

A tier's requests are numbered as they are written, under the lock of its row in ``tiers``: so several gateways count
as one, and an audit's position among the tier's requests is the same for everybody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from proteus_router.serving.records import Audit, Feedback
from proteus_router.serving.store.bulk import insert_new, one_of
from proteus_router.serving.store.events import NewEvent, append_events
from proteus_router.serving.store.rows import DECISION_COLUMNS
from proteus_router.serving.store.tables import audits, decisions, feedback, tiers

__all__ = ["close_audits", "draw_audits", "read_audits"]

_NAMES = (
    "id",
    "created_at",
    "tier",
    "accuracy_target",
    "model",
    "predicted_score",
    "audit_probability",
    "audited",
    "task",
)
_drawn = itemgetter(*map(DECISION_COLUMNS.index, _NAMES))
_COLUMNS = (
    "decision_id", "tier", "epoch", "position", "model", "task", "predicted_score", "probability", "drawn_at",
)  # fmt: skip


def draw_audits(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Count the requests of audited tiers, and note the audits among them.

    Parameters
    ----------
    rows
        Values of decisions that were written a moment ago, in this transaction.
    """
    by_tier: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in map(_drawn, rows):
        if row[6] is not None:
            by_tier[row[2]].append(row)
    if not by_tier:
        return
    noted: list[tuple[Any, ...]] = []
    held = sa.select(tiers).where(tiers.c.name.in_(sorted(by_tier))).order_by(tiers.c.name).with_for_update()
    for tier in connection.execute(held).mappings().all():
        fit = [
            row
            for row in by_tier[tier["name"]]
            if row[3] == tier["accuracy_target"] and tier["rate_floor"] <= row[6] <= 1.0
        ]
        fit.sort(key=itemgetter(1, 0))
        first = tier["requests"] + 1
        for position, row in enumerate(fit, first):
            decision_id, at, name, _, model, predicted, probability, audited, task = row
            if audited:
                score = None if predicted is None else min(max(predicted, 0.0), 1.0)
                noted.append(
                    (decision_id, name, tier["epoch"], position, model, task, score, probability, at)
                )
        drawn = sum(bool(row[7]) for row in fit)
        connection.execute(
            sa.update(tiers)
            .where(tiers.c.name == tier["name"])
            .values(requests=tiers.c.requests + len(fit), drawn=tiers.c.drawn + drawn)
        )
    insert_new(connection, audits, _COLUMNS, sorted(noted), ("decision_id",))


def close_audits(connection: sa.Connection, items: Sequence[Feedback]) -> None:
    """Feedback that was stored a moment ago, in this transaction: what it means to the closed loop.

    The first score of an audit closes it. A later one of another source goes into the log as a pair: what sources
    make of the same answer.
    """
    if not items:
        return
    ids = sorted({item.decision_id for item in items})
    held = (
        sa.select(audits, tiers.c.admins_only)
        .join(tiers, tiers.c.name == audits.c.tier)
        .where(one_of(connection, audits.c.decision_id, ids))
        .order_by(audits.c.decision_id)
        .with_for_update(of=audits)
    )
    known = {row["decision_id"]: dict(row) for row in connection.execute(held).mappings()}
    closed: list[dict[str, Any]] = []
    events: list[NewEvent] = []
    for item in items:
        audit = known.get(item.decision_id)
        if audit is None or (audit["admins_only"] and not item.trusted) or not isfinite(item.score):
            continue
        said = {
            "epoch": audit["epoch"],
            "source": item.source,
            "score": float(item.score),
            "trusted": item.trusted,
        }
        if audit["source"] is None:
            audit |= {"source": item.source, "score": float(item.score)}
            closed.append(
                {"at_id": audit["id"], "by": item.source, "score": float(item.score), "at": item.created_at}
            )
            said |= {
                "position": audit["position"],
                "predicted_score": audit["predicted_score"],
                "rate": audit["probability"],
                "task": audit["task"],
            }
            events.append(NewEvent("outcome", audit["tier"], audit["model"], said))
        else:
            said |= {"other_source": audit["source"], "other_score": audit["score"]}
            events.append(NewEvent("pair", audit["tier"], audit["model"], said))
    if closed:
        connection.execute(
            sa.update(audits)
            .where(audits.c.id == sa.bindparam("at_id"))
            .values(source=sa.bindparam("by"), score=sa.bindparam("score"), closed_at=sa.bindparam("at")),
            closed,
        )
    append_events(connection, events, at=items[0].created_at)


def read_audits(
    connection: sa.Connection,
    *,
    key_id: str | None,
    tier: str | None = None,
    after: int = 0,
    limit: int = 100,
    without_score_of: str | None = None,
) -> list[Audit]:
    """Audits in the order they were noted.

    Parameters
    ----------
    key_id
        Whose decisions; None: everybody's.
    after
        Only audits with a larger id.
    without_score_of
        Those that this source has not scored, closed ones too; None: those that wait for their first score.
    """
    wanted = (
        sa.select(
            *(
                audits.c[name]
                for name in ("id", "decision_id", "tier", "model", "task", "probability", "drawn_at")
            ),
            *(audits.c[name] for name in ("source", "score")),
            *(decisions.c[name] for name in ("api", "stream", "prompt", "answer")),
        )
        .join(decisions, decisions.c.id == audits.c.decision_id)
        .where(audits.c.id > after)
        .order_by(audits.c.id)
        .limit(limit)
    )
    if without_score_of is None:
        wanted = wanted.where(audits.c.source.is_(None))
    else:
        scored = sa.select(feedback.c.id).where(
            feedback.c.decision_id == audits.c.decision_id, feedback.c.source == without_score_of
        )
        wanted = wanted.where(~scored.exists())
    if key_id is not None:
        wanted = wanted.where(decisions.c.key_id == key_id)
    if tier is not None:
        wanted = wanted.where(audits.c.tier == tier)
    return [Audit(**row) for row in connection.execute(wanted).mappings()]
