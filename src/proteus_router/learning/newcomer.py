"""What exploration has shown of a model that the router does not know yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.errors import SchemaError
from proteus_router.serving.store.graded import Graded

__all__ = ["outcomes_of"]


def outcomes_of(
    found: Sequence[Graded], model: str, aliases: Mapping[str, str] | None = None
) -> OutcomeTable:
    """Its graded answers as an outcome data set of one model; a text that came more than once counts by its means.

    Parameters
    ----------
    aliases
        Pool name -> model, where they differ.

    Raises
    ------
    SchemaError
        There are none.
    """
    names = aliases or {}
    by_text: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in found:
        if names.get(one.model, one.model) == model:
            by_text[one.text].append((one.score, one.cost_usd))
    if not by_text:
        raise SchemaError(
            f"none of {len(found)} graded decisions was answered by {model}.",
            hint="Name it in a tier's exploration.newcomers, and grade the audits that wait.",
        )
    means = np.array([np.mean(answers, axis=0) for answers in by_text.values()])
    return OutcomeTable(
        query_ids=tuple(f"traffic-{number}" for number in range(len(by_text))),
        queries=tuple(by_text),
        models=(model,),
        scores=means[:, :1],
        costs_usd=means[:, 1:],
        name="traffic",
    )
