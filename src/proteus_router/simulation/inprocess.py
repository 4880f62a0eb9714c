"""Calls of an ASGI application without a socket."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from proteus_router.serving.app import Gateway
from proteus_router.serving.upstream.bodies import dumps, loads

__all__ = ["Answered", "ask", "make_repeatable"]


def make_repeatable(gateway: Gateway, seed: int) -> None:
    """Number the decisions and seed the audits' coins, so that the same requests give the same answers and audits."""
    numbers = itertools.count(1)
    gateway.decision_id = lambda: f"dec_{next(numbers):032x}"
    gateway.audit_seed = f"simulation {seed}"


@dataclass(slots=True)
class Answered:
    """An answer as a client would get it."""

    status: int = 0
    headers: dict[bytes, bytes] | None = None
    body: bytes = b""

    def json(self) -> Any:
        return loads(self.body)


async def ask(
    app: ASGIApp, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None
) -> Answered:
    """One request, and its whole answer; `content` is sent as JSON, or as it is where it is bytes."""
    body = content if isinstance(content, bytes) else b"" if content is None else dumps(content)
    plain, _, query = path.partition("?")
    answered = Answered()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.status, answered.headers = message["status"], dict(message["headers"])
        else:
            answered.body += message.get("body", b"")

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
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return answered
