"""Two gateways on one database share one budget."""

from __future__ import annotations

import asyncio
import time

import pytest

from proteus_router.errors import BudgetExhaustedError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.store import Store
from proteus_router.serving.tenants import Limits
from tests.serving.store.helpers import MakeDecision, opened, until

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
            assert time.monotonic() - begun < here.window_s + 0.4 + 1.0
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
