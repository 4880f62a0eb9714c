"""The whole of `proteus benchmark`: read, fit, measure, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proteus_router.errors import ConfigError
from proteus_router.evaluation.harness.analysis import Analysis, analyse
from proteus_router.evaluation.harness.cells import make_cell
from proteus_router.evaluation.harness.datasets import BenchData, load_data
from proteus_router.evaluation.harness.manifest import make_manifest, write_manifest
from proteus_router.evaluation.harness.plan import Plan
from proteus_router.evaluation.harness.results import write_results
from proteus_router.evaluation.harness.schedule import run_plan

__all__ = ["BenchmarkRun", "run_benchmark"]


@dataclass(frozen=True)
class BenchmarkRun:
    """What a run left, and what failed in it."""

    analysis: Analysis
    files: tuple[Path, ...]
    failures: tuple[str, ...]


def run_benchmark(
    plan: Plan,
    *,
    jobs: int,
    command: str,
    origins: Mapping[str, str],
    say: Callable[[str], None],
) -> BenchmarkRun:
    """Run what is not done of a plan and write its report.

    Raises
    ------
    SchemaError, InsufficientDataError
        A data set can't be used; nothing has been run.
    ConfigError
        Two data sets of one name.
    """
    started = time.monotonic()
    data_sets = [load_data(spec, limit=plan.limit) for spec in plan.specs]
    _check(plan, data_sets)
    plan.output.mkdir(parents=True, exist_ok=True)
    failures = run_plan(plan, data_sets, jobs=jobs, say=say)
    analysis = analyse(plan, data_sets, say=say)
    from proteus_router.evaluation.report.build import (
        write_report,  # matplotlib, only when there is something to draw
    )

    seconds: dict[str, float] = {}
    for row in analysis.results:
        if row.experiment == "main" and row.metric == "seconds" and row.value is not None:
            seconds[row.router] = seconds.get(row.router, 0.0) + row.value
    manifest = make_manifest(
        plan,
        data_sets,
        command=command,
        jobs=jobs,
        seconds=time.monotonic() - started,
        origins=origins,
        skipped={f"{data}: {router}": reason for (data, router), reason in analysis.skipped.items()},
        failures=failures,
        seconds_by_router=seconds,
    )
    table, about = plan.output / "results.parquet", plan.output / "manifest.json"
    write_results(analysis.results, table)
    write_manifest(manifest, about)
    say("drawing")
    files = [*write_report(analysis, manifest, plan.output), table, about]
    return BenchmarkRun(analysis, tuple(files), tuple(failures))


def _check(plan: Plan, data_sets: list[BenchData]) -> None:
    names = [data.name for data in data_sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two data sets are named {twice[0]!r}.", hint="Name each data set once.")
    for data in data_sets:
        for seed in plan.seeds:
            make_cell(data, seed)  # a model without outcomes in a part is told of now, not in an hour
