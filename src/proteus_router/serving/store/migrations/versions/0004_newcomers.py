"""Audits of models that the router does not know, and so does not predict."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("audits") as audits:  # SQLite can't alter a column: its table is copied
        audits.alter_column("predicted_score", existing_type=sa.Double(), nullable=True)
