"""What a data set holds, in figures a person checks before training on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable

__all__ = ["DataSummary", "ModelSummary", "summarise"]


@dataclass(frozen=True)
class ModelSummary:
    """One model: means are over the queries it answered."""

    model: str
    n_outcomes: int
    mean_score: float | None
    mean_cost_usd: float | None


@dataclass(frozen=True)
class DataSummary:
    """A data set in figures.

    Attributes
    ----------
    scores
        "binary" where all are 0 or 1, else "graded".
    missing_share
        Share of (query, model) pairs without an outcome.
    n_text_groups, n_queries_in_shared_groups
        Groups of near-same texts, and queries whose group holds another one.
    """

    name: str
    simulated: bool
    n_queries: int
    n_outcomes: int
    scores: str
    missing_share: float
    n_text_groups: int
    n_queries_in_shared_groups: int
    models: tuple[ModelSummary, ...]
    tasks: dict[str, int]
    extras: tuple[str, ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def summarise(table: OutcomeTable) -> DataSummary:
    """Compute the figures; the near-text groups take a second per 10,000 long texts."""
    group_sizes = np.bincount(near_text_groups(table.queries))
    counts = table.observed.sum(axis=0)
    models = tuple(
        ModelSummary(
            model,
            int(count),
            float(np.nanmean(table.scores[:, column])) if count else None,
            float(np.nanmean(table.costs_usd[:, column])) if count else None,
        )
        for column, (model, count) in enumerate(zip(table.models, counts, strict=True))
    )
    return DataSummary(
        name=table.name,
        simulated=table.simulated,
        n_queries=table.n_queries,
        n_outcomes=int(counts.sum()),
        scores="binary" if table.binary else "graded",
        missing_share=float(1 - table.observed.mean()),
        n_text_groups=len(group_sizes),
        n_queries_in_shared_groups=int(group_sizes[group_sizes > 1].sum()),
        models=models,
        tasks=dict(Counter(table.tasks or ()).most_common()),
        extras=tuple(table.extras),
        fingerprint=table.fingerprint(),
    )
