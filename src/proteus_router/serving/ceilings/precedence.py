"""Floor and ceilings together: each narrows the models that may serve, and what would leave none gives way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from proteus_router.serving.records import Ceiling
from proteus_router.serving.tenants.budgets import Left

__all__ = ["Ceilings", "narrowed"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What one request must stay under, beside its floor.

    Attributes
    ----------
    quick
        Whether a pool name is expected to keep the bound on the time to the first byte; always, where there is none.
    lefts
        What may be spent, of each paced budget that the request counts against: its tier's, its key's.
    precedence
        What is kept longest comes first.
    """

    quick: Callable[[str], bool]
    lefts: tuple[Left, ...]
    precedence: tuple[Ceiling, ...]

    def on_pace(self, cost_usd: float) -> bool:
        return all(cost_usd <= left.paced_usd for left in self.lefts)

    def keeps(self, model: str, cost_usd: float) -> bool:
        """Whether a model of this predicted cost is quick enough and within every budget's pace."""
        return self.quick(model) and self.on_pace(cost_usd)

    @property
    def budget_is_hard(self) -> bool:
        """Whether the budget is kept at the floor's expense."""
        return self.precedence.index("budget") < self.precedence.index("accuracy")


def narrowed(
    models: Sequence[T], order: Sequence[Ceiling], tests: Mapping[Ceiling, Callable[[T], bool]]
) -> tuple[list[T], tuple[Ceiling, ...]]:
    """The models that pass every test that some model still can pass, and the tests that gave way.

    Examples
    --------
    >>> narrowed([1, 2, 3], ("accuracy", "budget"), {"accuracy": lambda m: m > 2, "budget": lambda m: m < 2})
    ([3], ('budget',))
    >>> narrowed([1, 2, 3], ("budget", "accuracy"), {"accuracy": lambda m: m > 2, "budget": lambda m: m < 2})
    ([1], ('accuracy',))
    """
    kept, gave_way = list(models), []
    for name in order:
        passing = [model for model in kept if tests[name](model)]
        if passing:
            kept = passing
        else:
            gave_way.append(name)
    return kept, tuple(gave_way)
