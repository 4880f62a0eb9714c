"""What was said of each tier over the last day, thinned: what the console draws its band from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from proteus_router.control import Bounds

__all__ = ["History"]

_EVERY_S = 360.0
_MOST = 240  # a day


@dataclass(frozen=True, slots=True)
class _Point:
    at: float
    epoch: int
    estimate: float
    lower: float
    upper: float


class History:
    """The interval of every tier, once in six minutes for a day; in memory, so it begins when the gateway does."""

    def __init__(self) -> None:
        self._points: dict[str, deque[_Point]] = {}

    def saw(self, tier: str, epoch: int, bounds: Bounds, at: float) -> None:
        """Note `bounds` unless a point of the same evidence is younger than six minutes; a reset begins anew."""
        points = self._points.setdefault(tier, deque(maxlen=_MOST))
        if points and points[-1].epoch != epoch:
            points.clear()
        if not points or at - points[-1].at >= _EVERY_S:
            points.append(_Point(at, epoch, bounds.estimate, bounds.lower, bounds.upper))

    def of(self, tier: str) -> list[dict[str, Any]]:
        """Oldest first: at (epoch seconds), estimate, lower, upper."""
        return [
            {"at": point.at, "estimate": point.estimate, "lower": point.lower, "upper": point.upper}
            for point in self._points.get(tier, ())
        ]
