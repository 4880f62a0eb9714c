"""Make an API key: check what it may, draw its token, store the hash."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import replace
from typing import Protocol

from proteus_router.errors import InvalidKeyError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants.tokens import new_token, token_sha256

__all__ = ["KeySink", "issue_key", "new_key_id"]


class KeySink(Protocol):
    async def create_key(self, key: ApiKey, token_sha256: str) -> None: ...


def new_key_id() -> str:
    return f"key_{secrets.token_hex(8)}"


async def issue_key(store: KeySink, key: ApiKey) -> tuple[ApiKey, str]:
    """Store a new key like `key`; its id and date are set here.

    Returns
    -------
    tuple
        The key as stored, and its token: the only time that it is seen. It is committed by then.

    Raises
    ------
    InvalidKeyError
        A limit that is not a positive number, a target outside (0, 1), a budget without its period, ...
    """
    _check(key)
    token = new_token()
    issued = replace(key, id=new_key_id(), created_at=time.time(), revoked_at=None)
    await store.create_key(issued, token_sha256(token))
    return issued, token


def _check(key: ApiKey) -> None:
    if not key.name.strip() or len(key.name) > 128 or not key.name.isprintable():
        raise InvalidKeyError("key: name must be 1 to 128 printable characters.")
    for name in ("requests_per_minute", "tokens_per_minute", "budget_usd"):
        value = getattr(key, name)
        if value is not None and not (math.isfinite(value) and 0 < value <= 1e9):
            raise InvalidKeyError(f"key: {name} is {value}; a number above 0, at most 1e9, is allowed.")
    if (key.budget_usd is None) != (key.budget_period is None):
        raise InvalidKeyError("key: budget_usd and budget_period (hour, day or month) go together.")
    if key.budget_period not in (None, "hour", "day", "month"):
        raise InvalidKeyError(f"key: budget_period is {key.budget_period!r}; hour, day or month.")
    if key.budget_paced and key.budget_usd is None:
        raise InvalidKeyError(
            "key: budget_paced needs a budget to pace.", hint="Give budget_usd and budget_period."
        )
    if key.target_range is not None:
        low, high = key.target_range
        if not 0 < low <= high < 1:
            raise InvalidKeyError(f"key: target_range is {low}:{high}; 0 < low <= high < 1.")
    if key.tier is not None and key.tiers is not None and key.tier not in key.tiers:
        raise InvalidKeyError(f"key: its default tier {key.tier!r} is not among its tiers.")
    if key.tiers == () or key.models == ():
        raise InvalidKeyError(
            "key: an empty list of tiers or models would allow nothing; leave it out for all."
        )
    given = (key.tier, key.tiers, key.models, key.target_range, key.budget_usd)
    if key.admin and any(value is not None for value in given):
        raise InvalidKeyError("key: an admin key calls no model; it takes neither tier, models nor budget.")
