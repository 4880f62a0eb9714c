"""A candidate that has learned from graded traffic, judged on the traffic that came after.

Two things can be learned: what the heads don't know yet, and how much of the certificates' margin was for want of
evidence. One candidate has the same heads, one new heads; both take the earlier traffic as evidence. The later traffic
judges them, the one that expects to serve the target at the lower cost first: whichever is shown to be good first is
promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proteus_router.errors import InsufficientDataError
from proteus_router.learning.heads import evidence_texts, taught
from proteus_router.learning.promote import Verdict, judge
from proteus_router.learning.recertify import recertified
from proteus_router.learning.replay import Replay, replay
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact
from proteus_router.routing.router import Router
from proteus_router.training.pool.evidence import Evidence
from proteus_router.types import ProgressFn

__all__ = ["Learned", "learn"]

LEARNED_SHARE = 0.7
"""Of the traffic; the later rest judges."""
FEWEST = 500


@dataclass(frozen=True)
class Learned:
    """The candidate, its record on the traffic it has not seen, and whether it may serve.

    Attributes
    ----------
    new_heads
        Whether its heads have learned, or its certificates alone.
    n_learned
        Decisions that it learned from.
    """

    artifact: Artifact
    new_heads: bool
    record: Replay
    verdict: Verdict
    n_learned: int


def learn(
    artifact: Artifact, texts: Sequence[str], traffic: Traffic, target: float, *, progress: ProgressFn
) -> Learned:
    """Learn from the earlier part of `traffic`, judge on the later one.

    Parameters
    ----------
    artifact
        The router that serves; of the default mode and scheme crossfit, whose evidence it keeps.
    texts
        Queries of the outcomes that it was trained on, in any order; more do no harm.
    traffic
        Over the router's models, oldest first.
    target
        That the traffic was served at.

    Raises
    ------
    InsufficientDataError
        Fewer than 500 graded decisions.
    ConfigError
        The router keeps no evidence.
    SchemaError
        `texts` lack queries that it was trained on.
    """
    if traffic.n < FEWEST:
        raise InsufficientDataError(
            f"{traffic.n} graded decisions; at least {FEWEST} are needed.",
            needed=FEWEST,
            available=traffic.n,
            hint="Raise the tier's audits.share, keep text (audits.keep_text), and have the audits graded.",
        )
    rows = evidence_texts(Evidence.of(artifact), texts)
    cut = round(LEARNED_SHARE * traffic.n)
    earlier, later = traffic.take(np.arange(cut)), traffic.take(np.arange(cut, traffic.n))
    live = Router.from_artifact(artifact)
    seen = live.predict(earlier.texts)
    learned = taught(artifact, rows, earlier, seen, progress=progress)
    candidates = [
        _Candidate.of(recertified(artifact, earlier, seen), target, new_heads=False),
        _Candidate.of(recertified(learned.artifact, earlier, learned.predictions), target, new_heads=True),
    ]
    candidates.sort(key=lambda candidate: candidate.expected_cost_usd)
    found = []
    for candidate in candidates:
        record = replay(candidate.router, later, target, against=live)
        found.append(Learned(candidate.artifact, candidate.new_heads, record, judge(record), cut))
        if found[-1].verdict.promoted:
            return found[-1]
    return found[0]


@dataclass(frozen=True)
class _Candidate:
    artifact: Artifact
    router: Router
    new_heads: bool
    expected_cost_usd: float  # a request at the target; endless where it can't be certified

    @classmethod
    def of(cls, artifact: Artifact, target: float, *, new_heads: bool) -> _Candidate:
        router = Router.from_artifact(artifact)
        plan = router.plan(target, on_infeasible="best_effort")
        cost = plan.mix.expected_cost_usd if plan.certificate is not None else float("inf")
        return cls(artifact, router, new_heads, cost)
