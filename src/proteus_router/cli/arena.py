"""`proteus arena`: a router's choices in the layout that RouterArena evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click
import numpy as np

from proteus_router.cli.route import guarantee_options
from proteus_router.data.routerarena import arena_predictions, read_arena_queries, write_arena
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import parse_target
from proteus_router.types import Guarantee, OnInfeasible

__all__ = ["arena"]


@click.command(
    epilog="Example: proteus arena router/ dataset/router_data.json --accuracy-target 0.80 "
    "--optimality dataset/router_data_10.json --name proteus -o router_inference/"
)
@click.argument("router", type=click.Path(path_type=Path))
@click.argument("queries", type=click.Path(path_type=Path))
@click.option("--accuracy-target", required=True, help="Required mean score as a fraction, such as 0.80.")
@click.option(
    "--name", default="proteus", show_default=True, help="Router's name in the arena; names the files."
)
@click.option(
    "--optimality",
    type=click.Path(path_type=Path),
    help="The arena's small split; its queries also get an entry for every other model.",
)
@click.option(
    "--rename",
    multiple=True,
    metavar="OURS=THEIRS",
    help="The arena's name of a model; may be given several times.",
)
@guarantee_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the coins.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
def arena(
    router: Path,
    queries: Path,
    accuracy_target: str,
    name: str,
    optimality: Path | None,
    rename: tuple[str, ...],
    guarantee: str,
    on_infeasible: str,
    seed: int,
    output: Path,
) -> None:
    """Route RouterArena's QUERIES with ROUTER; write OUTPUT/config/NAME.json and OUTPUT/predictions/NAME.json.

    The models must be ones that the arena knows; no model is called.
    """
    target = parse_target(accuracy_target)
    loaded = Router.load(router)
    names = _names(loaded.models, rename)
    entries = read_arena_queries(queries)
    small = [] if optimality is None else [query.global_index for query in read_arena_queries(optimality)]
    decisions = loaded.route_batch(
        [query.prompt for query in entries],
        accuracy_target=target,
        guarantee=cast(Guarantee, guarantee),
        on_infeasible=cast(OnInfeasible, on_infeasible),
        rng=np.random.default_rng(seed),
    )
    pool = [names[model] for model in loaded.models]
    chosen = [names[decision.model] for decision in decisions]
    predictions = arena_predictions(entries, chosen, pool, for_optimality=small)
    for path in write_arena(output, name, pool, predictions):
        click.echo(str(path), err=True)


def _names(models: tuple[str, ...], rename: tuple[str, ...]) -> dict[str, str]:
    names = {model: model for model in models}
    for pair in rename:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in names:
            raise click.UsageError(
                f"--rename {pair!r}: give OURS=THEIRS with OURS one of {', '.join(models)}."
            )
        names[ours] = theirs
    return names
