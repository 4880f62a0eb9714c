"""Delete what is older than the operator wants to keep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from proteus_router.errors import StoreUnavailableError
from proteus_router.serving.clock import Clock, SystemClock

__all__ = ["Retention"]

_log = logging.getLogger(__name__)
_EVERY_S = 600.0
_JUMP_S = 3600.0


class Retention:
    """Deletes in small steps, every ten minutes.

    A wall clock that leapt forward would make everything look old. A leap of more than an hour against the
    monotonic clock therefore costs one round, with a warning: who sets a clock wrong has ten minutes to notice.

    Parameters
    ----------
    delete_older
        Deletes some decisions from before a moment; returns how many, 0 when none is left.
    keep_s
        Age at which a decision goes.
    """

    def __init__(
        self,
        delete_older: Callable[[float], Awaitable[int]],
        *,
        keep_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._delete_older = delete_older
        self._keep_s = keep_s
        self._clock = clock or SystemClock()
        self._offset_s = self._clock.wall() - self._clock.monotonic()

    async def run(self) -> None:
        while True:
            try:
                await self.delete_once()
            except StoreUnavailableError as error:
                _log.warning("retention: %s", error)
            except Exception:  # whatever it was: a loop that ended here would keep everything for ever
                _log.exception("retention failed; it is tried again in %.0f s", _EVERY_S)
            await asyncio.sleep(_EVERY_S)

    async def delete_once(self) -> int:
        """Delete everything that is too old now; how many decisions went."""
        offset_s = self._clock.wall() - self._clock.monotonic()
        leap_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(leap_s) > _JUMP_S:
            _log.warning("retention: the clock moved by %.0f s; nothing is deleted this time", leap_s)
            return 0
        gone = 0
        while step := await self._delete_older(self._clock.wall() - self._keep_s):
            gone += step
        return gone
