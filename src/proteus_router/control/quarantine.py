"""Whether a model is so much worse than predicted that it should get no traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proteus_router.control.change_detector import ChangeDetector

__all__ = ["Collapse", "CollapseWatch"]


@dataclass(frozen=True, slots=True)
class Collapse:
    """A model's mean score is more than `drop` below its predictions; take it out of the pool.

    Attributes
    ----------
    since, audits
        Number of the audit where the collapse most likely began, and audits of the model from there on.
    difference
        Mean score minus predicted score over them.
    """

    model: str
    number: int
    since: int
    audits: int
    difference: float
    drop: float

    @property
    def reason(self) -> str:
        return (
            f"{self.model}: {self.audits} audits since number {self.since} scored {self.difference:+.3f} against its "
            f"predictions, a fall of more than {self.drop:g}."
        )


class CollapseWatch:
    """Watches every model for scores that are more than `drop` below its predicted scores.

    Unlike a change of level, the reference is fixed (predicted score - drop), so the false-alarm bound is a theorem: a
    model that is never worse than that is quarantined at most once in `false_alarm_every` of its audits on average.
    """

    def __init__(
        self, models: Sequence[str], *, drop: float = 0.25, false_alarm_every: float = 100_000.0
    ) -> None:
        if not 0.0 < drop < 1.0:
            raise ValueError(f"drop must be a fraction in (0, 1), not {drop}.")
        self.drop = drop
        self.false_alarm_every = false_alarm_every
        self._detectors: dict[str, ChangeDetector] = {}
        for name in models:
            self.include(name)

    def include(self, model: str) -> None:
        """Watch a model that was not there at the start; nothing happens where it is watched already."""
        if model not in self._detectors:
            self.forget([model])

    def forget(self, models: Iterable[str]) -> None:
        """Start these models anew, as when one returns from quarantine."""
        for name in models:
            self._detectors[name] = ChangeDetector(false_alarm_every=self.false_alarm_every, direction="fall")

    def add(self, model: str, score: float, predicted: float, *, number: int) -> Collapse | None:
        """One audited request; the verdict where it completes one."""
        detector = self._detectors[model]
        found = detector.add(score, predicted - self.drop, number=number, predicted=predicted)
        if found is None:
            return None
        detector.restart()
        return Collapse(model, number, found.since, found.audits, found.surplus / found.audits, self.drop)

    def to_state(self) -> dict[str, Any]:
        detectors = {name: detector.to_state() for name, detector in self._detectors.items()}
        return {"drop": self.drop, "false_alarm_every": self.false_alarm_every, "detectors": detectors}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CollapseWatch:
        found = cls((), drop=state["drop"], false_alarm_every=state["false_alarm_every"])
        found._detectors = {
            name: ChangeDetector.from_state(detector) for name, detector in state["detectors"].items()
        }
        return found
