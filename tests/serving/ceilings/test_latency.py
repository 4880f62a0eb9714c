"""A bound on the time to the first token: slow models are left, tried again, and what gives way is said."""

from __future__ import annotations

from typing import Any

import pytest

from proteus_router.errors import UpstreamTimeoutError
from proteus_router.serving.ceilings import FirstBytes
from tests.serving.app.helpers import EASY, HARD, Harness, make_settings


def gateway_with(**tier: Any) -> Harness:
    """One tier; easy texts go to the small model."""
    return Harness(make_settings(tiers={"standard": {"accuracy_target": 0.70, **tier}}))


def ask(gateway: Harness, times: int, text: str = EASY, **fields: Any) -> list[str]:
    """The models that answered."""
    answers = [gateway.chat(text, **fields) for _ in range(times)]
    assert [answer.status for answer in answers] == [200] * times
    return [answer.headers["x-proteus-model"] for answer in answers]


def test_the_quantile_is_that_of_the_last_minute() -> None:
    seen = FirstBytes()
    for n in range(100):
        seen.saw("m", 9.0, now=0.0)
        seen.saw("m", (n + 1) / 100, now=100.0)
    assert seen.p95_s("m", now=101.0) == pytest.approx(0.95)
    assert seen.p95_s("other", now=101.0) is None


def test_few_answers_say_nothing() -> None:
    seen = FirstBytes()
    for _ in range(9):
        seen.saw("m", 9.0, now=0.0)
    assert seen.p95_s("m", now=1.0) is None
    seen.saw("m", 9.0, now=1.0)
    assert seen.p95_s("m", now=1.3) == 9.0


def test_a_slow_model_is_left_and_tried_again_after_a_minute() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    assert set(ask(gateway, 12)) == {"small"}
    gateway.upstream.slow["small"] = 3.0
    assert ask(gateway, 6)[-1] == "middle"  # the cheapest of those that do as well and are quick
    assert set(ask(gateway, 20)) == {"middle"}
    gateway.upstream.slow.clear()
    gateway.upstream.took_s = 0.0
    gateway.clock.now += 61.0
    tried: list[str] = []
    for _ in range(12):  # one request a second tries it, the others stay where they are
        tried += ask(gateway, 5)
        gateway.clock.now += 1.0
    assert tried[:5] == ["small", *["middle"] * 4]
    assert tried.count("small") == 10 + 5 + 5  # ten answers tell that it is quick again
    assert set(ask(gateway, 20)) == {"small"}


def test_a_model_that_is_still_slow_gets_no_more_than_a_request_a_second() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    gateway.upstream.slow["small"] = 3.0
    gateway.upstream.took_s = 0.0
    ask(gateway, 20)
    gateway.clock.now += 61.0
    seen: list[str] = []
    for _ in range(30):
        seen += ask(gateway, 5)
        gateway.clock.now += 1.0
    assert seen.count("small") == 10  # then it is known to be slow


def test_every_request_that_goes_out_is_a_try_and_a_mere_question_is_none() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    sessions = [{"x-proteus-session-id": name} for name in "ab"]
    for session in sessions:
        assert gateway.chat(EASY, headers=session).headers["x-proteus-model"] == "small"
    gateway.upstream.slow["small"] = 3.0
    gateway.upstream.took_s = 0.0
    ask(gateway, 20)
    gateway.upstream.slow.clear()
    gateway.clock.now += 61.0
    body = {"model": "proteus", "messages": [{"role": "user", "content": EASY}]}
    assert [gateway.post("/v1/route", body).json()["model"] for _ in range(3)] == ["small"] * 3
    # A session's model is tried like any other: the first of them takes this second's turn.
    answers = [gateway.chat(EASY, headers=session) for session in sessions]
    assert [answer.headers["x-proteus-model"] for answer in answers] == ["small", "middle"]


def test_the_first_byte_of_a_whole_answer_says_nothing_of_a_stream() -> None:
    seen = FirstBytes()
    for _ in range(20):
        seen.saw("m", 9.0, now=0.0)
        seen.saw("m", 0.3, now=0.0, streamed=True)
    assert not seen.quick("m", 1.0, now=1.0)
    assert seen.quick("m", 1.0, now=1.0, streamed=True)
    assert sorted(seen.known(now=1.0)) == [("m", False, 9.0), ("m", True, 0.3)]


def test_who_takes_over_from_a_model_that_failed_is_quick_too() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    gateway.upstream.slow["middle"] = 3.0
    for _ in range(12):
        gateway.chat(EASY, model="middle")
    gateway.upstream.script["small"] = UpstreamTimeoutError("small: silent.", model="small")
    assert ask(gateway, 1) == ["large"]  # middle is cheaper and would do, but it is slow


def test_without_a_bound_nothing_is_left() -> None:
    gateway = gateway_with()
    gateway.upstream.slow["small"] = 30.0
    assert set(ask(gateway, 30)) == {"small"}


def test_the_callers_bound_goes_before_the_tiers() -> None:
    gateway = gateway_with(max_latency_s=0.5)
    gateway.upstream.slow["small"] = 0.8
    ask(gateway, 12)
    assert ask(gateway, 1) == ["middle"]
    assert ask(gateway, 1, proteus={"max_latency_s": 2.0}) == ["small"]


@pytest.mark.parametrize("wrong", [0, -1, "1", True, 1e9, []])
def test_a_bound_that_is_none_is_refused(wrong: Any) -> None:
    answer = gateway_with().chat(EASY, proteus={"max_latency_s": wrong})
    assert answer.status == 400
    assert "max_latency_s" in answer.json()["error"]["message"]


def test_by_default_the_floor_is_kept_and_latency_gives_way() -> None:
    gateway = gateway_with(max_latency_s=1.0, accuracy_target=0.80)
    gateway.upstream.slow["large"] = 3.0  # on hard texts nobody else keeps the floor
    ask(gateway, 12, HARD)
    answer = gateway.chat(HARD)
    assert answer.headers["x-proteus-model"] == "large"
    assert answer.headers["x-proteus-gave-way"] == "latency"
    assert any("latency gave way" in reason for reason in gateway.store.last.reasons)


def test_a_tier_may_prefer_latency() -> None:
    gateway = gateway_with(
        max_latency_s=1.0, accuracy_target=0.80, precedence=["latency", "accuracy", "budget"]
    )
    gateway.upstream.slow["large"] = 3.0
    ask(gateway, 12, HARD)
    answer = gateway.chat(HARD)
    assert answer.headers["x-proteus-model"] == "middle"  # the best of the quick ones
    assert answer.headers["x-proteus-gave-way"] == "accuracy"
    assert answer.headers["x-proteus-certified"] == "false"


def test_nothing_is_said_where_nothing_gives_way() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    assert "x-proteus-gave-way" not in gateway.chat(EASY).headers


def test_metrics_show_the_quantile() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    ask(gateway, 12)
    text = gateway.get("/metrics").body.decode()
    assert 'proteus_model_first_byte_p95_seconds{answer="whole",model="small"} 0.25' in text


def test_a_session_leaves_a_model_that_became_slow() -> None:
    gateway = gateway_with(max_latency_s=1.0)
    session = {"x-proteus-session-id": "s"}
    assert gateway.chat(EASY, headers=session).headers["x-proteus-model"] == "small"
    gateway.upstream.slow["small"] = 3.0
    ask(gateway, 12)
    assert gateway.chat(EASY, headers=session).headers["x-proteus-model"] == "middle"
