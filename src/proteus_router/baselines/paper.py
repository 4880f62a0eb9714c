"""The published configuration (arXiv 2601.19402) and its ablations as routers of the benchmark."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from proteus_router.baselines.base import RouterFit
from proteus_router.baselines.context import Context
from proteus_router.data.splits import fold_ids
from proteus_router.routing.hull import Mix
from proteus_router.training.paper import PaperFit, fit_paper
from proteus_router.training.paper.rows import target_range
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import BoolArray

__all__ = ["Paper"]


@dataclass(frozen=True)
class Paper:
    """One point an internal target; a target is served by the nearest, as published, with no calibration.

    Attributes
    ----------
    update
        Settings of `PaperConfig` changed: the ablation.
    most_steps
        PPO updates a fit at most. The paper makes 10,000; three fits a cell (two halves for out-of-fold choices,
        then all rows) of that length would take most of a benchmark's time.
    """

    name: str = "paper"
    update: tuple[tuple[str, object], ...] = ()
    most_steps: int = 2_000

    def fit(self, context: Context) -> RouterFit:
        started = time.perf_counter()
        train = context.train
        halves = fold_ids(context.groups, 2, context.seed)
        every = np.ones(train.n_queries, dtype=bool)
        final = self._fit_rows(every, context)
        out_of_fold = np.empty((final.all_points.n_points, train.n_queries), dtype=np.int64)
        for half in (0, 1):
            held = halves == half
            fitted = self._fit_rows(~held, context)
            texts = [train.queries[row] for row in np.flatnonzero(held)]
            out_of_fold[:, held] = fitted.all_points.choose_all(fitted.predictor.predict(texts))
        targets = np.linspace(*target_range(train.scores), final.all_points.n_points)

        def native(target: float) -> Mix:
            point = int(np.abs(targets - target).argmin())
            return Mix(point, point, 1.0)

        return RouterFit(
            name=self.name,
            knobs=targets,
            choices=lambda texts: final.all_points.choose_all(final.predictor.predict(texts)),
            out_of_fold=out_of_fold,
            native=native,
            predicted=final.predictor.predict,
            seconds=time.perf_counter() - started,
        )

    def _fit_rows(self, rows: BoolArray, context: Context) -> PaperFit:
        # The halves get the range of tau of all rows, so that their points mean the same targets.
        paper = context.config.paper
        settings = {
            "steps": min(paper.steps, self.most_steps),
            "target_range": target_range(context.train.scores),
        }
        config = paper.model_copy(update={**settings, **dict(self.update)})
        return fit_paper(
            context.train.take(rows),
            context.groups[rows],
            encoder=context.lexical,
            config=config,
            seed=context.seed,
            stages=MemoryStages(),
            log=TrainLog(None),
            progress=lambda *_: None,
        )
