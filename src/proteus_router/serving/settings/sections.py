"""The gateway's configuration as typed sections; `docs/configuration.md` is generated from their fields."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proteus_router.errors import InvalidTargetError
from proteus_router.routing.targets import parse_target
from proteus_router.serving.records import BudgetPeriod, Ceiling
from proteus_router.types import Guarantee, OnInfeasible

__all__ = [
    "ENV_PREFIX",
    "AuditSettings",
    "AuthSettings",
    "BreakerSettings",
    "BudgetSettings",
    "ControlSettings",
    "ExplorationSettings",
    "GatewaySettings",
    "LimitSettings",
    "ObservabilitySettings",
    "OtelSettings",
    "RetrySettings",
    "RoutingSettings",
    "ServerSettings",
    "SessionSettings",
    "ShadowSettings",
    "StoreSettings",
    "TierSettings",
    "TimeoutSettings",
    "TrackingSettings",
    "UpstreamSettings",
]

ENV_PREFIX = "PROTEUS__"
TextScope = Literal["last_user", "first_user", "all_user", "conversation"]
_TIER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LimitSettings(_Section):
    """What a request may weigh and how long it may take."""

    max_body_bytes: int = Field(default=8_388_608, ge=1_024, description="Longer bodies are answered 413.")
    max_json_depth: int = Field(
        default=100, ge=4, le=500, description="Bodies nested deeper are answered 413."
    )
    deadline_s: float = Field(
        default=600.0, gt=0, description="A request has its answer, or an error, within this time."
    )


class ServerSettings(_Section):
    """Where the gateway listens; a change needs a restart."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; beyond loopback keys are needed.",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    shutdown_grace_s: float = Field(
        default=30.0, ge=0, description="On SIGTERM open requests may go on for so long."
    )
    limits: LimitSettings = LimitSettings()


def _target(value: Any) -> float:
    try:
        return parse_target(value)
    except InvalidTargetError as error:
        raise ValueError(str(error)) from error


class AuditSettings(_Section):
    """Which of a tier's answers are drawn for grading: the evidence of its live certificate."""

    share: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the tier's answers drawn; 0: none, no live certificate.",
    )
    min_per_day: int = Field(
        default=0,
        ge=0,
        description="Draw so many a day where `share` would bring fewer: the share of a rare tier is raised, to 1 at most.",
    )
    evenness: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Which part of an even share of the audits each model gets at least: answers of a seldom asked "
        "one are drawn more often, so audits grow by this part at most.",
    )
    keep_text: bool = Field(
        default=False, description="Store prompt and answer of the answers drawn, for those who grade them."
    )
    graders: Literal["anyone", "admins"] = Field(
        default="anyone",
        description="Whose scores count: also those that tenants give their own requests, or those sent with an admin "
        "key alone.",
    )
    window: int = Field(
        default=4_000,
        ge=100,
        description="Requests that the recent certificate speaks of, beside the one since the reset.",
    )
    scope: Literal["since_reset", "recent"] = Field(
        default="since_reset",
        description="Which of the two is the tier's state in headers, metrics and webhooks.",
    )


class TrackingSettings(_Section):
    """Steer a tier back to its floor by what its audits say; the offline certificate does not cover it then."""

    enabled: bool = Field(
        default=False, description="Move the internal target, and correct predicted scores."
    )
    width: float = Field(
        default=0.025,
        gt=0.0,
        lt=1.0,
        description="Shortfall that is put up with, as a fraction; decides which share of audits is called enough.",
    )
    horizon: int = Field(
        default=5_000,
        ge=1,
        description="Requests of the tier within which a change must have been made good.",
    )


class ExplorationSettings(_Section):
    """Answers of other models than the chosen one, so that there is something to learn from."""

    share: float = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description="Share of the tier's requests given to a model drawn from those whose predicted scores leave the "
        "tier's predicted mean at its floor or above; 0: none.",
    )
    newcomers: tuple[str, ...] = Field(
        default=(),
        description="Names in `model_list` of models that the router does not know yet. While there are any they are what "
        "is tried, as often as the floor holds though they all be wrong, and every try is drawn for grading; "
        "`proteus pool add` then takes them in. Needs `audits.share` and `audits.keep_text`.",
    )


class BudgetSettings(_Section):
    """What a tier may spend, all its tenants and all gateways on one store together."""

    usd: float = Field(gt=0.0, description="USD in the period.")
    period: BudgetPeriod = Field(description="hour, day or month, UTC.")


class TierSettings(_Section):
    """One promise a client may name: ``model: "proteus/<tier>"``."""

    accuracy_target: Annotated[float, BeforeValidator(_target)] = Field(
        description="The floor: required mean score, a fraction in (0, 1)."
    )
    guarantee: Guarantee = Field(
        default="certified",
        description="certified: with a certificate; expected: the estimate without a margin.",
    )
    on_infeasible: OnInfeasible = Field(
        default="reject",
        description="Where the floor can't be certified, or no model fit to keep it is left: refuse, or serve "
        "the best there is and say so.",
    )
    max_latency_s: float | None = Field(
        default=None,
        gt=0.0,
        description="Models whose 95% quantile of the time to the first byte, over the last minute, is longer are left.",
    )
    budget: BudgetSettings | None = Field(
        default=None, description="Spend of the tier, paced over the period; unset: none."
    )
    precedence: tuple[Ceiling, ...] = Field(
        default=("accuracy", "latency", "budget"),
        description="When they can't all hold, the last one gives way first, and the reply says which did.",
    )
    exploration: ExplorationSettings = ExplorationSettings()
    audits: AuditSettings = AuditSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _orders_all_three(self) -> TierSettings:
        if sorted(self.precedence) != ["accuracy", "budget", "latency"]:
            raise ValueError("precedence must name accuracy, latency and budget, each once")
        return self

    @model_validator(mode="after")
    def _learns_of_newcomers(self) -> TierSettings:
        tried = self.exploration
        if tried.newcomers and not (tried.share and self.audits.share and self.audits.keep_text):
            raise ValueError(
                "exploration.newcomers needs exploration.share and audits.share above 0, and audits.keep_text: nothing "
                "would be learned of them"
            )
        return self

    @model_validator(mode="after")
    def _can_be_tracked(self) -> TierSettings:
        if self.tracking.enabled and not self.audits.share:
            raise ValueError("tracking needs audits: set audits.share above 0")
        return self


class SessionSettings(_Section):
    """How the turns of one conversation are recognised, so that they stay on one model."""

    header: str = Field(
        default="x-proteus-session-id", min_length=1, description="Request header that names a session."
    )
    derive: bool = Field(
        default=True, description="Without the header: recognise a conversation by its first messages."
    )
    ttl_s: float = Field(default=3_600.0, gt=0, description="A session is forgotten after so long a silence.")
    max_sessions: int = Field(
        default=100_000, ge=0, description="Sessions remembered, the latest; 0: none, no stickiness."
    )


class RoutingSettings(_Section):
    """What the router reads of a request."""

    text: TextScope = Field(
        default="last_user",
        description="Which text is encoded: the last user message with text, the first, all of them, or the "
        "whole conversation with its instructions.",
    )
    max_text_chars: int = Field(
        default=20_000, ge=100, description="Of a longer text its first and last halves are encoded."
    )
    min_known_words: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="A text with a smaller share of words known from training goes to the most accurate "
        "operating point.",
    )
    price_tolerance: float = Field(
        default=0.10,
        gt=0.0,
        description="Billing prices further from the artifact's costs than this share make certificates stale.",
    )
    sessions: SessionSettings = SessionSettings()


class TimeoutSettings(_Section):
    """Patience with one upstream; ``litellm_params.timeout`` and ``stream_timeout`` go before it."""

    connect_s: float = Field(default=5.0, gt=0, description="To connect.")
    first_byte_s: float = Field(default=60.0, gt=0, description="To the first byte of the answer.")
    total_s: float = Field(default=600.0, gt=0, description="To the last byte.")


class RetrySettings(_Section):
    """Repeated calls to one upstream, only before its first byte."""

    attempts: int = Field(default=3, ge=1, le=10, description="Calls to one model for one request.")
    first_wait_s: float = Field(default=0.2, gt=0, description="First pause; doubled each time, jittered.")
    longest_wait_s: float = Field(default=2.0, gt=0, description="Longest pause.")
    longest_retry_after_s: float = Field(
        default=5.0, ge=0, description="A longer `Retry-After` is not waited for: another model is asked."
    )
    budget_share: float = Field(
        default=0.2, ge=0, le=1, description="Retries allowed, as a share of the calls to a model."
    )
    budget_reserve: float = Field(
        default=10.0, ge=1, description="Retries allowed beyond that after a time without any."
    )


class BreakerSettings(_Section):
    """When a model that fails is left alone for a while."""

    in_a_row: int = Field(default=5, ge=1, description="Failures one after the other that open the breaker.")
    of_last: int = Field(default=20, ge=2, description="Or half of so many calls failed.")
    cooldown_s: float = Field(default=5.0, gt=0, description="Time until one call may probe; then doubled.")
    longest_cooldown_s: float = Field(default=120.0, gt=0, description="Longest such time.")


class UpstreamSettings(_Section):
    """How upstreams are called."""

    timeouts: TimeoutSettings = TimeoutSettings()
    retries: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()


class AuthSettings(_Section):
    """Who may call; keys themselves are kept in the store."""

    anonymous: bool | None = Field(
        default=None,
        description="Serve requests without a key. Unset: on loopback, until the first key is made. Never "
        "possible beyond loopback.",
    )
    refresh_s: float = Field(
        default=2.0, gt=0, description="Keys made or revoked elsewhere take effect within this time."
    )


class StoreSettings(_Section):
    """Where decisions, feedback and keys are kept; a change needs a restart."""

    url: str = Field(
        default="sqlite:///proteus-gateway.db",
        min_length=1,
        repr=False,
        description="``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.",
    )
    flush_interval_s: float = Field(
        default=0.5,
        gt=0,
        description="Decisions wait at most so long; `kill -9` loses at most those of two such intervals.",
    )
    flush_rows: int = Field(default=500, ge=1, description="Decisions written together at most.")
    queue_rows: int = Field(
        default=20_000, ge=1, description="Decisions kept while the database is gone; later ones are dropped."
    )
    keep_text: bool = Field(default=False, description="Store prompts and answers too.")
    retention_days: int | None = Field(
        default=None, ge=1, description="Delete older decisions and feedback; unset: keep all."
    )


class ControlSettings(_Section):
    """The closed loop over the tiers' audits: docs/closed-loop.md."""

    refresh_s: float = Field(
        default=1.0, gt=0, description="New scores count, here and in other gateways, within this time."
    )
    on_collapse: Literal["alarm", "quarantine"] = Field(
        default="alarm",
        description="A model scores more than 25 points below its predictions: say so, or also send it no requests "
        "until an admin releases it.",
    )
    webhook_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        repr=False,
        description="Gets a POST when a tier's state changes; nothing secret is in it.",
    )


class ShadowSettings(_Section):
    """A second router beside the live one: it decides after each answer, nothing of it is served, both are compared."""

    router: str | None = Field(default=None, min_length=1, description="Its folder; unset: none.")


class OtelSettings(_Section):
    """Traces over OTLP/HTTP; needs ``pip install 'proteus-router[otel]'``. A change needs a restart."""

    endpoint: str | None = Field(
        default=None, description="For example http://collector:4318/v1/traces; unset: no traces."
    )
    service_name: str = Field(default="proteus-gateway", min_length=1, description="``service.name``.")
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of requests traced.")


class ObservabilitySettings(_Section):
    """Logs, metrics, traces. None of them holds prompt text or keys."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="info logs one line a request; warning only what needs attention."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="One JSON object a line, or text."
    )
    metrics_public: bool | None = Field(
        default=None,
        description="Serve /metrics without an admin key. Unset: on loopback.",
    )
    otel: OtelSettings = OtelSettings()


class GatewaySettings(BaseSettings):
    """The whole of `proteus.yaml`.

    An environment variable ``PROTEUS__SERVER__PORT=9000`` wins over the file's ``server.port``.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    model_list: tuple[dict[str, Any], ...] = Field(
        min_length=1, repr=False, description="The pool, in LiteLLM's shape; see below."
    )
    tiers: dict[str, TierSettings] = Field(min_length=1, description="Tier name -> its floor.")
    default_tier: str | None = Field(
        default=None, description="Tier of ``model: proteus``; may be left out where there is one tier."
    )
    server: ServerSettings = ServerSettings()
    routing: RoutingSettings = RoutingSettings()
    upstreams: UpstreamSettings = UpstreamSettings()
    auth: AuthSettings = AuthSettings()
    store: StoreSettings = StoreSettings()
    control: ControlSettings = ControlSettings()
    shadow: ShadowSettings = ShadowSettings()
    observability: ObservabilitySettings = ObservabilitySettings()

    @model_validator(mode="after")
    def _tiers_fit(self) -> GatewaySettings:
        for name in self.tiers:
            if not _TIER_NAME.fullmatch(name):
                raise ValueError(
                    f"tier {name!r}: a name is made of letters, digits, '.', '_' and '-', at most 64 of them"
                )
        if self.default_tier is None and len(self.tiers) > 1:
            raise ValueError(f"default_tier is missing: one of {', '.join(self.tiers)}")
        if self.default_tier is not None and self.default_tier not in self.tiers:
            raise ValueError(
                f"default_tier {self.default_tier!r} is not a tier; there are {', '.join(self.tiers)}"
            )
        return self

    @property
    def server_tier(self) -> str:
        """Name of the tier that serves where neither caller nor key names one."""
        return self.default_tier or next(iter(self.tiers))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings
