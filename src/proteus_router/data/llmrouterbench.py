"""LLMRouterBench's result files (ynulihao/LLMRouterBench, once OpenRouterBench) into an `OutcomeTable`.

The release unpacks to `bench/<dataset>/<split>/<model>/<name>-<yyyymmdd>_<hhmmss>.json`, a run of one model on one
data set: `dataset_name`, `split`, `model_name`, `demo`, totals, and `records` with `index`, `origin_query`, `prompt`,
`score`, `cost` in USD, `prompt_tokens`, `completion_tokens`. Where the names are not in the file they are taken from
the folders. Of several runs the latest counts, demonstrations do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.prices import Price, require_prices
from proteus_router.data.tables import RawTable
from proteus_router.data.wideform import from_wide
from proteus_router.errors import SchemaError

__all__ = ["read_llmrouterbench"]

_STAMP = re.compile(r"(\d{8}_\d{6})\.json$")
_FIELDS = ("score", "cost_usd", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class _Run:
    path: Path
    dataset: str
    split: str
    model: str
    records: list[Any]


def read_llmrouterbench(
    path: Path, *, prices: Mapping[str, Price] | None = None, max_query_chars: int = 200_000
) -> OutcomeTable:
    """Read one result file or all below a folder.

    Parameters
    ----------
    prices
        Prices a token or request in the place of the recorded costs: the runs of the small local models cost nothing.

    Raises
    ------
    SchemaError
        No such file, not JSON, another layout, two texts for one query, or a model without a price.
    """
    path = Path(path)
    runs = _latest(_runs(path))
    models = sorted({run.model for run in runs})
    if prices is not None:
        require_prices(path, models, prices)
    row_of: dict[str, int] = {}
    texts: list[str] = []
    tasks: list[str] = []
    cells: dict[tuple[int, str], tuple[float, float, float | None, float | None]] = {}
    for run in runs:
        for position, record in enumerate(run.records):
            where = f"{run.path}, record {position + 1}"
            query_id, text = _query(run, record, where)
            row = row_of.setdefault(query_id, len(texts))
            if row == len(texts):
                texts.append(text)
                tasks.append(run.dataset)
            elif texts[row] != text:
                raise SchemaError(
                    f"{where}: query {query_id} has another text here than for other models.",
                    hint="Keep runs of one version of the data set.",
                )
            found = _outcome(record, where, None if prices is None else prices[run.model])
            if found is not None:
                if (row, run.model) in cells:
                    raise SchemaError(f"{where}: query {query_id} stands twice in this file.")
                cells[row, run.model] = found
    answered = sorted({row for row, _ in cells})
    if not answered:
        raise SchemaError(f"{path}: no record has a score.", hint="Give the folder of evaluated runs.")
    ids = list(row_of)
    arrays = {
        name: pa.array([values[row] for row in answered], type=pa.large_string())
        for name, values in (("query_id", ids), ("query", texts), ("task", tasks))
    }
    for model in models:
        for place, field in enumerate(_FIELDS):
            values = [cells[row, model][place] if (row, model) in cells else None for row in answered]
            arrays[f"{model}|{field}"] = pa.array(values, type=pa.float64())
    table = RawTable(path, tuple(arrays), arrays, len(answered))
    return from_wide(table, max_query_chars=max_query_chars, name=path.stem)


def _runs(path: Path) -> list[_Run]:
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    runs = [run for file in files if (run := _run(file)) is not None]
    if not runs:
        raise SchemaError(f"{path}: no result files there.", hint="Give the unpacked `bench` folder.")
    return runs


def _run(path: Path) -> _Run | None:
    """None for a demonstration."""
    try:
        with path.open(encoding="utf-8") as file:
            loaded = json.load(file)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: not a readable JSON file ({error}).", hint="Fetch it again.") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("records"), list):
        raise SchemaError(f"{path}: no list of `records`.", hint="Give result files of LLMRouterBench.")
    if loaded.get("demo"):
        return None
    folders = path.parts[:-1]  # .../<dataset>/<split>/<model>
    named = {
        name: str(loaded.get(name) or (folders[-place] if len(folders) >= place else ""))
        for name, place in (("dataset_name", 3), ("split", 2), ("model_name", 1))
    }
    return _Run(path, named["dataset_name"], named["split"], named["model_name"], loaded["records"])


def _latest(runs: list[_Run]) -> list[_Run]:
    newest: dict[tuple[str, str, str], _Run] = {}
    for run in runs:
        key = run.dataset, run.split, run.model
        if key not in newest or _stamp(run.path) >= _stamp(newest[key].path):
            newest[key] = run
    return list(newest.values())


def _stamp(path: Path) -> str:
    found = _STAMP.search(path.name)
    return found.group(1) if found else ""


def _query(run: _Run, record: Any, where: str) -> tuple[str, str]:
    if not isinstance(record, dict) or "index" not in record:
        raise SchemaError(f"{where}: no `index`.", hint="Give result files of LLMRouterBench.")
    text = record.get("origin_query") or record.get("prompt")
    if not isinstance(text, str):
        text = "" if text is None else json.dumps(text, ensure_ascii=False)
    return f"{run.dataset}/{run.split}/{record['index']}", text


def _outcome(
    record: dict[str, Any], where: str, price: Price | None
) -> tuple[float, float, float | None, float | None] | None:
    """Score, cost and tokens; None where the answer was not scored."""
    score = record.get("score")
    if score is None:
        return None
    read, written = (_number(record, name, where) for name in ("prompt_tokens", "completion_tokens"))
    if price is None:
        cost = _number(record, "cost", where)
        if cost is None:
            raise SchemaError(f"{where}: no `cost`.", hint="Give prices with --prices.")
    else:
        if price.needs_tokens and (read is None or written is None):
            raise SchemaError(f"{where}: no token counts to charge.", hint="Give usd_per_request.")
        cost = price.cost_usd(read or 0.0, written or 0.0)
    number = _number(record, "score", where)
    assert number is not None
    return number, cost, read, written


def _number(record: dict[str, Any], name: str, where: str) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        raise SchemaError(f"{where}: {name!r} is {value!r}, it must be a number.")
    return float(value)
