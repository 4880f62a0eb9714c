"""The model that one request goes to."""

from __future__ import annotations

from dataclasses import dataclass

from proteus_router.serving.app.live import PoolEntry
from proteus_router.serving.records import Ceiling, PoolModel

__all__ = ["Pick"]


@dataclass(frozen=True, slots=True)
class Pick:
    """A model to call.

    Attributes
    ----------
    upstreams
        Its deployments that may serve, in the order to try them.
    propensity
        Probability with which the router drew it; 0 for a stand-in; None where nothing was drawn.
    reason
        Why this one and not the operating point's choice, or "".
    gave_way
        Floor or ceilings that could not be kept beside the others.
    """

    entry: PoolEntry
    upstreams: tuple[PoolModel, ...]
    predicted_cost_usd: float
    propensity: float | None
    certified: bool
    reason: str
    gave_way: tuple[Ceiling, ...] = ()
