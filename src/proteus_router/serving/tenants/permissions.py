"""What a key may ask for."""

from __future__ import annotations

from proteus_router.errors import PermissionDeniedError
from proteus_router.serving.records import ApiKey

__all__ = ["require_model", "require_target", "require_tier"]


def require_tier(key: ApiKey, tier: str) -> None:
    """Raise PermissionDeniedError unless `key` may use `tier`."""
    if key.tiers is not None and tier not in key.tiers:
        raise PermissionDeniedError(
            f"this key may not use tier {tier!r}.", hint=f"Allowed: {', '.join(key.tiers)}."
        )


def require_model(key: ApiKey, model: str) -> None:
    """Raise PermissionDeniedError unless `key` may be served by `model`."""
    if key.models is not None and model not in key.models:
        raise PermissionDeniedError(
            f"this key may not use model {model!r}.", hint=f"Allowed: {', '.join(key.models)}."
        )


def require_target(key: ApiKey, accuracy_target: float) -> None:
    """Raise PermissionDeniedError unless `key` may ask for `accuracy_target`."""
    if key.target_range is None:
        return
    low, high = key.target_range
    if not low <= accuracy_target <= high:
        raise PermissionDeniedError(
            f"this key may not ask for accuracy target {accuracy_target}.", hint=f"Allowed: {low} to {high}."
        )
