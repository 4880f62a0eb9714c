"""What a reload replaces as a whole: settings, router, and the pool bound to the router's models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proteus_router.errors import ConfigError, InfeasibleTargetError
from proteus_router.routing.router import Plan, Router
from proteus_router.serving.records import ApiShape, PoolModel
from proteus_router.serving.settings import BudgetSettings, Configuration, GatewaySettings, TierSettings

__all__ = ["Live", "PoolEntry", "make_live"]

_MOST_CERTIFICATES = 10_000


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One name of the pool, and the upstreams behind it.

    Attributes
    ----------
    index
        Its place among the router's models; a newcomer's comes after them.
    deployments
        Upstreams by shape; several of one shape share the load.
    usd_per_token
        Input and output price together; what tells names that run the same model apart.
    """

    name: str
    index: int
    deployments: Mapping[ApiShape, tuple[PoolModel, ...]]
    usd_per_token: float


@dataclass(frozen=True, slots=True)
class Live:
    """One generation of the gateway's configuration; a request keeps the one it began with.

    Attributes
    ----------
    router
        Limited to the models that the pool offers.
    entries
        By public name, in the order of the configuration.
    newcomers
        Likewise, of the models that the router does not know yet; their places come after those of the router's.
    by_index
        For each of the router's models the entries that run it, the cheapest first.
    stale_reason
        Why the certificates' costs no longer fit the billing prices, or "".
    warnings
        What an operator should know; logged at start and after a reload.
    generation
        1, 2, ...
    """

    settings: GatewaySettings
    router: Router
    entries: Mapping[str, PoolEntry]
    newcomers: Mapping[str, PoolEntry]
    by_index: tuple[tuple[PoolEntry, ...], ...]
    stale_reason: str
    warnings: tuple[str, ...]
    generation: int
    fingerprint: str
    _certificates: dict[int, tuple[Plan, dict[str, Any]]] = field(default_factory=dict, repr=False)

    @property
    def budgets(self) -> dict[str, BudgetSettings]:
        """By tier, where there is one."""
        return {name: tier.budget for name, tier in self.tiers.items() if tier.budget is not None}

    def entry(self, name: str) -> PoolEntry | None:
        """By public name, newcomers too."""
        return self.entries.get(name) or self.newcomers.get(name)

    def certificate_of(self, plan: Plan) -> dict[str, Any] | None:
        """The plan's certificate as JSON-able values, ``stale`` or not; made once a plan, so don't change it."""
        if plan.certificate is None:
            return None
        known = self._certificates.get(id(plan))
        if known is None or known[0] is not plan:
            stale = {"stale": bool(self.stale_reason), "stale_reason": self.stale_reason or None}
            known = plan, {**plan.certificate.to_dict(), **stale}
            if len(self._certificates) < _MOST_CERTIFICATES:  # callers may ask for arbitrary floats
                self._certificates[id(plan)] = known
        return known[1]

    @property
    def tiers(self) -> Mapping[str, TierSettings]:
        return self.settings.tiers


def make_live(configuration: Configuration, router: Router, *, generation: int = 1) -> Live:
    """Bind a pool to a router.

    Raises
    ------
    ConfigError
        A pool entry maps to no model of the router and is no newcomer, or entries of one name disagree.
    """
    grouped: dict[str, list[PoolModel]] = {}
    for model in configuration.pool:
        grouped.setdefault(model.name, []).append(model)
    warnings = list(configuration.warnings)
    new = _newcomers(configuration.settings, grouped, router.models, warnings)
    entries = {
        name: _entry(name, models, router.models) for name, models in grouped.items() if name not in new
    }
    offered = {entry.index for entry in entries.values()}
    missing = [name for index, name in enumerate(router.models) if index not in offered]
    if missing:
        router = router.with_pool(models=[router.models[index] for index in sorted(offered)])
        warnings.append(
            f"the pool offers no {', '.join(missing)}: the router chose among them when it was certified, so its "
            "certificates do not hold."
        )
    newcomers = {
        name: replace(
            _entry(name, grouped[name], [grouped[name][0].proteus_model]), index=len(router.models) + at
        )
        for at, name in enumerate(new)
    }
    for name, entry in newcomers.items():
        if not math.isfinite(entry.usd_per_token):
            raise ConfigError(
                f"model_list: {name!r} has no prices, and nothing else tells what a newcomer costs.",
                hint="Set model_info.input_cost_per_token and output_cost_per_token.",
            )
    by_index = tuple(
        tuple(sorted((e for e in entries.values() if e.index == index), key=lambda e: e.usd_per_token))
        for index in range(len(router.models))
    )
    stale = _stale_reason(configuration, router)
    if stale:
        warnings.append(f"certificates are stale: {stale}")
    return Live(
        settings=configuration.settings,
        router=router,
        entries=entries,
        newcomers=newcomers,
        by_index=by_index,
        stale_reason=stale,
        warnings=(*warnings, *_tier_warnings(configuration.settings, router)),
        generation=generation,
        fingerprint=router.target_map.policy_fingerprint,
    )


def _entry(name: str, models: Sequence[PoolModel], known: Sequence[str]) -> PoolEntry:
    meant = {model.proteus_model for model in models}
    if len(meant) > 1:
        raise ConfigError(
            f"model_list: the entries named {name!r} run different models: {', '.join(sorted(meant))}.",
            hint="Entries of one name share the load of one model; give them the same model_info.proteus_model.",
        )
    wanted = meant.pop()
    if wanted not in known:
        raise ConfigError(
            f"model_list: {name!r} is to run {wanted!r}, which the router does not know.",
            hint=f"Set model_info.proteus_model to one of {', '.join(known)}, take the entry out, or name it in a tier's "
            "exploration.newcomers to learn of it.",
        )
    deployments: dict[ApiShape, tuple[PoolModel, ...]] = {}
    for model in models:
        deployments[model.api] = (*deployments.get(model.api, ()), model)
    price = min(model.input_usd_per_token + model.output_usd_per_token for model in models)
    return PoolEntry(
        name, list(known).index(wanted), deployments, price if math.isfinite(price) else math.inf
    )


def _newcomers(
    settings: GatewaySettings,
    grouped: Mapping[str, Sequence[PoolModel]],
    known: Sequence[str],
    warnings: list[str],
) -> list[str]:
    """Names of the pool that some tier is to try and the router does not know."""
    found: dict[str, None] = {}
    for tier, asked in settings.tiers.items():
        for name in asked.exploration.newcomers:
            if name not in grouped:
                raise ConfigError(
                    f"tiers.{tier}.exploration.newcomers names {name!r}, which model_list does not have.",
                    hint=f"It has {', '.join(grouped)}.",
                )
            if grouped[name][0].proteus_model in known:
                warnings.append(f"tier {tier}: {name} is known to the router by now, no newcomer any more.")
            else:
                found[name] = None
    return list(found)


def _stale_reason(configuration: Configuration, router: Router) -> str:
    """Which models are billed otherwise than the artifact's outcomes cost, by more than the tolerance."""
    tolerance, apart = configuration.settings.routing.price_tolerance, []
    artifact = {entry["name"]: entry for entry in router.manifest.get("models", ())}
    for model in {model.name: model for model in configuration.pool}.values():
        known = artifact.get(model.proteus_model, {})
        inputs, outputs = known.get("mean_input_tokens"), known.get("mean_output_tokens")
        if inputs is None or outputs is None or math.isnan(model.input_usd_per_token):
            continue
        billed = inputs * model.input_usd_per_token + outputs * model.output_usd_per_token
        ratio = billed / known["mean_cost_usd"]
        if abs(ratio - 1.0) > tolerance:
            apart.append(f"{model.name} is billed {ratio:.2f} times what the artifact says")
    return "; ".join(apart) + ("; train again with today's prices." if apart else "")


def _tier_warnings(settings: GatewaySettings, router: Router) -> list[str]:
    warnings = []
    for name, tier in settings.tiers.items():
        try:
            plan = router.plan(
                tier.accuracy_target, guarantee=tier.guarantee, on_infeasible=tier.on_infeasible
            )
        except InfeasibleTargetError as error:
            best = "" if error.best_certified is None else f" The best that can is {error.best_certified:g}."
            warnings.append(f"tier {name}: every request will be refused (422). {error.message}{best}")
            continue
        target = plan.mix.internal_target
        if tier.exploration.newcomers and not tier.tracking.enabled and target <= tier.accuracy_target:
            warnings.append(
                f"tier {name}: newcomers are not tried, because it is served at {target:.4f} and so has no room above "
                "its floor for answers that may be wrong."
            )
        if tier.guarantee == "certified" and plan.certificate is None:
            warnings.append(f"tier {name}: served without a certificate. {plan.reason}")
    return warnings
