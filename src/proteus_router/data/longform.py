"""The long form: one file of queries, one of outcomes with a row for every query and model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from proteus_router.data.checks import check_values, query_columns
from proteus_router.data.outcomes import EXTRA_COLUMNS, OutcomeTable
from proteus_router.data.readers import read_table
from proteus_router.data.tables import (
    RawTable,
    check_optional_names,
    identifiers,
    numbers,
    refuse,
    require,
    texts,
)
from proteus_router.errors import SchemaError
from proteus_router.types import FloatArray, IntArray

__all__ = ["read_long"]

_OUTCOME_COLUMNS = ("query_id", "model", "score", "cost_usd", *EXTRA_COLUMNS)


def read_long(queries_path: Path, outcomes_path: Path, *, max_query_chars: int, name: str) -> OutcomeTable:
    """Both files as one table; queries in file order, models in order of first appearance."""
    queries = query_columns(
        read_table(queries_path, {"query_id", "query", "task"}.__contains__), max_query_chars=max_query_chars
    )
    outcomes = read_table(outcomes_path, set(_OUTCOME_COLUMNS).__contains__)
    require(outcomes, ("query_id", "model", "score", "cost_usd"))
    check_optional_names(outcomes, _OUTCOME_COLUMNS)
    rows = _row_of_query(outcomes, queries.ids, queries_path)
    models, columns = _models(outcomes)
    _no_duplicates(outcomes, rows, columns, len(models))

    shape = (len(queries.texts), len(models))
    filled: dict[str, FloatArray] = {}
    for column in ("score", "cost_usd", *(extra for extra in EXTRA_COLUMNS if extra in outcomes.columns)):
        values, missing = numbers(outcomes, column)
        if column in ("score", "cost_usd") and missing.any():
            refuse(
                outcomes,
                int(np.argmax(missing)),
                f"{column!r} is missing.",
                "In the long form an outcome that is not known is a row that is not there.",
            )
        check_values(outcomes, column, values)
        filled[column] = np.full(shape, np.nan)
        filled[column][rows, columns] = values
    _every_query_answered(outcomes, filled["score"], queries.ids, queries_path)
    return OutcomeTable(
        query_ids=tuple(queries.ids.to_pylist()),
        queries=queries.texts,
        models=models,
        scores=filled.pop("score"),
        costs_usd=filled.pop("cost_usd"),
        tasks=queries.tasks,
        extras=filled,
        name=name,
    )


def _row_of_query(outcomes: RawTable, query_ids: pa.Array, queries_path: Path) -> IntArray:
    """Row in the query file of each outcome, (n_outcomes,)."""
    given = identifiers(outcomes, "query_id")
    index = pc.index_in(given, value_set=query_ids)
    if index.null_count:
        unknown = np.flatnonzero(np.asarray(pc.is_null(index)))
        refuse(
            outcomes,
            int(unknown[0]),
            f"query_id {given[int(unknown[0])].as_py()!r} is not in {queries_path.name} "
            f"({len(unknown)} such row{'s' if len(unknown) > 1 else ''}).",
            "Add the query, or remove its outcomes.",
        )
    return np.asarray(index, dtype=np.int64)


def _models(outcomes: RawTable) -> tuple[tuple[str, ...], IntArray]:
    """Model names and the column of each outcome, (n_outcomes,)."""
    encoded = texts(outcomes, "model").dictionary_encode()
    names = tuple(encoded.dictionary.to_pylist())
    columns = np.asarray(encoded.indices, dtype=np.int64)
    for column, model in enumerate(names):
        if model != model.strip():
            refuse(
                outcomes,
                int(np.argmax(columns == column)),
                f"model {model!r} has blanks around its name.",
                "Trim it.",
            )
    return names, columns


def _no_duplicates(outcomes: RawTable, rows: IntArray, columns: IntArray, n_models: int) -> None:
    pair = rows * n_models + columns
    order = np.argsort(pair, kind="stable")
    again = order[1:][pair[order][1:] == pair[order][:-1]]
    if len(again):
        row = int(again.min())
        query_id = identifiers(outcomes, "query_id")[row].as_py()
        model = texts(outcomes, "model")[row].as_py()
        earlier = outcomes.where(int(np.argmax(pair == pair[row]))).rpartition(", ")[2]
        refuse(
            outcomes,
            row,
            f"query {query_id!r} and model {model!r} already stand in {earlier}.",
            "Keep one outcome a query and model, or give repeated runs their mean.",
        )


def _every_query_answered(
    outcomes: RawTable, scores: FloatArray, query_ids: pa.Array, queries_path: Path
) -> None:
    unanswered = np.flatnonzero(np.isnan(scores).all(axis=1))
    if len(unanswered):
        raise SchemaError(
            f"{outcomes.path}: no outcome for query_id {query_ids[int(unanswered[0])].as_py()!r} of "
            f"{queries_path.name} ({len(unanswered)} such quer{'ies' if len(unanswered) > 1 else 'y'}).",
            hint="Add outcomes of one model or more, or remove the query.",
        )
