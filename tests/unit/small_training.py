"""A training of seconds, for tests of what is done with routers."""

from __future__ import annotations

from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.routing.artifact import Artifact
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog

__all__ = ["SMALL", "quiet", "train"]

SMALL = TrainConfig(
    heads=HeadsConfig(n_folds=3, forest_trees=20),
    policy=PolicyConfig(steps=0, n_settings=80, query_dependent=False, bootstrap=50),
)


def quiet(stage: str, done: int, total: int) -> None:
    return None


def train(table: OutcomeTable, config: TrainConfig = SMALL) -> Artifact:
    return train_router(
        table, config=config, encoder=None, stages=MemoryStages(), log=TrainLog(None), progress=quiet
    )
