"""The official `anthropic` SDK: messages, streams, tools, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.serving.clients.helpers import WEATHER, Served, check_headers

_MAX_TOKENS = 4_000


@pytest.fixture
def client(gateway: Served) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.address, api_key="any", max_retries=0) as client:
        yield client


def test_a_message(client: Anthropic, gateway: Served) -> None:
    question = gateway.questions[0]
    raw = client.messages.with_raw_response.create(
        model="proteus", max_tokens=_MAX_TOKENS, messages=[{"role": "user", "content": question}]
    )
    message = raw.parse()
    (block,) = message.content
    assert block.type == "text"
    gateway.check_answer(block.text, str(message.model), question)
    check_headers(raw.headers, str(message.model))
    outcome = gateway.provider.truth.outcome(str(message.model).removeprefix("pool-"), question)
    assert message.usage.output_tokens == outcome.output_tokens


def test_a_stream(client: Anthropic, gateway: Served) -> None:
    question = gateway.questions[1]
    with client.messages.stream(
        model="proteus/standard", max_tokens=_MAX_TOKENS, messages=[{"role": "user", "content": question}]
    ) as stream:
        parts = list(stream.text_stream)
        message = stream.get_final_message()
        check_headers(stream.response.headers, str(message.model), stream=True)
    assert len(parts) > 3
    gateway.check_answer("".join(parts), str(message.model), question)
    assert message.stop_reason == "end_turn"


def test_a_tool_is_called(client: Anthropic, gateway: Served) -> None:
    message = client.messages.create(
        model="proteus",
        max_tokens=_MAX_TOKENS,
        messages=[{"role": "user", "content": gateway.questions[2]}],
        tools=[{"name": "weather", "input_schema": WEATHER}],
        tool_choice={"type": "tool", "name": "weather"},
    )
    (block,) = message.content
    assert block.type == "tool_use"
    assert list(block.input) == ["city"]
    assert message.stop_reason == "tool_use"


def test_async(gateway: Served) -> None:
    question = gateway.questions[3]

    async def ask() -> tuple[str, str]:
        async with (
            AsyncAnthropic(base_url=gateway.address, api_key="any", max_retries=0) as client,
            client.messages.stream(
                model="proteus", max_tokens=_MAX_TOKENS, messages=[{"role": "user", "content": question}]
            ) as stream,
        ):
            return await stream.get_final_text(), str((await stream.get_final_message()).model)

    text, model = asyncio.run(ask())
    gateway.check_answer(text, model, question)


def test_errors_have_anthropics_shape(client: Anthropic, gateway: Served) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(
            model="proteus/gold", max_tokens=10, messages=[{"role": "user", "content": "x"}]
        )
    body = unknown.value.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert "gold" in body["error"]["message"]
    with pytest.raises(anthropic.BadRequestError, match="invalid_request_error"):
        client.messages.create(
            model="proteus",
            max_tokens=10,
            messages=[{"role": "user", "content": gateway.questions[0]}],
            extra_body={"proteus": {"accuracy_target": 80}},
        )
