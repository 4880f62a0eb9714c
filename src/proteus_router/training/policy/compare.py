"""Which candidate ships: out-of-fold cost ratios, their paired bootstrap errors, and the rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.config import PolicyConfig
from proteus_router.routing.hull import lower_hull
from proteus_router.training.policy.outcomes import LevelOutcomes, weighted_outcomes
from proteus_router.training.policy.problem import Problem
from proteus_router.types import FloatArray, Meta

__all__ = ["Verdict", "bootstrap_ratios", "cost_ratio", "decide"]

_Z95 = 1.645  # one-sided 95%
_FREE = 0.01


@dataclass(frozen=True)
class Verdict:
    """The name of the candidate that ships, and the report on all of them."""

    shipped: str
    report: Meta


def cost_ratio(
    accuracy: FloatArray, cost: FloatArray, model_accuracy: FloatArray, model_cost: FloatArray
) -> float:
    """Mean over levels of cost / static-mix cost at the accuracy achieved; above the best model, its cost.

    A free model makes the mix free at low accuracy. Costs then count as at least `_FREE` of the dearest model's,
    on both sides; in a pool that is free altogether every ratio is 1.
    """
    hull = lower_hull(model_accuracy, model_cost)[::-1]
    static = np.interp(accuracy, model_accuracy[hull], model_cost[hull])
    if static.min() <= 0.0:
        least = _FREE * float(model_cost.max())
        if least == 0.0:
            return 1.0
        cost, static = np.maximum(cost, least), np.maximum(static, least)
    return float((cost / static).mean())


def bootstrap_ratios(
    problem: Problem, candidates: dict[str, LevelOutcomes], n_resamples: int, seed: int
) -> dict[str, FloatArray]:
    """Cost ratio of every candidate, (1 + n_resamples,): on the rows as they are, then on resampled groups.

    Whole groups of near-same text are drawn with replacement, the same draws for every candidate, so
    differences are paired. Policies are not refitted: the error is that of the evaluation.
    """
    _, group = np.unique(problem.groups, return_inverse=True)
    n_groups = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    multiplicity = np.concatenate([np.ones((1, n_groups)), counts])  # (1 + n_resamples, n_groups)

    def totals(values: FloatArray) -> FloatArray:
        """(1 + n_resamples, columns) from (n, columns)."""
        by_group = np.zeros((n_groups, values.shape[1]))
        np.add.at(by_group, group, values)
        return multiplicity @ by_group

    score, cost, weight = (totals(part) for part in weighted_outcomes(problem))
    # A model that a resample never saw is priced out of its static mix.
    seen = weight > 0
    model_accuracy = np.divide(score, weight, out=np.zeros_like(score), where=seen)
    model_cost = np.divide(cost, weight, out=np.full_like(cost, cost.max() + 1.0), where=seen)
    ratios = {}
    for name, outcome in candidates.items():
        served = totals(outcome.weight.T)
        accuracy, price = totals(outcome.score.T) / served, totals(outcome.cost_usd.T) / served
        ratios[name] = np.array(
            [cost_ratio(*row) for row in zip(accuracy, price, model_accuracy, model_cost, strict=True)]
        )
    return ratios


def decide(ratios: dict[str, FloatArray], config: PolicyConfig) -> Verdict:
    """Ship one of the candidates `ratios` names, from the simplest to the most complex.

    The better of static mix and plug-in stands first; of equal ones the mix. The trained policy takes its
    place when it is shown not to be inferior: the upper 95% bound of its excess in cost ratio is within
    `margin`, and the excess is not significantly above 0. Where it makes the same decisions the simpler
    keeps its name. The query-dependent policy must beat the query-independent one, and what stands, by
    `query_dependent_z` s.e.
    """
    notes: dict[str, str] = {}
    standing = "static mix"
    if ratios["plug-in"][0] < ratios["static mix"][0]:
        standing = "plug-in"
        notes["static mix"] = "costs more than the plug-in"
    else:
        notes["plug-in"] = "no cheaper than the static mix, which needs no router"
    simple = standing
    if "trained policy" in ratios:
        excess, error = _difference(ratios, "trained policy", simple)
        if excess == 0.0 and error == 0.0:
            notes["trained policy"] = f"decides as the {simple}, which is simpler"
        elif excess - _Z95 * error > 0.0:
            notes["trained policy"] = f"beaten by the {simple}"
        elif excess + _Z95 * error > config.margin:
            notes["trained policy"] = f"not shown to be at most {config.margin:g} dearer than the {simple}"
        else:
            notes["trained policy"] = f"not inferior to the {simple}"
            standing = "trained policy"
    if "query-dependent policy" in ratios:
        needed = config.query_dependent_z
        rivals = {"trained policy", standing}
        gains = [_difference(ratios, "query-dependent policy", rival) for rival in sorted(rivals)]
        if all(gain < 0.0 and -gain >= needed * error for gain, error in gains):
            notes["query-dependent policy"] = f"better by at least {needed:g} s.e."
            standing = "query-dependent policy"
        else:
            notes["query-dependent policy"] = f"not better by {needed:g} s.e."
    notes.setdefault(simple, "the better of the two that train nothing")
    return Verdict(standing, _report(ratios, standing, simple, notes, config))


def _difference(ratios: dict[str, FloatArray], name: str, other: str) -> tuple[float, float]:
    """Excess of cost ratio over another candidate, and its bootstrap standard error."""
    difference = ratios[name] - ratios[other]
    return float(difference[0]), float(difference[1:].std(ddof=1))


def _report(
    ratios: dict[str, FloatArray], shipped: str, simple: str, notes: dict[str, str], config: PolicyConfig
) -> Meta:
    candidates = []
    for name, values in ratios.items():
        excess, error = _difference(ratios, name, simple)
        candidates.append(
            {
                "name": name,
                "cost_ratio_to_static_mix": float(values[0]),
                "standard_error": float(values[1:].std(ddof=1)),
                "difference": excess,
                "difference_standard_error": error,
                "compared_with": simple,
                "verdict": notes[name],
            }
        )
    chosen = next(row for row in candidates if row["name"] == shipped)
    reason = (
        f"The {shipped} ships: {notes[shipped]}; out of fold it costs "
        f"{chosen['cost_ratio_to_static_mix']:.3f} of the static mix at equal accuracy"
    )
    if shipped != simple:
        reason += (
            f", {chosen['difference']:+.3f} ± {chosen['difference_standard_error']:.3f} from the {simple}"
        )
    return {
        "shipped": shipped,
        "reason": reason + ".",
        "candidates": candidates,
        "margin": config.margin,
        "n_folds": config.n_folds,
        "n_resamples": config.bootstrap,
    }
