"""From the pieces of a finished run to everything its report shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from proteus_router.baselines.registry import REGISTRY, Entry
from proteus_router.evaluation.experiments.dynamic import dynamic
from proteus_router.evaluation.harness.cells import Cell, make_cell
from proteus_router.evaluation.harness.compare import (
    Interval,
    Ratios,
    compare,
    draw_multiplicity,
    ratios_of_cell,
    tolerance_noise,
)
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.measure import measure, measure_oracle
from proteus_router.evaluation.harness.plan import Plan, Step, cell_folder
from proteus_router.evaluation.harness.records import Fitted, Served, load_record
from proteus_router.evaluation.harness.results import Results, Row, read_rows
from proteus_router.types import FloatArray

__all__ = ["Analysis", "Tolerance", "analyse", "is_ablation", "our_router"]

_RESAMPLES, _QUICK_RESAMPLES = 1_000, 300
TOLERANCES = (0.02, 0.05)
PAPER = "paper"
"""The published configuration; other entries of its kind are its ablations."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How often a target is met within `tolerance`, and how often noise alone would let it."""

    tolerance: float
    observed: float
    allowed: float
    p_value: float


@dataclass
class Analysis:
    """A run worked out.

    Attributes
    ----------
    entries
        Routers of the run in the registry's order.
    ours
        The router the others are held against; None where the run has none of ours.
    shown
        Data set -> its cell at the first seed and the routers fitted there, for figures.
    versus
        (data set, router, way) -> ours minus theirs in cost ratio, paired; the way is expected or native.
    skipped
        (data set, router) -> why it was left out.
    """

    plan: Plan
    data_sets: list[BenchData]
    entries: list[Entry]
    ours: str | None
    results: Results
    shown: dict[str, tuple[Cell, dict[str, Fitted]]] = field(default_factory=dict)
    versus: dict[tuple[str, str, str], Interval] = field(default_factory=dict)
    tolerance: dict[tuple[str, str], list[Tolerance]] = field(default_factory=dict)
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)

    def title(self, router: str) -> str:
        return REGISTRY[router].title if router in REGISTRY else router


def our_router(routers: tuple[str, ...]) -> str | None:
    """The first of ours among the routers of a run."""
    return next((name for name in routers if REGISTRY[name].kind == "ours"), None)


def is_ablation(router: str) -> bool:
    """One part of ours, or of the published configuration, changed."""
    kind = REGISTRY[router].kind
    return kind == "ablation" or (kind == "paper" and router != PAPER)


def analyse(plan: Plan, data_sets: list[BenchData], *, say: Callable[[str], None]) -> Analysis:
    """Measure every record, compare ours with every router, collect what the experiments found."""
    rows: list[Row] = []
    found = Analysis(
        plan, data_sets, [REGISTRY[name] for name in plan.routers], our_router(plan.routers), Results(())
    )
    for data in data_sets:
        say(f"measuring {data.name}")
        rows += _of_data(plan, data, found)
    found.results = Results(rows)
    return found


def _of_data(plan: Plan, data: BenchData, found: Analysis) -> list[Row]:
    resamples = _QUICK_RESAMPLES if plan.quick else _RESAMPLES
    multiplicity = draw_multiplicity(int(data.groups.max()) + 1, resamples, seed=0)
    rows: list[Row] = []
    theirs: dict[tuple[str, str], list[Ratios]] = {}
    ours: dict[tuple[str, str], list[Ratios]] = {}
    kept: dict[str, list[tuple[Cell, Fitted]]] = {}
    for seed in plan.seeds:
        folder = cell_folder(plan, data, seed)
        cell = make_cell(data, seed)
        rows += measure_oracle(cell)
        routers: dict[str, Fitted] = {}
        for name in (step.name for step in plan.steps(seed) if step.kind == "router"):
            record = load_record(Step("router", name).file(folder))
            if record is None:
                found.skipped[data.name, name] = "not fitted"
            elif record.fitted is None:
                found.skipped[data.name, name] = record.reason
            else:
                routers[name] = record.fitted
                rows += measure(cell, record)
        for name in _compared_in_streams(plan, routers):
            rows += dynamic(cell, name, routers[name])
        for experiment in plan.experiments:
            rows += read_rows(Step("experiment", experiment).file(folder)) or []
        if seed == plan.seeds[0]:
            found.shown[data.name] = (cell, routers)
        for key, (left, right) in _paired(cell, routers, found.ours, multiplicity).items():
            ours.setdefault(key, []).append(left)
            theirs.setdefault(key, []).append(right)
        for name, fitted in routers.items():
            if not is_ablation(name):
                kept.setdefault(name, []).append((cell, fitted))
    for (name, way), values in theirs.items():
        interval = compare(ours[name, way], values)
        if interval is not None:
            found.versus[data.name, name, way] = interval
    for name, cells in kept.items():
        noise = tolerance_noise(cells, TOLERANCES, multiplicity)
        found.tolerance[data.name, name] = [Tolerance(size, *values) for size, values in noise.items()]
    return rows


def _paired(
    cell: Cell, routers: dict[str, Fitted], ours: str | None, multiplicity: FloatArray
) -> dict[tuple[str, str], tuple[Ratios, Ratios]]:
    """(name, way) -> cost ratio of ours and of theirs at what both were asked for, on every resample.

    A router with one setting can't be asked for anything: it is held against ours at that setting's own accuracy, as
    estimated in training.
    """
    if ours is None or ours not in routers:
        return {}
    levels = cell.grids.levels.tolist()
    own = routers[ours]
    asked: dict[str, list[Served]] = {"ours": [own.expected(level) for level in levels]}
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    for name, fitted in routers.items():
        if name == ours:
            continue
        estimates = fitted.target_map.vertex_accuracy
        if estimates.size > 1:
            asked[name] = [fitted.expected(level) for level in levels]
            pairs[name, "expected"] = ("ours", name)
        else:
            point = float(np.clip(estimates[0], 1e-4, 1 - 1e-4))
            asked[name] = [fitted.expected(point)]
            asked[f"ours at {name}"] = [own.expected(point)]
            pairs[name, "expected"] = (f"ours at {name}", name)
        if fitted.is_native:
            asked[f"{name} by itself"] = [fitted.native(level) for level in levels]
            pairs[name, "native"] = ("ours", f"{name} by itself")
    ratios = ratios_of_cell(cell, asked, multiplicity)
    return {key: (ratios[left], ratios[right]) for key, (left, right) in pairs.items()}


def _compared_in_streams(plan: Plan, routers: dict[str, Fitted]) -> list[str]:
    """Routers that take targets, ablations aside."""
    return [
        name
        for name, fitted in routers.items()
        if not is_ablation(name) and (fitted.target_map.vertex_accuracy.size > 1 or fitted.is_native)
    ]
