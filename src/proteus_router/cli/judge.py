"""`proteus judge`: another model grades the audits that wait."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proteus_router.cli.extras import extra
from proteus_router.cli.stores import with_store
from proteus_router.errors import ConfigError, InsufficientDataError

if TYPE_CHECKING:
    from proteus_router.serving.judge import HumanAgreement, Judged
    from proteus_router.serving.records import Audit, PoolModel
    from proteus_router.serving.store import Store

__all__ = ["judge"]

_SOURCE_CHARS = 64


@click.command(
    epilog="Example: proteus judge --config proteus.yaml --base-url https://api.example.com/v1 --model big-judge "
    "--api-key-env JUDGE_KEY\n\n"
    "It needs the text of the audits: tiers.<name>.audits.keep_text. Run it as often as audits come in; what it has scored "
    "it does not score again."
)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), required=True, help="The gateway's YAML file."
)
@click.option(
    "--model", required=True, help="The judge, as its provider knows it; none of the pool's models."
)
@click.option(
    "--base-url",
    required=True,
    help="Its OpenAI-compatible address, up to and with /v1; it is asked at /chat/completions.",
)
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds its key.")
@click.option(
    "--rubric",
    type=click.Path(path_type=Path),
    help="File with {query} and {answer} in it; the reply must hold a score.",
)
@click.option("--source", help="Name of its scores [default: judge:MODEL].")
@click.option("--humans", default="people,user", show_default=True, help="Sources it is compared with.")
@click.option("--tier", help="Audits of this tier alone.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Audits of this run, oldest first.",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 100), default=8, show_default=True, help="Calls at a time."
)
def judge(
    config_file: Path,
    model: str,
    base_url: str,
    api_key_env: str | None,
    rubric: Path | None,
    source: str | None,
    humans: str,
    tier: str | None,
    limit: int,
    concurrency: int,
) -> None:
    """Grade the audits that wait, and those that people have graded, by another model, and say how far they agree."""
    with extra("serve"):
        from proteus_router.serving.judge import JUDGE_RUBRIC, JudgeRun, agreement_of, asker, refuse_arms
        from proteus_router.serving.settings import load_configuration
    configuration = load_configuration(config_file)
    if tier is not None and tier not in configuration.settings.tiers:
        raise ConfigError(f"no tier {tier!r}; there are {', '.join(configuration.settings.tiers)}.")
    refuse_arms(model, configuration.pool, ())
    name = source or f"judge:{model}"[:_SOURCE_CHARS]
    template = JUDGE_RUBRIC if rubric is None else rubric.read_text(encoding="utf-8")
    judging = _model(model, base_url, api_key_env)

    async def work(store: Store) -> tuple[Judged, list[HumanAgreement]]:
        from proteus_router.serving.upstream import UpstreamClient

        audits = await store.loop.audits(key_id=None, tier=tier, limit=limit, without_score_of=name)
        refuse_arms(model, (), {audit.model for audit in audits})
        client = UpstreamClient()
        await client.start()
        try:
            run = JudgeRun(asker(client, judging), store, name, time.time, template)
            done = await run.grade(audits, concurrency=concurrency)
        finally:
            await client.close()
        compared = [
            agreement_of(name, human, await store.loop.labels(name, human))
            for human in (part.strip() for part in humans.split(","))
        ]
        _refuse_textless(audits, done)
        return done, [found for found in compared if found is not None]

    done, compared = with_store(configuration.settings.store.url, work)
    _report(name, done, compared)


def _model(name: str, base_url: str, api_key_env: str | None) -> PoolModel:
    from proteus_router.serving.records import PoolModel

    if not base_url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="--base-url")
    key = ""
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "")
        if not key:
            raise ConfigError(f"environment variable {api_key_env} is not set.")
    return PoolModel(name, name, "chat", base_url.rstrip("/"), key, name, 0.0, 0.0)


def _refuse_textless(audits: list[Audit], done: Judged) -> None:
    if audits and done.without_text == len(audits):
        raise InsufficientDataError(
            f"{len(audits)} audits wait, and the text of none was kept.",
            needed=1,
            available=0,
            hint="Set tiers.<name>.audits.keep_text: true; audits drawn from then on can be graded.",
        )


def _report(name: str, done: Judged, compared: list[HumanAgreement]) -> None:
    mean = f", mean score {done.mean_score:.3f}" if done.graded else ""
    click.echo(f"{name}: {done.graded} audits graded{mean}")
    if done.without_text:
        click.echo(f"{done.without_text} audits without text were left out", err=True)
    for why, count in done.failures.most_common(5):
        click.echo(f"warning: {count} x {why}", err=True)
    for found in compared:
        kappa = "" if found.kappa is None else f", kappa {found.kappa:.2f}"
        click.echo(
            f"against {found.mean.reference}: {found.mean.pairs} answers, mean difference {found.mean.difference:+.3f} "
            f"[{found.mean.lower:+.3f}, {found.mean.upper:+.3f}], same verdict on {found.same_verdict:.0%}{kappa}"
            f"{'; in conflict' if found.mean.conflict else ''}"
        )
    if not compared:
        click.echo("no answer was graded by people too: how far it can be trusted is not known")
