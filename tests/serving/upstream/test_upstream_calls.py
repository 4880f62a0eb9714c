"""Calls that go well, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proteus_router.errors import UpstreamRejectedError, UpstreamReplyError
from proteus_router.serving.provider import Order, Provider
from proteus_router.serving.records import ApiShape, Usage
from proteus_router.serving.upstream import Reply, UpstreamClient
from tests.serving.upstream.helpers import BODIES, MakeModel, Opened, soon

APIS: tuple[ApiShape, ...] = ("chat", "responses", "messages")


def _usage(provider: Provider, text: str = "Which is prime: 21, 27, 29?") -> Usage:
    outcome = provider.truth.outcome(provider.truth.models[-1], text)
    return Usage(outcome.input_tokens, outcome.output_tokens)


def _events(stream: bytes) -> list[Any]:
    lines = [line[6:] for line in stream.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


async def _drain(reply: Reply) -> bytes:
    assert reply.chunks is not None
    return b"".join([chunk async for chunk in reply.chunks])


@pytest.mark.parametrize("api", APIS)
def test_an_answer_comes_back_as_it_was_but_for_its_model(
    api: ApiShape, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    async def run() -> None:
        async with opened() as client:
            reply = await client.call(make_model(api), BODIES[api], headers={}, deadline=soon(), stream=False)
            assert json.loads(reply.body)["model"] == "pool/large"
            assert b"Answer: " in reply.body
            assert reply.usage == _usage(provider)
            assert (reply.status, reply.attempts, reply.chunks) == (200, 1, None)
            assert reply.headers == {"content-type": "application/json"}
            assert 0 < reply.first_byte_s < 3

    asyncio.run(run())


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("order", [None, Order(gap_s=0.001)], ids=["at once", "event by event"])
def test_a_stream_comes_back_event_by_event(
    api: ApiShape, order: Order | None, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    if order is not None:
        provider.orders.set("*", order)

    async def run() -> None:
        async with opened() as client:
            reply = await client.call(make_model(api), BODIES[api], headers={}, deadline=soon(), stream=True)
            assert reply.usage is None or order is None
            events = _events(await _drain(reply))
            nested = {
                "chat": lambda e: e,
                "responses": lambda e: e.get("response", {}),
                "messages": lambda e: e.get("message", {}),
            }
            names = {nested[api](event).get("model") for event in events} - {None}
            assert names == {"pool/large"}
            assert reply.usage == _usage(provider)
            assert reply.error is None
            assert reply.headers["content-type"].startswith("text/event-stream")

    asyncio.run(run())


@pytest.mark.parametrize("asked", [True, False])
def test_the_usage_event_of_a_chat_stream_reaches_only_those_who_asked(
    asked: bool, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    body = {**BODIES["chat"], "stream": True}
    if asked:
        body["stream_options"] = {"include_usage": True}

    async def run() -> None:
        async with opened() as client:
            reply = await client.call(make_model(), body, headers={}, deadline=soon(), stream=True)
            stream = await _drain(reply)
            assert stream.endswith(b"data: [DONE]\n\n")
            assert any(event["choices"] == [] for event in _events(stream)) is asked
            assert reply.usage == _usage(provider)

    asyncio.run(run())


def test_what_the_upstream_receives(provider: Provider, make_model: MakeModel, opened: Opened) -> None:
    body = {**BODIES["messages"], "proteus": {"accuracy_target": 0.9}, "metadata": {"user_id": "u"}}
    headers = {
        "Authorization": "Bearer sk-caller",
        "x-api-key": "sk-caller",
        "anthropic-beta": "b",
        "Cookie": "c=1",
    }

    async def run() -> None:
        async with opened() as client:
            model = make_model("messages", headers={"x-team": "search"})
            await client.call(model, body, headers=headers, deadline=soon(), stream=False)

    asyncio.run(run())
    seen = provider.seen.last[-1]
    sent = dict(seen["headers"])
    assert json.loads(seen["body"]) == {
        **BODIES["messages"],
        "model": provider.truth.models[-1],
        "metadata": {"user_id": "u"},
    }
    assert sent[b"x-api-key"] == b"sk-upstream-secret"
    assert (sent[b"anthropic-beta"], sent[b"x-team"]) == (b"b", b"search")
    assert sent[b"anthropic-version"] == b"2023-06-01"
    assert sent[b"accept-encoding"] == b"identity"
    assert not any(b"sk-caller" in text or name == b"cookie" for name, text in seen["headers"])


def test_connections_are_used_again(provider: Provider, make_model: MakeModel, opened: Opened) -> None:
    async def run(client: UpstreamClient) -> int:
        model = make_model()
        for stream in (False, True) * 5:
            reply = await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=stream)
            if reply.chunks is not None:
                await _drain(reply)
        assert client._session is not None
        assert client._session.connector is not None
        return sum(len(free) for free in client._session.connector._conns.values())

    async def main() -> int:
        async with opened() as client:
            return await run(client)

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_of_the_request_is_handed_on_with_its_body(
    stream: bool, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    async def run() -> None:
        async with opened() as client:
            with pytest.raises(UpstreamRejectedError) as caught:
                await client.call(make_model(), {"messages": []}, headers={}, deadline=soon(), stream=stream)
            assert (caught.value.status, caught.value.attempts, caught.value.retryable) == (400, 1, False)
            assert b"messages must be a list" in caught.value.body
            assert caught.value.content_type == "application/json"
            assert client.available(make_model())

    asyncio.run(run())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_the_gateway_itself_tells_the_caller_nothing(
    status: int, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="status", status=status))

    async def run() -> None:
        async with opened() as client:
            with pytest.raises(UpstreamReplyError) as caught:
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert (caught.value.attempts, caught.value.retryable) == (1, True)
            assert "api_key" in caught.value.hint
            assert "ordered" not in str(caught.value)

    asyncio.run(run())


def test_a_redirect_is_not_followed(make_model: MakeModel, opened: Opened) -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 T\r\nlocation: http://127.0.0.1:1/steal\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, opened() as client:
            model = make_model(api_base=f"http://127.0.0.1:{port}")
            with pytest.raises(UpstreamReplyError, match="HTTP 307"):
                await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())
    assert seen


def test_an_answer_without_end_is_given_up(
    make_model: MakeModel, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proteus_router.serving.upstream.client._LONGEST_BODY", 100)

    async def run() -> None:
        async with opened() as client:
            with pytest.raises(UpstreamReplyError):
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())


def test_a_call_before_start_is_a_mistake_of_ours(make_model: MakeModel) -> None:
    async def run() -> None:
        client = UpstreamClient()
        with pytest.raises(RuntimeError, match="start"):
            await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())
