"""Feedback: one score per decision and source, all of a list in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose, isfinite
from typing import Literal

import sqlalchemy as sa

from proteus_router.errors import (
    DecisionNotFoundError,
    FeedbackConflictError,
    InvalidFeedbackError,
    ProteusError,
)
from proteus_router.serving.records import DecisionRecord, Feedback
from proteus_router.serving.store.audits import close_audits
from proteus_router.serving.store.bulk import insert_new, one_of
from proteus_router.serving.store.decisions import insert_decisions
from proteus_router.serving.store.rows import clean_text
from proteus_router.serving.store.tables import decisions, feedback

__all__ = ["MAX_ITEMS", "FeedbackResult", "FeedbackStatus", "store_feedback"]

FeedbackStatus = Literal["stored", "duplicate", "conflict", "not_found", "invalid"]
MAX_ITEMS = 1_000
MAX_SOURCE_CHARS = 64
MAX_COMMENT_CHARS = 2_000
_SAME = 1e-12  # a number that was written out and read again
_COLUMNS = ("decision_id", "source", "score", "created_at", "key_id", "comment")
_Key = tuple[str, str]  # decision, source


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of one item.

    Attributes
    ----------
    status
        ``stored``; ``duplicate`` (the same score was there: nothing to do); or why it was refused.
    error
        The error of a refusal, for a caller with a single item to raise.
    """

    decision_id: str
    source: str
    status: FeedbackStatus
    error: ProteusError | None = None


def store_feedback(
    connection: sa.Connection,
    items: Sequence[Feedback],
    waiting: Callable[[Sequence[str]], Sequence[DecisionRecord]],
) -> list[FeedbackResult]:
    """Store `items`; one result each, in order. A refused item does not hold up the others.

    Parameters
    ----------
    waiting
        The decisions that must be written first, in the same transaction: those of these ids that are queued, and
        what was decided before them, so that an audit is never counted before the requests around it.
    """
    queued = waiting([item.decision_id for item in items])
    if queued:
        insert_decisions(connection, queued)
    owners = _owners(connection, sorted({clean_text(item.decision_id) for item in items}))
    results: list[FeedbackResult | None] = [_refusal(item, owners) for item in items]
    open_items = [index for index, result in enumerate(results) if result is None]
    scores = _scores(connection, [items[index].decision_id for index in open_items])
    fresh: dict[_Key, Feedback] = {}
    for index in open_items:
        item = items[index]
        key = item.decision_id, item.source
        if key not in scores:
            fresh[key], scores[key] = item, float(item.score)
            results[index] = _result(item, "stored")
        else:
            results[index] = _again(item, scores[key])
    lost = fresh.keys() - _insert(connection, fresh)
    if lost:  # another gateway was faster: what it stored decides
        now = _scores(connection, [key[0] for key in lost])
        for index in open_items:
            key = items[index].decision_id, items[index].source
            if key in lost:
                results[index] = _again(items[index], now[key])
    close_audits(connection, [item for key, item in fresh.items() if key not in lost])
    return [result for result in results if result is not None]


def _refusal(item: Feedback, owners: dict[str, str | None]) -> FeedbackResult | None:
    problem = _problem(item)
    if problem:
        return _result(item, "invalid", InvalidFeedbackError(problem))
    known = item.decision_id in owners
    # An admin (no key) may grade every decision. To a tenant another's decision does not exist.
    if not known or item.key_id not in (None, owners[item.decision_id]):
        return _result(item, "not_found", DecisionNotFoundError(f"no decision {item.decision_id!r}."))
    return None


def _problem(item: Feedback) -> str:
    score: object = item.score
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        return "feedback: score must be a number in [0, 1]."
    if not (isfinite(score) and 0 <= score <= 1):
        return f"feedback: score is {score}, not in [0, 1]."
    if not 0 < len(item.source) <= MAX_SOURCE_CHARS or clean_text(item.source) != item.source:
        return f"feedback: source must be 1 to {MAX_SOURCE_CHARS} characters of text."
    if item.comment is not None and len(item.comment) > MAX_COMMENT_CHARS:
        return f"feedback: comment has more than {MAX_COMMENT_CHARS:,} characters."
    return ""


def _owners(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """Key of each known decision. The rows are held so that retention can't take them away meanwhile."""
    rows = (
        sa.select(decisions.c.id, decisions.c.key_id)
        .where(one_of(connection, decisions.c.id, ids))
        .order_by(decisions.c.id)
        .with_for_update(read=True, key_share=True, of=decisions)
    )
    return {decision_id: key_id for decision_id, key_id in connection.execute(rows).all()}


def _scores(connection: sa.Connection, ids: Sequence[str]) -> dict[_Key, float]:
    stored = sa.select(feedback.c.decision_id, feedback.c.source, feedback.c.score)
    rows = connection.execute(stored.where(one_of(connection, feedback.c.decision_id, ids)))
    return {(decision_id, source): score for decision_id, source, score in rows.all()}


def _insert(connection: sa.Connection, items: dict[_Key, Feedback]) -> set[tuple[str, ...]]:
    rows = [
        (item.decision_id, item.source, item.score, item.created_at, item.key_id, _clean(item.comment))
        for item in (items[key] for key in sorted(items))
    ]
    return insert_new(connection, feedback, _COLUMNS, rows, ("decision_id", "source"))


def _again(item: Feedback, stored: float) -> FeedbackResult:
    if isclose(stored, item.score, abs_tol=_SAME):
        return _result(item, "duplicate")
    message = f"feedback: {item.source} gave this decision {stored} before, now {item.score}."
    hint = "A source speaks once per decision; another grader needs another source."
    return _result(item, "conflict", FeedbackConflictError(message, stored_score=stored, hint=hint))


def _result(item: Feedback, status: FeedbackStatus, error: ProteusError | None = None) -> FeedbackResult:
    return FeedbackResult(decision_id=item.decision_id, source=item.source, status=status, error=error)


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)
