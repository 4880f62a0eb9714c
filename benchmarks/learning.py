"""Learning from production in a world of known truth: does the cost fall, does the floor hold, is a bad candidate kept out?

    python benchmarks/learning.py [--seeds 20] [--rows 1000] [--requests 20000] [--graded 1] [--rounds 2]
    python benchmarks/learning.py --bad 100 [--requests 4000]              # candidates that must not be promoted

A router trained on `--rows` outcomes of the simulated world serves `--requests` requests at a floor of 0.80 with 5%
exploration; a share `--graded` of them is graded. The candidate learns from the earlier 70% of what was graded and is
judged on the later 30%; where it is promoted it serves the next round. The truth of a router is its mean over 20,000
fresh queries. Bad candidates: heads whose scores are those of other models, so that they promise what they can't keep.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import World, make_world
from proteus_router.learning.learn import learn
from proteus_router.learning.promote import judge
from proteus_router.learning.replay import chances_of, replay
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.predictor import HeadsPredictor
from proteus_router.routing.router import Router
from proteus_router.simulation.traffic import Serving, serve_traffic
from proteus_router.simulation.world import SimulatedWorld, remembering
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.threads import one_blas_thread
from proteus_router.training.train_log import TrainLog

FLOOR = 0.80
CONFIG = TrainConfig(
    heads=HeadsConfig(n_folds=5),
    policy=PolicyConfig(steps=0, n_settings=150, query_dependent=False, bootstrap=50),
)


def truth(router: Router, world: World) -> dict[str, float]:
    """Mean score and cost of a router at the floor, over fresh queries."""
    sample = world.sample(20_000, 99)
    table = sample.table.with_models(list(router.models))
    columns = [world.model_names.index(name) for name in router.models]
    pi, certified = chances_of(router, router.predict(table.queries), FLOOR)
    return {
        "score": float((pi * sample.expected_scores[:, columns]).sum(axis=1).mean()),
        "usd_per_1000": 1000.0 * float((pi * table.costs_usd).sum(axis=1).mean()),
        "certified": float(certified),
    }


def train(table: OutcomeTable) -> Artifact:
    return train_router(
        table, config=CONFIG, encoder=None, stages=MemoryStages(), log=TrainLog(None), progress=quiet
    )


def trained(world: World, rows: int, seed: int) -> tuple[OutcomeTable, Artifact]:
    table = world.sample(rows, 10 + seed).table
    return table, train(table)


def served(world: World, router: Router, requests: int, seed: int, graded: float) -> Traffic:
    universe = SimulatedWorld(world, router.models, queries=requests, seed=1_000 + seed)
    serving = Serving(FLOOR, requests, audit_share=graded, seed=seed)
    return Traffic.of(serve_traffic(remembering(router, universe.bank), universe, serving), router.models)


def one_seed(seed: int, *, rows: int, requests: int, graded: float, rounds: int) -> list[dict[str, Any]]:
    """A router and, round by round, what it learns: the candidate's record and the truth."""
    records = []
    with one_blas_thread():
        world = make_world(seed)
        table, artifact = trained(world, rows, seed)
        first = truth(Router.from_artifact(artifact), world)
        before, seen = first, None
        for number in range(1, rounds + 1):
            router = Router.from_artifact(artifact)
            new = served(world, router, requests, seed + 100 * number, graded)
            seen = new if seen is None else seen.followed_by(new)
            found = learn(artifact, table.queries, seen, FLOOR, progress=quiet)
            after = truth(Router.from_artifact(found.artifact), world)
            record, promoted = found.record, found.verdict.promoted
            records.append(
                {
                    "seed": seed,
                    "round": number,
                    "graded": seen.n,
                    "before": before,
                    "candidate": after,
                    "cost_ratio": after["usd_per_1000"] / before["usd_per_1000"],
                    "new_heads": found.new_heads,
                    "promoted": promoted,
                    "reason": found.verdict.reason,
                    "score": [record.score.low, record.score.value, record.score.high],
                    "score_covered": record.score.low <= after["score"] <= record.score.high,
                    "since_start": (after if promoted else before)["usd_per_1000"] / first["usd_per_1000"],
                }
            )
            if promoted:
                artifact, before = found.artifact, after
    return records


def one_bad(seed: int, *, rows: int, requests: int) -> list[dict[str, Any]]:
    """Candidates that are worse than they promise, judged on the traffic of a good router."""
    with one_blas_thread():
        world = make_world(seed)
        router = Router.from_artifact(trained(world, rows, seed)[1])
        traffic = served(world, router, requests, seed, 1.0)
        assert isinstance(router.predictor, HeadsPredictor)
        rng = np.random.default_rng(seed)
        k = len(router.models)
        found = []
        for kind, order in (("swapped", np.roll(np.arange(k), 1)), ("shuffled", rng.permutation(k))):
            heads = router.predictor.of_models(order)
            costs = replace(
                heads, cost_weights=router.predictor.cost_weights, cost_bias=router.predictor.cost_bias
            )
            bad = replace(router, predictor=costs, _plans={})  # scores of other models, costs of its own
            real = truth(bad, world)
            harmful = real["score"] < FLOOR
            verdict = judge(replay(bad, traffic, FLOOR))
            found.append(
                {"kind": kind, "truth": real["score"], "harmful": harmful, "promoted": verdict.promoted}
            )
    return found


def _summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    harmful = [record for record in records if record["harmful"]]
    return {
        "kind": records[0]["kind"],
        "candidates": len(records),
        "below the floor": len(harmful),
        "promoted of those": sum(record["promoted"] for record in harmful),
        "promoted of the others": sum(record["promoted"] for record in records)
        - sum(r["promoted"] for r in harmful),
        "mean true score": round(float(np.mean([record["truth"] for record in records])), 4),
    }


def quiet(stage: str, done: int, total: int) -> None:
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--graded", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--bad", type=int, help="instead: so many seeds of bad candidates")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.bad:
            run = partial(one_bad, rows=options.rows, requests=options.requests)
            records = [record for records in pool.map(run, range(options.bad)) for record in records]
            for kind in ("swapped", "shuffled"):
                print(json.dumps(_summary([record for record in records if record["kind"] == kind])))
            return
        run_seed = partial(
            one_seed,
            rows=options.rows,
            requests=options.requests,
            graded=options.graded,
            rounds=options.rounds,
        )
        found = []
        for rounds in pool.map(run_seed, range(options.seeds)):
            for record in rounds:
                print(json.dumps(record), flush=True)
            found += rounds
        for number in range(1, options.rounds + 1):
            print(json.dumps(_of_round(number, [record for record in found if record["round"] == number])))


def _of_round(number: int, records: list[dict[str, Any]]) -> dict[str, Any]:
    promoted = [record for record in records if record["promoted"]]
    ratios = [record["since_start"] for record in records]
    return {
        "round": number,
        "seeds": len(records),
        "promoted": len(promoted),
        "with new heads": sum(record["new_heads"] for record in promoted),
        "cost since the start, mean": round(float(np.mean(ratios)), 3),
        "worst": round(max(ratios), 3),
        "promoted below the floor": sum(record["candidate"]["score"] < FLOOR for record in promoted),
        "lowest true score promoted": round(min((r["candidate"]["score"] for r in promoted), default=1.0), 4),
        "promoted though dearer": sum(record["cost_ratio"] >= 1.0 for record in promoted),
        "score covered": sum(record["score_covered"] for record in records),
    }


if __name__ == "__main__":
    main()
