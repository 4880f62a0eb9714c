"""POST /v1/chat/completions, /v1/responses, /v1/messages: decide, call, pass the answer through.

Everything up to the upstream's call runs inline on the event loop: routing one query takes a fraction of a
millisecond, and a thread would cost more.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from proteus_router.errors import InvalidRequestError, NoEligibleModelError, ProteusError, UpstreamError
from proteus_router.serving.app.asgi import ClientGoneError, header_map, parse_json, read_body, send_answer
from proteus_router.serving.app.ask import read_ask
from proteus_router.serving.app.exchange import Exchange
from proteus_router.serving.app.facts import Facts, encoded_text, read_facts
from proteus_router.serving.app.gateway import Gateway
from proteus_router.serving.app.problems import Problem, problem_of, unexpected
from proteus_router.serving.app.selection import Selection
from proteus_router.serving.app.sessions import session_key
from proteus_router.serving.records import ApiShape
from proteus_router.serving.upstream import Reply

__all__ = ["Completions"]

_log = logging.getLogger(__name__)
_WATCH_AFTER_S = 0.05  # faster answers are not worth a task that looks out for the client's leaving
_PATIENCE_S = 1.0  # beyond the deadline, for a client that takes what it is sent
_FORWARDED = ("anthropic-beta", "anthropic-version", "openai-beta", "idempotency-key")
_ANSWER_ID = re.compile(rb'"id"\s*:\s*"(resp[A-Za-z0-9_.-]{1,200})"')
_CLIENT_CLOSED = 499  # what proxies log where nobody was left to answer


class Completions:
    """The endpoint of one shape, as a plain ASGI application."""

    def __init__(self, gateway: Gateway, api: ApiShape, endpoint: str) -> None:
        self._gateway, self._api, self._endpoint = gateway, api, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = header_map(scope)
        exchange = Exchange(self._gateway, self._api, self._endpoint, headers)
        watch = _Watch(receive)
        try:
            try:
                payload = await self._decide(exchange, headers, receive)
                watch.begin()
                await self._answer(exchange, payload, headers, send, watch)
            except ProteusError as error:
                watch.end()
                problem = problem_of(error, self._api)
                exchange.refused(error, problem.status)
                await _send_problem(exchange, problem, send)
            except ClientGoneError:
                _gone(exchange)
            except asyncio.CancelledError:
                _gone(exchange)
                if not watch.client_left:  # the server shuts down
                    exchange.error_code = "shutdown"
                    raise
            except Exception:
                watch.end()
                _log.exception("request %s failed unexpectedly", exchange.request_id)
                exchange.ended("failed", "internal_error")
                if exchange.http_status:  # the answer has begun: cutting the connection is all that is left
                    raise
                exchange.http_status = 500
                await _send_problem(exchange, unexpected(api=self._api), send)
        finally:
            watch.end()
            if exchange.reply is not None:
                await exchange.reply.aclose()
            exchange.finish()

    async def _decide(
        self, exchange: Exchange, headers: dict[bytes, bytes], receive: Receive
    ) -> dict[str, Any]:
        """From headers and body to the model to call; the parsed body."""
        gateway, live = self._gateway, exchange.live
        limits = live.settings.server.limits
        key = exchange.key = gateway.caller(headers)
        body = await read_body(receive, headers, max_bytes=limits.max_body_bytes, timeout_s=limits.deadline_s)
        payload = parse_json(body, max_depth=limits.max_json_depth)
        if not isinstance(payload, dict):
            raise InvalidRequestError("the body must be a JSON object.")
        gateway.limits.admit(key)
        ask = read_ask(live, key, payload, headers)
        facts = read_facts(self._api, payload)
        exchange.ask, exchange.stream = ask, facts.stream
        routing = live.settings.routing
        text = encoded_text(
            facts.turns, routing.text, min(routing.max_text_chars, live.router.max_query_chars)
        )
        exchange.encoded = text
        if live.settings.store.keep_text:
            exchange.text = text
        pinned, locked = (None, False) if ask.direct else _session(exchange, facts, headers)
        budget_usd = gateway.limits.remaining_usd(key)
        selection = exchange.selection = Selection(
            live,
            self._api,
            ask,
            facts,
            text,
            pinned=pinned,
            locked=locked,
            budget_usd=budget_usd,
            available=gateway.upstream.available,
            rng=gateway.rng,
            steering=gateway.control.steering_of(ask.tier_name),
            quarantined=gateway.control.quarantined,
            ceilings=gateway.ceilings(ask, key, streamed=facts.stream),
        )
        if ask.direct is None:
            gateway.control.saw(text, selection.draw.predictions)
        try:
            exchange.pick = selection.first()
        except NoEligibleModelError:
            if selection.only_budget_is_short:
                gateway.limits.reserve(key, math.inf)  # says 429, and when to come again
            if selection.only_tier_budget_is_short and ask.tier_name is not None:
                raise gateway.budgets.exhausted(ask.tier_name) from None
            raise
        if budget_usd is not None:
            gateway.limits.reserve(key, exchange.pick.predicted_cost_usd)
            exchange.reserved_usd = exchange.pick.predicted_cost_usd
        if ask.tier is not None and ask.tier.budget is not None and ask.tier_name is not None:
            exchange.tier_reserved_usd = exchange.pick.predicted_cost_usd
            gateway.budgets.reserve(ask.tier_name, exchange.tier_reserved_usd)
        return payload

    async def _answer(
        self,
        exchange: Exchange,
        payload: dict[str, Any],
        headers: dict[bytes, bytes],
        send: Send,
        watch: _Watch,
    ) -> None:
        reply = await self._call(exchange, payload, headers)
        if exchange.session is not None and exchange.pick is not None:
            self._gateway.sessions.pin(exchange.session, exchange.pick.entry.name, exchange.started)
        content_type = reply.headers["content-type"].encode("latin-1", "replace")
        if reply.chunks is None:
            self._remember_answer(exchange, reply.body)
            said = exchange.headers()
            watch.end()
            exchange.http_status = reply.status
            await send_answer(send, reply.status, reply.body, said, content_type=content_type)
            return
        await self._stream(exchange, reply, content_type, send, watch)

    async def _stream(
        self, exchange: Exchange, reply: Reply, content_type: bytes, send: Send, watch: _Watch
    ) -> None:
        start = [(b"content-type", content_type), (b"cache-control", b"no-cache"), *exchange.headers()]
        limit_s = exchange.live.settings.server.limits.deadline_s + _PATIENCE_S
        exchange.http_status = reply.status
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + limit_s):
                await send({"type": "http.response.start", "status": reply.status, "headers": start})
                await self._pass_on(exchange, reply, send)
        except TimeoutError:  # upstreams end by their own deadline, so it is the client that takes nothing
            exchange.ended("failed", "client_too_slow")
            return
        watch.end()
        if reply.error is not None:
            exchange.ended("failed", reply.error.code)
            self._gateway.metrics.upstream_error(reply.error)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, exchange: Exchange, reply: Reply, send: Send) -> None:
        clock, first = self._gateway.clock.monotonic, True
        assert reply.chunks is not None
        waiting_since = clock()
        async for block in reply.chunks:
            exchange.waited_s += clock() - waiting_since
            if first:
                self._remember_answer(exchange, block)
                first = False
            elif exchange.text is not None:
                exchange.answer.append(block)
            await send({"type": "http.response.body", "body": block, "more_body": True})
            waiting_since = clock()
        exchange.waited_s += clock() - waiting_since

    async def _call(
        self, exchange: Exchange, payload: dict[str, Any], headers: Mapping[bytes, bytes]
    ) -> Reply:
        """The first answer of a model that may serve; the last failure where there is none."""
        live, clock = exchange.live, self._gateway.clock.monotonic
        deadline = exchange.started + live.settings.server.limits.deadline_s
        sent = {
            name: headers[name.encode()].decode("latin-1") for name in _FORWARDED if name.encode() in headers
        }
        if exchange.span is not None:
            sent |= self._gateway.tracer.upstream_headers(exchange.span)
        tried: frozenset[str] = frozenset()
        assert exchange.selection is not None
        while True:
            assert exchange.pick is not None
            failure: UpstreamError | None = None
            for model in exchange.pick.upstreams:
                began = clock()
                self._gateway.first_bytes.sent(model.name, began, streamed=exchange.stream)
                try:
                    reply = await self._gateway.upstream.call(
                        model, payload, headers=sent, deadline=deadline, stream=exchange.stream
                    )
                except UpstreamError as error:
                    exchange.failed_at(error)
                    failure = error
                    if not error.retryable or clock() >= deadline:
                        raise
                else:
                    exchange.answered_by(model, reply)
                    return reply
                finally:
                    exchange.waited_s += clock() - began
            assert failure is not None
            tried |= {exchange.pick.entry.name}
            other = exchange.selection.after(tried)
            if other is None:
                raise failure
            exchange.pick = other

    def _remember_answer(self, exchange: Exchange, start: bytes) -> None:
        """Keep text where the operator wants it; and which model can continue a stored response."""
        if exchange.text is not None:
            exchange.answer.append(start)
        if self._api == "responses" and exchange.key is not None and exchange.pick is not None:
            found = _ANSWER_ID.search(start[:4_096])
            if found:
                answer = session_key("answer", exchange.key.id, found[1].decode("ascii"))
                self._gateway.sessions.pin(answer, exchange.pick.entry.name, exchange.started)


def _session(exchange: Exchange, facts: Facts, headers: Mapping[bytes, bytes]) -> tuple[str | None, bool]:
    """The model this conversation is on, and whether it must stay there; names the session in `exchange`."""
    gateway, key = exchange.gateway, exchange.key
    assert key is not None
    wanted = exchange.live.settings.routing.sessions
    given = headers.get(wanted.header.lower().encode("latin-1"))
    opening = facts.opening if wanted.derive else None
    if given is not None:
        exchange.session = session_key("named", key.id, given.decode("latin-1"))
    elif opening is not None:
        exchange.session = session_key("derived", key.id, exchange.api, opening)
    now = exchange.started
    if facts.previous_id is not None:
        pinned = gateway.sessions.model_of(session_key("answer", key.id, facts.previous_id), now)
        if pinned is not None:
            return pinned, True
    if exchange.session is None or not (given is not None or facts.continues or facts.tool_loop):
        return None, False  # a conversation that begins; one that began with the same words is another
    return gateway.sessions.model_of(exchange.session, now), facts.tool_loop


def _gone(exchange: Exchange) -> None:
    exchange.ended("cancelled", "client_gone")
    if not exchange.http_status:
        exchange.http_status = _CLIENT_CLOSED


async def _send_problem(exchange: Exchange, problem: Problem, send: Send) -> None:
    headers = [*exchange.headers(), *problem.headers]
    await send_answer(send, problem.status, problem.body, headers, content_type=problem.content_type)


class _Watch:
    """Cancels the request's task when its client leaves; costs nothing where the answer comes at once."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self.client_left = False

    def begin(self) -> None:
        """The body has been read: whatever comes from the client now is its leaving."""
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._look)

    def end(self) -> None:
        """The end of the answer is near, after which `receive` says "disconnect" to everyone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._until_it_leaves())

    async def _until_it_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._looking is not None and self._task is not None:
            self.client_left = True
            self._looking = None
            self._task.cancel()
