"""The yardsticks every router is held to: static mix, oracle, cost ratio at equal accuracy.

Pure functions on arrays. Missing outcomes are NaN; a mean over the rows that a choice left observed weights
each row by one over its model's observation rate, so that often-observed models do not count for more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.static import static_mix_cost
from proteus_router.routing.hull import lower_hull, mix_at_accuracy
from proteus_router.types import FloatArray, IntArray

__all__ = [
    "CostRatio",
    "Outcome",
    "accuracy_levels",
    "cost_ratio",
    "frontier_ratio",
    "oracle_ratio",
    "outcome_of",
    "static_cost_at",
    "tau_correlation",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Mean score and cost of a way of serving, with the standard error of the mean score."""

    accuracy: float
    accuracy_se: float
    cost_usd: float
    n: int


@dataclass(frozen=True, slots=True)
class CostRatio:
    """Router cost / static-mix cost at equal accuracy, one value a level and their mean."""

    mean: float
    levels: FloatArray
    ratios: FloatArray
    oracle_ratio: float

    @property
    def oracle_gap_closed(self) -> float:
        """(1 - ratio) / (1 - oracle's ratio): 0 is the static mix, 1 the oracle."""
        return float((1.0 - self.mean) / (1.0 - self.oracle_ratio))


def outcome_of(
    upper: IntArray, lower: IntArray, weight_upper: float, scores: FloatArray, costs_usd: FloatArray
) -> Outcome:
    """What a coin between two choices gives: each row is worth its expectation over the coin.

    Parameters
    ----------
    upper, lower
        (n,) model index that either operating point picks.
    weight_upper
        Probability of ``upper``.
    scores, costs_usd
        (n, k), NaN where missing.
    """
    rows = np.arange(len(scores))
    rates = 1.0 - np.isnan(scores).mean(axis=0)  # (k,)
    total = np.zeros(len(scores))  # weighted score, cost and weight a row
    cost, mass = np.zeros(len(scores)), np.zeros(len(scores))
    for choice, share in ((upper, weight_upper), (lower, 1.0 - weight_upper)):
        seen = ~np.isnan(scores[rows, choice])
        weight = np.where(seen, share / np.maximum(rates[choice], 1e-12), 0.0)
        total += weight * np.where(seen, scores[rows, choice], 0.0)
        cost += weight * np.where(seen, costs_usd[rows, choice], 0.0)
        mass += weight
    accuracy = float(total.sum() / mass.sum())
    residual = total - accuracy * mass  # linearisation of the ratio of two sums
    n = int((mass > 0).sum())
    se = float(np.sqrt((residual**2).sum() / max(n - 1, 1) * n) / mass.sum())
    return Outcome(accuracy=accuracy, accuracy_se=se, cost_usd=float(cost.sum() / mass.sum()), n=n)


def accuracy_levels(scores: FloatArray, n_levels: int = 12) -> FloatArray:
    """(n_levels,) evenly from the 30% quantile of the models' means + 0.02 to the best mean - 0.005."""
    means = np.nanmean(scores, axis=0)
    return np.linspace(float(np.quantile(means, 0.3)) + 0.02, float(means.max()) - 0.005, n_levels)


def static_cost_at(scores: FloatArray, costs_usd: FloatArray, accuracy: float) -> float:
    """Cost of the static mix with `accuracy`; above the best single model, that model's cost."""
    means, costs = np.nanmean(scores, axis=0), np.nanmean(costs_usd, axis=0)
    return static_mix_cost(means, costs, min(accuracy, float(means.max())))


def cost_ratio(
    levels: FloatArray, outcomes: list[Outcome], scores: FloatArray, costs_usd: FloatArray
) -> CostRatio:
    """`cost_ratio_to_static_mix`: for each level as the requested target, cost / static-mix cost at the
    accuracy achieved on these rows. The operating points must have been chosen without them."""
    ratios = np.array(
        [item.cost_usd / static_cost_at(scores, costs_usd, item.accuracy) for item in outcomes],
        dtype=np.float64,
    )
    return CostRatio(
        mean=float(ratios.mean()) if len(ratios) else float("nan"),
        levels=levels,
        ratios=ratios,
        oracle_ratio=oracle_ratio(levels, scores, costs_usd),
    )


def frontier_ratio(
    levels: FloatArray, tested: list[Outcome], scores: FloatArray, costs_usd: FloatArray
) -> CostRatio:
    """With hindsight: for each level the cheapest tested point that reaches it here; not reached counts 1.0."""
    ratios = []
    for level in levels:
        reaching = [point.cost_usd for point in tested if point.accuracy >= level]
        ratios.append(min(reaching) / static_cost_at(scores, costs_usd, float(level)) if reaching else 1.0)
    return CostRatio(
        mean=float(np.mean(ratios)),
        levels=levels,
        ratios=np.array(ratios),
        oracle_ratio=oracle_ratio(levels, scores, costs_usd),
    )


def oracle_ratio(levels: FloatArray, scores: FloatArray, costs_usd: FloatArray) -> float:
    """The same ratio for a router that knows the realised scores: the plug-in over all values of a right answer."""
    seen = ~np.isnan(scores)
    known = np.where(seen, scores, -1e9)
    paid = np.where(seen, costs_usd, 0.0)
    typical = float(np.nanmean(costs_usd))
    values = np.concatenate([[0.0], np.geomspace(typical * 1e-5, typical * 1e4, 200)])  # USD a unit of score
    choices = [(known * value - paid).argmax(axis=1) for value in values[1:]]
    choices.append(np.where(seen, costs_usd, np.inf).argmin(axis=1))
    rows = np.arange(len(scores))
    points = np.array([(scores[rows, choice].mean(), costs_usd[rows, choice].mean()) for choice in choices])
    hull = points[lower_hull(points[:, 0], points[:, 1])]
    ratios = []
    for level in levels:
        mix = mix_at_accuracy(hull[:, 0], min(float(level), float(hull[0, 0])))
        cost = mix.weight_upper * hull[mix.upper, 1] + (1.0 - mix.weight_upper) * hull[mix.lower, 1]
        ratios.append(cost / static_cost_at(scores, costs_usd, float(level)))
    return float(np.mean(ratios)) if ratios else float("nan")


def tau_correlation(targets: FloatArray, achieved: FloatArray) -> float:
    """Pearson correlation of the target with the ACHIEVED accuracy; NaN when either does not vary."""
    if len(targets) < 2 or np.ptp(targets) == 0 or np.ptp(achieved) == 0:
        return float("nan")
    return float(np.corrcoef(targets, achieved)[0, 1])
