"""The outcome table: what every model scored and cost on every query."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from proteus_router.errors import SchemaError
from proteus_router.types import BoolArray, FloatArray, IntArray

__all__ = ["EXTRA_COLUMNS", "OutcomeTable"]

EXTRA_COLUMNS = ("input_tokens", "output_tokens", "latency_s", "confidence")


@dataclass(frozen=True)
class OutcomeTable:
    """Queries x models with score in [0, 1] and cost in USD per request.

    Attributes
    ----------
    query_ids, queries
        (n_queries,), ids are unique, texts are not empty.
    models
        (n_models,), unique names.
    scores, costs_usd
        (n_queries, n_models); NaN where the model did not answer the query, in both at the same places.
    tasks
        (n_queries,) or None.
    extras
        Optional (n_queries, n_models) arrays under the names of `EXTRA_COLUMNS`; NaN where unknown.
    name
        Where it came from, for reports.
    simulated
        Made by `proteus data simulate`; every report on it says so.
    """

    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    models: tuple[str, ...]
    scores: FloatArray
    costs_usd: FloatArray
    tasks: tuple[str, ...] | None = None
    extras: Mapping[str, FloatArray] = field(default_factory=dict)
    name: str = "data"
    simulated: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.models))
        for label, array in (("scores", self.scores), ("costs_usd", self.costs_usd), *self.extras.items()):
            if array.shape != shape:
                raise SchemaError(f"{self.name}: {label} has shape {array.shape}, expected {shape}.")
        if len(self.query_ids) != shape[0] or (self.tasks is not None and len(self.tasks) != shape[0]):
            raise SchemaError(f"{self.name}: query_ids, queries and tasks differ in length.")
        if len(set(self.query_ids)) != shape[0] or len(set(self.models)) != shape[1]:
            raise SchemaError(f"{self.name}: query ids and model names must be unique.")
        if not np.array_equal(np.isnan(self.scores), np.isnan(self.costs_usd)):
            raise SchemaError(f"{self.name}: score and cost must be missing together.")
        seen = self.observed
        scores, costs = self.scores[seen], self.costs_usd[seen]
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            raise SchemaError(f"{self.name}: scores must lie in [0, 1].")
        if costs.size and (costs.min() < 0 or not np.isfinite(costs).all()):
            raise SchemaError(f"{self.name}: costs must be finite and not negative.")

    @property
    def n_queries(self) -> int:
        return len(self.queries)

    @property
    def n_models(self) -> int:
        return len(self.models)

    @cached_property
    def observed(self) -> BoolArray:
        """(n_queries, n_models): True where the model answered the query."""
        return ~np.isnan(self.scores)

    @property
    def binary(self) -> bool:
        """Whether every observed score is 0 or 1 (else scores are graded)."""
        seen = self.scores[self.observed]
        return bool(np.isin(seen, (0.0, 1.0)).all())

    def take(self, rows: Sequence[int] | IntArray | BoolArray) -> OutcomeTable:
        """The table of the given rows, in the order given."""
        index = np.arange(self.n_queries)[np.asarray(rows)]
        return replace(
            self,
            query_ids=tuple(self.query_ids[i] for i in index),
            queries=tuple(self.queries[i] for i in index),
            scores=self.scores[index],
            costs_usd=self.costs_usd[index],
            tasks=None if self.tasks is None else tuple(self.tasks[i] for i in index),
            extras={key: value[index] for key, value in self.extras.items()},
        )

    def with_models(self, models: Sequence[str]) -> OutcomeTable:
        """The table of the given models, in the order given."""
        missing = [model for model in models if model not in self.models]
        if missing:
            raise SchemaError(f"{self.name}: no model named {missing[0]!r}; it has {', '.join(self.models)}.")
        columns = [self.models.index(model) for model in models]
        return replace(
            self,
            models=tuple(models),
            scores=self.scores[:, columns],
            costs_usd=self.costs_usd[:, columns],
            extras={key: value[:, columns] for key, value in self.extras.items()},
        )

    def fingerprint(self) -> str:
        """sha256 over texts, models, scores and costs; independent of the order of models."""
        digest = hashlib.sha256()
        order = sorted(range(self.n_models), key=lambda column: self.models[column])
        for text in (*self.query_ids, *self.queries, *(self.models[column] for column in order)):
            encoded = text.encode("utf-8")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        for array in (self.scores, self.costs_usd):
            digest.update(np.ascontiguousarray(array[:, order], dtype="<f8").tobytes())
        return digest.hexdigest()
