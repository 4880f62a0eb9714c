"""A router trained on a small world, the provider of that world, and gateways on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.synthetic import World, make_world
from proteus_router.serving.provider import Provider, Truth, serve_provider
from proteus_router.training.workspace import train_to_folder
from tests.serving.e2e.helpers import Site


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(0, n_models=4)


@pytest.fixture(scope="session")
def router_folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("router") / "router"
    config = TrainConfig(
        heads=HeadsConfig(n_folds=3, network_epochs=3, network_members=1),
        policy=PolicyConfig(steps=0, n_settings=60, query_dependent=False, bootstrap=50, n_folds=2),
    )
    train_to_folder(
        world.sample(600, 1).table,
        folder,
        config=config,
        resume=False,
        force=True,
        progress=lambda *_: None,
    )
    return folder


@pytest.fixture(scope="session")
def served(world: World) -> Iterator[tuple[Provider, str]]:
    provider = Provider(Truth(world, [(200, 2)]), api_key="sk-up-4fd1")
    with serve_provider(provider) as address:
        yield provider, address


@pytest.fixture
def provider(served: tuple[Provider, str]) -> Iterator[Provider]:
    """The running provider, without orders and with nothing seen."""
    app = served[0]
    app.orders.clear()
    app.seen.requests.clear()
    app.seen.last.clear()
    app.seen.gone = 0
    yield app
    app.orders.clear()


@pytest.fixture
def site(
    provider: Provider, served: tuple[Provider, str], world: World, router_folder: Path, tmp_path: Path
) -> Site:
    """Everything a gateway needs, in files of its own."""
    return Site(folder=tmp_path, router=router_folder, provider_url=f"{served[1]}/v1", world=world)
