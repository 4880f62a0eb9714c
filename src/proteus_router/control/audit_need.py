"""How many audits it takes: to prove something about a floor, and to steer by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["AuditNeed", "audit_need", "audits_to_decide", "supported_width"]

_SEQUENCE_WIDTH = 3.5
"""Half width of the confidence sequence in standard errors, 50 to 100,000 audits (docs/closed-loop.md)."""


def audits_to_decide(gap: float, accuracy: float) -> int | None:
    """Audits after which a mean score `gap` away from the floor is told from it; None for no gap.

    Parameters
    ----------
    gap
        Mean score minus floor, either sign.
    accuracy
        The mean score; the variance is taken as that of 0/1 scores, the largest there is.
    """
    if gap == 0.0:
        return None
    return math.ceil(_SEQUENCE_WIDTH**2 * max(accuracy * (1.0 - accuracy), 1e-3) / gap**2)


def supported_width(audits: int, *, deviation: float = 0.4, confidence: float = 0.95) -> float:
    """How close to its floor a tier can be held when `audits` audits must correct a change.

    A correction that is to be made within n audits needs a gain of about 3 / n, and then wanders by
    sqrt(gain / 2) * deviation however long it goes on; no gain does better on both.
    """
    return NormalDist().inv_cdf(confidence) * deviation * math.sqrt(1.5 / audits)


@dataclass(frozen=True, slots=True)
class AuditNeed:
    """Whether an audit rate supports a floor of some width.

    Attributes
    ----------
    rate
        The rate in use.
    needed_rate
        The least that would do; above 1: the tier has too few requests within the horizon at any rate.
    supported_width
        What the rate in use can hold, as a fraction.
    sufficient
        Whether `rate` >= `needed_rate`.
    reason
        A sentence for the tier's owner.
    """

    rate: float
    needed_rate: float
    supported_width: float
    sufficient: bool
    reason: str


def audit_need(
    rate: float, *, width: float, horizon: int, deviation: float = 0.4, confidence: float = 0.95
) -> AuditNeed:
    """Whether auditing at `rate` can hold a tier within `width` of its floor.

    Parameters
    ----------
    rate
        Audits per request, in (0, 1].
    width
        Shortfall that is put up with, as a fraction: 0.02 is two points.
    horizon
        Requests of the tier within which a change must have been made good.
    deviation
        Standard deviation of a score; 0.4 for 0/1 scores around 0.8.
    confidence
        With which the expected score is above floor - width at a moment long after a change.
    """
    if not (0.0 < rate <= 1.0 and 0.0 < width < 1.0 and horizon > 0):
        raise ValueError(f"rate {rate} and width {width} must be fractions, horizon {horizon} positive.")
    needed = 1.5 * (NormalDist().inv_cdf(confidence) * deviation / width) ** 2
    needed_rate = needed / horizon
    held = supported_width(max(1, int(rate * horizon)), deviation=deviation, confidence=confidence)
    sufficient = rate >= needed_rate
    if sufficient:
        reason = f"An audit rate of {rate:g} holds this floor within {100 * held:.1f} points."
    elif needed_rate <= 1.0:
        reason = (
            f"An audit rate of {rate:g} can't hold this floor within {100 * width:.1f} points over {horizon} requests, "
            f"only within {100 * held:.1f}; {needed_rate:.2g} would."
        )
    else:
        reason = (
            f"No audit rate holds this floor within {100 * width:.1f} points over {horizon} requests: about "
            f"{math.ceil(needed)} audits would be needed. Allow a longer time or a wider margin."
        )
    return AuditNeed(rate, needed_rate, held, sufficient, reason)
