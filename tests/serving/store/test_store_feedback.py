"""Feedback: acknowledged when committed, once per decision and source, for known decisions of one's own."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from proteus_router.errors import (
    DecisionNotFoundError,
    FeedbackConflictError,
    InvalidFeedbackError,
)
from proteus_router.serving.records import Feedback
from proteus_router.serving.store import FeedbackResult, Store
from tests.serving.store.helpers import MakeDecision, count, opened, rows, until


def say(decision_id: str, score: Any = 1.0, source: str = "human", **more: Any) -> Feedback:
    return Feedback(decision_id=decision_id, source=source, score=score, created_at=time.time(), **more)


def statuses(results: Sequence[FeedbackResult]) -> list[str]:
    return [result.status for result in results]


def stored(url: str) -> list[tuple[str, str, float]]:
    return [tuple(row) for row in rows(url, "SELECT decision_id, source, score FROM feedback ORDER BY id")]


async def written(store: Store) -> None:
    await until(lambda: store.pending == 0)


def test_acknowledged_feedback_is_in_the_database(url: str, make_decision: MakeDecision) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(url, flush_interval_s=0.05) as store:
            store.record(record)
            await written(store)
            results = await store.add_feedback([say(record.id, 0.25, comment="half\0 right")])
            assert results == [FeedbackResult(record.id, "human", "stored")]
            assert stored(url) == [(record.id, "human", 0.25)]  # seen from another connection

    asyncio.run(main())
    assert rows(url, "SELECT comment FROM feedback")[0].comment == "half\ufffd right"


def test_feedback_on_a_queued_decision_commits_both(url: str, make_decision: MakeDecision) -> None:
    records = [make_decision(cost_usd=0.5) for _ in range(5)]

    async def main() -> None:
        async with opened(url, flush_interval_s=30) as store:
            for record in records:
                store.record(record)
            assert statuses(await store.add_feedback([say(records[2].id)])) == ["stored"]
            assert (count(url), store.pending, len(stored(url))) == (1, 4, 1)
        assert count(url) == 5
        async with opened(url) as store:
            assert await store.spent_usd("key_a", 0) == 2.5  # none lost, none twice

    asyncio.run(main())


def test_the_same_again_changes_nothing_and_another_score_is_a_conflict(
    url: str, make_decision: MakeDecision
) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(url) as store:
            store.record(record)
            for _ in range(3):
                results = await store.add_feedback([say(record.id, 0.7), say(record.id, 0.2, "judge")])
            assert statuses(results) == ["duplicate", "duplicate"]
            (refused,) = await store.add_feedback([say(record.id, 0.8)])
            assert refused.status == "conflict"
            assert isinstance(refused.error, FeedbackConflictError)
            assert refused.error.stored_score == 0.7
            inside_one_list = [
                say(record.id, 0.5, "auto"),
                say(record.id, 0.5, "auto"),
                say(record.id, 0.6, "auto"),
            ]
            assert statuses(await store.add_feedback(inside_one_list)) == ["stored", "duplicate", "conflict"]

    asyncio.run(main())
    assert stored(url) == [(record.id, "human", 0.7), (record.id, "judge", 0.2), (record.id, "auto", 0.5)]


def test_one_id_a_thousand_times_is_one_row(url: str, make_decision: MakeDecision) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(url) as store:
            store.record(record)
            results = await store.add_feedback([say(record.id, 1 / 3) for _ in range(1_000)])
            assert statuses(results) == ["stored"] + ["duplicate"] * 999

    asyncio.run(main())
    assert stored(url) == [(record.id, "human", 1 / 3)]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -0.001, 1.001, True, None, "1.0"], ids=str)
def test_what_is_not_a_score_is_refused(url: str, make_decision: MakeDecision, score: Any) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(url) as store:
            store.record(record)
            bad, good = await store.add_feedback([say(record.id, score), say(record.id, 0, "judge")])
            assert (bad.status, good.status) == ("invalid", "stored")
            assert isinstance(bad.error, InvalidFeedbackError)

    asyncio.run(main())
    assert stored(url) == [(record.id, "judge", 0.0)]


@pytest.mark.parametrize(
    "changes", [{"source": ""}, {"source": "x" * 65}, {"source": "a\0b"}, {"comment": "x" * 2_001}]
)
def test_a_source_or_comment_out_of_bounds_is_refused(
    sqlite_url: str, make_decision: MakeDecision, changes: dict[str, str]
) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(sqlite_url) as store:
            store.record(record)
            assert statuses(await store.add_feedback([say(record.id, 1.0, **changes)])) == ["invalid"]

    asyncio.run(main())


def test_unknown_and_other_tenants_decisions_are_not_found(url: str, make_decision: MakeDecision) -> None:
    mine, theirs = make_decision(), make_decision(key_id="key_b")

    async def main() -> None:
        async with opened(url, flush_interval_s=0.05) as store:
            for record in (mine, theirs):
                store.record(record)
            await written(store)
            unknown = ["dec_unknown", "", "\ud800", "\0", "x" * 10_000]
            results = await store.add_feedback(
                [say(name, key_id="key_a") for name in [mine.id, theirs.id, *unknown]]
            )
            assert statuses(results) == ["stored"] + ["not_found"] * 6
            assert all(isinstance(result.error, DecisionNotFoundError) for result in results[1:])
            assert statuses(await store.add_feedback([say(theirs.id)])) == ["stored"]  # an admin may

    asyncio.run(main())
    assert sorted(stored(url)) == sorted([(mine.id, "human", 1.0), (theirs.id, "human", 1.0)])


def test_a_thousand_items_are_one_transaction_and_more_are_refused(
    url: str, make_decision: MakeDecision
) -> None:
    records = [make_decision() for _ in range(1_000)]

    async def main() -> None:
        async with opened(url, queue_rows=2_000, flush_interval_s=30, flush_rows=2_000) as store:
            for record in records:
                store.record(record)
            assert set(statuses(await store.add_feedback([say(record.id) for record in records]))) == {
                "stored"
            }
            assert await store.add_feedback([]) == []
            with pytest.raises(InvalidFeedbackError, match="1,001 items"):
                await store.add_feedback([say("dec_x")] * 1_001)

    asyncio.run(main())
    assert len(stored(url)) == 1_000
    if url.startswith("postgres"):  # every row carries its transaction
        assert len(rows(url, "SELECT DISTINCT xmin::text FROM feedback")) == 1


def test_a_hundred_writers_at_once_lose_and_double_nothing(url: str, make_decision: MakeDecision) -> None:
    records = [make_decision() for _ in range(50)]

    async def main() -> None:
        async with (
            opened(url, flush_interval_s=0.02, timeout_s=20) as first,
            opened(url, timeout_s=20) as second,
        ):
            for record in records:
                first.record(record)
            await written(first)
            draw = random.Random(7)
            jobs = []
            for _ in range(100):
                some = draw.sample(records, 20)
                scores = [draw.choice([0.0, 1.0]) for _ in some]
                store = draw.choice([first, second])
                jobs.append(store.add_feedback([say(r.id, s) for r, s in zip(some, scores, strict=True)]))
            results = [result for job in await asyncio.gather(*jobs) for result in job]
        assert len(results) == 2_000
        accepted = [result.decision_id for result in results if result.status == "stored"]
        touched = {result.decision_id for result in results}
        assert sorted(accepted) == sorted(touched)  # each exactly once
        assert {result.status for result in results} == {"stored", "duplicate", "conflict"}
        final = {decision_id: score for decision_id, _, score in stored(url)}
        for result in results:
            if result.status == "conflict":
                assert isinstance(result.error, FeedbackConflictError)
                assert result.error.stored_score == final[result.decision_id]
        assert len(stored(url)) == len(touched)

    asyncio.run(main())


def test_another_gateways_fresh_decision_is_waited_for(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    record = make_decision()

    async def main() -> None:
        async with opened(postgres_url, flush_interval_s=1.0) as here, opened(postgres_url) as there:
            here.record(record)
            assert count(postgres_url) == 0
            assert statuses(await there.add_feedback([say(record.id)])) == ["stored"]

    asyncio.run(main())
