"""Secrets are planted in everything that a real gateway is given, and looked for in everything that it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from typing import Any

import pytest

from proteus_router.serving.provider import Order, Provider
from tests.serving.gateways import SHAPES, UPSTREAM_KEY, Got, Site, bearer, call, wait_for

PLANTED = {
    "prompt": "planted-prompt-5f1c",
    "instructions": "planted-instructions-77ab",
    "tool": "planted_tool_c01d",
    "argument": "planted-argument-b00c",
    "session": "planted-session-9e2d",
    "caller's own key": "sk-planted-caller-3d3d",
    "a name that is asked for": "planted-name-aa17",
    "user": "planted-user-0d0d",
    "broken body": "planted-broken-61c8",
    "secret of a refused configuration": "planted-reload-4b4b",
}


def _bodies(path: str, question: str) -> list[dict[str, Any]]:
    """Requests of one shape with secrets in every place that has text."""
    said = f"{question} {PLANTED['prompt']}"
    turns = [{"role": "user", "content": said}]
    common: dict[str, Any] = {"model": "proteus", "user": PLANTED["user"]}
    if path == "/v1/responses":
        base = {**common, "instructions": PLANTED["instructions"], "input": said}
        function: dict[str, Any] = {"type": "function", "name": PLANTED["tool"]}
    elif path == "/v1/messages":
        base = {**common, "system": PLANTED["instructions"], "max_tokens": 400, "messages": turns}
        function = {"name": PLANTED["tool"], "input_schema": {"type": "object"}}
    else:
        base = {**common, "messages": [{"role": "system", "content": PLANTED["instructions"]}, *turns]}
        function = {"type": "function", "function": {"name": PLANTED["tool"]}}
    function["description"] = PLANTED["argument"]
    return [
        base,
        {**base, "stream": True},
        {**base, "tools": [function]},
        {**base, "model": PLANTED["a name that is asked for"]},
        {**base, "model": f"proteus/{PLANTED['a name that is asked for']}"},
        {**base, "proteus": {"accuracy_target": 0.999}},
        {**base, "stream": PLANTED["prompt"]},
        {**base, "proteus": {PLANTED["a name that is asked for"]: 1}},
    ]


@pytest.mark.slow
def test_what_is_planted_turns_up_nowhere(site: Site, provider: Provider) -> None:
    """Logs, metrics, answers that are errors, decisions, the database: also where models fail and bodies are broken."""
    site.changes = {
        "auth": {"anonymous": False, "refresh_s": 0.1},
        "upstreams": {"timeouts": {"first_byte_s": 0.3}, "retries": {"attempts": 1}},
        "observability": {"log_level": "debug"},
    }
    _, token = site.make_key()
    _, admin = site.make_key("root", admin=True)
    headers = {
        **bearer(token),
        "x-proteus-session-id": PLANTED["session"],
        "x-api-key": PLANTED["caller's own key"],
        "cookie": "a=" + PLANTED["caller's own key"],
    }
    secrets = {**PLANTED, "tenant's key": token, "admin's key": admin, "upstream's key": UPSTREAM_KEY}
    orders = [
        None,
        Order(fault="status", status=500),
        Order(fault="status", status=401),
        Order(fault="hang"),
        Order(fault="reset"),
        Order(fault="malformed_json"),
        Order(fault="cut_stream", after_events=2),
    ]
    errors: list[Got] = []
    told: list[bytes] = []
    with site.in_process() as gateway:
        address = gateway.address
        answered: list[Got] = []
        for order in orders:
            provider.orders.clear()
            if order is not None:
                provider.orders.set("*", order)
            for path in SHAPES:
                bodies = _bodies(path, site.questions[0])[: 2 if order is not None else None]
                answered += [call(address, "POST", path, body, headers=headers) for body in bodies]
        provider.orders.clear()
        broken = b'{"model": "proteus", "messages": "' + PLANTED["broken body"].encode()
        for body in (broken, broken + b'"}', b"[" * 200 + broken, broken.ljust(9_000_000, b"x")):
            with contextlib.suppress(OSError):  # it may be cut off while it is sent
                errors.append(call(address, "POST", "/v1/chat/completions", body, headers=headers))
        errors += [
            call(
                address,
                "POST",
                "/v1/chat/completions",
                _bodies("/v1/chat/completions", "x")[0],
                headers=bearer(PLANTED["caller's own key"]),
            ),
            call(address, "GET", f"/v1/{PLANTED['a name that is asked for']}", headers=headers),
            call(address, "GET", f"/v1/decisions/{PLANTED['a name that is asked for']}", headers=headers),
            call(
                address,
                "POST",
                "/v1/feedback",
                {"decision_id": PLANTED["prompt"], "score": 7, "comment": PLANTED["user"]},
                headers=headers,
            ),
        ]
        whole = site.config_file.read_text("utf-8")
        secret = PLANTED["secret of a refused configuration"]
        for spoiled in (
            whole.replace("os.environ/UPSTREAM_KEY", secret) + f"\nstore_url: postgresql://u:{secret}@h/d\n",
            whole + f"\n{secret}: [\n",
            whole.replace("os.environ/UPSTREAM_KEY", secret).replace("0.45", "45"),
        ):
            site.config_file.write_text(spoiled, encoding="utf-8")
            errors.append(call(address, "POST", "/v1/admin/reload", {}, headers=bearer(admin)))
        gateway.signal(signal.SIGHUP)
        wait_for(lambda: gateway.output.count("reload refused") == 4)
        statuses = {answer.status for answer in (*answered, *errors)}
        assert {200, 400, 401, 404, 413, 422, 502, 504} <= statuses
        told += [answer.body for answer in errors]
        told += [answer.body for answer in answered if answer.status != 200]
        told += [json.dumps(dict(answer.headers)).encode() for answer in (*answered, *errors)]
        for answer in answered:
            if "x-proteus-model" in answer.headers:
                path = f"/v1/decisions/{answer.headers['x-proteus-decision-id']}"
                told.append(call(address, "GET", path, headers=headers).body)
        told.append(call(address, "GET", "/metrics").body)
        told.append(call(address, "GET", "/v1/admin/keys", headers=bearer(admin)).body)
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        log = gateway.output
    assert len(log.splitlines()) > 30
    files = {
        path.name: path.read_bytes() for path in site.folder.iterdir() if path.name.startswith("gateway.db")
    }
    rows = sqlite3.connect(site.database).execute("select count(*) from decisions").fetchone()
    assert rows[0] > 30
    for what, value in secrets.items():
        if what != "secret of a refused configuration":
            assert value not in log, what
        for name, content in files.items():
            assert value.encode() not in content, (what, name)
        for said in told:
            # A caller is told its own wrong name again; nobody else sees that.
            assert value.encode() not in said or what == "a name that is asked for", (what, said)
    assert secret not in log
    assert os.environ.get("UPSTREAM_KEY", UPSTREAM_KEY) == UPSTREAM_KEY


@pytest.mark.slow
def test_kept_text_is_in_the_store_alone(site: Site) -> None:
    """With ``store.keep_text`` prompts and answers are kept, and still nowhere else."""
    site.changes = {"store": {**site.values()["store"], "keep_text": True}}
    question = f"{site.questions[0]} {PLANTED['prompt']}"
    with site.in_process() as gateway:
        address = gateway.address
        body = {"model": "proteus", "messages": [{"role": "user", "content": question}]}
        assert call(address, "POST", "/v1/chat/completions", body).status == 200
        metrics = call(address, "GET", "/metrics").body.decode()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert PLANTED["prompt"] not in gateway.output + metrics
    (row,) = sqlite3.connect(site.database).execute("select prompt, answer from decisions").fetchall()
    assert row[0] == question
    assert "Answer:" in row[1]
