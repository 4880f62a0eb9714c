"""Certificates from traffic where the truth is known: how often is a promise false?

    python benchmarks/learned_certificates.py [--worlds 4] [--repetitions 250] [--graded 5000] [--rows 1000] [--jobs 2]

A router trained on `--rows` simulated outcomes serves a floor of 0.80 with 5% exploration, and `--graded` of its requests
are graded; certificates are made from them `--repetitions` times, on fresh draws from 20,000 queries whose true scores
are known. The router's own evidence is replaced by the truth, so that every false promise is the traffic's. Targets are
the worst there are, a hair above the true mean of each operating point that the traffic speaks of. The traffic is allowed
half of the 5%: each target may be promised falsely in 2.5% of the repetitions.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from learning import FLOOR, trained
from proteus_router.data.synthetic import World, make_world
from proteus_router.learning.recertify import recertified
from proteus_router.learning.replay import chances_of, served_choice
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import Certificate
from proteus_router.serving.app.exploration import Tries
from proteus_router.training.certified import evidence_map, with_target_map
from proteus_router.training.threads import one_blas_thread
from proteus_router.types import FloatArray, Predictions

SHARE = 0.05
ALLOWED = 0.025


def one_world(seed: int, *, rows: int, graded: int, repetitions: int) -> dict[str, Any]:
    with one_blas_thread():
        world = make_world(seed)
        artifact = trained(world, rows, seed)[1]
        base = evidence_map(artifact)
        router = Router.from_artifact(artifact)
        bank = _Bank.of(world, router)
        truth = bank.truth_of(router)
        knowing = np.broadcast_to(truth, base.lower_bounds.shape).copy()
        artifact = with_target_map(artifact, replace(base, lower_bounds=knowing))
        rng = np.random.default_rng(seed)
        broken, spoken_of = np.zeros(truth.size), np.zeros(truth.size)
        for _ in range(repetitions):
            traffic, predictions = bank.draw(router, graded, rng)
            found = Router.from_artifact(recertified(artifact, traffic, predictions)).target_map
            spoken_of += found.n == graded  # where the traffic's bound lies above the truth, to be exact
            for point, true in enumerate(truth):
                outcome = found.certify(true + 1e-9)
                if isinstance(outcome, Certificate):
                    served = int(np.flatnonzero(found.internal_targets == outcome.internal_target)[0])
                    broken[point] += truth[served] < true + 1e-9
        rates = broken / repetitions
        return {
            "world": seed,
            "graded": graded,
            "repetitions": repetitions,
            "targets": int(truth.size),
            "points overrated at least once": int((spoken_of > 0).sum()),
            "worst": float(rates.max()),
            "mean of those": round(float(rates[spoken_of > 0].mean()), 4) if spoken_of.any() else 0.0,
            "limit": round(ALLOWED + 3.0 * (ALLOWED * (1.0 - ALLOWED) / repetitions) ** 0.5, 4),
        }


class _Bank:
    """Queries of known truth, and what the gateway would do with each."""

    def __init__(
        self, texts: tuple[str, ...], expected: FloatArray, costs_usd: FloatArray, predictions: Predictions
    ) -> None:
        self.texts, self.expected, self.costs_usd, self.predictions = texts, expected, costs_usd, predictions
        self.chances = np.zeros_like(expected)

    @classmethod
    def of(cls, world: World, router: Router) -> _Bank:
        sample = world.sample(20_000, 99)
        table = sample.table.with_models(list(router.models))
        columns = [world.model_names.index(name) for name in router.models]
        predictions = router.predict(table.queries)
        found = cls(tuple(table.queries), sample.expected_scores[:, columns], table.costs_usd, predictions)
        served = chances_of(router, predictions, FLOOR)[0]
        above = router.plan(FLOOR, on_infeasible="best_effort").mix.internal_target - FLOOR
        rivals = router.choose_all(predictions)
        for row, base in enumerate(served):
            tries = Tries.of(
                {int(at): float(base[at]) for at in np.flatnonzero(base)},
                predictions.scores[row].tolist(),
                sorted(set(rivals[:, row].tolist())),
                share=SHARE,
                above_floor=above,
            )
            for model, chance in tries.chances.items():
                found.chances[row, model] = chance
        return found

    def truth_of(self, router: Router) -> FloatArray:
        """(P,) true mean score of every point of the sequence."""
        rows = np.arange(len(self.texts))
        means = np.array(
            [
                self.expected[rows, served_choice(router.policy, self.predictions, point)].mean()
                for point in range(router.policy.n_points)
            ]
        )
        return router.target_map.between(means)

    def draw(self, router: Router, n: int, rng: np.random.Generator) -> tuple[Traffic, Predictions]:
        """n graded requests."""
        rows = rng.integers(0, len(self.texts), n)
        chances = self.chances[rows]
        model = (chances.cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
        score = (rng.random(n) < self.expected[rows, model]).astype(float)
        traffic = Traffic(
            texts=tuple(self.texts[row] for row in rows),
            models=router.models,
            model=model,
            logged=chances,
            score=score,
            cost_usd=self.costs_usd[rows, model],
            drawn=np.ones(n),
        )
        known = self.predictions.known_shares
        predictions = Predictions(
            self.predictions.scores[rows],
            self.predictions.costs_usd[rows],
            known_shares=None if known is None else known[rows],
        )
        return traffic, predictions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=250)
    parser.add_argument("--graded", type=int, default=5_000)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    run = partial(one_world, rows=options.rows, graded=options.graded, repetitions=options.repetitions)
    with ProcessPoolExecutor(options.jobs) as pool:
        for record in pool.map(run, range(options.worlds)):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
