"""The little of HTTP that the hot path needs, straight on ASGI: read a body within limits, send a whole answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from proteus_router.errors import InvalidRequestError, RequestTooLargeError
from proteus_router.serving.upstream.bodies import dumps, loads

__all__ = ["ClientGoneError", "Header", "header_map", "json_answer", "parse_json", "read_body", "send_answer"]

Header = tuple[bytes, bytes]
_JSON = b"application/json"


class ClientGoneError(Exception):
    """Nobody is listening any more. Not a `ProteusError`: there is nobody to tell."""


def header_map(scope: Scope) -> dict[bytes, bytes]:
    """Request headers by lower-case name; of a repeated one the last."""
    return dict(scope["headers"])


async def read_body(
    receive: Receive, headers: dict[bytes, bytes], *, max_bytes: int, timeout_s: float
) -> bytes:
    """The request's body.

    Raises
    ------
    RequestTooLargeError
        More than `max_bytes`, stated or sent.
    InvalidRequestError
        It did not arrive within `timeout_s`.
    ClientGoneError
        The client left before the end.
    """
    stated = headers.get(b"content-length", b"")
    if stated.isdigit() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part = message.get("body", b"")
                more = message.get("more_body", False)
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise InvalidRequestError(f"the body did not arrive within {timeout_s:g} s.") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parse_json(body: bytes, *, max_depth: int, allow_nan: bool = False) -> Any:
    """The JSON value in `body`; with `allow_nan` also NaN and Infinity, which are none.

    Raises
    ------
    InvalidRequestError
        Not JSON.
    RequestTooLargeError
        Nested deeper than `max_depth`.
    """
    try:
        may_be_nan = allow_nan and (b"NaN" in body or b"Infinity" in body)
        content = json.loads(body) if may_be_nan else loads(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError:
        raise InvalidRequestError("the body is not JSON.", hint="Send one JSON object, UTF-8.") from None
    # A body with few brackets can't be deep: nearly every one.
    if body.count(b"{") + body.count(b"[") > max_depth and _is_deeper(content, max_depth):
        raise _too_deep(max_depth)
    return content


def _is_deeper(content: Any, max_depth: int) -> bool:
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(max_depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def json_answer(content: Any) -> bytes:
    """`content` as JSON; numbers that are not finite become null."""
    return dumps(content)


async def send_answer(
    send: Send, status: int, body: bytes, headers: Iterable[Header] = (), *, content_type: bytes = _JSON
) -> None:
    """A whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _too_large(max_bytes: int) -> RequestTooLargeError:
    return RequestTooLargeError(
        f"the body is longer than {max_bytes} bytes.", hint="The operator sets server.limits.max_body_bytes."
    )


def _too_deep(max_depth: int) -> RequestTooLargeError:
    return RequestTooLargeError(
        f"the body is nested deeper than {max_depth} levels.",
        hint="The operator sets server.limits.max_json_depth.",
    )
