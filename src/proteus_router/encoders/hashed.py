"""Texts as vectors that nothing was fitted for: hashed words and surface features.

A fitted encoder knows the words of its own training texts better than those of any fresh text, so that fresh texts
look different even where nothing has changed. Here training texts and traffic are treated alike.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from proteus_router.encoders.lexical_tokens import SURFACE_FEATURES, surface_features, words
from proteus_router.types import FloatArray

__all__ = ["HASHED_DIM", "hashed_features"]

_WORDS = 64
_SURFACE = (
    0.1  # surface features are logarithms and shares, up to about 8: so they weigh about as much as the words
)
HASHED_DIM = _WORDS + len(SURFACE_FEATURES)


def hashed_features(texts: Sequence[str]) -> FloatArray:
    """(n, HASHED_DIM): words with random signs in 64 places, of norm 1, beside surface features.

    >>> hashed_features(["What is 2+2?", ""]).shape
    (2, 79)
    """
    rows = np.zeros((len(texts), HASHED_DIM))
    for row, text in zip(rows, texts, strict=True):
        found = words(text)
        for word, count in Counter(found).items():
            code = zlib.crc32(word.encode("utf-8", "replace"))
            row[code % _WORDS] += math.sqrt(count) * (1.0 if code & 0x8000_0000 else -1.0)
        norm = float(np.linalg.norm(row))
        if norm:
            row /= norm
        row[_WORDS:] = _SURFACE * np.array(surface_features(text, found))
    return rows
