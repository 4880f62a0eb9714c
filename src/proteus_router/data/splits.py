"""Splits and folds that never put near-same texts on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from proteus_router.data.grouping import near_text_groups
from proteus_router.errors import ConfigError, InsufficientDataError, LeakageError
from proteus_router.types import IntArray

__all__ = ["Split", "check_no_leak", "fold_ids", "split_rows"]


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending; parts are disjoint, calibration may be empty."""

    train: IntArray
    calibration: IntArray
    test: IntArray

    def __post_init__(self) -> None:
        parts = {"train": self.train, "calibration": self.calibration, "test": self.test}
        for name, rows in parts.items():
            if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
                raise ConfigError(f"Split: {name} must be a one-dimensional array of row numbers.")
            if len(rows) and (rows[0] < 0 or np.any(np.diff(rows) <= 0)):
                raise ConfigError(f"Split: {name} must be ascending row numbers without repeats.")
        for left, right in combinations(parts, 2):
            if shared := np.intersect1d(parts[left], parts[right]).tolist():
                raise LeakageError(
                    f"Split: row {shared[0]} is in both {left} and {right} ({len(shared)} such rows)."
                )


def split_rows(groups: IntArray, *, test_share: float, calibration_share: float = 0.0, seed: int) -> Split:
    """Split rows at random, whole groups at a time.

    Parameters
    ----------
    groups
        (n_rows,) group of each row, from `near_text_groups`.
    test_share, calibration_share
        Shares of rows, 0 <= each, sum below 1; sizes are met to within the size of the largest group.
    seed
        The same seed gives the same split.

    Raises
    ------
    ConfigError
        Shares out of range.
    InsufficientDataError
        A part with a share above 0, or train, would stay empty.
    """
    if not (0 <= test_share < 1 and 0 <= calibration_share < 1 and test_share + calibration_share < 1):
        raise ConfigError(
            f"test_share {test_share} and calibration_share {calibration_share} must be at least 0 "
            "and their sum below 1.",
            hint="0.3 keeps three rows in ten for the test.",
        )
    n_rows = len(groups)
    n_test = round(n_rows * test_share)
    n_calibration = round(n_rows * calibration_share)
    part = _deal(groups, np.array([n_rows - n_test - n_calibration, n_calibration, n_test]), seed)
    split = Split(*(np.flatnonzero(part == index) for index in range(3)))
    wanted = {"train": 1.0, "calibration": calibration_share, "test": test_share}
    for name, share in wanted.items():
        if share > 0 and len(getattr(split, name)) == 0:
            raise InsufficientDataError(
                f"{n_rows} rows in {len(np.unique(groups))} groups of near-same texts leave {name} empty.",
                needed=sum(value > 0 for value in wanted.values()),
                available=len(np.unique(groups)),
                hint="Give more distinct queries, or other shares.",
            )
    return split


def fold_ids(groups: IntArray, n_folds: int, seed: int) -> IntArray:
    """Fold 0 .. n_folds - 1 of each row, (n_rows,): whole groups, sizes as equal as the groups allow.

    Raises
    ------
    ConfigError
        Fewer than two folds.
    InsufficientDataError
        Fewer groups than folds.
    """
    if n_folds < 2:
        raise ConfigError(f"n_folds is {n_folds}; cross-fitting needs 2 or more.")
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise InsufficientDataError(
            f"{n_groups} groups of near-same texts cannot fill {n_folds} folds.",
            needed=n_folds,
            available=n_groups,
            hint="Give more distinct queries, or fewer folds.",
        )
    base, extra = divmod(len(groups), n_folds)
    return _deal(groups, base + (np.arange(n_folds) < extra).astype(np.int64), seed)


def check_no_leak(
    texts_a: Sequence[str], texts_b: Sequence[str], *, names: tuple[str, str] = ("a", "b")
) -> None:
    """Raise `LeakageError` when a text of one side is near (`near_text_groups`) a text of the other."""
    groups = near_text_groups([*texts_a, *texts_b])
    groups_a, groups_b = groups[: len(texts_a)], groups[len(texts_a) :]
    shared = np.isin(groups_b, groups_a)
    if shared.any():
        row_b = int(np.flatnonzero(shared)[0])
        row_a = int(np.flatnonzero(groups_a == groups_b[row_b])[0])
        raise LeakageError(
            f"{int(shared.sum())} of {len(texts_b)} texts of {names[1]} are the same or nearly the same as "
            f"texts of {names[0]}: row {row_b + 1} of {names[1]} and row {row_a + 1} of {names[0]}, "
            f"{texts_b[row_b][:80]!r}.",
            hint="Split with `proteus data split`, which keeps near-same texts on one side.",
        )


def _deal(groups: IntArray, capacities: IntArray, seed: int) -> IntArray:
    """Part of each row, (n_rows,), filling the capacities with whole groups.

    Largest groups first, each to a part drawn in proportion to the room it has left for it. Single rows
    come last and so fill every part exactly, as one shuffle would. Where no part has room the emptiest
    takes the group, and the last groups are kept for parts that still have none.
    """
    rng = np.random.default_rng(seed)
    inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    draws = rng.random(len(order))
    room = np.asarray(capacities, dtype=np.int64).copy()
    empty = room > 0
    part_of_group = np.empty(len(sizes), dtype=np.int64)
    for position, group in enumerate(order):
        weight = np.where(room >= sizes[group], room, 0)
        if len(order) - position <= empty.sum():
            weight = np.where(empty, np.maximum(room, 1), 0)
        if weight.any():
            cumulative = np.cumsum(weight)
            part = int(np.searchsorted(cumulative, draws[position] * cumulative[-1], side="right"))
        else:
            part = int(np.argmax(room))
        part_of_group[group] = part
        room[part] -= sizes[group]
        empty[part] = False
    return part_of_group[inverse]
