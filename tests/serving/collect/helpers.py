"""What the tests of collecting share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proteus_router.serving.collect import Job, Journal, Prompt, Tally
from proteus_router.serving.provider import Provider
from proteus_router.serving.records import PoolModel
from proteus_router.serving.upstream import BreakerPolicy, RetryPolicy, UpstreamClient

__all__ = ["PATTERN", "MakeModel", "known_prompts", "run_job"]

PATTERN = r"Answer: (.+)"
MakeModel = Callable[..., PoolModel]


def known_prompts(provider: Provider, n: int) -> list[Prompt]:
    items = list(provider.truth.known())[:n]
    return [Prompt(item.query_id, item.text, item.task, item.reference) for item in items]


def run_job(job: Job, folder: Path, **settings: Any) -> Tally:
    """One run, without the waits of a real one."""
    client = UpstreamClient(
        retry=RetryPolicy(attempts=1), breaker=BreakerPolicy(in_a_row=10**9, of_last=10**9)
    )
    values = {"concurrency": 8, "client": client, "patience_s": (0.01, 0.02), **settings}
    with Journal(folder, job.settings()) as journal:
        return asyncio.run(job.run(journal, **values))
