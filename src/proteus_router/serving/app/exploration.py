"""Which models may be tried beside the choice, and how likely each then is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Tries"]

_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Tries:
    """Exploration for one request.

    Attributes
    ----------
    share
        Chance with which it is explored.
    models
        For each possible choice the models that one is drawn from instead, evenly; the choice itself among them.
    chances
        Probability of every model, tries included.
    """

    share: float
    models: Mapping[int, Sequence[int]]
    chances: dict[int, float]

    @classmethod
    def of(
        cls,
        base: Mapping[int, float],
        scores: Sequence[float],
        open_to: Sequence[int],
        *,
        share: float,
        above_floor: float,
    ) -> Tries:
        """Tries that the floor has room for.

        A tried model may be predicted to do worse than the choice by the room above the floor over the share of tries: so
        the predicted mean, tries included, stays at the floor or above.

        Parameters
        ----------
        base
            Model -> probability without exploration.
        open_to
            The models that can serve the request.
        above_floor
            What the operating point is expected to score above the floor.

        Examples
        --------
        >>> Tries.of({0: 1.0}, [0.8, 0.7, 0.3], [0, 1, 2], share=0.5, above_floor=0.05).chances
        {0: 0.75, 1: 0.25}
        """
        room = max(0.0, above_floor) / share
        models = {
            index: [other for other in sorted(set(open_to)) if scores[other] >= scores[index] - room - _SAME]
            or [index]
            for index in base
        }
        chances = {index: chance * (1.0 - share) for index, chance in base.items()}
        for index, chance in base.items():
            for other in models[index]:
                chances[other] = chances.get(other, 0.0) + share * chance / len(models[index])
        return cls(share, models, chances)
