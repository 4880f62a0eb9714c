"""The closed loop beside a gateway: states, staleness, restarts, several gateways, tracking, quarantine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from proteus_router.errors import StoreUnavailableError
from proteus_router.serving.control import Fold
from proteus_router.serving.control.webhook import Webhook
from tests.serving.app.helpers import EASY, HARD, POOL, make_settings, model_entry
from tests.serving.control.helpers import Site, site, tier
from tests.serving.store.helpers import opened, rows, until


def test_a_tier_holds_then_is_violated_and_everybody_hears_of_it(url: str) -> None:
    async def main() -> None:
        async with _listener() as (address, heard):
            settings = {"control": {"webhook_url": f"{address}/hook/s3cret"}}
            async with site(url, {"standard": tier()}, settings=settings) as here:
                assert (await here.ask())[0].headers["x-proteus-tier-state"] == "insufficient_evidence"
                await here.ask(200)
                await here.grade(1.0, await _waiting(here))
                assert (await here.tiers())["standard"]["state"] == "holding"
                assert (await here.ask())[0].headers["x-proteus-tier-state"] == "holding"
                await here.ask(400)
                await here.grade(0.0, await _waiting(here))
                state = (await here.tiers())["standard"]
                assert state["state"] == "violated"
                assert state["since_reset"]["upper"] < 0.80
                text = (await here.harness.request("GET", "/metrics")).body.decode()
                assert 'proteus_tier_state{state="violated",tier="standard"} 1.0' in text
                assert 'proteus_tier_state{state="holding",tier="standard"} 0.0' in text
                assert 'proteus_tier_audits{state="closed",tier="standard"} 602.0' in text
                await until(lambda: len(heard) == 2)
            assert [(one["tier"], one["from"], one["to"]) for one in heard] == [
                ("standard", "insufficient_evidence", "holding"),
                ("standard", "holding", "violated"),
            ]
            assert heard[1]["since_reset"]["audits"] == 602
            assert "s3cret" not in str(heard)

    asyncio.run(main())


def test_a_webhook_is_tried_again_and_redirects_are_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with _listener(statuses=[500, 302, 200]) as (address, heard):
            webhook = Webhook(pauses_s=(0.01, 0.01, 0.01))
            webhook.send(f"{address}/hook/s3cret", {"tier": "a"})
            await until(lambda: len(heard) == 3)
            await webhook.close()
            refused = Webhook(pauses_s=(0.01,))
            refused.send("http://127.0.0.1:9/hook/s3cret", {"tier": "a"})
            await until(lambda: "given up" in caplog.text)
            await refused.close()

    asyncio.run(main())
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_list": [model_entry(name) for name in ("large", "small")]}, "middle was taken out"),
        (
            {"model_list": [model_entry(name, input_cost_per_token=9e-6) for name in POOL]},
            "the price of large changed",
        ),
    ],
)
def test_another_pool_or_price_makes_a_certificate_stale_until_it_is_reset(
    change: dict[str, Any], reason: str, sqlite_url: str
) -> None:
    async def main() -> None:
        tiers = {"standard": tier(on_infeasible="best_effort")}
        after = make_settings(tiers=tiers, **change)

        def load() -> Any:
            return after, here.harness.gateway.live.router

        async with site(sqlite_url, tiers, load=load) as here:
            await here.ask(200)
            await here.grade(1.0, await _waiting(here))
            assert (await here.tiers())["standard"]["state"] == "holding"
            await here.harness.gateway.reload()
            state = (await here.tiers())["standard"]
            assert state["state"] == "stale"
            assert reason in state["reason"]
            assert (await here.ask())[0].headers["x-proteus-tier-state"] == "stale"
            await here.flush()
            await here.control.reset("standard")
            state = (await here.tiers())["standard"]
            assert (state["state"], state["requests"]) == ("insufficient_evidence", 0)
            await here.ask(5)
            assert (await here.tiers())["standard"]["requests"] == 5

    asyncio.run(main())


def test_another_floor_begins_anew_and_late_scores_of_the_old_one_do_not_count(sqlite_url: str) -> None:
    async def main() -> None:
        after = make_settings(tiers={"standard": tier(0.7)}, default_tier="standard")

        def load() -> Any:
            return after, here.harness.gateway.live.router

        async with site(sqlite_url, {"standard": tier(0.8)}, load=load) as here:
            await here.ask(10)
            late = await _waiting(here)
            await here.harness.gateway.reload()
            assert (await here.tiers())["standard"]["requests"] == 0
            assert await here.grade(0.0, late) == ["stored"] * 10
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 0

    asyncio.run(main())


def test_sources_that_disagree_are_a_conflict(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier()}) as here:
            await here.ask(300)
            ids = await _waiting(here)
            await here.grade(1.0, ids, source="judge")
            assert (await here.tiers())["standard"]["state"] == "holding"
            await here.grade(0.0, ids[:100], source="people")
            state = (await here.tiers())["standard"]
            assert state["state"] == "conflict"
            assert state["agreements"][0]["pairs"] == 100

    asyncio.run(main())


def test_a_gateway_that_starts_again_goes_on_where_it_was(url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(tracking={"enabled": True}), "economy": tier(0.7)}
        async with site(url, tiers) as here:
            await _mixed(here, 250, seed=1)
            await here.tiers()
            before = here.control.fold.to_json()
        assert rows(url, "SELECT count(*) FROM loop_snapshots")[0][0] == 1
        async with site(url, tiers) as here:  # from the snapshot
            assert here.control.fold.to_json() == before
            await _mixed(here, 50, seed=2)
            await here.tiers()
            after = here.control.fold.to_json()
        async with opened(url) as store:  # from the log alone
            fold = Fold()
            fold.apply_all(await store.loop.events(0, 100_000))
            assert fold.to_json() == after

    asyncio.run(main())


def test_two_gateways_hold_the_same_state_whoever_took_the_score(postgres_url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(tracking={"enabled": True}), "economy": tier(0.7)}
        async with site(postgres_url, tiers, seed=1) as one, site(postgres_url, tiers, seed=2) as two:
            for round_ in range(6):
                await asyncio.gather(_mixed(one, 40, seed=round_), _mixed(two, 40, seed=100 + round_))
                ids = one.decisions[-20:]
                await asyncio.gather(*(here.grade(1.0, ids, source=f"judge {round_}") for here in (one, two)))
            await one.flush()
            first, second = await two.tiers(), await one.tiers()
            assert one.control.fold.to_json() == two.control.fold.to_json()
            for name in ("standard", "economy"):
                for key in ("requests", "audits", "since_reset", "recent", "tracking", "agreements", "state"):
                    assert first[name][key] == second[name][key]
            assert first["standard"]["requests"] + first["economy"]["requests"] == 480
            assert first["standard"]["audits"]["open"] == first["economy"]["audits"]["open"] == 0

    asyncio.run(main())


def test_a_reader_at_the_end_of_the_log_misses_nothing_that_commits_late(postgres_url: str) -> None:
    """Numbers are handed out before commits: without the lock a late commit would have a number already passed."""

    async def main() -> None:
        async with opened(postgres_url) as one, opened(postgres_url) as two:
            seen: list[int] = []
            done = asyncio.Event()

            async def read() -> None:
                last = 0
                while True:
                    finished = done.is_set()
                    events = await one.loop.events(last)
                    seen.extend(event.data["n"] for event in events)
                    last = events[-1].sequence if events else last
                    if finished and not events:
                        return

            async def write(store: Any, start: int) -> None:
                for n in range(start, start + 150):
                    await store.loop.append("release", tier=None, model="m", data={"n": n}, at=0.0)

            reading = asyncio.create_task(read())
            await asyncio.gather(*(write(store, 1_000 * k) for k, store in enumerate((one, two, one, two))))
            done.set()
            await reading
            assert Counter(seen) == Counter(1_000 * k + n for k in range(4) for n in range(150))

    asyncio.run(main())


def test_a_tracked_tier_moves_its_target_and_is_not_covered_by_the_offline_certificate(
    sqlite_url: str,
) -> None:
    async def main() -> None:
        tiers = {"standard": tier(0.80, tracking={"enabled": True}), "economy": tier(0.70)}
        async with site(sqlite_url, tiers) as here:
            await here.ask(60, text=EASY)
            await here.ask(60, text=HARD)
            certified = (await here.ask(text=EASY, tier="economy"))[0]
            assert certified.headers["x-proteus-certified"] == "true"
            state = (await here.tiers())["standard"]
            assert (state["offline_certificate_covers"], state["tracked"]) == (False, True)
            before = state["tracking"]["internal_target"]
            answer = (await here.ask(text=EASY))[0]
            assert answer.headers["x-proteus-certified"] == "false"
            record = await here.store.decision(answer.headers["x-proteus-decision-id"], key_id=None)
            assert record.internal_target == pytest.approx(before)
            assert "Tracked" in record.reasons[0]
            await here.grade(0.0, await _waiting(here))
            state = (await here.tiers())["standard"]
            assert state["tracking"]["internal_target"] > before + 0.03
            route = await here.harness.request(
                "POST",
                "/v1/route",
                {"model": "proteus/standard", "messages": [{"role": "user", "content": EASY}]},
            )
            assert route.json()["certificate"]["covers"] is False
            assert route.json()["internal_target"] == pytest.approx(state["tracking"]["internal_target"])

    asyncio.run(main())


def test_tracking_sends_less_to_a_model_that_was_found_worse(sqlite_url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(0.80, tracking={"enabled": True})}
        async with site(sqlite_url, tiers) as here:
            rng = random.Random(0)
            for _ in range(12):  # the small model answers no easy question any more
                await here.ask(50, text=EASY)
                await here.flush()
                for audit in await here.store.loop.audits(key_id=None, limit=1_000):
                    right = rng.random() < 0.9
                    await here.grade(float(right and audit.model != "small"), [audit.decision_id])
                await here.tiers()
            last = [(await here.store.decision(decision, key_id=None)).model for decision in here.decisions]
            assert Counter(last[100:200])["small"] > 20  # easy questions alone: the frontier moved to it
            assert Counter(last[-100:])["small"] < 20
            models = {m["id"]: m for m in (await here.harness.request("GET", "/v1/tiers")).json()["models"]}
            assert models["small"]["offset"] < -0.4
            assert models["small"]["changes"][0]["model"] == "small"
            assert not models["large"]["changes"]

    asyncio.run(main())


def test_a_change_on_one_task_is_named(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"economy": tier(0.70)}) as here:
            rng = random.Random(0)
            tasks = ("law", "arithmetic")
            for at in range(300):
                task = tasks[at % 2]
                await here.ask(tier="economy", body={"proteus": {"task": task}})
                mean = 0.35 if task == "law" and at > 100 else 0.9
                await here.grade(float(rng.random() < mean), here.decisions[-1:])
            await here.tiers()
            found = Counter(change["task"] for change in here.control.fold.changes)
            assert found["law"] >= 1
            assert found["arithmetic"] == 0
            again = Fold.from_json(here.control.fold.to_json())
            assert again.to_json() == here.control.fold.to_json()
            refused = {"model": "proteus", "messages": [], "proteus": {"task": "x" * 65}}
            answer = await here.harness.request("POST", "/v1/chat/completions", refused)
            assert answer.status == 400

    asyncio.run(main())


def test_names_of_tasks_without_end_take_no_memory_without_end() -> None:
    fold = Fold()
    assert [fold._known_task(f"task {n}") for n in range(60)][48:52] == ["task 48", "task 49", None, None]
    assert len(fold.tasks) == 50


@pytest.mark.parametrize("action", ["alarm", "quarantine"])
def test_a_collapsed_model_gets_no_requests_until_it_is_released(action: str, sqlite_url: str) -> None:
    async def main() -> None:
        settings = {"control": {"on_collapse": action}}
        async with site(sqlite_url, {"economy": tier(0.70)}, settings=settings) as here:
            await here.ask(60, tier="economy")
            await here.grade(0.0, await _waiting(here))
            await here.tiers()
            shown = (await here.harness.request("GET", "/v1/tiers")).json()["models"]
            small = next(model for model in shown if model["id"] == "small")
            assert "scored" in small["collapse"]["reason"]
            assert small["quarantined"] == (action == "quarantine")
            answer = (await here.ask(tier="economy"))[0]
            assert (answer.headers["x-proteus-model"] == "small") == (action == "alarm")
            if action == "quarantine":
                assert answer.headers["x-proteus-certified"] == "false"
                await here.control.release("small")
                answer = (await here.ask(tier="economy"))[0]
                assert answer.headers["x-proteus-model"] == "small"

    asyncio.run(main())


def test_when_audits_dry_up_tracking_freezes_and_says_so(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier(tracking={"enabled": True})}) as here:
            await here.ask(20)
            await here.grade(1.0, await _waiting(here))
            state = (await here.tiers())["standard"]
            assert state["tracking"]["state"] == "tracking"
            held = state["tracking"]["internal_target"]
            await here.ask(250)
            state = (await here.tiers())["standard"]
            assert state["tracking"]["state"] == "frozen"
            assert state["tracking"]["internal_target"] == held
            assert "follows nothing" in state["tracking"]["reason"]

    asyncio.run(main())


def test_too_few_audits_for_the_floor_are_said_with_the_share_that_would_do(sqlite_url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(share=0.05, tracking={"enabled": True})}
        async with site(sqlite_url, tiers) as here:
            await here.ask(3)
            need = (await here.tiers())["standard"]["tracking"]["audits"]
            assert not need["sufficient"]
            assert 0.1 < need["needed_rate"] < 0.5

    asyncio.run(main())


def test_without_audits_nothing_is_kept_and_nothing_is_said(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": {"accuracy_target": 0.8}}) as here:
            answer = (await here.ask())[0]
            assert "x-proteus-tier-state" not in answer.headers
            assert (await here.tiers())["standard"]["state"] is None

    asyncio.run(main())
    for table in ("tiers", "audits", "loop_events", "loop_snapshots"):
        assert rows(sqlite_url, f"SELECT count(*) FROM {table}")[0][0] == 0


def test_retention_takes_old_events_that_a_snapshot_holds_and_numbers_go_on_rising(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask(5)
            await here.grade(1.0, await _waiting(here))
            await here.tiers()
        async with opened(url, retention_days=1) as store:  # the records' clock stands in 2023
            await until(lambda: rows(url, "SELECT count(*) FROM decisions")[0][0] == 0)
            assert rows(url, "SELECT count(*) FROM loop_events")[0][0] == 1
            last = (await store.loop.events(0))[0].sequence
        async with site(url, {"standard": tier()}) as here:
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 5
            await here.ask(5)
            await here.grade(1.0, await _waiting(here))
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 10
            assert here.control.fold.sequence == last + 5

    asyncio.run(main())


def test_an_event_of_another_release_stops_nobody(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier()}) as here:
            await here.store.loop.append("outcome", tier="standard", model="m", data={"epoch": 1}, at=0.0)
            await here.ask(3)
            await here.grade(1.0, await _waiting(here))
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 3

    asyncio.run(main())
    assert "can't be read" in caplog.text


def test_while_the_database_is_away_the_last_word_stands(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier()}) as here:
            await here.ask(200)
            await here.grade(1.0, await _waiting(here))
            await here.tiers()

            class Away:
                def __getattr__(self, name: str) -> Any:
                    raise StoreUnavailableError("away")

            here.control._store = Away()
            with pytest.raises(StoreUnavailableError):
                await here.control.refresh()
            assert (await here.ask())[0].headers["x-proteus-tier-state"] == "holding"

    asyncio.run(main())


async def _waiting(here: Site) -> list[str]:
    await here.flush()
    return await here.waiting()


async def _mixed(here: Site, count: int, *, seed: int) -> None:
    """Requests of two tiers, most of them right, graded in a random order."""
    rng = random.Random(seed)
    start = len(here.decisions)
    for _ in range(count):
        await here.ask(text=rng.choice((EASY, HARD)), tier=rng.choice(("standard", "economy")))
    mine = here.decisions[start:]
    rng.shuffle(mine)
    for decision in mine:
        await here.grade(float(rng.random() < 0.8), [decision])


@asynccontextmanager
async def _listener(statuses: list[int] | None = None) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An operator's system that takes webhooks."""
    heard: list[dict[str, Any]] = []
    left = list(statuses or [])

    async def hook(request: web.Request) -> web.Response:
        heard.append(await request.json())
        status = left.pop(0) if left else 200
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    app = web.Application()
    app.router.add_post("/hook/s3cret", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", heard
    finally:
        await runner.cleanup()
