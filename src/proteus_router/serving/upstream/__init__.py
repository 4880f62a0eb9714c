"""Calls to the models of a pool: timeouts, retries, breakers, streams that end well, usage and cost."""

from proteus_router.serving.upstream.bodies import upstream_body
from proteus_router.serving.upstream.breaker import Breaker, BreakerPolicy, BreakerState
from proteus_router.serving.upstream.client import UpstreamClient
from proteus_router.serving.upstream.reply import Reply
from proteus_router.serving.upstream.retry import RetryPolicy
from proteus_router.serving.upstream.rewrite import rewrite_model
from proteus_router.serving.upstream.sse import error_event
from proteus_router.serving.upstream.usage import cost_usd, usage_of

__all__ = [
    "Breaker",
    "BreakerPolicy",
    "BreakerState",
    "Reply",
    "RetryPolicy",
    "UpstreamClient",
    "cost_usd",
    "error_event",
    "rewrite_model",
    "upstream_body",
    "usage_of",
]
