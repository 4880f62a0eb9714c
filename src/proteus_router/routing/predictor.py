"""Predicted score and cost from text, as a router runs it: one pass over the words, two small products.

The word kernel is folded at training time into one map from words to models, stack weights included, and lies beside
the projection of the words. So a query costs one gather over its words and one walk through a forest of shallow trees.

A row's numbers do not depend on the batch it came in: each product is taken row by row in one order, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from proteus_router.encoders.base import Encoder
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.errors import ArtifactIntegrityError, EncoderError
from proteus_router.routing.forest import Forest
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions

__all__ = ["HeadsPredictor", "limit_scores"]

_LEXICAL = "lexical."
_FOREST = "forest."
_OWN = ("word_scores", "bias", "cost_weights", "cost_bias")


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
    forest
        Trees over the dense view of d numbers, stack weights included.
    bias
        (k,).
    cost_weights, cost_bias
        (d, k), (k,): log cost in USD is linear in the dense view.
    encoder
        A further encoder whose rows follow the lexical ones in the dense view, or None.
    """

    lexical: LexicalEncoder
    word_scores: FloatArray
    forest: Forest
    bias: FloatArray
    cost_weights: FloatArray
    cost_bias: FloatArray
    encoder: Encoder | None = None

    @property
    def n_models(self) -> int:
        return len(self.bias)

    @cached_property
    def _word_map(self) -> FloatArray:
        """(v, k + p): word scores beside the words' projection, so that one gather serves both."""
        both = (self.word_scores, self.lexical.projection)
        return np.ascontiguousarray(np.hstack(both), dtype=np.float64)

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Predictions for every text; (0, k) arrays for none."""
        k, n = self.n_models, len(texts)
        if n == 0:
            return Predictions(np.zeros((0, k)), np.zeros((0, k)))
        word_map, n_lexical = self._word_map, self.lexical.dim
        from_words, known = np.empty((n, word_map.shape[1])), np.empty(n)
        dense = np.empty((n, len(self.cost_weights)))
        for i, text in enumerate(texts):
            row = self.lexical.row(text)
            np.matmul(row.values, word_map[row.indices], out=from_words[i])
            dense[i, n_lexical - len(row.surface) : n_lexical] = row.surface
            known[i] = row.known_share
        dense[:, : word_map.shape[1] - k] = from_words[:, k:]
        if self.encoder is not None:
            dense[:, n_lexical:] = self.encoder.encode(texts)
        raw = from_words[:, :k] + self.forest.predict(dense) + self.bias
        costs = np.exp(_by_row(dense, self.cost_weights) + self.cost_bias)
        return Predictions(limit_scores(raw), costs, known_shares=known)

    def of_models(self, columns: IntArray) -> Self:
        """The predictor of the models of the given columns, in that order."""
        return self._mixed(np.eye(self.n_models)[:, columns], np.zeros(len(columns)))

    def with_model(
        self, scores: FloatArray, score_bias: float, log_costs: FloatArray, log_cost_bias: float
    ) -> Self:
        """One model more, last, predicted from the others.

        Parameters
        ----------
        scores, score_bias
            (k,) weights of the others' predicted scores in its own, before limits, and what is added.
        log_costs, log_cost_bias
            (k,) the same for the logarithm of the cost in USD.
        """
        own = np.eye(self.n_models)
        bias = np.append(np.zeros(self.n_models), score_bias)
        wider = self._mixed(np.column_stack((own, scores)), bias)
        return replace(
            wider,
            cost_weights=self.cost_weights @ np.column_stack((own, log_costs)),
            cost_bias=np.append(self.cost_bias, self.cost_bias @ log_costs + log_cost_bias),
        )

    def joined(self, own: FloatArray, words: FloatArray, bias: FloatArray) -> Self:
        """Scores before limits times `own` (k, k), plus a TF-IDF row's map `words` (v, k) and `bias` (k,); same costs."""
        mixed = self._mixed(own, bias)
        return replace(
            mixed,
            word_scores=mixed.word_scores + words,
            cost_weights=self.cost_weights,
            cost_bias=self.cost_bias,
        )

    def with_cost_factors(self, factors: FloatArray) -> Self:
        """The same scores; predicted costs times `factors` (k,), all > 0."""
        return replace(self, cost_bias=self.cost_bias + np.log(factors))

    def _mixed(self, matrix: FloatArray, bias: FloatArray) -> Self:
        """Scores and log costs times `matrix` (k, k'), `bias` (k',) added to the scores."""
        return replace(
            self,
            word_scores=self.word_scores @ matrix,
            forest=self.forest.mixed(matrix),
            bias=self.bias @ matrix + bias,
            cost_weights=self.cost_weights @ matrix,
            cost_bias=self.cost_bias @ matrix,
        )

    def to_state(self) -> tuple[Arrays, Meta]:
        lexical_arrays, lexical_meta = self.lexical.to_state()
        arrays: Arrays = {name: getattr(self, name) for name in _OWN}
        arrays |= {_LEXICAL + name: array for name, array in lexical_arrays.items()}
        arrays |= {_FOREST + name: array for name, array in self.forest.to_state().items()}
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
        return cls(
            lexical=LexicalEncoder.from_state(_under(_LEXICAL, arrays), meta["lexical"]),
            forest=Forest.from_state(_under(_FOREST, arrays)),
            encoder=encoder,
            **{name: arrays[name] for name in _OWN},
        )


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _by_row(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """rows @ matrix as n products of one row, so that a row's rounding never depends on its neighbours."""
    product: FloatArray = np.matmul(rows[:, None, :], matrix)[:, 0, :]
    return product
