"""Scores as linear in words, from rows on which one model was asked, such as traffic.

Who answered a row was decided by what was thought of it: a model is seen most where it was overrated. What a row says
of all models (easy or hard) must therefore not be held against the one that answered. So every model's map is one shared
by all plus a small one of its own, fitted together by ridge:

    score - level_m  ~  x (shared + own_m) + b + b_m .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack
from scipy.sparse.linalg import LinearOperator, cg

from proteus_router.errors import TrainingError
from proteus_router.types import FloatArray, IntArray

__all__ = ["WordHeads", "fit_word_heads"]

_SHARED, _OWN = 3.0, 30.0
"""Ridge penalties. Own maps are held tight; the stack, which knows rows with every model's score, sets their scale."""
_OWN_BIAS, _BIAS = 20.0, 1.0
_TOLERANCE, _STEPS = 1e-4, 500


@dataclass(frozen=True, slots=True)
class WordHeads:
    """Score of k models = x @ weights + bias.

    Attributes
    ----------
    weights
        (v, k), for TF-IDF rows.
    bias
        (k,).
    """

    weights: FloatArray
    bias: FloatArray

    def predict(self, words: csr_matrix) -> FloatArray:
        """(n, k), not limited to [0, 1]."""
        return np.asarray(words @ self.weights) + self.bias


def fit_word_heads(
    words: csr_matrix, model: IntArray, score: FloatArray, level: FloatArray, weight: FloatArray
) -> WordHeads:
    """Fit on n answers.

    Parameters
    ----------
    words
        (n, v) TF-IDF rows of the texts.
    model, score, weight
        (n,) who answered, how well, and how much the answer counts.
    level
        (k,) mean score of each model, which the maps depart from.

    Raises
    ------
    TrainingError
        The solver did not converge.
    """
    n, v = words.shape
    k = len(level)
    scale = np.sqrt(weight)
    rows = csr_matrix(words.multiply(scale[:, None]))
    # Column scaling turns four penalties into one of 1.
    own = [csr_matrix(rows.multiply((model == m)[:, None])) / np.sqrt(_OWN) for m in range(k)]
    who = csr_matrix((scale, (np.arange(n), model)), shape=(n, k)) / np.sqrt(_OWN_BIAS)
    design = hstack((rows / np.sqrt(_SHARED), *own, who, csr_matrix(scale[:, None]) / np.sqrt(_BIAS))).tocsr()
    target = design.T @ (scale * (score - level[model]))

    def normal(x: FloatArray) -> FloatArray:
        found: FloatArray = design.T @ (design @ x) + x
        return found

    size = design.shape[1]
    solved, info = cg(
        LinearOperator((size, size), matvec=normal, dtype=np.float64), target, rtol=_TOLERANCE, maxiter=_STEPS
    )
    if info != 0:
        raise TrainingError(f"heads on {n} answers did not converge in {_STEPS} steps.")
    shared = solved[:v] / np.sqrt(_SHARED)
    each = solved[v : v * (k + 1)].reshape(k, v).T / np.sqrt(_OWN)
    bias = solved[v * (k + 1) : -1] / np.sqrt(_OWN_BIAS) + solved[-1] / np.sqrt(_BIAS)
    return WordHeads(each + shared[:, None], bias + level)
