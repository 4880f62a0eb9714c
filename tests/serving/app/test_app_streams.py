"""Streams, clients that leave, and what is remembered of them."""

from __future__ import annotations

import asyncio

import pytest

from proteus_router.errors import UpstreamReplyError, UpstreamTimeoutError
from proteus_router.serving.records import Usage
from tests.serving.app.helpers import EASY, HARD, FakeStore, Harness, make_settings, until

BODY = {"model": "proteus/economy", "stream": True, "messages": [{"role": "user", "content": EASY}]}


def test_a_stream_passes_through_and_its_true_cost_is_in_the_record(gateway: Harness) -> None:
    answer = gateway.chat(EASY, model="proteus/economy", stream=True)
    assert answer.chunks == gateway.upstream.events
    assert answer.headers["content-type"] == "text/event-stream"
    assert float(answer.headers["x-proteus-predicted-cost-usd"]) == pytest.approx(1e-5)
    assert "x-proteus-cost-usd" not in answer.headers
    assert "content-length" not in answer.headers
    record = gateway.store.last
    assert (record.stream, record.status, record.cost_usd) == (True, "ok", pytest.approx(30 * 1e-7))


def test_a_stream_that_breaks_is_recorded_as_failed(gateway: Harness) -> None:
    gateway.upstream.stream_error = UpstreamReplyError("small cut its stream.", model="small")
    gateway.upstream.events[-1] = b'data: {"error":{}}\n\n'
    answer = gateway.chat(EASY, model="proteus/economy", stream=True)
    assert answer.status == 200
    record = gateway.store.last
    assert (record.status, record.error_code) == ("failed", "upstream_reply")
    assert gateway.get("/v1/decisions/" + record.id).json()["cost_usd"] == pytest.approx(30 * 1e-7)


def test_a_failure_before_the_first_byte_of_a_stream_goes_to_another_model(gateway: Harness) -> None:
    gateway.upstream.script["small"] = UpstreamTimeoutError("small: silent.", model="small")
    answer = gateway.chat(EASY, model="proteus/economy", stream=True)
    assert (answer.status, answer.headers["x-proteus-model"]) == (200, "middle")


@pytest.mark.parametrize("value", [None, False])
def test_null_is_no_stream(gateway: Harness, value: object) -> None:
    assert gateway.chat(EASY, stream=value).headers["content-type"] == "application/json"
    assert not gateway.upstream.calls[0].stream


@pytest.mark.parametrize("value", ["true", 1, []])
def test_stream_must_be_true_or_false(gateway: Harness, value: object) -> None:
    assert gateway.chat(EASY, stream=value).status == 400


def test_a_client_that_leaves_before_the_answer_cancels_the_call(gateway: Harness) -> None:
    async def run() -> None:
        gateway.upstream.wait, leave = asyncio.Event(), asyncio.Event()
        request = asyncio.ensure_future(
            gateway.request("POST", "/v1/chat/completions", {**BODY, "stream": False}, leave=leave)
        )
        await until(lambda: gateway.upstream.calls)
        await asyncio.sleep(0.1)  # the watch for the client begins a little later
        leave.set()
        answer = await asyncio.wait_for(request, 2)
        assert answer.status == 0  # nothing was sent

    asyncio.run(run())
    record = gateway.store.last
    assert (record.status, record.error_code, record.http_status) == ("cancelled", "client_gone", 499)
    assert record.cost_usd is None


def test_a_client_that_leaves_in_the_middle_closes_the_upstreams_stream(gateway: Harness) -> None:
    async def run() -> None:
        gateway.upstream.wait, leave = asyncio.Event(), asyncio.Event()
        gateway.upstream.wait.set()
        request = asyncio.ensure_future(gateway.request("POST", "/v1/chat/completions", BODY, leave=leave))
        await until(lambda: gateway.upstream.replies)
        await asyncio.sleep(0.1)
        leave.set()
        answer = await asyncio.wait_for(request, 2)
        assert answer.chunks == gateway.upstream.events[:1]

    asyncio.run(run())
    assert gateway.upstream.replies[0].closed
    record = gateway.store.last
    assert (record.status, record.error_code, record.http_status) == ("cancelled", "client_gone", 200)
    assert record.cost_usd == pytest.approx(1e-5)  # the usage never came: the estimate


def test_a_client_that_leaves_while_sending_is_forgotten(gateway: Harness) -> None:
    async def run() -> None:
        leave = asyncio.Event()
        leave.set()

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        sent: list[object] = []

        async def send(message: object) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [],
            "root_path": "",
        }
        await gateway.app(scope, receive, send)
        assert not sent

    asyncio.run(run())
    assert not gateway.store.records


def test_a_client_that_takes_nothing_is_cut_off_at_the_deadline() -> None:
    gateway = Harness(make_settings(server={"limits": {"deadline_s": 0.05}}))

    async def run() -> None:
        async def receive() -> dict[str, object]:
            if not asked:
                asked.append(True)
                import json

                return {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False}
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)  # the socket's buffer is full

        asked: list[bool] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [],
            "root_path": "",
        }
        await asyncio.wait_for(gateway.app(scope, receive, send), 5)  # type: ignore[arg-type]

    asyncio.run(run())
    assert gateway.upstream.replies[0].closed
    assert (gateway.store.last.status, gateway.store.last.error_code) == ("failed", "client_too_slow")


def test_a_fast_answer_does_not_disturb_the_watch_for_the_client(gateway: Harness) -> None:
    """`receive` says "disconnect" once an answer is complete: that must not count as leaving."""
    for _ in range(3):
        assert gateway.chat(EASY).status == 200
    assert {record.status for record in gateway.store.records} == {"ok"}


def test_text_is_kept_only_where_the_operator_wants_it() -> None:
    for keep in (False, True):
        gateway = Harness(make_settings(store={"keep_text": keep}), store=FakeStore())
        gateway.chat(EASY)
        gateway.chat(HARD, stream=True)
        plain, streamed = gateway.store.records
        assert plain.prompt == (EASY if keep else None)
        assert (plain.answer is not None and '"id"' in plain.answer) == keep
        assert streamed.answer == ('data: {"model":"m"}\n\ndata: [DONE]\n\n' if keep else None)


def test_usage_that_never_comes_leaves_tokens_unknown(gateway: Harness) -> None:
    gateway.upstream.usage = None
    gateway.chat(EASY, model="proteus/economy", stream=True)
    record = gateway.store.last
    assert (record.input_tokens, record.output_tokens) == (None, None)
    assert record.cost_usd == pytest.approx(1e-5)
    gateway.upstream.usage = Usage(1, 1)
    gateway.chat(EASY, model="proteus/economy", stream=True)
    assert gateway.store.last.cost_usd == pytest.approx(2e-7)
