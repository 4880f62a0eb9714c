"""What an operator looks at: who answered how much, and the latest decisions; no text."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from proteus_router.serving.store.decisions import hour_of
from proteus_router.serving.store.tables import decisions, spend

__all__ = ["read_overview"]

_LATEST = 40


def read_overview(connection: sa.Connection, since: float) -> dict[str, Any]:
    """Requests and USD by tier and model from `since` on, USD by tier and hour, and the latest decisions."""
    by_model = (
        sa.select(
            decisions.c.tier,
            decisions.c.model,
            sa.func.count().label("requests"),
            sa.func.coalesce(sa.func.sum(decisions.c.cost_usd), 0.0).label("cost_usd"),
        )
        .where(decisions.c.created_at >= since, decisions.c.tier.is_not(None), decisions.c.status == "ok")
        .group_by(decisions.c.tier, decisions.c.model)
        .order_by(decisions.c.tier, sa.func.count().desc())
    )
    by_hour = (
        sa.select(spend.c.tier, spend.c.hour, sa.func.sum(spend.c.cost_usd).label("cost_usd"))
        .where(spend.c.hour > hour_of(since), spend.c.tier != "")
        .group_by(spend.c.tier, spend.c.hour)
        .order_by(spend.c.tier, spend.c.hour)
    )
    shown = (
        "id",
        "created_at",
        "tier",
        "model",
        "accuracy_target",
        "certified",
        "status",
        "cost_usd",
        "latency_s",
    )
    latest = (
        sa.select(*(decisions.c[name] for name in shown))
        .order_by(decisions.c.created_at.desc())
        .limit(_LATEST)
    )
    return {
        "mix": [dict(row._mapping) for row in connection.execute(by_model)],
        "spend": [dict(row._mapping) for row in connection.execute(by_hour)],
        "latest": [dict(row._mapping) for row in connection.execute(latest)],
    }
