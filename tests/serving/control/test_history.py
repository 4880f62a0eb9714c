"""What was said of a tier over a day: thinned, bounded, begun anew with the evidence, and asked for by the console."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from proteus_router.control import Bounds, ConfidenceSequence
from proteus_router.serving.control.history import History
from tests.serving.control.helpers import site, tier


def bounds(score: float) -> Bounds:
    sequence = ConfidenceSequence(0.8)
    for _ in range(20):
        sequence.add(score)
    return sequence.bounds(20)


def test_a_day_is_kept_a_point_every_six_minutes() -> None:
    history = History()
    for second in range(0, 200_000, 60):
        history.saw("standard", 1, bounds(1.0), float(second))
    kept = history.of("standard")
    assert len(kept) == 240
    assert {later["at"] - former["at"] for former, later in pairwise(kept)} == {360.0}
    assert kept[-1]["lower"] < kept[-1]["estimate"] == pytest.approx(1.0)
    assert history.of("unknown") == []


def test_new_evidence_begins_a_new_line() -> None:
    history = History()
    history.saw("standard", 1, bounds(0.0), 0.0)
    history.saw("standard", 1, bounds(0.0), 400.0)
    history.saw("standard", 2, bounds(1.0), 401.0)
    assert [point["estimate"] for point in history.of("standard")] == pytest.approx([1.0])


def test_the_console_asks_for_it_once(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask(30)
            usual, first = [
                (await here.harness.request("GET", f"/v1/admin/overview{query}")).json()
                for query in ("", "?history=1")
            ]
            assert "history" not in usual
            assert len(first["history"]["standard"]) == 1
            assert set(first["history"]["standard"][0]) == {"at", "estimate", "lower", "upper"}

    asyncio.run(main())
