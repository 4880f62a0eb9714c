"""A load generator that costs little: HTTP/1.1 over raw asyncio, prepared requests, closed loop.

It shares the cores with what it measures, so it does no more than a client must: write the bytes, find the end of the
answer, look at its status and, of a stream, at its last event. One call of `drive` keeps `concurrency` connections
busy, each with one request at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

__all__ = ["Sample", "drive", "prepared"]

_TAIL = 128  # bytes kept of a stream's end: the last event and the end of the chunks
_STUCK_S = 120.0  # an answer that takes longer counts as an error


@dataclass(slots=True)
class Sample:
    """What one stretch of load saw.

    Attributes
    ----------
    latencies_s, first_byte_s
        Of each good answer: from the request's last byte to the last, and to the first, byte of the answer.
    errors
        Answers that were not 200, not whole, or (streams) without their last event; what was wrong -> how often.
    seconds, cpu_s
        From the first request to the last answer; processor time of the system meanwhile, set by the caller.
    """

    latencies_s: list[float] = field(default_factory=list)
    first_byte_s: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def failed(self, why: str) -> None:
        self.errors[why] = self.errors.get(why, 0) + 1


def prepared(
    address: str, path: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str]
) -> list[bytes]:
    """The bytes of one request for each body."""
    parts = urlsplit(address)
    requests = []
    for body in bodies:
        content = json.dumps(body).encode()
        lines = {
            "host": parts.netloc,
            "content-type": "application/json",
            "content-length": f"{len(content)}",
            **headers,
        }
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines.items())
        requests.append(head.encode("latin-1") + b"\r\n" + content)
    return requests


async def drive(
    address: str,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    seconds: float,
    stream: bool = False,
    sample: Sample | None = None,
) -> Sample:
    """Ask for `seconds` with `concurrency` connections, then wait for the answers under way.

    Parameters
    ----------
    sample
        Where to count; a caller who passes one can look at it meanwhile.
    """
    parts, seen = urlsplit(address), sample or Sample()
    source = itertools.cycle(requests)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    until = started + seconds

    async def one() -> None:
        while time.perf_counter() < until:
            client = _Client(source, seen, until, stream, loop.create_future())
            try:
                await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)  # type: ignore[misc]
            except OSError as error:
                seen.failed(f"no connection: {error.strerror}")
                await asyncio.sleep(0.05)
                continue
            await _ended(client, until)

    await asyncio.gather(*(one() for _ in range(concurrency)))
    seen.seconds += time.perf_counter() - started
    return seen


async def _ended(client: _Client, until: float) -> None:
    """Until the connection is done; one that is stuck long after `until` is given up."""
    left_s = max(0.0, until - time.perf_counter()) + _STUCK_S
    try:
        async with asyncio.timeout(left_s):
            await client.done
    except TimeoutError:
        client.give_up("no answer in time")


class _Client(asyncio.Protocol):
    """One connection: sends a request, reads its answer, sends the next."""

    def __init__(
        self, source: Iterator[bytes], sample: Sample, until: float, stream: bool, done: asyncio.Future[None]
    ) -> None:
        self._source, self._sample, self._until, self._stream = source, sample, until, stream
        self.done = done
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._sent = self._first = 0.0
        self._head = b""
        self._in_body = False
        self._status = 0
        self._left: int | None = None  # bytes of the body still to come; None: chunked
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._next()

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            if not self._head:
                self._first = time.perf_counter()
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            data = self._begin_body(self._head[: end + 2].lower(), self._head[end + 4 :])
        if self._left is not None:
            self._left -= len(data)
            if self._left <= 0:
                self._finished()
            return
        self._tail = (self._tail + data)[-_TAIL:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            self._finished()

    def connection_lost(self, error: Exception | None) -> None:
        if self._busy:
            self.give_up("connection lost")
        elif not self.done.done():
            self.done.set_result(None)

    def give_up(self, why: str) -> None:
        self._busy = False
        self._sample.failed(why)
        self._close()

    def _next(self) -> None:
        assert self._transport is not None
        if time.perf_counter() >= self._until:
            self._close()
            return
        self._busy, self._in_body, self._head, self._tail = True, False, b"", b""
        self._transport.write(next(self._source))
        self._sent = time.perf_counter()

    def _begin_body(self, head: bytes, rest: bytes) -> bytes:
        self._in_body = True
        self._status = int(head[9:12])
        at = head.find(b"\r\ncontent-length:")
        self._left = None if at < 0 else int(head[at + 17 : head.index(b"\r\n", at + 2)])
        return rest

    def _finished(self) -> None:
        self._busy = False
        now = time.perf_counter()
        if self._status != 200:
            self._sample.failed(f"HTTP {self._status}")
        elif self._stream and b"[DONE]" not in self._tail:
            self._sample.failed("a stream without its end")
        else:
            self._sample.latencies_s.append(now - self._sent)
            self._sample.first_byte_s.append(self._first - self._sent)
        self._next()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if not self.done.done():
            self.done.set_result(None)
