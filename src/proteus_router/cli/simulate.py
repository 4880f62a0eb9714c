"""`proteus simulate`."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proteus_router.cli.extras import extra
from proteus_router.errors import ConfigError

if TYPE_CHECKING:
    from proteus_router.routing.router import Router
    from proteus_router.simulation.world import Universe

__all__ = ["simulate"]

_WORLD, _SEED = 0, 3
_QUERIES = 20_000


@click.command(
    epilog="Example: proteus simulate drop --audits 0.2 --seeds 3 -o streams/\n\n"
    "Scenarios of the package: steady, drop, price, harder, and the paper's step, drift, cycle, peak. A file of your own "
    "has the same keys: docs/closed-loop.md.\n\n"
    "Killed? The same command goes on where it was."
)
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--router",
    "router_folder",
    type=click.Path(path_type=Path),
    help="Router [default: a small one, trained once on the simulated world].",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Outcome data set to replay instead of the simulated world; needs --router, trained on other rows.",
)
@click.option(
    "--requests", type=click.IntRange(min=100), help="Length of every stream [default: the scenario's own]."
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Streams of each kind."
)
@click.option(
    "--audits",
    default="0.2",
    show_default=True,
    help="Shares of the answers that are graded, separated by commas.",
)
@click.option(
    "--tracking",
    type=click.Choice(("both", "on", "off")),
    default="both",
    show_default=True,
    help="Whether tiers are steered by their audits.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for streams and figures."
)
def simulate(
    scenarios: tuple[str, ...],
    router_folder: Path | None,
    data: Path | None,
    requests: int | None,
    seeds: int,
    audits: str,
    tracking: str,
    jobs: int,
    output: Path,
) -> None:
    """Send streams of requests through the real gateway, without HTTP, and see what its closed loop makes of them.

    Routing, store, audits, live certificates and tracking are the gateway's; clock and models are simulated.
    """
    with extra("serve"):
        from proteus_router.simulation.figures import draw
        from proteus_router.simulation.scenario import load_scenario
        from proteus_router.simulation.study import Study, tasks_of
        from proteus_router.simulation.summary import table

    if data is not None and router_folder is None:
        raise click.UsageError(
            "--data needs --router, trained on other rows of it: proteus data split, proteus train."
        )
    stories = [load_scenario(name) for name in scenarios]
    if requests is not None:
        stories = [story.shortened(requests) for story in stories]
    if data is not None and any(h.price_factor is not None for story in stories for h in story.happenings):
        raise ConfigError("recorded outcomes have costs and no prices, so prices can't change in them.")
    loops = {"both": (False, True), "on": (True,), "off": (False,)}[tracking]
    tasks = tasks_of(stories, _shares(audits), loops, range(seeds))
    study = Study(_Make(router_folder, data), output)
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    started = time.monotonic()
    for task, record in zip(tasks, study.run(tasks, jobs=jobs), strict=True):
        groups[task.scenario.name, task.setting.audit_share].append(record)
        click.echo(f"{task.name}: {time.monotonic() - started:.0f} s", err=True)
    click.echo(table(record for found in groups.values() for record in found))
    for (name, share), found in groups.items():
        path = output / f"{name}-{share:g}.png"
        draw(found, path)
        click.echo(f"wrote {path}", err=True)


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise click.BadParameter("must be fractions in (0, 1], such as 0.05,0.2,1", param_hint="--audits")
    return shares


@dataclass(frozen=True)
class _Make:
    """Builds router and world in whichever process needs them."""

    router_folder: Path | None
    data: Path | None

    def __call__(self) -> tuple[Router, Universe]:
        from proteus_router.cli.gateway_demo import demo_router
        from proteus_router.data.sources import read_outcomes
        from proteus_router.data.synthetic import make_world
        from proteus_router.evaluation.evaluate import drop_trained_rows
        from proteus_router.routing.router import Router
        from proteus_router.simulation.world import RecordedWorld, SimulatedWorld, without_prices

        world = make_world(_WORLD)
        router = demo_router(world) if self.router_folder is None else Router.load(self.router_folder)
        if self.data is not None:
            table = drop_trained_rows(router, read_outcomes(self.data, for_training=False))[0]
            return without_prices(router), RecordedWorld(table, router.models)
        if not set(router.models) <= set(world.model_names):
            raise ConfigError(
                f"{self.router_folder} was not trained on the simulated world {_WORLD}.",
                hint="Give --data, or leave --router out.",
            )
        return router, SimulatedWorld(world, router.models, queries=_QUERIES, seed=_SEED)
