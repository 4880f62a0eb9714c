"""Operating points, their frontier estimates, and the query-dependent variant."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.routing.frontier import estimate_points, frontier_vertices, plugin_points, price_grid
from proteus_router.routing.points import PointPolicy, Policy
from proteus_router.routing.residual import ResidualPolicy, summary_features
from proteus_router.types import FloatArray, IntArray, Predictions


def _predictions(n: int = 40, k: int = 5, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(rng.random((n, k)).round(1), rng.random((n, k)).round(1) + 0.1)


def _policy(k: int = 5) -> PointPolicy:
    rng = np.random.default_rng(1)
    return PointPolicy(
        rng.normal(0, 0.1, (4, k)).round(1),
        np.array([0.0, 0.5, 2.0, 0.0]),
        np.array([-1, -1, -1, 2]),
        np.array([1.0, 0.5, 0.1, np.nan]),
    )


def _slow_choice(policy: PointPolicy, predictions: Predictions, point: int) -> list[int]:
    picks = []
    for scores, costs in zip(predictions.scores, predictions.costs_usd, strict=True):
        if policy.fixed[point] >= 0:
            picks.append(int(policy.fixed[point]))
            continue
        keys = [
            (-(scores[i] + policy.boosts[point, i] - policy.prices[point] * costs[i]), costs[i], i)
            for i in range(scores.size)
        ]
        picks.append(min(keys)[2])
    return picks


def test_choose_is_the_obvious_loop_and_choose_all_repeats_it() -> None:
    policy, predictions = _policy(), _predictions()
    everything = policy.choose_all(predictions)
    assert everything.shape == (4, 40)
    for point in range(policy.n_points):
        assert policy.choose(predictions, point).tolist() == _slow_choice(policy, predictions, point)
        assert everything[point].tolist() == _slow_choice(policy, predictions, point)


def test_one_query_alone_is_chosen_as_in_a_batch() -> None:
    policy, predictions = _policy(), _predictions(300)
    for point in range(policy.n_points):
        alone = [
            int(policy.choose(Predictions(scores[None], costs[None]), point)[0])
            for scores, costs in zip(predictions.scores, predictions.costs_usd, strict=True)
        ]
        assert alone == policy.choose(predictions, point).tolist()


def test_among_a_larger_pool_the_same_is_chosen_and_no_other_model_ever() -> None:
    rng = np.random.default_rng(4)
    scores, costs = rng.random((200, 5)), rng.random((200, 5)) + 0.1
    columns = np.array([4, 0, 3])
    few = Predictions(scores[:, columns], costs[:, columns])
    policy = PointPolicy.from_prices(np.array([0.0, 0.3, 2.0]), 3).joined(
        PointPolicy.from_models(np.arange(3), 3)
    )
    chosen = policy.among(columns, 5).choose_all(Predictions(scores, costs))
    np.testing.assert_array_equal(chosen, columns[policy.choose_all(few)])


def test_a_tie_goes_to_the_cheaper_model() -> None:
    predictions = Predictions(np.array([[0.5, 0.5, 0.4]]), np.array([[2.0, 1.0, 0.1]]))
    assert PointPolicy.from_prices(np.zeros(1), 3).choose(predictions, 0).tolist() == [1]


def test_a_model_that_is_not_available_is_never_chosen() -> None:
    predictions = Predictions(np.array([[-np.inf, 0.1, 0.2]]), np.array([[0.0, 1.0, 9.0]]))
    policy = PointPolicy.from_prices(np.array([0.0, 1e6]), 3)
    assert policy.choose_all(predictions).ravel().tolist() == [2, 1]


def _residual() -> ResidualPolicy:
    rng = np.random.default_rng(2)
    return ResidualPolicy(
        logit=np.array([-1.0, 0.5, 0.0]),
        weights=rng.normal(0, 1, (3, 7)),
        boosts=rng.normal(0, 0.1, 5),
        gamma=3.0,
        price_at_zero=4.0,
        feature_mean=np.zeros(7),
        feature_scale=np.ones(7),
        cost_unit_usd=0.5,
        fixed=np.array([-1, -1, 3]),
    )


@pytest.mark.parametrize("policy", [_policy(), _residual()])
def test_a_saved_policy_decides_alike_and_a_batch_is_its_loop(policy: Policy) -> None:
    predictions = _predictions()
    arrays, meta = policy.to_state()
    copy: Policy = type(policy).from_state(arrays, meta)  # type: ignore[attr-defined]
    assert np.array_equal(copy.choose_all(predictions), policy.choose_all(predictions))
    assert meta["kind"] == policy.kind
    rows = [
        Predictions(predictions.scores[i : i + 1], predictions.costs_usd[i : i + 1])
        for i in range(len(predictions.scores))
    ]
    loop = np.concatenate([policy.choose(row, 1) for row in rows])
    assert loop.tolist() == policy.choose(predictions, 1).tolist()


def test_residual_choice_is_the_formula() -> None:
    policy, predictions = _residual(), _predictions()
    features = summary_features(predictions, 0.5)
    for row in range(10):
        mu = 1 / (1 + np.exp(-(policy.logit[1] + features[row] @ policy.weights[1])))
        utility = predictions.scores[row] + mu * policy.boosts
        utility = utility - 4.0 * (1 - mu) ** 3 * predictions.costs_usd[row]
        assert policy.choose(predictions, 1)[row] == utility.argmax()


def test_summary_features_ignore_the_order_of_models_and_the_currency() -> None:
    predictions = _predictions()
    order = np.array([3, 1, 4, 0, 2])
    shuffled = Predictions(predictions.scores[:, order], predictions.costs_usd[:, order])
    np.testing.assert_allclose(summary_features(shuffled, 0.5), summary_features(predictions, 0.5))
    dearer = Predictions(predictions.scores, 1000 * predictions.costs_usd)
    np.testing.assert_allclose(summary_features(dearer, 500.0), summary_features(predictions, 0.5), atol=1e-8)


@pytest.mark.parametrize(
    ("prices", "fixed"), [(np.array([-1.0]), np.array([-1])), (np.array([1.0]), np.array([3]))]
)
def test_bad_points_are_refused(prices: FloatArray, fixed: IntArray) -> None:
    with pytest.raises(ValueError, match=r"prices|fixed"):
        PointPolicy(np.zeros((1, 3)), prices, fixed, np.zeros(1))


def test_estimates_weight_by_observation_rate() -> None:
    """Model 1 answers a quarter of the rows; a plain mean over observed rows would over-count model 0."""
    scores = np.array([[1.0, np.nan]] * 3 + [[1.0, 0.0]])
    choices = np.array([[0, 0, 1, 1]])
    estimates = estimate_points(choices, scores, np.where(np.isnan(scores), np.nan, 1.0))
    assert estimates.accuracy[0] == pytest.approx((1 + 1 + 4 * 0.0) / (1 + 1 + 4))
    assert estimates.cost_usd[0] == pytest.approx(1.0)


def test_a_point_never_observed_is_no_vertex() -> None:
    scores = np.array([[1.0, np.nan], [0.0, 1.0]])
    estimates = estimate_points(np.array([[0, 0], [1, 0], [1, 1]]), scores, scores * 0 + 1.0)
    assert estimates.accuracy.tolist()[0] == 0.5
    unseen = estimate_points(
        np.array([[1, 0]]), np.array([[1.0, np.nan], [np.nan, 1.0]]), np.full((2, 2), np.nan)
    )
    assert np.isnan(unseen.accuracy[0])
    assert frontier_vertices(estimates, min_gap=0.0).size >= 1


def test_price_grid_runs_from_the_best_prediction_to_the_cheapest_model() -> None:
    rng = np.random.default_rng(0)
    predictions = Predictions(rng.random((500, 4)), rng.random((500, 4)) + 0.1)
    policy = PointPolicy.from_prices(price_grid(predictions, 50), 4)
    choices = policy.choose_all(predictions)
    assert policy.prices[0] == 0.0
    assert (choices[0] == predictions.scores.argmax(axis=1)).all()
    assert (choices[-1] == predictions.costs_usd.argmin(axis=1)).mean() > 0.98
    assert plugin_points(predictions, 50).n_points == 54


def test_price_grid_without_a_trade_off_is_one_point() -> None:
    predictions = Predictions(np.array([[0.9, 0.1]] * 5), np.array([[1.0, 2.0]] * 5))
    assert price_grid(predictions, 50).tolist() == [0.0]
