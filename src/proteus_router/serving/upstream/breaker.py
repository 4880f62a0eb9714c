"""When to stop calling a model: after failures for a while, after "too many requests" for as long as it says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Breaker", "BreakerPolicy", "BreakerState"]

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Attributes
    ----------
    in_a_row
        It opens when this many attempts failed one after the other,
    of_last
        or when half of this many did.
    cooldown_s, longest_cooldown_s
        Open for the first; twice as long after each probe that failed, up to the second.
    """

    in_a_row: int = 5
    of_last: int = 20
    cooldown_s: float = 5.0
    longest_cooldown_s: float = 120.0


@dataclass(slots=True)
class Breaker:
    """The state of one model. Times are seconds of one monotonic clock.

    Closed: calls pass. Open: none pass until the cooldown is over. Half open: one call passes, the probe, and its
    outcome decides; calls from before it opened say nothing new. A pause (the upstream said when to come back) stops
    calls as an open breaker does, but is no failure.
    """

    policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    _outcomes: deque[bool] = field(init=False)
    _opened_at: float | None = None
    _cooldown_s: float = 0.0
    _probing: bool = False
    _paused_until: float = 0.0

    def __post_init__(self) -> None:
        self._outcomes = deque(maxlen=self.policy.of_last)

    def state(self, now: float) -> BreakerState:
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self._cooldown_s else "half_open"

    def available(self, now: float) -> bool:
        """Whether a call made now would pass."""
        if self._opened_at is None:  # the path of every healthy request
            return now >= self._paused_until
        return now >= self._paused_until and not self._probing and now >= self._opened_at + self._cooldown_s

    def wait_s(self, now: float) -> float:
        """Seconds until a call may pass; 0 where one may pass now or is being tried."""
        opens = 0.0 if self._opened_at is None else self._opened_at + self._cooldown_s
        return max(0.0, opens - now, self._paused_until - now)

    def enter(self, now: float) -> bool:
        """Take leave to call: True, or False where the breaker says no. Ends in `success`, `failure` or `leave`."""
        if not self.available(now):
            return False
        self._probing = self._opened_at is not None
        return True

    def success(self) -> None:
        if self._opened_at is None:
            self._outcomes.append(True)
        elif self._probing:
            self._opened_at, self._probing = None, False
            self._outcomes.clear()

    def failure(self, now: float) -> None:
        if self._opened_at is None:
            self._outcomes.append(False)
            if self._is_failing():
                self._opened_at, self._cooldown_s = now, self.policy.cooldown_s
        elif self._probing:
            self._opened_at, self._probing = now, False
            self._cooldown_s = min(2 * self._cooldown_s, self.policy.longest_cooldown_s)

    def leave(self) -> None:
        """The call ended without telling anything about the model: the caller went away, or was refused."""
        self._probing = False

    def pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def _is_failing(self) -> bool:
        outcomes, few = self._outcomes, self.policy.in_a_row
        if len(outcomes) >= few and not any(outcomes[-i] for i in range(1, few + 1)):
            return True
        return len(outcomes) == self.policy.of_last and 2 * sum(outcomes) <= self.policy.of_last
