"""Certificates in worlds of known truth: how often a promise is false, target by target.

Rows are of eight kinds with known expected scores, so the truth of every operating point is exact. Targets are the
worst there are: a hair above the true mean score of each point of the sequence, so that stopping there is a
violation and stopping one step earlier is not. Abstentions are no violations and are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from proteus_router.calibration.certify import calibrate
from proteus_router.routing.target_map import Certificate, TargetMap
from proteus_router.types import FloatArray, IntArray

DELTA = 0.05
COSTS = np.array([8.0, 4.0, 2.0, 1.0])


@dataclass(frozen=True)
class World:
    """Row kinds with expected scores (8, 4), and vertices (V, 8): the model each takes on each kind."""

    expected: FloatArray
    vertices: IntArray
    concentration: float | None  # of the Beta scores; None for coins

    @classmethod
    def make(cls, *, concentration: float | None, flat: bool = False) -> World:
        skill = np.array([0.86, 0.78, 0.74, 0.66])
        ease = np.linspace(-0.12, 0.12, 8)[:, None] * (0.0 if flat else 1.0)
        vertices = np.repeat(np.arange(4)[:, None], 8, axis=1)
        middle = np.where(np.arange(8) < 4, 0, 2)  # hard kinds to the best model, easy ones to a cheap one
        return cls(skill + ease, np.insert(vertices, 1, middle, axis=0), concentration)

    @property
    def truth(self) -> FloatArray:
        """(V,) true mean score of every vertex."""
        means: FloatArray = self.expected[np.arange(8), self.vertices].mean(axis=1)
        return means

    @property
    def costs(self) -> FloatArray:
        means: FloatArray = COSTS[self.vertices].mean(axis=1)
        return means

    def calibrate(self, n: int, rng: np.random.Generator, *, missing: bool = False) -> TargetMap:
        kind = rng.integers(0, 8, n)
        p = self.expected[kind]
        if self.concentration is None:
            scores = (rng.random(p.shape) < p).astype(float)
        else:
            scores = rng.beta(self.concentration * p, self.concentration * (1.0 - p))
        costs = np.tile(COSTS, (n, 1))
        if missing:
            unseen = rng.random(p.shape) > np.array([0.5, 0.7, 0.9, 0.6])
            scores, costs = np.where(unseen, np.nan, scores), np.where(unseen, np.nan, costs)
        return calibrate(
            accuracy=self.truth,  # the order is fixed beforehand, as `split` fixes it on other rows
            cost_usd=self.costs,
            choices=self.vertices[:, kind],
            scores=scores,
            costs_usd=costs,
            confidence=1.0 - DELTA,
            scheme="split",
            data_fingerprint="d",
            policy_fingerprint="p",
            seed=int(rng.integers(2**31)),
            min_mixtures=3,
            max_step=0.02,
        )


def violation_rates(
    world: World, n: int, repetitions: int, *, missing: bool = False, level: int = 0, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """(P,) share of calibrations that violate each worst-case target, and share that abstain on it."""
    violated, abstained = [], []
    for repetition in range(repetitions):
        target_map = world.calibrate(n, np.random.default_rng([seed, repetition]), missing=missing)
        points = target_map.internal_targets  # the estimates given are the truth
        targets = points + 1e-9
        walked = target_map.floors[level] >= targets[:, None]  # (targets, points)
        served = walked.sum(axis=1) - 1
        certified = served >= 0
        violated.append(certified & (points[np.maximum(served, 0)] < targets))
        abstained.append(~certified)
    return np.mean(violated, axis=0), np.mean(abstained, axis=0)


def limit(repetitions: int, delta: float = DELTA) -> float:
    return float(delta + 3.0 * np.sqrt(delta * (1.0 - delta) / repetitions))


def test_zero_one_scores_and_random_mixtures_hold() -> None:
    rates, abstained = violation_rates(World.make(concentration=None), 400, 1000)
    assert rates.max() <= limit(1000)
    assert rates.max() >= 0.02  # an exact bound is not idle either
    assert abstained[-1] == 0.0  # the lowest target is always certified


def test_graded_scores_hold() -> None:
    rates, _ = violation_rates(World.make(concentration=4.0), 100, 250)
    assert rates.max() <= limit(250)


def test_equal_operating_points_hold() -> None:
    """The hardest case for a walk: points so close that each one's luck counts."""
    world = World.make(concentration=None, flat=True)
    close = World(0.8 + 0.002 * (world.expected - 0.8), world.vertices, None)
    rates, _ = violation_rates(close, 400, 1000)
    assert rates.max() <= limit(1000)


def test_missing_outcomes_hold() -> None:
    rates, _ = violation_rates(World.make(concentration=None), 500, 700, missing=True)
    assert rates.max() <= limit(700)


def test_simultaneous_targets_hold_together() -> None:
    """Eight targets at once: any of them false counts."""
    world, repetitions, broken = World.make(concentration=None), 1000, 0
    for repetition in range(repetitions):
        target_map = world.calibrate(300, np.random.default_rng([1, repetition]))
        points = target_map.internal_targets
        targets = points[np.linspace(0, points.size - 1, 8).astype(int)] + 1e-9
        floors = target_map.floors[int(np.flatnonzero(target_map.covered == 8)[0])]
        served = (floors >= targets[:, None]).sum(axis=1) - 1
        broken += bool(np.any((served >= 0) & (points[np.maximum(served, 0)] < targets)))
    assert broken / repetitions <= limit(repetitions)


@pytest.mark.parametrize(("concentration", "repetitions"), [(None, 200), (1.0, 60)])
def test_three_points_below_the_best_is_certified(concentration: float | None, repetitions: int) -> None:
    """Power at n = 2,000; concentration 1 is graded scores of nearly the spread of coins."""
    world = World.make(concentration=concentration)
    hits = 0
    for repetition in range(repetitions):
        target_map = world.calibrate(2000, np.random.default_rng([2, repetition]))
        hits += bool(target_map.floors[0, 0] >= world.truth[0] - 0.03)
    assert hits / repetitions >= 0.90


def joined(n: int, rng: np.random.Generator, chains: str) -> TargetMap:
    """A cheap, good model that joined late, seen on 8% of the rows: points with it, points without, or both chains."""
    world = World.make(concentration=None)
    expected = np.column_stack(
        (world.expected, world.expected[:, 1] - 0.01)
    )  # nearly the second, at a tenth of its cost
    costs = np.append(COSTS, 0.4)
    with_it = np.array([[0] * 8, [0] * 4 + [4] * 4, [4] * 8])
    without = world.vertices
    vertices = {"with": with_it, "without": without, "both": np.concatenate((with_it, without))}[chains]
    kind = rng.integers(0, 8, n)
    scores = (rng.random((n, 5)) < expected[kind]).astype(float)
    scores[rng.random(n) > 0.08, 4] = np.nan
    return calibrate(
        accuracy=expected[np.arange(8), vertices].mean(axis=1),
        cost_usd=costs[vertices].mean(axis=1),
        choices=vertices[:, kind],
        scores=scores,
        costs_usd=np.where(np.isnan(scores), np.nan, costs),
        confidence=1.0 - DELTA,
        scheme="split",
        data_fingerprint="d",
        policy_fingerprint="p",
        seed=int(rng.integers(2**31)),
        frontier_size=3 if chains == "both" else None,
        min_mixtures=3,
        max_step=0.02,
    )


def test_two_chains_hold_and_what_little_is_known_of_makes_nothing_dearer() -> None:
    repetitions, asked = 500, np.linspace(0.70, 0.80, 6)
    violated: dict[float, int] = {}
    usd = {chains: np.zeros(asked.size) for chains in ("with", "without", "both")}
    for repetition in range(repetitions):
        target_map = joined(2_000, np.random.default_rng([3, repetition]), "both")
        for target in np.unique(target_map.internal_targets) + 1e-9:  # a hair above the truth of each point
            found = target_map.certify(target)
            if isinstance(found, Certificate):  # the estimates given are the truth
                violated[target] = violated.get(target, 0) + (found.internal_target < target)
        if repetition < 100:
            for chains in usd:
                one = joined(2_000, np.random.default_rng([3, repetition]), chains)
                usd[chains] += [_usd(one, float(target)) / 100 for target in asked]
    assert max(violated.values()) / repetitions <= limit(repetitions)
    assert np.all(usd["both"] <= 1.02 * usd["without"])  # no dearer than before it came
    assert np.all(usd["both"][:3] < 0.95 * usd["without"][:3])  # and where its few outcomes suffice, cheaper
    assert usd["with"][-1] > 1.1 * usd["both"][-1]  # which points that lean on it alone would not be


def _usd(target_map: TargetMap, target: float) -> float:
    found = target_map.certify(target)
    return found.expected_cost_usd if isinstance(found, Certificate) else float(COSTS[0])


@pytest.mark.slow  # two to four minutes each
@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("concentration", [None, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("missing", [False, True])
def test_two_thousand_calibrations(n: int, concentration: float | None, missing: bool) -> None:
    for flat in (False, True):
        world = World.make(concentration=concentration, flat=flat)
        rates, abstained = violation_rates(world, n, 2000, missing=missing)
        assert rates.max() <= limit(2000), (flat, rates, abstained)
