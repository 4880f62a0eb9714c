"""Uniform numbers, and everything made from them, identical on every platform.

Only ``Generator.random`` of PCG64 is used: 53 bits of the raw stream, no libm, no rejection loop, so neither the
platform nor a later numpy can change a draw. Normals are sums of twelve uniforms, which is exact arithmetic too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from proteus_router.types import FloatArray

__all__ = ["Draws", "generator", "normals", "snap"]

T = TypeVar("T")

_BLOCK = 8192


def generator(*entropy: int) -> np.random.Generator:
    """PCG64 seeded by a list of non-negative integers: one independent stream a list."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(entropy))))


def normals(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Irwin-Hall approximation of the normal law: mean 0, variance 1, range [-6, 6].

    The first rows of a longer draw equal a shorter draw: row-major, twelve uniforms an entry.
    """
    uniforms = rng.random((*shape, 12))
    total = np.full(shape, -6.0)
    for term in range(12):  # a fixed order of addition; np.sum's depends on the build
        total += uniforms[..., term]
    return total


def snap(values: FloatArray, decimals: int = 6) -> FloatArray:
    """Round to a decimal grid, which hides the last-bit differences between implementations of exp and log."""
    return np.round(values, decimals)


class Draws:
    """Scalar draws for text, fed from blocks of uniforms (ten times faster than scalar calls)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._block: list[float] = []

    def uniform(self) -> float:
        """Uniform on [0, 1)."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return self._block.pop()

    def integer(self, low: int, high: int) -> int:
        """Uniform on low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.uniform() * len(options))]

    def distinct(self, n_options: int, count: int) -> list[int]:
        """Positions of ``count`` options in random order; none twice before each has been drawn once."""
        chosen: list[int] = []
        while len(chosen) < count:
            pool = list(range(n_options))
            while pool and len(chosen) < count:
                chosen.append(pool.pop(int(self.uniform() * len(pool))))
        return chosen
