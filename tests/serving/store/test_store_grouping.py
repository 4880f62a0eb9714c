"""Group commit: a burst shares transactions, and nobody pays for another's mistake or impatience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from proteus_router.errors import StoreUnavailableError
from proteus_router.serving.records import Feedback
from proteus_router.serving.store import FeedbackResult
from proteus_router.serving.store.grouping import FeedbackGroups
from tests.serving.store.helpers import MakeDecision, opened, rows, until


def items(*names: str) -> list[Feedback]:
    return [Feedback(decision_id=name, source="human", score=1.0, created_at=0.0) for name in names]


class Writer:
    """Takes its time; refuses what is called "bad"; may be away."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.away = False

    async def write(self, given: Sequence[Feedback]) -> list[FeedbackResult]:
        names = [item.decision_id for item in given]
        self.groups.append(names)
        await asyncio.sleep(0.02)
        if self.away:
            raise StoreUnavailableError("away.")
        if "bad" in names:
            raise ValueError("no database takes this")
        return [FeedbackResult(name, "human", "stored") for name in names]


def names(results: Sequence[FeedbackResult]) -> list[str]:
    return [result.decision_id for result in results]


def test_calls_that_wait_together_share_a_write_and_get_their_own_answers() -> None:
    async def main() -> None:
        writer = Writer()
        groups = FeedbackGroups(writer.write)
        lists = [[f"{n}-{m}" for m in range(n)] for n in range(1, 6)]
        answers = await asyncio.gather(*(groups.add(items(*some)) for some in lists))
        assert [names(answer) for answer in answers] == lists
        assert [len(group) for group in writer.groups] == [15]
        await groups.add(items("later"))
        assert writer.groups[-1] == ["later"]

    asyncio.run(main())


def test_no_list_is_split_and_no_write_is_longer_than_a_list_may_be() -> None:
    async def main() -> None:
        writer = Writer()
        groups = FeedbackGroups(writer.write)
        await asyncio.gather(*(groups.add(items(*["x"] * n)) for n in (600, 400, 1, 1000, 999)))
        assert [len(group) for group in writer.groups] == [1000, 1, 1000, 999]

    asyncio.run(main())


def test_a_bad_item_fails_its_own_call_alone() -> None:
    async def main() -> None:
        groups = FeedbackGroups(Writer().write)
        calls = [groups.add(items(name)) for name in ("a", "bad", "b")]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(second, ValueError)
        assert [names(one) for one in (first, third) if isinstance(one, list)] == [["a"], ["b"]]

    asyncio.run(main())


def test_an_outage_is_everybodys_and_ends() -> None:
    async def main() -> None:
        writer = Writer()
        groups = FeedbackGroups(writer.write)
        writer.away = True
        answers = await asyncio.gather(*(groups.add(items(n)) for n in "abc"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 3
        assert len(writer.groups) == 1  # not tried one by one
        writer.away = False
        assert names(await groups.add(items("d"))) == ["d"]

    asyncio.run(main())


def test_who_gives_up_leaves_the_others_alone_and_is_not_written_if_it_was_not_begun() -> None:
    async def main() -> None:
        writer = Writer()
        groups = FeedbackGroups(writer.write)
        running = asyncio.create_task(groups.add(items("running")))
        await asyncio.sleep(0.005)
        waiting = [asyncio.create_task(groups.add(items(name))) for name in ("gone", "stays")]
        await asyncio.sleep(0)
        waiting[0].cancel()
        running.cancel()
        assert names(await waiting[1]) == ["stays"]
        assert writer.groups == [["running"], ["stays"]]
        await groups.close()

    asyncio.run(main())


def test_closing_waits_for_what_was_begun() -> None:
    async def main() -> None:
        groups = FeedbackGroups(Writer().write)
        call = asyncio.create_task(groups.add(items("a")))
        await asyncio.sleep(0)
        await groups.close()
        assert names(await call) == ["a"]

    asyncio.run(main())


def test_a_burst_of_single_items_takes_a_few_transactions(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    records = [make_decision() for _ in range(300)]

    async def main() -> None:
        async with opened(postgres_url, flush_interval_s=0.02, timeout_s=20) as store:
            for record in records:
                store.record(record)
            await until(lambda: store.pending == 0)
            said = [Feedback(record.id, "human", 1.0, time.time()) for record in records]
            answers = await asyncio.gather(*(store.add_feedback([item]) for item in said))
        assert [answer[0].decision_id for answer in answers] == [record.id for record in records]
        assert {answer[0].status for answer in answers} == {"stored"}

    asyncio.run(main())
    assert len(rows(postgres_url, "SELECT id FROM feedback")) == 300
    assert len(rows(postgres_url, "SELECT DISTINCT xmin::text FROM feedback")) <= 10


@pytest.mark.slow
def test_a_minute_of_feedback_in_full_batches_is_counted_exactly(
    url: str, make_decision: MakeDecision
) -> None:
    """As fast as it is acknowledged, up to 600,000 items: 10,000 a second."""

    async def main() -> None:
        async with opened(url, flush_interval_s=0.05, queue_rows=100_000, timeout_s=60) as store:
            records = [make_decision() for _ in range(10_000)]
            for record in records:
                store.record(record)
            await until(lambda: store.pending == 0, within_s=60)
            begun, n = time.monotonic(), 0
            while time.monotonic() - begun < 60 and n < 600_000:
                for start in range(0, 10_000, 1_000):
                    batch = [
                        Feedback(record.id, f"source-{n // 10_000}", 1.0, 0.0)
                        for record in records[start : start + 1_000]
                    ]
                    answers = await store.add_feedback(batch)
                    assert {answer.status for answer in answers} == {"stored"}
                n += 10_000
            total.append(n)

    total: list[int] = []
    asyncio.run(main())
    assert rows(url, "SELECT count(*) AS n FROM feedback")[0].n == total[0]
    assert (
        rows(url, "SELECT count(*) AS n FROM (SELECT DISTINCT decision_id, source FROM feedback) x")[0].n
        == total[0]
    )
