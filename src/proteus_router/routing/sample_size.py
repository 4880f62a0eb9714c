"""How many evidence rows a margin costs; stdlib only, because the router answers it at inference."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["needed_n"]


def needed_n(target: float, accuracy: float, delta: float, *, variance: float | None = None) -> int | None:
    """Rows with which a point of mean score `accuracy` is about as likely as not to certify `target`.

    For 0/1 scores the exact binomial bound of ``accuracy * n`` successes reaches `target` where the signed
    root of the deviance, ``sqrt(2 n KL(accuracy', target))`` with the continuity correction ``accuracy' =
    accuracy - 1 / (2 n)``, equals the normal quantile of 1 - delta. For graded scores: the normal sample size,
    plus what a gambler needs at the largest stake the betting bound allows, which rules where the variance is
    small.

    Parameters
    ----------
    target, accuracy
        Fractions; `accuracy` is the estimate of the point.
    delta
        1 - confidence, in (0, 1).
    variance
        Variance of graded scores; None for 0/1 scores.

    Returns
    -------
    int or None
        None when `accuracy` <= `target`: no number of rows certifies what is not expected to be true.

    Examples
    --------
    >>> needed_n(0.80, 0.83, 0.05)
    496
    """
    if not accuracy > target:
        return None
    if accuracy >= 1.0:  # all successes: the bound is delta ** (1 / n)
        return max(1, math.ceil(math.log(delta) / math.log(target)))
    quantile = max(NormalDist().inv_cdf(1.0 - delta), 0.0)
    n = max(1.0, quantile**2 / (2.0 * _kl(accuracy, target)))
    for _ in range(50):  # the correction shrinks as n grows; the iteration climbs to the fixed point
        corrected = accuracy - 0.5 / n
        if corrected <= target:
            n *= 1.5
            continue
        n = 0.5 * (n + max(1.0, quantile**2 / (2.0 * _kl(corrected, target))))
    if variance is not None:
        gap = accuracy - target
        n = _BETTING_PRICE * quantile**2 * variance / gap**2 + math.log(1.0 / delta) * target / (0.9 * gap)
    return math.ceil(n)


_BETTING_PRICE = 1.15
"""Fitted: with it the estimate is within 15% of the simulated median (tests/unit/test_bounds.py)."""


def _kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), nats."""
    rest = (1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 else 0.0
    return rest + (p * math.log(p / q) if p > 0.0 else 0.0)
