"""Fakes around the application, and a client that speaks ASGI to it without a socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from starlette.applications import Starlette

from proteus_router.calibration.certify import calibrate
from proteus_router.errors import (
    DecisionNotFoundError,
    KeyNotFoundError,
    StoreUnavailableError,
    UpstreamError,
)
from proteus_router.routing.frontier import estimate_points, frontier_vertices, plugin_points
from proteus_router.routing.router import Router
from proteus_router.serving.app import Gateway, create_app
from proteus_router.serving.records import ApiKey, DecisionRecord, Feedback, PoolModel, Usage
from proteus_router.serving.settings import Configuration, make_configuration
from proteus_router.serving.store import FeedbackResult
from proteus_router.serving.tenants import Keyring, Limits
from proteus_router.serving.upstream import BreakerState, Reply
from proteus_router.types import Predictions

MODELS = ("small", "middle", "large")
POOL = ("large", "small", "middle")
"""The order of the configuration: neither by price nor by quality."""
PRICES = {"small": 1e-7, "middle": 1e-6, "large": 1e-5}
EASY, HARD = "x" * 5, "x" * 95
"""Texts on which the small model does about as well as the large one, and far worse."""


class LengthPredictor:
    """Long texts need the large model; of a text only the words made of x are known."""

    def predict(self, texts: list[str]) -> Predictions:
        length = np.array([min(len(text), 100) / 100 for text in texts])[:, None]  # (n, 1)
        scores = np.array([0.90, 0.92, 0.95]) - length * np.array([0.6, 0.3, 0.05])
        known = [
            np.mean([set(word) == {"x"} for word in text.split()]) if text.split() else 0.0 for text in texts
        ]
        return Predictions(
            scores,
            np.tile([1e-5, 1e-4, 1e-3], (len(texts), 1)),
            known_shares=np.array(known, dtype=np.float64),
        )


def make_router(*, manifest: Mapping[str, Any] | None = None) -> Router:
    """A router over three models that certifies targets up to about 0.90."""
    rng = np.random.default_rng(0)
    texts = ["x" * int(length) for length in rng.integers(1, 101, 3000)]
    predictions = LengthPredictor().predict(texts)
    scores = (rng.random(predictions.scores.shape) < predictions.scores).astype(np.float64)
    points = plugin_points(predictions, 60)
    estimates = estimate_points(points.choose_all(predictions), scores, predictions.costs_usd)
    kept = frontier_vertices(estimates, min_gap=0.002)
    policy = points.take(kept)
    target_map = calibrate(
        accuracy=estimates.accuracy[kept],
        cost_usd=estimates.cost_usd[kept],
        choices=policy.choose_all(predictions),
        scores=scores,
        costs_usd=predictions.costs_usd,
        confidence=0.95,
        scheme="crossfit",
        data_fingerprint="d",
        policy_fingerprint="p",
        seed=0,
    )
    return Router(MODELS, LengthPredictor(), policy, target_map, dict(manifest or {}))


def model_entry(name: str, **changes: Any) -> dict[str, Any]:
    """One entry of a model list; `changes` go to model_info."""
    info = {"input_cost_per_token": PRICES.get(name, 1e-6), "output_cost_per_token": PRICES.get(name, 1e-6)}
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/up-{name}",
            "api_base": "http://127.0.0.1:9/v1",
            "api_key": "sk-up-1",
        },
        "model_info": {**info, "proteus_api": ["chat", "responses", "messages"], **changes},
    }


def make_settings(**changes: Any) -> Configuration:
    """Three models, three tiers; no key is needed."""
    values: dict[str, Any] = {
        "model_list": [model_entry(name) for name in POOL],
        "tiers": {
            "economy": {"accuracy_target": 0.70},
            "standard": {"accuracy_target": 0.80},
            "relaxed": {"accuracy_target": 0.80, "on_infeasible": "best_effort"},
        },
        "default_tier": "standard",
        "auth": {"anonymous": True},
    }
    return make_configuration({**values, **changes}, source="test")


@dataclass
class FakeClock:
    now: float = 1_000.0

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now


class FakeStore:
    """Everything in memory; `down` makes it answer as a database that went away."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []
        self.feedback: list[Feedback] = []
        self.stored: list[tuple[ApiKey, str]] = []
        self.down = False
        self.pending, self.dropped, self.lag_s = 0, 0, 0.0
        self.loop: Any = None  # tests of the closed loop use a real store

    @property
    def last(self) -> DecisionRecord:
        return self.records[-1]

    def record(self, decision: DecisionRecord) -> None:
        self.records.append(decision)

    async def decision(self, decision_id: str, *, key_id: str | None) -> DecisionRecord:
        self._answer()
        for record in self.records:
            if record.id == decision_id and key_id in (None, record.key_id):
                return record
        raise DecisionNotFoundError(f"no decision {decision_id!r}.")

    async def add_feedback(self, items: Sequence[Feedback]) -> list[FeedbackResult]:
        self._answer()
        self.feedback += items
        return [FeedbackResult(item.decision_id, item.source, "stored") for item in items]

    async def create_key(self, key: ApiKey, token_sha256: str) -> None:
        self._answer()
        self.stored.append((key, token_sha256))

    async def revoke_key(self, key_id: str) -> ApiKey:
        self._answer()
        for place, (key, digest) in enumerate(self.stored):
            if key.id == key_id:
                self.stored[place] = (replace(key, revoked_at=1.0), digest)
                return self.stored[place][0]
        raise KeyNotFoundError(f"no key {key_id!r}.")

    async def stored_keys(self) -> list[tuple[ApiKey, str]]:
        self._answer()
        return self.stored

    async def list_keys(self) -> list[ApiKey]:
        return [key for key, _ in await self.stored_keys()]

    async def spent_by_key(self, since: float) -> dict[str, float]:
        return {}

    async def spent_by_tier(self, since: float) -> dict[str, float]:
        return {}

    async def overview(self, since: float) -> dict[str, Any]:
        return {"mix": [], "latest": []}

    async def healthy(self) -> bool:
        return not self.down

    def _answer(self) -> None:
        if self.down:
            raise StoreUnavailableError("store: no answer.")


async def until(happened: Callable[[], Any], within_s: float = 5.0) -> None:
    """Wait for what another task is about to do."""
    async with asyncio.timeout(within_s):
        while not happened():  # noqa: ASYNC110 - the fakes have nothing to wait on
            await asyncio.sleep(0.005)


@dataclass
class Call:
    model: PoolModel
    body: dict[str, Any]
    headers: dict[str, str]
    deadline: float
    stream: bool


@dataclass
class FakeUpstream:
    """Answers by script, a polite one unless told otherwise."""

    clock: FakeClock
    script: dict[str, UpstreamError] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    events: list[bytes] = field(default_factory=lambda: [b'data: {"model":"m"}\n\n', b"data: [DONE]\n\n"])
    usage: Usage | None = field(default_factory=lambda: Usage(10, 20))
    stream_error: UpstreamError | None = None
    wait: asyncio.Event | None = None
    took_s: float = 0.25
    slow: dict[str, float] = field(default_factory=dict)  # seconds to the first byte where they differ
    body: bytes | None = None
    replies: list[Reply] = field(default_factory=list)

    def available(self, model: PoolModel) -> bool:
        return model.name not in self.broken

    def breaker_state(self, model: PoolModel) -> BreakerState:
        return "open" if model.name in self.broken else "closed"

    async def call(
        self, model: PoolModel, body: Any, *, headers: Mapping[str, str], deadline: float, stream: bool
    ) -> Reply:
        self.calls.append(Call(model, dict(body), dict(headers), deadline, stream))
        if self.wait is not None:
            await self.wait.wait()
        took_s = self.slow.get(model.name, self.took_s)
        self.clock.now += took_s
        if model.name in self.script:
            raise self.script[model.name]
        if stream:
            reply = Reply(model, {"content-type": "text/event-stream"}, b"", None, took_s)
            reply.chunks = self._stream(reply)
        else:
            content = json.dumps({"id": "resp_1", "model": model.name, "n": 1.0}).encode()
            reply = Reply(
                model,
                {"content-type": "application/json"},
                self.body or content,
                None,
                took_s,
                usage=self.usage,
            )
        self.replies.append(reply)
        return reply

    async def _stream(self, reply: Reply) -> AsyncIterator[bytes]:
        for place, event in enumerate(self.events):
            if place and self.wait is not None:
                self.wait.clear()
                await self.wait.wait()
            yield event
        reply.usage = self.usage
        reply.error = self.stream_error


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)


class Harness:
    """The application with its fakes, and requests to it."""

    def __init__(self, configuration: Configuration | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = options.pop("store", None) or FakeStore()
        self.upstream = FakeUpstream(self.clock)
        self.keyring = Keyring(self.store, clock=self.clock)
        self.limits = Limits(self.store, clock=self.clock)
        self.app: Starlette = create_app(
            configuration or make_settings(),
            router=options.pop("router", None) or ROUTER,
            store=self.store,
            keyring=self.keyring,
            limits=self.limits,
            upstream=self.upstream,
            clock=self.clock,
            rng=random.Random(7),
            **options,
        )
        self.gateway: Gateway = self.app.state.gateway

    def chat(self, text: Any = EASY, *, model: str = "proteus", **fields: Any) -> Answered:
        """POST /v1/chat/completions with one user message."""
        headers = fields.pop("headers", None)
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.post("/v1/chat/completions", body, headers=headers)

    def post(self, path: str, body: Any, *, headers: Mapping[str, str] | None = None) -> Answered:
        return asyncio.run(self.request("POST", path, body, headers=headers))

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answered:
        return asyncio.run(self.request(method, path, None, headers=headers))

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        leave: asyncio.Event | None = None,
        parts: Sequence[bytes] | None = None,
    ) -> Answered:
        """One request; `leave` set means that the client hangs up, `parts` sends the body piece by piece."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        pieces = list(parts) if parts is not None else [data]
        answered = Answered(0, {}, [])
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            waits = [asyncio.ensure_future(event.wait()) for event in (leave, done) if event is not None]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in waits:
                    waiting.cancel()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                answered.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
                return
            if message.get("body"):
                answered.chunks.append(message["body"])
            if not message.get("more_body", False):
                done.set()

        plain, _, query = path.partition("?")
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)
        return answered

    def add_key(self, **limits: Any) -> dict[str, str]:
        """A tenant's key; the headers that carry it."""
        from proteus_router.serving.tenants import issue_key

        async def add() -> str:
            _, token = await issue_key(self.store, ApiKey(id="", name="tenant", **limits))
            await self.keyring.refresh()
            return token

        return {"authorization": f"Bearer {asyncio.run(add())}"}


ROUTER = make_router()
