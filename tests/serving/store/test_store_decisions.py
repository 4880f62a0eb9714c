"""Decisions: queued, written in batches, read back as they were, never with text nobody asked to keep."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from proteus_router.errors import DecisionNotFoundError
from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.store import Store
from tests.serving.store.helpers import MakeDecision, count, opened, rows, until


def test_a_decision_reads_back_as_it_was_recorded(url: str, make_decision: MakeDecision) -> None:
    full = make_decision(audit_probability=0.05, session_id="hash", error_code="upstream_timeout")
    bare = make_decision(
        key_id=None, tier=None, accuracy_target=None, internal_target=None, predicted_score=None,
        predicted_cost_usd=None, cost_usd=None, propensity=None, input_tokens=None, output_tokens=None,
        first_byte_s=None, request_id=None, reasons=(), candidates=(), certificate=None,
    )  # fmt: skip

    async def main() -> None:
        async with opened(url) as store:
            for record in (full, bare):
                store.record(record)
                assert await store.decision(record.id, key_id=None) == record  # still queued
            await until(lambda: store.pending == 0)
            for record in (full, bare):
                assert await store.decision(record.id, key_id=None) == record  # from the database

    asyncio.run(main())


def test_recording_is_batched_and_far_from_the_hot_path(url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=30, flush_rows=500) as store:
            records = [make_decision() for _ in range(499)]
            begun = time.perf_counter()
            for record in records:
                store.record(record)
            assert (time.perf_counter() - begun) / len(records) < 500e-6  # a commit is a millisecond at best
            await asyncio.sleep(0.2)
            assert (store.pending, count(url)) == (499, 0)
            store.record(make_decision())  # the 500th
            await until(lambda: store.pending == 0)
            assert count(url) == 500

    asyncio.run(main())


def test_a_lone_decision_is_written_within_the_window(url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(url) as store:
            store.record(make_decision())
            await asyncio.sleep(store.window_s)
            assert (store.pending, count(url), store.lag_s) == (0, 1, 0.0)

    asyncio.run(main())


def test_close_writes_everything_that_waits(url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=30, flush_rows=400) as store:
            for _ in range(1_399):
                store.record(make_decision())
        assert (store.pending, store.dropped) == (0, 0)

    asyncio.run(main())
    assert count(url) == 1_399


def test_after_close_a_record_is_counted_as_dropped_not_raised(
    sqlite_url: str, make_decision: MakeDecision
) -> None:
    async def main() -> Store:
        async with opened(sqlite_url) as store:
            pass
        return store

    store = asyncio.run(main())
    store.record(make_decision())
    assert (store.pending, store.dropped) == (0, 1)


@pytest.mark.parametrize("keep_text", [False, True])
def test_text_is_kept_only_when_the_operator_says_so(
    sqlite_url: str, tmp_path: Path, make_decision: MakeDecision, keep_text: bool
) -> None:
    record = make_decision(prompt="PLANTED-PROMPT", answer="PLANTED-ANSWER")

    async def main() -> DecisionRecord:
        async with opened(sqlite_url, keep_text=keep_text, flush_interval_s=30) as store:
            store.record(record)
            return await store.decision(record.id, key_id=None)

    queued = asyncio.run(main())
    assert queued == (record if keep_text else replace(record, prompt=None, answer=None))
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("proteus.db*"))
    assert (b"PLANTED-PROMPT" in stored, b"PLANTED-ANSWER" in stored) == (keep_text, keep_text)


def test_a_tenant_sees_its_own_decisions_alone(url: str, make_decision: MakeDecision) -> None:
    mine, theirs, nobodys = make_decision(), make_decision(key_id="key_b"), make_decision(key_id=None)

    async def main() -> None:
        async with opened(url, flush_interval_s=0.05) as store:
            for record in (mine, theirs, nobodys):
                store.record(record)
            for _ in ("queued", "stored"):
                assert await store.decision(mine.id, key_id="key_a") == mine
                for record in (theirs, nobodys):
                    with pytest.raises(DecisionNotFoundError):
                        await store.decision(record.id, key_id="key_a")
                    assert await store.decision(record.id, key_id=None) == record
                await until(lambda: store.pending == 0)
            with pytest.raises(DecisionNotFoundError):
                await store.decision("dec_unknown", key_id=None)

    asyncio.run(main())


def test_what_clients_and_upstreams_choose_cannot_block_a_batch(
    url: str, make_decision: MakeDecision
) -> None:
    hostile = [
        make_decision(requested_model="nul \0, half a pair \ud800", request_id="\0"),
        make_decision(requested_model="nul \0 alone"),
        make_decision(requested_model="half a pair alone \ud800"),
        make_decision(requested_model="x" * 10_000),
        make_decision(input_tokens=10**30, output_tokens=-(10**30)),
        make_decision(cost_usd=math.nan, latency_s=math.inf, predicted_score=-math.inf),
        make_decision(candidates=({"model": "small", "predicted_score": math.nan},)),
        make_decision(prompt="\0\udfff", answer="\ud83d"),
    ]

    async def main() -> None:
        async with opened(url, flush_interval_s=30, keep_text=True) as store:
            for record in hostile:
                store.record(record)
        assert store.dropped == 0

    asyncio.run(main())
    assert count(url) == len(hostile)
    stored = {row.id: row for row in rows(url, "SELECT * FROM decisions")}
    assert stored[hostile[0].id].requested_model == "nul \ufffd, half a pair ?"
    assert stored[hostile[1].id].requested_model == "nul \ufffd alone"
    assert stored[hostile[2].id].requested_model == "half a pair alone ?"
    assert len(stored[hostile[3].id].requested_model) == 512
    assert stored[hostile[5].id].cost_usd is None
    assert stored[hostile[7].id].prompt == "\ufffd?"


def test_a_row_no_database_takes_is_dropped_alone(
    url: str, make_decision: MakeDecision, caplog: pytest.LogCaptureFixture
) -> None:
    poison = make_decision(reasons=("fine",), certificate={"not": object(), "secret": "PLANTED"})

    async def main() -> None:
        async with opened(url, flush_interval_s=30) as store:
            for record in (
                [make_decision() for _ in range(60)] + [poison] + [make_decision() for _ in range(60)]
            ):
                store.record(record)
        assert store.dropped == 1

    asyncio.run(main())
    assert count(url) == 120
    assert [poison.id in record.getMessage() for record in caplog.records] == [True]
    assert "PLANTED" not in caplog.text


def test_the_first_record_of_an_id_stands(url: str, make_decision: MakeDecision) -> None:
    first = make_decision(cost_usd=0.5)

    async def main() -> None:
        async with opened(url, flush_interval_s=0.05) as store:
            for _ in range(3):
                store.record(first)
                store.record(replace(first, cost_usd=9.0))
                await until(lambda: store.pending == 0)
            assert await store.decision(first.id, key_id=None) == first
            assert await store.spent_usd("key_a", 0) == 0.5
            assert store.dropped == 0

    asyncio.run(main())


def test_a_full_queue_drops_and_counts(sqlite_url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(sqlite_url, flush_interval_s=30, queue_rows=10) as store:
            kept = [make_decision() for _ in range(10)]
            for record in [*kept, make_decision(), make_decision()]:
                store.record(record)
            assert (store.pending, store.dropped) == (10, 2)
        assert sorted(row.id for row in rows(sqlite_url, "SELECT id FROM decisions")) == sorted(
            record.id for record in kept
        )

    asyncio.run(main())
