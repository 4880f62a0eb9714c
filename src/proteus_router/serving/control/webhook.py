"""Tell an operator's system that a tier's state has changed: one POST, tried again for a few minutes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from proteus_router.serving.upstream.bodies import dumps

__all__ = ["Webhook"]

_log = logging.getLogger(__name__)
_PAUSES_S = (1.0, 5.0, 30.0, 120.0)
_TIMEOUT_S = 10.0
_MOST_WAITING = 100


class Webhook:
    """Sends news in the background. Redirects are not followed: only the configured address is ever called.

    Parameters
    ----------
    pauses_s
        Waits between attempts; after the last one the news is given up, with a line in the log.
    """

    def __init__(self, *, pauses_s: Sequence[float] = _PAUSES_S) -> None:
        self._pauses_s = pauses_s
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, url: str, news: Mapping[str, Any]) -> None:
        """Begin to send; returns at once."""
        if len(self._tasks) >= _MOST_WAITING:
            _log.error("webhook at %s: too much waits already; this change is not sent", _host(url))
            return
        task = asyncio.get_running_loop().create_task(self._deliver(url, dumps(dict(news))))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still being tried."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, url: str, body: bytes) -> None:
        headers = {"content-type": "application/json", "user-agent": "proteus"}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        for pause_s in (*self._pauses_s, None):
            try:
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
                ):
                    if answer.status < 300:
                        return
                    why = f"it answered {answer.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = type(error).__name__  # its text may hold the whole address
            if pause_s is None:
                _log.error("webhook at %s: given up, %s", _host(url), why)
                return
            _log.warning("webhook at %s: %s; tried again in %g s", _host(url), why, pause_s)
            await asyncio.sleep(pause_s)


def _host(url: str) -> str:
    """The host alone: path and user may be secret."""
    return urlsplit(url).hostname or "?"
