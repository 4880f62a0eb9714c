"""What the closed loop reads of the gateway's configuration: the pool, its prices, the router."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from proteus_router.routing.router import Router
from proteus_router.serving.control.evidence import Subject
from proteus_router.serving.records import ApiShape, PoolModel
from proteus_router.serving.settings import GatewaySettings, TierSettings
from proteus_router.types import FloatArray

__all__ = ["EntryView", "PoolView", "cost_factors", "subject_of"]


class EntryView(Protocol):
    """One name of the pool."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def deployments(self) -> Mapping[ApiShape, tuple[PoolModel, ...]]: ...


class PoolView(Protocol):
    """One generation of the gateway's configuration."""

    @property
    def settings(self) -> GatewaySettings: ...
    @property
    def tiers(self) -> Mapping[str, TierSettings]: ...
    @property
    def router(self) -> Router: ...
    @property
    def entries(self) -> Mapping[str, EntryView]: ...
    @property
    def by_index(self) -> Sequence[Sequence[EntryView]]: ...
    @property
    def fingerprint(self) -> str: ...


def subject_of(live: PoolView) -> Subject:
    """What evidence that begins now will speak of."""
    models = {name: live.router.models[entry.index] for name, entry in live.entries.items()}
    return Subject(live.fingerprint, models, {name: _price(entry) for name, entry in live.entries.items()})


def cost_factors(live: PoolView) -> FloatArray:
    """(n_models,) what a request costs at present prices over what the artifact's outcomes cost; 1 where not known."""
    factors = np.ones(len(live.router.models))
    artifact = {entry["name"]: entry for entry in live.router.manifest.get("models", ())}
    for index, entries in enumerate(live.by_index):
        known = artifact.get(live.router.models[index], {})
        inputs, outputs = known.get("mean_input_tokens"), known.get("mean_output_tokens")
        price = _price(entries[0]) if entries else None
        if price is not None and inputs is not None and outputs is not None:
            factors[index] = (inputs * price[0] + outputs * price[1]) / known["mean_cost_usd"]
    return factors


def _price(entry: EntryView) -> tuple[float, float] | None:
    """USD per input and output token of the cheapest upstream."""
    upstreams = [model for models in entry.deployments.values() for model in models]
    cheapest = min(upstreams, key=lambda model: model.input_usd_per_token + model.output_usd_per_token)
    price = cheapest.input_usd_per_token, cheapest.output_usd_per_token
    return price if all(map(math.isfinite, price)) else None
