"""Making rows with missing outcomes an unbiased sample again, by thinning.

Where each model's outcomes are missing at random at its own rate, rows whose chosen model is often observed
are over-represented among the rows that can be scored: counting complete cases weighs the models by how
often they were tried, not by how often the router chooses them. Keeping an observed row with probability
rate / r_chosen gives every row the same chance, `rate`, so that the exact bounds apply to what is kept.

One seldom observed model that takes a few rows would drag the common rate, and n, down to its own. Where
that costs more than it is worth, rows of models observed less often than `rate` are kept with that chance
unseen and count as score 0: the bound stays valid, and loses at most their share.
"""

from __future__ import annotations

import numpy as np

from proteus_router.types import BoolArray, FloatArray, IntArray

__all__ = ["common_rate", "thin"]


def common_rate(rates: FloatArray, shares: FloatArray, n: int) -> float:
    """The chance with which rows are kept that should give the highest bound, judged without any score.

    Parameters
    ----------
    rates
        (k,) observation rate of each model.
    shares
        (k,) share of the rows that each model takes at the operating point.
    n
        Rows before thinning.

    Returns
    -------
    float
        A rate of one of the models that take rows, or 0 where none of them was ever observed.
    """
    candidates = np.unique(rates[(shares > 0.0) & (rates > 0.0)])
    if not candidates.size:
        return 0.0
    counted_zero = np.array([shares[rates < rate].sum() for rate in candidates])
    margin = 1.645 * 0.4 / np.sqrt(n * candidates)  # of a 95% bound near a mean score of 0.8
    return float(candidates[(counted_zero + margin).argmin()])


def thin(
    scores: FloatArray, chosen: IntArray, rates: FloatArray, rate: float, coins: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Outcome of each row, and the rows that count.

    Parameters
    ----------
    scores
        (n, k), NaN where missing.
    chosen
        (n,) the model that the operating point takes on each row.
    rates
        (k,) observation rates.
    rate
        The chance with which every row is to be kept, see `common_rate`.
    coins
        (n,) uniform draws, independent of everything else.

    Returns
    -------
    outcome, keep
        (n,) each. If outcomes are missing at random, the kept outcomes are a sample whose mean is that of the
        operating point with the models observed less often than `rate` set to score 0.
    """
    chosen_rate = rates[chosen]
    seldom = chosen_rate < rate
    outcome = np.where(seldom, 0.0, scores[np.arange(chosen.size), chosen])
    share = rate / np.where(seldom | (chosen_rate == 0.0), 1.0, chosen_rate)
    return outcome, ~np.isnan(outcome) & (coins < share)
