"""Metrics, logs and traces say what happened, and never a prompt, an answer or a key."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proteus_router.errors import ConfigError, UpstreamConnectError, UpstreamRejectedError
from proteus_router.serving.telemetry import NoTraces, make_tracer
from proteus_router.serving.telemetry.logs import _JsonFormatter
from proteus_router.serving.telemetry.tracing import OtlpTraces
from tests.serving.app.helpers import EASY, HARD, Harness, make_settings, model_entry

SECRETS = {
    "prompt": "xx PLANTED-PROMPT xx xx xx",
    "answer": "PLANTED-ANSWER",
    "upstream key": "sk-PLANTED-UPSTREAM",
    "session": "PLANTED-SESSION",
    "tool": "PLANTED-TOOL",
}


def _value(exposition: bytes, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", exposition.decode(), re.MULTILINE)
    assert found, f"{name} not in\n{exposition.decode()}"
    return float(found[1])


def test_metrics_count_what_happened(gateway: Harness) -> None:
    gateway.chat(EASY, model="proteus/economy")
    gateway.chat(HARD)
    gateway.chat(EASY, model="nonsense")
    gateway.upstream.script["large"] = UpstreamConnectError("large: no.", model="large", attempts=3)
    gateway.upstream.broken.add("small")
    gateway.chat(HARD)
    gateway.post("/v1/feedback", {"decision_id": "d", "score": 1})
    text = gateway.get("/metrics").body
    chat = 'endpoint="/v1/chat/completions"'
    assert _value(text, f'proteus_requests_total{{{chat},status="200"}}') == 2
    assert _value(text, f'proteus_requests_total{{{chat},status="404"}}') == 1
    assert _value(text, f'proteus_requests_total{{{chat},status="502"}}') == 1
    assert _value(text, f"proteus_request_seconds_count{{{chat}}}") == 4
    decided = 'proteus_decisions_total{certified="true",model="small",status="ok",tier="economy"}'
    assert _value(text, decided) == 1
    failed = 'proteus_decisions_total{certified="true",model="large",status="failed",tier="standard"}'
    assert _value(text, failed) == 1
    assert _value(text, 'proteus_cost_usd_total{model="large",tier="standard"}') == pytest.approx(30 * 1e-5)
    assert _value(text, 'proteus_tokens_total{kind="output",model="small"}') == 20
    assert _value(text, 'proteus_upstream_errors_total{code="upstream_connect",model="large"}') == 1
    assert _value(text, 'proteus_upstream_attempts_total{model="large"}') == 4
    assert _value(text, 'proteus_feedback_total{status="stored"}') == 1
    assert _value(text, 'proteus_breaker_state{model="small"}') == 2
    assert _value(text, 'proteus_breaker_state{model="middle"}') == 0
    assert _value(text, 'proteus_floor_status{tier="economy"}') == 2
    assert _value(text, 'proteus_tier_accuracy_target{tier="economy"}') == 0.7
    assert _value(text, "proteus_overhead_seconds_count") == 3
    assert _value(text, "proteus_store_pending") == 0


def test_no_client_can_make_more_series(gateway: Harness) -> None:
    def series() -> int:
        return len(re.findall(rb"^[a-z].*", gateway.get("/metrics").body, re.MULTILINE))

    gateway.chat(EASY, model="nonsense-0")
    asyncio.run(gateway.request("POST", "/x/0"))
    gateway.get("/metrics")
    before = series()
    for number in range(1, 20):
        gateway.chat(EASY, model=f"nonsense-{number}", headers={"x-request-id": f"r{number}"})
        asyncio.run(gateway.request("POST", f"/x/{number}"))
    assert series() == before


def test_a_request_leaves_one_line_with_its_ids(gateway: Harness, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "proteus_router.access"):
        answer = gateway.chat(EASY, model="proteus/economy", headers={"x-request-id": "r-1"})
    lines = [json.loads(_JsonFormatter().format(record)) for record in caplog.records]
    assert len(lines) == 1
    line = lines[0]
    assert (line["request_id"], line["decision_id"]) == ("r-1", answer.headers["x-proteus-decision-id"])
    assert (line["level"], line["model"], line["tier"], line["http_status"]) == (
        "info",
        "small",
        "economy",
        200,
    )
    assert line["message"] == "POST /v1/chat/completions 200"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    caplog.clear()
    with caplog.at_level(logging.WARNING, "proteus_router.access"):
        gateway.chat(EASY)
    assert not caplog.records


def test_exceptions_and_odd_text_fit_on_a_line() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x",
            logging.ERROR,
            "f",
            1,
            "half a \ud800 pair",
            (),
            __import__("sys").exc_info(),
            extra={"n": {1, 2}},
        )
    line = _JsonFormatter().format(record)
    assert "\n" not in line
    assert "line two" in json.loads(line)["exception"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/route"])
@pytest.mark.parametrize("outcome", ["ok", "failed", "rejected", "refused upstream", "bug", "400", "413"])
def test_planted_secrets_are_nowhere(
    path: str, outcome: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = [model_entry(name) for name in ("small", "middle", "large")]
    for entry in pool:
        entry["litellm_params"]["api_key"] = SECRETS["upstream key"]
    limits = {"max_body_bytes": 10_000 if outcome != "413" else 1_024}
    gateway = Harness(make_settings(model_list=pool, auth={"anonymous": False}, server={"limits": limits}))
    headers = {**gateway.add_key(), "x-proteus-session-id": SECRETS["session"]}
    token = headers["authorization"].split()[1]
    gateway.upstream.body = json.dumps({"id": "resp_1", "text": SECRETS["answer"]}).encode()
    names = ("small", "middle", "large")
    if outcome == "failed":
        gateway.upstream.script = {name: UpstreamConnectError(f"{name}: no.", model=name) for name in names}
    if outcome == "refused upstream":
        gateway.upstream.script = {
            name: UpstreamRejectedError(f"{name} refused.", model=name, status=400, body=b'{"error":{}}')
            for name in names
        }
    if outcome == "bug":
        gateway.gateway.limits.admit = _broken  # type: ignore[method-assign, assignment]
    body: dict[str, Any] = {
        "model": "proteus/economy",
        "max_tokens": 50,
        "tools": [{"type": "function", "function": {"name": SECRETS["tool"]}}],
        "pad": "x" * (2_000 if outcome == "413" else 0),
    }
    content: Any = SECRETS["prompt"] if outcome != "400" else {"text": SECRETS["prompt"]}
    body["input" if path == "/v1/responses" else "messages"] = [{"role": "user", "content": content}]
    if outcome == "rejected":
        body["proteus"] = {"accuracy_target": 0.99}
    with caplog.at_level(logging.DEBUG):
        answers = [
            gateway.post(path, {**body, "stream": stream}, headers=headers) for stream in (False, True)
        ]
        metrics = gateway.get("/metrics").body.decode()
        decisions = [
            gateway.get("/v1/decisions/" + record.id, headers=headers).body.decode()
            for record in gateway.store.records
        ]
    logged = "\n".join(_JsonFormatter().format(record) for record in caplog.records)
    out, err = capfd.readouterr()
    seen_by_others = [logged, metrics, out, err, *map(repr, gateway.store.records), *decisions]
    for what, secret in {**SECRETS, "key": token}.items():
        for place in seen_by_others:
            assert secret not in place, what
        for answer in answers:
            if what != "answer":
                assert secret not in answer.body.decode() + str(answer.headers), what


def _broken(*_: Any) -> None:
    raise RuntimeError("a bug")


def test_settings_do_not_print_secrets() -> None:
    pool = [model_entry("small"), model_entry("middle"), model_entry("large")]
    pool[0]["litellm_params"]["api_key"] = SECRETS["upstream key"]
    pool[0]["litellm_params"]["headers"] = {"x-auth": SECRETS["session"]}
    configuration = make_settings(model_list=pool, store={"url": "postgresql://u:PLANTED-PASS@h/d"})
    assert configuration.pool[0].api_key == SECRETS["upstream key"]
    assert "PLANTED" not in repr(configuration)


def test_a_trace_follows_a_request_under_the_usual_names() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    gateway = Harness(tracer=OtlpTraces(provider))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    gateway.chat(EASY, model="proteus/economy", headers={"traceparent": parent})
    gateway.upstream.script["large"] = UpstreamConnectError("large: no.", model="large")
    gateway.chat(HARD)
    good, bad = exporter.get_finished_spans()
    assert good.attributes is not None
    assert good.name == "chat small"
    assert good.attributes["gen_ai.operation.name"] == "chat"
    assert good.attributes["gen_ai.request.model"] == "proteus/economy"
    assert good.attributes["gen_ai.response.model"] == "small"
    assert good.attributes["gen_ai.usage.input_tokens"] == 10
    assert good.attributes["proteus.decision_id"] == gateway.store.records[0].id
    assert format(good.context.trace_id, "032x") == parent.split("-")[1]
    sent = gateway.upstream.calls[0].headers["traceparent"]
    assert sent.split("-")[1] == parent.split("-")[1]
    assert sent.split("-")[2] == format(good.context.span_id, "016x")
    assert not good.status.is_ok or good.status.status_code.name == "UNSET"
    assert bad.status.status_code.name == "ERROR"
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "upstream_connect"


def test_without_a_collector_nothing_is_traced() -> None:
    assert isinstance(make_tracer(None, service_name="x", sample_ratio=1.0), NoTraces)
    traced = make_tracer("http://127.0.0.1:9/v1/traces", service_name="x", sample_ratio=0.0)
    assert not isinstance(traced, NoTraces)
    traced.close()


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        make_tracer("http://127.0.0.1:9/v1/traces", service_name="x", sample_ratio=1.0)
    assert "proteus-router[otel]" in caught.value.hint
