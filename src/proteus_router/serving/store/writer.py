"""Decisions on their way to the database: a bounded queue, and one thread that writes it in batches."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from proteus_router.errors import StoreUnavailableError
from proteus_router.serving.records import DecisionRecord

__all__ = ["DecisionWriter"]

_log = logging.getLogger(__name__)
_RETRY_S = (0.1, 2.0)  # first and longest pause while the database is away


class DecisionWriter:
    """Takes decisions at once, writes them soon.

    A decision leaves the queue only when its batch is committed, so the queue is also what a reader must add to
    the database's answer.

    Parameters
    ----------
    write
        Writes a batch in one transaction, idempotently. StoreUnavailableError: tried again until it succeeds.
        Anything else: a row is at fault; the batch is halved until it is alone, counted as dropped, and logged.
    flush_interval_s
        A decision waits at most so long before its batch is begun.
    flush_rows
        A batch is begun at once when so many wait; and the most rows of one batch.
    queue_rows
        Most decisions kept while the database is away; later ones are dropped and counted.
    """

    def __init__(
        self,
        write: Callable[[Sequence[DecisionRecord]], None],
        *,
        flush_interval_s: float,
        flush_rows: int,
        queue_rows: int,
    ) -> None:
        self._write = write
        self._flush_interval_s = flush_interval_s
        self._flush_rows = flush_rows
        self._queue_rows = queue_rows
        self._queue: dict[
            str, tuple[DecisionRecord, float]
        ] = {}  # id -> record, monotonic seconds of arrival
        self._changed = threading.Condition()
        self._hurry = threading.Event()  # wakes a pause between retries
        self._closing = False
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="proteus-decisions", daemon=True)
        self.dropped = 0
        self.commits = 0

    @property
    def pending(self) -> int:
        return len(self._queue)

    @property
    def lag_s(self) -> float:
        """Age of the oldest decision that is not committed."""
        with self._changed:
            oldest = next(iter(self._queue.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest[1]

    def start(self) -> None:
        self._thread.start()

    def put(self, record: DecisionRecord) -> bool:
        """Take `record`; False if it was dropped. Never waits for the database."""
        with self._changed:
            if self._closing or len(self._queue) >= self._queue_rows:
                self.dropped += 1
                return False
            self._queue.setdefault(record.id, (record, time.monotonic()))
            if len(self._queue) == self._flush_rows:
                self._changed.notify()
        return True

    def get(self, decision_id: str) -> DecisionRecord | None:
        entry = self._queue.get(decision_id)
        return None if entry is None else entry[0]

    def up_to(self, ids: Iterable[str]) -> list[DecisionRecord]:
        """The decisions of `ids` that are queued; where an audit is among them, with all that came before them."""
        with self._changed:
            mine = {
                decision_id: self._queue[decision_id][0] for decision_id in ids if decision_id in self._queue
            }
            if not any(record.audited for record in mine.values()):
                return list(mine.values())
            found: list[DecisionRecord] = []
            for decision_id, (record, _) in self._queue.items():
                found.append(record)
                mine.pop(decision_id, None)
                if not mine:
                    break
            return found

    def snapshot(self) -> list[DecisionRecord]:
        """What is not committed yet, oldest first."""
        with self._changed:
            return [record for record, _ in self._queue.values()]

    def committed(self, ids: Iterable[str]) -> None:
        """Forget decisions that are in the database."""
        with self._changed:
            for decision_id in ids:
                self._queue.pop(decision_id, None)
            self.commits += 1

    def close(self, timeout_s: float) -> int:
        """Write everything, trying for at most `timeout_s`; returns how many decisions had to be given up."""
        with self._changed:
            self._closing = True
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._changed:
            lost = len(self._queue)
            self._queue.clear()
            self.dropped += lost
        if lost:
            _log.error("store: %d decisions could not be written before closing", lost)
        return lost

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                if not pause_s:
                    self._changed.wait_for(self._is_due, timeout=self._flush_interval_s)
                if self._closing and (not self._queue or time.monotonic() > self._deadline):
                    return
            try:
                self._drain()
                pause_s = 0.0
            except StoreUnavailableError as error:
                if not pause_s:
                    _log.warning("store: decisions wait, %d so far: %s", self.pending, error)
                pause_s = min(max(2 * pause_s, _RETRY_S[0]), _RETRY_S[1])
                if self._hurry.wait(pause_s):  # closing: it no longer waits by itself
                    time.sleep(_RETRY_S[0])

    def _is_due(self) -> bool:
        return self._closing or len(self._queue) >= self._flush_rows

    def _drain(self) -> None:
        """Write what waits now, in batches; what comes meanwhile is the next call's."""
        left = self.pending
        while left > 0:
            with self._changed:
                batch = [record for record, _ in itertools.islice(self._queue.values(), self._flush_rows)]
            if not batch:
                return
            self._write_or_halve(batch)
            left -= len(batch)

    def _write_or_halve(self, batch: Sequence[DecisionRecord]) -> None:
        try:
            self._write(batch)
        except StoreUnavailableError:
            raise
        except Exception as error:
            # One row that no database takes must not hold up all others for ever: this thread has to go on.
            if len(batch) > 1:
                self._write_or_halve(batch[: len(batch) // 2])
                self._write_or_halve(batch[len(batch) // 2 :])
                return
            self.dropped += 1
            # Not the error's text: it can quote the row.
            _log.error("store: decision %s can't be stored: %s", batch[0].id, type(error).__name__)
        self.committed([record.id for record in batch])
