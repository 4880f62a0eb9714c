"""Ask every model every prompt, grade the answers, and stop in time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proteus_router.errors import UpstreamError, UpstreamReplyError
from proteus_router.serving.collect.exchange import Wording, said_in
from proteus_router.serving.collect.graders import Grader
from proteus_router.serving.collect.journal import Collected, Journal
from proteus_router.serving.collect.prompts import Prompt
from proteus_router.serving.records import PoolModel
from proteus_router.serving.upstream import UpstreamClient, cost_usd
from proteus_router.serving.upstream.bodies import loads

__all__ = ["Asker", "Run", "Tally", "missing_outcomes"]

_HOPELESS = 10  # failures in a row after which a model is not asked any more
_PATIENCE_S = (1.0, 2.0, 4.0, 8.0)


class Watcher(Protocol):
    """Called after every outcome and every failure."""

    def __call__(self, tally: Tally) -> None: ...


@dataclass(slots=True)
class Tally:
    """How far a run has come.

    Attributes
    ----------
    done, total
        Outcomes there are, with those of earlier runs; outcomes there can be.
    spent_usd
        In this run, judges included.
    cut
        Answers that ended at a limit on their length.
    failures
        (model, what happened) -> how often.
    limit_reached
        The spend limit stopped the run.
    """

    done: int
    total: int
    spent_usd: float = 0.0
    cut: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    limit_reached: bool = False

    @property
    def complete(self) -> bool:
        return self.done == self.total


class Asker:
    """Calls one model with one text, again where the fault may pass.

    Parameters
    ----------
    patience_s
        Waits between the calls of a request that keeps failing; an upstream's own ``Retry-After`` goes before.
    """

    def __init__(
        self, client: UpstreamClient, wording: Wording, *, patience_s: Sequence[float] = _PATIENCE_S
    ) -> None:
        self._client, self._wording, self._patience_s = client, wording, patience_s

    async def ask(self, model: PoolModel, text: str) -> Heard:
        """The model's answer.

        Raises
        ------
        UpstreamError
            It still fails after the last wait, was refused, or does not say what it used.
        """
        body = self._wording.request(model.api, text)
        for wait_s in (*self._patience_s, None):
            started = time.monotonic()
            try:
                reply = await self._client.call(
                    model, body, headers={}, deadline=started + model.timeouts.total_s, stream=False
                )
                break
            except UpstreamError as error:
                if wait_s is None or not error.retryable:
                    raise
                await asyncio.sleep(wait_s if error.retry_after_s is None else error.retry_after_s)
        if reply.usage is None:
            raise UpstreamReplyError(f"{model.name} does not say what it used.", model=model.name)
        said = said_in(model.api, loads(reply.body))
        usage = reply.usage
        return Heard(
            said.text,
            said.cut,
            cost_usd(model, usage),
            usage.input_tokens,
            usage.output_tokens,
            time.monotonic() - started if reply.attempts == 1 else None,
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What one call brought; `latency_s` is None where it was not the first attempt."""

    text: str
    cut: bool
    cost_usd: float
    input_tokens: int
    output_tokens: int
    latency_s: float | None


@dataclass(slots=True)
class Run:
    """One run over what is missing.

    Parameters
    ----------
    models
        Name in the data set -> the pool's entry.
    max_usd
        No call is begun that could take the spending of this run beyond it, each counted as `expected_usd` (or as the
        dearest call so far, where that is more); None: no limit.
    """

    asker: Asker
    models: Mapping[str, PoolModel]
    grader: Grader
    journal: Journal
    tally: Tally
    expected_usd: Mapping[str, float]
    max_usd: float | None = None
    keep_answers: bool = False
    watch: Watcher = lambda tally: None
    _reserved_usd: float = 0.0
    _dearest_usd: dict[str, float] = field(default_factory=dict)
    _failed_in_a_row: Counter[str] = field(default_factory=Counter)

    async def collect(self, missing: Sequence[tuple[Prompt, str]], *, concurrency: int) -> None:
        """Fill the journal. Ends when nothing is missing, the money is spent, or no model answers any more."""
        places = iter(missing)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(self._work(places))
        except BaseExceptionGroup as group:  # such as a full disk, met by many workers at once
            raise group.exceptions[0] from None

    async def _work(self, places: Iterator[tuple[Prompt, str]]) -> None:
        for prompt, name in places:
            if self._failed_in_a_row[name] >= _HOPELESS:
                continue
            expected = max(self.expected_usd[name], self._dearest_usd.get(name, 0.0))
            if (
                self.max_usd is not None
                and self.tally.spent_usd + self._reserved_usd + expected > self.max_usd
            ):
                self.tally.limit_reached = True
                return
            self._reserved_usd += expected
            try:
                await self._outcome(prompt, name)
            finally:
                self._reserved_usd -= expected

    async def _outcome(self, prompt: Prompt, name: str) -> None:
        try:
            heard = await self.asker.ask(self.models[name], prompt.query)
            self.tally.spent_usd += heard.cost_usd
            grade = await self.grader.grade(prompt, heard.text)
        except UpstreamError as error:
            self._failed(name, error.message)
            return
        self.tally.spent_usd += grade.cost_usd
        cost_usd = heard.cost_usd + grade.cost_usd
        self._dearest_usd[name] = max(self._dearest_usd.get(name, 0.0), cost_usd)
        if grade.score is None:
            self._failed(name, "the judge gave no score.")
            return
        self._failed_in_a_row[name] = 0
        self.tally.cut += heard.cut
        self.tally.done += 1
        self.journal.add(
            Collected(
                query_id=prompt.query_id,
                text=prompt.fingerprint,
                model=name,
                score=grade.score,
                cost_usd=heard.cost_usd,
                input_tokens=heard.input_tokens,
                output_tokens=heard.output_tokens,
                latency_s=heard.latency_s,
                grading_usd=grade.cost_usd,
                answer=heard.text if self.keep_answers else None,
            )
        )
        self.watch(self.tally)

    def _failed(self, name: str, what: str) -> None:
        self._failed_in_a_row[name] += 1
        self.tally.failures[name, what] += 1
        self.watch(self.tally)


def missing_outcomes(
    prompts: Sequence[Prompt], models: Sequence[str], has: Callable[[tuple[str, str]], bool]
) -> list[tuple[Prompt, str]]:
    """What is not there yet, prompt by prompt, so that a run cut short has asked all models much the same."""
    return [(prompt, name) for prompt in prompts for name in models if not has((prompt.query_id, name))]
