"""The text of a stored answer: one JSON document, or the events of a stream."""

from __future__ import annotations

from typing import Any

from proteus_router.serving.collect.exchange import said_in
from proteus_router.serving.records import ApiShape
from proteus_router.serving.upstream.bodies import loads

__all__ = ["answer_text"]


def answer_text(api: ApiShape, stored: str, *, stream: bool) -> str:
    """What the model said; "" where that holds no text (a tool call), or can't be read."""
    try:
        if not stream:
            body = loads(stored.encode())
            return said_in(api, body).text if isinstance(body, dict) else ""
        events = [loads(line[5:].encode()) for line in stored.splitlines() if _is_event(line)]
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):  # an upstream's word, in any shape
        return ""
    return "".join(_piece(api, event) for event in events if isinstance(event, dict))


def _is_event(line: str) -> bool:
    return line.startswith("data:") and line[5:].strip() != "[DONE]"


def _piece(api: ApiShape, event: dict[str, Any]) -> str:
    """The text that one event adds."""
    found: Any = None
    if api == "chat":
        choices = event.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        delta = first.get("delta") if isinstance(first, dict) else None
        found = delta.get("content") if isinstance(delta, dict) else None
    elif api == "responses":
        found = event.get("delta") if event.get("type") == "response.output_text.delta" else None
    elif event.get("type") == "content_block_delta":
        delta = event.get("delta")
        found = delta.get("text") if isinstance(delta, dict) else None
    return found if isinstance(found, str) else ""
