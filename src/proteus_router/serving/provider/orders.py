"""Trouble on order: what the provider shall do to the requests of a model, other than answering at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proteus_router.serving.provider.answers import BadRequestError

__all__ = ["ORDER_HEADER", "Fault", "Order", "Orders", "parse_order"]

ORDER_HEADER = b"x-sim-order"
"""A request header that holds an `Order` as JSON; it wins over those set for the model."""

Fault = Literal[
    "status",
    "hang",
    "reset",
    "drip",
    "malformed_json",
    "malformed_sse",
    "hang_stream",
    "cut_stream",
    "end_stream",
    "reset_stream",
    "error_stream",
]


class Order(BaseModel):
    """What to do to a request; docs/provider.md describes each fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    fault: Fault | None = None
    status: int = Field(default=500, ge=100, le=599, description="Of the fault `status`.")
    retry_after_s: float | None = Field(default=None, ge=0, description="Sent as Retry-After with `status`.")
    after_events: int = Field(default=2, ge=0, description="Events of a stream before its fault.")
    latency_s: float = Field(default=0.0, ge=0, description="Wait before the first byte.")
    gap_s: float = Field(
        default=0.0, ge=0, description="Wait between two events of a stream, or bytes of `drip`."
    )
    share: float = Field(default=1.0, ge=0, le=1, description="Share of the requests it applies to.")
    count: int | None = Field(default=None, ge=1, description="Requests after which it is spent.")
    requests_per_minute: int | None = Field(default=None, ge=1, description="Above it: 429 with Retry-After.")


@lru_cache(maxsize=256)
def parse_order(text: bytes) -> Order:
    """An order from JSON.

    Raises
    ------
    BadRequestError
        Not JSON, an unknown key, or a value out of range.
    """
    try:
        return Order.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(f"order: {where}: {first['msg']}") from error


@dataclass(slots=True)
class _Standing:
    """An order in force, and how much of it is left."""

    order: Order
    left: float
    allowance: float = 1.0
    counted_at: float = 0.0


@dataclass(slots=True)
class Orders:
    """The orders in force, by model; "*" stands for every model that has none of its own.

    Parameters
    ----------
    clock
        Monotonic seconds, for rate limits.
    seed
        Of the draw behind `Order.share`.
    """

    clock: Callable[[], float]
    seed: int = 0
    _standing: dict[str, _Standing] = field(default_factory=dict)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def __bool__(self) -> bool:
        return bool(self._standing)

    def set(self, model: str, order: Order) -> None:
        left = float("inf") if order.count is None else order.count
        burst = float(order.requests_per_minute or 1)
        self._standing[model] = _Standing(order, left, burst, self.clock())

    def clear(self) -> None:
        self._standing.clear()

    def current(self) -> dict[str, Order]:
        return {model: standing.order for model, standing in self._standing.items() if standing.left > 0}

    def take(self, model: str) -> Order | None:
        """The order for one request of `model`, counted; None where it is simply answered."""
        found = (self._standing.get(name) for name in (model, "*"))
        standing = next((one for one in found if one is not None and one.left > 0), None)
        if standing is None:
            return None
        order = standing.order
        if order.share < 1.0 and self._rng.random() >= order.share:
            return None
        standing.left -= 1
        if order.requests_per_minute is not None:
            wait_s = self._wait_s(standing, order.requests_per_minute)
            if wait_s > 0:
                return order.model_copy(update={"fault": "status", "status": 429, "retry_after_s": wait_s})
        return order

    def _wait_s(self, standing: _Standing, per_minute: int) -> float:
        """0 where the request is within the limit, else the seconds until one would be."""
        now, rate = self.clock(), per_minute / 60.0
        gained = (now - standing.counted_at) * rate
        standing.allowance = min(float(per_minute), standing.allowance + gained)
        standing.counted_at = now
        if standing.allowance < 1.0:
            return (1.0 - standing.allowance) / rate
        standing.allowance -= 1.0
        return 0.0
