"""Decisions whose answers were drawn for grading and graded, with their text: what can be learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from proteus_router.serving.store.tables import audits, decisions

__all__ = ["Graded", "read_graded"]


@dataclass(frozen=True, slots=True)
class Graded:
    """One decision.

    Attributes
    ----------
    model
        Pool name of the model that answered.
    propensity
        Probability with which the router drew it.
    candidates
        Every model of the pool as it was seen, with its own propensity.
    audit_probability
        Chance with which the answer was drawn for grading.
    """

    created_at: float
    text: str
    tier: str
    accuracy_target: float
    model: str
    propensity: float
    candidates: tuple[dict[str, Any], ...]
    cost_usd: float
    audit_probability: float
    score: float


def read_graded(connection: sa.Connection, *, tier: str | None = None, since: float = 0.0) -> list[Graded]:
    """Oldest first. Answers that no draw of the router gave (stand-ins, sessions) are left out: nothing says how
    likely they were."""
    wanted = (
        sa.select(
            decisions.c.created_at,
            decisions.c.prompt,
            decisions.c.tier,
            decisions.c.accuracy_target,
            decisions.c.model,
            decisions.c.propensity,
            decisions.c.candidates,
            decisions.c.cost_usd,
            audits.c.probability,
            audits.c.score,
        )
        .join(audits, audits.c.decision_id == decisions.c.id)
        .where(
            audits.c.score.is_not(None),
            decisions.c.prompt.is_not(None),
            decisions.c.propensity > 0.0,
            decisions.c.cost_usd.is_not(None),
            decisions.c.created_at >= since,
        )
        .order_by(decisions.c.created_at, decisions.c.id)
    )
    if tier is not None:
        wanted = wanted.where(decisions.c.tier == tier)
    return [
        Graded(
            created_at=row.created_at,
            text=row.prompt,
            tier=row.tier,
            accuracy_target=row.accuracy_target,
            model=row.model,
            propensity=row.propensity,
            candidates=tuple(row.candidates),
            cost_usd=row.cost_usd,
            audit_probability=row.probability,
            score=row.score,
        )
        for row in connection.execute(wanted)
    ]
