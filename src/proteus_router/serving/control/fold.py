"""The state of the closed loop: a fold over the store's log, the same in every process that has read as far."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from proteus_router.control import Agreement, AuditedOutcome, ControlLoop, SourceAgreement
from proteus_router.serving.control.evidence import Subject, TierSpec
from proteus_router.serving.records import LoopEvent

__all__ = ["FORMAT", "Fold", "TierEvidence"]

_log = logging.getLogger(__name__)
FORMAT = 1
"""Of a snapshot: rises when an older release could not read it, or would fold another state from the same log."""
_MOST_CHANGES = 100
_MOST_TASKS = 50
"""Names that callers gave; requests of any further one are watched without."""


@dataclass
class TierEvidence:
    """What is known beside a tier's scores.

    Attributes
    ----------
    since
        Unix seconds of its beginning.
    stale_reason
        What has changed since, or "".
    sources
        Source -> audits that it closed.
    """

    epoch: int
    since: float
    spec: TierSpec
    subject: Subject
    stale_reason: str = ""
    sources: Counter[str] = field(default_factory=Counter)
    _agreements: dict[tuple[str, str], SourceAgreement] = field(default_factory=dict)

    def pair(self, source: str, score: float, other: str, other_score: float) -> None:
        """Two sources scored one answer."""
        scores = {source: score, other: other_score}
        first, second = sorted(scores)
        if (first, second) not in self._agreements:
            self._agreements[first, second] = SourceAgreement(first, second)
        self._agreements[first, second].add(scores[first], scores[second])

    @property
    def agreements(self) -> list[Agreement]:
        return [found.report() for _, found in sorted(self._agreements.items())]

    def to_state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "since": self.since,
            "spec": self.spec.to_state(),
            "subject": self.subject.to_state(),
            "stale_reason": self.stale_reason,
            "sources": dict(self.sources),
            "agreements": [found.to_state() for _, found in sorted(self._agreements.items())],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TierEvidence:
        found = cls(
            epoch=int(state["epoch"]),
            since=float(state["since"]),
            spec=TierSpec.from_state(state["spec"]),
            subject=Subject.from_state(state["subject"]),
            stale_reason=state["stale_reason"],
            sources=Counter(state["sources"]),
        )
        for kept in map(SourceAgreement.from_state, state["agreements"]):
            found._agreements[kept.source, kept.reference] = kept
        return found


class Fold:
    """Tiers, models and what came to light about them.

    Attributes
    ----------
    loop
        The numerics; its models are names of the pool, taken in as they are first audited.
    changes
        The latest changes of models, oldest first; JSON-able.
    collapsed
        Model -> the collapse that was found, until it is released.
    tasks
        Names of tasks that are watched, as callers gave them.
    sequence
        Number of the last event.
    """

    def __init__(self) -> None:
        self.loop = ControlLoop((), {})
        self.tiers: dict[str, TierEvidence] = {}
        self.changes: list[dict[str, Any]] = []
        self.collapsed: dict[str, dict[str, Any]] = {}
        self.tasks: list[str] = []
        self.sequence = 0

    def apply_all(self, events: Iterable[LoopEvent]) -> None:
        for event in events:
            self.apply(event)

    def apply(self, event: LoopEvent) -> None:
        """The next event; one that was applied before is passed over."""
        if event.sequence <= self.sequence:
            return
        self.sequence = event.sequence
        try:
            self._apply(event)
        except (KeyError, TypeError, ValueError) as error:
            # Of no release that we know. Every process passes over it alike, and none gets stuck on it.
            _log.error("event %d of the closed loop can't be read: %s", event.sequence, error)

    def _apply(self, event: LoopEvent) -> None:
        data = event.data
        if event.kind == "release":
            if event.model in self.loop.recalibration.models:
                self.collapsed.pop(event.model, None)
                self.loop.forget([event.model])
            return
        assert event.tier is not None
        if event.kind == "begin":
            spec, subject = TierSpec.from_state(data["spec"]), Subject.from_state(data["subject"])
            self.tiers[event.tier] = TierEvidence(int(data["epoch"]), event.at, spec, subject)
            self.loop.reset(event.tier, spec.loop())
            return
        tier = self.tiers.get(event.tier)
        if tier is None or data["epoch"] != tier.epoch:  # of evidence that has begun anew since
            return
        if event.kind == "stale":
            tier.stale_reason = tier.stale_reason or str(data["reason"])
        elif event.kind == "pair":
            tier.pair(data["source"], data["score"], data["other_source"], data["other_score"])
        elif event.kind == "outcome":
            self._outcome(event, tier)
        else:
            raise ValueError(f"no kind {event.kind!r}")

    def _outcome(self, event: LoopEvent, tier: TierEvidence) -> None:
        data, model = event.data, event.model
        assert model is not None
        assert event.tier is not None
        self.loop.include(model)
        found = self.loop.observe(
            AuditedOutcome(
                sequence=event.sequence,
                tier=event.tier,
                position=data["position"],
                model=model,
                score=data["score"],
                predicted_score=data["predicted_score"],
                rate=data["rate"],
                task=self._known_task(data.get("task")) if data["trusted"] else None,
                trusted=data["trusted"],
            )
        )
        tier.sources[data["source"]] += 1
        for change in found.changes:
            self.changes = [*self.changes[1 - _MOST_CHANGES :], {**asdict(change), "at": event.at}]
        if found.collapse is not None:
            self.collapsed.setdefault(
                model, {**asdict(found.collapse), "reason": found.collapse.reason, "at": event.at}
            )

    def _known_task(self, task: str | None) -> str | None:
        if task is not None and task not in self.tasks:
            if len(self.tasks) >= _MOST_TASKS:
                return None
            self.tasks.append(task)
        return task

    def to_json(self) -> str:
        """Everything that counts; floats come back to the last bit."""
        state = {
            "sequence": self.sequence,
            "loop": self.loop.to_state(),
            "tiers": {name: tier.to_state() for name, tier in self.tiers.items()},
            "changes": self.changes,
            "collapsed": self.collapsed,
            "tasks": self.tasks,
        }
        return orjson.dumps(state).decode()

    @classmethod
    def from_json(cls, text: str) -> Fold:
        state = orjson.loads(text)
        found = cls()
        found.sequence = int(state["sequence"])
        found.loop = ControlLoop.from_state(state["loop"])
        found.tiers = {name: TierEvidence.from_state(tier) for name, tier in state["tiers"].items()}
        found.changes, found.collapsed, found.tasks = state["changes"], state["collapsed"], state["tasks"]
        return found
