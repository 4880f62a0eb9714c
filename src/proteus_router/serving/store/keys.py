"""API keys in SQL. The token is never here, only its hash."""

from __future__ import annotations

import sqlalchemy as sa

from proteus_router.errors import KeyNotFoundError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.store.rows import key_from_row, key_to_row
from proteus_router.serving.store.tables import api_keys

__all__ = ["insert_key", "read_keys", "revoke_key"]


def insert_key(connection: sa.Connection, key: ApiKey, token_sha256: str) -> None:
    """Store a key; a second time, after a commit whose answer was lost, changes nothing."""
    there = connection.execute(sa.select(api_keys.c.id).where(api_keys.c.id == key.id)).first()
    if there is None:
        connection.execute(sa.insert(api_keys), key_to_row(key, token_sha256))


def read_keys(connection: sa.Connection) -> list[tuple[ApiKey, str]]:
    """Every key with the hash of its token, revoked ones too, oldest first."""
    rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).mappings()
    return [(key_from_row(row), row["token_sha256"]) for row in rows]


def revoke_key(connection: sa.Connection, key_id: str, at: float) -> ApiKey:
    """Revoke; a key that was revoked before keeps its first date."""
    mine = api_keys.c.id == key_id
    connection.execute(sa.update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
    row = connection.execute(sa.select(api_keys).where(mine)).mappings().first()
    if row is None:
        raise KeyNotFoundError(f"no key {key_id!r}.", hint="`proteus keys list` shows the ids.")
    return key_from_row(row)
