"""Outcome data sets on disk: which files a path means, and the checked table they hold."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from proteus_router.data.checks import check_trainable
from proteus_router.data.longform import read_long
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.readers import SUFFIXES
from proteus_router.data.wideform import read_wide
from proteus_router.data.writers import DATASET_FILE, Format, write_outcomes
from proteus_router.errors import SchemaError

__all__ = ["Format", "check_trainable", "read_outcomes", "write_outcomes"]


def read_outcomes(path: Path, *, max_query_chars: int = 200_000, for_training: bool = True) -> OutcomeTable:
    """Read and check a data set.

    Parameters
    ----------
    path
        A folder with `queries.*` and `outcomes.*` (long form), a folder with one wide file, or a wide file. A
        folder may hold a `dataset.json` with "name" and "simulated".
    max_query_chars
        Longest query accepted, in characters.
    for_training
        Also refuse what is too small to train on (`check_trainable`).

    Raises
    ------
    SchemaError
        Anything that is not as docs/data-format.md says; names file, row or key, and the remedy.
    InsufficientDataError
        Too few queries, or too few outcomes of a model.
    """
    path = Path(path)
    if path.is_dir():
        table = _read_folder(path, max_query_chars=max_query_chars)
    elif path.exists():
        table = read_wide(path, max_query_chars=max_query_chars, name=path.stem)
    else:
        raise SchemaError(f"{path}: no such file or folder.", hint="Check the path.")
    if for_training:
        check_trainable(table)
    return table


def _read_folder(folder: Path, *, max_query_chars: int) -> OutcomeTable:
    about = _read_about(folder / DATASET_FILE)
    name = str(about.get("name", folder.resolve().name))
    data_files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    stems = {path.stem for path in data_files}
    if len(data_files) == 1 and not stems & {"queries", "outcomes"}:
        table = read_wide(data_files[0], max_query_chars=max_query_chars, name=name)
    else:
        queries, outcomes = (_one_of(folder, stem, data_files) for stem in ("queries", "outcomes"))
        table = read_long(queries, outcomes, max_query_chars=max_query_chars, name=name)
    return replace(table, simulated=bool(about.get("simulated", False)))


def _one_of(folder: Path, stem: str, data_files: list[Path]) -> Path:
    """The one file of that stem in the folder."""
    found = [path for path in data_files if path.stem == stem]
    expected = f"{stem}{{{','.join(SUFFIXES)}}}"
    if len(found) > 1:
        raise SchemaError(
            f"{folder}: both {found[0].name} and {found[1].name} are there, which one counts is not clear.",
            hint="Keep one of them.",
        )
    if not found:
        others = [
            path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name != DATASET_FILE
        ]
        near = difflib.get_close_matches(f"{stem}.csv", others, n=1, cutoff=0.6)
        near = [
            name for name in near if Path(name).stem not in {"queries", "outcomes"} or Path(name).stem == stem
        ]
        raise SchemaError(
            f"{folder}: no {expected}; the folder has {', '.join(others[:6]) or 'no files'}.",
            hint=f"Is {near[0]!r} meant? It must be named {expected}." if near else f"Add {expected}.",
        )
    return found[0]


def _read_about(path: Path) -> Mapping[str, object]:
    """The optional `dataset.json`; unknown keys are left alone."""
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(
            f"{path}: not a JSON file ({error}).", hint="Write it again, or remove it."
        ) from error
    if not isinstance(about, dict):
        raise SchemaError(
            f"{path}: must hold one JSON object.", hint='Write {"name": "mine", "simulated": false}.'
        )
    for key, kind, shown in (("simulated", bool, "true or false"), ("name", str, "text")):
        if key in about and not isinstance(about[key], kind):
            raise SchemaError(f"{path}: {key!r} must be {shown}, not {about[key]!r}.", hint="Correct it.")
    return about
