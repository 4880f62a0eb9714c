"""The training log: one JSON object a line, on disk as soon as it is written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Any

__all__ = ["TrainLog"]


class TrainLog:
    """Appends lines to `path`, flushed one by one so that a kill loses none; None writes nothing.

    NaN and infinity become null: JSON has no such numbers.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = None if path is None else path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
