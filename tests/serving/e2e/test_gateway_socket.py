"""Real gateway, real provider, real store, real sockets: what crosses the network."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from proteus_router.serving.provider import Order, Provider
from tests.serving.e2e.helpers import Site, call, chat, wait_for

SHAPES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "?"}]},
    "/v1/responses": {"input": "?"},
    "/v1/messages": {"max_tokens": 400, "messages": [{"role": "user", "content": "?"}]},
}


def _body(path: str, text: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": "proteus",
        **json.loads(json.dumps(SHAPES[path]).replace('"?"', json.dumps(text))),
        **fields,
    }


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", SHAPES)
def test_every_shape_passes_through_and_is_recorded(
    path: str, stream: bool, site: Site, provider: Provider
) -> None:
    with site.in_thread() as address:
        answer = call(address, "POST", path, _body(path, site.questions[0], stream=stream))
        assert answer.status == 200, answer.body
        model = answer.headers["x-proteus-model"]
        upstream_model = model.removeprefix("pool-")
        assert (answer.headers["x-proteus-certified"], answer.headers["x-proteus-attempts"]) == ("true", "1")
        assert provider.seen.requests == {upstream_model: 1}
        sent = json.loads(provider.seen.last[-1]["body"])
        assert sent["model"] == upstream_model
        assert "proteus" not in sent
        assert f'"{upstream_model}"'.encode() not in answer.body  # the pool's name alone
        assert f'"model":"{model}"'.encode() in answer.body.replace(b'": "', b'":"')
        if stream:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["transfer-encoding"] == "chunked"
            assert "x-proteus-predicted-cost-usd" in answer.headers
            assert len(answer.events()) > 3
        decision_id = answer.headers["x-proteus-decision-id"]
        decision = call(address, "GET", f"/v1/decisions/{decision_id}").json()
        outcome = provider.truth.outcome(upstream_model, site.questions[0])
        card = next(card for card in site.world.models if card.name == upstream_model)
        expected = (
            outcome.input_tokens * card.input_price_usd_per_mtok
            + outcome.output_tokens * card.output_price_usd_per_mtok
        ) / 1e6
        assert decision["cost_usd"] == pytest.approx(expected)
        assert (decision["input_tokens"], decision["output_tokens"]) == (
            outcome.input_tokens,
            outcome.output_tokens,
        )
        if not stream:
            assert float(answer.headers["x-proteus-cost-usd"]) == pytest.approx(expected, abs=1e-9)
        item = {"decision_id": decision_id, "score": outcome.score, "source": "truth"}
        assert call(address, "POST", "/v1/feedback", item).json()["status"] == "stored"
        assert call(address, "POST", "/v1/feedback", item).json()["status"] == "duplicate"
        assert call(address, "POST", "/v1/feedback", {**item, "score": 0.123}).status == 409
    rows = sqlite3.connect(site.database).execute("select id, status, api, stream from decisions").fetchall()
    assert [(row[0], row[1], row[3]) for row in rows] == [(decision_id, "ok", int(stream))]
    assert sqlite3.connect(site.database).execute("select count(*) from feedback").fetchone() == (1,)


def test_usage_is_asked_for_in_streams_and_not_shown_to_who_did_not_ask(
    site: Site, provider: Provider
) -> None:
    with site.in_thread() as address:
        silent = chat(address, site.questions[0], stream=True)
        assert json.loads(provider.seen.last[-1]["body"])["stream_options"] == {"include_usage": True}
        assert b'"usage":{' not in silent.body
        asked = chat(address, site.questions[0], stream=True, stream_options={"include_usage": True})
        assert b'"usage":{' in asked.body


@pytest.mark.parametrize("path", SHAPES)
def test_a_model_that_fails_is_replaced_by_one_that_keeps_the_floor(
    path: str, site: Site, provider: Provider
) -> None:
    with site.in_thread() as address:
        first = call(address, "POST", path, _body(path, site.questions[0])).headers["x-proteus-model"]
        provider.orders.set(first.removeprefix("pool-"), Order(fault="status", status=500))
        answer = call(address, "POST", path, _body(path, site.questions[0]))
        assert answer.status == 200
        assert answer.headers["x-proteus-model"] != first
        assert answer.headers["x-proteus-certified"] == "false"
        assert int(answer.headers["x-proteus-attempts"]) > 1
        decision = call(address, "GET", f"/v1/decisions/{answer.headers['x-proteus-decision-id']}").json()
        by_name = {candidate["model"]: candidate["predicted_score"] for candidate in decision["candidates"]}
        assert decision["predicted_score"] >= by_name[first] - 1e-9


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        (Order(fault="status", status=429, retry_after_s=30), 429, "upstream_rate_limited"),
        (Order(fault="status", status=500), 502, "upstream_reply"),
        (Order(fault="malformed_json"), 502, "upstream_reply"),
        (Order(fault="reset"), 502, "upstream_connect"),
        (Order(fault="hang"), 504, "upstream_timeout"),
    ],
    ids=lambda value: str(getattr(value, "fault", value)),
)
def test_when_all_fail_the_caller_is_told_in_time(
    order: Order, status: int, code: str, site: Site, provider: Provider
) -> None:
    site.changes = {
        "upstreams": {"timeouts": {"first_byte_s": 0.3, "total_s": 1.0}, "retries": {"attempts": 1}}
    }
    provider.orders.set("*", order)
    with site.in_thread() as address:
        began = time.monotonic()
        answer = chat(address, site.questions[0])
        assert time.monotonic() - began < 10
        assert (answer.status, answer.json()["error"]["code"]) == (status, code)
        if status == 429:
            assert int(answer.headers["retry-after"]) == 30


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("fault", ["cut_stream", "hang_stream", "malformed_sse", "error_stream"])
def test_a_stream_that_breaks_ends_with_an_error_event_and_a_failed_decision(
    fault: Any, path: str, site: Site, provider: Provider
) -> None:
    site.changes = {"upstreams": {"timeouts": {"first_byte_s": 0.4, "total_s": 5.0}}}
    provider.orders.set("*", Order(fault=fault, after_events=4, gap_s=0.01))
    with site.in_thread() as address:
        answer = call(address, "POST", path, _body(path, site.questions[0], stream=True))
        assert answer.status == 200
        assert '"error"' in answer.events()[-1]
        decision = call(address, "GET", f"/v1/decisions/{answer.headers['x-proteus-decision-id']}").json()
        assert decision["status"] == "failed"
        assert decision["error_code"] in ("upstream_reply", "upstream_timeout")


@pytest.mark.parametrize("stage", ["before the answer", "in the stream", "in the body"])
def test_a_client_that_goes_away_cancels_the_upstream(stage: str, site: Site, provider: Provider) -> None:
    hang = Order(fault="hang") if stage == "before the answer" else Order(fault="hang_stream", after_events=3)
    provider.orders.set("*", hang)
    with site.in_thread() as address:
        parts = urlsplit(address)
        body = json.dumps(_body("/v1/chat/completions", site.questions[0], stream=True)).encode()
        connection = socket.create_connection((parts.hostname, parts.port))
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        connection.sendall(head + (body if stage != "in the body" else body[:20]))
        if stage == "in the stream":
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        elif stage == "before the answer":
            wait_for(lambda: provider.seen.in_flight == 1)
        connection.close()
        if stage == "in the body":
            time.sleep(0.3)
            assert provider.seen.requests.total() == 0
        else:
            wait_for(lambda: provider.seen.gone == 1, "the upstream was not cancelled")
            assert call(address, "GET", "/healthz").status == 200
    rows = sqlite3.connect(site.database).execute("select status, error_code from decisions").fetchall()
    assert rows == ([] if stage == "in the body" else [("cancelled", "client_gone")])


def test_large_and_broken_requests_are_answered_over_the_wire(site: Site) -> None:
    with site.in_thread() as address:
        ten_megabytes = b'{"model":"proteus","messages":"' + b"x" * 10_000_000 + b'"}'
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            connection.request("POST", "/v1/chat/completions", ten_megabytes)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up while we were still sending, as it may
        else:
            assert connection.getresponse().status == 413
        finally:
            connection.close()
        deep = b"[" * 500_000
        assert call(address, "POST", "/v1/chat/completions", deep).status in (400, 413)
        assert chat(address, site.questions[0]).status == 200
        injected = socket.create_connection((parts.hostname, parts.port))
        injected.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: a\r\n b: c\r\n\r\n")
        assert b"\r\n b: c" not in injected.recv(4096)
        injected.close()


def test_answers_pass_through_byte_for_byte(site: Site, provider: Provider) -> None:
    with site.in_thread() as address:
        answer = chat(address, site.questions[0])
        upstream = provider._answers["/v1/chat/completions", provider.seen.last[-1]["body"]].body
        model = answer.headers["x-proteus-model"]
        assert answer.body == upstream.replace(
            json.dumps(model.removeprefix("pool-")).encode(), json.dumps(model).encode(), 1
        )


def test_many_at_once(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with site.in_thread() as address, ThreadPoolExecutor(8) as threads:
        questions = site.questions[:80]
        answers = list(threads.map(lambda text: chat(address, text, stream=len(text) % 2 == 0), questions))
        assert {answer.status for answer in answers} == {200}
        exposition = call(address, "GET", "/metrics").body.decode()
    counted = sqlite3.connect(site.database).execute("select count(distinct id) from decisions").fetchone()
    assert counted == (80,)
    assert 'proteus_requests_total{endpoint="/v1/chat/completions",status="200"} 80.0' in exposition
