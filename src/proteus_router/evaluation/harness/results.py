"""The one tidy table: a row is one measured number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from proteus_router.types import FloatArray

__all__ = ["Results", "Row", "read_rows", "write_results", "write_rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One number.

    Attributes
    ----------
    experiment
        main, dynamic, leak, budget, shift, pool, latency.
    router
        Name in the registry, or what stands in its place (oracle).
    variant
        What the experiment varied: a scenario, a number of labels, a held-out task.
    guarantee
        expected, certified, native (the router's own mapping from targets), or "".
    target
        Requested accuracy; None where the number speaks of several or of none.
    metric, value
        What was measured; None where it is undefined on these data.
    n
        Rows behind it.
    """

    experiment: str
    data: str
    seed: int
    router: str
    metric: str
    value: float | None
    variant: str = ""
    guarantee: str = ""
    target: float | None = None
    n: int = 0


_KEY = ("experiment", "data", "router", "metric")


class Results:
    """Rows that can be asked for by any column.

    Examples
    --------
    >>> rows = [Row("main", "d", seed, "knn", "req", 0.8 + seed / 10) for seed in (0, 1)]
    >>> Results(rows).where(router="knn", metric="req").values.tolist()
    [0.8, 0.9]
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)
        self._index: dict[tuple[str, str, str, str], list[Row]] = {}
        for row in self._rows:
            self._index.setdefault((row.experiment, row.data, row.router, row.metric), []).append(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def where(self, **columns: Any) -> Results:
        """The rows whose columns have these values."""
        rows: Sequence[Row] = self._rows
        if columns.keys() >= set(_KEY):
            experiment, data, router, metric = (str(columns[name]) for name in _KEY)
            rows = self._index.get((experiment, data, router, metric), [])
        found = list(columns.items())
        return Results([row for row in rows if all(getattr(row, name) == value for name, value in found)])

    def distinct(self, column: str) -> list[Any]:
        """The values of a column in the order of their first row."""
        return list(dict.fromkeys(getattr(row, column) for row in self._rows))

    @property
    def values(self) -> FloatArray:
        """Defined values in order."""
        return np.array([row.value for row in self._rows if row.value is not None], dtype=np.float64)

    def by_seed(self) -> FloatArray:
        """Mean over the rows of each seed, seeds in rising order; seeds without a defined value are left out."""
        kept: dict[int, list[float]] = {}
        for row in self._rows:
            if row.value is not None:
                kept.setdefault(row.seed, []).append(row.value)
        return np.array([float(np.mean(kept[seed])) for seed in sorted(kept)])


def write_results(results: Results, path: Path) -> None:
    """One Parquet file, written beside and renamed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {item.name: [getattr(row, item.name) for row in results] for item in fields(Row)}
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(pa.table(columns, schema=_schema(pa)), unfinished, compression="zstd")
    os.replace(unfinished, path)


def _schema(pa: Any) -> Any:
    kinds = {"seed": pa.int64(), "n": pa.int64(), "value": pa.float64(), "target": pa.float64()}
    return pa.schema([(item.name, kinds.get(item.name, pa.string())) for item in fields(Row)])


def write_rows(rows: Sequence[Row], path: Path, *, seconds: float) -> None:
    """What an experiment in a cell found, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    document = {"seconds": seconds, "rows": [asdict(row) for row in rows]}
    unfinished.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    os.replace(unfinished, path)


def read_rows(path: Path) -> list[Row] | None:
    """The rows, or None where there are none or the file is damaged."""
    try:
        return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
