"""Does the running gateway keep its floors? `proteus serve --demo`, asked by the openai SDK, graded by the provider.

    python benchmarks/gateway_floors.py [--requests 2000] [--at-once 16]

Questions that the router never saw go to the three tiers in turn. Each answer is graded by the provider's own truth
(`POST /grade`). For each tier: the mean score with its exact 95% interval; the mean of the EXPECTED scores of the
models chosen, which is what the certificate speaks of, free of the answers' luck; what was paid, from the gateway's
decisions; and beside it the cheapest fixed model whose expected score on the same questions reaches the floor, an
oracle's choice. A floor is broken where the interval lies wholly below it, corrected for three tiers.

Exit code 1: a floor is broken, or a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from openai import AsyncOpenAI
from scipy.stats import binomtest

from proteus_router.cli.gateway_demo import DEMO_TIERS
from proteus_router.data.synthetic import make_world
from proteus_router.serving.provider import Truth

_QUESTIONS = (5_000, 2)  # what the demo's provider knows
_START_S = 120.0
_BATCH = 500


@dataclass(frozen=True)
class Answer:
    """One answer, graded."""

    tier: str
    question: str
    model: str
    certified: bool
    cost_usd: float
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="which of the 5,000 questions")
    options = parser.parse_args()
    truth = Truth(make_world(0), [_QUESTIONS])
    questions = random.Random(options.seed).sample([known.text for known in truth.known()], options.requests)
    started = time.monotonic()
    with demo() as (gateway, provider):
        print(f"ready after {time.monotonic() - started:.1f} s", file=sys.stderr)
        answers = asyncio.run(ask_all(gateway, provider, questions, options.at_once))
    print(f"{len(answers)} requests by the openai SDK, {time.monotonic() - started:.0f} s in all\n")
    good = [report(truth, tier, target, answers) for tier, target in DEMO_TIERS.items()]
    sys.exit(0 if all(good) and len(answers) == len(questions) else 1)


@contextmanager
def demo() -> Iterator[tuple[str, str]]:
    """Addresses of the demo's gateway and of its provider."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "proteus_router", "serve", "--demo", "--port", "0"],
                stderr=stderr,
                env={**os.environ, "PROTEUS__STORE__URL": f"sqlite:///{folder}/gateway.db"},
            )
            try:
                deadline = time.monotonic() + _START_S
                while not (found := re.search(r"serving at (http://\S+)/v1", log.read_text("utf-8"))):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"the demo did not start: {log.read_text('utf-8')[-2000:]}")
                    time.sleep(0.1)
                upstream = re.search(r"models at (http://\S+)/v1", log.read_text("utf-8"))
                assert upstream is not None
                yield found[1], upstream[1]
            finally:
                process.terminate()
                process.wait(60)


async def ask_all(gateway: str, provider: str, questions: Sequence[str], at_once: int) -> list[Answer]:
    """Every question to one tier, in turn; failed requests are said and left out."""
    tiers, gate = list(DEMO_TIERS), asyncio.Semaphore(at_once)
    async with AsyncOpenAI(base_url=f"{gateway}/v1", api_key="any", max_retries=0) as client:

        async def ask(place: int, question: str) -> dict[str, Any] | None:
            tier = tiers[place % len(tiers)]
            async with gate:
                try:
                    raw = await client.chat.completions.with_raw_response.create(
                        model=f"proteus/{tier}", messages=[{"role": "user", "content": question}]
                    )
                except Exception as error:
                    print(f"failed: {error}", file=sys.stderr)
                    return None
            completion = raw.parse()
            return {
                "tier": tier,
                "question": question,
                "model": completion.model,
                "certified": raw.headers["x-proteus-certified"] == "true",
                "cost_usd": float(raw.headers["x-proteus-cost-usd"]),
                "text": completion.choices[0].message.content or "",
            }

        said = [one for one in await asyncio.gather(*(ask(*pair) for pair in enumerate(questions))) if one]
    scores: list[float] = []
    async with aiohttp.ClientSession() as session:
        for start in range(0, len(said), _BATCH):
            items = [
                {"query": one["question"], "answer": one["text"]} for one in said[start : start + _BATCH]
            ]
            async with session.post(f"{provider}/grade", json={"items": items}) as answer:
                scores += (await answer.json())["scores"]
    return [
        Answer(score=score, **{name: value for name, value in one.items() if name != "text"})
        for one, score in zip(said, scores, strict=True)
    ]


def report(truth: Truth, tier: str, target: float, answers: Sequence[Answer]) -> bool:
    """Print one tier's lines; whether its floor held."""
    mine = [answer for answer in answers if answer.tier == tier]
    right, n = sum(answer.score for answer in mine), len(mine)
    test = binomtest(round(right), n, target, alternative="less")
    low, high = binomtest(round(right), n).proportion_ci(0.95)
    expected = np.array([truth.expected_score(answer.model, answer.question) for answer in mine])
    paid = np.mean([answer.cost_usd for answer in mine]) * 1e3
    certified = sum(answer.certified for answer in mine)
    held = test.pvalue > 0.05 / len(DEMO_TIERS)
    print(f"{tier}, floor {target:g}: {'held' if held else 'BROKEN'}; {certified} of {n} answers certified")
    print(f"  mean score      {right / n:.4f}, 95% interval {low:.4f} to {high:.4f} (n = {n})")
    print(f"  expected score  {expected.mean():.4f} +- {expected.std() / n**0.5:.4f}")
    print(f"  cost            {paid:.4f} USD per 1,000 requests")
    fixed = [
        (cost, model, score)
        for model, score, cost in (_fixed(truth, model, mine) for model in truth.models)
        if score >= target
    ]
    if fixed:
        cost, model, score = min(fixed)
        print(f"  best fixed      {cost:.4f} ({model}, expected score {score:.4f}); ratio {paid / cost:.3f}")
    else:
        print("  best fixed      none reaches the floor")
    shares = {model: sum(answer.model == model for answer in mine) / n for model in truth.models}
    used = ", ".join(f"{model} {share:.0%}" for model, share in shares.items() if share >= 0.005)
    print(f"  answered by     {used}\n")
    return bool(held)


def _fixed(truth: Truth, model: str, answers: Sequence[Answer]) -> tuple[str, float, float]:
    """Had `model` alone answered: its expected score, and USD per 1,000 requests."""
    card = next(card for card in truth.world.models if card.name == model)
    outcomes = [truth.outcome(model, answer.question) for answer in answers]
    usd = [
        outcome.input_tokens * card.input_price_usd_per_mtok
        + outcome.output_tokens * card.output_price_usd_per_mtok
        for outcome in outcomes
    ]
    return model, float(np.mean([o.expected_score for o in outcomes])), float(np.mean(usd)) / 1e6 * 1e3


if __name__ == "__main__":
    main()
