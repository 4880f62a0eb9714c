"""The gateway's collaborators and what changes while it runs: the live configuration, sessions, who may call."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from proteus_router.errors import (
    AuthenticationError,
    InfeasibleTargetError,
    PermissionDeniedError,
    ProteusError,
)
from proteus_router.routing.router import Router
from proteus_router.serving.app.ask import Ask
from proteus_router.serving.app.live import Live, make_live
from proteus_router.serving.app.sessions import Sessions
from proteus_router.serving.app.shadow import Shadow
from proteus_router.serving.ceilings import Ceilings, FirstBytes, TierBudgets
from proteus_router.serving.clock import Clock
from proteus_router.serving.control import STATES, Control, LoopStorePort
from proteus_router.serving.ids import RandomIds
from proteus_router.serving.records import ApiKey, DecisionRecord, Feedback, PoolModel
from proteus_router.serving.settings import Configuration
from proteus_router.serving.store import FeedbackResult
from proteus_router.serving.telemetry import Metrics, RequestLog, Tracer
from proteus_router.serving.telemetry.metrics import Gauge
from proteus_router.serving.upstream import BreakerState, Reply

__all__ = ["ANONYMOUS", "Gateway", "KeyringPort", "LimitsPort", "StorePort", "UpstreamPort", "is_loopback"]

_log = logging.getLogger(__name__)
ANONYMOUS = ApiKey(id="anonymous", name="anonymous")
"""Whoever calls without a key, where that is allowed; one tenant like any other."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_BREAKER_NUMBERS: Mapping[BreakerState, float] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


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
        self.metrics = Metrics(self._gauges())
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

    def ceilings(self, ask: Ask) -> Ceilings | None:
        """What a request must stay under beside its floor; None: nothing."""
        if ask.tier is None or (ask.max_latency_s is None and ask.tier.budget is None):
            return None
        now = self.clock.monotonic()
        return Ceilings(
            ask.max_latency_s,
            lambda model: self.first_bytes.p95_s(model, now),
            self.budgets.left(ask.tier_name),
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

    def _gauges(self) -> list[Gauge]:
        def one(ask: Callable[[], float]) -> Callable[[], Iterable[tuple[tuple[str, ...], float]]]:
            return lambda: [((), float(ask()))]

        def breakers() -> Iterable[tuple[tuple[str, ...], float]]:
            for entry in self.live.entries.values():
                states = {
                    self.upstream.breaker_state(model)
                    for models in entry.deployments.values()
                    for model in models
                }
                yield (entry.name,), max(_BREAKER_NUMBERS[state] for state in states)

        def floors() -> Iterable[tuple[tuple[str, ...], float]]:
            for name in self.live.tiers:
                yield (name,), _floor_status(self.live, name)

        def states() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, view in self.control.views.items():
                for state in STATES:
                    yield (name, state), float(view.state == state)

        def bounds() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, view in self.control.views.items():
                found = view.certificate.bounds
                for bound, value in (
                    ("lower", found.lower),
                    ("estimate", found.estimate),
                    ("upper", found.upper),
                ):
                    yield (name, bound), value

        def audits() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, view in self.control.views.items():
                yield (name, "open"), float(view.open_audits)
                yield (name, "closed"), float(view.since_reset.bounds.audits)

        def targets() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, view in self.control.views.items():
                if view.tracking is not None:
                    yield (name,), view.tracking.internal_target

        def offsets() -> Iterable[tuple[tuple[str, ...], float]]:
            for name in self.live.entries if self.control.views else ():
                yield (name,), self.control.fold.loop.recalibration.offset_of(name)

        def quarantine() -> Iterable[tuple[tuple[str, ...], float]]:
            for name in self.live.entries if self.control.views else ():
                yield (name,), float(name in self.control.quarantined)

        def shadowed() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, tally in ({} if self.shadow is None else self.shadow.tallies).items():
                yield (name, "same"), float(tally.same_model)
                yield (name, "other"), float(tally.decisions - tally.same_model)
                yield (name, "refused"), float(tally.refused)

        def shadow_costs() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, tally in ({} if self.shadow is None else self.shadow.tallies).items():
                yield (name, "live"), tally.live_cost_usd
                yield (name, "shadow"), tally.shadow_cost_usd

        def first_bytes() -> Iterable[tuple[tuple[str, ...], float]]:
            now = self.clock.monotonic()
            for name in self.first_bytes.models():
                seconds = self.first_bytes.p95_s(name, now)
                if seconds is not None:
                    yield (name,), seconds

        def budgets() -> Iterable[tuple[tuple[str, ...], float]]:
            for name, budget in self.live.budgets.items():
                left = self.budgets.left(name)
                if left is not None:
                    yield (name, "usd"), budget.usd
                    yield (name, "spent"), budget.usd - left.whole_usd
                    yield (name, "paced_left"), left.paced_usd

        return [
            (
                "proteus_shadow_decisions_total",
                "Decisions of the shadow router: the live one's model, another one, or none.",
                ("tier", "model"),
                shadowed,
            ),
            (
                "proteus_shadow_predicted_cost_usd_total",
                "Predicted cost of what each of the two chose, by the shadow's heads.",
                ("tier", "router"),
                shadow_costs,
            ),
            (
                "proteus_model_first_byte_p95_seconds",
                "95% quantile of the time to the first byte over the last minute.",
                ("model",),
                first_bytes,
            ),
            (
                "proteus_tier_budget_usd",
                "Budget of a tier in its period, what is spent of it, what is left by its pace.",
                ("tier", "what"),
                budgets,
            ),
            ("proteus_tier_state", "1 for the state of the live certificate.", ("tier", "state"), states),
            (
                "proteus_tier_mean_score",
                "What the live certificate says of the tier's mean score.",
                ("tier", "bound"),
                bounds,
            ),
            ("proteus_tier_audits", "Audits since the tier's reset.", ("tier", "state"), audits),
            ("proteus_tier_internal_target", "Of tracked tiers.", ("tier",), targets),
            (
                "proteus_model_offset",
                "Added to predicted scores since a change was shown.",
                ("model",),
                offsets,
            ),
            ("proteus_model_quarantined", "1 for a model that gets no requests.", ("model",), quarantine),
            (
                "proteus_inputs_shifted",
                "1 while the last window of texts was unlike the calibration queries.",
                (),
                one(lambda: self.control.inputs_shifted),
            ),
            (
                "proteus_breaker_state",
                "Worst breaker of a model: 0 closed, 1 half open, 2 open.",
                ("model",),
                breakers,
            ),
            (
                "proteus_floor_status",
                "Tier's floor: 2 certified, 1 certified with stale prices, 0 without a certificate, -1 refused.",
                ("tier",),
                floors,
            ),
            (
                "proteus_tier_accuracy_target",
                "Floor of a tier.",
                ("tier",),
                lambda: [((name,), tier.accuracy_target) for name, tier in self.live.tiers.items()],
            ),
            ("proteus_generation", "Reloads plus one.", (), one(lambda: self.live.generation)),
            ("proteus_sessions", "Sessions remembered.", (), one(lambda: len(self.sessions))),
            ("proteus_store_pending", "Decisions not yet committed.", (), one(lambda: self.store.pending)),
            ("proteus_store_lag_seconds", "Age of the oldest of them.", (), one(lambda: self.store.lag_s)),
            ("proteus_store_dropped_total", "Decisions lost.", (), one(lambda: self.store.dropped)),
        ]


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


def _floor_status(live: Live, tier_name: str) -> float:
    tier = live.tiers[tier_name]
    try:
        plan = live.router.plan(
            tier.accuracy_target, guarantee=tier.guarantee, on_infeasible=tier.on_infeasible
        )
    except InfeasibleTargetError:
        return -1.0
    if plan.certificate is None or tier.tracking.enabled:
        return 0.0
    return 1.0 if live.stale_reason else 2.0


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
