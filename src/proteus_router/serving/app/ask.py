"""What a caller asks for: which tier or model, at which floor, within which bounds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proteus_router.errors import InvalidRequestError, UnknownModelError
from proteus_router.routing.targets import parse_target
from proteus_router.serving.app.live import Live
from proteus_router.serving.records import ApiKey
from proteus_router.serving.settings import TierSettings
from proteus_router.serving.tenants import require_model, require_target, require_tier

__all__ = ["ALIAS", "TARGET_HEADER", "Ask", "read_ask"]

ALIAS = "proteus"
TARGET_HEADER = b"x-proteus-accuracy-target"
_MOST_USD = 1e9
_MOST_SECONDS = 1e6
_OPTIONS = ("accuracy_target", "max_cost_usd", "max_latency_s", "models", "task")
_MOST_TASK_CHARS = 64


@dataclass(frozen=True, slots=True)
class Ask:
    """One request's wishes, checked against the configuration and the key.

    Attributes
    ----------
    requested
        ``model`` as the caller wrote it.
    direct
        Name of the pool's model that was asked for itself, or None: the router chooses.
    tier_name, tier, accuracy_target
        None where a model was named.
    target_source
        Who set the target: ``body``, ``header``, ``tier``, ``key`` or ``server``.
    models
        The pool names this request may be served by; None: all.
    max_latency_s
        Bound on a model's usual time to its first byte: the caller's, else the tier's.
    task
        What kind of request it is, in the caller's words; it changes nothing, but scores are watched by task too.
    """

    requested: str
    direct: str | None
    tier_name: str | None
    tier: TierSettings | None
    accuracy_target: float | None
    target_source: str
    max_cost_usd: float | None
    models: frozenset[str] | None
    task: str | None = None
    max_latency_s: float | None = None


def read_ask(live: Live, key: ApiKey, body: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Ask:
    """Resolve model name, tier and target: body over header over tier over key over server default.

    Raises
    ------
    InvalidRequestError, InvalidTargetError
        400: a field is of another type than documented.
    UnknownModelError
        404: no such model or tier.
    PermissionDeniedError
        403: the key does not allow it.
    """
    requested = body.get("model")
    if not isinstance(requested, str) or not requested:
        raise InvalidRequestError(
            "model is missing.", hint=f'Send "model": "{ALIAS}", or a name of GET /v1/models.'
        )
    options = _options(body)
    if requested in live.entries:
        if options:
            raise InvalidRequestError(
                f"{requested!r} names a model, so there is nothing for the field 'proteus' to decide.",
                hint=f'Send "model": "{ALIAS}" to let the router choose.',
            )
        require_model(key, requested)
        return Ask(requested, requested, None, None, None, "", None, None)
    tier_name, source = _tier(live, key, requested)
    require_tier(key, tier_name)
    tier = live.tiers[tier_name]
    target = tier.accuracy_target
    override = options.get("accuracy_target")
    if override is not None:
        target, source = parse_target(override), "body"
    elif TARGET_HEADER in headers:
        target, source = parse_target(headers[TARGET_HEADER].decode("latin-1")), "header"
    if source in ("body", "header"):
        require_target(key, target)
    return Ask(
        requested=requested,
        direct=None,
        tier_name=tier_name,
        tier=tier,
        accuracy_target=target,
        target_source=source,
        max_cost_usd=_max_cost(options.get("max_cost_usd")),
        models=_models(live, key, options.get("models")),
        task=_task(options.get("task")),
        max_latency_s=_max_latency(options.get("max_latency_s"), tier),
    )


def _tier(live: Live, key: ApiKey, requested: str) -> tuple[str, str]:
    """The tier's name, and who chose it."""
    if requested == ALIAS:
        if key.tier is None:
            return live.settings.server_tier, "server"
        if (
            key.tier not in live.tiers
        ):  # another tier's floor might be lower than what this tenant was promised
            raise UnknownModelError(
                f"this key's tier {key.tier!r} is not configured any more.", hint="Ask the operator."
            )
        return key.tier, "key"
    prefix, slash, name = requested.partition("/")
    if prefix == ALIAS and slash:
        if name not in live.tiers:
            near = difflib.get_close_matches(name, live.tiers, n=1)
            raise UnknownModelError(
                f"no tier {name[:100]!r}." + (f" Did you mean {ALIAS}/{near[0]}?" if near else ""),
                hint="GET /v1/models lists what there is.",
            )
        return name, "tier"
    near = difflib.get_close_matches(requested, [ALIAS, *live.entries], n=1)
    raise UnknownModelError(
        f"no model {requested[:100]!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
        hint="GET /v1/models lists what there is.",
    )


def _options(body: Mapping[str, Any]) -> Mapping[str, Any]:
    options = body.get("proteus")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise InvalidRequestError("proteus must be an object.", hint=f"It may hold {', '.join(_OPTIONS)}.")
    for name in options:
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _OPTIONS, n=1)
            raise InvalidRequestError(
                f"proteus has no field {name[:100]!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
                hint=f"It may hold {', '.join(_OPTIONS)}.",
            )
    return options


def _max_cost(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST_USD:
        raise InvalidRequestError("proteus.max_cost_usd must be a number of USD above 0 and below 1e9.")
    return float(value)


def _max_latency(value: Any, tier: TierSettings) -> float | None:
    if value is None:
        return tier.max_latency_s
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MOST_SECONDS:
        raise InvalidRequestError("proteus.max_latency_s must be a number of seconds above 0 and below 1e6.")
    return float(value)


def _task(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= _MOST_TASK_CHARS):
        raise InvalidRequestError(f"proteus.task must be a name of 1 to {_MOST_TASK_CHARS} characters.")
    return value


def _models(live: Live, key: ApiKey, given: Any) -> frozenset[str] | None:
    """The caller's list within the key's."""
    allowed = None if key.models is None else frozenset(key.models)
    if given is None:
        return allowed
    if (
        not isinstance(given, Sequence)
        or isinstance(given, str)
        or not given
        or not all(map(_is_text, given))
    ):
        raise InvalidRequestError("proteus.models must be a list of at least one model name.")
    for name in given:
        if name not in live.entries:
            near = difflib.get_close_matches(name, live.entries, n=1)
            raise UnknownModelError(
                f"proteus.models: no model {name[:100]!r}." + (f" Did you mean {near[0]!r}?" if near else "")
            )
        require_model(key, name)
    return frozenset(given)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
