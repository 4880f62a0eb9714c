from __future__ import annotations

import numpy as np
import pytest

from proteus_router.calibration.certify import calibrate
from proteus_router.errors import InfeasibleTargetError, InvalidQueryError, InvalidTargetError, SchemaError
from proteus_router.routing.frontier import estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.router import Router
from proteus_router.types import FloatArray, Predictions

MODELS = ("small", "middle", "large")


class TextLengthPredictor:
    """Predicts from the number of characters alone: long texts need the large model."""

    def predict(self, texts: list[str]) -> Predictions:
        length = np.array([min(len(text), 100) / 100 for text in texts])[:, None]  # (n, 1)
        scores = np.array([0.9, 0.92, 0.95]) - length * np.array([0.6, 0.3, 0.05])
        return Predictions(scores, np.tile([1e-5, 1e-4, 1e-3], (len(texts), 1)))


def _texts(n: int, seed: int) -> list[str]:
    return ["x" * int(length) for length in np.random.default_rng(seed).integers(1, 101, n)]


def _outcomes(texts: list[str], seed: int) -> FloatArray:
    p = TextLengthPredictor().predict(texts).scores
    return (np.random.default_rng(seed).random(p.shape) < p).astype(np.float64)


@pytest.fixture(scope="module")
def router() -> Router:
    texts = _texts(3000, 0)
    scores, predictions = _outcomes(texts, 1), TextLengthPredictor().predict(texts)
    points = plugin_points(predictions, 60)
    estimates = estimate_points(points.choose_all(predictions), scores, predictions.costs_usd)
    kept = frontier_vertices(estimates, min_gap=0.002)
    policy = points.take(kept)
    target_map = calibrate(
        accuracy=estimates.accuracy[kept],
        cost_usd=estimates.cost_usd[kept],
        choices=policy.choose_all(predictions),
        scores=scores,
        costs_usd=predictions.costs_usd,
        confidence=0.95,
        scheme="crossfit",
        data_fingerprint="d",
        policy_fingerprint="p",
        seed=0,
    )
    return Router(MODELS, TextLengthPredictor(), policy, target_map, {"policy": {"fingerprint": "p"}})


def test_a_certified_decision_carries_its_certificate_and_reasons(router: Router) -> None:
    decision = router.route("x" * 40, accuracy_target=0.85)
    assert decision.certified
    assert decision.certificate is not None
    assert decision.certificate["lower_bound"] >= 0.85
    assert decision.model in MODELS
    assert decision.reasons
    assert sum(candidate.propensity for candidate in decision.candidates) == pytest.approx(1.0)


def test_batch_equals_loop(router: Router) -> None:
    texts = _texts(300, 5)
    targets = np.random.default_rng(2).choice([0.80, 0.85, 0.87], 300).tolist()
    batch = router.route_batch(texts, accuracy_target=targets, rng=np.random.default_rng(9))
    rng = np.random.default_rng(9)
    loop = [router.route(x, accuracy_target=t, rng=rng) for x, t in zip(texts, targets, strict=True)]
    assert batch == loop


def test_propensity_is_the_share_of_draws(router: Router) -> None:
    rng = np.random.default_rng(3)
    texts = ["x" * length for length in range(1, 101)]
    for target in np.linspace(0.78, 0.88, 60):
        decisions = router.route_batch(texts, accuracy_target=target, guarantee="expected", rng=rng)
        mixed = [i for i, decision in enumerate(decisions) if 0.2 < decision.propensity < 0.8]
        if mixed:
            break
    text, model = texts[mixed[0]], decisions[mixed[0]].model
    drawn = router.route_batch([text] * 4000, accuracy_target=target, guarantee="expected", rng=rng)
    share = np.mean([decision.model == model for decision in drawn])
    assert share == pytest.approx(decisions[mixed[0]].propensity, abs=0.035)


def test_higher_targets_never_cost_less(router: Router) -> None:
    texts = _texts(2000, 6)
    costs = []
    for target in (0.75, 0.80, 0.84, 0.88):
        decisions = router.route_batch(texts, accuracy_target=target, rng=np.random.default_rng(0))
        costs.append(np.mean([decision.predicted_cost_usd for decision in decisions]))
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_an_infeasible_target_names_the_best_one_and_that_one_works(router: Router) -> None:
    with pytest.raises(InfeasibleTargetError) as caught:
        router.route("x", accuracy_target=0.99)
    best = caught.value.best_certified
    assert best is not None
    assert router.route("x", accuracy_target=best).certified


def test_best_effort_serves_the_most_accurate_point_and_says_so(router: Router) -> None:
    decision = router.route("x" * 100, accuracy_target=0.99, on_infeasible="best_effort")
    assert not decision.certified
    assert decision.model == "large"
    assert any("Not certified" in reason for reason in decision.reasons)


def test_expected_is_never_certified(router: Router) -> None:
    assert not router.route("x", accuracy_target=0.80, guarantee="expected").certified


def test_expected_meets_the_estimate_where_certified_adds_a_margin(router: Router) -> None:
    expected = router.route("x", accuracy_target=0.82, guarantee="expected").internal_target
    certified = router.route("x", accuracy_target=0.82).internal_target
    assert expected == pytest.approx(0.82)
    assert certified > 0.82


@pytest.mark.parametrize("target", [0, 1, 95, float("nan"), "high", None, True, -0.1])
def test_a_target_that_is_no_fraction_is_refused(router: Router, target: object) -> None:
    with pytest.raises(InvalidTargetError):
        router.route("x", accuracy_target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "  \n", None, 7, "x" * 200_001])
def test_a_query_that_is_none_is_refused(router: Router, text: object) -> None:
    with pytest.raises(InvalidQueryError):
        router.route(text, accuracy_target=0.8)  # type: ignore[arg-type]


def test_an_unknown_word_for_the_promise_is_refused(router: Router) -> None:
    with pytest.raises(SchemaError, match="certified"):
        router.route("x", accuracy_target=0.8, guarantee="sure")  # type: ignore[arg-type]


def test_a_changed_price_voids_the_certificates_but_still_routes(router: Router) -> None:
    changed = router.with_pool(cost_factors={"large": 0.5})
    with pytest.raises(InfeasibleTargetError, match="prices changed"):
        changed.route("x", accuracy_target=0.8)
    decision = changed.route("x" * 100, accuracy_target=0.88, on_infeasible="best_effort")
    assert not decision.certified
    assert {c.model: c.predicted_cost_usd for c in decision.candidates}["large"] == pytest.approx(5e-4)


def test_a_smaller_pool_is_respected_and_voids_the_certificates(router: Router) -> None:
    smaller = router.with_pool(models=["small", "middle"])
    decisions = smaller.route_batch(_texts(200, 8), accuracy_target=0.88, on_infeasible="best_effort")
    assert {decision.model for decision in decisions} <= {"small", "middle"}
    assert not any(decision.certified for decision in decisions)
    with pytest.raises(SchemaError, match="no model named"):
        router.with_pool(models=["huge"])


def test_choose_all_repeats_choose_with_models_missing_too(router: Router) -> None:
    predictions = router.predict(_texts(40, 3))
    for one in (router, router.with_pool(models=["small", "middle"])):
        everything = one.choose_all(predictions)
        assert len(everything) == router.policy.n_points
        for point, choice in enumerate(everything):
            assert np.array_equal(choice, one.choose(predictions, point))


def test_an_empty_batch_gives_no_decisions(router: Router) -> None:
    assert router.route_batch([], accuracy_target=0.8) == []


def test_one_target_a_query_or_one_for_all(router: Router) -> None:
    with pytest.raises(SchemaError, match="2 queries but 1"):
        router.route_batch(["a", "b"], accuracy_target=[0.8])
