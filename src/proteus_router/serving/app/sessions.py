"""Which model a conversation is on: kept in memory, the latest ones, for a while."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

__all__ = ["Sessions", "session_key"]


class Sessions:
    """session -> name of a pool model.

    Parameters
    ----------
    ttl_s
        A session unused for so long is forgotten.
    max_sessions
        The least recently used ones beyond so many are forgotten; 0 remembers none.
    """

    def __init__(self, *, ttl_s: float, max_sessions: int) -> None:
        self._ttl_s = ttl_s
        self._max = max_sessions
        self._pins: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def configure(self, *, ttl_s: float, max_sessions: int) -> None:
        """Take new bounds; what is remembered stays."""
        self._ttl_s, self._max = ttl_s, max_sessions

    def model_of(self, session: str, now: float) -> str | None:
        """The model the session is on, or None."""
        found = self._pins.get(session)
        if found is None:
            return None
        if now - found[1] > self._ttl_s:
            del self._pins[session]
            return None
        return found[0]

    def pin(self, session: str, model: str, now: float) -> None:
        """The session is on `model` from now on."""
        self._pins[session] = (model, now)
        self._pins.move_to_end(session)
        while len(self._pins) > self._max:
            self._pins.popitem(last=False)


def session_key(*parts: str) -> str:
    """A hash of what identifies a session: neither the caller's words nor another tenant's session can be read
    from it, or met by it.
    """
    joined = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
