"""Table 3 of the paper: the time a whole decision takes, by batch size, on this machine with one thread."""

from __future__ import annotations

import time

import numpy as np

from proteus_router.baselines.context import Context
from proteus_router.config import load_train_config
from proteus_router.evaluation.harness.cells import Cell
from proteus_router.evaluation.harness.results import Row
from proteus_router.routing.router import Router
from proteus_router.training.pipeline import train_router
from proteus_router.training.train_log import TrainLog

__all__ = ["BATCH_SIZES", "router_latency"]

BATCH_SIZES = (1, 8, 32, 64, 128)


def router_latency(cell: Cell, context: Context, *, quick: bool = False) -> list[Row]:
    """Time of `Router.route_batch` a query: text in, decision out, encoder, heads and policy among it."""
    config = load_train_config(None, seed=cell.seed)
    # No policy training: the plug-in decides with the same arithmetic.
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"steps": 0})})
    artifact = train_router(
        cell.train,
        config=config,
        encoder=None,
        stages=context.stages,
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    router = Router.from_artifact(artifact)
    texts = list(cell.test.queries)
    target = float(np.median(cell.grids.response))
    rows = []
    for size in BATCH_SIZES:
        times = _times(router, texts, target, size, calls=max(12, (200 if quick else 600) // size))
        figures = {f"p{q}_ms": float(np.percentile(times, q)) for q in (50, 95, 99)}
        figures["queries_per_s"] = 1000.0 / float(np.mean(times))
        rows += [
            Row("latency", cell.data, cell.seed, "router", metric, value, variant=str(size), n=len(times))
            for metric, value in figures.items()
        ]
    return rows


def _times(router: Router, texts: list[str], target: float, size: int, calls: int) -> list[float]:
    """Milliseconds a query of each call."""
    times = []
    for call in range(calls + 2):
        batch = [texts[(call * size + place) % len(texts)] for place in range(size)]
        started = time.perf_counter()
        router.route_batch(batch, accuracy_target=target, guarantee="expected", on_infeasible="best_effort")
        times.append((time.perf_counter() - started) * 1000.0 / size)
    return times[2:]  # the first calls warm up
