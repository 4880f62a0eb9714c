"""Certificates from traffic: what graded, explored requests prove of operating points near those that served.

A certificate from a thousand outcomes must leave two or three points of margin; ten thousand graded requests leave one.
Every operating point keeps the better of two lower bounds, that of the router's evidence and that of the traffic, each made
at half of the error allowed: so the promise is as strong as before.

The traffic's bound is doubly robust and normal, with the variance that the propensities foretell. It counts where the
weighted requests are worth a quarter of their number: beyond that a few heavy weights decide, and no normal bound can be
trusted. What the traffic could not have shown scores 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from proteus_router.learning.estimators import robust_terms, robust_variance
from proteus_router.learning.promote import LEAST_EFFECTIVE
from proteus_router.learning.replay import served_choice
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.policies import Policy, load_policy
from proteus_router.routing.target_map import TargetMap
from proteus_router.training.certified import evidence_map, with_target_map
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["recertified"]

_LEAST_WORTH = 0.25
"""Effective over actual number of requests, from which on a point may rest on the traffic."""


def recertified(artifact: Artifact, traffic: Traffic, predictions: Predictions) -> Artifact:
    """`artifact` with the better of both bounds at each operating point.

    Parameters
    ----------
    traffic, predictions
        Requests with the router's predictions of them, made without their own scores.
    """
    base = evidence_map(artifact)
    policy = load_policy(artifact.parts["policy"], artifact.manifest["policy"]["state"])
    proved = _Terms.of(policy, traffic, predictions).bounds(base)
    # The evidence's bounds at half of each level's error are those of the next level.
    by_evidence = base.lower_bounds[1:]
    by_traffic = proved.lower_bounds[:-1]
    wins = by_traffic[0] > by_evidence[0]
    if not wins.any():
        return with_target_map(artifact, base)
    digest = hashlib.sha256((base.data_fingerprint + traffic.fingerprint()).encode("utf-8")).hexdigest()
    found = replace(
        base,
        lower_bounds=np.where(wins, np.maximum(by_evidence, by_traffic), by_evidence),
        covered=base.covered[:-1],
        n=np.where(wins, traffic.n, base.n),
        evidence_accuracy=np.where(wins, proved.estimate, base.evidence_accuracy),
        data_fingerprint=digest,
        assumption=f"{base.assumption} {_ASSUMPTION.format(n=traffic.n)}",
    )
    return with_target_map(artifact, found, before_traffic=base)


_ASSUMPTION = (
    "Where n is {n}, the bound rests on as many graded requests of live traffic instead, each weighted with the recorded "
    "probability of its model: they are draws from the distribution of the queries to come, and grading did not look at "
    "scores. That bound is normal; its validity is shown by simulation."
)


@dataclass(frozen=True)
class _Proved:
    """What the traffic says of each point of the sequence.

    Attributes
    ----------
    estimate
        (P,) mean score.
    lower_bounds
        (L, P) each at half of its level's error; 0 where the traffic is worth too little.
    """

    estimate: FloatArray
    lower_bounds: FloatArray


@dataclass(frozen=True)
class _Terms:
    """What every vertex would have got of every request.

    Attributes
    ----------
    traffic
        n requests.
    chosen
        (V, n) the model that each vertex takes.
    predicted
        (n,) predicted score of the model that answered.
    shown
        (V, n) predicted score of the vertex's model, 0 where the traffic could not have shown it.
    inverse
        (V, n) 1 / probability with which that model was drawn, 0 where it could not have been.
    """

    traffic: Traffic
    chosen: IntArray
    predicted: FloatArray
    shown: FloatArray
    inverse: FloatArray

    @classmethod
    def of(cls, policy: Policy, traffic: Traffic, predictions: Predictions) -> _Terms:
        rows = np.arange(traffic.n)
        chosen = np.stack([served_choice(policy, predictions, point) for point in range(policy.n_points)])
        drawn = traffic.logged[rows, chosen]
        return cls(
            traffic,
            chosen,
            predictions.scores[rows, traffic.model],
            np.where(drawn > 0.0, predictions.scores[rows, chosen], 0.0),
            np.divide(1.0, drawn, out=np.zeros_like(drawn), where=drawn > 0.0),
        )

    def bounds(self, base: TargetMap) -> _Proved:
        deltas = (1.0 - base.confidence) / base.covered / base.n_chains / 2.0
        reach = norm.ppf(1.0 - deltas)
        estimate, bounds = np.zeros(base.upper.size), np.zeros((deltas.size, base.upper.size))
        n = self.traffic.n
        for at, (upper, share) in enumerate(zip(base.upper, base.weight_upper, strict=True)):
            terms, variance, worth = self._point(int(upper), float(share))
            estimate[at] = terms.mean()
            if worth >= max(_LEAST_WORTH, LEAST_EFFECTIVE / n):
                bounds[:, at] = estimate[at] - reach * np.sqrt(variance / n)
        return _Proved(estimate, np.clip(bounds, 0.0, 1.0))

    def _point(self, upper: int, share: float) -> tuple[FloatArray, float, float]:
        """Doubly robust terms of a mixture of two vertices, their variance, and what a request is worth to it."""
        lower = min(upper + 1, len(self.chosen) - 1)
        pair, shares, stands_for = (
            [upper, lower],
            np.array([[share], [1.0 - share]]),
            self.traffic.audit_weight,
        )
        taken = shares * (self.chosen[pair] == self.traffic.model) * self.inverse[pair]
        weight = stands_for * taken.sum(axis=0)
        shown = stands_for * (shares * self.shown[pair]).sum(axis=0)
        squares = (shares**2 * self.inverse[pair]).sum(axis=0)
        both = self.chosen[upper] == self.chosen[lower]  # then it is one model's chance
        squares = stands_for**2 * np.where(both, self.inverse[upper], squares)
        terms = robust_terms(self.traffic.score, weight, self.predicted, shown)
        variance = robust_variance(terms, weight, self.traffic.score - self.predicted, squares, shown)
        # Beforehand, from what the weights must be on average: samples that lack the heavy ones would look better.
        worth = 1.0 / float(squares.mean()) if squares.any() else 0.0
        return terms, variance, worth
