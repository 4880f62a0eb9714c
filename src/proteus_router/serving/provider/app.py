"""The simulated provider as an ASGI application.

The three endpoints that models are called by are plain ASGI, and an answer is rendered once: a request whose bytes were
seen before is answered from memory. Everything else (models, grading, orders, statistics) is a small Starlette app.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from proteus_router.serving.provider.admin import admin_app
from proteus_router.serving.provider.answers import JUDGE, BadRequestError, compose
from proteus_router.serving.provider.connections import abort, hang_up
from proteus_router.serving.provider.orders import ORDER_HEADER, Order, Orders, parse_order
from proteus_router.serving.provider.shapes import SHAPES, Shape
from proteus_router.serving.provider.truth import Truth

__all__ = ["Provider", "Seen"]

_CACHED_ANSWERS = 4_000
_KEPT_REQUESTS = 100
_KEPT_BYTES = 65_536
_LONGEST_BODY = 64 * 2**20
_DRIP_S = 0.02
_SECRET_HEADERS = (b"authorization", b"x-api-key")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer, ready to be sent: as one body, or as events."""

    model: str
    start: Message
    body: bytes
    events: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Seen:
    """What happened so far, for tests and benchmarks.

    Attributes
    ----------
    requests
        By model.
    statuses
        Answers by HTTP status.
    in_flight
        Requests being answered.
    gone
        Requests whose client went away before the end.
    last
        The latest requests: path, headers without keys, body.
    """

    requests: Counter[str]
    statuses: Counter[int]
    in_flight: int
    gone: int
    last: deque[dict[str, Any]]


class Provider:
    """An ASGI application that answers as the models of a simulated world.

    Parameters
    ----------
    truth
        The world, and what it makes of a question.
    api_key
        The key that requests must carry; "" accepts any.
    words_per_event
        How finely streams are cut.
    clock
        Monotonic seconds, for rate limits.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        api_key: str = "",
        words_per_event: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.truth = truth
        self.orders = Orders(clock, truth.seed)
        self.seen = Seen(Counter(), Counter(), 0, 0, deque(maxlen=_KEPT_REQUESTS))
        self._api_key = api_key.encode()
        self._words = words_per_event
        self._shapes: Mapping[str, Shape] = {shape.path: shape for shape in SHAPES}
        self._answers: dict[tuple[str, bytes], Rendered] = {}
        self._rest = admin_app(self.truth, self.orders, self._statistics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape = self._shapes.get(scope.get("path", "")) if scope["type"] == "http" else None
        if shape is None or scope["method"] != "POST":
            await self._rest(scope, receive, send)
            return
        self.seen.in_flight += 1
        try:
            await self._answer(shape, scope, receive, send)
        finally:
            self.seen.in_flight -= 1

    async def _answer(self, shape: Shape, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.seen.last.append({"path": scope["path"], "headers": headers, "body": body[:_KEPT_BYTES]})
        if self._api_key and not self._authenticated(headers):
            await self._send(_refusal(shape, 401, "invalid_api_key", "Incorrect API key provided."), send)
            return
        rendered = self._answers.get((shape.path, body)) or self._render(shape, body)
        if rendered.model:
            self.seen.requests[rendered.model] += 1
        try:
            order = self._order(rendered.model, headers)
        except BadRequestError as error:
            await self._send(_refusal(shape, 400, "invalid_order", str(error)), send)
            return
        if order is None:
            await self._send(rendered, send)
        else:
            await _Obedient(self, shape, scope, receive, send).answer(rendered, order)

    def _order(self, model: str, headers: list[tuple[bytes, bytes]]) -> Order | None:
        for name, text in headers:
            if name == ORDER_HEADER:
                return parse_order(text)
        return self.orders.take(model) if self.orders else None

    async def _send(self, rendered: Rendered, send: Send) -> None:
        self.seen.statuses[rendered.start["status"]] += 1
        await send(rendered.start)
        await send({"type": "http.response.body", "body": rendered.body})

    def _render(self, shape: Shape, body: bytes) -> Rendered:
        try:
            content = orjson.loads(body)
            if not isinstance(content, dict):
                raise BadRequestError("the body must be a JSON object")
            ask = shape.read(content)
        except (orjson.JSONDecodeError, BadRequestError) as error:
            return _refusal(shape, 400, "invalid_request", str(error))
        if ask.model != JUDGE and ask.model not in self.truth.models:
            return _refusal(shape, 404, "model_not_found", f"The model {ask.model!r} does not exist.")
        answer, id = compose(self.truth, ask), hashlib.blake2b(body, digest_size=12).hexdigest()
        if ask.stream:
            events = tuple(shape.events(ask, answer, id, self._words))
            joined = b"".join(events)
            rendered = Rendered(ask.model, _start(200, b"text/event-stream; charset=utf-8"), joined, events)
        else:
            whole = shape.whole(ask, answer, id)
            rendered = Rendered(ask.model, _start(200, b"application/json", len(whole)), whole)
        if len(self._answers) >= _CACHED_ANSWERS:
            self._answers.clear()
        self._answers[shape.path, body] = rendered
        return rendered

    def _authenticated(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = [text.removeprefix(b"Bearer ") for name, text in headers if name in _SECRET_HEADERS]
        return any(hmac.compare_digest(key, self._api_key) for key in given)

    def _statistics(self) -> dict[str, Any]:
        seen = self.seen
        return {
            "requests": dict(seen.requests),
            "statuses": {str(status): count for status, count in seen.statuses.items()},
            "in_flight": seen.in_flight,
            "gone": seen.gone,
            "last": [_readable(request) for request in seen.last],
        }


class _Obedient:
    """One request that is answered as ordered."""

    def __init__(self, provider: Provider, shape: Shape, scope: Scope, receive: Receive, send: Send) -> None:
        self.provider, self.shape, self.scope = provider, shape, scope
        self.receive, self.send = receive, send
        self.gone = asyncio.ensure_future(_disconnected(receive))

    async def answer(self, rendered: Rendered, order: Order) -> None:
        try:
            await self._answer(rendered, order)
        except _GoneError:
            self.provider.seen.gone += 1
        finally:
            self.gone.cancel()
            with suppress(asyncio.CancelledError):
                await self.gone

    async def _answer(self, rendered: Rendered, order: Order) -> None:
        await self._wait(order.latency_s)
        match order.fault:
            case "status":
                await self._status(order)
            case "hang":
                await self._wait(math.inf)
            case "reset":
                await abort(self.scope, self.gone)
            case "malformed_json":
                broken = rendered.body[: max(1, len(rendered.body) // 2)]
                kind = b"application/json"
                await self.provider._send(Rendered("", _start(200, kind, len(broken)), broken), self.send)
            case "drip":
                await self._drip(rendered, order.gap_s or _DRIP_S)
            case _ if rendered.events:
                await self._stream(rendered, order)
            case "cut_stream" | "reset_stream":
                await self._half(rendered, order)
            case _:
                await self.provider._send(rendered, self.send)

    async def _status(self, order: Order) -> None:
        code = {429: "rate_limit_exceeded"}.get(order.status, "simulated_fault")
        refusal = _refusal(self.shape, order.status, code, "This failure was ordered.")
        if order.retry_after_s is not None:
            refusal.start["headers"].append((b"retry-after", b"%g" % order.retry_after_s))
        await self.provider._send(refusal, self.send)

    async def _stream(self, rendered: Rendered, order: Order) -> None:
        """The events one by one, up to the fault."""
        self.provider.seen.statuses[200] += 1
        await self.send(rendered.start)
        faulty = order.fault is not None
        events = rendered.events[: order.after_events] if faulty else rendered.events
        for place, event in enumerate(events):
            await self._wait(order.gap_s if place else 0.0)
            await self._part(event)
        match order.fault:
            case "hang_stream":
                await self._wait(math.inf)
            case "cut_stream":
                await hang_up(self.scope, self.gone)
            case "reset_stream":
                await abort(self.scope, self.gone)
            case "malformed_sse":
                await self._part(b'data: {"id": "broken", "choi\n\n')
                await self._part(b"".join(rendered.events[order.after_events :]))
            case "error_stream":
                await self._part(_stream_error(self.shape))
        await self._part(b"", more=False)

    async def _half(self, rendered: Rendered, order: Order) -> None:
        """Half of a body whose length was announced."""
        self.provider.seen.statuses[200] += 1
        await self.send(rendered.start)
        await self._part(rendered.body[: len(rendered.body) // 2])
        await (hang_up if order.fault == "cut_stream" else abort)(self.scope, self.gone)

    async def _drip(self, rendered: Rendered, gap_s: float) -> None:
        self.provider.seen.statuses[200] += 1
        await self.send(rendered.start)
        for place in range(len(rendered.body)):
            await self._part(rendered.body[place : place + 1])
            await self._wait(gap_s)
        await self._part(b"", more=False)

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        if self.gone.done():
            raise _GoneError
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.wait({self.gone}, timeout=None if seconds == math.inf else seconds)
            if self.gone.done():
                raise _GoneError


class _GoneError(Exception):
    """The client has gone away."""


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LONGEST_BODY:
            raise RuntimeError(f"a request of more than {_LONGEST_BODY} bytes")
    return body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, content_type: bytes, length: int | None = None) -> MutableMapping[str, Any]:
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": headers}


def _refusal(shape: Shape, status: int, code: str, message: str) -> Rendered:
    body = shape.error(status, code, message)
    return Rendered("", _start(status, b"application/json", len(body)), body)


def _stream_error(shape: Shape) -> bytes:
    body = shape.error(500, "simulated_fault", "This failure was ordered.")
    if shape.api == "chat":
        return b"data: " + body + b"\n\n"
    if shape.api == "messages":
        return b"event: error\ndata: " + body + b"\n\n"
    flat = {"type": "error", "code": "simulated_fault", "message": "This failure was ordered.", "param": None}
    return b"event: error\ndata: " + orjson.dumps({**flat, "sequence_number": 99}) + b"\n\n"


def _readable(request: Mapping[str, Any]) -> dict[str, Any]:
    headers = {
        name.decode("latin-1"): text.decode("latin-1")
        for name, text in request["headers"]
        if name not in _SECRET_HEADERS
    }
    body = request["body"].decode("utf-8", "replace")
    return {"path": request["path"], "headers": headers, "body": body}
