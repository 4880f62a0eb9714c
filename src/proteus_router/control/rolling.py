"""The same interval for the latest requests only: overlapping sequences, each started at a fixed request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proteus_router.control.confidence_sequence import Bounds, ConfidenceSequence

__all__ = ["RollingSequence"]

_STARTS = 4
"""Within a window. Two would let the interval speak of half a window, too few audits for a fall of three points."""


class RollingSequence:
    """Keeps a confidence sequence per starting point, every quarter; speaks of the oldest within the window.

    The interval reported covers the last 3w/4 to w requests. Each starting point's interval holds at all of its looks
    together with the stated confidence; over a long life, a share of at most 1 - confidence of the starting points
    may ever have been wrong.

    Parameters
    ----------
    window
        w, requests; at least 4.
    centre, rate_floor, confidence
        As for `ConfidenceSequence`.
    """

    def __init__(
        self, window: int, centre: float, *, rate_floor: float = 1.0, confidence: float = 0.95
    ) -> None:
        if window < 4:
            raise ValueError(f"a window needs at least 4 requests, not {window}.")
        self.window = window
        self.centre = centre
        self.rate_floor = rate_floor
        self.confidence = confidence
        self._by_start: dict[int, ConfidenceSequence] = {}

    def add(self, score: float, *, position: int, rate: float = 1.0) -> None:
        """One audited request, the tier's `position`-th (from 1) since the reset. Order does not matter, within w."""
        stride = self.window // _STARTS
        first = max(0, -(-(position - self.window) // stride) * stride)
        for start in range(first, position, stride):
            if start not in self._by_start:
                self._by_start[start] = self._empty()
            self._by_start[start].add(score, rate=rate)
        oldest = max(self._by_start) - 2 * self.window
        self._by_start = {start: kept for start, kept in self._by_start.items() if start >= oldest}

    def start(self, requests: int) -> int:
        """Requests that the window leaves out when there have been `requests`."""
        stride = self.window // _STARTS
        return max(0, -(-(requests - self.window) // stride) * stride)

    def audits(self, requests: int) -> int:
        """Audits that `bounds(requests)` speaks of."""
        found = self._by_start.get(self.start(requests))
        return 0 if found is None else found.audits

    def bounds(self, requests: int, *, open_audits: int = 0) -> Bounds:
        """The interval for the requests after the `start(requests)`-th, of `requests` since the reset.

        `open_audits` are those among these requests, see `ConfidenceSequence.bounds`.
        """
        start = self.start(requests)
        return self._by_start.get(start, self._empty()).bounds(requests - start, open_audits=open_audits)

    def to_state(self) -> dict[str, Any]:
        return {
            "window": self.window,
            "centre": self.centre,
            "rate_floor": self.rate_floor,
            "confidence": self.confidence,
            "starts": [[start, kept.to_state()] for start, kept in sorted(self._by_start.items())],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RollingSequence:
        found = cls(
            state["window"], state["centre"], rate_floor=state["rate_floor"], confidence=state["confidence"]
        )
        found._by_start = {int(start): ConfidenceSequence.from_state(kept) for start, kept in state["starts"]}
        return found

    def _empty(self) -> ConfidenceSequence:
        return ConfidenceSequence(self.centre, rate_floor=self.rate_floor, confidence=self.confidence)
