"""Outcomes as they come in: appended to a file at once, so that a run that ends early has lost nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from proteus_router.errors import DataError

__all__ = ["JOURNAL_FILE", "Collected", "Journal"]

JOURNAL_FILE = "collect.journal"


@dataclass(frozen=True, slots=True)
class Collected:
    """One graded answer.

    Attributes
    ----------
    text
        `Prompt.fingerprint` of the query answered.
    grading_usd
        What its grade cost; no part of the outcome.
    answer
        None unless answers are kept.
    """

    query_id: str
    text: str
    model: str
    score: float
    cost_usd: float
    input_tokens: int
    output_tokens: int
    latency_s: float | None
    grading_usd: float = 0.0
    answer: str | None = None


class Journal:
    """The outcomes in a folder, one JSON line each after a first line with the settings they were made with.

    Parameters
    ----------
    folder
        Made if it is not there.
    settings
        Grader and wording: outcomes made with others must not be mixed with these.

    Raises
    ------
    DataError
        The folder holds outcomes made with other settings, or things that are no data set.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._path = folder / JOURNAL_FILE
        self._done: dict[tuple[str, str], Collected] = {}
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not self._path.exists()
        others = [entry.name for entry in folder.iterdir()]
        if is_new and others:
            raise DataError(
                f"{folder}: holds {others[0]} and no {JOURNAL_FILE}.", hint="Choose another folder."
            )
        self._file = self._path.open("x+b" if is_new else "r+b")
        try:
            if is_new:
                self._write(settings)
            else:
                self._read(settings)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[Collected]:
        return iter(self._done.values())

    def __contains__(self, place: tuple[str, str]) -> bool:
        """Whether the outcome of (query_id, model) is there."""
        return place in self._done

    def add(self, outcome: Collected) -> None:
        self._done[outcome.query_id, outcome.model] = outcome
        self._write({key: value for key, value in asdict(outcome).items() if value is not None})

    def _write(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content).encode("ascii") + b"\n")
        self._file.flush()

    def _read(self, settings: dict[str, Any]) -> None:
        """Take over what is there; a last line that was cut off in the middle is cut off entirely."""
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        first, *lines = data[:whole].splitlines() or [b""]
        try:
            before = json.loads(first)
            outcomes = [Collected(**{"latency_s": None, **json.loads(line)}) for line in lines]
        except (ValueError, TypeError) as error:
            raise DataError(f"{self._path}: damaged ({error}).", hint="Choose another folder.") from error
        for key in dict.fromkeys((*settings, *before)):
            if settings.get(key) != before.get(key):
                raise DataError(
                    f"{self._path}: collected with {key} {before.get(key)!r}, now it is {settings.get(key)!r}.",
                    hint="Go on with the same settings, or choose another folder.",
                )
        self._done = {(outcome.query_id, outcome.model): outcome for outcome in outcomes}
        self._file.truncate(whole)
        self._file.seek(whole)
