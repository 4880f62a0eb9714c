"""SPROUT (CARROT, arXiv 2502.03261) into an `OutcomeTable`.

Published as Parquet on the Hugging Face hub (`CARROT-LLM-Routing/SPROUT`, with o3-mini `SPROUT-o3mini`):
`data/train-0000?-of-00003.parquet`, `data/validation-...`, `data/test-...`. A row is a query: `key`, `dataset`,
`prompt`, and for each model a struct of its name with `score` (a judge's, in [0, 1]), `num_input_tokens`,
`num_output_tokens` and the texts. Costs are tokens times prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.prices import Price, require_prices
from proteus_router.data.tables import RawTable, require
from proteus_router.data.wideform import from_wide
from proteus_router.errors import SchemaError

__all__ = ["SPROUT_PRICES", "read_sprout"]

_FIELDS = ("score", "num_input_tokens", "num_output_tokens")
_TEXT = ("key", "dataset", "prompt")

SPROUT_PRICES: dict[str, Price] = {
    model: Price(price_in, price_out)
    for model, price_in, price_out in (
        ("aws-claude-3-5-sonnet-v1", 3.0, 15.0),
        ("aws-titan-text-premier-v1", 0.5, 1.5),
        ("openai-gpt-4o", 2.5, 10.0),
        ("openai-gpt-4o-mini", 0.15, 0.6),
        ("openai-o3-mini", 1.1, 4.4),
        ("wxai-granite-3-2b-instruct-8k-max-tokens", 0.1, 0.1),
        ("wxai-granite-3-8b-instruct-8k-max-tokens", 0.2, 0.2),
        ("wxai-llama-3-1-70b-instruct", 0.9, 0.9),
        ("wxai-llama-3-1-8b-instruct", 0.2, 0.2),
        ("wxai-llama-3-2-1b-instruct", 0.06, 0.06),
        ("wxai-llama-3-2-3b-instruct", 0.06, 0.06),
        ("wxai-llama-3-3-70b-instruct", 0.9, 0.9),
        ("wxai-llama-3-405b-instruct", 3.5, 3.5),
        ("wxai-mixtral-8x7b-instruct-v01", 0.6, 0.6),
    )
}
"""USD per million tokens, as CARROT's own router charges them; o3-mini by its list price."""


def read_sprout(
    path: Path, *, prices: Mapping[str, Price] | None = None, max_query_chars: int = 200_000
) -> OutcomeTable:
    """Read one Parquet file, all of a folder, or the parts of a split (`data/train`).

    Parameters
    ----------
    prices
        In the place of `SPROUT_PRICES`.

    Raises
    ------
    SchemaError
        No such file, another layout, or a model without a price.
    """
    path = Path(path)
    parts = [_read(file) for file in _files(path)]
    models = parts[0].models
    for part in parts[1:]:
        if set(part.models) != set(models):
            raise SchemaError(
                f"{part.path}: other models than {parts[0].path.name}.",
                hint="Import SPROUT and SPROUT-o3mini apart.",
            )
    charged = dict(SPROUT_PRICES if prices is None else prices)
    require_prices(path, models, charged)
    columns: dict[str, list[Any]] = {"query_id": [], "query": [], "task": []}
    fields = ("score", "cost_usd", "input_tokens", "output_tokens")
    columns |= {f"{model}|{field}": [] for model in models for field in fields}
    for part in parts:
        for name, source in (("query_id", "key"), ("query", "prompt"), ("task", "dataset")):
            columns[name] += [str(value) for value in part.texts[source]]
        for model in models:
            for cell in part.outcomes[model]:
                for field, value in zip(fields, _outcome(cell, charged[model]), strict=True):
                    columns[f"{model}|{field}"].append(value)
    arrays = {
        name: pa.array(values, type=pa.float64() if "|" in name else pa.large_string())
        for name, values in columns.items()
    }
    table = RawTable(path, tuple(arrays), arrays, len(columns["query_id"]))
    return from_wide(table, max_query_chars=max_query_chars, name=path.stem or "sprout")


class _Part:
    """The columns of one file that are needed."""

    def __init__(self, path: Path, models: list[str], rows: pa.Table) -> None:
        self.path, self.models = path, models
        self.texts: dict[str, list[Any]] = {name: rows[name].to_pylist() for name in _TEXT}
        self.outcomes: dict[str, list[dict[str, Any] | None]] = {
            model: rows[model].to_pylist() for model in models
        }


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (
        sorted(path.rglob("*.parquet"))
        if path.is_dir()
        else sorted(path.parent.glob(f"{path.name}-*.parquet"))
    )
    if not found:
        raise SchemaError(f"{path}: no Parquet files there.", hint="Give the `data` folder, or `data/train`.")
    return found


def _read(path: Path) -> _Part:
    try:
        schema = pq.read_schema(path)
        layout = RawTable(path, tuple(schema.names), dict.fromkeys(schema.names), 0)
        require(layout, _TEXT, hint="Give SPROUT's Parquet files.")
        models = [
            field.name
            for field in schema
            if pa.types.is_struct(field.type) and {inner.name for inner in field.type} >= set(_FIELDS)
        ]
        if not models:
            raise SchemaError(
                f"{path}: no column is a struct with {', '.join(_FIELDS)}.",
                hint="Give SPROUT's Parquet files.",
            )
        # Answers and the judge's words are nineteen bytes in twenty: they are not read.
        wanted = [*_TEXT, *(f"{model}.{field}" for model in models for field in _FIELDS)]
        return _Part(path, models, pq.ParquetFile(path).read(columns=wanted))
    except (pa.ArrowInvalid, OSError) as error:
        raise SchemaError(
            f"{path}: not a readable Parquet file ({error}).", hint="Fetch it again."
        ) from error


def _outcome(
    cell: dict[str, Any] | None, price: Price
) -> tuple[float | None, float | None, float | None, float | None]:
    """Score, cost, input and output tokens; all None where the model has no score or no token counts."""
    if cell is None or any(cell[field] is None for field in _FIELDS):
        return None, None, None, None
    read, written = float(cell["num_input_tokens"]), float(cell["num_output_tokens"])
    return float(cell["score"]), price.cost_usd(read, written), read, written
