"""What an encoder is: a text batch in, float32 rows out, with a name and a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder"]


class Encoder(Protocol):
    """Text batch -> float32 (n, dim).

    ``fingerprint`` changes whenever the same text could encode differently: it keys the cache on disk and ties
    an artifact to its encoder.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...
