"""LangChain's `ChatOpenAI`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.clients.helpers import WEATHER, Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:langchain_core"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:langchain_openai"),
]


@pytest.fixture
def chat(gateway: Served) -> Any:
    package = pytest.importorskip(
        "langchain_openai", reason="not installed: pip install 'proteus-router[clients]'"
    )
    return package.ChatOpenAI(model="proteus", base_url=gateway.v1, api_key="any", max_retries=0)


def test_invoke(chat: Any, gateway: Served) -> None:
    question = gateway.questions[0]
    message = chat.invoke(question)
    gateway.check_answer(message.content, message.response_metadata["model_name"], question)
    assert message.usage_metadata["output_tokens"] > 0


def test_a_stream(chat: Any, gateway: Served) -> None:
    question = gateway.questions[1]
    parts = list(chat.stream(question))
    assert len(parts) > 3
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    gateway.check_answer(whole.content, whole.response_metadata["model_name"], question)


def test_a_bound_tool_is_called(chat: Any, gateway: Served) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    message = chat.bind_tools([tool], tool_choice="weather").invoke(gateway.questions[2])
    (call,) = message.tool_calls
    assert call["name"] == "weather"
    assert list(call["args"]) == ["city"]


def test_a_batch(chat: Any, gateway: Served) -> None:
    questions = list(gateway.questions[3:9])
    for question, message in zip(questions, chat.batch(questions), strict=True):
        gateway.check_answer(message.content, message.response_metadata["model_name"], question)
