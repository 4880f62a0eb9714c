"""What an ASGI application can't do to its connection: drop it half-way, or reset it.

`ConnectionProtocol` is uvicorn's own HTTP protocol with the transport put into the scope.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["ConnectionProtocol", "abort", "hang_up"]

_KEY = "proteus.transport"


class ConnectionProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose requests know their transport."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_KEY: {"transport": self.transport}}


async def hang_up(scope: Scope, gone: asyncio.Future[None]) -> None:
    """Close the connection as it stands: an answer that announced more ends in the middle."""
    _transport(scope).close()
    await gone


async def abort(scope: Scope, gone: asyncio.Future[None]) -> None:
    """Reset the connection: the peer gets an error instead of an end."""
    transport = _transport(scope)
    handle = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    try:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        handle.close()
    transport.abort()
    await gone


def _transport(scope: Scope) -> asyncio.Transport:
    extension: dict[str, Any] | None = (scope.get("extensions") or {}).get(_KEY)
    if extension is None:
        raise RuntimeError(
            "this fault needs the provider's own server (`proteus provider`, or serve_provider)"
        )
    transport: asyncio.Transport = extension["transport"]
    return transport
