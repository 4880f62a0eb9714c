"""`proteus pool`: change a router's models without training again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proteus_router.cli.extras import extra
from proteus_router.cli.progress import ProgressBars
from proteus_router.cli.stores import Place, store_options, with_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from proteus_router.data.outcomes import OutcomeTable
    from proteus_router.routing.artifact import Artifact
    from proteus_router.types import ProgressFn

__all__ = ["pool_group"]

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the new router here [default: in the place of ROUTER, in one step].",
)
_force = click.option("--force", is_flag=True, help="Replace a router that stands at --output.")
_router = click.argument("router", type=click.Path(path_type=Path))


@click.group("pool")
def pool_group() -> None:
    """Add, remove or re-price a model of a router; the other models' heads stay as they are.

    Policy and certificates are made again from the evidence that the router keeps. A live gateway takes the new router
    on SIGHUP or POST /v1/admin/reload.
    """


@pool_group.command(
    epilog="Example: proteus pool add router/ new-model --outcomes outcomes/\n\n"
    "OUTCOMES is a data set as `proteus train` reads it; only the rows of MODEL count, 100 to 300 are good. Queries "
    "that the router was trained on tell most.\n\n"
    "With --config or --store instead: what the gateway's exploration tried of MODEL and was graded "
    "(exploration.newcomers), over all tiers."
)
@_router
@click.argument("model")
@click.option("--outcomes", type=click.Path(path_type=Path), help="Outcome data set that has MODEL.")
@store_options
@_output
@_force
def add(
    router: Path,
    model: str,
    outcomes: Path | None,
    config_file: Path | None,
    store_url: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Put MODEL into the pool of ROUTER from a few of its outcomes."""
    from proteus_router.data.sources import read_outcomes
    from proteus_router.training.pool.changes import add_model

    if (outcomes is not None) == (config_file is not None or store_url is not None):
        raise click.UsageError("Give --outcomes FOLDER, or the gateway's --config FILE or --store URL.")
    if outcomes is not None:
        table = read_outcomes(outcomes, for_training=False)
    else:
        table = _tried(config_file, store_url, model)
        click.echo(f"{table.n_queries} graded answers of {model} in the traffic")
    _change(router, output, force, lambda old, progress: add_model(old, table, model, progress=progress))


@pool_group.command(epilog="Example: proteus pool remove router/ old-model")
@_router
@click.argument("model")
@_output
@_force
def remove(router: Path, model: str, output: Path | None, force: bool) -> None:
    """Take MODEL out of the pool of ROUTER."""
    from proteus_router.training.pool.changes import remove_model

    _change(router, output, force, lambda old, progress: remove_model(old, model, progress=progress))


@pool_group.command(epilog="Example: proteus pool price router/ some-model --factor 0.5")
@_router
@click.argument("model")
@click.option("--factor", required=True, type=float, help="New price over old price; 0.5 halves it.")
@_output
@_force
def price(router: Path, model: str, factor: float, output: Path | None, force: bool) -> None:
    """Tell ROUTER that MODEL's price has changed."""
    from proteus_router.training.pool.changes import change_price

    _change(router, output, force, lambda old, progress: change_price(old, model, factor, progress=progress))


def _tried(config_file: Path | None, store_url: str | None, model: str) -> OutcomeTable:
    """What exploration has shown of `model`."""
    place = Place.of(config_file, store_url)
    with extra("serve"):
        from proteus_router.learning.newcomer import outcomes_of

    return outcomes_of(with_store(place.url, lambda store: store.graded()), model, place.aliases)


def _change(
    router: Path, output: Path | None, force: bool, change: Callable[[Artifact, ProgressFn], Artifact]
) -> None:
    from proteus_router.routing.artifact import load_artifact, publish_folder, write_artifact
    from proteus_router.routing.router import Router
    from proteus_router.training.workspace import beside, refuse_to_overwrite

    destination = router if output is None else output
    if output is not None:
        refuse_to_overwrite(output, force=force)
    old = load_artifact(router)
    with ProgressBars() as progress:
        new = change(old, progress)
    partial = beside(destination, ".partial")
    write_artifact(partial / "artifact", new)
    publish_folder(partial / "artifact", destination, discard=partial / "previous")
    partial.rmdir()
    for name, artifact in (("before", old), ("now", new)):
        found = Router.from_artifact(artifact)
        limits = found.target_map.certified_range
        best = limits["max_target"]
        reach = "no target certified" if best is None else f"certified up to {best:.3f}"
        click.echo(f"{name}: {len(found.models)} models, {reach}")
    click.echo(f"wrote {destination}")
