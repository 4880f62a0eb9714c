"""The wide form: one file, one row a query, a pair of columns `<model>|score`, `<model>|cost_usd` a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proteus_router.data.checks import check_values, query_columns
from proteus_router.data.outcomes import EXTRA_COLUMNS, OutcomeTable
from proteus_router.data.readers import read_table
from proteus_router.data.tables import RawTable, check_optional_names, numbers, refuse, require
from proteus_router.errors import SchemaError
from proteus_router.types import FloatArray

__all__ = ["from_wide", "read_wide"]

_FIELDS = ("score", "cost_usd", *EXTRA_COLUMNS)


def read_wide(path: Path, *, max_query_chars: int, name: str) -> OutcomeTable:
    """One wide file as a table; queries in file order, models in order of their columns."""
    return from_wide(read_table(path, _wanted), max_query_chars=max_query_chars, name=name)


def from_wide(table: RawTable, *, max_query_chars: int, name: str) -> OutcomeTable:
    """Columns in the wide layout as a table, wherever they were read from."""
    _refuse_long_form(table)
    models = _models(table)
    queries = query_columns(_without_pairs(table), max_query_chars=max_query_chars)
    arrays = {
        field: np.full((table.n_rows, len(models)), np.nan)
        for field in _FIELDS
        if any(f"{model}|{field}" in table.columns for model in models)
    }
    for column, model in enumerate(models):
        _fill_model(table, model, {field: array[:, column] for field, array in arrays.items()})
    unanswered = np.isnan(arrays["score"]).all(axis=1)
    if unanswered.any():
        row = int(np.argmax(unanswered))
        refuse(
            table,
            row,
            f"query {queries.ids[row].as_py()!r} has no outcome of any model.",
            "Fill in a score and a cost, or remove the row.",
        )
    return OutcomeTable(
        query_ids=tuple(queries.ids.to_pylist()),
        queries=queries.texts,
        models=models,
        scores=arrays.pop("score"),
        costs_usd=arrays.pop("cost_usd"),
        tasks=queries.tasks,
        extras=arrays,
        name=name,
    )


def _wanted(column: str) -> bool:
    return column in ("query_id", "query", "task") or (column.rpartition("|")[2] in _FIELDS and "|" in column)


def _refuse_long_form(table: RawTable) -> None:
    if not any("|" in name for name in table.names) and {"model", "score"} & set(table.names):
        raise SchemaError(
            f"{table.path}: one row a query and model is the long form, which is a folder of two files.",
            hint=f"Name it outcomes{table.path.suffix}, add queries{table.path.suffix}, and give the folder.",
        )


def _models(table: RawTable) -> tuple[str, ...]:
    """Names before the last `|`, in column order; each has both columns of the pair."""
    by_model: dict[str, list[str]] = {}
    for name in table.names:
        model, bar, field = name.rpartition("|")
        if bar:
            by_model.setdefault(model, []).append(field)
    models = [model for model, fields in by_model.items() if set(fields) & set(_FIELDS)]
    if not models:
        require(table, ("query_id", "query"))
        raise SchemaError(
            f"{table.path}: no columns `<model>|score` and `<model>|cost_usd`.",
            hint="Name the two columns of each model like 'small|score' and 'small|cost_usd'.",
        )
    for model in models:
        if not model or model != model.strip():
            raise SchemaError(
                f"{table.path}: model {model!r} of a column is empty or has blanks around it.",
                hint="Trim it.",
            )
        require(table, (f"{model}|score", f"{model}|cost_usd"))
        check_optional_names(
            RawTable(table.path, tuple(by_model[model]), {}, 0), _FIELDS, shown=f"{model}|{{}}"
        )
    return tuple(models)


def _without_pairs(table: RawTable) -> RawTable:
    names = tuple(name for name in table.names if "|" not in name)
    columns = {name: column for name, column in table.columns.items() if "|" not in name}
    return RawTable(table.path, names, columns, table.n_rows, untyped=table.untyped, lines=table.lines)


def _fill_model(table: RawTable, model: str, target: dict[str, FloatArray]) -> None:
    """Write one model's columns into views (n_queries,); fields the file has not stay NaN."""
    missing = {}
    for field, view in target.items():
        column = f"{model}|{field}"
        if column in table.columns:
            view[:], missing[field] = numbers(table, column)
            check_values(table, column, view, kind=field)
    half = missing["score"] != missing["cost_usd"]
    if half.any():
        row = int(np.argmax(half))
        given, absent = ("cost_usd", "score") if missing["score"][row] else ("score", "cost_usd")
        refuse(
            table,
            row,
            f"'{model}|{given}' is given but '{model}|{absent}' is empty.",
            "Fill in both cells, or empty both where the model did not answer.",
        )
    for field, view in target.items():
        if field in EXTRA_COLUMNS:
            view[missing["score"]] = np.nan  # a detail of no outcome
