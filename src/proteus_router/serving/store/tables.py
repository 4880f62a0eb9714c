"""The store's tables. A change here needs a migration; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "api_keys", "audits", "decisions", "feedback", "loop_events", "loop_snapshots", "metadata", "spend", "tiers",
]  # fmt: skip

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# none_as_null: a missing certificate is NULL, not the JSON word.
_Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite counts by itself only in a column declared INTEGER.
_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", sa.Double, nullable=False),  # unix seconds
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
    sa.Column("propensity", sa.Double),  # of the model, given the request
    sa.Column("audit_probability", sa.Double),  # of being drawn for grading; NULL where nothing was drawn
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
    sa.Column("reasons", _Json, nullable=False),
    sa.Column("candidates", _Json, nullable=False),
    sa.Column("certificate", _Json),
    sa.Column("prompt", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("router_fingerprint", sa.String, nullable=False),
    sa.Column("audited", sa.Boolean),
    sa.Column("task", sa.String),
    sa.Index(None, "created_at"),  # retention
    sa.Index(None, "tier", "created_at"),  # a tier over time
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),  # readers remember how far they have come
    sa.Column("decision_id", sa.ForeignKey("decisions.id", ondelete="CASCADE"), nullable=False),
    sa.Column("source", sa.String, nullable=False),
    # PostgreSQL sorts NaN above every number, SQLite turns it into NULL: both refuse it here.
    sa.Column(
        "score", sa.Double, sa.CheckConstraint("score >= 0 AND score <= 1", name="score"), nullable=False
    ),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("key_id", sa.String),
    sa.Column("comment", sa.Text),
    sa.UniqueConstraint("decision_id", "source"),
)

# What was spent, apart from the decisions, so that a short retention does not shorten a monthly budget.
# "" stands for no key and for no tier: a primary key holds no NULL.
spend = sa.Table(
    "spend",
    metadata,
    sa.Column("hour", sa.BigInteger, primary_key=True),  # unix seconds of the hour's start, UTC
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("tier", sa.String, primary_key=True),
    sa.Column("cost_usd", sa.Double, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column(
        "token_sha256", sa.String, nullable=False, unique=True
    ),  # hexadecimal; the token itself is nowhere
    sa.Column("tier", sa.String),
    sa.Column("tiers", _Json),
    sa.Column("models", _Json),
    sa.Column("target_min", sa.Double),
    sa.Column("target_max", sa.Double),
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("tokens_per_minute", sa.BigInteger),
    sa.Column("budget_usd", sa.Double),
    sa.Column("budget_period", sa.String),
    sa.Column("budget_paced", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("admin", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
)

# One row a tier whose answers are audited: counters that decisions raise as they are written.
tiers = sa.Table(
    "tiers",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),  # rises when the evidence begins anew
    sa.Column("accuracy_target", sa.Double, nullable=False),  # only requests at this floor count
    sa.Column("rate_floor", sa.Double, nullable=False),  # and only if drawn with this chance or more
    sa.Column("admins_only", sa.Boolean, nullable=False),  # whose scores count
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("drawn", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("state_since", sa.Double, nullable=False),
)

audits = sa.Table(
    "audits",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("decision_id", sa.ForeignKey("decisions.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("tier", sa.String, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),  # among the tier's requests of the epoch, from 1
    sa.Column("model", sa.String, nullable=False),
    sa.Column("task", sa.String),
    sa.Column("predicted_score", sa.Double),  # NULL: of a model that the router does not know
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("drawn_at", sa.Double, nullable=False),
    sa.Column("source", sa.String),  # of the score that closed it; NULL: it waits
    sa.Column("score", sa.Double),
    sa.Column("closed_at", sa.Double),
    sa.Index(None, "tier", "epoch", "position"),
)

# Written under a lock, so that numbers rise in the order of the commits: readers remember how far they have come.
loop_events = sa.Table(
    "loop_events",
    metadata,
    sa.Column("sequence", _Serial, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("tier", sa.String),
    sa.Column("model", sa.String),
    sa.Column("data", _Json, nullable=False),
)

loop_snapshots = sa.Table(
    "loop_snapshots",
    metadata,
    sa.Column("format", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),  # of the last event in it
    sa.Column(
        "state", sa.Text, nullable=False
    ),  # JSON as it was written: its floats come back to the last bit
)
