"""Tenants: API keys, what they may do, and how much of it."""

from proteus_router.serving.tenants.issue import issue_key
from proteus_router.serving.tenants.keyring import Keyring
from proteus_router.serving.tenants.limits import Limits
from proteus_router.serving.tenants.permissions import require_model, require_target, require_tier
from proteus_router.serving.tenants.tokens import new_token, token_sha256

__all__ = [
    "Keyring",
    "Limits",
    "issue_key",
    "new_token",
    "require_model",
    "require_target",
    "require_tier",
    "token_sha256",
]
