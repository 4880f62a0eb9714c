"""One collection, from what a user asks for to a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from proteus_router.errors import ConfigError, DataError
from proteus_router.serving.collect.estimate import Estimate, estimate_costs
from proteus_router.serving.collect.exchange import Wording
from proteus_router.serving.collect.graders import (
    JUDGE_PROMPT,
    ExactGrader,
    Grader,
    JudgeGrader,
    RegexGrader,
    compiled,
)
from proteus_router.serving.collect.journal import Journal
from proteus_router.serving.collect.prompts import Prompt
from proteus_router.serving.collect.run import Asker, Run, Tally, Watcher, missing_outcomes
from proteus_router.serving.records import PoolModel
from proteus_router.serving.upstream import BreakerPolicy, UpstreamClient

__all__ = ["GraderName", "Grading", "Job", "pool_models"]

GraderName = Literal["exact", "regex", "judge"]

_VERDICT_TOKENS = 12.0
_NEVER_OPENS = BreakerPolicy(in_a_row=10**9, of_last=10**9)  # a run has a patience of its own


@dataclass(frozen=True, slots=True)
class Grading:
    """How answers are graded.

    Attributes
    ----------
    pattern
        Of the grader `regex`; None: each prompt has its own.
    judge
        The model that grades, and the prompt it gets.
    """

    kind: GraderName
    pattern: str | None = None
    judge: PoolModel | None = None
    template: str = JUDGE_PROMPT

    def __post_init__(self) -> None:
        if (self.kind == "judge") != (self.judge is not None):
            raise ConfigError(
                "a judge belongs to the grader judge, and only to it.", hint="Give --judge MODEL."
            )
        if self.kind == "judge" and "{answer}" not in self.template:
            raise DataError(
                "the judge's prompt does not show it the answer.", hint="Write {answer} where it belongs."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns the prompts must have."""
        if self.kind == "regex":
            has_group = self.pattern is not None and compiled(self.pattern, "--pattern").groups > 0
            return ("pattern",) if self.pattern is None else ("reference",) if has_group else ()
        return ("reference",) if self.kind == "exact" else ()

    def settings(self) -> dict[str, Any]:
        """What makes two gradings the same, as JSON."""
        if self.judge is not None:
            return {"grader": self.kind, "judge": self.judge.name, "judge_prompt": self.template}
        return {"grader": self.kind, "pattern": self.pattern}

    def grader(self, prompts: list[Prompt], asker: Asker) -> Grader:
        if self.kind == "exact":
            return ExactGrader()
        if self.judge is None:
            return RegexGrader(self.pattern, prompts)
        judge = self.judge

        async def ask(text: str) -> tuple[str, float]:
            heard = await asker.ask(judge, text)
            return heard.text, heard.cost_usd

        return JudgeGrader(ask, self.template)


@dataclass(frozen=True, slots=True)
class Job:
    """What to collect.

    Attributes
    ----------
    models
        Name in the data set (what the artifact will call it) -> entry of the pool.
    assumed_tokens
        Length of an answer, for the estimate, while none was seen.
    """

    prompts: list[Prompt]
    models: Mapping[str, PoolModel]
    grading: Grading
    wording: Wording = field(default_factory=Wording)
    assumed_tokens: float = 300.0

    def __post_init__(self) -> None:
        judge = () if self.grading.judge is None else (self.grading.judge,)
        for model in (*self.models.values(), *judge):
            if not (math.isfinite(model.input_usd_per_token) and math.isfinite(model.output_usd_per_token)):
                raise ConfigError(
                    f"{model.name}: its prices are not known, so its outcomes would have no cost.",
                    hint="Set input_cost_per_token and output_cost_per_token in its model_info.",
                )
        if self.grading.kind == "regex":
            RegexGrader(self.grading.pattern, self.prompts)  # refuses what is no pattern

    def settings(self) -> dict[str, Any]:
        """What outcomes in one folder must have in common."""
        return {**self.grading.settings(), "system": self.wording.system, "body": dict(self.wording.extra)}

    def missing(self, journal: Journal) -> list[tuple[Prompt, str]]:
        return missing_outcomes(self.prompts, list(self.models), journal.__contains__)

    def estimates(self, journal: Journal) -> list[Estimate]:
        """Expected cost of what is missing, a model each, and the judge's at the end."""
        missing = self.missing(journal)
        estimates = estimate_costs(
            list(self.models.items()),
            missing,
            journal,
            assumed_tokens=self.assumed_tokens,
            system_characters=len(self.wording.system),
        )
        if self.grading.judge is None:
            return estimates
        return [*estimates, self._judging(self.grading.judge, missing, estimates)]

    async def run(
        self,
        journal: Journal,
        *,
        concurrency: int,
        max_usd: float | None = None,
        keep_answers: bool = False,
        watch: Watcher = lambda tally: None,
        client: UpstreamClient | None = None,
        patience_s: Sequence[float] | None = None,
    ) -> Tally:
        """Collect what is missing into the journal.

        Parameters
        ----------
        concurrency
            Calls at the same time.
        max_usd
            What this run may spend; None: no limit.
        client, patience_s
            For tests: a client of theirs, and other waits between calls that fail.
        """
        missing, estimates = self.missing(journal), self.estimates(journal)
        grading_usd = sum(item.usd_per_outcome for item in estimates if item.is_judge)
        total = len(self.prompts) * len(self.models)
        client = client or UpstreamClient(breaker=_NEVER_OPENS)
        await client.start()
        try:
            asker = Asker(client, self.wording, **({} if patience_s is None else {"patience_s": patience_s}))
            run = Run(
                asker,
                self.models,
                self.grading.grader(self.prompts, Asker(client, Wording())),
                journal,
                Tally(total - len(missing), total),
                {item.model: item.usd_per_outcome + grading_usd for item in estimates if not item.is_judge},
                max_usd,
                keep_answers,
                watch,
            )
            await run.collect(missing, concurrency=concurrency)
        finally:
            await client.close()
        return run.tally

    def _judging(
        self, judge: PoolModel, missing: Sequence[tuple[Prompt, str]], estimates: Sequence[Estimate]
    ) -> Estimate:
        n = max(len(missing), 1)
        characters = sum(len(prompt.query) + len(prompt.reference or "") for prompt, _ in missing) / n
        answers = sum(item.output_tokens * item.n for item in estimates) / n
        tokens = (characters + len(self.grading.template)) / 4 + answers
        usd = tokens * judge.input_usd_per_token + _VERDICT_TOKENS * judge.output_usd_per_token
        return Estimate(judge.name, len(missing), _VERDICT_TOKENS, usd, is_judge=True)


def pool_models(
    pool: Sequence[PoolModel], *, only: Sequence[str] = (), judge: str | None = None
) -> tuple[dict[str, PoolModel], PoolModel | None]:
    """The models to ask, by their names in the data set, and the judge.

    A judge is asked itself only if it is in `only`. Of several entries for one model the first counts, chat before the
    other shapes.

    Raises
    ------
    ConfigError
        `only` or `judge` names no entry of the pool.
    """
    entries = sorted(pool, key=lambda model: model.api != "chat")
    names = {model.name for model in pool} | {model.proteus_model for model in pool}
    for wanted in (*only, *([judge] if judge else [])):
        if wanted not in names:
            raise ConfigError(
                f"no model named {wanted!r} in the pool.", hint=f"It has {', '.join(sorted(names))}."
            )
    judging = next((model for model in entries if judge in (model.name, model.proteus_model)), None)
    order = {model.proteus_model: None for model in pool}
    chosen: dict[str, PoolModel] = {}
    for name in order:
        entry = next(model for model in entries if model.proteus_model == name)
        is_wanted = {entry.name, name} & set(only) if only else entry.name != (judging and judging.name)
        if is_wanted:
            chosen[name] = entry
    if not chosen:
        raise ConfigError("no model is left to ask.", hint="Name some with --models.")
    return chosen, judging
