"""Queries with their truth: simulated, or recorded in an outcome data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import World
from proteus_router.errors import ConfigError, SchemaError
from proteus_router.routing.router import Router
from proteus_router.types import BoolArray, FloatArray, Predictions

__all__ = [
    "Bank",
    "RecordedWorld",
    "Remembered",
    "SimulatedWorld",
    "Universe",
    "remembering",
    "without_prices",
]


@dataclass(frozen=True)
class Bank:
    """What every model would answer to every query; (n, n_models) each, models in the router's order.

    Attributes
    ----------
    expected
        Mean score of the answer.
    input_tokens, output_tokens
        Of one answer.
    tasks
        (n,) names.
    draws_coins
        Scores are 0 or 1, drawn with `expected`; else they are `expected` itself.
    """

    queries: tuple[str, ...]
    expected: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    tasks: tuple[str, ...]
    draws_coins: bool

    def hard(self) -> BoolArray:
        """(n,) whether a query's task is among the hardest third."""
        tasks = np.array(self.tasks)
        names = np.unique(tasks)
        means = {str(name): float(self.expected[tasks == name].mean()) for name in names}
        hardest = sorted(means, key=means.__getitem__)[: max(1, len(means) // 3)]
        return np.isin(tasks, hardest)


class Universe(ABC):
    """A bank that models' skills can be changed in, and the models' prices.

    Attributes
    ----------
    usd_per_token
        (n_models, 2) input and output prices.
    """

    bank: Bank
    usd_per_token: FloatArray

    @abstractmethod
    def shifted(self, model: int, points: float) -> Bank:
        """The bank after one model's mean score has moved by `points`."""


class SimulatedWorld(Universe):
    """Fresh queries of a simulated world."""

    def __init__(self, world: World, models: Sequence[str], *, queries: int, seed: int) -> None:
        self._world, self._models, self._size = world, tuple(models), (queries, seed)
        self._columns = [world.model_names.index(name) for name in models]
        self.bank = self._bank(world)
        # Kept, because writing the queries again takes as long as a short stream.
        self._shifted: dict[tuple[int, float], Bank] = {}
        cards = [world.models[column] for column in self._columns]
        self.usd_per_token = np.array(
            [[card.input_price_usd_per_mtok, card.output_price_usd_per_mtok] for card in cards]
        )
        self.usd_per_token /= 1e6

    def shifted(self, model: int, points: float) -> Bank:
        if (model, points) not in self._shifted:
            self._shifted[model, points] = self._bank(
                self._world.with_skill_shift(self._models[model], points)
            )
        return self._shifted[model, points]

    def _bank(self, world: World) -> Bank:
        sample = world.sample(*self._size)
        assert sample.table.tasks is not None
        return Bank(
            tuple(sample.table.queries),
            sample.expected_scores[:, self._columns],
            sample.table.extras["input_tokens"][:, self._columns],
            sample.table.extras["output_tokens"][:, self._columns],
            tuple(sample.table.tasks),
            draws_coins=True,
        )


class RecordedWorld(Universe):
    """The complete rows of an outcome data set: the same answers again, whenever a query comes again.

    Costs are recorded as such: a model's one price is set so that tokens times price is the cost.
    """

    _USD = 1e-9

    def __init__(self, table: OutcomeTable, models: Sequence[str]) -> None:
        missing = [name for name in models if name not in table.models]
        if missing:
            raise SchemaError(f"{table.name} has no outcomes of {', '.join(missing)}.")
        table = table.with_models(list(models))
        table = table.take(np.flatnonzero(table.observed.all(axis=1)))
        if table.n_queries < 100:
            raise SchemaError(
                f"{table.name} has {table.n_queries} rows with every model's outcome; 100 are needed."
            )
        tokens = np.maximum(np.round(table.costs_usd / self._USD), 1.0)
        tasks = table.tasks or ("all",) * table.n_queries
        self.bank = Bank(
            tuple(table.queries), table.scores, np.zeros_like(tokens), tokens, tuple(tasks), draws_coins=False
        )
        self.usd_per_token = np.full((len(models), 2), self._USD)

    def shifted(self, model: int, points: float) -> Bank:
        mean = float(self.bank.expected[:, model].mean())
        if not 0.0 <= mean + points <= 1.0 or points > 0.0:
            raise ConfigError(
                f"a recorded model of mean score {mean:.3f} can't move by {points}; it can fall."
            )
        expected = self.bank.expected.copy()
        expected[:, model] *= (mean + points) / mean
        return replace(self.bank, expected=expected, draws_coins=True)


class Remembered:
    """A predictor that has seen every query of a bank: the same numbers, looked up."""

    def __init__(self, queries: Sequence[str], predictions: Predictions) -> None:
        def row(array: Any, at: int) -> Any:
            return None if array is None else array[at : at + 1]

        known = predictions
        self._known = {
            text: Predictions(
                row(known.scores, at),
                row(known.costs_usd, at),
                row(known.embedding, at),
                row(known.known_shares, at),
            )
            for at, text in enumerate(queries)
        }

    def predict(self, texts: Sequence[str]) -> Predictions:
        if len(texts) == 1:
            return self._known[texts[0]]
        found = [self._known[text] for text in texts]

        def stacked(arrays: list[Any]) -> Any:
            return None if arrays[0] is None else np.concatenate(arrays)

        return Predictions(
            stacked([each.scores for each in found]),
            stacked([each.costs_usd for each in found]),
            stacked([each.embedding for each in found]),
            stacked([each.known_shares for each in found]),
        )


def without_prices(router: Router) -> Router:
    """The router without its models' token counts: costs are then what it predicts, whatever the pool is billed.

    For a `RecordedWorld`, whose prices are only a way to bill what was recorded.
    """
    entries = [
        {key: value for key, value in entry.items() if key not in ("mean_input_tokens", "mean_output_tokens")}
        for entry in router.manifest["models"]
    ]
    return replace(router, manifest={**router.manifest, "models": entries})


def remembering(router: Router, bank: Bank) -> Router:
    """The router with its predictions of the bank's queries made in advance."""
    return replace(router, predictor=Remembered(bank.queries, router.predictor.predict(list(bank.queries))))
