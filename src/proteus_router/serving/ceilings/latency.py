"""How long each model takes to its first byte, as live traffic shows it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["FirstBytes"]

_WINDOW_S = 60.0
_MOST, _LEAST = 200, 10
_FRESH_S = 0.25
_PROBE_EVERY_S = 1.0


@dataclass
class _Seen:
    """Answers of one model of one kind."""

    answers: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MOST))
    looked_at: float = -math.inf
    fresh: float | None = None  # the quantile of the last minute
    last: float | None = None  # the last quantile that was known
    sent_at: float = -math.inf


class FirstBytes:
    """95% quantile of the time to the first byte of each model, over the last minute.

    Streamed and whole answers are told apart: the first byte of a whole answer comes when all of it is there.

    A model that is left because it is slow answers nothing, so within a minute nothing fresh is known of it. Then one
    request a second tries it, not all of them: ten answers tell whether it is quick once more.

    Examples
    --------
    >>> seen = FirstBytes()
    >>> for n in range(20):
    ...     seen.saw("m", 0.1 + n / 100, now=n)
    >>> round(seen.p95_s("m", now=20.0), 2)
    0.28
    >>> seen.p95_s("m", now=90.0) is None
    True
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bool], _Seen] = defaultdict(_Seen)

    def saw(self, model: str, seconds: float, now: float, *, streamed: bool = False) -> None:
        """Count one answer; `now`: monotonic seconds."""
        self._seen[model, streamed].answers.append((now, seconds))

    def sent(self, model: str, now: float, *, streamed: bool = False) -> None:
        """A request goes out to a model: the next one that tries it waits for its turn."""
        self._seen[model, streamed].sent_at = now

    def p95_s(self, model: str, now: float, *, streamed: bool = False) -> float | None:
        """The quantile, at most a quarter of a second old; None with fewer than ten answers in the last minute."""
        seen = self._seen.get((model, streamed))
        if seen is None:
            return None
        if not 0.0 <= now - seen.looked_at < _FRESH_S:
            recent = sorted(s for at, s in seen.answers if now - at <= _WINDOW_S)
            seen.looked_at = now
            seen.fresh = recent[math.ceil(0.95 * len(recent)) - 1] if len(recent) >= _LEAST else None
            seen.last = seen.last if seen.fresh is None else seen.fresh
        return seen.fresh

    def quick(self, model: str, bound_s: float, now: float, *, streamed: bool = False) -> bool:
        """Whether `model` may be asked for an answer whose first byte is due within `bound_s`.

        A model of which nothing was ever known may; one that was too slow when last known may once a second.
        """
        known = self.p95_s(model, now, streamed=streamed)
        if known is not None:
            return known <= bound_s
        seen = self._seen.get((model, streamed))
        if seen is None or seen.last is None or seen.last <= bound_s:
            return True
        return now - seen.sent_at >= _PROBE_EVERY_S

    def known(self, now: float) -> Iterator[tuple[str, bool, float]]:
        """Model, whether streamed, quantile: of those that have answered often enough."""
        for model, streamed in list(self._seen):
            seconds = self.p95_s(model, now, streamed=streamed)
            if seconds is not None:
                yield model, streamed, seconds
