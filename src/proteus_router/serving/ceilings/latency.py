"""How long each model takes to its first byte, as live traffic shows it."""

from __future__ import annotations

import math
from collections import defaultdict, deque

__all__ = ["FirstBytes"]

_WINDOW_S = 60.0
_MOST, _LEAST = 200, 10
_FRESH_S = 0.25


class FirstBytes:
    """95% quantile of the time to the first byte of each model, over the last minute.

    A model that is left because it is slow answers nothing, so within a minute nothing is known of it and it is tried
    again: ten answers then tell whether it is quick once more.

    Examples
    --------
    >>> seen = FirstBytes()
    >>> for n in range(20):
    ...     seen.saw("m", 0.1 + n / 100, now=n)
    >>> round(seen.p95_s("m", now=20.0), 2)
    0.28
    >>> seen.p95_s("m", now=90.0) is None
    True
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=_MOST))
        self._known: dict[str, tuple[float, float | None]] = {}

    def saw(self, model: str, seconds: float, now: float) -> None:
        """Count one answer; `now`: monotonic seconds."""
        self._seen[model].append((now, seconds))

    def p95_s(self, model: str, now: float) -> float | None:
        """The quantile, at most a quarter of a second old; None with fewer than ten answers in the last minute."""
        known = self._known.get(model)
        if known is not None and 0.0 <= now - known[0] < _FRESH_S:
            return known[1]
        recent = sorted(s for at, s in self._seen.get(model, ()) if now - at <= _WINDOW_S)
        found = recent[math.ceil(0.95 * len(recent)) - 1] if len(recent) >= _LEAST else None
        self._known[model] = now, found
        return found

    def models(self) -> list[str]:
        """Those that have answered."""
        return list(self._seen)
