"""Tokens and money of one answer, from what the upstream says it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proteus_router.serving.records import ApiShape, PoolModel, Usage

__all__ = ["cost_usd", "read_usage", "usage_of"]

_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")


def usage_of(api: ApiShape, payload: Any) -> Usage | None:
    """Usage in an answer's body, or None where it has none that can be read."""
    return read_usage(api, payload.get("usage")) if isinstance(payload, Mapping) else None


def read_usage(api: ApiShape, usage: Any) -> Usage | None:
    """Usage from the ``usage`` object of an answer.

    Messages counts tokens written to and read from its prompt cache beside ``input_tokens``; here they are part of the
    input, as they are in the other two shapes.
    """
    if not isinstance(usage, Mapping):
        return None
    asked, answered = (
        ("prompt_tokens", "completion_tokens") if api == "chat" else ("input_tokens", "output_tokens")
    )
    inputs, outputs = _count(usage.get(asked)), _count(usage.get(answered))
    if inputs is None or outputs is None:
        return None
    if api == "messages":
        inputs += sum(_count(usage.get(name)) or 0 for name in _CACHED)
    return Usage(inputs, outputs)


def cost_usd(model: PoolModel, usage: Usage) -> float:
    """What `usage` costs at the model's billing prices."""
    return usage.input_tokens * model.input_usd_per_token + usage.output_tokens * model.output_usd_per_token


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
