"""Has this model's score left its expected level? A sum of bets that each began at another moment.

A bettor who begins at audit j stakes on scores below (or above) the reference that was named before each score was
seen. Where the reference is right, each bettor's capital has mean 1 for ever, so the sum over j = 1..t of their
capitals minus t has mean 0: the time at which the sum first reaches A is on average at least A audits (optional
stopping; the Shiryaev-Roberts form of an e-detector, Shin, Ramdas and Rinaldo, 2024). After a real fall the bettor
who began there grows exponentially.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ChangeDetector", "Direction", "Segment"]

Direction = Literal["fall", "both"]

_STAKES = (0.1, 0.2, 0.4)
"""In units of 1 / variance: the stake that grows fastest on a shift of as many points, by a little over."""
_MOST = 0.9
"""Of what a single score could ruin."""
_NOISE = 0.03
"""Variance that a score has beyond that of a coin with the reference as its chance: keeps stakes finite."""
_EDGE = 0.02
_ON_FALLS = 0.8
"""Share of the bets that are on falls where both are watched: a fall breaks a promise, a rise only costs money."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The audits since the likeliest moment of a change.

    Attributes
    ----------
    since
        Number of the first of them.
    audits
        How many.
    surplus
        Sum of score - predicted score over them.
    """

    since: int
    audits: int
    surplus: float


class ChangeDetector:
    """Watches scores against references that are given one by one.

    Parameters
    ----------
    false_alarm_every
        A: where the references are the scores' true means, the mean number of audits until a false alarm is
        at least this.
    direction
        ``fall`` watches for scores below their references only; ``both`` puts a fifth of its bets on rises.
    """

    def __init__(self, *, false_alarm_every: float = 20_000.0, direction: Direction = "both") -> None:
        if not false_alarm_every > 1.0:
            raise ValueError(f"false_alarm_every must be above 1 audit, not {false_alarm_every}.")
        self.false_alarm_every = false_alarm_every
        self.direction: Direction = direction
        self.restart()

    def restart(self) -> None:
        """Forget every bet."""
        bettors = len(_STAKES) * (2 if self.direction == "both" else 1)
        self._capital = [0.0] * bettors  # sum over starting moments
        self._log_best = [0.0] * bettors  # log capital of the best starting moment
        self._since = [0] * bettors
        self._audits = [0] * bettors
        self._surplus = [0.0] * bettors

    @property
    def level(self) -> float:
        """The sum of capitals, as a share of the alarm's."""
        falls, rises = (sum(half) / len(_STAKES) for half in self._halves())
        if self.direction == "both":
            falls = _ON_FALLS * falls + (1.0 - _ON_FALLS) * rises
        return falls / self.false_alarm_every

    def add(self, score: float, reference: float, *, number: int, predicted: float) -> Segment | None:
        """One audit.

        Parameters
        ----------
        score
            In [0, 1].
        reference
            What the score is expected to be; must not depend on it.
        number
            Of the audit, rising; an alarm names the one where the change began.
        predicted
            The prediction that the segment's surplus is taken over.

        Returns
        -------
        The audits since the change where the alarm is raised, else None. The caller decides about `restart`.
        """
        # Kept off the ends where a stake would be boundless: each side towards fewer alarms.
        below, above = min(reference, 1.0 - _EDGE), max(reference, _EDGE)
        mean = min(max(reference, 0.0), 1.0)
        spread = mean * (1.0 - mean) + _NOISE
        for index in range(len(self._capital)):
            stake = _STAKES[index % len(_STAKES)] / spread
            if index < len(_STAKES):
                factor = 1.0 + min(stake, _MOST / (1.0 - below)) * (below - score)
            else:
                factor = 1.0 + min(stake, _MOST / above) * (score - above)
            self._capital[index] = (self._capital[index] + 1.0) * factor
            grown = self._log_best[index] + math.log(factor)
            if grown <= 0.0:  # whoever begins at the next audit holds more
                self._log_best[index], self._audits[index], self._surplus[index] = 0.0, 0, 0.0
                continue
            if self._audits[index] == 0:
                self._since[index] = number
            self._log_best[index] = grown
            self._audits[index] += 1
            self._surplus[index] += score - predicted
        if self.level < 1.0:
            return None
        best = max(range(len(self._capital)), key=self._log_best.__getitem__)
        if self._audits[best] == 0:  # a sum of many small capitals, without a moment that stands out
            return None
        return Segment(self._since[best], self._audits[best], self._surplus[best])

    def _halves(self) -> tuple[list[float], list[float]]:
        """Capital of the bets on falls, and of those on rises."""
        return self._capital[: len(_STAKES)], self._capital[len(_STAKES) :]

    def to_state(self) -> dict[str, Any]:
        return {
            "false_alarm_every": self.false_alarm_every,
            "direction": self.direction,
            "capital": list(self._capital),
            "log_best": list(self._log_best),
            "since": list(self._since),
            "audits": list(self._audits),
            "surplus": list(self._surplus),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ChangeDetector:
        found = cls(false_alarm_every=state["false_alarm_every"], direction=state["direction"])
        if len(state["capital"]) != len(found._capital):
            raise ValueError("the state was written with another set of stakes.")
        found._capital, found._log_best = list(state["capital"]), list(state["log_best"])
        found._since, found._audits = list(state["since"]), list(state["audits"])
        found._surplus = list(state["surplus"])
        return found
