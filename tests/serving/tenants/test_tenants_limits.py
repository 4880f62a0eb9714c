"""Limits: rates on a clock that only goes forward, budgets that a moved clock neither frees nor locks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proteus_router.errors import BudgetExhaustedError, RateLimitedError, StoreUnavailableError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import Limits
from proteus_router.serving.tenants.bucket import Bucket
from proteus_router.serving.tenants.budgets import period_end, period_start
from tests.serving.store.helpers import FakeClock, until

DAY_S = 86_400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Spent:
    """A store's sums over dated spends."""

    def __init__(self) -> None:
        self.spends: list[tuple[str, float, float]] = []  # key, when, USD
        self.away = self.broken = False
        self.asked = 0

    async def spent_by_key(self, since: float) -> dict[str, float]:
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("away.")
        if self.broken:
            raise ValueError("not what it should be")
        totals: dict[str, float] = {}
        for key, when, usd in self.spends:
            if when >= since:
                totals[key] = totals.get(key, 0.0) + usd
        return totals


class Desk:
    """Limits as the gateway uses them: what is settled was recorded in the store first."""

    def __init__(self, start: str = "2026-03-10T12:00:00") -> None:
        self.clock = FakeClock(wall_s=at(start))
        self.spent = Spent()
        self.limits = Limits(self.spent, clock=self.clock)
        self.refresh()

    def refresh(self) -> None:
        asyncio.run(self.limits.refresh())

    def spend(self, key: ApiKey, usd: float, tokens: int = 0) -> None:
        self.spent.spends.append((key.id, self.clock.wall(), usd))
        self.limits.settle(key, tokens=tokens, cost_usd=usd)

    def admits(self, key: ApiKey) -> bool:
        try:
            self.limits.admit(key)
        except (BudgetExhaustedError, RateLimitedError):
            return False
        return True


def key(name: str = "a", **changes: Any) -> ApiKey:
    return ApiKey(id=f"key_{name}", name=name, **changes)


DAILY = key("daily", budget_usd=1.0, budget_period="day")
MONTHLY = key("monthly", budget_usd=1.0, budget_period="month")


def test_a_key_without_limits_is_always_admitted() -> None:
    desk = Desk()
    for _ in range(1_000):
        desk.spend(key(), 1e6, tokens=10**9)
        assert desk.admits(key())
    assert desk.limits.remaining_usd(key()) is None


def test_requests_per_minute_with_the_time_to_come_again() -> None:
    desk, limited = Desk(), key(requests_per_minute=6)
    assert [desk.admits(limited) for _ in range(7)] == [True] * 6 + [False]
    with pytest.raises(RateLimitedError, match="6 requests per minute") as caught:
        desk.limits.admit(limited)
    assert caught.value.retry_after_s == pytest.approx(10.0)
    desk.clock.passes(9.99)
    assert not desk.admits(limited)
    desk.clock.passes(0.02)
    assert [desk.admits(limited) for _ in range(2)] == [True, False]
    assert desk.admits(key("another", requests_per_minute=6))


def test_tokens_per_minute_are_charged_afterwards_and_paid_back() -> None:
    desk, limited = Desk(), key(tokens_per_minute=600)
    assert desk.admits(limited)
    desk.spend(limited, 0.0, tokens=1_199)  # overdrawn by 599
    with pytest.raises(RateLimitedError, match="600 tokens per minute") as caught:
        desk.limits.admit(limited)
    assert caught.value.retry_after_s == pytest.approx(60.0)
    desk.clock.passes(caught.value.retry_after_s)
    assert desk.admits(limited)


def test_a_refusal_for_tokens_costs_no_request() -> None:
    desk, limited = Desk(), key(tokens_per_minute=60, requests_per_minute=1)
    desk.spend(limited, 0.0, tokens=61)
    for _ in range(10):
        assert not desk.admits(limited)
    desk.clock.passes(2.0)
    assert desk.admits(limited)


@given(
    per_minute=st.integers(1, 600),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_a_bucket_never_gives_more_than_a_burst_and_its_rate(per_minute: int, pauses: list[float]) -> None:
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        for _ in range(3):
            if bucket.wait_s(1.0, now) == 0.0:
                bucket.take(1.0, now)
                taken += 1
    assert taken <= per_minute + per_minute * now / 60 + 1e-6


def test_a_clock_that_goes_back_neither_fills_nor_locks_a_bucket() -> None:
    bucket = Bucket(60, 1_000.0)
    bucket.take(60, 1_000.0)
    assert bucket.wait_s(1.0, 10.0) == pytest.approx(1.0)
    assert bucket.wait_s(1.0, 11.0) == 0.0  # a second later by the new time


def test_a_budget_stops_at_its_sum_until_the_period_ends() -> None:
    desk = Desk("2026-03-10T18:00:00")
    desk.spend(DAILY, 0.6)
    assert desk.admits(DAILY)
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(0.4)
    desk.spend(DAILY, 0.5)
    with pytest.raises(BudgetExhaustedError, match="1 USD per day") as caught:
        desk.limits.admit(DAILY)
    assert caught.value.retry_after_s == 6 * 3600
    desk.refresh()
    assert not desk.admits(DAILY)
    desk.clock.passes(6 * 3600)
    assert desk.admits(DAILY)  # before the store was asked
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(1.0)
    desk.refresh()
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(1.0)


def test_nothing_is_counted_twice_however_often_the_store_is_asked() -> None:
    desk = Desk()
    for _ in range(5):
        desk.spend(MONTHLY, 0.1)
        desk.refresh()
        desk.spend(MONTHLY, 0.05)
        desk.refresh()
        desk.refresh()
    assert desk.limits.remaining_usd(MONTHLY) == pytest.approx(0.25)


def test_what_is_settled_while_the_store_answers_counts_at_once() -> None:
    desk = Desk()
    gate = asyncio.Event()

    class Slow:
        async def spent_by_key(self, since: float) -> dict[str, float]:
            answer = await desk.spent.spent_by_key(since)
            await gate.wait()
            return answer

    limits = Limits(Slow(), clock=desk.clock)

    async def main() -> None:
        asking = asyncio.create_task(limits.refresh())
        await asyncio.sleep(0)
        limits.settle(MONTHLY, tokens=0, cost_usd=0.7)  # after the store has added up
        gate.set()
        await asking
        assert limits.remaining_usd(MONTHLY) == pytest.approx(0.3)

    asyncio.run(main())


def test_spend_of_before_the_start_and_of_other_gateways_counts() -> None:
    desk = Desk()
    desk.spent.spends.append((MONTHLY.id, at("2026-03-01T00:00:00"), 0.3))
    desk.spent.spends.append((MONTHLY.id, at("2026-02-28T23:00:00"), 9.0))  # last month's
    desk.refresh()
    assert desk.limits.remaining_usd(MONTHLY) == pytest.approx(0.7)
    desk.spent.spends.append((MONTHLY.id, at("2026-03-10T12:00:00"), 0.8))  # another gateway
    desk.refresh()
    assert not desk.admits(MONTHLY)


def test_requests_in_flight_cannot_pass_the_budget_together() -> None:
    desk = Desk()
    held = 0
    for _ in range(64):
        try:
            desk.limits.reserve(DAILY, 0.3)
        except BudgetExhaustedError:
            continue
        held += 1
    assert held == 3
    for _ in range(held):
        desk.spent.spends.append((DAILY.id, desk.clock.wall(), 0.1))
        desk.limits.settle(DAILY, tokens=0, cost_usd=0.1, reserved_usd=0.3)
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(0.7)
    desk.refresh()
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(0.7)


@pytest.mark.parametrize("limited", [DAILY, MONTHLY], ids=lambda key: key.name)
@pytest.mark.parametrize("back_s", [60, 3_600, 2 * DAY_S, 40 * DAY_S])
@pytest.mark.parametrize("refreshed", [False, True])
def test_a_clock_moved_back_frees_no_budget(limited: ApiKey, back_s: float, refreshed: bool) -> None:
    desk = Desk("2026-03-10T00:30:00")
    desk.spend(limited, 1.5)
    desk.refresh()
    assert not desk.admits(limited)
    desk.clock.wall_s -= back_s
    if refreshed:
        desk.refresh()
    assert not desk.admits(limited)
    desk.clock.wall_s += back_s
    assert not desk.admits(limited)


@pytest.mark.parametrize("leap_s", [-40 * DAY_S, -2 * DAY_S, -60, 60, 2 * DAY_S, 40 * DAY_S])
def test_a_clock_set_wrong_and_right_again_leaves_the_sums_right(leap_s: float) -> None:
    desk = Desk("2026-03-10T12:00:00")
    used_up, fresh = DAILY, key("fresh", budget_usd=1.0, budget_period="day")
    desk.spend(used_up, 1.5)
    desk.spend(fresh, 0.2)
    desk.refresh()
    for _ in range(10):  # and again and again
        desk.clock.wall_s += leap_s
        desk.limits.remaining_usd(fresh)
        desk.refresh()
        desk.clock.wall_s -= leap_s
        assert not desk.admits(used_up)  # at once
        desk.refresh()
        assert not desk.admits(used_up)
        assert desk.admits(fresh)  # not locked
        assert desk.limits.remaining_usd(fresh) == pytest.approx(0.8)


def test_a_clock_that_runs_through_many_days_and_back_forgets_nothing() -> None:
    desk = Desk()
    desk.spend(DAILY, 1.5)
    for _ in range(20):
        desk.clock.wall_s += DAY_S
        desk.refresh()
    desk.clock.wall_s -= 20 * DAY_S
    desk.refresh()
    assert not desk.admits(DAILY)
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(-0.5)


def test_a_store_away_over_midnight_leaves_a_new_budget_that_is_counted_here() -> None:
    desk = Desk("2026-03-10T23:59:00")
    desk.spend(DAILY, 1.5)
    desk.refresh()
    desk.spent.away = True
    desk.clock.passes(120)
    assert desk.admits(DAILY)
    desk.spend(DAILY, 0.7)
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(0.3)
    desk.spend(DAILY, 0.7)
    assert not desk.admits(DAILY)
    desk.spent.away = False
    desk.refresh()
    assert desk.limits.remaining_usd(DAILY) == pytest.approx(-0.4)


def test_it_keeps_up_with_the_store_and_outlives_an_outage() -> None:
    async def main() -> None:
        clock, spent = FakeClock(), Spent()
        limits = Limits(spent, refresh_s=0.02, clock=clock)
        spent.away = True
        with pytest.raises(StoreUnavailableError):
            await limits.start()
        spent.away = False
        await limits.start()
        asked = spent.asked
        await asyncio.sleep(0.1)
        assert spent.asked == asked  # no key with a budget so far: nothing to ask
        assert limits.remaining_usd(DAILY) == 1.0
        spent.away = True
        await until(lambda: spent.asked > asked + 3)
        spent.spends.append((DAILY.id, clock.wall(), 2.0))
        spent.away = False
        await until(lambda: (limits.remaining_usd(DAILY) or 0) < 0)
        spent.broken = True
        asked = spent.asked
        await until(lambda: spent.asked > asked + 1)  # it goes on asking
        await limits.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("now", "day", "next_day", "month", "next_month"),
    [
        ("2026-12-31T23:59:59", "2026-12-31", "2027-01-01", "2026-12-01", "2027-01-01"),
        ("2028-02-29T00:00:00", "2028-02-29", "2028-03-01", "2028-02-01", "2028-03-01"),
        ("2026-03-29T02:30:00", "2026-03-29", "2026-03-30", "2026-03-01", "2026-04-01"),  # summer time begins
    ],
)
def test_periods_are_days_and_months_of_utc(
    now: str, day: str, next_day: str, month: str, next_month: str, in_zone: Callable[[str], None]
) -> None:
    in_zone("America/New_York")
    assert period_start("day", at(now)) == at(day)
    assert period_end("day", at(now)) == at(next_day)
    assert period_start("month", at(now)) == at(month)
    assert period_end("month", at(now)) == at(next_month)


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()
