"""Routers that read nothing: one model, a mix of models, a die; and the oracle, which reads the answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.predicting import model_means
from proteus_router.types import FloatArray, IntArray

__all__ = ["AlwaysBest", "AlwaysCheapest", "StaticMix", "UniformRandom", "oracle_choices"]


@dataclass(frozen=True)
class AlwaysCheapest:
    """The model with the lowest mean cost in training; of equal ones the more accurate."""

    name: str = "always-cheapest"

    def fit(self, context: Context) -> RouterFit:
        scores, costs = model_means(context.train.scores), model_means(context.train.costs_usd)
        return _constant(self.name, np.lexsort((-scores, costs))[:1], context)


@dataclass(frozen=True)
class AlwaysBest:
    """The model with the best mean score in training; of equal ones the cheaper."""

    name: str = "always-best"

    def fit(self, context: Context) -> RouterFit:
        scores, costs = model_means(context.train.scores), model_means(context.train.costs_usd)
        return _constant(self.name, np.lexsort((costs, -scores))[:1], context)


@dataclass(frozen=True)
class StaticMix:
    """The cheapest random mix of fixed models: a point a model; the inversion finds the mix.

    The linear program ``min w.c s.t. w.p >= tau, w >= 0, sum w = 1`` has its solution on the lower hull of the
    models' (accuracy, cost), two models at most.
    """

    name: str = "static-mix"

    def fit(self, context: Context) -> RouterFit:
        return _constant(self.name, np.arange(context.train.n_models), context)


@dataclass(frozen=True)
class UniformRandom:
    """Every model with equal probability, drawn by the seed and the text."""

    name: str = "random"

    def fit(self, context: Context) -> RouterFit:
        k, seed = context.train.n_models, context.seed
        started = time.perf_counter()
        return RouterFit(
            name=self.name,
            knobs=np.full(1, np.nan),
            choices=lambda texts: _drawn(texts, k, seed),
            out_of_fold=_drawn(context.train.queries, k, seed),
            seconds=time.perf_counter() - started,
        )


def oracle_choices(scores: FloatArray, costs_usd: FloatArray) -> IntArray:
    """(n,) cheapest of the best models of every query, labels known; no router can do this.

    Parameters
    ----------
    scores, costs_usd
        (n, k), NaN where missing; a query with no outcome at all gets model 0.
    """
    seen = ~np.isnan(scores)
    heights = np.where(seen, scores, -np.inf)
    prices = np.where(
        heights == heights.max(axis=1, keepdims=True), np.where(seen, costs_usd, np.inf), np.inf
    )
    choice: IntArray = prices.argmin(axis=1)
    return choice


def _constant(name: str, models: IntArray, context: Context) -> RouterFit:
    def choices(texts: Sequence[str]) -> IntArray:
        return np.tile(models[:, None], (1, len(texts)))

    return RouterFit(
        name=name,
        knobs=np.full(models.size, np.nan),
        choices=choices,
        out_of_fold=choices(context.train.queries),
    )


def _drawn(texts: Sequence[str], k: int, seed: int) -> IntArray:
    """(1, n) model of each text; the same text and seed draw the same model, wherever the text stands."""
    key = seed.to_bytes(8, "little", signed=True)
    digests = (hashlib.blake2b(text.encode("utf-8"), digest_size=8, key=key).digest() for text in texts)
    return np.array([[int.from_bytes(digest, "little") % k for digest in digests]], dtype=np.int64)
