"""A model that joins by exploration alone: does the floor hold meanwhile, and how much of retraining's gain comes back?

    python benchmarks/newcomer.py [--seeds 5] [--rows 2000] [--requests 20000] [--share 0.05] [--jobs 2]

A router is trained on `--rows` outcomes of the simulated world without the model that it would miss most at a floor of
0.80. It serves `--requests` requests and tries that model as a newcomer; `pool add` takes it in from its graded tries.
Truth is the mean over 20,000 fresh queries: what the floor costs along the hull of a router's points, and what is served
at the floor with a certificate.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from learning import FLOOR, quiet, train
from proteus_router.data.synthetic import World, make_world
from proteus_router.errors import InsufficientDataError
from proteus_router.learning.newcomer import outcomes_of
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.frontier import Estimates, frontier_vertices, plugin_points
from proteus_router.routing.router import Router
from proteus_router.simulation.traffic import Serving, serve_traffic
from proteus_router.simulation.world import SimulatedWorld, remembering
from proteus_router.training.pool.changes import add_model
from proteus_router.training.threads import one_blas_thread
from proteus_router.types import FloatArray, IntArray, Predictions


def one_seed(seed: int, *, rows: int, requests: int, share: float) -> dict[str, Any]:
    with one_blas_thread():
        world = make_world(seed)
        table = world.sample(rows, 10 + seed).table
        full = train(table)
        new = _most_missed(full, world)
        before = train(table.with_models([name for name in table.models if name != new]))
        router = Router.from_artifact(before)
        universe = SimulatedWorld(world, (*router.models, new), queries=requests, seed=1_000 + seed)
        serving = Serving(FLOOR, requests, exploration=share, audit_share=0.05, seed=seed, newcomers=(new,))
        graded = serve_traffic(remembering(router, universe.bank), universe, serving)
        found: dict[str, Any] = {"seed": seed, "newcomer": new}
        tried = [one for one in graded if one.model == new]
        others = [one.score for one in graded if one.model != new]
        found["tried"] = len(tried)
        found["share"] = len(tried) / requests
        # What was served: tries as they were, the others as their audits say.
        found["served_score"] = found["share"] * float(np.mean([one.score for one in tried])) + (
            1.0 - found["share"]
        ) * float(np.mean(others))
        routers = {"without": before, "retrained": full}
        try:
            routers["added"] = add_model(before, outcomes_of(graded, new), new, progress=quiet)
        except InsufficientDataError as error:
            found["refused"] = str(error)
        for name, artifact in routers.items():
            found[name] = _truth(Router.from_artifact(artifact), world)
        return found


def _most_missed(artifact: Artifact, world: World) -> str:
    """The model without which the floor would cost most, by the heads of the router that knows all of them."""
    router, sample = Router.from_artifact(artifact), world.sample(3_000, 98)
    table = sample.table.with_models(list(router.models))
    scores = sample.expected_scores[:, [world.model_names.index(name) for name in router.models]]
    predictions = router.predict(table.queries)
    cost = []
    for model in range(len(router.models)):
        left = np.delete(np.arange(len(router.models)), model)
        rest = Predictions(predictions.scores[:, left], predictions.costs_usd[:, left])
        choices = left[plugin_points(rest, 150).choose_all(rest)]
        cost.append(_at_floor(choices, scores, table.costs_usd))
    return router.models[int(np.argmax(cost))]


def _at_floor(choices: IntArray, scores: FloatArray, costs_usd: FloatArray) -> float:
    """USD per 1,000 requests at the floor along the hull of the points' true means."""
    rows = np.arange(len(scores))
    mean_scores = np.array([scores[rows, choice].mean() for choice in choices])
    mean_costs = np.array([costs_usd[rows, choice].mean() for choice in choices])
    hull = frontier_vertices(Estimates(mean_scores, mean_costs), min_gap=0.0)[::-1]
    return round(1000.0 * float(np.interp(FLOOR, mean_scores[hull], mean_costs[hull])), 4)


def _truth(router: Router, world: World) -> dict[str, float]:
    """Mean score and cost at the floor over fresh queries, as an estimate and with a certificate."""
    sample = world.sample(20_000, 99)
    table = sample.table.with_models(list(router.models))
    columns = [world.model_names.index(name) for name in router.models]
    predictions = router.predict(table.queries)
    scores, costs = sample.expected_scores[:, columns], table.costs_usd
    rows, found = np.arange(table.n_queries), {}
    for kind in ("expected", "certified"):
        plan = router.plan(FLOOR, guarantee=kind, on_infeasible="best_effort")
        upper, lower = (router.choose(predictions, point) for point in (plan.mix.upper, plan.mix.lower))
        weight = plan.mix.weight_upper
        for what, of in (("score", scores), ("usd_per_1000", 1000.0 * costs)):
            mean = weight * of[rows, upper].mean() + (1.0 - weight) * of[rows, lower].mean()
            found[f"{kind}_{what}"] = round(float(mean), 4)
    best = router.target_map.certified_range["max_target"]
    found["usd_per_1000_at_floor"] = _at_floor(router.choose_all(predictions), scores, costs)
    return found | {"best_certified": float("nan") if best is None else best}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    run = partial(one_seed, rows=options.rows, requests=options.requests, share=options.share)
    records = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for record in pool.map(run, range(options.seeds)):
            records.append(record)
            print(json.dumps(record), flush=True)
    joined = [record for record in records if "added" in record]
    mean = {
        name: float(np.mean([record[name]["usd_per_1000_at_floor"] for record in joined]))
        for name in ("without", "added", "retrained")
    }
    share = (mean["without"] - mean["added"]) / (mean["without"] - mean["retrained"])
    print(
        json.dumps(
            {
                "joined": len(joined),
                "usd_per_1000_at_floor": mean,
                "share of retraining's gain": round(share, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
