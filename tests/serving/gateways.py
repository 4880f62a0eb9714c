"""Gateways on real sockets, in a thread or a process of their own, and plain HTTP to call them with."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
import yaml

from proteus_router.data.synthetic import World
from proteus_router.serving.clock import Clock
from proteus_router.serving.records import ApiKey
from proteus_router.serving.runtime import Files, serving
from proteus_router.serving.store import open_store
from proteus_router.serving.tenants import issue_key
from proteus_router.serving.wire import OneWriteProtocol

_START_S = 60.0
UPSTREAM_KEY = "sk-up-4fd1"
"""What the shared provider asks for; the configuration refers to it as the variable UPSTREAM_KEY."""
SHAPES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "?"}]},
    "/v1/responses": {"input": "?"},
    "/v1/messages": {"max_tokens": 400, "messages": [{"role": "user", "content": "?"}]},
}
"""A request of each shape; `body_of` puts the question in."""


@dataclass
class Got:
    """An answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The data of each server-sent event."""
        return re.findall(r"^data: (.*)$", self.body.decode(), re.MULTILINE)


def call(
    address: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Got:
    """One request over one connection."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        return Got(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def chat(address: str, text: str, *, model: str = "proteus", **fields: Any) -> Got:
    headers = fields.pop("headers", None)
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return call(address, "POST", "/v1/chat/completions", body, headers=headers)


def body_of(path: str, text: str, **fields: Any) -> dict[str, Any]:
    """A request for `path` that asks `text`."""
    body = json.loads(json.dumps(SHAPES[path]).replace('"?"', json.dumps(text)))
    return {"model": "proteus", **body, **fields}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """A bare connection, for what no HTTP client would send."""
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def raw_request(path: str, body: bytes, *, headers: str = "") -> bytes:
    """The bytes of a POST."""
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Site:
    """The files of one gateway."""

    folder: Path
    router: Path
    provider_url: str
    world: World
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions whose answers the provider can grade."""
        return self.world.sample(200, 2).table.queries

    @property
    def database(self) -> Path:
        return self.folder / "gateway.db"

    @property
    def config_file(self) -> Path:
        return self.folder / "proteus.yaml"

    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "store": {"url": f"sqlite:///{self.database}", "flush_interval_s": 0.1},
            "tiers": {
                "economy": {"accuracy_target": 0.45},
                "standard": {"accuracy_target": 0.60, "on_infeasible": "best_effort"},
            },
            "default_tier": "economy",
            "model_list": [
                {
                    "model_name": f"pool-{card.name}",
                    "litellm_params": {
                        "model": f"openai/{card.name}",
                        "api_base": self.provider_url,
                        "api_key": "os.environ/UPSTREAM_KEY",
                    },
                    "model_info": {
                        "input_cost_per_token": card.input_price_usd_per_mtok / 1e6,
                        "output_cost_per_token": card.output_price_usd_per_mtok / 1e6,
                        "proteus_model": card.name,
                        "proteus_api": ["chat", "responses", "messages"],
                    },
                }
                for card in self.world.models
            ],
        }
        return {**values, **self.changes}

    def write(self) -> Path:
        self.config_file.write_text(yaml.safe_dump(self.values()), encoding="utf-8")
        return self.config_file

    def make_key(self, name: str = "tenant", **limits: Any) -> tuple[str, str]:
        """Id and token of a new key in the store; a running gateway knows it within ``auth.refresh_s``."""

        async def make() -> tuple[str, str]:
            store = open_store(self.values()["store"]["url"])
            await store.start()
            try:
                key, token = await issue_key(store, ApiKey(id="", name=name, **limits))
            finally:
                await store.close()
            return key.id, token

        return asyncio.run(make())

    @contextmanager
    def in_thread(self, *, clock: Clock | None = None) -> Iterator[str]:
        """The gateway in this process: quick to start, stopped in good order."""
        os.environ["UPSTREAM_KEY"] = UPSTREAM_KEY
        files = Files(self.router, self.write())
        configuration, router = files.load()
        loop, started, address = asyncio.new_event_loop(), threading.Event(), []
        server: list[uvicorn.Server] = []

        async def run() -> None:
            async with serving(configuration, router, load=files.load, clock=clock) as app:
                config = uvicorn.Config(
                    app,
                    port=0,
                    http=OneWriteProtocol,
                    lifespan="off",
                    ws="none",
                    log_config=None,
                    access_log=False,
                )
                server.append(uvicorn.Server(config))
                serve = asyncio.ensure_future(server[0].serve())
                async with asyncio.timeout(_START_S):
                    while not server[0].started:  # noqa: ASYNC110 - uvicorn sets a flag and no event
                        await asyncio.sleep(0.005)
                port = server[0].servers[0].sockets[0].getsockname()[1]
                address.append(f"http://127.0.0.1:{port}")
                started.set()
                await serve

        thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
        thread.start()
        assert started.wait(_START_S)
        try:
            yield address[0]
        finally:
            server[0].should_exit = server[0].force_exit = True
            thread.join(_START_S)
            loop.close()

    @contextmanager
    def in_process(self, *arguments: str) -> Iterator[Process]:
        """`proteus serve` as an operator runs it."""
        process = Process(self, [*arguments, "--config", str(self.write()), "--port", "0"])
        try:
            yield process
        finally:
            process.kill()


class Process:
    """A gateway in a process of its own."""

    def __init__(self, site: Site, arguments: list[str]) -> None:
        self.log = (site.folder / "gateway.log").open("wb")
        self._log_path = site.folder / "gateway.log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proteus_router", "serve", str(site.router), *arguments],
            stderr=self.log,
            env={**os.environ, "UPSTREAM_KEY": UPSTREAM_KEY},
        )

    @property
    def output(self) -> str:
        return self._log_path.read_text(encoding="utf-8")

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        found = wait_for(lambda: re.search(r"serving at (http://\S+)/v1", self.output), self.output)
        return str(found[1])

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(_START_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_START_S)
        with contextlib.suppress(OSError):
            self.log.close()


def wait_for(happened: Any, what: str = "it", within_s: float = _START_S) -> Any:
    """What `happened()` returns once it is true."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = happened()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {within_s} s: {what}")
