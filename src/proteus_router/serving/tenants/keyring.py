"""Who is asking: tokens checked in memory against what the store holds."""

from __future__ import annotations

import hmac
from typing import Protocol

from proteus_router.errors import AuthenticationError, PermissionDeniedError
from proteus_router.serving.clock import Clock, SystemClock
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants.tokens import token_sha256
from proteus_router.serving.upkeep import Upkeep

__all__ = ["KeySource", "Keyring"]

_NOBODY = "0" * 64


class KeySource(Protocol):
    async def stored_keys(self) -> list[tuple[ApiKey, str]]: ...


class Keyring:
    """All keys of the store, read again and again, so that a request waits for no database.

    A key that was revoked anywhere stops working within `refresh_s`, while the database answers. While it does
    not, the last list holds: :attr:`age_s` tells how old that is.

    Parameters
    ----------
    source
        The store.
    refresh_s
        Longest time until a revocation or a new key is known here. The store is asked twice in it.
    """

    def __init__(self, source: KeySource, *, refresh_s: float = 2.0, clock: Clock | None = None) -> None:
        self._source = source
        self._clock = clock or SystemClock()
        self._keys: dict[str, tuple[ApiKey, str]] = {}  # half of the hash -> key, hash
        self._read_at = -float("inf")
        self._upkeep = Upkeep(
            self.refresh, refresh_s / 2, lambda: f"keys: the list is {self.age_s:.1f} s old"
        )

    @property
    def keys(self) -> list[ApiKey]:
        """Keys that are not revoked."""
        return [key for key, _ in self._keys.values()]

    @property
    def age_s(self) -> float:
        """Time since the list was read from the store."""
        return self._clock.monotonic() - self._read_at

    async def start(self) -> None:
        """Read all keys, then keep up with the store; raises StoreUnavailableError."""
        await self.refresh()
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.close()

    async def refresh(self) -> None:
        """Read all keys now: for whoever has just made or revoked one in this process."""
        asked_at = self._clock.monotonic()
        stored = await self._source.stored_keys()
        self._keys = {digest[:32]: (key, digest) for key, digest in stored if key.revoked_at is None}
        self._read_at = asked_at

    def authenticate(self, token: str | None, *, admin: bool | None = None) -> ApiKey:
        """The key of `token`.

        Parameters
        ----------
        admin
            True or False: the scope that is asked for. The two are apart: an admin key calls no model, a
            tenant's key administers nothing. None: either.

        Raises
        ------
        AuthenticationError
            No token, an unknown one, or a revoked one: the three look alike.
        PermissionDeniedError
            The key belongs to the other scope.
        """
        digest = token_sha256(token or "")
        key, known = self._keys.get(digest[:32], (None, _NOBODY))
        # Found by half of the hash, told by the whole of it in constant time.
        if not hmac.compare_digest(digest, known) or key is None or not token:
            raise AuthenticationError(
                "missing, unknown or revoked API key.", hint="Send Authorization: Bearer sk-proteus-..."
            )
        if admin is not None and admin != key.admin:
            raise PermissionDeniedError(
                "this needs an admin key." if admin else "an admin key calls no model; use a tenant's key."
            )
        return key
