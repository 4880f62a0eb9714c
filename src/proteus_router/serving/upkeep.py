"""Looking at the store again and again, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from proteus_router.errors import StoreUnavailableError

__all__ = ["Upkeep"]

_log = logging.getLogger(__name__)


class Upkeep:
    """Calls `look` every `every_s`; a database that is away, or any error, ends nothing.

    Parameters
    ----------
    stale
        What to say of what is known while `look` fails; asked anew each time.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], every_s: float, stale: Callable[[], str]) -> None:
        self._look, self._every_s, self._stale = look, every_s, stale
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._look()
            except StoreUnavailableError as error:
                _log.warning("%s: %s", self._stale(), error)
            except (
                Exception
            ):  # whatever it was: a loop that ended here would go on with old keys and budgets for ever
                _log.exception("%s", self._stale())
