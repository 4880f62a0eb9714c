"""The closed loop: tiers' counters, audits, the log that its state is a fold over, and snapshots of that state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("decisions", sa.Column("audited", sa.Boolean))
    op.add_column("decisions", sa.Column("task", sa.String))
    op.create_table(
        "tiers",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("accuracy_target", sa.Double, nullable=False),
        sa.Column("rate_floor", sa.Double, nullable=False),
        sa.Column("admins_only", sa.Boolean, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("drawn", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("state_since", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tiers"),
    )
    op.create_table(
        "audits",
        sa.Column("id", _SERIAL, nullable=False, autoincrement=True),
        sa.Column("decision_id", sa.String, nullable=False),
        sa.Column("tier", sa.String, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("task", sa.String),
        sa.Column("predicted_score", sa.Double, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("drawn_at", sa.Double, nullable=False),
        sa.Column("source", sa.String),
        sa.Column("score", sa.Double),
        sa.Column("closed_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], name="fk_audits_decision_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("decision_id", name="uq_audits_decision_id"),
    )
    op.create_index("ix_audits_tier_epoch_position", "audits", ["tier", "epoch", "position"])
    op.create_table(
        "loop_events",
        sa.Column("sequence", _SERIAL, nullable=False, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("tier", sa.String),
        sa.Column("model", sa.String),
        sa.Column("data", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_loop_events"),
    )
    op.create_table(
        "loop_snapshots",
        sa.Column("format", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("format", name="pk_loop_snapshots"),
    )
