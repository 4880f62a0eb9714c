"""Migrations make the tables that the code knows; gateways that start together agree; a newer release is noticed."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from proteus_router.errors import StoreUnavailableError, StoreVersionError
from proteus_router.serving.store import open_store
from proteus_router.serving.store.database import Database
from proteus_router.serving.store.migrate import VERSION_TABLE, migrate
from proteus_router.serving.store.tables import metadata
from tests.serving.store.helpers import opened, rows


def test_the_migrations_lead_to_the_tables_in_the_code(url: str) -> None:
    database = Database(url, timeout_s=5)
    assert migrate(database)[0] is None
    found = database.read(
        lambda connection: compare_metadata(
            MigrationContext.configure(
                connection,
                opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True},
            ),
            metadata,
        )
    )
    database.close()
    assert found == []


def test_starting_again_changes_nothing(url: str) -> None:
    database = Database(url, timeout_s=5)
    first = migrate(database)
    assert migrate(database) == (first[1], first[1])
    database.close()


def test_what_an_older_release_left_is_kept(url: str) -> None:
    """Audits and keys of version 0002 come through the migrations after it."""
    database = Database(url, timeout_s=5)
    config = Config()
    config.set_main_option("script_location", "proteus_router.serving.store:migrations")
    config.set_main_option("path_separator", "os")

    def old(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        known = sa.MetaData()
        known.reflect(connection)
        key = {"id": "key_1", "name": "old", "token_sha256": "0" * 64, "admin": False, "created_at": 1.0}
        connection.execute(known.tables["api_keys"].insert(), key)
        columns = known.tables["decisions"].columns
        needed = {c.name: _some(c) for c in columns if not c.nullable and c.server_default is None}
        connection.execute(known.tables["decisions"].insert(), {**needed, "id": "dec_1"})
        audit = {"decision_id": "dec_1", "tier": "t", "epoch": 1, "position": 1, "model": "m"}
        audit |= {"predicted_score": 0.7, "probability": 0.5, "drawn_at": 1.0}
        connection.execute(known.tables["audits"].insert(), audit)

    database.write(old, patient=True)
    assert migrate(database)[0] == "0002"
    database.close()
    assert rows(url, "SELECT id, decision_id, predicted_score, probability FROM audits") == [
        (1, "dec_1", 0.7, 0.5)
    ]
    assert [bool(row[0]) for row in rows(url, "SELECT budget_paced FROM api_keys")] == [False]


def _some(column: sa.Column[Any]) -> Any:
    """A value of the column's kind."""
    return {str: "x", int: 1, float: 1.0, bool: False}.get(column.type.python_type, [])


def test_a_long_migration_is_not_cut_off(postgres_url: str) -> None:
    database = Database(postgres_url, timeout_s=0.3)

    def slow(connection: sa.Connection) -> int:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SELECT pg_sleep(1)"))
        return 1

    assert database.write(slow, patient=True) == 1
    with pytest.raises(StoreUnavailableError):
        database.write(slow)
    database.close()


def test_tables_of_a_newer_release_are_refused(url: str) -> None:
    async def main() -> None:
        async with opened(url):
            pass
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        engine.dispose()
        store = open_store(url)
        with pytest.raises(StoreVersionError, match="newer release"):
            await store.start()
        await store.close()

    asyncio.run(main())


START = """
import asyncio, sys
from proteus_router.serving.store import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.start()
    await store.close()

asyncio.run(main())
"""


def test_gateways_that_start_together_on_an_empty_database_all_start(url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", START, url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    failures = [process.communicate(timeout=60)[1] for process in processes if process.wait(60) != 0]
    for process in processes:
        assert process.stderr is not None
        process.stderr.close()
    assert failures == []
    assert len(rows(url, f"SELECT version_num FROM {VERSION_TABLE}")) == 1


def test_a_sqlite_file_that_another_process_is_making_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "proteus.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # not in WAL mode yet: here SQLite itself says "locked" without waiting
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    database = Database(sqlite_url, timeout_s=5)
    assert migrate(database)[0] is None
    database.close()
    release.join()
    other.close()


def test_the_sqlite_files_are_readable_by_their_owner_alone(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url, timeout_s=5)
    migrate(database)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    database.close()
    assert modes == [0o600] * 3  # the file, its log, its index


def test_sqlite_is_durable_and_in_wal_mode(sqlite_url: str) -> None:
    database = Database(sqlite_url, timeout_s=5)

    def pragma(name: str) -> object:
        return database.read(lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
    database.close()
