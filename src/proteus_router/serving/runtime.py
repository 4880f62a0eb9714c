"""From files to a listening gateway and back: start the collaborators, serve, finish what was begun, flush.

On SIGTERM or SIGINT no new connection is accepted, open requests may go on for ``server.shutdown_grace_s``, and then
every decision is written. SIGHUP reads router and configuration anew.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from proteus_router.errors import ConfigError, ProteusError
from proteus_router.routing.router import Router
from proteus_router.serving.app import Gateway, create_app, is_loopback
from proteus_router.serving.clock import Clock, SystemClock
from proteus_router.serving.settings import Configuration, load_configuration
from proteus_router.serving.store import Store, open_store
from proteus_router.serving.telemetry import configure_logging, make_tracer
from proteus_router.serving.tenants import Keyring, Limits
from proteus_router.serving.upstream import BreakerPolicy, RetryPolicy, UpstreamClient
from proteus_router.serving.wire import GatewayProtocol

__all__ = ["Files", "run_gateway", "serving"]

_log = logging.getLogger(__name__)
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Files:
    """Where a gateway comes from, so that it can be read again."""

    router: Path
    configuration: Path

    def load(self) -> tuple[Configuration, Router]:
        """Read both; raises `ProteusError` where one of them is no good."""
        return load_configuration(self.configuration), Router.load(self.router)


def run_gateway(
    configuration: Configuration,
    router: Router,
    *,
    load: Callable[[], tuple[Configuration, Router]] | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve on ``server.host`` and ``server.port`` until a signal ends it.

    Parameters
    ----------
    load
        Reads both anew on SIGHUP and ``POST /v1/admin/reload``.
    ready
        Gets the address once requests are accepted.

    Raises
    ------
    ConfigError
        It would listen beyond loopback without keys, or the configuration does not fit the router.
    StoreError
        The database can't be reached.
    OSError
        The address is taken.
    """
    observability = configuration.settings.observability
    configure_logging(observability.log_level, observability.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, _quiet_signals():
        runner.run(_run(configuration, router, load, ready))


async def _run(
    configuration: Configuration,
    router: Router,
    load: Callable[[], tuple[Configuration, Router]] | None,
    ready: Callable[[str], None],
) -> None:
    wanted = configuration.settings.server
    async with serving(configuration, router, load=load) as app:
        with _listener(wanted.host, wanted.port) as listener:
            config = uvicorn.Config(
                app,
                http=GatewayProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=max(1, round(wanted.shutdown_grace_s)),
            )
            _reload_on_hangup(app.state.gateway)
            gc.collect()
            gc.freeze()  # what is there now stays: later collections need not walk through it, and pause us less
            await _Server(config, _address(listener), ready).serve(sockets=[listener])
        _log.info("stopped serving; writing what is left")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, address: str, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._address, self._ready = address, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _log.info("listening on %s", self._address)
        self._ready(self._address)


@asynccontextmanager
async def serving(
    configuration: Configuration,
    router: Router,
    *,
    load: Callable[[], tuple[Configuration, Router]] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Starlette]:
    """The application with its collaborators started; at the end of the block they are closed, decisions written."""
    settings, clock = configuration.settings, clock or SystemClock()
    async with AsyncExitStack() as stack:
        store = await _started_store(configuration, clock, stack)
        keyring = Keyring(store, refresh_s=settings.auth.refresh_s, clock=clock)
        await keyring.start()
        stack.push_async_callback(keyring.close)
        if not is_loopback(settings.server.host):
            _refuse_open_doors(settings.server.host, settings.auth.anonymous, len(keyring.keys))
        limits = Limits(store, refresh_s=settings.auth.refresh_s, clock=clock)
        await limits.start()
        stack.push_async_callback(limits.close)
        upstream = UpstreamClient(
            retry=RetryPolicy(**settings.upstreams.retries.model_dump()),
            breaker=BreakerPolicy(**settings.upstreams.breaker.model_dump()),
            clock=clock.monotonic,
        )
        await upstream.start()
        stack.push_async_callback(upstream.close)
        otel = settings.observability.otel
        tracer = make_tracer(otel.endpoint, service_name=otel.service_name, sample_ratio=otel.sample_ratio)
        stack.push_async_callback(asyncio.to_thread, tracer.close)
        app = create_app(
            configuration,
            router=router,
            store=store,
            keyring=keyring,
            limits=limits,
            upstream=upstream,
            clock=clock,
            tracer=tracer,
            keys_made=bool(await store.list_keys()),
            load=load,
        )
        gateway: Gateway = app.state.gateway
        await gateway.budgets.start()
        stack.push_async_callback(gateway.budgets.close)
        stack.push_async_callback(gateway.control.close)
        await gateway.control.start()
        if gateway.anonymous_allowed:
            _log.warning(
                "requests need no key: whoever reaches %s may use this gateway", settings.server.host
            )
        elif not keyring.keys:
            _log.warning("no key exists, so every request will be refused: proteus keys create")
        yield app


async def _started_store(configuration: Configuration, clock: Clock, stack: AsyncExitStack) -> Store:
    wanted = configuration.settings.store
    store = open_store(
        wanted.url,
        flush_interval_s=wanted.flush_interval_s,
        flush_rows=wanted.flush_rows,
        queue_rows=wanted.queue_rows,
        keep_text=wanted.keep_text,
        retention_days=wanted.retention_days,
        clock=clock,
    )
    stack.push_async_callback(store.close)
    await store.start()
    return store


def _refuse_open_doors(host: str, anonymous: bool | None, n_keys: int) -> None:
    if anonymous:
        raise ConfigError(
            f"auth.anonymous: true is for loopback alone, and server.host is {host}.",
            hint="Remove it, and make keys: proteus keys create.",
        )
    if not n_keys:
        raise ConfigError(
            f"refusing to listen on {host}: no API key exists, so anyone could be let in by the first mistake.",
            hint="Make one: proteus keys create. Or listen on 127.0.0.1.",
        )


def _reload_on_hangup(gateway: Gateway) -> None:
    if not hasattr(signal, "SIGHUP"):  # Windows: the admin call is left
        return
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(_reload(gateway))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def _reload(gateway: Gateway) -> None:
    try:
        await gateway.reload()
    except ProteusError:
        return  # said in the log; the old configuration goes on
    except Exception:
        _log.exception("reload failed unexpectedly; the old configuration goes on")


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            error.filename = f"{host}:{port}"
            raise
        listener.listen(_BACKLOG)
        yield listener
    finally:
        listener.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows, or installed without it
        return None
    return uvloop.new_event_loop


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises a signal again once it has stopped; by then there is still the store to be written."""

    def ignore(number: int, frame: FrameType | None) -> None:
        return None

    before = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
