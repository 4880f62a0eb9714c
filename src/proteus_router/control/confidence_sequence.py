"""An interval for the mean expected score of the requests served so far, right at every look at once.

Let the requests of a tier be t = 1, 2, ..., N, with scores y_t in [0, 1] and conditional means mu_t given all that
came before. Request t is audited with a known probability q_t, by a coin that knows nothing of its score. For a
fixed centre c (the tier's floor) and a fixed stake s, with q the lowest rate ever used,

    prod over audited t of  1 + s (q / q_t) (y_t - c)

has conditional factors of mean 1 + s q (mu_t - c). Dividing by that product gives a martingale that starts at 1, and
since the logarithm is concave,

    prod over t <= N of  1 + s q (mu_t - c)  <=  (1 + s q (m_N - c))^N,    m_N = (mu_1 + ... + mu_N) / N.

So capital / (1 + s q (m_N - c))^N is at most a martingale WHATEVER the path of the means, and a mixture over a few
stakes is too. By Ville's inequality it ever exceeds 1 / delta with probability <= delta; the means m that it
excludes form the interval. Stakes that learn from past scores (Waudby-Smith and Ramdas, JRSS-B 2024) are a little
tighter for a constant mean, but weigh the rows unequally and are wrong for a running mean that drifts: see
docs/closed-loop.md. At m = c the capital is an ordinary bet against the floor, with nothing lost to the drift.

Everything is a sum over audited rows of integers, so rows may be added in any order and by any process, partial sums
may be merged, and the result is the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import add
from typing import Any

import numpy as np

from proteus_router.types import FloatArray

__all__ = ["Bounds", "ConfidenceSequence", "bounds_from_capital", "stakes"]

_STAKES = 2.0 ** -np.arange(-1.0, 7.0)
"""2, 1, 1/2, ..., 1/64, mixed evenly: within 3.7 standard errors from 100 to 100,000 audits (docs/closed-loop.md)."""
_MOST = 0.95
"""A stake is at most this share of the one that a single score could ruin."""
_UNIT = 2**32
"""Log capital is kept in whole units of 1 / _UNIT, rounded down: bets are never overstated, sums are exact."""


def stakes(centre: float) -> tuple[FloatArray, FloatArray]:
    """(S,) stakes on scores above `centre`, > 0, and (S,) on scores below it, < 0."""
    return np.minimum(_STAKES, _MOST / centre), -np.minimum(_STAKES, _MOST / (1.0 - centre))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of the mean expected score of `requests` requests.

    Attributes
    ----------
    lower, upper
        They hold together, and at all looks together, with probability >= `confidence`.
    estimate
        Unbiased: each audited score counts 1 / (its audit rate).
    audits
        Audited requests among them.
    odds_above, odds_below
        What a gambler who started with 1 now holds, betting on a mean above (below) the centre. If the mean is
        never above (below) it, the capital ever exceeds k with probability <= 1 / k.
    """

    lower: float
    upper: float
    estimate: float
    requests: int
    audits: int
    confidence: float
    odds_above: float
    odds_below: float


class ConfidenceSequence:
    """Folds audited scores into an anytime-valid interval; see the module for what is estimated and why it holds.

    Parameters
    ----------
    centre
        Where the bets are placed, in (0, 1): the floor. Fixed in advance, not read off the scores.
    rate_floor
        The lowest audit rate that will be used, in (0, 1]. A much lower one than is used in fact costs width.
    confidence
        1 - delta, half of delta to either side.

    Examples
    --------
    >>> sequence = ConfidenceSequence(0.80)
    >>> for score in [1.0] * 90 + [0.0] * 10:
    ...     sequence.add(score)
    >>> bounds = sequence.bounds(requests=100)
    >>> round(bounds.lower, 2), round(bounds.estimate, 2), round(bounds.upper, 2)
    (0.76, 0.9, 0.97)
    """

    def __init__(self, centre: float, *, rate_floor: float = 1.0, confidence: float = 0.95) -> None:
        if not 0.0 < centre < 1.0:
            raise ValueError(f"centre must lie in (0, 1), not {centre}.")
        if not 0.0 < rate_floor <= 1.0:
            raise ValueError(f"rate_floor must lie in (0, 1], not {rate_floor}.")
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must lie in (0, 1), not {confidence}.")
        self.centre = centre
        self.rate_floor = rate_floor
        self.confidence = confidence
        self.audits = 0
        self._log_capital = [0] * (2 * _STAKES.size)  # stakes above, then below; in units of 1 / _UNIT
        self._surplus = 0  # sum of (q / q_t) (y_t - c), in the same units

    def add(self, score: float, *, rate: float = 1.0) -> None:
        """One audited request: its score, and the probability with which it was drawn for audit."""
        if not 0.0 <= score <= 1.0:  # NaN too
            raise ValueError(f"a score must lie in [0, 1], not {score}.")
        if not self.rate_floor <= rate <= 1.0:
            raise ValueError(f"the audit rate must lie in [{self.rate_floor}, 1], not {rate}.")
        surplus, gains = _bet(self.centre, self.rate_floor / rate, score)
        self.audits += 1
        self._surplus += surplus
        self._log_capital = list(map(add, self._log_capital, gains))

    def merge(self, other: ConfidenceSequence) -> None:
        """Add the rows that `other` has seen; none of them may be among this one's."""
        mine, theirs = self.to_state(), other.to_state()
        if any(mine[key] != theirs[key] for key in ("centre", "rate_floor", "confidence")):
            raise ValueError("sequences with another centre, rate floor or confidence don't add up.")
        self.audits += other.audits
        self._surplus += other._surplus
        self._log_capital = list(map(add, self._log_capital, other._log_capital))

    def bounds(self, requests: int, *, open_audits: int = 0) -> Bounds:
        """The interval after `requests` requests, audited or not.

        Parameters
        ----------
        open_audits
            Audits drawn among them that have no score (yet, or ever). With any, the requests count by the share of
            audits that closed, as if the open ones had not been drawn: right where closing has nothing to do with
            the score, and otherwise no promise at all.
        """
        drawn_audits = self.audits + open_audits
        if requests < drawn_audits:
            raise ValueError(f"{drawn_audits} audits can't come from {requests} requests.")
        settled = requests * self.audits / drawn_audits if drawn_audits else 0.0
        capital = np.array(self._log_capital) / _UNIT
        count = _STAKES.size
        lower, upper = bounds_from_capital(
            capital[:count],
            capital[count:],
            settled,
            centre=self.centre,
            rate_floor=self.rate_floor,
            confidence=self.confidence,
        )
        counted = self.rate_floor * settled
        estimate = self.centre + (self._surplus / _UNIT / counted if counted else 0.0)
        return Bounds(
            lower=float(lower),
            upper=float(upper),
            estimate=min(max(estimate, 0.0), 1.0),
            requests=requests,
            audits=self.audits,
            confidence=self.confidence,
            odds_above=_odds(capital[:count]),
            odds_below=_odds(capital[count:]),
        )

    def to_state(self) -> dict[str, Any]:
        """Everything that counts, as JSON can hold it."""
        return {
            "centre": self.centre,
            "rate_floor": self.rate_floor,
            "confidence": self.confidence,
            "audits": self.audits,
            "surplus": self._surplus,
            "log_capital": list(self._log_capital),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ConfidenceSequence:
        found = cls(state["centre"], rate_floor=state["rate_floor"], confidence=state["confidence"])
        if len(state["log_capital"]) != len(found._log_capital):
            raise ValueError("the state was written with another set of stakes.")
        found.audits, found._surplus = int(state["audits"]), int(state["surplus"])
        found._log_capital = [int(value) for value in state["log_capital"]]
        return found


@lru_cache(maxsize=4096)  # scores are few different numbers, rates fewer
def _bet(centre: float, weight: float, score: float) -> tuple[int, tuple[int, ...]]:
    """What one audit adds to the surplus and to the log capital of every stake, in units of 1 / _UNIT."""
    surplus = weight * (score - centre)
    sizes = np.concatenate(stakes(centre)).tolist()
    return round(surplus * _UNIT), tuple(math.floor(math.log1p(size * surplus) * _UNIT) for size in sizes)


def bounds_from_capital(
    log_above: FloatArray,
    log_below: FloatArray,
    requests: float | FloatArray,
    *,
    centre: float,
    rate_floor: float,
    confidence: float,
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds from the log capital of every stake.

    Parameters
    ----------
    log_above, log_below
        (..., S) log capital of the stakes above and below.
    requests
        (...) number of requests, audited or not.

    Returns
    -------
    lower, upper
        (...) to within 1e-9, on the safe side.
    """
    above, below = stakes(centre)
    goal = math.log(2.0 / (1.0 - confidence))
    rows = np.asarray(requests, dtype=np.float64)
    # The upper side is the lower side of the mirrored scores 1 - y; both at once, in front.
    found = _lowest(
        np.stack([log_above, log_below]),
        np.stack([above, -below]).reshape(2, *(1,) * (log_above.ndim - 1), above.size),
        rows[..., None],
        np.array([centre, 1.0 - centre]).reshape(2, *(1,) * log_above.ndim),
        rate_floor,
        goal,
    )
    return found[0], 1.0 - found[1]


def _lowest(
    log_capital: FloatArray,
    stake: FloatArray,
    rows: FloatArray,
    centre: FloatArray,
    rate_floor: float,
    goal: float,
) -> FloatArray:
    """(2, ...) the smallest mean m that the bettors on a mean above `centre` don't exclude, by bisection."""
    low = np.zeros(np.broadcast_shapes(log_capital.shape[:-1], rows.shape[:-1]))
    high = np.ones_like(low)
    for _ in range(30):
        m = 0.5 * (low + high)
        growth = rows * np.log1p(stake * rate_floor * (m[..., None] - centre))
        excluded = _log_mean_exp(log_capital - growth) >= goal
        low, high = np.where(excluded, m, low), np.where(excluded, high, m)
    return low


def _log_mean_exp(values: FloatArray) -> FloatArray:
    """(...) of (..., S)."""
    top = values.max(axis=-1)
    mean: FloatArray = top + np.log(np.exp(values - top[..., None]).mean(axis=-1))
    return mean


def _odds(log_capital: FloatArray) -> float:
    """Capital of the even mixture, at most 1e300 so that JSON can hold it."""
    return float(np.exp(min(float(_log_mean_exp(log_capital)), 690.0)))
