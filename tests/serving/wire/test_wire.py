"""The head of an answer waits for its body, and for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from proteus_router.serving.wire import _Joined

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class FakeTransport:
    """Remembers what each write brought to the wire."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.sent.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> str:
        return name


def _on(transport: FakeTransport) -> _Joined:
    return _Joined(cast(Any, transport), asyncio.get_running_loop())


def test_head_and_body_are_one_write_and_later_parts_their_own() -> None:
    async def run() -> list[bytes]:
        wire = FakeTransport()
        joined = _on(wire)
        for part in (HEAD, b"3\r\nabc\r\n", b"0\r\n\r\n", HEAD, b"whole"):
            joined.write(part)
        return wire.sent

    assert asyncio.run(run()) == [HEAD + b"3\r\nabc\r\n", b"0\r\n\r\n", HEAD + b"whole"]


def test_a_head_whose_body_does_not_come_goes_out_by_itself() -> None:
    async def run() -> None:
        wire = FakeTransport()
        joined = _on(wire)
        joined.write(HEAD)
        assert wire.sent == []
        await asyncio.sleep(0)
        assert wire.sent == [HEAD]
        joined.write(b"later")
        assert wire.sent == [HEAD, b"later"]

    asyncio.run(run())


def test_closing_sends_what_is_held_and_a_lost_connection_gets_nothing() -> None:
    async def run() -> None:
        closed, lost = FakeTransport(), FakeTransport()
        joined = _on(closed)
        joined.write(HEAD)
        joined.close()
        assert (closed.sent, closed.closed) == ([HEAD], True)
        _on(lost).write(HEAD)
        lost.closed = True
        await asyncio.sleep(0)
        assert lost.sent == []

    asyncio.run(run())


def test_everything_else_is_the_transports_own() -> None:
    async def run() -> None:
        assert _on(FakeTransport()).get_extra_info("peername") == "peername"

    asyncio.run(run())
