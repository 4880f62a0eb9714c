"""What the tests of upstreams share: bodies, a fast retry policy, deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from proteus_router.serving.records import ApiShape, PoolModel
from proteus_router.serving.upstream import RetryPolicy, UpstreamClient

__all__ = ["BODIES", "FAST", "MakeModel", "Opened", "soon"]

FAST = RetryPolicy(first_wait_s=0.01, longest_wait_s=0.02)
BODIES: dict[ApiShape, dict[str, Any]] = {
    "chat": {"model": "proteus", "messages": [{"role": "user", "content": "Which is prime: 21, 27, 29?"}]},
    "responses": {"model": "proteus", "input": "Which is prime: 21, 27, 29?"},
    "messages": {
        "model": "proteus",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "Which is prime: 21, 27, 29?"}],
    },
}
Opened = Callable[..., AbstractAsyncContextManager[UpstreamClient]]
MakeModel = Callable[..., PoolModel]


def soon(seconds: float = 10.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
