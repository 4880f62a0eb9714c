"""Integral control of the internal target: the dual variable of the floor, learned from audited outcomes.

After each audit  u <- clip(u + gain * weight * (setpoint - score), -limit, limit),  setpoint = floor + slack, and the
tier is served at internal target setpoint + u. Adding up the steps gives an identity that needs no assumption:

    weighted mean of the audited scores = setpoint - (u - u_start + forgiven) / (gain * sum of weights)

where `forgiven` is what the clip cut off. If the mean score is at least the setpoint whenever u >= limit - room (the
strongest point can reach it), then E[forgiven] <= room / 2 + gain**2 n v / (2 room), v the mean square of
(setpoint - score): see `long_run_shortfall`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Gains", "IntegralControl", "TrackingStatus", "dried_up", "long_run_shortfall"]


@dataclass(frozen=True, slots=True)
class Gains:
    """How strongly audits move the internal target.

    Attributes
    ----------
    gain
        Step per audit and unit of score. The correction then wanders by about sqrt(gain * a (1 - a) / 2), and
        half of an error is gone after about 0.7 / gain audits.
    slack
        Aimed for above the floor: pays for the wandering, so that the running mean and not its middle keeps it.
    limit
        Largest correction, either way.
    """

    gain: float = 0.001
    slack: float = 0.005
    limit: float = 0.1

    def __post_init__(self) -> None:
        if not (0.0 < self.gain < 1.0 and 0.0 <= self.slack < 1.0 and 0.0 < self.limit < 1.0):
            raise ValueError(f"gain and limit must lie in (0, 1) and slack in [0, 1): {self}.")

    @classmethod
    def at_rate(cls, rate: float) -> Gains:
        """The defaults at an audit rate: more slack where audits are few, and the correction wanders further."""
        return cls(slack=0.005 if rate > 0.2 else 0.01)


class IntegralControl:
    """The correction of one tier's internal target.

    Audits must be added in one order, the store's, by every process: the clip makes the order matter.

    Parameters
    ----------
    accuracy_target
        The floor.
    start
        The internal target to begin with, e.g. that of the offline certificate.
    usual_rate
        The tier's audit rate; an audit drawn at rate r counts usual_rate / r.
    """

    def __init__(
        self, accuracy_target: float, *, start: float, usual_rate: float = 1.0, gains: Gains | None = None
    ) -> None:
        self.accuracy_target = accuracy_target
        self.usual_rate = usual_rate
        self.gains = gains or Gains()
        self.correction = self._clipped(start - self.setpoint)
        self._start = self.correction
        self.audits = 0
        self.weight = 0.0
        self.forgiven = 0.0

    @property
    def setpoint(self) -> float:
        return self.accuracy_target + self.gains.slack

    @property
    def internal_target(self) -> float:
        return self.setpoint + self.correction

    @property
    def mean_score(self) -> float | None:
        """Weighted mean of the audited scores, from the identity; None before the first."""
        if not self.weight:
            return None
        moved = self.correction - self._start + self.forgiven
        return self.setpoint - moved / (self.gains.gain * self.weight)

    def add(self, score: float, *, rate: float = 1.0) -> None:
        """One audited request, in order."""
        weight = self.usual_rate / rate
        wanted = self.correction + self.gains.gain * weight * (self.setpoint - score)
        self.correction = self._clipped(wanted)
        self.forgiven += wanted - self.correction
        self.audits += 1
        self.weight += weight

    def status(self, *, requests_since_audit: int) -> TrackingStatus:
        """What the tier's owner should know."""
        target = f"internal target {self.internal_target:.4f} for floor {self.accuracy_target:g}"
        if dried_up(requests_since_audit, self.usual_rate):
            reason = (
                f"No audit has closed for {requests_since_audit} requests at a rate of {self.usual_rate:g}: the "
                f"{target} stays as it is and follows nothing."
            )
            return TrackingStatus("frozen", self.internal_target, self.correction, self.audits, reason)
        if self.correction >= self.gains.limit:
            reason = f"The correction is at its limit, {self.gains.limit:g}: the strongest point may not reach the floor."
            return TrackingStatus("at_limit", self.internal_target, self.correction, self.audits, reason)
        reason = f"Tracking: {target} after {self.audits} audits."
        return TrackingStatus("tracking", self.internal_target, self.correction, self.audits, reason)

    def to_state(self) -> dict[str, Any]:
        return {
            "accuracy_target": self.accuracy_target,
            "usual_rate": self.usual_rate,
            "gains": asdict(self.gains),
            "start": self._start,
            "correction": self.correction,
            "audits": self.audits,
            "weight": self.weight,
            "forgiven": self.forgiven,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> IntegralControl:
        gains = Gains(**state["gains"])
        target = float(state["accuracy_target"])
        found = cls(target, start=target, usual_rate=state["usual_rate"], gains=gains)
        found._start, found.correction = float(state["start"]), float(state["correction"])
        found.audits, found.weight = int(state["audits"]), float(state["weight"])
        found.forgiven = float(state["forgiven"])
        return found

    def _clipped(self, value: float) -> float:
        return min(max(value, -self.gains.limit), self.gains.limit)


@dataclass(frozen=True, slots=True)
class TrackingStatus:
    """``tracking``, ``frozen`` (audits dried up) or ``at_limit``, with the numbers and a sentence."""

    state: str
    internal_target: float
    correction: float
    audits: int
    reason: str


def dried_up(requests_since_audit: int, rate: float, *, chance: float = 1e-4, at_least: int = 200) -> bool:
    """Whether so many requests without a closed audit are no accident at this rate.

    `at_least` requests are always waited for: audits take their time to close.
    """
    if requests_since_audit < at_least:
        return False
    return rate >= 1.0 or requests_since_audit * math.log1p(-rate) < math.log(chance)


def long_run_shortfall(
    audits: int, gains: Gains, *, room: float | None = None, square: float = 0.25
) -> float:
    """How far below the floor the expected mean score of `audits` audited requests can be, at most.

    Holds when the mean score is at least floor + slack whenever the correction is within `room` of its upper limit.
    Squared distance from (limit - room), above it, as a potential: a step adds at most (gain * error)**2 in mean,
    and each unit cut off by the clip takes 2 * room away.

    Parameters
    ----------
    room
        Default: half of the limit.
    square
        Bound of the mean square of (setpoint - score); 1/4 and the squared bias at most for 0/1 scores.

    Returns
    -------
    (2 limit + room / 2) / (gain * audits) + gain * square / (2 room) - slack; what remains for many audits is
    negative, that is above the floor, when the slack exceeds gain * square / (2 room).
    """
    span = gains.limit / 2.0 if room is None else room
    vanishing = (2.0 * gains.limit + span / 2.0) / (gains.gain * audits)
    return vanishing + gains.gain * square / (2.0 * span) - gains.slack
