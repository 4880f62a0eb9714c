"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from proteus_router.serving.provider.answers import Answer, Ask, BadRequestError, Tool, pieces, text_of

__all__ = ["error", "events", "find_tool", "read", "whole"]

_CREATED = 1_700_000_000
_FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls"}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def read(body: Mapping[str, Any]) -> Ask:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a list that is not empty")
    users = [item for item in messages if isinstance(item, dict) and item.get("role") == "user"]
    texts = [text for item in users if (text := text_of(item.get("content"))) is not None]
    tools = [tool.get("function") for tool in body.get("tools") or [] if isinstance(tool, dict)]
    offered = [Tool(str(tool["name"]), tool.get("parameters")) for tool in tools if isinstance(tool, dict)]
    choice = body.get("tool_choice")
    named = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    form = body.get("response_format")
    options = body.get("stream_options")
    return Ask(
        model=str(body.get("model")),
        texts=texts or [""],
        stream=body.get("stream") is True,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        tool=find_tool(offered, named, must=choice == "required"),
        schema=_schema(form) if isinstance(form, dict) else None,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def find_tool(offered: list[Tool], named: str | None, *, must: bool) -> Tool | None:
    """The tool to call: the one named, the first where one must be called, or None."""
    if named is not None:
        found = next((tool for tool in offered if tool.name == named), None)
        if found is None:
            raise BadRequestError(f"tool_choice names {named!r}, which is not among the tools")
        return found
    if must and not offered:
        raise BadRequestError("tool_choice asks for a tool, and there are none")
    return offered[0] if must else None


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if form.get("type") == "json_schema":
        schema = (form.get("json_schema") or {}).get("schema")
        return schema if isinstance(schema, Mapping) else {}
    return {} if form.get("type") == "json_object" else None


def whole(ask: Ask, answer: Answer, id: str) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool is not None:
        function = {"name": answer.tool.name, "arguments": answer.arguments}
        message["content"] = None
        message["tool_calls"] = [{"id": f"call_{id}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.finish]}
    return orjson.dumps(
        {
            "id": f"chatcmpl-{id}",
            "object": "chat.completion",
            "created": _CREATED,
            "model": ask.model,
            "choices": [choice],
            "usage": _usage(answer),
            "system_fingerprint": "fp_simulated",
        }
    )


def events(ask: Ask, answer: Answer, id: str, words: int) -> list[bytes]:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(_chunk(ask, id, [choice], None))

    out = [event({"role": "assistant", "content": None if answer.tool else "", "refusal": None})]
    if answer.tool is None:
        out += [event({"content": piece}) for piece in pieces(answer.text, words)]
    else:
        function = {"name": answer.tool.name, "arguments": ""}
        start = {"index": 0, "id": f"call_{id}", "type": "function", "function": function}
        out.append(event({"tool_calls": [start]}))
        for piece in pieces(answer.arguments, words):
            out.append(event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    out.append(event({}, _FINISH[answer.finish]))
    if ask.include_usage:
        out.append(_event(_chunk(ask, id, [], _usage(answer))))
    return [*out, b"data: [DONE]\n\n"]


def error(status: int, code: str, message: str) -> bytes:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _chunk(ask: Ask, id: str, choices: list[Any], usage: dict[str, int] | None) -> dict[str, Any]:
    chunk = {
        "id": f"chatcmpl-{id}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": ask.model,
        "system_fingerprint": "fp_simulated",
        "choices": choices,
    }
    return {**chunk, "usage": usage} if ask.include_usage else chunk


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
