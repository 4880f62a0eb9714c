"""Everything an upstream can do wrong, done over real HTTP: each call ends in time and says what happened."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proteus_router.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamReplyError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from proteus_router.serving.provider import Order, Provider
from proteus_router.serving.records import ApiShape, Timeouts
from proteus_router.serving.upstream import BreakerPolicy, Reply, RetryPolicy, UpstreamClient
from tests.serving.upstream.helpers import BODIES, MakeModel, Opened, soon

WHOLE: list[tuple[Order, type[UpstreamError], int, float]] = [
    # order, error, attempts, seconds it may take
    (Order(fault="status", status=429), UpstreamRateLimitedError, 3, 3.0),
    (Order(fault="status", status=500), UpstreamReplyError, 3, 3.0),
    (Order(fault="status", status=503), UpstreamReplyError, 3, 3.0),
    (Order(fault="status", status=529), UpstreamReplyError, 3, 3.0),
    (Order(fault="status", status=408), UpstreamReplyError, 3, 3.0),
    (Order(fault="hang"), UpstreamTimeoutError, 1, 3.0),
    (Order(fault="reset"), UpstreamConnectError, 3, 3.0),
    (Order(fault="cut_stream"), UpstreamReplyError, 3, 3.0),
    (Order(fault="reset_stream"), UpstreamReplyError, 3, 3.0),
    (Order(fault="malformed_json"), UpstreamReplyError, 3, 3.0),
    (Order(fault="drip", gap_s=0.05), UpstreamTimeoutError, 1, 5.0),
]
FIRST: list[tuple[Order, type[UpstreamError], int, float]] = [
    # the same before the first event of a stream
    *[case for case in WHOLE if case[0].fault in ("status", "hang", "reset", "malformed_json", "drip")],
    (Order(fault="hang_stream", after_events=0), UpstreamTimeoutError, 1, 3.0),
    (Order(fault="cut_stream", after_events=0), UpstreamReplyError, 3, 3.0),
    (Order(fault="end_stream", after_events=0), UpstreamReplyError, 3, 3.0),
    (Order(fault="reset_stream", after_events=0), UpstreamReplyError, 3, 3.0),
    (Order(fault="malformed_sse", after_events=0), UpstreamReplyError, 3, 3.0),
    (Order(fault="error_stream", after_events=0), UpstreamReplyError, 3, 3.0),
]
LATER: list[tuple[Order, type[UpstreamError], float]] = [
    # after events that the caller already has
    (Order(fault="hang_stream", gap_s=0.05), UpstreamTimeoutError, 3.0),
    (Order(fault="cut_stream", gap_s=0.05), UpstreamReplyError, 3.0),
    (Order(fault="end_stream", gap_s=0.05), UpstreamReplyError, 3.0),
    (Order(fault="reset_stream", gap_s=0.05), UpstreamReplyError, 3.0),
    (Order(fault="malformed_sse", gap_s=0.05), UpstreamReplyError, 3.0),
    (Order(fault="error_stream", gap_s=0.05), UpstreamReplyError, 3.0),
]
TOUCHY = BreakerPolicy(in_a_row=1)  # opens at the first failure it counts
APIS: tuple[ApiShape, ...] = ("chat", "responses", "messages")


def _name(case: Any) -> str | None:
    return f"{case.fault}-{case.status}" if isinstance(case, Order) else None


async def _blocks(reply: Reply) -> AsyncIterator[bytes]:
    assert reply.chunks is not None
    async for chunk in reply.chunks:
        yield chunk


@pytest.mark.parametrize(("order", "error", "attempts", "within_s"), WHOLE, ids=_name)
def test_an_answer_that_fails(
    order: Order,
    error: type[UpstreamError],
    attempts: int,
    within_s: float,
    provider: Provider,
    make_model: MakeModel,
    opened: Opened,
) -> None:
    _fails(order, error, attempts, within_s, provider, make_model, opened, stream=False)


@pytest.mark.parametrize(("order", "error", "attempts", "within_s"), FIRST, ids=_name)
def test_a_stream_that_fails_before_its_first_event(
    order: Order,
    error: type[UpstreamError],
    attempts: int,
    within_s: float,
    provider: Provider,
    make_model: MakeModel,
    opened: Opened,
) -> None:
    _fails(order, error, attempts, within_s, provider, make_model, opened, stream=True)


def _fails(
    order: Order,
    error: type[UpstreamError],
    attempts: int,
    within_s: float,
    provider: Provider,
    make_model: MakeModel,
    opened: Opened,
    *,
    stream: bool,
) -> None:
    provider.orders.set("*", order)

    async def run() -> None:
        async with opened() as client:
            started = time.monotonic()
            with pytest.raises(error) as caught:
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=stream)
            assert type(caught.value) is error
            assert time.monotonic() - started < within_s
            assert (caught.value.attempts, caught.value.retryable) == (attempts, True)
            assert caught.value.model == "pool/large"
            for secret in ("sk-upstream", "127.0.0.1", "Which is prime", "ordered"):
                assert secret not in str(caught.value)

    asyncio.run(run())
    assert provider.seen.requests[provider.truth.models[-1]] == attempts


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("order", "error", "within_s"), LATER, ids=_name)
def test_a_stream_that_breaks_ends_with_an_error_event(
    order: Order,
    error: type[UpstreamError],
    within_s: float,
    api: ApiShape,
    provider: Provider,
    make_model: MakeModel,
    opened: Opened,
) -> None:
    provider.orders.set("*", order)

    async def run() -> None:
        async with opened() as client:
            started = time.monotonic()
            reply = await client.call(make_model(api), BODIES[api], headers={}, deadline=soon(), stream=True)
            blocks = [block async for block in _blocks(reply)]
            assert time.monotonic() - started < within_s
            assert len(blocks) >= 2  # what came before the fault was passed on
            assert type(reply.error) is error
            assert reply.error.attempts == 1
            stream = b"".join(blocks)
            assert b"[DONE]" not in stream
            assert b"broken" not in stream
            for event in stream.split(b"\n\n")[:-1]:
                json.loads(event[event.index(b"data: ") + 6 :])
            last = stream.split(b"\n\n")[-2]
            assert b'"error"' in last
            assert stream.count(b'"error":{') <= 1
            assert next(iter(client._lanes.values())).breaker._outcomes[-1] is False

    asyncio.run(run())
    assert provider.seen.requests[provider.truth.models[-1]] == 1  # never tried again after the first byte


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_listens(stream: bool, make_model: MakeModel, opened: Opened) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def run() -> None:
        async with opened() as client:
            model = make_model(api_base=f"http://127.0.0.1:{port}/v1")
            with pytest.raises(UpstreamConnectError, match=r"\(Connection refused\)") as caught:
                await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=stream)
            assert caught.value.attempts == 3

    asyncio.run(run())


def test_no_such_host(make_model: MakeModel, opened: Opened) -> None:
    async def run() -> None:
        async with opened() as client:
            model = make_model(api_base="http://no-such-host.invalid/v1")
            with pytest.raises((UpstreamConnectError, UpstreamTimeoutError)):
                await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())


def test_a_connection_that_is_never_accepted(make_model: MakeModel, opened: Opened) -> None:
    async def run() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:  # they fill the backlog
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            async with opened() as client:
                impatient = Timeouts(connect_s=0.4, first_byte_s=9.0, total_s=9.0)
                model = make_model(api_base=f"http://127.0.0.1:{port}/v1", timeouts=impatient)
                started = time.monotonic()
                with pytest.raises(UpstreamTimeoutError, match=r"no connection within 0\.4 s"):
                    await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=False)
                assert time.monotonic() - started < 3.0
            for one in waiting:
                one.close()

    asyncio.run(run())


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"])
def test_what_answers_does_not_speak_http(reply: bytes, make_model: MakeModel, opened: Opened) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, opened() as client:
            model = make_model(api_base=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises((UpstreamReplyError, UpstreamConnectError)):
                await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())


SLOW = [Order(fault="hang"), Order(fault="drip", gap_s=0.05), Order(fault="hang_stream", gap_s=0.05)]


@pytest.mark.parametrize("order", SLOW, ids=_name)
@pytest.mark.parametrize("stream", [False, True])
def test_no_call_outlives_its_deadline(
    order: Order, stream: bool, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", order)
    patient = make_model(timeouts=Timeouts(30.0, 30.0, 30.0))

    async def run() -> None:
        async with opened(breaker=TOUCHY) as client:
            started = time.monotonic()
            try:
                reply = await client.call(
                    patient, BODIES["chat"], headers={}, deadline=started + 0.4, stream=stream
                )
            except UpstreamTimeoutError:
                assert time.monotonic() - started < 3.0
            else:
                blocks = [block async for block in _blocks(reply)] if stream else []
                assert time.monotonic() - started < 3.0
                assert (isinstance(reply.error, UpstreamTimeoutError), bool(blocks)) == (stream, stream)
            # The deadline was short, the model is not ill.
            assert client.breaker_state(patient) == "closed"

    asyncio.run(run())


def test_a_deadline_that_has_passed_calls_nobody(
    provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    async def run() -> None:
        async with opened() as client:
            with pytest.raises(UpstreamTimeoutError) as caught:
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(-1), stream=False)
            assert caught.value.attempts == 0

    asyncio.run(run())
    assert not provider.seen.requests


def test_a_fault_that_passes_is_retried(provider: Provider, make_model: MakeModel, opened: Opened) -> None:
    async def run() -> None:
        async with opened() as client:
            for stream in (False, True):
                provider.orders.set("*", Order(fault="status", status=503, count=2))
                reply = await client.call(
                    make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=stream
                )
                assert reply.attempts == 3
                await reply.aclose()

    asyncio.run(run())


def test_retry_after_is_waited_for(provider: Provider, make_model: MakeModel, opened: Opened) -> None:
    provider.orders.set("*", Order(fault="status", status=429, retry_after_s=0.3, count=1))

    async def run() -> None:
        async with opened() as client:
            started = time.monotonic()
            reply = await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert reply.attempts == 2
            assert 0.3 <= time.monotonic() - started < 3.0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("seconds", "deadline_s"), [(30.0, 3.0), (1.0, 0.5)], ids=["too long", "past the deadline"]
)
def test_a_retry_after_that_cannot_be_waited_for_pauses_the_model(
    seconds: float, deadline_s: float, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="status", status=429, retry_after_s=seconds))

    async def run() -> None:
        async with opened() as client:
            started = time.monotonic()
            with pytest.raises(UpstreamRateLimitedError) as caught:
                await client.call(
                    make_model(), BODIES["chat"], headers={}, deadline=soon(deadline_s), stream=False
                )
            assert time.monotonic() - started < 0.9
            assert (caught.value.attempts, caught.value.retry_after_s) == (1, seconds)
            assert not client.available(make_model())
            assert client.breaker_state(make_model()) == "closed"
            with pytest.raises(UpstreamUnavailableError) as refused:
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert refused.value.attempts == 0
            assert 0 < (refused.value.retry_after_s or 0) <= seconds

    asyncio.run(run())
    assert provider.seen.requests.total() == 1


def test_an_account_without_quota_is_not_asked_again(make_model: MakeModel, opened: Opened) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"error":{"code":"insufficient_quota","message":"pay"}}'
        writer.write(b"HTTP/1.1 429 T\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, opened() as client:
            model = make_model(api_base=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(UpstreamRateLimitedError):
                await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())
    assert asked == 1


def test_the_breaker_opens_stops_calls_and_closes_again(
    provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="status", status=500))
    policy = BreakerPolicy(in_a_row=4, cooldown_s=0.2)

    async def run() -> None:
        async with opened(breaker=policy) as client:
            for _ in range(2):
                with pytest.raises(UpstreamReplyError):
                    await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert client.breaker_state(make_model()) == "open"
            assert not client.available(make_model())
            assert provider.seen.requests.total() == 4  # the second call stopped when the breaker opened
            with pytest.raises(UpstreamUnavailableError):
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert provider.seen.requests.total() == 4
            provider.orders.clear()
            await asyncio.sleep(0.25)
            assert client.breaker_state(make_model()) == "half_open"
            await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            assert client.breaker_state(make_model()) == "closed"

    asyncio.run(run())


def test_a_reload_keeps_the_health_of_the_same_address_and_forgets_it_for_another(
    provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="status", status=500))

    async def run() -> None:
        async with opened(breaker=BreakerPolicy(in_a_row=3)) as client:
            with pytest.raises(UpstreamReplyError):
                await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)
            dearer = make_model(input_usd_per_token=1e-5)
            with pytest.raises(UpstreamUnavailableError):
                await client.call(dearer, BODIES["chat"], headers={}, deadline=soon(), stream=False)
            provider.orders.clear()
            moved = make_model("messages")
            await client.call(moved, BODIES["messages"], headers={}, deadline=soon(), stream=False)
            # Several upstreams may share a pool name; what answers there says nothing of the one that failed.
            assert (client.available(moved), client.available(make_model())) == (True, False)

    asyncio.run(run())


def test_retries_stop_when_their_budget_is_spent(
    provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="status", status=500))
    retry = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.002, budget_reserve=4.0, budget_share=0.1)

    async def run() -> None:
        async with opened(retry=retry, breaker=BreakerPolicy(in_a_row=999, of_last=999)) as client:
            for _ in range(20):
                with pytest.raises(UpstreamReplyError):
                    await client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=False)

    asyncio.run(run())
    assert 20 + 4 <= provider.seen.requests.total() <= 20 + 6


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_goes_away_while_waiting_cancels_the_upstream(
    stream: bool, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="hang"))
    patient = make_model(timeouts=Timeouts(30.0, 30.0, 30.0))

    async def run(client: UpstreamClient) -> None:
        call = client.call(patient, BODIES["chat"], headers={}, deadline=soon(30), stream=stream)
        task = asyncio.ensure_future(call)
        await _until(lambda: provider.seen.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until(lambda: provider.seen.gone == 1)
        assert client.available(make_model())
        assert client.breaker_state(make_model()) == "closed"

    async def main() -> None:
        async with opened(breaker=TOUCHY) as client:
            await run(client)

    asyncio.run(main())


@pytest.mark.parametrize(
    "how", ["closed between blocks", "closed while reading", "cancelled", "dropped unread"]
)
def test_a_caller_who_goes_away_in_a_stream_cancels_the_upstream(
    how: str, provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="hang_stream", gap_s=0.01))
    patient = make_model(timeouts=Timeouts(30.0, 30.0, 30.0))

    async def drain(reply: Reply, seen: list[bytes]) -> None:
        async for block in _blocks(reply):
            seen.append(block)
            if how == "closed between blocks":
                return

    async def main() -> None:
        async with opened(breaker=TOUCHY) as client:
            reply = await client.call(patient, BODIES["chat"], headers={}, deadline=soon(30), stream=True)
            seen: list[bytes] = []
            reader = asyncio.ensure_future(drain(reply, seen))
            if how != "dropped unread":
                await _until(lambda: seen)
                await asyncio.sleep(0.05)
            if how in ("cancelled", "dropped unread"):
                reader.cancel()
            await reply.aclose()
            await _until(lambda: provider.seen.gone == 1)
            if how in ("cancelled", "dropped unread"):
                with pytest.raises(asyncio.CancelledError):
                    await reader
            else:
                await asyncio.wait_for(reader, 2)
            assert reply.error is None
            assert client.breaker_state(make_model()) == "closed"
            assert True not in [b'"error"' in block for block in seen]

    asyncio.run(main())


def test_fifty_calls_in_trouble_end_in_time(
    provider: Provider, make_model: MakeModel, opened: Opened
) -> None:
    provider.orders.set("*", Order(fault="hang", share=0.5))

    async def run() -> None:
        async with opened(breaker=BreakerPolicy(in_a_row=999, of_last=999)) as client:
            started = time.monotonic()
            calls = [
                client.call(make_model(), BODIES["chat"], headers={}, deadline=soon(), stream=stream)
                for stream in (False, True) * 25
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - started < 5.0
            kinds = {type(result) for result in results}
            assert kinds == {Reply, UpstreamTimeoutError}
            for result in results:
                if isinstance(result, Reply):
                    await result.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_connections_that_the_other_side_closed_while_idle_harm_nobody(
    stream: bool, make_model: MakeModel, opened: Opened
) -> None:
    """Servers close what is idle; a request that is just then sent on it is no failure of the model."""
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One answer a connection, which says nothing of its end; the next request finds it closed."""
        nonlocal served
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        body = (
            b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            if stream
            else b'{"model":"m"}'
        )
        kind = b"text/event-stream" if stream else b"application/json"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body
        )
        served += 1
        await reader.readuntil(b"\r\n\r\n")  # the next request has been sent
        writer.transport.abort()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with (
            server,
            opened(breaker=TOUCHY, retry=RetryPolicy(budget_reserve=1.0, budget_share=0.0)) as client,
        ):
            model = make_model(api_base=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            for turn in range(12):
                reply = await client.call(model, BODIES["chat"], headers={}, deadline=soon(), stream=stream)
                if stream:
                    assert [block async for block in _blocks(reply)]
                assert reply.attempts == (1 if turn == 0 else 2)
            assert client.breaker_state(model) == "closed"

    asyncio.run(run())
    assert served == 12
