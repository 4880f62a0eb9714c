"""Old decisions go with their feedback; a clock that leaps takes nothing with it; spend outlives the decisions."""

from __future__ import annotations

import asyncio
import time

import pytest

from proteus_router.serving.records import Feedback
from proteus_router.serving.store.retention import Retention
from tests.serving.store.helpers import FakeClock, MakeDecision, count, opened, rows, until

DAY_S = 86_400.0


def test_what_is_too_old_goes_with_its_feedback_and_the_rest_stays(
    url: str, make_decision: MakeDecision
) -> None:
    now = time.time()
    old = [make_decision(created_at=now - 8 * DAY_S, cost_usd=0.001) for _ in range(2_300)]
    young = [make_decision(created_at=now - 6 * DAY_S, cost_usd=0.001) for _ in range(10)]
    said = [
        Feedback(decision_id=record.id, source="human", score=1.0, created_at=now)
        for record in [*old[:200], *young]
    ]

    async def main() -> None:
        async with opened(url) as store:
            for record in old + young:
                store.record(record)
            await store.add_feedback(said)
        async with opened(url, retention_days=7) as store:
            await until(lambda: count(url) == 10)
            assert await store.spent_usd("key_a", now - 20 * DAY_S) == pytest.approx(2.31)

    asyncio.run(main())
    assert {row.decision_id for row in rows(url, "SELECT decision_id FROM feedback")} == {r.id for r in young}


def test_without_a_setting_nothing_is_deleted(sqlite_url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(sqlite_url, flush_interval_s=0.02) as store:
            store.record(make_decision(created_at=0.0))
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert count(sqlite_url) == 1


class Rows:
    def __init__(self, *ages: float) -> None:
        self.created_at = list(ages)

    async def delete_older(self, before: float) -> int:
        old = [moment for moment in self.created_at if moment < before][:2]
        for moment in old:
            self.created_at.remove(moment)
        return len(old)


@pytest.mark.parametrize("leap_s", [365 * DAY_S, -365 * DAY_S])
def test_a_leap_of_the_clock_deletes_nothing(leap_s: float) -> None:
    clock = FakeClock()
    kept = Rows(*(clock.wall_s - age * DAY_S for age in (1, 2, 3, 6)))
    retention = Retention(kept.delete_older, keep_s=7 * DAY_S, clock=clock)

    async def main() -> None:
        clock.passes(600)
        assert await retention.delete_once() == 0
        clock.wall_s += leap_s
        assert await retention.delete_once() == 0
        clock.wall_s -= leap_s  # somebody noticed
        assert await retention.delete_once() == 0
        assert len(kept.created_at) == 4
        clock.passes(2 * DAY_S)
        assert await retention.delete_once() == 1

    asyncio.run(main())


def test_a_round_goes_on_until_nothing_old_is_left() -> None:
    clock = FakeClock()
    kept = Rows(*(clock.wall_s - 8 * DAY_S - n for n in range(9)), clock.wall_s)
    retention = Retention(kept.delete_older, keep_s=7 * DAY_S, clock=clock)
    assert asyncio.run(retention.delete_once()) == 9
    assert kept.created_at == [clock.wall_s]
