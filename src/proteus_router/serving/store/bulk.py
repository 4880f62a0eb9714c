"""Many rows in few steps: a batch is one parameter to PostgreSQL, and a handful of statements to SQLite.

Measured, not guessed: through SQLAlchemy's own bulk insert, 500 decisions kept the interpreter's lock for tens of
milliseconds, and every request waited for it. Row by row is no better: the driver gives the lock away at each
row, and beside a busy event loop it may take milliseconds to come back. Here the database does the work, outside
of the lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

__all__ = ["dumps", "insert_new", "one_of"]

_ROWS = 100  # of one statement to SQLite: some 3,300 values, of 32,766 it takes
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def dumps(value: Any) -> str:
    """JSON. NaN and infinity become null, which PostgreSQL's own JSON could not hold either."""
    return orjson.dumps(value, option=_OPTIONS).decode()


def insert_new(
    connection: sa.Connection,
    table: sa.Table,
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    key: tuple[str, ...],
) -> set[tuple[Any, ...]]:
    """Insert the rows whose key is not there yet; returns the keys that were inserted.

    Parameters
    ----------
    names
        Columns of the values in each row; the key's come first.
    rows
        Sorted by key, so that two gateways never wait for each other in a circle. No key twice.
    """
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        document = dumps([dict(zip(names, row, strict=True)) for row in rows])
        added = connection.exec_driver_sql(_postgres_insert(table, names, key), {"rows": document})
        return {tuple(found) for found in added.all()}
    # The transaction holds SQLite's write lock: what is not there now can't come before we are done.
    there = _sqlite_keys(connection, table, key, [row[0] for row in rows])
    new = [row for row in rows if tuple(row[: len(key)]) not in there]
    encoded = [names.index(column.name) for column in table.c if isinstance(column.type, sa.JSON)]
    for start in range(0, len(new), _ROWS):
        chunk = [_as_text(row, encoded) for row in new[start : start + _ROWS]]
        values = tuple(itertools.chain.from_iterable(chunk))
        connection.exec_driver_sql(_sqlite_insert(table, names, len(chunk)), values)
    return {tuple(row[: len(key)]) for row in new}


def one_of(
    connection: sa.Connection, column: sa.Column[Any], values: Sequence[str]
) -> sa.ColumnElement[bool]:
    """``column IN values``, the values as one parameter however many they are."""
    document = sa.literal(dumps(values), sa.Text)
    if connection.dialect.name == "postgresql":
        listed = sa.func.json_array_elements_text(sa.cast(document, postgresql.JSON)).table_valued("value")
    else:
        listed = sa.func.json_each(document).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def _as_text(row: Sequence[Any], encoded: Sequence[int]) -> Sequence[Any]:
    """`row` with its JSON columns written out, as SQLite keeps them."""
    if not encoded:
        return row
    values = list(row)
    for index in encoded:
        if values[index] is not None:
            values[index] = dumps(values[index])
    return values


def _sqlite_keys(
    connection: sa.Connection, table: sa.Table, key: tuple[str, ...], first: Sequence[str]
) -> set[tuple[Any, ...]]:
    found = sa.select(*(table.c[name] for name in key)).where(one_of(connection, table.c[key[0]], first))
    return {tuple(row) for row in connection.execute(found).all()}


@cache
def _sqlite_insert(table: sa.Table, names: tuple[str, ...], n_rows: int) -> str:
    row = f"({', '.join(itertools.repeat('?', len(names)))})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join(itertools.repeat(row, n_rows))}"


@cache
def _postgres_insert(table: sa.Table, names: tuple[str, ...], key: tuple[str, ...]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = ", ".join(f"{name} {table.c[name].type.compile(dialect)}" for name in names)
    columns, keys = ", ".join(names), ", ".join(key)
    return (
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM json_to_recordset(%(rows)s::json) AS new({types}) "
        f"ON CONFLICT ({keys}) DO NOTHING RETURNING {keys}"
    )
