"""`proteus data`: check, convert, split, simulate and collect outcome data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from proteus_router.cli.collect import collect

if TYPE_CHECKING:
    from proteus_router.data.outcomes import OutcomeTable
    from proteus_router.data.summary import DataSummary
    from proteus_router.data.writers import Format

__all__ = ["data_group"]


@click.group("data")
def data_group() -> None:
    """Check, convert, split, simulate and collect outcome data sets."""


data_group.add_command(collect)


def _output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
        ),
        click.option(
            "--format",
            "fmt",
            type=click.Choice(("parquet", "csv", "jsonl")),
            default="parquet",
            show_default=True,
            help="Format of the files written.",
        ),
        click.option("--force", is_flag=True, help="Replace an existing data set folder."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _seed_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=text)


_MAX_CHARS = click.option(
    "--max-query-chars",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    help="Longest query accepted.",
)


@data_group.command("validate", epilog="Example: proteus data validate outcomes/ --json")
@click.argument("path", type=click.Path(path_type=Path))
@_MAX_CHARS
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def validate(path: Path, max_query_chars: int, as_json: bool) -> None:
    """Check that PATH can be trained on, and say what it holds.

    PATH is a folder with queries.* and outcomes.*, or a wide file.
    """
    from proteus_router.data.sources import read_outcomes
    from proteus_router.data.summary import summarise

    summary = summarise(read_outcomes(path, max_query_chars=max_query_chars))
    click.echo(json.dumps(summary.to_dict(), ensure_ascii=False) if as_json else _describe(summary))


_SOURCES = ("outcomes", "routerbench", "sprout", "llmrouterbench", "routellm")


@data_group.command(
    "import", epilog="Example: proteus data import --from routerbench routerbench_0shot.pkl -o rb/"
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Choice(_SOURCES),
    default="outcomes",
    show_default=True,
    help="Layout of PATH: any form `validate` reads, or a published data set's files (docs/loaders.md).",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    help="YAML file of prices; needed by routellm, in the place of the built-in or recorded ones elsewhere.",
)
@_MAX_CHARS
@_output_options
def import_data(
    path: Path, source: str, prices: Path | None, max_query_chars: int, output: Path, fmt: str, force: bool
) -> None:
    """Convert PATH to a folder in the canonical long form."""
    from proteus_router.data.sources import write_outcomes

    table = _imported(path, source, prices, max_query_chars)
    write_outcomes(table, output, cast("Format", fmt), force=force)
    click.echo(f"{output}: {table.n_queries} queries, {table.n_models} models", err=True)


def _imported(path: Path, source: str, prices: Path | None, max_query_chars: int) -> OutcomeTable:
    if source in ("outcomes", "routerbench") and prices is not None:
        raise click.UsageError(f"--prices: {source} data say what each answer cost.")
    if source == "routerbench":
        from proteus_router.data.routerbench import read_routerbench

        return read_routerbench(path, max_query_chars=max_query_chars)
    if source == "outcomes":
        from proteus_router.data.sources import read_outcomes

        return read_outcomes(path, max_query_chars=max_query_chars, for_training=False)
    from proteus_router.data.prices import read_prices

    charged = None if prices is None else read_prices(prices)
    if source == "sprout":
        from proteus_router.data.sprout import read_sprout

        return read_sprout(path, prices=charged, max_query_chars=max_query_chars)
    if source == "llmrouterbench":
        from proteus_router.data.llmrouterbench import read_llmrouterbench

        return read_llmrouterbench(path, prices=charged, max_query_chars=max_query_chars)
    from proteus_router.data.routellm import read_routellm

    if charged is None:
        raise click.UsageError("--prices is needed: RouteLLM's files say nothing about cost.")
    return read_routellm(path, prices=charged, max_query_chars=max_query_chars)


@data_group.command(
    "split", epilog="Example: proteus data split outcomes/ -o split/ --test-share 0.3 --seed 1"
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.3,
    show_default=True,
    help="Share of queries that go to OUTPUT/test.",
)
@click.option(
    "--calibration-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of queries that go to OUTPUT/calibration.",
)
@_seed_option("The same seed gives the same split.")
@_MAX_CHARS
@_output_options
def split(
    path: Path,
    test_share: float,
    calibration_share: float,
    seed: int,
    max_query_chars: int,
    output: Path,
    fmt: str,
    force: bool,
) -> None:
    """Split PATH at random into OUTPUT/train, OUTPUT/test and, on request, OUTPUT/calibration.

    Queries that are the same or nearly the same stay on one side.
    """
    from proteus_router.data.folders import new_folder
    from proteus_router.data.grouping import near_text_groups
    from proteus_router.data.sources import read_outcomes
    from proteus_router.data.splits import split_rows
    from proteus_router.data.writers import PARTS, is_data_set_file, write_into

    table = read_outcomes(path, max_query_chars=max_query_chars, for_training=False)
    rows = split_rows(
        near_text_groups(table.queries), test_share=test_share, calibration_share=calibration_share, seed=seed
    )
    with new_folder(output, force=force, ours=is_data_set_file) as building:
        for part in PARTS:
            if len(index := getattr(rows, part)):
                (building / part).mkdir()
                write_into(table.take(index), building / part, cast("Format", fmt))
    for part in PARTS:
        if len(index := getattr(rows, part)):
            click.echo(f"{output / part}: {len(index)} queries", err=True)


@data_group.command(
    "simulate", epilog="Example: proteus data simulate -o world/ --queries 2000 --models 8 --seed 7"
)
@click.option(
    "--queries", type=click.IntRange(min=1), default=2_000, show_default=True, help="Number of queries."
)
@click.option("--models", type=click.IntRange(min=2), default=10, show_default=True, help="Number of models.")
@_seed_option("The same seed gives the same world and queries.")
@click.option("--graded", is_flag=True, help="Scores between 0 and 1 instead of 0 or 1.")
@click.option(
    "--missing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of outcomes left out at random.",
)
@_output_options
def simulate(
    queries: int, models: int, seed: int, graded: bool, missing: float, output: Path, fmt: str, force: bool
) -> None:
    """Write outcomes of made-up models on made-up queries; everything made from them says "simulated"."""
    from proteus_router.data.sources import write_outcomes
    from proteus_router.data.synthetic import make_world

    world = make_world(seed, n_models=models, graded=graded)
    table = world.sample(queries, seed + 1, missing=missing).table
    write_outcomes(table, output, cast("Format", fmt), force=force)
    click.echo(f"{output}: {table.n_queries} simulated queries, {table.n_models} simulated models", err=True)


def _describe(summary: DataSummary) -> str:
    """The summary as text, a line a model."""
    width = max(len("model"), *(len(model.model) for model in summary.models))
    lines = [
        f"{summary.name}{' (simulated)' if summary.simulated else ''}: {summary.n_queries} queries, "
        f"{len(summary.models)} models, {summary.scores} scores, {summary.missing_share:.1%} missing",
        f"near-same texts: {summary.n_queries_in_shared_groups} queries share a group "
        f"({summary.n_text_groups} groups in all)",
    ]
    if summary.tasks:
        lines.append("tasks: " + ", ".join(f"{task} {count}" for task, count in summary.tasks.items()))
    lines += ["", f"{'model':<{width}}  outcomes  mean score  mean cost, USD"]
    for model in summary.models:
        score = "-" if model.mean_score is None else f"{model.mean_score:.3f}"
        cost = "-" if model.mean_cost_usd is None else f"{model.mean_cost_usd:.3g}"
        lines.append(f"{model.model:<{width}}  {model.n_outcomes:>8}  {score:>10}  {cost:>14}")
    return "\n".join(lines)
