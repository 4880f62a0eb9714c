"""Plain curl, as the documentation writes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.serving.clients.helpers import Served, check_headers

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def _curl(*arguments: str, body: Any = None) -> tuple[int, dict[str, str], str]:
    data = [] if body is None else ["-H", "content-type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", "60", *arguments, *data],
        capture_output=True,
        text=True,
        check=True,
    )
    head, _, content = done.stdout.partition("\n\n")
    status, *lines = head.splitlines()
    pairs = (line.partition(": ") for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, content


def _chat(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "proteus", "messages": [{"role": "user", "content": question}], **fields}


def test_chat(gateway: Served) -> None:
    question = gateway.questions[0]
    status, headers, content = _curl(f"{gateway.v1}/chat/completions", body=_chat(question))
    answer = json.loads(content)
    assert status == 200
    check_headers(headers, answer["model"])
    gateway.check_answer(answer["choices"][0]["message"]["content"], answer["model"], question)


def test_a_stream(gateway: Served) -> None:
    question = gateway.questions[1]
    status, headers, content = _curl(
        "-N", f"{gateway.v1}/chat/completions", body=_chat(question, stream=True)
    )
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    *events, last = [line.removeprefix("data: ") for line in content.splitlines() if line]
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    model = headers["x-proteus-model"]
    assert {chunk["model"] for chunk in chunks} == {model}
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    gateway.check_answer(text, model, question)


def test_a_decision_is_explained_before_it_is_made_and_after(gateway: Served) -> None:
    question = gateway.questions[2]
    _, _, planned = _curl(f"{gateway.v1}/route", body=_chat(question))
    _, headers, _ = _curl(f"{gateway.v1}/chat/completions", body=_chat(question))
    assert json.loads(planned)["model"] == headers["x-proteus-model"]
    status, _, content = _curl(f"{gateway.v1}/decisions/{headers['x-proteus-decision-id']}")
    assert (status, json.loads(content)["model"]) == (200, headers["x-proteus-model"])


def test_feedback(gateway: Served) -> None:
    _, headers, _ = _curl(f"{gateway.v1}/chat/completions", body=_chat(gateway.questions[3]))
    item = {"decision_id": headers["x-proteus-decision-id"], "score": 1.0, "source": "curl"}
    assert _curl(f"{gateway.v1}/feedback", body=item)[0] == 200
    assert _curl(f"{gateway.v1}/feedback", body={**item, "score": 0.0})[0] == 409


def test_health_metrics_and_an_error(gateway: Served) -> None:
    assert _curl(f"{gateway.address}/healthz")[0] == 200
    assert _curl(f"{gateway.address}/readyz")[0] == 200
    assert "proteus_requests_total" in _curl(f"{gateway.address}/metrics")[2]
    status, _, content = _curl(f"{gateway.v1}/chat/completions", "-d", "{not json")
    assert (status, json.loads(content)["error"]["type"]) == (400, "invalid_request_error")
