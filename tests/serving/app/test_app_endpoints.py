"""The endpoints beside the model calls: what they answer, and errors in the shape of each API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.routing import Route

from proteus_router.errors import UpstreamRateLimitedError, UpstreamTimeoutError
from proteus_router.serving.app import openapi_document
from tests.serving.app.helpers import EASY, HARD, MODELS, POOL, ROUTER, Harness, make_settings

CHAT = {"model": "proteus/economy", "messages": [{"role": "user", "content": EASY}]}


def test_models_lists_alias_tiers_and_pool(gateway: Harness) -> None:
    listed = gateway.get("/v1/models").json()
    assert listed["object"] == "list"
    by_id = {entry["id"]: entry for entry in listed["data"]}
    assert list(by_id) == ["proteus", "proteus/economy", "proteus/standard", "proteus/relaxed", *POOL]
    assert by_id["proteus"]["accuracy_target"] == by_id["proteus/standard"]["accuracy_target"] == 0.8
    assert by_id["small"]["apis"] == ["chat", "messages", "responses"]
    assert all(entry["object"] == "model" and isinstance(entry["created"], int) for entry in listed["data"])


def test_route_explains_and_calls_nothing(gateway: Harness) -> None:
    gateway.upstream.broken.add("small")
    answer = gateway.post("/v1/route", CHAT)
    told = answer.json()
    assert (answer.status, told["model"], told["certified"]) == (200, "middle", False)
    assert (told["tier"], told["accuracy_target"], told["accuracy_target_from"]) == ("economy", 0.7, "tier")
    assert "middle is the cheapest model predicted to do as well" in told["reasons"][-1]
    by_name = {candidate["model"]: candidate for candidate in told["candidates"]}
    assert (by_name["small"]["eligible"], by_name["large"]["eligible"]) == (False, True)
    assert "breaker" in by_name["small"]["reason"]
    assert by_name["large"]["reason"] is None
    assert told["certificate"]["lower_bound"] >= 0.7
    assert told["certificate"]["stale"] is False
    assert (gateway.upstream.calls, gateway.store.records) == ([], [])
    assert EASY not in answer.body.decode()


@pytest.mark.parametrize(
    "body",
    [
        {"model": "proteus/economy", "input": EASY},
        {"model": "proteus/economy", "api": "responses", "input": [{"role": "user", "content": EASY}]},
        {"model": "proteus/economy", "api": "messages", "messages": [{"role": "user", "content": EASY}]},
        CHAT,
    ],
)
def test_route_takes_every_shape(gateway: Harness, body: dict[str, Any]) -> None:
    assert gateway.post("/v1/route", body).json()["model"] == "small"


def test_route_refuses_what_a_call_would_refuse(gateway: Harness) -> None:
    infeasible = gateway.post("/v1/route", {**CHAT, "proteus": {"accuracy_target": 0.99}})
    assert infeasible.status == 422
    assert infeasible.json()["error"]["best_certified"] == ROUTER.target_map.certified_range["max_target"]
    assert gateway.post("/v1/route", {**CHAT, "api": "smoke"}).status == 400
    gateway.upstream.broken = set(MODELS)
    assert gateway.post("/v1/route", CHAT).status == 503


def test_a_decision_can_be_read_as_soon_as_it_was_made(gateway: Harness) -> None:
    made = gateway.chat(EASY, model="proteus/economy")
    read = gateway.get("/v1/decisions/" + made.headers["x-proteus-decision-id"]).json()
    assert read["model"] == "small"
    assert read["cost_usd"] == pytest.approx(float(made.headers["x-proteus-cost-usd"]))
    assert {candidate["model"] for candidate in read["candidates"]} == set(MODELS)
    for unknown in ("dec_0", "x" * 5_000, "%F0%9F%98%80", "\N{GRINNING FACE}"):
        assert gateway.get("/v1/decisions/" + unknown).status == 404


def test_feedback_for_one_and_for_many(gateway: Harness) -> None:
    one = gateway.post("/v1/feedback", {"decision_id": "dec_1", "score": 1, "comment": "right"})
    assert one.json() == {
        "object": "proteus.feedback",
        "decision_id": "dec_1",
        "source": "user",
        "status": "stored",
        "error": None,
    }
    item = gateway.store.feedback[0]
    assert (item.score, item.source, item.comment, item.key_id) == (1.0, "user", "right", "anonymous")
    many = gateway.post(
        "/v1/feedback", [{"decision_id": f"dec_{n}", "score": 0.5, "source": "judge"} for n in range(1_000)]
    )
    assert [result["status"] for result in many.json()["data"]] == ["stored"] * 1_000
    assert len(gateway.store.feedback) == 1_001


@pytest.mark.parametrize(
    "body",
    [
        [],
        [{"decision_id": "d", "score": 1}] * 1_001,
        {"decision_id": "d"},
        {"score": 1},
        {"decision_id": "d", "score": 1.01},
        {"decision_id": "d", "score": -1},
        {"decision_id": "d", "score": True},
        {"decision_id": "d", "score": "1"},
        {"decision_id": "d", "score": 10**400},
        {"decision_id": 3, "score": 1},
        {"decision_id": "d", "score": 1, "scores": 1},
        {"decision_id": "d", "score": 1, "comment": 3},
        "d",
        None,
        [3],
    ],
)
def test_feedback_of_the_wrong_kind_is_400(gateway: Harness, body: Any) -> None:
    assert gateway.post("/v1/feedback", json.dumps(body).encode()).status == 400
    assert not gateway.store.feedback


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/route"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"model": NaN}',
        b'{"model": 3}',
        b"{}",
        b'{"model":"proteus"}x',
    ],
)
def test_bodies_that_are_no_request_are_400(gateway: Harness, path: str, body: bytes) -> None:
    answer = gateway.post(path, body)
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert not gateway.upstream.calls


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": "hi"}),
        ("/v1/chat/completions", {"messages": ["hi"]}),
        ("/v1/chat/completions", {"messages": [{"content": "hi"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 3}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [3]}]}),
        ("/v1/chat/completions", {}),
        ("/v1/responses", {"input": 3}),
        ("/v1/responses", {"input": []}),
        ("/v1/responses", {"input": "x", "previous_response_id": 3}),
        ("/v1/messages", {"messages": {}, "max_tokens": 5}),
        ("/v1/messages", {"system": 3, "messages": [{"role": "user", "content": "x"}]}),
    ],
)
def test_messages_of_the_wrong_kind_are_400(gateway: Harness, path: str, body: dict[str, Any]) -> None:
    assert gateway.post(path, {"model": "proteus", **body}).status == 400


def test_anthropic_clients_get_anthropics_errors(gateway: Harness) -> None:
    body = {"model": "proteus", "max_tokens": 9, "messages": [{"role": "user", "content": HARD}]}
    shapes = {
        400: gateway.post("/v1/messages", b"{"),
        404: gateway.post("/v1/messages", {**body, "model": "gpt"}),
        422: gateway.post("/v1/messages", {**body, "proteus": {"accuracy_target": 0.99}}),
    }
    gateway.upstream.script["large"] = UpstreamTimeoutError("large: silent.", model="large")
    shapes[504] = gateway.post("/v1/messages", body)
    gateway.upstream.broken = set(MODELS)
    shapes[503] = gateway.post("/v1/messages", body)
    kinds = {
        400: "invalid_request_error",
        404: "not_found_error",
        422: "invalid_request_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
    for status, answer in shapes.items():
        content = answer.json()
        assert answer.status == status
        assert (content["type"], content["error"]["type"]) == ("error", kinds[status])
        assert content["error"]["message"]


def test_an_upstreams_rate_limit_says_when_to_come_again(gateway: Harness) -> None:
    gateway.upstream.script["large"] = UpstreamRateLimitedError(
        "large is busy.", model="large", retry_after_s=2.2
    )
    answer = gateway.chat(HARD)
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")


def test_bodies_beyond_the_limits_are_413() -> None:
    gateway = Harness(make_settings(server={"limits": {"max_body_bytes": 2_000, "max_json_depth": 20}}))
    long = json.dumps({**CHAT, "pad": "x" * 2_000}).encode()
    assert gateway.post("/v1/chat/completions", long).status == 413
    stated = {"content-length": "2001"}
    assert gateway.post("/v1/chat/completions", b"{}", headers=stated).status == 413
    parts = [long[at : at + 100] for at in range(0, len(long), 100)]
    in_parts = asyncio.run(gateway.request("POST", "/v1/chat/completions", parts=parts))
    assert in_parts.status == 413
    for path in ("/v1/messages", "/v1/feedback", "/v1/route", "/v1/responses"):
        assert gateway.post(path, long).status == 413
    anthropic = gateway.post("/v1/messages", long).json()
    assert anthropic["error"]["type"] == "request_too_large"


@pytest.mark.parametrize("depth", [21, 900, 200_000])
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_nesting_beyond_the_limit_is_refused(depth: int, bracket: str) -> None:
    gateway = Harness(make_settings(server={"limits": {"max_json_depth": 20}}))
    close = "]" if bracket == "[" else "}"
    nested = bracket * depth + "1" + close * depth
    body = b'{"model":"proteus","messages":' + nested.encode() + b"}"
    assert gateway.post("/v1/chat/completions", body).status == 413
    unclosed = b'{"model":"proteus","messages":' + (bracket * depth).encode()
    assert gateway.post("/v1/chat/completions", unclosed).status in (400, 413)


def test_nesting_within_the_limit_passes_however_many_brackets(gateway: Harness) -> None:
    assert gateway.chat(EASY, extra=[[[]]] * 500, more="[[[[{{{{" * 100).status == 200
    deep: Any = 1
    for _ in range(98):
        deep = [deep]
    assert gateway.chat(EASY, metadata=deep).status == 200
    assert gateway.chat(EASY, metadata=[[deep]]).status == 413


def test_a_body_in_pieces_is_one_body(gateway: Harness) -> None:
    data = json.dumps(CHAT).encode()
    parts = [data[:7], b"", data[7:20], data[20:]]
    assert asyncio.run(gateway.request("POST", "/v1/chat/completions", parts=parts)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/feedback", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v1/completions", 404),
        ("GET", "/", 404),
        ("POST", "/v1/messages/count_tokens", 404),
    ],
)
def test_what_is_not_there_is_answered_in_shape(
    gateway: Harness, method: str, path: str, status: int
) -> None:
    answer = asyncio.run(gateway.request(method, path))
    assert answer.status == status
    assert answer.json()["error"]["message"]
    assert ("type" in answer.json()) == path.startswith("/v1/messages")


def test_health_and_readiness(gateway: Harness) -> None:
    assert gateway.get("/healthz").json() == {"status": "ok"}
    ready = gateway.get("/readyz")
    assert (ready.status, ready.json()["models_available"]) == (200, 3)
    gateway.upstream.broken = set(MODELS)
    assert gateway.get("/readyz").status == 503


def test_request_ids_are_taken_over_when_harmless(gateway: Harness) -> None:
    given = gateway.chat(EASY, headers={"x-request-id": "trace-1.2_3:4"})
    assert given.headers["x-request-id"] == gateway.store.last.request_id == "trace-1.2_3:4"
    for bad in ("a b", "x" * 129, 'a"b', "a\tb", "\xe9"):
        made = gateway.chat(EASY, headers={"x-request-id": bad}).headers["x-request-id"]
        assert made.startswith("req_")
        assert made != bad


def test_an_unexpected_failure_says_nothing_of_its_cause(
    gateway: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret cause")

    gateway.gateway.limits.admit = broken  # type: ignore[method-assign]
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/route", CHAT), ("/v1/messages", CHAT)):
        answer = gateway.post(path, body)
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert answer.headers["x-request-id"] in caplog.text


def test_the_openapi_document_describes_every_route(gateway: Harness) -> None:
    document = gateway.get("/openapi.json").json()
    assert document == openapi_document()
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    routes = [route for route in gateway.app.routes if isinstance(route, Route)]
    served = {(route.path, method) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    assert len(routes) == len(gateway.app.routes)
    assert described == served


def test_head_is_answered_like_get(gateway: Harness) -> None:
    assert gateway.get("/healthz", method="HEAD").status == 200
    assert gateway.get("/v1/models", method="HEAD").status == 200
