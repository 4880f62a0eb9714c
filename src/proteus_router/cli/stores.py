"""What the commands on a gateway's database share: which one it is, and a visit to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proteus_router.cli.extras import extra

if TYPE_CHECKING:
    from proteus_router.serving.store import Store

__all__ = ["Place", "store_options", "with_store"]

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


def store_options(command: _F) -> _F:
    """Add ``--config`` and ``--store``, one of which is needed."""
    config = click.option(
        "--config", "config_file", type=click.Path(path_type=Path), help="The gateway's YAML file."
    )
    store = click.option(
        "--store",
        "store_url",
        metavar="URL",
        help="Its database, instead of --config: sqlite:///FILE or postgresql://...",
    )
    return config(store(command))


@dataclass(frozen=True, slots=True)
class Place:
    """A database, and the names the configuration knows; None where there is no configuration.

    Attributes
    ----------
    aliases
        Pool name -> the model that it runs.
    """

    url: str
    tiers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config_file: Path | None, store_url: str | None) -> Place:
        if (config_file is None) == (store_url is None):
            raise click.UsageError("Give --config FILE or --store URL.")
        if store_url is not None:
            return cls(store_url)
        assert config_file is not None
        with extra("serve"):
            from proteus_router.serving.settings import load_configuration
        configuration = load_configuration(config_file)
        aliases = {model.name: model.proteus_model for model in configuration.pool}
        tiers = tuple(configuration.settings.tiers)
        return cls(configuration.settings.store.url, tiers, tuple(aliases), aliases)


def with_store(url: str, work: Callable[[Store], Awaitable[_T]]) -> _T:
    """Open the store, do `work`, close it; its tables are made where they are missing."""
    with extra("serve"):
        from proteus_router.serving.store import open_store

    async def visit() -> _T:
        store = open_store(url)
        try:
            await store.start()
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(visit())
