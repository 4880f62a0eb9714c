"""The forest: what scikit-learn's trees predict, means over observed outcomes, batch equals loop, save and load."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from proteus_router.errors import ArtifactIntegrityError
from proteus_router.routing.forest import Forest
from proteus_router.training.heads.forest import ForestParams, grow_forest

PARAMS = ForestParams(trees=7, depth=5, leaf_rows=4, tried=6)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(300, 9)).astype(np.float32)
SCORES = (RNG.random((300, 4)) < 0.5 + 0.3 * np.sign(INPUTS[:, :4])).astype(np.float64)
OTHERS = RNG.normal(size=(700, 9))


def test_it_predicts_what_the_trees_of_scikit_learn_predict() -> None:
    centred = SCORES - SCORES.mean(axis=0)
    reference = ExtraTreesRegressor(
        n_estimators=7, max_depth=5, min_samples_leaf=4, max_features=6, random_state=3
    ).fit(INPUTS, centred)
    grown = grow_forest(INPUTS, SCORES, PARAMS, 3)
    expected = SCORES.mean(axis=0) + reference.predict(OTHERS.astype(np.float32))
    assert grown.predict(OTHERS) == pytest.approx(expected, abs=1e-6)


def test_a_rows_numbers_do_not_depend_on_its_batch() -> None:
    grown = grow_forest(INPUTS, SCORES, PARAMS, 0)
    together = grown.predict(OTHERS)
    apart = np.concatenate([grown.predict(row[None]) for row in OTHERS])
    assert np.array_equal(together, apart)


def test_it_learns_who_is_better_where() -> None:
    predicted = grow_forest(INPUTS, SCORES, ForestParams(60, 6, 5, 9), 0).predict(OTHERS)
    for model in range(4):
        better = OTHERS[:, model] > 0
        assert predicted[better, model].mean() > predicted[~better, model].mean() + 0.2


def test_leaves_do_not_see_missing_outcomes_and_shrink_where_few_are_left() -> None:
    holes = SCORES.copy()
    holes[:, 1] = 1.0
    holes[::2, 1] = np.nan  # a model that was always right where it was asked
    holes[3:, 2] = np.nan  # and one that was asked three times
    predicted = grow_forest(INPUTS, holes, PARAMS, 0).predict(OTHERS)
    assert predicted[:, 1] == pytest.approx(np.ones(len(OTHERS)), abs=1e-6)
    assert np.abs(predicted[:, 2] - np.nanmean(holes[:, 2])).max() < 0.5


def test_the_same_seed_grows_the_same_forest_and_another_one_does_not() -> None:
    first, again, other = (grow_forest(INPUTS, SCORES, PARAMS, seed).predict(OTHERS) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_mixing_the_values_mixes_the_predictions() -> None:
    grown, matrix = grow_forest(INPUTS, SCORES, PARAMS, 0), RNG.normal(size=(4, 4))
    assert grown.mixed(matrix).predict(OTHERS) == pytest.approx(grown.predict(OTHERS) @ matrix, abs=1e-5)


def test_no_tree_adds_nothing() -> None:
    assert np.array_equal(Forest.none(3).predict(OTHERS), np.zeros((700, 3)))


def test_save_then_load_is_identity_and_damage_is_refused() -> None:
    grown = grow_forest(INPUTS, SCORES, PARAMS, 0)
    state = grown.to_state()
    assert np.array_equal(Forest.from_state(state).predict(OTHERS), grown.predict(OTHERS))
    with pytest.raises(ArtifactIntegrityError, match="lacks the array 'values'"):
        Forest.from_state({name: array for name, array in state.items() if name != "values"})
    with pytest.raises(ArtifactIntegrityError, match="points at a node"):
        Forest.from_state(state | {"children": state["children"] + len(grown.values)})
