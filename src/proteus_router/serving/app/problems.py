"""Errors as clients expect them: OpenAI's shape, Anthropic's on /v1/messages, headers that say when to come again."""

from __future__ import annotations

import math
from typing import Any

from proteus_router.errors import (
    InfeasibleCostError,
    InfeasibleTargetError,
    NoEligibleModelError,
    ProteusError,
    UpstreamRejectedError,
)
from proteus_router.serving.app.asgi import Header, json_answer
from proteus_router.serving.records import ApiShape

__all__ = ["Problem", "problem_of", "unexpected"]

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Problem:
    """One error, ready to be sent.

    Attributes
    ----------
    status, body, headers, content_type
        Of the answer.
    code
        The error's slug.
    """

    __slots__ = ("body", "code", "content_type", "headers", "status")

    def __init__(
        self, status: int, body: bytes, code: str, headers: tuple[Header, ...] = (), content_type: bytes = b""
    ) -> None:
        self.status = status
        self.body = body
        self.code = code
        self.headers = headers
        self.content_type = content_type or b"application/json"


def problem_of(error: ProteusError, api: ApiShape = "chat") -> Problem:
    """The answer for a deliberate error. What an upstream said about the caller's request passes through."""
    if isinstance(error, UpstreamRejectedError):
        return Problem(
            error.status, error.body, error.code, (), error.content_type.encode("latin-1", "replace")
        )
    details: dict[str, Any] = {}
    message = str(error)
    if isinstance(error, InfeasibleTargetError):
        details["best_certified"] = error.best_certified
        if error.best_certified is not None:
            message = f"{error.message} The best target that can be certified is {error.best_certified:g}."
            message = f"{message} {error.hint}".strip()
    if isinstance(error, InfeasibleCostError):
        details["least_cost_usd"] = error.least_cost_usd
    if isinstance(error, NoEligibleModelError):
        details["reasons"] = error.reasons
    headers: tuple[Header, ...] = ()
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))),)
    if error.http_status == 401:
        headers = (*headers, (b"www-authenticate", b"Bearer"))
    return _shaped(error.http_status, message, error.code, api, headers, details)


def unexpected(
    status: int = 500, message: str = "", code: str = "internal_error", api: ApiShape = "chat"
) -> Problem:
    """The answer where something else went wrong; it says nothing of what."""
    return _shaped(status, message or "Internal error; the log has the details.", code, api, (), {})


def _shaped(
    status: int, message: str, code: str, api: ApiShape, headers: tuple[Header, ...], details: dict[str, Any]
) -> Problem:
    if api == "messages":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        content: dict[str, Any] = {
            "type": "error",
            "error": {"type": kind, "message": message, "code": code, **details},
        }
    else:
        kind = _OPENAI_TYPES.get(status, "server_error")
        content = {"error": {"message": message, "type": kind, "param": None, "code": code, **details}}
    return Problem(status, json_answer(content), code, headers)
