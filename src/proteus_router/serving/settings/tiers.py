"""A tier's part of the configuration: its promise, and how that is kept and watched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from proteus_router.errors import InvalidTargetError
from proteus_router.routing.targets import parse_target
from proteus_router.serving.records import BudgetPeriod, Ceiling
from proteus_router.serving.settings.section import Section
from proteus_router.types import Guarantee, OnInfeasible

__all__ = ["AuditSettings", "BudgetSettings", "ExplorationSettings", "TierSettings", "TrackingSettings"]


def _target(value: Any) -> float:
    try:
        return parse_target(value)
    except InvalidTargetError as error:
        raise ValueError(str(error)) from error


class AuditSettings(Section):
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


class TrackingSettings(Section):
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


class ExplorationSettings(Section):
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


class BudgetSettings(Section):
    """What a tier may spend, all its tenants and all gateways on one store together."""

    usd: float = Field(gt=0.0, description="USD in the period.")
    period: BudgetPeriod = Field(description="hour, day or month, UTC.")


class TierSettings(Section):
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
