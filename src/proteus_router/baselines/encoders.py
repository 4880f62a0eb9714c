"""Our heads on other encoders: MiniLM in the place of words or beside them, and a transformer tuned end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from proteus_router.baselines.context import Context
from proteus_router.baselines.predicting import CrossFitted, cost_head
from proteus_router.encoders.base import Encoder
from proteus_router.encoders.cache import CachedEncoder
from proteus_router.encoders.loading import load_encoder
from proteus_router.routing.predictor import limit_scores
from proteus_router.training.heads import fit_heads
from proteus_router.training.heads.cost import fit_cost
from proteus_router.training.heads.fit import fit_forest
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.training.heads.stack import combine, fit_stack
from proteus_router.training.stages import StageStore
from proteus_router.types import Arrays, FloatArray, Predictions

__all__ = ["BesideWords", "FineTuned", "InPlaceOfWords"]


@dataclass(frozen=True)
class BesideWords:
    """Our heads with a further encoder joined to the dense lexical view: `proteus train --encoder`."""

    encoder: str = "minilm"

    def __call__(self, context: Context) -> CrossFitted:
        heads = fit_heads(
            context.train,
            context.groups,
            encoder=_load(self.encoder),
            config=context.config.heads,
            seed=context.seed,
            stages=_Apart(context.stages, self.encoder),
            progress=lambda *_: None,
        )
        return CrossFitted(heads.oof, lambda texts: heads.predictor.predict(list(texts)))


@dataclass(frozen=True)
class InPlaceOfWords:
    """The same two estimators and stack, both on the encoder's rows alone, linear kernel; the cost likewise."""

    encoder: str = "minilm"

    def __call__(self, context: Context) -> CrossFitted:
        encoder, train, config = _load(self.encoder), context.train, context.config.heads
        raw = encoder.encode(train.queries).astype(np.float64)
        mean, scale = raw.mean(axis=0), raw.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        rows = (raw - mean) / scale
        kernel = solve_kernel(raw @ raw.T, train.scores - 0.5, context.groups, config.kernel_alpha)
        forest_oof, forest = fit_forest(
            raw.astype(np.float32),
            train.scores,
            context.groups,
            config,
            context.seed,
            stages=_Apart(context.stages, f"{self.encoder}-alone"),
            progress=lambda *_: None,
        )
        bases = [kernel.oof + 0.5, forest_oof]
        weights = fit_stack(bases, train.scores)
        cost = fit_cost(rows, train.costs_usd, context.groups, config.cost_alpha)
        word_weights = raw.T @ kernel.weights

        def predict(texts: Sequence[str]) -> Predictions:
            found = encoder.encode(texts).astype(np.float64)
            other = (found - mean) / scale
            linear = found @ word_weights + kernel.intercept + 0.5
            scores = combine(weights, [linear, forest.predict(found)])
            return Predictions(limit_scores(scores), np.exp(other @ cost.weights + cost.intercept))

        return CrossFitted(Predictions(limit_scores(combine(weights, bases)), cost.oof), predict)


@dataclass(frozen=True)
class FineTuned:
    """A transformer tuned end to end on the outcomes, once a fold and once on all rows; cost from words.

    Attributes
    ----------
    weights
        Hugging Face name or folder; it must be on this machine.
    epochs
        Passes over the rows.
    """

    weights: str = "microsoft/deberta-v3-small"
    epochs: int = 3

    def __call__(self, context: Context) -> CrossFitted:
        from proteus_router.encoders.fine_tune import fine_tune
        from proteus_router.encoders.transformer import TransformerEncoder

        base, train = TransformerEncoder(self.weights), context.train

        def tuned(rows: FloatArray) -> Callable[[Sequence[str]], FloatArray]:
            texts = [train.queries[row] for row in np.flatnonzero(rows)]
            model = fine_tune(base, texts, train.scores[rows], seed=context.seed, epochs=self.epochs)
            return model.predict_scores

        out_of_fold = np.empty_like(train.scores)
        for fold in range(int(context.folds.max()) + 1):
            held = context.folds == fold
            texts = [train.queries[row] for row in np.flatnonzero(held)]
            out_of_fold[held] = tuned(~held)(texts)
        final = tuned(np.ones(train.n_queries, dtype=bool))
        own_costs, cost = cost_head(context)

        def predict(texts: Sequence[str]) -> Predictions:
            scores = context.remember(self.weights, texts, partial(_scored, final))
            return Predictions(scores, cost(context.features_of(texts)))

        return CrossFitted(Predictions(out_of_fold, own_costs), predict)


def _scored(score: Callable[[Sequence[str]], FloatArray], texts: Sequence[str]) -> FloatArray:
    return np.asarray(score(list(texts)), dtype=np.float64)


def _load(name: str) -> Encoder:
    return cast("Encoder", CachedEncoder(load_encoder(name)))


class _Apart:
    """Stages under names of their own, but for those that do not depend on the further encoder."""

    _SHARED = ("heads-lexical", "heads-kernel")

    def __init__(self, stages: StageStore, name: str) -> None:
        self._stages, self._prefix = stages, f"{name}-".replace("/", "_")

    def load(self, name: str) -> Arrays | None:
        return self._stages.load(self._own(name))

    def save(self, name: str, arrays: Arrays) -> None:
        self._stages.save(self._own(name), arrays)

    def _own(self, name: str) -> str:
        return name if name in self._SHARED else self._prefix + name
