"""Which answers are drawn, who is shown them, and what a score does to them: over HTTP, on both databases."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import pytest

from proteus_router.errors import UpstreamError
from proteus_router.serving.records import ApiKey
from proteus_router.serving.tenants import issue_key
from tests.serving.app.helpers import EASY, HARD
from tests.serving.control.helpers import Site, site, tier
from tests.serving.store.helpers import rows


async def _key(site: Site, **limits: Any) -> dict[str, str]:
    _, token = await issue_key(site.store, ApiKey(id="", name="k", **limits))
    await site.harness.keyring.refresh()
    return {"authorization": f"Bearer {token}"}


def test_answers_are_drawn_with_the_stated_chance_and_numbered_without_gaps(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier(share=0.3), "plain": {"accuracy_target": 0.7}}) as here:
            await here.ask(400)
            await here.ask(5, tier="plain")
            state = (await here.tiers())["standard"]
            assert state["requests"] == 400
            assert abs(state["audits"]["drawn"] - 120) < 5 * math.sqrt(400 * 0.3 * 0.7)
            assert len(await here.waiting()) == state["audits"]["drawn"] == state["audits"]["open"]

    asyncio.run(main())
    stored = rows(url, "SELECT audit_probability, audited, tier FROM decisions")
    assert Counter(row[0] for row in stored) == {0.3: 400, None: 5}
    positions = [row[0] for row in rows(url, "SELECT position FROM audits")]
    assert len(set(positions)) == len(positions) == sum(bool(row[1]) for row in stored)
    assert all(1 <= position <= 400 for position in positions)


def test_only_answers_at_the_tiers_own_floor_count(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask(3)
            await here.ask(2, body={"proteus": {"accuracy_target": 0.85}})
            here.harness.upstream.broken = {"small", "middle", "large"}
            await here.ask(2)  # nobody answers
            assert (await here.tiers())["standard"]["requests"] == 3

    asyncio.run(main())


def test_the_first_score_closes_an_audit_and_none_counts_twice(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask(20)
            ids = await _all(here)
            assert await here.grade(1.0, ids[:10]) == ["stored"] * 10
            for _ in range(5):
                assert await here.grade(1.0, ids[:10]) == ["duplicate"] * 10
            assert await here.grade(0.0, ids[:10]) == ["conflict"] * 10
            assert await here.grade(0.0, ids[9::-1], source="judge") == ["stored"] * 10
            assert sorted(await here.waiting()) == sorted(ids[10:])
            state = (await here.tiers())["standard"]
            assert state["since_reset"]["audits"] == 10
            assert state["since_reset"]["estimate"] == pytest.approx(1.0)
            assert state["audits"] == {"drawn": 20, "open": 10, "share": 1.0, "by_source": {"people": 10}}
            assert [(a["source"], a["pairs"], a["difference"]) for a in state["agreements"]] == [
                ("judge", 10, pytest.approx(-1.0))
            ]

    asyncio.run(main())


def test_what_was_not_drawn_is_stored_and_does_not_count(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier(share=0.2)}) as here:
            await here.ask(50)
            drawn = await _all(here)
            await here.grade(0.0, [one for one in here.decisions if one not in drawn])
            state = (await here.tiers())["standard"]
            assert (state["since_reset"]["audits"], state["audits"]["open"]) == (0, len(drawn))

    asyncio.run(main())
    assert rows(url, "SELECT count(*) FROM feedback")[0][0] > 20


def test_one_bad_item_of_a_list_holds_up_none_of_the_others(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask(3)
            one, two, three = here.decisions
            items = [
                {"decision_id": one, "score": 1},
                {"decision_id": two, "score": math.nan},
                {"decision_id": "dec_unknown", "score": 1},
                {"decision_id": two, "score": 1.5},
                {"decision_id": three, "score": 0.5},
                {"decision_id": two, "score": math.inf},
            ]
            answer = await here.harness.request("POST", "/v1/feedback", json.dumps(items).encode())
            assert [item["status"] for item in answer.json()["data"]] == [
                "stored", "invalid", "not_found", "invalid", "stored", "invalid",
            ]  # fmt: skip
            assert answer.json()["data"][1]["error"]["code"] == "invalid_feedback"
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 2

    asyncio.run(main())


def test_a_tenant_sees_and_moves_only_what_is_his(url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(), "economy": tier(0.7)}
        async with site(url, tiers, settings={"auth": {"anonymous": False}}, keys_made=True) as here:
            mine, other = await _key(here, tiers=("economy",)), await _key(here)
            admin = await _key(here, admin=True)
            await here.ask(30, tier="economy", headers=mine)
            await here.ask(30, tier="standard", headers=other)
            await here.flush()
            seen = await here.harness.request("GET", "/v1/audits?limit=1000", headers=mine)
            assert {audit["tier"] for audit in seen.json()["data"]} == {"economy"}
            everything = await here.harness.request("GET", "/v1/audits?limit=1000", headers=admin)
            assert len(everything.json()["data"]) == 60
            assert (await here.harness.request("GET", "/v1/audits")).status == 401
            # poison: zeros for everything, his own or not
            statuses = await here.grade(0.0, here.decisions, headers=mine)
            assert statuses == ["stored"] * 30 + ["not_found"] * 30
            await here.grade(1.0, here.decisions[30:], headers=admin)
            state = await here.tiers(headers=admin)
            assert state["economy"]["since_reset"]["estimate"] < 0.01
            assert state["standard"]["since_reset"]["estimate"] > 0.99
            assert not here.control.fold.changes
            assert not here.control.fold.collapsed
            assert set(await here.tiers(headers=mine)) == {"economy"}
            shown = (await here.harness.request("GET", "/v1/tiers", headers=mine)).json()
            assert "models" not in shown
            assert "models" in (await here.harness.request("GET", "/v1/tiers", headers=admin)).json()

    asyncio.run(main())


def test_where_only_admins_grade_a_tenants_score_leaves_the_audit_open(url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(audits_graders="admins")}
        async with site(url, tiers, settings={"auth": {"anonymous": False}}, keys_made=True) as here:
            mine, admin = await _key(here), await _key(here, admin=True)
            await here.ask(4, headers=mine)
            await here.grade(0.0, here.decisions, headers=mine, source="user")
            assert (await here.tiers(headers=admin))["standard"]["since_reset"]["audits"] == 0
            await here.grade(1.0, here.decisions, headers=admin)
            assert (await here.tiers(headers=admin))["standard"]["since_reset"]["estimate"] == pytest.approx(
                1.0
            )

    asyncio.run(main())


@pytest.mark.parametrize("keep", [False, True])
def test_the_text_of_audits_is_kept_only_where_it_is_switched_on(keep: bool, sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier(share=0.5, audits_keep_text=keep)}) as here:
            await here.ask(40)
            await here.flush()
            found = (await here.harness.request("GET", "/v1/audits?limit=1000")).json()["data"]
            assert {audit["prompt"] for audit in found} == {EASY if keep else None}
            assert all((audit["answer"] is not None) == keep for audit in found)

    asyncio.run(main())
    kept = rows(sqlite_url, "SELECT audited FROM decisions WHERE prompt IS NOT NULL OR answer IS NOT NULL")
    assert [row[0] for row in kept] == [1] * len(kept)
    assert bool(kept) == keep


def test_audits_are_handed_out_in_pages_and_wrong_questions_are_refused(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier(), "economy": tier(0.7)}) as here:
            await here.ask(5)
            await here.ask(2, tier="economy")
            await here.flush()

            async def get(query: str) -> Any:
                return (await here.harness.request("GET", f"/v1/audits{query}")).json()

            first = await get("?limit=3&tier=standard")
            assert len(first["data"]) == 3
            assert first["has_more"]
            rest = await get(f"?limit=3&tier=standard&after={first['data'][-1]['id']}")
            assert len(rest["data"]) == 2
            assert not rest["has_more"]
            await here.grade(1.0, here.decisions, source="people")
            assert (await get(""))["data"] == []
            assert len((await get("?without_score_of=judge"))["data"]) == 7
            for wrong in ("?limit=0", "?limit=1001", "?after=-1", "?limit=x", "?tiers=a", "?after=1e3"):
                assert (await here.harness.request("GET", f"/v1/audits{wrong}")).status == 400, wrong
            for wrong in ("?without_score_of=", "?without_score_of=%00", f"?without_score_of={'x' * 65}"):
                assert (await here.harness.request("GET", f"/v1/audits{wrong}")).status == 400, wrong
            assert (await here.harness.request("GET", "/v1/audits?tier=%00")).status == 404

    asyncio.run(main())


def test_a_seldom_asked_model_is_audited_more_often(sqlite_url: str) -> None:
    async def main() -> None:
        async with site(sqlite_url, {"standard": tier(share=0.2)}) as here:
            for _ in range(60):
                await here.ask(49)
                await here.ask(1, text=HARD)
            await here.flush()

    asyncio.run(main())
    drawn = rows(sqlite_url, "SELECT model, audit_probability FROM decisions ORDER BY created_at, id")
    assert {rate for model, rate in drawn if model == "middle"} == {0.2}
    rates = [rate for model, rate in drawn if model != "middle"]
    assert len(rates) == 60
    assert rates[0] == 0.2  # it is known as rare once others have answered for a while
    assert all(rate > 0.4 for rate in rates[-20:])
    assert max(rates) <= 1.0


def test_the_model_that_answers_decides_how_often_it_is_audited(sqlite_url: str) -> None:
    """Not the one that was asked first, and failed; and of what nobody answered, no text is kept."""

    async def main() -> None:
        async with site(sqlite_url, {"standard": tier(share=0.2, audits_keep_text=True)}) as here:
            await here.ask(3_000)
            failure = UpstreamError("it fails", model="middle")
            here.harness.upstream.script = {"middle": failure}
            await here.ask(10)
            here.harness.upstream.script |= {"large": failure, "small": failure}
            body = {"model": "proteus/standard", "messages": [{"role": "user", "content": EASY}]}
            for _ in range(10):
                assert (await here.harness.request("POST", "/v1/chat/completions", body)).status == 502
            await here.flush()

    asyncio.run(main())
    drawn = rows(
        sqlite_url,
        "SELECT model, audit_probability, audited, prompt, status FROM decisions ORDER BY created_at, id",
    )
    stood_in = [row for row in drawn if row[0] != "middle" and row[4] == "ok"]
    assert len(stood_in) == 10
    assert all(rate > 0.9 for _, rate, *_ in stood_in[:5])
    assert all((prompt is not None) == bool(audited) for _, _, audited, prompt, _ in drawn)
    assert {prompt for *_, prompt, status in drawn if status != "ok"} == {None}


def test_a_rare_tier_is_audited_more_and_the_share_is_written_down(sqlite_url: str) -> None:
    async def main() -> None:
        tiers = {"standard": tier(share=0.1, audits_min_per_day=40)}
        async with site(sqlite_url, tiers) as here:
            await here.ask(80)
            here.harness.clock.now += 3_600.0  # these are yesterday's news to the next hour
            await here.tiers()
            await here.ask(80)
            state = (await here.tiers())["standard"]
            assert state["audits"]["share"] == 0.5  # 40 of 80
            await here.grade(1.0, await here.waiting())
            assert (await here.tiers())["standard"]["since_reset"]["estimate"] == pytest.approx(1.0, abs=0.25)

    asyncio.run(main())
    assert Counter(row[0] for row in rows(sqlite_url, "SELECT audit_probability FROM decisions")) == {
        1.0: 80,
        0.5: 80,
    }


async def _all(here: Site) -> list[str]:
    await here.flush()
    return await here.waiting()
