"""What each key has spent in its period, over all gateways, known here within seconds, and the pace of a budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from proteus_router.serving.records import BudgetPeriod

__all__ = ["Left", "Spending", "left_of", "period_end", "period_start"]

_HEAD_START = 0.01
"""Share of a budget that may be spent at once, so that a period's first requests are not starved."""


def period_start(period: BudgetPeriod, now: float) -> float:
    """Unix seconds at which the hour, day or month of `now` began, UTC."""
    if period == "hour":
        return now // 3_600 * 3_600
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day if period == "day" else day.replace(day=1)).timestamp()


def period_end(period: BudgetPeriod, now: float) -> float:
    """Unix seconds at which the next hour, day or month begins, UTC."""
    if period == "hour":
        return period_start(period, now) + 3_600
    start = datetime.fromtimestamp(period_start(period, now), UTC)
    if period == "day":
        return (start + timedelta(days=1)).timestamp()
    return (start + timedelta(days=32)).replace(day=1).timestamp()


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be spent now.

    Attributes
    ----------
    paced_usd
        By the pace: the share of the budget that belongs to the time gone by, less what was spent and is in flight.
    whole_usd
        In the period.
    """

    paced_usd: float
    whole_usd: float


def left_of(budget_usd: float, period: BudgetPeriod, used_usd: float, now: float) -> Left:
    """What a budget leaves `now`.

    The pace is the straight line from nothing at the period's start to the budget at its end, and it learns nothing: what
    quiet hours leave, busy ones may spend, and a request that is ahead of the line takes a cheaper model or waits
    for none. So the budget can't run out early by more than a request in flight.
    """
    start, end = period_start(period, now), period_end(period, now)
    gone = min(1.0, (now - start) / (end - start) + _HEAD_START)
    return Left(budget_usd * gone - used_usd, budget_usd - used_usd)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store said of one key since `start`, and what had been settled here by then."""

    usd: float
    settled_usd: float


_UNKNOWN = _Known(0.0, 0.0)
_STARTS = 8  # three kinds of period, around a boundary, with room


class Spending:
    """Spend per key since a moment: the store's last word plus what was settled here after it.

    A period is "everything since its start", with no end. So a clock that goes back makes the period longer and
    the sum larger: it never frees a budget that was used up. And nothing is remembered that outlives the wrong
    time: when the clock is right again, so is the sum.
    """

    def __init__(self) -> None:
        self._settled: dict[str, float] = defaultdict(float)  # per key, USD since the process began
        self._known: dict[float, dict[str, _Known]] = {}  # start -> key -> what the store said

    def mark(self) -> dict[str, float]:
        """Call before asking the store; hand the result to :meth:`learn`."""
        return dict(self._settled)

    def learn(self, start: float, usd_by_key: Mapping[str, float], mark: Mapping[str, float]) -> None:
        """Take the store's answer for `start`; it holds all that was settled before `mark`."""
        self._known.pop(start, None)
        self._known[start] = {
            key: _Known(usd_by_key.get(key, 0.0), mark.get(key, 0.0))
            for key in usd_by_key.keys() | mark.keys()
        }
        while len(self._known) > _STARTS:  # the one learned longest ago
            del self._known[next(iter(self._known))]

    def settle(self, key_id: str, usd: float) -> None:
        self._settled[key_id] += usd

    def usd(self, key_id: str, start: float) -> float:
        """USD since `start`, as far as it is known here.

        Where the store was not asked about `start` yet: if a period has just begun, what was settled here since
        then; if the clock went back, what is known of later starts, for since an earlier one it is no less.
        """
        if all(known < start for known in self._known):
            self.learn(start, {}, self.mark())
        settled = self._settled.get(key_id, 0.0)
        sums = []
        for known_start, by_key in self._known.items():
            if known_start >= start:
                known = by_key.get(key_id, _UNKNOWN)
                sums.append(known.usd + settled - known.settled_usd)
        return max(sums)
