"""Group commit: calls that wait at the same time share one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from proteus_router.errors import ProteusError
from proteus_router.serving.records import Feedback
from proteus_router.serving.store.feedback import MAX_ITEMS, FeedbackResult

__all__ = ["FeedbackGroups"]


@dataclass(frozen=True, slots=True)
class _Call:
    items: Sequence[Feedback]
    answer: asyncio.Future[list[FeedbackResult]]


class FeedbackGroups:
    """Writes feedback, one transaction at a time; whatever arrives meanwhile goes into the next one together.

    So a burst of single items costs a few commits, not one each. A call's items are never split, and a call is
    answered once its own transaction is committed.

    Parameters
    ----------
    write
        Writes items in one transaction; one result each, in order.
    """

    def __init__(self, write: Callable[[Sequence[Feedback]], Awaitable[list[FeedbackResult]]]) -> None:
        self._write = write
        self._calls: deque[_Call] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def add(self, items: Sequence[Feedback]) -> list[FeedbackResult]:
        call = _Call(items, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await call.answer

    async def close(self) -> None:
        """Wait for what was begun."""
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        try:
            while self._calls:
                await self._commit(self._next_group())
        finally:
            self._worker = None

    def _next_group(self) -> list[_Call]:
        group: list[_Call] = []
        room = MAX_ITEMS
        while self._calls and len(self._calls[0].items) <= room:
            call = self._calls.popleft()
            if not call.answer.done():  # else its caller has given up
                group.append(call)
                room -= len(call.items)
        return group

    async def _commit(self, group: Sequence[_Call]) -> None:
        if not group:
            return
        try:
            results = await self._write([item for call in group for item in call.items])
        except ProteusError as error:
            _answer_all(group, error)
        except Exception as error:
            # Somebody's item, not the database: it must not take the others down with it.
            if len(group) == 1:
                _answer_all(group, error)
            else:
                for call in group:
                    await self._commit([call])
        else:
            start = 0
            for call in group:
                end = start + len(call.items)
                if not call.answer.done():
                    call.answer.set_result(results[start:end])
                start = end


def _answer_all(group: Sequence[_Call], error: Exception) -> None:
    for call in group:
        if not call.answer.done():
            call.answer.set_exception(error)
