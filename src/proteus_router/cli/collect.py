"""`proteus data collect`: outcomes from a user's own prompts."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import click
from tqdm import tqdm

from proteus_router.cli.extras import extra
from proteus_router.errors import InsufficientDataError

if TYPE_CHECKING:
    from proteus_router.data.writers import Format
    from proteus_router.serving.collect import Job, Journal, Tally
    from proteus_router.serving.collect.job import GraderName

__all__ = ["collect"]


@click.command(
    epilog="Example: proteus data collect --config proteus.yaml --prompts prompts.jsonl --grader regex "
    "--pattern 'Answer: (.+)' -o outcomes/ --max-usd 5\n\n"
    "Stopped or failed half-way? The same command goes on where it ended. docs/collecting-outcomes.md describes "
    "graders and files."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The gateway's YAML file; its pool is asked.",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    required=True,
    help="Parquet, CSV or JSONL with query_id, query, and what the grader needs (reference, pattern).",
)
@click.option(
    "--grader",
    type=click.Choice(("exact", "regex", "judge")),
    required=True,
    help="How answers become scores.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the data set."
)
@click.option(
    "--pattern", help="Regular expression of the grader regex; its group is compared with the reference."
)
@click.option("--judge", metavar="MODEL", help="Pool model of the grader judge; not asked itself.")
@click.option(
    "--judge-prompt",
    type=click.Path(path_type=Path),
    help="File with {query}, {reference} and {answer} in it.",
)
@click.option("--models", help="Ask these only, separated by commas [default: the whole pool].")
@click.option("--system", default="", help="Instructions sent with every prompt.")
@click.option(
    "--body",
    metavar="JSON",
    default="{}",
    help='Further fields of every request, such as {"temperature": 0}.',
)
@click.option("--limit", type=click.IntRange(min=1), help="The first so many prompts only.")
@click.option("--max-usd", type=click.FloatRange(0, min_open=True), help="Spend limit of this run.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, help="Calls at a time."
)
@click.option(
    "--expect-tokens",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Length of an answer, for the estimate, until some were seen.",
)
@click.option("--keep-answers", is_flag=True, help="Keep the answers' texts in the folder's journal.")
@click.option("--simulated", is_flag=True, help="The pool is simulated: the data set will say so.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice(("parquet", "csv", "jsonl")),
    default="parquet",
    show_default=True,
    help="Format of the files written.",
)
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
def collect(
    config: Path,
    prompts: Path,
    grader: str,
    output: Path,
    pattern: str | None,
    judge: str | None,
    judge_prompt: Path | None,
    models: str | None,
    system: str,
    body: str,
    limit: int | None,
    max_usd: float | None,
    concurrency: int,
    expect_tokens: float,
    keep_answers: bool,
    simulated: bool,
    fmt: str,
    yes: bool,
) -> None:
    """Ask every model of the pool every prompt, grade the answers, write an outcome data set.

    The cost is estimated first. Whatever ends the run, the data set holds what was collected.
    """
    with extra("serve"):
        from proteus_router.serving.collect import Grading, Job, Journal, Wording, pool_models, read_prompts
        from proteus_router.serving.collect.graders import JUDGE_PROMPT
        from proteus_router.serving.settings import load_configuration

    only = [name.strip() for name in models.split(",")] if models else []
    chosen, judging = pool_models(load_configuration(config).pool, only=only, judge=judge)
    template = JUDGE_PROMPT if judge_prompt is None else judge_prompt.read_text(encoding="utf-8")
    grading = Grading(cast("GraderName", grader), pattern, judging, template)
    job = Job(
        read_prompts(prompts, needs=grading.needs)[:limit],
        chosen,
        grading,
        Wording(system, _fields(body)),
        expect_tokens,
    )
    with Journal(output, job.settings()) as journal:
        if job.missing(journal) and not _agreed(job, journal, max_usd, yes=yes):
            raise click.Abort
        try:
            with _Progress() as watch:
                tally = asyncio.run(
                    job.run(
                        journal,
                        concurrency=concurrency,
                        max_usd=max_usd,
                        keep_answers=keep_answers,
                        watch=watch,
                    )
                )
        finally:
            _write(job, journal, output, cast("Format", fmt), simulated=simulated)
    _report(tally, output, max_usd)


def _fields(body: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})", param_hint="--body") from error
    if not isinstance(content, dict) or {"model", "messages", "input", "stream"} & content.keys():
        raise click.BadParameter(
            "must be a JSON object without model, messages, input and stream", param_hint="--body"
        )
    return content


def _agreed(job: Job, journal: Journal, max_usd: float | None, *, yes: bool) -> bool:
    estimates = job.estimates(journal)
    total = sum(item.usd for item in estimates)
    click.echo(f"{'model':32s} {'outcomes':>9s} {'tokens out':>11s} {'USD':>10s}", err=True)
    for item in estimates:
        name = f"{item.model} (judge)" if item.is_judge else item.model
        click.echo(f"{name[:32]:32s} {item.n:9d} {item.output_tokens:11.0f} {item.usd:10.4f}", err=True)
    limited = "" if max_usd is None else f", limited to {max_usd:g} USD"
    click.echo(f"{'about':32s} {'':21s} {total:10.4f}{limited}", err=True)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("This spends money and nobody is there to ask: add --yes.")
    return click.confirm("Go on?", err=True)


def _write(job: Job, journal: Journal, output: Path, fmt: Format, *, simulated: bool) -> None:
    from proteus_router.serving.collect import outcome_table, write_data_set

    table = outcome_table(job.prompts, journal, name=output.resolve().name, simulated=simulated)
    if table is not None:
        write_data_set(table, output, fmt)


def _report(tally: Tally, output: Path, max_usd: float | None) -> None:
    click.echo(
        f"{output}: {tally.done} of {tally.total} outcomes, {tally.spent_usd:.4f} USD in this run", err=True
    )
    if tally.cut:
        click.echo(f"warning: {tally.cut} answers were cut off by the limit on their length.", err=True)
    for (model, what), count in tally.failures.most_common(10):
        click.echo(f"warning: {model}: {count} x {what}", err=True)
    if tally.complete:
        return
    why = f"stopped at the limit of {max_usd:g} USD" if tally.limit_reached else "some answers failed"
    raise InsufficientDataError(
        f"{tally.done} of {tally.total} outcomes are there: {why}.",
        needed=tally.total,
        available=tally.done,
        hint="Run the same command again to go on.",
    )


class _Progress:
    """A bar on a terminal; elsewhere a line at every tenth."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._said = -1

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, tally: Tally) -> None:
        if not sys.stderr.isatty():
            tenth = 10 * tally.done // tally.total
            if tenth > self._said:
                self._said = tenth
                click.echo(f"{tally.done} of {tally.total}, {tally.spent_usd:.4f} USD", err=True)
            return
        if self._bar is None:
            self._bar = tqdm(total=tally.total, unit="outcome", file=sys.stderr)
        failed = sum(tally.failures.values())
        self._bar.set_postfix_str(f"{tally.spent_usd:.4f} USD" + (f", {failed} failed" if failed else ""))
        self._bar.update(tally.done - self._bar.n)
