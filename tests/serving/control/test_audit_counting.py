"""A tier's requests are counted once and numbered without gaps, whoever writes them and whenever scores come."""

from __future__ import annotations

import asyncio
from typing import Any

from proteus_router.serving.records import Feedback
from proteus_router.serving.store import Store
from tests.serving.store.helpers import MakeDecision, opened, rows, until


async def _begin(store: Store) -> None:
    await store.loop.begin(
        "standard", 1, accuracy_target=0.8, rate_floor=0.2, admins_only=False, data={"spec": {}}, at=0.0
    )


def test_gateways_that_write_at_once_for_different_tenants_number_requests_as_one(
    postgres_url: str, make_decision: MakeDecision
) -> None:
    async def main() -> None:
        settings: dict[str, Any] = {"flush_interval_s": 0.001, "flush_rows": 5}
        async with opened(postgres_url, **settings) as one, opened(postgres_url, **settings) as two:
            await _begin(one)
            for n in range(300):
                for name, store in (("a", one), ("b", two)):
                    store.record(
                        make_decision(key_id=f"key_{name}{n % 7}", audit_probability=1.0, audited=True)
                    )
                await asyncio.sleep(0.001)
            await until(lambda: not one.pending + two.pending, within_s=60.0)

    asyncio.run(main())
    positions = [row[0] for row in rows(postgres_url, "SELECT position FROM audits ORDER BY position")]
    assert positions == list(range(1, 601))
    assert rows(postgres_url, "SELECT requests, drawn FROM tiers") == [(600, 600)]


def test_an_audit_is_never_counted_before_the_requests_around_it(
    url: str, make_decision: MakeDecision
) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=30.0) as store:  # nothing is written by itself
            await _begin(store)
            records = [
                make_decision(created_at=float(n), audit_probability=0.2, audited=n % 5 == 0)
                for n in range(20)
            ]
            for record in records:
                store.record(record)
            (result,) = await store.add_feedback([Feedback(records[10].id, "s", 1.0, 1.0, key_id="key_a")])
            assert result.status == "stored"
            tier = (await store.loop.tiers(lambda name, requests: 0))["standard"]
            assert (tier.requests, tier.drawn) == (11, 3)
            (outcome,) = [e for e in await store.loop.events(0) if e.kind == "outcome"]
            assert outcome.data["position"] == 11
            # a score of something that was not drawn writes that alone
            await store.add_feedback([Feedback(records[18].id, "s", 1.0, 1.0, key_id="key_a")])
            assert (await store.loop.tiers(lambda name, requests: 0))["standard"].requests == 12

    asyncio.run(main())
    assert rows(url, "SELECT requests, drawn FROM tiers") == [(20, 4)]


def test_a_batch_whose_commit_answer_was_lost_is_counted_once(url: str, make_decision: MakeDecision) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=0.01) as store:
            await _begin(store)
            batch = [make_decision(audit_probability=1.0, audited=True) for _ in range(10)]
            for _ in range(3):
                store._write_decisions(batch)

    asyncio.run(main())
    assert rows(url, "SELECT requests, drawn FROM tiers") == [(10, 10)]


def test_what_was_drawn_with_too_small_a_chance_or_for_another_floor_is_left_out(
    url: str, make_decision: MakeDecision
) -> None:
    async def main() -> None:
        async with opened(url, flush_interval_s=0.01) as store:
            await _begin(store)
            for changes in (
                {"audit_probability": 0.1},  # under the floor of the rates: of an older configuration
                {"audit_probability": 0.5, "accuracy_target": 0.7},
                {"audit_probability": 0.5, "tier": "other"},
                {"audit_probability": None},
                {"audit_probability": 0.5},
            ):
                store.record(make_decision(audited=True, **changes))

    asyncio.run(main())
    assert rows(url, "SELECT requests, drawn FROM tiers") == [(1, 1)]
