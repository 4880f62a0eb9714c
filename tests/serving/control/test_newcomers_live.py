"""A newcomer in the closed loop, on both databases: its scores count for the tier and move no model's level."""

from __future__ import annotations

import asyncio

import pytest

from proteus_router.learning.newcomer import outcomes_of
from proteus_router.serving.control.fold import Fold
from tests.serving.app.helpers import EASY, POOL, model_entry
from tests.serving.control.helpers import site, tier

FLOOR = 0.80


@pytest.mark.parametrize("tracked", [False, True])
def test_tries_are_graded_like_any_answer_and_teach_the_pool_alone(url: str, tracked: bool) -> None:
    tiers = {
        "standard": tier(
            FLOOR,
            share=0.2,
            audits_keep_text=True,
            exploration={"share": 0.5, "newcomers": ["fresh"]},
            tracking={"enabled": tracked},
        )
    }
    models = [*(model_entry(name) for name in POOL), model_entry("fresh")]
    settings = {"model_list": models, "routing": {"sessions": {"derive": False}}}

    async def main() -> None:
        async with site(url, tiers, settings=settings) as here:
            answers = await here.ask(400)
            await here.flush()
            tried = {
                answer.headers["x-proteus-decision-id"]
                for answer in answers
                if answer.headers["x-proteus-model"] == "fresh"
            }
            waiting = await here.waiting()
            assert tried
            assert tried <= set(waiting)  # all of them, and a fifth of the others
            assert len(waiting) < 200
            await here.grade(1.0, sorted(tried))
            view = (await here.tiers())["standard"]
            assert view["since_reset"]["audits"] == len(tried)
            fold = here.control.fold
            assert fold.loop.recalibration.offset_of("fresh") == 0.0
            assert not fold.changes
            assert not fold.collapsed
            assert Fold.from_json(fold.to_json()).to_json() == fold.to_json()
            graded = await here.store.graded()
            table = outcomes_of(graded, "fresh")
            assert table.queries == (EASY,)
            assert table.scores[0, 0] == 1.0

    asyncio.run(main())


def test_a_newcomer_that_fails_every_time_breaks_no_floor(url: str) -> None:
    """The worst there is: every try is wrong, and the tier's certificate still can't say that the floor is broken."""
    tiers = {
        "standard": tier(
            FLOOR, share=1.0, audits_keep_text=True, exploration={"share": 0.5, "newcomers": ["fresh"]}
        )
    }
    models = [*(model_entry(name) for name in POOL), model_entry("fresh")]
    settings = {"model_list": models, "routing": {"sessions": {"derive": False}}}

    async def main() -> None:
        async with site(url, tiers, settings=settings) as here:
            answers = await here.ask(500)
            await here.flush()
            target = here.harness.gateway.live.router.plan(FLOOR).mix.internal_target
            scores: dict[float, list[str]] = {0.0: [], 1.0: []}
            known = right = 0
            for answer in answers:
                good = answer.headers["x-proteus-model"] != "fresh"
                if good:  # the known models score what is expected of them
                    known += 1
                    good = right < target * known
                    right += good
                scores[float(good)].append(answer.headers["x-proteus-decision-id"])
            assert known < 500
            for score, ids in scores.items():
                await here.grade(score, ids)
            view = (await here.tiers())["standard"]
            assert view["since_reset"]["estimate"] >= FLOOR - 0.01
            assert view["state"] != "violated"

    asyncio.run(main())
