"""The prompts to collect outcomes for: a file in the form of `queries.*`, with what a grader needs beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from proteus_router.data.checks import query_columns
from proteus_router.data.readers import read_table
from proteus_router.data.tables import identifiers, require

__all__ = ["Prompt", "read_prompts"]

_COLUMNS = frozenset(("query_id", "query", "task", "reference", "pattern"))


@dataclass(frozen=True, slots=True)
class Prompt:
    """One query, and how its answers are graded.

    Attributes
    ----------
    reference
        The right answer, for `exact`, `regex` with a group, and `judge`.
    pattern
        A regular expression of its own, for `regex`.
    """

    query_id: str
    query: str
    task: str | None = None
    reference: str | None = None
    pattern: str | None = None

    @property
    def fingerprint(self) -> str:
        """Tells whether the text behind an id is still the same."""
        return hashlib.sha256(self.query.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_prompts(path: Path, *, needs: Iterable[str] = (), max_query_chars: int = 200_000) -> list[Prompt]:
    """Read a Parquet, CSV or JSONL file with the columns `query_id`, `query` and those in `needs`.

    Raises
    ------
    SchemaError
        A column is missing or a value is not as docs/data-format.md says.
    """
    table = read_table(path, _COLUMNS.__contains__)
    require(table, needs)
    columns = query_columns(table, max_query_chars=max_query_chars)
    n = table.n_rows
    optional = [
        identifiers(table, name).to_pylist() if name in table.columns else [None] * n
        for name in ("reference", "pattern")
    ]
    tasks = columns.tasks or (None,) * n
    rows = zip(columns.ids.to_pylist(), columns.texts, tasks, *optional, strict=True)
    return [Prompt(*row) for row in rows]
