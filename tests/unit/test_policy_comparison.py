"""The rule that decides which candidate ships, and the bootstrap behind it."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.baselines.static import static_mix_cost
from proteus_router.config import PolicyConfig
from proteus_router.routing.points import PointPolicy
from proteus_router.training.policy.compare import bootstrap_ratios, cost_ratio, decide
from proteus_router.training.policy.outcomes import (
    LevelOutcomes,
    accuracy_levels,
    outcomes_at_levels,
    weighted_outcomes,
)
from proteus_router.training.policy.problem import Problem
from proteus_router.types import FloatArray

CONFIG = PolicyConfig(margin=0.02)


def _ratios(mean: float, noise: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.concatenate([[mean], mean + rng.normal(0, noise, 400)])


def _candidates(trained: float, noise: float, dependent: float = 0.7) -> dict[str, FloatArray]:
    return {
        "static mix": _ratios(1.0, 0.0, 0),
        "plug-in": np.full(401, 0.7),
        "trained policy": _ratios(trained, noise, 1),
        "query-dependent policy": _ratios(dependent, noise, 2),
    }


@pytest.mark.parametrize(
    ("trained", "noise", "shipped", "words"),
    [
        (0.70, 0.005, "trained policy", "not inferior"),
        (0.70, 0.050, "plug-in", "not shown"),
        (0.715, 0.001, "plug-in", "beaten"),
        (0.80, 0.010, "plug-in", "beaten"),
        (0.70, 0.000, "plug-in", "simpler"),
    ],
)
def test_the_trained_policy_ships_only_when_shown_not_inferior(
    trained: float, noise: float, shipped: str, words: str
) -> None:
    ratios = _candidates(trained, noise)
    del ratios["query-dependent policy"]
    verdict = decide(ratios, CONFIG)
    assert verdict.shipped == shipped
    assert verdict.report["shipped"] == shipped
    row = next(row for row in verdict.report["candidates"] if row["name"] == "trained policy")
    assert words in row["verdict"]


def test_by_default_a_tie_goes_to_the_plug_in_and_a_clear_gain_to_the_trained_policy() -> None:
    for trained, shipped in ((0.699, "plug-in"), (0.68, "trained policy")):
        ratios = _candidates(trained, 0.005)
        del ratios["query-dependent policy"]
        assert decide(ratios, PolicyConfig()).shipped == shipped


def test_the_query_dependent_part_needs_three_standard_errors() -> None:
    assert decide(_candidates(0.70, 0.005, 0.69), CONFIG).shipped == "trained policy"
    assert decide(_candidates(0.70, 0.005, 0.65), CONFIG).shipped == "query-dependent policy"
    # It must beat what ships, not only the query-independent policy.
    assert decide(_candidates(0.80, 0.005, 0.75), CONFIG).shipped == "plug-in"


def test_a_plug_in_that_a_mix_beats_does_not_ship() -> None:
    verdict = decide({"static mix": np.full(51, 1.0), "plug-in": np.full(51, 1.01)}, CONFIG)
    assert verdict.shipped == "static mix"
    assert "static mix" in verdict.report["reason"]


def _random_problem(n: int, seed: int, missing: float = 0.0) -> Problem:
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, 3)) < [0.5, 0.65, 0.8]).astype(float)
    costs = np.array([1.0, 3.0, 9.0]) * rng.lognormal(0, 0.2, (n, 3))
    hidden = rng.random((n, 3)) < missing
    holes = np.where(hidden, np.nan, scores), np.where(hidden, np.nan, costs)
    return Problem(np.full((n, 3), 0.5), np.ones((n, 3)), *holes, np.arange(n) // 2)


def test_the_cost_ratio_is_the_loop_over_levels() -> None:
    rng = np.random.default_rng(0)
    model_accuracy, model_cost = rng.random(6), rng.random(6)
    accuracy, cost = rng.random(5) * model_accuracy.max(), rng.random(5)
    slow = np.mean(
        [c / static_mix_cost(model_accuracy, model_cost, a) for a, c in zip(accuracy, cost, strict=True)]
    )
    assert cost_ratio(accuracy, cost, model_accuracy, model_cost) == pytest.approx(slow)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_static_mix_costs_itself(missing: float) -> None:
    """Inverted on the very rows it is tried on, the static mix has a ratio of one."""
    problem = _random_problem(600, 1, missing)
    levels = accuracy_levels(problem.scores)
    policy = PointPolicy.from_models(np.array([2, 1, 0]), 3)
    outcome = outcomes_at_levels(
        policy, np.nanmean(problem.scores, axis=0)[::-1], problem, weighted_outcomes(problem), levels
    )
    assert (outcome.score.sum(axis=1) / outcome.weight.sum(axis=1)) == pytest.approx(levels, abs=0.02)
    ratios = bootstrap_ratios(problem, {"static mix": outcome}, 50, 0)["static mix"]
    assert ratios[0] == pytest.approx(1.0, abs=0.03)


def test_the_bootstrap_error_is_the_spread_over_worlds() -> None:
    found, errors = [], []
    for seed in range(40):
        problem = _random_problem(400, seed)
        rows, weighted = np.arange(400), weighted_outcomes(problem)
        blind = {
            name: LevelOutcomes(*(np.array([part[rows, choice]]) for part in weighted))
            for name, choice in {"a": 2 * (rows % 2), "b": 2 * (rows % 5 == 0)}.items()
        }
        ratios = bootstrap_ratios(problem, blind, 200, seed)
        difference = ratios["a"] - ratios["b"]
        found.append(difference[0])
        errors.append(difference[1:].std(ddof=1))
    assert np.mean(errors) == pytest.approx(np.std(found, ddof=1), rel=0.4)
