"""A model that grades audits: what it is asked, whom it may not grade, and what becomes of its verdicts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proteus_router.errors import ConfigError, DataError, UpstreamError
from proteus_router.serving.collect.exchange import Wording, said_in
from proteus_router.serving.collect.graders import JUDGE_PROMPT, JudgeGrader
from proteus_router.serving.collect.prompts import Prompt
from proteus_router.serving.judge.answers import answer_text
from proteus_router.serving.records import Audit, Feedback, PoolModel
from proteus_router.serving.store import FeedbackResult
from proteus_router.serving.upstream import UpstreamClient
from proteus_router.serving.upstream.bodies import loads

__all__ = ["JUDGE_RUBRIC", "JudgeRun", "Judged", "asker", "refuse_arms"]

JUDGE_RUBRIC = JUDGE_PROMPT.replace("<reference>\n{reference}\n</reference>\n", "").replace(
    "If there is a reference, it is the right answer: judge whether the answer agrees with it in substance. Otherwise "
    "judge whether",
    "Judge whether",
)
"""The prompt that shows it a question and an answer."""
_TOGETHER = 50  # verdicts of one transaction
_HOPELESS = 10  # failures in a row after which it is not asked any more


def refuse_arms(judge: str, pool: Iterable[PoolModel], audited: Iterable[str]) -> None:
    """A model can't grade itself, nor anything it competes with.

    Parameters
    ----------
    judge
        The model's name as its provider knows it.
    audited
        Names of the models whose answers are to be graded.

    Raises
    ------
    ConfigError
        The judge runs one of the arms, under whatever provider's prefix.
    """
    wanted = _bare(judge)
    arms = {_bare(name): name for name in audited}
    for model in pool:
        arms |= {_bare(name): model.name for name in (model.name, model.proteus_model, model.upstream_model)}
    if wanted in arms:
        raise ConfigError(
            f"{judge} serves {arms[wanted]}, one of the arms it would grade.",
            hint="Choose a judge that is not in the pool.",
        )


def asker(client: UpstreamClient, judge: PoolModel) -> Callable[[str], Awaitable[str]]:
    """Asks `judge` one question at a time, at temperature 0; the client tries again where a fault may pass."""
    wording = Wording(extra={"temperature": 0})

    async def ask(text: str) -> str:
        deadline = time.monotonic() + judge.timeouts.total_s
        body = wording.request(judge.api, text)
        reply = await client.call(judge, body, headers={}, deadline=deadline, stream=False)
        content = loads(reply.body)
        return said_in(judge.api, content).text if isinstance(content, dict) else ""

    return ask


class FeedbackStore(Protocol):
    """Where verdicts go."""

    async def add_feedback(self, items: Sequence[Feedback]) -> list[FeedbackResult]: ...


@dataclass(slots=True)
class Judged:
    """What became of the audits.

    Attributes
    ----------
    without_text
        Audits whose text was not kept, or whose answer holds none: nothing to grade.
    failures
        What happened -> how often; those audits go on waiting.
    """

    graded: int = 0
    without_text: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    mean_score: float = 0.0


@dataclass(slots=True)
class JudgeRun:
    """One round over audits.

    Parameters
    ----------
    ask
        Sends a text to the judge; its answer. Raises UpstreamError.
    source
        Name under which its scores are stored.
    template
        The prompt, with ``{query}`` and ``{answer}`` in it.
    now
        Unix seconds.
    """

    ask: Callable[[str], Awaitable[str]]
    store: FeedbackStore
    source: str
    now: Callable[[], float]
    template: str = JUDGE_RUBRIC
    result: Judged = field(default_factory=Judged)
    _verdicts: list[Feedback] = field(default_factory=list)
    _failed_in_a_row: int = 0

    def __post_init__(self) -> None:
        if "{answer}" not in self.template:
            raise DataError("the rubric does not show the answer.", hint="Write {answer} where it belongs.")

    async def grade(self, audits: Sequence[Audit], *, concurrency: int = 8) -> Judged:
        """Grade `audits` and store the scores; ends early where the judge has stopped answering."""
        places = iter(audits)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(self._work(places))
        except BaseExceptionGroup as group:  # such as a database that is away, met by many workers at once
            raise group.exceptions[0] from None
        finally:
            await self._store_verdicts()
        return self.result

    async def _work(self, audits: Iterator[Audit]) -> None:
        for audit in audits:
            if self._failed_in_a_row >= _HOPELESS:
                return
            await self._one(audit)
            if len(self._verdicts) >= _TOGETHER:
                await self._store_verdicts()

    async def _one(self, audit: Audit) -> None:
        answer = "" if audit.answer is None else answer_text(audit.api, audit.answer, stream=audit.stream)
        if not audit.prompt or not answer:
            self.result.without_text += 1
            return
        grader = JudgeGrader(self._ask, self.template)
        try:
            grade = await grader.grade(Prompt(audit.decision_id, audit.prompt), answer)
        except UpstreamError as error:
            self._fail(error.message)
            return
        if grade.score is None:
            self._fail("it gave no score that can be read")
            return
        self._failed_in_a_row = 0
        self._verdicts.append(Feedback(audit.decision_id, self.source, grade.score, self.now(), trusted=True))

    async def _ask(self, text: str) -> tuple[str, float]:
        return await self.ask(text), 0.0

    def _fail(self, why: str) -> None:
        self._failed_in_a_row += 1
        self.result.failures[why] += 1

    async def _store_verdicts(self) -> None:
        verdicts, self._verdicts = self._verdicts, []
        if not verdicts:
            return
        answers = await self.store.add_feedback(verdicts)
        for verdict, answer in zip(verdicts, answers, strict=True):
            if answer.error is not None:
                self.result.failures[f"not stored: {answer.status}"] += 1
                continue
            count = self.result.graded = self.result.graded + 1
            self.result.mean_score += (verdict.score - self.result.mean_score) / count


def _bare(name: str) -> str:
    """A model's name without its provider's prefix."""
    return name.rsplit("/", 1)[-1].strip().casefold()
