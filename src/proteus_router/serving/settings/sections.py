"""The gateway's configuration as typed sections; `docs/configuration.md` is generated from their fields."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proteus_router.serving.settings.section import Section
from proteus_router.serving.settings.tiers import TierSettings

__all__ = [
    "ENV_PREFIX",
    "AuthSettings",
    "BreakerSettings",
    "ControlSettings",
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
    "TimeoutSettings",
    "UpstreamSettings",
]

ENV_PREFIX = "PROTEUS__"
TextScope = Literal["last_user", "first_user", "all_user", "conversation"]
_TIER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class LimitSettings(Section):
    """What a request may weigh and how long it may take."""

    max_body_bytes: int = Field(default=8_388_608, ge=1_024, description="Longer bodies are answered 413.")
    max_json_depth: int = Field(
        default=100, ge=4, le=500, description="Bodies nested deeper are answered 413."
    )
    deadline_s: float = Field(
        default=600.0, gt=0, description="A request has its answer, or an error, within this time."
    )


class ServerSettings(Section):
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


class SessionSettings(Section):
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


class RoutingSettings(Section):
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


class TimeoutSettings(Section):
    """Patience with one upstream; ``litellm_params.timeout`` and ``stream_timeout`` go before it."""

    connect_s: float = Field(default=5.0, gt=0, description="To connect.")
    first_byte_s: float = Field(default=60.0, gt=0, description="To the first byte of the answer.")
    total_s: float = Field(default=600.0, gt=0, description="To the last byte.")


class RetrySettings(Section):
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


class BreakerSettings(Section):
    """When a model that fails is left alone for a while."""

    in_a_row: int = Field(default=5, ge=1, description="Failures one after the other that open the breaker.")
    of_last: int = Field(default=20, ge=2, description="Or half of so many calls failed.")
    cooldown_s: float = Field(default=5.0, gt=0, description="Time until one call may probe; then doubled.")
    longest_cooldown_s: float = Field(default=120.0, gt=0, description="Longest such time.")


class UpstreamSettings(Section):
    """How upstreams are called."""

    timeouts: TimeoutSettings = TimeoutSettings()
    retries: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()


class AuthSettings(Section):
    """Who may call; keys themselves are kept in the store."""

    anonymous: bool | None = Field(
        default=None,
        description="Serve requests without a key. Unset: on loopback, until the first key is made. Never "
        "possible beyond loopback.",
    )
    refresh_s: float = Field(
        default=2.0, gt=0, description="Keys made or revoked elsewhere take effect within this time."
    )


class StoreSettings(Section):
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


class ControlSettings(Section):
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


class ShadowSettings(Section):
    """A second router beside the live one: it decides after each answer, nothing of it is served, both are compared."""

    router: str | None = Field(default=None, min_length=1, description="Its folder; unset: none.")


class OtelSettings(Section):
    """Traces over OTLP/HTTP; needs ``pip install 'proteus-router[otel]'``. A change needs a restart."""

    endpoint: str | None = Field(
        default=None, description="For example http://collector:4318/v1/traces; unset: no traces."
    )
    service_name: str = Field(default="proteus-gateway", min_length=1, description="``service.name``.")
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of requests traced.")


class ObservabilitySettings(Section):
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
