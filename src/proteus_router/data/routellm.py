"""RouteLLM's evaluation CSVs (lm-sys/RouteLLM, arXiv 2406.18665) into an `OutcomeTable`.

`routellm/evals/mmlu/responses/mmlu_<subject>.csv` and `routellm/evals/gsm8k/gsm8k_responses.csv`: a column `prompt`,
a column of True and False under each model's name, and in some files `<model>_response`. They say nothing about cost,
so prices a request are needed. `contaminated_prompts.jsonl` beside them, or one folder up, lists the prompts that
RouteLLM leaves out (`eval_prompt`); so does this.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.prices import Price, require_prices
from proteus_router.data.tables import RawTable
from proteus_router.data.wideform import from_wide
from proteus_router.errors import SchemaError

__all__ = ["read_routellm"]

_TRUTH = {"True": 1.0, "False": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_RESPONSE, _SUFFIX = "_response", "_responses"
_CONTAMINATED = "contaminated_prompts.jsonl"


def read_routellm(path: Path, *, prices: Mapping[str, Price], max_query_chars: int = 200_000) -> OutcomeTable:
    """Read one CSV or all of a folder; every file is a task of the name of its file.

    Parameters
    ----------
    prices
        One `usd_per_request` a model; token prices cannot be charged, as the files count no tokens.

    Raises
    ------
    SchemaError
        No such file, another layout, files that disagree about the models, a model without a price.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    if not files:
        raise SchemaError(f"{path}: no CSV files there.", hint="Give RouteLLM's folder of responses.")
    ids: list[str] = []
    texts: list[str] = []
    tasks: list[str] = []
    scores: dict[str, list[float | None]] = {}
    for file in files:
        models, rows = _rows(file)
        if not scores:
            scores = {model: [] for model in models}
        elif set(models) != set(scores):
            raise SchemaError(f"{file}: other models than {files[0].name}.", hint="Import them apart.")
        left_out = _contaminated(file)
        task = file.stem.removesuffix(_SUFFIX)
        for number, row in enumerate(rows, 1):
            if row["prompt"] in left_out:
                continue
            ids.append(f"{task}-{number}")
            texts.append(row["prompt"])
            tasks.append(task)
            for model in models:
                scores[model].append(_score(file, number, model, row[model]))
    require_prices(path, scores, prices)
    for model in scores:
        if prices[model].needs_tokens:
            raise SchemaError(
                f"{path}: the files count no tokens, so {model!r} can't be charged by them.",
                hint="Give usd_per_request.",
            )
    arrays = {
        name: pa.array(values, type=pa.large_string())
        for name, values in (("query_id", ids), ("query", texts), ("task", tasks))
    }
    for model, values in scores.items():
        cost = prices[model].usd_per_request
        arrays[f"{model}|score"] = pa.array(values, type=pa.float64())
        arrays[f"{model}|cost_usd"] = pa.array(
            [None if value is None else cost for value in values], type=pa.float64()
        )
    table = RawTable(path, tuple(arrays), arrays, len(ids))
    return from_wide(table, max_query_chars=max_query_chars, name=path.stem.removesuffix(_SUFFIX))


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    csv.field_size_limit(2**31 - 1)  # answers run to more than the module's 128 KiB
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SchemaError(f"{path}: not a readable CSV file ({error}).", hint="Fetch it again.") from error
    models = [name for name in names if name != "prompt" and not name.endswith(_RESPONSE)]
    if "prompt" not in names or not models:
        raise SchemaError(
            f"{path}: needs a column 'prompt' and one a model; it has {', '.join(names) or 'none'}.",
            hint="Give RouteLLM's response files.",
        )
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise SchemaError(f"{path}, row {number}: another number of cells than the header.")
    return models, rows


def _score(path: Path, row: int, model: str, cell: str) -> float | None:
    if not cell.strip():
        return None
    if cell not in _TRUTH:
        raise SchemaError(f"{path}, row {row}: {model!r} is {cell!r}, it must be True or False.")
    return _TRUTH[cell]


def _contaminated(path: Path) -> frozenset[str]:
    for folder in (path.parent, path.parent.parent):
        file = folder / _CONTAMINATED
        if file.is_file():
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
                return frozenset(json.loads(line)["eval_prompt"] for line in lines if line.strip())
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SchemaError(
                    f"{file}: not one object with 'eval_prompt' a line ({error}).", hint="Fetch it again."
                ) from error
    return frozenset()
