"""Run by Alembic with the open connection that migrate.py hands over."""

from __future__ import annotations

from alembic import context

from proteus_router.serving.store.migrate import VERSION_TABLE
from proteus_router.serving.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
