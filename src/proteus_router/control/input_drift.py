"""Does the traffic still look like the calibration queries? Maximum mean discrepancy, window by window.

The distance between two samples of embeddings is that of their mean random Fourier features (Rahimi and Recht 2007),
which approximates the MMD of a Gaussian kernel at its median bandwidth (Gretton et al., JMLR 2012). What distance is
an accident is learned beforehand, by drawing windows from the calibration queries themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus_router.errors import InsufficientDataError
from proteus_router.types import Arrays, FloatArray, Meta

__all__ = ["InputDrift", "InputReference", "InputShift"]

_PAIRS = 128
_BANDWIDTH_ROWS = 500


@dataclass(frozen=True, slots=True)
class InputShift:
    """A window of traffic that is unlike the calibration queries.

    Attributes
    ----------
    first, last
        Position of its queries in the stream, from 1.
    distance, threshold
        Discrepancy of the window, and the one that an unchanged window passes with probability `false_alarm`.
    """

    first: int
    last: int
    distance: float
    threshold: float
    false_alarm: float

    @property
    def reason(self) -> str:
        return (
            f"Queries {self.first} to {self.last} are unlike the calibration queries: discrepancy {self.distance:.4f}, "
            f"where {self.threshold:.4f} is passed by chance in {self.false_alarm:.2%} of the windows."
        )


@dataclass(frozen=True)
class InputReference:
    """What the calibration queries look like; made once and kept with the router.

    Attributes
    ----------
    frequencies
        (d, _PAIRS) of the random Fourier features.
    mean
        (2 * _PAIRS,) mean features of the calibration queries.
    threshold
        Discrepancy that a window of unchanged traffic passes with probability `false_alarm`.
    window
        Queries a window.
    """

    frequencies: FloatArray
    mean: FloatArray
    threshold: float
    window: int
    false_alarm: float

    @classmethod
    def fit(
        cls,
        embeddings: NDArray[np.floating[Any]],
        *,
        window: int = 200,
        false_alarm: float = 0.002,
        seed: int = 0,
    ) -> InputReference:
        """Learn the features and the threshold.

        Parameters
        ----------
        embeddings
            (n, d) of the calibration queries, n >= 4 windows.
        window
            Queries looked at together: more see smaller shifts, later.
        false_alarm
            Chance per window.

        Raises
        ------
        InsufficientDataError
            Fewer than four windows of calibration queries.
        """
        x = np.asarray(embeddings, dtype=np.float64)
        n = x.shape[0]
        if n < 4 * window:
            raise InsufficientDataError(
                f"{n} calibration queries are too few for windows of {window}.",
                needed=4 * window,
                available=n,
                hint="Choose a smaller window.",
            )
        rng = np.random.default_rng(seed)
        some = x[rng.permutation(n)[:_BANDWIDTH_ROWS]]
        squares = (some**2).sum(axis=1)
        apart = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * some @ some.T, 0.0))
        bandwidth = float(np.median(apart[np.triu_indices(len(some), 1)])) or 1.0
        frequencies = rng.normal(size=(x.shape[1], _PAIRS)) / bandwidth
        features = _features(x, frequencies)
        total = features.sum(axis=0)
        distances = np.empty(int(10 / false_alarm))
        for draw in range(distances.size):
            inside = features[rng.choice(n, window, replace=False)].sum(axis=0)
            distances[draw] = np.linalg.norm(inside / window - (total - inside) / (n - window))
        threshold = float(np.quantile(distances, 1.0 - false_alarm, method="higher"))
        return cls(frequencies, total / n, threshold, window, false_alarm)

    def to_state(self) -> tuple[Arrays, Meta]:
        arrays: Arrays = {"frequencies": self.frequencies, "mean": self.mean}
        return arrays, {
            "threshold": self.threshold,
            "window": self.window,
            "false_alarm": self.false_alarm,
        }

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> InputReference:
        return cls(
            arrays["frequencies"], arrays["mean"], meta["threshold"], meta["window"], meta["false_alarm"]
        )


class InputDrift:
    """Folds embeddings of the traffic into windows and holds each against the reference."""

    def __init__(self, reference: InputReference) -> None:
        self.reference = reference
        self.seen = 0
        self._sum = np.zeros_like(reference.mean)

    def add(self, embeddings: NDArray[np.floating[Any]]) -> list[InputShift]:
        """(m, d) embeddings of the next queries; the windows they completed that are unlike the reference."""
        features = _features(np.asarray(embeddings, dtype=np.float64), self.reference.frequencies)
        window, shifts = self.reference.window, []
        while features.size:
            room = window - self.seen % window
            taken, features = features[:room], features[room:]
            self._sum = self._sum + taken.sum(axis=0)
            self.seen += len(taken)
            if self.seen % window:
                continue
            distance = float(np.linalg.norm(self._sum / window - self.reference.mean))
            self._sum = np.zeros_like(self._sum)
            if distance > self.reference.threshold:
                shifts.append(
                    InputShift(
                        first=self.seen - window + 1,
                        last=self.seen,
                        distance=distance,
                        threshold=self.reference.threshold,
                        false_alarm=self.reference.false_alarm,
                    )
                )
        return shifts

    def to_state(self) -> dict[str, Any]:
        return {"seen": self.seen, "sum": self._sum.tolist()}

    @classmethod
    def from_state(cls, reference: InputReference, state: Mapping[str, Any]) -> InputDrift:
        found = cls(reference)
        found.seen, found._sum = int(state["seen"]), np.array(state["sum"])
        return found


def _features(x: FloatArray, frequencies: FloatArray) -> FloatArray:
    """(n, 2 * _PAIRS) random Fourier features, of norm 1."""
    angles = x @ frequencies
    waves: FloatArray = np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(frequencies.shape[1])
    return waves
