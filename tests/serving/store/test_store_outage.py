"""The database goes away, stays silent, fills up, and comes back: nothing acknowledged or queued is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proteus_router.errors import ConfigError, StoreUnavailableError
from proteus_router.serving.records import Feedback
from proteus_router.serving.store import open_store
from tests.serving.proxy import through_proxy
from tests.serving.store.helpers import MakeDecision, count, locked, opened, rows, until


def feedback_on(decision_id: str, score: float = 1.0) -> Feedback:
    return Feedback(decision_id=decision_id, source="human", score=score, created_at=time.time())


def test_a_database_that_goes_and_comes_back_loses_nothing(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    before, during, after = ([make_decision(cost_usd=0.01) for _ in range(n)] for n in (50, 700, 50))

    async def main() -> None:
        async with (
            through_proxy(postgres_url) as (proxy, url),
            opened(url, flush_interval_s=0.05, timeout_s=2) as store,
        ):
            for record in before:
                store.record(record)
            await until(lambda: store.pending == 0)
            await store.add_feedback([feedback_on(before[0].id)])
            proxy.cut()
            for record in during:
                store.record(record)
                await asyncio.sleep(0.001)
            assert (store.pending, store.dropped) == (700, 0)
            assert store.lag_s > 0.5
            assert not await store.healthy()
            assert await store.decision(during[0].id, key_id=None) == during[0]  # known all the same
            for decision in (before[1], during[1]):
                with pytest.raises(StoreUnavailableError):
                    await store.add_feedback([feedback_on(decision.id)])
            for call in (store.list_keys(), store.revoke_key("key_x"), store.spent_usd("key_a", 0)):
                with pytest.raises(StoreUnavailableError):
                    await call
            proxy.mend()
            for record in after:
                store.record(record)
            await until(lambda: store.pending == 0)
            assert await store.healthy()
            results = await store.add_feedback(
                [feedback_on(one.id) for one in (before[1], during[1], before[0])]
            )
            assert [result.status for result in results] == ["stored", "stored", "duplicate"]
            assert await store.spent_usd("key_a", 0) == pytest.approx(8.0)
            assert store.dropped == 0

    asyncio.run(main())
    assert count(postgres_url) == 800


def test_a_connection_that_died_while_idle_is_not_noticed(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    record = make_decision()

    async def main() -> None:
        async with through_proxy(postgres_url) as (proxy, url), opened(url, flush_interval_s=0.05) as store:
            store.record(record)
            await until(lambda: store.pending == 0)
            proxy.cut()  # a restart between two requests
            proxy.mend()
            assert [result.status for result in await store.add_feedback([feedback_on(record.id)])] == [
                "stored"
            ]

    asyncio.run(main())


def test_a_commit_whose_answer_is_lost_counts_once(postgres_url: str, make_decision: MakeDecision) -> None:
    records = [make_decision(cost_usd=0.25) for _ in range(40)]

    async def main() -> None:
        async with through_proxy(postgres_url) as (proxy, url), opened(url, flush_interval_s=0.3) as store:
            proxy.lose_next_commit = True
            for record in records:
                store.record(record)
            await until(lambda: store.pending == 0)
            assert proxy.commits_lost == 1
            assert await store.spent_usd("key_a", 0) == 10.0
            proxy.lose_next_commit = True
            results = await store.add_feedback([feedback_on(records[0].id, 0.5)])
            assert proxy.commits_lost == 2
            assert results[0].status in ("stored", "duplicate")  # acknowledged, and there

    asyncio.run(main())
    assert count(postgres_url) == 40
    assert [tuple(row) for row in rows(postgres_url, "SELECT requests, cost_usd FROM spend")] == [(40, 10.0)]
    assert [row.score for row in rows(postgres_url, "SELECT score FROM feedback")] == [0.5]


def test_a_silent_network_is_given_up_in_time_and_loses_nothing(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    records = [make_decision() for _ in range(30)]

    async def main() -> None:
        async with (
            through_proxy(postgres_url) as (proxy, url),
            opened(url, flush_interval_s=0.05, timeout_s=1) as store,
        ):
            store.record(records[0])
            await until(lambda: store.pending == 0)
            proxy.silence()
            for record in records[1:]:
                store.record(record)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="no answer within"):
                await store.add_feedback([feedback_on(records[0].id)])
            assert time.monotonic() - begun < 2.5
            await asyncio.sleep(2.0)  # long enough for every connection to be hung up on
            assert store.pending == 29
            proxy.mend()
            await until(lambda: store.pending == 0, within_s=10)
            again = await store.add_feedback([feedback_on(records[0].id)])
            assert again[0].status in ("stored", "duplicate")

    asyncio.run(main())
    assert count(postgres_url) == 30


def test_close_gives_up_after_its_time_and_says_what_is_lost(
    postgres_url: str, make_decision: MakeDecision, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with through_proxy(postgres_url) as (proxy, url):
            store = open_store(url, flush_interval_s=30, timeout_s=1)
            await store.start()
            for _ in range(7):
                store.record(make_decision())
            proxy.silence()
            begun = time.monotonic()
            await store.close()
            assert time.monotonic() - begun < 12
            assert (store.pending, store.dropped) == (0, 7)

    asyncio.run(main())
    assert "7 decisions could not be written" in caplog.text


def test_a_database_that_is_not_there_at_the_start_is_said_without_its_password() -> None:
    async def main() -> None:
        store = open_store("postgresql://proteus:PLANTED@127.0.0.1:1/gone", timeout_s=1)
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/gone") as caught:
            await store.start()
        assert "PLANTED" not in f"{caught.value} {caught.value.__cause__}"

    asyncio.run(main())


@pytest.mark.parametrize("url", ["mysql://u:PLANTED@h/d", "PLANTED", "sqlite://", "sqlite:///:memory:"])
def test_what_is_not_a_usable_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://user") as caught:
        open_store(url)
    assert "PLANTED" not in str(caught.value)


def test_a_sqlite_file_that_is_locked_for_long_loses_nothing(
    sqlite_url: str, tmp_path: Path, make_decision: MakeDecision
) -> None:
    records = [make_decision() for _ in range(20)]

    async def main() -> None:
        async with opened(sqlite_url, flush_interval_s=0.05, timeout_s=0.3) as store:
            store.record(records[0])
            await until(lambda: store.pending == 0)
            with locked(tmp_path / "proteus.db"):
                for record in records[1:]:
                    store.record(record)
                with pytest.raises(StoreUnavailableError):
                    await store.add_feedback([feedback_on(records[0].id)])
                await asyncio.sleep(0.8)
                assert (store.pending, count(sqlite_url)) == (19, 1)
            await until(lambda: store.pending == 0)
            assert (await store.add_feedback([feedback_on(records[0].id)]))[0].status in (
                "stored",
                "duplicate",
            )

    asyncio.run(main())
    assert count(sqlite_url) == 20


# In a process of its own: the limit on the size of files holds for all of them.
DISK_FULL = """
import asyncio, json, resource, sys, time
from proteus_router.errors import StoreUnavailableError
from proteus_router.serving.records import DecisionRecord, Feedback
from proteus_router.serving.store import open_store

url, values = sys.argv[1], json.loads(sys.argv[2])
values |= {"reasons": tuple(values["reasons"]), "candidates": ()}

def decision(n):
    return DecisionRecord(**values | {"id": f"dec_{n:05d}"})

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

async def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)

async def main():
    store = open_store(url, flush_interval_s=0.05)
    await store.start()
    store.record(decision(0))
    await until(lambda: store.pending == 0)
    said = lambda n, score: Feedback(decision_id=f"dec_{n:05d}", source="human", score=score, created_at=0.0)
    acknowledged = await store.add_feedback([said(0, 1.0)])
    limit(4096)
    for n in range(1, 1500):
        store.record(decision(n))
    refused = 0
    try:
        await store.add_feedback([said(1, 1.0)])
    except StoreUnavailableError:
        refused = 1
    await asyncio.sleep(0.3)
    full = [store.pending, refused]
    limit(resource.RLIM_INFINITY)
    await until(lambda: store.pending == 0)
    again = await store.add_feedback([said(0, 1.0), said(1, 0.0)])
    await store.close()
    print(json.dumps([acknowledged[0].status, full, [r.status for r in again], store.dropped]))

asyncio.run(main())
"""


def test_a_full_disk_loses_nothing_once_there_is_room(sqlite_url: str, make_decision: MakeDecision) -> None:
    values = {name: getattr(make_decision(), name) for name in make_decision().__slots__}
    run = subprocess.run(
        [sys.executable, "-c", DISK_FULL, sqlite_url, json.dumps(values)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    acknowledged, full, again, dropped = json.loads(run.stdout)
    assert (acknowledged, full, again, dropped) == ("stored", [1499, 1], ["duplicate", "stored"], 0)
    assert count(sqlite_url) == 1500
    assert [row[0] for row in rows(sqlite_url, "PRAGMA integrity_check")] == ["ok"]


def test_a_call_that_is_cancelled_ends_as_cancelled(sqlite_url: str) -> None:
    """Else a background task that asks the store could not be stopped."""

    async def main() -> None:
        async with opened(sqlite_url) as store:
            for n in range(400):
                task = asyncio.create_task(store.list_keys())
                # So that the cancellation meets the answer at every stage, the last step of it too.
                for _ in range(n % 80):
                    await asyncio.sleep(0)
                while_running = task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() == while_running

    asyncio.run(main())
