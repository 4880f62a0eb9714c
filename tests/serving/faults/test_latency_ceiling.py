"""A model whose latency triples under load is left while the ceiling binds, and returned to after; over HTTP."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import proteus_router.serving.ceilings.latency as latency
from proteus_router.serving.provider import Order, Provider
from tests.serving.gateways import Site, call, chat

USUAL_S, CEILING_S = 0.15, 0.3


@pytest.mark.slow
def test_a_slow_model_is_left_and_returned_to(
    site: Site, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_WINDOW_S", 6.0)  # a minute would be waited for otherwise
    monkeypatch.setattr(latency, "_PROBE_EVERY_S", 0.1)
    tier = {"accuracy_target": 0.45, "max_latency_s": CEILING_S}
    site.changes = {"tiers": {"economy": tier}, "routing": {"sessions": {"derive": False}}}
    provider.orders.set("*", Order(latency_s=USUAL_S))
    with site.in_thread() as address:

        def answered(seconds: float) -> Counter[str]:
            """Who answers, at four requests at a time."""
            ends = time.monotonic() + seconds

            def keep_asking(lane: int) -> Counter[str]:
                found: Counter[str] = Counter()
                place = lane
                while time.monotonic() < ends:
                    got = chat(address, site.questions[place % len(site.questions)])
                    assert got.status == 200
                    found[got.headers["x-proteus-model"]] += 1
                    place += 4
                return found

            with ThreadPoolExecutor(4) as lanes:
                return sum(lanes.map(keep_asking, range(4)), Counter[str]())

        before = answered(3.0)
        favourite = before.most_common(1)[0][0]
        share = before[favourite] / before.total()
        provider.orders.set(favourite.removeprefix("pool-"), Order(latency_s=3 * USUAL_S))
        answered(2.0)  # it is found out
        text = call(address, "GET", "/metrics").body.decode()
        during = answered(3.0)
        provider.orders.clear()
        provider.orders.set("*", Order(latency_s=USUAL_S))
        answered(8.0)  # what was known of it is forgotten, and it is tried again
        after = answered(3.0)
    assert share > 0.3
    assert during[favourite] / during.total() < 0.1
    shown = re.search(
        rf'proteus_model_first_byte_p95_seconds{{answer="whole",model="{favourite}"}} (\S+)', text
    )
    assert shown is not None
    assert float(shown[1]) > CEILING_S
    assert after[favourite] / after.total() > 0.8 * share
