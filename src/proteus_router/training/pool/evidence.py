"""What a router keeps of its training rows, so that a change of the pool can be certified without them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from proteus_router.errors import ConfigError
from proteus_router.routing.artifact import Artifact
from proteus_router.types import Arrays, FloatArray, IntArray

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """Outcomes and out-of-fold predictions of the training rows; no text.

    Attributes
    ----------
    predicted_scores, predicted_costs_usd
        (n, k), cross-fitted.
    scores, costs_usd
        (n, k), NaN where missing.
    groups
        (n,) text group.
    texts
        (n,) uint64 fingerprint of each query.
    """

    predicted_scores: FloatArray
    predicted_costs_usd: FloatArray
    scores: FloatArray
    costs_usd: FloatArray
    groups: IntArray
    texts: NDArray[np.uint64]

    @property
    def n_rows(self) -> int:
        return len(self.groups)

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The evidence in an artifact.

        Raises
        ------
        ConfigError
            It keeps none: another scheme or mode, or an older release.
        """
        arrays = artifact.parts.get("evidence")
        if arrays is None:
            raise ConfigError(
                f"This router keeps no evidence (mode {artifact.manifest.get('mode')}, scheme "
                f"{artifact.manifest.get('scheme')}), so its pool can't be changed in place.",
                hint="Train it with the default mode and scheme crossfit, or train again with the new pool.",
            )
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def to_arrays(self) -> Arrays:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def of_models(self, columns: IntArray) -> Self:
        """The same rows for the models of the given columns, in that order."""
        return type(self)(
            self.predicted_scores[:, columns],
            self.predicted_costs_usd[:, columns],
            self.scores[:, columns],
            self.costs_usd[:, columns],
            self.groups,
            self.texts,
        )

    def answered(self) -> Self:
        """The rows on which some model was observed."""
        rows = np.flatnonzero(~np.isnan(self.scores).all(axis=1))
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
