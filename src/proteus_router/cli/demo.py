"""`proteus demo`: the whole job on a simulated world, or on real data."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import click

from proteus_router.cli.progress import ProgressBars
from proteus_router.config import load_train_config

__all__ = ["demo"]

_QUERIES = 7_000


@click.command(epilog="Example: proteus demo --data outcomes/ -o my-demo/")
@click.option("--data", type=click.Path(path_type=Path), help="Real outcomes instead of the simulated world.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("proteus-demo"),
    show_default=True,
    help="Folder for the router and the pictures.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes every random choice.")
def demo(data: Path | None, output: Path, seed: int) -> None:
    """Simulate a world (or read --data), train, certify, evaluate on held-out queries, and draw two pictures."""
    from proteus_router.cli.inspect import describe
    from proteus_router.data.grouping import near_text_groups
    from proteus_router.data.sources import read_outcomes
    from proteus_router.data.splits import split_rows
    from proteus_router.data.synthetic import make_world
    from proteus_router.evaluation.evaluate import evaluate
    from proteus_router.evaluation.figures import draw_figures
    from proteus_router.evaluation.tables import evaluation_table
    from proteus_router.routing.router import Router
    from proteus_router.training.workspace import train_to_folder

    started = time.monotonic()
    if data is None:
        click.echo("Simulating a world of language models and queries (no real model is called) ...")
        table = make_world(seed).sample(_QUERIES, seed + 1).table
    else:
        table = read_outcomes(data)
    split = split_rows(near_text_groups(table.queries), test_share=0.5 if data is None else 0.3, seed=seed)
    train, held_out = table.take(split.train), table.take(split.test)
    click.echo(
        f"{table.name}: {table.n_models} models, {len(split.train)} queries to train on, {len(split.test)} held out"
    )
    output.mkdir(parents=True, exist_ok=True)
    router_folder = output / "router"
    with ProgressBars() as progress:
        train_to_folder(
            train,
            router_folder,
            config=load_train_config(None, seed=seed),
            resume=False,
            force=True,
            progress=progress,
        )
    router = Router.load(router_folder)
    click.echo("\n" + describe(router) + "\n")
    report = evaluate(router, held_out)
    click.echo(evaluation_table(report) + "\n")
    for path in draw_figures(router, held_out, report, output):
        click.echo(f"wrote {path}")
    target = report.targets[-2].accuracy_target
    decision = router.route(held_out.queries[0], accuracy_target=target, on_infeasible="best_effort")
    query = shutil.get_terminal_size().columns
    click.echo(f"\nOne decision at target {target:g}: {held_out.queries[0][: max(query - 40, 40)]!r}")
    click.echo(f"  -> {decision.model}: {decision.reasons[0]}")
    click.echo(f"\nRouter in {router_folder}, done in {time.monotonic() - started:.0f} s. Next:")
    click.echo(f'  proteus route {router_folder} --accuracy-target {target:g} "your query"')
