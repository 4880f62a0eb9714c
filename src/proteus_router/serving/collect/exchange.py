"""One prompt as a request in a model's own API shape, and the text of what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proteus_router.serving.records import ApiShape

__all__ = ["Said", "Wording", "said_in"]

_MOST_TOKENS = 4096  # Messages insists on a limit


@dataclass(frozen=True, slots=True)
class Wording:
    """What every request carries beside the prompt.

    Attributes
    ----------
    system
        Instructions; "" for none.
    extra
        Further fields of the body, such as ``temperature``.
    """

    system: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def request(self, api: ApiShape, text: str) -> dict[str, Any]:
        """The body that asks `text`, without the model."""
        user = {"role": "user", "content": text}
        if api == "chat":
            system = [{"role": "system", "content": self.system}] if self.system else []
            return {"messages": [*system, user], **self.extra}
        if api == "responses":
            return {"input": text, **({"instructions": self.system} if self.system else {}), **self.extra}
        body = {"max_tokens": _MOST_TOKENS, "messages": [user], **self.extra}
        return {"system": self.system, **body} if self.system else body


@dataclass(frozen=True, slots=True)
class Said:
    """The text of an answer, and whether a limit on its length cut it off."""

    text: str
    cut: bool


def said_in(api: ApiShape, body: Mapping[str, Any]) -> Said:
    """What the model said; "" where its answer holds no text."""
    if api == "chat":
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        content = (choice.get("message") or {}).get("content")
        return Said(_joined(content), choice.get("finish_reason") == "length")
    if api == "responses":
        items = body.get("output") or []
        texts = [_joined(item.get("content")) for item in items if item.get("type") == "message"]
        return Said("".join(texts), body.get("status") == "incomplete")
    return Said(_joined(body.get("content")), body.get("stop_reason") == "max_tokens")


def _joined(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
