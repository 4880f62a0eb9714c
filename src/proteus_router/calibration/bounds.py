"""Lower confidence bounds of a mean, valid for every sample size.

Exact binomial (Clopper and Pearson 1934) where scores are 0 or 1; a betting bound in the manner of
Waudby-Smith and Ramdas (JRSS-B 2024) where they are graded. Both assume independent rows from one
distribution.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from proteus_router.routing.sample_size import needed_n
from proteus_router.types import FloatArray, IntArray

__all__ = ["betting_bounds", "lower_bound_betting", "lower_bound_binomial", "needed_n"]


def lower_bound_binomial(successes: ArrayLike, n: ArrayLike, delta: ArrayLike) -> FloatArray:
    """Exact one-sided lower bound of a success probability; arguments broadcast.

    The smallest p under which `successes` or more out of `n` have probability `delta`: 0 without successes
    (and without rows), ``delta ** (1 / n)`` when every row is one.

    Parameters
    ----------
    successes, n
        Counts, 0 <= successes <= n.
    delta
        Probability with which the bound may lie above the truth, in (0, 1).

    Examples
    --------
    >>> round(float(lower_bound_binomial(8, 10, 0.05)), 4)
    0.4931
    """
    k, rows, level = np.broadcast_arrays(
        np.asarray(successes, dtype=float), np.asarray(n, dtype=float), np.asarray(delta, dtype=float)
    )
    some = k > 0.0
    bound = betaincinv(np.where(some, k, 1.0), np.where(some, rows - k + 1.0, 1.0), level)
    return np.where(some, bound, 0.0)


def lower_bound_betting(scores: FloatArray, delta: float, *, seed: int = 0) -> float:
    """Lower bound of the mean of scores in [0, 1] from one gambler's capital.

    Against "the mean is m" a gambler stakes on scores above m; if the claim is true, the capital exceeds 1
    / delta with probability <= delta. The bound is the smallest m whose gambler never got there. See
    `betting_bounds`.

    Parameters
    ----------
    scores
        (n,) in [0, 1]; n = 0 gives 0.
    delta
        Probability with which the bound may lie above the truth, in (0, 1).
    seed
        Of the order in which the rows are bet on. Any order is valid that does not look at the scores.
    """
    order = np.random.default_rng(seed).permutation(scores.size)
    return float(betting_bounds(scores[order], np.array([delta]))[0])


def betting_bounds(scores: FloatArray, deltas: FloatArray) -> FloatArray:
    """(L,) betting bounds at the levels `deltas` of scores (n,), bet on in the order given.

    The capital against the claim "the mean is m" is the product of ``1 + min(stake, _MOST / m) * (score -
    m)``. Stakes are set block by block from earlier rows alone and are the same for every m, so that the
    capital is a supermartingale under every mean <= m (Ville: it ever reaches 1 / delta with probability <=
    delta) and falls in m (bisection finds the bound).
    """
    if not scores.size:
        return np.zeros(deltas.size)
    goal = np.log(1.0 / deltas)
    rows = -(-scores.size // _BLOCKS)
    rows = -(-rows // _CHUNK) * _CHUNK if rows > _CHUNK else rows  # whole chunks, see `_invert`
    starts = np.append(np.arange(0, scores.size, rows), scores.size)
    return _invert(scores, min(rows, _CHUNK), np.repeat(_stakes(scores, starts, goal), rows, axis=1), goal)


_BLOCKS = 64
_CHUNK = 8
_MOST = 0.9
"""A stake is at most this share of what a score of 0 would lose: no single row ruins the gambler."""
_PRIOR_ROWS = 4.0
"""Weight of the starting guess (mean 1/2, variance 1/4) in the running moments."""
_REFERENCE = 0.7
"""Where the stakes aim, in units of the margin sqrt(2 log(1/delta) variance / n) of a constant stake."""


def _stakes(scores: FloatArray, starts: IntArray, goal: FloatArray) -> FloatArray:
    """(L, B) stake of every block, from the rows before it.

    The best constant stake at known variance is sqrt(2 log(1/delta) / (n variance)); with it the margin is
    2.45 standard errors at delta = 0.05 however lucky the start. Here the stake is set again for every
    block from what is still to be won in the rows that are left (as in the STaR bets of Voracek and Orabona
    2025), which brings 1.9 to 2.1. What is won so far depends on m, and a stake that did too would lose the
    monotony in m: so it is reckoned, to second order, at the reference m where the bound is expected to
    end.
    """
    n = scores.size
    total, squares = (np.concatenate([[0.0], np.cumsum(values)])[starts] for values in (scores, scores**2))
    stakes = np.empty((goal.size, starts.size - 1))
    # Sums over the rows so far, (L,): stake, stake * score, stake**2 * (1, score, score**2).
    sum_l, sum_lx, sum_ll, sum_llx, sum_llxx = np.zeros((5, goal.size))
    for block, (start, stop) in enumerate(pairwise(starts)):
        weight = start + _PRIOR_ROWS
        mean = (total[block] + 0.5 * _PRIOR_ROWS) / weight
        variance = max((squares[block] + 0.5 * _PRIOR_ROWS) / weight - mean**2, 1e-4)
        m = np.clip(mean - _REFERENCE * np.sqrt(2.0 * goal * variance / n), 1e-3, 1.0)
        won = sum_lx - m * sum_l - 0.5 * (sum_llxx - 2.0 * m * sum_llx + m**2 * sum_ll)
        stake = np.sqrt(2.0 * np.maximum(goal - won, 0.0) / ((n - start) * variance))
        stakes[:, block] = stake
        rows, x, xx = stop - start, total[block + 1] - total[block], squares[block + 1] - squares[block]
        sum_l, sum_lx = sum_l + stake * rows, sum_lx + stake * x
        sum_ll, sum_llx, sum_llxx = (
            sum_ll + stake**2 * rows,
            sum_llx + stake**2 * x,
            sum_llxx + stake**2 * xx,
        )
    return stakes


def _invert(scores: FloatArray, chunk: int, stakes: FloatArray, goal: FloatArray) -> FloatArray:
    """(L,) the largest m, to 1e-5 from below, whose capital had reached its goal after some chunk of rows.

    A chunk's factors share one stake and are multiplied before the logarithm, which is the slow part.
    `stakes` is (L, >= n), one a row.
    """
    n_chunks = -(-scores.size // chunk)
    missing = n_chunks * chunk - scores.size  # rows that the last chunk lacks; their factors are divided out
    by_place = np.ascontiguousarray(np.append(scores, np.zeros(missing)).reshape(n_chunks, chunk).T)
    stakes = np.ascontiguousarray(stakes[:, : scores.size : chunk])  # (L, n_chunks)
    low, high = np.zeros(goal.size), np.ones(goal.size)
    for _ in range(17):
        m = 0.5 * (low + high)
        stake = np.minimum(stakes, (_MOST / m)[:, None])
        at_zero = 1.0 - stake * m[:, None]
        product = np.ones_like(stake)
        for place in by_place:
            product *= at_zero + stake * place
        product[:, -1] /= at_zero[:, -1] ** missing
        reached = np.cumsum(np.log(product), axis=1).max(axis=1) >= goal
        low, high = np.where(reached, m, low), np.where(reached, high, m)
    return low
