"""Decisions, feedback, spend and keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("key_id", sa.String),
        sa.Column("tier", sa.String),
        sa.Column("accuracy_target", sa.Double),
        sa.Column("internal_target", sa.Double),
        sa.Column("certified", sa.Boolean, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("requested_model", sa.String, nullable=False),
        sa.Column("api", sa.String, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("predicted_score", sa.Double),
        sa.Column("predicted_cost_usd", sa.Double),
        sa.Column("cost_usd", sa.Double),
        sa.Column("propensity", sa.Double),
        sa.Column("audit_probability", sa.Double),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("error_code", sa.String),
        sa.Column("http_status", sa.Integer, nullable=False),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("first_byte_s", sa.Double),
        sa.Column("overhead_s", sa.Double, nullable=False),
        sa.Column("session_id", sa.String),
        sa.Column("request_id", sa.String),
        sa.Column("reasons", _JSON, nullable=False),
        sa.Column("candidates", _JSON, nullable=False),
        sa.Column("certificate", _JSON),
        sa.Column("prompt", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("router_fingerprint", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_created_at", "decisions", ["created_at"])
    op.create_index("ix_decisions_tier_created_at", "decisions", ["tier", "created_at"])
    op.create_table(
        "feedback",
        sa.Column("id", _SERIAL, nullable=False, autoincrement=True),
        sa.Column("decision_id", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("key_id", sa.String),
        sa.Column("comment", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], name="fk_feedback_decision_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("decision_id", "source", name="uq_feedback_decision_id_source"),
        sa.CheckConstraint("score >= 0 AND score <= 1", name="ck_feedback_score"),
    )
    op.create_table(
        "spend",
        sa.Column("hour", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("tier", sa.String, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hour", "key_id", "tier", name="pk_spend"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("token_sha256", sa.String, nullable=False),
        sa.Column("tier", sa.String),
        sa.Column("tiers", _JSON),
        sa.Column("models", _JSON),
        sa.Column("target_min", sa.Double),
        sa.Column("target_max", sa.Double),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("budget_usd", sa.Double),
        sa.Column("budget_period", sa.String),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("token_sha256", name="uq_api_keys_token_sha256"),
    )
