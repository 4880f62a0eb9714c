"""POST /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proteus_router.serving.provider.answers import Answer, Ask, BadRequestError, Tool, pieces, text_of
from proteus_router.serving.provider.shapes.chat import find_tool

__all__ = ["events", "read", "whole"]

_CREATED = 1_700_000_000


def read(body: Mapping[str, Any]) -> Ask:
    given = body.get("input")
    if isinstance(given, str):
        texts = [given]
    elif isinstance(given, list) and given:
        users = [item for item in given if isinstance(item, dict) and item.get("role") == "user"]
        texts = [text for item in users if (text := text_of(item.get("content"))) is not None]
    else:
        raise BadRequestError("input must be a text, or a list that is not empty")
    offered = [
        Tool(str(tool.get("name")), tool.get("parameters"))
        for tool in body.get("tools") or []
        if isinstance(tool, dict) and tool.get("type") == "function"
    ]
    choice = body.get("tool_choice")
    named = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "function" else None
    form = (body.get("text") or {}).get("format")
    return Ask(
        model=str(body.get("model")),
        texts=texts or [""],
        stream=body.get("stream") is True,
        max_tokens=body.get("max_output_tokens"),
        tool=find_tool(offered, named, must=choice == "required"),
        schema=_schema(form) if isinstance(form, dict) else None,
    )


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if form.get("type") == "json_schema":
        schema = form.get("schema")
        return schema if isinstance(schema, Mapping) else {}
    return {} if form.get("type") == "json_object" else None


def whole(ask: Ask, answer: Answer, id: str) -> bytes:
    return orjson.dumps(_response(ask, answer, id, done=True))


def events(ask: Ask, answer: Answer, id: str, words: int) -> list[bytes]:
    out: list[bytes] = []

    def event(kind: str, **content: Any) -> None:
        body = {"type": kind, "sequence_number": len(out), **content}
        out.append(b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n")

    item = _item(answer, id, done=True)
    place = {"item_id": item["id"], "output_index": 0}
    event("response.created", response=_response(ask, answer, id, done=False))
    event("response.in_progress", response=_response(ask, answer, id, done=False))
    event("response.output_item.added", output_index=0, item=_item(answer, id, done=False))
    if answer.tool is None:
        place["content_index"] = 0
        event("response.content_part.added", **place, part=_part(""))
        for piece in pieces(answer.text, words):
            event("response.output_text.delta", **place, delta=piece, logprobs=[])
        event("response.output_text.done", **place, text=answer.text, logprobs=[])
        event("response.content_part.done", **place, part=_part(answer.text))
    else:
        for piece in pieces(answer.arguments, words):
            event("response.function_call_arguments.delta", **place, delta=piece)
        done = {"name": answer.tool.name, "arguments": answer.arguments}
        event("response.function_call_arguments.done", **place, **done)
    event("response.output_item.done", output_index=0, item=item)
    end = "response.incomplete" if answer.finish == "length" else "response.completed"
    event(end, response=_response(ask, answer, id, done=True))
    return out


def _response(ask: Ask, answer: Answer, id: str, *, done: bool) -> dict[str, Any]:
    short = done and answer.finish == "length"
    ended = "incomplete" if short else "completed"
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": _CREATED,
        "status": ended if done else "in_progress",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "model": ask.model,
        "output": [_item(answer, id, done=True)] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _usage(answer) if done else None,
        "metadata": {},
    }


def _item(answer: Answer, id: str, *, done: bool) -> dict[str, Any]:
    status = "completed" if done else "in_progress"
    if answer.tool is not None:
        arguments = answer.arguments if done else ""
        call = {"call_id": f"call_{id}", "name": answer.tool.name, "arguments": arguments}
        return {"id": f"fc_{id}", "type": "function_call", "status": status, **call}
    content = [_part(answer.text)] if done else []
    return {"id": f"msg_{id}", "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
