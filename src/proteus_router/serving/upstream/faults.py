"""What went wrong at an upstream, in the words of the error tree.

Messages name the model and never the address, the key or anything the upstream wrote: they reach callers and logs.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp

from proteus_router.errors import (
    UpstreamConnectError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
    UpstreamReplyError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from proteus_router.serving.records import PoolModel
from proteus_router.serving.upstream.bodies import loads

__all__ = ["as_upstream_error", "is_unanswered", "is_worth_retrying", "refusal"]

_OURS = {401, 402, 403, 404, 405, 406}
"""Refusals that come from the operator's key, address or model name, not from what the caller sent."""
_PASSING = {408, 409, 425}
"""Refusals that say "not now"."""


def as_upstream_error(error: Exception, model: PoolModel) -> UpstreamError:
    """The error of the tree for what the HTTP client raised."""
    name, limits = model.name, model.timeouts
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeoutError(f"{name}: no connection within {limits.connect_s:g} s.", model=name)
    if isinstance(error, aiohttp.SocketTimeoutError):
        return UpstreamTimeoutError(f"{name}: silent for {limits.first_byte_s:g} s.", model=name)
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(f"{name}: not done within the time allowed.", model=name)
    if isinstance(error, aiohttp.ClientSSLError):
        return UpstreamConnectError(f"{name}: no secure connection (TLS or its certificate).", model=name)
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno  # its text may hold the address
        why = os.strerror(code) if code and code > 0 else "no such host"
        return UpstreamConnectError(f"{name}: no connection ({why}).", model=name)
    if isinstance(error, aiohttp.ClientPayloadError):
        return UpstreamReplyError(f"{name} closed the connection before the end of its answer.", model=name)
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamReplyError(f"{name} answered with something that is not HTTP.", model=name)
    return UpstreamConnectError(f"{name} closed the connection.", model=name)


def is_unanswered(error: Exception) -> bool:
    """Whether an open connection was closed or reset before the first byte of an answer.

    So end connections that the other side held to be idle just when a request was sent on them.
    """
    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    return lost and not isinstance(error, aiohttp.ClientConnectorError)


def refusal(model: PoolModel, status: int, body: bytes, content_type: str) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    name = model.name
    if status == 429:
        return UpstreamRateLimitedError(f"{name} has too many requests.", model=name)
    if status in _OURS:
        return UpstreamReplyError(
            f"{name} refused the gateway itself (HTTP {status}).",
            model=name,
            hint="Check the pool entry's api_key, api_base and model.",
        )
    if 400 <= status < 500 and status not in _PASSING:
        return UpstreamRejectedError(
            f"{name} refused the request (HTTP {status}).",
            model=name,
            status=status,
            body=body,
            content_type=content_type,
        )
    return UpstreamReplyError(f"{name} failed (HTTP {status}).", model=name)


def is_worth_retrying(error: UpstreamError, status: int | None, body: bytes) -> bool:
    """Whether the same model may do better in a moment.

    A model that was silent until its time ran out is not asked again: another one answers sooner.
    """
    if isinstance(error, UpstreamRateLimitedError):
        return not _quota_is_spent(body)
    if isinstance(error, UpstreamTimeoutError | UpstreamRejectedError | UpstreamUnavailableError):
        return False
    return status is None or status >= 500 or status in _PASSING


def _quota_is_spent(body: bytes) -> bool:
    """Whether a 429 means an empty account, which no wait refills."""
    try:
        content: Any = loads(body)
    except ValueError:
        return False
    about = content.get("error") if isinstance(content, dict) else None
    return isinstance(about, dict) and about.get("code") == "insufficient_quota"
