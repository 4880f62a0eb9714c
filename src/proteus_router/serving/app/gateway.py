"""The gateway's collaborators and what changes while it runs: the live configuration, sessions, who may call."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from proteus_router.errors import (
    AuthenticationError,
    PermissionDeniedError,
    ProteusError,
)
from proteus_router.routing.router import Router
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.gauges import gauges_of
from proteus_router.serving.app.live import Live, make_live
from proteus_router.serving.app.sessions import Sessions
from proteus_router.serving.app.shadow import Shadow
from proteus_router.serving.ceilings import Ceilings, FirstBytes, TierBudgets
from proteus_router.serving.clock import Clock
from proteus_router.serving.control import Control, LoopStorePort
from proteus_router.serving.ids import RandomIds
from proteus_router.serving.records import ApiKey, DecisionRecord, Feedback, PoolModel
from proteus_router.serving.settings import Configuration
from proteus_router.serving.store import FeedbackResult
from proteus_router.serving.telemetry import Metrics, RequestLog, Tracer
from proteus_router.serving.tenants.budgets import Left
from proteus_router.serving.upstream import BreakerState, Reply

__all__ = ["ANONYMOUS", "Gateway", "KeyringPort", "LimitsPort", "StorePort", "UpstreamPort", "is_loopback"]

_log = logging.getLogger(__name__)
ANONYMOUS = ApiKey(id="anonymous", name="anonymous")
"""Whoever calls without a key, where that is allowed; one tenant like any other."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class StorePort(Protocol):
    """What the endpoints need of the store."""

    @property
    def pending(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def lag_s(self) -> float: ...
    @property
    def loop(self) -> LoopStorePort: ...
    def record(self, decision: DecisionRecord) -> None: ...
    async def decision(self, decision_id: str, *, key_id: str | None) -> DecisionRecord: ...
    async def add_feedback(self, items: Sequence[Feedback]) -> list[FeedbackResult]: ...
    async def create_key(self, key: ApiKey, token_sha256: str) -> None: ...
    async def revoke_key(self, key_id: str) -> ApiKey: ...
    async def list_keys(self) -> list[ApiKey]: ...
    async def healthy(self) -> bool: ...
    async def spent_by_tier(self, since: float) -> dict[str, float]: ...
    async def overview(self, since: float) -> dict[str, Any]: ...


class KeyringPort(Protocol):
    """Who calls."""

    @property
    def keys(self) -> list[ApiKey]: ...
    def authenticate(self, token: str | None, *, admin: bool | None = None) -> ApiKey: ...
    async def refresh(self) -> None: ...


class LimitsPort(Protocol):
    """How much a key may still do."""

    def admit(self, key: ApiKey) -> None: ...
    def remaining_usd(self, key: ApiKey) -> float | None: ...
    def left(self, key: ApiKey) -> Left | None: ...
    def reserve(self, key: ApiKey, usd: float) -> None: ...
    def settle(self, key: ApiKey, *, tokens: int, cost_usd: float, reserved_usd: float = 0.0) -> None: ...


class UpstreamPort(Protocol):
    """Calls the pool's models."""

    def available(self, model: PoolModel) -> bool: ...
    def breaker_state(self, model: PoolModel) -> BreakerState: ...
    async def call(
        self,
        model: PoolModel,
        body: bytes | Mapping[str, object],
        *,
        headers: Mapping[str, str],
        deadline: float,
        stream: bool,
    ) -> Reply: ...


class Gateway:
    """Everything an endpoint is given.

    Parameters
    ----------
    load
        Reads router and configuration anew, for reloads; None: reloads are refused.
    keys_made
        Whether a key was ever made in this store: from then on nobody calls without one, unless the
        configuration says so.
    rng
        Source of the router's coin and of the order of deployments.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        router: Router,
        store: StorePort,
        keyring: KeyringPort,
        limits: LimitsPort,
        upstream: UpstreamPort,
        clock: Clock,
        tracer: Tracer,
        keys_made: bool,
        load: Callable[[], tuple[Configuration, Router]] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.live: Live = make_live(configuration, router)
        self.store, self.keyring, self.limits, self.upstream = store, keyring, limits, upstream
        self.clock, self.tracer, self.rng = clock, tracer, rng or random.Random()
        self.metrics = Metrics(gauges_of(self))
        self.request_log = RequestLog()
        self.control = Control(store.loop, lambda: self.live, clock)  # started by whoever serves
        self.shadow = _shadow_of(configuration, self.rng)
        self.first_bytes = FirstBytes()
        self.budgets = TierBudgets(store, clock, lambda: self.live.budgets)  # started by whoever serves
        self.decision_id: Callable[[], str] = RandomIds("dec_")
        self._new_request_id = RandomIds("req_")
        self.audit_seed = secrets.token_hex(16)  # nobody else can tell which answers are drawn for grading
        self.started_at = clock.wall()
        sessions = configuration.settings.routing.sessions
        self.sessions = Sessions(ttl_s=sessions.ttl_s, max_sessions=sessions.max_sessions)
        self.loopback = is_loopback(configuration.settings.server.host)
        self._keys_made = keys_made
        self._load = load
        self._reloading = asyncio.Lock()
        self._say_warnings()

    def caller(self, headers: Mapping[bytes, bytes], *, admin: bool = False) -> ApiKey:
        """Whoever sent these headers.

        Raises
        ------
        AuthenticationError
            401.
        PermissionDeniedError
            403: a key of the other scope.
        """
        token = _token(headers)
        if admin or not self.anonymous_allowed:
            return self.keyring.authenticate(token, admin=admin)
        if not self.keyring.keys:
            return ANONYMOUS
        try:
            return self.keyring.authenticate(token, admin=False)
        except AuthenticationError:
            return ANONYMOUS

    def reader(self, headers: Mapping[bytes, bytes]) -> tuple[ApiKey, str | None]:
        """Caller of an endpoint that tenants and admins share, and whose records it may see; None: all."""
        try:
            key = self.keyring.authenticate(_token(headers), admin=None)
        except AuthenticationError:
            if not self.anonymous_allowed:
                raise
            key = ANONYMOUS
        return key, None if key.admin else key.id

    def is_operator(self, key_id: str) -> bool:
        """Whether this is whoever calls without a key where there are none: one tenant, and the operator."""
        return key_id == ANONYMOUS.id and not self.keyring.keys

    @property
    def anonymous_allowed(self) -> bool:
        """Whether requests without a known key are served."""
        if not self.loopback:
            return False
        wanted = self.live.settings.auth.anonymous
        if wanted is None:
            self._keys_made = self._keys_made or bool(self.keyring.keys)
            return not self._keys_made
        return wanted

    def allow_metrics(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise `AccessError` unless the caller may read /metrics."""
        public = self.live.settings.observability.metrics_public
        if not (self.loopback if public is None else public):
            self.keyring.authenticate(_token(headers), admin=True)

    def request_id(self, headers: Mapping[bytes, bytes]) -> str:
        """The caller's ``x-request-id`` where it is a harmless one, else a new one."""
        given = headers.get(b"x-request-id", b"")
        if _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return self._new_request_id()

    def ceilings(self, ask: Ask, key: ApiKey, *, streamed: bool) -> Ceilings | None:
        """What a request must stay under beside its floor; None: nothing."""
        if ask.tier is None:
            return None
        lefts = (
            self.budgets.left(ask.tier_name) if ask.tier.budget is not None else None,
            self.limits.left(key) if key.budget_paced else None,
        )
        paced = tuple(left for left in lefts if left is not None)
        if ask.max_latency_s is None and not paced:
            return None
        now, bound = self.clock.monotonic(), ask.max_latency_s
        return Ceilings(
            lambda model: bound is None or self.first_bytes.quick(model, bound, now, streamed=streamed),
            paced,
            ask.tier.precedence,
        )

    async def reload(self) -> Live:
        """Take a new router and configuration; a bad one is refused and the old goes on.

        Raises
        ------
        ProteusError
            What is wrong with the new one.
        """
        async with self._reloading:
            try:
                if self._load is None:
                    raise PermissionDeniedError("this gateway was started without files to reload from.")
                configuration, router = await asyncio.to_thread(self._load)
                fresh = make_live(configuration, router, generation=self.live.generation + 1)
                shadow = await asyncio.to_thread(_shadow_of, configuration, self.rng)
            except ProteusError as error:
                self.metrics.reload("refused")
                _log.error("reload refused, generation %d goes on: %s", self.live.generation, error)
                raise
            fixed = _changed_but_fixed(self.live, fresh)
            self.live, self.shadow = fresh, shadow
            sessions = fresh.settings.routing.sessions
            self.sessions.configure(ttl_s=sessions.ttl_s, max_sessions=sessions.max_sessions)
            self.metrics.reload("done")
            _log.info("reloaded: generation %d, router %s", fresh.generation, fresh.fingerprint[:12])
            if fixed:
                _log.warning("these settings take effect after a restart only: %s", ", ".join(fixed))
            self._say_warnings()
            return fresh

    def _say_warnings(self) -> None:
        for warning in self.live.warnings:
            _log.warning("%s", warning)


def _shadow_of(configuration: Configuration, rng: random.Random) -> Shadow | None:
    settings = configuration.settings
    if settings.shadow.router is None:
        return None
    return Shadow(
        Router.load(settings.shadow.router), min_known_words=settings.routing.min_known_words, rng=rng
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(headers: Mapping[bytes, bytes]) -> str | None:
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip().decode("latin-1")
    given = headers.get(b"x-api-key")
    return None if given is None else given.strip().decode("latin-1")


def _changed_but_fixed(old: Live, new: Live) -> list[str]:
    """Settings that differ and that a running process can't change."""
    before, after = old.settings, new.settings
    pairs = {
        "server.host": (before.server.host, after.server.host),
        "server.port": (before.server.port, after.server.port),
        "server.shutdown_grace_s": (before.server.shutdown_grace_s, after.server.shutdown_grace_s),
        "upstreams.retries": (before.upstreams.retries, after.upstreams.retries),
        "upstreams.breaker": (before.upstreams.breaker, after.upstreams.breaker),
        "auth.refresh_s": (before.auth.refresh_s, after.auth.refresh_s),
        "store": (before.store, after.store),
        "observability.log_level": (before.observability.log_level, after.observability.log_level),
        "observability.log_format": (before.observability.log_format, after.observability.log_format),
        "observability.otel": (before.observability.otel, after.observability.otel),
    }
    return [name for name, (was, will) in pairs.items() if was != will]
