"""The gateway's memory: decisions, feedback, keys, spend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import sqlalchemy as sa

from proteus_router.errors import DecisionNotFoundError, InvalidFeedbackError, StoreUnavailableError
from proteus_router.serving.clock import Clock, SystemClock
from proteus_router.serving.records import ApiKey, DecisionRecord, Feedback
from proteus_router.serving.store import decisions, keys
from proteus_router.serving.store.database import Database
from proteus_router.serving.store.feedback import MAX_ITEMS, FeedbackResult, store_feedback
from proteus_router.serving.store.graded import Graded, read_graded
from proteus_router.serving.store.grouping import FeedbackGroups
from proteus_router.serving.store.loop import LoopStore
from proteus_router.serving.store.migrate import migrate
from proteus_router.serving.store.overview import read_overview
from proteus_router.serving.store.retention import Retention
from proteus_router.serving.store.writer import DecisionWriter

__all__ = ["Store", "open_store"]

_T = TypeVar("_T")
_THREADS = 4
_log = logging.getLogger(__name__)


def open_store(
    url: str,
    *,
    flush_interval_s: float = 0.5,
    flush_rows: int = 500,
    queue_rows: int = 20_000,
    keep_text: bool = False,
    retention_days: float | None = None,
    timeout_s: float = 5.0,
    clock: Clock | None = None,
) -> Store:
    """A store on `url`, not yet connected: ``await store.start()`` does that, and makes the tables.

    Parameters
    ----------
    url
        ``sqlite:///proteus.db`` or ``postgresql://user:password@host/database``.
    flush_interval_s, flush_rows
        Decisions are written when the oldest has waited so long, or when so many wait.
    queue_rows
        Most decisions kept in memory while the database is away; later ones are dropped and counted.
    keep_text
        Store prompts and answers. Off: they are removed before a decision even enters the queue.
    retention_days
        Older decisions are deleted with their feedback; None keeps them.
    timeout_s
        How long a call may wait for the database before it fails with StoreUnavailableError.
    clock
        Wall time of retention and of revocations.

    Examples
    --------
    >>> store = open_store("sqlite:///proteus.db", retention_days=30)
    >>> store.window_s
    1.0
    """
    return Store(
        Database(url, timeout_s=timeout_s),
        flush_interval_s=flush_interval_s,
        flush_rows=flush_rows,
        queue_rows=queue_rows,
        keep_text=keep_text,
        retention_days=retention_days,
        timeout_s=timeout_s,
        clock=clock or SystemClock(),
    )


class Store:
    """Made by :func:`open_store`.

    Decisions are queued and written in batches. Everything else is committed before the call returns. All calls
    but :meth:`record` raise StoreUnavailableError while the database is away.
    """

    def __init__(
        self,
        database: Database,
        *,
        flush_interval_s: float,
        flush_rows: int,
        queue_rows: int,
        keep_text: bool,
        retention_days: float | None,
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self._database = database
        self._flush_interval_s = flush_interval_s
        self._timeout_s = timeout_s
        self._keep_text = keep_text
        self._clock = clock
        self._writer = DecisionWriter(
            self._write_decisions,
            flush_interval_s=flush_interval_s,
            flush_rows=flush_rows,
            queue_rows=queue_rows,
        )
        self._feedback = FeedbackGroups(self._write_feedback)
        self.loop = LoopStore(self._read, self._write)
        self._retention_days = retention_days
        self._retention: asyncio.Task[None] | None = None
        # Not asyncio's own pool: a database that hangs must not take the threads of everybody else.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="proteus-store")

    @property
    def address(self) -> str:
        """The database's URL without its password."""
        return self._database.address

    @property
    def pending(self) -> int:
        """Decisions that are queued, not yet committed."""
        return self._writer.pending

    @property
    def dropped(self) -> int:
        """Decisions lost since the start: the queue was full, or no database would take the row."""
        return self._writer.dropped

    @property
    def lag_s(self) -> float:
        """Age of the oldest decision that is not committed; above :attr:`window_s` something is wrong."""
        return self._writer.lag_s

    @property
    def window_s(self) -> float:
        """While the database keeps up, a decision is committed within this time; a kill can lose no older one."""
        return 2 * self._flush_interval_s

    async def start(self) -> None:
        """Connect, bring the tables to this release's version, start writing."""
        found, version = await asyncio.get_running_loop().run_in_executor(
            self._threads, migrate, self._database
        )
        if found != version:
            _log.info("store %s: tables at version %s", self.address, version)
        self._writer.start()
        if self._retention_days is not None:
            retention = Retention(self._delete_older, keep_s=self._retention_days * 86_400, clock=self._clock)
            self._retention = asyncio.create_task(retention.run())

    async def close(self) -> None:
        """Write every queued decision, then disconnect. With the database away it tries for `timeout_s`."""
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.gather(self._retention, return_exceptions=True)
        await self._feedback.close()
        await asyncio.to_thread(self._writer.close, self._timeout_s)
        await asyncio.to_thread(self._threads.shutdown)
        self._database.close()

    def record(self, decision: DecisionRecord) -> None:
        """Queue a finished decision. Never waits and never raises; the first record of an id stands."""
        # The text of an audit is there only where its tier keeps it.
        if not (self._keep_text or decision.audited) and (
            decision.prompt is not None or decision.answer is not None
        ):
            decision = replace(decision, prompt=None, answer=None)
        self._writer.put(decision)

    async def decision(self, decision_id: str, *, key_id: str | None) -> DecisionRecord:
        """A decision, queued or stored.

        Parameters
        ----------
        key_id
            Whose it must be; another's is not found. None: an admin, who sees all.

        Raises
        ------
        DecisionNotFoundError
        """
        found = self._writer.get(decision_id)
        if found is None:
            found = await self._read(lambda connection: decisions.read_decision(connection, decision_id))
        if found is None or key_id not in (None, found.key_id):
            raise DecisionNotFoundError(
                f"no decision {decision_id!r}.",
                hint=f"Another gateway's decision can be read {self.window_s:g} s after its request ended.",
            )
        return found

    async def add_feedback(self, items: Sequence[Feedback]) -> list[FeedbackResult]:
        """Store up to 1,000 items in one transaction, committed when this returns; one result each, in order.

        A score that was stored before is acknowledged again and changes nothing; another score of the same
        source is a conflict; an unknown decision, or one of another key than the item's, is not found. Calls
        that wait at the same time share a transaction.

        Raises
        ------
        InvalidFeedbackError
            More than 1,000 items. (An item that is wrong by itself gets its own result.)
        StoreUnavailableError
            Nothing was acknowledged: send it again.
        """
        if len(items) > MAX_ITEMS:
            raise InvalidFeedbackError(f"feedback: {len(items):,} items at once; {MAX_ITEMS:,} are allowed.")
        if not items:
            return []
        results = await self._within_time(self._feedback.add(items))
        unknown = [index for index, result in enumerate(results) if result.status == "not_found"]
        if unknown and self._database.is_shared:
            # Perhaps another gateway decided a moment ago and has not written yet.
            await asyncio.sleep(self.window_s)
            again = await self._within_time(self._feedback.add([items[index] for index in unknown]))
            for index, result in zip(unknown, again, strict=True):
                results[index] = result
        return results

    async def graded(self, *, tier: str | None = None, since: float = 0.0) -> list[Graded]:
        """Graded decisions with their text, oldest first; those of one tier, or from a time on."""
        return await self._read(lambda connection: read_graded(connection, tier=tier, since=since))

    async def overview(self, since: float) -> dict[str, Any]:
        """Requests and USD by tier and model since a time, and the latest decisions; no text."""
        return await self._read(lambda connection: read_overview(connection, since))

    async def create_key(self, key: ApiKey, token_sha256: str) -> None:
        await self._write(lambda connection: keys.insert_key(connection, key, token_sha256))

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key for good; raises KeyNotFoundError."""
        now = self._clock.wall()
        return await self._write(lambda connection: keys.revoke_key(connection, key_id, now))

    async def stored_keys(self) -> list[tuple[ApiKey, str]]:
        """Every key with the hash of its token, revoked ones too, oldest first."""
        return await self._read(keys.read_keys)

    async def list_keys(self) -> list[ApiKey]:
        return [key for key, _ in await self.stored_keys()]

    async def spent_by_key(self, since: float) -> dict[str, float]:
        """USD of every key since the start of the hour of `since`, over all gateways; this one's queue included."""
        return await self._spent(since, decisions.spent_by_key, lambda record: record.key_id)

    async def spent_by_tier(self, since: float) -> dict[str, float]:
        """The same for every tier."""
        return await self._spent(since, decisions.spent_by_tier, lambda record: record.tier)

    async def _spent(
        self,
        since: float,
        totals_of: Callable[[sa.Connection, float], dict[str, float]],
        whose: Callable[[DecisionRecord], str | None],
    ) -> dict[str, float]:
        start = decisions.hour_of(since)
        for _ in range(3):
            commits = self._writer.commits
            queued = self._writer.snapshot()
            totals = await self._read(lambda connection: totals_of(connection, start))
            if self._writer.commits == commits:
                break
            # A batch was committed between the two looks and may count twice. After the third time let it: the
            # error is one batch, on the careful side, until the next call.
        for record in queued:
            if record.created_at >= start and record.cost_usd is not None:
                name = whose(record) or ""
                totals[name] = totals.get(name, 0.0) + record.cost_usd
        return totals

    async def spent_usd(self, key_id: str, since: float) -> float:
        """USD of one key; see :meth:`spent_by_key`."""
        return (await self.spent_by_key(since)).get(key_id, 0.0)

    async def healthy(self) -> bool:
        """Whether the database answers."""
        try:
            await self._read(lambda connection: connection.execute(sa.select(1)).scalar_one())
        except StoreUnavailableError:
            return False
        return True

    async def _write_feedback(self, items: Sequence[Feedback]) -> list[FeedbackResult]:
        written: list[str] = []

        def waiting(ids: Sequence[str]) -> list[DecisionRecord]:
            records = self._writer.up_to(ids)
            written.extend(record.id for record in records)
            return records

        results = await self._write(lambda connection: store_feedback(connection, items, waiting))
        self._writer.committed(written)
        return results

    def _write_decisions(self, batch: Sequence[DecisionRecord]) -> None:
        self._database.write(lambda connection: decisions.insert_decisions(connection, batch))

    async def _delete_older(self, before: float) -> int:
        return await self._write(lambda connection: decisions.delete_older(connection, before))

    async def _read(self, work: Callable[[sa.Connection], _T]) -> _T:
        return await self._in_thread(lambda: self._database.read(work))

    async def _write(self, work: Callable[[sa.Connection], _T]) -> _T:
        return await self._in_thread(lambda: self._database.write(work))

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        # The thread itself ends a little later than the time allowed here, by the database's own limits.
        return await self._within_time(asyncio.get_running_loop().run_in_executor(self._threads, call))

    async def _within_time(self, answer: Awaitable[_T]) -> _T:
        # Not wait_for: until Python 3.12 it swallows a cancellation that meets the answer.
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise StoreUnavailableError(
                f"store {self.address}: no answer within {self._timeout_s:g} s."
            ) from None
