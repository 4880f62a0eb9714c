"""A second router that decides beside the live one; nothing of it is served, and both are counted."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from proteus_router.errors import ProteusError
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import MOST_ACCURATE

__all__ = ["Shadow", "Tally"]


@dataclass
class Tally:
    """Decisions of one tier, by both routers.

    Attributes
    ----------
    live_cost_usd, shadow_cost_usd, live_score, shadow_score
        Sums, all as the SHADOW's heads predict them for the model that each router chose: one yardstick for both.
    refused
        Decisions that the shadow could not make.
    """

    decisions: int = 0
    same_model: int = 0
    live_cost_usd: float = 0.0
    shadow_cost_usd: float = 0.0
    live_score: float = 0.0
    shadow_score: float = 0.0
    refused: int = 0


class Shadow:
    """Counts what `router` would have chosen.

    Parameters
    ----------
    min_known_words
        As in the live router: a stranger text goes to the most accurate point.
    """

    def __init__(self, router: Router, *, min_known_words: float, rng: random.Random) -> None:
        self.router, self._least, self._rng = router, min_known_words, rng
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    def saw(self, tier: str, target: float, text: str, live_model: str) -> None:
        """Decide for a request that was answered, after its answer. `live_model`: the artifact's name of it."""
        tally = self.tallies[tier]
        try:
            column = self.router.models.index(live_model)
            plan = self.router.plan(target, on_infeasible="best_effort")
            predictions = self.router.predict([text])
        except (ProteusError, ValueError):  # a model it does not know, a text that it can't encode
            tally.refused += 1
            return
        known = predictions.known_shares
        if not text or (known is not None and known[0] < self._least):
            point = MOST_ACCURATE
        else:
            point = plan.mix.upper if self._rng.random() < plan.mix.weight_upper else plan.mix.lower
        own = int(self.router.choose(predictions, point)[0])
        tally.decisions += 1
        tally.same_model += own == column
        tally.live_cost_usd += float(predictions.costs_usd[0, column])
        tally.shadow_cost_usd += float(predictions.costs_usd[0, own])
        tally.live_score += float(predictions.scores[0, column])
        tally.shadow_score += float(predictions.scores[0, own])

    def view(self, tier: str) -> dict[str, Any]:
        """For `GET /v1/tiers`: counts, and means in the place of sums."""
        tally = asdict(self.tallies[tier])
        n = max(1, tally["decisions"])
        means = {
            name: tally[name] / n
            for name in ("live_cost_usd", "shadow_cost_usd", "live_score", "shadow_score")
        }
        return {"router": self.router.target_map.policy_fingerprint, **tally, **means}
