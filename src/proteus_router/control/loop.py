"""The closed loop of one router: audited outcomes in, internal targets, offsets and certificates out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proteus_router.control.agreement import Agreement
from proteus_router.control.confidence_sequence import Bounds, ConfidenceSequence
from proteus_router.control.integral import Gains, IntegralControl, TrackingStatus
from proteus_router.control.live_certificate import CertificateState, LiveCertificate, live_certificate
from proteus_router.control.quarantine import Collapse, CollapseWatch
from proteus_router.control.recalibration import ModelChange, Recalibration
from proteus_router.control.rolling import RollingSequence
from proteus_router.types import FloatArray

__all__ = ["AuditedOutcome", "ControlLoop", "Observation", "TierLoop"]


@dataclass(frozen=True, slots=True)
class AuditedOutcome:
    """One audited request, as the store hands it out.

    Attributes
    ----------
    sequence
        The store's number of it; rises, gaps allowed. Every process folds outcomes in this order.
    tier
        Name of the tier that served the request.
    position
        The request's number among the tier's requests since its reset, from 1.
    model, task
        Who answered; what kind of request it was, where that is known.
    score
        In [0, 1].
    predicted_score
        As the router's artifact predicted it, without offsets; None: of a model that it does not know. Such a score
        counts for its tier alone.
    rate
        Probability with which the request was drawn for audit.
    trusted
        False: the score counts for its own tier alone, and moves nothing that tiers share. So whoever grades one
        tenant's requests can't steer another's.
    """

    sequence: int
    tier: str
    position: int
    model: str
    score: float
    predicted_score: float | None
    rate: float
    task: str | None = None
    trusted: bool = True

    def __post_init__(self) -> None:
        for name in ("score", "predicted_score", "rate"):
            value = getattr(self, name)
            if name == "predicted_score" and value is None:
                continue
            if not 0.0 <= value <= 1.0:  # NaN too
                raise ValueError(f"outcome {self.sequence}: {name} must lie in [0, 1], not {value}.")
        if self.position < 1:
            raise ValueError(f"outcome {self.sequence}: positions count from 1, not {self.position}.")


@dataclass(frozen=True, slots=True)
class Observation:
    """What one outcome brought to light."""

    changes: tuple[ModelChange, ...] = ()
    collapse: Collapse | None = None


class TierLoop:
    """One tier: its evidence since the reset, its rolling window, and its integral control where it is tracked.

    Parameters
    ----------
    accuracy_target
        The floor.
    rate
        The usual audit rate.
    rate_floor
        The lowest audit rate that will be used; default: the usual one.
    start
        Internal target to begin with where the tier is tracked; None: not tracked.
    window
        Requests of the rolling certificate.
    """

    def __init__(
        self,
        accuracy_target: float,
        *,
        rate: float = 1.0,
        rate_floor: float | None = None,
        start: float | None = None,
        gains: Gains | None = None,
        window: int = 4000,
        confidence: float = 0.95,
    ) -> None:
        floor = rate if rate_floor is None else rate_floor
        self.accuracy_target = accuracy_target
        self.since_reset = ConfidenceSequence(accuracy_target, rate_floor=floor, confidence=confidence)
        self.recent = RollingSequence(window, accuracy_target, rate_floor=floor, confidence=confidence)
        self.control: IntegralControl | None = None
        self.last_position = 0
        if start is not None:
            self.control = IntegralControl(accuracy_target, start=start, usual_rate=rate, gains=gains)

    def add(self, outcome: AuditedOutcome) -> None:
        self.since_reset.add(outcome.score, rate=outcome.rate)
        self.recent.add(outcome.score, position=outcome.position, rate=outcome.rate)
        if self.control is not None:
            self.control.add(outcome.score, rate=outcome.rate)
        self.last_position = max(self.last_position, outcome.position)

    def bounds(self, requests: int, *, recent: bool = False, open_audits: int = 0) -> Bounds:
        """The interval after `requests` requests since the reset: for all of them, or for the recent ones.

        `open_audits` of the same requests have no score, see `ConfidenceSequence.bounds`.
        """
        sequence = self.recent if recent else self.since_reset
        return sequence.bounds(requests, open_audits=open_audits)

    def certificate(
        self,
        requests: int,
        *,
        recent: bool = False,
        open_audits: int = 0,
        previous: CertificateState | None = None,
        stale_reason: str = "",
        agreements: Sequence[Agreement] = (),
    ) -> LiveCertificate:
        """See `live_certificate`."""
        return live_certificate(
            self.bounds(requests, recent=recent, open_audits=open_audits),
            accuracy_target=self.accuracy_target,
            previous=previous,
            stale_reason=stale_reason,
            agreements=agreements,
        )

    def tracking(self, requests: int) -> TrackingStatus | None:
        """How tracking goes after `requests` requests since the reset; None where the tier is not tracked."""
        if self.control is None:
            return None
        return self.control.status(requests_since_audit=requests - self.last_position)

    def to_state(self) -> dict[str, Any]:
        return {
            "accuracy_target": self.accuracy_target,
            "since_reset": self.since_reset.to_state(),
            "recent": self.recent.to_state(),
            "control": None if self.control is None else self.control.to_state(),
            "last_position": self.last_position,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TierLoop:
        found = cls(state["accuracy_target"])
        found.since_reset = ConfidenceSequence.from_state(state["since_reset"])
        found.recent = RollingSequence.from_state(state["recent"])
        found.control = None if state["control"] is None else IntegralControl.from_state(state["control"])
        found.last_position = int(state["last_position"])
        return found


class ControlLoop:
    """All tiers of one router, and what they share: the level of every model.

    A fold over the store's audited outcomes: two processes that have read the same outcomes hold the same state, to
    the last bit, and reading one twice changes nothing. `to_state` is a snapshot to go on from.
    """

    def __init__(
        self,
        models: Sequence[str],
        tiers: Mapping[str, TierLoop],
        *,
        false_alarm_every: float = 20_000.0,
        collapse_drop: float = 0.25,
    ) -> None:
        self.tiers = dict(tiers)
        self.recalibration = Recalibration(models, false_alarm_every=false_alarm_every)
        self.collapse = CollapseWatch(models, drop=collapse_drop)
        self.last_sequence = -1

    @property
    def offsets(self) -> FloatArray:
        """(n_models,) what to add to predicted scores before the frontier is inverted again."""
        return self.recalibration.offsets

    def include(self, model: str) -> None:
        """Watch a model that was not there at the start; its offset comes after those of the others."""
        self.recalibration.include(model)
        self.collapse.include(model)

    def forget(self, models: Sequence[str]) -> None:
        """Start the levels of these models anew, as when one returns from quarantine."""
        self.recalibration.forget(models)
        self.collapse.forget(models)

    def observe(self, outcome: AuditedOutcome) -> Observation:
        """Fold one outcome in; one that was folded before is passed over."""
        if outcome.sequence <= self.last_sequence:
            return Observation()
        # Everything that can refuse the outcome comes before anything is changed.
        for kind, name, known in (
            ("model", outcome.model, self.recalibration.models),
            ("tier", outcome.tier, tuple(self.tiers)),
        ):
            if name not in known:
                raise ValueError(f"outcome {outcome.sequence}: no {kind} {name!r} among {', '.join(known)}.")
        self.tiers[outcome.tier].add(outcome)
        self.last_sequence = outcome.sequence
        predicted = outcome.predicted_score
        if not outcome.trusted or predicted is None:
            return Observation()
        changes = self.recalibration.add(
            outcome.model,
            outcome.score,
            predicted,
            number=outcome.sequence,
            task=outcome.task,
        )
        collapse = self.collapse.add(outcome.model, outcome.score, predicted, number=outcome.sequence)
        return Observation(tuple(changes), collapse)

    def observe_all(self, outcomes: Iterable[AuditedOutcome]) -> list[Observation]:
        """Fold outcomes in, in the order given; what came to light, without the empty ones."""
        found = (self.observe(outcome) for outcome in outcomes)
        return [seen for seen in found if seen.changes or seen.collapse]

    def reset(self, tier: str, fresh: TierLoop) -> None:
        """Begin a tier anew, with requests counted from 1 again; the models' levels stay."""
        self.tiers[tier] = fresh

    def to_state(self) -> dict[str, Any]:
        return {
            "last_sequence": self.last_sequence,
            "tiers": {name: tier.to_state() for name, tier in self.tiers.items()},
            "recalibration": self.recalibration.to_state(),
            "collapse": self.collapse.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ControlLoop:
        found = cls((), {})
        found.last_sequence = int(state["last_sequence"])
        found.tiers = {name: TierLoop.from_state(tier) for name, tier in state["tiers"].items()}
        found.recalibration = Recalibration.from_state(state["recalibration"])
        found.collapse = CollapseWatch.from_state(state["collapse"])
        return found
