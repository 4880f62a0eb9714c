"""The accuracies that every router of a cell is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.evaluation.yardsticks import accuracy_levels
from proteus_router.types import FloatArray

__all__ = ["N_LEVELS", "N_RESPONSE", "Grids", "grids_of"]

N_LEVELS, N_RESPONSE, _N_STREAM = 12, 16, 61
_LOW, _HIGH = 1e-4, 1.0 - 1e-4  # a target is a fraction strictly between 0 and 1


@dataclass(frozen=True)
class Grids:
    """Requested accuracies.

    Attributes
    ----------
    levels
        (12,) where cost is compared (`yardsticks.accuracy_levels` of the test rows): a range that every router is asked
        for, chosen by nobody. One level where the models hardly differ.
    response
        (16,) where promise and outcome are compared: from the lowest level, or the mean score of the cheapest model where
        that is higher, below which no floor binds, to half a point under the best model; all by the training rows.
    stream
        (61,) the same range, finer, for targets that change with time.
    """

    levels: FloatArray
    response: FloatArray
    stream: FloatArray

    @property
    def all_targets(self) -> FloatArray:
        """Every target of the three, once, rising."""
        return np.unique(np.concatenate([self.levels, self.response, self.stream]))


def grids_of(
    train_scores: FloatArray, train_costs: FloatArray, test_scores: FloatArray, *, n_levels: int = N_LEVELS
) -> Grids:
    """The grids of a cell; `(n, k)` arrays with NaN where missing."""
    means, costs = np.nanmean(train_scores, axis=0), np.nanmean(train_costs, axis=0)
    cheapest = np.lexsort((-means, costs))[0]
    own, levels = accuracy_levels(train_scores), accuracy_levels(test_scores)
    low, high = max(float(means[cheapest]), float(own[0])), float(own[-1])
    return Grids(
        levels=_between(float(levels[0]), float(levels[-1]), n_levels),
        response=_between(low, high, N_RESPONSE),
        stream=_between(low, high, _N_STREAM),
    )


def _between(low: float, high: float, count: int) -> FloatArray:
    """`count` even values; one where the range is empty."""
    values = np.linspace(low, high, count) if low < high else np.array([high])
    return np.unique(np.clip(values, _LOW, _HIGH))
