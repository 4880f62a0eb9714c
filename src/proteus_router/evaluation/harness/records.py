"""What a fitted router leaves on disk: its choices on the test rows and its target map, never the router itself.

Everything the report shows is worked out from these, so a change of a figure refits nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from proteus_router.errors import ArtifactIntegrityError, InfeasibleTargetError
from proteus_router.routing.artifact import row_major
from proteus_router.routing.target_map import Certificate, OperatingMix, TargetMap
from proteus_router.types import Arrays, FloatArray, IntArray, Predictions

__all__ = ["Fitted", "RouterRecord", "Served", "load_record", "save_record"]

Status = Literal["fitted", "skipped", "failed"]


@dataclass(frozen=True)
class Served:
    """A way of serving the test rows: two choices and the probability of the first."""

    upper: IntArray
    lower: IntArray
    weight_upper: float


@dataclass(frozen=True)
class Fitted:
    """The arrays of a fitted router.

    Attributes
    ----------
    knobs, point_accuracy, point_cost_usd
        (P,) of every setting: what was turned, and what it gave on the test rows.
    target_map, vertices
        From `baselines.inversion.invert`: V vertices, (V,) indices of settings.
    test_choices, train_choices
        (V, n_test) and, out of fold, (V, n_train).
    native_targets, native_upper, native_lower, native_weight
        (T,) what the router's own mapping from targets says, indices into `native_choices`; empty where it has none.
    native_choices
        (U, n_test).
    predicted
        Predicted score and cost on the test rows, where the router has them.
    confidences, floors
        (C,) and (C, P'): the target map's floors at other confidences; empty where they were not asked for.
    latency_ms
        (q,) time of one query at a time; empty where it was not measured.
    """

    knobs: FloatArray
    point_accuracy: FloatArray
    point_cost_usd: FloatArray
    target_map: TargetMap
    vertices: IntArray
    test_choices: IntArray
    train_choices: IntArray
    native_targets: FloatArray = field(default_factory=lambda: np.zeros(0))
    native_upper: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    native_lower: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    native_weight: FloatArray = field(default_factory=lambda: np.zeros(0))
    native_choices: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    predicted: Predictions | None = None
    confidences: FloatArray = field(default_factory=lambda: np.zeros(0))
    floors: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    latency_ms: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def is_native(self) -> bool:
        return self.native_targets.size > 0

    def expected(self, target: float) -> Served:
        """Served at `target` by the estimate: no margin; out of reach, the most accurate vertex."""
        mix = self.expected_mix(target)
        return Served(self.test_choices[mix.upper], self.test_choices[mix.lower], mix.weight_upper)

    def expected_in_training(self, target: float) -> Served:
        """The same setting on the training rows, out of fold."""
        mix = self.expected_mix(target)
        return Served(self.train_choices[mix.upper], self.train_choices[mix.lower], mix.weight_upper)

    def expected_mix(self, target: float) -> OperatingMix:
        """The two vertices and the coin for `target`, by the estimate."""
        mix = self.target_map.expected(target, clamp=True)
        assert isinstance(mix, OperatingMix)  # clamped: never Infeasible
        return mix

    def native(self, target: float) -> Served:
        """Served at `target` by the router's own mapping; `target` must be one of the cell's grids."""
        place = int(np.abs(self.native_targets - target).argmin())
        upper, lower = self.native_upper[place], self.native_lower[place]
        return Served(
            self.native_choices[upper], self.native_choices[lower], float(self.native_weight[place])
        )

    def at_floor(self, target: float, floors: FloatArray) -> Served:
        """Served at the last point of the sequence whose floor, one of `floors`, is at least `target`.

        Raises
        ------
        InfeasibleTargetError
            There is none.
        """
        point = int(np.searchsorted(-floors, -target, side="right")) - 1
        if point < 0:
            raise InfeasibleTargetError(f"{target:g} is above every floor.", best_certified=None)
        upper, weight = int(self.target_map.upper[point]), float(self.target_map.weight_upper[point])
        lower = upper if weight == 1.0 else upper + 1
        return Served(self.test_choices[upper], self.test_choices[lower], weight)

    def certified(self, target: float) -> Served:
        """Served at `target` with its certificate.

        Raises
        ------
        InfeasibleTargetError
            It can't be certified.
        """
        found = self.target_map.certify(target)
        if not isinstance(found, Certificate):
            raise InfeasibleTargetError(found.reason, best_certified=found.best_certified)
        mix = self.target_map.mix(found)
        return Served(self.test_choices[mix.upper], self.test_choices[mix.lower], mix.weight_upper)


@dataclass(frozen=True)
class RouterRecord:
    """One router in one cell: fitted, or why not; `seconds` of processor time, whatever else the machine does."""

    router: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    fitted: Fitted | None = None


_SMALL = np.int16  # model and point indices
_INDICES = ("vertices", "test_choices", "train_choices", "native_choices", "native_upper", "native_lower")
_ARRAYS = (
    "knobs",
    "point_accuracy",
    "point_cost_usd",
    "native_targets",
    "native_weight",
    "confidences",
    "floors",
    "latency_ms",
)


def save_record(record: RouterRecord, path: Path) -> None:
    """Write beside and rename: a kill leaves a whole file or none."""
    arrays: Arrays = {"_": np.zeros(1)}  # safetensors has no empty file
    meta: dict[str, Any] = {
        "router": record.router,
        "status": record.status,
        "reason": record.reason,
        "seconds": record.seconds,
    }
    fitted = record.fitted
    if fitted is not None:
        map_arrays, meta["target_map"] = fitted.target_map.to_state()
        arrays |= {f"map.{name}": array for name, array in map_arrays.items()}
        arrays |= {name: getattr(fitted, name) for name in _ARRAYS}
        arrays |= {name: getattr(fitted, name).astype(_SMALL) for name in _INDICES}
        if fitted.predicted is not None:
            arrays["predicted_scores"] = fitted.predicted.scores.astype(np.float32)
            arrays["predicted_costs_usd"] = fitted.predicted.costs_usd.astype(np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(row_major(arrays), unfinished, metadata={"json": json.dumps(meta)})
    os.replace(unfinished, path)


def load_record(path: Path) -> RouterRecord | None:
    """The record, or None where there is none or it is damaged (then it is made again)."""
    try:
        with safe_open(path, framework="numpy") as file:
            meta = json.loads(file.metadata()["json"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
        fitted = _fitted(arrays, meta) if meta["status"] == "fitted" else None
    except (FileNotFoundError, SafetensorError, ArtifactIntegrityError, KeyError, TypeError, ValueError):
        return None
    return RouterRecord(meta["router"], meta["status"], meta["reason"], meta["seconds"], fitted)


def _wide(arrays: Arrays) -> dict[str, Any]:
    return {name: arrays[name].astype(np.int64) for name in _INDICES}


def _fitted(arrays: Arrays, meta: dict[str, Any]) -> Fitted:
    predicted = None
    if "predicted_scores" in arrays:
        predicted = Predictions(arrays["predicted_scores"].astype(np.float64), arrays["predicted_costs_usd"])
    prefix = "map."
    return Fitted(
        target_map=TargetMap.from_state(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)},
            meta["target_map"],
        ),
        predicted=predicted,
        **{name: arrays[name] for name in _ARRAYS},
        **_wide(arrays),
    )
