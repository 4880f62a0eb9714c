"""A stream of server-sent events on its way to the caller: only the ``model`` changes, and what matters is read.

Most events of a stream differ from one another in the text they carry and nowhere else. Those are recognised by their
first bytes and passed on unparsed; the others are parsed, for usage, for the end, and for failure. An event that can't
be parsed never reaches the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proteus_router.errors import UpstreamError
from proteus_router.serving.records import ApiShape, Usage
from proteus_router.serving.upstream.bodies import dumps, loads
from proteus_router.serving.upstream.rewrite import model_span
from proteus_router.serving.upstream.usage import read_usage

__all__ = ["EventStream", "MalformedStreamError", "error_event"]

_LONGEST_EVENT = 32 * 2**20  # a whole generated image travels in one event
_BOUNDARY = re.compile(rb"(?>\r\n|\n|\r){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_FINISHED = {"response.completed", "response.incomplete", "response.failed", "error", "message_stop"}
_FAILED = {"response.failed", "error"}
_PLAIN = re.compile(rb"event: (?:response\.[a-z_]+(?:\.[a-z_]+)?\.delta|content_block_delta|ping)\ndata: \{")
"""Responses and Messages events that carry a piece of text and nothing this module reads."""


class MalformedStreamError(ValueError):
    """The upstream sent something that is not an event of its API."""


@dataclass(slots=True)
class EventStream:
    """Turns what was read from an upstream into what is sent to the caller, a block of whole events at a time.

    Attributes
    ----------
    api
        The shape of the stream.
    model
        The pool's name, written over the upstream's.
    hide_usage
        Usage was asked for on the caller's behalf: the chat event that holds nothing else is taken out.
    usage
        What the upstream reported so far.
    complete
        The event came that ends a stream of this shape.
    failed
        The upstream itself reported a failure in the stream; the caller has that event.
    """

    api: ApiShape
    model: str
    hide_usage: bool = False
    usage: Usage | None = None
    complete: bool = False
    failed: bool = False
    _finish_seen: bool = False
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0
    _same_start: bytes = b""
    _new_start: bytes = b""
    _no_finish: bytes = b'"finish_reason":null'
    _input_tokens: Mapping[str, Any] = field(default_factory=dict)

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes, ready for the caller; b"" while there are none.

        Raises
        ------
        MalformedStreamError
            An event is not JSON, or without end. What came before it in `data` is in ``.args[1]``.
        """
        if self._parts:
            if b"\n" not in data and b"\r" not in data:
                return self._keep(data)
            data = b"".join((*self._parts, data))
            self._parts.clear()
            self._size = 0
        if b"\r" in data:
            events, rest = _split_any(data)
        else:
            *events, rest = data.split(b"\n\n")
            events = [event + b"\n\n" for event in events]
        if rest:
            self._keep(rest)
        return self._events(events)

    def end(self) -> bytes:
        """What is left when the upstream has closed: a last event without its blank line, or nothing."""
        rest = b"".join(self._parts).strip()
        self._parts.clear()
        out = self._events([rest + b"\n\n"]) if rest else b""
        self.complete = self.complete or self._finish_seen  # some servers leave out [DONE]
        return out

    def _keep(self, data: bytes) -> bytes:
        self._parts.append(data)
        self._size += len(data)
        if self._size > _LONGEST_EVENT:
            raise MalformedStreamError(f"an event is longer than {_LONGEST_EVENT} bytes", b"")
        return b""

    def _events(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        start, no_finish = self._same_start, self._no_finish
        for event in events:
            if start and event.startswith(start) and event.endswith(b"}\n\n") and no_finish in event:
                out.append(self._new_start + event[len(start) :])
                continue
            if event.endswith(b"}\n\n") and _PLAIN.match(event):
                out.append(event)
                continue
            try:
                out.append(self._event(event))
            except ValueError as error:
                raise MalformedStreamError("an event is not JSON", b"".join(out)) from error
            start, no_finish = self._same_start, self._no_finish
        return b"".join(out)

    def _event(self, event: bytes) -> bytes:
        """One event, parsed; b"" where the caller did not ask for it."""
        lines = _LINE_END.split(event)
        payloads = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not payloads:
            _check_lines(lines)
            return event  # a comment that keeps the connection alive, or an id
        payload = payloads[0] if len(payloads) == 1 else b"\n".join(payloads)
        if payload.strip() in (b"[DONE]", b""):
            self.complete = self.complete or b"[DONE]" in payload
            return event
        content = loads(payload)
        if not isinstance(content, dict):
            raise ValueError("an event is an object")
        if self._read(content) and self.hide_usage:
            return b""
        return self._renamed(event, lines, payload, alone=len(payloads) == 1)

    def _read(self, content: dict[str, Any]) -> bool:
        """Take note of usage, end and failure; True where the event holds usage and nothing else."""
        if self.api == "chat":
            return self._read_chat(content)
        kind = content.get("type")
        self.complete = self.complete or kind in _FINISHED
        self.failed = self.failed or kind in _FAILED
        if self.api == "responses":
            response = content.get("response")
            if isinstance(response, dict) and response.get("usage"):
                self.usage = read_usage("responses", response["usage"]) or self.usage
        elif kind == "message_start" and isinstance(content.get("message"), dict):
            self._input_tokens = content["message"].get("usage") or {}
            self.usage = read_usage("messages", self._input_tokens) or self.usage
        elif kind == "message_delta" and isinstance(content.get("usage"), dict):
            counted = {key: value for key, value in content["usage"].items() if value is not None}
            self.usage = read_usage("messages", {**self._input_tokens, **counted}) or self.usage
        return False

    def _read_chat(self, content: dict[str, Any]) -> bool:
        choices, usage = content.get("choices"), content.get("usage")
        if content.get("error"):
            self.complete = self.failed = True
        if isinstance(choices, list):
            self._finish_seen = self._finish_seen or any(
                isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
            )
        if usage is not None:
            self.usage = read_usage("chat", usage) or self.usage
        return not choices and isinstance(usage, dict) and not self.failed

    def _renamed(self, event: bytes, lines: list[bytes], payload: bytes, *, alone: bool) -> bytes:
        """The event with the pool's name in it, and its start remembered for those that follow."""
        if self._same_start and event.startswith(self._same_start):
            return self._new_start + event[len(self._same_start) :]
        span = model_span(payload)
        if span is None:
            return event
        new = payload[: span[0]] + dumps(self.model) + payload[span[1] :]
        if not alone:  # JSON over several lines of data; line ends in it are white space
            others = [line for line in lines if line and not line.startswith(b"data:")]
            return b"\n".join([*others, *(b"data: " + line for line in new.split(b"\n"))]) + b"\n\n"
        at = event.index(payload)
        if self.api == "chat":
            self._same_start = event[: at + span[1]]
            self._new_start = event[:at] + new[: len(new) - len(payload) + span[1]]
            if b'"finish_reason": null' in payload:
                self._no_finish = b'"finish_reason": null'
        return event[:at] + new + event[at + len(payload) :]


def error_event(api: ApiShape, error: UpstreamError) -> bytes:
    """The event that tells the caller that the stream ends here, in the shape its SDK turns into an exception."""
    about = {"message": str(error), "type": "upstream_error", "code": error.code, "param": None}
    if api == "chat":
        return b"data: " + dumps({"error": about}) + b"\n\n"
    if api == "responses":
        # The API's own event is flat; SDKs raise on `error` and hand on what has none as one more event.
        flat = {"type": "error", "code": error.code, "message": str(error), "param": None}
        return b"event: error\ndata: " + dumps({**flat, "sequence_number": 0, "error": about}) + b"\n\n"
    kind = "timeout_error" if error.http_status == 504 else "api_error"
    return (
        b"event: error\ndata: "
        + dumps({"type": "error", "error": {"type": kind, "message": str(error)}})
        + (b"\n\n")
    )


def _split_any(data: bytes) -> tuple[list[bytes], bytes]:
    """Events with whatever line ends they came with, and the rest."""
    events, position = [], 0
    for boundary in _BOUNDARY.finditer(data):
        if boundary.end() == len(data) and boundary[0] in (b"\r\n\r", b"\n\r"):
            break  # the second half of this line end has not arrived
        events.append(data[position : boundary.end()])
        position = boundary.end()
    return events, data[position:]


def _check_lines(lines: list[bytes]) -> None:
    for line in lines:
        if line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
            raise ValueError("not a line of an event stream")
