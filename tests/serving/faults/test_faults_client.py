"""Clients that leave, at every stage of a request, politely or not: the upstream stops, nothing is left behind."""

from __future__ import annotations

import json
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable

import pytest

from proteus_router.serving.provider import Order, Provider
from tests.serving.gateways import Site, body_of, call, chat, connected, raw_request, wait_for

PATH = "/v1/chat/completions"
HANG, HANG_LATER = Order(fault="hang"), Order(fault="hang_stream", after_events=3)


def _leave(connection: socket.socket, reset: bool) -> None:
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _until_in_flight(connection: socket.socket, provider: Provider) -> None:
    wait_for(lambda: provider.seen.in_flight == 1)


def _until_first_event(connection: socket.socket, provider: Provider) -> None:
    data = b""
    while b"data: " not in data:
        data += connection.recv(4096)
    assert data.startswith(b"HTTP/1.1 200")


def _at_once(connection: socket.socket, provider: Provider) -> None:
    time.sleep(0.05)


STAGES: dict[str, tuple[Order, float, Callable[[socket.socket, Provider], None], bool]] = {
    # what upstreams do; share of the request that is sent; what to wait for; whether a decision was begun
    "before a word": (HANG, 0.0, _at_once, False),
    "in the headers": (HANG, 0.1, _at_once, False),
    "in the body": (HANG, 0.8, _at_once, False),
    "while a model is asked": (HANG, 1.0, _until_in_flight, True),
    "in the stream": (HANG_LATER, 1.0, _until_first_event, True),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_client_that_leaves_cancels_the_upstream(
    stage: str, reset: bool, site: Site, provider: Provider
) -> None:
    order, share, wait, begun = STAGES[stage]
    provider.orders.set("*", order)
    request = raw_request(PATH, json.dumps(body_of(PATH, site.questions[0], stream=True)).encode())
    with site.in_thread() as address:
        with connected(address) as connection:
            connection.sendall(request[: int(len(request) * share)])
            wait(connection, provider)
            _leave(connection, reset)
        if begun:
            wait_for(lambda: provider.seen.gone == 1, "the upstream was not cancelled", 10)
        wait_for(lambda: provider.seen.in_flight == 0, "the upstream still answers", 10)
        provider.orders.clear()
        assert chat(address, site.questions[0]).status == 200  # and the model is not thought ill
        assert 'state{model="' in call(address, "GET", "/metrics").body.decode()
    assert provider.seen.requests.total() == 1 + begun
    rows = (
        sqlite3.connect(site.database)
        .execute("select status, error_code from decisions order by created_at")
        .fetchall()
    )
    assert rows == [*([("cancelled", "client_gone")] if begun else []), ("ok", None)]


def test_a_client_that_leaves_while_another_model_is_tried_stops_that_one_too(
    site: Site, provider: Provider
) -> None:
    site.changes = {"upstreams": {"retries": {"attempts": 1}}}
    with site.in_thread() as address:
        first = chat(address, site.questions[0]).headers["x-proteus-model"].removeprefix("pool-")
        provider.orders.set("*", HANG)
        provider.orders.set(first, Order(fault="status", status=500))
        with connected(address) as connection:
            body = json.dumps(body_of(PATH, site.questions[0])).encode()
            connection.sendall(raw_request(PATH, body))
            wait_for(lambda: provider.seen.in_flight == 1 and provider.seen.requests[first] == 2)
        wait_for(lambda: provider.seen.gone == 1, "the stand-in was not cancelled", 10)


def test_a_client_that_leaves_after_the_last_byte_has_had_its_answer(site: Site, provider: Provider) -> None:
    with site.in_thread() as address:
        with connected(address) as connection:
            body = json.dumps(body_of(PATH, site.questions[0])).encode()
            connection.sendall(raw_request(PATH, body))
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
            _leave(connection, reset=True)
        assert call(address, "GET", "/healthz").status == 200
    assert sqlite3.connect(site.database).execute("select status from decisions").fetchall() == [("ok",)]


def test_clients_that_read_nothing_hold_up_nobody_and_are_cut_off(site: Site, provider: Provider) -> None:
    """Their answers are larger than what the sockets between take in."""
    site.changes = {"server": {"limits": {"deadline_s": 0.5}}}
    big = json.dumps({"padding": "x" * 400_000})
    provider.orders.set("*", Order(gap_s=0.001))
    with site.in_thread() as address:
        lazy = []
        for _ in range(4):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            host, port = address.removeprefix("http://").split(":")
            connection.connect((host, int(port)))
            body = json.dumps(body_of(PATH, site.questions[0], stream=True, user=big)).encode()
            connection.sendall(raw_request(PATH, body))
            lazy.append(connection)
        provider.orders.clear()
        assert chat(address, site.questions[1]).status == 200
        wait_for(lambda: provider.seen.in_flight == 0, "an upstream is still held", 10)
        for connection in lazy:
            connection.close()


def test_a_crowd_that_leaves_in_the_middle_leaves_nothing_behind(site: Site, provider: Provider) -> None:
    provider.orders.set("*", Order(gap_s=0.05))
    request = raw_request(PATH, json.dumps(body_of(PATH, site.questions[0], stream=True)).encode())

    def come_and_go(address: str, wait_s: float) -> None:
        with connected(address) as connection:
            connection.sendall(request)
            time.sleep(wait_s)

    with site.in_thread() as address:
        threads = [threading.Thread(target=come_and_go, args=(address, 0.004 * place)) for place in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: provider.seen.in_flight == 0, "an upstream still answers", 10)
        metrics = call(address, "GET", "/metrics").body.decode()
        wait_for(
            lambda: (
                sqlite3.connect(site.database).execute("select count(*) from decisions").fetchone()[0] == 60
            )
        )
        assert chat(address, site.questions[0]).status == 200
    breakers = [line for line in metrics.splitlines() if line.startswith("proteus_breaker_state{")]
    assert len(breakers) == len(site.world.models)
    assert all(line.endswith(" 0.0") for line in breakers)
    statuses = sqlite3.connect(site.database).execute("select distinct status from decisions").fetchall()
    assert set(statuses) <= {("ok",), ("cancelled",)}
