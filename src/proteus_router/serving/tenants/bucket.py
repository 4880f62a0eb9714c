"""A token bucket: so much a minute, unused allowance kept up to one minute's."""

from __future__ import annotations

__all__ = ["Bucket"]

_MINUTE_S = 60.0


class Bucket:
    """Full at first; refilled evenly; never fuller than one minute's allowance.

    It may be overdrawn, for what is known only afterwards (tokens of an answer): then nothing is given until it
    has filled up again. A clock that goes back adds nothing and takes nothing away.

    Parameters
    ----------
    per_minute
        The allowance, > 0.
    now
        Monotonic seconds.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._size = max(1.0, per_minute)
        self._per_s = per_minute / _MINUTE_S
        self._level = self._size
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Time until `amount` is there; 0.0 when it is."""
        self._fill(now)
        return max(0.0, (amount - self._level) / self._per_s)

    def take(self, amount: float, now: float) -> None:
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + max(0.0, now - self._at) * self._per_s)
        self._at = now
