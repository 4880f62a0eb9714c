"""What policy training is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from proteus_router.routing.points import Policy
from proteus_router.types import FloatArray, IntArray, Meta, Predictions

__all__ = ["PolicyFit", "Problem"]


@dataclass(frozen=True)
class Problem:
    """Honest predictions beside outcomes.

    Attributes
    ----------
    predicted_scores, predicted_costs_usd
        (n, n_models), cross-fitted: no row's own outcome, nor a near twin's, went into its prediction.
    scores, costs_usd
        (n, n_models) outcomes, NaN where missing.
    groups
        (n,) group id; rows of near-same text share one.
    """

    predicted_scores: FloatArray
    predicted_costs_usd: FloatArray
    scores: FloatArray
    costs_usd: FloatArray
    groups: IntArray

    def __post_init__(self) -> None:
        shape = self.predicted_scores.shape
        for name in ("predicted_costs_usd", "scores", "costs_usd"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}.")
        if self.groups.shape != shape[:1]:
            raise ValueError(f"groups has shape {self.groups.shape}, expected {shape[:1]}.")
        if not (np.isfinite(self.predicted_scores).all() and np.isfinite(self.predicted_costs_usd).all()):
            raise ValueError("predictions must be finite.")

    @property
    def n_queries(self) -> int:
        return int(self.scores.shape[0])

    @property
    def n_models(self) -> int:
        return int(self.scores.shape[1])

    @cached_property
    def predictions(self) -> Predictions:
        return Predictions(self.predicted_scores, self.predicted_costs_usd)

    def take(self, rows: IntArray) -> Problem:
        return Problem(
            self.predicted_scores[rows],
            self.predicted_costs_usd[rows],
            self.scores[rows],
            self.costs_usd[rows],
            self.groups[rows],
        )


@dataclass(frozen=True)
class PolicyFit:
    """The policy that ships.

    Attributes
    ----------
    policy
        Its points are hull vertices only, most accurate first.
    accuracy, cost_usd
        (n_points,) out-of-fold estimates of the vertices.
    out_of_fold_choices
        (n_points, n) model that each vertex picks on every row when fitted without that row's fold: the
        evidence of a cross-fitted certificate.
    report
        JSON-able: which candidate ships, by how much and why.
    """

    policy: Policy
    accuracy: FloatArray
    cost_usd: FloatArray
    out_of_fold_choices: IntArray
    report: Meta
