"""What the values of an outcome data set must satisfy, whichever form and format they came in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.tables import RawTable, check_optional_names, identifiers, refuse, require, texts
from proteus_router.errors import InsufficientDataError, SchemaError
from proteus_router.types import FloatArray

__all__ = ["MIN_OUTCOMES", "MIN_QUERIES", "QueryColumns", "check_trainable", "check_values", "query_columns"]

MIN_QUERIES = 50
"""Fewer queries say too little about any model to train on."""
MIN_OUTCOMES = 20
"""Outcomes every model needs."""

_UPPER = {"score": 1.0, "confidence": 1.0}


@dataclass(frozen=True)
class QueryColumns:
    """Ids (unique), texts and tasks of the queries of a file, each (n_queries,)."""

    ids: pa.Array
    texts: tuple[str, ...]
    tasks: tuple[str, ...] | None


def query_columns(table: RawTable, *, max_query_chars: int, hint: str = "") -> QueryColumns:
    """Check and return `query_id`, `query` and, where present, `task`."""
    require(table, ("query_id", "query"), hint=hint)
    check_optional_names(table, ("query_id", "query", "task"))
    ids = identifiers(table, "query_id")
    codes = np.asarray(ids.dictionary_encode().indices)
    first_seen = np.unique(codes, return_index=True)[1]
    if len(first_seen) < len(codes):
        again = int(np.setdiff1d(np.arange(len(codes)), first_seen)[0])
        earlier = table.where(int(np.argmax(codes == codes[again]))).rpartition(", ")[2]
        refuse(
            table,
            again,
            f"query_id {ids[again].as_py()!r} already stands in {earlier}.",
            "Give each query its own id.",
        )
    queries = texts(table, "query")
    lengths = np.asarray(pc.utf8_length(queries))
    if (lengths > max_query_chars).any():
        row = int(np.argmax(lengths > max_query_chars))
        refuse(
            table,
            row,
            f"query {ids[row].as_py()!r} has {lengths[row]:,} characters, "
            f"more than max_query_chars {max_query_chars:,}.",
            "Shorten it, or raise max_query_chars in the configuration.",
        )
    tasks = tuple(texts(table, "task").to_pylist()) if "task" in table.columns else None
    return QueryColumns(ids, tuple(queries.to_pylist()), tasks)


def check_values(table: RawTable, column: str, values: FloatArray, *, kind: str | None = None) -> None:
    """Range of one column of outcomes, (n_rows,); NaN stands for missing and passes.

    ``kind`` is the meaning of the column where its name says more (`gpt|score`).
    """
    upper = _UPPER.get(kind or column)
    wrong = (values < 0) | np.isinf(values) | (values > (np.inf if upper is None else upper))
    if wrong.any():
        row = int(np.argmax(wrong))
        allowed = "finite and not negative" if upper is None else "between 0 and 1"
        hint = "Correct the value, or leave the outcome out if it is not known."
        if upper is not None and 1 < values[row] <= 100:
            hint = "Divide percentages by 100."
        refuse(table, row, f"{column!r} is {values[row]:g}, it must be {allowed}.", hint)


def check_trainable(table: OutcomeTable) -> None:
    """Refuse a table too small to train on.

    Raises
    ------
    SchemaError
        A single model: there is nothing to choose between.
    InsufficientDataError
        Fewer than `MIN_QUERIES` queries, or a model with fewer than `MIN_OUTCOMES` outcomes.
    """
    if table.n_models < 2:
        raise SchemaError(
            f"{table.name}: {table.n_models} model ({', '.join(table.models) or 'none'}); "
            "a router chooses between 2 or more.",
            hint="Add the outcomes of another model.",
        )
    if table.n_queries < MIN_QUERIES:
        raise InsufficientDataError(
            f"{table.name}: {table.n_queries} queries; training needs {MIN_QUERIES} or more.",
            needed=MIN_QUERIES,
            available=table.n_queries,
            hint="Add queries with their outcomes.",
        )
    counts = table.observed.sum(axis=0)
    for model, count in zip(table.models, counts.tolist(), strict=True):
        if count < MIN_OUTCOMES:
            raise InsufficientDataError(
                f"{table.name}: model {model!r} has {count} outcome{'' if count == 1 else 's'}; "
                f"each model needs {MIN_OUTCOMES} or more.",
                needed=MIN_OUTCOMES,
                available=count,
                hint="Add outcomes of this model, or leave it out.",
            )
