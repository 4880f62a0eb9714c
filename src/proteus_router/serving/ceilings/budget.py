"""What each tier may spend, paced over its period and shared by all gateways on one store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proteus_router.errors import BudgetExhaustedError
from proteus_router.serving.clock import Clock
from proteus_router.serving.records import BudgetPeriod
from proteus_router.serving.tenants.budgets import Left, Spending, left_of, period_end, period_start
from proteus_router.serving.upkeep import Upkeep

__all__ = ["BudgetPort", "TierBudgets"]

_REFRESH_S = 1.0


class BudgetPort(Protocol):
    """A tier's budget as configured."""

    @property
    def usd(self) -> float: ...
    @property
    def period(self) -> BudgetPeriod: ...


class SpendSource(Protocol):
    """The store."""

    async def spent_by_tier(self, since: float) -> dict[str, float]: ...


class TierBudgets:
    """Spend of the tiers that have a budget.

    Parameters
    ----------
    budgets
        The budgets by tier, as configured now.
    """

    def __init__(
        self, source: SpendSource, clock: Clock, budgets: Callable[[], Mapping[str, BudgetPort]]
    ) -> None:
        self._source, self._clock, self._budgets = source, clock, budgets
        self._spending = Spending()
        self._reserved: dict[str, float] = defaultdict(float)
        self._upkeep = Upkeep(
            self.refresh, _REFRESH_S, lambda: "tier budgets: other gateways' spend is not known"
        )

    async def start(self) -> None:
        """Read what was spent before, then keep up with other gateways; raises StoreUnavailableError."""
        await self.refresh()
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.close()

    async def refresh(self) -> None:
        """Ask the store now; nothing is asked where no tier has a budget."""
        now = self._clock.wall()
        for start in {period_start(budget.period, now) for budget in self._budgets().values()}:
            mark = self._spending.mark()
            self._spending.learn(start, await self._source.spent_by_tier(start), mark)

    def left(self, tier: str | None) -> Left | None:
        """What `tier` may spend; None where it has no budget."""
        budget = self._budgets().get(tier) if tier is not None else None
        if budget is None or tier is None:
            return None
        now = self._clock.wall()
        used = self._spending.usd(tier, period_start(budget.period, now)) + self._reserved.get(tier, 0.0)
        return left_of(budget.usd, budget.period, used, now)

    def reserve(self, tier: str, usd: float) -> None:
        """Hold `usd` for a request in flight."""
        self._reserved[tier] += usd

    def settle(self, tier: str, *, cost_usd: float, reserved_usd: float) -> None:
        """Count a finished request. In the same step of the event loop as ``Store.record``, as `Limits.settle`."""
        self._spending.settle(tier, cost_usd)
        if reserved_usd:
            self._reserved[tier] -= reserved_usd
            if self._reserved[tier] <= 1e-12:  # floats added and taken off again
                del self._reserved[tier]

    def exhausted(self, tier: str) -> BudgetExhaustedError:
        """What to answer when nothing fits any more."""
        budget, now = self._budgets()[tier], self._clock.wall()
        wait_s = period_end(budget.period, now) - now
        return BudgetExhaustedError(
            f"the budget of tier {tier!r}, {budget.usd:g} USD per {budget.period}, is used up.",
            retry_after_s=wait_s,
            hint=f"The next {budget.period} begins in {wait_s:.0f} s.",
        )

    def view(self, tier: str) -> dict[str, Any] | None:
        """For `GET /v1/tiers`; None where the tier has no budget."""
        left = self.left(tier)
        if left is None:
            return None
        budget, now = self._budgets()[tier], self._clock.wall()
        return {
            "usd": budget.usd,
            "period": budget.period,
            "spent_usd": budget.usd - left.whole_usd,
            "paced_left_usd": left.paced_usd,
            "ends_at": period_end(budget.period, now),
        }
