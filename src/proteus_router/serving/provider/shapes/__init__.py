"""The three API shapes the provider speaks, each a module that reads a request and renders an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proteus_router.serving.provider.answers import Answer, Ask
from proteus_router.serving.provider.shapes import chat, messages, responses
from proteus_router.serving.records import ApiShape

__all__ = ["SHAPES", "Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One API.

    Attributes
    ----------
    read
        A request's body to what is asked; raises `BadRequestError`.
    whole, events
        An answer as one JSON body, and as the events of a stream. Arguments: ask, answer, id, words an event.
    error
        HTTP status, code and message as an error body.
    """

    api: ApiShape
    path: str
    read: Callable[[Mapping[str, Any]], Ask]
    whole: Callable[[Ask, Answer, str], bytes]
    events: Callable[[Ask, Answer, str, int], list[bytes]]
    error: Callable[[int, str, str], bytes]


SHAPES = (
    Shape("chat", "/v1/chat/completions", chat.read, chat.whole, chat.events, chat.error),
    Shape("responses", "/v1/responses", responses.read, responses.whole, responses.events, chat.error),
    Shape("messages", "/v1/messages", messages.read, messages.whole, messages.events, messages.error),
)
