"""The official `openai` SDK: sync, async, streaming, tools, Responses, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from proteus_router.serving.provider import Order
from tests.serving.clients.helpers import WEATHER, Served, check_headers


@pytest.fixture
def client(gateway: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.v1, api_key="any", max_retries=0) as client:
        yield client


def test_chat(client: OpenAI, gateway: Served) -> None:
    question = gateway.questions[0]
    raw = client.chat.completions.with_raw_response.create(
        model="proteus", messages=[{"role": "user", "content": question}]
    )
    completion = raw.parse()
    gateway.check_answer(completion.choices[0].message.content or "", completion.model, question)
    check_headers(raw.headers, completion.model)
    assert completion.usage is not None
    outcome = gateway.provider.truth.outcome(completion.model.removeprefix("pool-"), question)
    assert completion.usage.completion_tokens == outcome.output_tokens


def test_a_chat_stream_says_the_same_as_the_whole_answer(client: OpenAI, gateway: Served) -> None:
    question = gateway.questions[1]
    whole = client.chat.completions.create(model="proteus", messages=[{"role": "user", "content": question}])
    raw = client.chat.completions.with_raw_response.create(
        model="proteus",
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    check_headers(raw.headers, whole.model, stream=True)
    with raw.parse() as stream:
        chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {whole.model}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 3


def test_the_models_are_listed_and_each_name_can_be_called(client: OpenAI, gateway: Served) -> None:
    names = [model.id for model in client.models.list()]
    assert {"proteus", "proteus/economy", "proteus/standard"} < set(names)
    pool = [name for name in names if name.startswith("pool-")]
    assert len(pool) == 4
    question = gateway.questions[2]
    direct = client.chat.completions.create(model=pool[0], messages=[{"role": "user", "content": question}])
    assert direct.model == pool[0]
    gateway.check_answer(direct.choices[0].message.content or "", pool[0], question)


def test_a_target_of_ones_own_goes_into_the_body(client: OpenAI, gateway: Served) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="proteus",
        messages=[{"role": "user", "content": gateway.questions[3]}],
        extra_body={"proteus": {"accuracy_target": 0.5}},
    )
    assert raw.headers["x-proteus-accuracy-target"] == "0.5"
    assert b"accuracy_target" not in gateway.provider.seen.last[-1]["body"]


def test_a_tool_is_called_and_its_result_goes_back_to_the_same_model(client: OpenAI, gateway: Served) -> None:
    question = gateway.questions[4]
    called = client.chat.completions.create(
        model="proteus/standard",
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    call = calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    after = client.chat.completions.create(
        model="proteus/standard",
        messages=[
            {"role": "user", "content": question},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.function.name, "arguments": call.function.arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'},
        ],
    )
    assert after.model == called.model
    gateway.check_answer(after.choices[0].message.content or "", after.model, question)


def test_a_tool_call_is_put_together_from_a_stream(client: OpenAI, gateway: Served) -> None:
    with client.chat.completions.create(
        model="proteus",
        messages=[{"role": "user", "content": gateway.questions[5]}],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
        tool_choice="required",
        stream=True,
    ) as stream:
        deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert list(json.loads(arguments)) == ["city"]


def test_json_mode_gives_json(client: OpenAI, gateway: Served) -> None:
    completion = client.chat.completions.create(
        model="proteus",
        messages=[{"role": "user", "content": gateway.questions[6]}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


def test_responses(client: OpenAI, gateway: Served) -> None:
    question = gateway.questions[7]
    raw = client.responses.with_raw_response.create(model="proteus", input=question)
    response = raw.parse()
    gateway.check_answer(response.output_text, response.model, question)
    check_headers(raw.headers, response.model)
    with client.responses.create(model="proteus", input=question, stream=True) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == response.output_text
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.model == response.model


def test_responses_with_a_tool(client: OpenAI, gateway: Served) -> None:
    response = client.responses.create(
        model="proteus",
        input=gateway.questions[8],
        tools=[{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}],
        tool_choice={"type": "function", "name": "weather"},
    )
    (call,) = response.output
    assert call.type == "function_call"
    assert list(json.loads(call.arguments)) == ["city"]


def test_async_calls_and_streams_side_by_side(gateway: Served) -> None:
    questions = gateway.questions[10:22]

    async def ask(client: AsyncOpenAI, question: str) -> tuple[str, str]:
        completion = await client.chat.completions.create(
            model="proteus", messages=[{"role": "user", "content": question}]
        )
        return completion.model, completion.choices[0].message.content or ""

    async def ask_for_a_stream(client: AsyncOpenAI, question: str) -> tuple[str, str]:
        stream = await client.chat.completions.create(
            model="proteus", messages=[{"role": "user", "content": question}], stream=True
        )
        chunks = [chunk async for chunk in stream]
        return chunks[0].model, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    async def ask_all() -> list[tuple[str, str]]:
        async with AsyncOpenAI(base_url=gateway.v1, api_key="any", max_retries=0) as client:
            asked = [
                (ask_for_a_stream if place % 2 else ask)(client, question)
                for place, question in enumerate(questions)
            ]
            return await asyncio.gather(*asked)

    for question, (model, text) in zip(questions, asyncio.run(ask_all()), strict=True):
        gateway.check_answer(text, model, question)


@pytest.mark.parametrize(
    ("model", "target", "kind", "said"),
    [
        ("proteus", 80, openai.BadRequestError, r"0\.8"),
        ("proteus", "high", openai.BadRequestError, "fraction"),
        ("proteus", 0.999, openai.UnprocessableEntityError, r"0\.[3-8]\d*"),  # the best that can be certified
        ("proteus/gold", 0.5, openai.NotFoundError, "gold"),
        ("no-such-model", 0.5, openai.NotFoundError, "no-such-model"),
    ],
)
def test_errors_are_the_sdks_own(
    model: str,
    target: object,
    kind: type[openai.APIStatusError],
    said: str,
    client: OpenAI,
    gateway: Served,
) -> None:
    with pytest.raises(kind, match=said) as caught:
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": gateway.questions[0]}],
            extra_body={"proteus": {"accuracy_target": target}},
        )
    assert caught.value.code
    assert caught.value.type == (
        "not_found_error" if kind is openai.NotFoundError else "invalid_request_error"
    )


def test_a_stream_that_breaks_raises(client: OpenAI, gateway: Served) -> None:
    gateway.provider.orders.set("*", Order(fault="cut_stream", after_events=4, gap_s=0.01))
    try:
        with (
            client.chat.completions.create(
                model="proteus",
                messages=[{"role": "user", "content": gateway.questions[0]}],
                stream=True,
            ) as stream,
            pytest.raises(openai.APIError, match="pool-"),
        ):
            list(stream)
    finally:
        gateway.provider.orders.clear()
