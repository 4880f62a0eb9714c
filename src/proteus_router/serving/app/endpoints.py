"""The endpoints beside the three that call models: each a small function from a request to an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from proteus_router.errors import (
    DecisionNotFoundError,
    InvalidFeedbackError,
    InvalidRequestError,
    ProteusError,
)
from proteus_router.serving.app.asgi import (
    ClientGoneError,
    Header,
    header_map,
    json_answer,
    parse_json,
    read_body,
    send_answer,
)
from proteus_router.serving.app.ask import ALIAS, read_ask
from proteus_router.serving.app.facts import Facts, encoded_text, read_facts
from proteus_router.serving.app.gateway import Gateway
from proteus_router.serving.app.problems import problem_of, unexpected
from proteus_router.serving.app.selection import Selection
from proteus_router.serving.records import ApiShape, DecisionRecord, Feedback
from proteus_router.serving.store import FeedbackResult

__all__ = [
    "Answer",
    "Endpoint",
    "Handler",
    "decision",
    "feedback",
    "healthz",
    "metrics",
    "models",
    "readyz",
    "route",
]

_log = logging.getLogger(__name__)
MAX_FEEDBACK_ITEMS = 1_000
_FEEDBACK_FIELDS = ("decision_id", "source", "score", "comment")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint says."""

    content: Any
    status: int = 200
    headers: tuple[Header, ...] = ()
    content_type: bytes = b"application/json"


Handler = Callable[[Gateway, Request], Awaitable[Answer]]


class Endpoint:
    """Runs one handler, and turns what it returns or raises into an answer, a metric and a line of the log."""

    def __init__(self, gateway: Gateway, name: str, handler: Handler) -> None:
        self._gateway, self._name, self._handler = gateway, name, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway, headers = self._gateway, header_map(scope)
        started, request_id = gateway.clock.monotonic(), gateway.request_id(headers)
        try:
            answer = await self._handler(gateway, Request(scope, receive))
            body = answer.content if isinstance(answer.content, bytes) else json_answer(answer.content)
        except ClientGoneError:
            return
        except ProteusError as error:
            problem = problem_of(error)
            answer, body = Answer(None, problem.status, problem.headers), problem.body
        except Exception:
            _log.exception("request %s failed unexpectedly", request_id)
            problem = unexpected()
            answer, body = Answer(None, problem.status), problem.body
        said = ((b"x-request-id", request_id.encode("ascii")), *answer.headers)
        await send_answer(send, answer.status, body, said, content_type=answer.content_type)
        seconds = gateway.clock.monotonic() - started
        gateway.metrics.request(self._name, answer.status, seconds)
        gateway.request_log.request(self._name, scope["method"], answer.status, seconds, request_id)


async def read_json(gateway: Gateway, request: Request) -> dict[str, Any]:
    """The JSON object a request carries, within the limits."""
    content = await read_json_value(gateway, request)
    if not isinstance(content, dict):
        raise InvalidRequestError("the body must be a JSON object.")
    return content


async def read_json_value(gateway: Gateway, request: Request, *, allow_nan: bool = False) -> Any:
    """The JSON a request carries, within the limits; with NaN and infinity as Python writes them where `allow_nan`."""
    limits = gateway.live.settings.server.limits
    body = await read_body(
        request.receive,
        header_map(request.scope),
        max_bytes=limits.max_body_bytes,
        timeout_s=limits.deadline_s,
    )
    return parse_json(body, max_depth=limits.max_json_depth, allow_nan=allow_nan)


async def healthz(gateway: Gateway, request: Request) -> Answer:
    """The process lives."""
    return Answer({"status": "ok"})


async def readyz(gateway: Gateway, request: Request) -> Answer:
    """Whether requests can be served. A database that is away does not change that: decisions wait for it."""
    live = gateway.live
    available = sum(
        any(gateway.upstream.available(model) for models in entry.deployments.values() for model in models)
        for entry in live.entries.values()
    )
    healthy = await gateway.store.healthy()
    return Answer(
        {
            "status": "ready" if available else "no model available",
            "models_available": available,
            "models": len(live.entries),
            "store": "ok" if healthy else "unavailable",
            "generation": live.generation,
        },
        status=200 if available else 503,
    )


async def metrics(gateway: Gateway, request: Request) -> Answer:
    """Prometheus' text format."""
    gateway.allow_metrics(header_map(request.scope))
    return Answer(gateway.metrics.exposition(), content_type=gateway.metrics.content_type)


async def models(gateway: Gateway, request: Request) -> Answer:
    """What may stand in ``model``: the alias, tiers and pool names that this key may use."""
    key, sees = gateway.reader(header_map(request.scope))
    live, created = gateway.live, int(gateway.started_at)
    entries: list[dict[str, Any]] = []
    for name in (ALIAS, *(f"{ALIAS}/{tier}" for tier in live.tiers)):
        tier_name = (key.tier or live.settings.server_tier) if name == ALIAS else name.split("/", 1)[1]
        if tier_name not in live.tiers or (key.tiers is not None and tier_name not in key.tiers):
            continue
        tier = live.tiers[tier_name]
        entries.append(
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "proteus",
                "tier": tier_name,
                "accuracy_target": tier.accuracy_target,
            }
        )
    for name, entry in live.entries.items():
        if sees is None or key.models is None or name in key.models:
            entries.append(
                {
                    "id": name,
                    "object": "model",
                    "created": created,
                    "owned_by": "pool",
                    "apis": sorted(entry.deployments),
                }
            )
    return Answer({"object": "list", "data": entries})


async def route(gateway: Gateway, request: Request) -> Answer:
    """The decision for a request of any shape, explained; nothing is called and nothing recorded."""
    headers = header_map(request.scope)
    (key, _), live = gateway.reader(headers), gateway.live  # an admin's key too: nothing is called
    body = await read_json(gateway, request)
    gateway.limits.admit(key)
    api = _shape(body)
    ask = read_ask(live, key, body, headers)
    facts = read_facts(api, body)
    routing = live.settings.routing
    text = encoded_text(facts.turns, routing.text, min(routing.max_text_chars, live.router.max_query_chars))
    selection = Selection(
        live,
        api,
        ask,
        facts,
        text,
        pinned=None,
        locked=False,
        budget_usd=gateway.limits.remaining_usd(key),
        available=gateway.upstream.available,
        rng=gateway.rng,
        steering=gateway.control.steering_of(ask.tier_name),
        quarantined=gateway.control.quarantined,
        ceilings=gateway.ceilings(ask, key, streamed=facts.stream),
    )
    pick = selection.first()
    return Answer(
        {
            "object": "proteus.route",
            "model": pick.entry.name,
            "tier": ask.tier_name,
            "accuracy_target": ask.accuracy_target,
            "accuracy_target_from": ask.target_source or None,
            "internal_target": selection.draw.internal_target,
            "certified": pick.certified,
            "predicted_score": selection.draw.predicted_score(pick),
            "predicted_cost_usd": pick.predicted_cost_usd,
            "propensity": pick.propensity,
            "gave_way": list(pick.gave_way),
            "reasons": [*selection.draw.reasons(), *([pick.reason] if pick.reason else [])],
            "encoded": _encoded(facts, text),
            "candidates": list(selection.candidates(with_reasons=True)),
            "certificate": selection.draw.certificate(),
            "generation": live.generation,
            "router": live.fingerprint,
        }
    )


def _encoded(facts: Facts, text: str) -> dict[str, int]:
    """How much of the conversation the router read; the text itself stays out of answers that others may log."""
    return {"characters": len(text), "messages": len(facts.turns)}


def _shape(body: Mapping[str, Any]) -> ApiShape:
    """The shape a body has: ``api`` says it, else its fields do."""
    given = body.get("api")
    if given is None:
        return "responses" if "input" in body else "chat"
    shapes: tuple[ApiShape, ...] = ("chat", "responses", "messages")
    for shape in shapes:
        if given == shape:
            return shape
    raise InvalidRequestError("api must be chat, responses or messages.")


async def decision(gateway: Gateway, request: Request) -> Answer:
    """One decision, to the key that made it or to an admin."""
    _, sees = gateway.reader(header_map(request.scope))
    decision_id = str(request.path_params["decision_id"])
    if len(decision_id) > 100 or not decision_id.isascii():
        raise DecisionNotFoundError("no such decision.")
    return Answer(_document(await gateway.store.decision(decision_id, key_id=sees)))


def _document(record: DecisionRecord) -> dict[str, Any]:
    return {"object": "proteus.decision", **asdict(record)}


async def feedback(gateway: Gateway, request: Request) -> Answer:
    """Scores for decisions, one or a list; acknowledged once they are committed."""
    _, sees = gateway.reader(header_map(request.scope))
    body = await read_json_value(gateway, request, allow_nan=True)
    many = isinstance(body, list)
    if many and not 0 < len(body) <= MAX_FEEDBACK_ITEMS:
        raise InvalidFeedbackError(
            f"feedback: {len(body):,} items at once; 1 to {MAX_FEEDBACK_ITEMS:,} are allowed."
        )
    read = [_feedback(gateway, item, sees) for item in (body if many else [body])]
    stored = await asyncio.shield(
        gateway.store.add_feedback([item for item in read if isinstance(item, Feedback)])
    )
    answers = iter(stored)  # one item that is wrong by itself holds up none of the others
    results = [next(answers) if isinstance(item, Feedback) else item for item in read]
    for result in results:
        gateway.metrics.feedback(result.status)
    if not many and results[0].error is not None:
        raise results[0].error
    documents = [
        {
            "decision_id": result.decision_id,
            "source": result.source,
            "status": result.status,
            "error": None
            if result.error is None
            else {"code": result.error.code, "message": str(result.error)},
        }
        for result in results
    ]
    if many:
        return Answer({"object": "list", "data": documents})
    return Answer({"object": "proteus.feedback", **documents[0]})


def _feedback(gateway: Gateway, item: Any, sees: str | None) -> Feedback | FeedbackResult:
    if not isinstance(item, dict):
        raise InvalidRequestError("feedback must be an object, or a list of objects.")
    unknown = [name for name in item if name not in _FEEDBACK_FIELDS]
    if unknown:
        raise InvalidRequestError(
            f"feedback has no field {unknown[0][:100]!r}.", hint=f"It may hold {', '.join(_FEEDBACK_FIELDS)}."
        )
    decision_id, source, comment = item.get("decision_id"), item.get("source", "user"), item.get("comment")
    score = item.get("score")
    if not isinstance(decision_id, str) or not isinstance(source, str):
        raise InvalidRequestError("decision_id and source must be text.")
    if comment is not None and not isinstance(comment, str):
        raise InvalidRequestError("comment must be text.")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        error = InvalidFeedbackError("score must be a number in [0, 1].")
        return FeedbackResult(decision_id[:100], source[:100], "invalid", error)
    return Feedback(
        decision_id=decision_id,
        source=source,
        score=float(score),
        created_at=gateway.clock.wall(),
        key_id=sees,
        comment=comment,
        trusted=sees is None or gateway.is_operator(sees),
    )
