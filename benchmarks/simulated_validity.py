"""How often a certificate is wrong in the simulated world, whose truth is known: `split` and `crossfit`.

    python benchmarks/simulated_validity.py crossfit-kernel  --repetitions 2000 --rows 500
    python benchmarks/simulated_validity.py crossfit-shipped --repetitions 200  --rows 1000
    python benchmarks/simulated_validity.py split            --repetitions 2000 --rows 1000 [--graded]

The population is 20,000 simulated queries. A repetition takes rows from it and draws their scores anew, so the true
mean score of an operating point is the population's mean expected score, exactly. `crossfit-kernel` fits the word
kernel alone (its vocabulary is the population's; no outcome goes into it); `crossfit-shipped` runs heads and policy
as `proteus train` does; `split` trains the shipped heads and policy once on rows of their own and certifies again
and again. Violations are counted target by target, as in `crossfit_validity.py`; the worst target counts.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from crossfit_validity import (
    FitHeads,
    FitPolicy,
    Frontier,
    Heads,
    Rows,
    hull,
    repeat,
    summarise,
)
from proteus_router.config import HeadsConfig, PolicyConfig
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import make_world
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.routing.certificate import Scheme
from proteus_router.training.heads import fit_heads
from proteus_router.training.heads.kernel import solve_kernel
from proteus_router.training.policy import Problem, fit_default_policy
from proteus_router.training.stages import MemoryStages
from proteus_router.training.threads import one_blas_thread
from proteus_router.training.train_log import TrainLog
from proteus_router.types import FloatArray, IntArray, Predictions

POPULATION, SPLIT_TRAINING_ROWS = 20_000, 2000


@dataclass(frozen=True)
class SimulatedWorld:
    """The simulated world as a finite population; `Rows.queries` are row numbers of it."""

    graded: bool = False
    reserved: int = 0  # rows kept away from `sample`, for training once
    size: int = POPULATION

    @property
    def name(self) -> str:
        return "simulated" + (", graded" if self.graded else "")

    @cached_property
    def bank(self) -> Any:
        return make_world(0, graded=self.graded).sample(self.size, seed=1)

    def rows(self, chosen: IntArray, rng: np.random.Generator) -> Rows:
        expected = self.bank.expected_scores[chosen]
        scores = (rng.random(expected.shape) < expected).astype(np.float64)
        if (
            self.graded
        ):  # five rubric items that stand or fall together half of the time, as the world draws them
            items = (rng.random((*expected.shape, 5)) < expected[..., None]).mean(axis=-1)
            scores = np.where(rng.random(expected.shape) < 0.5, scores, items)
        return Rows(chosen, scores, self.bank.table.costs_usd[chosen])

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        return self.rows(self.reserved + rng.choice(self.size - self.reserved, n, replace=False), rng)

    def population(self) -> tuple[IntArray, FloatArray]:
        every = np.arange(self.reserved, self.size)
        return every, self.bank.expected_scores[every]


def kernel_alone(world: SimulatedWorld, alpha: float = 12.0) -> FitHeads:
    """Word kernel ridge with exact leave-one-out predictions; predicted cost is the model's mean."""
    lexical = LexicalEncoder.fit(world.bank.table.queries, dim=1)
    found = lexical.sparse(world.bank.table.queries)
    words = csr_matrix((found.values, found.indices, found.indptr), shape=found.shape)

    def fit(rows: Rows, rng: np.random.Generator) -> Heads:
        x, costs = words[rows.queries], rows.costs_usd.mean(axis=0)
        n = x.shape[0]
        solution = solve_kernel((x @ x.T).toarray(), rows.scores, np.arange(n), alpha)
        weights = x.T @ solution.weights

        def predict(queries: IntArray) -> Predictions:
            scores = np.clip(solution.intercept + words[queries] @ weights, 0.0, 1.0)
            return Predictions(scores, np.tile(costs, (len(queries), 1)))

        return Heads(Predictions(np.clip(solution.oof, 0.0, 1.0), np.tile(costs, (n, 1))), predict)

    return fit


def shipped_heads(world: SimulatedWorld) -> FitHeads:
    """The heads of `proteus train`, refitted from nothing on every sample."""

    def fit(rows: Rows, rng: np.random.Generator) -> Heads:
        texts = [world.bank.table.queries[row] for row in rows.queries]
        table = OutcomeTable(
            query_ids=tuple(map(str, rows.queries)),
            queries=tuple(texts),
            models=world.bank.table.models,
            scores=rows.scores,
            costs_usd=rows.costs_usd,
            name=world.name,
            simulated=True,
        )
        fitted = fit_heads(
            table,
            near_text_groups(texts),
            encoder=None,
            config=HeadsConfig(),
            seed=int(rng.integers(2**31)),
            stages=MemoryStages(),
            progress=lambda *_: None,
        )
        return Heads(
            fitted.oof,
            lambda queries: fitted.predictor.predict([world.bank.table.queries[row] for row in queries]),
        )

    return fit


def shipped_policy(world: SimulatedWorld) -> FitPolicy:
    """The policy of `proteus train`: candidates compared, the better one shipped with its evidence."""

    def fit(rows: Rows, out_of_fold: Predictions, rng: np.random.Generator) -> Frontier:
        problem = Problem(
            predicted_scores=out_of_fold.scores,
            predicted_costs_usd=out_of_fold.costs_usd,
            scores=rows.scores,
            costs_usd=rows.costs_usd,
            groups=near_text_groups([world.bank.table.queries[row] for row in rows.queries]),
        )
        found = fit_default_policy(
            problem,
            config=PolicyConfig(),
            seed=int(rng.integers(2**31)),
            stages=MemoryStages(),
            log=TrainLog(None),
            progress=lambda *_: None,
        )
        return Frontier(found.policy, found.accuracy, found.cost_usd, found.out_of_fold_choices)

    return fit


def trained_once(world: SimulatedWorld) -> tuple[FitHeads, FitPolicy]:
    """Heads and policy fitted on the reserved rows; every repetition certifies them on rows of its own."""
    rng = np.random.default_rng(0)
    training = world.rows(np.arange(world.reserved), rng)
    heads = shipped_heads(world)(training, rng)
    policy = shipped_policy(world)(training, heads.out_of_fold, rng)
    known = heads.predict(np.arange(world.size))  # once: 20,000 texts

    def lookup(queries: IntArray) -> Predictions:
        return Predictions(known.scores[queries], known.costs_usd[queries])

    def fit_policy(rows: Rows, predictions: Predictions, rng: np.random.Generator) -> Frontier:
        return replace(policy, choices=policy.policy.choose_all(predictions))

    return (lambda rows, rng: Heads(lookup(rows.queries), lookup)), fit_policy


def _part(mode: str, graded: bool, rows: int, seed: int, repetitions: range) -> Any:
    world = SimulatedWorld(graded, SPLIT_TRAINING_ROWS if mode == "split" else 0)
    if mode == "split":
        heads, policy = trained_once(world)
    elif mode == "crossfit-kernel":
        heads, policy = kernel_alone(world), hull("out-of-fold")
    else:
        heads, policy = shipped_heads(world), shipped_policy(world)
    scheme: Scheme = "split" if mode == "split" else "crossfit"
    with one_blas_thread():  # the repetitions share the processors already
        return repeat(heads, world, rows, repetitions, fit_policy=policy, seed=seed, scheme=scheme)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["crossfit-kernel", "crossfit-shipped", "split"])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--graded", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    bounds = np.linspace(0, options.repetitions, options.jobs + 1).astype(int)
    parts = [range(a, b) for a, b in pairwise(bounds)]
    work = partial(_part, options.mode, options.graded, options.rows, options.seed)
    with ProcessPoolExecutor(options.jobs) as pool:
        tallies = list(pool.map(work, parts))
    report = summarise(SimulatedWorld(options.graded).name, options.rows, tallies)
    seconds = round(time.monotonic() - started)
    print(json.dumps({"mode": options.mode, **asdict(report), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
