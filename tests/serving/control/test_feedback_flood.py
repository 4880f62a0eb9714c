"""Feedback by the thousand: the same again, late, out of order, contradictory, unknown, no number. Nothing counts twice."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving.app.helpers import EASY
from tests.serving.control.helpers import site, tier


def test_a_thousand_times_the_same_score_counts_once(url: str) -> None:
    async def main() -> None:
        async with site(url, {"standard": tier()}) as here:
            await here.ask()
            (one,) = here.decisions
            lists = [await here.grade(1.0, [one] * 250) for _ in range(2)]
            both = await asyncio.gather(*(here.grade(1.0, [one] * 250) for _ in range(2)))
            said = [status for found in (*lists, *both) for status in found]
            assert (said.count("stored"), said.count("duplicate")) == (1, 999)
            assert (await here.tiers())["standard"]["since_reset"]["audits"] == 1

    asyncio.run(main())


def test_the_order_of_the_scores_does_not_matter_to_a_certificate(sqlite_url: str) -> None:
    async def main() -> None:
        bounds = []
        for seed in (1, 2):
            async with site(f"{sqlite_url}{seed}", {"standard": tier()}) as here:
                await here.ask(60, text=EASY)
                ids = list(enumerate(here.decisions))
                random.Random(seed).shuffle(ids)
                for number, one in ids:  # late and out of order
                    await here.grade(float(number % 4 > 0), [one])
                bounds.append((await here.tiers())["standard"]["since_reset"])
        assert bounds[0] == bounds[1]

    asyncio.run(main())


@pytest.mark.slow
def test_a_flood_of_lists_leaves_the_right_state(url: str) -> None:
    found = asyncio.run(_benchmark().run(url, decisions=5_000, seconds=8.0, rate=10_000.0))
    assert found["right"], found
    assert {"stored", "duplicate", "conflict", "not_found", "invalid"} == found["statuses"].keys()


def _benchmark() -> Any:
    path = Path(__file__).parents[3] / "benchmarks" / "feedback.py"
    spec = importlib.util.spec_from_file_location("feedback_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["feedback_benchmark"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
