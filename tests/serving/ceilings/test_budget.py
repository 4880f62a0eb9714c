"""Budgets of tiers: paced over the period, never passed, and in the order of precedence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proteus_router.errors import ConfigError, InvalidKeyError
from proteus_router.serving.ceilings import TierBudgets
from proteus_router.serving.records import ApiKey, BudgetPeriod
from proteus_router.serving.settings import BudgetSettings
from tests.serving.app.helpers import EASY, HARD, FakeClock, Harness, make_settings

HOUR = 3_600.0
BUDGET_FIRST = ["budget", "accuracy", "latency"]


class Source:
    """A store that other gateways write to as well."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    async def spent_by_tier(self, since: float) -> dict[str, float]:
        return dict(self.spent)


def budgets(usd: float = 10.0, period: BudgetPeriod = "hour") -> tuple[TierBudgets, Source, FakeClock]:
    source, clock = Source(), FakeClock()
    clock.now = -(clock.wall() - clock.now) % HOUR  # on the hour
    configured = {"gold": BudgetSettings(usd=usd, period=period)}
    return TierBudgets(source, clock, lambda: configured), source, clock


def gateway_with(usd: float, **tier: Any) -> Harness:
    budget = {"usd": usd, "period": "hour"}
    gateway = Harness(make_settings(tiers={"standard": {"accuracy_target": 0.80, "budget": budget, **tier}}))
    gateway.clock.now += -gateway.clock.wall() % HOUR  # on the hour
    return gateway


def test_the_pace_is_a_straight_line_over_the_period() -> None:
    found, _, clock = budgets()
    clock.now += 0.25 * HOUR
    left = found.left("gold")
    assert left is not None
    assert left.paced_usd == pytest.approx(10.0 * 0.26)
    assert left.whole_usd == 10.0
    found.settle("gold", cost_usd=2.0, reserved_usd=0.0)
    found.reserve("gold", 1.0)
    left = found.left("gold")
    assert left is not None
    assert (left.paced_usd, left.whole_usd) == pytest.approx((10.0 * 0.26 - 3.0, 7.0))
    found.settle("gold", cost_usd=0.5, reserved_usd=1.0)
    left = found.left("gold")
    assert left is not None
    assert left.whole_usd == pytest.approx(7.5)


def test_the_next_period_begins_with_nothing_spent() -> None:
    found, _, clock = budgets()
    asyncio.run(found.refresh())
    found.settle("gold", cost_usd=9.0, reserved_usd=0.0)
    clock.now += HOUR
    left = found.left("gold")
    assert left is not None
    assert left.whole_usd == 10.0


def test_what_other_gateways_spent_counts() -> None:
    found, source, _ = budgets()
    found.settle("gold", cost_usd=1.0, reserved_usd=0.0)
    source.spent["gold"] = 5.0  # this gateway's dollar among them
    asyncio.run(found.refresh())
    left = found.left("gold")
    assert left is not None
    assert left.whole_usd == pytest.approx(5.0)


def test_a_tier_without_a_budget_is_not_asked_about() -> None:
    found, _, _ = budgets()
    assert found.left("silver") is None
    assert found.left(None) is None


def test_ahead_of_its_pace_a_budget_first_tier_takes_the_cheapest_model() -> None:
    gateway = gateway_with(
        0.03, precedence=BUDGET_FIRST
    )  # 1% at once: 3e-4 USD, and large is predicted at 1e-3
    answer = gateway.chat(HARD)
    assert answer.headers["x-proteus-model"] == "middle"  # the best that the pace allows
    assert answer.headers["x-proteus-gave-way"] == "accuracy"
    gateway.clock.now += HOUR / 2
    assert gateway.chat(HARD).headers["x-proteus-model"] == "large"  # half of it may be spent by now


def test_in_the_red_a_budget_first_tier_takes_the_cheapest_model_of_all() -> None:
    gateway = gateway_with(0.03, precedence=BUDGET_FIRST)
    asyncio.run(gateway.gateway.budgets.refresh())  # as at the start
    gateway.gateway.budgets.settle("standard", cost_usd=0.01, reserved_usd=0.0)
    answer = gateway.chat(HARD)
    assert answer.headers["x-proteus-model"] == "small"
    assert answer.headers["x-proteus-gave-way"] == "accuracy"
    assert any("a budget's pace is overtaken" in reason for reason in gateway.store.last.reasons)
    gateway.upstream.broken.add("small")  # what is left of the pool
    assert gateway.chat(HARD).headers["x-proteus-model"] == "middle"


def test_in_the_red_what_comes_before_the_budget_is_kept() -> None:
    gateway = gateway_with(0.03, max_latency_s=1.0, precedence=["latency", "budget", "accuracy"])
    for _ in range(10):
        gateway.gateway.first_bytes.saw("small", 9.0, gateway.clock.monotonic())
    asyncio.run(gateway.gateway.budgets.refresh())  # as at the start
    gateway.gateway.budgets.settle("standard", cost_usd=0.01, reserved_usd=0.0)
    assert gateway.chat(HARD).headers["x-proteus-model"] == "middle"


def test_a_budget_that_is_used_up_refuses_where_it_comes_first() -> None:
    gateway = gateway_with(1e-6, precedence=BUDGET_FIRST)
    answer = gateway.chat(EASY)
    assert answer.status == 429
    assert "budget of tier 'standard'" in answer.json()["error"]["message"]
    assert float(answer.headers["retry-after"]) == pytest.approx(HOUR, abs=2)
    assert not gateway.upstream.calls


def test_by_default_the_floor_is_kept_and_the_budget_gives_way() -> None:
    gateway = gateway_with(1e-6)
    answer = gateway.chat(HARD)
    assert answer.headers["x-proteus-model"] == "large"
    assert answer.headers["x-proteus-gave-way"] == "budget"
    assert answer.headers["x-proteus-certified"] == "true"


def test_a_refused_request_holds_nothing_and_a_failed_one_gives_back() -> None:
    from proteus_router.errors import UpstreamConnectError

    gateway = gateway_with(10.0, precedence=BUDGET_FIRST)
    before = gateway.gateway.budgets.left("standard")
    gateway.upstream.script = {
        name: UpstreamConnectError("no", model=name, attempts=1) for name in ("small", "middle", "large")
    }
    assert gateway.chat(EASY).status >= 500
    after = gateway.gateway.budgets.left("standard")
    assert before is not None
    assert after is not None
    assert after.whole_usd == before.whole_usd


def test_the_tier_shows_its_budget() -> None:
    gateway = gateway_with(10.0)
    paid = float(gateway.chat(EASY).headers["x-proteus-cost-usd"])
    shown = gateway.gateway.budgets.view("standard")
    assert shown is not None
    assert shown["spent_usd"] == pytest.approx(paid)
    text = gateway.get("/metrics").body.decode()
    assert 'proteus_tier_budget_usd{tier="standard",what="usd"} 10.0' in text


@pytest.mark.parametrize(
    "tier",
    [
        {"precedence": ["accuracy", "latency"]},
        {"precedence": ["accuracy", "accuracy", "budget"]},
        {"budget": {"usd": 0, "period": "day"}},
        {"budget": {"usd": 1, "period": "week"}},
        {"max_latency_s": 0},
    ],
)
def test_nonsense_in_the_configuration_is_refused(tier: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_settings(tiers={"standard": {"accuracy_target": 0.8, **tier}})


def keyed(gateway: Harness, usd: float, *, paced: bool) -> dict[str, str]:
    gateway.clock.now += -gateway.clock.wall() % HOUR  # on the hour
    return gateway.add_key(budget_usd=usd, budget_period="hour", budget_paced=paced)


def test_a_paced_keys_budget_is_spread_over_its_period_in_the_tiers_order() -> None:
    gateway = Harness(
        make_settings(tiers={"standard": {"accuracy_target": 0.80, "precedence": BUDGET_FIRST}})
    )
    headers = keyed(gateway, 0.03, paced=True)  # 1% at once, as above
    answer = gateway.chat(HARD, headers=headers)
    assert answer.headers["x-proteus-model"] == "middle"
    assert answer.headers["x-proteus-gave-way"] == "accuracy"
    unpaced = keyed(gateway, 0.03, paced=False)
    assert gateway.chat(HARD, headers=unpaced).headers["x-proteus-model"] == "large"
    gateway.clock.now += HOUR / 2
    assert gateway.chat(HARD, headers=headers).headers["x-proteus-model"] == "large"


def test_by_default_a_paced_key_keeps_the_floor_until_its_budget_is_gone() -> None:
    gateway = Harness()
    headers = keyed(gateway, 0.0025, paced=True)
    answer = gateway.chat(HARD, headers=headers)
    assert answer.headers["x-proteus-model"] == "large"
    assert answer.headers["x-proteus-gave-way"] == "budget"
    statuses = {gateway.chat(HARD, headers=headers).status for _ in range(20)}
    assert statuses == {200, 429}


def test_a_tier_and_a_key_that_both_pace_are_both_kept() -> None:
    tier_paces = gateway_with(0.03, precedence=BUDGET_FIRST)
    headers = keyed(tier_paces, 100.0, paced=True)
    assert tier_paces.chat(HARD, headers=headers).headers["x-proteus-model"] == "middle"
    key_paces = gateway_with(100.0, precedence=BUDGET_FIRST)
    headers = keyed(key_paces, 0.03, paced=True)
    assert key_paces.chat(HARD, headers=headers).headers["x-proteus-model"] == "middle"


def test_a_key_that_paces_no_budget_is_refused() -> None:
    gateway = Harness()
    with pytest.raises(InvalidKeyError, match="budget_paced needs a budget"):
        gateway.add_key(budget_paced=True)


def test_a_keys_budget_may_be_hourly() -> None:
    gateway = Harness()
    headers = gateway.add_key(budget_usd=1e-9, budget_period="hour")
    answer = gateway.chat(EASY, headers=headers)
    assert answer.status == 429
    assert "per hour" in answer.json()["error"]["message"]
    assert ApiKey(id="k", name="n", budget_period="hour").budget_period == "hour"
