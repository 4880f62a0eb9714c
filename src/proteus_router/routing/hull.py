"""The lower convex hull of (accuracy, cost), and random mixing between two neighbours on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.errors import InfeasibleTargetError
from proteus_router.types import FloatArray, IntArray

__all__ = ["Mix", "lower_hull", "mix_at_accuracy", "thin_vertices"]


@dataclass(frozen=True, slots=True)
class Mix:
    """Serve a query from vertex `upper` with probability `weight_upper`, else from `lower`.

    Vertices are indices into arrays ordered from most accurate down; ``upper == lower`` is one vertex alone.
    """

    upper: int
    lower: int
    weight_upper: float


def lower_hull(accuracy: FloatArray, cost: FloatArray) -> IntArray:
    """Vertices of the cheapest reachable cost as a function of accuracy.

    Every point on the chord of two vertices is reachable by a coin, so only vertices are worth keeping.

    Parameters
    ----------
    accuracy, cost
        (m,), finite, m >= 1.

    Returns
    -------
    (v,) indices from the most accurate vertex down to the cheapest: accuracy and cost both fall strictly, and
    so does the price of one more unit of accuracy. Of equal points the first is kept.
    """
    if accuracy.shape != cost.shape or accuracy.ndim != 1 or accuracy.size == 0:
        raise ValueError(
            f"accuracy {accuracy.shape} and cost {cost.shape} must be equal, flat and not empty."
        )
    if not (np.isfinite(accuracy).all() and np.isfinite(cost).all()):
        raise ValueError("accuracy and cost must be finite.")
    order = np.lexsort((np.arange(accuracy.size), cost, -accuracy))
    chain: list[int] = []
    for candidate in order:
        if chain and cost[candidate] >= cost[chain[-1]]:
            continue  # dominated: no more accurate and no cheaper
        while len(chain) > 1 and not _bends(chain[-2], chain[-1], candidate, accuracy, cost):
            chain.pop()
        chain.append(int(candidate))
    return np.array(chain, dtype=np.int64)


def thin_vertices(accuracy: FloatArray, min_gap: float) -> IntArray:
    """Drop vertices that stand closer than `min_gap` in accuracy to the one kept above; both ends stay.

    Points closer than the noise of their estimates buy nothing and cost a router memory. A subset of the
    vertices of a convex chain is a convex chain.

    Parameters
    ----------
    accuracy
        (v,), falling.
    """
    kept = [0]
    last = accuracy.size - 1
    for vertex in range(1, last):
        if accuracy[kept[-1]] - accuracy[vertex] >= min_gap and accuracy[vertex] - accuracy[last] >= min_gap:
            kept.append(vertex)
    if last > 0:
        kept.append(last)
    return np.array(kept, dtype=np.int64)


def mix_at_accuracy(accuracy: FloatArray, target: float) -> Mix:
    """The two adjacent vertices and the coin whose expected accuracy is `target`.

    Below the least accurate vertex no floor binds, and that vertex serves alone.

    Parameters
    ----------
    accuracy
        (v,), falling.

    Raises
    ------
    InfeasibleTargetError
        `target` lies above the most accurate vertex.
    """
    if target > accuracy[0]:
        raise InfeasibleTargetError(
            f"accuracy {target:.4f} is above the most accurate operating point, {accuracy[0]:.4f}.",
            best_certified=None,
        )
    if target <= accuracy[-1]:
        last = accuracy.size - 1
        return Mix(last, last, 1.0)
    upper = int(np.flatnonzero(accuracy >= target)[-1])
    if accuracy[upper] == target:
        return Mix(upper, upper, 1.0)
    span = float(accuracy[upper] - accuracy[upper + 1])
    return Mix(upper, upper + 1, float(target - accuracy[upper + 1]) / span)


def _bends(first: int, middle: int, last: int, accuracy: FloatArray, cost: FloatArray) -> bool:
    """Whether `middle` lies strictly below the chord from `first` to `last` (accuracy falls)."""
    run_in, run_out = accuracy[first] - accuracy[middle], accuracy[middle] - accuracy[last]
    fall_in, fall_out = cost[first] - cost[middle], cost[middle] - cost[last]
    return bool(fall_in * run_out > fall_out * run_in)
