"""The embedded encoder: TF-IDF words, their dense projection, and surface features; fitted on training texts.

Two views of one text:

* sparse, a TF-IDF row over the training vocabulary: what the kernel head is linear in;
* dense, the row projected on the leading singular directions of the training matrix, beside standardised
  surface features: what the network reads.

Inference needs numpy alone. A row depends on its text only, never on the batch it came in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from proteus_router.encoders.lexical_tokens import SURFACE_FEATURES, surface_features, words
from proteus_router.types import Arrays, FloatArray, IntArray, Meta

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["LexicalEncoder", "LexicalRow", "SparseRows"]


@dataclass(frozen=True, slots=True)
class LexicalRow:
    """One text: its TF-IDF entries, its standardised surface features, the share of its words in the vocabulary."""

    indices: IntArray  # (nnz,)
    values: FloatArray  # (nnz,)
    surface: FloatArray  # (n_surface,)
    known_share: float  # 0 where the text has no words


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Many TF-IDF rows in CSR form, shape (n, vocabulary)."""

    indptr: IntArray
    indices: IntArray
    values: FloatArray
    shape: tuple[int, int]

    def to_csr(self) -> csr_matrix:
        """For scipy, which inference does without."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.values, self.indices, self.indptr), shape=self.shape)


@dataclass(frozen=True)
class LexicalEncoder:
    """TF-IDF over words, its projection, surface features.

    Attributes
    ----------
    vocabulary
        (v,) words in column order.
    idf
        (v,) inverse document frequencies.
    projection
        (v, d) float32: sparse row -> dense view.
    surface_mean, surface_scale
        (n_surface,) of the training texts.
    """

    vocabulary: tuple[str, ...]
    idf: FloatArray
    projection: NDArray[np.float32]
    surface_mean: FloatArray
    surface_scale: FloatArray

    @property
    def name(self) -> str:
        return "lexical"

    @property
    def dim(self) -> int:
        return int(self.projection.shape[1]) + len(SURFACE_FEATURES)

    @property
    def n_words(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over everything that shapes a row."""
        arrays, _ = self.to_state()
        digest = hashlib.sha256(b"lexical-1")
        for key in sorted(arrays):
            digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
        return digest.hexdigest()

    @cached_property
    def _column(self) -> dict[str, int]:
        return {word: column for column, word in enumerate(self.vocabulary)}

    @cached_property
    def _idf(self) -> list[float]:
        return list(self.idf.tolist())

    @cached_property
    def _surface_norms(self) -> tuple[list[float], list[float]]:
        return self.surface_mean.tolist(), self.surface_scale.tolist()

    @classmethod
    def fit(cls, texts: Sequence[str], *, dim: int = 128, min_df: int = 2, seed: int = 0) -> Self:
        """Vocabulary, weights and projection of the training texts; no outcome is looked at.

        Parameters
        ----------
        dim
            Directions of the dense view; fewer where the vocabulary or the texts are few.
        min_df
            Texts a word must occur in to get a column.
        seed
            Of the randomised singular value decomposition.
        """
        found = [words(text) for text in texts]
        frequency = Counter(word for text_words in found for word in set(text_words))
        vocabulary = tuple(sorted(word for word, count in frequency.items() if count >= min_df))
        counts = np.array([frequency[word] for word in vocabulary], dtype=np.float64)
        idf = np.log((1.0 + len(texts)) / (1.0 + counts)) + 1.0
        surface = np.array([surface_features(text, w) for text, w in zip(texts, found, strict=True)])
        scale = surface.std(axis=0)
        bare = cls(
            vocabulary=vocabulary,
            idf=idf,
            projection=np.zeros((len(vocabulary), 0), dtype=np.float32),
            surface_mean=surface.mean(axis=0),
            surface_scale=np.where(scale > 1e-9, scale, 1.0),
        )
        return cls(
            vocabulary=vocabulary,
            idf=idf,
            projection=_leading_directions(bare.sparse(texts), dim, seed),
            surface_mean=bare.surface_mean,
            surface_scale=bare.surface_scale,
        )

    def row(self, text: str) -> LexicalRow:
        """Both halves of one text; its TF-IDF entries are empty where no word is known.

        Plain Python up to the arrays: a request's text has too few words for numpy to pay.
        """
        found = words(text)
        features = zip(surface_features(text, found), *self._surface_norms, strict=True)
        surface = np.array([(value - mean) / scale for value, mean, scale in features])
        counts: Counter[Any] = Counter(map(self._column.get, found))  # in C, once over the words
        unknown = counts.pop(None, 0)
        if not counts:
            return LexicalRow(np.zeros(0, dtype=np.int64), np.zeros(0), surface, 0.0)
        idf = self._idf
        weights = [idf[index] * (1.0 + log(n)) if n > 1 else idf[index] for index, n in counts.items()]
        length = sqrt(sum([weight * weight for weight in weights]))
        return LexicalRow(
            np.array(list(counts)),
            np.array([weight / length for weight in weights]),
            surface,
            1.0 - unknown / len(found),
        )

    def sparse(self, texts: Sequence[str]) -> SparseRows:
        """TF-IDF rows of unit length (or empty)."""
        return stack_rows([self.row(text) for text in texts], self.n_words)

    def dense(self, row: LexicalRow) -> FloatArray:
        """(dim,) float64 dense view of one row."""
        projected = row.values @ self.projection[row.indices].astype(np.float64)
        return np.concatenate((projected, row.surface))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) dense view."""
        rows = [self.dense(self.row(text)) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)

    def to_state(self) -> tuple[Arrays, Meta]:
        joined = "\n".join(self.vocabulary).encode("utf-8")
        return {
            "vocabulary": np.frombuffer(joined, dtype=np.uint8),
            "idf": self.idf,
            "projection": self.projection,
            "surface_mean": self.surface_mean,
            "surface_scale": self.surface_scale,
        }, {}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        joined = arrays["vocabulary"].tobytes().decode("utf-8")
        return cls(
            vocabulary=tuple(joined.split("\n")) if joined else (),
            idf=arrays["idf"],
            projection=arrays["projection"],
            surface_mean=arrays["surface_mean"],
            surface_scale=arrays["surface_scale"],
        )


def stack_rows(rows: Sequence[LexicalRow], n_words: int) -> SparseRows:
    """CSR form of single rows."""
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row.indices) for row in rows], out=indptr[1:])
    return SparseRows(
        indptr=indptr,
        indices=np.concatenate([row.indices for row in rows]) if rows else np.zeros(0, dtype=np.int64),
        values=np.concatenate([row.values for row in rows]) if rows else np.zeros(0),
        shape=(len(rows), n_words),
    )


def _leading_directions(rows: SparseRows, dim: int, seed: int) -> NDArray[np.float32]:
    """(v, <= dim) right singular vectors, signs fixed, scaled so that the dense view has unit mean square length.

    Scaling by one number keeps the geometry of the kernel; the network standardises nothing itself.
    """
    from sklearn.utils.extmath import randomized_svd

    dim = min(dim, *(side - 1 for side in rows.shape))
    if dim < 1 or not len(rows.values):
        return np.zeros((rows.shape[1], 0), dtype=np.float32)
    _, singular, right = randomized_svd(rows.to_csr(), n_components=dim, random_state=seed)
    keep = singular > 1e-6 * singular[0]
    return np.ascontiguousarray(right[keep].T.astype(np.float32))
