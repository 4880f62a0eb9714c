"""How a tracked tier's requests are routed until the next look at its audits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from proteus_router.control import TrackedMix, corrected
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import MOST_ACCURATE
from proteus_router.types import BoolArray, FloatArray, Predictions

__all__ = ["Steering"]


@dataclass(frozen=True, slots=True)
class Steering:
    """The mix that serves, and what predictions are corrected by.

    Attributes
    ----------
    offsets, cost_factors
        (n_models,) added to predicted scores; present price over the artifact's.
    available
        (n_models,) False for a model out of the pool or in quarantine.
    """

    mix: TrackedMix
    offsets: FloatArray
    cost_factors: FloatArray
    available: BoolArray

    def seen(self, predictions: Predictions) -> Predictions:
        """`predictions` as this tier's requests are judged by."""
        now = replace(predictions, costs_usd=predictions.costs_usd * self.cost_factors)
        return replace(corrected(now, self.offsets), known_shares=predictions.known_shares)

    def best(self, router: Router, seen: Predictions) -> int:
        """What the most accurate operating point takes."""
        return self._choose(router, seen, MOST_ACCURATE)

    def pair(self, router: Router, seen: Predictions) -> tuple[int, int, float]:
        """Two models for the first query, and the probability of the first one."""
        mix = self.mix
        upper = self._choose(router, seen, mix.upper)
        if mix.retreat > 0.0:  # begins at the top, where `upper` serves alone
            return mix.best_model, upper, mix.retreat
        lower = upper if mix.lower == mix.upper else self._choose(router, seen, mix.lower)
        return upper, lower, mix.weight_upper

    def _choose(self, router: Router, seen: Predictions, point: int) -> int:
        scores = np.where(self.available, seen.scores, -np.inf)
        choice = int(router.choose(Predictions(scores, seen.costs_usd, seen.embedding), point)[0])
        return choice if self.available[choice] else int(scores[0].argmax())
