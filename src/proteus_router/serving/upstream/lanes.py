"""What is kept of one upstream between calls: its address, its headers, its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from multidict import CIMultiDict
from yarl import URL

from proteus_router.serving.records import ApiShape, PoolModel
from proteus_router.serving.upstream.breaker import Breaker, BreakerPolicy
from proteus_router.serving.upstream.retry import RetryBudget, RetryPolicy

__all__ = ["Lane"]

_PATHS: Mapping[ApiShape, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "messages": "/messages",
}
_DEFAULTS: Mapping[ApiShape, Mapping[str, str]] = {
    "chat": {},
    "responses": {},
    "messages": {"anthropic-version": "2023-06-01"},
}
_KEYS = ("authorization", "x-api-key", "api-key", "cookie", "proxy-authorization")
_CONNECTION = ("host", "connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "expect")
_BODY = (
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "accept",
    "accept-encoding",
)
_NEVER_FORWARDED = frozenset((*_KEYS, *_CONNECTION, *_BODY, "user-agent"))


@dataclass(slots=True)
class Lane:
    """One upstream as the client keeps it."""

    model: PoolModel
    url: URL
    own: CIMultiDict[str]
    headers: CIMultiDict[str]
    breaker: Breaker
    budget: RetryBudget

    @classmethod
    def of(cls, model: PoolModel, breaker: BreakerPolicy, retry: RetryPolicy) -> Lane:
        own: CIMultiDict[str] = CIMultiDict({"Content-Type": "application/json"})
        if model.api_key and model.api == "messages":
            own["x-api-key"] = model.api_key
        elif model.api_key:
            own["Authorization"] = f"Bearer {model.api_key}"
        own.update(model.headers)
        headers = CIMultiDict(_DEFAULTS[model.api])
        headers.update(own)
        url = URL(model.api_base.rstrip("/") + _PATHS[model.api])
        return cls(model, url, own, headers, Breaker(breaker), RetryBudget(retry))

    def headers_with(self, given: Mapping[str, str]) -> CIMultiDict[str]:
        """Headers of one request: the defaults of the shape, under the caller's, under the pool entry's own."""
        if not given:
            return self.headers
        headers = CIMultiDict(_DEFAULTS[self.model.api])
        headers.update((name, text) for name, text in given.items() if name.lower() not in _NEVER_FORWARDED)
        headers.update(self.own)
        return headers
