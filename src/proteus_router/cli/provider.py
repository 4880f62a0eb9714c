"""`proteus provider`: language models that are simulated, behind real HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import click

from proteus_router.cli.extras import extra

__all__ = ["provider"]

_SAMPLE = re.compile(r"(\d+)(?::(\d+))?")


@click.command(
    epilog="Example: proteus provider --port 9000 --sample 2000:1 --sample 5000:2\n\n"
    "Example: proteus provider --write-config proteus.yaml --write-prompts prompts.jsonl --limit 500\n\n"
    "Faults and latency on order: docs/provider.md."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 takes a free one."
)
@click.option("--world", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the world.")
@click.option("--models", type=click.IntRange(2, 12), default=10, show_default=True, help="Models in it.")
@click.option("--graded", is_flag=True, help="Scores between 0 and 1 instead of 0 or 1.")
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="N[:SEED]",
    default=("5000:2",),
    show_default=True,
    help="Known questions: N of sample SEED of the world (`data simulate` writes sample 1 of world 0). Repeatable.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which answers are right."
)
@click.option("--api-key", envvar="PROTEUS_PROVIDER_KEY", default="", help="Key that requests must carry.")
@click.option(
    "--words-per-event",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Words in one event of a stream.",
)
@click.option("--order", metavar="JSON", help='Trouble from the start, such as {"latency_s": 0.2}.')
@click.option(
    "--write-prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write known questions with their right answers, and stop.",
)
@click.option(
    "--write-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a gateway configuration with this pool at --port, and stop.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many questions in FILE.")
def provider(
    host: str,
    port: int,
    world: int,
    models: int,
    graded: bool,
    samples: tuple[str, ...],
    seed: int,
    api_key: str,
    words_per_event: int,
    order: str | None,
    write_prompts: Path | None,
    write_config: Path | None,
    limit: int | None,
) -> None:
    """Serve the models of a simulated world: chat completions, responses and messages, streaming or not.

    Answers are right as often as the world says, always the same for one question and model, and POST /grade scores
    them. No real model is called.
    """
    with extra("serve"):
        from proteus_router.serving.provider import Provider, Truth, files, run_provider
        from proteus_router.serving.provider.answers import BadRequestError
        from proteus_router.serving.provider.orders import parse_order
    from proteus_router.data.synthetic import make_world

    known = [_sample(text) for text in samples]
    truth = Truth(make_world(world, n_models=models, graded=graded), known, seed=seed)
    if write_prompts is not None:
        n = files.write_prompts(truth, write_prompts, limit)
        click.echo(f"{write_prompts}: {n} simulated questions", err=True)
    if write_config is not None:
        files.write_config(truth, write_config, f"http://{host}:{port}", api_key=api_key)
        click.echo(f"{write_config}: {len(truth.models)} simulated models", err=True)
    if write_prompts is not None or write_config is not None:
        return
    app = Provider(truth, api_key=api_key, words_per_event=words_per_event)
    if order is not None:
        try:
            app.orders.set("*", parse_order(order.encode()))
        except BadRequestError as error:
            raise click.BadParameter(str(error), param_hint="--order") from error
    run_provider(
        app,
        host=host,
        port=port,
        ready=lambda address: click.echo(
            f"{len(truth.models)} simulated models at {address}/v1, {truth.n_known} known questions", err=True
        ),
    )


def _sample(text: str) -> tuple[int, int]:
    match = _SAMPLE.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not N or N:SEED", param_hint="--sample")
    return int(match[1]), int(match[2] or 2)
