"""Which class a saved policy belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proteus_router.errors import ArtifactIntegrityError
from proteus_router.routing.points import PointPolicy, Policy
from proteus_router.routing.policy_net import NetworkPolicy
from proteus_router.routing.residual import ResidualPolicy
from proteus_router.types import Arrays, Meta

__all__ = ["Policy", "load_policy"]


def load_policy(arrays: Arrays, meta: Meta) -> Policy:
    """Rebuild a policy from its saved state by its ``kind``."""
    kind = meta.get("kind")
    kinds: dict[Any, Callable[[Arrays, Meta], Policy]] = {
        PointPolicy.kind: PointPolicy.from_state,
        ResidualPolicy.kind: ResidualPolicy.from_state,
        NetworkPolicy.kind: NetworkPolicy.from_state,
    }
    if kind in kinds:
        return kinds[kind](arrays, meta)
    raise ArtifactIntegrityError(f"the manifest names an unknown kind of policy, {kind!r}.")
