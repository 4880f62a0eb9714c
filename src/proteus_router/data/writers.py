"""An `OutcomeTable` into the canonical folder: long form, in Parquet, CSV or JSONL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from proteus_router.data.folders import new_folder
from proteus_router.data.outcomes import OutcomeTable

__all__ = ["DATASET_FILE", "PARTS", "Format", "is_data_set_file", "write_into", "write_outcomes"]

Format = Literal["parquet", "csv", "jsonl"]

DATASET_FILE = "dataset.json"
"""Name of the data set and whether it is simulated."""
PARTS = ("train", "calibration", "test")
"""Folders a split is written to."""


def write_outcomes(
    table: OutcomeTable, folder: Path, fmt: Format = "parquet", *, force: bool = False
) -> None:
    """Write the canonical folder; `read_outcomes` gives the same table back.

    The folder appears whole or not at all. A missing outcome is a row that is not there.

    Raises
    ------
    DataError
        The folder exists and ``force`` is off, or it holds other things.
    """
    with new_folder(Path(folder), force=force, ours=is_data_set_file) as building:
        write_into(table, building, fmt)


def write_into(table: OutcomeTable, folder: Path, fmt: Format) -> None:
    """Write the files of one data set into an existing, empty folder."""
    write = _WRITERS[fmt]
    write(_queries(table), folder / f"queries.{fmt}")
    write(_outcomes(table), folder / f"outcomes.{fmt}")
    about = {"name": table.name, "simulated": table.simulated}
    (folder / DATASET_FILE).write_text(json.dumps(about, ensure_ascii=False) + "\n", encoding="utf-8")


def is_data_set_file(path: Path) -> bool:
    """Whether a data set folder, or a folder of split ones, has a file at this relative path."""
    names = {DATASET_FILE, *(f"{stem}.{fmt}" for stem in _STEMS for fmt in _WRITERS)}
    return path.name in names and path.parts[:-1] in {(), *((part,) for part in PARTS)}


def _queries(table: OutcomeTable) -> pa.Table:
    columns = {"query_id": list(table.query_ids)}
    if table.tasks is not None:
        columns["task"] = list(table.tasks)
    columns["query"] = list(table.queries)
    return pa.table({name: pa.array(values, type=pa.large_string()) for name, values in columns.items()})


def _outcomes(table: OutcomeTable) -> pa.Table:
    """One row a known outcome, model after model, so that reading finds the models in their order."""
    model, query = np.nonzero(table.observed.T)
    names = pa.DictionaryArray.from_arrays(
        pa.array(model, type=pa.int32()), pa.array(list(table.models), type=pa.string())
    )
    ids = pa.array(list(table.query_ids), type=pa.large_string()).take(pa.array(query))
    columns: dict[str, Any] = {
        "query_id": ids,
        "model": names,
        "score": table.scores[query, model],
        "cost_usd": table.costs_usd[query, model],
    }
    for name, values in table.extras.items():
        columns[name] = pa.array(values[query, model], from_pandas=True)  # NaN, unknown, becomes null
    return pa.table(columns)


def _write_csv(table: pa.Table, path: Path) -> None:
    plain = [
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    pa_csv.write_csv(pa.table(plain, names=table.column_names), path)


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in table.to_pylist():
            known = {name: value for name, value in row.items() if value is not None}
            file.write(json.dumps(known, ensure_ascii=False, allow_nan=False) + "\n")


_STEMS = ("queries", "outcomes")
_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": pq.write_table,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
