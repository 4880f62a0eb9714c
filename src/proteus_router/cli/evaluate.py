"""`proteus evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import click

from proteus_router.cli.route import guarantee_options
from proteus_router.cli.targets import parse_targets
from proteus_router.types import Guarantee, OnInfeasible

__all__ = ["evaluate_router"]


@click.command(
    "evaluate",
    epilog="Example: proteus evaluate router/ held_out/ --targets 0.70:0.85:16 --guarantee certified",
)
@click.argument("router", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--targets", help="A:B:N (both ends in) or a comma-separated list. Default: ten over the certified range."
)
@guarantee_options
@click.option("--simultaneous", is_flag=True, help="Certify the whole list together.")
@click.option(
    "--seed", type=int, help="Accepted for symmetry with `route`: an evaluation draws no random number."
)
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for frontier.png and targets.png.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def evaluate_router(
    router: Path,
    dataset: Path,
    targets: str | None,
    guarantee: str,
    on_infeasible: str,
    simultaneous: bool,
    seed: int | None,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Serve the held-out outcomes in DATASET with ROUTER: what was promised, achieved and paid, per target."""
    requested = None if targets is None else parse_targets(targets)
    from proteus_router.data.sources import read_outcomes
    from proteus_router.evaluation.evaluate import evaluate
    from proteus_router.evaluation.tables import evaluation_table
    from proteus_router.routing.router import Router

    loaded = Router.load(router)
    table = read_outcomes(dataset, max_query_chars=loaded.max_query_chars, for_training=False)
    report = evaluate(
        loaded,
        table,
        requested,
        guarantee=cast(Guarantee, guarantee),
        on_infeasible=cast(OnInfeasible, on_infeasible),
        simultaneous=simultaneous,
    )
    if figures is not None:
        from proteus_router.evaluation.figures import draw_figures

        for path in draw_figures(loaded, table, report, figures):
            click.echo(f"wrote {path}", err=True)
    if report.rows_left_out_as_trained_on:
        click.echo(
            f"proteus: left out {report.rows_left_out_as_trained_on} queries that this router was trained on.",
            err=True,
        )
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else evaluation_table(report))
