"""Audits of seldom asked models: drawn more often, by what went before alone, and never without bound."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from proteus_router.control import ModelTraffic

MODELS = ("often", "rare", "never", "seldom")


def _serve(
    traffic: ModelTraffic, n: int, *, rate: float, evenness: float
) -> tuple[Counter[str], dict[str, float]]:
    """Requests and expected audits by model of `n` requests: 1% go to rare, 5% to seldom."""
    rng = np.random.default_rng(5)
    requests: Counter[str] = Counter()
    audits = dict.fromkeys(MODELS, 0.0)
    for model in rng.choice(MODELS, n, p=[0.94, 0.01, 0.0, 0.05]).tolist():
        requests[model] += 1
        audits[model] += traffic.audit_rate(model, rate, models=len(MODELS), evenness=evenness)
        traffic.answered(model, models=len(MODELS))
    return requests, audits


def test_each_model_asked_gets_its_part_of_an_even_share() -> None:
    traffic = ModelTraffic()
    _serve(traffic, 5_000, rate=0.05, evenness=0.5)  # which forgets the even start
    requests, audits = _serve(traffic, 20_000, rate=0.05, evenness=0.5)
    even = 0.05 * 20_000 / len(MODELS)
    assert audits["often"] == pytest.approx(0.05 * requests["often"])
    for model in ("rare", "seldom"):
        assert audits[model] == pytest.approx(0.5 * even, rel=0.15)
        assert audits[model] > 2 * 0.05 * requests[model]
    assert sum(audits.values()) < 1.5 * 0.05 * 20_000


def test_without_evenness_all_are_drawn_alike() -> None:
    requests, audits = _serve(ModelTraffic(), 5_000, rate=0.2, evenness=0.0)
    assert {model: audits[model] / requests[model] for model in requests} == pytest.approx(
        dict.fromkeys(requests, 0.2)
    )


def test_rates_stay_between_the_usual_one_and_one() -> None:
    traffic = ModelTraffic()
    assert traffic.audit_rate("rare", 0.2, models=4, evenness=1.0) == 0.2  # nothing is known yet
    for _ in range(1_000_000):
        traffic.answered("often", models=4)
    assert traffic.audit_rate("rare", 0.2, models=4, evenness=1.0) == 1.0
    assert traffic.audit_rate("rare", 0.2, models=4, evenness=0.0) == 0.2
    assert traffic.audit_rate("often", 0.2, models=4, evenness=1.0) == 0.2
    assert traffic.audit_rate("rare", 1.0, models=4, evenness=1.0) == 1.0


def test_shares_follow_the_traffic_and_forget() -> None:
    traffic = ModelTraffic()
    for _ in range(5_000):
        traffic.answered("a", models=2)
    assert traffic.share_of("a", models=2) > 0.99
    for _ in range(5_000):
        traffic.answered("b", models=2)
    assert traffic.share_of("a", models=2) < 0.01
    assert traffic.share_of("a", models=2) + traffic.share_of("b", models=2) == pytest.approx(1.0)
