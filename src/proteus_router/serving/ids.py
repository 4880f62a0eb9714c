"""Names that nobody can guess, drawn many at a time."""

from __future__ import annotations

import os

__all__ = ["RandomIds"]

_BYTES = 16
_DRAWN = 256


class RandomIds:
    """``prefix`` and 128 random bits in hex, from the system's generator.

    The system call lets other threads run, and under load the caller then waits for its turn: one call in 256 pays.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._left: list[str] = []

    def __call__(self) -> str:
        if not self._left:
            bits = os.urandom(_BYTES * _DRAWN).hex()
            width = 2 * _BYTES
            self._left = [self._prefix + bits[at : at + width] for at in range(0, len(bits), width)]
        return self._left.pop()
