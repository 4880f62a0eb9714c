"""kill -9 of a gateway under load, again and again on one database: what it acknowledged is there, the sums are right."""

from __future__ import annotations

import http.client
import random
import signal
import sqlite3
import threading
import time
from dataclasses import dataclass, field

import pytest

from tests.serving.gateways import Site, call, chat, wait_for

FLUSH_INTERVAL_S = 0.2
WINDOW_S = 2 * FLUSH_INTERVAL_S
KILLS, CALLERS = 10, 8


@dataclass
class Ledger:
    """What the callers know.

    Attributes
    ----------
    answered
        Decision -> when its answer was complete (monotonic seconds).
    scored
        Decision -> the score that was acknowledged.
    under_way
        Decisions whose feedback was sent, acknowledged or not.
    """

    answered: dict[str, float] = field(default_factory=dict)
    scored: dict[str, float] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)


def _ask_until_it_dies(address: str, site: Site, caller: int, ledger: Ledger) -> None:
    place = caller
    try:
        while True:
            answer = chat(address, site.questions[place % len(site.questions)], stream=place % 3 == 0)
            if answer.status != 200:
                raise AssertionError(f"{answer.status}: {answer.body!r}")
            decision_id = answer.headers["x-proteus-decision-id"]
            if place % 3 or answer.events()[-1] == "[DONE]":
                ledger.answered[decision_id] = time.monotonic()
            if place % 4 == 0:
                ledger.under_way.add(decision_id)
                item = {"decision_id": decision_id, "score": (place % 11) / 10}
                said = call(address, "POST", "/v1/feedback", item)
                assert said.json()["status"] == "stored"
                ledger.scored[decision_id] = item["score"]
            place += CALLERS
    except (OSError, http.client.HTTPException):
        return  # it was killed


@pytest.mark.slow
def test_ten_kills_under_load_lose_at_most_the_window_and_nothing_acknowledged(site: Site) -> None:
    site.changes = {"store": {"url": f"sqlite:///{site.database}", "flush_interval_s": FLUSH_INTERVAL_S}}
    draw, ledger = random.Random(11), Ledger()
    must_be_there: set[str] = set()
    failures: list[BaseException] = []

    def caller(address: str, place: int) -> None:
        try:
            _ask_until_it_dies(address, site, place, ledger)
        except BaseException as error:
            failures.append(error)

    for _ in range(KILLS):
        with site.in_process() as gateway:
            address = gateway.address
            threads = [threading.Thread(target=caller, args=(address, place)) for place in range(CALLERS)]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(ledger.answered) > 30)
            time.sleep(draw.uniform(0.5, 1.5))
            killed_at = time.monotonic()
            gateway.signal(signal.SIGKILL)
            assert gateway.wait() == -signal.SIGKILL
            for thread in threads:
                thread.join(30)
        assert not failures
        must_be_there |= {one for one, at in ledger.answered.items() if at < killed_at - WINDOW_S}
        ledger.answered.clear()  # of the others some are lost, as documented

    with site.in_process() as gateway:  # it opens what the kills left, and goes on
        address = gateway.address
        last = chat(address, site.questions[0]).headers["x-proteus-decision-id"]
        for decision_id in random.Random(0).sample(sorted(ledger.scored), KILLS):
            assert call(address, "GET", f"/v1/decisions/{decision_id}").json()["id"] == decision_id
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0

    database = sqlite3.connect(site.database)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    stored = {row[0] for row in database.execute("SELECT id FROM decisions")}
    assert must_be_there <= stored
    assert last in stored
    assert len(must_be_there) > 10 * KILLS  # there was a load
    scores = dict(database.execute("SELECT decision_id, score FROM feedback").fetchall())
    assert {one: scores.get(one) for one in ledger.scored} == ledger.scored
    assert len(ledger.scored) > KILLS
    assert set(scores) <= ledger.under_way  # and nothing nobody said
    assert set(scores) <= stored
    billed = database.execute("SELECT sum(requests), sum(cost_usd) FROM spend").fetchone()
    counted = database.execute("SELECT count(*), sum(cost_usd) FROM decisions").fetchone()
    assert billed[0] == counted[0]
    assert billed[1] == pytest.approx(counted[1])
