"""One database behind a URL: connections, transactions, and which failures mean "try again later"."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url

from proteus_router.errors import ConfigError, StoreUnavailableError
from proteus_router.serving.store.bulk import dumps

__all__ = ["Database"]

_T = TypeVar("_T")
_POOL_SIZE = 6
_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


class Database:
    """A SQLite file (WAL) or a PostgreSQL database.

    Every call runs in the thread that makes it and ends within a small multiple of `timeout_s`, whatever the
    database does: PostgreSQL bounds each statement, and a connection that stays silent is cut from outside.

    Parameters
    ----------
    url
        ``sqlite:///file.db``, ``sqlite:////absolute/file.db`` or ``postgresql://user:password@host/database``.
    timeout_s
        Longest connect, wait for a lock, and transaction.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = _parse(url)
        self._timeout_s = timeout_s
        self.is_shared = self._url.get_backend_name() == "postgresql"
        # One writer at a time is SQLite's own rule. Waiting for it here is fair; its busy handler only polls.
        self._turn: Any = nullcontext() if self.is_shared else threading.Lock()
        self._engine = _postgres(self._url, timeout_s) if self.is_shared else _sqlite(self._url, timeout_s)

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run `work` in a transaction that only reads; raises StoreUnavailableError."""
        return self._run(work, write=False, patient=False)

    def write(self, work: Callable[[sa.Connection], _T], *, patient: bool = False) -> _T:
        """Run `work` in one transaction; it is committed when this returns.

        `work` may run twice (a connection that died while idle is replaced once), and a commit whose answer was
        lost may have happened: it must be idempotent.

        Parameters
        ----------
        patient
            Let it take as long as it takes.

        Raises
        ------
        StoreUnavailableError
            The database can't be reached or can't write; nothing may be acknowledged.
        """
        return self._run(work, write=True, patient=patient)

    def close(self) -> None:
        self._engine.dispose()

    def _run(self, work: Callable[[sa.Connection], _T], *, write: bool, patient: bool) -> _T:
        try:
            try:
                return self._once(work, write=write, patient=patient)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._once(work, write=write, patient=patient)
        except exc.SQLAlchemyError as error:
            if not _is_outage(error):
                raise
            if not self.is_shared:  # after a full disk or an I/O error, begin again from the file
                self._engine.dispose()
            raise self._unavailable(error) from error

    def _once(self, work: Callable[[sa.Connection], _T], *, write: bool, patient: bool) -> _T:
        with (
            self._turn if write else nullcontext(),
            self._engine.connect() as connection,
            nullcontext() if patient else self._watch(connection),
            connection.execution_options(proteus_write=write).begin(),
        ):
            return work(connection)

    @contextmanager
    def _watch(self, connection: sa.Connection) -> Iterator[None]:
        """Cut the connection when the server stays silent: libpq itself would wait for ever."""
        if not self.is_shared:
            yield
            return
        driver: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            timer = threading.Timer(self._timeout_s, _hang_up, (line,))
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()

    def _unavailable(self, error: exc.SQLAlchemyError) -> StoreUnavailableError:
        # The driver's own words, first line: it names host and cause, and no parameter of the statement.
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        return StoreUnavailableError(f"store {self.address}: {cause[0] if cause else type(error).__name__}.")


def _is_outage(error: exc.SQLAlchemyError) -> bool:
    """Whether the database is at fault, not the row: then the same write may succeed later.

    InternalError: PostgreSQL while it only reads (a standby). ProgrammingError: a missing right or table, which
    an operator can mend. DataError and IntegrityError stay out: the row itself is at fault.
    """
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    outage = (
        exc.OperationalError,
        exc.InterfaceError,
        exc.InternalError,
        exc.ProgrammingError,
        exc.TimeoutError,
    )
    return isinstance(error, outage)


def _hang_up(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # it ended by itself in the same moment
        return


def _parse(text: str) -> URL:
    hint = "Use sqlite:///file.db or postgresql://user:password@host/database."
    try:
        url = make_url(text)
    except exc.ArgumentError:
        # Not the text itself: a password may stand in it.
        raise ConfigError("store: not a database URL.", hint=hint) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigError(f"store: {url.drivername} is not supported.", hint=hint)
    if driver == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError("store: SQLite needs a file.", hint=hint)
    return url.set(drivername=driver)


def _engine(url: URL, timeout_s: float, connect_args: dict[str, Any]) -> sa.Engine:
    return sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=timeout_s,
        hide_parameters=True,  # an error's text must not carry a prompt or a key's hash into a log
        json_serializer=dumps,
        json_deserializer=orjson.loads,
        connect_args=connect_args,
    )


def _postgres(url: URL, timeout_s: float) -> sa.Engine:
    limit_ms = math.ceil(timeout_s * 1000)
    own = f"-c statement_timeout={limit_ms} -c lock_timeout={limit_ms}"
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} {own}".strip()
    connect_args = {
        "connect_timeout": max(2, math.ceil(timeout_s)),  # libpq takes less than 2 as 2
        "options": options,
        "tcp_user_timeout": limit_ms,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "application_name": "proteus",
    }
    try:
        return _engine(url.difference_update_query(["options"]), timeout_s, connect_args)
    except ModuleNotFoundError:
        raise ConfigError(
            "store: PostgreSQL needs psycopg.", hint="pip install 'proteus-router[postgres]'"
        ) from None


def _sqlite(url: URL, timeout_s: float) -> sa.Engine:
    # A batch of another size is another statement, half a megabyte with its values: not 128 of them (the default).
    connect_args = {"timeout": timeout_s, "check_same_thread": False, "cached_statements": 8}
    engine = _engine(url, timeout_s, connect_args)
    path = str(url.database)

    @event.listens_for(engine, "do_connect")
    def create(*_: Any) -> None:
        # Readable by its owner alone; SQLite gives the files beside it the same rights.
        if not os.path.exists(path) and os.path.isdir(os.path.dirname(path) or "."):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        _write_ahead(connection, time.monotonic() + timeout_s)
        connection.execute("PRAGMA synchronous=FULL")  # a commit outlives a power cut, not only a crash
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # IMMEDIATE: the lock is waited for at the start; taken half-way it fails at once.
        write = connection.get_execution_options().get("proteus_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL. Two processes that do it at once on a new file get "locked" whatever their timeout."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
