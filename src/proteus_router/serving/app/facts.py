"""What the gateway reads of a request, for each of the three shapes; everything else passes through unread.

The text that is encoded is documented in docs/gateway.md. Nothing here changes the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proteus_router.errors import InvalidRequestError
from proteus_router.serving.records import ApiShape

__all__ = ["Facts", "Turn", "encoded_text", "read_facts"]

_IMAGE_BYTES = 4_000  # counted for an image where context length is estimated: about 1,000 tokens
_BYTES_PER_TOKEN = 4.0
_INSTRUCTIONS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: who speaks, and the text of it, "" where it has none."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What eligibility, sessions and the router need to know.

    Attributes
    ----------
    turns
        The conversation, instructions first where they stand beside it.
    stream, images, tools, json_mode
        What the request asks for.
    tool_loop
        The last message is the result of a tool call: the model that asked for it must go on.
    previous_id
        Responses: the answer that this request continues, kept by the upstream that gave it.
    input_tokens, output_tokens
        Estimated tokens of the input (4 bytes each), and the most the caller allows for the answer; 0 where
        it doesn't say.
    """

    turns: tuple[Turn, ...]
    stream: bool
    images: bool
    tools: bool
    json_mode: bool
    tool_loop: bool
    previous_id: str | None
    input_tokens: int
    output_tokens: int

    @property
    def opening(self) -> str | None:
        """What tells this conversation from others: its instructions and its first user message."""
        for place, turn in enumerate(self.turns):
            if turn.role == "user":
                return "\0".join(turn.text for turn in self.turns[: place + 1])
        return None

    @property
    def continues(self) -> bool:
        """Whether a model has spoken in the conversation already."""
        return any(turn.role == "assistant" for turn in self.turns)


def encoded_text(turns: tuple[Turn, ...], scope: str, max_chars: int) -> str:
    """The text the router sees; "" where the request has none.

    Parameters
    ----------
    scope
        ``last_user``, ``first_user``, ``all_user`` or ``conversation``.
    max_chars
        Of a longer text the first and last halves are joined by a line break.
    """
    if scope == "conversation":
        text = "\n\n".join(turn.text for turn in turns if turn.text)
    else:
        said = [turn.text for turn in turns if turn.role == "user" and turn.text and not turn.text.isspace()]
        text = (
            "\n\n".join(said)
            if scope == "all_user"
            else said[-1 if scope == "last_user" else 0]
            if said
            else ""
        )
    if len(text) <= max_chars:
        return "" if text.isspace() else text
    half = max_chars // 2
    return f"{text[:half]}\n{text[-half:]}"


def read_facts(api: ApiShape, body: Mapping[str, Any]) -> Facts:
    """Read one request.

    Raises
    ------
    InvalidRequestError
        A field this module reads is missing or of another type than the API says.
    """
    return _READERS[api](body)


class _Reading:
    """Collects what is met on the way through the messages."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.size = 0
        self.images = False

    def say(self, role: str, texts: list[str]) -> None:
        text = texts[0] if len(texts) == 1 else "\n".join(texts)
        # In UTF-8: scripts beyond Latin need more tokens a letter, in about that proportion.
        self.size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self.turns.append(Turn(role, text))

    def image(self) -> None:
        self.images = True
        self.size += _IMAGE_BYTES

    def facts(
        self,
        body: Mapping[str, Any],
        *,
        tools: Any,
        json_mode: bool,
        tool_loop: bool,
        most: Any,
        previous_id: str | None = None,
    ) -> Facts:
        stream = body.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise InvalidRequestError("stream must be true or false.")
        if tools:
            self.size += len(str(tools))
        return Facts(
            turns=tuple(self.turns),
            stream=bool(stream),
            images=self.images,
            tools=bool(tools),
            json_mode=json_mode,
            tool_loop=tool_loop,
            previous_id=previous_id,
            input_tokens=int(self.size / _BYTES_PER_TOKEN),
            output_tokens=most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else 0,
        )


def _read_chat(body: Mapping[str, Any]) -> Facts:
    reading, last_role = _Reading(), ""
    for message in _messages(body, "messages"):
        last_role = _role(message, "messages")
        texts = _texts(message.get("content"), "messages", reading, images=("image_url", "input_image"))
        reading.say(last_role, texts)
    response_format = body.get("response_format")
    return reading.facts(
        body,
        tools=body.get("tools") or body.get("functions"),
        json_mode=_wants_json(response_format),
        tool_loop=last_role in ("tool", "function"),
        most=body.get("max_completion_tokens") or body.get("max_tokens"),
    )


def _read_responses(body: Mapping[str, Any]) -> Facts:
    reading, last_kind = _Reading(), ""
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        reading.say("system", [instructions])
    given = body.get("input")
    if isinstance(given, str):
        reading.say("user", [given])
    elif given is not None:
        for item in _messages(body, "input"):
            last_kind = str(item.get("type") or "message")
            if "role" in item:
                texts = _texts(item.get("content"), "input", reading, images=("input_image",))
                reading.say(_role(item, "input"), texts)
            elif last_kind.endswith("_output"):
                output = item.get("output")
                reading.say("tool", [output] if isinstance(output, str) else [])
            else:
                reading.say("assistant", [])  # a call of a tool, or reasoning: a model's own words
    text = body.get("text")
    previous = body.get("previous_response_id")
    if previous is not None and not isinstance(previous, str):
        raise InvalidRequestError("previous_response_id must be text.")
    return reading.facts(
        body,
        tools=body.get("tools"),
        json_mode=_wants_json(text.get("format") if isinstance(text, Mapping) else None),
        tool_loop=last_kind.endswith("_output"),
        most=body.get("max_output_tokens"),
        previous_id=previous,
    )


def _read_messages(body: Mapping[str, Any]) -> Facts:
    reading, tool_loop = _Reading(), False
    system = body.get("system")
    if system is not None:
        reading.say("system", _texts(system, "system", reading, images=()))
    for message in _messages(body, "messages"):
        content = message.get("content")
        tool_loop = isinstance(content, list) and any(
            isinstance(part, Mapping) and part.get("type") == "tool_result" for part in content
        )
        reading.say(_role(message, "messages"), _texts(content, "messages", reading, images=("image",)))
    output = body.get("output_format") or (body.get("output_config") or {})
    if isinstance(output, Mapping):
        output = output.get("format", output)
    return reading.facts(
        body,
        tools=body.get("tools"),
        json_mode=_wants_json(output),
        tool_loop=tool_loop,
        most=body.get("max_tokens"),
    )


_READERS: Mapping[ApiShape, Callable[[Mapping[str, Any]], Facts]] = {
    "chat": _read_chat,
    "responses": _read_responses,
    "messages": _read_messages,
}


def _messages(body: Mapping[str, Any], field: str) -> Iterator[Mapping[str, Any]]:
    items = body.get(field)
    if not isinstance(items, list) or not items:
        raise InvalidRequestError(f"{field} must be a list of at least one message.")
    for item in items:
        if not isinstance(item, dict):
            raise InvalidRequestError(f"every entry of {field} must be an object.")
        yield item


def _role(message: Mapping[str, Any], field: str) -> str:
    role = message.get("role")
    if not isinstance(role, str):
        raise InvalidRequestError(f"every entry of {field} needs a role.")
    return "system" if role in _INSTRUCTIONS else role


def _texts(content: Any, field: str, reading: _Reading, *, images: tuple[str, ...]) -> list[str]:
    """The texts of one message's content, whatever else it holds."""
    if isinstance(content, str):
        return [content]
    if content is None:
        return []
    if not isinstance(content, list):
        raise InvalidRequestError(f"content in {field} must be text or a list of parts.")
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise InvalidRequestError(f"every part of content in {field} must be an object.")
        kind, text = part.get("type"), part.get("text")
        if isinstance(text, str):
            texts.append(text)
        elif kind in images:
            reading.image()
        elif kind == "tool_result":
            reading.size += sum(map(len, _texts(part.get("content"), field, reading, images=images)))
    return texts


def _wants_json(response_format: Any) -> bool:
    return isinstance(response_format, Mapping) and response_format.get("type") in (
        "json_object",
        "json_schema",
    )
