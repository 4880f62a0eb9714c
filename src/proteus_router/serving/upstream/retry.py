"""When a call that failed before its first byte is made again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

__all__ = ["RetryBudget", "RetryPolicy", "retry_after_s"]

_LONGEST_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after what wait one model is called again for one request.

    Attributes
    ----------
    attempts
        Calls altogether, the first included.
    first_wait_s, longest_wait_s
        Backoff doubles from the first to the second; half of it is random.
    longest_retry_after_s
        A ``Retry-After`` above this is not waited for: the request goes to another model, or fails.
    budget_share, budget_reserve
        Retries allowed: this share of the calls, and a reserve for a process that has made few.
    """

    attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 2.0
    longest_retry_after_s: float = 5.0
    budget_share: float = 0.2
    budget_reserve: float = 10.0

    def backoff_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt`."""
        full = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        return full * (0.5 + 0.5 * rng.random())


@dataclass(slots=True)
class RetryBudget:
    """Keeps retries a small share of the calls, so that an upstream in trouble is not called three times as often."""

    policy: RetryPolicy
    _balance: float = field(init=False)

    def __post_init__(self) -> None:
        self._balance = self.policy.budget_reserve

    def deposit(self) -> None:
        self._balance = min(self.policy.budget_reserve, self._balance + self.policy.budget_share)

    def take(self) -> bool:
        """Whether one more retry is allowed; it is then counted."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True


def retry_after_s(headers: Mapping[str, str], *, wall_clock_s: float) -> float | None:
    """Seconds the upstream asks to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            seconds = _until(text, wall_clock_s)
        if seconds == seconds:  # not NaN
            return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
    return None


def _until(date: str, wall_clock_s: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - wall_clock_s
    except ValueError:
        return float("nan")
