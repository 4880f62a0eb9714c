"""A candidate whose heads have learned from graded traffic, judged on the traffic that came after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.config import TrainConfig
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.encoders.base import Encoder
from proteus_router.errors import InsufficientDataError
from proteus_router.learning.promote import Verdict, judge
from proteus_router.learning.replay import Replay, replay
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.router import Router
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog
from proteus_router.types import ProgressFn

__all__ = ["Learned", "learn"]

LEARNED_SHARE = 0.7
"""Of the traffic; the later rest judges."""
FEWEST = 500


@dataclass(frozen=True)
class Learned:
    """The candidate, its record on the traffic it has not seen, and whether it may serve."""

    artifact: Artifact
    record: Replay
    verdict: Verdict
    n_learned: int


def learn(
    table: OutcomeTable,
    traffic: Traffic,
    target: float,
    *,
    config: TrainConfig,
    encoder: Encoder | None,
    progress: ProgressFn,
) -> Learned:
    """Train anew on `table` and the earlier part of `traffic`, certify on `table`, judge on the later part.

    The traffic teaches the heads alone: which model answered was not left to chance in general, so operating points and
    certificates rest on `table`, where every model was asked.

    Raises
    ------
    InsufficientDataError
        Fewer than 500 graded decisions.
    """
    if traffic.n < FEWEST:
        raise InsufficientDataError(
            f"{traffic.n} graded decisions; at least {FEWEST} are needed.",
            needed=FEWEST,
            available=traffic.n,
            hint="Raise the tier's audits.share, keep text (audits.keep_text), and have the audits graded.",
        )
    cut = round(LEARNED_SHARE * traffic.n)
    earlier, later = traffic.take(np.arange(cut)), traffic.take(np.arange(cut, traffic.n))
    artifact = train_router(
        table,
        config=config,
        encoder=encoder,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=progress,
        learned_from=earlier.outcomes(),
    )
    candidate = Router.from_artifact(artifact)
    order = np.array([traffic.models.index(name) for name in candidate.models])
    record = replay(candidate, later.with_models(order), target)
    return Learned(artifact, record, judge(record), cut)
