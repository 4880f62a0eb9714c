"""The wall clock is moved while the gateway runs: nothing hangs, opens, is freed or is lost."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest

from proteus_router.serving.provider import Order, Provider
from tests.serving.gateways import Got, Site, bearer, call, chat, wait_for

DAY_S = 86_400.0


@dataclass
class MovedClock:
    """The machine's clocks, the wall's off by some seconds."""

    off_s: float = 0.0

    def wall(self) -> float:
        return time.time() + self.off_s

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize(
    "days", [-400.0, 400.0, *(pytest.param(days, marks=pytest.mark.slow) for days in (-1.0, 1.0))]
)
def test_a_clock_that_leaps_changes_no_answer(days: float, site: Site, provider: Provider) -> None:
    clock = MovedClock()
    site.changes = {
        "store": {**site.values()["store"], "retention_days": 30},
        "server": {"limits": {"deadline_s": 2.0}},
    }
    _, token = site.make_key(budget_usd=100.0, budget_period="month", requests_per_minute=600)
    revoked_id, revoked = site.make_key()
    _, admin = site.make_key("root", admin=True)
    with site.in_thread(clock=clock) as address:
        before = chat(address, site.questions[0], headers=bearer(token))
        assert before.status == 200
        assert call(address, "DELETE", f"/v1/admin/keys/{revoked_id}", headers=bearer(admin)).status == 200

        provider.orders.set("*", Order(latency_s=0.4))
        under_way: list[Got] = []
        asking = threading.Thread(
            target=lambda: under_way.append(chat(address, site.questions[1], headers=bearer(token)))
        )
        asking.start()
        wait_for(lambda: provider.seen.in_flight == 1)
        clock.off_s = days * DAY_S
        asking.join(20)
        provider.orders.clear()
        assert under_way[0].status == 200  # neither cut off nor kept waiting

        provider.orders.set("*", Order(fault="hang"))
        began = time.monotonic()
        assert chat(address, site.questions[2], headers=bearer(token)).status == 504
        assert time.monotonic() - began < 4.0  # deadlines do not look at the wall
        provider.orders.clear()

        assert chat(address, site.questions[3], headers=bearer(token)).status == 200
        assert chat(address, site.questions[3], headers=bearer(revoked)).status == 401
        decision_id = before.headers["x-proteus-decision-id"]
        found = call(address, "GET", f"/v1/decisions/{decision_id}", headers=bearer(token))
        assert found.status == 200  # not swept away as old
        item = {"decision_id": decision_id, "score": 1.0}
        assert call(address, "POST", "/v1/feedback", item, headers=bearer(token)).json()["status"] == "stored"


@pytest.mark.parametrize("days", [-40.0, -1.0])
def test_a_clock_that_is_set_back_frees_no_budget(days: float, site: Site) -> None:
    clock, budget_usd = MovedClock(), 2e-3
    site.changes = {"auth": {"refresh_s": 0.1}}
    _, token = site.make_key(budget_usd=budget_usd, budget_period="day")
    with site.in_thread(clock=clock) as address:

        def spend() -> list[float]:
            """USD of every request that was let in, until three in a row are not."""
            paid, refusals = [], 0
            for text in site.questions * 10:
                answer = chat(address, text, headers=bearer(token))
                refusals = refusals + 1 if answer.status == 429 else 0
                if answer.status == 200:
                    paid.append(float(answer.headers["x-proteus-cost-usd"]))
                if refusals == 3:
                    return paid
            pytest.fail("the budget never ended")

        before = spend()
        clock.off_s = days * DAY_S
        time.sleep(0.3)  # the store is asked again
        after = spend()
    assert sum(before) > 0.5 * budget_usd
    assert sum(before) + sum(after) < 1.25 * budget_usd  # bills may be above what was predicted
