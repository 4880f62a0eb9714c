"""What a run was made from: enough to repeat it."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import proteus_router
from proteus_router._version import __version__
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.plan import Plan, code_fingerprint

__all__ = ["Manifest", "make_manifest", "write_manifest"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pyarrow", "matplotlib", "torch", "onnxruntime")


@dataclass(frozen=True)
class Manifest:
    """Commit, versions, data fingerprints, seeds, times.

    Attributes
    ----------
    data
        One entry a data set: name, fingerprint, sizes, split, whether it is simulated.
    origins
        Name of a data set -> what in it is simulated, derived or measured.
    seconds_by_router
        Processor time of fit, inversion and choices, summed over data sets and seeds. Features and heads that several
        routers share count for the first that asked for them.
    """

    command: str
    date: str
    version: str
    commit: str
    code_fingerprint: str
    packages: Mapping[str, str]
    python: str
    machine: str
    jobs: int
    minutes: float
    seeds: tuple[int, ...]
    routers: tuple[str, ...]
    experiments: tuple[str, ...]
    confidence: float
    limit: int | None
    quick: bool
    data: tuple[Mapping[str, Any], ...]
    origins: Mapping[str, str]
    skipped: Mapping[str, str]
    failures: tuple[str, ...]
    seconds_by_router: Mapping[str, float]


def make_manifest(
    plan: Plan,
    data_sets: list[BenchData],
    *,
    command: str,
    jobs: int,
    seconds: float,
    origins: Mapping[str, str],
    skipped: Mapping[str, str],
    failures: list[str],
    seconds_by_router: Mapping[str, float],
) -> Manifest:
    """Of a run that just ended; `seconds` is the time of this run, not of earlier ones that it went on from."""
    return Manifest(
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        version=__version__,
        commit=_commit(),
        code_fingerprint=code_fingerprint(),
        packages={name: _version(name) for name in _PACKAGES},
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        jobs=jobs,
        minutes=seconds / 60.0,
        seeds=plan.seeds,
        routers=plan.routers,
        experiments=plan.experiments,
        confidence=plan.confidence,
        limit=plan.limit,
        quick=plan.quick,
        data=tuple(_data_entry(data) for data in data_sets),
        origins={data.name: origins.get(data.name, _origin(data)) for data in data_sets},
        skipped=skipped,
        failures=tuple(failures),
        seconds_by_router={name: round(value, 1) for name, value in seconds_by_router.items()},
    )


def write_manifest(manifest: Manifest, path: Path) -> None:
    path.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def _data_entry(data: BenchData) -> dict[str, Any]:
    table = data.table
    return {
        "name": data.name,
        "fingerprint": table.fingerprint(),
        "simulated": table.simulated,
        "n_queries": table.n_queries,
        "n_models": table.n_models,
        "binary_scores": table.binary,
        "missing_share": float(1.0 - table.observed.mean()),
        "test_share": data.test_share,
        "n_text_groups": int(data.groups.max()) + 1,
    }


def _origin(data: BenchData) -> str:
    if data.table.simulated:
        return "made-up models answer made-up queries; no figure is one of a real model."
    return "scores and costs as the data set gives them."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the source tree, with a mark where it has changes; "unknown" outside one."""
    folder = Path(proteus_router.__file__).parent

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            " (with changes)" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
