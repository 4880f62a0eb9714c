"""Off-policy estimates: what another router would have scored on traffic that this one served.

Of every decision the answer of one model a is known, drawn with probability q(a | x) > 0. A target policy takes model b
with probability pi(b | x). All three estimators are unbiased for its mean score, or nearly so, where q gives every model a
chance that pi gives one; `overlap` says on how much of pi that holds. Intervals are normal.

Source: Horvitz and Thompson 1952 (IPS); Swaminathan and Joachims 2015 (SNIPS); Dudik, Langford and Li 2011 (doubly robust).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from proteus_router.types import FloatArray

__all__ = [
    "Estimate",
    "doubly_robust",
    "effective_size",
    "ips",
    "overlap",
    "robust_terms",
    "robust_variance",
    "snips",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error and a normal interval."""

    value: float
    error: float
    low: float
    high: float
    n: int

    @classmethod
    def of_terms(cls, terms: FloatArray, confidence: float, *, variance: float | None = None) -> Estimate:
        """The mean of independent `terms` (n,); `variance` of one of them, None: as they show it."""
        n = len(terms)
        if n < 2:
            return cls(
                float(terms.mean()) if n else float("nan"), float("inf"), float("-inf"), float("inf"), n
            )
        of_one = float(terms.var(ddof=1)) if variance is None else variance
        return cls.around(float(terms.mean()), float(np.sqrt(of_one / n)), n, confidence)

    @classmethod
    def around(cls, value: float, error: float, n: int, confidence: float) -> Estimate:
        reach = float(norm.ppf(0.5 + confidence / 2.0)) * error
        return cls(value, error, value - reach, value + reach, n)


def ips(reward: FloatArray, weight: FloatArray, *, confidence: float = 0.95) -> Estimate:
    """Inverse propensity: mean of w r, with w = pi(a | x) / q(a | x).

    Parameters
    ----------
    reward, weight
        (n,) score of the answer; its weight.
    """
    return Estimate.of_terms(weight * reward, confidence)


def snips(reward: FloatArray, weight: FloatArray, *, confidence: float = 0.95) -> Estimate:
    """Self-normalised: sum w r / sum w; its error by the delta method, sqrt(sum w^2 (r - v)^2) / sum w."""
    total = float(weight.sum())
    n = len(reward)
    if n < 2 or total <= 0.0:
        return Estimate(float("nan"), float("inf"), float("-inf"), float("inf"), n)
    value = float((weight * reward).sum()) / total
    error = float(np.sqrt((weight**2 * (reward - value) ** 2).sum())) / total
    return Estimate.around(value, error, n, confidence)


def robust_terms(
    reward: FloatArray, weight: FloatArray, predicted: FloatArray, chances: FloatArray
) -> FloatArray:
    """(..., n) what `doubly_robust` is the mean of; arguments as there, leading axes broadcast."""
    found: FloatArray = chances + weight * (reward - predicted)
    return found


def doubly_robust(
    reward: FloatArray,
    weight: FloatArray,
    predicted: FloatArray,
    chances: FloatArray,
    *,
    stands_for: FloatArray | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of  sum_b pi(b | x) p_b(x) + w (r - p_a(x)): right if either the predictions or the propensities are.

    Parameters
    ----------
    predicted
        (n,) the prediction for the model that answered, p_a(x).
    chances
        (n,) sum over models of pi(b | x) p_b(x).
    stands_for
        (n,) weights with mean 1 of rows that were not drawn alike; None: they were.
    """
    terms = robust_terms(reward, weight, predicted, chances)
    return Estimate.of_terms(terms if stands_for is None else stands_for * terms, confidence)


def robust_variance(
    terms: FloatArray,
    weight: FloatArray,
    residual: FloatArray,
    squares: FloatArray,
    chances: FloatArray,
) -> float:
    """Variance of a doubly robust term: what the terms show, and no less than what the propensities foretell.

    A weight of a hundred comes once in a hundred draws of its kind. Most samples lack some of those, and with them their
    part of the variance, so that an interval from the sample alone is too short just where it is too high. How large
    the squares of the weights must be on average needs no luck to know.

    Parameters
    ----------
    terms
        (n,) as `robust_terms` gives them.
    residual
        (n,) r - p_a(x).
    squares
        (n,) mean square of the weight, given the query: sum over models with q > 0 of pi(b | x)^2 / q(b | x).
    chances
        (n,) as in `doubly_robust`.
    """
    shown, total = float(terms.var(ddof=1)), float(weight.sum())
    if total <= 0.0:
        return shown
    noise = float((weight * residual**2).sum()) / total
    return max(shown, float(squares.mean()) * noise + float(chances.var(ddof=1)))


def overlap(pi: FloatArray, q: FloatArray) -> float:
    """Share of the target policy that the logged one could have shown: mean of pi's mass where q > 0; (n, k) each."""
    return float(np.where(q > 0.0, pi, 0.0).sum(axis=1).mean())


def effective_size(weight: FloatArray) -> float:
    """Rows that would say as much with equal weights (Kish): (sum w)^2 / sum w^2."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0.0 else 0.0
