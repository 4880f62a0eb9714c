"""The data sets of a benchmark run: a path, a name under $PROTEUS_DATA, or a simulated world."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from proteus_router.data.checks import check_trainable
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import read_outcomes
from proteus_router.data.synthetic import make_world
from proteus_router.errors import SchemaError
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["SIMULATED", "BenchData", "load_data"]

SIMULATED = "simulated"
_SIMULATED_ROWS = 6_000
_SIMULATED_TEST_SHARE = 0.5
_TEST_SHARE = 0.3


@dataclass(frozen=True)
class BenchData:
    """A data set as the harness sees it.

    Attributes
    ----------
    spec
        What the command line named it.
    test_share
        Share of rows held out in every cell.
    expected_scores
        (n, k) true expected scores, where the world is simulated.
    query_only
        The best predictions that a router of texts could have, where the world is simulated.
    """

    spec: str
    table: OutcomeTable
    test_share: float
    expected_scores: FloatArray | None = None
    query_only: Predictions | None = None

    @property
    def name(self) -> str:
        return self.table.name

    @cached_property
    def groups(self) -> IntArray:
        """(n,) near-text group of each row."""
        return near_text_groups(self.table.queries)


def load_data(spec: str, *, limit: int | None = None) -> BenchData:
    """Read a data set, or simulate one.

    Parameters
    ----------
    spec
        A path; a folder's name under $PROTEUS_DATA; ``simulated`` or ``simulated:SEED``.
    limit
        Keep so many rows, drawn at random, the same for everybody.

    Raises
    ------
    SchemaError
        Nothing of that name, or a file that is not as docs/data-format.md says.
    InsufficientDataError
        Too few queries, or outcomes of a model.
    """
    head, _, seed = spec.partition(":")
    if head == SIMULATED and (not seed or seed.isdigit()) and not Path(spec).exists():
        return _simulate(spec, int(seed or 0), limit)
    path = _path_of(spec)
    table = read_outcomes(path)
    if limit is not None and table.n_queries > limit:
        table = table.take(np.sort(np.random.default_rng(0).permutation(table.n_queries)[:limit]))
        check_trainable(table)
    return BenchData(spec, table, _TEST_SHARE)


def _path_of(spec: str) -> Path:
    path = Path(spec)
    if path.exists():
        return path
    root = os.environ.get("PROTEUS_DATA")
    if root and (Path(root) / spec).exists():
        return Path(root) / spec
    places = f"nor {spec!r} in PROTEUS_DATA={root}" if root else "and PROTEUS_DATA is not set"
    raise SchemaError(
        f"{spec}: no such file or folder, {places}.",
        hint=f"Give a path, a name under PROTEUS_DATA, or {SIMULATED!r}.",
    )


def _simulate(spec: str, seed: int, limit: int | None) -> BenchData:
    n = min(_SIMULATED_ROWS, limit or _SIMULATED_ROWS)
    world = make_world(seed)
    sample = world.sample(n, seed=1)
    table = replace(sample.table, name=spec.replace(":", "-"))
    return BenchData(spec, table, _SIMULATED_TEST_SHARE, sample.expected_scores, world.query_only(n, seed=1))
