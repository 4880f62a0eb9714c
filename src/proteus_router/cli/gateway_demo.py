"""What `proteus serve --demo` serves: a simulated world, its provider, and a router trained on it once.

The training is wired here and not in the gateway: what operators deploy carries no training code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proteus_router._version import __version__
from proteus_router.cli.progress import ProgressBars
from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.synthetic import World, make_world
from proteus_router.encoders.cache import cache_root
from proteus_router.errors import ArtifactError
from proteus_router.routing.router import Router

if TYPE_CHECKING:
    from proteus_router.serving.settings import Configuration

__all__ = ["DEMO_TIERS", "demo_gateway", "demo_router"]

DEMO_TIERS = {"economy": 0.70, "standard": 0.80, "premium": 0.85}
_DEFAULT_TIER = "standard"
_WORLD, _SAMPLE = 0, (2_000, 1)  # rows to train on, and which sample they are
_QUESTIONS = (5_000, 2)  # what the provider can grade: another sample
# Enough to certify the tiers, in seconds: fewer folds, and the inverted frontier without the
# comparison of policies.
_TRAINING = TrainConfig(
    heads=HeadsConfig(n_folds=5),
    policy=PolicyConfig(steps=0, n_settings=150, query_dependent=False, bootstrap=50),
)


@contextmanager
def demo_gateway(port: int) -> Iterator[tuple[Configuration, Router]]:
    """Configuration and router of the demo, while its provider runs on a free port."""
    from proteus_router.serving.provider import Provider, Truth, serve_provider
    from proteus_router.serving.settings import make_configuration

    world = make_world(_WORLD)
    router = demo_router(world)
    with serve_provider(Provider(Truth(world, [_QUESTIONS]))) as address:
        click.echo(f"{len(world.models)} simulated models at {address}/v1", err=True)
        values = _values(world, f"{address}/v1", port)
        yield make_configuration(values, source="demo"), router


def demo_router_folder(world: World) -> Path:
    """Where the demo's router lies in the user's cache, once `demo_router` was called."""
    return cache_root() / "demo" / _identity(world)[:16] / "router"


def demo_router(world: World) -> Router:
    """The demo's router from the user's cache; trained where it is not there yet, or unreadable."""
    folder = demo_router_folder(world)
    try:
        return Router.load(folder)
    except ArtifactError:
        pass
    click.echo("first use: training a small router on the simulated world ...", err=True)
    from proteus_router.training.workspace import train_to_folder

    folder.parent.mkdir(parents=True, exist_ok=True)
    with ProgressBars() as progress:
        train_to_folder(
            world.sample(*_SAMPLE).table,
            folder,
            config=_TRAINING,
            resume=False,
            force=True,
            progress=progress,
        )
    return Router.load(folder)


def _identity(world: World) -> str:
    made_from = {"version": __version__, "world": world.fingerprint, "sample": _SAMPLE}
    settings = json.dumps({**made_from, "config": _TRAINING.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(settings.encode("utf-8")).hexdigest()


def _values(world: World, api_base: str, port: int) -> dict[str, Any]:
    store = cache_root() / "demo" / "gateway.db"
    store.parent.mkdir(parents=True, exist_ok=True)
    return {
        "server": {"host": "127.0.0.1", "port": port},
        "auth": {"anonymous": True},
        "store": {"url": f"sqlite:///{store.absolute()}", "retention_days": 7},
        "tiers": {name: {"accuracy_target": target} for name, target in DEMO_TIERS.items()},
        "default_tier": _DEFAULT_TIER,
        "model_list": [
            {
                "model_name": card.name,
                "litellm_params": {"model": f"openai/{card.name}", "api_base": api_base, "api_key": "none"},
                "model_info": {
                    "input_cost_per_token": card.input_price_usd_per_mtok / 1e6,
                    "output_cost_per_token": card.output_price_usd_per_mtok / 1e6,
                    "proteus_api": ["chat", "responses", "messages"],
                },
            }
            for card in world.models
        ],
    }
