"""CARROT (arXiv 2502.03261): ``argmax_i (1 - mu) p_i(x) - mu c_i(x)`` over predicted scores and costs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.baselines.linear import Linear
from proteus_router.baselines.predicting import fit_of_points, model_means
from proteus_router.routing.points import PointPolicy
from proteus_router.types import FloatArray

__all__ = ["Carrot", "price_of"]

_SWEPT = np.concatenate([[0.0], 1.0 / (1.0 + np.geomspace(1e4, 1e-3, 150))])  # mu, rising


@dataclass(frozen=True)
class Carrot:
    """CARROT with ridge heads for score and log cost on the shared features.

    Costs are in units of the dearest model's mean cost, so that mu means the same in every currency; the paper
    leaves the unit open.

    Attributes
    ----------
    mu
        One published setting; None sweeps mu and adds every model alone.
    """

    name: str
    mu: float | None = None

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        fitted = Linear("squared", costs="predicted")(context)
        k = context.train.n_models
        mu = _SWEPT if self.mu is None else np.array([self.mu])
        unit = float(model_means(context.train.costs_usd).max())
        points = PointPolicy.from_prices(price_of(mu, unit), k)
        if self.mu is None:
            points = points.joined(PointPolicy.from_models(np.arange(k), k))
            mu = np.concatenate([mu, np.full(k, np.nan)])
        return fit_of_points(self.name, points, fitted, started=started, knobs=mu)


def price_of(mu: FloatArray, unit_usd: float) -> FloatArray:
    """Price of one USD in score at each mu in [0, 1): dividing by (1 - mu) moves no argmax."""
    return mu / (1.0 - mu) / (unit_usd or 1.0)
