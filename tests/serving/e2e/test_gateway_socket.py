"""Real gateway, real provider, real store, real sockets: what crosses the network."""

from __future__ import annotations

import json
import sqlite3

import pytest

from proteus_router.serving.provider import Provider
from tests.serving.gateways import SHAPES, Site, body_of, call, chat


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", SHAPES)
def test_every_shape_passes_through_and_is_recorded(
    path: str, stream: bool, site: Site, provider: Provider
) -> None:
    with site.in_thread() as address:
        answer = call(address, "POST", path, body_of(path, site.questions[0], stream=stream))
        assert answer.status == 200, answer.body
        model = answer.headers["x-proteus-model"]
        upstream_model = model.removeprefix("pool-")
        assert (answer.headers["x-proteus-certified"], answer.headers["x-proteus-attempts"]) == ("true", "1")
        assert provider.seen.requests == {upstream_model: 1}
        sent = json.loads(provider.seen.last[-1]["body"])
        assert sent["model"] == upstream_model
        assert "proteus" not in sent
        assert f'"{upstream_model}"'.encode() not in answer.body  # the pool's name alone
        assert f'"model":"{model}"'.encode() in answer.body.replace(b'": "', b'":"')
        if stream:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["transfer-encoding"] == "chunked"
            assert "x-proteus-predicted-cost-usd" in answer.headers
            assert len(answer.events()) > 3
        decision_id = answer.headers["x-proteus-decision-id"]
        decision = call(address, "GET", f"/v1/decisions/{decision_id}").json()
        outcome = provider.truth.outcome(upstream_model, site.questions[0])
        card = next(card for card in site.world.models if card.name == upstream_model)
        expected = (
            outcome.input_tokens * card.input_price_usd_per_mtok
            + outcome.output_tokens * card.output_price_usd_per_mtok
        ) / 1e6
        assert decision["cost_usd"] == pytest.approx(expected)
        assert (decision["input_tokens"], decision["output_tokens"]) == (
            outcome.input_tokens,
            outcome.output_tokens,
        )
        if not stream:
            assert float(answer.headers["x-proteus-cost-usd"]) == pytest.approx(expected, abs=1e-9)
        item = {"decision_id": decision_id, "score": outcome.score, "source": "truth"}
        assert call(address, "POST", "/v1/feedback", item).json()["status"] == "stored"
        assert call(address, "POST", "/v1/feedback", item).json()["status"] == "duplicate"
        assert call(address, "POST", "/v1/feedback", {**item, "score": 0.123}).status == 409
    rows = sqlite3.connect(site.database).execute("select id, status, api, stream from decisions").fetchall()
    assert [(row[0], row[1], row[3]) for row in rows] == [(decision_id, "ok", int(stream))]
    assert sqlite3.connect(site.database).execute("select count(*) from feedback").fetchone() == (1,)


def test_usage_is_asked_for_in_streams_and_not_shown_to_who_did_not_ask(
    site: Site, provider: Provider
) -> None:
    with site.in_thread() as address:
        silent = chat(address, site.questions[0], stream=True)
        assert json.loads(provider.seen.last[-1]["body"])["stream_options"] == {"include_usage": True}
        assert b'"usage":{' not in silent.body
        asked = chat(address, site.questions[0], stream=True, stream_options={"include_usage": True})
        assert b'"usage":{' in asked.body


def test_answers_pass_through_byte_for_byte(site: Site, provider: Provider) -> None:
    with site.in_thread() as address:
        answer = chat(address, site.questions[0])
        upstream = provider._answers["/v1/chat/completions", provider.seen.last[-1]["body"]].body
        model = answer.headers["x-proteus-model"]
        assert answer.body == upstream.replace(
            json.dumps(model.removeprefix("pool-")).encode(), json.dumps(model).encode(), 1
        )


def test_many_at_once(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with site.in_thread() as address, ThreadPoolExecutor(8) as threads:
        questions = site.questions[:80]
        answers = list(threads.map(lambda text: chat(address, text, stream=len(text) % 2 == 0), questions))
        assert {answer.status for answer in answers} == {200}
        exposition = call(address, "GET", "/metrics").body.decode()
    counted = sqlite3.connect(site.database).execute("select count(distinct id) from decisions").fetchone()
    assert counted == (80,)
    assert 'proteus_requests_total{endpoint="/v1/chat/completions",status="200"} 80.0' in exposition
