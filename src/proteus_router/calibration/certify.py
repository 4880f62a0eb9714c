"""From outcomes on evidence rows to a `TargetMap`: the fixed sequence and its lower bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.calibration.bounds import betting_bounds, lower_bound_binomial
from proteus_router.calibration.missing import common_rate, thin
from proteus_router.routing.certificate import Scheme
from proteus_router.routing.frontier import observation_rates
from proteus_router.routing.target_map import TargetMap
from proteus_router.types import FloatArray, IntArray

__all__ = ["calibrate", "mixture_weights"]

COVERED = 2 ** np.arange(7)  # 1, 2, 4, ..., 64 targets together


def calibrate(
    *,
    accuracy: FloatArray,
    cost_usd: FloatArray,
    choices: IntArray,
    scores: FloatArray,
    costs_usd: FloatArray,
    confidence: float,
    scheme: Scheme,
    data_fingerprint: str,
    policy_fingerprint: str,
    seed: int,
    frontier_size: int | None = None,
    min_mixtures: int = 4,
    max_step: float = 0.004,
) -> TargetMap:
    """Lower bounds along the fixed sequence of operating points, from the most accurate down.

    Parameters
    ----------
    accuracy, cost_usd
        (V,) estimates of the policy's points, in each chain accuracy strictly falling and cost not rising. They fix the
        order of the tests; under ``split`` they must come from other rows than the evidence.
    choices
        (V, n) model that each point takes on each evidence row.
    scores, costs_usd
        (n, k) outcomes; NaN where missing. Scores all 0 or 1 get the exact binomial bound, others the
        betting bound.
    confidence
        1 - delta of a single target, in (0, 1).
    scheme
        ``split`` or ``crossfit``: what the evidence rows are. It changes the wording of the assumption only.
    seed
        Of the mixtures' coins, of the thinning and of the betting order.
    frontier_size
        Vertices of the frontier; those after it are a second chain. None: all. Of two chains each is walked with half of
        the error.
    min_mixtures, max_step
        Mixtures in a gap between two vertices: at least `min_mixtures`, and as many as keep the estimated
        accuracy from falling by more than `max_step` a step.

    Raises
    ------
    ValueError
        Shapes that do not belong together, or estimates that are not in order.
    """
    size = accuracy.size if frontier_size is None else frontier_size
    _check(accuracy, cost_usd, choices, scores, costs_usd, confidence, size)
    n = scores.shape[0]
    coins = _Coins.draw(n, seed)
    observed = ~np.isnan(scores)
    binary = bool(np.isin(scores[observed], (0.0, 1.0)).all())
    rates = observation_rates(scores) if n else np.zeros(scores.shape[1])
    chains = [
        (start, mixture_weights(part, min_mixtures=min_mixtures, max_step=max_step))
        for start, part in ((0, accuracy[:size]), (size, accuracy[size:]))
        if part.size
    ]
    upper = np.concatenate([start + found for start, (found, _) in chains])
    weights = np.concatenate([found for _, (_, found) in chains])

    outcomes, costs = [], []
    for vertex, weight in zip(upper, weights, strict=True):
        chosen, rate = _drawn(choices, int(vertex), float(weight), rates, coins)
        outcome, keep = thin(scores, chosen, rates, rate, coins.thinning)
        outcomes.append(outcome[coins.order][keep[coins.order]])
        costs.append(_mean(costs_usd[keep, chosen[keep]]))
    deltas = (1.0 - confidence) / COVERED / len(chains)
    return TargetMap(
        vertex_accuracy=np.asarray(accuracy, dtype=float),
        vertex_cost_usd=np.asarray(cost_usd, dtype=float),
        upper=upper,
        weight_upper=weights,
        evidence_accuracy=np.array([_mean(outcome) for outcome in outcomes]),
        evidence_cost_usd=np.array(costs),
        n=np.array([outcome.size for outcome in outcomes], dtype=np.int64),
        lower_bounds=_bounds(outcomes, deltas, binary=binary),
        covered=COVERED.astype(np.int64),
        variance=None if binary or not outcomes[0].size else float(outcomes[0].var()),
        confidence=confidence,
        scheme=scheme,
        data_fingerprint=data_fingerprint,
        policy_fingerprint=policy_fingerprint,
        assumption=_assumption(scheme, complete=bool(observed.all())),
        frontier_size=frontier_size,
    )


def mixture_weights(
    accuracy: FloatArray, *, min_mixtures: int = 4, max_step: float = 0.004
) -> tuple[IntArray, FloatArray]:
    """The sequence of operating points: every vertex, and evenly weighted mixtures in every gap.

    Returns
    -------
    upper, weight_upper
        (P,) the more accurate vertex of each point and its probability in (0, 1]; most accurate point first.
    """
    upper, weights = [], []
    for vertex, gap in enumerate(accuracy[:-1] - accuracy[1:]):
        steps = max(min_mixtures, int(np.ceil(gap / max_step - 1e-9)) - 1) + 1
        upper.append(np.full(steps, vertex, dtype=np.int64))
        weights.append(1.0 - np.arange(steps) / steps)
    upper.append(np.array([accuracy.size - 1], dtype=np.int64))
    weights.append(np.ones(1))
    return np.concatenate(upper), np.concatenate(weights)


@dataclass(frozen=True)
class _Coins:
    """Randomness shared by all points, so that neighbours differ as little as their weights do."""

    mixture: FloatArray  # (n,) a row takes the more accurate vertex iff its coin is < the weight
    thinning: FloatArray  # (n,)
    order: IntArray  # (n,) in which the betting bound reads the rows

    @classmethod
    def draw(cls, n: int, seed: int) -> _Coins:
        rng = np.random.default_rng(seed)
        return cls(rng.random(n), rng.random(n), rng.permutation(n))


def _drawn(
    choices: IntArray, vertex: int, weight: float, rates: FloatArray, coins: _Coins
) -> tuple[IntArray, float]:
    """(n,) the drawn model of every row at a point, and the chance with which its rows are to be kept."""
    pair = choices[vertex : vertex + (1 if weight == 1.0 else 2)]
    chosen = pair[0] if weight == 1.0 else np.where(coins.mixture < weight, pair[0], pair[1])
    if rates.min() == 1.0:
        return chosen, 1.0
    # By both vertices, not by the draw, so that the rate does not hang on the coins.
    shares = np.bincount(pair.ravel(), minlength=rates.size) / max(pair.size, 1)
    return chosen, common_rate(rates, shares, chosen.size)


def _bounds(outcomes: list[FloatArray], deltas: FloatArray, *, binary: bool) -> FloatArray:
    """(L, P) lower bound of every point at every level."""
    if binary:
        successes, rows = (np.array(list(map(of, outcomes))) for of in (np.sum, np.size))
        return lower_bound_binomial(successes, rows, deltas[:, None])
    bounds = np.stack([betting_bounds(outcome, deltas) for outcome in outcomes], axis=1)
    # A bound at a smaller delta is valid at a larger one: where betting stakes disagree, the lower counts.
    lowest: FloatArray = np.minimum.accumulate(bounds, axis=0)
    return lowest


def _mean(values: FloatArray) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _check(
    accuracy: FloatArray,
    cost_usd: FloatArray,
    choices: IntArray,
    scores: FloatArray,
    costs_usd: FloatArray,
    confidence: float,
    frontier_size: int,
) -> None:
    if (
        not accuracy.size
        or accuracy.shape != cost_usd.shape
        or choices.shape != (accuracy.size, scores.shape[0])
    ):
        raise ValueError(
            f"accuracy {accuracy.shape}, cost {cost_usd.shape} and choices {choices.shape} disagree."
        )
    if scores.ndim != 2 or scores.shape != costs_usd.shape:
        raise ValueError(f"scores {scores.shape} and costs {costs_usd.shape} must be (n, k) alike.")
    if not 0 < frontier_size <= accuracy.size:
        raise ValueError(f"a frontier of {frontier_size} vertices is not one of {accuracy.size}.")
    for chain in (slice(0, frontier_size), slice(frontier_size, None)):
        if np.any(np.diff(accuracy[chain]) >= 0.0) or np.any(np.diff(cost_usd[chain]) > 0.0):
            raise ValueError(
                "points must come most accurate first: accuracy strictly falling, cost not rising."
            )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}.")


_SAMENESS = (
    "Queries served at this target are independent draws from the distribution of the evidence rows; models, "
    "prices and policy are those it was made for; the target was chosen without looking at the evidence."
)
_SCHEMES: dict[Scheme, str] = {
    "split": ("Evidence: held-out rows that neither heads nor policy have seen; the bound is a theorem."),
    "crossfit": (
        "Evidence: out-of-fold outcomes of all rows, standing for the router refitted on them; validity is "
        "shown by simulation, not by a finite-sample theorem."
    ),
}
_MISSING = (
    " Outcomes are missing at random: whether a model was observed depends on the model alone, neither on "
    "the query nor on the score."
)


def _assumption(scheme: Scheme, *, complete: bool) -> str:
    return f"{_SCHEMES[scheme]} {_SAMENESS}" + ("" if complete else _MISSING)
