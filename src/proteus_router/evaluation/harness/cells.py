"""One data set at one seed: what is trained on, what is held out, and the targets asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from proteus_router.baselines.static import static_mix_cost
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.splits import split_rows
from proteus_router.errors import InsufficientDataError
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.grids import Grids, grids_of
from proteus_router.training.pipeline import canonical_models
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["Cell", "make_cell"]


@dataclass(frozen=True)
class Cell:
    """Training and test rows with models in one order.

    Attributes
    ----------
    train_groups, test_groups
        Text group of each row, in the numbering of the whole data set: no group is in both.
    n_groups
        Groups of the whole data set, so that cells of one data set can be resampled together.
    expected_scores, query_only
        (n_test, k), where the world is simulated.
    """

    data: str
    seed: int
    train: OutcomeTable
    test: OutcomeTable
    train_groups: IntArray
    test_groups: IntArray
    n_groups: int
    expected_scores: FloatArray | None = None
    query_only: Predictions | None = None

    @cached_property
    def grids(self) -> Grids:
        return grids_of(self.train.scores, self.train.costs_usd, self.test.scores)

    @cached_property
    def test_means(self) -> tuple[FloatArray, FloatArray]:
        """(k,) mean score and mean cost of each model on the test rows."""
        return np.nanmean(self.test.scores, axis=0), np.nanmean(self.test.costs_usd, axis=0)

    def static_cost(self, accuracy: float) -> float:
        """Cost of the static mix with that accuracy on the test rows; above the best model, that model's."""
        means, costs = self.test_means
        return static_mix_cost(means, costs, min(accuracy, float(means.max())))


def make_cell(data: BenchData, seed: int) -> Cell:
    """Split by near-text group at random.

    Raises
    ------
    InsufficientDataError
        A model without any outcome in one of the parts.
    """
    split = split_rows(data.groups, test_share=data.test_share, seed=seed)
    train = canonical_models(_complete(data.table.take(split.train), "training", seed))
    test = _complete(data.table.take(split.test), "test", seed).with_models(train.models)
    columns = np.array([data.table.models.index(model) for model in train.models])
    pick = np.ix_(split.test, columns)
    known = data.query_only
    return Cell(
        data=data.name,
        seed=seed,
        train=train,
        test=test,
        train_groups=data.groups[split.train],
        test_groups=data.groups[split.test],
        n_groups=int(data.groups.max()) + 1,
        expected_scores=None if data.expected_scores is None else data.expected_scores[pick],
        query_only=None if known is None else Predictions(known.scores[pick], known.costs_usd[pick]),
    )


def _complete(part: OutcomeTable, name: str, seed: int) -> OutcomeTable:
    """The part, if every model has an outcome in it."""
    for model, count in zip(part.models, part.observed.sum(axis=0).tolist(), strict=True):
        if not count:
            raise InsufficientDataError(
                f"{part.name}: model {model!r} has no outcome among the {part.n_queries} {name} rows of seed {seed}.",
                needed=1,
                available=0,
                hint="Add outcomes of this model, or leave it out.",
            )
    return part
