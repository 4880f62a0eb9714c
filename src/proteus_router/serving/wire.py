"""uvicorn's HTTP protocol, improved in two places.

The head of an answer and what follows it are one write: uvicorn writes them one after the other, and each write is a
system call, a packet, and a reader that wakes up for it. And a client that connects and does not send the head of a
request is not waited for without end.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["GatewayProtocol"]

_HEAD = b"HTTP/1.1 "


class GatewayProtocol(HttpToolsProtocol):
    """What the gateway is served with.

    Attributes
    ----------
    head_s
        Time for a new connection to say something, and for the head of a request to be complete once begun.
    """

    head_s: ClassVar[float] = 30.0
    _in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Joined(transport, self.loop)))
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and self._patience is None:  # most heads come in one piece
            self._be_patient()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._be_calm()
        super().on_headers_complete()

    def _be_patient(self) -> None:
        self._patience = self.loop.call_later(self.head_s, self._hang_up)

    def _be_calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:  # it has an answer to take first
            self._be_patient()
        elif not self.transport.is_closing():
            self.transport.close()


class _Joined:
    """A transport that is written to less often: a head waits for its body, one turn of the loop at most."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        """An answer without a body, or one that takes its time."""
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
