"""A gateway without a socket over a real store, whose closed loop moves when the test says so."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from proteus_router.serving.control import Control
from proteus_router.serving.store import Store
from tests.serving.app.helpers import EASY, Answered, Harness, make_settings
from tests.serving.store.helpers import opened, until

__all__ = ["Site", "site", "tier"]


def tier(accuracy_target: float = 0.80, *, share: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A tier whose answers are audited; `changes` whose keys start with ``audits_`` go to that section."""
    audits = {"share": share}
    audits |= {
        key.removeprefix("audits_"): changes.pop(key) for key in list(changes) if key.startswith("audits_")
    }
    return {"accuracy_target": accuracy_target, "audits": audits, **changes}


class Site:
    """A harness, and what tests of the closed loop do with it."""

    def __init__(self, store: Store, harness: Harness) -> None:
        self.store, self.harness = store, harness
        self.decisions: list[str] = []

    @property
    def control(self) -> Control:
        return self.harness.gateway.control

    async def ask(
        self, count: int = 1, *, text: Any = EASY, tier: str = "standard", **options: Any
    ) -> list[Answered]:
        """So many answers of a tier; their decisions are remembered."""
        body = {
            "model": f"proteus/{tier}",
            "messages": [{"role": "user", "content": text}],
            **options.pop("body", {}),
        }
        answers = [
            await self.harness.request("POST", "/v1/chat/completions", body, **options) for _ in range(count)
        ]
        self.decisions += [answer.headers["x-proteus-decision-id"] for answer in answers]
        return answers

    async def waiting(self, **options: Any) -> list[str]:
        """Ids of the decisions whose audits wait."""
        return [
            audit.decision_id for audit in await self.store.loop.audits(key_id=None, limit=100_000, **options)
        ]

    async def grade(
        self, score: float, ids: list[str], *, source: str = "people", **options: Any
    ) -> list[str]:
        """Feedback over HTTP; what became of each item."""
        found: list[str] = []
        for start in range(0, len(ids), 1_000):
            items = [{"decision_id": i, "score": score, "source": source} for i in ids[start : start + 1_000]]
            answer = await self.harness.request("POST", "/v1/feedback", items, **options)
            assert answer.status == 200, answer.body
            found += [item["status"] for item in answer.json()["data"]]
        return found

    async def tiers(self, **options: Any) -> dict[str, Any]:
        await self.flush()
        await self.control.refresh()
        answer = await self.harness.request("GET", "/v1/tiers", **options)
        assert answer.status == 200, answer.body
        return {entry["id"]: entry for entry in answer.json()["data"]}

    async def flush(self) -> None:
        """Every decision is written."""
        await until(lambda: not self.store.pending)


@contextlib.asynccontextmanager
async def site(url: str, tiers: dict[str, Any], *, seed: int = 7, **options: Any) -> AsyncIterator[Site]:
    settings = {"tiers": tiers, "default_tier": next(iter(tiers)), **options.pop("settings", {})}
    async with opened(url, flush_interval_s=0.02) as store:
        harness = Harness(make_settings(**settings), store=store, **options)
        harness.gateway.rng = random.Random(seed)
        harness.gateway.audit_seed = f"seed {seed}"
        await harness.gateway.control.start()
        try:
            yield Site(store, harness)
        finally:
            await harness.gateway.control.close()
