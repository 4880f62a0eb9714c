"""The provider's three API shapes over real HTTP, seen with the eyes of a plain client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from proteus_router.data.synthetic import make_world
from proteus_router.serving.provider import Order, Provider, Truth, serve_provider
from proteus_router.serving.provider.answers import pieces

TEXT = "Name the second prime."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Provider, str]]:
    provider = Provider(Truth(make_world(0, n_models=3), ((60, 2),)), words_per_event=3)
    with serve_provider(provider) as address:
        yield provider, address


@pytest.fixture
def provider(served: tuple[Provider, str]) -> Provider:
    return served[0]


@pytest.fixture
def post(served: tuple[Provider, str]) -> Any:
    def send(path: str, body: Any, method: str = "POST", **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{served[1]}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers, _decoded(answer.read(), answer.headers["content-type"])
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, _decoded(error.read(), error.headers["content-type"])

    return send


def _decoded(body: bytes, content_type: str) -> Any:
    if not content_type.startswith("text/event-stream"):
        return json.loads(body) if content_type.startswith("application/json") else body
    return [
        line[6:].decode() if line == b"data: [DONE]" else json.loads(line[6:])
        for line in body.splitlines()
        if line.startswith(b"data: ")
    ]


def _chat(provider: Provider, **more: Any) -> dict[str, Any]:
    return {"model": provider.truth.models[0], "messages": [{"role": "user", "content": TEXT}], **more}


def test_chat(provider: Provider, post: Any) -> None:
    outcome = provider.truth.outcome(provider.truth.models[0], TEXT)
    status, _, body = post("/v1/chat/completions", _chat(provider))
    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["content"].startswith(f"Answer: {outcome.answer}\n")
    assert body["usage"]["prompt_tokens"] == outcome.input_tokens
    assert body["usage"]["completion_tokens"] == outcome.output_tokens
    assert provider.truth.grade(TEXT, body["choices"][0]["message"]["content"]) == outcome.score


def test_a_chat_stream_is_the_same_answer_in_pieces(provider: Provider, post: Any) -> None:
    whole = post("/v1/chat/completions", _chat(provider))[2]
    options = {"include_usage": True}
    *events, done = post("/v1/chat/completions", _chat(provider, stream=True, stream_options=options))[2]
    assert done == "[DONE]"
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert {event["id"] for event in events} == {events[0]["id"]}
    without = post("/v1/chat/completions", _chat(provider, stream=True))[2]
    assert len(without) == len(events)
    assert all("usage" not in event for event in without[:-1])


def test_responses(provider: Provider, post: Any) -> None:
    body = {"model": provider.truth.models[1], "input": TEXT}
    whole = post("/v1/responses", body)[2]
    text = whole["output"][0]["content"][0]["text"]
    events = post("/v1/responses", {**body, "stream": True})[2]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (
        "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == text
    )
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    assert events[-1]["response"]["usage"] == whole["usage"]
    parts = [{"role": "user", "content": [{"type": "input_text", "text": TEXT}, {"type": "input_image"}]}]
    assert post("/v1/responses", {**body, "input": parts})[2]["output"][0]["content"][0]["text"] == text


def test_messages(provider: Provider, post: Any) -> None:
    body = {
        "model": provider.truth.models[1],
        "max_tokens": 999,
        "messages": [{"role": "user", "content": TEXT}],
    }
    whole = post("/v1/messages", body)[2]
    assert (whole["type"], whole["stop_reason"]) == ("message", "end_turn")
    events = post("/v1/messages", {**body, "stream": True})[2]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == whole["content"][0]["text"]
    assert events[0]["message"]["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert events[-1] == {"type": "message_stop"}


def test_the_last_known_question_of_a_conversation_is_answered(provider: Provider, post: Any) -> None:
    known = next(provider.truth.known()).text
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": known},
        {"role": "assistant", "content": "Hm."},
        {"role": "user", "content": [{"type": "text", "text": "Well?"}]},
    ]
    body = post("/v1/chat/completions", _chat(provider, messages=turns))[2]
    outcome = provider.truth.outcome(provider.truth.models[0], known)
    assert body["choices"][0]["message"]["content"].startswith(f"Answer: {outcome.answer}")


def test_a_limit_on_length_keeps_the_answer_itself(provider: Provider, post: Any) -> None:
    body = post("/v1/chat/completions", _chat(provider, max_tokens=2))[2]
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 2
    outcome = provider.truth.outcome(provider.truth.models[0], TEXT)
    assert body["choices"][0]["message"]["content"] == f"Answer: {outcome.answer}"
    short = {"model": provider.truth.models[0], "input": TEXT, "max_output_tokens": 2}
    assert post("/v1/responses", short)[2]["status"] == "incomplete"


def test_tools_are_called_when_they_must_be(provider: Provider, post: Any) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("a", "b")]
    named = {"type": "function", "function": {"name": "b"}}
    for choice, name in (("required", "a"), (named, "b")):
        body = _chat(provider, tools=tools, tool_choice=choice)
        message = post("/v1/chat/completions", body)[2]["choices"][0]["message"]
        call = message["tool_calls"][0]["function"]
        assert (call["name"], message["content"]) == (name, None)
        arguments = json.loads(call["arguments"])
        assert isinstance(arguments["city"], str)
        assert 1 <= arguments["days"] <= 7
        events = post("/v1/chat/completions", {**body, "stream": True})[2][:-1]
        deltas = [event["choices"][0]["delta"].get("tool_calls", [{}])[0] for event in events]
        assert (
            "".join(delta.get("function", {}).get("arguments", "") for delta in deltas) == call["arguments"]
        )
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    free = post("/v1/chat/completions", _chat(provider, tools=tools, tool_choice="auto"))[2]
    assert "tool_calls" not in free["choices"][0]["message"]


def test_tools_of_the_other_shapes(provider: Provider, post: Any) -> None:
    model = provider.truth.models[0]
    flat = {"type": "function", "name": "f", "parameters": SCHEMA}
    body = {"model": model, "input": TEXT, "tools": [flat], "tool_choice": "required"}
    call = post("/v1/responses", body)[2]["output"][0]
    assert (call["type"], call["name"]) == ("function_call", "f")
    events = post("/v1/responses", {**body, "stream": True})[2]
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    turns = [{"role": "user", "content": TEXT}]
    tool = {"name": "f", "input_schema": SCHEMA}
    ask = {
        "model": model,
        "max_tokens": 99,
        "messages": turns,
        "tools": [tool],
        "tool_choice": {"type": "any"},
    }
    message = post("/v1/messages", ask)[2]
    assert message["stop_reason"] == "tool_use"
    assert message["content"][0]["input"] == json.loads(call["arguments"])
    events = post("/v1/messages", {**ask, "stream": True})[2]
    parts = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == message["content"][0]["input"]


def test_answers_in_json(provider: Provider, post: Any) -> None:
    outcome = provider.truth.outcome(provider.truth.models[0], TEXT)
    loose = post("/v1/chat/completions", _chat(provider, response_format={"type": "json_object"}))[2]
    assert json.loads(loose["choices"][0]["message"]["content"]) == {"answer": outcome.answer}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    strict = post("/v1/chat/completions", _chat(provider, response_format=form))[2]
    content = strict["choices"][0]["message"]["content"]
    assert json.loads(content)["city"] == outcome.answer
    assert provider.truth.grade(TEXT, content) == outcome.score
    text = {"format": {"type": "json_schema", "schema": SCHEMA}}
    other = post("/v1/responses", {"model": provider.truth.models[0], "input": TEXT, "text": text})[2]
    assert other["output"][0]["content"][0]["text"] == content


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        (
            "/v1/chat/completions",
            {"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]},
            404,
            "not_found",
        ),
        ("/v1/chat/completions", {"model": "gpt-4"}, 400, "invalid_request"),
        ("/v1/chat/completions", b"{not json", 400, "invalid_request"),
        ("/v1/chat/completions", b"[]", 400, "invalid_request"),
        ("/v1/responses", {"model": "gpt-4"}, 400, "invalid_request"),
        (
            "/v1/messages",
            {"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]},
            400,
            "invalid_request",
        ),
        ("/grade", {"query": "x"}, 400, "invalid_request"),
        ("/grade", b"x", 400, "invalid_request"),
    ],
)
def test_what_it_refuses(path: str, body: Any, status: int, kind: str, post: Any) -> None:
    given, _, answer = post(path, body)
    assert given == status
    assert answer["error"]["type"].startswith(kind)
    assert ("type" in answer) == (path == "/v1/messages")


def test_a_tool_that_is_not_offered_is_refused(provider: Provider, post: Any) -> None:
    choice = {"type": "function", "function": {"name": "missing"}}
    assert post("/v1/chat/completions", _chat(provider, tools=[], tool_choice=choice))[0] == 400
    assert post("/v1/chat/completions", _chat(provider, tool_choice="required"))[0] == 400


def test_models_prompts_and_grades_over_http(provider: Provider, post: Any) -> None:
    assert [entry["id"] for entry in post("/v1/models", None, "GET")[2]["data"]] == list(
        provider.truth.models
    )
    prompts = post("/prompts?n=2", None, "GET")[2]["prompts"]
    known = list(provider.truth.known())[:2]
    assert [prompt["query"] for prompt in prompts] == [item.text for item in known]
    items = [
        {"query": known[0].text, "answer": f"Answer: {known[0].reference}"},
        {"query": known[1].text, "answer": "Answer: no"},
    ]
    assert post("/grade", {"items": items})[2] == {"scores": [1.0, 0.0]}
    assert post("/grade", items[0])[2] == {"score": 1.0}


def test_orders_come_by_header_and_by_admin(provider: Provider, post: Any) -> None:
    order = json.dumps({"fault": "status", "status": 503, "retry_after_s": 1.5})
    status, headers, body = post("/v1/chat/completions", _chat(provider), **{"X-Sim-Order": order})
    assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1.5", "simulated_fault")
    assert post("/v1/chat/completions", _chat(provider), **{"X-Sim-Order": '{"falt": 1}'})[0] == 400
    model = provider.truth.models[0]
    put = post("/admin/orders", {"model": model, "fault": "status", "status": 418, "count": 1}, "PUT")[2]
    assert put[model]["status"] == 418
    statuses = [post("/v1/chat/completions", _chat(provider))[0] for _ in range(2)]
    assert statuses == [418, 200]
    assert post("/admin/orders", {"fault": "nonsense"}, "PUT")[0] == 400
    post("/admin/orders", {"model": "*", "fault": "status"}, "PUT")
    assert post("/v1/chat/completions", _chat(provider))[0] == 500
    assert post("/admin/orders", None, "DELETE")[2] == {}
    assert post("/v1/chat/completions", _chat(provider))[0] == 200


def test_a_key_is_asked_for_and_not_shown() -> None:
    provider = Provider(Truth(make_world(0, n_models=2), ((1, 2),)), api_key="sk-sim")
    body = json.dumps(
        {"model": provider.truth.models[0], "messages": [{"role": "user", "content": "x"}]}
    ).encode()
    with serve_provider(provider) as address:
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer sk-other"}, 401),
            ({"authorization": "Bearer sk-sim"}, 200),
            ({"x-api-key": "sk-sim"}, 200),
        ):
            request = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    given = answer.status
            except urllib.error.HTTPError as error:
                with error:
                    given = error.code
            assert given == status
        with urllib.request.urlopen(f"{address}/admin/stats", timeout=10) as answer:
            text = answer.read()
    assert json.loads(text)["statuses"] == {"401": 2, "200": 2}
    assert b"sk-" not in text


def test_statistics_count_what_happened(provider: Provider, post: Any) -> None:
    before = post("/admin/stats", None, "GET")[2]["requests"].get(provider.truth.models[2], 0)
    body = _chat(provider, model=provider.truth.models[2])
    post("/v1/chat/completions", body)
    stats = post("/admin/stats", None, "GET")[2]
    assert stats["requests"][provider.truth.models[2]] == before + 1
    assert json.loads(stats["last"][-1]["body"]) == body
    assert stats["in_flight"] == 0


def test_latency_and_gaps_are_kept(provider: Provider, post: Any) -> None:
    import time

    order = Order(latency_s=0.15, gap_s=0.02).model_dump_json()
    started = time.monotonic()
    events = post("/v1/chat/completions", _chat(provider, stream=True), **{"X-Sim-Order": order})[2]
    assert time.monotonic() - started > 0.15 + 0.02 * (len(events) - 1)


@pytest.mark.parametrize("text", ["", " ", "a", "a b c d e", "  a\n\nb  c\n", "汉字 é\u2028x"])
@pytest.mark.parametrize("words", [1, 2, 7])
def test_pieces_are_the_text(text: str, words: int) -> None:
    assert "".join(pieces(text, words)) == text
