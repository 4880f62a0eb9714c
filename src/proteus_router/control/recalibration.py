"""By how much each model's predicted score is off, corrected only once a change has been shown.

A correction that follows every audit does harm: its noise is chosen by the router along with the models it flatters.
So the level of score - predicted score is estimated all the time, shrunk towards none, but used only to watch for a
change against; the router's predictions stay as certified until the detector has found one. From then on the model is
corrected by its mean since the change, and that goes on learning.

Corrections say how models stand to one another. What the others are off by together is left out of them: a tier's
integral control makes up for that, and would do so twice; and where all models fall at once, as on harder traffic, the
one that is asked most is found first and would look worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proteus_router.control.change_detector import ChangeDetector
from proteus_router.types import FloatArray

__all__ = ["ModelChange", "ModelLevel", "Recalibration"]

_PRIOR_AUDITS = 200.0
"""Weight of "the prediction is right" before any change: predictions are off by about 0.03 (0.16 / 0.03**2 = 178)."""
_PRIOR_AFTER = 50.0
"""Weight of the level before a change once one is found: the segment that raised the alarm overstates it."""
_LEAST = 30
"""Audits since a change before it is acted on: a streak of bad luck is shorter."""
_MEMORY = 1000.0
"""Audits that a level remembers; a slow drift is followed, not announced."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A model's scores have left their level.

    Attributes
    ----------
    model, task
        Which; `task` is None for all of the model's audits together.
    number
        Of the audit that raised the alarm.
    since
        Number of the audit where the change most likely began.
    audits
        Audits of this model (and task) since then.
    before, after
        Mean score minus predicted score, before and since.
    """

    model: str
    task: str | None
    number: int
    since: int
    audits: int
    before: float
    after: float


class ModelLevel:
    """The level of one model's score - predicted score, and the watch over it."""

    def __init__(self, *, false_alarm_every: float = 20_000.0) -> None:
        self.detector = ChangeDetector(false_alarm_every=false_alarm_every)
        self.changed = False
        self._audits = 0.0
        self._surplus = 0.0
        self._prior = 0.0  # level that the estimate is shrunk towards

    @property
    def estimate(self) -> float:
        """Score minus predicted score to be expected, shrunk towards none, or towards the level before a change."""
        weight = _PRIOR_AFTER if self.changed else _PRIOR_AUDITS
        return (self._surplus + weight * self._prior) / (self._audits + weight)

    @property
    def evidence(self) -> tuple[float, float]:
        """(audits, their summed score minus predicted score) that the estimate is made of, its prior left out."""
        return self._audits, self._surplus

    def add(self, score: float, predicted: float, *, number: int) -> tuple[float, float, int, int] | None:
        """One audit; (before, after, since, audits) where a change is found."""
        before = self.estimate
        found = self.detector.add(score, predicted + before, number=number, predicted=predicted)
        self._audits += 1.0
        self._surplus += score - predicted
        if self._audits > _MEMORY:
            self._surplus *= _MEMORY / self._audits
            self._audits = _MEMORY
        if found is None or found.audits < _LEAST:
            return None
        self.changed, self._prior = True, before
        self._audits, self._surplus = float(found.audits), found.surplus
        self.detector.restart()
        return before, found.surplus / found.audits, found.since, found.audits

    def to_state(self) -> dict[str, Any]:
        return {
            "detector": self.detector.to_state(),
            "changed": self.changed,
            "audits": self._audits,
            "surplus": self._surplus,
            "prior": self._prior,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ModelLevel:
        found = cls()
        found.detector = ChangeDetector.from_state(state["detector"])
        found.changed = bool(state["changed"])
        found._audits, found._surplus = float(state["audits"]), float(state["surplus"])
        found._prior = float(state["prior"])
        return found


class Recalibration:
    """The levels of all models; audits of one model and one task are watched as well, where tasks are known.

    Parameters
    ----------
    models
        In the order of the router's arrays.
    false_alarm_every
        Audits of a model (or of a model and task) per false alarm about it, on average at least; see
        `ChangeDetector`. With d things watched, expect d times as many.
    """

    def __init__(self, models: Sequence[str], *, false_alarm_every: float = 20_000.0) -> None:
        self.models = tuple(models)
        self.false_alarm_every = false_alarm_every
        self._levels = {name: ModelLevel(false_alarm_every=false_alarm_every) for name in self.models}
        self._by_task: dict[tuple[str, str], ModelLevel] = {}

    @property
    def offsets(self) -> FloatArray:
        """(n_models,) what to add to predicted scores, see `offset_of`."""
        return np.array([self.offset_of(name) for name in self.models])

    @property
    def common(self) -> float:
        """Score minus predicted score of the models not found to have changed, over their audits together, shrunk."""
        found = [level.evidence for level in self._levels.values() if not level.changed]
        return sum(surplus for _, surplus in found) / (sum(audits for audits, _ in found) + _PRIOR_AUDITS)

    def add(
        self, model: str, score: float, predicted: float, *, number: int, task: str | None = None
    ) -> list[ModelChange]:
        """One audited request, in the order of `number`; the changes that it brought to light."""
        watched: list[tuple[str | None, ModelLevel]] = [(None, self._levels[model])]
        if task is not None:
            if (model, task) not in self._by_task:
                self._by_task[model, task] = ModelLevel(false_alarm_every=self.false_alarm_every)
            watched.append((task, self._by_task[model, task]))
        changes = []
        for name, level in watched:
            found = level.add(score, predicted, number=number)
            if found is not None:
                before, after, since, audits = found
                changes.append(ModelChange(model, name, number, since, audits, before, after))
        return changes

    def include(self, model: str) -> None:
        """Watch a model that was not there at the start; nothing happens where it is watched already."""
        if model not in self._levels:
            self.models = (*self.models, model)
            self._levels[model] = ModelLevel(false_alarm_every=self.false_alarm_every)

    def offset_of(self, model: str) -> float:
        """What to add to this model's predicted scores: how much more it is off than the others, once it has changed.

        0 for a model that was not found to have changed, or was never audited.
        """
        level = self._levels.get(model)
        return level.estimate - self.common if level is not None and level.changed else 0.0

    def forget(self, models: Iterable[str]) -> None:
        """Start these models anew, as after a new training or when one returns from quarantine."""
        for name in models:
            self._levels[name] = ModelLevel(false_alarm_every=self.false_alarm_every)
            self._by_task = {key: level for key, level in self._by_task.items() if key[0] != name}

    def to_state(self) -> dict[str, Any]:
        return {
            "models": list(self.models),
            "false_alarm_every": self.false_alarm_every,
            "levels": [self._levels[name].to_state() for name in self.models],
            "by_task": [[model, task, level.to_state()] for (model, task), level in self._by_task.items()],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Recalibration:
        found = cls(state["models"], false_alarm_every=state["false_alarm_every"])
        levels = (ModelLevel.from_state(level) for level in state["levels"])
        found._levels = dict(zip(found.models, levels, strict=True))
        found._by_task = {
            (model, task): ModelLevel.from_state(level) for model, task, level in state["by_task"]
        }
        return found
