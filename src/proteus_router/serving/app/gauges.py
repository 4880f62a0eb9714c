"""The gateway's states as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from proteus_router.errors import InfeasibleTargetError
from proteus_router.serving.app.live import Live
from proteus_router.serving.control import STATES
from proteus_router.serving.telemetry.metrics import Gauge
from proteus_router.serving.upstream import BreakerState

if TYPE_CHECKING:
    from proteus_router.serving.app.gateway import Gateway

__all__ = ["gauges_of"]

_BREAKER_NUMBERS: Mapping[BreakerState, float] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


def gauges_of(gateway: Gateway) -> list[Gauge]:
    """What a scrape reads: states of tiers, models, ceilings, shadow and store."""

    def one(ask: Callable[[], float]) -> Callable[[], Iterable[tuple[tuple[str, ...], float]]]:
        return lambda: [((), float(ask()))]

    def breakers() -> Iterable[tuple[tuple[str, ...], float]]:
        for entry in gateway.live.entries.values():
            states = {
                gateway.upstream.breaker_state(model)
                for models in entry.deployments.values()
                for model in models
            }
            yield (entry.name,), max(_BREAKER_NUMBERS[state] for state in states)

    def floors() -> Iterable[tuple[tuple[str, ...], float]]:
        for name in gateway.live.tiers:
            yield (name,), _floor_status(gateway.live, name)

    def states() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, view in gateway.control.views.items():
            for state in STATES:
                yield (name, state), float(view.state == state)

    def bounds() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, view in gateway.control.views.items():
            found = view.certificate.bounds
            for bound, value in (
                ("lower", found.lower),
                ("estimate", found.estimate),
                ("upper", found.upper),
            ):
                yield (name, bound), value

    def audits() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, view in gateway.control.views.items():
            yield (name, "open"), float(view.open_audits)
            yield (name, "closed"), float(view.since_reset.bounds.audits)

    def targets() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, view in gateway.control.views.items():
            if view.tracking is not None:
                yield (name,), view.tracking.internal_target

    def offsets() -> Iterable[tuple[tuple[str, ...], float]]:
        for name in gateway.live.entries if gateway.control.views else ():
            yield (name,), gateway.control.fold.loop.recalibration.offset_of(name)

    def quarantine() -> Iterable[tuple[tuple[str, ...], float]]:
        for name in gateway.live.entries if gateway.control.views else ():
            yield (name,), float(name in gateway.control.quarantined)

    def shadowed() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, tally in ({} if gateway.shadow is None else gateway.shadow.tallies).items():
            yield (name, "same"), float(tally.same_model)
            yield (name, "other"), float(tally.decisions - tally.same_model)
            yield (name, "refused"), float(tally.refused)

    def shadow_costs() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, tally in ({} if gateway.shadow is None else gateway.shadow.tallies).items():
            yield (name, "live"), tally.live_cost_usd
            yield (name, "shadow"), tally.shadow_cost_usd

    def first_bytes() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, streamed, seconds in gateway.first_bytes.known(gateway.clock.monotonic()):
            yield (name, "streamed" if streamed else "whole"), seconds

    def budgets() -> Iterable[tuple[tuple[str, ...], float]]:
        for name, budget in gateway.live.budgets.items():
            left = gateway.budgets.left(name)
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
            "95% quantile of the time to the first byte over the last minute, of streamed and of whole answers.",
            ("model", "answer"),
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
            one(lambda: gateway.control.inputs_shifted),
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
            lambda: [((name,), tier.accuracy_target) for name, tier in gateway.live.tiers.items()],
        ),
        ("proteus_generation", "Reloads plus one.", (), one(lambda: gateway.live.generation)),
        ("proteus_sessions", "Sessions remembered.", (), one(lambda: len(gateway.sessions))),
        ("proteus_store_pending", "Decisions not yet committed.", (), one(lambda: gateway.store.pending)),
        ("proteus_store_lag_seconds", "Age of the oldest of them.", (), one(lambda: gateway.store.lag_s)),
        ("proteus_store_dropped_total", "Decisions lost.", (), one(lambda: gateway.store.dropped)),
    ]


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
