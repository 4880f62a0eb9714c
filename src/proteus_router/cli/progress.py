"""Progress on stderr: one tqdm bar a stage, nothing at all where stderr is no terminal but stage names."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm

__all__ = ["ProgressBars"]


class ProgressBars:
    """A `ProgressFn`; use it as a context manager so that the last bar is closed."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._close()
            self._stage = stage
            if sys.stderr.isatty():
                self._bar = tqdm(total=total, desc=stage, file=sys.stderr, leave=True)
            else:
                click.echo(f"{stage} ...", err=True)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
