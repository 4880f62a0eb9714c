"""The provider on a real socket: in the foreground for the command line, in a thread for a demo or a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from proteus_router.serving.provider.connections import ConnectionProtocol

__all__ = ["run_provider", "serve_provider"]

_START_S = 30.0


def run_provider(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until interrupted; `ready` gets the address as soon as connections are accepted."""
    with _listener(host, port) as listener:
        if ready is not None:
            ready(_address(listener))
        uvicorn.Server(_config(app)).run(sockets=[listener])


@contextmanager
def serve_provider(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread while the block runs; gives the address, such as ``http://127.0.0.1:40123``."""
    with _listener(host, port) as listener:
        server = uvicorn.Server(_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        _wait_until_started(server, thread)
        try:
            yield _address(listener)
        finally:
            server.should_exit = server.force_exit = True
            thread.join(_START_S)


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(4096)  # a load test opens its connections all at once
        yield listener
    finally:
        listener.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ConnectionProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        backlog=4096,
    )


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    for _ in range(int(_START_S / 0.01)):
        if server.started:
            return
        thread.join(0.01)
        if not thread.is_alive():
            break
    raise RuntimeError("the provider did not start")
