"""How much a key may still do: requests and tokens a minute, USD an hour, day or month."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from proteus_router.errors import BudgetExhaustedError, RateLimitedError
from proteus_router.serving.clock import Clock, SystemClock
from proteus_router.serving.records import ApiKey, BudgetPeriod
from proteus_router.serving.tenants.bucket import Bucket
from proteus_router.serving.tenants.budgets import Left, Spending, left_of, period_end, period_start
from proteus_router.serving.upkeep import Upkeep

__all__ = ["Limits", "SpendSource"]

_PERIODS: tuple[BudgetPeriod, ...] = ("hour", "day", "month")


class SpendSource(Protocol):
    async def spent_by_key(self, since: float) -> dict[str, float]: ...


class Limits:
    """Admits requests, in memory: a request waits for no database.

    Rates count in this process alone; with several gateways each allows the whole rate. Budgets are shared: the
    store adds up what every gateway recorded, and is asked again twice in `refresh_s`; what was settled here
    since then is added.

    Parameters
    ----------
    source
        The store.
    refresh_s
        Longest time until another gateway's spend counts here, beyond its own delay in writing (Store.window_s).
    clock
        Wall time for the periods, monotonic time for the rates.

    Examples
    --------
    ::

        limits.admit(key)                                    # 429 before anything is done
        limits.reserve(key, predicted_cost_usd)              # once the model is chosen
        ...
        limits.settle(key, tokens=160, cost_usd=0.001, reserved_usd=predicted_cost_usd)   # always, at the end
    """

    def __init__(
        self,
        source: SpendSource,
        *,
        refresh_s: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._clock = clock or SystemClock()
        self._spending = Spending()
        self._in_use: set[BudgetPeriod] = (
            set()
        )  # without a budget of its kind a period's sum is not asked for
        self._reserved: dict[str, float] = defaultdict(float)
        self._requests: dict[str, Bucket] = {}
        self._tokens: dict[str, Bucket] = {}
        self._upkeep = Upkeep(
            self._ask_in_use, refresh_s / 2, lambda: "budgets: other gateways' spend is not known"
        )

    async def start(self) -> None:
        """Read what was spent before, then keep up with the store; raises StoreUnavailableError."""
        await self.refresh()
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.close()

    async def refresh(self) -> None:
        """Ask the store now."""
        await self._ask(_PERIODS)

    async def _ask_in_use(self) -> None:
        await self._ask(sorted(self._in_use))

    async def _ask(self, periods: Iterable[BudgetPeriod]) -> None:
        now = self._clock.wall()
        for period in periods:
            start, mark = period_start(period, now), self._spending.mark()
            self._spending.learn(start, await self._source.spent_by_key(start), mark)

    def admit(self, key: ApiKey) -> None:
        """Let one request of `key` in, or say when to come again.

        Raises
        ------
        BudgetExhaustedError
            Nothing is left in the period; ``.retry_after_s`` is its end.
        RateLimitedError
            Too many requests, or tokens, in the last minute.
        """
        left = self.remaining_usd(key)
        if left is not None and left <= 0:
            raise self._exhausted(key)
        now = self._clock.monotonic()
        requests = self._bucket(self._requests, key.id, key.requests_per_minute, now)
        tokens = self._bucket(self._tokens, key.id, key.tokens_per_minute, now)
        self._wait(requests, key.requests_per_minute, "requests", now)
        self._wait(tokens, key.tokens_per_minute, "tokens", now)
        if requests is not None:
            requests.take(1.0, now)

    def left(self, key: ApiKey) -> Left | None:
        """What `key` may still spend, requests in flight taken off; None without a budget."""
        if key.budget_usd is None or key.budget_period is None:
            return None
        now = self._clock.wall()
        return left_of(key.budget_usd, key.budget_period, self._used_usd(key.id, key.budget_period, now), now)

    def remaining_usd(self, key: ApiKey) -> float | None:
        """The same, of the whole period."""
        if key.budget_usd is None or key.budget_period is None:
            return None
        return key.budget_usd - self._used_usd(key.id, key.budget_period, self._clock.wall())

    def _used_usd(self, key_id: str, period: BudgetPeriod, now: float) -> float:
        """Spent in the period of `now` or in flight."""
        self._in_use.add(period)
        return self._spending.usd(key_id, period_start(period, now)) + self._reserved.get(key_id, 0.0)

    def reserve(self, key: ApiKey, usd: float) -> None:
        """Hold `usd` for a request in flight, so that many at once can't pass the budget together.

        Raises
        ------
        BudgetExhaustedError
            It would not fit; nothing is held.
        """
        left = self.remaining_usd(key)
        if left is not None and usd > left:
            raise self._exhausted(key)
        self._reserved[key.id] += usd

    def settle(self, key: ApiKey, *, tokens: int, cost_usd: float, reserved_usd: float = 0.0) -> None:
        """Count a finished request, failed ones too. `reserved_usd`: what was held for it.

        Called in the same step of the event loop as ``Store.record``: a look at the store falls before both or
        after both, and nothing is counted twice.
        """
        self._spending.settle(key.id, cost_usd)
        self._reserved[key.id] -= reserved_usd
        if self._reserved[key.id] <= 1e-12:  # floats added and taken off again
            del self._reserved[key.id]
        now = self._clock.monotonic()
        bucket = self._bucket(self._tokens, key.id, key.tokens_per_minute, now)
        if bucket is not None:
            bucket.take(tokens, now)

    def _bucket(
        self, buckets: dict[str, Bucket], key_id: str, per_minute: int | None, now: float
    ) -> Bucket | None:
        if per_minute is None:
            return None
        bucket = buckets.get(key_id)
        if bucket is None:
            bucket = buckets[key_id] = Bucket(per_minute, now)
        return bucket

    def _wait(self, bucket: Bucket | None, per_minute: int | None, what: str, now: float) -> None:
        wait_s = 0.0 if bucket is None else bucket.wait_s(1.0, now)
        if wait_s > 0:
            raise RateLimitedError(
                f"this key may use {per_minute} {what} per minute.",
                retry_after_s=wait_s,
                hint=f"Try again in {wait_s:.1f} s.",
            )

    def _exhausted(self, key: ApiKey) -> BudgetExhaustedError:
        period, now = key.budget_period or "day", self._clock.wall()
        return BudgetExhaustedError(
            f"this key's budget of {key.budget_usd:g} USD per {period} is used up.",
            retry_after_s=period_end(period, now) - now,
            hint=f"The next {period} begins {'on the hour' if period == 'hour' else 'at midnight UTC'}.",
        )
