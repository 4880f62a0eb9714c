"""Exploration: off by default, within the floor's room, and with the probability that it records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from proteus_router.errors import ConfigError
from proteus_router.routing.points import PointPolicy
from proteus_router.types import Predictions
from tests.serving.app.helpers import EASY, HARD, ROUTER, Harness, make_settings

MIDDLING = "x" * 60


def gateway_with(share: float, **tier: Any) -> Harness:
    tiers = {"standard": {"accuracy_target": 0.80, "exploration": {"share": share}, **tier}}
    return Harness(make_settings(tiers=tiers, routing={"sessions": {"derive": False}}))


def test_by_default_nothing_is_explored() -> None:
    gateway = Harness()
    for _ in range(60):
        gateway.chat(HARD)
    assert {record.model for record in gateway.store.records} == {"large"}
    assert {record.propensity for record in gateway.store.records} == {1.0}


@pytest.mark.parametrize("text", [EASY, MIDDLING])
def test_what_is_recorded_is_the_probability(text: str) -> None:
    gateway = gateway_with(0.3)
    n = 3_000
    for _ in range(n):
        assert gateway.chat(text).status == 200
    records = gateway.store.records
    found = Counter(record.model for record in records)
    chances = {candidate["model"]: candidate["propensity"] for candidate in records[0].candidates}
    assert sum(chances.values()) == pytest.approx(1.0)
    for model, chance in chances.items():
        assert found[model] / n == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5 + 1e-9)
    assert all(record.propensity == pytest.approx(chances[record.model]) for record in records)
    assert len([model for model, chance in chances.items() if chance > 0]) > 1


def test_the_predicted_mean_stays_at_the_floor() -> None:
    gateway = gateway_with(0.2)
    for length in range(1, 101, 3):
        for _ in range(4):
            gateway.chat("x" * length)
    for record in gateway.store.records:
        seen = record.candidates
        base = max(seen, key=lambda candidate: candidate["propensity"])
        worst = min(candidate["predicted_score"] for candidate in seen if candidate["propensity"] > 0)
        assert record.internal_target is not None
        room = max(0.0, record.internal_target - 0.80) / 0.2
        # The lowest-scored of two operating points may be the base of a draw.
        drawn = [c["predicted_score"] for c in seen if c["propensity"] >= 0.2]
        assert worst >= min([base["predicted_score"], *drawn]) - room - 1e-9


def test_a_tried_model_is_not_certified_and_says_why() -> None:
    gateway = gateway_with(0.5)
    answers = [gateway.chat(EASY) for _ in range(80)]
    tried = [
        record for record in gateway.store.records if any("Explored" in reason for reason in record.reasons)
    ]
    assert tried
    assert not any(record.certified for record in tried)
    assert {answer.status for answer in answers} == {200}


class _MiddleIsWorse:
    """Predicts of the middle model less than of the small one: no price of cost makes it the choice."""

    def predict(self, texts: list[str]) -> Predictions:
        known = ROUTER.predictor.predict(texts)
        scores = known.scores.copy()
        scores[:, 1] = scores[:, 0] - 0.01
        return replace(known, scores=scores)


def test_only_what_the_router_would_take_at_some_target_is_tried() -> None:
    tiers = {"standard": {"accuracy_target": 0.60, "exploration": {"share": 0.5}}}
    settings = make_settings(tiers=tiers, routing={"sessions": {"derive": False}})
    assert isinstance(ROUTER.policy, PointPolicy)
    policy = replace(
        ROUTER.policy, fixed=np.full(ROUTER.policy.n_points, -1)
    )  # nor is there "always the middle one"
    router = replace(ROUTER, predictor=_MiddleIsWorse(), policy=policy, _plans={})
    gateway = Harness(settings, router=router)
    for _ in range(200):
        gateway.chat("x" * 10)
    assert {record.model for record in gateway.store.records} == {"small", "large"}


def test_a_model_that_can_not_serve_is_not_tried() -> None:
    gateway = gateway_with(0.5)
    gateway.upstream.broken.add("large")
    for _ in range(80):
        gateway.chat(EASY)
    assert "large" not in {record.model for record in gateway.store.records}
    for record in gateway.store.records:
        assert sum(candidate["propensity"] for candidate in record.candidates) == pytest.approx(1.0)


def test_a_named_model_and_an_unknown_text_are_left_alone() -> None:
    gateway = gateway_with(0.5)
    assert {gateway.chat(EASY, model="small").headers["x-proteus-model"] for _ in range(20)} == {"small"}
    assert {gateway.chat("quite unknown words").headers["x-proteus-model"] for _ in range(20)} == {"large"}


@pytest.mark.parametrize("share", [-0.1, 0.6, "x"])
def test_shares_that_are_none_are_refused(share: Any) -> None:
    with pytest.raises(ConfigError):
        gateway_with(share)
