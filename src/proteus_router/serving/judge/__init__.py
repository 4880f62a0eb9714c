"""Grades audits that wait, by another model."""

from proteus_router.serving.judge.agreement import HumanAgreement, agreement_of
from proteus_router.serving.judge.answers import answer_text
from proteus_router.serving.judge.judge import JUDGE_RUBRIC, Judged, JudgeRun, asker, refuse_arms

__all__ = [
    "JUDGE_RUBRIC",
    "HumanAgreement",
    "JudgeRun",
    "Judged",
    "agreement_of",
    "answer_text",
    "asker",
    "refuse_arms",
]
