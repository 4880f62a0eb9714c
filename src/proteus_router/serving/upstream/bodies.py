"""The request as the upstream gets it, and JSON that is read and written without losing anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from proteus_router.serving.records import PoolModel

__all__ = ["dumps", "loads", "upstream_body"]

OWN_FIELD = "proteus"
"""The one field of a request that is meant for the gateway; it never travels upstream."""


def upstream_body(model: PoolModel, body: bytes | Mapping[str, Any], *, stream: bool) -> tuple[bytes, bool]:
    """The bytes to send, and whether usage was asked for on the caller's behalf.

    ``model`` becomes the upstream's name, the gateway's own field goes, and a chat stream asks for its usage. All else
    stays as the caller wrote it.
    """
    given = loads(body) if isinstance(body, bytes) else body
    sent = {key: value for key, value in given.items() if key != OWN_FIELD}
    sent["model"] = model.upstream_model
    if not stream:
        return dumps(sent), False
    sent["stream"] = True
    options = given.get("stream_options")
    options = options if isinstance(options, Mapping) else {}
    if model.api != "chat" or options.get("include_usage") is True:
        return dumps(sent), False
    sent["stream_options"] = {**options, "include_usage": True}
    return dumps(sent), True


def loads(data: bytes) -> Any:
    """The value of `data`; `ValueError` where it is not JSON.

    What orjson refuses but other parsers accept is read too: half a surrogate pair, a number beyond a double.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data, parse_constant=_no_constant)


def dumps(value: Any) -> bytes:
    """`value` as compact JSON, integers of any size included."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
