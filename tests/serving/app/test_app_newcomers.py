"""Newcomers: models that the router does not know, tried within the floor's room and graded whenever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from proteus_router.errors import ConfigError, UpstreamConnectError
from proteus_router.serving.app.newcomers import share_of_newcomers
from tests.serving.app.helpers import EASY, HARD, POOL, Harness, make_settings, model_entry

FLOOR = 0.80
AUDITS = {"share": 0.1, "keep_text": True}


def gateway_with(share: float = 0.5, **tier: Any) -> Harness:
    return Harness(settings_with(share, **tier))


def settings_with(
    share: float = 0.5,
    *,
    newcomer: str = "fresh",
    models: Sequence[dict[str, Any]] | None = None,
    derive_sessions: bool = False,
    **tier: Any,
) -> Any:
    standard = {
        "accuracy_target": FLOOR,
        "exploration": {"share": share, "newcomers": [newcomer]},
        "audits": AUDITS,
        **tier,
    }
    return make_settings(
        model_list=[*(model_entry(name) for name in POOL), model_entry("fresh")]
        if models is None
        else models,
        tiers={"standard": standard, "other": {"accuracy_target": 0.70}},
        routing={"sessions": {"derive": derive_sessions}},
    )


def test_a_newcomer_is_tried_as_often_as_the_floor_has_room_for_wrong_answers() -> None:
    gateway, n = gateway_with(), 4_000
    for _ in range(n):
        assert gateway.chat(EASY).status == 200
    records = gateway.store.records
    target = records[0].internal_target
    assert target is not None
    share = (target - FLOOR) / target
    assert 0.0 < share < 0.5
    tried = [record for record in records if record.model == "fresh"]
    assert len(tried) / n == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)
    for record in tried[:5]:
        chances = {candidate["model"]: candidate["propensity"] for candidate in record.candidates}
        assert record.propensity == chances["fresh"] == pytest.approx(share)
        assert sum(chances.values()) == pytest.approx(1.0)
        assert any("fresh is new" in reason for reason in record.reasons)
        assert not record.certified
    # What is known models' own, falls by the same share.
    others = [record for record in records if record.model != "fresh"]
    assert all(record.certified for record in others)
    assert {record.model for record in others} == {"small", "middle"} or len(others) == n - len(tried)


def test_nothing_is_predicted_of_a_newcomer_and_every_try_is_drawn_for_grading_with_its_text() -> None:
    gateway = gateway_with()
    for _ in range(600):
        gateway.chat(EASY)
    tried = [record for record in gateway.store.records if record.model == "fresh"]
    others = [record for record in gateway.store.records if record.model != "fresh"]
    assert tried
    for record in tried:
        assert record.predicted_score is None
        assert (record.audit_probability, record.audited, record.prompt) == (1.0, True, EASY)
        known = {candidate["model"]: candidate["predicted_score"] for candidate in record.candidates}
        assert known["fresh"] is None
    assert {record.audit_probability for record in others} == {0.1}
    assert {record.prompt for record in others if not record.audited} == {None}


def test_a_newcomer_costs_what_as_many_tokens_of_it_cost() -> None:
    gateway = gateway_with()
    for _ in range(600):
        gateway.chat(EASY)
    record = next(record for record in gateway.store.records if record.model == "fresh")
    known = {candidate["model"]: candidate for candidate in record.candidates}
    base = max((c for c in record.candidates if c["model"] != "fresh"), key=lambda c: c["propensity"])
    prices = {entry.name: entry.usd_per_token for entry in gateway.gateway.live.entries.values()}
    fresh = gateway.gateway.live.newcomers["fresh"].usd_per_token
    expected = base["predicted_cost_usd"] * fresh / prices[base["model"]]
    assert known["fresh"]["predicted_cost_usd"] == pytest.approx(expected)


def test_where_every_known_model_is_free_a_thousand_tokens_are_supposed() -> None:
    free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    models = [*(model_entry(name, **free) for name in POOL), model_entry("fresh")]
    gateway = Harness(settings_with(models=models))
    answer = gateway.post("/v1/route", {"model": "proteus", "messages": [{"role": "user", "content": EASY}]})
    known = {candidate["model"]: candidate for candidate in answer.json()["candidates"]}
    assert known["fresh"]["predicted_cost_usd"] == pytest.approx(2e-3)


def test_without_room_above_the_floor_there_are_no_tries() -> None:
    assert share_of_newcomers(0.1, internal_target=0.79, floor=0.80) == 0.0
    assert share_of_newcomers(0.01, internal_target=0.90, floor=0.80) == 0.01


def test_a_tier_without_room_says_so_and_tries_nothing() -> None:
    gateway = gateway_with(guarantee="expected")
    assert any("newcomers are not tried" in warning for warning in gateway.gateway.live.warnings)
    for _ in range(200):
        gateway.chat(EASY)
    assert "fresh" not in {record.model for record in gateway.store.records}
    assert not any("newcomers are not tried" in warning for warning in gateway_with().gateway.live.warnings)


def test_a_newcomer_that_fails_leaves_the_request_to_the_choice_and_nothing_is_learned() -> None:
    gateway = gateway_with()
    gateway.upstream.script = {"fresh": UpstreamConnectError("no", model="fresh", attempts=1)}
    for _ in range(400):
        assert gateway.chat(EASY).status == 200
    stood_in = [r for r in gateway.store.records if any("fresh is new" in reason for reason in r.reasons)]
    assert stood_in
    for record in stood_in:
        assert record.model != "fresh"
        assert record.propensity == 0.0
        assert not record.certified


def test_other_targets_other_tiers_and_named_models_never_see_a_newcomer() -> None:
    gateway = gateway_with()
    for _ in range(200):
        gateway.chat(EASY, model="proteus/other")
        gateway.chat(EASY, model="small")
        gateway.chat(EASY, extra_body=None, proteus={"accuracy_target": 0.70})
        gateway.chat("quite unknown words")
    assert "fresh" not in {record.model for record in gateway.store.records}
    answer = gateway.chat(EASY, model="fresh")
    assert answer.status == 404


def test_what_a_request_may_cost_holds_for_a_newcomer_too() -> None:
    dear = model_entry("fresh", input_cost_per_token=1.0, output_cost_per_token=1.0)
    gateway = Harness(settings_with(models=[*(model_entry(name) for name in POOL), dear]))
    for _ in range(400):
        assert gateway.chat(EASY, proteus={"max_cost_usd": 1e-2}).status == 200
    assert "fresh" not in {record.model for record in gateway.store.records}
    for _ in range(400):
        gateway.chat(EASY, proteus={"max_cost_usd": 1e3})
    assert "fresh" in {record.model for record in gateway.store.records}


def test_a_conversation_that_a_newcomer_began_goes_on_with_a_known_model() -> None:
    gateway = Harness(settings_with(derive_sessions=True))
    for number in range(400):
        headers = {"x-proteus-session-id": f"s{number}"}
        first = gateway.chat(EASY, headers=headers)
        second = gateway.chat(HARD, headers=headers)
        assert second.status == 200
        if first.headers["x-proteus-model"] == "fresh":
            assert second.headers["x-proteus-model"] == "large"
            return
    raise AssertionError("no newcomer was tried")


def test_route_shows_the_newcomer_among_the_candidates() -> None:
    gateway = gateway_with()
    answer = gateway.post("/v1/route", {"model": "proteus", "messages": [{"role": "user", "content": EASY}]})
    found = {candidate["model"]: candidate for candidate in answer.json()["candidates"]}
    assert found["fresh"]["predicted_score"] is None
    assert found["fresh"]["propensity"] > 0
    assert found["fresh"]["eligible"]


def test_a_newcomer_that_the_router_knows_by_now_is_an_ordinary_model() -> None:
    gateway = Harness(settings_with(newcomer="middle", models=[model_entry(name) for name in POOL]))
    assert not gateway.gateway.live.newcomers
    assert any("no newcomer any more" in warning for warning in gateway.gateway.live.warnings)


@pytest.mark.parametrize(
    ("tier", "said"),
    [
        ({"audits": {"share": 0.0}}, "newcomers needs"),
        ({"audits": {"share": 0.5}}, "newcomers needs"),
        ({"exploration": {"share": 0.0, "newcomers": ["fresh"]}}, "newcomers needs"),
    ],
)
def test_settings_under_which_nothing_would_be_learned_are_refused(tier: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_with(**tier)


def test_a_newcomer_must_be_in_the_model_list_and_have_a_price() -> None:
    with pytest.raises(ConfigError, match="model_list does not have"):
        gateway_with(exploration={"share": 0.1, "newcomers": ["elsewhere"]})
    unpriced = model_entry("fresh", input_cost_per_token=None, output_cost_per_token=None)
    settings = settings_with(models=[*(model_entry(name) for name in POOL), unpriced])
    with pytest.raises(ConfigError, match="has no prices"):
        Harness(settings)
    with pytest.raises(ConfigError, match=r"exploration\.newcomers"):
        Harness(make_settings(model_list=[*(model_entry(name) for name in POOL), model_entry("fresh")]))
