"""Shadow mode: a second router decides beside the live one, nothing of it is served, and both are counted."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proteus_router.errors import ArtifactNotFoundError
from proteus_router.routing.points import PointPolicy
from proteus_router.routing.router import Router
from proteus_router.serving.app.shadow import Shadow
from tests.serving.app.helpers import EASY, HARD, ROUTER, Harness, make_settings


def shadow_of(router: Router) -> Shadow:
    return Shadow(router, min_known_words=0.5, rng=random.Random(0))


def test_a_twin_agrees_and_the_answers_are_the_live_ones() -> None:
    alone, shadowed = Harness(), Harness()
    shadowed.gateway.shadow = shadow_of(replace(ROUTER, _plans={}))
    texts = [EASY, HARD] * 10
    plain = [alone.chat(text, model="proteus/economy").headers["x-proteus-model"] for text in texts]
    beside = [shadowed.chat(text, model="proteus/economy").headers["x-proteus-model"] for text in texts]
    assert plain == beside
    assert len(shadowed.upstream.calls) == len(texts)
    tally = shadowed.gateway.shadow.tallies["economy"]
    assert tally.decisions == len(texts)
    assert tally.same_model == len(texts)
    assert tally.shadow_cost_usd == tally.live_cost_usd


def test_another_router_is_told_apart() -> None:
    gateway = Harness()
    always_large = PointPolicy.from_models(np.full(ROUTER.policy.n_points, 2), 3)
    gateway.gateway.shadow = shadow_of(replace(ROUTER, policy=always_large, _plans={}))
    for _ in range(10):
        gateway.chat(EASY, model="proteus/economy")
    tally = gateway.gateway.shadow.tallies["economy"]
    assert (tally.decisions, tally.same_model) == (10, 0)
    assert tally.shadow_cost_usd > tally.live_cost_usd
    text = gateway.get("/metrics").body.decode()
    assert 'proteus_shadow_decisions_total{model="other",tier="economy"} 10.0' in text


def test_named_models_and_failures_are_not_shadowed_and_unknown_models_are_counted() -> None:
    gateway = Harness()
    shadow = gateway.gateway.shadow = shadow_of(replace(ROUTER, models=("a", "b", "c"), _plans={}))
    gateway.chat(EASY, model="small")
    assert not shadow.tallies
    gateway.chat(EASY, model="proteus/economy")
    assert shadow.tallies["economy"].refused == 1
    assert shadow.view("economy")["decisions"] == 0


def test_a_shadow_that_is_not_there_is_refused_at_start_and_at_a_reload(tmp_path: Path) -> None:
    wrong = make_settings(shadow={"router": str(tmp_path / "none")})
    with pytest.raises(ArtifactNotFoundError):
        Harness(wrong)
    gateway = Harness(load=lambda: (wrong, ROUTER))
    with pytest.raises(ArtifactNotFoundError):
        asyncio.run(gateway.gateway.reload())
    assert gateway.chat(EASY).status == 200
