"""Records to rows and back. What a client chose is made storable here, so that no request can block a batch."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from proteus_router.serving.records import ApiKey, DecisionRecord

__all__ = [
    "clean_text",
    "decision_from_row",
    "decision_to_row",
    "key_from_row",
    "key_to_row",
]

MAX_TOKENS = 10**12  # sums of them still fit into 64 bits
MAX_CHARS = 512  # of a name or an id; prompts, answers and comments are not cut here
_DECISION_FIELDS = tuple(field.name for field in fields(DecisionRecord))
_SHORT = ("id", "key_id", "tier", "model", "requested_model", "error_code", "session_id", "request_id")
_LONG = ("prompt", "answer")
_NUMBERS = (
    "accuracy_target",
    "internal_target",
    "predicted_score",
    "predicted_cost_usd",
    "cost_usd",
    "propensity",
    "audit_probability",
    "first_byte_s",
)


def clean_text(text: str) -> str:
    """`text` as both databases store it: no NUL (PostgreSQL), no lone surrogate (both)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def decision_to_row(record: DecisionRecord) -> dict[str, Any]:
    """Values of the table ``decisions``; numbers that are not finite become NULL."""
    row = {name: getattr(record, name) for name in _DECISION_FIELDS}
    for name in _SHORT:
        if row[name] is not None:
            row[name] = clean_text(row[name][:MAX_CHARS])
    for name in _LONG:
        if row[name] is not None:
            row[name] = clean_text(row[name])
    for name in _NUMBERS:
        if row[name] is not None:
            row[name] = _finite(row[name])
    for name in ("input_tokens", "output_tokens"):  # an upstream's word
        if row[name] is not None:
            row[name] = max(0, min(MAX_TOKENS, row[name]))
    row["latency_s"], row["overhead_s"] = _finite(record.latency_s) or 0.0, _finite(record.overhead_s) or 0.0
    row["reasons"] = [clean_text(reason) for reason in record.reasons]
    row["candidates"] = list(record.candidates)
    return row


def decision_from_row(row: sa.RowMapping) -> DecisionRecord:
    values = {name: row[name] for name in _DECISION_FIELDS}
    values["reasons"] = tuple(row["reasons"])
    values["candidates"] = tuple(row["candidates"])
    return DecisionRecord(**values)


def key_to_row(key: ApiKey, token_sha256: str) -> dict[str, Any]:
    row = {field.name: getattr(key, field.name) for field in fields(ApiKey) if field.name != "target_range"}
    row["target_min"], row["target_max"] = key.target_range or (None, None)
    row["token_sha256"] = token_sha256
    return row


def key_from_row(row: sa.RowMapping) -> ApiKey:
    values = {field.name: row[field.name] for field in fields(ApiKey) if field.name != "target_range"}
    for name in ("tiers", "models"):
        values[name] = None if row[name] is None else tuple(row[name])
    low, high = row["target_min"], row["target_max"]
    return ApiKey(target_range=None if low is None else (low, high), **values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
