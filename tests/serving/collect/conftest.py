"""A simulated pool to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proteus_router.data.synthetic import make_world
from proteus_router.serving.provider import Provider, Truth, serve_provider
from proteus_router.serving.records import PoolModel, Timeouts
from tests.serving.collect.helpers import MakeModel


@pytest.fixture(scope="session")
def pool_served() -> Iterator[tuple[Provider, str]]:
    provider = Provider(Truth(make_world(0, n_models=3), ((80, 2),)))
    with serve_provider(provider) as address:
        yield provider, address


@pytest.fixture
def provider(pool_served: tuple[Provider, str]) -> Iterator[Provider]:
    app = pool_served[0]
    app.seen.requests.clear()
    yield app
    app.orders.clear()


@pytest.fixture
def make_model(pool_served: tuple[Provider, str]) -> MakeModel:
    app, address = pool_served

    def make(place: int = 0, **changes: Any) -> PoolModel:
        card = app.truth.world.models[place]
        values: dict[str, Any] = {
            "name": f"pool/{card.name}",
            "proteus_model": card.name,
            "api": "chat",
            "api_base": f"{address}/v1",
            "api_key": "sk-pool-secret",
            "upstream_model": card.name,
            "input_usd_per_token": card.input_price_usd_per_mtok / 1e6,
            "output_usd_per_token": card.output_price_usd_per_mtok / 1e6,
            "timeouts": Timeouts(1.0, 1.0, 5.0),
        }
        return PoolModel(**{**values, **changes})

    return make
