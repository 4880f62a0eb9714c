"""Records to rows and back. What a client chose is made storable here, so that no request can block a batch."""

from __future__ import annotations

from dataclasses import fields, replace
from math import isfinite
from operator import attrgetter
from typing import Any

import orjson
import sqlalchemy as sa

from proteus_router.serving.records import ApiKey, DecisionRecord

__all__ = [
    "DECISION_COLUMNS",
    "clean_text",
    "decision_from_row",
    "decision_to_values",
    "key_from_row",
    "key_to_row",
]

MAX_TOKENS = 10**12  # sums of them still fit into 64 bits
MAX_CHARS = 512  # of a name or an id; prompts, answers and comments are not cut here
DECISION_COLUMNS = tuple(field.name for field in fields(DecisionRecord))
_values = attrgetter(*DECISION_COLUMNS)
_TEXTS = (
    "id",
    "key_id",
    "tier",
    "model",
    "requested_model",
    "error_code",
    "session_id",
    "request_id",
    "task",
)
_LONG_TEXTS = ("prompt", "answer", "router_fingerprint")
_NUMBERS = (
    "accuracy_target",
    "internal_target",
    "predicted_score",
    "predicted_cost_usd",
    "cost_usd",
    "propensity",
    "audit_probability",
    "latency_s",
    "first_byte_s",
    "overhead_s",
)
_numbers = attrgetter(*_NUMBERS)
_MEASURED = ("latency_s", "overhead_s")  # never NULL


def clean_text(text: str) -> str:
    """`text` as both databases store it: no NUL (PostgreSQL), no lone surrogate (both)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def decision_to_values(record: DecisionRecord) -> tuple[Any, ...]:
    """Values of DECISION_COLUMNS, storable whatever a client or an upstream made of them."""
    return _values(record if _is_plain(record) else _cleaned(record))


def _is_plain(record: DecisionRecord) -> bool:
    """Whether nothing needs cleaning: the usual case, told in a few microseconds."""
    try:
        document = orjson.dumps(record)
    except TypeError:  # lone surrogates, integers beyond 64 bits, numpy's numbers
        return False
    return (
        b"\\u0000" not in document
        and isfinite(sum(number for number in _numbers(record) if number is not None))
        and 0 <= (record.input_tokens or 0) <= MAX_TOKENS
        and 0 <= (record.output_tokens or 0) <= MAX_TOKENS
        and len(record.requested_model) <= MAX_CHARS
        and len(record.request_id or "") <= MAX_CHARS
        and len(record.task or "") <= MAX_CHARS
    )


def _cleaned(record: DecisionRecord) -> DecisionRecord:
    changes: dict[str, Any] = {}
    for name in _TEXTS:
        text = getattr(record, name)
        changes[name] = None if text is None else clean_text(text[:MAX_CHARS])
    for name in _LONG_TEXTS:
        text = getattr(record, name)
        changes[name] = None if text is None else clean_text(text)
    for name in _NUMBERS:
        number = getattr(record, name)
        if number is not None and not isfinite(number):
            changes[name] = 0.0 if name in _MEASURED else None
    for name in ("input_tokens", "output_tokens"):  # an upstream's word
        tokens = getattr(record, name)
        changes[name] = None if tokens is None else max(0, min(MAX_TOKENS, tokens))
    changes["reasons"] = tuple(clean_text(reason) for reason in record.reasons)
    return replace(record, **changes)


def decision_from_row(row: sa.RowMapping) -> DecisionRecord:
    values = {name: row[name] for name in DECISION_COLUMNS}
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
