"""Predicted score and cost from text, as a router runs it: one pass over the words, two small products.

Every estimator of the score that is linear in the TF-IDF row is folded at training time into one map from words
to models, stack weights included, and the ensemble of networks into one wide hidden layer. So a query costs one
gather over its words and one hidden layer, whatever the number of estimators.

A row's numbers do not depend on the batch it came in: each product is taken row by row in one order, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from proteus_router.encoders.base import Encoder
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.errors import ArtifactIntegrityError, EncoderError
from proteus_router.types import Arrays, FloatArray, Meta, Predictions

__all__ = ["HeadsPredictor", "limit_scores"]

_LEXICAL = "lexical."
_OWN = ("word_scores", "w_in", "b_in", "w_out", "bias", "cost_weights", "cost_bias")


def limit_scores(raw: FloatArray) -> FloatArray:
    """Bring (n, k) predictions into [0, 1] without levelling the leaders.

    Where the best prediction of a row passes 1 the whole row moves down, so that differences between its models
    stay; what is still below 0 becomes 0.
    """
    if raw.size and raw.max() <= 1.0 and raw.min() >= 0.0:
        return raw
    limited: FloatArray = np.maximum(raw - np.maximum(raw.max(axis=1, keepdims=True) - 1.0, 0.0), 0.0)
    return limited


@dataclass(frozen=True)
class HeadsPredictor:
    """Scores and costs of k models from text.

    Attributes
    ----------
    lexical
        The fitted word encoder.
    word_scores
        (v, k) map of the TF-IDF row.
    w_in, b_in, w_out
        (d, h), (h,), (h, k): hidden layer over the dense view of d numbers, averaged networks side by side.
    bias
        (k,).
    cost_weights, cost_bias
        (d, k), (k,): log cost in USD is linear in the dense view.
    encoder
        A further encoder whose rows follow the lexical ones in the dense view, or None.
    """

    lexical: LexicalEncoder
    word_scores: FloatArray
    w_in: FloatArray
    b_in: FloatArray
    w_out: FloatArray
    bias: FloatArray
    cost_weights: FloatArray
    cost_bias: FloatArray
    encoder: Encoder | None = None

    @property
    def n_models(self) -> int:
        return len(self.bias)

    @cached_property
    def _maps(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Word, surface and encoder maps into k linear scores, h hidden units and k log costs; their bias.

        What is linear in the words is folded once more: projecting a text and then multiplying is the same as
        multiplying by the product, and spares a request the larger of its two products.
        """
        n_projected, n_lexical = self.lexical.projection.shape[1], self.lexical.dim
        dense = np.hstack((self.w_in, self.cost_weights)).astype(np.float64)  # (d, h + k)
        projected = self.lexical.projection.astype(np.float64) @ dense[:n_projected]
        return (
            np.ascontiguousarray(np.hstack((self.word_scores, projected)), dtype=np.float64),
            np.ascontiguousarray(dense[n_projected:n_lexical]),
            np.ascontiguousarray(dense[n_lexical:]),
            np.concatenate((np.zeros(self.n_models), self.b_in, self.cost_bias)),
        )

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Predictions for every text; (0, k) arrays for none."""
        k, n = self.n_models, len(texts)
        if n == 0:
            return Predictions(np.zeros((0, k)), np.zeros((0, k)))
        word_map, surface_map, encoder_map, bias = self._maps
        mapped = np.empty((n, len(bias)))  # scores, hidden units, log costs
        surface, known = np.empty((n, len(surface_map))), np.empty(n)
        for i, text in enumerate(texts):
            row = self.lexical.row(text)
            np.matmul(row.values, word_map[row.indices], out=mapped[i])
            surface[i], known[i] = row.surface, row.known_share
        mapped += bias
        mapped[:, k:] += _by_row(surface, surface_map)
        if self.encoder is not None:
            mapped[:, k:] += _by_row(np.asarray(self.encoder.encode(texts), dtype=np.float64), encoder_map)
        hidden = np.maximum(mapped[:, k:-k], 0.0)
        raw = mapped[:, :k] + _by_row(hidden, self.w_out) + self.bias
        return Predictions(limit_scores(raw), np.exp(mapped[:, -k:]), known_shares=known)

    def to_state(self) -> tuple[Arrays, Meta]:
        lexical_arrays, lexical_meta = self.lexical.to_state()
        arrays: Arrays = {name: getattr(self, name) for name in _OWN}
        arrays |= {_LEXICAL + name: array for name, array in lexical_arrays.items()}
        encoder = (
            None
            if self.encoder is None
            else {"name": self.encoder.name, "fingerprint": self.encoder.fingerprint}
        )
        return arrays, {"lexical": lexical_meta, "encoder": encoder}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta, *, encoder: Encoder | None) -> Self:
        """Rebuild; `encoder` must be the one the heads were trained with.

        Raises
        ------
        EncoderError
            Another encoder, or none where one is needed.
        ArtifactIntegrityError
            An array is missing.
        """
        wanted = meta["encoder"]
        given = None if encoder is None else encoder.fingerprint
        if (None if wanted is None else wanted["fingerprint"]) != given:
            raise EncoderError(
                f"The heads were trained with encoder {wanted['name'] if wanted else 'lexical'!r}, "
                f"not with {encoder.name if encoder else 'lexical'!r} as given.",
                hint="Load the encoder the artifact names, in the same version.",
            )
        missing = [name for name in _OWN if name not in arrays]
        if missing:
            raise ArtifactIntegrityError(f"The heads lack the array {missing[0]!r}.")
        lexical = {name.removeprefix(_LEXICAL): a for name, a in arrays.items() if name.startswith(_LEXICAL)}
        own = {name: arrays[name] for name in _OWN}
        return cls(lexical=LexicalEncoder.from_state(lexical, meta["lexical"]), encoder=encoder, **own)


def _by_row(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """rows @ matrix as n products of one row, so that a row's rounding never depends on its neighbours."""
    product: FloatArray = np.matmul(rows[:, None, :], matrix)[:, 0, :]
    return product
