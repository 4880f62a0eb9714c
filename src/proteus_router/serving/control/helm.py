"""Keeps the frontier as recent queries show it, and turns internal targets into mixes of operating points."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proteus_router.control import Frontier, reinvert
from proteus_router.serving.control.fold import Fold
from proteus_router.serving.control.pool import PoolView, cost_factors
from proteus_router.serving.control.steering import Steering
from proteus_router.types import BoolArray, FloatArray, Predictions

__all__ = ["RECENT", "Helm"]

RECENT = 400
"""Queries that the frontier is inverted on."""
_LEAST, _EVERY = 100, 100  # queries before the first inversion, and between two


@dataclass(frozen=True)
class _Inverted:
    """A frontier, and what it was made for."""

    frontier: Frontier
    requests: int
    offsets: tuple[float, ...]
    quarantined: frozenset[str]
    live: PoolView


class Helm:
    """Each process has its own: two may serve one internal target by slightly different mixes."""

    def __init__(self) -> None:
        self._recent: deque[tuple[FloatArray, FloatArray, Any]] = deque(maxlen=RECENT)
        self._requests = 0
        self._inverted: _Inverted | None = None

    @property
    def is_new(self) -> bool:
        """Whether it has seen no query yet."""
        return not self._recent

    def saw(self, predictions: Predictions) -> None:
        """One routed query, as the artifact predicted it; (1, n_models) each."""
        self._requests += 1
        self._recent.append((predictions.scores[0], predictions.costs_usd[0], predictions.embedding))

    def recall(self, live: PoolView, decisions: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """What earlier decisions knew of the models: a frontier to start with after a restart."""
        for candidates in decisions:
            scores, costs = np.zeros(len(live.router.models)), np.ones(len(live.router.models))
            for candidate in candidates:
                entry = live.entries.get(candidate["model"])
                if entry is not None and candidate["predicted_score"] is not None:  # it was a newcomer then
                    scores[entry.index] = candidate["predicted_score"]
                    costs[entry.index] = candidate["predicted_cost_usd"]
            self._recent.append((scores, costs, None))

    async def steer(self, live: PoolView, fold: Fold, quarantined: frozenset[str]) -> dict[str, Steering]:
        """Tracked tier -> how it is served from now on; none until enough queries have been seen."""
        tracked = {name for name, tier in live.tiers.items() if tier.tracking.enabled}
        if not tracked or len(self._recent) < _LEAST:
            return {}
        offset_of = fold.loop.recalibration.offset_of
        # By the name that is called first of those that run a model.
        offsets = np.array([offset_of(entries[0].name) if entries else 0.0 for entries in live.by_index])
        available = np.array([any(e.name not in quarantined for e in entries) for entries in live.by_index])
        frontier = await self._frontier(live, offsets, available, quarantined)
        factors = cost_factors(live)
        steering = {}
        for name in tracked:
            loop = fold.loop.tiers.get(name)
            if loop is not None and loop.control is not None:
                mix = frontier.mix(loop.control.internal_target)
                steering[name] = Steering(mix, offsets, factors, available)
        return steering

    async def _frontier(
        self, live: PoolView, offsets: FloatArray, available: BoolArray, quarantined: frozenset[str]
    ) -> Frontier:
        """Inverted anew every 100 requests, and when corrections, quarantine or the configuration have changed."""
        known, key = self._inverted, tuple(offsets.tolist())
        if (
            known is not None
            and (known.offsets, known.quarantined) == (key, quarantined)
            and known.live is live
            and self._requests - known.requests < _EVERY
        ):
            return known.frontier
        requests, recent = self._requests, self._predictions(live)
        # In a thread: it takes some milliseconds of numpy.
        frontier = await asyncio.to_thread(reinvert, live.router.policy, recent, offsets, available=available)
        self._inverted = _Inverted(frontier, requests, key, quarantined, live)
        return frontier

    def _predictions(self, live: PoolView) -> Predictions:
        """Of the recent queries, at present prices."""
        recent = list(self._recent)
        embedding = None
        if recent[-1][2] is not None:  # a policy that reads the query itself; recalled ones have no embedding
            recent = [found for found in recent if found[2] is not None]
            embedding = np.concatenate([found[2] for found in recent])
        scores, costs = np.array([found[0] for found in recent]), np.array([found[1] for found in recent])
        return Predictions(scores, costs * cost_factors(live), embedding)
