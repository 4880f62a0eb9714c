"""A forest of regression trees as arrays, and the walk through all of them at once: numpy alone, no scikit-learn.

Nodes of all trees lie in one list. A leaf is its own child, so every walk takes the same number of steps and needs no test
for the end. A text's numbers only decide which of two children comes next, so a row's leaves can't depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from proteus_router.errors import ArtifactIntegrityError
from proteus_router.types import Arrays, FloatArray, IntArray

__all__ = ["Forest"]

_BLOCK = 256
"""Rows that walk together: enough to share the calls, few enough to stay in the cache."""


@dataclass(frozen=True)
class Forest:
    """f(x) = sum over trees of values[leaf that x reaches].

    Attributes
    ----------
    roots
        (t,) int32: node where each tree begins.
    children
        (m, 2) int32: next node where x[feature] <= threshold, and where it is above; a leaf names itself.
    features, thresholds
        (m,) int32, (m,) float64; of a leaf, anything.
    values
        (m, k) float32; only rows of leaves are read.
    depth
        Steps from a root to the deepest leaf.
    """

    roots: NDArray[np.int32]
    children: NDArray[np.int32]
    features: NDArray[np.int32]
    thresholds: FloatArray
    values: NDArray[np.float32]
    depth: int

    @classmethod
    def none(cls, k: int) -> Self:
        """No tree: adds nothing to the scores of `k` models."""
        nodes = np.zeros(0, dtype=np.int32)
        return cls(
            nodes,
            np.zeros((0, 2), np.int32),
            nodes,
            np.zeros(0),
            np.zeros((0, k), np.float32),
            0,
        )

    @cached_property
    def _walk(self) -> tuple[IntArray, IntArray, NDArray[np.float32], IntArray]:
        """Roots, features, thresholds and children with every node at twice its number.

        Where a node lies at 2 i, its children lie at 2 i and 2 i + 1 of one list, so a step is three look-ups and one sum.
        Thresholds are rounded down to the type of the numbers: a float32 is above one exactly when it is above the other.
        """
        rounded = self.thresholds.astype(np.float32)
        lower = np.nextafter(rounded, np.float32(-np.inf), dtype=np.float32)
        return (
            2 * self.roots.astype(np.int64),
            np.repeat(self.features.astype(np.int64), 2),
            np.repeat(np.where(rounded > self.thresholds, lower, rounded), 2),
            2 * self.children.astype(np.int64).ravel(),
        )

    def leaves(self, rows: FloatArray) -> IntArray:
        """(n, t) node of the leaf that each row of (n, d) reaches in each tree."""
        roots, features, thresholds, children = self._walk
        if len(rows) == 1:  # a request: nothing to offset
            numbers, node = rows[0].astype(np.float32), roots
            for _ in range(self.depth):
                node = children[node + (numbers[features[node]] > thresholds[node])]
            return (node >> 1)[None]
        numbers = rows.astype(np.float32).ravel()
        first = np.arange(len(rows))[:, None] * rows.shape[1]  # where a row's numbers begin
        node = np.broadcast_to(roots, (len(rows), len(roots)))
        for _ in range(self.depth):
            node = children[node + (numbers[first + features[node]] > thresholds[node])]
        return node >> 1

    def predict(self, rows: FloatArray) -> FloatArray:
        """(n, k) sums over trees for rows (n, d); each row's are taken in the same order, whatever the batch."""
        sums = np.zeros((len(rows), self.values.shape[1]))
        for start in range(0, len(rows) if len(self.roots) else 0, _BLOCK):
            for i, reached in enumerate(self.leaves(rows[start : start + _BLOCK]), start):
                self.values.take(reached, axis=0).sum(axis=0, dtype=np.float64, out=sums[i])
        return sums

    def mixed(self, matrix: FloatArray) -> Self:
        """The forest whose predictions are these ones times `matrix` (k, k')."""
        values = (self.values.astype(np.float64) @ matrix).astype(np.float32)
        return type(self)(self.roots, self.children, self.features, self.thresholds, values, self.depth)

    def to_state(self) -> Arrays:
        return {
            "roots": self.roots,
            "children": self.children,
            "features": self.features,
            "thresholds": self.thresholds,
            "values": self.values,
            "depth": np.array(self.depth, dtype=np.int64),
        }

    @classmethod
    def from_state(cls, arrays: Arrays) -> Self:
        """Rebuild from `to_state`.

        Raises
        ------
        ArtifactIntegrityError
            An array is missing, or a node points outside the forest.
        """
        try:
            forest = cls(
                arrays["roots"],
                arrays["children"],
                arrays["features"],
                arrays["thresholds"],
                arrays["values"],
                int(arrays["depth"]),
            )
        except KeyError as missing:
            raise ArtifactIntegrityError(f"The forest lacks the array {missing}.") from missing
        nodes = np.concatenate((forest.roots, forest.children.ravel()))
        if nodes.size and (nodes.min() < 0 or nodes.max() >= len(forest.values)):
            raise ArtifactIntegrityError("The forest points at a node that it does not have.")
        return forest
