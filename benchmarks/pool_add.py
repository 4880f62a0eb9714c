"""A model left out and added back from a hundred outcomes: how much of full retraining's gain comes back.

    python benchmarks/pool_add.py [--data mmlupro13] [--model gemini-1.5-flash-002] [--outcomes 100] [--seeds 5] [--jobs 2]

Per seed a 70/30 split by near-text group. Three routers: trained without the model, that one after `pool add` from
outcomes of training queries drawn at random, and trained with all of its outcomes. REQ of each on the held-out rows,
against the static mix of the whole pool; the share is (without - added) / (without - retrained), of the means over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core import TEST_SHARE, _Served, measure
from proteus_router.config import load_train_config
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import read_outcomes
from proteus_router.data.splits import split_rows
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.router import Router
from proteus_router.training.pipeline import canonical_models, train_router
from proteus_router.training.pool.changes import add_model
from proteus_router.training.stages import MemoryStages
from proteus_router.training.threads import one_blas_thread
from proteus_router.training.train_log import TrainLog


def one_seed(seed: int, *, data: str, model: str, outcomes: int) -> dict[str, Any]:
    """REQ of the three routers on one split, and the seconds that the two ways took."""
    table = read_outcomes(Path(os.environ.get("PROTEUS_DATA", "../shared/data")) / data)
    split = split_rows(near_text_groups(table.queries), test_share=TEST_SHARE, seed=seed)
    train, test = canonical_models(table.take(split.train)), table.take(split.test)
    drawn = np.random.default_rng([seed, 1]).choice(train.n_queries, outcomes, replace=False)
    with one_blas_thread():
        before = _train(train.with_models([name for name in train.models if name != model]), seed)
        started = time.perf_counter()
        after = add_model(before, train.take(np.sort(drawn)), model, progress=_quiet)
        added_s = time.perf_counter() - started
        started = time.perf_counter()
        full = _train(train, seed)
        retrained_s = time.perf_counter() - started
    found = {"without": before, "added": after, "retrained": full}
    figures = {
        name: _measured(artifact, test.with_models(train.models), seed) for name, artifact in found.items()
    }
    return {"seed": seed, "n_train": train.n_queries, "n_test": test.n_queries, "added_s": added_s,
            "retrained_s": retrained_s, **figures}  # fmt: skip


def _train(table: OutcomeTable, seed: int) -> Artifact:
    return train_router(
        table,
        config=load_train_config(None, seed=seed),
        encoder=None,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=_quiet,
    )


def _measured(artifact: Artifact, test: OutcomeTable, seed: int) -> dict[str, float]:
    router = Router.from_artifact(artifact)
    choices = router.policy.choose_all(router.predict(test.queries))
    columns = np.array([test.models.index(name) for name in router.models])
    served = _Served(columns[choices], router.target_map, artifact.manifest["policy"]["report"])
    figures = measure(served, test, seed)
    best = router.target_map.certified_range["max_target"]
    return {"req": figures["req"], "best_certified": float("nan") if best is None else best}


def _quiet(stage: str, done: int, total: int) -> None:
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mmlupro13")
    parser.add_argument("--model", default="gemini-1.5-flash-002")
    parser.add_argument("--outcomes", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    run = partial(one_seed, data=options.data, model=options.model, outcomes=options.outcomes)
    records = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for record in pool.map(run, range(options.seeds)):
            records.append(record)
            print(json.dumps(record), flush=True)
    mean = {
        name: np.mean([record[name]["req"] for record in records])
        for name in ("without", "added", "retrained")
    }
    share = (mean["without"] - mean["added"]) / (mean["without"] - mean["retrained"])
    print(
        json.dumps(
            {name: round(float(value), 4) for name, value in mean.items()} | {"share": round(float(share), 3)}
        )
    )


if __name__ == "__main__":
    main()
