"""`proteus train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proteus_router.cli.progress import ProgressBars
from proteus_router.config import load_train_config

__all__ = ["train"]


@click.command(
    epilog="Example: proteus train outcomes/ -o router/ --confidence 0.95\n\n"
    "Killed or interrupted? The same command with --resume goes on and gives the same router."
)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "router", required=True, type=click.Path(path_type=Path), help="Router folder to make."
)
@click.option("--encoder", help="lexical (default), minilm, or a Hugging Face name or folder.")
@click.option("--mode", type=click.Choice(["default", "paper"]), help="paper: the published configuration.")
@click.option("--scheme", type=click.Choice(["crossfit", "split"]), help="Evidence of the certificates.")
@click.option("--confidence", type=float, help="1 - delta of every certificate (default 0.95).")
@click.option("--seed", type=int, help="Fixes every random choice (default 0).")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file of the settings.")
@click.option("--resume", is_flag=True, help="Go on with a run that was killed.")
@click.option("--force", is_flag=True, help="Replace an existing router.")
def train(
    dataset: Path,
    router: Path,
    encoder: str | None,
    mode: str | None,
    scheme: str | None,
    confidence: float | None,
    seed: int | None,
    config_file: Path | None,
    resume: bool,
    force: bool,
) -> None:
    """Train, certify and save a router from the outcomes in DATASET."""
    config = load_train_config(
        config_file, encoder=encoder, mode=mode, scheme=scheme, confidence=confidence, seed=seed
    )
    from proteus_router.data.sources import read_outcomes
    from proteus_router.routing.router import Router
    from proteus_router.training.workspace import beside, refuse_to_overwrite, train_to_folder

    refuse_to_overwrite(router, force=force)
    table = read_outcomes(dataset, max_query_chars=config.max_query_chars)
    try:
        with ProgressBars() as progress:
            train_to_folder(table, router, config=config, resume=resume, force=force, progress=progress)
    except KeyboardInterrupt:
        click.echo(
            f"proteus: interrupted. {beside(router, '.partial')} keeps what is done: add --resume.", err=True
        )
        sys.exit(130)
    from proteus_router.cli.inspect import describe

    click.echo(describe(Router.load(router)))
