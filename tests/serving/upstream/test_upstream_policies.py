"""Breaker, retries, usage and request bodies: the rules without a network."""

from __future__ import annotations

import json
import random
from email.utils import formatdate
from typing import Any

import pytest

from proteus_router.serving.records import ApiShape, PoolModel, Usage
from proteus_router.serving.upstream import (
    Breaker,
    BreakerPolicy,
    RetryPolicy,
    cost_usd,
    upstream_body,
    usage_of,
)
from proteus_router.serving.upstream.bodies import dumps, loads
from proteus_router.serving.upstream.lanes import Lane
from proteus_router.serving.upstream.retry import RetryBudget, retry_after_s

POLICY = BreakerPolicy(in_a_row=3, of_last=8, cooldown_s=10.0, longest_cooldown_s=25.0)


def _fail(breaker: Breaker, times: int, now: float) -> None:
    for _ in range(times):
        assert breaker.enter(now)
        breaker.failure(now)


def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_good_probe() -> None:
    breaker = Breaker(POLICY)
    _fail(breaker, 2, now=0.0)
    assert breaker.state(0.0) == "closed"
    _fail(breaker, 1, now=1.0)
    assert breaker.state(1.0) == "open"
    assert not breaker.enter(10.9)
    assert breaker.wait_s(3.0) == 8.0
    assert breaker.state(11.0) == "half_open"
    assert breaker.available(11.0)
    assert breaker.enter(11.0)
    assert not breaker.available(11.0)  # one probe at a time
    breaker.success()
    assert breaker.state(11.0) == "closed"
    _fail(breaker, 2, now=12.0)
    assert breaker.available(12.0)  # its past is forgotten


def test_a_failed_probe_doubles_the_cooldown_up_to_its_limit() -> None:
    breaker = Breaker(POLICY)
    _fail(breaker, 3, now=0.0)
    for opens_at in (10.0, 30.0, 55.0, 80.0):
        assert not breaker.available(opens_at - 0.1)
        _fail(breaker, 1, now=opens_at)
        assert breaker.state(opens_at) == "open"


def test_a_probe_that_tells_nothing_leaves_the_door_half_open() -> None:
    breaker = Breaker(POLICY)
    _fail(breaker, 3, now=0.0)
    assert breaker.enter(10.0)
    breaker.leave()
    assert breaker.state(10.0) == "half_open"
    assert breaker.available(10.0)


def test_a_breaker_opens_when_half_of_the_last_calls_failed() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        breaker.success()
        breaker.success()
        breaker.failure(0.0)
    assert breaker.state(0.0) == "closed"
    for _ in range(4):
        breaker.failure(0.0)
        breaker.success()
    assert breaker.state(0.0) == "open"


def test_failures_from_before_it_opened_do_not_prolong_it() -> None:
    breaker = Breaker(POLICY)
    _fail(breaker, 3, now=0.0)
    breaker.failure(9.0)
    assert breaker.available(10.0)


def test_a_pause_is_no_failure() -> None:
    breaker = Breaker(POLICY)
    breaker.pause(5.0)
    breaker.pause(2.0)  # an earlier one does not shorten it
    assert not breaker.enter(4.9)
    assert breaker.state(4.9) == "closed"
    assert breaker.wait_s(4.0) == 1.0
    assert breaker.enter(5.0)


def test_backoff_doubles_with_jitter_and_stops_growing() -> None:
    policy, rng = RetryPolicy(first_wait_s=1.0, longest_wait_s=3.0), random.Random(0)
    waits = [[policy.backoff_s(attempt, rng) for _ in range(200)] for attempt in (1, 2, 3, 9)]
    for drawn, full in zip(waits, (1.0, 2.0, 3.0, 3.0), strict=True):
        assert full / 2 <= min(drawn) < 0.55 * full
        assert 0.95 * full < max(drawn) <= full


def test_retries_are_a_share_of_the_calls() -> None:
    budget = RetryBudget(RetryPolicy(budget_share=0.25, budget_reserve=2.0))
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(40):
        budget.deposit()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    taken = 0
    for _ in range(100):
        budget.deposit()
        taken += budget.take()
    assert taken == 25


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e9"}, 3600.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "20", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": formatdate(1_000_090, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, wall_clock_s=1_000_000.0) == expected


@pytest.mark.parametrize(
    ("api", "usage", "expected"),
    [
        ("chat", {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}, Usage(2, 3)),
        ("responses", {"input_tokens": 2, "output_tokens": 3}, Usage(2, 3)),
        ("messages", {"input_tokens": 2, "output_tokens": 3}, Usage(2, 3)),
        (
            "messages",
            {
                "input_tokens": 2,
                "output_tokens": 3,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 5,
            },
            Usage(17, 3),
        ),
        ("messages", {"input_tokens": 2, "output_tokens": 3, "cache_read_input_tokens": None}, Usage(2, 3)),
        ("chat", {"prompt_tokens": 2}, None),
        ("chat", {"input_tokens": 2, "output_tokens": 3}, None),
        ("chat", {"prompt_tokens": -2, "completion_tokens": 3}, None),
        ("chat", {"prompt_tokens": True, "completion_tokens": 3}, None),
        ("chat", {"prompt_tokens": "2", "completion_tokens": 3}, None),
        ("chat", None, None),
        ("chat", [], None),
    ],
)
def test_usage_as_each_api_reports_it(api: ApiShape, usage: Any, expected: Usage | None) -> None:
    assert usage_of(api, {"usage": usage}) == expected


def test_usage_of_something_else_is_unknown() -> None:
    assert usage_of("chat", [1]) is None
    assert usage_of("chat", {}) is None


def _model(api: ApiShape = "chat", **changes: Any) -> PoolModel:
    return PoolModel("pool", "m", api, "http://h/v1/", "sk-secret", "up-1", 2e-6, 8e-6, **changes)


def test_cost_is_tokens_times_price() -> None:
    assert cost_usd(_model(), Usage(1_000, 100)) == pytest.approx(0.0028)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_upstream_gets_its_own_name_and_nothing_of_the_gateways(as_bytes: bool) -> None:
    body = {
        "messages": [{"role": "user", "content": "x", "proteus": "stays"}],
        "model": "proteus/premium",
        "proteus": {"accuracy_target": 0.9},
        "unknown_field": {"model": "kept", "big": 2**60, "f": 1.0},
    }
    sent, hidden = upstream_body(_model(), json.dumps(body).encode() if as_bytes else body, stream=False)
    assert json.loads(sent) == {
        "messages": [{"role": "user", "content": "x", "proteus": "stays"}],
        "model": "up-1",
        "unknown_field": {"model": "kept", "big": 2**60, "f": 1.0},
    }
    assert not hidden
    assert body["proteus"] == {"accuracy_target": 0.9}  # the caller's own copy is left alone


@pytest.mark.parametrize(
    ("api", "given", "sent", "hidden"),
    [
        ("chat", None, {"include_usage": True}, True),
        ("chat", {"include_usage": False, "x": 1}, {"include_usage": True, "x": 1}, True),
        ("chat", {"include_usage": True}, {"include_usage": True}, False),
        ("messages", None, None, False),
        ("responses", {"include_obfuscation": False}, {"include_obfuscation": False}, False),
    ],
)
def test_a_chat_stream_asks_for_usage(api: ApiShape, given: Any, sent: Any, hidden: bool) -> None:
    body = {"model": "x"} if given is None else {"model": "x", "stream_options": given}
    payload, hide = upstream_body(_model(api), body, stream=True)
    content = json.loads(payload)
    assert content["stream"] is True
    assert content.get("stream_options") == sent
    assert hide is hidden


def test_json_is_read_and_written_without_loss() -> None:
    for text in (b'{"a":"\\ud83d"}', b'{"a":1.5,"b":18446744073709551615}'):
        assert json.loads(dumps(loads(text))) == json.loads(text)
    assert dumps({"big": 10**30}) == b'{"big":1000000000000000000000000000000}'
    for bad in (b"NaN", b'{"a":Infinity}', b"{", b""):
        with pytest.raises(ValueError):
            loads(bad)


def test_headers_defaults_under_the_callers_under_the_pools() -> None:
    model = _model("messages", headers={"X-Team": "pool"})
    lane = Lane.of(model, BreakerPolicy(), RetryPolicy())
    assert lane.headers["anthropic-version"] == "2023-06-01"
    given = {
        "anthropic-version": "2099-01-01",
        "anthropic-beta": "tools",
        "X-TEAM": "caller",
        "X-Api-Key": "sk-caller",
        "Authorization": "Bearer sk-caller",
        "Content-Length": "3",
        "Host": "elsewhere",
    }
    sent = lane.headers_with(given)
    assert dict(sent) == {
        "anthropic-version": "2099-01-01",
        "anthropic-beta": "tools",
        "Content-Type": "application/json",
        "x-api-key": "sk-secret",
        "X-Team": "pool",
    }
    assert str(lane.url) == "http://h/v1/messages"


@pytest.mark.parametrize(("api", "path"), [("chat", "/v1/chat/completions"), ("responses", "/v1/responses")])
def test_an_openai_upstream_gets_a_bearer_key(api: ApiShape, path: str) -> None:
    lane = Lane.of(_model(api), BreakerPolicy(), RetryPolicy())
    assert lane.headers["Authorization"] == "Bearer sk-secret"
    assert lane.url.path == path
