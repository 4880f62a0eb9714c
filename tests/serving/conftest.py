"""What the folders here share: both databases for real, and everything that a gateway on a real socket needs.

The router is trained and the provider started once a session, by whoever asks first.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proteus_router.data.synthetic import World, make_world
from proteus_router.serving.provider import Provider, Truth, serve_provider
from proteus_router.serving.records import DecisionRecord
from tests.serving.gateways import UPSTREAM_KEY, Site

SERVER = os.environ.get("PROTEUS_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'proteus.db'}"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    psycopg = pytest.importorskip("psycopg")
    schema = f"proteus_{uuid.uuid4().hex[:16]}"
    try:
        server = psycopg.connect(SERVER, autocommit=True, connect_timeout=2)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {SERVER} (set PROTEUS_TEST_POSTGRES): {str(error).splitlines()[0]}")
    with server:
        server.execute(f"CREATE SCHEMA {schema}")
        try:
            yield f"{SERVER}?options=-csearch_path%3D{schema}"
        finally:
            server.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make_decision() -> Callable[..., DecisionRecord]:
    def make(**changes: Any) -> DecisionRecord:
        values: dict[str, Any] = {
            "id": f"dec_{uuid.uuid4().hex}",
            "created_at": time.time(),
            "key_id": "key_a",
            "tier": "standard",
            "accuracy_target": 0.8,
            "internal_target": 0.81,
            "certified": True,
            "model": "small",
            "requested_model": "proteus/standard",
            "api": "chat",
            "stream": False,
            "predicted_score": 0.83,
            "predicted_cost_usd": 0.0011,
            "cost_usd": 0.001,
            "propensity": 0.75,
            "input_tokens": 120,
            "output_tokens": 40,
            "attempts": 1,
            "status": "ok",
            "error_code": None,
            "http_status": 200,
            "latency_s": 0.4,
            "first_byte_s": 0.1,
            "overhead_s": 0.001,
            "session_id": None,
            "request_id": "req-1",
            "reasons": ("operating point 0.81",),
            "candidates": ({"model": "small", "predicted_score": 0.83, "propensity": 0.75},),
            "certificate": {"confidence": 0.95, "accuracy_target": 0.8},
            "prompt": None,
            "answer": None,
            "router_fingerprint": "f00d",
        }
        return DecisionRecord(**values | changes)

    return make


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(0, n_models=4)


@pytest.fixture(scope="session")
def router_folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small router, trained once."""
    from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
    from proteus_router.training.workspace import train_to_folder

    folder = tmp_path_factory.mktemp("router") / "router"
    config = TrainConfig(
        heads=HeadsConfig(n_folds=3, forest_trees=20),
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
    provider = Provider(Truth(world, [(200, 2)]), api_key=UPSTREAM_KEY)
    with serve_provider(provider) as address:
        yield provider, address


@pytest.fixture
def provider(served: tuple[Provider, str]) -> Iterator[Provider]:
    """The running provider, without orders and with nothing seen."""
    app = served[0]
    app.orders.clear()
    deadline = time.monotonic() + 5
    while (
        app.seen.in_flight
    ):  # the last test's callers may be leaving still, and would be counted as this one's
        assert time.monotonic() < deadline, "requests of the test before are still under way"
        time.sleep(0.002)
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
