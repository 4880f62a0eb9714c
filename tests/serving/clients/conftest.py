"""One gateway a module, on a real socket, for clients that other people wrote."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from proteus_router.data.synthetic import World
from proteus_router.serving.provider import Provider
from tests.serving.clients.helpers import Served
from tests.serving.gateways import Site


@pytest.fixture(scope="module")
def gateway(
    served: tuple[Provider, str],
    world: World,
    router_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    provider, address = served
    site = Site(tmp_path_factory.mktemp("gateway"), router_folder, f"{address}/v1", world)
    with site.in_thread() as listening:
        yield Served(listening, provider, site.questions)


@pytest.fixture(autouse=True, scope="module")
def _leftovers_of_the_module() -> Iterator[None]:
    """Some clients leave event loops and sockets to the garbage collector, which blames the test it runs in."""
    yield
    _collect()


@pytest.fixture(autouse=True)
def _leftovers(_leftovers_of_the_module: None) -> Iterator[None]:
    yield
    _collect()


def _collect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.set_event_loop(
            None
        )  # a loop that a client left as this thread's is let go here, not in another test
        gc.collect()
