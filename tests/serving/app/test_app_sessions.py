"""A conversation stays on its model while the floor allows; a tool loop never changes it half-way."""

from __future__ import annotations

from typing import Any

import pytest

from proteus_router.serving.app.sessions import Sessions, session_key
from tests.serving.app.helpers import EASY, HARD, Harness, make_settings

NAMED = {"x-proteus-session-id": "s-1"}


def _turns(*texts: str) -> list[dict[str, Any]]:
    """Alternating user and assistant messages."""
    return [
        {"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)
    ]


def _ask(
    gateway: Harness, messages: list[dict[str, Any]], model: str = "proteus/economy", **fields: Any
) -> str:
    headers = fields.pop("headers", None)
    answer = gateway.post(
        "/v1/chat/completions", {"model": model, "messages": messages, **fields}, headers=headers
    )
    assert answer.status == 200, answer.body
    return answer.headers["x-proteus-model"]


def test_a_conversation_stays_on_a_model_that_still_does_well(gateway: Harness) -> None:
    assert _ask(gateway, _turns(HARD)) == "middle"
    assert _ask(gateway, _turns(HARD, "answer", EASY)) == "middle"  # small would do for this turn alone
    record = gateway.store.last
    assert not record.certified
    assert any("the session stays on middle" in reason for reason in record.reasons)


def test_it_moves_up_when_the_floor_asks_for_it_and_stays_there(gateway: Harness) -> None:
    assert _ask(gateway, _turns(EASY)) == "small"
    assert _ask(gateway, _turns(EASY, "answer", HARD)) == "middle"
    assert _ask(gateway, _turns(EASY, "answer", HARD, "answer", EASY)) == "middle"


def test_a_session_named_by_a_header_needs_no_history(gateway: Harness) -> None:
    assert _ask(gateway, _turns(HARD), headers=NAMED) == "middle"
    assert _ask(gateway, _turns(EASY), headers=NAMED) == "middle"
    assert _ask(gateway, _turns(EASY), headers={"x-proteus-session-id": "s-2"}) == "small"
    assert _ask(gateway, _turns(EASY)) == "small"


def test_a_conversation_that_begins_alike_is_another_one(gateway: Harness) -> None:
    assert _ask(gateway, _turns(HARD)) == "middle"
    gateway.upstream.broken.add("middle")
    assert _ask(gateway, _turns(HARD)) == "large"
    gateway.upstream.broken.clear()
    assert _ask(gateway, _turns(HARD)) == "middle"  # one message: it has just begun


def test_tenants_do_not_share_sessions(gateway: Harness) -> None:
    first, second = gateway.add_key(), gateway.add_key()
    assert _ask(gateway, _turns(HARD), headers={**first, **NAMED}) == "middle"
    assert _ask(gateway, _turns(EASY), headers={**second, **NAMED}) == "small"
    ids = {record.session_id for record in gateway.store.records}
    assert len(ids) == 2
    assert not any("s-1" in str(session) for session in ids)


def test_sessions_may_be_switched_off() -> None:
    gateway = Harness(make_settings(routing={"sessions": {"derive": False}}))
    assert _ask(gateway, _turns(HARD)) == "middle"
    assert _ask(gateway, _turns(HARD, "answer", EASY)) == "small"
    assert gateway.store.last.session_id is None


TOOL_LOOPS: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"role": "user", "content": EASY},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": HARD},
    ],
    "/v1/responses": [
        {"role": "user", "content": EASY},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": HARD},
    ],
    "/v1/messages": [
        {"role": "user", "content": EASY},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": HARD}]},
    ],
}


@pytest.mark.parametrize("path", TOOL_LOOPS)
def test_a_tool_loop_never_changes_model(path: str, gateway: Harness) -> None:
    field = "input" if path == "/v1/responses" else "messages"
    loop = TOOL_LOOPS[path]

    def ask(messages: list[dict[str, Any]], model: str) -> Any:
        return gateway.post(path, {"model": model, "max_tokens": 50, field: messages})

    assert ask(loop[:1], "proteus/economy").headers["x-proteus-model"] == "small"
    # Another tier would choose middle for this text; half-way through a tool loop nothing changes.
    locked = ask(loop, "proteus/standard")
    assert (locked.headers["x-proteus-model"], locked.headers["x-proteus-certified"]) == ("small", "false")
    gateway.upstream.broken.add("small")
    refused = ask(loop, "proteus/standard")
    assert refused.status == 503
    assert "small" in refused.body.decode()
    gateway.upstream.broken.clear()
    ended = [*loop, {"role": "assistant", "content": "done"}, {"role": "user", "content": HARD}]
    assert ask(ended, "proteus/standard").headers["x-proteus-model"] == "large"


def test_a_failing_model_in_a_tool_loop_is_not_replaced(gateway: Harness) -> None:
    from proteus_router.errors import UpstreamConnectError

    assert _ask(gateway, TOOL_LOOPS["/v1/chat/completions"][:1]) == "small"
    gateway.upstream.script["small"] = UpstreamConnectError("small: no connection.", model="small")
    answer = gateway.post(
        "/v1/chat/completions", {"model": "proteus/economy", "messages": TOOL_LOOPS["/v1/chat/completions"]}
    )
    assert answer.status == 502
    assert [call.model.name for call in gateway.upstream.calls] == ["small", "small"]


def test_a_price_limit_that_stops_a_tool_loop_is_the_callers_own_affair(gateway: Harness) -> None:
    loop = TOOL_LOOPS["/v1/chat/completions"]
    assert _ask(gateway, loop[:1]) == "small"
    body = {"model": "proteus/economy", "messages": loop, "proteus": {"max_cost_usd": 1e-9}}
    refused = gateway.post("/v1/chat/completions", body)
    assert refused.status == 422
    assert refused.json()["error"]["least_cost_usd"] == pytest.approx(1e-5)


def test_a_stored_response_is_continued_by_the_model_that_gave_it(gateway: Harness) -> None:
    first = gateway.post("/v1/responses", {"model": "proteus/economy", "input": EASY})
    assert first.headers["x-proteus-model"] == "small"
    following = {"model": "proteus/standard", "input": HARD, "previous_response_id": first.json()["id"]}
    assert gateway.post("/v1/responses", following).headers["x-proteus-model"] == "small"
    assert gateway.post("/v1/responses", {**following, "previous_response_id": "resp_unknown"}).headers[
        "x-proteus-model"
    ] == ("large")


def test_sessions_forget_what_is_old_and_what_is_too_many() -> None:
    sessions = Sessions(ttl_s=10, max_sessions=2)
    sessions.pin("a", "small", 0.0)
    sessions.pin("b", "middle", 1.0)
    assert sessions.model_of("a", 10.0) == "small"
    assert sessions.model_of("a", 10.1) is None
    sessions.pin("c", "large", 2.0)
    sessions.pin("b", "small", 3.0)
    sessions.pin("d", "large", 4.0)
    assert (sessions.model_of("c", 5.0), sessions.model_of("b", 5.0)) == (None, "small")
    assert len(sessions) == 2


def test_parts_of_a_session_key_cannot_run_together() -> None:
    assert session_key("a", "bc") != session_key("ab", "c")
    assert session_key("a\0", "b") != session_key("a", "\0b")
