"""Bring a database's tables to this release's version, once, however many gateways start together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from proteus_router.errors import StoreVersionError
from proteus_router.serving.store.database import Database

__all__ = ["VERSION_TABLE", "migrate"]

VERSION_TABLE = "proteus_schema"
_LOCK = 0x70726F74657573  # "proteus": the advisory lock of whoever migrates


def migrate(database: Database) -> tuple[str | None, str]:
    """Apply what is missing, in one transaction: all of it or nothing.

    Returns
    -------
    tuple
        Version found (None: an empty database) and version left.

    Raises
    ------
    StoreVersionError
        The tables come from a newer release.
    StoreUnavailableError
        The database can't be reached, or refuses to create tables.
    """
    config = Config()
    config.set_main_option("script_location", "proteus_router.serving.store:migrations")
    config.set_main_option("path_separator", "os")
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None

    def upgrade(connection: sa.Connection) -> tuple[str | None, str]:
        if database.is_shared:  # SQLite's write transaction is a lock already
            connection.execute(sa.text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE}
        ).get_current_revision()
        if found != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return found, head

    try:
        return database.write(upgrade, patient=True)
    except CommandError as error:
        raise StoreVersionError(
            f"store {database.address}: its tables were made by a newer release ({error}).",
            hint="Upgrade proteus-router, or point this release at another database.",
        ) from error
