"""`proteus store`: a gateway's database."""

from __future__ import annotations

from pathlib import Path

import click

from proteus_router.cli.extras import extra
from proteus_router.cli.stores import Place, store_options

__all__ = ["store_group"]


@click.group("store")
def store_group() -> None:
    """Look after a gateway's database."""


@store_group.command("migrate", epilog="Example: proteus store migrate --config proteus.yaml")
@store_options
def migrate(config_file: Path | None, store_url: str | None) -> None:
    """Bring the tables to this release's version.

    `proteus serve` does it by itself. This is for a deployment in which the gateway's own database user may not
    make tables: run it first, as one who may.
    """
    place = Place.of(config_file, store_url)
    with extra("serve"):
        from proteus_router.serving.store.database import Database
        from proteus_router.serving.store.migrate import migrate

    database = Database(place.url, timeout_s=10.0)
    try:
        found, version = migrate(database)
    finally:
        database.close()
    was = "an empty database" if found is None else f"version {found}"
    click.echo(f"{database.address}: version {version}" + ("." if found == version else f", was {was}."))
