"""The `litellm` SDK, as a client of the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.clients.helpers import WEATHER, Served

pytestmark = [
    pytest.mark.slow,
    # Of what litellm's own code and its models warn; the gateway runs in another thread and is not meant.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches prices when it is imported
    return pytest.importorskip("litellm", reason="not installed: pip install 'proteus-router[clients]'")


def _fields(gateway: Served, question: str) -> dict[str, Any]:
    return {
        "model": "openai/proteus",
        "api_base": gateway.v1,
        "api_key": "any",
        "num_retries": 0,
        "messages": [{"role": "user", "content": question}],
    }


def test_completion(litellm: Any, gateway: Served) -> None:
    question = gateway.questions[0]
    completion = litellm.completion(**_fields(gateway, question))
    model = completion.model.removeprefix("openai/")
    gateway.check_answer(completion.choices[0].message.content, model, question)


def test_a_stream(litellm: Any, gateway: Served) -> None:
    question = gateway.questions[1]
    stream = litellm.completion(**_fields(gateway, question), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    # It writes the requested name over that of the chunks; who answered is in the headers it keeps.
    model = stream._hidden_params["additional_headers"]["llm_provider-x-proteus-model"]
    gateway.check_answer(text, model, question)


def test_a_tool_is_called(litellm: Any, gateway: Served) -> None:
    completion = litellm.completion(
        **_fields(gateway, gateway.questions[2]),
        tools=[{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
        tool_choice="required",
    )
    (call,) = completion.choices[0].message.tool_calls
    assert call.function.name == "weather"


def test_an_unknown_tier_is_not_found(litellm: Any, gateway: Served) -> None:
    with pytest.raises(litellm.NotFoundError, match="gold"):
        litellm.completion(**{**_fields(gateway, "x"), "model": "openai/proteus/gold"})
