"""A simulated provider on a real socket, and a client to call it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proteus_router.data.synthetic import make_world
from proteus_router.serving.provider import Provider, Truth, serve_provider
from proteus_router.serving.records import ApiShape, PoolModel, Timeouts
from proteus_router.serving.upstream import UpstreamClient
from tests.serving.upstream.helpers import FAST, MakeModel, Opened


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[Provider, str]]:
    provider = Provider(Truth(make_world(0, n_models=3), ((60, 2),)))
    with serve_provider(provider) as address:
        yield provider, address


@pytest.fixture
def make_model(served: tuple[Provider, str]) -> MakeModel:
    def make(api: ApiShape = "chat", **changes: Any) -> PoolModel:
        values: dict[str, Any] = {
            "name": "pool/large",
            "proteus_model": "large",
            "api": api,
            "api_base": f"{served[1]}/v1",
            "api_key": "sk-upstream-secret",
            "upstream_model": served[0].truth.models[-1],
            "input_usd_per_token": 2e-6,
            "output_usd_per_token": 8e-6,
            "timeouts": Timeouts(connect_s=2.0, first_byte_s=0.5, total_s=2.5),
        }
        return PoolModel(**{**values, **changes})

    return make


@pytest.fixture
def opened() -> Opened:
    @asynccontextmanager
    async def open_client(**settings: Any) -> AsyncIterator[UpstreamClient]:
        client = UpstreamClient(**{"retry": FAST, **settings})
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    return open_client
