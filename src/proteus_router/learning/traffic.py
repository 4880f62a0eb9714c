"""Recorded decisions as arrays over the models of a router."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from proteus_router.data.grouping import text_fingerprints
from proteus_router.errors import SchemaError
from proteus_router.serving.store.graded import Graded
from proteus_router.types import FloatArray, IntArray

__all__ = ["Traffic"]


@dataclass(frozen=True)
class Traffic:
    """n graded decisions over k models, oldest first.

    Attributes
    ----------
    model
        (n,) which model answered.
    logged
        (n, k) probability with which the router that served would have drawn each model.
    score, cost_usd
        (n,) of the answer.
    drawn
        (n,) chance with which it was drawn for grading.
    """

    texts: tuple[str, ...]
    models: tuple[str, ...]
    model: IntArray
    logged: FloatArray
    score: FloatArray
    cost_usd: FloatArray
    drawn: FloatArray

    @property
    def n(self) -> int:
        return len(self.texts)

    @property
    def audit_weight(self) -> FloatArray:
        """(n,) what each decision stands for, with mean 1: those drawn with a small chance stand for many."""
        weight = 1.0 / self.drawn
        found: FloatArray = weight / weight.mean() if self.n else weight
        return found

    @classmethod
    def of(
        cls, found: Sequence[Graded], models: Sequence[str], aliases: Mapping[str, str] | None = None
    ) -> Self:
        """From the store's rows.

        Parameters
        ----------
        models
            Of the router that is to be judged; decisions answered by others are left out.
        aliases
            Pool name -> model, where they differ.

        Raises
        ------
        SchemaError
            No decision is left.
        """
        known, names = {name: at for at, name in enumerate(models)}, aliases or {}
        kept = [one for one in found if names.get(one.model, one.model) in known]
        if not kept:
            raise SchemaError(
                f"none of {len(found)} graded decisions was answered by a model of the router.",
                hint="Audits must keep text (audits.keep_text), and be graded; --config maps pool names to models.",
            )
        logged = np.zeros((len(kept), len(known)))
        for row, one in enumerate(kept):
            for candidate in one.candidates:
                column = known.get(names.get(candidate["model"], candidate["model"]))
                if column is not None:
                    logged[row, column] += candidate["propensity"]
        # Newcomers, tried on a share that no text decides, are left out: what was drawn was one of the others.
        logged /= np.maximum(logged.sum(axis=1, keepdims=True), 1e-12)
        column_of = np.array([known[names.get(one.model, one.model)] for one in kept])
        rows = np.arange(len(kept))
        logged[rows, column_of] = np.maximum(logged[rows, column_of], [one.propensity for one in kept])
        return cls(
            texts=tuple(one.text for one in kept),
            models=tuple(models),
            model=column_of,
            logged=logged,
            score=np.array([one.score for one in kept]),
            cost_usd=np.array([one.cost_usd for one in kept]),
            drawn=np.array([one.audit_probability for one in kept]),
        )

    def take(self, rows: IntArray) -> Self:
        return self._of_arrays(tuple(self.texts[row] for row in rows), lambda name: getattr(self, name)[rows])

    def followed_by(self, later: Self) -> Self:
        """Both, `later` after this; they must be of the same models."""
        if later.models != self.models:
            raise SchemaError("traffic of two pools can't be joined.")
        return self._of_arrays(
            (*self.texts, *later.texts),
            lambda name: np.concatenate((getattr(self, name), getattr(later, name))),
        )

    def with_models(self, order: IntArray) -> Self:
        """The same decisions with the models in another order."""
        place = np.argsort(order)
        return replace(
            self,
            models=tuple(self.models[at] for at in order),
            model=place[self.model],
            logged=self.logged[:, order],
        )

    def fingerprint(self) -> str:
        """sha256 of which texts were answered by whom, how well."""
        digest = hashlib.sha256("\n".join(self.models).encode("utf-8"))
        for array in (text_fingerprints(self.texts), self.model, self.score, self.cost_usd):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _of_arrays(self, texts: tuple[str, ...], array_of: Callable[[str], Any]) -> Self:
        """Other decisions over the same models, an array a field."""
        names = (field.name for field in fields(self) if field.name not in ("texts", "models"))
        return replace(self, texts=texts, **{name: array_of(name) for name in names})
