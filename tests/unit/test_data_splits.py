"""Splits and folds: whole groups, sizes, seeds, and the refusal of leaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.data.splits import Split, check_no_leak, fold_ids, split_rows
from proteus_router.errors import ConfigError, InsufficientDataError, LeakageError
from proteus_router.types import IntArray

LONG = "a train leaves the station at noon and travels north for three hours without any stop"


def rows(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


group_lists = st.lists(st.integers(0, 30), min_size=12, max_size=80).map(
    lambda ids: np.array(ids, dtype=np.int64)
)


@settings(max_examples=150, deadline=None)
@given(group_lists, st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_folds_hold_whole_groups_and_are_as_equal_as_groups_allow(
    groups: IntArray, seed: int, n_folds: int
) -> None:
    sizes = np.unique(groups, return_counts=True)[1]
    if len(sizes) < n_folds:
        with pytest.raises(InsufficientDataError):
            fold_ids(groups, n_folds, seed)
        return
    folds = fold_ids(groups, n_folds, seed)
    for group in np.unique(groups):
        assert len(set(folds[groups == group].tolist())) == 1
    fold_sizes = np.bincount(folds, minlength=n_folds)
    assert fold_sizes.min() > 0
    if sizes.max() == 1:
        assert np.ptp(fold_sizes) <= 1


@settings(max_examples=150, deadline=None)
@given(group_lists, st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.3, 0.5]), st.sampled_from([0.0, 0.25]))
def test_a_split_holds_every_row_once_and_whole_groups(
    groups: IntArray, seed: int, test_share: float, calibration_share: float
) -> None:
    if len(np.unique(groups)) < 3:
        return
    split = split_rows(groups, test_share=test_share, calibration_share=calibration_share, seed=seed)
    parts = (split.train, split.calibration, split.test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))
    for left in range(3):
        for right in range(left):
            assert not np.isin(groups[parts[left]], groups[parts[right]]).any()


def test_sizes_are_exact_where_single_rows_can_fill_them() -> None:
    groups = np.concatenate((np.repeat(np.arange(20), 5), np.arange(20, 920))).astype(np.int64)
    split = split_rows(groups, test_share=0.3, calibration_share=0.1, seed=3)
    assert (len(split.train), len(split.calibration), len(split.test)) == (600, 100, 300)
    assert np.bincount(fold_ids(groups, 7, 0)).tolist() == [143] * 6 + [142]


def test_every_row_is_as_likely_to_be_tested() -> None:
    """Groups of 4 and of 1: the chance of a row does not depend on the size of its group."""
    groups = np.concatenate((np.repeat(np.arange(10), 4), np.arange(10, 70))).astype(np.int64)
    hits = np.zeros(len(groups))
    for seed in range(500):
        hits[split_rows(groups, test_share=0.3, seed=seed).test] += 1
    assert hits[:40].mean() / 500 == pytest.approx(0.3, abs=0.02)
    assert hits[40:].mean() / 500 == pytest.approx(0.3, abs=0.02)


def test_a_seed_fixes_the_split_and_another_changes_it() -> None:
    groups = np.arange(200, dtype=np.int64)
    first, again, other = (split_rows(groups, test_share=0.5, seed=seed) for seed in (1, 1, 2))
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()
    assert (
        fold_ids(groups, 5, 1).tolist() == fold_ids(groups, 5, 1).tolist() != fold_ids(groups, 5, 2).tolist()
    )


def test_a_group_too_large_for_any_fold_leaves_no_fold_empty() -> None:
    groups = np.array([0] * 50 + [1, 1, 2, 2], dtype=np.int64)
    for seed in range(20):
        assert set(fold_ids(groups, 3, seed).tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("test", "calibration"), [(1.0, 0.0), (-0.1, 0.0), (0.6, 0.5), (float("nan"), 0.0)])
def test_shares_out_of_range_are_refused(test: float, calibration: float) -> None:
    with pytest.raises(ConfigError, match="below 1"):
        split_rows(np.arange(9, dtype=np.int64), test_share=test, calibration_share=calibration, seed=0)


def test_a_part_that_stays_empty_is_refused() -> None:
    with pytest.raises(InsufficientDataError, match="leave test empty") as caught:
        split_rows(np.zeros(10, dtype=np.int64), test_share=0.3, seed=0)
    assert (caught.value.needed, caught.value.available) == (2, 1)
    with pytest.raises(ConfigError, match="2 or more"):
        fold_ids(np.arange(9, dtype=np.int64), 1, 0)


def test_a_split_is_checked_at_birth() -> None:
    with pytest.raises(LeakageError, match="row 2 is in both train and test"):
        Split(rows(0, 2), rows(), rows(1, 2))
    with pytest.raises(LeakageError, match="calibration"):
        Split(rows(0, 2), rows(0), rows(1))
    for bad in (rows(1, 0), rows(1, 1), rows(-1, 0), np.array([0.5]), np.zeros((1, 1), dtype=np.int64)):
        with pytest.raises(ConfigError, match="train"):
            Split(bad, rows(), rows(7))


def test_a_leak_is_an_error_that_names_the_rows() -> None:
    check_no_leak(["one text", LONG], ["another text"])
    check_no_leak([], ["another text"])
    with pytest.raises(
        LeakageError, match=r"1 of 2 texts of test .* row 2 of test and row 3 of train"
    ) as caught:
        check_no_leak(["x", "y", LONG], ["z", LONG.replace("noon", "dusk")], names=("train", "test"))
    assert "dusk" in str(caught.value)
    with pytest.raises(LeakageError):
        check_no_leak(["Same  Text"], ["same text"])
