"""What another router, target or price would have done on recorded traffic, with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from proteus_router.learning.estimators import Estimate, effective_size, overlap, snips
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import MOST_ACCURATE
from proteus_router.types import FloatArray, Predictions

__all__ = ["Replay", "chances_of", "replay"]

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
    pi[rows, router.choose(predictions, mix.upper)] += mix.weight_upper
    pi[rows, router.choose(predictions, mix.lower)] += 1.0 - mix.weight_upper
    if predictions.known_shares is not None:
        strange = predictions.known_shares < MIN_KNOWN_WORDS
        pi[strange] = 0.0
        pi[rows[strange], router.choose(predictions, MOST_ACCURATE)[strange]] = 1.0
    return pi, plan.certificate is not None


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
    predictions = router.predict(traffic.texts)
    pi, certified = chances_of(router, predictions, target, guarantee=guarantee)
    rows = np.arange(traffic.n)
    stands_for = traffic.audit_weight
    drawn = traffic.logged[rows, traffic.model]
    weight = pi[rows, traffic.model] / drawn
    base = None if against is None else against.predict(traffic.texts)
    base_pi = None if against is None or base is None else chances_of(against, base, target)[0]

    def terms(seen: FloatArray, predicted: FloatArray, chances: FloatArray) -> FloatArray:
        mean = np.where(chances > 0.0, chances * predicted, 0.0).sum(axis=1)
        ratio = chances[rows, traffic.model] / drawn
        found: FloatArray = mean + ratio * (seen - predicted[rows, traffic.model])
        return found

    def judged(
        seen: FloatArray, predicted: FloatArray, base_predicted: FloatArray | None
    ) -> tuple[Estimate, Estimate, Estimate]:
        """The router's estimate, what was served, and the difference."""
        before = seen
        if base_predicted is not None and base_pi is not None:
            before = terms(seen, base_predicted, base_pi)
        now = terms(seen, predicted, pi)
        return (
            Estimate.of_terms(stands_for * now, confidence),
            Estimate.of_terms(stands_for * seen, confidence),
            Estimate.of_terms(stands_for * (now - before), confidence),
        )

    score, served, gain = judged(traffic.score, predictions.scores, None if base is None else base.scores)
    cost, paid, more = judged(
        traffic.cost_usd, predictions.costs_usd, None if base is None else base.costs_usd
    )
    return Replay(
        n=traffic.n,
        accuracy_target=target,
        certified=certified,
        score=score,
        score_snips=snips(traffic.score, stands_for * weight, confidence=confidence),
        cost_usd=cost,
        served_score=served,
        served_cost_usd=paid,
        score_gain=gain,
        cost_saved_usd=Estimate.around(-more.value, more.error, more.n, confidence),
        overlap=overlap(pi, traffic.logged),
        effective_n=effective_size(stands_for * weight),
        same_model=float(pi[rows, traffic.model].mean()),
    )
