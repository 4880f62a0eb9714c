"""One gateway a module, on a real socket, for clients that other people wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.clients.helpers import Served
from tests.serving.e2e.conftest import router_folder, served, world
from tests.serving.e2e.helpers import Site

__all__ = ["router_folder", "served", "world"]  # fixtures


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    provider, address = request.getfixturevalue("served")
    site = Site(
        folder=tmp_path_factory.mktemp("gateway"),
        router=request.getfixturevalue("router_folder"),
        provider_url=f"{address}/v1",
        world=request.getfixturevalue("world"),
    )
    with site.in_thread() as listening:
        yield Served(listening, provider, site.questions)
