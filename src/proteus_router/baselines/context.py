"""What the routers of one benchmark cell share: training rows, folds, features and our heads, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from proteus_router.config import HeadsConfig, TrainConfig
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.splits import fold_ids
from proteus_router.encoders.lexical import LexicalEncoder, stack_rows
from proteus_router.training.heads import FittedHeads, fit_heads
from proteus_router.training.stages import MemoryStages, StageStore, stage
from proteus_router.types import Arrays, FloatArray, IntArray, Predictions

__all__ = ["Context", "Features"]

T = TypeVar("T")


@dataclass(frozen=True)
class Features:
    """Both lexical views of some texts.

    Attributes
    ----------
    dense
        (n, d), standardised by the training rows.
    words
        (n, v) sparse TF-IDF rows.
    """

    dense: FloatArray
    words: csr_matrix

    def take(self, rows: IntArray) -> Features:
        return Features(self.dense[rows], self.words[rows])


@dataclass(frozen=True)
class Context:
    """One data set's training part at one seed, with what every router would else compute again.

    Build it with `Context.of`. Heavy parts are made on first use; those of our heads go through `stages`, so that
    a killed run finds them again.

    Attributes
    ----------
    train
        Training rows; models in the order of `training.pipeline.canonical_models`.
    groups
        (n,) text group of each row.
    folds
        (n,) fold of each row, whole groups; every cross-fitted router uses these.
    stages
        Under fixed names: a folder of its own for every data set, seed and configuration.
    config
        Of our heads, our policy and paper mode.
    """

    train: OutcomeTable
    groups: IntArray
    folds: IntArray
    seed: int
    stages: StageStore
    config: TrainConfig
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        train: OutcomeTable,
        *,
        seed: int,
        groups: IntArray | None = None,
        stages: StageStore | None = None,
        config: TrainConfig | None = None,
        n_folds: int = 5,
    ) -> Context:
        """Context of `train`; `groups` are worked out and stages kept in memory where they are not given.

        Raises
        ------
        InsufficientDataError
            Fewer text groups than folds.
        """
        found = near_text_groups(train.queries) if groups is None else groups
        return cls(
            train=train,
            groups=found,
            folds=fold_ids(found, n_folds, seed),
            seed=seed,
            stages=MemoryStages() if stages is None else stages,
            config=TrainConfig() if config is None else config,
        )

    @cached_property
    def lexical(self) -> LexicalEncoder:
        """Fitted on the training texts; no outcome is looked at. The one that our heads use."""
        config = self.config.heads

        def fit() -> Arrays:
            texts = self.train.queries
            encoder = LexicalEncoder.fit(texts, dim=config.lexical_dim, min_df=config.min_df, seed=self.seed)
            return encoder.to_state()[0]

        return LexicalEncoder.from_state(stage(self.stages, "heads-lexical", fit), {})

    @cached_property
    def features(self) -> Features:
        """Of the training rows."""
        dense, words = self._train_views
        mean, scale = self._scaling
        return Features((dense - mean) / scale, words)

    def features_of(self, texts: Sequence[str]) -> Features:
        """Of other texts; the last batch asked for is remembered."""
        return self.remember("features", texts, self._encode)

    @cached_property
    def heads(self) -> FittedHeads:
        """Our heads as `proteus train` fits them: `heads.oof` are cross-fitted predictions of the training rows."""
        return self.fit_heads(self.config.heads)

    def fit_heads(self, config: HeadsConfig) -> FittedHeads:
        """Heads of another configuration; estimators in common with finished ones are taken from `stages`."""
        return fit_heads(
            self.train,
            self.groups,
            encoder=None,
            config=config,
            seed=self.seed,
            stages=self.stages,
            progress=lambda *_: None,
        )

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Our heads on other texts; the last batch asked for is remembered."""
        return self.remember("heads", texts, lambda batch: self.heads.predictor.predict(list(batch)))

    def remember(self, name: str, texts: Sequence[str], compute: Callable[[Sequence[str]], T]) -> T:
        """`compute(texts)`, kept for the next caller with the same texts. One batch a name."""
        key = tuple(texts)
        kept = self._memo.get(name)
        if kept is None or kept[0] != key:
            kept = (key, compute(key))
            self._memo[name] = kept
        found: T = kept[1]
        return found

    @cached_property
    def _train_views(self) -> tuple[FloatArray, csr_matrix]:
        return _views(self.lexical, self.train.queries)

    @cached_property
    def _scaling(self) -> tuple[FloatArray, FloatArray]:
        dense, _ = self._train_views
        scale = dense.std(axis=0)
        return dense.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)

    def _encode(self, texts: Sequence[str]) -> Features:
        dense, words = _views(self.lexical, texts)
        mean, scale = self._scaling
        return Features((dense - mean) / scale, words)


def _views(lexical: LexicalEncoder, texts: Sequence[str]) -> tuple[FloatArray, csr_matrix]:
    """Dense view, not standardised, and sparse view, in one pass over the words."""
    found = [lexical.row(text) for text in texts]
    dense = np.array([lexical.dense(row) for row in found]).reshape(len(found), lexical.dim)
    return dense, stack_rows(found, lexical.n_words).to_csr()
