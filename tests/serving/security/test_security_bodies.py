"""Requests made to hurt: too large, too deep, with headers and fields that try to be something else."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from proteus_router.serving.provider import Provider
from tests.serving.gateways import SHAPES, Site, bearer, body_of, call, chat, connected, raw_request

PATHS = (*SHAPES, "/v1/route", "/v1/feedback", "/v1/admin/keys")
TEN_MEGABYTES = 10 * 2**20


@pytest.fixture(scope="module")
def open_door(
    served: tuple[Provider, str],
    world: Any,
    router_folder: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Site, dict[str, str]]]:
    """Address, files, and an admin's headers of one gateway for all tests here, which do not change it."""
    site = Site(tmp_path_factory.mktemp("gateway"), router_folder, f"{served[1]}/v1", world)
    site.changes = {"auth": {"anonymous": True}}
    _, admin = site.make_key("root", admin=True)
    with site.in_thread() as address:
        yield address, site, bearer(admin)


def _status(address: str, path: str, body: bytes, headers: dict[str, str], *, chunked: bool) -> int:
    """The status of a POST; also of one that was answered, and cut off, before it was sent to its end."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        content: Any = (
            iter([body[at : at + 65_536] for at in range(0, len(body), 65_536)]) if chunked else body
        )
        try:
            connection.request("POST", path, content, headers, encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError):
            connection.sock.settimeout(5)
            answer = http.client.HTTPResponse(connection.sock)
            try:
                answer.begin()
            except ConnectionResetError:
                return 413  # the answer went down with the connection
            return answer.status
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("path", PATHS)
def test_ten_megabytes_are_413(path: str, chunked: bool, open_door: tuple[str, Site, dict[str, str]]) -> None:
    address, site, admin = open_door
    body = b'{"model":"proteus","input":"' + b"x" * TEN_MEGABYTES + b'"}'
    headers = admin if "admin" in path else {}
    if chunked:
        headers = {**headers, "transfer-encoding": "chunked"}
    assert _status(address, path, body, headers, chunked=chunked) == 413
    assert chat(address, site.questions[0]).status == 200


def test_an_announced_length_is_refused_before_the_body_is_sent(
    open_door: tuple[str, Site, dict[str, str]],
) -> None:
    address, _, _ = open_door
    with connected(address) as connection:
        connection.sendall(
            b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n{"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("depth", [101, 2_000, 200_000])
@pytest.mark.parametrize("brackets", [b"[]", b'{"a":}'], ids=["lists", "objects"])
def test_deep_nesting_is_413(
    brackets: bytes, depth: int, path: str, open_door: tuple[str, Site, dict[str, str]]
) -> None:
    address, site, admin = open_door
    deep = brackets[:-1] * depth + b"1" + brackets[-1:] * depth
    headers = admin if "admin" in path else {}
    for body in (
        deep,
        b'{"model":"proteus","messages":' + deep + b"}",
        b'{"model":"proteus","x":' + deep + b"}",
    ):
        assert call(address, "POST", path, body, headers=headers).status == 413
    assert chat(address, site.questions[0]).status == 200


INJECTED = "x\r\nx-evil: 1\r\n\r\n<h1>"


@pytest.mark.parametrize(
    "change",
    [
        {"model": INJECTED},
        {"model": f"proteus/{INJECTED}"},
        {"proteus": {"accuracy_target": INJECTED}},
        {"proteus": {"models": [INJECTED]}},
        {"proteus": {INJECTED: 1}},
        {"proteus": {"max_cost_usd": INJECTED}},
        {"stream": INJECTED},
    ],
    ids=str,
)
def test_what_a_body_says_never_becomes_a_header(
    change: dict[str, Any], open_door: tuple[str, Site, dict[str, str]]
) -> None:
    address, site, _ = open_door
    body = json.dumps(body_of("/v1/chat/completions", site.questions[0]) | change).encode()
    with connected(address) as connection:
        connection.sendall(raw_request("/v1/chat/completions", body, headers="connection: close\r\n"))
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in (400, 404)
    assert b"x-evil" not in head.lower()
    assert content.count(b"\r\n") == 0
    assert json.loads(content)["error"]["message"]


@pytest.mark.parametrize(
    "header",
    [
        "x-request-id: a\r\n b: c",
        "x-request-id: \xe9\x00",
        "x-request-id: " + "a" * 5000,
        "x-proteus-session-id: \xff\xfe\x01",
        "x-proteus-accuracy-target: 0.5\t\r\n",
        "x-proteus-accuracy-target: " + "9" * 5000,
        "traceparent: 00-zz-\xff",
        "anthropic-beta: a\xff",
        "idempotency-key: \xff\xfe",
        "authorization: Bearer \xff",
        "authorization: " + "Bearer " * 500,
        "cookie: a=\xff",
    ],
)
def test_odd_headers_break_nothing(header: str, open_door: tuple[str, Site, dict[str, str]]) -> None:
    address, site, _ = open_door
    body = json.dumps(body_of("/v1/chat/completions", site.questions[0])).encode()
    lines = f"{header.rstrip()}\r\nconnection: close\r\n".encode("latin-1")
    with connected(address) as connection:
        connection.sendall(
            raw_request("/v1/chat/completions", body).replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n", 1)
        )
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert 200 <= int(answer.split()[1]) < 500
    head = answer.partition(b"\r\n\r\n")[0]
    assert b"\r\n b: c" not in head
    assert all(line.count(b":") for line in head.split(b"\r\n")[1:])
    assert chat(address, site.questions[0]).status == 200


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 40\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: -1\r\n",
        "content-length: 4, 40\r\n",
    ],
)
def test_a_request_of_two_lengths_is_not_two_requests(
    head: str, open_door: tuple[str, Site, dict[str, str]]
) -> None:
    address, _, _ = open_door
    smuggled = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    with connected(address) as connection:
        connection.sendall(f"POST /v1/responses HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + smuggled)
        connection.settimeout(1.0)
        answer = b""
        try:
            while data := connection.recv(65_536):
                answer += data
        except TimeoutError:
            pass
    assert b'"object":"list"' not in answer  # what was smuggled was not answered
    assert answer.startswith(b"HTTP/1.1 400")


@contextmanager
def _trap() -> Iterator[tuple[str, list[bytes]]]:
    """A server that no configuration names, and what reached it."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            heard.append(connection.recv(4096))
            connection.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_no_caller_decides_where_a_request_goes_or_which_key_it_carries(
    open_door: tuple[str, Site, dict[str, str]], provider: Provider
) -> None:
    address, site, _ = open_door
    with _trap() as (elsewhere, heard):
        host = elsewhere.removeprefix("http://")
        fields = {
            name: f"{elsewhere}/v1"
            for name in ("api_base", "base_url", "api_url", "endpoint", "url", "custom_llm_provider")
        }
        headers = {
            "host": host,
            "x-forwarded-host": host,
            "x-forwarded-for": "10.0.0.1",
            "forwarded": f"host={host}",
            "x-original-url": elsewhere,
            "proxy-authorization": "Basic c2VjcmV0",
            "authorization": "Bearer sk-callers-own",
            "cookie": "callers=own",
            "x-sim-order": '{"fault": "status"}',
        }
        for path in SHAPES:
            body = body_of(path, site.questions[0], **fields, api_key="sk-callers-own")
            assert call(address, "POST", path, body, headers=headers).status == 200
        image = {"type": "image_url", "image_url": {"url": f"{elsewhere}/cat.png"}}
        call(address, "POST", "/v1/chat/completions", {
            "model": "proteus", "messages": [{"role": "user", "content": [image]}],
        })  # fmt: skip
        call(address, "POST", f"{elsewhere}/v1/chat/completions", body)  # as one asks a forward proxy
    assert heard == []
    for request in provider.seen.last:
        sent = dict(request["headers"])
        assert b"sk-callers-own" not in b" ".join(sent.values())
        assert not {
            b"cookie",
            b"x-forwarded-for",
            b"forwarded",
            b"proxy-authorization",
            b"x-sim-order",
        } & set(sent)
        assert sent[b"host"] == site.provider_url.removeprefix("http://").removesuffix("/v1").encode()
