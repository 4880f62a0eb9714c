"""What the paper's training sees of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proteus_router.config import PaperConfig
from proteus_router.types import BoolArray, FloatArray

__all__ = ["PaperRows", "make_rows", "target_range"]


@dataclass(frozen=True)
class PaperRows:
    """Standardised features beside outcomes, float32.

    Attributes
    ----------
    features
        (n, dim), standardised.
    scores, observed
        (n, n_models); scores are 0 where not observed and must be read with `observed`.
    costs
        (n_models,) mean cost of each model in units of the dearest: the paper leaves its unit open, and this
        one puts every cost into [0, 1] beside the score.
    targets
        Lowest and highest tau.
    """

    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    observed: BoolArray
    costs: NDArray[np.float32]
    targets: tuple[float, float]


def make_rows(
    features: FloatArray, scores: FloatArray, mean_costs: FloatArray, unit: float, config: PaperConfig
) -> PaperRows:
    """Rows in the types the network reads."""
    observed = ~np.isnan(scores)
    return PaperRows(
        features.astype(np.float32),
        np.where(observed, scores, 0.0).astype(np.float32),
        observed,
        (mean_costs / unit).astype(np.float32),
        config.target_range or target_range(scores),
    )


def target_range(scores: FloatArray) -> tuple[float, float]:
    """From the 30% quantile of the models' mean scores to the best of them: where a floor binds and holds."""
    means = np.nanmean(scores, axis=0)
    low, high = float(np.quantile(means, 0.3)), float(means.max())
    return (low, high) if low < high else (max(high - 0.01, 0.0), high)
