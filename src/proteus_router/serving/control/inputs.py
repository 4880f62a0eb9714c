"""Does the traffic of this process still look like the calibration queries? Looked at beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import asdict
from typing import Any

from proteus_router.control import InputDrift, InputReference, InputShift
from proteus_router.encoders.hashed import hashed_features
from proteus_router.routing.router import Router

__all__ = ["InputWatch", "reference_of"]

_log = logging.getLogger(__name__)
_MOST_WAITING = 5_000
_MOST_SHIFTS = 10


def reference_of(router: Router) -> InputReference | None:
    """What training wrote down of its queries; None for a router of an earlier release, or of too few queries."""
    meta = router.manifest.get("inputs")
    if meta is None or router.input_reference is None:
        return None
    return InputReference.from_state(router.input_reference, meta)


class InputWatch:
    """Takes texts at once, looks at them later, keeps none.

    Parameters
    ----------
    reference
        None: nothing is watched.
    """

    def __init__(self, reference: InputReference | None) -> None:
        self._drift = None if reference is None else InputDrift(reference)
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self.shifts: deque[dict[str, Any]] = deque(maxlen=_MOST_SHIFTS)
        self._last: InputShift | None = None

    def saw(self, text: str) -> None:
        if self._drift is not None and text:
            self._waiting.append(text)

    async def look(self, at: float) -> None:
        """Fold in what waits; a window that is unlike the reference is kept and said."""
        if self._drift is None or not self._waiting:
            return
        texts = list(self._waiting)
        self._waiting.clear()
        drift = self._drift
        found = await asyncio.to_thread(lambda: drift.add(hashed_features(texts)))
        for shift in found:
            _log.warning("%s", shift.reason)
            self.shifts.append({**asdict(shift), "reason": shift.reason, "at": at})
            self._last = shift

    @property
    def shifted(self) -> bool:
        """Whether the last complete window was unlike the calibration queries."""
        if self._drift is None or self._last is None:
            return False
        window = self._drift.reference.window
        return self._last.last == self._drift.seen // window * window

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        if self._drift is None:
            return {"watched": False}
        reference = self._drift.reference
        return {
            "watched": True,
            "seen": self._drift.seen,
            "window": reference.window,
            "false_alarm": reference.false_alarm,
            "shifted": self.shifted,
            "shifts": list(self.shifts),
        }
