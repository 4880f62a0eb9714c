"""POST /v1/messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proteus_router.serving.provider.answers import Answer, Ask, BadRequestError, Tool, pieces, text_of
from proteus_router.serving.provider.shapes.chat import find_tool

__all__ = ["error", "events", "read", "whole"]

_FINISH = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def read(body: Mapping[str, Any]) -> Ask:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages: at least one message is required")
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise BadRequestError("max_tokens: field required, a whole number above 0")
    users = [item for item in messages if isinstance(item, dict) and item.get("role") == "user"]
    texts = [text for item in users if (text := text_of(item.get("content"))) is not None]
    offered = [
        Tool(str(tool.get("name")), tool.get("input_schema"))
        for tool in body.get("tools") or []
        if isinstance(tool, dict)
    ]
    choice = body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    named = choice.get("name") if isinstance(choice, dict) and kind == "tool" else None
    return Ask(
        model=str(body.get("model")),
        texts=texts or [""],
        stream=body.get("stream") is True,
        max_tokens=limit,
        tool=find_tool(offered, named, must=kind == "any"),
    )


def whole(ask: Ask, answer: Answer, id: str) -> bytes:
    message = _message(ask, answer, id)
    if answer.tool is None:
        message["content"] = [{"type": "text", "text": answer.text}]
    else:
        message["content"] = [{**_tool_use(answer.tool, id), "input": orjson.loads(answer.arguments)}]
    message["stop_reason"] = _FINISH[answer.finish]
    message["usage"]["output_tokens"] = answer.output_tokens
    return orjson.dumps(message)


def events(ask: Ask, answer: Answer, id: str, words: int) -> list[bytes]:
    if answer.tool is None:
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(answer.text, words)]
    else:
        block = {**_tool_use(answer.tool, id), "input": {}}
        parts = pieces(answer.arguments, words)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in parts]
    end = {"stop_reason": _FINISH[answer.finish], "stop_sequence": None}
    return [
        _event("message_start", message=_message(ask, answer, id)),
        _event("content_block_start", index=0, content_block=block),
        _event("ping"),
        *(_event("content_block_delta", index=0, delta=delta) for delta in deltas),
        _event("content_block_stop", index=0),
        _event("message_delta", delta=end, usage={"output_tokens": answer.output_tokens}),
        _event("message_stop"),
    ]


def error(status: int, code: str, message: str) -> bytes:
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _message(ask: Ask, answer: Answer, id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{id}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": 1},
    }


def _tool_use(tool: Tool, id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{id}", "name": tool.name}


def _event(kind: str, **content: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **content}) + b"\n\n"
