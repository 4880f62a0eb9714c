"""What an operator looks at: who answered how much, and the latest decisions; no text."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from proteus_router.serving.store.tables import decisions

__all__ = ["read_overview"]

_LATEST = 40


def read_overview(connection: sa.Connection, since: float) -> dict[str, Any]:
    """Requests and USD by tier and model from `since` on, and the latest decisions."""
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
        "latest": [dict(row._mapping) for row in connection.execute(latest)],
    }
