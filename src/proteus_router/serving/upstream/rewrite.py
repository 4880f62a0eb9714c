"""Change one value inside JSON bytes and leave every other byte as it came.

Parsing an answer and writing it again would reorder, re-space and re-escape it, and cost more. So the value of
``model`` is found by walking the members of the outermost object, each value skipped as a whole: a ``"model"`` inside
an answer's text, a tool's arguments or any nested object is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

__all__ = ["model_span", "rewrite_model"]

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPEN = re.compile(rb"\s*+\{")
_KEY = re.compile(rb"\s*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^\s,:{}\[\]"]++', re.DOTALL)
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_COMMA = re.compile(rb"\s*+,")

_NESTED = (b'"response"', b'"message"')
"""Where streamed Responses and Messages events keep the object that names the model."""


def rewrite_model(body: bytes, name: str) -> bytes:
    """`body` with the value of its ``model`` replaced by `name`; unchanged where there is none.

    The first of these counts: ``model`` of the outermost object, or ``model`` of its ``response`` or ``message``.
    Bytes that are no JSON object come back unchanged.
    """
    span = model_span(body)
    if span is None:
        return body
    return body[: span[0]] + orjson.dumps(name) + body[span[1] :]


def model_span(body: bytes) -> tuple[int, int] | None:
    """Where the value of ``model`` starts and ends, or None."""
    return _find(body, 0, nested=True)


def _find(body: bytes, start: int, *, nested: bool) -> tuple[int, int] | None:
    for key, value in _members(body, start):
        if key == b'"model"':
            end = _skip(body, value)
            return None if end is None else (value, end)
        if nested and key in _NESTED and body[value : value + 1] == b"{":
            found = _find(body, value, nested=False)
            if found is not None:
                return found
    return None


def _members(body: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """Key and start of the value of each member of the object at `start`, as far as it can be read."""
    opening = _OPEN.match(body, start)
    position = None if opening is None else opening.end()
    while position is not None:
        key = _KEY.match(body, position)
        if key is None:
            return
        yield key[1], key.end()
        end = _skip(body, key.end())
        comma = None if end is None else _COMMA.match(body, end)
        position = None if comma is None else comma.end()


def _skip(body: bytes, start: int) -> int | None:
    """The end of the value at `start`."""
    scalar = _SCALAR.match(body, start)
    if scalar is not None:
        return scalar.end()
    depth = 0
    for token in _TOKEN.finditer(body, start):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        if depth <= 0:
            return token.end()
    return None
