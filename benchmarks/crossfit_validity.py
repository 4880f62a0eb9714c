"""How often a `crossfit` certificate is wrong, in worlds whose truth is known.

The rows that choose the hull's vertices also certify them, and the router deployed is refitted on all rows:
there is no finite-sample theorem, so it is simulated. A repetition draws n rows, fits heads, keeps their
out-of-fold predictions, chooses vertices, certifies every target of a grid, and asks a large population for
the true mean score of the operating point that each target gets from the REFITTED router. A target
certified above that truth is a violation; the rate of the worst target counts, not the mean alone.

    python benchmarks/crossfit_validity.py --repetitions 2000 --rows 500 --evidence out-of-fold
    python benchmarks/crossfit_validity.py --repetitions 2000 --rows 500 --evidence same-rows
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np
from scipy.stats import norm

from proteus_router.calibration.certify import calibrate
from proteus_router.calibration.selection import out_of_fold_choices
from proteus_router.routing.certificate import Scheme
from proteus_router.routing.frontier import estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.points import Policy
from proteus_router.routing.target_map import TargetMap
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.types import BoolArray, FloatArray, IntArray, Predictions

TARGETS = np.round(np.arange(0.400, 0.980, 0.0025), 4)


@dataclass(frozen=True)
class Rows:
    """A sample: what heads may read of the queries, and the outcomes."""

    queries: Any  # (n, d) features, or a list of texts
    scores: FloatArray  # (n, k)
    costs_usd: FloatArray  # (n, k)


class World(Protocol):
    """Draws samples, and knows the expected score of every model on every query of its population."""

    @property
    def name(self) -> str: ...

    def sample(self, n: int, rng: np.random.Generator) -> Rows: ...

    def population(self) -> tuple[Any, FloatArray]:
        """Queries, and expected scores (N, k)."""
        ...


@dataclass(frozen=True)
class Heads:
    """Honest predictions for the sample's rows, and the predictor refitted on all of them."""

    out_of_fold: Predictions
    predict: Callable[[Any], Predictions]


Evidence = Literal["same-rows", "out-of-fold"]
FitHeads = Callable[[Rows, np.random.Generator], Heads]


@dataclass(frozen=True)
class Frontier:
    """The deployed policy, its estimates, and what it chose on the evidence rows."""

    policy: Policy
    accuracy: FloatArray  # (V,)
    cost_usd: FloatArray  # (V,)
    choices: IntArray  # (V, n)


FitPolicy = Callable[[Rows, Predictions, np.random.Generator], Frontier]


@dataclass(frozen=True)
class Report:
    """Rates over repetitions; standard errors are binomial for one target."""

    world: str
    rows: int
    repetitions: int
    violation_mean: (
        float | None
    )  # over targets between the cheapest and the best point, certified half the time
    violation_worst: float
    worst_target: float
    worst_se: float
    overshoot: float | None  # mean true accuracy - target where certified and the floor binds
    optimism: float  # mean estimate - truth of the most accurate vertex
    power: float  # certified: 3 points under the truth of the deployed router's most accurate vertex


@dataclass(frozen=True)
class Tally:
    """What happened in each repetition, target by target; tallies of several processes are put together."""

    certified: BoolArray  # (R, T)
    violated: BoolArray  # (R, T)
    binds: BoolArray  # (R, T) certified, and not by the cheapest point
    achieved: FloatArray  # (R, T) true mean score of the point that serves the target
    ends: FloatArray  # (R, 2) true mean score of the cheapest and the most accurate vertex
    optimism: FloatArray  # (R,)
    power: FloatArray  # (R,)


def repeat(
    fit_heads: FitHeads,
    world: World,
    n: int,
    repetitions: range,
    *,
    fit_policy: FitPolicy,
    confidence: float = 0.95,
    seed: int = 0,
    scheme: Scheme = "crossfit",
) -> Tally:
    """Certify independent routers, one a repetition, and compare every promise with the truth."""
    queries, truth = world.population()
    every = np.arange(truth.shape[0])
    certified = np.zeros((len(repetitions), TARGETS.size), dtype=bool)
    violated, binds = certified.copy(), certified.copy()
    achieved = np.zeros(certified.shape)
    ends = np.zeros((len(repetitions), 2))
    optimism, power = np.zeros(len(repetitions)), np.zeros(len(repetitions))
    for at, repetition in enumerate(repetitions):
        rng = np.random.default_rng([seed, repetition])
        rows = world.sample(n, rng)
        heads = fit_heads(rows, rng)
        frontier = fit_policy(rows, heads.out_of_fold, rng)
        target_map = calibrate(
            accuracy=frontier.accuracy,
            cost_usd=frontier.cost_usd,
            choices=frontier.choices,
            scores=rows.scores,
            costs_usd=rows.costs_usd,
            confidence=confidence,
            scheme=scheme,
            data_fingerprint="",
            policy_fingerprint="",
            seed=int(rng.integers(2**31)),
        )
        deployed = frontier.policy.choose_all(heads.predict(queries))
        vertex_truth = truth[every, deployed].mean(axis=1)  # (V,)
        point_truth = _along(target_map, vertex_truth)
        walked = (
            target_map.floors[0] >= TARGETS[:, None]
        )  # (T, P), True up to the point that serves the target
        certified[at] = walked[:, 0]
        served = np.maximum(walked.sum(axis=1) - 1, 0)
        achieved[at] = point_truth[served]
        violated[at] = certified[at] & (achieved[at] < TARGETS)
        binds[at] = certified[at] & (served < point_truth.size - 1)
        ends[at] = vertex_truth[-1], vertex_truth[0]
        optimism[at] = frontier.accuracy[0] - vertex_truth[0]
        power[at] = target_map.floors[0, 0] >= vertex_truth[0] - 0.03
    return Tally(certified, violated, binds, achieved, ends, optimism, power)


def summarise(world: str, n: int, tallies: list[Tally]) -> Report:
    """Rates over all repetitions."""
    whole = Tally(*(np.concatenate([getattr(t, item.name) for t in tallies]) for item in fields(Tally)))
    repetitions = whole.certified.shape[0]
    share = whole.violated.mean(axis=0)
    worst = int(share.argmax())
    low, high = whole.ends.mean(axis=0)
    counted = (low <= TARGETS) & (high >= TARGETS) & (whole.certified.mean(axis=0) >= 0.5)
    overshoot = (whole.achieved - TARGETS)[whole.binds]
    return Report(
        world=world,
        rows=n,
        repetitions=repetitions,
        violation_mean=float(share[counted].mean()) if counted.any() else None,
        violation_worst=float(share[worst]),
        worst_target=float(TARGETS[worst]),
        worst_se=float(np.sqrt(share[worst] * (1 - share[worst]) / repetitions)),
        overshoot=float(overshoot.mean()) if overshoot.size else None,
        optimism=float(whole.optimism.mean()),
        power=float(whole.power.mean()),
    )


def hull(evidence: Evidence, *, n_prices: int = 100, min_gap: float = 0.002, n_folds: int = 10) -> FitPolicy:
    """The plug-in's hull with the fixed models.

    ``same-rows``: a vertex is certified by the rows that chose it. ``out-of-fold``: each fold's rows take the
    vertices that the other rows would have chosen.
    """

    def fit(rows: Rows, out_of_fold: Predictions, rng: np.random.Generator) -> Frontier:
        points = plugin_points(out_of_fold, n_prices)
        candidates = points.choose_all(out_of_fold)
        estimates = estimate_points(candidates, rows.scores, rows.costs_usd)
        vertices = frontier_vertices(estimates, min_gap=min_gap)
        kept = estimates.take(vertices)
        choices = candidates[vertices]
        if evidence == "out-of-fold":
            choices = out_of_fold_choices(
                accuracy=kept.accuracy,
                cost_usd=kept.cost_usd,
                candidates=candidates,
                scores=rows.scores,
                costs_usd=rows.costs_usd,
                folds=rng.permutation(np.arange(rows.scores.shape[0]) % n_folds),
            )
        return Frontier(points.take(vertices), kept.accuracy, kept.cost_usd, choices)

    return fit


def _along(target_map: TargetMap, vertex_values: FloatArray) -> FloatArray:
    """(P,) vertex values (V,) mixed as the points of the sequence mix the vertices."""
    weight, lower = target_map.weight_upper, np.minimum(target_map.upper + 1, vertex_values.size - 1)
    mixed: FloatArray = weight * vertex_values[target_map.upper] + (1.0 - weight) * vertex_values[lower]
    return mixed


@dataclass(frozen=True)
class FeatureWorld:
    """Probit models over Gaussian features, with a difficulty that all models share and outcomes that go
    together.

    Attributes
    ----------
    skills
        (k,) probit of the mean score, about.
    difficulty
        Size of the part of a query that is hard for all models alike and that features show.
    contrast
        Size of what features show about one model against another.
    shared
        Size of the difficulty that features do not show; it correlates outcomes.
    """

    name: str
    skills: tuple[float, ...]
    costs: tuple[float, ...]
    n_features: int = 6
    difficulty: float = 0.5
    contrast: float = 0.25
    shared: float = 0.7
    seed: int = 7

    def _weights(self) -> FloatArray:
        """(d, k)"""
        rng = np.random.default_rng(self.seed)
        size = np.sqrt(self.n_features)
        common = rng.normal(size=(self.n_features, 1)) * self.difficulty / size
        own = rng.normal(size=(self.n_features, len(self.skills))) * self.contrast / size
        return np.asarray(common + own)

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        x = rng.normal(size=(n, self.n_features))
        latent = np.array(self.skills) + x @ self._weights() + self.shared * rng.normal(size=(n, 1))
        scores = (latent + rng.normal(size=latent.shape) > 0).astype(float)
        costs = np.array(self.costs) * np.exp(0.4 * rng.normal(size=(n, 1)) - 0.08)
        return Rows(x, scores, costs)

    def population(self) -> tuple[FloatArray, FloatArray]:
        x = np.random.default_rng([self.seed, 1]).normal(size=(6000, self.n_features))
        return x, norm.cdf((np.array(self.skills) + x @ self._weights()) / np.sqrt(1.0 + self.shared**2))


def kernel_ridge(alpha: float) -> FitHeads:
    """The shipped kernel solver (exact leave-one-out) on a linear kernel; predicted cost is the model's mean."""

    def fit(rows: Rows, rng: np.random.Generator) -> Heads:
        x, costs = rows.queries, rows.costs_usd.mean(axis=0)
        n = x.shape[0]
        solution = solve_kernel(x @ x.T, rows.scores, np.arange(n), alpha)
        weights = x.T @ solution.weights  # the kernel is linear, so the refit is a matrix

        def predict(queries: FloatArray) -> Predictions:
            scores = np.clip(solution.intercept + queries @ weights, 0.0, 1.0)
            return Predictions(scores, np.tile(costs, (queries.shape[0], 1)))

        return Heads(Predictions(np.clip(solution.oof, 0.0, 1.0), np.tile(costs, (n, 1))), predict)

    return fit


_PRICES = (10.0, 5.0, 2.5, 1.2, 0.6, 0.3, 0.15, 0.1)
WORLDS = {
    "graded prices": FeatureWorld("graded prices", (1.3, 1.1, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1), _PRICES),
    "many features": FeatureWorld(
        "many features", (1.3, 1.1, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1), _PRICES, n_features=200
    ),
    # The hardest for evidence that has also chosen: equal models, nothing to see in the query, own coins.
    "all models equal": FeatureWorld(
        "all models equal", (1.0,) * 8, _PRICES, difficulty=0.0, contrast=0.0, shared=0.0
    ),
    "equal, correlated": FeatureWorld(
        "equal, correlated", (1.0,) * 8, _PRICES, difficulty=0.3, contrast=0.1, shared=0.9
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--alpha", type=float, default=200.0)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--evidence", default="out-of-fold", choices=["same-rows", "out-of-fold"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.worlds:
        tally = repeat(
            kernel_ridge(options.alpha),
            WORLDS[name],
            options.rows,
            range(options.repetitions),
            fit_policy=hull(options.evidence),
            seed=options.seed,
        )
        report = summarise(name, options.rows, [tally])
        print(json.dumps({"evidence": options.evidence, **asdict(report)}), flush=True)


if __name__ == "__main__":
    main()
