"""What a benchmark run consists of, and where its pieces lie."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import proteus_router
from proteus_router.baselines.registry import REGISTRY
from proteus_router.evaluation.harness.datasets import BenchData

__all__ = ["ALONE", "EXPERIMENTS", "Plan", "Step", "cell_folder", "code_fingerprint"]

EXPERIMENTS = ("leak", "pool", "budget", "shift", "latency")
"""Experiments with fits of their own; the others read what the routers left."""
ALONE = ("latency",)
"""Steps that measure time: they wait until nothing else runs."""

_NOT_PART_OF_A_FIT = (
    "cli/",
    "serving/",
    "evaluation/report/",
    "evaluation/evaluate.py",
    "evaluation/figures.py",
    "evaluation/tables.py",
    "evaluation/experiments/dynamic.py",
    *(
        f"evaluation/harness/{name}.py"
        for name in ("analysis", "clock", "compare", "manifest", "run", "schedule")
    ),
)
"""Sources that only read what fits left, or only start them."""


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes
    ----------
    specs
        Data sets as the command line named them.
    routers
        Names in the registry.
    experiments
        Of `EXPERIMENTS`.
    limit
        Rows kept of each data set; None: all.
    quick
        Fewer sizes, tasks and resamples in the experiments.
    """

    output: Path
    specs: tuple[str, ...]
    seeds: tuple[int, ...]
    routers: tuple[str, ...]
    experiments: tuple[str, ...] = EXPERIMENTS
    confidence: float = 0.95
    limit: int | None = None
    quick: bool = False

    @property
    def work(self) -> Path:
        return self.output / "work"

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self) | {"output": str(self.output)}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists | {"output": Path(values["output"])}))

    def steps(self, seed: int, *, alone: bool | None = None) -> list[Step]:
        """What is to be done in a cell of that seed, in order.

        ``alone`` picks the steps that must run with nothing beside them, or the others; None: all.
        """
        place = self.seeds.index(seed)
        steps = [Step("router", name) for name in self.routers if place < _most_seeds(name)]
        steps += [Step("experiment", name) for name in self.experiments if seed in self._seeds(name)]
        return [step for step in steps if alone is None or (step.name in ALONE) == alone]

    def _seeds(self, experiment: str) -> tuple[int, ...]:
        """Experiments that fit heads again run on fewer seeds."""
        many = {"pool": len(self.seeds), "latency": 1}
        return self.seeds[: many.get(experiment, 2 if self.quick else 3)]


def _most_seeds(router: str) -> float:
    limit = REGISTRY[router].max_seeds
    return float("inf") if limit is None else limit


@dataclass(frozen=True, slots=True)
class Step:
    """One router's fit, or one experiment, in one cell."""

    kind: str
    name: str

    def file(self, folder: Path) -> Path:
        return folder / (f"{self.name}.safetensors" if self.kind == "router" else f"{self.name}.json")


def cell_folder(plan: Plan, data: BenchData, seed: int) -> Path:
    """Where the pieces of a cell lie: other data, code or settings mean another folder, so nothing stale is read."""
    key = hashlib.sha256()
    for part in (
        data.table.fingerprint(),
        f"{data.test_share} {plan.confidence} {plan.quick}",
        code_fingerprint(),
    ):
        key.update(part.encode() + b"\n")
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", data.name)[:60]
    return plan.work / f"{slug}-{key.hexdigest()[:12]}" / f"seed{seed}"


@cache
def code_fingerprint() -> str:
    """sha256 of the package's sources that a fit depends on."""
    root = Path(proteus_router.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in (".py", ".txt") and not name.startswith(_NOT_PART_OF_A_FIT):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
