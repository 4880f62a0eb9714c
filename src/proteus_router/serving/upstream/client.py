"""The calls to the pool's upstreams: one session a process, one series of attempts a call.

A call ends by its deadline whatever the upstream does. Up to the first byte a failure may be tried again; after it the
caller has part of an answer, and the stream ends with an error event instead.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict

from proteus_router.errors import (
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamReplyError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from proteus_router.serving.records import PoolModel
from proteus_router.serving.upstream.bodies import loads, upstream_body
from proteus_router.serving.upstream.breaker import BreakerPolicy, BreakerState
from proteus_router.serving.upstream.faults import (
    as_upstream_error,
    is_unanswered,
    is_worth_retrying,
    refusal,
)
from proteus_router.serving.upstream.lanes import Lane
from proteus_router.serving.upstream.reply import Reply, first_block, stream_blocks
from proteus_router.serving.upstream.retry import RetryPolicy, retry_after_s
from proteus_router.serving.upstream.rewrite import rewrite_model
from proteus_router.serving.upstream.sse import EventStream
from proteus_router.serving.upstream.usage import usage_of

__all__ = ["UpstreamClient"]

_LONGEST_BODY = 64 * 2**20
_LONGEST_REFUSAL = 2**20
_SHORTEST_PAUSE_S = 1.0
_HEAR_OUT_S = 0.001  # the event loop hears meanwhile which other connections were closed


class UpstreamClient:
    """Calls the models of a pool.

    Parameters
    ----------
    retry, breaker
        How often to try, and when to stop trying.
    clock
        Monotonic seconds; deadlines are times of this clock.
    rng
        Source of the jitter.
    """

    def __init__(
        self,
        *,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._retry = retry or RetryPolicy()
        self._breaker = breaker or BreakerPolicy()
        self._clock = clock
        self._rng = rng or random.Random()
        self._lanes: dict[_LaneKey, Lane] = {}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "proteus-router"},
            timeout=aiohttp.ClientTimeout(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection; calls still running fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def available(self, model: PoolModel) -> bool:
        """Whether a call to the model would be made now: its breaker is closed, or due for a probe."""
        lane = self._lanes.get(_lane_key(model))
        return lane is None or lane.breaker.available(self._clock())

    def breaker_state(self, model: PoolModel) -> BreakerState:
        lane = self._lanes.get(_lane_key(model))
        return "closed" if lane is None else lane.breaker.state(self._clock())

    async def call(
        self,
        model: PoolModel,
        body: bytes | Mapping[str, Any],
        *,
        headers: Mapping[str, str],
        deadline: float,
        stream: bool,
    ) -> Reply:
        """Ask one model, again where that helps, and return what it answered.

        Parameters
        ----------
        body
            The caller's request: a JSON object, parsed or not.
        headers
            Further headers for the upstream, such as ``anthropic-beta``. The caller's keys and the headers of the
            connection are left out even when given; those of the pool entry win.
        deadline
            When to give up, in seconds of the client's clock.
        stream
            Whether to ask for a stream. The reply is returned with its first block of events read.

        Raises
        ------
        UpstreamError
            Its leaf says what happened; ``attempts`` says how often the model was called.
        """
        lane = self._lane(model)
        payload, hide_usage = upstream_body(model, body, stream=stream)
        call = _Call(lane, payload, lane.headers_with(headers), deadline, stream, hide_usage)
        lane.budget.deposit()
        attempt = 1
        while True:
            try:
                reply = await self._attempt(call)
                reply.attempts = attempt
                return reply
            except _Failed as failed:
                failed.error.attempts += attempt - 1
                wait_s = self._wait_s(call, failed, attempt)
                if wait_s is None:
                    raise failed.error from failed.__cause__
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _attempt(self, call: _Call) -> Reply:
        """One call of the model. What fails comes out as `_Failed`, counted by the breaker."""
        model, breaker, now = call.lane.model, call.lane.breaker, self._clock()
        allowed_s = min(call.deadline - now, model.timeouts.total_s)
        if allowed_s <= 0:
            message = f"{model.name}: no time left to call it."
            raise _Failed(UpstreamTimeoutError(message, model=model.name, attempts=0))
        if not breaker.enter(now):
            message = f"{model.name} is not being called: it failed too often, or asked for a pause."
            wait_s = breaker.wait_s(now)
            raise _Failed(
                UpstreamUnavailableError(message, model=model.name, attempts=0, retry_after_s=wait_s)
            )
        try:
            reply = await self._exchange(call, allowed_s)
        except _Failed as failed:
            if isinstance(failed.error, UpstreamRejectedError):
                breaker.success()  # it works, and said no
            elif isinstance(failed.error, UpstreamRateLimitedError):
                breaker.leave()
            else:
                breaker.failure(self._clock())
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            forgiven = self._retry.attempts > 1 and not call.forgiven and is_unanswered(error)
            if forgiven:  # perhaps it had been idle too long for the other side: another one will tell
                call.forgiven = True
                breaker.leave()
            elif type(error) is TimeoutError and allowed_s < model.timeouts.first_byte_s:
                breaker.leave()  # the caller's deadline was short, the model is not slow
            else:
                breaker.failure(self._clock())
            raise _Failed(as_upstream_error(error, model), forgiven=forgiven) from error
        except BaseException:  # the caller went away, or a bug: neither says anything about the model
            breaker.leave()
            raise
        breaker.success()
        return reply

    async def _exchange(self, call: _Call, allowed_s: float) -> Reply:
        if self._session is None:
            raise RuntimeError("UpstreamClient.start() was not awaited")
        limits, started = call.lane.model.timeouts, self._clock()
        response = await self._session.post(
            call.lane.url,
            data=call.payload,
            headers=call.headers,
            allow_redirects=False,  # a key goes to the address in the configuration and nowhere else
            timeout=aiohttp.ClientTimeout(
                total=allowed_s,
                connect=limits.connect_s,
                sock_read=limits.first_byte_s,
                ceil_threshold=float("inf"),  # exact: not rounded up to whole seconds
            ),
        )
        try:
            if response.status != 200:
                raise await _refused(call.lane.model, response)
            if call.stream:
                return await self._stream(call, response, started)
            return await self._whole(call.lane.model, response, started)
        except BaseException:
            response.close()
            raise

    async def _whole(self, model: PoolModel, response: aiohttp.ClientResponse, started: float) -> Reply:
        first_byte_s = self._clock() - started
        body = await _read(response, _LONGEST_BODY)
        try:
            content = loads(body)
        except ValueError as error:
            raise _unreadable(model, "its answer is not JSON") from error
        if not isinstance(content, dict):
            raise _unreadable(model, "its answer is not a JSON object")
        headers = {"content-type": response.headers.get("content-type", "application/json")}
        reply = Reply(model, headers, rewrite_model(body, model.name), None, first_byte_s)
        reply.usage = usage_of(model.api, content)
        return reply

    async def _stream(self, call: _Call, response: aiohttp.ClientResponse, started: float) -> Reply:
        lane, model = call.lane, call.lane.model
        content_type = response.headers.get("content-type", "")
        if not content_type.startswith("text/event-stream"):
            raise _unreadable(model, "asked for a stream, it sent something else")
        events = EventStream(model.api, model.name, call.hide_usage)
        try:
            first = await first_block(response, events, model)
        except UpstreamError as error:
            raise _Failed(error) from error.__cause__
        first_byte_s = self._clock() - started
        reply = Reply(model, {"content-type": content_type}, b"", None, first_byte_s, response=response)
        reply.chunks = stream_blocks(reply, first, events, lambda: lane.breaker.failure(self._clock()))
        return reply

    def _wait_s(self, call: _Call, failed: _Failed, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, or None where there is none."""
        error, breaker, now = failed.error, call.lane.breaker, self._clock()
        if failed.forgiven and attempt < self._retry.attempts and now + _HEAR_OUT_S < call.deadline:
            return _HEAR_OUT_S
        asked = error.retry_after_s
        wait_s = self._retry.backoff_s(attempt, self._rng) if asked is None else asked
        again = (
            is_worth_retrying(error, failed.status, failed.body)
            and attempt < self._retry.attempts
            and (asked is None or asked <= self._retry.longest_retry_after_s)
            and now + wait_s < call.deadline
            and breaker.available(now + wait_s)
            and call.lane.budget.take()
        )
        if again:
            return wait_s
        if isinstance(error, UpstreamRateLimitedError):  # others need not run into the same wall
            breaker.pause(now + max(asked or 0.0, _SHORTEST_PAUSE_S))
        elif asked is not None:
            breaker.pause(now + asked)
        return None

    def _lane(self, model: PoolModel) -> Lane:
        key = _lane_key(model)
        lane = self._lanes.get(key)
        if lane is not None and (lane.model is model or lane.model == model):
            return lane
        fresh = Lane.of(model, self._breaker, self._retry)
        if lane is not None:  # a reload changed a price: its health is still its health
            fresh.breaker, fresh.budget = lane.breaker, lane.budget
        self._lanes[key] = fresh
        return fresh


_LaneKey = tuple[str, str, str, str, str]


def _lane_key(model: PoolModel) -> _LaneKey:
    """What makes an upstream another one: a pool name may have several, by shape, by address, by account."""
    return model.name, model.api, model.api_base, model.upstream_model, model.api_key


@dataclass(slots=True)
class _Call:
    """One request on its way to one model."""

    lane: Lane
    payload: bytes
    headers: CIMultiDict[str]
    deadline: float
    stream: bool
    hide_usage: bool
    forgiven: bool = False  # a connection was closed without an answer, and that once counted for nothing


class _Failed(Exception):
    """One attempt failed; what is needed to decide whether there is another."""

    def __init__(
        self, error: UpstreamError, status: int | None = None, body: bytes = b"", *, forgiven: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.body = body
        self.forgiven = forgiven


def _unreadable(model: PoolModel, why: str) -> _Failed:
    return _Failed(UpstreamReplyError(f"{model.name}: {why}.", model=model.name))


async def _refused(model: PoolModel, response: aiohttp.ClientResponse) -> _Failed:
    body = await _read(response, _LONGEST_REFUSAL)
    content_type = response.headers.get("content-type", "application/json")
    error = refusal(model, response.status, body, content_type)
    if error.retryable:
        error.retry_after_s = retry_after_s(response.headers, wall_clock_s=time.time())
    return _Failed(error, response.status, body)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    parts, size = [], 0
    while data := await response.content.readany():
        parts.append(data)
        size += len(data)
        if size > limit:
            raise aiohttp.ClientPayloadError(f"more than {limit} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)
