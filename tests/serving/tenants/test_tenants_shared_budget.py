"""Two gateways on one database share one budget."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from proteus_router.errors import BudgetExhaustedError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.store import Store
from proteus_router.serving.store.database import Database
from proteus_router.serving.tenants import Limits
from tests.serving.store.helpers import FakeClock, MakeDecision, opened, until

KEY = ApiKey(id="key_a", name="a", budget_usd=1.0, budget_period="month")


def test_what_one_gateway_spends_stops_the_other_within_seconds(
    url: str, make_decision: MakeDecision
) -> None:
    def spend(store: Store, limits: Limits, usd: float) -> None:
        store.record(make_decision(cost_usd=usd))
        limits.settle(KEY, tokens=10, cost_usd=usd)

    async def main() -> None:
        async with opened(url, flush_interval_s=0.1) as here, opened(url, flush_interval_s=0.1) as there:
            limits_here, limits_there = Limits(here, refresh_s=0.4), Limits(there, refresh_s=0.4)
            await limits_here.start()
            await limits_there.start()
            spend(here, limits_here, 0.6)
            assert limits_here.remaining_usd(KEY) == pytest.approx(0.4)  # at once
            begun = time.monotonic()
            await until(lambda: (limits_there.remaining_usd(KEY) or 0) < 0.9)
            assert time.monotonic() - begun < here.window_s + 0.4 + 2.0
            assert limits_there.remaining_usd(KEY) == pytest.approx(0.4)
            spend(there, limits_there, 0.5)
            with pytest.raises(BudgetExhaustedError):
                limits_there.admit(KEY)
            await until(lambda: (limits_here.remaining_usd(KEY) or 0) < 0)
            with pytest.raises(BudgetExhaustedError):
                limits_here.admit(KEY)
            await limits_here.close()
            await limits_there.close()
            started_later = Limits(here)
            await started_later.refresh()
            with pytest.raises(BudgetExhaustedError):
                started_later.admit(KEY)

    asyncio.run(main())


def test_the_sum_never_misses_what_was_recorded_while_batches_are_written(
    url: str, make_decision: MakeDecision
) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=0.01, flush_rows=20) as store:
            recorded = 0
            for _ in range(40):
                for _ in range(25):
                    store.record(make_decision(cost_usd=1.0))
                recorded += 25
                assert await store.spent_usd("key_a", 0) >= recorded
            await until(lambda: store.pending == 0)
            assert await store.spent_by_key(0) == {"key_a": recorded}

    asyncio.run(main())


def test_a_batch_that_is_committed_between_the_two_looks_counts_once(
    sqlite_url: str, make_decision: MakeDecision
) -> None:
    class SlowToRead(Database):
        reads = 0

        def read(self, work: Callable[[sa.Connection], Any]) -> Any:
            self.reads += 1
            if self.reads == 1:  # the queue was looked at; now the writer is faster
                release.set()
                deadline = time.monotonic() + 5
                while store.pending and time.monotonic() < deadline:
                    time.sleep(0.01)
            return super().read(work)

        def write(self, work: Callable[[sa.Connection], Any], *, patient: bool = False) -> Any:
            if self.started:
                release.wait(5)
            return super().write(work, patient=patient)

        started = False

    release = threading.Event()
    database = SlowToRead(sqlite_url, timeout_s=10)
    store = Store(
        database,
        flush_interval_s=0.01,
        flush_rows=500,
        queue_rows=1_000,
        keep_text=False,
        retention_days=None,
        timeout_s=10,
        clock=FakeClock(),
    )

    async def main() -> None:
        await store.start()
        database.started = True
        for _ in range(10):
            store.record(make_decision(cost_usd=1.0))
        assert await store.spent_usd("key_a", 0) == 10.0
        assert database.reads == 2
        await store.close()

    asyncio.run(main())
