"""The database goes away and comes back, its disk fills up: requests are served, feedback is never lost in silence."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from tests.serving.gateways import Got, Site, call, chat, wait_for
from tests.serving.proxy import Proxy, through_proxy
from tests.serving.store.helpers import locked

Acknowledged = dict[str, float]


@dataclass
class Database:
    """The gateway's URL for it, the true one for a look from outside, and how to take it away.

    A lock on SQLite's file leaves it readable.
    """

    url: str
    direct_url: str
    away: Callable[[], Any]


@contextmanager
def _proxied(url: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """`url` through a proxy that runs beside the test, and a context in which the database is gone."""
    loop, ready, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[tuple[Proxy, str]] = []

    async def run() -> None:
        async with through_proxy(url) as pair:
            found.append(pair)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    proxy, proxied = found[0]

    @contextmanager
    def away() -> Iterator[None]:
        loop.call_soon_threadsafe(proxy.cut)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(proxy.mend)

    try:
        yield proxied, away
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


@pytest.fixture(params=["postgres", pytest.param("sqlite", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, site: Site) -> Iterator[Database]:
    if request.param == "postgres":
        direct = request.getfixturevalue("postgres_url")
        with _proxied(direct) as (url, away):
            yield Database(url, direct, away)
        return

    url = f"sqlite:///{site.database}"
    yield Database(url, url, partial(locked, site.database))


def _score(address: str, answer: Got, score: float, acknowledged: Acknowledged) -> int:
    """The status of a feedback on `answer`; remembered where it was acknowledged."""
    item: dict[str, Any] = {"decision_id": answer.headers["x-proteus-decision-id"], "score": score}
    status = call(address, "POST", "/v1/feedback", item).status
    if status == 200:
        acknowledged[item["decision_id"]] = score
    return status


def _stored(url: str) -> tuple[set[str], Acknowledged]:
    """Ids of the decisions and scores of the feedback that are in the database."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            ids = {row[0] for row in connection.execute(sa.text("SELECT id FROM decisions"))}
            rows = connection.execute(sa.text("SELECT decision_id, score FROM feedback"))
            return ids, {row[0]: row[1] for row in rows}
    finally:
        engine.dispose()


def test_a_database_that_goes_and_comes_back_costs_no_request_and_no_score(
    database: Database, site: Site
) -> None:
    site.changes = {"store": {"url": database.url, "flush_interval_s": 0.05}}
    acknowledged: Acknowledged = {}
    with site.in_thread() as address:
        before = [chat(address, text) for text in site.questions[:5]]
        assert _score(address, before[0], 1.0, acknowledged) == 200
        wait_for(lambda: "proteus_store_pending 0.0" in call(address, "GET", "/metrics").body.decode())
        with database.away():
            during = [
                chat(address, text, stream=place % 2 == 0) for place, text in enumerate(site.questions[5:25])
            ]
            assert {answer.status for answer in during} == {200}
            assert _score(address, before[1], 0.5, acknowledged) == 503
            assert _score(address, during[0], 0.5, acknowledged) == 503
            ready = call(address, "GET", "/readyz")
            expected = "ok" if database.url.startswith("sqlite") else "unavailable"
            assert (ready.status, ready.json()["store"]) == (200, expected)
            pending = call(address, "GET", "/metrics").body.decode()
            assert "proteus_store_pending 20.0" in pending
            seen = call(address, "GET", f"/v1/decisions/{during[0].headers['x-proteus-decision-id']}")
            assert seen.status == 200  # it waits, and can be read
        wait_for(lambda: "proteus_store_pending 0.0" in call(address, "GET", "/metrics").body.decode())
        assert call(address, "GET", "/readyz").json()["store"] == "ok"
        for answer in (before[1], during[0], during[1]):  # sent again, as the 503 said
            assert _score(address, answer, 0.5, acknowledged) == 200
        assert "proteus_store_dropped_total 0.0" in call(address, "GET", "/metrics").body.decode()
    ids, scores = _stored(database.direct_url)
    assert ids == {answer.headers["x-proteus-decision-id"] for answer in (*before, *during)}
    assert scores == acknowledged


@pytest.mark.slow
def test_a_full_disk_stops_feedback_and_nothing_else_until_there_is_room(site: Site) -> None:
    """A limit on the size of files stands for the disk: neither the store nor the log can grow."""
    acknowledged: Acknowledged = {}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with site.in_process() as gateway:
        address = gateway.address
        before = chat(address, site.questions[0])
        assert _score(address, before, 1.0, acknowledged) == 200
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        during = [
            chat(address, text, stream=place % 2 == 0) for place, text in enumerate(site.questions[1:60])
        ]
        assert {answer.status for answer in during} == {200}
        assert _score(address, during[0], 0.5, acknowledged) == 503
        assert call(address, "GET", "/readyz").status == 200
        time.sleep(0.5)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_for(lambda: "proteus_store_pending 0.0" in call(address, "GET", "/metrics").body.decode())
        assert _score(address, during[0], 0.5, acknowledged) == 200
        assert "proteus_store_dropped_total 0.0" in call(address, "GET", "/metrics").body.decode()
    ids, scores = _stored(f"sqlite:///{site.database}")
    assert ids == {answer.headers["x-proteus-decision-id"] for answer in (before, *during)}
    assert scores == acknowledged
    assert sqlite3.connect(site.database).execute("PRAGMA integrity_check").fetchone() == ("ok",)
