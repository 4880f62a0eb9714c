"""From the points of any router to a requested accuracy: estimate, lower hull, mix, certify."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.calibration.certify import calibrate
from proteus_router.calibration.selection import out_of_fold_choices
from proteus_router.data.splits import fold_ids
from proteus_router.routing.frontier import estimate_points, frontier_vertices
from proteus_router.routing.target_map import TargetMap
from proteus_router.types import IntArray

__all__ = ["Inverted", "invert"]

_EVIDENCE_FOLDS = 10
"""As in our own training, so that the promise is the same."""


@dataclass(frozen=True)
class Inverted:
    """A router that can be asked for an accuracy.

    Attributes
    ----------
    points
        (V,) the router's points that are vertices, most accurate first: row v of ``fit.choices(texts)[points]`` is
        vertex v of the map.
    target_map
        `expected` and `certify` of it give mixes over vertices.
    """

    points: IntArray
    target_map: TargetMap


def invert(fit: RouterFit, context: Context, *, confidence: float = 0.95, min_gap: float = 0.002) -> Inverted:
    """Invert the router's frontier on its out-of-fold outcomes and certify it on the same rows.

    The evidence of a vertex comes from points chosen without the row's fold (`calibration.selection`), unless the
    router brings its own estimates, whose evidence is taken as it is.

    Parameters
    ----------
    min_gap
        Accuracy between neighbouring vertices kept.
    """
    train = context.train
    if fit.estimates is None:
        estimates = estimate_points(fit.out_of_fold, train.scores, train.costs_usd)
        points = frontier_vertices(estimates, min_gap=min_gap)
        estimates = estimates.take(points)
        evidence = out_of_fold_choices(
            accuracy=estimates.accuracy,
            cost_usd=estimates.cost_usd,
            candidates=fit.out_of_fold,
            scores=train.scores,
            costs_usd=train.costs_usd,
            folds=fold_ids(
                context.groups, min(_EVIDENCE_FOLDS, np.unique(context.groups).size), context.seed
            ),
        )
    else:
        estimates, points, evidence = fit.estimates, np.arange(fit.n_points), fit.out_of_fold
    target_map = calibrate(
        accuracy=estimates.accuracy,
        cost_usd=estimates.cost_usd,
        choices=evidence,
        scores=train.scores,
        costs_usd=train.costs_usd,
        confidence=confidence,
        scheme="crossfit",
        data_fingerprint="",
        policy_fingerprint=fit.name,
        seed=context.seed,
    )
    return Inverted(points, target_map)
