"""The journal's outcomes as a data set in the long form."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.writers import Format, is_data_set_file, write_into
from proteus_router.errors import DataError
from proteus_router.serving.collect.journal import Collected
from proteus_router.serving.collect.prompts import Prompt

__all__ = ["outcome_table", "write_data_set"]

_EXTRAS = ("input_tokens", "output_tokens", "latency_s")


def outcome_table(
    prompts: Sequence[Prompt], collected: Iterable[Collected], *, name: str, simulated: bool = False
) -> OutcomeTable | None:
    """The outcomes of the prompts that have any, models in the order of their first outcome; None without one.

    Raises
    ------
    DataError
        An outcome was collected for another text under the same `query_id`.
    """
    by_id = {prompt.query_id: prompt for prompt in prompts}
    outcomes = [outcome for outcome in collected if outcome.query_id in by_id]
    for outcome in outcomes:
        if by_id[outcome.query_id].fingerprint != outcome.text:
            raise DataError(
                f"query {outcome.query_id!r} has another text than when {outcome.model} answered it.",
                hint="Give the new text an id of its own.",
            )
    if not outcomes:
        return None
    models = tuple(dict.fromkeys(outcome.model for outcome in outcomes))
    answered = {outcome.query_id for outcome in outcomes}
    kept = [prompt for prompt in prompts if prompt.query_id in answered]
    row_of = {prompt.query_id: row for row, prompt in enumerate(kept)}
    values = {key: np.full((len(kept), len(models)), np.nan) for key in ("score", "cost_usd", *_EXTRAS)}
    for outcome in outcomes:
        place = row_of[outcome.query_id], models.index(outcome.model)
        for key, array in values.items():
            value = getattr(outcome, key)
            array[place] = np.nan if value is None else value
    tasks = tuple(prompt.task for prompt in kept if prompt.task is not None)
    return OutcomeTable(
        query_ids=tuple(prompt.query_id for prompt in kept),
        queries=tuple(prompt.query for prompt in kept),
        models=models,
        scores=values["score"],
        costs_usd=values["cost_usd"],
        tasks=tasks if len(tasks) == len(kept) else None,
        extras={key: values[key] for key in _EXTRAS},
        name=name,
        simulated=simulated,
    )


def write_data_set(table: OutcomeTable, folder: Path, fmt: Format) -> None:
    """Write the files of the data set beside the journal; those of an earlier run are replaced."""
    building = Path(tempfile.mkdtemp(prefix=".writing.", dir=folder))
    try:
        write_into(table, building, fmt)
        for old in folder.iterdir():
            if is_data_set_file(old.relative_to(folder)):
                old.unlink()
        for new in building.iterdir():
            os.replace(new, folder / new.name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
