"""`proteus benchmark`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click

from proteus_router.errors import ConfigError

__all__ = ["benchmark"]

_QUICK_ROWS, _QUICK_SEEDS = 1_200, 2


@click.command(
    epilog="Example: proteus benchmark outcomes/ simulated --seeds 5 --jobs 2 -o results/\n\n"
    "Killed or interrupted? The same command goes on where it was."
)
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the report.")
@click.option("--routers", help="Names separated by commas (default: all).")
@click.option(
    "--seeds", type=click.IntRange(min=1), help="Random splits of each data set (default 5; 2 with --quick)."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes, one thread each (default: the processors)."
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1.0, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of every certificate.",
)
@click.option(
    "--experiments",
    help="Names separated by commas out of leak, pool, budget, shift, latency, or none (default: all).",
)
@click.option(
    "--quick",
    is_flag=True,
    help=f"A first look: {_QUICK_ROWS:,} rows of each data set, fewer routers and splits.",
)
@click.option(
    "--origins",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON: data set -> a sentence on what in it is simulated, derived or measured.",
)
def benchmark(
    datasets: tuple[str, ...],
    output: Path,
    routers: str | None,
    seeds: int | None,
    jobs: int | None,
    confidence: float,
    experiments: str | None,
    quick: bool,
    origins: Path | None,
) -> int:
    """Compare routers on outcome data sets: ours, every baseline and the ablations, held out.

    A DATASET is a path, a folder's name under $PROTEUS_DATA, or `simulated`. Leaves report.html, report.md,
    results.parquet, manifest.json and figures/ in OUTPUT; OUTPUT/work holds the pieces and may be deleted.
    """
    from proteus_router.baselines.registry import select
    from proteus_router.evaluation.harness.plan import EXPERIMENTS, Plan
    from proteus_router.evaluation.harness.run import run_benchmark

    names = None if routers is None else [name.strip() for name in routers.split(",")]
    plan = Plan(
        output=output,
        specs=datasets,
        seeds=tuple(range(seeds or (_QUICK_SEEDS if quick else 5))),
        routers=tuple(entry.name for entry in select(names, quick=quick)),
        experiments=_experiments(experiments, EXPERIMENTS),
        confidence=confidence,
        limit=_QUICK_ROWS if quick else None,
        quick=quick,
    )
    done = run_benchmark(
        plan,
        jobs=jobs or os.cpu_count() or 1,
        command="proteus " + shlex.join(sys.argv[1:]),
        origins={} if origins is None else _origins(origins),
        say=lambda line: click.echo(line, err=True),
    )
    for path in done.files:
        click.echo(path)
    for failure in done.failures:
        click.echo(f"proteus: failed: {failure}", err=True)
    return 1 if done.failures else 0


def _origins(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file ({error}).", hint="Check --origins.") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ConfigError(
            f"{path}: must hold one JSON object of texts.", hint='Write {"mine": "costs measured."}.'
        )
    return found


def _experiments(given: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return known
    names = [name.strip() for name in given.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in known:
            raise click.BadParameter(
                f"no experiment named {name!r}; there are {', '.join(known)}.", param_hint="--experiments"
            )
    return tuple(name for name in known if name in names)
