"""What another router, target or price would have done on recorded traffic, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from proteus_router.learning.estimators import (
    Estimate,
    effective_size,
    overlap,
    robust_terms,
    robust_variance,
    snips,
)
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.policies import Policy
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import MOST_ACCURATE
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["Replay", "chances_of", "replay", "served_choice"]

MIN_KNOWN_WORDS = 0.5
"""The default of the gateway's routing.min_known_words."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A router's estimated record beside what was served.

    Attributes
    ----------
    score, cost_usd
        Doubly robust estimates for the router.
    served_score, served_cost_usd
        Of what was served.
    score_gain, cost_saved_usd
        Differences over the same decisions: the router's score less what was served, or what the router it is held
        against would have scored; that one's cost less the router's.
    score_snips
        The self-normalised estimate, which trusts no prediction; far from `score`, something is wrong.
    overlap
        Share of the router's choices that the traffic could have shown.
    effective_n
        Decisions that would say as much with equal weights.
    same_model
        Share of the decisions in which it would have taken the model that answered.
    """

    n: int
    accuracy_target: float
    certified: bool
    score: Estimate
    score_snips: Estimate
    cost_usd: Estimate
    served_score: Estimate
    served_cost_usd: Estimate
    score_gain: Estimate
    cost_saved_usd: Estimate
    overlap: float
    effective_n: float
    same_model: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def chances_of(
    router: Router, predictions: Predictions, target: float, *, guarantee: str = "certified"
) -> tuple[FloatArray, bool]:
    """(n, k) probability of each model at `target`, and whether a certificate speaks of it.

    As in the gateway, a text of mostly unknown words goes to the most accurate point.
    """
    plan = router.plan(
        target, guarantee="certified" if guarantee == "certified" else "expected", on_infeasible="best_effort"
    )
    mix = plan.mix
    rows = np.arange(len(predictions.scores))
    pi = np.zeros(predictions.scores.shape)
    pi[rows, served_choice(router, predictions, mix.upper)] += mix.weight_upper
    pi[rows, served_choice(router, predictions, mix.lower)] += 1.0 - mix.weight_upper
    return pi, plan.certificate is not None


def served_choice(router: Router | Policy, predictions: Predictions, point: int) -> IntArray:
    """(n,) model at an operating point; as in the gateway, texts of mostly unknown words get that of the most accurate."""
    choice = router.choose(predictions, point)
    if predictions.known_shares is None:
        return choice
    strange = predictions.known_shares < MIN_KNOWN_WORDS
    return np.where(strange, router.choose(predictions, MOST_ACCURATE), choice) if strange.any() else choice


@dataclass(frozen=True)
class _Estimated:
    """A router's predictions and probabilities on recorded traffic."""

    traffic: Traffic
    predictions: Predictions
    pi: FloatArray
    certified: bool

    @classmethod
    def of(cls, router: Router, traffic: Traffic, target: float, guarantee: str) -> _Estimated:
        predictions = router.predict(traffic.texts)
        return cls(traffic, predictions, *chances_of(router, predictions, target, guarantee=guarantee))

    @property
    def weight(self) -> FloatArray:
        """(n,) its probability of the model that answered over that of the router that served."""
        return self._answered(self.pi) / self._answered(self.traffic.logged)

    @property
    def same_model(self) -> float:
        """Share of the decisions in which it would have taken the model that answered."""
        return float(self._answered(self.pi).mean())

    @property
    def squares(self) -> FloatArray:
        """(n,) mean square of the weight, given the query."""
        logged = self.traffic.logged
        by_model = np.divide(self.pi**2, logged, out=np.zeros_like(logged), where=logged > 0.0)
        found: FloatArray = by_model.sum(axis=1)
        return found

    def terms(self, seen: FloatArray, predicted: FloatArray) -> FloatArray:
        """(n,) doubly robust terms of what was `seen` (n,), as `predicted` (n, k)."""
        return robust_terms(seen, self.weight, self._answered(predicted), self._chances(predicted))

    def estimate(
        self, terms: FloatArray, seen: FloatArray, predicted: FloatArray, confidence: float
    ) -> Estimate:
        """Mean of these `terms`; the interval counts with the weights that might have come."""
        stands_for = self.traffic.audit_weight
        terms = stands_for * terms
        variance = robust_variance(
            terms,
            stands_for * self.weight,
            seen - self._answered(predicted),
            stands_for**2 * self.squares,
            stands_for * self._chances(predicted),
        )
        return Estimate.of_terms(terms, confidence, variance=variance)

    def _chances(self, predicted: FloatArray) -> FloatArray:
        """(n,) what is predicted of its choices."""
        found: FloatArray = np.where(self.pi > 0.0, self.pi * predicted, 0.0).sum(axis=1)
        return found

    def _answered(self, of_models: FloatArray) -> FloatArray:
        """(n,) the entries of the models that answered."""
        found: FloatArray = of_models[np.arange(self.traffic.n), self.traffic.model]
        return found


def replay(
    router: Router,
    traffic: Traffic,
    target: float,
    *,
    guarantee: str = "certified",
    confidence: float = 0.95,
    against: Router | None = None,
) -> Replay:
    """Estimate what `router` at `target` would have scored and cost on `traffic`.

    The predictions inside the estimate are the router's own: wrong ones widen the interval and do not bias it, as far as
    the traffic overlaps with what the router does (`Replay.overlap`).

    Parameters
    ----------
    against
        The router that the differences are taken from, itself estimated on the same traffic; None: what was served, tries
        of other models included.
    """
    own = _Estimated.of(router, traffic, target, guarantee)
    base = None if against is None else _Estimated.of(against, traffic, target, "certified")
    stands_for = traffic.audit_weight

    def judged(
        seen: FloatArray, predicted: Callable[[Predictions], FloatArray]
    ) -> tuple[Estimate, Estimate, Estimate]:
        """The router's estimate, what was served, and the difference."""
        now = own.terms(seen, predicted(own.predictions))
        before = seen if base is None else base.terms(seen, predicted(base.predictions))
        return (
            own.estimate(now, seen, predicted(own.predictions), confidence),
            Estimate.of_terms(stands_for * seen, confidence),
            Estimate.of_terms(stands_for * (now - before), confidence),
        )

    score, served, gain = judged(traffic.score, lambda found: found.scores)
    cost, paid, more = judged(traffic.cost_usd, lambda found: found.costs_usd)
    weight = stands_for * own.weight
    return Replay(
        n=traffic.n,
        accuracy_target=target,
        certified=own.certified,
        score=score,
        score_snips=snips(traffic.score, weight, confidence=confidence),
        cost_usd=cost,
        served_score=served,
        served_cost_usd=paid,
        score_gain=gain,
        cost_saved_usd=Estimate.around(-more.value, more.error, more.n, confidence),
        overlap=overlap(own.pi, traffic.logged),
        effective_n=effective_size(weight),
        same_model=own.same_model,
    )
