"""A wire to PostgreSQL that a test can cut, silence, or break at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.engine import make_url

__all__ = ["Proxy", "through_proxy"]


class Proxy:
    """Passes bytes on to a server, in one of several moods.

    Attributes
    ----------
    refusing
        Open connections were cut and new ones are closed at once: the database is gone.
    silent
        Connections stand, nothing passes: a network that swallows packets.
    lose_next_commit
        The next COMMIT reaches the server, its answer does not reach the client.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.lose_next_commit = False
        self.commits_lost = 0

    def cut(self) -> None:
        self.refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.refusing = False
        self._flowing.set()

    def silence(self) -> None:
        self._flowing.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection(*self._address)
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(
                self._pass_on(reader, up_writer, writer), self._pass_on(up_reader, writer, None)
            )
        except ConnectionError:
            pass
        finally:
            for one in (writer, up_writer):
                self._writers.discard(one)
                one.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        while data := await reader.read(65_536):
            await self._flowing.wait()
            if client is not None and self.lose_next_commit and b"COMMIT" in data:
                self.lose_next_commit = False
                self.commits_lost += 1
                client.transport.abort()
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.1)  # the server commits and finds nobody to tell
                return
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def through_proxy(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """The proxy, and `url` changed so that it leads through it."""
    target = make_url(url)
    proxy = Proxy(target.host or "127.0.0.1", target.port or 5432)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
    finally:
        server.close()
        proxy.mend()
        proxy.cut()
        await asyncio.sleep(0)
