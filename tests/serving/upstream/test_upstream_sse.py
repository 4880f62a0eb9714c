from __future__ import annotations

import json
from typing import Any

import pytest

from proteus_router.errors import UpstreamReplyError, UpstreamTimeoutError
from proteus_router.serving.records import ApiShape, Usage
from proteus_router.serving.upstream import error_event
from proteus_router.serving.upstream.sse import EventStream, MalformedStreamError


def _chunk(text: str, finish: str | None = None, *, spaced: bool = False, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "model": "up", "choices": [choice], **more}
    return b"data: " + json.dumps(body, separators=None if spaced else (",", ":")).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
TRICKY = 'say "model":"up" and "finish_reason":null, {"usage":{"prompt_tokens":9}}\n\ndata: {"id":"c1","model":"up"'
CHAT = [
    _chunk(""),
    _chunk(TRICKY),
    _chunk("é 汉字"),
    _chunk("b", "stop"),
    _chunk("", usage=USAGE, choices=[]),
    b"data: [DONE]\n\n",
]


def _run(events: EventStream, stream: bytes, step: int) -> bytes:
    out = b"".join(events.feed(stream[start : start + step]) for start in range(0, len(stream), step))
    return out + events.end()


def _contents(stream: bytes) -> list[Any]:
    lines = [line[5:] for line in stream.splitlines() if line.startswith(b"data:") and b"[DONE]" not in line]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 64, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_is_the_same_however_it_arrives(step: int, line_end: bytes) -> None:
    stream = b"".join(CHAT).replace(b"\n", line_end)
    events = EventStream("chat", "pool")
    assert _run(events, stream, step) == stream.replace(
        b'"model":"up","choices"', b'"model":"pool","choices"'
    )
    assert events.usage == Usage(3, 4)
    assert events.complete
    assert not events.failed


def test_only_model_changes_in_events_that_are_not_parsed() -> None:
    sent = [_chunk(TRICKY), *(_chunk(f"{n} {TRICKY}") for n in range(20))]
    received = _contents(EventStream("chat", "pool").feed(b"".join(sent)))
    assert received == [{**content, "model": "pool"} for content in _contents(b"".join(sent))]


@pytest.mark.parametrize("spaced", [False, True])
def test_usage_is_read_among_events_that_start_alike(spaced: bool) -> None:
    parts = [_chunk("a", spaced=spaced), _chunk("b", spaced=spaced), _chunk("c", "length", spaced=spaced)]
    parts.append(_chunk("", spaced=spaced, usage=USAGE, choices=[]))
    events = EventStream("chat", "pool", hide_usage=True)
    out = b"".join(events.feed(part) for part in parts)
    assert events.usage == Usage(3, 4)
    assert [content["choices"][0]["delta"]["content"] for content in _contents(out)] == ["a", "b", "c"]


def test_usage_that_comes_with_an_answer_is_not_hidden() -> None:
    events = EventStream("chat", "pool", hide_usage=True)
    assert len(_contents(events.feed(_chunk("a", "stop", usage=USAGE)))) == 1
    assert events.usage == Usage(3, 4)


def test_done_may_be_missing_after_a_finish_reason_but_not_before() -> None:
    for finish, complete in (("stop", True), (None, False)):
        events = EventStream("chat", "pool")
        events.feed(_chunk("a") + _chunk("b", finish))
        events.end()
        assert events.complete is complete


def test_a_last_event_without_its_blank_line_counts() -> None:
    events = EventStream("chat", "pool")
    assert events.feed(_chunk("a") + b"data: [DONE]") == _chunk("a").replace(b'"up"', b'"pool"')
    assert not events.complete
    assert events.end() == b"data: [DONE]\n\n"
    assert events.complete


def test_json_over_several_lines_of_data() -> None:
    event = b'event: x\ndata: {"id":"a",\ndata: "model":"up",\ndata: "choices":[]}\n\n'
    out = EventStream("chat", "pool").feed(event)
    assert out.startswith(b"event: x\ndata: ")
    joined = b"".join(line[6:] for line in out.splitlines() if line.startswith(b"data: "))
    assert json.loads(joined) == {"id": "a", "model": "pool", "choices": []}


@pytest.mark.parametrize(
    "event", [b": keep-alive\n\n", b"id: 7\nretry: 10\n\n", b"data:\n\n", b"event: ping\n\n"]
)
def test_events_without_content_pass(event: bytes) -> None:
    assert EventStream("chat", "pool").feed(event) == event


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"id": "broken", "choi\n\n',
        b"data: nonsense\n\n",
        b"data: [1]\n\n",
        b"data: NaN\n\n",
        b"<html>\n\n",
        _chunk("a")[:-10] + b"\n\n",
        b'data: {"a":"\xff"}\n\n',
    ],
)
@pytest.mark.parametrize("before", [b"", _chunk("good")])
def test_what_is_no_event_is_refused_and_what_came_before_is_kept(event: bytes, before: bytes) -> None:
    with pytest.raises(MalformedStreamError) as caught:
        EventStream("chat", "pool").feed(before + event)
    assert caught.value.args[1] == before.replace(b'"up"', b'"pool"')


def test_an_event_without_end_is_refused() -> None:
    events = EventStream("chat", "pool")
    assert [events.feed(b"x" * 2**20) for _ in range(32)] == [b""] * 32
    with pytest.raises(MalformedStreamError, match="longer than"):
        events.feed(b"x")


def _named(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


def test_a_responses_stream() -> None:
    usage = {"input_tokens": 5, "output_tokens": 6}
    sent = [
        _named("response.created", response={"id": "r", "output": [], "model": "up", "usage": None}),
        _named("response.output_text.delta", delta='"model":"up"', model="not here"),
        _named("response.completed", response={"id": "r", "model": "up", "usage": usage}),
    ]
    events = EventStream("responses", "pool")
    contents = _contents(events.feed(b"".join(sent)))
    assert [content.get("response", {}).get("model") for content in contents] == ["pool", None, "pool"]
    assert contents[1]["delta"] == '"model":"up"'
    assert (events.usage, events.complete, events.failed) == (Usage(5, 6), True, False)


def test_a_messages_stream_adds_up_its_usage() -> None:
    start = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1}
    sent = [
        _named("message_start", message={"id": "m", "model": "up", "usage": start}),
        _named("content_block_delta", index=0, delta={"type": "text_delta", "text": '"model"'}),
        _named("message_delta", delta={}, usage={"input_tokens": None, "output_tokens": 6}),
    ]
    events = EventStream("messages", "pool")
    assert _contents(events.feed(b"".join(sent)))[0]["message"]["model"] == "pool"
    assert (events.usage, events.complete) == (Usage(7, 6), False)
    events.feed(_named("message_stop"))
    assert events.complete


@pytest.mark.parametrize(
    ("api", "event"),
    [
        ("chat", b'data: {"error":{"message":"overloaded"}}\n\n'),
        ("responses", _named("response.failed", response={"error": {}})),
        ("responses", _named("error", message="overloaded")),
        ("messages", _named("error", error={"type": "overloaded_error"})),
    ],
)
def test_a_failure_the_upstream_reports_is_passed_on_and_noticed(api: ApiShape, event: bytes) -> None:
    events = EventStream(api, "pool")
    assert events.feed(event) == event
    assert events.failed
    assert events.complete


def test_error_events_have_the_shape_of_their_api() -> None:
    error = UpstreamTimeoutError("large: silent.", model="large")
    assert _contents(error_event("chat", error)) == [
        {
            "error": {
                "message": "large: silent.",
                "type": "upstream_error",
                "code": "upstream_timeout",
                "param": None,
            }
        }
    ]
    flat = _contents(error_event("responses", error))[0]
    assert (flat["type"], flat["code"], flat["message"]) == ("error", "upstream_timeout", "large: silent.")
    event = error_event("messages", error)
    assert event.startswith(b"event: error\ndata: ")
    assert _contents(event) == [
        {"type": "error", "error": {"type": "timeout_error", "message": "large: silent."}}
    ]
    other = _contents(error_event("messages", UpstreamReplyError("x", model="m")))[0]
    assert other["error"]["type"] == "api_error"
