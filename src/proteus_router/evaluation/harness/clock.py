"""How long a run will still take, from what its steps have taken so far."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Clock"]

_TYPICAL_ROWS = 2_000.0
_GROWTH = 1.5
"""Work grows a little less than with the square of the rows: kernels more, features and neighbours less."""
_FIRST_GUESS_S = 4.0


class Clock:
    """Learns seconds a step, scaled to a typical number of training rows."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._seen: dict[str, list[float]] = {}

    def note(self, step: str, rows: int, seconds: float) -> None:
        self._seen.setdefault(step, []).append(seconds / _scale(rows))

    def left(self, pending: Iterable[tuple[str, int]]) -> float:
        """Seconds until all (step, rows) are done, if the processes share them evenly."""
        known = [value for values in self._seen.values() for value in values]
        usual = sum(known) / len(known) if known else _FIRST_GUESS_S
        total = 0.0
        for step, rows in pending:
            seen = self._seen.get(step)
            total += (sum(seen) / len(seen) if seen else usual) * _scale(rows)
        return total / self._jobs


def _scale(rows: int) -> float:
    return float((max(rows, 1) / _TYPICAL_ROWS) ** _GROWTH)
