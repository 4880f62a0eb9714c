"""The gateway as a process: signals, exit codes, what is left on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import yaml
from click.testing import CliRunner

from proteus_router.cli import main
from proteus_router.cli.config import config_group
from proteus_router.serving.provider import Order, Provider
from tests.serving.gateways import UPSTREAM_KEY, Got, Site, call, chat, wait_for


def test_sigterm_ends_what_was_begun_and_writes_everything(site: Site, provider: Provider) -> None:
    provider.orders.set("*", Order(latency_s=0.5))
    answers: list[Got] = []
    with site.in_process() as gateway:
        address = gateway.address
        threads = [
            threading.Thread(target=lambda text=text: answers.append(chat(address, text)))
            for text in site.questions[:12]
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: provider.seen.in_flight == 12)
        gateway.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert gateway.wait() == 0
        assert "Traceback" not in gateway.output
    assert [answer.status for answer in answers] == [200] * 12
    rows = sqlite3.connect(site.database).execute("select id from decisions where status = 'ok'").fetchall()
    assert {row[0] for row in rows} == {answer.headers["x-proteus-decision-id"] for answer in answers}


@pytest.mark.slow
def test_sighup_reloads_without_dropping_a_request_and_refuses_what_is_broken(site: Site) -> None:
    with site.in_process() as gateway:
        address = gateway.address
        statuses: list[int] = []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                statuses.append(chat(address, site.questions[0]).status)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            assert chat(address, "x", model="proteus/gold").status == 404
            site.changes = {"tiers": {"gold": {"accuracy_target": 0.5}}, "default_tier": "gold"}
            site.write()
            gateway.signal(signal.SIGHUP)
            wait_for(lambda: chat(address, "x", model="proteus/gold").status == 200, "the reload")
            site.config_file.write_text("tires: {}\n", encoding="utf-8")
            gateway.signal(signal.SIGHUP)
            wait_for(lambda: "reload refused" in gateway.output, gateway.output)
            assert "Did you mean 'tiers'?" in gateway.output
            assert chat(address, "x", model="proteus/gold").status == 200
        finally:
            stop.set()
            asking.join(30)
        assert set(statuses) == {200}
        assert call(address, "GET", "/readyz").json()["generation"] == 2


@pytest.mark.slow
def test_a_broken_router_is_refused_at_reload(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("copy") / "router"
    shutil.copytree(site.router, copy)
    site.router = copy
    with site.in_process() as gateway:
        address = gateway.address
        manifest = copy / "manifest.json"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace("0", "1", 1), encoding="utf-8")
        gateway.signal(signal.SIGHUP)
        wait_for(lambda: "reload refused" in gateway.output, gateway.output)
        assert chat(address, site.questions[0]).status == 200


@pytest.mark.parametrize(
    ("auth", "said"), [({}, "proteus keys create"), ({"anonymous": True}, "auth.anonymous")]
)
def test_it_does_not_listen_beyond_loopback_without_keys(
    auth: dict[str, bool], said: str, site: Site
) -> None:
    site.changes = {"auth": auth}
    with site.in_process("--host", "0.0.0.0") as gateway:
        assert gateway.wait() == 2
        assert said in gateway.output


@pytest.mark.slow
def test_keys_made_on_the_command_line_open_the_door(site: Site) -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "proteus_router",
            "keys",
            "create",
            "acme",
            "--config",
            str(site.write()),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "UPSTREAM_KEY": UPSTREAM_KEY},
    )
    assert made.returncode == 0, made.stderr
    token = json.loads(made.stdout)["token"]
    with site.in_process("--host", "0.0.0.0") as gateway:
        address = gateway.address.replace("0.0.0.0", "127.0.0.1")
        assert chat(address, site.questions[0]).status == 401
        assert chat(address, site.questions[0], headers={"authorization": f"Bearer {token}"}).status == 200
        assert call(address, "GET", "/metrics").status == 401
        assert token not in gateway.output


@pytest.mark.parametrize(
    ("break_it", "code", "said"),
    [
        (lambda site: site.changes.update(tires={}), 2, "Did you mean 'tiers'?"),
        (lambda site: setattr(site, "router", site.folder / "no-router"), 5, "no such router folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_its_exit_code(
    site: Site,
    break_it: Callable[[Site], None],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", UPSTREAM_KEY)
    break_it(site)
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(site.router), "--config", str(site.write())])
    assert caught.value.code == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["router/"], ["--demo", "router/"], ["--demo", "--host", "0.0.0.0"]]
)
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", *arguments])
    assert caught.value.code == 2


@pytest.mark.slow
def test_a_database_that_is_not_there_is_said(site: Site) -> None:
    site.changes = {"store": {"url": "sqlite:////nowhere/at/all.db"}}
    with site.in_process() as gateway:
        assert gateway.wait() == 12
        assert "store" in gateway.output
        assert "Traceback" not in gateway.output


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(site: Site) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    site.changes = {"server": {"port": taken.getsockname()[1]}}
    process = subprocess.run(
        [sys.executable, "-m", "proteus_router", "serve", str(site.router), "--config", str(site.write())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "UPSTREAM_KEY": UPSTREAM_KEY},
    )
    taken.close()
    assert process.returncode == 10
    assert "in use" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_the_demo_is_ready_within_a_minute_and_keeps_its_floors_certified(site: Site) -> None:
    began = time.monotonic()
    log = (site.folder / "demo.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "proteus_router", "serve", "--demo", "--port", "0"],
        stderr=log,
        env={**os.environ, "PROTEUS_CACHE": str(site.folder / "cache")},
    )
    try:
        found = wait_for(
            lambda: re.search(r"serving at (http://\S+)/v1", (site.folder / "demo.log").read_text()),
            within_s=120,
        )
        address = str(found[1])
        assert call(address, "GET", "/readyz").status == 200
        assert time.monotonic() - began < 60
        listed = [entry["id"] for entry in call(address, "GET", "/v1/models").json()["data"]]
        assert listed[:4] == ["proteus", "proteus/economy", "proteus/standard", "proteus/premium"]
        for tier, target in (("economy", 0.70), ("standard", 0.80), ("premium", 0.85)):
            body = {
                "model": f"proteus/{tier}",
                "messages": [{"role": "user", "content": "Which is a prime number?"}],
            }
            told = call(address, "POST", "/v1/route", body, headers={"authorization": "Bearer any"}).json()
            assert told["certificate"]["lower_bound"] >= target
            assert told["certificate"]["stale"] is False
        assert chat(address, "Which is a prime number?").headers["x-proteus-accuracy-target"] == "0.8"
    finally:
        process.terminate()
        assert process.wait(60) == 0
        log.close()


def test_the_configuration_of_these_tests_is_valid(site: Site) -> None:
    path = str(site.write())
    environment = {"UPSTREAM_KEY": UPSTREAM_KEY}
    checked = CliRunner().invoke(config_group, ["check", path, "--router", str(site.router)], env=environment)
    assert checked.exit_code == 0, checked.output
    assert "tier economy, default: accuracy target 0.45: certified" in checked.output
    assert "sk-up" not in checked.output
    site.changes = {"tiers": {"gold": {"accuracy_target": 0.99}}, "default_tier": "gold"}
    refused = CliRunner().invoke(
        config_group, ["check", str(site.write()), "--router", str(site.router)], env=environment
    )
    assert "refused (422)" in refused.output
    assert refused.exception is not None
    assert yaml.safe_load(site.config_file.read_text())["default_tier"] == "gold"
