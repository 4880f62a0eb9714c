"""RouterArena (RouteWorks/RouterArena, arXiv 2510.00202): its queries in, predictions in its layout out.

`dataset/router_data.json` and `router_data_10.json` are lists of objects with `global index` and `prompt_formatted`
(or `prompt`). A submission is `router_inference/config/<name>.json` with the pool and
`router_inference/predictions/<name>.json`, one object a query; for the queries of the small split also one for every
other model, flagged `for_optimality`, from which the arena computes how far the choice was from the best.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proteus_router.errors import SchemaError

__all__ = ["ArenaQuery", "arena_config", "arena_predictions", "read_arena_queries", "write_arena"]


@dataclass(frozen=True, slots=True)
class ArenaQuery:
    """One query of the arena, and the prompt that must come back unchanged."""

    global_index: str
    prompt: str


def read_arena_queries(path: Path) -> list[ArenaQuery]:
    """Read one of the arena's data set files.

    Raises
    ------
    SchemaError
        Not JSON, or not a list of objects with `global index` and a prompt; an index twice.
    """
    try:
        with path.open(encoding="utf-8") as file:
            loaded = json.load(file)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: not a readable JSON file ({error}).", hint="Check the path.") from error
    if not isinstance(loaded, list) or not loaded:
        raise SchemaError(f"{path}: not a list of queries.", hint="Give RouterArena's router_data.json.")
    found: dict[str, ArenaQuery] = {}
    for number, entry in enumerate(loaded, 1):
        index = entry.get("global index") if isinstance(entry, dict) else None
        prompt = (entry.get("prompt_formatted") or entry.get("prompt")) if isinstance(entry, dict) else None
        if not isinstance(index, str) or not isinstance(prompt, str) or not prompt.strip():
            raise SchemaError(
                f"{path}, entry {number}: needs 'global index' and 'prompt_formatted' (or 'prompt') as text.",
                hint="Make the file with RouterArena's prep_datasets.py.",
            )
        if index in found:
            raise SchemaError(f"{path}, entry {number}: global index {index!r} stands twice.")
        found[index] = ArenaQuery(index, prompt)
    return list(found.values())


def arena_predictions(
    queries: Sequence[ArenaQuery],
    models: Sequence[str],
    pool: Sequence[str],
    *,
    for_optimality: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """The prediction file's entries: every query with its model, then the other models of some.

    Parameters
    ----------
    models
        (n,) model of each query.
    pool
        All models, in the order of the configuration.
    for_optimality
        Global indices of the small split.
    """
    small = set(for_optimality)
    entries = [_entry(query, model, False) for query, model in zip(queries, models, strict=True)]
    for query, model in zip(queries, models, strict=True):
        if query.global_index in small:
            entries += [_entry(query, other, True) for other in pool if other != model]
    return entries


def arena_config(name: str, pool: Sequence[str]) -> dict[str, Any]:
    """The configuration file's content."""
    return {"pipeline_params": {"router_name": name, "models": list(pool)}}


def write_arena(folder: Path, name: str, pool: Sequence[str], entries: list[dict[str, Any]]) -> list[Path]:
    """Write `config/<name>.json` and `predictions/<name>.json` below `folder`; what was there before is replaced."""
    written = []
    for part, content in (("config", arena_config(name, pool)), ("predictions", entries)):
        path = folder / part / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _entry(query: ArenaQuery, model: str, optimality: bool) -> dict[str, Any]:
    return {
        "global index": query.global_index,
        "prompt": query.prompt,
        "prediction": model,
        "generated_result": None,
        "cost": None,
        "accuracy": None,
        "for_optimality": optimality,
    }
