"""What an upstream can do wrong, seen by the gateway's caller: an end in time, an error that says so, the floor kept."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from proteus_router.serving.provider import Order, Provider
from tests.serving.faults.helpers import ends_well, keeps_the_floor
from tests.serving.gateways import SHAPES, Got, Site, body_of, call, chat, connected, raw_request

PATHS = tuple(SHAPES)
DEADLINE_S = 0.8
SLACK_S = 2.0  # beyond the deadline, on a busy machine
UNREACHABLE: Any = "connection refused"
FAULTS: dict[str, Any] = {
    "429": Order(fault="status", status=429),
    "429, come back later": Order(fault="status", status=429, retry_after_s=30),
    "500": Order(fault="status", status=500),
    "503": Order(fault="status", status=503),
    "401": Order(fault="status", status=401),
    "hang before the first byte": Order(fault="hang"),
    "slow drip": Order(fault="drip", gap_s=0.05),
    "malformed JSON": Order(fault="malformed_json"),
    "reset": Order(fault="reset"),
    "cut in the answer": Order(fault="cut_stream"),
    "reset in the answer": Order(fault="reset_stream"),
    "connection refused": UNREACHABLE,
}
STREAM_FAULTS: dict[str, Any] = {
    f"{fault}, {n} events": Order(fault=fault, after_events=n, gap_s=0.01)
    for n in (0, 4)
    for fault in ("hang_stream", "cut_stream", "reset_stream", "end_stream", "malformed_sse", "error_stream")
}
CASES = [
    *((fault, False) for fault in FAULTS),
    *((fault, True) for fault in FAULTS if "in the answer" not in fault),
    *((fault, True) for fault in STREAM_FAULTS),
]
IMPATIENT: dict[str, Any] = {
    "server": {"limits": {"deadline_s": DEADLINE_S}},
    "upstreams": {
        "timeouts": {"connect_s": 0.5, "first_byte_s": 0.3, "total_s": 30.0},
        "retries": {"attempts": 2, "first_wait_s": 0.01, "longest_wait_s": 0.02},
    },
}


@pytest.fixture
def broken_site(site: Site, provider: Provider, request: pytest.FixtureRequest) -> Site:
    """Every upstream suffers from the fault named by the parameter `fault`."""
    order = {**FAULTS, **STREAM_FAULTS}[request.getfixturevalue("fault")]
    site.changes = dict(IMPATIENT)
    if order == UNREACHABLE:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            site.provider_url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    else:
        provider.orders.set("*", order)
    return site


@pytest.mark.parametrize(("fault", "stream"), CASES)
def test_when_all_models_fail_the_caller_is_told_in_time(
    fault: str, stream: bool, broken_site: Site, provider: Provider
) -> None:
    with broken_site.in_thread() as address:
        began = time.monotonic()
        answer = chat(address, broken_site.questions[0], stream=stream)
        assert time.monotonic() - began < DEADLINE_S + SLACK_S
        assert call(address, "GET", "/healthz").status == 200
        decision = _decision(address, answer)
    assert decision["status"] == "failed"
    assert not ends_well(answer)
    if answer.status == 200:  # the caller has part of a stream: it ends with an event that says so
        assert stream
        assert '"error"' in answer.events()[-1]
    else:
        expected = {
            "429": (429, "upstream_rate_limited"),
            "429, come back later": (429, "upstream_rate_limited"),
        }
        status, code = expected.get(fault, (answer.status, answer.json()["error"]["code"]))
        assert (answer.status, answer.json()["error"]["code"]) == (status, code)
        assert code.startswith("upstream_")
        assert answer.status in (429, 502, 504)
    if fault == "429, come back later":
        assert int(answer.headers["retry-after"]) == 30
    assert decision["attempts"] <= 2 * len(broken_site.world.models)


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("fault", ["hang_stream", "cut_stream", "malformed_sse", "error_stream"])
def test_a_stream_that_breaks_ends_in_the_words_of_its_api(
    fault: Any, path: str, site: Site, provider: Provider
) -> None:
    site.changes = dict(IMPATIENT)
    provider.orders.set("*", Order(fault=fault, after_events=4, gap_s=0.01))
    with site.in_thread() as address:
        answer = call(address, "POST", path, body_of(path, site.questions[0], stream=True))
        assert answer.status == 200
        assert '"error"' in answer.events()[-1]
        decision = _decision(address, answer)
    assert (decision["status"], decision["http_status"]) == ("failed", 200)
    assert decision["error_code"] in ("upstream_reply", "upstream_timeout")


@pytest.mark.parametrize(
    "path", [PATHS[0], *(pytest.param(path, marks=pytest.mark.slow) for path in PATHS[1:])]
)
@pytest.mark.parametrize(
    "fault", ["500", "hang before the first byte", "malformed JSON", "reset", "slow drip"]
)
def test_a_model_that_fails_is_replaced_by_one_that_keeps_the_floor(
    fault: str, path: str, site: Site, provider: Provider
) -> None:
    site.changes = {
        "upstreams": {"timeouts": {"first_byte_s": 0.3, "total_s": 0.6}, "retries": {"attempts": 2}},
        "tiers": {"standard": {"accuracy_target": 0.70}},
        "default_tier": "standard",
    }
    with site.in_thread() as address:
        text, first = _telling(address, site)
        provider.orders.set(first.removeprefix("pool-"), FAULTS[fault])
        answer = call(address, "POST", path, body_of(path, text))
        assert answer.status == 200
        assert answer.headers["x-proteus-model"] != first
        assert answer.headers["x-proteus-certified"] == "false"
        assert int(answer.headers["x-proteus-attempts"]) > 1
        decision = _decision(address, answer)
        assert keeps_the_floor(decision)
        scores = {one["model"]: one["predicted_score"] for one in decision["candidates"]}
        assert decision["predicted_score"] >= scores[first] - 1e-9


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_deadline_holds_where_every_timeout_is_longer(
    stream: bool, site: Site, provider: Provider
) -> None:
    """Sixteen callers at once of an upstream that trickles: all are told at their deadline."""
    from concurrent.futures import ThreadPoolExecutor

    site.changes = {"server": {"limits": {"deadline_s": 0.7}}}
    provider.orders.set("*", Order(fault="drip", gap_s=0.02) if not stream else Order(gap_s=0.2))
    with site.in_thread() as address, ThreadPoolExecutor(16) as threads:
        began = time.monotonic()
        answers = list(threads.map(lambda text: chat(address, text, stream=stream), site.questions[:16]))
        assert 0.6 < time.monotonic() - began < 0.7 + SLACK_S
        assert not any(map(ends_well, answers))
        assert {answer.status for answer in answers} == ({200} if stream else {504})
        assert call(address, "GET", "/readyz").status == 200  # the deadline was short, the models are not ill


def test_a_body_that_never_ends_is_given_up_at_the_deadline(site: Site) -> None:
    site.changes = {"server": {"limits": {"deadline_s": 0.5}}}
    with site.in_thread() as address, connected(address) as connection:
        body = json.dumps(body_of("/v1/chat/completions", site.questions[0])).encode()
        connection.sendall(raw_request("/v1/chat/completions", body)[:-5])
        began = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")
        assert time.monotonic() - began < 0.5 + SLACK_S


def _decision(address: str, answer: Got) -> dict[str, Any]:
    decision: dict[str, Any] = call(
        address, "GET", f"/v1/decisions/{answer.headers['x-proteus-decision-id']}"
    ).json()
    return decision


def _telling(address: str, site: Site) -> tuple[str, str]:
    """A question, and the model chosen for it, where a worse model is cheaper than all that do as well."""
    for text in site.questions:
        told = call(address, "POST", "/v1/route", body_of("/v1/chat/completions", text)).json()
        others = [one for one in told["candidates"] if one["model"] != told["model"]]
        fit = [
            one["predicted_cost_usd"] for one in others if one["predicted_score"] >= told["predicted_score"]
        ]
        worse = [
            one["predicted_cost_usd"] for one in others if one["predicted_score"] < told["predicted_score"]
        ]
        if told["propensity"] == 1.0 and fit and worse and min(worse) < min(fit):
            return text, told["model"]
    raise AssertionError("no question tells a right stand-in from a wrong one")
