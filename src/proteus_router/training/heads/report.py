"""How good the cross-fitted predictions are, per model: calibration, sharpness, and what is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from proteus_router.types import BoolArray, FloatArray

__all__ = ["HeadsReport", "ModelReport", "build_report"]


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model's predictions against its outcomes (leave-group-out)."""

    model: str
    n: int
    mean_score: float
    ece: float
    brier: float
    auc: float | None  # None for graded scores, or where all outcomes are equal
    cost_ratio: float | None  # mean predicted over mean observed cost; None for a free model


@dataclass(frozen=True, slots=True)
class HeadsReport:
    """All models, and how much of the differences between models is explained."""

    models: tuple[ModelReport, ...]
    explained_contrasts: float
    explained_level: float
    stack: Mapping[str, Mapping[str, float]]
    n_rows: int
    n_missing: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        plain["models"] = list(plain["models"])
        return plain


def build_report(
    models: Sequence[str],
    predicted: FloatArray,
    predicted_costs: FloatArray,
    scores: FloatArray,
    costs: FloatArray,
    stack: Mapping[str, Mapping[str, float]],
) -> HeadsReport:
    """Compare cross-fitted predictions with outcomes, all (n, k); NaN outcomes are left out and counted."""
    seen = ~np.isnan(scores)
    binary = bool(np.isin(scores[seen], (0.0, 1.0)).all())
    reports = []
    for column, model in enumerate(models):
        rows = seen[:, column]
        p, y = predicted[rows, column], scores[rows, column]
        paid = float(costs[rows, column].mean()) if rows.any() else 0.0
        reports.append(
            ModelReport(
                model=model,
                n=int(rows.sum()),
                mean_score=float(y.mean()) if len(y) else float("nan"),
                ece=expected_calibration_error(p, y),
                brier=float(((p - y) ** 2).mean()) if len(y) else float("nan"),
                auc=area_under_curve(p, y) if binary else None,
                cost_ratio=float(predicted_costs[rows, column].mean()) / paid if paid > 0 else None,
            )
        )
    contrasts, level = _explained(predicted, scores, seen)
    return HeadsReport(tuple(reports), contrasts, level, stack, len(scores), int((~seen).sum()))


def expected_calibration_error(predicted: FloatArray, observed: FloatArray, bins: int = 15) -> float:
    """Mean |mean prediction - mean outcome| over equal-width bins of the prediction, weighted by rows."""
    if not len(predicted):
        return float("nan")
    index = np.clip((predicted * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(index, weights=predicted - observed, minlength=bins)
    return float(np.abs(gap).sum() / len(predicted))


def area_under_curve(predicted: FloatArray, observed: FloatArray) -> float | None:
    """Probability that a right answer was predicted higher than a wrong one; None with one kind only."""
    right = observed > 0.5
    n_right = int(right.sum())
    if n_right in (0, len(observed)):
        return None
    _, inverse, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2.0  # mean rank of a tie
    total = float(ranks[inverse.ravel()][right].sum())
    return (total - n_right * (n_right + 1) / 2.0) / (n_right * (len(observed) - n_right))


def _explained(predicted: FloatArray, scores: FloatArray, seen: BoolArray) -> tuple[float, float]:
    """Explained variance of the contrasts between models, and of the mean over models."""
    counts = np.maximum(seen.sum(axis=1), 1)
    row_y = np.where(seen, scores, 0.0).sum(axis=1) / counts
    row_p = np.where(seen, predicted, 0.0).sum(axis=1) / counts
    y = np.where(seen, scores - row_y[:, None], 0.0)
    p = np.where(seen, predicted - row_p[:, None], 0.0)
    own = y.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    spread = float((np.where(seen, y - own, 0.0) ** 2).sum())
    contrasts = 1.0 - float(((y - p) ** 2).sum()) / spread if spread > 0 else 0.0
    answered = seen.any(axis=1)
    level_spread = float(((row_y - row_y[answered].mean())[answered] ** 2).sum())
    level = 1.0 - float(((row_y - row_p)[answered] ** 2).sum()) / level_spread if level_spread > 0 else 0.0
    return contrasts, level
