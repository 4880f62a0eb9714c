"""Plain frozen records that cross module borders, and the array aliases used in signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Arrays",
    "BoolArray",
    "Candidate",
    "Decision",
    "FloatArray",
    "Guarantee",
    "IntArray",
    "Meta",
    "OnInfeasible",
    "Predictions",
    "Predictor",
    "ProgressFn",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
"""What a fitted object saves: named arrays for safetensors, never objects."""
Meta = dict[str, Any]
"""What a fitted object saves beside its arrays: values JSON can hold."""

Guarantee = Literal["certified", "expected"]
OnInfeasible = Literal["reject", "best_effort"]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted score and cost of every model on every query.

    Attributes
    ----------
    scores
        (n_queries, n_models), in [0, 1].
    costs_usd
        (n_queries, n_models), USD per request, > 0.
    embedding
        (n_queries, dim) float32 where a policy network reads the query itself (`--mode paper`), else None.
    known_shares
        (n_queries,) share of a query's words that training had seen, 0 where it has no words; None where the
        predictor can't tell. Low: the predictions rest on nothing.
    """

    scores: FloatArray
    costs_usd: FloatArray
    embedding: NDArray[np.float32] | None = None
    known_shares: FloatArray | None = None


class Predictor(Protocol):
    """Predicts score and cost from text alone; what a router runs at inference (numpy, no torch)."""

    def predict(self, texts: list[str]) -> Predictions: ...


class ProgressFn(Protocol):
    """Called as ``progress(stage, done, total)``; draws nothing by itself."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model as the router saw it for one query."""

    model: str
    predicted_score: float
    predicted_cost_usd: float
    propensity: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What the router chose for one query, and why.

    ``propensity`` is the probability with which ``model`` was drawn: 1.0 unless the target lies between two
    operating points that disagree on this query.
    """

    model: str
    accuracy_target: float
    internal_target: float
    predicted_score: float
    predicted_cost_usd: float
    certified: bool
    propensity: float
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    certificate: Mapping[str, Any] | None = field(default=None)
